//! How long those steps of a run take that are no port's.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

type Tell = dyn Fn(&'static str, Duration) + Send + Sync;

/// Who is told of them; nobody by default.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<Tell>>);

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

impl Steps {
    /// One who is told the name of each step, and how long it took.
    pub fn new(tell: impl Fn(&'static str, Duration) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Does a step.
    pub(super) async fn timed<T>(&self, step: &'static str, work: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let result = work.await;
        if let Some(tell) = &self.0 {
            tell(step, begin.elapsed());
        }
        result
    }
}
