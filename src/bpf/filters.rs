//! The router's filters on links, over rtnetlink: clsact qdiscs and cls_bpf in direct-action mode.
//!
//! tcx (Linux 6.6) is not used: nobody is told when a program leaves it, so that a repair would need polling.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};

use aya::programs::ProgramFd;
use futures::StreamExt;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::{SeenFilter, SeenLink};
use crate::link::netlink::{ATTEMPTS, dump, errno};
use crate::model::IfName;

/// The name by which a filter is ours (TCA_BPF_NAME).
const NAME: &str = "network-operator";
/// `pref` of our filters: behind those that a site numbers by hand, before those that tc numbers (from 49152 down).
pub(super) const PRIORITY: u16 = 20_000;
/// ETH_P_ALL, as `tcm_info` has it.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
const EGRESS: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS };

/// A request about filters that failed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filters cannot be read.
    #[error("list tc filters: {0}")]
    Observe(String),
    /// The link has gone since the plan was made.
    #[error("{step} {link}: the link is not there any more; the next run plans anew")]
    Gone {
        /// What was done.
        step: &'static str,
        /// The link.
        link: IfName,
    },
    /// The kernel refused.
    #[error("{step} {link}: {errno}{}", hint(*.errno))]
    Refused {
        /// What was done.
        step: &'static str,
        /// The link.
        link: IfName,
        /// Its answer.
        errno: Errno,
    },
    /// No answer that could be understood.
    #[error("{step} {link}: {message}")]
    Netlink {
        /// What was done.
        step: &'static str,
        /// The link.
        link: IfName,
        /// What happened.
        message: String,
    },
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => ": CAP_NET_ADMIN is needed in the network namespace of the node",
        Errno::ENOENT => " (are the kernel modules sch_ingress and cls_bpf there?)",
        Errno::EOPNOTSUPP => " (has its qdisc a block that several links share?)",
        Errno::EEXIST | Errno::EINVAL => " (is a filter of another kind at pref 20000?)",
        _ => "",
    }
}

/// All links with a qdisc for ingress, and what is attached there.
pub(super) async fn observe(handle: &Handle) -> Result<BTreeMap<u32, SeenLink>, FilterError> {
    let mut links = BTreeMap::new();
    for qdisc in list(handle, RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default())).await? {
        let for_ingress = qdisc
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "clsact" || kind == "ingress"));
        if for_ingress {
            links.insert(qdisc.header.index.cast_unsigned(), SeenLink::default());
        }
    }
    for (index, link) in &mut links {
        *link = at(handle, *index).await?;
    }
    Ok(links)
}

/// What is attached to one link.
async fn at(handle: &Handle, index: u32) -> Result<SeenLink, FilterError> {
    let mut link = SeenLink::default();
    for parent in [INGRESS, EGRESS] {
        let mut ask = TcMessage::default();
        ask.header.index = index.cast_signed();
        ask.header.parent = parent;
        // A filter of a kind that cannot be read is not listed, but the head of its priority is (`tcf_chain_dump`).
        let mut heads = BTreeSet::new();
        for filter in list(handle, RouteNetlinkMessage::GetTrafficFilter(ask)).await? {
            match ours(&filter).filter(|_| parent == INGRESS) {
                Some(filter) => link.ours.push(filter),
                None if filter.header.handle == TcHandle::UNSPEC => drop(heads.insert(filter.header.info >> 16)),
                None => link.others = true,
            }
        }
        heads.retain(|head| parent == EGRESS || link.ours.iter().all(|ours| u32::from(ours.priority) != *head));
        link.others |= !heads.is_empty();
    }
    Ok(link)
}

fn ours(message: &TcMessage) -> Option<SeenFilter> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let (mut named, mut id) = (false, None);
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => named = name == NAME,
            TcOption::Bpf(TcFilterBpfOption::ProgId(program)) => id = Some(*program),
            _ => {}
        }
    }
    let priority = u16::try_from(message.header.info >> 16).ok()?;
    let handle = u32::from(message.header.handle);
    id.filter(|_| named).map(|program| SeenFilter { priority, handle, program })
}

async fn list(handle: &Handle, ask: RouteNetlinkMessage) -> Result<Vec<TcMessage>, FilterError> {
    for _ in 0..ATTEMPTS {
        let answers = dump(handle.clone(), ask.clone()).await.map_err(FilterError::Observe)?;
        let Some(answers) = answers else { continue };
        let messages = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message) | RouteNetlinkMessage::NewTrafficFilter(message) => {
                Some(message)
            }
            _ => None,
        });
        return Ok(messages.collect());
    }
    Err(FilterError::Observe(format!("they changed during each of {ATTEMPTS} attempts")))
}

/// The index of a link that something is to be done to.
pub(super) fn index(step: &'static str, link: &IfName) -> Result<u32, FilterError> {
    nix::net::if_::if_nametoindex(link.as_str()).map_err(|_| FilterError::Gone { step, link: link.clone() })
}

fn qdisc(index: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    message
}

fn filter(index: u32, priority: u16, handle: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = INGRESS;
    message.header.handle = handle.into();
    message.header.info = u32::from(priority) << 16 | u32::from(ALL_PROTOCOLS);
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message
}

pub(super) async fn add_qdisc(handle: &Handle, link: &IfName) -> Result<(), FilterError> {
    let step = "add qdisc clsact to";
    let message = RouteNetlinkMessage::NewQueueDiscipline(qdisc(index(step, link)?));
    request(handle, step, link, message, NLM_F_CREATE | NLM_F_EXCL).await
}

/// Removes the qdisc, and with it what is in it: nothing, or it stays.
pub(super) async fn remove_qdisc(handle: &Handle, link: &IfName) -> Result<(), FilterError> {
    let step = "remove qdisc clsact from";
    let index = index(step, link)?;
    let SeenLink { ours, others } = at(handle, index).await?;
    if others || !ours.is_empty() {
        return Ok(());
    }
    request(handle, step, link, RouteNetlinkMessage::DelQueueDiscipline(qdisc(index)), 0).await
}

/// Where a filter goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    New,
    /// The program of one that is there is exchanged in one step (`cls_bpf_change`).
    Instead {
        priority: u16,
        handle: u32,
    },
}

pub(super) async fn attach(
    handle: &Handle,
    link: &IfName,
    place: Place,
    program: &ProgramFd,
) -> Result<(), FilterError> {
    let step = "attach the eBPF router to";
    let (priority, number, flags) = match place {
        Place::New => (PRIORITY, 1, NLM_F_CREATE | NLM_F_EXCL),
        Place::Instead { priority, handle } => (priority, handle, 0),
    };
    let mut message = filter(index(step, link)?, priority, number);
    let options = [
        TcFilterBpfOption::ProgFd(program.as_fd().as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(NAME.to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes.push(TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()));
    request(handle, step, link, RouteNetlinkMessage::NewTrafficFilter(message), flags).await
}

pub(super) async fn detach(handle: &Handle, link: &IfName, priority: u16, number: u32) -> Result<(), FilterError> {
    let step = "detach the eBPF router from";
    let message = RouteNetlinkMessage::DelTrafficFilter(filter(index(step, link)?, priority, number));
    request(handle, step, link, message, 0).await
}

async fn request(
    handle: &Handle,
    step: &'static str,
    link: &IfName,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), FilterError> {
    let failed = |message: String| FilterError::Netlink { step, link: link.clone(), message };
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request).map_err(|error| failed(error.to_string()))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(FilterError::Refused { step, link: link.clone(), errno: errno(&error) });
        }
    }
    Ok(())
}
