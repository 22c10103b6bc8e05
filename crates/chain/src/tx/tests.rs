use proptest::prelude::*;
use session_core::channel::Role;
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::group::{Mode, frame_id};
use session_core::ids::{AccountId, ChannelId, ChunkId, DeviceId, GroupId, SessionId};
use session_core::limits::{
    BATCH_MESSAGES_MAX, CHUNK_BYTES_MAX, CIPHERTEXT_MAX, COMMIT_BYTES_MAX, COMMIT_CHUNKS_MAX,
    FRAME_BYTES_MAX, GROUP_ADMINS_MAX, GROUP_FIRST_EPOCH_MAX, KEY_PACKAGE_BYTES_MAX,
    MEMBER_CHANGES_MAX, ONE_TIME_PACKAGES_MAX, PARTICIPANTS_MAX, POST_FRAMES_MAX,
};

use super::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use super::chunk::PutChunk;
use super::group::admin::{SetAdmins, SetMode, Supersede};
use super::group::advance::{AdvanceGroup, Commit};
use super::group::post::{GroupPost, PutGroupChunk, post_action};
use super::group::{Cosignature, CreateGroup, TopUpGroup, as_signer, group_of};
use super::identity::{RegisterIdentity, RevokeIdentity, RotateKeys};
use super::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use super::legacy::{LegacyKey, RegisterLegacy};
use super::message::{AcknowledgeMessages, Auth, BatchAuth, Body, SendBatch, SendMessage};
use super::session::{AcceptSession, CloseSession, CreateSession, NewParticipant, RenewSession};
use super::transfer::Transfer;
use super::*;

const CHAIN: ChainId = ChainId::from_bytes([3; 32]);

fn kem(byte: u8) -> KemKey {
    KemKey(Box::new([byte; KEM_KEY_LEN]))
}

fn signing(byte: u8) -> SigningKey {
    SigningKey(Box::new([byte; SIGNING_KEY_LEN]))
}

fn account(byte: u8) -> AccountId {
    AccountId::from_bytes([byte; 32])
}

fn conversation(byte: u8) -> Conversation {
    if byte.is_multiple_of(2) {
        Conversation::Session(SessionId::from_bytes([byte; 32]))
    } else {
        Conversation::Channel(ChannelId::from_bytes([byte; 32]))
    }
}

/// One of every kind.
fn kinds(b: u8, bytes: &[u8]) -> Vec<Kind> {
    let session = SessionId::from_bytes([b; 32]);
    let channel = ChannelId::from_bytes([b; 32]);
    let recovery = b.is_multiple_of(3).then(|| signing(b));
    let (conversation, ciphertext) = (conversation(b), bytes.to_vec());
    let participant = |i: u8| NewParticipant {
        account: account(i),
        kem: (i & 1 == 1).then(|| kem(i)),
        signing: (i & 2 == 2).then(|| signing(i)),
    };
    vec![
        Kind::RegisterIdentity(RegisterIdentity {
            kem: kem(b),
            signing: signing(b),
            recovery: recovery.as_ref().map(SigningKey::digest),
        }),
        Kind::RotateKeys(RotateKeys {
            kem: kem(b),
            signing: signing(b),
            recovery: recovery.clone(),
        }),
        Kind::RevokeIdentity(RevokeIdentity { recovery }),
        Kind::CreateSession(CreateSession {
            participants: (0..b % 5).map(participant).collect(),
        }),
        Kind::AcceptSession(AcceptSession { session }),
        Kind::RenewSession(RenewSession { session }),
        Kind::CloseSession(CloseSession { session }),
        Kind::SendMessage(SendMessage {
            conversation,
            ciphertext: ciphertext.clone(),
        }),
        Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts: vec![ciphertext; 1 + usize::from(b % 4)],
        }),
        Kind::AcknowledgeMessages(AcknowledgeMessages {
            conversation,
            up_to: b.into(),
        }),
        Kind::CreateChannel(CreateChannel {
            members: vec![(account(b), Role::Owner), (account(1), Role::Reader)],
        }),
        Kind::CloseChannel(CloseChannel { channel }),
        Kind::ChannelMembers(ChannelMembers {
            channel,
            changes: vec![
                MemberChange::Add(account(b), Role::Admin),
                MemberChange::Remove(account(b)),
                MemberChange::SetRole(account(b), Role::Member),
                MemberChange::Accept,
                MemberChange::Leave,
            ],
        }),
        Kind::PutChunk(PutChunk {
            bytes: [&[b], bytes].concat(),
        }),
        Kind::Transfer(Transfer {
            to: account(b),
            amount: b.into(),
        }),
        Kind::RegisterLegacy(RegisterLegacy {
            signing: LegacyKey([b; 32]),
            recovery: b.is_multiple_of(2).then(|| signing(b).digest()),
        }),
    ]
    .into_iter()
    .chain(group_kinds(b, bytes))
    .collect()
}

