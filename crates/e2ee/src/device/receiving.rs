//! x
use crate::outgoing::ChainKeys;
use session_core::ids::GroupId;
/// An entry of a group's log.
#[derive(Debug, Clone, Copy)]
pub enum LogEntry<'a> {
    /// A message.
    Frame {
        /// The epoch that it was posted for.
        epoch: u64,
        /// The frame.
        frame: &'a [u8],
    },
    /// An accepted commit.
    Commit(AcceptedCommit<'a>),
    /// The group is closed, and another follows it.
    Superseded {
        /// The other one.
        successor: GroupId,
    },
    /// An entry whose body is not kept any more, or that is of no kind known here.
    Pruned,
}

/// A commit that the chain has accepted.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedCommit<'a> {
    /// The epoch that it leads to.
    pub epoch: u64,
    /// The commit.
    pub commit: &'a [u8],
    /// The keys that came with it.
    pub keys: &'a ChainKeys,
    /// It raised the floor: posts of earlier epochs are refused since.
    pub removes: bool,
}
