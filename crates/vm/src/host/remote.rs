//! What is the same about a node's database over every wire: waiting for a call from any thread,
//! and reading an iterator's pages.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use session_storage::{Pair, StoreError};
use tokio::runtime::Handle;

/// A node that does not answer within this time has stopped: its own calls take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Reads under way at once.
pub(in crate::host) const READS_AT_ONCE: usize = 32;

/// An error of the node's database.
pub(in crate::host) fn failed(what: &'static str, kind: ErrorKind, message: String) -> StoreError {
    StoreError::Io {
        path: PathBuf::from("the host's database"),
        what,
        source: Arc::new(Error::new(kind, message)),
    }
}

/// Runs a call on `runtime` and waits for it, from any thread of another one.
///
/// # Errors
/// The call's, [`StoreError::Io`] when it takes a minute, and [`StoreError::Closed`] when the
/// runtime ends first.
pub(in crate::host) fn wait<T: Send + 'static>(
    runtime: &Handle,
    what: &'static str,
    call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let (done, answer) = sync_channel(1);
    runtime.spawn(async move {
        let answer = tokio::time::timeout(DEADLINE, call).await;
        let late = || {
            failed(
                what,
                ErrorKind::TimedOut,
                "no answer in a minute".to_owned(),
            )
        };
        let _nobody_waits = done.send(answer.unwrap_or_else(|_| Err(late())));
    });
    // The runtime has been shut down: so is the plugin.
    answer.recv().unwrap_or(Err(StoreError::Closed))
}

/// An iterator in the node.
pub(in crate::host) trait Pages {
    /// The next pairs, ascending; none after the last.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Pair>, StoreError>> + Send;

    /// Whether the end came because of an error.
    fn end(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Reads from an iterator until `limit` pairs or a key from `to` on.
///
/// # Errors
/// The iterator's.
pub(in crate::host) async fn scan(
    pages: &mut impl Pages,
    to: &[u8],
    limit: usize,
) -> Result<Vec<Pair>, StoreError> {
    let mut out = Vec::new();
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            pages.end().await?;
            return Ok(out);
        }
        for (key, value) in page {
            if out.len() == limit || key.as_slice() >= to {
                return Ok(out);
            }
            out.push((key, value));
        }
    }
}
