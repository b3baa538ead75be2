//! A netfilter socket: questions, and batches that the kernel carries out as one.

use std::io;

use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, ParseableParametrized,
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use crate::notrack::NotrackError;
use crate::notrack::packet::{HEADER, Messages, SUBSYSTEM, is_of_our_table};

/// Room for any datagram.
const LONGEST: usize = 64 * 1024;
/// Messages that end an answer (linux/netlink.h). Both begin with a negative errno, or 0.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NFT_MSG_NEWGEN` (linux/netfilter/nf_tables.h): it is about no table.
const NEWGEN: u16 = SUBSYSTEM << 8 | 15;
pub(super) const READ: &str = "read nftables";
const WRITE: &str = "change nftables";

/// What the kernel said to a question.
pub(super) enum Answer {
    Messages(Vec<NfTablesMessage>),
    /// Something of ours that cannot be read: we never wrote it.
    Unreadable,
    NotThere,
    /// The ruleset changed meanwhile.
    Interrupted,
}

/// A socket of its own for each request: no answer is taken for one to another.
pub(super) struct Connection {
    socket: TokioSocket,
    datagram: Vec<u8>,
    sequence: u32,
}

impl Connection {
    pub(super) fn open() -> Result<Self, NotrackError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind_auto()?;
            socket.socket_ref().connect(&SocketAddr::new(0, 0))?;
            // An error does not repeat the message that it is about.
            socket.socket_ref().set_cap_ack(true)?;
            Ok(Self { socket, datagram: Vec::with_capacity(LONGEST), sequence: 0 })
        };
        open().map_err(|error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
            // `netlink_create`, where there is not even nfnetlink.
            Some(Errno::EPROTONOSUPPORT) => NotrackError::NoNfTables { step: "open a netfilter socket" },
            _ => NotrackError::Connect(error),
        })
    }

    /// Asks for what is there.
    pub(super) async fn ask(&mut self, question: NfTablesMessage, flags: u16) -> Result<Answer, NotrackError> {
        let of_generation = matches!(question, NfTablesMessage::GetGen(_));
        let question = self.packet(question.into(), flags | NLM_F_ACK, 0);
        self.send(READ, &question).await?;
        let (mut messages, mut whole, mut readable) = (Vec::new(), true, true);
        loop {
            self.receive(READ).await?;
            for message in Messages(&self.datagram).filter(|message| message.sequence_number() == self.sequence) {
                whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match ending(&message) {
                    None => match parse(&message) {
                        Some(Ok(parsed)) => messages.push(parsed),
                        Some(Err(_)) => readable = false,
                        None => {}
                    },
                    Some(Ok(())) if !whole => return Ok(Answer::Interrupted),
                    Some(Ok(())) if !readable => return Ok(Answer::Unreadable),
                    Some(Ok(())) => return Ok(Answer::Messages(messages)),
                    Some(Err(Errno::ENOENT)) => return Ok(Answer::NotThere),
                    // `nfnetlink_rcv_msg`, where no module has this subsystem.
                    Some(Err(Errno::EINVAL)) if of_generation => return Err(NotrackError::NoNfTables { step: READ }),
                    Some(Err(Errno::EPERM)) => return Err(NotrackError::NotPermitted { step: READ }),
                    Some(Err(errno)) => return Err(NotrackError::Refused { step: READ, errno }),
                }
            }
        }
    }

    /// Has all messages carried out, or none (`nfnetlink_rcv_batch`).
    pub(super) async fn change(&mut self, messages: Vec<NfTablesMessage>) -> Result<(), NotrackError> {
        let mut batch = self.packet(ControlMessage::BatchBegin.into(), 0, SUBSYSTEM);
        let begin = self.sequence;
        let mut steps = Vec::new();
        for message in messages {
            let (step, flags) = kind(&message);
            batch.extend(self.packet(message.into(), flags | NLM_F_ACK, 0));
            steps.push((self.sequence, step));
        }
        let last = self.sequence;
        batch.extend(self.packet(ControlMessage::BatchEnd.into(), 0, SUBSYSTEM));
        self.send(WRITE, &batch).await?;
        loop {
            self.receive(WRITE).await?;
            for message in Messages(&self.datagram) {
                let sequence = message.sequence_number();
                let step = steps.iter().find(|(of, _)| *of == sequence).map_or(WRITE, |(_, step)| *step);
                match ending(&message) {
                    // Nothing is answered before the whole batch is carried out or given up (`nfnl_err_deliver`).
                    Some(Ok(())) if sequence == last => return Ok(()),
                    Some(Ok(())) | None => {}
                    Some(Err(errno)) => return Err(refused(step, errno, sequence == begin)),
                }
            }
        }
    }

    fn packet(&mut self, message: NetfilterMessageInner, flags: u16, resource: u16) -> Vec<u8> {
        self.sequence += 1;
        let family = match message {
            NetfilterMessageInner::NfTables(_) => NetfilterProtoFamily::Inet,
            _ => NetfilterProtoFamily::Unspec,
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), message);
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    async fn send(&self, step: &'static str, bytes: &[u8]) -> Result<(), NotrackError> {
        self.socket.send(bytes).await.map_err(|error| NotrackError::Socket { step, error })?;
        Ok(())
    }

    async fn receive(&mut self, step: &'static str) -> Result<(), NotrackError> {
        self.datagram.clear();
        self.socket.recv(&mut self.datagram).await.map_err(|error| NotrackError::Socket { step, error })
    }
}

