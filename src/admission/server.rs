//! The webhook: HTTPS, with a certificate that is read anew when its files change.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::response::{StatusCause, StatusDetails};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Change, Opinion, words};
use crate::config::OperatorConfig;
use crate::desired::Rejection;
use crate::frr::template::Template;
use crate::input::OperatorFile;
use crate::trigger::files::{self, Watched};
use crate::trigger::kube::{Guarded, KubeObjects, list};
use crate::trigger::{Objects, Once, with_causes};

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
/// Endpoints are told of the end before the listener goes.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// Longer than API servers wait for an answer.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// A renewal writes two files.
const RENEWAL: Duration = Duration::from_millis(200);

/// How often the certificate is read without an event: a renewal may come just before its files are watched.
const LOOK: Duration = Duration::from_secs(3600);
/// Shorter than API servers wait for an answer.
const FRESH: Duration = Duration::from_secs(2);

struct Judge {
    known: KubeObjects,
    objects: Api<Guarded>,
    files_of_nodes: Mutex<(OperatorFile, Option<TemplateOfNodes>)>,
    stopping: CancellationToken,
}

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
    let template = template.map(TemplateOfNodes::read).transpose()?;
    let known = KubeObjects::default();
    let (sender, mut changes) = mpsc::unbounded_channel();
    // It goes on to the end: who is asked last must know, too.
    tokio::spawn(crate::trigger::kube::watch(client.clone(), known.clone(), sender, CancellationToken::new()));
    tokio::spawn(async move { while changes.recv().await.is_some() {} });
    let (sender, renewals) = mpsc::unbounded_channel();
    let watched = vec![(Watched::File(certificate.clone()), ()), (Watched::File(key.clone()), ())];
    let files = tokio::spawn(files::watch(watched, sender, CancellationToken::new()));
    tokio::spawn(renew(tls.clone(), certificate, key, renewals));
    let files_of_nodes = Mutex::new((operator_file, template));
    let judge = Judge { known, objects: Api::all(client), files_of_nodes, stopping: cancel.clone() };
    let handle = Handle::new();
    tokio::spawn(stop(handle.clone(), cancel));
    let server = axum_server::bind_rustls(listen, tls).handle(handle).serve(router(judge).into_make_service());
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

fn router(judge: Judge) -> Router {
    Router::new()
        .route("/validate", post(validate))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(LARGEST_REVIEW))
        .with_state(Arc::new(judge))
}

/// What keeps the webhook from an answer; the API server goes by its failurePolicy then.
type NoAnswer = (StatusCode, String);

async fn ready(State(judge): State<Arc<Judge>>) -> Result<&'static str, NoAnswer> {
    if judge.stopping.is_cancelled() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "it is about to end".to_owned()));
    }
    judge.known.snapshot().ok_or_else(not_yet).map(|_| "ok")
}

fn not_yet() -> NoAnswer {
    (StatusCode::SERVICE_UNAVAILABLE, "the API server has not told yet which objects there are".to_owned())
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
        match judge.opinion(&change).await? {
            Opinion::Allowed(warnings) if warnings.is_empty() => {}
            Opinion::Allowed(warnings) => response.warnings = Some(warnings),
            Opinion::Denied(rejection) => {
                tracing::info!(%rejection, user = request.user_info.username.as_deref(), "denied");
                response = response.deny(words(&rejection));
                response.result.code = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
                response.result.reason = "Invalid".to_owned();
                response.result.details = Some(details(&rejection, &change.object));
            }
        }
    }
    Ok(Json(response.into_review()))
}

/// kubectl shows the causes of what is invalid, and nothing else.
fn details(rejection: &Rejection, object: &Value) -> StatusDetails {
    let cause = StatusCause {
        reason: format!("{:?}", rejection.reason),
        message: format!("{}; {} ({:?})", rejection.message, rejection.cure, rejection.reason),
        field: rejection.field.clone(),
    };
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    StatusDetails {
        name: rejection.object.clone(),
        group: "network.schiff.telekom.de".to_owned(),
        kind: kind.to_owned(),
        uid: String::new(),
        causes: vec![cause],
        retry_after_seconds: 0,
    }
}

impl Judge {
    async fn opinion(&self, change: &Change) -> Result<Opinion, NoAnswer> {
        let judged = self.judged(change).await;
        if let Err((_, fault)) = &judged {
            tracing::error!(%fault, "an object could not be judged");
        }
        judged
    }

    async fn judged(&self, change: &Change) -> Result<Opinion, NoAnswer> {
        let (config, template) = self.files().map_err(|fault| (StatusCode::INTERNAL_SERVER_ERROR, fault))?;
        let opinion = |stored: &Objects| change.opinion(stored, &config, template.as_deref());
        let first = opinion(&self.known.snapshot().ok_or_else(not_yet)?);
        let Opinion::Denied(Rejection { reason, .. }) = &first else { return Ok(first) };
        if !reason.is_of_two() {
            return Ok(first);
        }
        // The watch may not have told yet that the other one is gone, or is another.
        let all = ListParams::default();
        let late = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("list the objects: {why}"));
        let listed = tokio::time::timeout(FRESH, self.objects.list(&all)).await;
        let listed = listed.map_err(|_| late("no answer in time".to_owned()))?;
        Ok(opinion(&list(listed.map_err(|error| late(with_causes(&error)))?.items)))
    }

    /// Operator file and template, as they were when they were last good.
    fn files(&self) -> Result<(Arc<OperatorConfig>, Option<Arc<Template>>), String> {
        let mut files = self.files_of_nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let (operator_file, template) = &mut *files;
        let config = operator_file.current().map_err(|error| with_causes(&error))?;
        Ok((config, template.as_mut().map(TemplateOfNodes::current)))
    }
}

/// The template, and what it was when it was last good.
struct TemplateOfNodes {
    path: PathBuf,
    good: Arc<Template>,
    told: Once,
}

impl TemplateOfNodes {
    fn read(path: PathBuf) -> anyhow::Result<Self> {
        let good = Arc::new(parse(&path).map_err(|fault| anyhow::anyhow!("template {}: {fault}", path.display()))?);
        Ok(Self { path, good, told: Once::default() })
    }

    fn current(&mut self) -> Arc<Template> {
        match parse(&self.path) {
            Ok(template) => {
                self.told.is_over();
                self.good = Arc::new(template);
            }
            Err(fault) if self.told.is_news(&fault) => {
                tracing::error!(template = %self.path.display(), %fault, "the template cannot be used; the last good one counts");
            }
            Err(_) => {}
        }
        self.good.clone()
    }
}

fn parse(path: &Path) -> Result<Template, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Template::parse(&text).map_err(|error| with_causes(&error))
}
