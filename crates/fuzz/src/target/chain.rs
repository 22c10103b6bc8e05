//! Transactions and blocks.

use super::{Target, decode, seeds};
use session_chain::block::{Block, StoredBlock, StoredTx, tx_root};
use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::group::admin::{SetAdmins, SetMode, Supersede};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::{GroupPost, PutGroupChunk};
use session_chain::tx::group::{Cosignature, CreateGroup, TopUpGroup};
use session_chain::tx::identity::{RegisterIdentity, RevokeIdentity, RotateKeys};
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::legacy::{LegacyKey, RegisterLegacy};
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::session::{
    AcceptSession, CloseSession, CreateSession, NewParticipant, RenewSession,
};
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{KEM_KEY_LEN, KemKey, Kind, SIGNING_KEY_LEN, SigningKey, Tx};
use session_core::channel::Role;
use session_core::codec::Encode;
use session_core::group::Mode;
use session_core::header::{Header, SIGNATURE_LEN};
use session_core::ids::{
    AccountId, BlockId, ChainId, ChannelId, ChunkId, DeviceId, Digest, GroupId, SessionId,
};
use session_core::log::Conversation;
use session_core::record::Outcome;
use session_core::submission::{
    Submitted, decode_reply, decode_request, encode_reply, encode_request,
};
use session_core::time::Time;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "tx",
        run: |bytes| {
            let Some(tx) = decode::<Tx>(bytes) else {
                return false;
            };
            let ids = tx.ids(&CHAIN);
            assert!(
                *ids.action.as_bytes() == tx.signed_digest(&CHAIN),
                "two digests"
            );
            true
        },
        seeds: || seeds(txs()),
    },
    Target {
        name: "submit_request",
        run: |bytes| {
            let Ok(txs) = decode_request(bytes) else {
                return false;
            };
            assert!(encode_request(&txs) == bytes, "another encoding");
            true
        },
        seeds: || {
            let small: Vec<Vec<u8>> = txs_without_keys().iter().map(Encode::to_bytes).collect();
            vec![encode_request(&small), encode_request(&[[]])]
        },
    },
    Target {
        name: "submit_reply",
        run: |bytes| {
            let Ok(answers) = decode_reply(bytes) else {
                return false;
            };
            assert!(encode_reply(&answers) == bytes, "another encoding");
            true
        },
        seeds: || {
            let refused = Submitted::Refused {
                code: 32_016,
                reason: "known".to_owned(),
                retry_ms: Some(5),
                sequence: None,
            };
            let pending = txs_without_keys().into_iter().map(|tx| Submitted::Pending {
                action: tx.ids(&CHAIN).action,
                tx: tx.ids(&CHAIN).tx,
            });
            let accepted = txs_without_keys()
                .into_iter()
                .map(|tx| Submitted::Accepted {
                    action: tx.ids(&CHAIN).action,
                    tx: None,
                    height: 7,
                    outcome: Outcome::Sequence(9),
                    repeated: true,
                });
            vec![encode_reply(
                &pending.chain(accepted).chain([refused]).collect::<Vec<_>>(),
            )]
        },
    },
    Target {
        name: "block",
        run: |bytes| {
            let Some(block) = decode::<Block>(bytes) else {
                return false;
            };
            let count = u32::try_from(block.txs.len());
            assert!(count == Ok(block.header.count), "the count is another one");
            true
        },
        seeds: || {
            let small = [txs_without_keys(), Vec::new()];
            seeds(small.map(|txs| Block {
                header: header(&txs),
                txs,
            }))
        },
    },
    Target {
        name: "stored_block",
        run: |bytes| decode::<StoredBlock>(bytes).is_some(),
        seeds: || {
            let txs = txs_without_keys();
            let header = header(&txs);
            let mut items: Vec<StoredTx> = txs.into_iter().map(StoredTx::Whole).collect();
            items.push(StoredTx::Message(CONVERSATION, 7));
            items.push(StoredTx::Batch(CONVERSATION, 8, 3));
            items.push(StoredTx::Post(GROUP, 9, 32));
            items.push(StoredTx::Advance(GROUP, 41));
            seeds([StoredBlock { header, items }])
        },
    },
];

const CHAIN: ChainId = ChainId::from_bytes([1; 32]);
const ACCOUNT: AccountId = AccountId::from_bytes([2; 32]);
const SESSION: SessionId = SessionId::from_bytes([3; 32]);
const CHANNEL: ChannelId = ChannelId::from_bytes([4; 32]);
const GROUP: GroupId = GroupId::from_bytes([18; 32]);
const CONVERSATION: Conversation = Conversation::Session(SESSION);

fn header(txs: &[Tx]) -> Header {
    Header {
        chain: CHAIN,
        parent: BlockId::from_bytes([5; 32]),
        height: 1,
        time: Time::from_ms(2),
        tx_root: tx_root(txs.iter().map(|tx| tx.ids(&CHAIN).tx)),
        count: u32::try_from(txs.len()).unwrap_or_default(),
        state_root: [6; 32],
    }
}

fn tx(kind: Kind) -> Tx {
    let single = kind.is_single_message();
    Tx {
        signer: ACCOUNT,
        valid_until: Time::from_ms(if single { 0 } else { 3_600_000 }),
        salt: if single { 0 } else { 7 },
        kind,
        signature: vec![8; if single { 0 } else { 64 }],
    }
}

fn kem() -> KemKey {
    KemKey(Box::new([9; KEM_KEY_LEN]))
}

fn signing() -> SigningKey {
    SigningKey(Box::new([10; SIGNING_KEY_LEN]))
}

