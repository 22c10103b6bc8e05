//! Transactions: what people sign, and nothing else changes the state (`spec/vm.md` §4).
//!
//! ```text
//! body   = u8 version 1 | u8 kind | 32 signer | u64 valid_until ms | u64 salt | fields
//! tx     = body | u32 n | signature n
//! action = H(action, chain | body)                what is signed, and what a retry is recognised by
//! tx id  = H(tx, action | SHA-256(signature))       and of each cosignature (`group`)
//! ```
//!
//! Single messages have neither `valid_until` nor salt, and their message id takes the place of
//! the action. A batch is signed over the list of its message ids, so that no ciphertext is
//! hashed twice.

pub mod channel;
pub mod chunk;
pub mod group;
pub mod identity;
pub mod key_package;
pub mod legacy;
pub mod message;
pub mod session;
pub mod transfer;

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::{Tag, sha256};
use session_core::header::SIGNATURE_LEN;
use session_core::ids::{AccountId, ActionId, ChainId, Digest, MessageId, TxId};
use session_core::limits::TX_BYTES_MAX;
use session_core::log::{Conversation, message_id};
use session_core::merkle::Hash;
use session_core::time::Time;

/// Version of the transaction encoding.
const TX_VERSION: u8 = 1;

/// Bytes of an encoded ML-KEM-768 public key (FIPS 203 table 3).
pub const KEM_KEY_LEN: usize = 1_184;

/// Bytes of an encoded ML-DSA-65 public key (FIPS 204 table 2).
pub const SIGNING_KEY_LEN: usize = 1_952;

/// The signer of a transaction that nobody signed.
pub const NOBODY: AccountId = AccountId::from_bytes([0; 32]);

/// An encoded ML-KEM-768 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct KemKey(pub Box<[u8; KEM_KEY_LEN]>);

/// An encoded ML-DSA-65 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(pub Box<[u8; SIGNING_KEY_LEN]>);

macro_rules! key_type {
    ($name:ident, $len:ident, $what:literal) => {
        impl $name {
            /// `H(public-key, key)`, as records keep it.
            pub fn digest(&self) -> Digest {
                Digest::from_bytes(Tag::PublicKey.hash(&[self.0.as_slice()]))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.digest())
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.raw(self.0.as_slice());
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(Box::new(input.array::<$len>($what)?)))
            }
        }
    };
}

key_type!(KemKey, KEM_KEY_LEN, "ML-KEM-768 public key");
key_type!(SigningKey, SIGNING_KEY_LEN, "ML-DSA-65 public key");

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Registers the keys of an account.
    RegisterIdentity(identity::RegisterIdentity),
    /// Replaces the keys of an account.
    RotateKeys(identity::RotateKeys),
    /// Ends an account for good.
    RevokeIdentity(identity::RevokeIdentity),
    /// Opens a session.
    CreateSession(session::CreateSession),
    /// Accepts a session as a participant.
    AcceptSession(session::AcceptSession),
    /// Begins a session's time to live anew.
    RenewSession(session::RenewSession),
    /// Closes a session.
    CloseSession(session::CloseSession),
    /// One message, in the published form.
    SendMessage(message::SendMessage),
    /// Messages of one sender under one signature.
    SendBatch(message::SendBatch),
    /// Confirms delivery.
    AcknowledgeMessages(message::AcknowledgeMessages),
    /// Opens a channel.
    CreateChannel(channel::CreateChannel),
    /// Closes a channel.
    CloseChannel(channel::CloseChannel),
    /// Changes a channel's roster.
    ChannelMembers(channel::ChannelMembers),
    /// Stores a content-addressed chunk.
    PutChunk(chunk::PutChunk),
    /// Moves tokens.
    Transfer(transfer::Transfer),
    /// Registers an `05` account, where the genesis allows such.
    RegisterLegacy(legacy::RegisterLegacy),
    /// Opens a group.
    CreateGroup(group::CreateGroup),
    /// Ends an epoch of a group.
    AdvanceGroup(group::advance::AdvanceGroup),
    /// Sets who may advance a group.
    SetMode(group::admin::SetMode),
    /// Replaces the admin keys of a group.
    SetAdmins(group::admin::SetAdmins),
    /// Closes a group and names its successor.
    Supersede(group::admin::Supersede),
    /// Frames of a group under one signature of its posting key.
    GroupPost(group::post::GroupPost),
    /// Pays for what a group may still do.
    TopUpGroup(group::TopUpGroup),
    /// Stores a chunk at a group's cost.
    PutGroupChunk(group::post::PutGroupChunk),
    /// Adds key packages of a device.
    PublishKeyPackages(key_package::PublishKeyPackages),
    /// Takes a key package of each device of an account.
    TakeKeyPackages(key_package::TakeKeyPackages),
}

