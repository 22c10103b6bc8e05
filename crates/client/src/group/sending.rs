//! What a device wants to send, as transactions: creations of the account, posts and advances of the
//! group.

use serde_json::Value;
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::GroupPost;
use session_chain::tx::group::{Cosignature, CreateGroup, as_signer};
use session_chain::tx::{Kind, SigningKey as TxKey, Tx};
use session_core::codec::Encode;
use session_core::group::Mode;
use session_core::ids::{Digest, GroupId};
use session_core::limits::{
    CHUNK_BYTES_MAX, COMMIT_BYTES_MAX, POST_FRAMES_MAX, VALID_AHEAD_MAX_MS,
};
use session_core::time::Time;
use session_crypto::{Signature, SigningPublicKey};
use session_e2ee::limits::ADVANCE_VALID_MS;
use session_e2ee::{Advance, Creation, E2eeError, GroupStatus, Outgoing, OutgoingKind, Refusal};

use super::accounts::{Accounts, Position};
use super::{Groups, NewGroup};
use crate::account::{Account, now};
use crate::error::ClientError;
use crate::outbox::{MESSAGE_KNOWN, code_of, is_waiting, random_u64, status_of};

/// Bytes of frames in one post: with hex in JSON it stays a request of common size.
const POST_BYTES: usize = 200_000;

/// Transactions of one flush: each is followed by a look into the log.
const ROUNDS: usize = 400;

/// Codes of the node's errors for posts below the floor, and of an epoch that is over.
const STALE: [i64; 2] = [-32_019, -32_020];

/// Code of the node's error for an advance of another epoch than the current one.
const WRONG_EPOCH: i64 = -32_022;

/// What became of what waited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Transactions that the chain has accepted.
    pub accepted: usize,
    /// Things that still wait, and why the first of them does.
    pub waiting: usize,
    /// Why the chain does not take them now.
    pub why: Option<String>,
}

/// What the chain said to a transaction of a group.
pub(super) enum Answer {
    Accepted,
    /// It is there already.
    Known,
    /// Never in this epoch.
    Stale,
    /// Not now.
    Waiting(String),
    /// Never.
    Refused(String),
    /// It was not submitted: others would refuse it.
    GivenUp(String),
}

fn answer(result: &Value) -> Answer {
    let code = code_of(result);
    let why = || {
        let why = result.get("error").and_then(Value::as_str);
        why.unwrap_or("refused").to_owned()
    };
    if status_of(result) == "accepted" {
        Answer::Accepted
    } else if code == MESSAGE_KNOWN {
        Answer::Known
    } else if STALE.contains(&code) || code == WRONG_EPOCH {
        Answer::Stale
    } else if is_waiting(result) {
        Answer::Waiting(why())
    } else {
        Answer::Refused(why())
    }
}

pub(super) fn tx_key(key: &SigningPublicKey) -> TxKey {
    TxKey(Box::new(*key.as_bytes()))
}

pub(super) fn cosignature(signature: &Signature) -> Cosignature {
    Cosignature(Box::new(*signature.as_bytes()))
}

impl Groups {
    /// Sends what waits of a group, and follows its log to see it there. What the chain refuses for
    /// its epoch is sealed again, a commit that came second is made anew. Safe at any time.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] for what the chain never takes: a commit is given
    /// up, messages stay.
    pub async fn flush(&mut self, group: GroupId) -> Result<Flushed, ClientError> {
        let mut flushed = Flushed::default();
        // A commit that has to wait keeps no message back.
        let mut commits = true;
        for _ in 0..ROUNDS {
            self.receive(group).await?;
            let next = self.next_of(group, commits)?;
            let Some(first) = next.first() else { break };
            let answer = match &first.kind {
                OutgoingKind::Commit(advance) => self.advance(group, advance).await?,
                OutgoingKind::Frame { .. } => self.post(group, &next).await?,
                OutgoingKind::Create(_) | OutgoingKind::Invitation(_) => break,
            };
            let is_commit = matches!(first.kind, OutgoingKind::Commit(_));
            match answer {
                Answer::Accepted => flushed.accepted += 1,
                // The log shows it, or the commit that came first.
                Answer::Known => {}
                Answer::Stale if is_commit => {}
                Answer::Stale => {
                    for outgoing in &next {
                        self.device.refused(outgoing.number, now().ms())?;
                    }
                }
                Answer::Waiting(why) => {
                    flushed.why.get_or_insert(why);
                    if !is_commit {
                        break;
                    }
                    commits = false;
                }
                Answer::GivenUp(why) => return Err(ClientError::Refused(why)),
                Answer::Refused(why) => {
                    if is_commit {
                        self.device.refused(first.number, now().ms())?;
                    }
                    return Err(ClientError::Refused(why));
                }
            }
        }
        let outbox = self.device.outbox()?;
        let waits = |outgoing: &&Outgoing| {
            outgoing.group == group && !matches!(outgoing.kind, OutgoingKind::Invitation(_))
        };
        flushed.waiting = outbox.iter().filter(waits).count();
        Ok(flushed)
    }

