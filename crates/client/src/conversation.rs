//! Sending words and files into a session.

use serde_json::Value;
use session_chain::tx::Kind;
use session_chain::tx::message::SendBatch;
use session_core::codec::Encode;
use session_core::hash::sha256;
use session_core::ids::{Digest, SessionId};
use session_core::limits::{BATCH_MESSAGES_MAX, TX_BYTES_MAX};
use session_core::log::Conversation;
use session_crypto::envelope::many::Recipient;
use session_crypto::envelope::{Parties, many};

use crate::account::{Account, now};
use crate::content::{Bound, Content, FILE_CHUNKS_MAX, TEXT_MAX, chunk_bytes, is_file_name};
use crate::error::ClientError;
use crate::history::HistoryLine;
use crate::people::Lookup;

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Sequence number of the first message.
    pub sequence: u64,
    /// Messages.
    pub messages: u64,
}

/// Bytes of ciphertexts in one transaction: the signature and the counts take the rest.
const BATCH_BYTES_MAX: usize = TX_BYTES_MAX - 4_096;

impl Account {
    /// Sends words.
    ///
    /// # Errors
    /// [`ClientError`]; on [`ClientError::Waiting`] the message is in the outbox.
    pub async fn send_text(
        &mut self,
        session: &SessionId,
        text: &str,
    ) -> Result<Sent, ClientError> {
        self.send_texts(session, &[text]).await
    }

    /// Sends several texts under one signature.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_texts(
        &mut self,
        session: &SessionId,
        texts: &[&str],
    ) -> Result<Sent, ClientError> {
        let mut contents = Vec::with_capacity(texts.len());
        for text in texts {
            if text.len() > TEXT_MAX {
                let (len, limit) = (text.len() as u64, TEXT_MAX as u64);
                return Err(ClientError::TooLarge {
                    what: "a text",
                    len,
                    limit,
                });
            }
            contents.push(Content::Text((*text).to_owned()));
        }
        let sent = self.send_contents(session, contents).await;
        let at = match &sent {
            Ok(sequence) => Some(*sequence),
            // It is sent later, and said now.
            Err(ClientError::Waiting { .. }) => None,
            Err(_) => {
                return sent.map(|sequence| Sent {
                    sequence,
                    messages: 0,
                });
            }
        };
        let mut lines = Vec::with_capacity(texts.len());
        for (more, text) in (0..).zip(texts) {
            lines.push(self.own_line(session, at.map(|at| at + more), "text", text));
        }
        self.history.remember(&lines)?;
        Ok(Sent {
            sequence: sent?,
            messages: texts.len() as u64,
        })
    }

    /// Sends a file in pieces; `progress(sent, total)` counts bytes.
    ///
    /// # Errors
    /// [`ClientError`]; what was not accepted stays in the outbox.
    pub async fn send_file(
        &mut self,
        session: &SessionId,
        name: &str,
        bytes: &[u8],
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Sent, ClientError> {
        let total = bytes.len() as u64;
        if !is_file_name(name) {
            return Err(ClientError::FileName(name.to_owned()));
        }
        let chunk_bytes = chunk_bytes(self.participants(session).await?.len());
        let limit = FILE_CHUNKS_MAX * chunk_bytes as u64;
        if total > limit {
            return Err(ClientError::TooLarge {
                what: "a file",
                len: total,
                limit,
            });
        }
        let digest = Digest::from_bytes(sha256(bytes));
        let offer = Content::File {
            name: name.to_owned(),
            len: total,
            digest,
        };
        // What waits in the outbox waits whole: the rest is put behind it.
        let mut waiting = None;
        let mut sequence = None;
        match self.send_contents(session, vec![offer]).await {
            Ok(at) => sequence = Some(at),
            Err(error @ ClientError::Waiting { .. }) => waiting = Some(error),
            Err(error) => return Err(error),
        }
        let mut sent = 0;
        for (index, chunk) in (0u32..).zip(bytes.chunks(chunk_bytes)) {
            let content = Content::Chunk {
                file: digest,
                index,
                bytes: chunk.to_vec(),
            };
            match self.send_contents(session, vec![content]).await {
                Ok(_) => {}
                Err(error @ ClientError::Waiting { .. }) => waiting = Some(error),
                Err(error) => return Err(error),
            }
            sent += chunk.len() as u64;
            progress(sent, total);
        }
        let line = self.own_line(session, sequence, "file", name);
        self.history.remember(&[line])?;
        let messages = 1 + bytes.len().div_ceil(chunk_bytes) as u64;
        match (waiting, sequence) {
            (None, Some(sequence)) => Ok(Sent { sequence, messages }),
            (Some(error), _) => Err(error),
            (None, None) => Err(ClientError::Reply("sequence")),
        }
    }

    fn own_line(
        &self,
        session: &SessionId,
        at: Option<u64>,
        kind: &str,
        text: &str,
    ) -> HistoryLine {
        HistoryLine {
            session: *session,
            sequence: at,
            sender: self.id(),
            time: now().ms().to_string(),
            kind: kind.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Seals contents to everybody in the session and sends them under as few signatures as
    /// transactions have room for. Answers the first sequence number.
    pub(crate) async fn send_contents(
        &mut self,
        session: &SessionId,
        contents: Vec<Content>,
    ) -> Result<u64, ClientError> {
        let mut recipients = Vec::new();
        for account in self.peers_of(session).await? {
            recipients.push((account, self.lookup(account).await?));
        }
        let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut room = 0;
        for content in contents {
            let progress = self.state.sessions.entry(*session).or_default();
            let counter = progress.counter;
            progress.counter += 1;
            let bound = Bound {
                session: *session,
                counter,
                content,
            };
            // Each message has an encapsulation of its own.
            let ciphertext = self.seal(&recipients, &bound.to_bytes())?;
            match batches.last_mut() {
                Some(batch) if ciphertext.len() + 4 <= room && batch.len() < BATCH_MESSAGES_MAX => {
                    room -= ciphertext.len() + 4;
                    batch.push(ciphertext);
                }
                _ => {
                    room = BATCH_BYTES_MAX.saturating_sub(ciphertext.len() + 4);
                    batches.push(vec![ciphertext]);
                }
            }
        }
        let conversation = Conversation::Session(*session);
        let mut txs = Vec::with_capacity(batches.len());
        for ciphertexts in batches {
            txs.push(self.sign(Kind::SendBatch(SendBatch {
                conversation,
                ciphertexts,
            }))?);
        }
        let outcomes = self.submit(txs).await?;
        let first = outcomes.first().and_then(|outcome| outcome.get("sequence"));
        first
            .and_then(Value::as_u64)
            .ok_or(ClientError::Reply("sequence"))
    }

    /// To one person as format v2, to several as v3. The account id of a recipient stays when its
    /// keys rotate.
    fn seal(
        &self,
        recipients: &[(session_core::ids::AccountId, Lookup)],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let sender = self.id();
        if let [(recipient, found)] = recipients {
            let parties = Parties {
                sender,
                recipient: *recipient,
            };
            let sealed = session_crypto::envelope::seal(found.keys.kem(), &parties, plaintext);
            return Ok(sealed?);
        }
        let to: Vec<Recipient<'_>> = recipients
            .iter()
            .map(|(account, found)| Recipient {
                account: *account,
                kem: found.keys.kem(),
            })
            .collect();
        Ok(many::seal(sender, &to, plaintext)?)
    }
}
