//! Blocks as they are stored: messages, frames and advances lie in their logs, and are found there.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::header::Header;
use session_core::ids::GroupId;
use session_core::limits::BLOCK_TXS_MAX;
use session_core::log::{Conversation, Entry, LogId};
use session_core::time::Time;

use super::{Block, Built};
use crate::tx::group::post::GroupPost;
use crate::tx::group::{as_signer, group_of};
use crate::tx::message::{Auth, BatchAuth, Body, SendBatch, SendMessage};
use crate::tx::{Kind, Tx};
use crate::view::{Table, View, ViewError, batch_key, entry_key};

/// A block as it is stored: messages are named by their place, so that no body is stored twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Header.
    pub header: Header,
    /// What stands for each transaction.
    pub items: Vec<StoredTx>,
}

/// A stored transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredTx {
    /// Whole.
    Whole(Tx),
    /// A single message, by its place.
    Message(Conversation, u64),
    /// A batch, by the places of its messages.
    Batch(Conversation, u64, u32),
    /// Frames of a group, by their places.
    Post(GroupId, u64, u32),
    /// An advance of a group, by its place.
    Advance(GroupId, u64),
}

impl StoredBlock {
    /// The stored form of an applied block.
    pub fn of(built: &Built) -> Self {
        let items = built
            .block
            .txs
            .iter()
            .zip(&built.applied)
            .map(|(tx, applied)| match (&tx.kind, applied.outcome) {
                (Kind::SendMessage(m), session_core::record::Outcome::Sequence(at)) => {
                    StoredTx::Message(m.conversation, at)
                }
                (Kind::SendBatch(m), session_core::record::Outcome::Sequence(at)) => {
                    let n = u32::try_from(m.ciphertexts.len()).unwrap_or(u32::MAX);
                    StoredTx::Batch(m.conversation, at, n)
                }
                (Kind::GroupPost(m), session_core::record::Outcome::Sequence(at)) => {
                    let n = u32::try_from(m.frames.len()).unwrap_or(u32::MAX);
                    StoredTx::Post(group_of(&tx.signer), at, n)
                }
                (Kind::AdvanceGroup(_), session_core::record::Outcome::Sequence(at)) => {
                    StoredTx::Advance(group_of(&tx.signer), at)
                }
                _ => StoredTx::Whole(tx.clone()),
            });
        Self {
            header: built.block.header,
            items: items.collect(),
        }
    }

    /// The block with its bodies, or none when some were pruned.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn restore(&self, view: &dyn View) -> Result<Option<Block>, ViewError> {
        let mut txs = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let tx = match item {
                StoredTx::Whole(tx) => Some(tx.clone()),
                StoredTx::Message(conversation, at) => restore_message(view, *conversation, *at)?,
                StoredTx::Batch(conversation, at, n) => {
                    restore_batch(view, *conversation, *at, *n)?
                }
                StoredTx::Post(group, at, n) => restore_post(view, *group, *at, *n)?,
                StoredTx::Advance(group, at) => restore_advance(view, *group, *at)?,
            };
            let Some(tx) = tx else { return Ok(None) };
            txs.push(tx);
        }
        Ok(Some(Block {
            header: self.header,
            txs,
        }))
    }

    /// Places of every message body of the block, for pruning.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        let mut cells = Vec::new();
        for item in &self.items {
            match item {
                StoredTx::Whole(_) => {}
                StoredTx::Message(conversation, at) => {
                    cells.push(entry_key(&conversation.log(), *at));
                }
                StoredTx::Batch(conversation, at, n) => {
                    let log = conversation.log();
                    cells.extend((0..u64::from(*n)).map(|i| entry_key(&log, at + i)));
                    cells.push(batch_key(&log, *at));
                }
                StoredTx::Post(group, at, n) => {
                    let log = LogId::Group(*group);
                    cells.extend((0..u64::from(*n)).map(|i| entry_key(&log, at + i)));
                    cells.push(batch_key(&log, *at));
                }
                StoredTx::Advance(group, at) => cells.push(entry_key(&LogId::Group(*group), *at)),
            }
        }
        cells
    }
}

fn read_body(view: &dyn View, log: &LogId, at: u64) -> Result<Option<(Entry, Body)>, ViewError> {
    let key = entry_key(log, at);
    let (Some(entry), Some(body)) = (view.get(Table::Entry, &key)?, view.get(Table::Body, &key)?)
    else {
        return Ok(None);
    };
    Ok(Some((Entry::from_bytes(&entry)?, Body::from_bytes(&body)?)))
}

