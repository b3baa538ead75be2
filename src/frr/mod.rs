//! FRR's configuration text and FRR's processes: template and rendering are pure; files, vty and service are adapters.

pub mod check;
pub mod command;
pub mod compare;
pub mod config;
pub mod converge;
pub mod files;
mod name;
pub mod render;
pub mod resets;
pub mod running;
mod secret;
mod section;
pub mod service;
mod spelling;
mod teller;
pub mod template;
pub mod vty;
