//! The CEL rules of the CRD: an API server that knows them refuses nothing that an agent would take, and whatever they are for.
#![allow(clippy::unwrap_used, reason = "a test that fails must stop")]

use std::path::Path;

use kube::CustomResourceExt;
use kube_cel::Validator;
use network_operator::api::VrfRouteConfiguration;
use network_operator::config::OperatorConfig;
use network_operator::desired::{Ipv6, judge};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = serde_json::to_value(VrfRouteConfiguration::crd()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

fn object(item: &Value) -> Value {
    json!({
        "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration", "metadata": {"name": "x"},
        "spec": {"vrf": "a", "seq": 1, "import": [item], "export": []},
    })
}

/// What the rules say of an item; nothing where they have nothing against it.
fn refused(item: &Value) -> Vec<String> {
    let errors = Validator::new().validate(&schema(), &object(item), None).err();
    errors.into_iter().flat_map(|errors| errors.into_vec()).map(|error| error.message).collect()
}

/// Why an agent leaves it out.
fn left_out(item: &Value) -> Option<String> {
    let config = OperatorConfig::parse("vnimap: {a: 1}\n", Path::new("config.yaml")).unwrap();
    let object: VrfRouteConfiguration = serde_json::from_value(object(item)).unwrap();
    judge([&object], &config, Ipv6::HasPlace).rejections.first().map(ToString::to_string)
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    for (item, message) in [
        (json!({"cidr": "192.0.2.0/24", "ge": 30, "le": 28}), "ge must not be above le"),
        (json!({"cidr": "192.0.2.0/33"}), "an IPv4 network has a length of at most 32"),
        (json!({"cidr": "2001:db8::/129"}), "a network has a length of at most 128"),
        (json!({"cidr": "192.0.2.0/24", "ge": 23}), "ge must not be below the length of cidr"),
        (json!({"cidr": "2001:db8::/32", "le": 31}), "le must not be below the length of cidr"),
        (json!({"cidr": "192.0.2.0/24", "ge": 33}), "ge is at most 32 for IPv4"),
        (json!({"cidr": "192.0.2.0/24", "le": 33}), "le is at most 32 for IPv4"),
    ] {
        let mut item = item;
        item["action"] = json!("permit");
        assert_eq!(refused(&item), [message], "{item}");
        assert!(left_out(&item).is_some(), "{item}");
    }
}

/// API servers refuse the whole CRD where a rule may cost more than 10 million. A string counts four bytes for each letter, each walk
/// along it a tenth of that (split two), and each item of a list pays again (apiserver/pkg/cel/library/cost.go).
#[test]
fn no_rule_may_cost_more_than_api_servers_allow() {
    let list = schema().pointer("/properties/spec/properties/import").unwrap().clone();
    let number = |path: &str| list.pointer(path).unwrap().as_u64().unwrap();
    let walk = number("/items/properties/cidr/maxLength") * 4 / 10 + 1;
    let rules = list.pointer("/items/x-kubernetes-validations").unwrap().as_array().unwrap();
    assert_eq!(rules.len(), 7);
    for rule in rules {
        let rule = rule.get("rule").unwrap().as_str().unwrap();
        let walks = rule.matches("contains(").count() as u64 + 2 * rule.matches("split(").count() as u64;
        let cost = (walks * walk + 20) * number("/maxItems");
        assert!(cost < 10_000_000, "{rule}: {cost}");
    }
}

fn prefix() -> impl Strategy<Value = String> {
    let v4 = (any::<u32>(), 0..=33_u8).prop_map(|(net, len)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or_default();
        format!("{}/{len}", std::net::Ipv4Addr::from_bits(net & mask))
    });
    let v6 = (any::<u128>(), 0..=129_u8).prop_map(|(net, len)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or_default();
        format!("{}/{len}", std::net::Ipv6Addr::from_bits(net & mask))
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn the_rules_refuse_what_the_agents_leave_out_and_nothing_else(
        cidr in prefix(),
        ge in proptest::option::of(1..=128_i64),
        le in proptest::option::of(1..=128_i64),
    ) {
        let mut item = json!({"cidr": cidr, "action": "permit"});
        for (name, value) in [("ge", ge), ("le", le)] {
            if let Some(value) = value {
                item[name] = json!(value);
            }
        }
        let (refused, left_out) = (refused(&item), left_out(&item));
        prop_assert_eq!(refused.is_empty(), left_out.is_none(), "{}: {:?} and {:?}", item, refused, left_out);
    }
}
