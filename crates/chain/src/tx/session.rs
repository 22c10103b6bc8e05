//! Opening, accepting, renewing and closing sessions.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::{AccountId, SessionId};
use session_core::limits::{PARTICIPANTS_MAX, PARTICIPANTS_MIN};
use session_core::log::{Conversation, MembershipEvent};
use session_core::merkle::Frontier;
use session_core::parameters::Admission;
use session_core::record::{Outcome, RecordKey};
use session_core::session::{Participant, Roster, Session, Status};

use super::{KemKey, NOBODY, SigningKey, Tx};
use crate::state::{Scope, TxError};
use crate::view::{Table, session_keys_key};

/// A participant as the creator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewParticipant {
    /// Account.
    pub account: AccountId,
    /// ML-KEM-768 public key: must equal the registered one where there is one, and may be left
    /// out only then.
    pub kem: Option<KemKey>,
    /// ML-DSA-65 public key: with the KEM key it must hash to the account.
    pub signing: Option<SigningKey>,
}

/// Opens a session between 2 to 100 participants, ascending and without doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSession {
    /// Participants.
    pub participants: Vec<NewParticipant>,
}

/// Accepts a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptSession {
    /// Which.
    pub session: SessionId,
}

/// Begins an active session's time to live anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewSession {
    /// Which.
    pub session: SessionId,
}

/// Closes a session. Unsigned only where it was created unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseSession {
    /// Which.
    pub session: SessionId,
}

impl CreateSession {
    /// The id of the session that this transaction opens: covers keys, salt and `valid_until`.
    pub fn session_id(action: &session_core::ids::ActionId) -> SessionId {
        SessionId::from_bytes(Tag::Session.hash(&[action.as_bytes()]))
    }

    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let count = self.participants.len();
        if count < PARTICIPANTS_MIN {
            return Err(TxError::TooFewParticipants { got: count });
        }
        let creator = if tx.is_signed() {
            scope.require_signer(tx)?;
            Some(tx.signer)
        } else {
            if scope.context.parameters.admission != Admission::Open || tx.signer != NOBODY {
                return Err(TxError::SignatureRequired);
            }
            scope.take_unsigned()?;
            None
        };
        let id = Self::session_id(&scope.ids.action);
        let roster = self.roster(scope)?;
        let position = creator.map(|c| roster.position(&c).ok_or(TxError::Unauthorized));
        let accepted = match position.transpose()? {
            Some(position) => 1 << position,
            None => (1u128 << count) - 1,
        };
        let time = scope.context.time;
        let session = Session {
            creator,
            roster: roster.digest(),
            // At most PARTICIPANTS_MAX.
            participants: u8::try_from(count).unwrap_or(u8::MAX),
            accepted,
            created: time,
            expires: time.after_ms(scope.context.parameters.session_ttl_ms),
            closed: None,
            unsigned: 0,
            log: Frontier::new(),
        };
        scope.put_session(&id, &session)?;
        scope.end_session(&id, None, session.end());
        scope
            .over
            .put(Table::Roster, id.as_bytes().to_vec(), roster.to_bytes());
        self.put_keys(scope, &id);
        for participant in roster.participants() {
            let account = participant.account;
            if Some(account) == creator {
                scope.enter(
                    &account,
                    MembershipEvent::Created,
                    Conversation::Session(id),
                    creator,
                )?;
            } else {
                scope.request(&account, Conversation::Session(id), creator)?;
            }
        }
        Ok(Outcome::Session(id))
    }

    fn roster(&self, scope: &Scope<'_, '_>) -> Result<Roster, TxError> {
        let mut participants = Vec::with_capacity(self.participants.len());
        for new in &self.participants {
            let registered = scope
                .account(&new.account)?
                .and_then(|account| account.keys);
            let kem = match (&new.kem, &registered) {
                (Some(given), Some(keys)) if given.digest() != keys.kem => {
                    return Err(TxError::OtherKeyRegistered);
                }
                (Some(given), _) => given.digest(),
                (None, Some(keys)) => keys.kem,
                (None, None) => return Err(TxError::KeyMissing),
            };
            let signing = match (&new.signing, &registered) {
                (Some(given), Some(keys)) if given.digest() != keys.signing => {
                    return Err(TxError::OtherKeyRegistered);
                }
                (Some(given), None) => {
                    let kem = new.kem.as_ref().ok_or(TxError::KeyMissing)?;
                    if scope.context.crypto.account_id(kem, given) != Some(new.account) {
                        return Err(TxError::NotTheKeysAccount);
                    }
                    Some(given.digest())
                }
                (_, Some(keys)) => Some(keys.signing),
                (None, None) => None,
            };
            if let Some(kem) = &new.kem
                && !scope.context.crypto.is_kem_key(kem)
            {
                return Err(TxError::InvalidKey);
            }
            participants.push(Participant {
                account: new.account,
                kem,
                signing,
            });
        }
        Ok(Roster::new(participants)?)
    }

    fn put_keys(&self, scope: &mut Scope<'_, '_>, id: &SessionId) {
        for (position, new) in (0u8..).zip(&self.participants) {
            if new.kem.is_some() {
                let mut keys = Writer::new();
                keys.option(new.kem.as_ref()).option(new.signing.as_ref());
                scope.over.put(
                    Table::Keys,
                    session_keys_key(id, Some(position)),
                    keys.into_bytes(),
                );
            }
        }
    }
}

