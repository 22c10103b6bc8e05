//! `session identity …`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use session_client::{Account, ClientError, IdentityFile, Lock, RpcError, StateDir, fingerprint};
use session_core::hash::Tag;
use session_core::ids::Digest;
use session_crypto::{Identity, KdfCost, RecoveryPhrase, Seed, recovery_key};

use crate::home::{Home, ask_passphrase};
use crate::out::{CliError, Out, note, read_at_most};

/// An identity in JSON takes 15 kB.
const JSON_MAX: u64 = 1 << 20;

#[derive(Subcommand)]
pub(crate) enum IdentityVerb {
    /// Makes an identity; prints its 24-word recovery phrase once
    New {
        /// Keeps the secret keys unsealed on disk; the words stay off it
        #[arg(long)]
        plain: bool,
    },
    /// Shows your id, and a short form of your current keys to compare with others
    Show,
    /// Replaces your keys by new ones; your id stays, and contacts are told
    Rotate,
    /// Ends your identity for good: nothing that it signs is accepted any more
    Revoke {
        /// Says that you mean it
        #[arg(long)]
        yes: bool,
        /// Signs with the recovery key of your 24 words, from standard input or SESSION_PHRASE:
        /// also where somebody else holds the current keys
        #[arg(long)]
        phrase: bool,
    },
    /// Writes the identity in the Go project's JSON; public keys only unless --secret
    Export {
        /// File; standard output without it
        #[arg(long)]
        file: Option<PathBuf>,
        /// Includes the secret keys, in the open
        #[arg(long)]
        secret: bool,
    },
    /// Takes an identity from the Go project's JSON
    Import {
        /// File
        file: PathBuf,
        /// Keeps the secret keys unsealed on disk
        #[arg(long)]
        plain: bool,
    },
    /// Makes the identity of a recovery phrase, read from standard input or SESSION_PHRASE, with
    /// the keys that the chain has for it
    Recover {
        /// Keeps the secret keys unsealed on disk
        #[arg(long)]
        plain: bool,
        /// Sets new keys with the recovery key, whoever set the current ones
        #[arg(long)]
        take_back: bool,
    },
}

pub(crate) async fn run(verb: IdentityVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    if !matches!(verb, IdentityVerb::Show | IdentityVerb::Export { .. }) {
        home.claim().await?;
    }
    match verb {
        IdentityVerb::New { plain } => new(plain, home, out),
        IdentityVerb::Show => show(home, out),
        IdentityVerb::Rotate => rotate(home, out).await,
        IdentityVerb::Revoke { yes, phrase } => revoke(yes, phrase, home, out).await,
        IdentityVerb::Export { file, secret } => export(file, secret, home, out),
        IdentityVerb::Import { file, plain } => {
            check_absent(home)?;
            let bytes = zeroize::Zeroizing::new(read_at_most(&file, JSON_MAX)?);
            let text = String::from_utf8_lossy(&bytes);
            let identity = Identity::from_json(&text).map_err(|error| CliError::Identity {
                path: file,
                problem: error.to_string(),
            })?;
            store(&identity, home, plain)?;
            told(&identity, out)
        }
        IdentityVerb::Recover { plain, take_back } => recover(plain, take_back, home, out).await,
    }
}

fn new(plain: bool, home: &Home, out: &Out) -> Result<(), CliError> {
    check_absent(home)?;
    let identity = Identity::generate()?;
    store(&identity, home, plain)?;
    let phrase = identity.recovery_phrase();
    let words = phrase
        .as_ref()
        .map(|p| p.expose().to_string())
        .unwrap_or_default();
    let text = format!(
        "Your id is\n  {}\n\nYour recovery phrase. It is shown once; whoever has it is you:\n  {words}",
        identity.id()
    );
    let id = identity.id().to_string();
    out.result(
        &text,
        &json!({ "id": id, "account": identity.account_id(), "phrase": words }),
    )
}

fn show(home: &Home, out: &Out) -> Result<(), CliError> {
    let identity = home.identity()?;
    let (id, account) = (identity.id().to_string(), identity.account_id());
    let (keys, rotation) = (fingerprint(identity.public()), identity.rotation());
    let rotated = match rotation {
        0 => String::new(),
        n => format!(" (rotation {n})"),
    };
    out.result(
        &format!("id       {id}\naccount  {account}\nkeys     {keys}{rotated}"),
        &json!({ "id": id, "account": account, "keys": keys, "rotation": rotation }),
    )
}

async fn rotate(home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let index = account.rotate().await?;
    let keys = fingerprint(account.identity().public());
    out.result(
        &format!("your keys are new (rotation {index}), and your id is the same\nkeys {keys}"),
        &json!({ "ok": true, "keyIndex": index, "keys": keys }),
    )
}