/// How an answer ends, where this is its end.
fn ending(message: &NetlinkBuffer<&[u8]>) -> Option<Result<(), Errno>> {
    if !matches!(message.message_type(), NLMSG_ERROR | NLMSG_DONE) {
        return None;
    }
    let code = message.payload().first_chunk().copied().map_or(0, i32::from_ne_bytes);
    Some(if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) })
}

/// The content of a message, where it is about our table or the ruleset as a whole.
fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<Result<NfTablesMessage, DecodeError>> {
    if message.message_type() != NEWGEN && !is_of_our_table(message) {
        return None;
    }
    let [_, kind] = message.message_type().to_be_bytes();
    Some(NfTablesMessage::parse_with_param(message.payload().get(HEADER..)?, kind))
}

/// What a message of a batch does, and the flags that it needs for that.
fn kind(message: &NfTablesMessage) -> (&'static str, u16) {
    match message {
        NfTablesMessage::NewTable(_) => ("add nftables table", NLM_F_CREATE),
        NfTablesMessage::NewSet(_) => ("add nftables set", NLM_F_CREATE),
        NfTablesMessage::NewSetElement(_) => ("add elements of nftables set", NLM_F_CREATE),
        NfTablesMessage::NewChain(_) => ("add nftables chain", NLM_F_CREATE),
        // Without NLM_F_APPEND a rule becomes the first one.
        NfTablesMessage::NewRule(_) => ("add nftables rule", NLM_F_CREATE | NLM_F_APPEND),
        NfTablesMessage::DeleteTable(_) => ("delete nftables table", 0),
        _ => (WRITE, 0),
    }
}

/// An error of the batch as a whole is told as one of its first message.
fn refused(step: &'static str, errno: Errno, whole: bool) -> NotrackError {
    match errno {
        // `nfnetlink_rcv` looks at CAP_NET_ADMIN, `nft_table_lookup` at the owner of a table.
        Errno::EPERM if whole => NotrackError::NotPermitted { step },
        Errno::EPERM => NotrackError::Owned { step },
        // `nfnetlink_rcv_batch`, where no module has this subsystem.
        Errno::EOPNOTSUPP if whole => NotrackError::NoNfTables { step },
        errno => NotrackError::Refused { step, errno },
    }
}
