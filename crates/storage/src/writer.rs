//! One thread that writes: batches that wait for the disk together go to the disk together.
//!
//! ```text
//!  submit ─┐                                      ┌─> done(Ok)   each caller, in order,
//!  submit ─┼─> queue (bounded) ─> take all that ──┼─> done(Ok)   after the sync
//!  submit ─┘                      wait, one commit└─> done(Ok)
//! ```
//!
//! It does not linger to collect more: while one commit is at the disk the next ones gather by
//! themselves, and a lone caller would only wait longer.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::StoreError;
use crate::store::{Batch, Durability, Store};

/// Bounds of a [`GroupCommitter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// How many batches may wait, 1,024 by default: more than connections that each wait for an
    /// answer, so only callers who do not wait ever meet it.
    pub waiting_max: usize,
    /// A commit takes no further batch once it has this many bytes, 8 MiB by default: about a
    /// quarter of the bodies' table in memory.
    pub commit_bytes_max: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            waiting_max: 1024,
            commit_bytes_max: 8 * 1024 * 1024,
        }
    }
}

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Job {
    batch: Batch,
    done: Done,
}

/// Owns the writing to a store. Shared between threads by reference or `Arc`.
///
/// Batches are applied in the order in which they were submitted. When a commit fails, all
/// batches in it get the error, and whether they are there is settled by [`Store::recover`]; it
/// is never one of them without those before it.
pub struct GroupCommitter {
    /// `None` once shut down.
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    limits: GroupLimits,
}

impl std::fmt::Debug for GroupCommitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommitter")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl GroupCommitter {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the system gives no thread.
    pub fn start(store: Arc<dyn Store>, limits: GroupLimits) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(limits.waiting_max);
        let thread = thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || write(store.as_ref(), &jobs, limits.commit_bytes_max))
            .map_err(StoreError::io("storage-writer", "start a thread"))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            limits,
        })
    }

    /// Queues `batch`; `done` is called once it is durable or has failed. It is called on the
    /// writing thread: everybody behind waits for it, so it should only pass the word on.
    ///
    /// # Errors
    /// Nothing was queued and `done` will not be called: [`StoreError::QueueFull`],
    /// [`StoreError::Closed`], and those of [`Batch::check`].
    pub fn submit(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        batch.check()?;
        let job = Job {
            batch,
            done: Box::new(done),
        };
        self.queue()?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::QueueFull {
                limit: self.limits.waiting_max,
            },
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Queues `batch`, waiting for a place if there is none, and returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError::Closed`], those of [`Batch::check`] and of [`Store::commit`].
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        let (answer, result) = sync_channel(1);
        let done = Box::new(move |outcome| {
            // Nobody waits any more only if the caller's thread is gone.
            let _nobody = answer.send(outcome);
        });
        self.queue()?
            .send(Job { batch, done })
            .map_err(|_gone| StoreError::Closed)?;
        result.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Takes no more, writes what waits, and ends the thread. A second call does nothing.
    pub fn shutdown(&self) {
        drop(
            self.queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A callback may be the one who lets go of the committer: a thread cannot await itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // A callback's panic was its own; each batch has been answered or dropped with it.
            let _panicked = thread.join();
        }
    }

    fn queue(&self) -> Result<SyncSender<Job>, StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.clone().ok_or(StoreError::Closed)
    }
}

impl Drop for GroupCommitter {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The thread: until every sender is gone and the queue is empty.
fn write(store: &dyn Store, jobs: &Receiver<Job>, commit_bytes_max: usize) {
    while let Ok(Job { batch, done }) = jobs.recv() {
        let mut together = batch;
        let mut waiting = vec![done];
        while together.bytes() < commit_bytes_max
            && let Ok(Job { batch, done }) = jobs.try_recv()
        {
            together.append(batch);
            waiting.push(done);
        }
        let outcome = store.commit(together, Durability::Synced);
        for done in waiting {
            done(outcome.clone());
        }
    }
}