fn cosignature(byte: u8) -> Cosignature {
    Cosignature(Box::new([byte; SIGNATURE_LEN]))
}

fn create_group(admins: usize) -> CreateGroup {
    CreateGroup {
        admins: (0..admins).map(|i| signing(i as u8)).collect(),
        salt: [3; 32],
        mode: Mode::AdminOnly,
        epoch: 1,
        posting: signing(40),
        control: signing(41),
        budget: 5,
        reserve: 6,
        admin_signature: cosignature(1),
        control_signature: cosignature(2),
    }
}

fn advance(commit: Commit, admin: bool) -> AdvanceGroup {
    AdvanceGroup {
        epoch: 7,
        commit,
        posting: signing(42),
        control: signing(43),
        removal: admin,
        admin: admin.then(|| (signing(1).digest(), cosignature(3))),
    }
}

fn set_admins(signers: usize, admins: usize) -> SetAdmins {
    SetAdmins {
        signers: (0..signers)
            .map(|i| Digest::from_bytes([i as u8; 32]))
            .collect(),
        admins: (0..admins).map(|i| signing(i as u8)).collect(),
        cosignatures: (1..signers).map(|i| cosignature(i as u8)).collect(),
    }
}

fn key_packages(n: usize, last: bool, bytes: &[u8]) -> PublishKeyPackages {
    let new = || NewKeyPackage {
        expires: Time::from_ms(5),
        bytes: [b"p", bytes].concat(),
    };
    PublishKeyPackages {
        device: DeviceId::from_bytes([4; 32]),
        replace: last,
        one_time: (0..n).map(|_| new()).collect(),
        last_resort: last.then(new),
    }
}

/// One of every kind from 17 on.
fn group_kinds(b: u8, bytes: &[u8]) -> Vec<Kind> {
    let even = b.is_multiple_of(2);
    let group = GroupId::from_bytes([b; 32]);
    let commit = if even {
        Commit::Bytes([&[b], bytes].concat())
    } else {
        Commit::Chunks(vec![ChunkId::from_bytes([b; 32]); 1 + usize::from(b % 4)])
    };
    vec![
        Kind::CreateGroup(create_group(1 + usize::from(b % 3))),
        Kind::AdvanceGroup(advance(commit, b.is_multiple_of(3))),
        Kind::SetMode(SetMode {
            admin: signing(b).digest(),
            mode: if even { Mode::Open } else { Mode::AdminOnly },
        }),
        Kind::SetAdmins(set_admins(1 + usize::from(b % 3), 1 + usize::from(b % 4))),
        Kind::Supersede(Supersede {
            admin: signing(b).digest(),
            successor: group,
            invitation: b.is_multiple_of(2).then_some(ChunkId::from_bytes([b; 32])),
        }),
        Kind::GroupPost(GroupPost {
            epoch: b.into(),
            frames: vec![bytes.to_vec(); 1 + usize::from(b % 4)],
        }),
        Kind::TopUpGroup(TopUpGroup {
            group,
            budget: b.into(),
            reserve: 9,
        }),
        Kind::PutGroupChunk(PutGroupChunk {
            epoch: b.into(),
            bytes: [&[b], bytes].concat(),
        }),
        Kind::PublishKeyPackages(key_packages(usize::from(b % 3), even, bytes)),
        Kind::TakeKeyPackages(TakeKeyPackages { target: account(b) }),
    ]
}

