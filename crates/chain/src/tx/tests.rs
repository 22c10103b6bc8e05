use proptest::prelude::*;
use session_core::channel::Role;
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::limits::{
    BATCH_MESSAGES_MAX, CHUNK_BYTES_MAX, CIPHERTEXT_MAX, MEMBER_CHANGES_MAX, PARTICIPANTS_MAX,
};

use super::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use super::chunk::PutChunk;
use super::identity::{RegisterIdentity, RevokeIdentity, RotateKeys};
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
        prop_assert_eq!(numbers, (1..=16).collect::<Vec<u8>>());
    }

    #[test]
    fn hostile_bytes_are_refused_or_have_one_form(
        kind in 0usize..15, b: u8, at: prop::sample::Index, byte: u8,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        // Garbage behind a plausible beginning gets further than garbage alone.
        let begun = [&[TX_VERSION, (b % 17)][..], &garbage].concat();
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
    for (at, values) in [(0, [0, 2, 255]), (1, [0, 17, 255])] {
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
