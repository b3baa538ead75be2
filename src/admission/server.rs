//! The webhook: HTTPS, with a certificate that is read anew when its files change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::kube::core::DynamicObject;
use ::kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use ::kube::core::response::{StatusCause, StatusDetails};
use ::kube::{Client, Resource};
use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::judge::{Judge, JudgeError};
use super::{Change, Opinion};
use crate::api::VrfRouteConfiguration;
use crate::desired::Rejection;
use crate::input::{NamedTemplate, OperatorFile};
use crate::trigger::files::{self, Watched};
use crate::trigger::known::KubeObjects;
use crate::trigger::kube;
use crate::trigger::{Once, with_causes};

/// What the webhook goes by.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The operator file of the nodes.
    pub operator_file: PathBuf,
    /// Their template; without it, it is taken to have a place for IPv6 neighbors.
    pub template: Option<PathBuf>,
}

/// A review has an object twice, and the API server stores up to 3 MiB.
const LARGEST_REVIEW: usize = 8 << 20;
/// The listener goes later than the endpoint; nobody tells when the last API server has heard of that.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// Longer than API servers wait for an answer.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// A renewal writes two files, and nobody tells when it has written the second.
const RENEWAL: Duration = Duration::from_millis(200);
/// How often the certificate is read without an event: a renewal may come just before its files are watched.
const LOOK: Duration = Duration::from_secs(3600);
/// Answers until it is cancelled; requests that are under way then are answered, too.
///
/// # Errors
/// Certificate or operator file cannot be used at the start, or the address cannot be had.
pub async fn serve(config: WebhookConfig, client: Client, cancel: CancellationToken) -> anyhow::Result<()> {
    let WebhookConfig { listen, certificate, key, operator_file, template } = config;
    let tls = RustlsConfig::from_pem_file(&certificate, &key).await;
    let tls = tls.with_context(|| format!("certificate {} with key {}", certificate.display(), key.display()))?;
    let mut operator_file = OperatorFile::new(operator_file, None);
    operator_file.current()?;
    let template = template.map(NamedTemplate::read).transpose()?;
    let known = KubeObjects::default();
    // Nobody waits for changes. It goes on to the end: who is asked last must know, too.
    let (changes, _) = mpsc::unbounded_channel();
    tokio::spawn(kube::watch(client.clone(), known.clone(), changes, |_| {}, CancellationToken::new()));
    let (sender, renewals) = mpsc::unbounded_channel();
    let watched = vec![(Watched::File(certificate.clone()), ()), (Watched::File(key.clone()), ())];
    let files = tokio::spawn(files::watch(watched, sender, CancellationToken::new()));
    tokio::spawn(renew(tls.clone(), certificate, key, renewals));
    let judge = Judge::new(known, client, operator_file, template);
    let handle = Handle::new();
    tokio::spawn(stop(handle.clone(), cancel.clone()));
    let server = axum_server::bind_rustls(listen, tls).handle(handle).serve(router(judge, cancel).into_make_service());
    tracing::info!(%listen, "the webhook listens");
    tokio::select! {
        ended = server => ended.with_context(|| format!("listen on {listen}: give another address with --listen")),
        ended = files => Err(match ended? {
            Ok(()) => anyhow::anyhow!("the certificate is watched no longer"),
            Err(error) => error.into(),
        }),
    }
}

async fn stop(handle: Handle<SocketAddr>, cancel: CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(LAST_CALLS).await;
    handle.graceful_shutdown(Some(LAST_ANSWERS));
}

async fn renew(tls: RustlsConfig, certificate: PathBuf, key: PathBuf, mut renewals: mpsc::UnboundedReceiver<()>) {
    let mut told = Once::default();
    while let Ok(Some(())) | Err(_) = tokio::time::timeout(LOOK, renewals.recv()).await {
        tokio::time::sleep(RENEWAL).await;
        while renewals.try_recv().is_ok() {}
        let file = certificate.display();
        match tls.reload_from_pem_file(&certificate, &key).await {
            Ok(()) => {
                told.is_over();
                tracing::debug!(%file, "the certificate was read anew");
            }
            Err(error) => {
                let fault = with_causes(&error);
                if told.is_news(&fault) {
                    tracing::error!(%file, %fault, "the certificate cannot be used as it is; the last good one is served");
                }
            }
        }
    }
}

/// What keeps the webhook from an answer; the API server goes by its failurePolicy then.
type NoAnswer = (StatusCode, String);

fn router(judge: Judge, stopping: CancellationToken) -> Router {
    let judge = Arc::new(judge);
    let asked = judge.clone();
    let ready = async move || {
        if stopping.is_cancelled() {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "it is about to end".to_owned()));
        }
        if asked.is_ready() { Ok("ok") } else { Err(no_answer(JudgeError::NotYet)) }
    };
    Router::new()
        .route("/validate", post(validate))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(LARGEST_REVIEW))
        .with_state(judge)
}

/// What it is that keeps it from one.
fn no_answer(error: JudgeError) -> NoAnswer {
    let code = match error {
        JudgeError::NotYet | JudgeError::Slow | JudgeError::List(_) => StatusCode::SERVICE_UNAVAILABLE,
        JudgeError::OperatorFile(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, with_causes(&error))
}

async fn validate(
    State(judge): State<Arc<Judge>>,
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Result<Json<AdmissionReview<DynamicObject>>, NoAnswer> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| bad("no request".to_owned()))?;
    let mut response = AdmissionResponse::from(&request);
    if matches!(request.operation, Operation::Create | Operation::Update) {
        let value = |object: DynamicObject| serde_json::to_value(object).map_err(|error| bad(error.to_string()));
        let object = request.object.map(value).transpose()?.ok_or_else(|| bad("no object".to_owned()))?;
        let change = Change { object, old: request.old_object.map(value).transpose()? };
        let opinion = judge.opinion(&change).await.map_err(no_answer);
        let opinion = opinion.inspect_err(|(_, fault)| tracing::error!(%fault, "an object could not be judged"));
        match opinion? {
            Opinion::Allowed(warnings) if warnings.is_empty() => {}
            Opinion::Allowed(warnings) => response.warnings = Some(warnings),
            Opinion::Denied(rejection) => {
                tracing::info!(%rejection, user = request.user_info.username.as_deref(), "denied");
                response = response.deny(rejection.with_reason());
                response.result.code = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
                response.result.reason = "Invalid".to_owned();
                response.result.details = Some(details(rejection));
            }
        }
    }
    Ok(Json(response.into_review()))
}

/// kubectl shows the causes of what is invalid, and nothing else.
fn details(rejection: Rejection) -> StatusDetails {
    let Rejection { object, field, reason, message, cure } = rejection;
    let message = format!("{message}; {cure} ({reason:?})");
    StatusDetails {
        name: object,
        group: VrfRouteConfiguration::group(&()).into_owned(),
        kind: VrfRouteConfiguration::kind(&()).into_owned(),
        uid: String::new(),
        causes: vec![StatusCause { reason: format!("{reason:?}"), message, field }],
        retry_after_seconds: 0,
    }
}