fn tx(kind: Kind, signature_len: usize) -> Tx {
    let single = kind.is_single_message();
    Tx {
        signer: account(9),
        valid_until: Time::from_ms(if single { 0 } else { 77 }),
        salt: if single { 0 } else { 88 },
        kind,
        signature: vec![5; signature_len],
    }
}

proptest! {
    #[test]
    fn every_kind_reads_back_and_every_prefix_is_refused(
        b: u8, bytes in prop::collection::vec(any::<u8>(), 0..60),
        len in prop::sample::select(vec![0, 64, SIGNATURE_LEN]), cut: prop::sample::Index,
    ) {
        let mut numbers = Vec::new();
        for kind in kinds(b, &bytes) {
            let tx = tx(kind, len);
            let bytes = tx.to_bytes();
            prop_assert!(Tx::from_bytes(&bytes).as_ref() == Ok(&tx));
            prop_assert!(Tx::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(Tx::from_bytes(&longer), Err(DecodeError::Trailing { left: 1 }));
            prop_assert!(bytes[2..34] == account(9).to_bytes());
            numbers.push(bytes[1]);
        }
        prop_assert_eq!(numbers, (1..=26).collect::<Vec<u8>>());
    }

    #[test]
    fn hostile_bytes_are_refused_or_have_one_form(
        kind in 0usize..26, b: u8, at: prop::sample::Index, byte: u8,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        // Garbage behind a plausible beginning gets further than garbage alone.
        let begun = [&[TX_VERSION, (b % 27)][..], &garbage].concat();
        for bytes in [&garbage, &begun] {
            if let Ok(tx) = Tx::from_bytes(bytes) {
                prop_assert_eq!(&tx.to_bytes(), bytes);
            }
        }
        let good = tx(kinds(b, &garbage).swap_remove(kind), 64);
        let mut bent = good.to_bytes();
        let at = at.index(bent.len());
        bent[at] ^= byte;
        if let Ok(read) = Tx::from_bytes(&bent) {
            prop_assert_eq!(read.to_bytes(), bent);
            // Every byte counts: what differs has another id.
            prop_assert_eq!(read.ids(&CHAIN).tx == good.ids(&CHAIN).tx, byte == 0);
        }
    }

    #[test]
    fn stored_bodies_have_one_form(bytes: Vec<u8>, first: u64, garbage: Vec<u8>) {
        for auth in [Auth::Own(bytes.clone()), Auth::Batch(first)] {
            let body = Body { ciphertext: bytes.clone(), auth };
            prop_assert!(Body::from_bytes(&body.to_bytes()) == Ok(body));
        }
        let messages = vec![MessageId::from_bytes([1; 32]); 3];
        let (valid_until, salt, signature) = (Time::from_ms(first), first, bytes);
        let batch = BatchAuth { valid_until, salt, messages, signature };
        prop_assert!(BatchAuth::from_bytes(&batch.to_bytes()).as_ref() == Ok(&batch));
        if let Ok(body) = Body::from_bytes(&garbage) {
            prop_assert_eq!(body.to_bytes(), garbage);
        }
    }
}

#[test]
fn ids_have_the_preimages_of_the_specification() {
    for kind in kinds(6, b"body") {
        let tx = tx(kind, 64);
        let (bytes, ids) = (tx.to_bytes(), tx.ids(&CHAIN));
        let body = &bytes[..bytes.len() - 4 - 64];
        let messages: Vec<_> = ids.messages.iter().map(|(id, _)| *id).collect();
        if !tx.kind.cosignatures().is_empty() {
            continue;
        }
        if let Kind::GroupPost(post) = &tx.kind {
            let group = group_of(&tx.signer);
            let head = (tx.valid_until, tx.salt);
            let action = post_action(&CHAIN, &group, head, post.epoch, &messages);
            assert_eq!(ids.action, action);
            assert_eq!(messages.len(), post.frames.len());
            for (id, body) in &ids.messages {
                assert_eq!(body.to_bytes(), sha256(b"body"));
                assert_eq!(*id, frame_id(&CHAIN, &group, 6, body));
            }
            continue;
        }
        let action = if tx.kind.is_single_message() {
            messages[0].to_bytes()
        } else if messages.is_empty() {
            Tag::Action.hash(&[CHAIN.as_bytes(), body])
        } else {
            batch_action(&CHAIN, &tx.signer, tx.valid_until, tx.salt, &messages).to_bytes()
        };
        if let Kind::SendBatch(batch) = &tx.kind {
            assert_eq!(messages.len(), batch.ciphertexts.len());
        }
        assert_eq!(ids.action.to_bytes(), action);
        assert_eq!(tx.signed_digest(&CHAIN), action);
        let signature = sha256(&tx.signature);
        assert_eq!(ids.signature.to_bytes(), signature);
        assert_eq!(ids.tx.to_bytes(), Tag::Tx.hash(&[&action, &signature]));
        for (id, body) in &ids.messages {
            assert_eq!(body.to_bytes(), sha256(b"body"));
            let to = conversation(6);
            assert_eq!(*id, message_id(&CHAIN, &to, &tx.signer, body));
        }
        // Another chain, another action.
        assert_ne!(tx.ids(&ChainId::from_bytes([4; 32])).action, ids.action);
    }
}

#[test]
fn signatures_have_one_of_three_lengths() {
    for len in [1, 63, 65, 3_308] {
        let bytes = tx(kinds(1, b"").swap_remove(4), len).to_bytes();
        let what = "signature length";
        assert_eq!(Tx::from_bytes(&bytes), Err(DecodeError::Invalid { what }));
    }
    let bytes = tx(kinds(1, b"").swap_remove(4), 3_310).to_bytes();
    assert!(matches!(
        Tx::from_bytes(&bytes),
        Err(DecodeError::TooLong { .. })
    ));
}

#[test]
fn every_count_has_its_bound() {
    let too_long = |kind: Kind| {
        let read = Tx::from_bytes(&tx(kind, 64).to_bytes());
        assert!(matches!(read, Err(DecodeError::TooLong { .. })), "{read:?}");
    };
    let fits = |kind: Kind| {
        let tx = tx(kind, 64);
        assert_eq!(tx.encoded_len(), tx.to_bytes().len());
        assert_eq!(Tx::from_bytes(&tx.to_bytes()), Ok(tx));
    };
    let participants = |n: usize| {
        let new = |i| NewParticipant {
            account: account(i),
            kem: None,
            signing: None,
        };
        let participants = (0..u8::try_from(n).unwrap()).map(new).collect();
        Kind::CreateSession(CreateSession { participants })
    };
    fits(participants(PARTICIPANTS_MAX));
    too_long(participants(PARTICIPANTS_MAX + 1));
    let conversation = conversation(2);
    let message = |n| {
        let ciphertext = vec![1; n];
        Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        })
    };
    fits(message(CIPHERTEXT_MAX));
    too_long(message(CIPHERTEXT_MAX + 1));
    let batch = |n, len| {
        let ciphertexts = vec![vec![1; len]; n];
        Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        })
    };
    fits(batch(BATCH_MESSAGES_MAX, 2_900));
    too_long(batch(BATCH_MESSAGES_MAX + 1, 0));
    // Each within its bound, together more than a transaction.
    too_long(batch(BATCH_MESSAGES_MAX, 3_100));
    let read = Tx::from_bytes(&tx(batch(0, 0), 64).to_bytes());
    assert!(matches!(read, Err(DecodeError::TooShort { .. })));
    let changes = |n| {
        let (channel, changes) = (ChannelId::from_bytes([1; 32]), vec![MemberChange::Leave; n]);
        Kind::ChannelMembers(ChannelMembers { channel, changes })
    };
    fits(changes(MEMBER_CHANGES_MAX));
    too_long(changes(MEMBER_CHANGES_MAX + 1));
    let members = |n| {
        let members = vec![(account(1), Role::Reader); n];
        Kind::CreateChannel(CreateChannel { members })
    };
    fits(members(MEMBER_CHANGES_MAX));
    too_long(members(MEMBER_CHANGES_MAX + 1));
    let chunk = |n| Kind::PutChunk(PutChunk { bytes: vec![1; n] });
    fits(chunk(CHUNK_BYTES_MAX));
    too_long(chunk(CHUNK_BYTES_MAX + 1));
    let read = Tx::from_bytes(&tx(chunk(0), 64).to_bytes());
    assert!(matches!(read, Err(DecodeError::TooShort { .. })));
}