/// A transaction.
#[derive(Clone, PartialEq, Eq)]
pub struct Tx {
    /// Who signs; [`NOBODY`] where nobody does. A group where one of its keys signs.
    pub signer: AccountId,
    /// Last moment of block time at which it may be included. Zero for single messages.
    pub valid_until: Time,
    /// Makes two otherwise equal transactions different. Zero for single messages.
    pub salt: u64,
    /// What it does.
    pub kind: Kind,
    /// ML-DSA-65 signature over [`Tx::signed_digest`] (64 bytes of Ed25519 for a legacy account),
    /// or empty.
    pub signature: Vec<u8>,
}

impl core::fmt::Debug for Tx {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tx")
            .field("signer", &self.signer)
            .field("valid_until", &self.valid_until)
            .field("salt", &self.salt)
            .field("kind", &self.kind)
            .field("signature_bytes", &self.signature.len())
            .finish()
    }
}

/// Ids of a transaction, computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxIds {
    /// What the signature covers; a message id for single messages.
    pub action: ActionId,
    /// Commits to every byte.
    pub tx: TxId,
    /// SHA-256 of the signature.
    pub signature: Digest,
    /// SHA-256 of each cosignature.
    pub cosignatures: Vec<Digest>,
    /// Ids of the messages or frames it carries, with the SHA-256 of each.
    pub messages: Vec<(MessageId, Digest)>,
}

impl Kind {
    const fn number(&self) -> u8 {
        match self {
            Self::RegisterIdentity(_) => 1,
            Self::RotateKeys(_) => 2,
            Self::RevokeIdentity(_) => 3,
            Self::CreateSession(_) => 4,
            Self::AcceptSession(_) => 5,
            Self::RenewSession(_) => 6,
            Self::CloseSession(_) => 7,
            Self::SendMessage(_) => 8,
            Self::SendBatch(_) => 9,
            Self::AcknowledgeMessages(_) => 10,
            Self::CreateChannel(_) => 11,
            Self::CloseChannel(_) => 12,
            Self::ChannelMembers(_) => 13,
            Self::PutChunk(_) => 14,
            Self::Transfer(_) => 15,
            Self::RegisterLegacy(_) => 16,
            Self::CreateGroup(_) => 17,
            Self::AdvanceGroup(_) => 18,
            Self::SetMode(_) => 19,
            Self::SetAdmins(_) => 20,
            Self::Supersede(_) => 21,
            Self::GroupPost(_) => 22,
            Self::TopUpGroup(_) => 23,
            Self::PutGroupChunk(_) => 24,
            Self::PublishKeyPackages(_) => 25,
            Self::TakeKeyPackages(_) => 26,
        }
    }