fn txs() -> Vec<Tx> {
    let participant = |n, kem, signing| NewParticipant {
        account: AccountId::from_bytes([n; 32]),
        kem,
        signing,
    };
    let with_keys = [
        Kind::RegisterIdentity(RegisterIdentity {
            kem: kem(),
            signing: signing(),
            recovery: Some(Digest::from_bytes([11; 32])),
        }),
        Kind::RotateKeys(RotateKeys {
            kem: kem(),
            signing: signing(),
            recovery: None,
        }),
        Kind::RevokeIdentity(RevokeIdentity {
            recovery: Some(signing()),
        }),
        Kind::CreateSession(CreateSession {
            participants: vec![
                participant(1, Some(kem()), Some(signing())),
                participant(2, Some(kem()), None),
            ],
        }),
    ];
    let cosignature = || Cosignature(Box::new([20; SIGNATURE_LEN]));
    let with_keys_of_groups = [
        Kind::CreateGroup(CreateGroup {
            admins: vec![signing()],
            salt: [21; 32],
            mode: Mode::AdminOnly,
            epoch: 1,
            posting: signing(),
            control: signing(),
            budget: 5,
            reserve: 6,
            admin_signature: cosignature(),
            control_signature: cosignature(),
        }),
        Kind::AdvanceGroup(AdvanceGroup {
            epoch: 1,
            commit: Commit::Bytes(vec![22; 30]),
            posting: signing(),
            control: signing(),
            removal: true,
            admin: Some((Digest::from_bytes([23; 32]), cosignature())),
        }),
        Kind::AdvanceGroup(AdvanceGroup {
            epoch: 2,
            commit: Commit::Chunks(vec![ChunkId::from_bytes([24; 32]); 2]),
            posting: signing(),
            control: signing(),
            removal: false,
            admin: None,
        }),
        Kind::SetAdmins(SetAdmins {
            signers: vec![Digest::from_bytes([25; 32]), Digest::from_bytes([26; 32])],
            admins: vec![signing()],
            cosignatures: vec![cosignature()],
        }),
    ];
    let mut all: Vec<Tx> = with_keys.map(tx).to_vec();
    all.extend(with_keys_of_groups.map(tx));
    all.extend(txs_without_keys());
    all
}

fn txs_without_keys() -> Vec<Tx> {
    let package = |byte| NewKeyPackage {
        expires: Time::from_ms(9),
        bytes: vec![byte; 20],
    };
    let participants = [1, 2, 3].map(|n| NewParticipant {
        account: AccountId::from_bytes([n; 32]),
        kem: None,
        signing: None,
    });
    let changes = vec![
        MemberChange::Add(ACCOUNT, Role::Owner),
        MemberChange::Remove(ACCOUNT),
        MemberChange::SetRole(ACCOUNT, Role::Owner),
        MemberChange::Accept,
        MemberChange::Leave,
    ];
    let kinds = [
        Kind::RevokeIdentity(RevokeIdentity { recovery: None }),
        Kind::CreateSession(CreateSession {
            participants: participants.to_vec(),
        }),
        Kind::AcceptSession(AcceptSession { session: SESSION }),
        Kind::RenewSession(RenewSession { session: SESSION }),
        Kind::CloseSession(CloseSession { session: SESSION }),
        Kind::SendMessage(SendMessage {
            conversation: CONVERSATION,
            ciphertext: vec![12; 40],
        }),
        Kind::SendBatch(SendBatch {
            conversation: Conversation::Channel(CHANNEL),
            ciphertexts: vec![vec![13; 20], vec![14; 3]],
        }),
        Kind::AcknowledgeMessages(AcknowledgeMessages {
            conversation: CONVERSATION,
            up_to: 5,
        }),
        Kind::CreateChannel(CreateChannel {
            members: vec![(ACCOUNT, Role::Owner)],
        }),
        Kind::CloseChannel(CloseChannel { channel: CHANNEL }),
        Kind::ChannelMembers(ChannelMembers {
            channel: CHANNEL,
            changes,
        }),
        Kind::PutChunk(PutChunk {
            bytes: vec![15; 30],
        }),
        Kind::Transfer(Transfer {
            to: ACCOUNT,
            amount: 6,
        }),
        Kind::RegisterLegacy(RegisterLegacy {
            signing: LegacyKey([16; 32]),
            recovery: Some(Digest::from_bytes([17; 32])),
        }),
        Kind::SetMode(SetMode {
            admin: Digest::from_bytes([18; 32]),
            mode: Mode::Open,
        }),
        Kind::Supersede(Supersede {
            admin: Digest::from_bytes([18; 32]),
            successor: GROUP,
            invitation: Some(ChunkId::from_bytes([18; 32])),
        }),
        Kind::GroupPost(GroupPost {
            epoch: 7,
            frames: vec![vec![19; 40], vec![20; 3]],
        }),
        Kind::TopUpGroup(TopUpGroup {
            group: GROUP,
            budget: 8,
            reserve: 9,
        }),
        Kind::PutGroupChunk(PutGroupChunk {
            epoch: 7,
            bytes: vec![21; 30],
        }),
        Kind::PublishKeyPackages(PublishKeyPackages {
            device: DeviceId::from_bytes([22; 32]),
            replace: true,
            one_time: vec![package(23), package(24)],
            last_resort: Some(package(25)),
        }),
        Kind::TakeKeyPackages(TakeKeyPackages { target: ACCOUNT }),
    ];
    kinds.map(tx).to_vec()
}
