//! The order of a run's steps, and what a run that broke off leaves to the next one, on a host that writes down what it is asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network_operator::config::OnReloadFailure;
use network_operator::frr::command::Verdict;
use network_operator::frr::config::{Config, Line};
use network_operator::frr::render::Renderer;
use network_operator::link::{LinkOp, LinkPlan, ObservedLinks};
use network_operator::reconcile::*;

/// What becomes of a VNI.
type Becomes = fn(&mut VniState);

#[derive(Default)]
struct State {
    calls: Vec<String>,
    conf: Option<String>,
    staged: Option<String>,
    good: Option<String>,
    /// What FRR says of the staged text.
    refused: Vec<String>,
    vnis: BTreeMap<String, VniState>,
    /// How often zebra is asked before it tells what has become of a VXLAN, and what it is to tell then.
    lag: usize,
    pending: Option<(usize, Becomes)>,
    /// How many next hops zebra has: with each question, once the VNI is down, one less.
    next_hops: usize,
    /// How many of them stay.
    stays: usize,
    /// Whether the VXLAN has gone before them, or lines before zebra has seen it go.
    early: bool,
    /// What FRR runs: the text, one line each.
    running: Vec<String>,
    /// Lines that FRR refuses when it is given them, takes and does not show, or loses in a reload.
    bad: Vec<&'static str>,
    silent: Vec<&'static str>,
    lost: Vec<&'static str>,
    /// Whether a reload that meets a bad line stops FRR.
    fragile: bool,
    /// The step that fails, once.
    fails: Option<&'static str>,
    /// How often FRR refuses to forget.
    refusals: usize,
    stopped: bool,
    /// Whether the neighbor has an address, and bgpd is one that forgets where it keeps it.
    addressed: bool,
    old_bgpd: bool,
}

impl State {
    fn takes(&mut self, line: &str) -> Verdict {
        if self.bad.contains(&line) {
            return Verdict::Refused("% No such thing".into());
        }
        if !self.silent.contains(&line) && !self.running.iter().any(|seen| seen == line) {
            self.running.push(line.to_owned());
        }
        Verdict::Taken
    }

    /// What FRR makes of an operation on a link.
    fn sees(&mut self, op: &LinkOp) {
        match (op.to_string().as_str(), self.vnis.get_mut("vr.a")) {
            ("down vd.a", _) => self.addressed = false,
            ("up vd.a", _) => self.addressed = true,
            ("down vx.a", Some(_)) => self.pending = Some((self.lag, |vni| vni.up = false)),
            ("delete vx.a", Some(vni)) => {
                self.early |= vni.up || self.next_hops > 0;
                self.pending = Some((self.lag, |vni| vni.vxlan = false));
            }
            _ => {}
        }
    }

    fn asked_for_vnis(&mut self) {
        match (self.pending, self.vnis.get_mut("vr.a")) {
            (Some((0, change)), Some(vni)) => {
                change(vni);
                self.pending = None;
            }
            (Some((lag, change)), _) => self.pending = Some((lag - 1, change)),
            (None, _) => {}
        }
    }

    /// As frr-reload.py: what the file has and FRR has not is given, what FRR has and the file has not is taken.
    fn read_file(&mut self) {
        let file: Vec<String> = self.conf.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
        // No reload removes the stanza of a VRF.
        self.running.retain(|line| file.contains(line) || line.starts_with("vrf "));
        file.iter().for_each(|line| drop(self.takes(line)));
        self.running.retain(|line| !self.lost.iter().any(|lost| lost == line));
    }
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

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.0.lock().unwrap());
        self
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
        let mut state = self.call("links")?;
        state.calls.extend(ops.iter().map(|op| format!("  {op}")));
        ops.iter().for_each(|op| state.sees(op));
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
        state.conf = state.staged.take();
        Ok(())
    }
    fn restore(&self, text: &str) -> Result<(), PortError> {
        self.call("restore")?.conf = Some(text.to_owned());
        Ok(())
    }
    fn last_good(&self) -> Result<Option<String>, PortError> {
        Ok(self.0.lock().unwrap().good.clone())
    }
    fn keep_good(&self, text: &str) -> Result<(), PortError> {
        self.0.lock().unwrap().good = Some(text.to_owned());
        Ok(())
    }
}

