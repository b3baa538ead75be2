//! Answers to `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::collect::Sources;
use super::{AgentMetrics, PREFIX};

/// Tells metrics to who asks.
#[derive(Debug)]
pub struct Scraper {
    sources: Sources,
    own: Option<AgentMetrics>,
    /// When the last answer was begun, and what it says.
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// OpenMetrics 1.0.
const FORM: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Scraper {
    /// With what the agent counts of its own work, if there is one.
    pub fn new(sources: Sources, own: Option<AgentMetrics>) -> Self {
        Self { sources, own, last: Mutex::default() }
    }

    /// All metrics; who asks while they are collected waits, and has the next answer with all others that wait.
    async fn answer(&self) -> Result<Bytes, std::fmt::Error> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(begun, _)| *begun >= asked) {
            return Ok(text.clone());
        }
        // Nobody wants the old one any more.
        *last = None;
        let begun = Instant::now();
        let text = Bytes::from(self.text().await?);
        *last = Some((begun, text.clone()));
        Ok(text)
    }

    /// All metrics as they are now, as OpenMetrics text.
    ///
    /// # Errors
    /// None that is known: it is written to memory.
    pub async fn text(&self) -> Result<String, std::fmt::Error> {
        let samples = self.sources.samples().await;
        let mut registry = Registry::with_prefix(PREFIX);
        if let Some(own) = &self.own {
            own.register(&mut registry);
        }
        registry.register_collector(Box::new(samples));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// `/metrics`.
    pub fn routes(self) -> Router {
        Router::new().route("/metrics", get(answer)).with_state(Arc::new(self))
    }
}

async fn answer(State(scraper): State<Arc<Scraper>>) -> Response {
    match scraper.answer().await {
        Ok(text) => ([(header::CONTENT_TYPE, FORM)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
