//! Who may ask whom to join a channel, and remove whom: each role, each pair.

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

/// What is done to a guest's membership.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Add,
    Remove,
}

/// Whether somebody of a role, who has accepted it or not, may add or remove one of another.
fn may(acting: Role, accepted: bool, deed: Deed, role: Role) -> bool {
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
    let mut members = vec![(actor.account, acting)];
    members.extend((deed == Deed::Remove).then_some((guest.account, role)));
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
    let done = match deed {
        Deed::Add => MemberChange::Add(guest.account, role),
        Deed::Remove => MemberChange::Remove(guest.account),
    };
    match push(&mut builder, &actor, 4, change(done)) {
        Ok(()) => true,
        Err(TxError::Unauthorized) => false,
        Err(error) => panic!("{acting:?}, {deed:?} {role:?}: {error}"),
    }
}

const ROLES: [Role; 4] = [Role::Reader, Role::Member, Role::Admin, Role::Owner];

fn each_pair(deed: Deed, is_allowed: impl Fn(Role, Role) -> bool) {
    for role in ROLES {
        for acting in ROLES {
            let allowed = is_allowed(acting, role);
            assert_eq!(
                may(acting, true, deed, role),
                allowed,
                "{acting:?}, {deed:?} {role:?}"
            );
            let early = may(acting, false, deed, role);
            assert!(
                !early,
                "{acting:?}, {deed:?} {role:?}, before having accepted"
            );
        }
    }
}

#[test]
fn owners_ask_anybody_admins_those_below_them_and_others_nobody() {
    each_pair(Deed::Add, |acting, role| {
        let below = matches!(role, Role::Reader | Role::Member);
        acting == Role::Owner || (acting == Role::Admin && below)
    });
}

#[test]
fn owners_and_admins_remove_those_below_them_and_others_nobody() {
    each_pair(Deed::Remove, |acting, role| match acting {
        Role::Owner => role != Role::Owner,
        Role::Admin => matches!(role, Role::Reader | Role::Member),
        Role::Reader | Role::Member => false,
    });
}
