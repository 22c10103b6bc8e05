//! The group record: a conversation without a roster (`spec/e2ee.md` §1 C).
//!
//! The chain knows a group by keys that its members derive: whoever signs with the *posting* key of
//! an epoch is a member, and which one stays hidden. An epoch ends when an advance signed by its
//! *control* key is accepted. *Admin* keys belong to the group alone, not to accounts.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{AccountId, ChainId, ChunkId, Digest, GroupId, MessageId};
use crate::limits::{
    CHUNK_BYTES_MAX, GROUP_ADMINS_MAX, GROUP_IDLE_MS, PAST_EPOCHS_MAX, POST_EPOCHS_BACK,
    POST_GRACE_MS,
};
use crate::merkle::Frontier;
use crate::record::Chunk;
use crate::time::{DAY_MS, Time};

/// Who may advance a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every member.
    Open,
    /// Every member whose advance an admin has signed as well.
    AdminOnly,
}

impl Mode {
    /// The word used in RPC.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AdminOnly => "admin-only",
        }
    }
}

/// An epoch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastEpoch {
    /// Its number.
    pub epoch: u64,
    /// `H(public-key, posting key)` of it.
    pub posting: Digest,
    /// Block time of the advance that ended it.
    pub ended: Time,
}

/// The group in which a closed one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// Its id.
    pub successor: GroupId,
    /// Block time of the close.
    pub time: Time,
    /// The chunk with the invitation of those who are brought along, sealed by a secret of the closed
    /// group's last epoch. None: they are invited some other way.
    pub invitation: Option<ChunkId>,
}

/// State of a group. Public keys lie beside it, named by their hashes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Account that opened it and paid for that.
    pub sponsor: AccountId,
    /// Block time of creation.
    pub created: Time,
    /// [`creatable_until`] of its salt. The record stays that long, so its id never returns.
    pub until: Time,
    /// Block time of the last post; at first that of creation.
    pub last_post: Time,
    /// Block time of the last advance.
    pub last_advance: Option<Time>,
    /// Block time of the last action that one admin signed.
    pub last_admin: Option<Time>,
    /// Who may advance it.
    pub mode: Mode,
    /// Current epoch, that of MLS.
    pub epoch: u64,
    /// `H(public-key, posting key)` of the epoch.
    pub posting: Digest,
    /// `H(public-key, control key)` of the epoch.
    pub control: Digest,
    /// [`commit_hash`] of the commit that began the epoch; zero in the first.
    pub commit: Digest,
    /// Posts of earlier epochs are refused: a removal has raised it.
    pub floor: u64,
    /// The last 16 epochs that have ended, ascending.
    pub past: Vec<PastEpoch>,
    /// Hashes of 1 to 16 admin keys, ascending.
    pub admins: Vec<Digest>,
    /// Bytes of weight that its transactions may still take.
    pub budget: u64,
    /// Bytes of weight for what admins sign, once the budget is used up.
    pub reserve: u64,
    /// Where it goes on, if it was superseded.
    pub succession: Option<Succession>,
    /// Log of its frames and commits.
    pub log: Frontier,
}

/// Why a post of an epoch is not taken. The sender seals its frames again in the current epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StalePost {
    /// Somebody was removed since.
    #[error("a removal ended the epoch: posts are taken from epoch {floor} on")]
    BelowFloor {
        /// First epoch whose posts are taken.
        floor: u64,
    },
    /// More than two epochs back, and over for more than two minutes.
    #[error("the epoch is over: the group is in epoch {current}")]
    Over {
        /// Current epoch.
        current: u64,
    },
    /// It has not begun.
    #[error("the epoch has not begun: the group is in epoch {current}")]
    Ahead {
        /// Current epoch.
        current: u64,
    },
}

/// Whether a group takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Open,
    /// Nobody posted for 90 days.
    Idle,
    /// It goes on in another group.
    Superseded(GroupId),
}

impl Group {
    /// Whether it takes anything at block time `now`: computed, never stored.
    pub fn standing(&self, now: Time) -> Standing {
        match self.succession {
            Some(succession) => Standing::Superseded(succession.successor),
            None if self.end() <= now => Standing::Idle,
            None => Standing::Open,
        }
    }