impl ServicePort for Host {
    async fn running(&self) -> Result<bool, PortError> {
        Ok(!self.call("running")?.stopped)
    }
    async fn reload(&self) -> Result<(), PortError> {
        let mut state = self.call("reload")?;
        if state.stopped {
            return Err("stopped".into());
        }
        let bad = state.conf.iter().flat_map(|text| text.lines()).any(|line| state.bad.contains(&line));
        state.stopped = state.fragile && bad;
        state.read_file();
        Ok(())
    }
    fn was_tried(&self, error: &PortError) -> bool {
        error.to_string() == "slow"
    }
    async fn start(&self) -> Result<(), PortError> {
        let mut state = self.call("start")?;
        state.stopped = false;
        state.running.clear();
        state.read_file();
        Ok(())
    }
    async fn restart(&self) -> Result<(), PortError> {
        let mut state = self.call("restart")?;
        state.lost.clear();
        state.read_file();
        Ok(())
    }
}

impl DaemonPort for Host {
    async fn running(&self) -> Result<Config, PortError> {
        let state = self.0.lock().unwrap();
        if state.stopped { Err("nobody answers".into()) } else { Ok(Config::parse(&state.running.join("\n"))) }
    }
    async fn fingerprint(&self) -> Result<u64, PortError> {
        let state = self.0.lock().unwrap();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&state.running);
        if state.stopped { Err("nobody answers".into()) } else { Ok(hash) }
    }
    async fn give(&self, lines: &[Line]) -> Result<Vec<Verdict>, PortError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.call("give")?;
        state.calls.extend(lines.iter().map(|line| format!("  {line}")));
        Ok(lines.iter().map(|line| state.takes(&line.to_string())).collect())
    }
    async fn take(&self, lines: &[Line]) -> Result<(), PortError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut state = self.call("take")?;
        state.early |= state.pending.is_some();
        state.calls.extend(lines.iter().map(|line| format!("  {line}")));
        state.running.retain(|seen| !lines.iter().any(|line| line.to_string() == *seen));
        Ok(())
    }
    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        let mut state = self.0.lock().unwrap();
        state.asked_for_vnis();
        Ok(state.vnis.clone())
    }
    async fn next_hops(&self) -> Result<BTreeMap<u32, usize>, PortError> {
        let mut state = self.0.lock().unwrap();
        if state.fails == Some("next hops") {
            state.fails = None;
            return Err("next hops fails".into());
        }
        let count = state.next_hops;
        let goes = count > state.stays && state.vnis.values().all(|vni| !vni.up);
        state.next_hops -= usize::from(goes);
        Ok([(100, count)].into_iter().filter(|(_, count)| *count > 0).collect())
    }
    async fn addressed(&self, _: &str) -> Result<bool, PortError> {
        Ok(self.0.lock().unwrap().addressed)
    }
    async fn loses_neighbors(&self) -> Result<bool, PortError> {
        Ok(self.0.lock().unwrap().old_bgpd)
    }
    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        let mut state = self.call("forget")?;
        if state.refusals == 0 {
            state.running.retain(|line| !vrfs.iter().any(|vrf| *line == format!("vrf {vrf}")));
            return Ok(BTreeMap::new());
        }
        state.refusals -= 1;
        Ok(vrfs.iter().map(|vrf| (vrf.clone(), "Only inactive VRFs can be deleted".to_owned())).collect())
    }
}

fn pipeline(host: &Host) -> Pipeline<Host, Host, Host, Host> {
    let ports = Ports { links: host.clone(), config: host.clone(), service: host.clone(), daemons: host.clone() };
    Pipeline::new(ports, Renderer::new(None).unwrap(), Limits::default(), BTreeSet::new(), None)
}

fn name(text: &str) -> network_operator::model::IfName {
    text.parse().unwrap()
}

const OLD: &str = "log one\nlog two\n";
const NEW: &str = "log one\nlog three\n";

