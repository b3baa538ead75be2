//! What is printed is recognised, with whatever a kernel adds, and nothing else is.

use std::panic::catch_unwind;

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainFlags, ExpressionAttribute, Expressions, ListAttribute, Lookup, NfTablesMessage,
    NfTablesMessageType, RuleAttribute, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList,
    TableAttribute, TableFlags,
};
use proptest::prelude::*;
use rtnetlink::packet_core::{DefaultNla, Emitable, NlasIterator, ParseableParametrized};

use super::Notrack;
use super::message::table;
use super::recognise::recognise;

fn any_notrack() -> impl Strategy<Value = Notrack> {
    let links = proptest::collection::btree_set("[a-zA-Z0-9._@-]{3,15}", 0..5);
    (links, any::<Option<[u8; 4]>>()).prop_map(|(links, vtep)| Notrack {
        links: links.iter().map(|link| link.parse().unwrap()).collect(),
        vtep: vtep.map(Into::into),
    })
}

fn bytes(message: &NfTablesMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn parse(kind: NfTablesMessageType, bytes: &[u8]) -> Option<NfTablesMessage> {
    NfTablesMessage::parse_with_param(bytes, kind.into()).ok()
}

/// A message as a kernel dumps it: with attributes of its own, and in another order.
fn dumped(mut message: NfTablesMessage) -> NfTablesMessage {
    match &mut message {
        NfTablesMessage::NewTable(table) => table.attributes.extend([
            TableAttribute::Flags(TableFlags::empty()),
            TableAttribute::Use(3),
            TableAttribute::Handle(7),
            TableAttribute::Other(DefaultNla::new(5, Vec::new())),
        ]),
        NfTablesMessage::NewChain(chain) => {
            chain.attributes.extend([ChainAttribute::Use(2), ChainAttribute::Flags(ChainFlags::Base)]);
            chain.attributes.push(ChainAttribute::Counter(vec![DefaultNla::new(1, vec![0; 8])]));
            chain.attributes.reverse();
        }
        NfTablesMessage::NewSet(set) => {
            set.attributes.retain(|attribute| !matches!(attribute, SetAttribute::Id(_)));
            set.attributes.extend([SetAttribute::Handle(4), SetAttribute::Description(Vec::new())]);
            set.attributes.extend([SetAttribute::Type("hash".to_owned()), SetAttribute::Count(4)]);
        }
        NfTablesMessage::NewRule(rule) => {
            for attribute in &mut rule.attributes {
                let RuleAttribute::Expressions(expressions) = attribute else { continue };
                let parts = expressions.iter_mut().filter_map(|expression| match expression {
                    ListAttribute::Element(parts) => Some(parts),
                    _ => None,
                });
                for part in parts.flatten() {
                    match part {
                        ExpressionAttribute::Data(Expressions::Lookup(data)) => data.push(Lookup::Flags(0)),
                        ExpressionAttribute::Data(Expressions::Meta(data)) => data.reverse(),
                        _ => {}
                    }
                }
            }
            let own = [RuleAttribute::Handle(5), RuleAttribute::Position(4), RuleAttribute::UserData(vec![0; 4])];
            rule.attributes.extend(own);
        }
        NfTablesMessage::NewSetElement(list) => {
            let SetElementList::Elements(elements) = &mut list.attributes[2] else { unreachable!() };
            for element in elements {
                let ListAttribute::Element(attributes) = element else { unreachable!() };
                attributes.push(SetElementAttribute::Flags(SetElementFlags::empty()));
                attributes.push(SetElementAttribute::UserData(vec![1, 2, 3, 4]));
            }
        }
        _ => unreachable!(),
    }
    message
}

/// Where the values of attributes stand that have no attributes in them, and where their kinds stand.
fn leaves(bytes: &[u8], from: usize, found: &mut Vec<usize>) {
    let mut start = from;
    for attribute in NlasIterator::new(bytes).map(Result::unwrap) {
        let value = start + 4..start + usize::from(attribute.length());
        // Data of a comparison and keys of elements are nested, too.
        found.push(start + 2);
        if attribute.nested_flag() {
            leaves(attribute.value(), value.start, found);
        } else {
            found.extend(value.clone());
        }
        start = value.end.next_multiple_of(4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_is_recognised_with_all_that_a_kernel_adds(want in any_notrack()) {
        prop_assert_eq!(recognise(table(&want)), Some(want.clone()));
        let read: Option<Vec<_>> = table(&want)
            .into_iter()
            .map(dumped)
            .map(|message| parse(message.message_type(), &bytes(&message)))
            .collect();
        prop_assert_eq!(recognise(read.unwrap()), Some(want));
    }

    #[test]
    fn every_byte_matters(want in any_notrack(), flip in 1..=255_u8) {
        let messages: Vec<_> = table(&want).into_iter().map(|mut message| {
            if let NfTablesMessage::NewSet(set) = &mut message {
                let own = |attribute: &_| matches!(attribute, SetAttribute::Id(_) | SetAttribute::UserData(_));
                set.attributes.retain(|attribute| !own(attribute));
            }
            message
        }).collect();
        for (index, message) in messages.iter().enumerate() {
            let (original, mut places) = (bytes(message), Vec::new());
            leaves(&original, 0, &mut places);
            for place in places {
                let mut altered = original.clone();
                altered[place] ^= flip;
                // The crate takes it for granted that attributes in attributes are whole.
                let parsed = catch_unwind(|| parse(message.message_type(), &altered)).unwrap_or_default();
                let Some(parsed) = parsed else { continue };
                let mut messages = messages.clone();
                messages[index] = parsed;
                let said = recognise(messages);
                prop_assert!(said.as_ref() != Some(&want), "{message:?} byte {place} of {original:?}");
                let element = matches!(message, NfTablesMessage::NewSetElement(_));
                prop_assert!(said.is_none() || element, "{message:?} byte {place} of {original:?}: {said:?}");
            }
        }
    }

    #[test]
    fn every_message_matters_and_so_does_its_place(want in any_notrack()) {
        let messages = table(&want);
        for index in 0..messages.len() {
            let mut fewer = messages.clone();
            let gone = fewer.remove(index);
            let said_by_fewer = recognise(fewer);
            prop_assert!(said_by_fewer.as_ref() != Some(&want), "{gone:?}");
            if matches!(gone, NfTablesMessage::NewSetElement(_)) {
                prop_assert!(said_by_fewer.is_some());
                continue;
            }
            prop_assert_eq!(said_by_fewer, None);
            let mut more = messages.clone();
            more.insert(index, gone);
            prop_assert_eq!(recognise(more), None);
            if index > 0 && !matches!(messages[index - 1], NfTablesMessage::NewSetElement(_)) {
                let mut turned = messages.clone();
                turned.swap(index - 1, index);
                prop_assert_eq!(recognise(turned), None);
            }
        }
    }
}

fn with(change: impl Fn(&mut NfTablesMessage)) -> Option<Notrack> {
    let want = Notrack { links: ["vr.a".parse().unwrap()].into(), vtep: Some([192, 0, 2, 1].into()) };
    let mut messages = table(&want);
    messages.iter_mut().for_each(change);
    recognise(messages)
}

fn with_of_table(attribute: &TableAttribute) -> Option<Notrack> {
    with(|message| {
        if let NfTablesMessage::NewTable(table) = message {
            table.attributes.push(attribute.clone());
        }
    })
}

#[test]
fn what_changes_the_meaning_of_a_table_a_set_or_a_rule_is_an_alteration() {
    assert!(with(|_| {}).is_some());
    assert!(with_of_table(&TableAttribute::Use(3)).is_some());
    assert_eq!(with_of_table(&TableAttribute::Use(4)), None, "another chain, set, object or flowtable");
    assert_eq!(with_of_table(&TableAttribute::Flags(TableFlags::Dormant)), None);
    assert_eq!(with_of_table(&TableAttribute::Owner(4711)), None);
    let in_set = |attribute: SetElementAttribute| {
        with(|message| {
            let NfTablesMessage::NewSetElement(list) = message else { return };
            let SetElementList::Elements(elements) = &mut list.attributes[2] else { unreachable!() };
            let ListAttribute::Element(attributes) = &mut elements[0] else { unreachable!() };
            attributes.push(attribute.clone());
        })
    };
    assert!(in_set(SetElementAttribute::UserData(vec![0; 3])).is_some());
    assert_eq!(in_set(SetElementAttribute::Flags(SetElementFlags::CatchAll)), None);
    assert_eq!(in_set(SetElementAttribute::Timeout(9)), None);
    let of_set = |attribute: SetAttribute| {
        with(|message| {
            if let NfTablesMessage::NewSet(set) = message {
                set.attributes.push(attribute.clone());
            }
        })
    };
    assert_eq!(of_set(SetAttribute::Timeout(9)), None);
    assert_eq!(of_set(SetAttribute::DataLen(4)), None);
    let inverted = with(|message| {
        let NfTablesMessage::NewRule(rule) = message else { return };
        let RuleAttribute::Expressions(expressions) = &mut rule.attributes[2] else { unreachable!() };
        let ListAttribute::Element(parts) = &mut expressions[1] else { unreachable!() };
        if let ExpressionAttribute::Data(Expressions::Lookup(data)) = &mut parts[1] {
            data.push(Lookup::Flags(1));
        }
    });
    assert_eq!(inverted, None);
    assert_eq!(with(|message| *message = NfTablesMessage::NewObject(Vec::new())), None);
}
