//! Other people: their keys, and the names that keys are bound to.

use serde::Deserialize;
use serde_json::json;
use session_core::account::{Account as AccountRecord, AccountKeys};
use session_core::codec::Decode;
use session_core::hash::Tag;
use session_core::ids::{AccountId, Digest};
use session_core::record::RecordKey;
use session_crypto::{KemPublicKey, PublicIdentity, SigningPublicKey};

use crate::account::Account;
use crate::error::{ClientError, KeyChange};
use crate::key_history::KeyHistory;
use crate::state::Contact;
use crate::trust::{TrustError, decode_proof};

/// Current keys of an account.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The keys.
    pub keys: PublicIdentity,
    /// 0 for the original ones, which hash to the account id.
    pub index: u32,
}

/// Keys that the chain has for an account, proved, before anybody's names are looked at.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) keys: PublicIdentity,
    pub(crate) index: u32,
    pub(crate) record: AccountRecord,
}

/// What an account's signatures are checked with.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) shown: Shown,
    pub(crate) history: Option<KeyHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityReply {
    kem_public_key: Option<String>,
    signing_public_key: Option<String>,
    proof: String,
}

/// `H(public-key, key)`, as records hold it.
pub(crate) fn key_digest(key: &SigningPublicKey) -> Digest {
    Digest::from_bytes(Tag::PublicKey.hash(&[key.as_ref()]))
}

/// Both hashes of an account's keys: of the ML-KEM key and of the ML-DSA key.
pub(crate) fn key_digests(keys: &PublicIdentity) -> (Digest, Digest) {
    let kem = Digest::from_bytes(Tag::PublicKey.hash(&[keys.kem().as_ref()]));
    (kem, key_digest(keys.signing()))
}

/// Whether these are the keys in a record.
pub(crate) fn has_digests(keys: &PublicIdentity, record: &AccountKeys) -> bool {
    (record.kem, record.signing) == key_digests(keys)
}

impl Account {
    /// Current keys of an account, checked: original keys hash to the id, later ones are linked
    /// to it by the signature of each before the next, and those of a contact are the ones its
    /// name was bound to. Where the node does not answer: those that were seen last.
    ///
    /// # Errors
    /// [`ClientError::NotRegistered`], [`ClientError::OtherKeys`], [`ClientError::KeyChanged`],
    /// [`ClientError::UnvouchedKeys`], [`ClientError::PeerRevoked`],
    /// [`ClientError::KeysNotKnown`].
    pub async fn lookup(&mut self, account: AccountId) -> Result<Lookup, ClientError> {
        if let Some(known) = self.known.get(&account) {
            return Ok(known.clone());
        }
        if self.away.is_some() {
            return self.lookup_offline(account);
        }
        let shown = self.shown_keys(account).await?;
        if shown.record.revoked.is_some() {
            return Err(ClientError::PeerRevoked(account));
        }
        if let Some((name, contact)) = self.contact_of(&account) {
            if !contact.has_keys(&shown.keys) {
                let (name, contact) = (name.clone(), contact.clone());
                let how = self.how_changed(account, &contact, &shown).await?;
                return Err(ClientError::KeyChanged {
                    name,
                    index: shown.index,
                    how,
                });
            }
        } else if shown.index > 0 {
            let history = self.key_history(account, &shown.record).await?;
            let how = history.map_or(KeyChange::Unverifiable, |h| h.change(0, h.current()));
            if how != KeyChange::SignedByPrevious {
                return Err(ClientError::UnvouchedKeys {
                    account,
                    index: shown.index,
                    how,
                });
            }
        }
        let found = Lookup {
            keys: shown.keys,
            index: shown.index,
        };
        let kept = Contact::new(account, &found.keys, found.index);
        self.dir.keep_keys(&kept)?;
        self.known.insert(account, found.clone());
        Ok(found)
    }

    fn lookup_offline(&self, account: AccountId) -> Result<Lookup, ClientError> {
        let kept = match self.contact_of(&account) {
            Some((_, contact)) => Some(contact.clone()),
            None => self.dir.kept_keys(&account)?,
        };
        let found = kept.and_then(|kept| {
            let index = kept.key_index;
            kept.keys().map(|keys| Lookup { keys, index })
        });
        found.ok_or(ClientError::KeysNotKnown(account))
    }

    /// The contact with this account.
    pub(crate) fn contact_of(&self, account: &AccountId) -> Option<(&String, &Contact)> {
        let mut contacts = self.state.contacts.iter();
        contacts.find(|(_, contact)| contact.account == *account)
    }

