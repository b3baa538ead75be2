//! `NodeNetworkState`: what the agent of one node has made of the objects.
#![allow(unreachable_pub, reason = "the derive repeats the visibility in a module of its own")]
#![allow(clippy::duplicated_attributes, reason = "two printer columns have one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one node runs. Named as the node, and gone with it; only the agent of that node writes it.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "network.schiff.telekom.de",
    version = "v1alpha1",
    kind = "NodeNetworkState",
    plural = "nodenetworkstates",
    singular = "nodenetworkstate",
    status = "NodeNetworkStateStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Degraded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Degraded\")].status"),
    printcolumn(name = "VRFs", type_ = "integer", json_path = ".status.vrfCount"),
    printcolumn(name = "FRR", type_ = "string", json_path = ".status.frrVersion"),
    printcolumn(name = "Last-Run", type_ = "date", json_path = ".status.lastRun.start"),
    printcolumn(name = "Configuration", type_ = "string", json_path = ".status.configuration", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.lastRun.message", priority = 1)
)]
pub struct NodeNetworkStateSpec {}

/// What the node runs.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStateStatus {
    /// Version of the agent.
    pub agent_version: String,

    /// Version of FRR, as bgpd gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frr_version: Option<String>,

    /// Hash of the frr.conf that FRR was last seen to run as it was meant: equal on two nodes where their texts are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,

    /// The last run that changed the node, or told something new of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,

    /// The objects, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub objects: Vec<ObjectState>,

    /// Number of the VRFs that are up on this node.
    #[serde(default)]
    pub vrf_count: u32,

    /// The VRFs, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub vrfs: Vec<VrfState>,

    /// `Ready`: the node runs what the objects say. `Degraded`: something is left out, or the last run failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A run.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// When it began.
    pub start: Time,

    /// How long it took, in milliseconds.
    pub duration_millis: i64,

    /// How it ended.
    pub result: RunState,

    /// What it did, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How a run ended.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// The node runs what the objects say.
    Succeeded,
    /// It does, but for VRFs whose links cannot be made, or for the eBPF router; they are tried again.
    Incomplete,
    /// A step failed; it is tried again.
    Failed,
}

/// What became of one object on this node.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectState {
    /// Name of the object.
    pub name: String,

    /// Its UID: another object may have the same name later.
    pub uid: String,

    /// The generation that this is about.
    pub generation: i64,

    /// What became of it.
    pub result: ObjectResult,

    /// A word for machines, where it is not applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,

    /// Field, value and cure, or what FRR said, where it is not applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What became of an object.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectResult {
    /// It is verified to be in force.
    Applied,
    /// It is left out, because of what it says.
    Rejected,
    /// It could not be applied, whatever it says.
    Failed,
}

/// What there is of one VRF on this node.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VrfState {
    /// Its name, as objects give it.
    pub name: String,

    /// Its L3 VNI; without one, it has never run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,

    /// Whether its links are there and up, and zebra has its L3 VNI up.
    pub up: bool,

    /// Whether the BGP session between the cluster and the VRF was established when the agent looked last; without a value, bgpd
    /// did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_established: Option<bool>,

    /// What is in the way, where it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
