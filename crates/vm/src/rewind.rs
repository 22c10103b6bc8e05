//! Going back to an earlier block, in a store of the plugin's own.
//!
//! Under a host that gives no database the plugin syncs every accepted block itself. After a loss
//! of power the host's own index may end some blocks earlier, and a host does not go on from
//! there. So the store goes back to where the host is, by hand: the blocks in between come again
//! from the other nodes, are verified, and are accepted as if for the first time.

use std::path::{Path, PathBuf};

use session_chain::view::ViewError;
use session_core::codec::{Decode, Encode};
use session_core::ids::BlockId;
use session_storage::{
    Batch, DiskStore, Durability, Keyspace, Rewindable, Rewound, Store, StoreError, View,
};

use crate::opening::rebuild;
use crate::store;

/// The folder of the plugin's own store in the chain's data directory, where Lux nodes' plugins
/// have it.
const FOLDER: &str = "db";

/// The folder of a stand-alone node's store.
const STAND_ALONE: &str = "store";

/// Key of the height that the configuration asked for and that was gone back to.
const ASKED: &[u8] = b"rewound";

/// Why a store was not rewound.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// There is no store.
    #[error(
        "{} has no store of a plugin under a Lux node, which would be in {FOLDER}/: it is in the \
         node's database, or elsewhere", directory.display()
    )]
    NoStore {
        /// As given.
        directory: PathBuf,
    },
    /// The store of a node that is ahead of nobody.
    #[error(
        "{} is the data directory of a stand-alone node: nobody else decides its blocks, and it \
         keeps nothing to go back by", directory.display()
    )]
    StandAlone {
        /// As given.
        directory: PathBuf,
    },
    /// The store does not go there.
    #[error("{0}")]
    Rewind(#[from] session_storage::RewindError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store's contents.
    #[error("{0}")]
    View(#[from] ViewError),
    /// The store went back, and what is there is not the state of its last block.
    #[error(
        "the records in the store do not make the state root of block {height}: restore a backup"
    )]
    StateRoot {
        /// Last block.
        height: u64,
    },
}

/// Where a store is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Height before.
    pub from: u64,
    /// Height of the last block.
    pub height: u64,
    /// Its id.
    pub block: BlockId,
    /// Root of its state, made again from the records.
    pub state_root: [u8; 32],
}

/// Opens the plugin's own store in a chain's data directory, or makes it.
///
/// # Errors
/// [`StoreError`].
pub fn open(directory: &Path) -> Result<Rewindable<DiskStore>, StoreError> {
    Ok(Rewindable::new(DiskStore::open(directory.join(FOLDER))?))
}

/// Goes back as a configuration asks, once: what was done is remembered, with the store, until the
/// configuration asks for nothing or for something else.
///
/// # Errors
/// [`session_storage::RewindError`].
pub(crate) fn once(
    store: &Rewindable<impl Store>,
    to: Option<u64>,
) -> Result<(), session_storage::RewindError> {
    let done = store.get(Keyspace::Meta, ASKED)?;
    let done = done.and_then(|bytes| u64::from_bytes(&bytes).ok());
    if done == to {
        return Ok(());
    }
    let mut note = Batch::new();
    let Some(to) = to else {
        note.delete(Keyspace::Meta, ASKED);
        store.commit(note, Durability::Synced)?;
        return Ok(());
    };
    note.put(Keyspace::Meta, ASKED, to.to_bytes());
    let Rewound { from, to } = store.rewind(to, note)?;
    tracing::warn!(from, to, "rewound the chain, as its configuration asks");
    Ok(())
}

/// Goes back to a height while no node runs, and checks that the state is that of its block.
///
/// # Errors
/// [`RewindError`].
pub fn rewind(directory: &Path, to: u64) -> Result<Now, RewindError> {
    // Opening would make an empty one.
    if !directory.join(FOLDER).join("FORMAT").is_file() {
        let directory = directory.to_owned();
        let stand_alone = directory.join(STAND_ALONE).join("FORMAT").is_file();
        return Err(if stand_alone {
            RewindError::StandAlone { directory }
        } else {
            RewindError::NoStore { directory }
        });
    }
    let store = open(directory)?;
    let Rewound { from, .. } = store.rewind(to, Batch::new())?;
    let head = store::head(&store)?;
    let (block, header) = head.ok_or(session_storage::RewindError::NoSteps)?;
    let (tree, _) = rebuild(&store)?;
    if tree.root() != header.state_root || header.height != to {
        return Err(RewindError::StateRoot {
            height: header.height,
        });
    }
    store.close()?;
    Ok(Now {
        from,
        height: header.height,
        block,
        state_root: header.state_root,
    })
}
