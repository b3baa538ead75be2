//! The inputs of a run, as they are or as they were when they were last good, and what of them is remembered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::OperatorConfig;
use crate::frr::files::FrrFiles;
use crate::input::{ObjectSource, OperatorFile, Origin, TemplateFile};
use crate::reconcile::Inputs;
use crate::state::{Accepted, Saved, State, StateError, Store};
use crate::trigger::links::SiteLinks;
use crate::trigger::{Objects, with_causes};

/// All inputs of this node.
pub(super) struct NodeInputs {
    node_name: String,
    operator_file: OperatorFile,
    template: TemplateFile,
    objects: ObjectSource,
    /// They are named by the operator file, and may be named anew.
    site: watch::Sender<SiteLinks>,
    store: Arc<Store>,
    state: State,
    /// The file that has it; `None` where it has changed since.
    saved: Option<Saved>,
}

/// What one run goes by.
pub(super) struct Read {
    pub(super) inputs: Inputs,
    pub(super) origin: Origin,
}

impl NodeInputs {
    /// Takes over what an agent before remembered, and removes what it has left where it was killed.
    pub(super) fn new(
        node_name: String,
        operator_file: PathBuf,
        files: &FrrFiles,
        objects: ObjectSource,
        site: watch::Sender<SiteLinks>,
        store: Arc<Store>,
    ) -> Self {
        match files.clean() {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "removed what an agent that was killed has left"),
            // Nothing depends on it.
            Err(error) => tracing::warn!(error = %with_causes(&error), "what an agent that was killed has left stays"),
        }
        let state = store.load().unwrap_or_else(|error| {
            tracing::error!(error = %with_causes(&error), "nothing is remembered of earlier runs");
            State::default()
        });
        let accepted = state.accepted.as_ref();
        let operator_file = OperatorFile::new(operator_file, accepted.map(|accepted| accepted.operator_file.as_str()));
        let template = TemplateFile::new(files.clone(), accepted.map(|accepted| accepted.template.as_str()));
        let objects = objects.remembering(state.accepted.clone());
        Self { node_name, operator_file, template, objects, site, store, state, saved: None }
    }

    /// Name of this node.
    pub(super) fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Lines of frr.conf that FRR need not show, as was found out before.
    pub(super) fn tolerated(&self) -> &BTreeSet<String> {
        &self.state.facts.tolerated
    }

    /// The inputs of the last verified run, also of an agent before.
    pub(super) fn accepted(&self) -> Option<Inputs> {
        let Accepted { objects, operator_file, template, since: _ } = self.state.accepted.as_ref()?;
        let config = OperatorConfig::parse(operator_file, Path::new("state.json")).ok()?;
        let objects = Objects { objects: objects.clone(), unreadable: Vec::new() };
        let (config, template, hostname) = (Arc::new(config), template.clone(), self.node_name.clone());
        Some(Inputs { objects, config, template, hostname })
    }

    /// When the inputs in force were first accepted as they are.
    pub(super) fn accepted_since(&self) -> Option<jiff::Timestamp> {
        self.state.accepted.as_ref().map(|accepted| accepted.since)
    }

    /// Nobody has told of objects for so long that the last accepted ones are to be applied.
    pub(super) fn limit_ended(&mut self) {
        self.objects.limit_ended();
    }

    /// Reads all; `None` while nobody has told which objects there are: that is not "no objects".
    pub(super) fn read(&mut self) -> anyhow::Result<Option<Read>> {
        let config = self.operator_file.current()?;
        SiteLinks::new(&config).publish(&self.site);
        let Some(given) = self.objects.current()? else { return Ok(None) };
        let template = self.template.current()?;
        let inputs = Inputs { objects: given.objects, config, template, hostname: self.node_name.clone() };
        Ok(Some(Read { inputs, origin: given.origin }))
    }

    /// FRR runs what these inputs ask for: a start that gets no others goes by them. Writes only where that is new, or the file is not the
    /// one that was written.
    pub(super) fn accept(&mut self, read: &Read, tolerated: &BTreeSet<String>) -> Result<(), StateError> {
        let Read { inputs, origin } = read;
        let mut news = self.state.facts.tolerated != *tolerated;
        if news {
            self.state.facts.tolerated.clone_from(tolerated);
        }
        // What stands behind a break in a file must not count as removed after a restart.
        if *origin != Origin::Part {
            let (objects, template) = (&inputs.objects.objects, &inputs.template);
            news |= self.state.accept(objects, self.operator_file.text(), template, jiff::Timestamp::now());
        }
        let saved = self.saved.take().filter(|saved| !news && self.store.holds(saved));
        self.saved = Some(match saved {
            Some(saved) => saved,
            None => self.store.save(&self.state)?,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEMPLATE: &str = "#++{{.VRFs}}\nrouter bgp 1\n#++{{.Neighbors}}\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\nexit\n#++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";

    struct Rig {
        root: tempfile::TempDir,
        inputs: NodeInputs,
    }

    impl Rig {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            fs::write(at("config.yaml"), "vnimap: {a: 7}\n").unwrap();
            fs::write(at("frr.conf.tpl"), TEMPLATE).unwrap();
            fs::write(at("none.yaml"), "kind: List\napiVersion: v1\nitems: []\n").unwrap();
            let (files, objects) = (FrrFiles::new(at("frr.conf")), ObjectSource::manifests(at("none.yaml")));
            let store = Arc::new(Store::open(&at("state")).unwrap());
            let site = watch::Sender::new(SiteLinks::default());
            let inputs = NodeInputs::new("n".into(), at("config.yaml"), &files, objects, site, store);
            Self { root, inputs }
        }

        fn accept(&mut self) -> Result<(), StateError> {
            let read = self.inputs.read().unwrap().unwrap();
            self.inputs.accept(&read, &BTreeSet::new())
        }

        fn state(&self) -> PathBuf {
            self.root.path().join("state/state.json")
        }

        fn stored(&self) -> String {
            fs::read_to_string(self.state()).unwrap()
        }
    }

    #[test]
    fn what_is_accepted_is_written_once_and_again_where_the_file_has_gone_or_is_another_one() {
        let mut rig = Rig::new();
        rig.accept().unwrap();
        let (written, saved) = (rig.stored(), rig.inputs.saved);
        rig.accept().unwrap();
        assert_eq!(rig.inputs.saved, saved);
        let spoils: [fn(PathBuf) -> std::io::Result<()>; 2] =
            [|path| fs::remove_file(path), |path| fs::write(path, "somebody's")];
        for spoil in spoils {
            spoil(rig.state()).unwrap();
            rig.accept().unwrap();
            assert_eq!(rig.stored(), written);
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later_without_being_new() {
        let mut rig = Rig::new();
        rig.accept().unwrap();
        let [folder, away] = ["state", "away"].map(|name| rig.root.path().join(name));
        fs::rename(&folder, &away).unwrap();
        fs::write(rig.root.path().join("frr.conf.tpl"), format!("{TEMPLATE}! new\n")).unwrap();
        rig.accept().unwrap_err();
        fs::rename(&away, &folder).unwrap();
        assert!(!rig.stored().contains("! new"));
        rig.accept().unwrap();
        assert!(rig.stored().contains("! new"));
    }
}
