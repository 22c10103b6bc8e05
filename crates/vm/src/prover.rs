//! Who makes large proofs: a few threads, so that those who serve calls stay free for others, and
//! a short queue before them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// How many proofs are made, and wait, at once.
#[derive(Debug, Clone, Copy)]
pub struct ProverLimits {
    /// Proofs made at once.
    pub workers: NonZeroUsize,
    /// Calls that wait for their turn.
    pub waiting: usize,
}

impl Default for ProverLimits {
    /// Half of the cores, and half a second of waiting: a proof takes a millisecond or two.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = NonZeroUsize::new(cores.get() / 2).unwrap_or(NonZeroUsize::MIN);
        let waiting = 256 * workers.get();
        Self { workers, waiting }
    }
}

/// Why no proof was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProverError {
    /// Too many wait already.
    #[error("too many proofs are asked for at once: try again in {retry_ms} ms")]
    Busy {
        /// When to try again.
        retry_ms: u64,
    },
    /// The thread that made it is gone.
    #[error("making the proof broke off")]
    BrokeOff,
}

/// The threads and the queue before them.
pub struct Prover {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Prover {
    /// With nothing to do yet.
    pub fn new(limits: ProverLimits) -> Self {
        let workers = limits.workers.get();
        let places = workers.saturating_add(limits.waiting);
        Self {
            turns: Arc::new(Semaphore::new(workers.min(Semaphore::MAX_PERMITS))),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Makes something on one of the threads, first come first served. A caller who goes away
    /// while it waits leaves its place to others.
    ///
    /// # Errors
    /// [`ProverError`].
    pub async fn run<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ProverError> {
        let busy = ProverError::Busy { retry_ms: 250 };
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy)?;
        // It is never closed.
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| busy)?;
        let made = tokio::task::spawn_blocking(move || {
            let made = make();
            drop((turn, place));
            made
        });
        made.await.map_err(|_| ProverError::BrokeOff)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_works_one_waits_and_the_third_is_told() {
        let limits = ProverLimits {
            workers: NonZeroUsize::MIN,
            waiting: 1,
        };
        let prover = Arc::new(Prover::new(limits));
        let ((begun, has_begun), (go, may_go)) = (channel(), channel::<()>());
        let first = tokio::spawn({
            let prover = prover.clone();
            async move {
                let work = move || {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    1
                };
                prover.run(work).await
            }
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
            .await
            .unwrap();
        let mut second = Box::pin(prover.run(|| 2));
        // It takes its place and waits.
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(
                second.as_mut().poll(cx).is_pending()
            ))
            .await
        );
        let third = prover.run(|| 3).await;
        assert_eq!(third, Err(ProverError::Busy { retry_ms: 250 }));
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(second.await, Ok(2));
        assert_eq!(prover.run(|| 4).await, Ok(4));
    }
}
