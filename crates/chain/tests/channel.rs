//! Who may ask whom to join a channel: each role, each pair.

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

use people::{Fake, Person, signed, unsigned};
use session_chain::block::Builder;
use session_chain::genesis::Genesis;
use session_chain::state::TxError;
use session_chain::tx::Kind;
use session_chain::tx::channel::{ChannelMembers, CreateChannel, MemberChange};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::view::MemoryView;
use session_core::channel::Role;
use session_core::ids::{ChainId, ChannelId};
use session_core::parameters::Parameters;
use session_core::time::{MINUTE_MS, Time};

const CHAIN: ChainId = ChainId::from_bytes([9; 32]);
const FAKE: Fake = Fake { remembers: false };

/// Puts a transaction of somebody's into a block.
fn push(builder: &mut Builder<'_>, person: &Person, salt: u64, kind: Kind) -> Result<(), TxError> {
    let tx = unsigned(
        person.account,
        Time::from_ms(1_000_000 + MINUTE_MS),
        salt,
        kind,
    );
    let tx = signed(tx, &CHAIN, &person.signing(), 0);
    let (ids, length) = (tx.ids(&CHAIN), tx.encoded_len());
    builder.push(tx, &ids, length).map(drop)
}

/// A channel in which `acting` has this role, and whether they may ask somebody to join as that.
fn may_add(acting: Role, accepted: bool, role: Role) -> bool {
    let parameters = Parameters::default();
    let genesis = Genesis {
        parameters,
        time: Time::from_ms(1_000_000),
        allocations: BTreeMap::new(),
        unknown_keys: Vec::new(),
    };
    let (header, changes, tree) = genesis.block(CHAIN);
    let mut view = MemoryView::default();
    view.apply(changes);
    let [founder, actor, guest] = ["founder", "actor", "guest"].map(Person::new);
    let mut builder = Builder::new(header, tree, &view, parameters, &FAKE, header.time).unwrap();
    for person in [&founder, &actor, &guest] {
        let kind = Kind::RegisterIdentity(RegisterIdentity {
            kem: person.kem(),
            signing: person.signing(),
            recovery: None,
        });
        push(&mut builder, person, 1, kind).unwrap();
    }
    // Keys are those of the parent state: only a later block knows these.
    let built = builder.finish();
    view.apply((*built.changes).clone());
    let (header, tree) = (built.block.header, built.tree.clone());
    let mut builder = Builder::new(header, tree, &view, parameters, &FAKE, header.time).unwrap();
    let members = vec![(actor.account, acting)];
    let create = Kind::CreateChannel(CreateChannel { members });
    let until = Time::from_ms(1_000_000 + MINUTE_MS);
    let create = signed(
        unsigned(founder.account, until, 2, create),
        &CHAIN,
        &founder.signing(),
        0,
    );
    let (ids, length) = (create.ids(&CHAIN), create.encoded_len());
    let channel: ChannelId = CreateChannel::channel_id(&ids.action);
    builder.push(create, &ids, length).unwrap();
    let change = |change: MemberChange| {
        let changes = vec![change];
        Kind::ChannelMembers(ChannelMembers { channel, changes })
    };
    if accepted {
        push(&mut builder, &actor, 3, change(MemberChange::Accept)).unwrap();
    }
    let add = change(MemberChange::Add(guest.account, role));
    match push(&mut builder, &actor, 4, add) {
        Ok(()) => true,
        Err(TxError::Unauthorized) => false,
        Err(error) => panic!("{acting:?} adds {role:?}: {error}"),
    }
}

#[test]
fn owners_ask_anybody_admins_those_below_them_and_others_nobody() {
    let roles = [Role::Reader, Role::Member, Role::Admin, Role::Owner];
    for role in roles {
        for acting in roles {
            let below = matches!(role, Role::Reader | Role::Member);
            let may = acting == Role::Owner || (acting == Role::Admin && below);
            assert_eq!(may_add(acting, true, role), may, "{acting:?} adds {role:?}");
            let early = may_add(acting, false, role);
            assert!(!early, "{acting:?} adds {role:?} before having accepted");
        }
    }
}
