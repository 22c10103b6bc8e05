//! Records of the chain's state, and their keys.

use super::{Target, codec, decode, seeds};
use session_core::account::{Account, AccountKeys};
use session_core::channel::{Channel, Member, Role};
use session_core::ids::{AccountId, ActionId, ChannelId, ChunkId, Digest, SessionId, TxId};
use session_core::log::Conversation;
use session_core::merkle::Frontier;
use session_core::parameters::{Admission, Parameters, Quotas};
use session_core::record::{Acknowledgement, Action, Chunk, Outcome, RecordKey};
use session_core::session::{Participant, Roster, Session};
use session_core::time::Time;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "record_key",
        run: |bytes| {
            let key: Option<RecordKey> = decode(bytes);
            if key.is_some() {
                assert!(bytes.len() <= RecordKey::LEN_MAX, "longer than any key");
            }
            key.is_some()
        },
        seeds: || {
            let conversation = Conversation::Channel(CHANNEL);
            seeds([
                RecordKey::Parameters,
                RecordKey::Quotas,
                RecordKey::Account(ACCOUNT),
                RecordKey::Session(SessionId::from_bytes([2; 32])),
                RecordKey::Channel(CHANNEL),
                RecordKey::Member(CHANNEL, ACCOUNT),
                RecordKey::Acknowledgement(conversation, ACCOUNT),
                RecordKey::OpenRequests(ACCOUNT, ACCOUNT),
                RecordKey::Chunk(ChunkId::from_bytes([3; 32])),
                RecordKey::Action(ActionId::from_bytes([4; 32])),
            ])
        },
    },
    Target {
        name: "account",
        run: codec::<Account>,
        seeds: || {
            let keys = AccountKeys {
                kem: DIGEST,
                signing: DIGEST,
                index: 1,
                since_height: 2,
            };
            let whole = Account {
                keys: Some(keys),
                recovery: Some(DIGEST),
                memberships: frontier(5),
                requests: frontier(7),
                ..Account::default()
            };
            seeds([Account::default(), whole])
        },
    },
    Target {
        name: "session",
        run: |bytes| {
            let Some(session) = decode::<Session>(bytes) else {
                return false;
            };
            for now in [0, session.expires.ms(), u64::MAX].map(Time::from_ms) {
                let _ = session.status(now);
            }
            true
        },
        seeds: || {
            let closed = Session {
                creator: None,
                closed: Some(Time::from_ms(5)),
                ..session()
            };
            seeds([session(), closed])
        },
    },
    Target {
        name: "roster",
        run: |bytes| {
            let Some(roster) = decode::<Roster>(bytes) else {
                return false;
            };
            for (place, participant) in roster.participants().iter().enumerate() {
                let position = roster.position(&participant.account);
                assert!(position == Some(place), "a participant is not found");
            }
            true
        },
        seeds: || {
            let roster = |count: u8| {
                let participants = (0..count).map(|n| Participant {
                    account: AccountId::from_bytes([n; 32]),
                    kem: DIGEST,
                    signing: (n > 1).then_some(DIGEST),
                });
                Roster::new(participants.collect()).ok()
            };
            seeds([roster(0), roster(3), roster(100)].into_iter().flatten())
        },
    },
    Target {
        name: "channel",
        run: codec::<Channel>,
        seeds: || {
            seeds([Channel {
                creator: ACCOUNT,
                created: Time::from_ms(1),
                closed: None,
                members: 3,
                owners: 1,
                log: frontier(6),
            }])
        },
    },
    Target {
        name: "member",
        run: codec::<Member>,
        seeds: || {
            seeds([Member {
                role: Role::Owner,
                accepted: true,
                since: Time::from_ms(2),
                by: ACCOUNT,
            }])
        },
    },
    Target {
        name: "chunk",
        run: codec::<Chunk>,
        seeds: || {
            seeds([Chunk {
                owner: ACCOUNT,
                len: 65_536,
                expires: Time::from_ms(3),
            }])
        },
    },
    Target {
        name: "acknowledgement",
        run: codec::<Acknowledgement>,
        seeds: || {
            seeds([Acknowledgement {
                up_to: 4,
                time: Time::from_ms(5),
            }])
        },
    },
    Target {
        name: "action",
        run: codec::<Action>,
        seeds: || {
            let outcomes = [
                Outcome::Done,
                Outcome::Session(SessionId::from_bytes([2; 32])),
                Outcome::Channel(CHANNEL),
                Outcome::Sequence(6),
                Outcome::Chunk(ChunkId::from_bytes([3; 32])),
            ];
            seeds(outcomes.map(|outcome| Action {
                tx: TxId::from_bytes([8; 32]),
                height: 9,
                expires: Time::from_ms(10),
                outcome,
            }))
        },
    },
    Target {
        name: "parameters",
        run: codec::<Parameters>,
        seeds: || {
            let open = Parameters {
                admission: Admission::Open,
                root_key: Some(DIGEST),
                ..Parameters::default()
            };
            seeds([Parameters::default(), open])
        },
    },
    Target {
        name: "quotas",
        run: codec::<Quotas>,
        seeds: || seeds([Quotas::default()]),
    },
];

const ACCOUNT: AccountId = AccountId::from_bytes([1; 32]);
const CHANNEL: ChannelId = ChannelId::from_bytes([5; 32]);
const DIGEST: Digest = Digest::from_bytes([6; 32]);

fn frontier(count: u64) -> Frontier {
    let peaks = vec![[7; 32]; count.count_ones() as usize];
    Frontier::from_parts(count, peaks).unwrap_or_default()
}

pub(super) fn session() -> Session {
    Session {
        creator: Some(ACCOUNT),
        roster: DIGEST,
        participants: 2,
        accepted: 3,
        created: Time::from_ms(1),
        expires: Time::from_ms(86_400_001),
        closed: None,
        unsigned: 0,
        log: frontier(5),
    }
}
