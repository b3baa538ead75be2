//! Objects from the API server: one list, then a watch; no polling.

use std::time::Duration;

use futures::future::{Fuse, FusedFuture, FutureExt, ready};
use futures::{Stream, StreamExt, stream};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::crd::{self, Crd};
use super::known::{Effect, Guarded, KubeObjects};
use super::{Once, Trigger, patience, with_causes};

/// How long a list was followed by a watch that was not refused.
const FOLLOWED: Duration = Duration::from_secs(30);

/// An API server that has taken the request for a list and dies is heard of no more, and a connection without a read timeout waits for ever.
const SILENCE: Duration = Duration::from_secs(60);

/// Deletions come in bursts: one question about the CRD does for those of this time.
const BURST: Duration = Duration::from_millis(500);

/// Follows the objects until it is cancelled; after an error the last answer stands, and after a back-off all are listed anew.
/// Tells `answers` after each answer or error whether all is answered that is asked for.
pub async fn watch(
    client: Client,
    objects: KubeObjects,
    triggers: mpsc::UnboundedSender<Trigger>,
    answers: impl Fn(bool),
    cancel: CancellationToken,
) {
    let api: Api<Guarded> = Api::all(client.clone());
    let list = move || {
        let api = api.clone();
        listing_anew(move || watcher(api.clone(), watcher::Config::default()))
    };
    let mut watch = Watch { objects, triggers, answers, told: Once::default(), crd_told: Once::default(), refusals: 0 };
    let mut events = std::pin::pin!(list());
    let mut pause = std::pin::pin!(Fuse::terminated());
    let mut answer = std::pin::pin!(Fuse::terminated());
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            Some(event) = events.next() => watch.heard(event),
            said = &mut answer => watch.learned(said),
            () = &mut pause => {
                answer.set(crd::ask(Api::all(client.clone())).fuse());
                continue;
            }
        };
        match next {
            Next::Event => {}
            Next::Ask(wait) => {
                // An answer to what was asked before says nothing of what has been heard since.
                answer.set(Fuse::terminated());
                if pause.is_terminated() {
                    pause.set(tokio::time::sleep(wait).fuse());
                }
            }
            Next::ListAnew => events.set(list()),
        }
    }
}

/// What a watch does after what it was told.
enum Next {
    Event,
    /// Ask for the CRD after this time.
    Ask(Duration),
    ListAnew,
}

struct Watch<A> {
    objects: KubeObjects,
    triggers: mpsc::UnboundedSender<Trigger>,
    answers: A,
    told: Once,
    crd_told: Once,
    /// How often the question for the CRD was not answered.
    refusals: u32,
}

impl<A: Fn(bool)> Watch<A> {
    fn heard(&mut self, event: watcher::Result<watcher::Event<Guarded>>) -> Next {
        let ask = match event {
            Ok(event) => {
                if self.told.is_over() {
                    tracing::info!("the API server answers again");
                }
                let ask = matches!(event, watcher::Event::InitDone | watcher::Event::Delete(_));
                let effect = self.objects.event(event);
                self.run_if(effect);
                ask
            }
            Err(error) => {
                self.objects.list_broke();
                let words = describe(&error);
                if self.told.is_news(&words) {
                    tracing::error!(error = %words, "no VRFRouteConfigurations from the API server; the node keeps what it has");
                }
                status(&error) == Some(404)
            }
        };
        self.tell();
        if ask && self.objects.are_in_force() { Next::Ask(BURST) } else { Next::Event }
    }

    fn learned(&mut self, said: Result<Crd, String>) -> Next {
        let next = match said {
            Ok(crd) => {
                self.refusals = 0;
                if self.crd_told.is_over() {
                    tracing::info!("the API server tells of the CRD again");
                }
                let effect = self.objects.learned(crd);
                self.run_if(effect);
                if effect == Effect::ListAnew { Next::ListAnew } else { Next::Event }
            }
            Err(words) => {
                if self.crd_told.is_news(&words) {
                    tracing::error!(error = %words, "the API server does not tell whether the CRD is there; what was deleted meanwhile stays in force");
                }
                self.refusals = self.refusals.saturating_add(1);
                Next::Ask(patience(self.refusals - 1))
            }
        };
        self.tell();
        next
    }

    /// All is followed only where both are answered.
    fn tell(&self) {
        (self.answers)(!self.told.stands() && !self.crd_told.stands());
    }

    fn run_if(&self, effect: Effect) {
        if effect == Effect::Changed {
            let _ = self.triggers.send(Trigger::Objects);
        }
    }
}

/// A watch that begins with a list again after each error. Else it goes on where it was, and of what does not change nothing is heard: neither
/// that the API server answers, nor that the kind is another one. A list alone does not end the back-off, for where watches are refused there is
/// one after the other; one that was followed for a while does.
fn listing_anew<K, S>(begin: impl Fn() -> S) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
where
    S: Stream<Item = watcher::Result<watcher::Event<K>>>,
{
    let first = (Box::pin(begin()), watcher::DefaultBackoff::default(), None::<Duration>, None::<Instant>);
    let events = stream::unfold((first, begin), |((mut events, mut backoff, wait, mut listed), begin)| async move {
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        let event = match listed {
            Some(_) => events.next().await?,
            None => tokio::time::timeout(SILENCE, events.next()).await.unwrap_or_else(|_| Some(Err(silent())))?,
        };
        let mut wait = None;
        match event {
            Ok(watcher::Event::InitDone) => listed = Some(Instant::now()),
            Ok(_) => {}
            Err(_) => {
                if listed.take().is_some_and(|listed| listed.elapsed() > FOLLOWED) {
                    backoff.reset();
                }
                wait = backoff.next();
                events.set(begin());
            }
        }
        Some((event, ((events, backoff, wait, listed), begin)))
    });
    answers_only(events)
}

fn silent() -> watcher::Error {
    let words = format!("no answer within {} s", SILENCE.as_secs());
    watcher::Error::InitialListFailed(kube::Error::Service(words.into()))
}

/// That a list begins is said by the watch itself: it is no answer, and must end no back-off.
fn answers_only<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> {
    events.filter(|event| ready(!matches!(event, Ok(watcher::Event::Init))))
}

/// What the API server says, with a back-off between attempts. Whoever gathers a list begins anew after an error.
pub fn patient<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> {
    answers_only(events).default_backoff()
}

/// The HTTP status that an error of the API server has.
fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn describe(error: &watcher::Error) -> String {
    let cure = match status(error) {
        Some(404) => "; is the CRD installed? (`network-operator crds | kubectl apply -f -`)",
        Some(401 | 403) => "; the service account needs list and watch on vrfrouteconfigurations",
        _ => "",
    };
    with_causes(error) + cure
}

#[cfg(test)]
mod tests;
