//! Taking over the state of a block from others, who may lie (`spec/vm.md` §6).
//!
//! ```text
//! header ── state root ── branches at a depth ── records of one part, each part on its own
//!                                                  └ roster · keys · log entries · bodies
//! ```
//!
//! First the branches of the tree at a depth, which make the state root; then the records below
//! each, which make that branch; then what belongs to each record and is hashed into it. Nothing
//! that a peer says is believed beyond what the header's root covers, and whoever sent what does
//! not fit is known. What follows from all that, ids of messages and deadlines, is derived here.
//!
//! Such a state is offered only at blocks after which nothing is due ([`is_due`](crate::sweep::is_due)): half of a
//! conversation that is being dropped could not be told from one that is withheld.
//!
//! Two things no root covers. The oldest leaves of a channel or a group go when they are old, so a peer could claim
//! that younger ones are gone as well: where it begins is to be asked of several. And bodies
//! go one by one, so only those that are younger than the retention must be there.

mod account;
mod beginning;
mod group;
mod message;
mod object;
mod part;
mod source;
mod span;

use session_core::codec::DecodeError;
use session_core::header::Header;
use session_core::merkle::MerkleError;
use session_core::parameters::Parameters;
use session_core::record::RecordKey;
use session_core::time::Time;

pub use self::beginning::{before, begins_before, tiles_gone};
pub use self::message::{Cell, Cursor, Part, Reply, Request};
pub use self::part::{Objects, Records, derive};
pub use self::source::{Index, Source};
pub use self::span::cells_of;

use crate::state::Crypto;
use crate::view::{Table, ViewError};

/// Bytes of a reply after which nothing more goes into it: half a second of what a node takes from
/// one peer by default. One value more may follow.
pub const REPLY_BYTES: usize = 256 << 10;

/// Bytes of a reply at most.
pub const REPLY_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Depth of parts at most: 4,096 of them, whose hashes make one reply.
pub const DEPTH_MAX: u8 = 12;

/// Records in one part, where the depth allows it.
pub const PART_RECORDS: usize = 512;

/// Bytes of records that one part is believed to have at most: five hundred million records in the
/// whole state.
pub const PART_BYTES_MAX: usize = 64 << 20;

/// What the state is checked against.
pub struct Rules<'a> {
    /// Header of the block whose state it is.
    pub header: Header,
    /// Parameters of the chain.
    pub parameters: Parameters,
    /// Messages from then on have their bodies still; older ones may have been pruned.
    pub bodies_since: Time,
    /// Cryptography.
    pub crypto: &'a (dyn Crypto + Sync),
}

/// Why a peer's answer was refused. Always the fault of whoever sent it, but for
/// [`SyncError::View`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum SyncError {
    /// The bytes are no answer.
    #[error("not an answer: {0}")]
    Malformed(#[from] DecodeError),
    /// An answer to something else.
    #[error("an answer to another question")]
    OtherAnswer,
    /// The branches do not make the state root.
    #[error("the branches of the state make another root")]
    OtherRoot,
    /// Records that are not those of the part.
    #[error("the records of part {0:?} make another branch")]
    OtherRecords(Part),
    /// Records out of order, outside their part, or too many.
    #[error("records that are not of part {0:?}, or not in their order")]
    Disorder(Part),
    /// Cells out of order, or that no record has.
    #[error("a cell that does not belong to {0:?}, or is not in its order")]
    StrangeCell(RecordKey),
    /// A cell that its record's hash does not cover.
    #[error("a cell of {0:?} is not the one that the state names: table {1:?}")]
    OtherCell(RecordKey, Table),
    /// A cell that must be there.
    #[error("a cell of {0:?} is withheld: table {1:?}")]
    Withheld(RecordKey, Table),
    /// The log does not lead to the frontier of its record.
    #[error("the log of {0:?}: {1}")]
    Log(RecordKey, MerkleError),
    /// Something is due: no state that is offered.
    #[error("{0:?} was due before this state")]
    Due(RecordKey),
    /// Reading what was taken over failed.
    #[error("{0}")]
    View(#[from] ViewError),
}
