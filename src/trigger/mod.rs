//! Where changes come from: objects of the API server or of files, and the files of the node.

pub mod manifests;
mod object;