/// A node that runs `OLD`, as was once verified.
fn settled() -> Host {
    Host::default().with(|state| {
        (state.conf, state.good) = (Some(OLD.into()), Some(OLD.into()));
        state.vnis.insert("vr.a".into(), VniState { vni: 100, up: true, vxlan: true });
        state.read_file();
    })
}

fn text(text: &str) -> Prepared {
    Prepared {
        text: text.into(),
        links: LinkPlan::default(),
        vnis: vec![],
        standing: BTreeSet::new(),
        on_reload_failure: OnReloadFailure::Keep,
        rejections: vec![],
    }
}

fn adding() -> Prepared {
    let links = LinkPlan {
        create: vec![LinkOp::CreateVrf { name: name("vr.a"), table: 50.try_into().unwrap() }],
        activate: vec![LinkOp::SetUp { name: name("vr.a") }],
        ..LinkPlan::default()
    };
    Prepared { links, vnis: vec![("vr.a".into(), 100)], ..text(NEW) }
}

fn removing() -> Prepared {
    let remove = ["vd.a", "vx.a", "vr.a"].map(|link| LinkOp::Delete { name: name(link) }).into();
    Prepared { links: LinkPlan { remove, ..LinkPlan::default() }, ..text(NEW) }
}

fn idle(prepared: Prepared) -> Prepared {
    Prepared { links: LinkPlan::default(), ..prepared }
}

/// What a run with a new text does before it touches a link.
const BEFORE_LINKS: [&str; 10] =
    ["may write", "running", "stage", "give", "  log three", "write", "take", "  log two", "reload", "running"];

#[tokio::test(start_paused = true)]
async fn configuration_comes_before_links_and_links_are_up_last() {
    let host = settled();
    pipeline(&host).carry_out(&adding()).await.unwrap();
    let links = ["links", "  create vrf vr.a table 50", "links", "  up vr.a"];
    assert_eq!(host.calls(), [&BEFORE_LINKS[..], &links].concat());
    assert_eq!(host.0.lock().unwrap().good.as_deref(), Some(NEW));
    assert!(pipeline(&host).carry_out(&idle(adding())).await.unwrap().unchanged());
    assert_eq!(host.calls(), Vec::<String>::new(), "nothing to do is nothing done");
}