    /// The name used in RPC and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RegisterIdentity(_) => "RegisterIdentity",
            Self::RotateKeys(_) => "RotateKeys",
            Self::RevokeIdentity(_) => "RevokeIdentity",
            Self::CreateSession(_) => "CreateSession",
            Self::AcceptSession(_) => "AcceptSession",
            Self::RenewSession(_) => "RenewSession",
            Self::CloseSession(_) => "CloseSession",
            Self::SendMessage(_) => "SendMessage",
            Self::SendBatch(_) => "SendBatch",
            Self::AcknowledgeMessages(_) => "AcknowledgeMessages",
            Self::CreateChannel(_) => "CreateChannel",
            Self::CloseChannel(_) => "CloseChannel",
            Self::ChannelMembers(_) => "ChannelMembers",
            Self::PutChunk(_) => "PutChunk",
            Self::Transfer(_) => "Transfer",
            Self::RegisterLegacy(_) => "RegisterLegacy",
            Self::CreateGroup(_) => "CreateGroup",
            Self::AdvanceGroup(_) => "AdvanceGroup",
            Self::SetMode(_) => "SetMode",
            Self::SetAdmins(_) => "SetAdmins",
            Self::Supersede(_) => "Supersede",
            Self::GroupPost(_) => "GroupPost",
            Self::TopUpGroup(_) => "TopUpGroup",
            Self::PutGroupChunk(_) => "PutGroupChunk",
            Self::PublishKeyPackages(_) => "PublishKeyPackages",
            Self::TakeKeyPackages(_) => "TakeKeyPackages",
        }
    }

    fn encode_fields(&self, out: &mut Writer) {
        match self {
            Self::RegisterIdentity(k) => k.encode(out),
            Self::RotateKeys(k) => k.encode(out),
            Self::RevokeIdentity(k) => k.encode(out),
            Self::CreateSession(k) => k.encode(out),
            Self::AcceptSession(k) => k.encode(out),
            Self::RenewSession(k) => k.encode(out),
            Self::CloseSession(k) => k.encode(out),
            Self::SendMessage(k) => k.encode(out),
            Self::SendBatch(k) => k.encode(out),
            Self::AcknowledgeMessages(k) => k.encode(out),
            Self::CreateChannel(k) => k.encode(out),
            Self::CloseChannel(k) => k.encode(out),
            Self::ChannelMembers(k) => k.encode(out),
            Self::PutChunk(k) => k.encode(out),
            Self::Transfer(k) => k.encode(out),
            Self::RegisterLegacy(k) => k.encode(out),
            Self::CreateGroup(k) => k.encode(out),
            Self::AdvanceGroup(k) => k.encode(out),
            Self::SetMode(k) => k.encode(out),
            Self::SetAdmins(k) => k.encode(out),
            Self::Supersede(k) => k.encode(out),
            Self::GroupPost(k) => k.encode(out),
            Self::TopUpGroup(k) => k.encode(out),
            Self::PutGroupChunk(k) => k.encode(out),
            Self::PublishKeyPackages(k) => k.encode(out),
            Self::TakeKeyPackages(k) => k.encode(out),
        }
    }

    /// Its fields without the cosignatures: what the action covers.
    fn encode_statement(&self, out: &mut Writer) {
        if let Self::CreateGroup(k) = self {
            k.statement(out);
        } else if let Self::AdvanceGroup(k) = self {
            k.statement(out);
        } else if let Self::SetAdmins(k) = self {
            k.statement(out);
        } else {
            self.encode_fields(out);
        }
    }

    /// Signatures over the action beside the transaction's own, in their order.
    pub fn cosignatures(&self) -> Vec<&group::Cosignature> {
        if let Self::CreateGroup(k) = self {
            vec![&k.admin_signature, &k.control_signature]
        } else if let Self::AdvanceGroup(k) = self {
            k.admin.iter().map(|(_, signature)| signature).collect()
        } else if let Self::SetAdmins(k) = self {
            k.cosignatures.iter().collect()
        } else {
            Vec::new()
        }
    }

    /// Whether an admin of a group signs it.
    pub const fn is_admin_signed(&self) -> bool {
        if let Self::AdvanceGroup(k) = self {
            k.admin.is_some()
        } else {
            matches!(
                self,
                Self::SetMode(_) | Self::SetAdmins(_) | Self::Supersede(_)
            )
        }
    }

    /// Whether a group's id stands in the place of the signer, and one of its keys signs.
    pub const fn is_group_signed(&self) -> bool {
        matches!(
            self,
            Self::AdvanceGroup(_)
                | Self::SetMode(_)
                | Self::SetAdmins(_)
                | Self::Supersede(_)
                | Self::GroupPost(_)
                | Self::PutGroupChunk(_)
        )
    }

    fn decode_fields(number: u8, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::RegisterIdentity(Decode::decode(input)?),
            2 => Self::RotateKeys(Decode::decode(input)?),
            3 => Self::RevokeIdentity(Decode::decode(input)?),
            4 => Self::CreateSession(Decode::decode(input)?),
            5 => Self::AcceptSession(Decode::decode(input)?),
            6 => Self::RenewSession(Decode::decode(input)?),
            7 => Self::CloseSession(Decode::decode(input)?),
            8 => Self::SendMessage(Decode::decode(input)?),
            9 => Self::SendBatch(Decode::decode(input)?),
            10 => Self::AcknowledgeMessages(Decode::decode(input)?),
            11 => Self::CreateChannel(Decode::decode(input)?),
            12 => Self::CloseChannel(Decode::decode(input)?),
            13 => Self::ChannelMembers(Decode::decode(input)?),
            14 => Self::PutChunk(Decode::decode(input)?),
            15 => Self::Transfer(Decode::decode(input)?),
            16 => Self::RegisterLegacy(Decode::decode(input)?),
            17 => Self::CreateGroup(Decode::decode(input)?),
            18 => Self::AdvanceGroup(Decode::decode(input)?),
            19 => Self::SetMode(Decode::decode(input)?),
            20 => Self::SetAdmins(Decode::decode(input)?),
            21 => Self::Supersede(Decode::decode(input)?),
            22 => Self::GroupPost(Decode::decode(input)?),
            23 => Self::TopUpGroup(Decode::decode(input)?),
            24 => Self::PutGroupChunk(Decode::decode(input)?),
            25 => Self::PublishKeyPackages(Decode::decode(input)?),
            26 => Self::TakeKeyPackages(Decode::decode(input)?),
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "tx kind",
                    value: value.into(),
                });
            }
        })
    }

    /// Whether it is a single message, which has no `valid_until` and no salt.
    pub const fn is_single_message(&self) -> bool {
        matches!(self, Self::SendMessage(_))
    }
}

