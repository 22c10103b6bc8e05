//! Conversations: what members, strangers and the log give a device, and what it stores.

use super::{Target, codec, seeds};
use session_core::ids::{AccountId, ChainId, ChunkId, GroupId};
use session_crypto::{Identity, Secret};
use session_e2ee::frame::{Chain, EpochKeys};
use session_e2ee::link::{LinkCode, LinkRequest};
use session_e2ee::signed_batch::SignedBatch;
use session_e2ee::{
    AccountState, AdminWork, Attachment, Authenticity, Body, Content, CountersignRequest, CutTree,
    Device, DeviceCertificate, DeviceClaim, DeviceId, Directory, Event, EventKind, GroupFacts,
    Invitation, InvitationHead, Invitee, LogPlace, MemberDevice, Message, MessageName, NewDevice,
    Outgoing, OutgoingKind, Policy, Randomness, RejoinRequest, Storage, Suite,
};
use session_storage::{MemorySlots, MemoryStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "chat_frame",
        run: frame,
        seeds: || {
            let Some((keys, mut chain)) = epoch() else {
                return Vec::new();
            };
            let mut seal = |guard: u8| keys.seal(1, &mut chain, [guard; 4], &[7; 32]);
            [1, 2, 3]
                .into_iter()
                .flat_map(&mut seal)
                .map(|(_, frame)| frame)
                .collect()
        },
    },
    Target {
        name: "chat_chain",
        run: codec::<Chain>,
        seeds: || {
            let Some((keys, mut sender)) = epoch() else {
                return Vec::new();
            };
            let mut receiver = sender.clone();
            let frames: Vec<Vec<u8>> = (0..9)
                .flat_map(|guard| keys.seal(1, &mut sender, [guard; 4], &[7; 32]))
                .map(|(_, frame)| frame)
                .collect();
            // One that has left eight out.
            if let Some(last) = frames.last()
                && let Ok(place) = keys.place(last)
            {
                let _ = receiver.open(&keys, place, last);
            }
            seeds([sender, receiver])
        },
    },
    Target {
        name: "chat_body",
        run: codec::<Body>,
        seeds: || seeds(contents().into_iter().map(body)),
    },
    Target {
        name: "signed_batch",
        run: codec::<SignedBatch>,
        seeds: || {
            let mut batch = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5];
            batch.extend([7; 32]);
            batch.extend([0, 0, 0, 2, 1, 2]);
            vec![batch]
        },
    },
    Target {
        name: "group_policy",
        run: codec::<Policy>,
        seeds: || {
            let chain = ChainId::from_bytes([1; 32]);
            let one = AccountId::from_bytes([2; 32]);
            let other = AccountId::from_bytes([3; 32]);
            let mut large = Policy::new(chain, one);
            large.name = "Hiking".to_owned();
            large.revoked.insert((other, DeviceId::from_bytes([4; 16])));
            seeds([
                Policy::new(chain, one),
                Policy::between(chain, one, other),
                large,
            ])
        },
    },
    Target {
        name: "device_certificate",
        run: codec::<DeviceCertificate>,
        seeds: || seeds(certificate()),
    },
    Target {
        name: "rejoin_request",
        run: codec::<RejoinRequest>,
        seeds: || {
            seeds([RejoinRequest {
                group: GroupId::from_bytes([1; 32]),
                key_package: vec![2; 60],
                expires_ms: 4,
                asked_ms: 3,
                signature: vec![5; 64],
            }])
        },
    },
    Target {
        name: "attachment",
        run: |bytes| {
            let accepted = codec::<Attachment>(bytes);
            if let Some(attachment) = super::decode::<Attachment>(bytes) {
                let _ = attachment
                    .download()
                    .map(|download| download.missing().count());
            }
            accepted
        },
        seeds: || seeds(attachment()),
    },
    Target {
        name: "invitation",
        run: codec::<Invitation>,
        seeds: || seeds(with_pair(|pair| pair.invitation.clone())),
    },
    Target {
        name: "invitation_head",
        run: codec::<InvitationHead>,
        seeds: || {
            let split = with_pair(|pair| pair.invitation.split().ok()).flatten();
            seeds(split.map(|(head, _)| head))
        },
    },
    Target {
        name: "cut_tree",
        run: |bytes| {
            let accepted = codec::<CutTree>(bytes);
            if let Some(cut) = super::decode::<CutTree>(bytes) {
                let secret = tree_secret();
                let mut gathering = cut.gather(&secret);
                let missing: Vec<_> = gathering.missing().collect();
                for (index, _) in missing {
                    let _ = gathering.put(index, bytes);
                }
                let _ = gathering.finish();
            }
            accepted
        },
        seeds: || seeds(cut_tree()),
    },
    Target {
        name: "tree_to_cut",
        run: |bytes| {
            let secret = tree_secret();
            let Ok((cut, chunks)) = CutTree::cut(bytes, &secret) else {
                return false;
            };
            let mut gathering = cut.gather(&secret);
            let missing: Vec<_> = gathering.missing().collect();
            for ((index, _), chunk) in missing.into_iter().zip(&chunks) {
                assert_eq!(gathering.put(index, chunk), Ok(()), "a piece opens");
            }
            let tree = gathering.finish();
            assert!(tree.as_deref() == Ok(bytes), "what is cut comes back");
            true
        },
        seeds: || {
            with_pair(|pair| pair.invitation.tree.clone())
                .into_iter()
                .collect()
        },
    },
    Target {
        name: "outgoing",
        run: codec::<Outgoing>,
        seeds: || {
            with_pair(|pair| seeds(pair.first.outbox().unwrap_or_default())).unwrap_or_default()
        },
    },
    Target {
        name: "conversation_event",
        run: codec::<Event>,
        seeds: || seeds(events()),
    },
    Target {
        name: "link_code",
        run: |bytes| {
            let text = core::str::from_utf8(bytes).ok();
            let Some(code) = text.and_then(|text| text.parse::<LinkCode>().ok()) else {
                return false;
            };
            assert!(code.expose().parse() == Ok(code), "a code reads back");
            true
        },
        seeds: || {
            let code = LinkCode::generate(&mut Randomness::seeded(Secret::new([5; 32]))).ok();
            let text = code.map(|code| code.expose().as_bytes().to_vec());
            text.into_iter().collect()
        },
    },
    Target {
        name: "link_request",
        run: codec::<LinkRequest>,
        seeds: || {
            let storage = storage(9);
            let linked = Device::request_link(storage, Suite::PostQuantum, "tablet");
            let request = linked.and_then(|(_, code, sealed)| LinkRequest::open(&code, &sealed));
            seeds(request.ok())
        },
    },
    Target {
        name: "mls_key_package",
        run: |bytes| {
            with_pair(|pair| {
                pair.first
                    .examine_key_package(bytes, &pair.directory)
                    .is_ok()
            })
            .unwrap_or_default()
        },
        seeds: || {
            with_pair(|pair| pair.key_package.clone())
                .into_iter()
                .collect()
        },
    },
    Target {
        name: "mls_commit",
        run: |bytes| {
            with_pair(|pair| {
                let group = pair.facts.group;
                pair.second.examine(group, bytes, &pair.directory).is_ok()
            })
            .unwrap_or_default()
        },
        seeds: || with_pair(|pair| pair.commit.clone()).into_iter().collect(),
    },
    Target {
        name: "mls_welcome",
        run: |bytes| {
            with_pair(|pair| {
                let invitation = Invitation {
                    welcome: bytes.to_vec(),
                    ..pair.invitation.clone()
                };
                pair.joins(&invitation)
            })
            .unwrap_or_default()
        },
        seeds: || {
            with_pair(|pair| pair.invitation.welcome.clone())
                .into_iter()
                .collect()
        },
    },
    Target {
        name: "mls_ratchet_tree",
        run: |bytes| {
            with_pair(|pair| {
                let invitation = Invitation {
                    tree: bytes.to_vec(),
                    ..pair.invitation.clone()
                };
                pair.joins(&invitation)
            })
            .unwrap_or_default()
        },
        seeds: || {
            with_pair(|pair| pair.invitation.tree.clone())
                .into_iter()
                .collect()
        },
    },
];

