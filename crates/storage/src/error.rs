//! What can go wrong, as facts.

use std::path::PathBuf;
use std::sync::Arc;

use crate::store::Keyspace;

/// What went wrong. Cheap to clone, because one failed commit answers many waiting callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another part of this one, has the directory open.
    #[error("{} is in use by another process{}", path.display(), owner(*pid))]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, if it could be read.
        pid: Option<u32>,
    },
    /// The directory was written by another version of this program.
    #[error(
        "{}: data format {found} keyspaces {found_keyspaces}, this program reads format \
         {supported} keyspaces {supported_keyspaces}", path.display()
    )]
    Format {
        /// The data directory or backup file.
        path: PathBuf,
        /// Format version found there.
        found: u32,
        /// Keyspace options version found there.
        found_keyspaces: u32,
        /// Format version this program reads and writes.
        supported: u32,
        /// Keyspace options version this program creates.
        supported_keyspaces: u32,
    },
    /// There is something in the directory that no store was made from: a store is neither opened
    /// nor restored over it.
    #[error("{} is not empty, and what is in it is no store of ours, or a finished one that a restore would overwrite: use another directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// A restore into this directory was interrupted; delete it and restore again.
    #[error("{}: a restore was not finished; delete the directory and restore again", path.display())]
    RestoreUnfinished {
        /// The directory.
        path: PathBuf,
    },
    /// The disk is full, or nearer to it than the reserve allows.
    #[error("no space left on the disk under {}", path.display())]
    NoSpace {
        /// The data directory.
        path: PathBuf,
        /// `false`: refused beforehand, the store is as usable as before. `true`: a write ran
        /// into it, [`Store::recover`](crate::Store::recover) is needed.
        written: bool,
    },
    /// Stored bytes are not what was written.
    #[error("{}: damaged: {what}", path.display())]
    Corrupt {
        /// The damaged file, or the directory where the engine does not name the file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
        /// What the engine said, if it was the one who noticed.
        #[source]
        source: Option<EngineError>,
    },
    /// The operating system refused something.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The engine failed in a way that is none of the others.
    #[error("{}: the storage engine failed: {source}", path.display())]
    Engine {
        /// The data directory.
        path: PathBuf,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// Keys have at least one byte.
    #[error("empty key in {}", keyspace.name())]
    EmptyKey {
        /// Where it was meant to go.
        keyspace: Keyspace,
    },
    /// The key is longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX).
    #[error("key of {bytes} bytes in {}, at most {limit}", keyspace.name())]
    KeyTooLong {
        /// Where it was meant to go.
        keyspace: Keyspace,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is longer than [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
    #[error("value of {bytes} bytes in {}, at most {limit}", keyspace.name())]
    ValueTooLong {
        /// Where it was meant to go.
        keyspace: Keyspace,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// An earlier write failed; writes are refused until [`Store::recover`](crate::Store::recover) has succeeded.
    #[error("the store refuses writes after a failure: {cause}")]
    Failed {
        /// The failure.
        #[source]
        cause: Box<StoreError>,
    },
    /// The store was recovered after a failure; take a new snapshot.
    #[error("the snapshot is from before a recovery")]
    SnapshotExpired,
    /// The queue of the committer is full; nothing was accepted.
    #[error("{limit} batches wait to be written already")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
}

/// What the storage engine said. Opaque, so that the engine can change.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub(crate) Arc<dyn std::error::Error + Send + Sync>);

impl StoreError {
    /// Whether room on the disk would help: stop accepting, free space, then go on (or
    /// [`Store::recover`](crate::Store::recover), if [`Store::health`](crate::Store::health) says so).
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Failed { cause } => cause.is_no_space(),
            Self::Io { source, .. } => is_no_space(source),
            Self::InUse { .. }
            | Self::Format { .. }
            | Self::NotOurs { .. }
            | Self::RestoreUnfinished { .. }
            | Self::Corrupt { .. }
            | Self::Engine { .. }
            | Self::EmptyKey { .. }
            | Self::KeyTooLong { .. }
            | Self::ValueTooLong { .. }
            | Self::Closed
            | Self::SnapshotExpired
            | Self::QueueFull { .. } => false,
        }
    }

    /// Damage that we noticed ourselves.
    pub(crate) fn corrupt(path: impl Into<PathBuf>, what: &'static str) -> Self {
        Self::Corrupt {
            path: path.into(),
            what,
            source: None,
        }
    }

    /// For `map_err` on calls of the standard library.
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        what: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| {
            let path = path.into();
            if is_no_space(&source) {
                Self::NoSpace {
                    path,
                    written: true,
                }
            } else {
                Self::Io {
                    path,
                    what,
                    source: Arc::new(source),
                }
            }
        }
    }
}

/// A full disk and an exhausted quota are the same to us.
pub(crate) fn is_no_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}