impl Tx {
    /// Header of the body: version, kind, signer and, except for single messages, `valid_until`
    /// and salt.
    fn encode_head(&self, out: &mut Writer) {
        out.u8(TX_VERSION)
            .u8(self.kind.number())
            .value(&self.signer);
        if !self.kind.is_single_message() {
            out.value(&self.valid_until).u64(self.salt);
        }
    }

    /// Computes every id. Hashes each ciphertext once.
    pub fn ids(&self, chain: &ChainId) -> TxIds {
        let id_of = |conversation: &Conversation, ciphertext: &[u8]| {
            let body = Digest::from_bytes(sha256(ciphertext));
            (message_id(chain, conversation, &self.signer, &body), body)
        };
        let (messages, action) = match &self.kind {
            Kind::SendMessage(m) => {
                let message = id_of(&m.conversation, &m.ciphertext);
                (vec![message], ActionId::from_bytes(message.0.to_bytes()))
            }
            Kind::SendBatch(m) => {
                let ids: Vec<_> = m
                    .ciphertexts
                    .iter()
                    .map(|c| id_of(&m.conversation, c))
                    .collect();
                let list: Vec<MessageId> = ids.iter().map(|(id, _)| *id).collect();
                let action = batch_action(chain, &self.signer, self.valid_until, self.salt, &list);
                (ids, action)
            }
            Kind::GroupPost(post) => {
                let group = group::group_of(&self.signer);
                let ids = post.frame_ids(chain, &group);
                let list: Vec<MessageId> = ids.iter().map(|(id, _)| *id).collect();
                let head = (self.valid_until, self.salt);
                let action = group::post::post_action(chain, &group, head, post.epoch, &list);
                (ids, action)
            }
            Kind::RegisterIdentity(_)
            | Kind::RotateKeys(_)
            | Kind::RevokeIdentity(_)
            | Kind::CreateSession(_)
            | Kind::AcceptSession(_)
            | Kind::RenewSession(_)
            | Kind::CloseSession(_)
            | Kind::AcknowledgeMessages(_)
            | Kind::CreateChannel(_)
            | Kind::CloseChannel(_)
            | Kind::ChannelMembers(_)
            | Kind::PutChunk(_)
            | Kind::Transfer(_)
            | Kind::RegisterLegacy(_)
            | Kind::CreateGroup(_)
            | Kind::AdvanceGroup(_)
            | Kind::SetMode(_)
            | Kind::SetAdmins(_)
            | Kind::Supersede(_)
            | Kind::TopUpGroup(_)
            | Kind::PutGroupChunk(_)
            | Kind::PublishKeyPackages(_)
            | Kind::TakeKeyPackages(_) => {
                let mut body = Writer::new();
                self.encode_head(&mut body);
                self.kind.encode_statement(&mut body);
                let hash = Tag::Action.hash(&[chain.as_bytes(), &body.into_bytes()]);
                (Vec::new(), ActionId::from_bytes(hash))
            }
        };
        let signature = Digest::from_bytes(sha256(&self.signature));
        let hashed = self.kind.cosignatures().into_iter();
        let hashed = hashed.map(|cosignature| Digest::from_bytes(sha256(cosignature.0.as_slice())));
        let cosignatures: Vec<Digest> = hashed.collect();
        let mut parts = vec![action.as_bytes().as_slice(), signature.as_bytes()];
        parts.extend(cosignatures.iter().map(|hash| hash.as_bytes().as_slice()));
        let tx = TxId::from_bytes(Tag::Tx.hash(&parts));
        TxIds {
            action,
            tx,
            signature,
            cosignatures,
            messages,
        }
    }

