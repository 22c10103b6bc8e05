//! All blocks once more, in memory, by the chain's rules alone.

use std::collections::BTreeMap;

use session_chain::block::{Block, verify};
use session_chain::genesis::Genesis;
use session_chain::view::MemoryView;
use session_core::codec::Decode;
use session_core::ids::{ActionId, TxId};
use session_vm::Verifier;

use super::Network;
use crate::people::Answer;

impl Network {
    /// Replays what was decided: the same ids and state roots, every action once. Answers where
    /// each action is.
    ///
    /// # Panics
    /// When a block does not replay, or an action is in two.
    pub fn replay(&self) -> BTreeMap<ActionId, (u64, TxId)> {
        let genesis = Genesis::parse(&self.setup.genesis).unwrap();
        let chain = self.decided[0].header.chain;
        let (mut header, changes, mut tree) = genesis.block(chain);
        assert_eq!(header.id(), self.decided[0].id, "genesis");
        let mut view = MemoryView::default();
        view.apply(changes);
        let crypto = Verifier::new(false);
        let mut places = BTreeMap::new();
        for known in &self.decided[1..] {
            let block = Block::from_bytes(&known.bytes).unwrap();
            let height = block.header.height;
            for tx in &block.txs {
                let ids = tx.ids(&chain);
                let before = places.insert(ids.action, (height, ids.tx));
                assert!(
                    before.is_none(),
                    "an action is at {before:?} and at {height}"
                );
            }
            let parameters = genesis.parameters;
            let built = verify(block, header, tree, &view, parameters, &crypto, None);
            let built = built.unwrap_or_else(|error| panic!("height {height}: {error}"));
            assert_eq!(built.id, known.id, "height {height}");
            assert_eq!(
                built.tree.root(),
                known.header.state_root,
                "height {height}"
            );
            view.apply((*built.changes).clone());
            (header, tree) = (built.block.header, built.tree);
        }
        places
    }

    /// Everything that was acknowledged is in exactly one block, the one that was named.
    ///
    /// # Panics
    /// When it is not.
    pub fn check_answers(&self) {
        let places = self.replay();
        for (action, tx, answer) in &self.people.answers {
            let Answer::Accepted {
                height,
                tx: told,
                repeated,
            } = answer
            else {
                continue;
            };
            let place = places.get(action);
            let &(at, id) =
                place.unwrap_or_else(|| panic!("{action:?} was acknowledged: {answer:?}"));
            if *repeated {
                assert!(at <= *height, "{answer:?}, but it is at {at}");
                continue;
            }
            assert_eq!(at, *height, "{answer:?}");
            assert_eq!((id, Some(id)), (*tx, *told), "{answer:?}");
        }
    }
}