async fn revoke(yes: bool, phrase: bool, home: &Home, out: &Out) -> Result<(), CliError> {
    if !yes {
        let problem = "revoking ends this identity for good, and nobody can undo it: add --yes";
        return Err(CliError::Usage(problem.to_owned()));
    }
    if phrase {
        let seed = read_phrase()?.seed();
        Account::revoke_with_seed(home.rpc()?, &seed, &home.dir).await?;
    } else {
        home.account().await?.revoke().await?;
    }
    out.done("this identity is revoked: make a new one, and tell your contacts")
}

fn export(file: Option<PathBuf>, secret: bool, home: &Home, out: &Out) -> Result<(), CliError> {
    let identity = home.identity()?;
    if identity.rotation() > 0 {
        let problem =
            "the Go project's JSON has no place for rotated keys: their hash is not your id";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let text = if secret {
        identity.to_json_exposing_secrets()
    } else {
        zeroize::Zeroizing::new(identity.public().to_json())
    };
    match file {
        Some(path) => {
            // Only its owner may read it: it may hold secret keys.
            session_vm::head_key::write_private(&path, text.as_bytes())
                .map_err(CliError::file(&path))?;
            out.done(&format!("written to {}", path.display()))
        }
        None => {
            out.line(&text);
            Ok(())
        }
    }
}

async fn recover(plain: bool, take_back: bool, home: &Home, out: &Out) -> Result<(), CliError> {
    if !take_back {
        check_absent(home)?;
    }
    let phrase = read_phrase()?;
    let identity = Identity::from_phrase(&phrase)?;
    if take_back {
        let file = match IdentityFile::is_sealed(&home.dir) {
            Some(_) => home.identity_file()?,
            None => file_for(&identity, home, plain)?,
        };
        let account = Account::take_back(home.rpc()?, phrase.seed(), file, &home.dir).await?;
        let keys = fingerprint(account.identity().public());
        let id = account.identity().id().to_string();
        return out.result(
            &format!("{id}\nis yours again, with new keys: whoever set the others is locked out\nkeys {keys}"),
            &json!({ "ok": true, "id": id, "keys": keys }),
        );
    }
    let file = store(&identity, home, plain)?;
    // The keys may have rotated since the words were written down: the chain knows.
    match Account::recover(home.rpc()?, phrase.seed(), &file, &home.dir).await {
        Ok(_) => {}
        Err(ClientError::Rpc(error @ RpcError::Unreachable { .. })) => note(&format!(
            "{error}: if the keys were rotated, the current ones are not known yet"
        )),
        Err(error) => return Err(error.into()),
    }
    told(&identity, out)
}

fn read_phrase() -> Result<RecoveryPhrase, CliError> {
    let text = match std::env::var("SESSION_PHRASE") {
        Ok(text) => text,
        Err(_) => std::io::read_to_string(std::io::stdin())?,
    };
    let text = zeroize::Zeroizing::new(text);
    let problem =
        |error: session_crypto::PhraseError| CliError::Usage(format!("recovery phrase: {error}"));
    text.trim().parse().map_err(problem)
}

fn told(identity: &Identity, out: &Out) -> Result<(), CliError> {
    let id = identity.id().to_string();
    out.result(&format!("Your id is\n  {id}"), &json!({ "id": id }))
}

fn check_absent(home: &Home) -> Result<(), CliError> {
    match IdentityFile::is_sealed(&home.dir) {
        Some(_) => Err(CliError::IdentityExists(home.dir.clone())),
        None => Ok(()),
    }
}

/// Where a new identity goes, and what will open it.
fn file_for(identity: &Identity, home: &Home, plain: bool) -> Result<IdentityFile, CliError> {
    if plain {
        // The words stay off the disk; what is registered with them must not be lost.
        if let Some(seed) = identity.seed() {
            remember_recovery_key(seed, home)?;
        }
        return Ok(IdentityFile::new(&home.dir, Lock::Exposed)?);
    }
    Ok(IdentityFile::new(&home.dir, new_lock()?)?)
}

/// A passphrase that nobody has typed before, asked for twice on a terminal.
pub(crate) fn new_lock() -> Result<Lock, CliError> {
    let passphrase = ask_passphrase("New passphrase: ")?;
    if std::env::var_os("SESSION_PASSPHRASE").is_none()
        && *ask_passphrase("The same again: ")? != *passphrase
    {
        return Err(CliError::Usage("the passphrases differ".to_owned()));
    }
    if passphrase.is_empty() {
        let message = "an empty passphrase seals nothing: choose one, or use --plain";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok(Lock::Passphrase(passphrase, KdfCost::STANDARD))
}

fn remember_recovery_key(seed: &Seed, home: &Home) -> Result<(), CliError> {
    let key = recovery_key(seed)?;
    let digest = Tag::PublicKey.hash(&[key.public_key().as_ref()]);
    let dir = StateDir::open(&home.dir)?;
    let mut state = dir.load()?;
    state.recovery = Some(Digest::from_bytes(digest));
    Ok(dir.save(&state)?)
}

fn store(identity: &Identity, home: &Home, plain: bool) -> Result<IdentityFile, CliError> {
    let file = file_for(identity, home, plain)?;
    file.save(identity)?;
    Ok(file)
}