fn restore_message(
    view: &dyn View,
    conversation: Conversation,
    at: u64,
) -> Result<Option<Tx>, ViewError> {
    Ok(match read_body(view, &conversation.log(), at)? {
        Some((
            Entry::Message(entry),
            Body {
                ciphertext,
                auth: Auth::Own(signature),
            },
        )) => Some(Tx {
            signer: entry.sender,
            valid_until: Time::default(),
            salt: 0,
            kind: Kind::SendMessage(SendMessage {
                conversation,
                ciphertext,
            }),
            signature,
        }),
        Some(_) | None => None,
    })
}

fn restore_batch(
    view: &dyn View,
    conversation: Conversation,
    first: u64,
    n: u32,
) -> Result<Option<Tx>, ViewError> {
    let log = conversation.log();
    let Some(auth) = view.get(Table::Body, &batch_key(&log, first))? else {
        return Ok(None);
    };
    let auth = BatchAuth::from_bytes(&auth)?;
    let mut ciphertexts = Vec::new();
    let mut signer = None;
    for at in first..first.saturating_add(n.into()) {
        match read_body(view, &log, at)? {
            Some((Entry::Message(entry), body)) => {
                signer = Some(entry.sender);
                ciphertexts.push(body.ciphertext);
            }
            Some(_) | None => return Ok(None),
        }
    }
    let kind = Kind::SendBatch(SendBatch {
        conversation,
        ciphertexts,
    });
    let BatchAuth {
        valid_until,
        salt,
        signature,
        ..
    } = auth;
    Ok(signer.map(|signer| Tx {
        signer,
        valid_until,
        salt,
        kind,
        signature,
    }))
}

fn restore_post(
    view: &dyn View,
    group: GroupId,
    first: u64,
    n: u32,
) -> Result<Option<Tx>, ViewError> {
    let log = LogId::Group(group);
    let Some(auth) = view.get(Table::Body, &batch_key(&log, first))? else {
        return Ok(None);
    };
    let auth = BatchAuth::from_bytes(&auth)?;
    let mut frames = Vec::new();
    let mut epoch = None;
    for at in first..first.saturating_add(n.into()) {
        match read_body(view, &log, at)? {
            Some((Entry::Post(entry), body)) => {
                epoch = Some(entry.epoch);
                frames.push(body.ciphertext);
            }
            Some(_) | None => return Ok(None),
        }
    }
    Ok(epoch.map(|epoch| Tx {
        signer: as_signer(&group),
        valid_until: auth.valid_until,
        salt: auth.salt,
        kind: Kind::GroupPost(GroupPost { epoch, frames }),
        signature: auth.signature,
    }))
}

fn restore_advance(view: &dyn View, group: GroupId, at: u64) -> Result<Option<Tx>, ViewError> {
    let body = view.get(Table::Body, &entry_key(&LogId::Group(group), at))?;
    Ok(body.map(|body| Tx::from_bytes(&body)).transpose()?)
}

impl Encode for StoredBlock {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.header).list(&self.items);
    }
}

impl Decode for StoredBlock {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = Header::decode(input)?;
        Ok(Self {
            header,
            items: input.list("stored transactions", BLOCK_TXS_MAX, 1)?,
        })
    }
}

impl Encode for StoredTx {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Whole(tx) => out.u8(0).value(tx),
            Self::Message(conversation, at) => out.u8(1).value(conversation).u64(*at),
            Self::Batch(conversation, at, n) => out.u8(2).value(conversation).u64(*at).u32(*n),
            Self::Post(group, at, n) => out.u8(3).value(group).u64(*at).u32(*n),
            Self::Advance(group, at) => out.u8(4).value(group).u64(*at),
        };
    }
}

impl Decode for StoredTx {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("stored tx")? {
            0 => Self::Whole(Tx::decode(input)?),
            1 => Self::Message(Conversation::decode(input)?, input.u64("sequence")?),
            2 => Self::Batch(
                Conversation::decode(input)?,
                input.u64("sequence")?,
                input.u32("messages")?,
            ),
            3 => Self::Post(
                GroupId::decode(input)?,
                input.u64("sequence")?,
                input.u32("frames")?,
            ),
            4 => Self::Advance(GroupId::decode(input)?, input.u64("sequence")?),
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "stored tx",
                    value: value.into(),
                });
            }
        })
    }
}