    /// What waits first of a group: a commit, or frames of one epoch that fit one post.
    fn next_of(&self, group: GroupId, commits: bool) -> Result<Vec<Outgoing>, ClientError> {
        if self.device.status(group)? != GroupStatus::Active {
            return Ok(Vec::new());
        }
        let (mut next, mut bytes) = (Vec::new(), 0);
        let mut of: Option<u64> = None;
        for outgoing in self.device.outbox()? {
            if outgoing.group != group {
                continue;
            }
            match &outgoing.kind {
                OutgoingKind::Commit(_) if commits && next.is_empty() => return Ok(vec![outgoing]),
                OutgoingKind::Frame { epoch, frame } => {
                    bytes += frame.len();
                    let fits = next.is_empty() || bytes <= POST_BYTES;
                    if !fits || *of.get_or_insert(*epoch) != *epoch {
                        break;
                    }
                    next.push(outgoing);
                }
                OutgoingKind::Commit(_) | OutgoingKind::Create(_) | OutgoingKind::Invitation(_) => {
                }
            }
            if next.len() >= POST_FRAMES_MAX {
                break;
            }
        }
        Ok(next)
    }

    async fn post(&mut self, group: GroupId, next: &[Outgoing]) -> Result<Answer, ClientError> {
        let (mut of, mut frames) = (0, Vec::with_capacity(next.len()));
        for outgoing in next {
            if let OutgoingKind::Frame { epoch, frame } = &outgoing.kind {
                of = *epoch;
                frames.push(frame.clone());
            }
        }
        let kind = Kind::GroupPost(GroupPost { epoch: of, frames });
        self.submit_as_poster(group, of, kind).await
    }

    /// Submits what a member of an epoch signs.
    pub(super) async fn submit_as_poster(
        &mut self,
        group: GroupId,
        epoch: u64,
        kind: Kind,
    ) -> Result<Answer, ClientError> {
        let mut tx = self.unsigned(group, kind)?;
        let action = tx.signed_digest(&self.account.chain);
        let signature = self.device.sign_as_poster(group, epoch, &action);
        let signature = match signature {
            Ok(signature) => signature,
            // The keys of that epoch are gone.
            Err(E2eeError::UnknownGroup(_)) => return Ok(Answer::Stale),
            Err(error) => return Err(error.into()),
        };
        tx.signature = signature.as_bytes().to_vec();
        self.submit(&tx).await
    }

    async fn advance(&mut self, group: GroupId, advance: &Advance) -> Result<Answer, ClientError> {
        // It may have waited for long: whoever it adds may have other keys, or be gone.
        let mut accounts = Accounts::new();
        let judged = loop {
            let judged = self.device.examine_pending(group, &accounts);
            if !accounts.fetch(&mut self.account, Position::NOW).await? {
                break judged;
            }
        };
        match judged {
            Err(E2eeError::Refused(refusal)) => return self.let_go(group, refusal, accounts).await,
            judged => judged?,
        }
        let record = self.seen_of(group).await?;
        let admin = self.own_admin(group, &record)?;
        if record.mode == Mode::AdminOnly && admin.is_none() {
            return self.ask_countersign(group, advance).await;
        }
        let commit = if advance.commit.len() <= COMMIT_BYTES_MAX {
            Commit::Bytes(advance.commit.clone())
        } else {
            let pieces = advance.commit.chunks(CHUNK_BYTES_MAX).map(<[u8]>::to_vec);
            Commit::Chunks(self.account.put_chunks(pieces.collect()).await?)
        };
        let until = self.advance_until();
        self.device.commit_leaves(group, until.ms())?;
        let answer = self.submit_advance(group, advance, commit, (admin, until));
        answer.await
    }

    /// A commit that others would refuse: it is given up once the chain can take it no more, and made
    /// anew without those who cannot be added.
    async fn let_go(
        &mut self,
        group: GroupId,
        refusal: Refusal,
        mut accounts: Accounts,
    ) -> Result<Answer, ClientError> {
        // It would be in the log that was read until then.
        let time = self.read_to.get(&group).map_or(0, |time| time.ms());
        loop {
            let rehearsed = self.device.rehearse_give_up(group, &accounts, time);
            if !accounts.fetch(&mut self.account, Position::NOW).await? {
                rehearsed?;
                break;
            }
        }
        let (gone, _) = self.device.give_up_pending(group, &accounts, time)?;
        Ok(if gone {
            Answer::GivenUp(refusal.to_string())
        } else {
            Answer::Waiting(format!("{refusal}, and the chain may have taken it before"))
        })
    }

