//! Opening a store: its last block, the state tree made again from the records, the clock.

use rayon::prelude::*;
use session_chain::genesis::Genesis;
use session_chain::tree::{Change, Half, Tree};
use session_core::hash::Tag;
use session_core::header::Header;
use session_core::ids::ChainId;
use session_core::limits::BLOCK_AHEAD_MAX_MS;
use session_core::parameters::Parameters;
use session_core::record::value_hash;
use session_core::time::Time;
use session_storage::{Batch, Direction, Durability, KeyRange, Keyspace, Store};

use crate::counts::Counts;
use crate::node::OpenError;
use crate::store;

/// Records read at once when the state tree is rebuilt.
const REBUILD_PAGE: usize = 16_384;

/// Refuses a clock that is far from the last block.
pub(crate) fn check_clock(
    header: &Header,
    parameters: &Parameters,
    now: Time,
    accept: bool,
) -> Result<(), OpenError> {
    let behind = header.time.since(now) > BLOCK_AHEAD_MAX_MS;
    let ahead = header.height > 0 && now.since(header.time) > parameters.retention_ms;
    if (behind || ahead) && !accept {
        let (now_ms, block_ms) = (now.ms(), header.time.ms());
        return Err(OpenError::Clock { now_ms, block_ms });
    }
    Ok(())
}

/// The last accepted block and its state tree; writes the genesis block on a first start.
pub(crate) fn load(
    store: &dyn Store,
    genesis: &Genesis,
    chain: ChainId,
    bytes: &[u8],
) -> Result<(Header, Tree, Counts), OpenError> {
    let Some((_, header)) = store::head(store)? else {
        let (header, changes, tree) = genesis.block(chain);
        let mut batch = Batch::new();
        store::put_changes(&mut batch, changes);
        store::put_genesis(&mut batch, bytes);
        store::put_block(&mut batch, &header, &header.id(), None);
        store.commit(batch, Durability::Synced)?;
        return Ok((header, tree, Counts::default()));
    };
    let (tree, counts) = rebuild(store)?;
    if tree.root() != header.state_root || header.chain != chain {
        return Err(OpenError::StateRoot {
            height: header.height,
        });
    }
    Ok((header, tree, counts))
}

/// Rebuilds the state tree from the records, and counts them.
pub(crate) fn rebuild(
    store: &dyn session_storage::View,
) -> Result<(Tree, Counts), session_storage::StoreError> {
    let mut counts = Counts::default();
    let mut leaves: Vec<Change> = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = store.range(
            Keyspace::Records,
            &range,
            REBUILD_PAGE,
            Direction::Ascending,
        )?;
        let Some((last, _)) = page.last() else { break };
        range = KeyRange::after(last);
        page.iter().for_each(|(key, _)| counts.add(key, 1));
        leaves.par_extend(
            page.par_iter()
                .map(|(key, record)| (Tag::Key.hash(&[key]), Some(value_hash(record)))),
        );
    }
    let both = |left: Half<'_>, right: Half<'_>| rayon::join(|| left.build(), || right.build());
    Ok((Tree::of(leaves, both), counts))
}
