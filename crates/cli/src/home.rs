//! The directory of a person: identity file and the state of each chain's account.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use session_client::{Account, Claim, Claimed, History, IdentityFile, Lock, RpcClient, StateDir};
use session_core::ids::{AccountId, SessionId};
use session_crypto::{Identity, IdentityId, KdfCost};
use zeroize::Zeroizing;

use crate::out::{CliError, note};

/// How long a command waits for another one that has the directory: most take less.
const CLAIM_WAIT: Duration = Duration::from_secs(10);

/// How often it is looked whether a directory is free.
const CLAIM_LOOK: Duration = Duration::from_millis(20);

/// How often one who has a directory looks whether somebody wants it.
const WANTED_LOOK: Duration = Duration::from_millis(200);

/// How long somebody who waits for a directory may take to get it once it is free: one that was
/// stopped meanwhile does not keep it from everybody.
const LET_IN: Duration = Duration::from_secs(1);

/// A person's directory and node.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) node: String,
    /// Certificates to trust, PEM.
    ca: Option<PathBuf>,
    /// The right to change the directory, once it was asked for.
    claim: Arc<Mutex<Option<Claim>>>,
}

impl Home {
    pub(crate) fn new(
        dir: Option<PathBuf>,
        node: &str,
        ca: Option<PathBuf>,
    ) -> Result<Self, CliError> {
        let default =
            || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".lux-session"));
        let dir = dir.or_else(default).ok_or(CliError::NoHome)?;
        Ok(Self {
            dir,
            node: node.to_owned(),
            ca,
            claim: Arc::default(),
        })
    }

    /// Waits until no other command changes the directory; from then on no other one does.
    pub(crate) async fn claim(&self) -> Result<(), CliError> {
        let has = |claim: &Mutex<Option<Claim>>| {
            let claim = claim.lock().unwrap_or_else(PoisonError::into_inner);
            claim.is_some()
        };
        if has(&self.claim) {
            return Ok(());
        }
        let dir = StateDir::open(&self.dir)?;
        let began = Instant::now();
        let mut wanted = None;
        loop {
            let process = match dir.claim()? {
                Claimed::Ours(claim) => {
                    *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
                    return Ok(());
                }
                Claimed::Taken { process } => process,
            };
            if began.elapsed() > CLAIM_WAIT {
                let process = process.map_or_else(String::new, |n| format!(" (process {n})"));
                let dir = self.dir.clone();
                return Err(CliError::HomeInUse { dir, process });
            }
            if wanted.is_none() {
                wanted = Some(dir.want()?);
            }
            tokio::time::sleep(CLAIM_LOOK).await;
        }
    }

    /// Waits until another command waits for the directory; `kept` passes first.
    pub(crate) async fn wanted(&self, kept: Duration) -> Result<(), CliError> {
        tokio::time::sleep(kept).await;
        let dir = StateDir::open(&self.dir)?;
        while !dir.is_wanted()? {
            tokio::time::sleep(WANTED_LOOK).await;
        }
        Ok(())
    }

    /// Lets those who wait for the directory have it, and has it again after them, however long that
    /// takes.
    pub(crate) async fn let_in(&self) -> Result<(), CliError> {
        self.release();
        let dir = StateDir::open(&self.dir)?;
        let began = Instant::now();
        while dir.is_wanted()? && began.elapsed() < LET_IN {
            tokio::time::sleep(CLAIM_LOOK).await;
        }
        loop {
            match self.claim().await {
                Err(CliError::HomeInUse { .. }) => {}
                claimed => return claimed,
            }
        }
    }

    /// Lets other commands change the directory: what was read of it may be old from then on.
    pub(crate) fn release(&self) {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        *claim = None;
    }

    pub(crate) fn rpc(&self) -> Result<RpcClient, CliError> {
        self.rpc_to(&self.node)
    }

    /// The same to another node.
    pub(crate) fn rpc_to(&self, node: &str) -> Result<RpcClient, CliError> {
        let token = std::env::var("SESSION_TOKEN")
            .ok()
            .filter(|token| !token.is_empty());
        let roots = self.ca.as_ref().map(|path| {
            let pem = std::fs::read(path);
            pem.map_err(CliError::file(path))
        });
        let roots = roots.transpose()?;
        Ok(RpcClient::with_roots(node, token, roots.as_deref())?)
    }

    /// The identity file, with what opens it.
    pub(crate) fn identity_file(&self) -> Result<IdentityFile, CliError> {
        let lock = match IdentityFile::is_sealed(&self.dir) {
            None => return Err(CliError::NoIdentity(self.dir.clone())),
            Some(false) => Lock::Exposed,
            Some(true) => Lock::Passphrase(ask_passphrase("Passphrase: ")?, KdfCost::STANDARD),
        };
        Ok(IdentityFile::new(&self.dir, lock)?)
    }

    pub(crate) fn identity(&self) -> Result<Identity, CliError> {
        Ok(self.identity_file()?.load()?)
    }

    /// What was said so far; sealed as the identity is.
    pub(crate) fn history(&self) -> Result<History, CliError> {
        let dir = StateDir::open(&self.dir)?;
        match IdentityFile::is_sealed(&self.dir) {
            Some(true) => Ok(History::sealed(dir, &self.identity()?)?),
            Some(false) | None => Ok(History::plain(dir)),
        }
    }

    /// The account, for what needs the node.
    pub(crate) async fn account(&self) -> Result<Account, CliError> {
        let file = self.identity_file()?;
        self.account_of(&file).await
    }

    /// The same with the identity file that was opened already.
    pub(crate) async fn account_of(&self, file: &IdentityFile) -> Result<Account, CliError> {
        self.claim().await?;
        let account = Account::open_file(self.rpc()?, file.clone(), &self.dir).await?;
        self.tell(&account);
        Ok(account)
    }

    /// The account, for what can wait in the outbox until the node answers.
    pub(crate) async fn account_or_offline(&self) -> Result<Account, CliError> {
        let file = self.identity_file()?;
        self.account_of_or_offline(&file).await
    }

    /// The same with the identity file that was opened already.
    pub(crate) async fn account_of_or_offline(
        &self,
        file: &IdentityFile,
    ) -> Result<Account, CliError> {
        self.claim().await?;
        let account = Account::open_file_or_offline(self.rpc()?, file.clone(), &self.dir).await?;
        self.tell(&account);
        Ok(account)
    }

    /// The account, for what needs no node.
    pub(crate) async fn account_offline(&self) -> Result<Account, CliError> {
        let file = self.identity_file()?;
        self.claim().await?;
        Ok(Account::open_file_offline(self.rpc()?, file, &self.dir)?)
    }

    /// What a person should know before anything else.
    fn tell(&self, account: &Account) {
        if account.followed_head_key() {
            note(&format!(
                "{} has a new head key, certified by its operator's root key: it was restored from \
                 a backup. What was seen before still holds, and the new key is pinned",
                self.node
            ));
        }
        let flushed = account.flushed();
        for why in &flushed.refused {
            note(&format!(
                "a transaction of the outbox was refused for good: {why}"
            ));
        }
        for why in &flushed.unknown {
            note(why);
        }
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

/// A session id, the name of a session, or the newest session of two with a contact.
pub(crate) async fn resolve_session(
    account: &mut Account,
    text: &str,
) -> Result<SessionId, CliError> {
    let mut named = account.state().sessions.iter();
    let named = named.find(|(_, progress)| progress.name.as_deref() == Some(text));
    if let Some((session, _)) = named {
        return Ok(*session);
    }
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
    let found = account.session_with(&[peer]).await?;
    found.ok_or_else(|| CliError::NoSession(text.to_owned()))
}
