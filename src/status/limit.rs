//! A limit on requests to the API server: one that hangs must not keep the others waiting until TCP gives up.

use std::time::Duration;

/// How long most requests may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

/// The answer, or an error where there is none in time.
pub(crate) async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(limit, request)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer within {}s", limit.as_secs()).into())))
}
