//! The order of a run's steps, and what a run that broke off leaves to the next one, on a host that writes down what it is asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use network_operator::frr::render::Renderer;
use network_operator::link::{LinkOp, LinkPlan, ObservedLinks};
use network_operator::reconcile::*;

#[derive(Default)]
struct State {
    calls: Vec<String>,
    conf: Option<String>,
    staged: Option<String>,
    /// What FRR says of the staged text.
    refused: Vec<String>,
    owed: bool,
    vnis: BTreeMap<String, VniState>,
    /// The step that fails, once.
    fails: Option<&'static str>,
    /// How often FRR refuses to forget.
    refusals: usize,
    stopped: bool,
}

#[derive(Clone, Default)]
struct Host(Arc<Mutex<State>>);

impl Host {
    fn call(&self, name: &'static str) -> Result<std::sync::MutexGuard<'_, State>, PortError> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(name.to_owned());
        if state.fails == Some(name) {
            state.fails = None;
            return Err(format!("{name} fails").into());
        }
        Ok(state)
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

impl LinkPort for Host {
    async fn observe(&self) -> Result<ObservedLinks, PortError> {
        Ok(ObservedLinks::default())
    }
    async fn may_write(&self) -> Result<(), PortError> {
        self.call("may write").map(drop)
    }
    async fn apply(&self, ops: &[LinkOp]) -> Result<(), PortError> {
        if ops.is_empty() {
            return Ok(());
        }
        self.call("links")?.calls.extend(ops.iter().map(|op| format!("  {op}")));
        Ok(())
    }
}

impl ConfigPort for Host {
    fn read(&self) -> Result<Option<String>, PortError> {
        Ok(self.0.lock().unwrap().conf.clone())
    }
    async fn stage(&self, text: &str) -> Result<Vec<String>, PortError> {
        let mut state = self.call("stage")?;
        state.staged = Some(text.to_owned());
        Ok(state.refused.clone())
    }
    fn discard(&self) {
        self.0.lock().unwrap().staged = None;
    }
    fn commit(&self) -> Result<(), PortError> {
        let mut state = self.call("write")?;
        (state.conf, state.owed) = (state.staged.take(), true);
        Ok(())
    }
    fn reload_owed(&self) -> bool {
        self.0.lock().unwrap().owed
    }
    fn reloaded(&self) -> Result<(), PortError> {
        self.0.lock().unwrap().owed = false;
        Ok(())
    }
}

impl ServicePort for Host {
    async fn running(&self) -> Result<bool, PortError> {
        Ok(!self.call("running")?.stopped)
    }
    async fn reload(&self) -> Result<(), PortError> {
        let state = self.call("reload")?;
        if state.stopped { Err("stopped".into()) } else { Ok(()) }
    }
}

impl DaemonPort for Host {
    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        Ok(self.0.lock().unwrap().vnis.clone())
    }
    async fn map_vnis(&self, vnis: &[(String, u32)]) -> Result<(), PortError> {
        let mut state = self.call("map")?;
        state.vnis = vnis.iter().map(|(name, vni)| (name.clone(), VniState { vni: *vni, up: true })).collect();
        Ok(())
    }
    async fn release_vrfs(&self, _: &str) -> Result<(), PortError> {
        self.call("release").map(drop)
    }
    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        let mut state = self.call("forget")?;
        if state.refusals == 0 {
            return Ok(BTreeMap::new());
        }
        state.refusals -= 1;
        Ok(vrfs.iter().map(|vrf| (vrf.clone(), "Only inactive VRFs can be deleted".to_owned())).collect())
    }
}

fn pipeline(host: &Host) -> Pipeline<Host, Host, Host, Host> {
    let ports = Ports { links: host.clone(), config: host.clone(), service: host.clone(), daemons: host.clone() };
    Pipeline::new(ports, Renderer::new(None).unwrap(), Limits::default())
}

fn name(text: &str) -> network_operator::model::IfName {
    text.parse().unwrap()
}

fn adding() -> Prepared {
    let links = LinkPlan {
        create: vec![LinkOp::CreateVrf { name: name("vr.a"), table: 50.try_into().unwrap() }],
        activate: vec![LinkOp::SetUp { name: name("vr.a") }],
        ..LinkPlan::default()
    };
    Prepared { text: "with a".into(), links, vnis: vec![("vr.a".into(), 100)], rejections: vec![] }
}

fn removing() -> Prepared {
    let remove = ["vd.a", "vr.a"].map(|link| LinkOp::Delete { name: name(link) }).into();
    let links = LinkPlan { remove, ..LinkPlan::default() };
    Prepared { text: "without".into(), links, vnis: vec![], rejections: vec![] }
}