    /// When it was closed, or closes unless somebody posts: 90 days after the end of the day
    /// (UTC) of the last post, so that posts of one day move it once.
    pub fn end(&self) -> Time {
        if let Some(succession) = self.succession {
            return succession.time;
        }
        let day = self.last_post.ms() / DAY_MS;
        let next = day.saturating_add(1).saturating_mul(DAY_MS);
        Time::from_ms(next).after_ms(GROUP_IDLE_MS)
    }

    /// When it is dropped on a chain that keeps leaves for `kept_ms`, and its id cannot be created
    /// any more. Always even: see [`Group::tile_deadline`].
    pub fn deadline(&self, kept_ms: u64) -> Time {
        let at = self.end().after_ms(kept_ms).max(self.until.after_ms(1));
        at.after_ms(at.ms() & 1)
    }

    /// When the leaves of a tile go that was filled at `filled`. Always odd, so that it is never
    /// the deadline of the group, which moves.
    pub fn tile_deadline(filled: Time, kept_ms: u64) -> Time {
        let at = filled.after_ms(kept_ms);
        // The end of time itself is odd.
        at.after_ms(1 - (at.ms() & 1))
    }

    /// Hash of the posting key that signs posts of `epoch` at block time `now`.
    ///
    /// # Errors
    /// [`StalePost`].
    pub fn posting_key(&self, epoch: u64, now: Time) -> Result<Digest, StalePost> {
        let current = self.epoch;
        if epoch == current {
            return Ok(self.posting);
        }
        if epoch > current {
            return Err(StalePost::Ahead { current });
        }
        if epoch < self.floor {
            return Err(StalePost::BelowFloor { floor: self.floor });
        }
        let past = self.past.iter().find(|past| past.epoch == epoch);
        let past = past.ok_or(StalePost::Over { current })?;
        let near = current - epoch <= POST_EPOCHS_BACK;
        if near || now.since(past.ended) <= POST_GRACE_MS {
            Ok(past.posting)
        } else {
            Err(StalePost::Over { current })
        }
    }

    /// Ends the epoch at block time `now`; answers an epoch that is forgotten for it. A removal
    /// raises the floor to the new epoch.
    pub fn advance(&mut self, next: NextEpoch, removal: bool, now: Time) -> Option<PastEpoch> {
        self.past.push(PastEpoch {
            epoch: self.epoch,
            posting: self.posting,
            ended: now,
        });
        let forgotten = (self.past.len() > PAST_EPOCHS_MAX).then(|| self.past.remove(0));
        self.epoch = self.epoch.saturating_add(1);
        self.posting = next.posting;
        self.control = next.control;
        self.commit = next.commit;
        if removal {
            self.floor = self.epoch;
        }
        self.last_advance = Some(now);
        forgotten
    }
}

/// What an epoch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextEpoch {
    /// Hash of its posting key.
    pub posting: Digest,
    /// Hash of its control key.
    pub control: Digest,
    /// [`commit_hash`] of its commit.
    pub commit: Digest,
}

/// The salt of a group that can be created until that moment of block time: `u64 ms || random`.
pub fn group_salt(until: Time, random: &[u8; 24]) -> [u8; 32] {
    let mut salt = [0; 32];
    let (head, tail) = salt.split_at_mut(8);
    head.copy_from_slice(&until.ms().to_be_bytes());
    tail.copy_from_slice(random);
    salt
}

/// Until when a group with this salt can be created. The id covers the salt, and the record
/// outlives that moment: so no id is ever given twice, though nothing is remembered for ever.
pub fn creatable_until(salt: &[u8; 32]) -> Time {
    let ms = salt.first_chunk().copied().unwrap_or_default();
    Time::from_ms(u64::from_be_bytes(ms))
}

/// `H(group, chain || first admin key || salt)`: nobody can take the id with other keys, and it
/// is another on every chain. The key has 1,952 bytes.
pub fn group_id(chain: &ChainId, first_admin: &[u8], salt: &[u8; 32]) -> GroupId {
    GroupId::from_bytes(Tag::Group.hash(&[chain.as_bytes(), first_admin, salt]))
}

