//! Objects from the API server: one list, then a watch; no polling.

use std::time::Duration;

use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::known::{Effect, Guarded, KubeObjects};
use super::{Once, Trigger, with_causes};

/// How long a list was followed by a watch that was not refused.
const FOLLOWED: Duration = Duration::from_secs(30);

/// Follows the objects until it is cancelled; after an error the last answer stands, and after a back-off all are listed anew.
/// Tells `answers` of each answer (true) and error (false).
pub async fn watch(
    client: Client,
    objects: KubeObjects,
    triggers: mpsc::UnboundedSender<Trigger>,
    answers: impl Fn(bool),
    cancel: CancellationToken,
) {
    let api: Api<Guarded> = Api::all(client);
    let stream = listing_anew(move || watcher(api.clone(), watcher::Config::default()));
    let mut stream = std::pin::pin!(stream.take_until(cancel.cancelled_owned()));
    let mut told = Once::default();
    while let Some(event) = stream.next().await {
        answers(event.is_ok());
        match event {
            Ok(event) => {
                if told.is_over() {
                    tracing::info!("the API server answers again");
                }
                if objects.event(event) == Effect::Changed {
                    let _ = triggers.send(Trigger::Objects);
                }
            }
            Err(error) => {
                objects.list_broke();
                if status(&error) == Some(404) {
                    objects.kind_is_gone();
                }
                let words = describe(&error);
                if told.is_news(&words) {
                    tracing::error!(error = %words, "no VRFRouteConfigurations from the API server; the node keeps what it has");
                }
            }
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
        let event = events.next().await?;
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
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_each_error_all_objects_are_listed_anew_less_and_less_often() {
        let begun = std::cell::Cell::new(0);
        let watch = || {
            begun.set(begun.get() + 1);
            stream::iter([
                Ok(watcher::Event::Init),
                Ok(watcher::Event::InitDone),
                Err(watcher::Error::NoResourceVersion),
            ])
        };
        let begin = tokio::time::Instant::now();
        let told: Vec<_> = listing_anew::<Guarded, _>(watch).take(20).collect().await;
        assert!(told.chunks(2).all(|pair| matches!(pair, [Ok(watcher::Event::InitDone), Err(_)])), "{told:?}");
        assert_eq!(begun.get(), 11);
        assert!(begin.elapsed() > Duration::from_secs(60), "{:?}", begin.elapsed());
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
}