fn tree_secret() -> Secret<32> {
    Secret::new([6; 32])
}

/// The pair's tree, in pieces.
fn cut_tree() -> Option<CutTree> {
    let cut = with_pair(|pair| CutTree::cut(&pair.invitation.tree, &tree_secret()).ok());
    cut.flatten().map(|(cut, _)| cut)
}

fn epoch() -> Option<(EpochKeys, Chain)> {
    let root = Secret::new([3; 48]);
    let group = GroupId::from_bytes([9; 32]);
    let (keys, chains) = EpochKeys::derive(&root, 7, group, 0..2).ok()?;
    let (_, chain) = chains.into_iter().nth(1)?;
    Some((keys, chain))
}

/// Nobody without a key makes a frame that opens; whoever changes one makes it open no more.
fn frame(bytes: &[u8]) -> bool {
    let Some((keys, mut chain)) = epoch() else {
        return false;
    };
    let Ok(place) = keys.place(bytes) else {
        return false;
    };
    match chain.open(&keys, place, bytes) {
        Ok((text, _)) => {
            assert!(text == [7; 32], "a frame that nobody sealed opens");
            true
        }
        Err(_) => false,
    }
}

fn body(content: Content) -> Body {
    Body {
        sequence: 3,
        sent_at_ms: 1_800_000_000_000,
        content,
    }
}

