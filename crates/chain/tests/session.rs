//! Who may close a session that nobody signed for.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/people.rs"]
mod people;

use std::collections::BTreeMap;

use people::{Fake, Person, unsigned};
use session_chain::block::Builder;
use session_chain::genesis::Genesis;
use session_chain::state::TxError;
use session_chain::tree::Tree;
use session_chain::tx::session::{CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{Kind, NOBODY, Tx};
use session_chain::view::MemoryView;
use session_core::header::Header;
use session_core::ids::{AccountId, ChainId, SessionId};
use session_core::parameters::{Admission, Parameters};
use session_core::time::{MINUTE_MS, Time};

const CHAIN: ChainId = ChainId::from_bytes([9; 32]);
const FAKE: Fake = Fake { remembers: false };

/// A chain with one session that nobody signed for.
struct World {
    header: Header,
    tree: Tree,
    view: MemoryView,
    parameters: Parameters,
    session: SessionId,
}

impl World {
    fn new() -> Self {
        let parameters = Parameters {
            admission: Admission::Open,
            ..Parameters::default()
        };
        let genesis = Genesis {
            parameters,
            time: Time::from_ms(1_000_000),
            allocations: BTreeMap::new(),
            unknown_keys: Vec::new(),
        };
        let (header, changes, tree) = genesis.block(CHAIN);
        let mut view = MemoryView::default();
        view.apply(changes);
        let mut people = ["alice", "bob"].map(Person::new);
        people.sort_by_key(|person| person.account);
        let participants = people.iter().map(|person| NewParticipant {
            account: person.account,
            kem: Some(person.kem()),
            signing: None,
        });
        let participants = participants.collect();
        let create = Kind::CreateSession(CreateSession { participants });
        let until = header.time.after_ms(MINUTE_MS);
        let create = unsigned(NOBODY, until, 1, create);
        let ids = create.ids(&CHAIN);
        let session = CreateSession::session_id(&ids.action);
        let mut builder =
            Builder::new(header, tree, &view, parameters, &FAKE, header.time).unwrap();
        let length = create.encoded_len();
        builder.push(create, &ids, length).unwrap();
        let built = builder.finish();
        view.apply((*built.changes).clone());
        Self {
            header: built.block.header,
            tree: built.tree.clone(),
            view,
            parameters,
            session,
        }
    }

    /// What becomes of closing it, by somebody's name and without a signature.
    fn close_by(&self, name: AccountId) -> Result<(), TxError> {
        let session = self.session;
        let kind = Kind::CloseSession(CloseSession { session });
        let tx: Tx = unsigned(name, self.header.time.after_ms(MINUTE_MS), 2, kind);
        let (header, tree) = (self.header, self.tree.clone());
        let builder = Builder::new(
            header,
            tree,
            &self.view,
            self.parameters,
            &FAKE,
            header.time,
        );
        let (ids, length) = (tx.ids(&CHAIN), tx.encoded_len());
        builder.unwrap().push(tx, &ids, length).map(drop)
    }
}

#[test]
fn without_a_signature_only_nobody_closes_and_only_where_admission_is_open() {
    let mut world = World::new();
    let refused = |closed| matches!(closed, Err(TxError::SignatureRequired));
    world.close_by(NOBODY).unwrap();
    // Whoever is named must sign, whether they take part or not.
    for name in ["alice", "carol"] {
        assert!(refused(world.close_by(Person::new(name).account)), "{name}");
    }
    world.parameters.admission = Admission::Signed;
    assert!(refused(world.close_by(NOBODY)));
}
