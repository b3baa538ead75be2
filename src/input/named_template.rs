//! A template that is named by its path, and what it said when it was last good.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::frr::template::Template;
use crate::trigger::Once;

/// A template that nobody renders here: it only tells which objects have a place in it.
#[derive(Debug)]
pub struct NamedTemplate {
    path: PathBuf,
    good: Arc<Template>,
    told: Once,
}

impl NamedTemplate {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, or its hints are wrong.
    pub fn read(path: PathBuf) -> anyhow::Result<Self> {
        let good = Arc::new(read(&path)?);
        Ok(Self { path, good, told: Once::default() })
    }

    /// The template as it is, or as it was when it was last good.
    pub fn current(&mut self) -> Arc<Template> {
        match read(&self.path) {
            Ok(template) => {
                self.told.is_over();
                self.good = Arc::new(template);
            }
            Err(error) => {
                let fault = format!("{error:#}");
                if self.told.is_news(&fault) {
                    tracing::error!(%fault, "the template cannot be used; the last good one counts");
                }
            }
        }
        self.good()
    }

    /// The template as it was when it was last good.
    pub fn good(&self) -> Arc<Template> {
        self.good.clone()
    }
}

fn read(path: &Path) -> anyhow::Result<Template> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read template {}", path.display()))?;
    Template::parse(&text).with_context(|| format!("template {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frr::template::Hint;

    const GOOD: &str = "#++{{.VRFs}}\nrouter bgp 1\n#++{{.Neighbors}}\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\n address-family ipv6 unicast\n#++{{.NeighborsV6}}\n exit-address-family\nexit\n#++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";

    #[test]
    fn a_template_that_breaks_or_goes_keeps_what_was_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frr.conf.tpl");
        let error = NamedTemplate::read(path.clone()).unwrap_err();
        assert!(format!("{error:#}").starts_with(&format!("read template {}: ", path.display())), "{error:#}");
        std::fs::write(&path, GOOD).unwrap();
        let mut template = NamedTemplate::read(path.clone()).unwrap();
        for broken in [Some("no hints\n"), None] {
            match broken {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert!(template.current().has(Hint::NeighborsV6));
        }
        std::fs::write(&path, GOOD.replace("#++{{.NeighborsV6}}\n", "")).unwrap();
        assert!(!template.current().has(Hint::NeighborsV6));
    }
}