fn name() -> MessageName {
    MessageName {
        device: DeviceId::from_bytes([4; 16]),
        sequence: 2,
    }
}

fn contents() -> Vec<Content> {
    let text = "Hello, Bob".to_owned();
    let mut all = vec![
        Content::Text(text.clone()),
        Content::Reply {
            to: name(),
            text: text.clone(),
        },
        Content::Reaction {
            to: name(),
            emoji: "+".to_owned(),
        },
        Content::Edit {
            of: name(),
            text: text.clone(),
        },
        Content::Delete { of: name() },
        Content::Delivered(vec![name()]),
        Content::Read(vec![name(), name()]),
        Content::Timer { after_s: 60 },
        Content::GroupInfo { name: text.clone() },
        Content::Typing,
        Content::Leave {
            whole_account: true,
        },
        Content::ReservedKeyPackage(vec![1, 2, 3]),
        Content::AdminWork(Box::new(AdminWork::Countersign(CountersignRequest {
            epoch: 7,
            chunks: vec![ChunkId::from_bytes([8; 32]); 2],
        }))),
        Content::Unknown {
            kind: 500,
            fields: vec![9],
        },
    ];
    all.extend(attachment().map(|file| Content::Attachment { file, text }));
    all
}

fn attachment() -> Option<Attachment> {
    let mut randomness = Randomness::seeded(Secret::new([6; 32]));
    let sealed = Attachment::seal("a.txt", "text/plain", b"file", &mut randomness);
    sealed.ok().map(|(attachment, _)| attachment)
}

fn member() -> MemberDevice {
    MemberDevice {
        account: AccountId::from_bytes([2; 32]),
        device: DeviceId::from_bytes([4; 16]),
    }
}

fn events() -> Vec<Event> {
    let place = LogPlace {
        position: 4,
        time_ms: 5,
    };
    let message = Message {
        from: member(),
        epoch: 2,
        place,
        authenticity: Authenticity::Verified,
        body: body(Content::Text("Hello".to_owned())),
    };
    let kinds = [
        EventKind::Message(Box::new(message)),
        EventKind::Verified(vec![name()]),
        EventKind::Forged(name()),
        EventKind::Joined { epoch: 1 },
        EventKind::Added {
            device: member(),
            new_account: true,
            by: member(),
        },
        EventKind::SealedInOurName {
            place,
            signed: true,
        },
    ];
    let group = GroupId::from_bytes([9; 32]);
    let event = |(number, kind)| Event {
        number,
        group,
        kind,
    };
    (1..).zip(kinds).map(event).collect()
}

fn account(seed: u8) -> Option<Identity> {
    Identity::from_seed(Secret::new([seed; 32])).ok()
}

