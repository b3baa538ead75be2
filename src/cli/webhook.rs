//! `webhook`: the agent's verdict on objects before they are stored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::service::{LogFormat, log, until_signal};
use crate::admission::server::{WebhookConfig, serve};

/// Answers the API server whether an object would be left out, before it is stored
#[derive(Debug, Args)]
#[command(after_help = "\
Listens for HTTPS: POST /validate (admission.k8s.io/v1), GET /healthz and /readyz. The certificate is read anew when its
files change; operator file and template are read for each answer. docs/webhook.md says how to install it.
Ends with 0 on SIGTERM or SIGINT, after the requests under way. Log level: RUST_LOG (default info).

Examples:
  network-operator webhook --config /config/config.yaml          # in a pod, with the certificate of a mounted Secret
  network-operator webhook --config config.yaml --tls-cert tls.crt --tls-key tls.key --listen 127.0.0.1:9443")]
pub(super) struct WebhookArgs {
    /// Operator file of the nodes
    #[arg(long, env = "OPERATOR_CONFIG", default_value = "/opt/network-operator/config.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Template of the nodes' frr.conf; without it, it is taken to have a place for IPv6 neighbors
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Certificate, with those between it and its authority (PEM)
    #[arg(long, default_value = "/tls/tls.crt", value_name = "FILE")]
    tls_cert: PathBuf,
    /// Key of the certificate (PEM)
    #[arg(long, default_value = "/tls/tls.key", value_name = "FILE")]
    tls_key: PathBuf,
    /// Address and port
    #[arg(long, default_value = "[::]:9443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

pub(super) fn execute(args: WebhookArgs) -> anyhow::Result<ExitCode> {
    let WebhookArgs { config, template, tls_cert, tls_key, listen, log_format } = args;
    log(log_format);
    let config = WebhookConfig { listen, certificate: tls_cert, key: tls_key, operator_file: config, template };
    until_signal(async |cancel| {
        let client =
            kube::Client::try_default().await.context("find the API server: run in a pod, or set KUBECONFIG")?;
        serve(config, client, cancel).await
    })
}