#[test]
fn every_count_of_a_group_has_its_bound() {
    let too_long = |kind: Kind| {
        let read = Tx::from_bytes(&tx(kind, SIGNATURE_LEN).to_bytes());
        assert!(matches!(read, Err(DecodeError::TooLong { .. })), "{read:?}");
    };
    let too_short = |kind: Kind| {
        let read = Tx::from_bytes(&tx(kind, SIGNATURE_LEN).to_bytes());
        assert!(
            matches!(read, Err(DecodeError::TooShort { .. })),
            "{read:?}"
        );
    };
    let fits = |kind: Kind| {
        let tx = tx(kind, SIGNATURE_LEN);
        assert_eq!(tx.encoded_len(), tx.to_bytes().len());
        assert_eq!(Tx::from_bytes(&tx.to_bytes()), Ok(tx));
    };
    let create = |n| Kind::CreateGroup(create_group(n));
    fits(create(GROUP_ADMINS_MAX));
    too_long(create(GROUP_ADMINS_MAX + 1));
    too_short(create(0));
    let first = |epoch| {
        let group = create_group(1);
        Kind::CreateGroup(CreateGroup { epoch, ..group })
    };
    fits(first(GROUP_FIRST_EPOCH_MAX));
    too_long(first(GROUP_FIRST_EPOCH_MAX + 1));
    let bytes = |n| Kind::AdvanceGroup(advance(Commit::Bytes(vec![1; n]), true));
    fits(bytes(COMMIT_BYTES_MAX));
    too_long(bytes(COMMIT_BYTES_MAX + 1));
    too_short(bytes(0));
    let id = ChunkId::from_bytes([1; 32]);
    let chunks = |n| Kind::AdvanceGroup(advance(Commit::Chunks(vec![id; n]), false));
    fits(chunks(COMMIT_CHUNKS_MAX));
    too_long(chunks(COMMIT_CHUNKS_MAX + 1));
    too_short(chunks(0));
    fits(Kind::SetAdmins(set_admins(
        GROUP_ADMINS_MAX,
        GROUP_ADMINS_MAX,
    )));
    too_long(Kind::SetAdmins(set_admins(GROUP_ADMINS_MAX + 1, 1)));
    too_long(Kind::SetAdmins(set_admins(1, GROUP_ADMINS_MAX + 1)));
    too_short(Kind::SetAdmins(set_admins(0, 1)));
    too_short(Kind::SetAdmins(set_admins(1, 0)));
    let post = |n, bytes| {
        let frames = vec![vec![1; bytes]; n];
        Kind::GroupPost(GroupPost { epoch: 1, frames })
    };
    fits(post(POST_FRAMES_MAX, 9));
    too_long(post(POST_FRAMES_MAX + 1, 9));
    too_short(post(0, 9));
    fits(post(4, FRAME_BYTES_MAX));
    too_long(post(1, FRAME_BYTES_MAX + 1));
    // Each frame fits, and all of them do not.
    too_long(post(5, FRAME_BYTES_MAX));
    let chunk = |n| {
        let bytes = vec![1; n];
        Kind::PutGroupChunk(PutGroupChunk { epoch: 1, bytes })
    };
    fits(chunk(CHUNK_BYTES_MAX));
    too_long(chunk(CHUNK_BYTES_MAX + 1));
    too_short(chunk(0));
    let packages = |n, bytes| Kind::PublishKeyPackages(key_packages(n, true, &vec![1; bytes]));
    fits(packages(ONE_TIME_PACKAGES_MAX, KEY_PACKAGE_BYTES_MAX - 1));
    too_long(packages(ONE_TIME_PACKAGES_MAX + 1, 1));
    too_long(packages(1, KEY_PACKAGE_BYTES_MAX));
    let mut empty = key_packages(1, false, b"");
    empty.one_time[0].bytes.clear();
    too_short(Kind::PublishKeyPackages(empty));
}

