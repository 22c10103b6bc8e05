//! The directory of a person: identity file and the state of each chain's account.

use std::io::IsTerminal;
use std::path::PathBuf;

use session_client::{Account, RpcClient};
use session_core::ids::{AccountId, SessionId};
use session_crypto::{Identity, IdentityId, SealedIdentity};
use zeroize::Zeroizing;

use crate::out::CliError;

/// A person's directory and node.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) node: String,
}

impl Home {
    pub(crate) fn new(dir: Option<PathBuf>, node: &str) -> Result<Self, CliError> {
        let default =
            || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".lux-session"));
        let dir = dir.or_else(default).ok_or(CliError::NoHome)?;
        Ok(Self {
            dir,
            node: node.to_owned(),
        })
    }

    /// Sealed with a passphrase.
    pub(crate) fn sealed_path(&self) -> PathBuf {
        self.dir.join("identity.sealed")
    }

    /// The Go project's JSON with secret keys in the open.
    pub(crate) fn plain_path(&self) -> PathBuf {
        self.dir.join("identity.json")
    }

    pub(crate) fn rpc(&self) -> Result<RpcClient, CliError> {
        let token = std::env::var("SESSION_TOKEN")
            .ok()
            .filter(|token| !token.is_empty());
        Ok(RpcClient::new(&self.node, token)?)
    }

    pub(crate) fn identity(&self) -> Result<Identity, CliError> {
        let (sealed, plain) = (self.sealed_path(), self.plain_path());
        let problem = |path: &PathBuf, problem: String| CliError::Identity {
            path: path.clone(),
            problem,
        };
        if sealed.exists() {
            let bytes = std::fs::read(&sealed).map_err(CliError::file(&sealed))?;
            let file = SealedIdentity::from_bytes(&bytes)
                .map_err(|error| problem(&sealed, error.to_string()))?;
            let passphrase = ask_passphrase("Passphrase: ")?;
            return file
                .open(passphrase.as_bytes())
                .map_err(|error| problem(&sealed, error.to_string()));
        }
        if plain.exists() {
            let text = std::fs::read_to_string(&plain).map_err(CliError::file(&plain))?;
            let text = Zeroizing::new(text);
            return Identity::from_json(&text).map_err(|error| problem(&plain, error.to_string()));
        }
        Err(CliError::NoIdentity(self.dir.clone()))
    }

    pub(crate) async fn account(&self) -> Result<Account, CliError> {
        let identity = self.identity()?;
        Ok(Account::open(self.rpc()?, identity, &self.dir).await?)
    }
}

/// From `SESSION_PASSPHRASE`, or asked for on a terminal.
pub(crate) fn ask_passphrase(prompt: &str) -> Result<Zeroizing<String>, CliError> {
    if let Ok(passphrase) = std::env::var("SESSION_PASSPHRASE") {
        return Ok(Zeroizing::new(passphrase));
    }
    if !std::io::stdin().is_terminal() {
        let message = "a passphrase is needed: set SESSION_PASSPHRASE, or run on a terminal";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(prompt)?))
}

/// A contact's name, a `07…` id, or an account in CB58.
pub(crate) fn resolve_account(account: &Account, text: &str) -> Result<AccountId, CliError> {
    if let Some(contact) = account.state().contacts.get(text) {
        return Ok(contact.account);
    }
    parse_account(text).ok_or_else(|| CliError::NoContact(text.to_owned()))
}

pub(crate) fn parse_account(text: &str) -> Option<AccountId> {
    let id = text.parse::<IdentityId>().map(|id| id.account_id());
    id.ok().or_else(|| text.parse().ok())
}

/// A session id, or the newest session with a contact.
pub(crate) async fn resolve_session(
    account: &mut Account,
    text: &str,
) -> Result<SessionId, CliError> {
    let known = account
        .state()
        .contacts
        .get(text)
        .map(|contact| contact.account);
    let Some(peer) = known.or_else(|| text.parse::<IdentityId>().ok().map(|id| id.account_id()))
    else {
        return text
            .parse()
            .map_err(|_| CliError::NoContact(text.to_owned()));
    };
    // Newest first: ours, then those that the other opened.
    for requests in [false, true] {
        for entry in account.sessions(requests).await?.into_iter().rev() {
            let with = account.peer_of(&entry.session).await?;
            if with == peer && account.is_open(&entry.session).await? {
                return Ok(entry.session);
            }
        }
    }
    Err(CliError::NoSession(text.to_owned()))
}
