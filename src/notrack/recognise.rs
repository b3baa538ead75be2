//! What a dump of our table says: something that we write, or something else.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainFlags, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, ListAttribute, Lookup,
    NfTablesMessage, RuleAttribute, SetAttribute, SetElementAttribute, SetElementList, TableAttribute,
};
use rtnetlink::packet_core::Nla;

use super::Notrack;
use super::message::{element, table, the_elements};
use crate::model::IfName;

/// What a table counts: two chains and a set. Another chain, set, object or flowtable is one more
/// (`nft_use_inc(&table->use)` in `nf_tables_addchain`, `nf_tables_newset`, `nf_tables_newobj`, `nf_tables_newflowtable`).
const USE: u32 = 3;

/// What these messages say, in the order in which we write them; `None` where it is nothing that we write.
///
/// It is guessed, printed, and compared. Only what the kernel keeps for itself is left out of that (handles, positions,
/// counters), and what only people read (comments). What the kernel has no name for yet among the attributes of tables,
/// chains, sets and rules is left out too, so that a new kernel does not make every table an altered one.
pub(super) fn recognise(messages: Vec<NfTablesMessage>) -> Option<Notrack> {
    let said = Said::parse(messages)?;
    let guess = Notrack { links: said.links.clone(), vtep: said.vtep() };
    (Said::parse(table(&guess))? == said).then_some(guess)
}

/// Messages without what does not matter.
#[derive(Debug, PartialEq)]
struct Said {
    links: BTreeSet<IfName>,
    others: Vec<NfTablesMessage>,
}

impl Said {
    fn parse(messages: Vec<NfTablesMessage>) -> Option<Self> {
        let mut said = Self { links: BTreeSet::new(), others: Vec::new() };
        for mut message in messages {
            match &mut message {
                NfTablesMessage::NewSetElement(elements) => {
                    said.links.extend(links(std::mem::take(&mut elements.attributes))?);
                    continue;
                }
                NfTablesMessage::NewTable(table) => of_table(&mut table.attributes),
                NfTablesMessage::NewChain(chain) => of_chain(&mut chain.attributes),
                NfTablesMessage::NewRule(rule) => of_rule(&mut rule.attributes),
                NfTablesMessage::NewSet(set) => of_set(&mut set.attributes),
                _ => return None,
            }
            said.others.push(message);
        }
        Some(said)
    }

    /// The first address that a rule compares with.
    fn vtep(&self) -> Option<Ipv4Addr> {
        let rules = self.others.iter().filter_map(|message| match message {
            NfTablesMessage::NewRule(rule) => Some(&rule.attributes),
            _ => None,
        });
        let expressions = rules.flatten().filter_map(|attribute| match attribute {
            RuleAttribute::Expressions(expressions) => Some(expressions),
            _ => None,
        });
        let parts = expressions.flatten().filter_map(|expression| match expression {
            ListAttribute::Element(parts) => Some(parts),
            _ => None,
        });
        let compared = parts.flatten().filter_map(|part| match part {
            ExpressionAttribute::Data(Expressions::Cmp(compared)) => Some(compared),
            _ => None,
        });
        compared.flatten().find_map(|compared| match compared {
            Cmp::Data(DataAttribute::Value(value)) => <[u8; 4]>::try_from(value.as_slice()).ok().map(Ipv4Addr::from),
            _ => None,
        })
    }
}

/// The names, where they are all that a list of elements has.
fn links(mut list: Vec<SetElementList>) -> Option<Vec<IfName>> {
    let mut elements = Vec::new();
    list.retain_mut(|attribute| match attribute {
        SetElementList::Elements(found) => {
            elements.append(found);
            false
        }
        other => matches!(other, SetElementList::Table(_) | SetElementList::Set(_)),
    });
    if list != the_elements().attributes {
        return None;
    }
    elements.into_iter().map(link).collect()
}

fn link(mut found: ListAttribute<SetElementAttribute>) -> Option<IfName> {
    let ListAttribute::Element(attributes) = &mut found else { return None };
    attributes.retain(|attribute| match attribute {
        SetElementAttribute::Flags(flags) => !flags.is_empty(),
        // A comment, and NFTA_SET_ELEM_PAD.
        SetElementAttribute::UserData(_) | SetElementAttribute::Other(_) => false,
        _ => true,
    });
    let name = match attributes.as_slice() {
        [SetElementAttribute::Key(DataAttribute::Value(key))] => std::str::from_utf8(key).ok()?,
        _ => return None,
    };
    let name = name.trim_end_matches('\0').parse().ok()?;
    (element(&name) == found).then_some(name)
}

fn of_table(attributes: &mut Vec<TableAttribute>) {
    attributes.retain(|attribute| match attribute {
        TableAttribute::Flags(flags) => !flags.is_empty(),
        TableAttribute::Use(used) => *used != USE,
        other => matches!(other, TableAttribute::Name(_) | TableAttribute::Owner(_)),
    });
    sort(attributes);
}

fn of_chain(attributes: &mut Vec<ChainAttribute>) {
    attributes.retain_mut(|attribute| match attribute {
        // The kernel marks chains that have a hook.
        ChainAttribute::Flags(flags) => !ChainFlags::Base.contains(*flags),
        ChainAttribute::Hook(hook) => {
            hook.retain(|part| !matches!(part, Hook::Unspecified));
            sort(hook);
            true
        }
        other => matches!(
            other,
            ChainAttribute::Table(_) | ChainAttribute::Name(_) | ChainAttribute::Policy(_) | ChainAttribute::Type(_)
        ),
    });
    sort(attributes);
}

fn of_set(attributes: &mut Vec<SetAttribute>) {
    attributes.retain(|attribute| match attribute {
        SetAttribute::Flags(flags) => !flags.is_empty(),
        SetAttribute::Description(description) => !description.is_empty(),
        SetAttribute::Unspecified
        | SetAttribute::Id(_)
        | SetAttribute::UserData(_)
        | SetAttribute::Handle(_)
        // Since Linux 6.16: how it is kept, and the number of its elements.
        | SetAttribute::Type(_)
        | SetAttribute::Count(_)
        | SetAttribute::Other(_) => false,
        _ => true,
    });
    sort(attributes);
}

fn of_rule(attributes: &mut Vec<RuleAttribute>) {
    attributes.retain_mut(|attribute| match attribute {
        RuleAttribute::Expressions(expressions) => {
            for expression in expressions {
                if let ListAttribute::Element(parts) = expression {
                    parts.retain_mut(of_expression);
                }
            }
            true
        }
        other => matches!(other, RuleAttribute::Table(_) | RuleAttribute::Chain(_) | RuleAttribute::Compat(_)),
    });
    sort(attributes);
}

/// Whether a part of an expression says anything.
fn of_expression(part: &mut ExpressionAttribute) -> bool {
    match part {
        ExpressionAttribute::Data(Expressions::Meta(data)) => sort(data),
        ExpressionAttribute::Data(Expressions::Cmp(data)) => sort(data),
        ExpressionAttribute::Data(Expressions::Payload(data)) => sort(data),
        ExpressionAttribute::Data(Expressions::Lookup(data)) => {
            // `nft_lookup_dump` tells flags that are not set, too.
            data.retain(|attribute| *attribute != Lookup::Flags(0));
            sort(data);
        }
        ExpressionAttribute::Data(Expressions::Other { attributes, .. }) => return !attributes.is_empty(),
        _ => {}
    }
    true
}

fn sort<T: Nla>(attributes: &mut [T]) {
    attributes.sort_by_key(Nla::kind);
}