#[test]
fn a_cosignature_changes_the_transaction_and_not_the_action() {
    let kinds = [
        Kind::CreateGroup(create_group(2)),
        Kind::AdvanceGroup(advance(Commit::Bytes(vec![1]), true)),
        Kind::SetAdmins(set_admins(3, 2)),
    ];
    for kind in kinds {
        let n = kind.cosignatures().len();
        let tx = tx(kind, SIGNATURE_LEN);
        let (bytes, ids) = (tx.to_bytes(), tx.ids(&CHAIN));
        let end = bytes.len() - 4 - SIGNATURE_LEN;
        let statement = &bytes[..end - n * SIGNATURE_LEN];
        let action = Tag::Action.hash(&[CHAIN.as_bytes(), statement]);
        assert_eq!(ids.action.to_bytes(), action);
        let mut parts = vec![action, sha256(&tx.signature)];
        for i in 0..n {
            let from = end - (n - i) * SIGNATURE_LEN;
            parts.push(sha256(&bytes[from..from + SIGNATURE_LEN]));
        }
        let id = Tag::Tx.hash(&[&parts.concat()]);
        assert_eq!(ids.tx.to_bytes(), id);
        // Each byte of a cosignature counts, for the transaction alone.
        for i in 1..=n {
            let mut bent = bytes.clone();
            bent[end - i * SIGNATURE_LEN] ^= 1;
            let bent = Tx::from_bytes(&bent).unwrap().ids(&CHAIN);
            assert_eq!(bent.action, ids.action);
            assert_ne!(bent.tx, ids.tx);
        }
        // One less, or one more, does not decode.
        let short = [statement, &bytes[end - (n - 1) * SIGNATURE_LEN..]].concat();
        assert!(Tx::from_bytes(&short).is_err());
    }
    let group = GroupId::from_bytes([8; 32]);
    assert_eq!(group_of(&as_signer(&group)), group);
}

