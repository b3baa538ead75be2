//! The objects that people edit. Types only: what the agent makes of them stands in `desired`.

mod crd;
mod vrf_route_configuration;

pub use crd::crd_yaml;
pub use vrf_route_configuration::{
    RouteAction, RouteItem, VrfRouteConfiguration, VrfRouteConfigurationSpec, VrfRouteConfigurationStatus,
};