/// `H(group-frame, chain || group || u64 epoch || SHA-256(frame))`: the id of a frame.
pub fn frame_id(chain: &ChainId, group: &GroupId, epoch: u64, body_hash: &Digest) -> MessageId {
    MessageId::from_bytes(Tag::GroupFrame.hash(&[
        chain.as_bytes(),
        group.as_bytes(),
        &epoch.to_be_bytes(),
        body_hash.as_bytes(),
    ]))
}

/// `H(commit, id of each piece)`: one hash for a commit however it travels. A commit of at most
/// 64 KiB is its own one piece, a larger one is cut into chunks; the id of a piece is that of a
/// chunk with its bytes.
pub fn commit_hash(pieces: &[ChunkId]) -> Digest {
    let pieces: Vec<&[u8]> = pieces.iter().map(|id| id.as_bytes().as_slice()).collect();
    Digest::from_bytes(Tag::Commit.hash(&pieces))
}

/// [`commit_hash`] of a commit's bytes: those that follow each other in pieces of 64 KiB.
pub fn hash_of_commit(commit: &[u8]) -> Digest {
    let pieces = commit.chunks(CHUNK_BYTES_MAX).map(Chunk::id);
    let pieces: Vec<ChunkId> = pieces.collect();
    commit_hash(&pieces)
}

impl Encode for Mode {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Open => 0,
            Self::AdminOnly => 1,
        });
    }
}

impl Decode for Mode {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("group mode")? {
            0 => Ok(Self::Open),
            1 => Ok(Self::AdminOnly),
            value => Err(DecodeError::UnknownValue {
                what: "group mode",
                value: value.into(),
            }),
        }
    }
}

impl Encode for PastEpoch {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch).value(&self.posting).value(&self.ended);
    }
}

impl Decode for PastEpoch {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: input.u64("past epoch")?,
            posting: Digest::decode(input)?,
            ended: Time::decode(input)?,
        })
    }
}

impl Encode for Succession {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.successor)
            .value(&self.time)
            .option(self.invitation.as_ref());
    }
}

impl Decode for Succession {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            successor: GroupId::decode(input)?,
            time: Time::decode(input)?,
            invitation: input.option("invitation to a successor")?,
        })
    }
}

impl Encode for Group {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.sponsor)
            .value(&self.created)
            .value(&self.until)
            .value(&self.last_post)
            .option(self.last_advance.as_ref())
            .option(self.last_admin.as_ref())
            .value(&self.mode)
            .u64(self.epoch)
            .value(&self.posting)
            .value(&self.control)
            .value(&self.commit)
            .u64(self.floor)
            .list(&self.past)
            .list(&self.admins)
            .u64(self.budget)
            .u64(self.reserve)
            .option(self.succession.as_ref())
            .value(&self.log);
    }
}

impl Decode for Group {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = Self {
            sponsor: AccountId::decode(input)?,
            created: Time::decode(input)?,
            until: Time::decode(input)?,
            last_post: Time::decode(input)?,
            last_advance: input.option("last advance")?,
            last_admin: input.option("last admin action")?,
            mode: Mode::decode(input)?,
            epoch: input.u64("epoch")?,
            posting: Digest::decode(input)?,
            control: Digest::decode(input)?,
            commit: Digest::decode(input)?,
            floor: input.u64("floor")?,
            past: input.list("past epochs", PAST_EPOCHS_MAX, 48)?,
            admins: input.set("admin keys", GROUP_ADMINS_MAX, 32)?,
            budget: input.u64("budget")?,
            reserve: input.u64("reserve")?,
            succession: input.option("succession")?,
            log: Frontier::decode(input)?,
        };
        if !group.past.is_sorted_by(|a, b| a.epoch < b.epoch) {
            let what = "past epochs";
            return Err(DecodeError::NotAscending { what });
        }
        if group.admins.is_empty() {
            let what = "admin keys";
            return Err(DecodeError::TooShort {
                what,
                claimed: 0,
                minimum: 1,
            });
        }
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MINUTE_MS;
    use proptest::prelude::*;

    fn digest(byte: u64) -> Digest {
        Digest::from_bytes([byte.to_be_bytes()[7]; 32])
    }