impl AcceptSession {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let (mut session, position) = scope.open_session(&self.session, &tx.signer)?;
        if session.has_accepted(position) {
            return Err(TxError::AlreadyAccepted);
        }
        scope.accept(&self.session, &mut session, position, &tx.signer)?;
        scope.put_session(&self.session, &session)?;
        Ok(Outcome::Done)
    }
}

impl RenewSession {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let (mut session, _) = scope.open_session(&self.session, &tx.signer)?;
        if session.status(scope.context.time) != Status::Active {
            return Err(TxError::NotActive);
        }
        let old = session.end();
        session.expires = scope
            .context
            .time
            .after_ms(scope.context.parameters.session_ttl_ms);
        scope.put_session(&self.session, &session)?;
        scope.end_session(&self.session, Some(old), session.end());
        Ok(Outcome::Done)
    }
}

impl CloseSession {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let session: Option<Session> = scope.record(&RecordKey::Session(self.session))?;
        let mut session = session.ok_or(TxError::UnknownSession)?;
        if tx.is_signed() {
            scope.require_signer(tx)?;
            let roster = scope.roster(&self.session)?;
            roster.position(&tx.signer).ok_or(TxError::Unauthorized)?;
        } else {
            let open = scope.context.parameters.admission == Admission::Open;
            if !open || tx.signer != NOBODY || session.creator.is_some() {
                return Err(TxError::SignatureRequired);
            }
            scope.take_unsigned()?;
        }
        if session.closed.is_some() {
            return Err(TxError::SessionClosed);
        }
        if session.status(scope.context.time) == Status::Expired {
            return Err(TxError::SessionExpired);
        }
        scope.drop_requests(&self.session, &session)?;
        let old = session.end();
        session.closed = Some(scope.context.time);
        scope.put_session(&self.session, &session)?;
        scope.end_session(&self.session, Some(old), session.end());
        Ok(Outcome::Done)
    }
}

impl Encode for NewParticipant {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.account)
            .option(self.kem.as_ref())
            .option(self.signing.as_ref());
    }
}

impl Decode for NewParticipant {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            account: AccountId::decode(input)?,
            kem: input.option("participant KEM key")?,
            signing: input.option("participant signing key")?,
        })
    }
}

impl Encode for CreateSession {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.participants);
    }
}

impl Decode for CreateSession {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let participants: Vec<NewParticipant> = input.list("participants", PARTICIPANTS_MAX, 34)?;
        if !participants.is_sorted_by(|a, b| a.account < b.account) {
            return Err(DecodeError::NotAscending {
                what: "participants",
            });
        }
        Ok(Self { participants })
    }
}

macro_rules! names_a_session {
    ($($name:ident)*) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.value(&self.session);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { session: SessionId::decode(input)? })
            }
        }
    )*};
}

names_a_session! { AcceptSession RenewSession CloseSession }
