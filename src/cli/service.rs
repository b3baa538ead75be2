//! What the subcommands share that run until they are told to end.

use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Form of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Does the work until SIGTERM or SIGINT cancels it.
pub(super) fn until_signal(
    work: impl AsyncFnOnce(CancellationToken) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        tokio::spawn(cancel_on_signal(cancel.clone())?);
        work(cancel).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn cancel_on_signal(cancel: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    })
}

/// kube tells of every attempt that fails, and netlink-proto of every message that nobody waits for any more; our watches say it once.
const LOG_FILTER: &str = "info,kube_client::client::builder=off,kube_runtime::watcher=off,netlink_proto=error";

pub(super) fn log(format: LogFormat) {
    // What somebody asks for comes on top: `debug` is no wish for kube's attempts.
    let filter =
        std::env::var("RUST_LOG").map_or_else(|_| LOG_FILTER.to_owned(), |asked| format!("{LOG_FILTER},{asked}"));
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
