//! When a plugin ends: never before its node wants it to, and never after the node is gone.
//!
//! * SIGINT goes to a whole group of processes when somebody presses Ctrl-C: ignored.
//! * SIGTERM after `Shutdown`: the end. Before it, it may be the system telling that the node
//!   died, or a node that asks for too much: only the parent's process id tells.
//! * A node that was killed leaves no other sign than that id: it is looked at once a second.

use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the parent is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often after a SIGTERM that nobody announced, …
const LOOK_CLOSELY: Duration = Duration::from_millis(50);

/// … and for how long.
const SUSPICION: Duration = Duration::from_secs(10);

/// Why a plugin ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum End {
    /// The node asked for it.
    Shutdown,
    /// The node is gone.
    Orphaned,
    /// The plugin cannot go on: something was accepted that it could not write.
    Fatal,
}

/// What decides over the end.
#[derive(Clone)]
pub(in crate::host) struct Life {
    /// Who started this process.
    parent: u32,
    /// Whether `Shutdown` was called.
    shut_down: Arc<AtomicBool>,
    fatal: watch::Sender<bool>,
}

impl Life {
    /// Begins to watch. To be called before anything that takes time: a parent that dies earlier
    /// is never noticed.
    pub(in crate::host) fn new() -> Self {
        Self {
            parent: parent_id(),
            shut_down: Arc::default(),
            fatal: watch::Sender::new(false),
        }
    }

    /// `Shutdown` was answered: the next SIGTERM is meant.
    pub(in crate::host) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::Relaxed);
    }

    /// Nothing may go on.
    pub(in crate::host) fn fatal(&self) {
        self.fatal.send_replace(true);
    }

    fn is_orphan(&self) -> bool {
        parent_id() != self.parent
    }

    /// Returns when the process is to end.
    ///
    /// # Errors
    /// Where signals cannot be caught.
    pub(in crate::host) async fn end(&self) -> std::io::Result<End> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut fatal = self.fatal.subscribe();
        let mut look = interval(LOOK);
        let mut closely = interval(LOOK_CLOSELY);
        closely.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut suspicious_until = Instant::now();
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    if self.shut_down.load(Ordering::Relaxed) {
                        return Ok(End::Shutdown);
                    }
                    suspicious_until = Instant::now() + SUSPICION;
                }
                _ = interrupt.recv() => {}
                _ = fatal.wait_for(|fatal| *fatal) => return Ok(End::Fatal),
                _ = look.tick() => {}
                _ = closely.tick(), if Instant::now() < suspicious_until => {}
            }
            if self.is_orphan() {
                return Ok(End::Orphaned);
            }
        }
    }
}
