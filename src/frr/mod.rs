//! FRR's configuration text and FRR's processes: hints and rendering are pure, files, vty and service are adapters.

pub mod render;
mod section;
pub mod template;
