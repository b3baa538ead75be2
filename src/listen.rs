//! HTTP that a node answers to whoever watches it: probes and metrics.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::trigger::{Once, patience};

/// So many connections at a time: whoever opens more waits, and the node's own work keeps its file descriptors.
const CONNECTIONS: usize = 128;
/// Until a request is there.
const REQUEST: Duration = Duration::from_secs(2);
/// Until its answer is taken.
const ANSWER: Duration = Duration::from_secs(10);

/// Answers until it is cancelled; one request on each connection. Where the address cannot be had it is tried again: the node's network
/// does not wait for that.
pub async fn serve(address: SocketAddr, routes: Router, cancel: CancellationToken) {
    let (mut told, mut failures) = (Once::default(), 0);
    loop {
        let failed = tokio::select! {
            () = cancel.cancelled() => return,
            failed = answer(address, &routes, &mut told, &mut failures) => failed,
        };
        let Err(error) = failed;
        if told.is_news(&error.to_string()) {
            tracing::error!(%address, %error, "nobody can ask for probes and metrics; give another address with --listen");
        }
        failures += 1;
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(patience(failures)) => {}
        }
    }
}

async fn answer(
    address: SocketAddr,
    routes: &Router,
    told: &mut Once,
    failures: &mut u32,
) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::bind(address).await?;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = free.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        *failures = 0;
        if told.is_over() {
            tracing::info!(%address, "probes and metrics are answered");
        }
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
        tokio::spawn(async move {
            let _permit = permit;
            // Whoever goes away early has no answer.
            let _ = tokio::time::timeout(REQUEST + ANSWER, connection).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_keep_others_only_for_a_while() {
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let cancel = CancellationToken::new();
        let routes = Router::new().route("/healthz", get(async || "ok\n"));
        let served = tokio::spawn(serve(address, routes, cancel.clone()));
        let first = loop {
            match ask(address).await {
                Ok(answer) => break answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert!(first.starts_with("HTTP/1.1 200 ") && first.ends_with("\r\n\r\nok\n"), "{first}");
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let begin = std::time::Instant::now();
        assert!(ask(address).await.unwrap().ends_with("ok\n"));
        assert!(begin.elapsed() < REQUEST * 3, "{:?}", begin.elapsed());
        cancel.cancel();
        served.await.unwrap();
    }
}
