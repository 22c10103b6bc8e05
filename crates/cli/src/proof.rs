//! `session prove` and `session verify`: proofs as files, verified without a node.
//!
//! A proof file is JSON: `{"format":"lux-session-proof/1","headKey":hex,"proof":base64}`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use session_client::{decode_proof, head_is_signed_by};
use session_core::ids::ChainId;
use session_core::log::{Conversation, Entry, LogId};
use session_core::proof::Proved;
use session_crypto::SigningPublicKey;

use crate::home::{Home, resolve_session};
use crate::out::{CliError, Out};

/// The only format so far.
const FORMAT: &str = "lux-session-proof/1";

/// Larger than any proof of a thousand entries.
const FILE_MAX: u64 = 4 << 20;

#[derive(Args)]
pub(crate) struct ProveArgs {
    /// Session id or contact; without it, your own memberships
    session: Option<String>,
    /// First entry
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Proof file to write
    #[arg(long, short)]
    file: PathBuf,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Proof file
    file: PathBuf,
    /// Head key that must have signed, hex; without it the one in the file
    #[arg(long)]
    head_key: Option<String>,
    /// Chain that the proof must be about
    #[arg(long)]
    chain: Option<ChainId>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProofFile {
    pub(crate) format: String,
    pub(crate) head_key: String,
    pub(crate) proof: String,
}

impl ProofFile {
    pub(crate) fn new(head_key: &str, proof: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            head_key: head_key.to_owned(),
            proof,
        }
    }

    pub(crate) fn read(path: &PathBuf) -> Result<Self, CliError> {
        let len = std::fs::metadata(path).map_err(CliError::file(path))?.len();
        let not_proved = |why: String| CliError::NotProved(format!("{}: {why}", path.display()));
        if len > FILE_MAX {
            return Err(not_proved(format!("{len} bytes are no proof file")));
        }
        let text = std::fs::read(path).map_err(CliError::file(path))?;
        let file: Self = serde_json::from_slice(&text).map_err(|e| not_proved(e.to_string()))?;
        if file.format != FORMAT {
            return Err(not_proved(format!(
                "format {} is not {FORMAT}",
                file.format
            )));
        }
        Ok(file)
    }

    /// Everything is checked here; nothing is asked of anybody.
    pub(crate) fn verify(&self, head_key: Option<&str>) -> Result<Proved, CliError> {
        let proof = decode_proof(&self.proof)?;
        let proved = proof.verify().map_err(session_client::TrustError::from)?;
        let key = const_hex::decode(head_key.unwrap_or(&self.head_key)).unwrap_or_default();
        let key = SigningPublicKey::try_from(key.as_slice())
            .map_err(|_| CliError::NotProved("the head key is not an ML-DSA-65 key".to_owned()))?;
        if !proof.heads.iter().any(|head| head_is_signed_by(head, &key)) {
            return Err(CliError::NotProved(
                "the head key has not signed this head".to_owned(),
            ));
        }
        Ok(proved)
    }
}

/// Asks a node for a proof.
pub(crate) async fn fetch(
    rpc: &session_client::RpcClient,
    params: Value,
) -> Result<ProofFile, CliError> {
    let head: Value = rpc.call("sessionvm.GetHead", json!({})).await?;
    let reply: Value = rpc.call("sessionvm.GetProof", params).await?;
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(ProofFile::new(
        &text(&head, "headKey"),
        text(&reply, "proof"),
    ))
}

pub(crate) async fn prove(args: &ProveArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let params = match &args.session {
        Some(session) => {
            let session = resolve_session(&mut account, session).await?;
            json!({ "sessionId": session, "from": args.from, "to": args.from.saturating_add(1_000) })
        }
        None => {
            json!({ "account": account.id(), "from": args.from, "to": args.from.saturating_add(1_000) })
        }
    };
    let file = fetch(account.rpc(), params).await?;
    let text = serde_json::to_string_pretty(&file).unwrap_or_default();
    std::fs::write(&args.file, text).map_err(CliError::file(&args.file))?;
    let proved = file.verify(None)?;
    out.result(
        &format!("{}\nwritten to {}", describe(&proved), args.file.display()),
        &as_json(&proved),
    )
}

pub(crate) fn verify(args: &VerifyArgs, out: &Out) -> Result<(), CliError> {
    let file = ProofFile::read(&args.file)?;
    let proved = file.verify(args.head_key.as_deref())?;
    if let Some(chain) = args.chain
        && chain != proved.header.chain
    {
        let found = proved.header.chain;
        return Err(CliError::NotProved(format!(
            "the proof is about chain {found}"
        )));
    }
    let mut text = describe(&proved);
    if args.head_key.is_none() {
        text.push_str("\nsigned by the head key in the file: compare it with the node you trust");
    }
    out.result(&text, &as_json(&proved))
}

/// What a verified proof says, in words.
pub(crate) fn describe(proved: &Proved) -> String {
    let header = &proved.header;
    let mut text = format!("holds in block {} of chain {}", header.height, header.chain);
    match &proved.entries {
        Some(entries) => {
            let what = match entries.log {
                LogId::Session(id) => format!("session {id}"),
                LogId::Channel(id) => format!("channel {id}"),
                LogId::Memberships(id) => format!("memberships of {id}"),
                LogId::Requests(id) => format!("requests to {id}"),
                LogId::Group(id) => format!("group {id}"),
            };
            let to = entries.from + entries.entries.len() as u64;
            text.push_str(&format!(
                "\n{what}: entries {}..{to} of {}, complete and in order",
                entries.from, entries.count
            ));
        }
        None if proved.record.is_some() => text.push_str("\nthe record is in the state"),
        None => text.push_str("\nthere is no such record"),
    }
    text
}

fn as_json(proved: &Proved) -> Value {
    let entries = proved.entries.as_ref().map(|entries| {
        let list: Vec<Value> = entries.entries.iter().map(entry_json).collect();
        json!({ "from": entries.from, "count": entries.count, "entries": list })
    });
    json!({
        "ok": true,
        "chain": proved.header.chain,
        "height": proved.header.height,
        "present": proved.record.is_some(),
        "log": entries,
    })
}

fn entry_json(entry: &Entry) -> Value {
    match entry {
        Entry::Message(m) => json!({
            "sequence": m.sequence, "id": m.id, "sender": m.sender, "timeMs": m.time.ms(),
            "height": m.height, "verified": m.verified,
        }),
        Entry::Membership(m) => {
            let conversation = match m.conversation {
                Conversation::Session(id) => json!({ "sessionId": id }),
                Conversation::Channel(id) => json!({ "channelId": id }),
                Conversation::Group(id) => json!({ "groupId": id }),
            };
            json!({ "sequence": m.sequence, "conversation": conversation, "by": m.by })
        }
        Entry::Post(p) => json!({
            "sequence": p.sequence, "id": p.id, "epoch": p.epoch, "timeMs": p.time.ms(),
            "height": p.height,
        }),
        Entry::Advance(a) => json!({
            "sequence": a.sequence, "action": a.action, "epoch": a.epoch, "commit": a.commit,
            "removal": a.removal, "admin": a.admin, "timeMs": a.time.ms(), "height": a.height,
        }),
    }
}
