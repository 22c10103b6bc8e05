//! Sending words and files into a session.

use serde_json::Value;
use session_chain::tx::Kind;
use session_chain::tx::message::SendBatch;
use session_core::codec::Encode;
use session_core::hash::sha256;
use session_core::ids::{AccountId, Digest, SessionId};
use session_core::log::Conversation;
use session_crypto::PublicIdentity;

use crate::account::{Account, ClientError, Sent, now};
use crate::content::{Bound, CHUNK_BYTES, Content, FILE_BYTES_MAX, TEXT_MAX, is_file_name};
use crate::state::HistoryLine;

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
        let sequence = self.send_contents(session, contents).await?;
        let mut lines = Vec::with_capacity(texts.len());
        for (at, text) in (sequence..).zip(texts) {
            lines.push(self.own_line(session, at, "text", text));
        }
        self.dir.remember(&lines)?;
        Ok(Sent {
            sequence,
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
        if total > FILE_BYTES_MAX {
            let limit = FILE_BYTES_MAX;
            return Err(ClientError::TooLarge {
                what: "a file",
                len: total,
                limit,
            });
        }
        if !is_file_name(name) {
            return Err(ClientError::FileName(name.to_owned()));
        }
        let digest = Digest::from_bytes(sha256(bytes));
        let offer = Content::File {
            name: name.to_owned(),
            len: total,
            digest,
        };
        let sequence = self.send_contents(session, vec![offer]).await?;
        let mut sent = 0;
        for (index, chunk) in (0u32..).zip(bytes.chunks(CHUNK_BYTES)) {
            let content = Content::Chunk {
                file: digest,
                index,
                bytes: chunk.to_vec(),
            };
            self.send_contents(session, vec![content]).await?;
            sent += chunk.len() as u64;
            progress(sent, total);
        }
        let line = self.own_line(session, sequence, "file", name);
        self.dir.remember(&[line])?;
        let messages = 1 + bytes.len().div_ceil(CHUNK_BYTES) as u64;
        Ok(Sent { sequence, messages })
    }

    fn own_line(&self, session: &SessionId, at: u64, kind: &str, text: &str) -> HistoryLine {
        HistoryLine {
            session: *session,
            sequence: Some(at),
            sender: self.id(),
            time: now().ms().to_string(),
            kind: kind.to_owned(),
            text: text.to_owned(),
        }
    }

    async fn send_contents(
        &mut self,
        session: &SessionId,
        contents: Vec<Content>,
    ) -> Result<u64, ClientError> {
        let peer = self.peer(session).await?;
        let keys = self.lookup(peer).await?.keys;
        let mut ciphertexts = Vec::with_capacity(contents.len());
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
            ciphertexts.push(self.seal(&keys, peer, &bound.to_bytes())?);
        }
        let conversation = Conversation::Session(*session);
        let kind = Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        });
        let outcome = self.submit_one(kind).await?;
        outcome
            .get("sequence")
            .and_then(Value::as_u64)
            .ok_or(ClientError::Reply("sequence"))
    }

    fn seal(
        &self,
        keys: &PublicIdentity,
        recipient: AccountId,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        // The recipient's account id stays when its keys rotate.
        let parties = session_crypto::envelope::Parties {
            sender: self.id(),
            recipient,
        };
        Ok(session_crypto::envelope::seal(
            keys.kem(),
            &parties,
            plaintext,
        )?)
    }
}