    fn group(epoch: u64) -> Group {
        Group {
            sponsor: AccountId::from_bytes([1; 32]),
            created: Time::from_ms(0),
            until: Time::from_ms(0),
            last_post: Time::from_ms(0),
            last_advance: None,
            last_admin: None,
            mode: Mode::Open,
            epoch,
            posting: digest(epoch),
            control: digest(100 + epoch),
            commit: digest(0),
            floor: 0,
            past: Vec::new(),
            admins: vec![digest(7)],
            budget: 5,
            reserve: 6,
            succession: None,
            log: Frontier::new(),
        }
    }

    fn next(epoch: u64) -> NextEpoch {
        NextEpoch {
            posting: digest(epoch),
            control: digest(100 + epoch),
            commit: digest(epoch),
        }
    }

    #[test]
    fn a_post_is_taken_two_epochs_back_or_for_two_minutes() {
        let mut group = group(1);
        for epoch in 2..=6 {
            group.advance(next(epoch), false, Time::from_ms(epoch * MINUTE_MS));
        }
        // Epoch 6 began at minute 6; epoch 3 ended at minute 4, epoch 2 at minute 3.
        let now = Time::from_ms(6 * MINUTE_MS);
        let over = Err(StalePost::Over { current: 6 });
        assert_eq!(group.posting_key(6, now), Ok(digest(6)));
        assert_eq!(group.posting_key(4, now), Ok(digest(4)));
        assert_eq!(group.posting_key(4, now.after_ms(DAY_MS)), Ok(digest(4)));
        assert_eq!(group.posting_key(3, now), Ok(digest(3)));
        assert_eq!(group.posting_key(3, now.after_ms(1)), over);
        assert_eq!(group.posting_key(2, now), over);
        assert_eq!(group.posting_key(0, now), over);
        let ahead = Err(StalePost::Ahead { current: 6 });
        assert_eq!(group.posting_key(7, now), ahead);
        // A removal refuses at once what went before.
        group.advance(next(7), true, now);
        let below = Err(StalePost::BelowFloor { floor: 7 });
        assert_eq!(group.posting_key(6, now), below);
        assert_eq!(group.posting_key(7, now), Ok(digest(7)));
        // The floor stays.
        group.advance(next(8), false, now);
        assert_eq!(group.posting_key(7, now), Ok(digest(7)));
        assert_eq!(group.posting_key(6, now), below);
    }

    #[test]
    fn sixteen_epochs_are_remembered() {
        let mut group = group(1);
        let now = Time::from_ms(9);
        for epoch in 2..=17 {
            assert_eq!(group.advance(next(epoch), false, now), None);
        }
        let forgotten = group.advance(next(18), false, now);
        assert_eq!(forgotten.map(|past| past.epoch), Some(1));
        assert_eq!(group.past.len(), PAST_EPOCHS_MAX);
        assert_eq!(group.posting_key(2, now), Ok(digest(2)));
        let over = Err(StalePost::Over { current: 18 });
        assert_eq!(group.posting_key(1, now), over);
    }

    #[test]
    fn posts_of_one_day_move_the_end_once() {
        let mut group = group(1);
        let end = Time::from_ms(91 * DAY_MS);
        for post in [0, 1, DAY_MS - 1] {
            group.last_post = Time::from_ms(post);
            assert_eq!(group.end(), end);
        }
        assert_eq!(
            group.standing(Time::from_ms(91 * DAY_MS - 1)),
            Standing::Open
        );
        assert_eq!(group.standing(end), Standing::Idle);
        group.last_post = Time::from_ms(DAY_MS);
        assert_eq!(group.end(), end.after_ms(DAY_MS));
        let successor = GroupId::from_bytes([3; 32]);
        let time = Time::from_ms(77);
        group.succession = Some(Succession {
            successor,
            time,
            invitation: None,
        });
        assert_eq!(group.end(), time);
        assert_eq!(group.standing(time), Standing::Superseded(successor));
        let salt = group_salt(time, &[9; 24]);
        assert_eq!(
            salt,
            [&[0, 0, 0, 0, 0, 0, 0, 77][..], &[9; 24]].concat()[..]
        );
        assert_eq!(creatable_until(&salt), time);
        for until in 77..80 {
            let until = Time::from_ms(until);
            let group = Group {
                until,
                ..group.clone()
            };
            // Nobody can create it again before it is gone.
            assert!(group.deadline(0) > until);
        }
        for kept in [0, 1, 2] {
            let (end, tile) = (group.deadline(kept), Group::tile_deadline(time, kept));
            assert!(end.ms() & 1 == 0 && tile.ms() & 1 == 1);
            for at in [end, tile] {
                assert!((time.ms() + kept..=time.ms() + kept + 1).contains(&at.ms()));
            }
        }
    }