#[tokio::test(start_paused = true)]
async fn links_go_after_the_reload_and_stanzas_once_frr_lets_go() {
    let host = settled().with(|state| {
        state.refusals = 3;
        state.running.push("vrf vr.a".into());
    });
    pipeline(&host).carry_out(&removing()).await.unwrap();
    let calls = host.calls();
    // Out of service before FRR loses their VNI and neighbors, gone once it has none of them.
    let out = ["write", "links", "  down vx.a", "links", "  delete vx.a", "take", "  log two", "reload", "running"];
    let gone = ["links", "  delete vd.a", "  delete vr.a"];
    assert_eq!(calls[5..], [&out[..], &gone, &["forget"; 4]].concat(), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_vxlan_stays_until_zebra_has_no_route_through_it_and_lines_until_zebra_knows() {
    for (lag, next_hops) in [(0, 3), (3, 0), (3, 3)] {
        let host = settled().with(|state| (state.lag, state.next_hops) = (lag, next_hops));
        pipeline(&host).carry_out(&removing()).await.unwrap();
        let state = host.0.lock().unwrap();
        assert!(!state.early && !state.vnis["vr.a"].vxlan, "{lag} {next_hops}: {:?}", state.calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_vxlan_waits_no_longer_for_next_hops_that_stay_and_for_as_long_as_may_be_where_they_go_slowly() {
    for (next_hops, stays, seconds) in [(1, 1, 15..17), (3, 1, 15..17), (usize::MAX, 0, 120..122)] {
        let host = settled().with(|state| (state.next_hops, state.stays) = (next_hops, stays));
        let begin = tokio::time::Instant::now();
        pipeline(&host).carry_out(&removing()).await.unwrap();
        assert!(host.calls().contains(&"  delete vx.a".to_owned()));
        assert!(seconds.contains(&begin.elapsed().as_secs()), "{next_hops} {stays}: {:?}", begin.elapsed());
    }
    // A VNI that does not go down has its next hops still to go.
    let host = settled().with(|state| (state.lag, state.next_hops) = (300, 1));
    pipeline(&host).carry_out(&removing()).await.unwrap();
    assert_eq!(host.0.lock().unwrap().next_hops, 0);
}

#[tokio::test(start_paused = true)]
async fn a_vxlan_of_whose_next_hops_nothing_is_known_stays_down_until_the_next_run() {
    let host = settled().with(|state| (state.lag, state.fails) = (3, Some("next hops")));
    pipeline(&host).carry_out(&removing()).await.unwrap_err();
    let calls = host.calls();
    assert!(calls.contains(&"  down vx.a".to_owned()) && !calls.contains(&"  delete vx.a".to_owned()), "{calls:?}");
    pipeline(&host).carry_out(&removing()).await.unwrap();
    assert!(host.calls().contains(&"  delete vx.a".to_owned()));
}

/// Somebody has put another one in its place; FRR and frr.conf are as they should be.
#[tokio::test(start_paused = true)]
async fn a_vxlan_is_made_again_without_a_reload() {
    let create = vec![
        LinkOp::Delete { name: name("vx.a") },
        LinkOp::CreateVrf { name: name("vx.a"), table: 50.try_into().unwrap() },
    ];
    let links = LinkPlan { create, activate: vec![LinkOp::SetUp { name: name("vx.a") }], ..LinkPlan::default() };
    let host = settled();
    let prepared = Prepared { links, vnis: vec![("vr.a".into(), 100)], ..text(OLD) };
    // The host does not bring the VNI up again.
    pipeline(&host).carry_out(&prepared).await.unwrap_err();
    let links = ["  down vx.a", "  delete vx.a", "  create vrf vx.a table 50", "  up vx.a"];
    let expected = ["may write"].into_iter().chain(links.into_iter().flat_map(|op| ["links", op]));
    assert_eq!(host.calls(), expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_old_bgpd_finds_a_neighbor_before_it_goes() {
    let host = settled().with(|state| (state.addressed, state.old_bgpd) = (true, true));
    pipeline(&host).carry_out(&removing()).await.unwrap();
    let calls = host.calls();
    let out = ["links", "  delete vx.a", "links", "  down vd.a", "links", "  up vd.a", "take"];
    assert_eq!(calls[8..15], out, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stanza_that_somebody_left_is_forgotten_and_one_with_a_device_is_not() {
    let left = |standing: &[&str]| {
        let host = settled().with(|state| state.running.extend(["vrf vr.a".into(), "vrf site".into()]));
        (host, Prepared { standing: standing.iter().map(|vrf| (*vrf).to_owned()).collect(), ..text(OLD) })
    };
    let (host, prepared) = left(&[]);
    pipeline(&host).carry_out(&prepared).await.unwrap();
    assert_eq!(host.calls(), ["forget"]);
    let (host, prepared) = left(&["vr.a"]);
    pipeline(&host).carry_out(&prepared).await.unwrap();
    assert_eq!(host.calls(), Vec::<String>::new());
}

/// Whatever step an agent dies at, the next one gets there, and knows what must go although frr.conf does not tell any more.
#[tokio::test(start_paused = true)]
async fn a_run_that_broke_off_is_made_good_by_whoever_runs_next() {
    for fails in ["may write", "running", "stage", "give", "write", "take", "reload", "links"] {
        let host = settled().with(|state| state.fails = Some(fails));
        pipeline(&host).carry_out(&adding()).await.unwrap_err();
        pipeline(&host).carry_out(&adding()).await.unwrap();
        let state = host.0.lock().unwrap();
        assert_eq!((state.conf.as_deref(), state.good.as_deref()), (Some(NEW), Some(NEW)), "{fails}");
        assert_eq!(state.running, ["log one", "log three"], "{fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn links_never_go_before_their_instance_even_where_the_text_is_there_already() {
    let host = settled();
    pipeline(&host).carry_out(&Prepared { text: OLD.into(), ..removing() }).await.unwrap();
    let calls = host.calls();
    let position = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(
        position("  delete vx.a") < position("reload") && position("reload") < position("  delete vr.a"),
        "{calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vni_that_stays_down_fails_every_run() {
    let host = settled();
    let mut pipeline = pipeline(&host);
    pipeline.carry_out(&adding()).await.unwrap();
    host.0.lock().unwrap().vnis.insert("vr.a".into(), VniState { vni: 100, up: false, vxlan: true });
    for _ in 0..2 {
        let error = pipeline.carry_out(&idle(adding())).await.unwrap_err().to_string();
        assert!(error.contains("vr.a (VNI 100) is not up"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_known_before_anything_is() {
    for fails in ["may write", "running", "stage"] {
        let host = settled().with(|state| state.fails = Some(fails));
        pipeline(&host).carry_out(&adding()).await.unwrap_err();
        assert_eq!(host.calls().last().unwrap(), fails);
        assert_eq!(host.0.lock().unwrap().conf.as_deref(), Some(OLD));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_gets_the_new_text_and_nothing_else() {
    let host = settled().with(|state| state.stopped = true);
    pipeline(&host).carry_out(&adding()).await.unwrap_err();
    assert_eq!(host.calls(), ["may write", "running", "stage", "write", "reload"]);
}

#[tokio::test(start_paused = true)]
async fn what_frr_refuses_never_becomes_frr_conf_and_touches_nothing() {
    let host = settled().with(|state| state.refused = vec!["line 4: `neighbr x`: Unknown command".into()]);
    let error = pipeline(&host).carry_out(&adding()).await.unwrap_err().to_string();
    assert!(error.contains("line 4: `neighbr x`: Unknown command"), "{error}");
    assert_eq!(host.calls(), ["may write", "running", "stage"]);
    let state = host.0.lock().unwrap();
    assert_eq!((state.conf.as_deref(), &state.staged), (Some(OLD), &None));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_passes_the_check_and_is_not_taken_is_named_and_undone_without_a_reload() {
    let host = settled().with(|state| (state.bad, state.fragile) = (vec!["log bad"], true));
    let error = pipeline(&host).carry_out(&text("log one\nlog two\nlog new\nlog bad\n")).await.unwrap_err();
    let words = error.to_string();
    for part in
        ["Failed", "`log bad`: % No such thing", "frr.conf stays", "the last good configuration is running again"]
    {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!host.calls().contains(&"reload".to_owned()));
    let state = host.0.lock().unwrap();
    assert_eq!((state.conf.as_deref(), &state.staged), (Some(OLD), &None));
    assert_eq!(state.running, ["log one", "log two"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_only_once_what_must_go_first_has_gone() {
    let host = settled().with(|state| state.bad = vec!["log three"]);
    let error = pipeline(&host).carry_out(&text(NEW)).await.unwrap_err().to_string();
    assert!(error.contains("`log three`"), "{error}");
    let calls = host.calls();
    let gives = calls.iter().filter(|call| *call == "  log three").count();
    let take = calls.iter().position(|call| call == "take").unwrap();
    assert!(gives == 2 && calls[take + 1] == "  log two", "{calls:?}");
    assert_eq!(host.0.lock().unwrap().running, ["log one", "log two"], "given back");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_loses_a_line_is_rolled_back_and_names_it() {
    let host = settled().with(|state| state.lost = vec!["log three"]);
    let words = pipeline(&host).carry_out(&text(NEW)).await.unwrap_err().to_string();
    assert!(words.contains("missing: `log three`") && words.contains("is running again"), "{words}");
    let state = host.0.lock().unwrap();
    assert_eq!((state.conf.as_deref(), state.good.as_deref()), (Some(OLD), Some(OLD)));
    assert_eq!(state.running, ["log one", "log two"]);
    assert!(!state.calls.contains(&"restart".to_owned()), "{:?}", state.calls);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_stops_frr_is_followed_by_a_start_with_the_old_text() {
    // Refused before, too, so that it is not what is refused now.
    let old = "log one\nlog bad\n";
    let host = settled().with(|state| {
        (state.conf, state.good, state.bad, state.fragile) = (Some(old.into()), None, vec!["log bad"], true);
    });
    host.0.lock().unwrap().running = vec!["log one".into()];
    let words = pipeline(&host).carry_out(&text("log one\nlog bad\nlog new\n")).await.unwrap_err().to_string();
    assert!(words.contains("is running again"), "{words}");
    let calls = host.calls();
    let position = |name: &str| calls.iter().rposition(|call| call == name).unwrap();
    assert!(position("reload") < position("restore") && position("restore") < position("start"), "{calls:?}");
    assert!(!calls.contains(&"restart".to_owned()), "{calls:?}");
    assert_eq!(host.0.lock().unwrap().conf.as_deref(), Some(old));
}

#[tokio::test(start_paused = true)]
async fn an_frr_that_our_reload_has_stopped_is_started_until_it_runs_and_one_that_somebody_stopped_is_not() {
    let old = "log one\nlog bad\n";
    let host = settled().with(|state| {
        (state.conf, state.good, state.bad, state.fragile) = (Some(old.into()), None, vec!["log bad"], true);
        state.fails = Some("start");
    });
    host.0.lock().unwrap().running = vec!["log one".into()];
    let mut pipeline = pipeline(&host);
    let words = pipeline.carry_out(&text("log one\nlog bad\nlog new\n")).await.unwrap_err().to_string();
    assert!(words.contains("could not be restored") && words.contains("start fails"), "{words}");
    assert!(host.0.lock().unwrap().stopped);
    host.calls();
    pipeline.carry_out(&text(old)).await.unwrap();
    assert!(!host.0.lock().unwrap().stopped);
    assert_eq!(host.calls()[0], "start");
    host.0.lock().unwrap().stopped = true;
    pipeline.carry_out(&text(old)).await.unwrap_err();
    assert!(!host.calls().contains(&"start".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn frr_is_restarted_only_where_the_operator_file_says_so() {
    for (policy, restarts) in [(OnReloadFailure::Keep, 0), (OnReloadFailure::Restart, 1)] {
        let host = settled().with(|state| state.lost = vec!["log one"]);
        let prepared = Prepared { on_reload_failure: policy, ..text(NEW) };
        let words = pipeline(&host).carry_out(&prepared).await.unwrap_err().to_string();
        // Giving the line back over the vty is no reload, so it holds; what follows is only needed where it does not.
        assert!(words.contains("is running again"), "{words}");
        let host = settled().with(|state| (state.lost, state.bad) = (vec!["log one"], vec!["log one"]));
        let words = pipeline(&host).carry_out(&prepared).await.unwrap_err().to_string();
        let calls = host.calls();
        assert_eq!(calls.iter().filter(|call| *call == "restart").count(), restarts, "{words}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_default_that_frr_does_not_show_is_asked_for_once() {
    let host = settled().with(|state| state.silent = vec!["log three"]);
    let mut first = pipeline(&host);
    assert!(first.carry_out(&text(NEW)).await.unwrap().reloaded);
    assert_eq!(first.tolerated().iter().collect::<Vec<_>>(), ["log three"]);
    host.calls();
    assert!(first.carry_out(&text(NEW)).await.unwrap().unchanged());
    assert_eq!(host.calls(), Vec::<String>::new());
    // Known to the next agent, too; and no longer once the text has no such line.
    let known = first.tolerated().clone();
    let ports = Ports { links: host.clone(), config: host.clone(), service: host.clone(), daemons: host.clone() };
    let mut next = Pipeline::new(ports, Renderer::new(None).unwrap(), Limits::default(), known, None);
    assert!(next.carry_out(&text(NEW)).await.unwrap().unchanged());
    next.carry_out(&text("log one\n")).await.unwrap();
    assert!(next.tolerated().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_somebody_took_out_of_frr_is_given_back_without_a_reload() {
    let host = settled().with(|state| state.running.retain(|line| line != "log two"));
    let outcome = pipeline(&host).carry_out(&text(OLD)).await.unwrap();
    assert!(outcome.frr_lines == 1 && !outcome.reloaded && !outcome.written);
    assert_eq!(host.calls(), ["give", "  log two"]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_in_frr_is_left_there_and_what_is_ours_goes() {
    let host = settled().with(|state| state.running.push("log theirs".into()));
    assert!(pipeline(&host).carry_out(&text(OLD)).await.unwrap().unchanged());
    host.0.lock().unwrap().running.push("ip prefix-list pl_a_import_1 seq 9 permit any".into());
    let outcome = pipeline(&host).carry_out(&text(OLD)).await.unwrap();
    assert!(outcome.frr_lines == 1 && !outcome.reloaded && !outcome.written);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_somebody_overwrote_is_written_again_and_frr_is_left_alone() {
    let host = settled().with(|state| state.conf = Some("log one\n! by hand\n".into()));
    let outcome = pipeline(&host).carry_out(&text(OLD)).await.unwrap();
    assert!(outcome.written && !outcome.reloaded);
    assert_eq!(host.0.lock().unwrap().conf.as_deref(), Some(OLD));
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_gave_and_was_killed_with_goes_where_nobody_wants_it_any_more() {
    // The lines are in FRR; frr.conf never had them, and the inputs are as they were before.
    let host = settled().with(|state| state.running.push("log three".into()));
    let ports = Ports { links: host.clone(), config: host.clone(), service: host.clone(), daemons: host.clone() };
    let offered = Some(format!("{OLD}log three\n"));
    let mut next = Pipeline::new(ports, Renderer::new(None).unwrap(), Limits::default(), BTreeSet::new(), offered);
    next.carry_out(&text(OLD)).await.unwrap();
    assert_eq!(host.0.lock().unwrap().running, ["log one", "log two"]);
    // The same where the agent lives on, and FRR was away in between.
    let host = settled().with(|state| state.fails = Some("write"));
    let mut pipeline = pipeline(&host);
    pipeline.carry_out(&text(NEW)).await.unwrap_err();
    pipeline.carry_out(&text(OLD)).await.unwrap();
    assert_eq!(host.0.lock().unwrap().running, ["log one", "log two"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_stands_as_it_was_found_until_anything_moves_and_is_looked_at_as_a_whole_now_and_then() {
    let host = settled();
    let mut pipeline = pipeline(&host);
    assert!(pipeline.carry_out(&text(OLD)).await.unwrap().unchanged());
    let shown = pipeline.glance().await.unwrap();
    assert!(!pipeline.stands(&shown), "nobody has looked at all of it");
    pipeline.found(shown.clone()).await;
    let moves: [fn(&mut State); 4] = [
        |state| state.running.push("log four".into()),
        |state| state.conf = Some(NEW.into()),
        |state| state.good = None,
        |state| state.vnis.get_mut("vr.a").unwrap().up = false,
    ];
    for (number, moved) in moves.into_iter().enumerate() {
        assert!(pipeline.stands(&pipeline.glance().await.unwrap()), "{number}");
        let before = host.clone().with(moved);
        assert!(!pipeline.stands(&pipeline.glance().await.unwrap()), "{number}");
        before.with(|state| *state = std::mem::take(&mut *settled().0.lock().unwrap()));
    }
    tokio::time::advance(Duration::from_secs(589)).await;
    assert!((0..100).all(|_| pipeline.stands(&shown)), "however often it is looked at");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!pipeline.stands(&shown), "long after the last whole look");
    // What moves while all of it is looked at is nothing that was found.
    let host = host.with(|state| state.running.push("log four".into()));
    pipeline.found(shown.clone()).await;
    assert!(!pipeline.stands(&shown) && !pipeline.stands(&pipeline.glance().await.unwrap()));
    let host = host.with(|state| drop(state.running.pop()));
    pipeline.found(shown.clone()).await;
    assert!(pipeline.stands(&shown));
    pipeline.carry_out(&text(OLD)).await.unwrap();
    assert!(!pipeline.stands(&shown), "a run has begun since");
    let host = host.with(|state| state.stopped = true);
    assert!(pipeline.glance().await.is_none() && host.calls().is_empty());
}
