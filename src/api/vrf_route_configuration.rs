//! `VRFRouteConfiguration`: a VRF to peer with, and the routes that cross that peering.
#![allow(unreachable_pub, reason = "the derive repeats the visibility in a module of its own")]
#![allow(clippy::duplicated_attributes, reason = "two printer columns have one type")]

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routes that are imported from a VRF into the cluster and exported from the cluster into it.
///
/// Several objects may name one VRF; each becomes one route-map entry and one prefix-list per direction.
/// Numbers are as wide and texts as free here as the API server stores them: an object from before a schema
/// change must still be read, so that it can be rejected by name.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "network.schiff.telekom.de",
    version = "v1alpha1",
    kind = "VRFRouteConfiguration",
    root = "VrfRouteConfiguration",
    plural = "vrfrouteconfigurations",
    singular = "vrfrouteconfiguration",
    shortname = "vrf",
    status = "VrfRouteConfigurationStatus",
    derive = "PartialEq",
    printcolumn(name = "VRF", type_ = "string", json_path = ".spec.vrf"),
    printcolumn(name = "Sequence", type_ = "integer", json_path = ".spec.seq"),
    printcolumn(name = "Community", type_ = "string", json_path = ".spec.community"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Applied", type_ = "integer", json_path = ".status.nodes.applied"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes.total"),
    printcolumn(name = "MTU", type_ = "integer", json_path = ".spec.mtu", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Applied\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Applied\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct VrfRouteConfigurationSpec {
    /// Name of the VRF: 1 to 12 letters, digits, '_', '-' or '.'. It must stand in the operator file.
    #[schemars(length(min = 1, max = 12), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub vrf: String,

    /// Routes of the VRF that the cluster may learn. May be empty; what no item permits is denied.
    #[schemars(length(max = 65535))]
    pub import: Vec<RouteItem>,

    /// Routes of the cluster that the VRF may learn. May be empty; what no item permits is denied.
    #[schemars(length(max = 65535))]
    pub export: Vec<RouteItem>,

    /// Networks that are announced beside the routes below them, once there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregate: Vec<String>,

    /// Place among the objects of the same VRF, which must differ: the route-map entry is this number plus 1.
    #[schemars(range(min = 1, max = 65534))]
    pub seq: i64,

    /// MTU of the veth pair between the cluster and the VRF, in bytes; the same in all objects of one VRF.
    #[serde(default = "default_mtu")]
    #[schemars(range(min = 1280, max = 65535))]
    pub mtu: i64,

    /// Communities set on exported routes: AA:NN or well-known names, with one blank between them, `additive` at most at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[A-Za-z0-9:-]+( [A-Za-z0-9:-]+)*$"))]
    pub community: Option<String>,
}

/// One line of a prefix-list.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.ge) || !has(self.le) || self.ge <= self.le").message("ge must not be above le"),
    validation = Rule::new("self.cidr.contains(':') || int(self.cidr.split('/')[1]) <= 32")
        .message("an IPv4 network has a length of at most 32"),
    validation = Rule::new("int(self.cidr.split('/')[1]) <= 128").message("a network has a length of at most 128"),
    validation = Rule::new("!has(self.ge) || self.ge >= int(self.cidr.split('/')[1])")
        .message("ge must not be below the length of cidr"),
    validation = Rule::new("!has(self.le) || self.le >= int(self.cidr.split('/')[1])")
        .message("le must not be below the length of cidr"),
    validation = Rule::new("self.cidr.contains(':') || !has(self.ge) || self.ge <= 32")
        .message("ge is at most 32 for IPv4"),
    validation = Rule::new("self.cidr.contains(':') || !has(self.le) || self.le <= 32")
        .message("le is at most 32 for IPv4")
)]
pub struct RouteItem {
    /// IPv4 or IPv6 network, without host bits: `203.0.113.0/24`, `2001:db8::/32`.
    #[schemars(length(max = 49), regex(pattern = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"))]
    pub cidr: String,

    /// Place in the list; without it, the item's position, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295_u64))]
    pub seq: Option<i64>,

    /// Matches longer prefixes, from this length on: not below the length of `cidr`, at most 32 (IPv4) or 128 (IPv6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub ge: Option<i64>,

    /// Matches longer prefixes, up to this length: not below the length of `cidr`, not below `ge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub le: Option<i64>,

    /// Whether matching routes pass.
    pub action: RouteAction,
}

/// Whether matching routes pass.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteAction {
    /// They pass.
    Permit,
    /// They do not pass.
    Deny,
}

impl VrfRouteConfiguration {
    /// Whether this is the same object, and says the same: status, labels and managed fields change nothing on a node. Another generation
    /// may say the same in other words, and is told of.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (one, another) = (&self.metadata, &other.metadata);
        self.spec == other.spec
            && (&one.name, &one.uid, one.generation, &one.creation_timestamp)
                == (&another.name, &another.uid, another.generation, &another.creation_timestamp)
    }

    /// The same of as many objects, each in its place.
    pub fn all_say_the_same<'a>(
        ones: impl ExactSizeIterator<Item = &'a Arc<Self>>,
        others: impl ExactSizeIterator<Item = &'a Arc<Self>>,
    ) -> bool {
        ones.len() == others.len()
            && ones.zip(others).all(|(one, other)| Arc::ptr_eq(one, other) || one.says_the_same(other))
    }
}

/// What the agents made of the object, summed up over all nodes.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VrfRouteConfigurationStatus {
    /// The generation of the object that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// On how many nodes it is in force.
    #[serde(default)]
    pub nodes: NodeCounts,

    /// `Accepted`: every node that has looked at it takes it; its reason and message name field and value where one does not.
    /// `Applied`: it is in force on every node; its message names the first node where it is not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Numbers of nodes. A node counts once an agent has told of it.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Where this generation is verified to be in force, and the node is ready.
    pub applied: u32,

    /// Where it is left out.
    pub rejected: u32,

    /// Where it could not be applied, or the node is not ready.
    pub failed: u32,

    /// All, with those that have not told yet.
    pub total: u32,
}

fn default_mtu() -> i64 {
    9000
}