    /// What the signer signs: 32 bytes.
    pub fn signed_digest(&self, chain: &ChainId) -> Hash {
        self.ids(chain).action.to_bytes()
    }

    /// Bytes of its encoding.
    pub fn encoded_len(&self) -> usize {
        let Kind::SendMessage(m) = &self.kind else {
            return self.to_bytes().len();
        };
        // Without writing down what is most of it.
        let head = 2 + 32 + session_core::log::LogId::LEN;
        head + 4 + m.ciphertext.len() + 4 + self.signature.len()
    }

    /// Whether its signature has the length of Ed25519's: an `05` account's, or nobody's.
    pub const fn is_legacy_signed(&self) -> bool {
        self.signature.len() == legacy::LEGACY_SIGNATURE_LEN
    }

    /// The group whose key signs it, if one does.
    pub fn group(&self) -> Option<session_core::ids::GroupId> {
        let signed = self.kind.is_group_signed();
        signed.then(|| group::group_of(&self.signer))
    }

    /// Whether anybody signed it.
    pub const fn is_signed(&self) -> bool {
        !self.signature.is_empty()
    }
}

/// What a batch signature covers: the head and the list of message ids.
pub fn batch_action(
    chain: &ChainId,
    signer: &AccountId,
    valid_until: Time,
    salt: u64,
    messages: &[MessageId],
) -> ActionId {
    let mut body = Writer::with_capacity(54 + 32 * messages.len());
    body.u8(TX_VERSION)
        .value(signer)
        .value(&valid_until)
        .u64(salt)
        .list(messages);
    ActionId::from_bytes(Tag::MessageBatch.hash(&[chain.as_bytes(), &body.into_bytes()]))
}

impl Encode for Tx {
    fn encode(&self, out: &mut Writer) {
        self.encode_head(out);
        self.kind.encode_fields(out);
        out.bytes(&self.signature);
    }
}

impl Decode for Tx {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let before = input.remaining();
        let version = input.u8("tx version")?;
        if version != TX_VERSION {
            let what = "tx version";
            return Err(DecodeError::UnknownValue {
                what,
                value: version.into(),
            });
        }
        let number = input.u8("tx kind")?;
        let signer = AccountId::decode(input)?;
        let single = number == 8;
        let valid_until = if single {
            Time::default()
        } else {
            Time::decode(input)?
        };
        let salt = if single { 0 } else { input.u64("salt")? };
        let kind = Kind::decode_fields(number, input)?;
        let signature = input.bytes("signature", SIGNATURE_LEN)?.to_vec();
        let len = before - input.remaining();
        if len > TX_BYTES_MAX {
            let (claimed, limit) = (len as u64, TX_BYTES_MAX as u64);
            return Err(DecodeError::TooLong {
                what: "transaction",
                claimed,
                limit,
            });
        }
        if !matches!(
            signature.len(),
            0 | legacy::LEGACY_SIGNATURE_LEN | SIGNATURE_LEN
        ) {
            return Err(DecodeError::Invalid {
                what: "signature length",
            });
        }
        Ok(Self {
            signer,
            valid_until,
            salt,
            kind,
            signature,
        })
    }
}

#[cfg(test)]
mod tests;
