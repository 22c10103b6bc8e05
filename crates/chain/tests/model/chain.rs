//! A chain whose every block is verified on a second store.

use std::collections::BTreeMap;

use session_chain::block::{Builder, Built, verify};
use session_chain::genesis::Genesis;
use session_chain::state::TxError;
use session_chain::tree::Tree;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::SendBatch;
use session_chain::tx::session::NewParticipant;
use session_chain::tx::{Kind, Tx};
use session_chain::view::{MemoryView, Table};
use session_core::codec::Encode;
use session_core::header::Header;
use session_core::ids::{AccountId, ChainId};
use session_core::log::Conversation;
use session_core::parameters::Parameters;
use session_core::record::{Outcome, RecordKey};
use session_core::time::{HOUR_MS, Time};

use super::people::{Fake, Person, signed, unsigned};

const FAKE: Fake = Fake { remembers: false };

/// A chain whose every block is verified on a second store.
pub(crate) struct Chain {
    pub(crate) header: Header,
    pub(crate) tree: Tree,
    pub(crate) view: MemoryView,
    pub(crate) other: (Tree, MemoryView),
    pub(crate) parameters: Parameters,
    pub(crate) salt: u64,
}

impl Chain {
    pub(crate) fn new(parameters: Parameters, allocations: BTreeMap<AccountId, u64>) -> Self {
        let time = Time::from_ms(1_000_000);
        let unknown_keys = Vec::new();
        let genesis = Genesis {
            parameters,
            time,
            allocations,
            unknown_keys,
        };
        let (header, changes, tree) = genesis.block(ChainId::from_bytes([7; 32]));
        let mut view = MemoryView::default();
        view.apply(changes);
        let other = (tree.clone(), view.clone());
        Self {
            header,
            tree,
            view,
            other,
            parameters,
            salt: 0,
        }
    }

    pub(crate) fn tx(&mut self, person: &Person, kind: Kind) -> Tx {
        self.salt += 1;
        let until = self.header.time.after_ms(HOUR_MS / 2);
        let tx = unsigned(person.account, until, self.salt, kind);
        signed(tx, &self.header.chain, &person.signing(), 0)
    }

    pub(crate) fn block(&mut self, wait_ms: u64, txs: Vec<Tx>) -> (Built, Vec<TxError>) {
        let time = self.header.time.after_ms(wait_ms);
        let (header, tree) = (self.header, self.tree.clone());
        let mut builder =
            Builder::new(header, tree, &self.view, self.parameters, &FAKE, time).unwrap();
        let mut refused = Vec::new();
        for tx in txs {
            let (ids, bytes) = (tx.ids(&header.chain), tx.to_bytes().len());
            refused.extend(builder.push(tx, &ids, bytes).err());
        }
        let built = builder.finish();
        let (tree, view) = &self.other;
        let (block, tree) = (built.block.clone(), tree.clone());
        let verified = verify(block, header, tree, view, self.parameters, &FAKE, None).unwrap();
        assert_eq!(verified.changes, built.changes);
        self.view.apply((*built.changes).clone());
        self.other.1.apply((*verified.changes).clone());
        self.other.0 = verified.tree;
        self.tree = built.tree.clone();
        self.header = built.block.header;
        assert_eq!(self.view.cells(), self.other.1.cells());
        (built, refused)
    }

    pub(crate) fn done(&mut self, txs: Vec<Tx>) -> Vec<Outcome> {
        let (built, refused) = self.block(1, txs);
        assert!(refused.is_empty(), "{refused:?}");
        built.applied.iter().map(|a| a.outcome).collect()
    }

    pub(crate) fn register(&mut self, people: &[&Person]) {
        let txs = people.iter().map(|person| {
            let (kem, signing) = (person.kem(), person.signing());
            let kind = RegisterIdentity {
                kem,
                signing,
                recovery: None,
            };
            self.tx(person, Kind::RegisterIdentity(kind))
        });
        let txs = txs.collect();
        self.done(txs);
    }

    /// Sends `n` messages in batches of 100.
    pub(crate) fn fill(&mut self, sender: &Person, conversation: Conversation, n: u64) {
        self.fill_from(sender, conversation, 0, n);
    }

    /// The same with texts that begin at `first`.
    pub(crate) fn fill_from(
        &mut self,
        sender: &Person,
        conversation: Conversation,
        first: u64,
        n: u64,
    ) {
        let end = first + n;
        for from in (first..end).step_by(100) {
            let numbers = from..end.min(from + 100);
            let ciphertexts = numbers.map(|i| i.to_be_bytes().to_vec()).collect();
            let tx = self.tx(
                sender,
                Kind::SendBatch(SendBatch {
                    conversation,
                    ciphertexts,
                }),
            );
            self.done(vec![tx]);
        }
    }

    pub(crate) fn has(&self, key: RecordKey) -> bool {
        self.view
            .cells()
            .contains_key(&(Table::Record, key.to_bytes()))
    }

    pub(crate) fn count(&self, table: Table) -> usize {
        self.view
            .cells()
            .keys()
            .filter(|(t, _)| *t == table)
            .count()
    }

    /// Records of one kind, by the first byte of their key.
    pub(crate) fn records(&self, kind: u8) -> usize {
        let records = self
            .view
            .cells()
            .keys()
            .filter(|(t, _)| *t == Table::Record);
        records.filter(|(_, key)| key[0] == kind).count()
    }
}

pub(crate) fn with(person: &Person) -> NewParticipant {
    let (kem, signing) = (Some(person.kem()), Some(person.signing()));
    NewParticipant {
        account: person.account,
        kem,
        signing,
    }
}