#[test]
fn rosters_are_strictly_ascending() {
    for order in [[1, 1], [2, 1]] {
        let new = |i| NewParticipant {
            account: account(i),
            kem: None,
            signing: None,
        };
        let participants = order.map(new).to_vec();
        let read =
            Tx::from_bytes(&tx(Kind::CreateSession(CreateSession { participants }), 0).to_bytes());
        assert!(matches!(read, Err(DecodeError::NotAscending { .. })));
    }
}

#[test]
fn unknown_kinds_and_versions_are_refused() {
    let good = tx(kinds(1, b"").swap_remove(14), 64).to_bytes();
    for (at, values) in [(0, [0, 2, 255]), (1, [0, 27, 255])] {
        for value in values {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(matches!(
                Tx::from_bytes(&bytes),
                Err(DecodeError::UnknownValue { .. })
            ));
        }
    }
}

#[test]
fn a_log_tells_how_much_was_sent_and_nothing_of_what() {
    let secret = b"attack at dawn".to_vec();
    let told = |kind: Kind| format!("{kind:?}");
    let (length, count) = ("14 bytes", "2 messages");
    let conversation = conversation(2);
    let message = told(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext: secret.clone(),
    }));
    let batch = told(Kind::SendBatch(SendBatch {
        conversation,
        ciphertexts: vec![secret.clone(), secret.clone()],
    }));
    let chunk = told(Kind::PutChunk(PutChunk {
        bytes: secret.clone(),
    }));
    for (text, said) in [(&message, length), (&batch, count), (&chunk, length)] {
        assert!(text.contains(said), "{text}");
        assert!(
            !text.contains("attack") && !text.contains("97, 116"),
            "{text}"
        );
    }
    for text in [&message, &batch] {
        assert!(text.contains(&format!("{conversation:?}")), "{text}");
    }
}
