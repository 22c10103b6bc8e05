//! Records of the chain's state, and their keys.

use super::{Target, codec, decode, seeds};
use session_core::account::{Account, AccountKeys, Revocation};
use session_core::channel::{Channel, Member, Role};
use session_core::group::{Group, Mode, PastEpoch, Succession};
use session_core::ids::{
    AccountId, ActionId, ChannelId, ChunkId, DeviceId, Digest, GroupId, KeyPackageId, SessionId,
    TxId,
};
use session_core::key_package::{Device, KeyPackage, KeyPackages, TakenKeyPackages, TakenPackage};
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
                RecordKey::Group(GROUP),
                RecordKey::Acknowledgement(Conversation::Group(GROUP), ACCOUNT),
                RecordKey::KeyPackages(ACCOUNT),
                RecordKey::TakenKeyPackages(ACCOUNT, ACCOUNT),
            ])
        },
    },
    Target {
        name: "account",
        run: codec::<Account>,
        seeds: || {
            let keys =
                AccountKeys::first(DIGEST, DIGEST, 1).rotated(DIGEST, DIGEST, 2, Time::from_ms(3));
            let whole = Account {
                keys,
                recovery: Some(DIGEST),
                revoked: Some(Revocation {
                    height: 3,
                    time: Time::from_ms(4),
                }),
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
        name: "group",
        run: |bytes| {
            let Some(group) = decode::<Group>(bytes) else {
                return false;
            };
            for now in [0, group.last_post.ms(), u64::MAX].map(Time::from_ms) {
                let _ = group.standing(now);
                let current = group.posting_key(group.epoch, now);
                assert!(current == Ok(group.posting), "the current key is another");
                for past in &group.past {
                    let _ = group.posting_key(past.epoch, now);
                }
            }
            let (end, tile) = (group.deadline(7), Group::tile_deadline(group.created, 7));
            assert!(
                end != tile || end.ms() == u64::MAX,
                "two deadlines in one cell"
            );
            true
        },
        seeds: || {
            let past = |epoch| PastEpoch {
                epoch,
                posting: DIGEST,
                ended: Time::from_ms(3),
            };
            let whole = Group {
                sponsor: ACCOUNT,
                created: Time::from_ms(1),
                until: Time::from_ms(2),
                last_post: Time::from_ms(3),
                last_advance: Some(Time::from_ms(4)),
                last_admin: None,
                mode: Mode::AdminOnly,
                epoch: 7,
                posting: DIGEST,
                control: DIGEST,
                commit: DIGEST,
                floor: 5,
                past: vec![past(5), past(6)],
                admins: vec![DIGEST],
                budget: 8,
                reserve: 9,
                succession: None,
                log: frontier(6),
            };
            let closed = Group {
                succession: Some(Succession {
                    successor: GROUP,
                    time: Time::from_ms(5),
                    invitation: Some(ChunkId::from_bytes([6; 32])),
                }),
                ..whole.clone()
            };
            seeds([whole, closed])
        },
    },
    Target {
        name: "key_packages",
        run: |bytes| {
            let Some(mut packages) = decode::<KeyPackages>(bytes) else {
                return false;
            };
            let last = packages.last_expiry().unwrap_or_default();
            packages.expire(last);
            assert!(
                packages.devices.is_empty(),
                "something outlives the last expiry"
            );
            true
        },
        seeds: || {
            let package = |byte| KeyPackage {
                id: KeyPackageId::from_bytes([byte; 32]),
                expires: Time::from_ms(byte.into()),
            };
            let device = |byte| Device {
                id: DeviceId::from_bytes([byte; 32]),
                one_time: vec![package(byte), package(9)],
                last_resort: Some(package(8)),
            };
            let devices = vec![device(1), device(2)];
            seeds([KeyPackages {
                devices,
                ..KeyPackages::default()
            }])
        },
    },
    Target {
        name: "taken_key_packages",
        run: codec::<TakenKeyPackages>,
        seeds: || {
            seeds([TakenKeyPackages {
                expires: Time::from_ms(6),
                packages: vec![TakenPackage {
                    device: DeviceId::from_bytes([1; 32]),
                    package: KeyPackageId::from_bytes([2; 32]),
                    last_resort: true,
                }],
            }])
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
                Outcome::Group(GROUP),
                Outcome::KeyPackages {
                    one_time: 1,
                    last_resort: 2,
                },
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
const GROUP: GroupId = GroupId::from_bytes([21; 32]);
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
