//! Locking where a panic elsewhere cannot have left anything half done: every change under such a
//! lock is one assignment, insertion or removal, or can be made again.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of whoever held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