    /// How the shown keys came from those that a name is bound to.
    pub(crate) async fn how_changed(
        &mut self,
        account: AccountId,
        contact: &Contact,
        shown: &Shown,
    ) -> Result<KeyChange, ClientError> {
        if shown.index == 0 {
            return Ok(KeyChange::Unverifiable);
        }
        let history = self.key_history(account, &shown.record).await?;
        let bound = contact.keys();
        Ok(match (history, bound) {
            (Some(history), Some(bound)) => match history.position(&bound) {
                Some(from) => history.change(from, history.current()),
                None => KeyChange::Unverifiable,
            },
            _ => KeyChange::Unverifiable,
        })
    }

    /// Keys and record of an account: the record proved, the keys those that it names.
    pub(crate) async fn shown_keys(&mut self, account: AccountId) -> Result<Shown, ClientError> {
        let params = json!({ "account": account, "proof": true });
        let reply: IdentityReply = self.rpc.call("sessionvm.GetIdentity", params).await?;
        let proved = self.believe(&mut decode_proof(&reply.proof)?).await?;
        if proved.key != RecordKey::Account(account) {
            return Err(ClientError::Reply("the proof is about another account"));
        }
        let record = proved.record.map(|r| AccountRecord::from_bytes(&r));
        let record = record.transpose().map_err(TrustError::from)?;
        let record = record.ok_or(ClientError::NotRegistered(account))?;
        let named = record.keys.ok_or(ClientError::NotRegistered(account))?;
        let bytes =
            |text: Option<String>| const_hex::decode(text.unwrap_or_default()).unwrap_or_default();
        let kem = KemPublicKey::try_from(bytes(reply.kem_public_key).as_slice());
        let signing = SigningPublicKey::try_from(bytes(reply.signing_public_key).as_slice());
        let (Ok(kem), Ok(signing)) = (kem, signing) else {
            return Err(ClientError::OtherKeys(account));
        };
        let keys = PublicIdentity::new(kem, signing);
        let is_first = keys.account_id() == account;
        if !has_digests(&keys, &named) || named.index == 0 && !is_first {
            return Err(ClientError::OtherKeys(account));
        }
        Ok(Shown {
            keys,
            index: named.index,
            record,
        })
    }

    /// Binds a name to an account's current keys. Answers how they came from the keys that the
    /// name was bound to before; without such, from the account id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_contact(
        &mut self,
        name: &str,
        account: AccountId,
    ) -> Result<Option<KeyChange>, ClientError> {
        let shown = self.shown_keys(account).await?;
        if shown.record.revoked.is_some() {
            return Err(ClientError::PeerRevoked(account));
        }
        let before = self.state.contacts.get(name).cloned();
        let before = before.filter(|before| before.account == account);
        let how = match &before {
            Some(before) if before.has_keys(&shown.keys) => None,
            Some(before) => Some(self.how_changed(account, &before.clone(), &shown).await?),
            None if shown.index == 0 => None,
            None => {
                let history = self.key_history(account, &shown.record).await?;
                Some(history.map_or(KeyChange::Unverifiable, |h| h.change(0, h.current())))
            }
        };
        let mut contact = Contact::new(account, &shown.keys, shown.index);
        if let Some(before) = before {
            contact.follow(before);
        }
        self.state.contacts.insert(name.to_owned(), contact);
        self.known.remove(&account);
        self.dir.save(&self.state)?;
        Ok(how)
    }

    /// Forgets a name. Answers whether there was one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove_contact(&mut self, name: &str) -> Result<bool, ClientError> {
        let removed = self.state.contacts.remove(name).is_some();
        self.dir.save(&self.state)?;
        Ok(removed)
    }

    /// What is needed to check what an account signed: its current keys, and those before them as
    /// far as they can be had. Asked for once, or when `asks`.
    pub(crate) async fn reading_of(
        &mut self,
        account: AccountId,
        asks: bool,
    ) -> Result<Reading, ClientError> {
        if !asks && let Some(known) = self.readings.get(&account) {
            return Ok(known.clone());
        }
        let shown = self.shown_keys(account).await?;
        let history = if shown.index == 0 {
            Some(KeyHistory::of_first(shown.keys.clone()))
        } else {
            self.key_history(account, &shown.record).await?
        };
        let reading = Reading { shown, history };
        self.readings.insert(account, reading.clone());
        Ok(reading)
    }
}
