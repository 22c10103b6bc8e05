//! `session identity …`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use session_client::StateDir;
use session_crypto::{Identity, KdfCost, RecoveryPhrase, SealedIdentity};

use crate::home::{Home, ask_passphrase};
use crate::out::{CliError, Out};

#[derive(Subcommand)]
pub(crate) enum IdentityVerb {
    /// Makes an identity; prints its 24-word recovery phrase once
    New {
        /// Keeps the secret keys unsealed on disk
        #[arg(long)]
        plain: bool,
    },
    /// Shows your id
    Show,
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
    /// Makes the identity of a recovery phrase, read from standard input or SESSION_PHRASE
    Recover {
        /// Keeps the secret keys unsealed on disk
        #[arg(long)]
        plain: bool,
    },
}

pub(crate) fn run(verb: IdentityVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    match verb {
        IdentityVerb::New { plain } => {
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
        IdentityVerb::Show => {
            let identity = home.identity()?;
            let (id, account) = (identity.id().to_string(), identity.account_id());
            out.result(
                &format!("id       {id}\naccount  {account}"),
                &json!({ "id": id, "account": account }),
            )
        }
        IdentityVerb::Export { file, secret } => {
            let identity = home.identity()?;
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
        IdentityVerb::Import { file, plain } => {
            check_absent(home)?;
            let text = std::fs::read_to_string(&file).map_err(CliError::file(&file))?;
            let text = zeroize::Zeroizing::new(text);
            let identity = Identity::from_json(&text).map_err(|error| CliError::Identity {
                path: file,
                problem: error.to_string(),
            })?;
            store(&identity, home, plain)?;
            told(&identity, out)
        }
        IdentityVerb::Recover { plain } => {
            check_absent(home)?;
            let text = match std::env::var("SESSION_PHRASE") {
                Ok(text) => text,
                Err(_) => std::io::read_to_string(std::io::stdin())?,
            };
            let text = zeroize::Zeroizing::new(text);
            let phrase: RecoveryPhrase =
                text.trim()
                    .parse()
                    .map_err(|error: session_crypto::PhraseError| {
                        CliError::Usage(format!("recovery phrase: {error}"))
                    })?;
            let identity = Identity::from_phrase(&phrase)?;
            store(&identity, home, plain)?;
            told(&identity, out)
        }
    }
}

fn told(identity: &Identity, out: &Out) -> Result<(), CliError> {
    let id = identity.id().to_string();
    out.result(&format!("Your id is\n  {id}"), &json!({ "id": id }))
}

fn check_absent(home: &Home) -> Result<(), CliError> {
    if home.sealed_path().exists() || home.plain_path().exists() {
        return Err(CliError::IdentityExists(home.dir.clone()));
    }
    Ok(())
}

fn store(identity: &Identity, home: &Home, plain: bool) -> Result<(), CliError> {
    let dir = StateDir::open(&home.dir)?;
    if plain {
        let text = identity.to_json_exposing_secrets();
        dir.write_file("identity.json", text.as_bytes())?;
        return Ok(());
    }
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
    let sealed = SealedIdentity::seal(identity, passphrase.as_bytes(), KdfCost::STANDARD).map_err(
        |error| CliError::Identity {
            path: home.sealed_path(),
            problem: error.to_string(),
        },
    )?;
    dir.write_file("identity.sealed", sealed.to_bytes().as_ref())?;
    Ok(())
}
