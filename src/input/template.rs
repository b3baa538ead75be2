//! The template of frr.conf, and what it said when it was last good.

use crate::frr::files::{FileError, FrrFiles};
use crate::frr::template::Template;
use crate::trigger::{Once, with_causes};

/// The template, and its last good text.
#[derive(Debug)]
pub struct TemplateFile {
    files: FrrFiles,
    good: Option<String>,
    told: Once,
}

impl TemplateFile {
    /// Names the file, which is read at each run, and its text of the last verified run.
    pub fn new(files: FrrFiles, accepted: Option<&str>) -> Self {
        let good = accepted.filter(|text| Template::parse(text).is_ok()).map(str::to_owned);
        Self { files, good, told: Once::default() }
    }

    /// The template as it is, or as it was when it was last good: a fault in it must not keep links from being
    /// repaired. Where it is missing and frr.conf has the hints, it is made of that.
    ///
    /// Where nothing good was ever read, it is given with its fault, which the run then fails of.
    ///
    /// # Errors
    /// It cannot be read or made, and nothing good was ever read.
    pub fn current(&mut self) -> Result<String, FileError> {
        let read = self.files.read_template();
        let fault = match &read {
            Ok(text) => Template::parse(text).err().map(|error| with_causes(&error)),
            Err(error) => Some(with_causes(error)),
        };
        let Some(fault) = fault else {
            self.make()?;
            if self.told.is_over() {
                tracing::info!(template = %self.files.template().display(), "the template is good again");
            }
            let text = read?;
            self.good = Some(text.clone());
            return Ok(text);
        };
        let Some(good) = self.good.clone() else {
            let text = read?;
            self.make()?;
            return Ok(text);
        };
        // frr.conf has no hints any more: what is wrong with it as a template is not the point.
        let gone = !self.files.template().exists();
        let fault = if gone { "it is gone: write it again, with hints".to_owned() } else { fault };
        if self.told.is_news(&fault) {
            tracing::error!(template = %self.files.template().display(), %fault, "the template cannot be used; the last good one stays in force");
        }
        Ok(good)
    }

    fn make(&self) -> Result<(), FileError> {
        if self.files.ensure_template()? {
            tracing::info!(template = %self.files.template().display(), "made the template of frr.conf");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GOOD: &str = "#++{{.VRFs}}\nrouter bgp 1\n#++{{.Neighbors}}\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\nexit\n#++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";

    fn files() -> (tempfile::TempDir, FrrFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = FrrFiles::new(folder.path().join("frr.conf"));
        (folder, files)
    }

    #[test]
    fn an_edit_that_breaks_the_template_keeps_the_last_good_one_also_over_a_restart() {
        let (_folder, files) = files();
        fs::write(files.conf(), GOOD).unwrap();
        let mut template = TemplateFile::new(files.clone(), None);
        assert_eq!(template.current().unwrap(), GOOD);
        assert_eq!(fs::read_to_string(files.template()).unwrap(), GOOD, "made of frr.conf");
        let broken = GOOD.replace("#++{{.BGP}}\n", "");
        fs::write(files.template(), &broken).unwrap();
        assert_eq!(template.current().unwrap(), GOOD);
        assert_eq!(TemplateFile::new(files.clone(), Some(GOOD)).current().unwrap(), GOOD);
        let better = GOOD.replace("bgp 1", "bgp 2");
        fs::write(files.template(), &better).unwrap();
        assert_eq!(template.current().unwrap(), better);
    }

    #[test]
    fn a_template_with_a_fault_is_given_as_it_is_where_none_was_ever_good() {
        let (_folder, files) = files();
        fs::write(files.template(), "no hints\n").unwrap();
        for accepted in [None, Some("no hints either\n")] {
            assert_eq!(TemplateFile::new(files.clone(), accepted).current().unwrap(), "no hints\n");
        }
    }

    #[test]
    fn a_template_that_is_removed_is_not_made_of_an_frr_conf_without_hints() {
        let (_folder, files) = files();
        fs::write(files.conf(), "rendered\n").unwrap();
        let mut template = TemplateFile::new(files.clone(), Some(GOOD));
        assert_eq!(template.current().unwrap(), GOOD);
        assert!(!files.template().exists());
        fs::write(files.conf(), GOOD.replace("bgp 1", "bgp 3")).unwrap();
        assert!(template.current().unwrap().contains("bgp 3"), "a new frr.conf with hints begins anew");
        assert!(files.template().exists());
    }

    #[test]
    fn without_a_template_and_frr_conf_the_error_says_so_until_something_good_is_known() {
        let (_folder, files) = files();
        assert!(matches!(TemplateFile::new(files.clone(), None).current(), Err(FileError::NoTemplate { .. })));
        assert_eq!(TemplateFile::new(files, Some(GOOD)).current().unwrap(), GOOD);
    }
}
