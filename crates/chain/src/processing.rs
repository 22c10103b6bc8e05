//! Blocks between verification and decision: siblings, preference, accept and reject.
//!
//! The accepted block is the base; verified blocks above it are layers of changes that share the
//! base's nodes and cells. Accepting a child of the base makes it the new base; its siblings and
//! their descendants can then only be rejected.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use session_core::header::Header;
use session_core::ids::{ActionId, BlockId};
use session_core::parameters::Parameters;
use session_core::time::Time;

use crate::block::{BlockError, Builder, Built, Parsed, verify};
use crate::state::Crypto;
use crate::tree::Tree;
use crate::view::{Changes, Layers, View, ViewError};

/// A verified block that is neither accepted nor rejected.
#[derive(Clone)]
struct Undecided {
    header: Header,
    tree: Tree,
    built: Arc<Built>,
}

/// Why a decision was refused: the engine above broke its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// The block was never verified, or is decided already.
    #[error("block {0} is not processing")]
    NotProcessing(BlockId),
    /// Its parent is not the last accepted block.
    #[error("block {0} does not follow the last accepted block")]
    NotNext(BlockId),
}

/// Accepted head and undecided blocks above it.
pub struct Processing {
    head: Header,
    head_id: BlockId,
    tree: Tree,
    parameters: Parameters,
    undecided: HashMap<BlockId, Undecided>,
    preference: BlockId,
}

impl Processing {
    /// Begins at an accepted block.
    pub fn new(head: Header, tree: Tree, parameters: Parameters) -> Self {
        let head_id = head.id();
        let undecided = HashMap::new();
        Self {
            head,
            head_id,
            tree,
            parameters,
            undecided,
            preference: head_id,
        }
    }

    /// Header of the last accepted block.
    pub const fn head(&self) -> &Header {
        &self.head
    }

    /// Id of the last accepted block.
    pub const fn head_id(&self) -> BlockId {
        self.head_id
    }

    /// State tree of the last accepted block.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Parameters of the chain.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The block that building goes on from.
    pub const fn preference(&self) -> BlockId {
        self.preference
    }

    /// Undecided blocks.
    pub fn len(&self) -> usize {
        self.undecided.len()
    }

    /// Whether every verified block is decided.
    pub fn is_empty(&self) -> bool {
        self.undecided.is_empty()
    }

    /// A processing block.
    pub fn get(&self, id: &BlockId) -> Option<&Built> {
        self.undecided.get(id).map(|u| u.built.as_ref())
    }

    /// Sets the block that building goes on from.
    ///
    /// # Errors
    /// [`DecisionError::NotProcessing`].
    pub fn prefer(&mut self, id: BlockId) -> Result<(), DecisionError> {
        if id != self.head_id && !self.undecided.contains_key(&id) {
            return Err(DecisionError::NotProcessing(id));
        }
        self.preference = id;
        Ok(())
    }

    /// Header of the block that building goes on from.
    pub fn preferred(&self) -> &Header {
        let undecided = self.undecided.get(&self.preference);
        undecided.map_or(&self.head, |undecided| &undecided.header)
    }

    /// Actions of the preferred block and of the undecided ones below it.
    pub fn preferred_actions(&self) -> HashSet<ActionId> {
        let (mut actions, mut at) = (HashSet::new(), self.preference);
        while let Some(block) = self.undecided.get(&at) {
            actions.extend(block.built.applied.iter().map(|applied| applied.action));
            at = block.header.parent;
        }
        actions
    }

    /// Layers from the accepted block up to `id`; none when it is not connected.
    fn layers(&self, id: BlockId) -> Option<(Header, Tree, Vec<Arc<Changes>>)> {
        if id == self.head_id {
            return Some((self.head, self.tree.clone(), Vec::new()));
        }
        let top = self.undecided.get(&id)?;
        let mut layers = Vec::new();
        let mut at = id;
        while at != self.head_id {
            let block = self.undecided.get(&at)?;
            layers.push(block.built.changes.clone());
            at = block.header.parent;
        }
        layers.reverse();
        Some((top.header, top.tree.clone(), layers))
    }

    /// Runs `f` with a builder on the preferred block.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn build<T>(
        &self,
        base: &dyn View,
        crypto: &dyn Crypto,
        time: Time,
        f: impl FnOnce(Builder<'_>) -> T,
    ) -> Result<T, ViewError> {
        let preferred = self.layers(self.preference);
        let (parent, tree, layers) =
            preferred.unwrap_or_else(|| (self.head, self.tree.clone(), Vec::new()));
        let view = Layers {
            base,
            layers: &layers,
        };
        Ok(f(Builder::new(
            parent,
            tree,
            &view,
            self.parameters,
            crypto,
            time,
        )?))
    }

    /// Verifies a block and keeps it. Verifying it again is free.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn verify(
        &mut self,
        block: impl Into<Parsed>,
        base: &dyn View,
        crypto: &dyn Crypto,
        clock: Option<Time>,
    ) -> Result<BlockId, BlockError> {
        let parsed = block.into();
        let block = parsed.block();
        let id = block.header.id();
        if self.undecided.contains_key(&id) {
            return Ok(id);
        }
        let parent = block.header.parent;
        let (header, tree, layers) = self.layers(parent).ok_or(BlockError::OtherParent(parent))?;
        let view = Layers {
            base,
            layers: &layers,
        };
        let built = verify(parsed, header, tree, &view, self.parameters, crypto, clock)?;
        self.insert(built);
        Ok(id)
    }

    /// Keeps a block that was just built here.
    pub fn insert(&mut self, built: Built) {
        let undecided = Undecided {
            header: built.block.header,
            tree: built.tree.clone(),
            built: Arc::new(built),
        };
        self.undecided.insert(undecided.built.id, undecided);
    }

    /// Goes on to a block that was built here on the last accepted one and is accepted already:
    /// what a host without rivals does. Undecided blocks are forgotten.
    pub fn advance(&mut self, header: Header, tree: Tree) {
        self.head = header;
        self.head_id = header.id();
        self.tree = tree;
        self.preference = self.head_id;
        self.undecided.clear();
    }

    /// Accepts a child of the last accepted block; what it changes is for the caller to write.
    ///
    /// # Errors
    /// [`DecisionError`].
    pub fn accept(&mut self, id: BlockId) -> Result<Arc<Built>, DecisionError> {
        let block = self
            .undecided
            .get(&id)
            .ok_or(DecisionError::NotProcessing(id))?;
        if block.header.parent != self.head_id {
            return Err(DecisionError::NotNext(id));
        }
        let block = self
            .undecided
            .remove(&id)
            .ok_or(DecisionError::NotProcessing(id))?;
        self.head = block.header;
        self.head_id = id;
        self.tree = block.tree;
        if !self.undecided.contains_key(&self.preference) {
            self.preference = id;
        }
        Ok(block.built)
    }

    /// Rejects a block; its transactions may go back to the mempool.
    ///
    /// # Errors
    /// [`DecisionError::NotProcessing`].
    pub fn reject(&mut self, id: BlockId) -> Result<Arc<Built>, DecisionError> {
        let block = self
            .undecided
            .remove(&id)
            .ok_or(DecisionError::NotProcessing(id))?;
        if self.preference == id {
            self.preference = self.head_id;
        }
        Ok(block.built)
    }
}
