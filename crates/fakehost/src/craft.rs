//! Blocks made here, by the chain's rules, as a peer with bad intentions would make them.

use session_chain::block::{Block, Builder, verify};
use session_chain::genesis::Genesis;
use session_chain::tree::Tree;
use session_chain::tx::Tx;
use session_chain::view::MemoryView;
use session_core::codec::Encode;
use session_core::header::Header;
use session_core::ids::ChainId;
use session_core::parameters::Parameters;
use session_core::time::Time;
use session_vm::Verifier;

/// A chain in memory, to build on.
pub struct Craft {
    /// Header of the last block.
    pub header: Header,
    parameters: Parameters,
    tree: Tree,
    view: MemoryView,
    crypto: Verifier,
}

impl Craft {
    /// At genesis.
    pub fn new(genesis: &[u8], chain: ChainId) -> Self {
        let genesis = Genesis::parse(genesis).unwrap();
        let (header, changes, tree) = genesis.block(chain);
        let mut view = MemoryView::default();
        view.apply(changes);
        Self {
            header,
            parameters: genesis.parameters,
            tree,
            view,
            crypto: Verifier::new(false),
        }
    }

    /// A valid block on the last one.
    pub fn block(&self, txs: &[Tx], time: Time) -> Block {
        let tree = self.tree.clone();
        let (view, crypto) = (&self.view, &self.crypto);
        let builder = Builder::new(self.header, tree, view, self.parameters, crypto, time);
        let mut builder = builder.unwrap();
        for tx in txs {
            let ids = tx.ids(&self.header.chain);
            let bytes = tx.to_bytes().len();
            builder.push(tx.clone(), &ids, bytes).unwrap();
        }
        builder.finish().block
    }

    /// Goes on to a block that was accepted.
    pub fn accept(&mut self, block: Block) {
        let (header, tree) = (self.header, self.tree.clone());
        let (view, crypto) = (&self.view, &self.crypto);
        let built = verify(block, header, tree, view, self.parameters, crypto, None).unwrap();
        self.view.apply((*built.changes).clone());
        self.tree = built.tree;
        self.header = built.block.header;
    }
}
