//! The objects that people edit, and those that tell them what became of it. Types only: what the agent makes of them stands in
//! `desired` and `status`.

mod crd;
mod node_network_state;
mod vrf_route_configuration;

pub use crd::crd_yaml;
pub use node_network_state::{
    LastRun, NodeNetworkState, NodeNetworkStateSpec, NodeNetworkStateStatus, ObjectResult, ObjectState, RunState,
    VrfState,
};
pub use vrf_route_configuration::{
    NodeCounts, RouteAction, RouteItem, VrfRouteConfiguration, VrfRouteConfigurationSpec, VrfRouteConfigurationStatus,
};