fn certificate() -> Option<DeviceCertificate> {
    let account = account(1)?;
    let claim = DeviceClaim {
        account: account.account_id(),
        device: DeviceId::from_bytes([4; 16]),
        not_before_ms: 1,
        serial: 2,
    };
    claim.certify(account.signing_key(), &[5; 1_952]).ok()
}

fn storage(seed: u8) -> Storage {
    Storage {
        store: Arc::new(MemoryStore::new()),
        slots: Box::new(MemorySlots::new()),
        key: Secret::new([1; 32]),
        randomness: Randomness::seeded(Secret::new([seed; 32])),
    }
}

/// Two people in a group, a third who is invited, and what passes between them.
struct Pair {
    first: Device,
    second: Device,
    third: Device,
    directory: Accounts,
    facts: GroupFacts,
    key_package: Vec<u8>,
    /// Of the first, not followed by the second.
    commit: Vec<u8>,
    invitation: Invitation,
}

impl Pair {
    fn joins(&self, invitation: &Invitation) -> bool {
        let joined = self
            .third
            .examine_invitation(invitation, &self.facts, &self.directory);
        joined.is_ok()
    }
}

struct Accounts(BTreeMap<AccountId, AccountState>);

impl Directory for Accounts {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        self.0.get(&account).cloned()
    }
}

/// A device's records can be shared, its randomness cannot: one target at a time.
fn with_pair<T>(act: impl FnOnce(&Pair) -> T) -> Option<T> {
    static PAIR: OnceLock<Option<Mutex<Pair>>> = OnceLock::new();
    let pair = PAIR.get_or_init(|| make_pair().map(Mutex::new)).as_ref()?;
    Some(act(&pair.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn make_pair() -> Option<Pair> {
    let accounts = [account(1)?, account(2)?, account(3)?];
    let state = |account: &Identity| {
        let state = AccountState {
            current: account.public().signing().clone(),
            earlier: Vec::new(),
            revoked_ms: None,
        };
        (account.account_id(), state)
    };
    let directory = Accounts(accounts.iter().map(state).collect());
    let mut seed = 10;
    let mut device = |account: &Identity| {
        seed += 1;
        let new = NewDevice {
            suite: Suite::PostQuantum,
            account: account.account_id(),
            signing: account.signing_key(),
            name: "device",
            serial: 0,
        };
        Device::create(storage(seed), &new, 1).ok()
    };
    let [one, two, three] = &accounts;
    let (mut first, mut second, mut third) = (device(one)?, device(two)?, device(three)?);
    let invitees: Vec<Invitee> = [&mut second, &mut third]
        .into_iter()
        .flat_map(|device| device.key_packages(1, u64::MAX))
        .flatten()
        .map(|package| Invitee {
            key_package: package.bytes,
            expires_ms: u64::MAX,
        })
        .collect();
    let chain = ChainId::from_bytes([7; 32]);
    let policy = Policy::new(chain, one.account_id());
    let (group, output) = first.create_group(policy, &invitees, &directory, 1).ok()?;
    let mut facts = None;
    let mut invitation = None;
    for outgoing in output.outgoing {
        match outgoing.kind {
            OutgoingKind::Create(creation) => {
                facts = Some(GroupFacts {
                    chain,
                    group,
                    epoch: creation.epoch,
                    commit_hash: creation.commit_hash,
                    keys: creation.keys,
                    next_position: 0,
                    time_ms: 1,
                });
            }
            OutgoingKind::Invitation(invited) => invitation = Some(*invited),
            OutgoingKind::Commit(_) | OutgoingKind::Frame { .. } => {}
        }
    }
    let (facts, invitation) = (facts?, invitation?);
    second.join(&invitation, &facts, &directory).ok()?;
    let output = first.rotate(group, &directory).ok()?;
    let commit = output
        .outgoing
        .into_iter()
        .find_map(|outgoing| match outgoing.kind {
            OutgoingKind::Commit(advance) => Some(advance.commit),
            OutgoingKind::Create(_) | OutgoingKind::Frame { .. } | OutgoingKind::Invitation(_) => {
                None
            }
        });
    Some(Pair {
        first,
        second,
        third,
        directory,
        facts,
        key_package: invitees.into_iter().next()?.key_package,
        commit: commit?,
        invitation,
    })
}
