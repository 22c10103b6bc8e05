//! Where a transcript lies: one file a conversation, each line sealed.
//!
//! ```text
//! chats/<group>.sealed     a line a record (`record.rs`), sealed as `sealed_lines.rs` says
//! ```
//!
//! The key comes from that of the device's store, so what opens the one opens the other. When words
//! go - taken back, or their time over - the file is written anew without them; what a disk keeps
//! of replaced files is out of reach.

use std::path::PathBuf;

use session_core::codec::{Decode as _, Encode as _};
use session_core::ids::GroupId;
use session_crypto::Secret;
use session_e2ee::{Content, MemberDevice, MessageName};
use zeroize::Zeroizing;

use super::{Change, Gone, Record, Transcript};
use crate::error::ClientError;
use crate::sealed_lines::{self, io};
use crate::state::StateDir;

/// The directory of transcripts in an account's directory.
const DIRECTORY: &str = "chats";

/// A transcript and its file.
#[derive(Debug)]
pub(crate) struct TranscriptFile {
    dir: StateDir,
    group: GroupId,
    key: Secret<32>,
    transcript: Transcript,
}

impl TranscriptFile {
    /// Reads the transcript of a group; an empty one where nothing was written down yet.
    pub(crate) fn open(
        dir: StateDir,
        group: GroupId,
        key: Secret<32>,
        me: MemberDevice,
    ) -> Result<Self, ClientError> {
        let directory = dir.path().join(DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(io(&directory))?;
        let mut this = Self {
            dir,
            group,
            key,
            transcript: Transcript::new(me),
        };
        let records = this.records()?;
        for record in &records {
            this.transcript.apply(record);
        }
        // A crash came between the word that they go and their going.
        let gone: Vec<(MessageName, Gone)> = (this.transcript.said.values())
            .filter_map(|said| Some((said.name, said.gone?)))
            .collect();
        let has_words = |record: &Record| {
            let name = record.words_of();
            name.is_some_and(|name| gone.iter().any(|(gone, _)| *gone == name))
                && record.body().is_some_and(|body| !is_empty(&body.content))
        };
        if records.iter().any(has_words) {
            this.write_without(&gone)?;
        }
        Ok(this)
    }

    pub(crate) const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Writes records down, synced, and answers what each changed.
    pub(crate) fn write_down(&mut self, records: &[Record]) -> Result<Vec<Change>, ClientError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut lines = Vec::new();
        for record in records {
            self.seal(record, &mut lines)?;
        }
        sealed_lines::append(&self.path(), &lines)?;
        let mut changes = Vec::with_capacity(records.len());
        let mut gone = Vec::new();
        for record in records {
            let change = self.transcript.apply(record);
            if let Change::Changed(name) = &change
                && let Some(why) = self.transcript.said(name).and_then(|said| said.gone)
            {
                gone.push((*name, why));
            }
            changes.push(change);
        }
        if !gone.is_empty() {
            self.write_without(&gone)?;
        }
        Ok(changes)
    }

    /// Takes words away whose time is over. Answers whose.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Result<Vec<MessageName>, ClientError> {
        let over = self.transcript.over(now_ms);
        if over.is_empty() {
            return Ok(over);
        }
        let why = Gone::Disappeared;
        let gone: Vec<(MessageName, Gone)> = over.iter().map(|name| (*name, why)).collect();
        self.write_without(&gone)?;
        for message in &over {
            let message = *message;
            self.transcript.apply(&Record::Gone { message, why });
        }
        Ok(over)
    }

    /// Writes the file anew: these messages keep their place, and no words, whatever was said of
    /// them.
    fn write_without(&self, gone: &[(MessageName, Gone)]) -> Result<(), ClientError> {
        let mut lines = Vec::new();
        let is_gone = |name: &MessageName| gone.iter().any(|(other, _)| other == name);
        for mut record in self.records()? {
            let name = record.words_of();
            if let Some(body) = record.body_mut() {
                empty(&mut body.content, name, &is_gone);
            }
            self.seal(&record, &mut lines)?;
        }
        for (message, why) in gone {
            let (message, why) = (*message, *why);
            self.seal(&Record::Gone { message, why }, &mut lines)?;
        }
        let name = format!("{DIRECTORY}/{}", self.name());
        self.dir.write_file(&name, &lines)?;
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, ClientError> {
        let text = sealed_lines::read(&self.path())?;
        let opened = text.lines().filter_map(|line| {
            let plain = sealed_lines::open(&self.key, self.group.as_bytes(), line)?;
            Record::from_bytes(&plain).ok()
        });
        Ok(opened.collect())
    }

    fn seal(&self, record: &Record, lines: &mut Vec<u8>) -> Result<(), ClientError> {
        let plain = Zeroizing::new(record.to_bytes());
        sealed_lines::seal(&self.key, self.group.as_bytes(), &plain, lines)?;
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}.sealed", const_hex::encode(self.group.as_bytes()))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(DIRECTORY).join(self.name())
    }
}

/// Takes the words out of what says, or changes, a message that is gone.
fn empty(
    content: &mut Content,
    name: Option<MessageName>,
    is_gone: &impl Fn(&MessageName) -> bool,
) {
    match content {
        Content::Edit { of, text } if is_gone(of) => text.clear(),
        Content::Text(_)
        | Content::Reply { .. }
        | Content::Attachment { .. }
        | Content::Unknown { .. }
            if name.as_ref().is_some_and(is_gone) =>
        {
            *content = Content::Text(String::new());
        }
        Content::Text(_)
        | Content::Reply { .. }
        | Content::Attachment { .. }
        | Content::Unknown { .. }
        | Content::Edit { .. }
        | Content::Reaction { .. }
        | Content::Delete { .. }
        | Content::Delivered(_)
        | Content::Read(_)
        | Content::Timer { .. }
        | Content::GroupInfo { .. }
        | Content::Typing
        | Content::Leave { .. }
        | Content::ReservedKeyPackage(_)
        | Content::AdminKey(_)
        | Content::AdminWork(_)
        | Content::SignedBatch(_) => {}
    }
}

/// Whether the words were taken out.
fn is_empty(content: &Content) -> bool {
    *content == Content::Text(String::new())
}
