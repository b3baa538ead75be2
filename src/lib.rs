//! The node agent `network-operator`.
//!
//! ```text
//!  trigger ──▶ debounce ──▶ reconcile: inputs → desired → plan → stage → apply → verify → report
//!                                        │        │        │       │        │
//!                        api, config ────┘   desired   link, frr  frr::files  frr::service, link::netlink
//! ```
//!
//! Pure code and I/O live apart, and arrows go one way: `model` imports nothing of ours; `desired`, the plans and
//! the renderer import `model`, `api` and `config`; adapters import ports and `model`; only `agent` and `cli`
//! name adapters.

pub mod admission;
pub mod agent;
pub mod api;
pub mod bpf;
pub mod cli;
pub mod config;
pub mod desired;
pub mod frr;
pub mod health;
pub mod input;
pub mod link;
pub mod listen;
pub mod metrics;
pub mod model;
pub mod notrack;
pub mod reconcile;
pub mod replace;
pub mod state;
pub mod status;
mod systemd;
pub mod trigger;
