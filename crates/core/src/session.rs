//! The session record and its roster: a conversation with fixed participants and a time to live.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{AccountId, Digest};
use crate::limits::PARTICIPANTS_MAX;
use crate::merkle::Frontier;
use crate::time::Time;

/// One participant of a session, with hashes of the keys it was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Account.
    pub account: AccountId,
    /// `H(public-key, ML-KEM-768 key)`.
    pub kem: Digest,
    /// `H(public-key, ML-DSA-65 key)`, where the creator gave one or the account has one.
    pub signing: Option<Digest>,
}

/// Participants of a session, strictly ascending by account. 2 to 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster(Vec<Participant>);

impl Roster {
    /// A roster from ascending participants.
    ///
    /// # Errors
    /// [`DecodeError::NotAscending`] for unordered or doubled participants,
    /// [`DecodeError::TooLong`] above 100.
    pub fn new(participants: Vec<Participant>) -> Result<Self, DecodeError> {
        let what = "participants";
        if participants.len() > PARTICIPANTS_MAX {
            let claimed = participants.len() as u64;
            return Err(DecodeError::TooLong {
                what,
                claimed,
                limit: PARTICIPANTS_MAX as u64,
            });
        }
        if participants.is_sorted_by(|a, b| a.account < b.account) {
            Ok(Self(participants))
        } else {
            Err(DecodeError::NotAscending { what })
        }
    }

    /// The participants.
    pub fn participants(&self) -> &[Participant] {
        &self.0
    }

    /// Place of an account, if it takes part.
    pub fn position(&self, account: &AccountId) -> Option<usize> {
        self.0.binary_search_by(|p| p.account.cmp(account)).ok()
    }

    /// `H(roster, canonical roster)`, as the session record keeps it.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(Tag::Roster.hash(&[&self.to_bytes()]))
    }
}

impl Encode for Participant {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.account)
            .value(&self.kem)
            .option(self.signing.as_ref());
    }
}

impl Decode for Participant {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            account: AccountId::decode(input)?,
            kem: Digest::decode(input)?,
            signing: input.option("signing key")?,
        })
    }
}

impl Encode for Roster {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.0);
    }
}

impl Decode for Roster {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(input.list("participants", PARTICIPANTS_MAX, 65)?)
    }
}

/// What a session is at a moment: computed from state and block time, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Signed create that not everybody accepted yet.
    Pending,
    /// Messages flow.
    Active,
    /// Its time to live has passed.
    Expired,
    /// Closed by a participant.
    Closed,
}

impl Status {
    /// The published word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }
}

/// State of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who opened it; none for an unsigned create.
    pub creator: Option<AccountId>,
    /// `H(roster, roster)`.
    pub roster: Digest,
    /// Participants.
    pub participants: u8,
    /// Bit i: participant i has accepted (the creator, and everybody of an unsigned create).
    pub accepted: u128,
    /// Block time of creation.
    pub created: Time,
    /// End of its time to live.
    pub expires: Time,
    /// Block time of the close.
    pub closed: Option<Time>,
    /// Messages that were admitted unsigned.
    pub unsigned: u64,
    /// Log of its messages.
    pub log: Frontier,
}

impl Session {
    /// Status at block time `now`.
    pub fn status(&self, now: Time) -> Status {
        if self.closed.is_some() {
            Status::Closed
        } else if now >= self.expires {
            Status::Expired
        } else if self.accepted.count_ones() < u32::from(self.participants) {
            Status::Pending
        } else {
            Status::Active
        }
    }

    /// When it ended or will end.
    pub fn end(&self) -> Time {
        self.closed
            .map_or(self.expires, |closed| closed.min(self.expires))
    }

    /// Whether participant `position` has accepted.
    pub const fn has_accepted(&self, position: usize) -> bool {
        (self.accepted >> position) & 1 == 1
    }
}