fn idle(prepared: Prepared) -> Prepared {
    Prepared { links: LinkPlan::default(), ..prepared }
}

/// What a run with a new text does before it touches a link.
const BEFORE_LINKS: [&str; 8] = ["may write", "running", "stage", "write", "running", "map", "release", "reload"];

#[tokio::test(start_paused = true)]
async fn configuration_comes_before_links_and_links_are_up_last() {
    let host = Host::default();
    pipeline(&host).carry_out(&adding()).await.unwrap();
    let links = ["links", "  create vrf vr.a table 50", "links", "  up vr.a"];
    assert_eq!(host.calls(), [&BEFORE_LINKS[..], &links].concat());
    assert!(pipeline(&host).carry_out(&idle(adding())).await.unwrap().unchanged());
    assert_eq!(host.calls(), Vec::<String>::new(), "nothing to do is nothing done");
}

#[tokio::test(start_paused = true)]
async fn links_go_after_the_reload_and_stanzas_once_frr_lets_go() {
    let host = Host::default();
    host.0.lock().unwrap().refusals = 3;
    pipeline(&host).carry_out(&removing()).await.unwrap();
    let links = ["links", "  delete vd.a", "  delete vr.a"];
    assert_eq!(host.calls(), [&BEFORE_LINKS[..], &links, &["forget"; 4]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_owed_is_made_by_whoever_runs_next() {
    for fails in ["map", "release", "reload"] {
        let host = Host::default();
        host.0.lock().unwrap().fails = Some(fails);
        pipeline(&host).carry_out(&idle(adding())).await.unwrap_err();
        host.calls();
        let outcome = pipeline(&host).carry_out(&idle(adding())).await.unwrap();
        assert!(outcome.reloaded && !outcome.written, "{fails}");
        assert_eq!(host.calls(), ["running", "map", "release", "reload"]);
    }
}

#[tokio::test(start_paused = true)]
async fn links_never_go_before_their_instance_even_where_the_text_is_there_already() {
    let host = Host::default();
    host.0.lock().unwrap().conf = Some("without".into());
    pipeline(&host).carry_out(&removing()).await.unwrap();
    let calls = host.calls();
    let position = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(position("release") < position("reload") && position("reload") < position("links"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_vrf_that_comes_back_is_not_forgotten() {
    let host = Host::default();
    host.0.lock().unwrap().refusals = usize::MAX;
    let mut pipeline = pipeline(&host);
    let error = pipeline.carry_out(&removing()).await.unwrap_err().to_string();
    assert!(error.contains("vr.a (Only inactive VRFs can be deleted)"), "{error}");
    host.calls();
    pipeline.carry_out(&adding()).await.unwrap();
    assert!(!host.calls().contains(&"forget".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_vni_that_stays_down_fails_every_run() {
    let host = Host::default();
    let mut pipeline = pipeline(&host);
    pipeline.carry_out(&adding()).await.unwrap();
    host.0.lock().unwrap().vnis.insert("vr.a".into(), VniState { vni: 100, up: false });
    for _ in 0..2 {
        let error = pipeline.carry_out(&idle(adding())).await.unwrap_err().to_string();
        assert!(error.contains("vr.a (VNI 100) is not up"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_known_before_anything_is() {
    for fails in ["may write", "running", "stage"] {
        let host = Host::default();
        host.0.lock().unwrap().fails = Some(fails);
        pipeline(&host).carry_out(&adding()).await.unwrap_err();
        assert_eq!(host.calls().last().unwrap(), fails);
        assert_eq!(host.0.lock().unwrap().conf, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_gets_the_new_text_and_nothing_else() {
    let host = Host::default();
    host.0.lock().unwrap().stopped = true;
    pipeline(&host).carry_out(&adding()).await.unwrap_err();
    assert_eq!(host.calls(), ["may write", "running", "stage", "write", "running", "reload"]);
}

#[tokio::test(start_paused = true)]
async fn what_frr_refuses_never_becomes_frr_conf_and_touches_nothing() {
    let host = Host::default();
    host.0.lock().unwrap().refused = vec!["line 4: `neighbr x`: Unknown command".into()];
    let error = pipeline(&host).carry_out(&adding()).await.unwrap_err().to_string();
    assert!(error.contains("line 4: `neighbr x`: Unknown command"), "{error}");
    assert_eq!(host.calls(), ["may write", "running", "stage"]);
    let state = host.0.lock().unwrap();
    assert_eq!((&state.conf, &state.staged, state.owed), (&None, &None, false));
}