    #[test]
    fn ids_have_the_preimages_of_the_specification() {
        let chain = ChainId::from_bytes([1; 32]);
        let key = [2; 1_952];
        let hash = |tag: &str, parts: &[&[u8]]| {
            let length = [u8::try_from(tag.len()).unwrap()];
            crate::hash::sha256(&[&length, tag.as_bytes(), &parts.concat()].concat())
        };
        let id = group_id(&chain, &key, &[3; 32]);
        let expected = hash("LUX:SessionVM:group:v1", &[&[1; 32], &key, &[3; 32]]);
        assert_eq!(id.to_bytes(), expected);
        let frame = frame_id(&chain, &id, 258, &digest(4));
        let epoch = [0, 0, 0, 0, 0, 0, 1, 2];
        let parts: [&[u8]; 4] = [&[1; 32], id.as_bytes(), &epoch, &[4; 32]];
        let expected = hash("LUX:SessionVM:group-frame:v1", &parts);
        assert_eq!(frame.to_bytes(), expected);
        let pieces = [ChunkId::from_bytes([5; 32]), ChunkId::from_bytes([6; 32])];
        let expected = hash("LUX:SessionVM:commit:v1", &[&[5; 32], &[6; 32]]);
        assert_eq!(commit_hash(&pieces).to_bytes(), expected);
    }

    #[test]
    fn a_record_without_admins_or_with_epochs_out_of_order_is_refused() {
        let mut none = group(1);
        none.admins.clear();
        let read = Group::from_bytes(&none.to_bytes());
        assert!(matches!(read, Err(DecodeError::TooShort { .. })));
        let mut twice = group(1);
        twice.admins.push(digest(7));
        let read = Group::from_bytes(&twice.to_bytes());
        assert!(matches!(read, Err(DecodeError::NotAscending { .. })));
        for epoch in [2, 3] {
            let mut back = group(3);
            back.advance(next(4), false, Time::from_ms(1));
            back.past.push(PastEpoch {
                epoch,
                posting: digest(1),
                ended: Time::from_ms(1),
            });
            let read = Group::from_bytes(&back.to_bytes());
            assert!(matches!(read, Err(DecodeError::NotAscending { .. })));
        }
    }

    #[test]
    fn modes_have_a_word_and_a_number() {
        for (mode, word, number) in [(Mode::Open, "open", 0), (Mode::AdminOnly, "admin-only", 1)] {
            assert_eq!((mode.as_str(), mode.to_bytes()), (word, vec![number]));
            assert_eq!(Mode::from_bytes(&[number]), Ok(mode));
        }
        assert!(Mode::from_bytes(&[2]).is_err());
    }

    proptest! {
        #[test]
        fn records_have_one_form_and_fit_their_bound(
            epochs in 0u64..20, admins in 1u64..=16, a: u64, b: u64, superseded: bool,
            removal: bool, garbage: Vec<u8>,
        ) {
            let mut record = group(a >> 8);
            for epoch in 0..epochs {
                record.advance(next(epoch), removal, Time::from_ms(b));
            }
            record.admins = (0..admins).map(digest).collect();
            (record.budget, record.reserve) = (a, b);
            record.last_admin = removal.then(|| Time::from_ms(a));
            let successor = GroupId::from_bytes([9; 32]);
            let time = Time::from_ms(b);
            let invitation = removal.then_some(ChunkId::from_bytes([8; 32]));
            let succession = Succession { successor, time, invitation };
            record.succession = superseded.then_some(succession);
            let bytes = record.to_bytes();
            // A frontier has 64 peaks at most.
            prop_assert!(bytes.len() + 64 * 32 <= crate::limits::RECORD_BYTES_MAX);
            prop_assert_eq!(Group::from_bytes(&bytes), Ok(record));
            if let Ok(record) = Group::from_bytes(&garbage) {
                prop_assert_eq!(record.to_bytes(), garbage);
            }
        }
    }
}