    /// Until when the chain may take an advance whose commit was judged just now: whoever it adds may
    /// have other keys any time.
    pub(super) fn advance_until(&self) -> Time {
        let from = self.account.proved_time.max(now());
        from.after_ms(ADVANCE_VALID_MS)
    }

    /// Submits an advance, to be taken until `until`, with the signature of this device's admin key where
    /// it has one that the chain knows.
    pub(super) async fn submit_advance(
        &mut self,
        group: GroupId,
        advance: &Advance,
        commit: Commit,
        (admin, until): (Option<Digest>, Time),
    ) -> Result<Answer, ClientError> {
        let kind = Kind::AdvanceGroup(AdvanceGroup {
            epoch: advance.from_epoch,
            commit,
            posting: tx_key(&advance.keys.posting),
            control: tx_key(&advance.keys.control),
            removal: advance.removes,
            admin: admin.map(|admin| (admin, Cosignature::blank())),
        });
        let mut tx = self.unsigned(group, kind)?;
        tx.valid_until = until;
        let action = tx.signed_digest(&self.account.chain);
        if let Kind::AdvanceGroup(advance) = &mut tx.kind
            && let Some((_, signature)) = &mut advance.admin
        {
            *signature = cosignature(&self.device.sign_as_admin(group, &action)?);
        }
        let epoch = advance.from_epoch;
        let signature = self.device.sign_as_controller(group, epoch, &action)?;
        tx.signature = signature.as_bytes().to_vec();
        self.submit(&tx).await
    }

    /// A transaction of the group, to be signed.
    pub(super) fn unsigned(&self, group: GroupId, kind: Kind) -> Result<Tx, ClientError> {
        let valid_from = self.account.head_time.max(now());
        Ok(Tx {
            signer: as_signer(&group),
            valid_until: valid_from.after_ms(VALID_AHEAD_MAX_MS / 2),
            salt: random_u64()?,
            kind,
            signature: Vec::new(),
        })
    }

    pub(super) async fn submit(&mut self, tx: &Tx) -> Result<Answer, ClientError> {
        let results = self.account.call_submit(&[&tx.to_bytes()]).await?;
        let result = results.first().ok_or(ClientError::Reply("results"))?;
        Ok(answer(result))
    }

    /// Puts a group that this device made on the chain, unless it is there: for whoever was
    /// interrupted in [`Groups::create`]. `new` and `sponsor` as there.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Waiting`] where the creation waits in the payer's outbox.
    pub async fn put_on_chain(
        &mut self,
        group: GroupId,
        new: &NewGroup,
        sponsor: Option<&mut Account>,
    ) -> Result<(), ClientError> {
        for outgoing in self.device.outbox()? {
            let OutgoingKind::Create(creation) = &outgoing.kind else {
                continue;
            };
            if outgoing.group != group {
                continue;
            }
            // It may be there from before a crash.
            if self.shown(group).await?.is_none() {
                let payer = sponsor.as_deref().unwrap_or(&self.account);
                let tx = self.creation(group, creation, new, payer)?;
                match sponsor {
                    Some(sponsor) => sponsor.submit(vec![tx]).await?,
                    None => self.account.submit(vec![tx]).await?,
                };
            }
            return Ok(self.device.accepted(outgoing.number)?);
        }
        Ok(())
    }

    fn creation(
        &self,
        group: GroupId,
        creation: &Creation,
        new: &NewGroup,
        payer: &Account,
    ) -> Result<Tx, ClientError> {
        let mut tx = payer.sign(Kind::CreateGroup(CreateGroup {
            admins: vec![tx_key(&creation.admin)],
            salt: creation.salt,
            mode: new.mode,
            epoch: creation.epoch,
            posting: tx_key(&creation.keys.posting),
            control: tx_key(&creation.keys.control),
            budget: new.budget,
            reserve: new.reserve,
            admin_signature: Cosignature::blank(),
            control_signature: Cosignature::blank(),
        }))?;
        let action = tx.signed_digest(&self.account.chain);
        if let Kind::CreateGroup(create) = &mut tx.kind {
            let signature = self.device.sign_as_admin(group, &action)?;
            create.admin_signature = cosignature(&signature);
            let epoch = creation.epoch;
            let signature = self.device.sign_as_controller(group, epoch, &action)?;
            create.control_signature = cosignature(&signature);
        }
        Ok(tx)
    }
}