impl Encode for Session {
    fn encode(&self, out: &mut Writer) {
        out.option(self.creator.as_ref())
            .value(&self.roster)
            .u8(self.participants)
            .raw(&self.accepted.to_be_bytes())
            .value(&self.created)
            .value(&self.expires)
            .option(self.closed.as_ref())
            .u64(self.unsigned)
            .value(&self.log);
    }
}

impl Decode for Session {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            creator: input.option("creator")?,
            roster: Digest::decode(input)?,
            participants: input.u8("participants")?,
            accepted: input.array("accepted").map(u128::from_be_bytes)?,
            created: Time::decode(input)?,
            expires: Time::decode(input)?,
            closed: input.option("closed")?,
            unsigned: input.u64("unsigned messages")?,
            log: Frontier::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;

    #[test]
    fn status_is_a_function_of_state_and_time() {
        let mut session = Session {
            creator: None,
            roster: Digest::from_bytes([0; 32]),
            participants: 2,
            accepted: 1,
            created: Time::from_ms(0),
            expires: Time::from_ms(10),
            closed: None,
            unsigned: 0,
            log: Frontier::new(),
        };
        assert_eq!(session.status(Time::from_ms(9)), Status::Pending);
        session.accepted = 3;
        assert_eq!(session.status(Time::from_ms(9)), Status::Active);
        assert_eq!(session.status(Time::from_ms(10)), Status::Expired);
        session.closed = Some(Time::from_ms(5));
        assert_eq!(session.status(Time::from_ms(10)), Status::Closed);
        assert_eq!(session.end(), Time::from_ms(5));
        session.closed = Some(Time::from_ms(15));
        assert_eq!(session.end(), Time::from_ms(10));
        let words = [
            Status::Pending,
            Status::Active,
            Status::Expired,
            Status::Closed,
        ];
        assert_eq!(
            words.map(Status::as_str),
            ["pending", "active", "expired", "closed"]
        );
        assert_one_form(&session);
        session.creator = Some(AccountId::from_bytes([4; 32]));
        assert_one_form(&session);
    }

    #[test]
    fn who_has_accepted_is_a_bit_each() {
        let mut session = Session {
            creator: None,
            roster: Digest::from_bytes([0; 32]),
            participants: 100,
            accepted: 0,
            created: Time::from_ms(0),
            expires: Time::from_ms(10),
            closed: None,
            unsigned: 0,
            log: Frontier::new(),
        };
        for position in 0..100 {
            assert!(!session.has_accepted(position));
            assert_eq!(session.status(Time::from_ms(0)), Status::Pending);
            session.accepted |= 1 << position;
            assert!((0..=position).all(|position| session.has_accepted(position)));
        }
        assert_eq!(session.status(Time::from_ms(0)), Status::Active);
    }

    #[test]
    fn rosters_are_ascending_without_doubles() {
        let p = |b: u8| Participant {
            account: AccountId::from_bytes([b; 32]),
            kem: Digest::from_bytes([0; 32]),
            signing: None,
        };
        assert!(Roster::new(vec![p(1), p(1)]).is_err());
        assert!(Roster::new(vec![p(2), p(1)]).is_err());
        let roster = Roster::new(vec![p(1), p(2)]).unwrap();
        assert_eq!(roster.position(&AccountId::from_bytes([2; 32])), Some(1));
        assert_eq!(roster.position(&AccountId::from_bytes([3; 32])), None);
        assert_eq!(roster.participants(), [p(1), p(2)]);
        let digest = Tag::Roster.hash(&[&roster.to_bytes()]);
        assert_eq!(roster.digest(), Digest::from_bytes(digest));
        assert_one_form(&roster);
        let many = |count: u8| Roster::new((0..count).map(p).collect());
        assert!(many(100).is_ok());
        let refused = Err(DecodeError::TooLong {
            what: "participants",
            claimed: 101,
            limit: 100,
        });
        assert_eq!(many(101), refused);
        let full = many(100).unwrap().to_bytes();
        assert_eq!(full.len(), 4 + 100 * 65);
    }
}
