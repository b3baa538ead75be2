//! The watch beside an API server that says what a test wants.

use super::*;
use crate::trigger::crd::tests::refusal;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use kube::ResourceExt;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn after_each_error_all_objects_are_listed_anew_less_and_less_often() {
    let begun = std::cell::Cell::new(0);
    let watch = || {
        begun.set(begun.get() + 1);
        stream::iter([Ok(watcher::Event::Init), Ok(watcher::Event::InitDone), Err(watcher::Error::NoResourceVersion)])
    };
    let begin = tokio::time::Instant::now();
    let told: Vec<_> = listing_anew::<Guarded, _>(watch).take(20).collect().await;
    assert!(told.chunks(2).all(|pair| matches!(pair, [Ok(watcher::Event::InitDone), Err(_)])), "{told:?}");
    assert_eq!(begun.get(), 11);
    assert!(begin.elapsed() > Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_says_nothing_any_more_is_begun_anew() {
    let watch = || stream::iter([Ok(watcher::Event::Init)]).chain(stream::pending());
    let told: Vec<_> = listing_anew::<Guarded, _>(watch).take(2).collect().await;
    let words = |error: &watcher::Error| describe(error).ends_with("no answer within 60 s");
    assert!(told.iter().all(|event| event.as_ref().is_err_and(words)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_asked_less_and_less_often_and_no_list_counts_as_an_answer() {
    let away = || [Ok(watcher::Event::Init), Err(watcher::Error::NoResourceVersion)];
    let events = futures::stream::iter((0..10).flat_map(|_| away()));
    let begin = tokio::time::Instant::now();
    let told: Vec<_> = patient::<Guarded>(events).collect().await;
    assert_eq!(told.iter().filter(|event| event.is_err()).count(), 10);
    assert_eq!(told.len(), 10);
    assert!(begin.elapsed() > Duration::from_secs(60), "{:?}", begin.elapsed());
}

/// What the API server says.
#[derive(Default)]
struct Told {
    crd: Value,
    /// How long it takes to say so.
    slowness: Duration,
    listed: Vec<&'static str>,
    lists: usize,
    questions: usize,
    watch: Option<mpsc::UnboundedSender<String>>,
}

struct Rig {
    told: Arc<Mutex<Told>>,
    objects: KubeObjects,
    triggers: mpsc::UnboundedReceiver<Trigger>,
    answers: Arc<AtomicBool>,
    _cancel: tokio_util::sync::DropGuard,
}

impl Rig {
    /// An agent that has listed these, and has been told of the CRD.
    async fn that_knows(listed: Vec<&'static str>) -> Self {
        let told = Arc::new(Mutex::new(Told { crd: crd("first"), listed, ..Told::default() }));
        let server = Router::new().fallback(answer).with_state(Arc::clone(&told));
        let (sender, triggers) = mpsc::unbounded_channel();
        let (objects, answers) = (KubeObjects::of_a_node(), Arc::new(AtomicBool::new(false)));
        let (cancel, tell) = (CancellationToken::new(), Arc::clone(&answers));
        let tell = move |answers| tell.store(answers, Ordering::Relaxed);
        tokio::spawn(watch(Client::new(server, "default"), objects.clone(), sender, tell, cancel.clone()));
        let mut rig = Self { told, objects, triggers, answers, _cancel: cancel.drop_guard() };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(rig.asks_for_a_run());
        assert_eq!(rig.with(|told| (told.lists, told.questions)), (1, 1));
        rig
    }

    fn with<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.told.lock().unwrap())
    }

    fn deleted(&self, name: &str) {
        self.says(json!({"type": "DELETED", "object": object(name)}));
    }

    fn says(&self, event: Value) {
        self.with(|told| told.watch.as_ref().unwrap().send(format!("{event}\n")).unwrap());
    }

    fn asks_for_a_run(&mut self) -> bool {
        std::iter::from_fn(|| self.triggers.try_recv().ok()).count() > 0
    }

    fn in_force(&self) -> Vec<String> {
        self.objects.snapshot().unwrap().objects.iter().map(|object| object.name_any()).collect()
    }
}

async fn answer(State(told): State<Arc<Mutex<Told>>>, uri: Uri) -> Response {
    if uri.path().contains("customresourcedefinitions") {
        let (crd, slowness) = {
            let mut told = told.lock().unwrap();
            told.questions += 1;
            (told.crd.clone(), told.slowness)
        };
        tokio::time::sleep(slowness).await;
        let code = crd["code"].as_u64().map_or(StatusCode::OK, |code| StatusCode::from_u16(code as u16).unwrap());
        return (code, Json(crd)).into_response();
    }
    let mut told = told.lock().unwrap();
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        let (sender, lines) = mpsc::unbounded_channel();
        told.watch = Some(sender);
        let lines = stream::unfold(lines, |mut lines| async {
            lines.recv().await.map(|line: String| (Ok::<_, Infallible>(line), lines))
        });
        return Body::from_stream(lines).into_response();
    }
    told.lists += 1;
    let items: Vec<_> = told.listed.iter().map(|name| object(name)).collect();
    let (version, kind) = ("network.schiff.telekom.de/v1alpha1", "VRFRouteConfigurationList");
    Json(json!({"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "7"}, "items": items}))
        .into_response()
}

fn object(name: &str) -> Value {
    json!({
        "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
        "metadata": {"name": name, "uid": name, "resourceVersion": "8"},
        "spec": {"vrf": "a", "seq": 1, "import": [], "export": []},
    })
}

fn crd(uid: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "crd", "uid": uid}})
}

#[tokio::test(start_paused = true)]
async fn a_deletion_asks_for_a_run_once_the_crd_was_told_to_stand() {
    let mut rig = Rig::that_knows(vec!["a", "b", "c"]).await;
    rig.deleted("a");
    rig.deleted("b");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((rig.asks_for_a_run(), rig.in_force().len()), (false, 3));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((rig.asks_for_a_run(), rig.in_force().len()), (true, 1));
    assert_eq!(rig.with(|told| told.questions), 2, "one for both");
    rig.with(|told| told.crd = refusal(403, "Forbidden"));
    rig.deleted("c");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((rig.asks_for_a_run(), rig.in_force().len()), (false, 1));
    assert!(rig.with(|told| told.questions) < 2 + 20, "less and less often");
    assert!(!rig.answers.load(Ordering::Relaxed));
    rig.says(json!({"type": "ADDED", "object": object("d")}));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.asks_for_a_run());
    assert!(!rig.answers.load(Ordering::Relaxed), "what it says does not make good what it does not say");
    rig.with(|told| told.crd = crd("first"));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(rig.asks_for_a_run());
    assert_eq!(rig.in_force(), ["d"]);
    assert!(rig.answers.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_a_deletion_says_nothing_of_it() {
    let mut rig = Rig::that_knows(vec!["a", "b"]).await;
    rig.with(|told| told.slowness = Duration::from_millis(300));
    rig.deleted("a");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(rig.with(|told| told.questions), 2);
    rig.with(|told| told.crd = refusal(404, "NotFound"));
    rig.deleted("b");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.with(|told| told.questions), 3);
    assert_eq!((rig.asks_for_a_run(), rig.in_force().len()), (false, 2));
}

#[tokio::test(start_paused = true)]
async fn a_crd_that_was_replaced_is_listed_anew_and_only_once() {
    let mut rig = Rig::that_knows(vec!["a", "b"]).await;
    rig.with(|told| (told.listed, told.crd) = (Vec::new(), crd("second")));
    rig.says(json!({"type": "ERROR", "object": refusal(410, "Expired")}));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.with(|told| (told.lists, told.questions)), (3, 3));
    assert_eq!((rig.asks_for_a_run(), rig.in_force().len()), (false, 2));
    rig.deleted("a");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.in_force().len(), 2, "it is of the CRD before");
}
