//! Our table as messages: what the kernel is sent, and what a dump must say.

use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
    InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetMessage, TableAttribute,
    TableMessage,
};

use super::Notrack;
use crate::link::VXLAN_PORT;
use crate::model::IfName;

/// The table's name.
pub(super) const TABLE: &str = "network-operator";
const SET: &str = "links";
/// `TYPE_IFNAME` of nft (include/datatype.h): the kernel only keeps it, so that `nft list` can print names.
const TYPE_IFNAME: u32 = 41;
/// `NFTNL_UDATA_SET_KEYBYTEORDER`, 4 bytes, `BYTEORDER_HOST_ENDIAN` (libnftnl/udata.h, nft's include/datatype.h): only
/// nft reads it, and prints empty names without it.
const KEY_BYTE_ORDER: ([u8; 2], u32) = ([0, 4], 1);
/// A key is a name with zeros behind it (`nft_meta_store_ifname`, net/netfilter/nft_meta.c).
const KEY: u32 = 16;
/// Elements of one message: an attribute holds less than 64 KiB, an element takes 28 bytes.
const ELEMENTS: usize = 1000;
/// `raw`: before connection tracking (`NF_IP_PRI_RAW`, linux/netfilter_ipv4.h).
const PRIORITY: i32 = -300;
const NF_ACCEPT: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const IPPROTO_UDP: u8 = 17;
/// Where a payload is counted from (`enum nft_payload_bases`, linux/netfilter/nf_tables.h).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Where the port of destination stands in `udphdr`.
const UDP_DPORT: u32 = 2;

/// One of the two chains, each for a direction.
pub(super) struct Chain {
    name: &'static str,
    hook: InetHookNumber,
    interface: MetaKey,
    /// Where the address stands in `iphdr`.
    address: u32,
}

/// Packets that come in, then those that go out.
pub(super) const CHAINS: [Chain; 2] = [
    Chain { name: "prerouting", hook: InetHookNumber::PreRouting, interface: MetaKey::Iifname, address: 16 },
    Chain { name: "output", hook: InetHookNumber::LocalOut, interface: MetaKey::Oifname, address: 12 },
];

/// All that makes the table, in the order in which the kernel takes it.
pub(super) fn table(want: &Notrack) -> Vec<NfTablesMessage> {
    let mut messages = vec![NfTablesMessage::NewTable(the_table()), new_set()];
    let links: Vec<_> = want.links.iter().map(element).collect();
    messages.extend(links.chunks(ELEMENTS).map(|links| new_elements(links.to_vec())));
    for chain in &CHAINS {
        messages.push(chain.new_chain());
        messages.push(chain.new_rule(vec![meta(chain.interface), in_set(), notrack()]));
        messages.extend(want.vtep.map(|vtep| chain.new_rule(vxlan(chain, vtep))));
    }
    messages
}

/// Takes the table away, whether it is there or not: DESTROYTABLE does so since Linux 6.3 only.
pub(super) fn removal() -> Vec<NfTablesMessage> {
    vec![NfTablesMessage::NewTable(the_table()), NfTablesMessage::DeleteTable(the_table())]
}

pub(super) fn the_table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }
}

pub(super) fn the_set() -> SetMessage {
    SetMessage { attributes: vec![SetAttribute::Table(TABLE.to_owned()), SetAttribute::Name(SET.to_owned())] }
}

fn new_set() -> NfTablesMessage {
    let mut set = the_set();
    let (kind, order) = KEY_BYTE_ORDER;
    set.attributes.extend([SetAttribute::KeyType(TYPE_IFNAME), SetAttribute::KeyLen(KEY)]);
    // The kernel wants a number for each set of a batch, though ours is called by its name.
    set.attributes.extend([SetAttribute::Id(1), SetAttribute::UserData([&kind[..], &order.to_ne_bytes()].concat())]);
    NfTablesMessage::NewSet(set)
}

pub(super) fn the_elements() -> SetElementMessage {
    let attributes = vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(SET.to_owned())];
    SetElementMessage { attributes }
}

fn new_elements(elements: Vec<ListAttribute<SetElementAttribute>>) -> NfTablesMessage {
    let mut message = the_elements();
    message.attributes.push(SetElementList::Elements(elements));
    NfTablesMessage::NewSetElement(message)
}

pub(super) fn element(link: &IfName) -> ListAttribute<SetElementAttribute> {
    let mut key = link.as_str().as_bytes().to_vec();
    key.resize(KEY as usize, 0);
    ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key))])
}

impl Chain {
    pub(super) fn the_chain(&self) -> ChainMessage {
        let attributes = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(self.name.to_owned())];
        ChainMessage { attributes }
    }

    fn new_chain(&self) -> NfTablesMessage {
        let mut chain = self.the_chain();
        let hook = vec![Hook::Number(HookNumber::Inet(self.hook)), Hook::Priority(PRIORITY.cast_unsigned())];
        let base = [ChainAttribute::Type("filter".to_owned()), ChainAttribute::Policy(NF_ACCEPT)];
        chain.attributes.extend(base);
        chain.attributes.push(ChainAttribute::Hook(hook));
        NfTablesMessage::NewChain(chain)
    }

    pub(super) fn its_rules(&self) -> RuleMessage {
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(self.name.to_owned())];
        RuleMessage { attributes }
    }

    fn new_rule(&self, expressions: Vec<ListAttribute<ExpressionAttribute>>) -> NfTablesMessage {
        let mut rule = self.its_rules();
        rule.attributes.push(RuleAttribute::Expressions(expressions));
        NfTablesMessage::NewRule(rule)
    }
}

/// `ip daddr VTEP udp dport 4789 notrack`, with what nft puts before the addresses and ports of a table of family inet.
fn vxlan(chain: &Chain, vtep: Ipv4Addr) -> Vec<ListAttribute<ExpressionAttribute>> {
    vec![
        meta(MetaKey::Nfproto),
        equals(vec![NFPROTO_IPV4]),
        payload(NETWORK_HEADER, chain.address, 4),
        equals(vtep.octets().to_vec()),
        meta(MetaKey::L4Proto),
        equals(vec![IPPROTO_UDP]),
        payload(TRANSPORT_HEADER, UDP_DPORT, 2),
        equals(VXLAN_PORT.to_be_bytes().to_vec()),
        notrack(),
    ]
}

fn meta(key: MetaKey) -> ListAttribute<ExpressionAttribute> {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]).into()
}

fn in_set() -> ListAttribute<ExpressionAttribute> {
    Expressions::Lookup(vec![Lookup::Set(SET.to_owned()), Lookup::SourceRegister(Register::Reg1)]).into()
}

fn payload(base: u32, offset: u32, length: u32) -> ListAttribute<ExpressionAttribute> {
    let place = vec![Payload::Base(base), Payload::Offset(offset), Payload::Len(length)];
    let load = std::iter::once(Payload::DestinationRegister(Register::Reg1)).chain(place);
    Expressions::Payload(load.collect()).into()
}

fn equals(value: Vec<u8>) -> ListAttribute<ExpressionAttribute> {
    let data = Cmp::Data(DataAttribute::Value(value));
    Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(Operator::Equal), data]).into()
}

/// It has no data.
fn notrack() -> ListAttribute<ExpressionAttribute> {
    ListAttribute::Element(vec![ExpressionAttribute::Name("notrack".to_owned())])
}
