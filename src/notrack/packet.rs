//! Netfilter messages as bytes: which of them are about our table.

use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};

use super::message::TABLE;

/// `NFNL_SUBSYS_NFTABLES` (linux/netfilter/nfnetlink.h): the upper byte of a message's type.
pub(super) const SUBSYSTEM: u16 = 10;
/// Size of `nfgenmsg`, which stands before the attributes; its first byte is the family.
pub(super) const HEADER: usize = 4;
const NFPROTO_INET: u8 = 1;
/// The name of the table is attribute 1 of tables, chains, rules, sets, elements, objects and flowtables
/// (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE ... NFTA_FLOWTABLE_TABLE, linux/netfilter/nf_tables.h).
const TABLE_NAME: u16 = 1;
/// Messages begin at multiples of this (`NLMSG_ALIGNTO`).
const ALIGN: usize = 4;

/// The messages of a datagram.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = NetlinkBuffer<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = NetlinkBuffer::new_checked(self.0).ok()?;
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(ALIGN);
        self.0 = self.0.get(length..).unwrap_or_default();
        Some(message)
    }
}

/// Whether a message of a datagram is about our table, or anything in it.
pub fn tells_of_our_table(datagram: &[u8]) -> bool {
    Messages(datagram).any(|message| is_of_our_table(&message))
}

pub(super) fn is_of_our_table(message: &NetlinkBuffer<&[u8]>) -> bool {
    let payload = message.payload();
    if message.message_type() >> 8 != SUBSYSTEM || payload.first() != Some(&NFPROTO_INET) {
        return false;
    }
    let attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default());
    let name = attributes.map_while(Result::ok).find(|attribute| attribute.kind() == TABLE_NAME);
    name.is_some_and(|name| name.value().strip_suffix(&[0]) == Some(TABLE.as_bytes()))
}
