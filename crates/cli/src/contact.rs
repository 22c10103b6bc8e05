//! `session contact …`

use clap::Subcommand;
use serde_json::json;
use session_client::{Account, KeyChange, fingerprint};
use session_crypto::IdentityId;

use crate::home::{Home, parse_account};
use crate::out::{CliError, Out};

#[derive(Subcommand)]
pub(crate) enum ContactVerb {
    /// Binds a name to an id and its current keys
    Add {
        /// Name
        name: String,
        /// `07…` id, or account in CB58
        id: String,
    },
    /// Lists contacts
    List,
    /// Forgets a contact
    Remove {
        /// Name
        name: String,
    },
    /// Accepts a contact's changed keys, after comparing them by another way
    Accept {
        /// Name
        name: String,
    },
}

pub(crate) async fn run(verb: ContactVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = match verb {
        ContactVerb::List | ContactVerb::Remove { .. } => home.account_or_offline().await?,
        ContactVerb::Add { .. } | ContactVerb::Accept { .. } => home.account().await?,
    };
    match verb {
        ContactVerb::Add { name, id } => {
            let problem = format!("{id} is neither a 07… id nor an account in CB58");
            let peer = parse_account(&id).ok_or(CliError::Usage(problem))?;
            if name.is_empty() || parse_account(&name).is_some() {
                let problem = "a name must not be empty or look like an id";
                return Err(CliError::Usage(problem.to_owned()));
            }
            let how = account.add_contact(&name, peer).await?;
            let keys = keys_of(&account, &name);
            let changed = how.map_or_else(String::new, |how| {
                format!(
                    "\nIts keys have changed since it was made, {}.",
                    how.clause()
                )
            });
            out.result(
                &format!("{name} is {}\nkeys {keys}{changed}", IdentityId::Pq(peer)),
                &json!({ "ok": true, "message": format!("{name} is {}", IdentityId::Pq(peer)),
                    "keys": keys, "change": how.map(word) }),
            )
        }
        ContactVerb::List => {
            let contacts = &account.state().contacts;
            let lines: Vec<String> = contacts
                .iter()
                .map(|(name, c)| format!("{name:<16} {}", IdentityId::Pq(c.account)))
                .collect();
            let value: Vec<_> = contacts
                .iter()
                .map(|(name, c)| json!({ "name": name, "id": IdentityId::Pq(c.account).to_string(), "keyIndex": c.key_index }))
                .collect();
            out.result(&lines.join("\n"), &json!(value))
        }
        ContactVerb::Remove { name } => {
            if account.remove_contact(&name)? {
                out.done(&format!("{name} is forgotten"))
            } else {
                Err(CliError::NoContact(name))
            }
        }
        ContactVerb::Accept { name } => {
            let contact = account.state().contacts.get(&name);
            let peer = contact
                .ok_or_else(|| CliError::NoContact(name.clone()))?
                .account;
            let how = account.add_contact(&name, peer).await?;
            let keys = keys_of(&account, &name);
            let text = match how {
                None => format!("{name}'s keys are the ones you have"),
                Some(how) => format!("{name}'s new keys are accepted, {}", how.clause()),
            };
            out.result(
                &format!("{text}\nkeys {keys}"),
                &json!({ "ok": true, "message": text, "keys": keys, "change": how.map(word) }),
            )
        }
    }
}

/// What the other compares with `session identity show`.
fn keys_of(account: &Account, name: &str) -> String {
    let keys = account.state().contacts.get(name).and_then(|c| c.keys());
    keys.map(|keys| fingerprint(&keys)).unwrap_or_default()
}

const fn word(how: KeyChange) -> &'static str {
    match how {
        KeyChange::SignedByPrevious => "signedByPrevious",
        KeyChange::ByRecoveryKey => "byRecoveryKey",
        KeyChange::Unverifiable => "unverifiable",
    }
}
