//! What the subcommands share that run until they are told to end.

use std::fmt;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).event_format(OneLine::default()).init(),
        LogFormat::Json => builder.with_target(false).json().flatten_event(true).init(),
    }
}

/// Text, one line for each event, whatever is told in it: FRR and parsers have answers of several lines. JSON is so by itself.
struct OneLine(Format<Full>);

impl Default for OneLine {
    fn default() -> Self {
        Self(Format::default().with_target(false))
    }
}

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writeln!(writer, "{}", text.trim_end().replace('\n', "\\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_of_text_whatever_is_told_in_it() {
        let written = Written::default();
        let writer = written.clone();
        let builder = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .event_format(OneLine::default());
        let subscriber = builder.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let answer = "% Unknown\n  ^ here\n";
            tracing::debug!(%answer, line = ?"a\nb", "it says\n{answer}");
            tracing::debug!("next");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [first, next] = lines.as_slice() else { panic!("{text}") };
        assert!(
            first.contains("DEBUG it says\\n% Unknown\\n  ^ here") && first.contains("answer=% Unknown\\n"),
            "{text}"
        );
        assert!(next.ends_with("DEBUG next"), "{text}");
    }
}
