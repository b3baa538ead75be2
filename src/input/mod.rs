//! Inputs that are read again and again: what cannot be read, or is broken, keeps what was last good, also over a restart.

mod named_template;
mod objects;
mod operator_file;
mod template;

pub use named_template::NamedTemplate;
pub use objects::{Given, ObjectSource, Origin};
pub use operator_file::OperatorFile;
pub use template::TemplateFile;
