//! `session node …`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};
use session_client::{Committee, Member, RpcClient, RpcError};
use session_vm::app::NodeArgs;

use crate::home::Home;
use crate::out::{CliError, Out, bytes, read_at_most};

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// Runs a stand-alone node until Ctrl-C
    Run(Box<NodeArgs>),
    /// Asks the node how it is
    Status,
    /// Copies a node's store into one file, also while it runs; head keys are not in it
    Backup {
        /// Data directory of the node
        #[arg(long)]
        data_dir: PathBuf,
        /// File to write
        file: PathBuf,
    },
    /// Makes a data directory from a backup; the node makes a new head key
    Restore {
        /// File to read
        file: PathBuf,
        /// Data directory to make
        #[arg(long)]
        data_dir: PathBuf,
        /// File with the operator's 24-word phrase, which certifies the new head key
        #[arg(long)]
        phrase: Option<PathBuf>,
    },
    /// Takes a chain under a Lux node back to an earlier block, while that node is stopped
    #[command(
        after_help = "For a chain whose plugin keeps a store of its own, in DIR/db, and is ahead of its node after a\nloss of power. The last 64 blocks can be undone; they come again from the other nodes. Until\nthen the plugin signs no head. `rewindTo` in the chain's configuration does the same at the\nplugin's next start.\n\nExample:\n  session node rewind --data-dir ~/.lux/chainData/CHAIN --to 120000"
    )]
    Rewind {
        /// The chain's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Height of the block that is to be the last one
        #[arg(long, value_name = "HEIGHT")]
        to: u64,
    },
    /// Pins several nodes: what one shows counts when enough of them have signed it
    #[command(
        after_help = "FILE is JSON with `nodes`, each with `url` and `headKey`: what `session --json devnet up`\nprints, and the state file of a devnet.\n\nExamples:\n  session node pin ~/.local/share/session/devnet/state.json\n  session node pin nodes.json --threshold 4\n\n`session node forget` goes back to the one node that answers first."
    )]
    Pin {
        /// File with the nodes
        file: PathBuf,
        /// How many of them must have signed a head [default: more than half]
        #[arg(long, value_name = "K")]
        threshold: Option<usize>,
    },
    /// Forgets the pinned chain and head keys
    Forget,
}

pub(crate) async fn run(verb: NodeVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    match verb {
        NodeVerb::Run(_) => Ok(()),
        NodeVerb::Status => status(home, out).await,
        NodeVerb::Backup { data_dir, file } => {
            if let Some(answer) = backup_running(&data_dir, &file).await? {
                let count = |name| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
                let (entries, bytes) = (count("entries"), count("bytes"));
                let copied = session_storage::Copied { entries, bytes };
                return told("backed up while running", &copied, &file, out);
            }
            let store = data_dir.join("store");
            // Opening would make an empty one, and the backup of nothing would look like one.
            if !store.is_dir() {
                let problem = format!("{} is no node's data directory", data_dir.display());
                return Err(CliError::Usage(problem));
            }
            let store = session_storage::DiskStore::open(store)?;
            let copied = session_storage::backup(&store, &file, |_, _| false)?;
            told("backed up", &copied, &file, out)
        }
        NodeVerb::Restore {
            file,
            data_dir,
            phrase,
        } => {
            let copied = session_storage::restore(&file, &data_dir.join("store"))?;
            if let Some(phrase) = phrase {
                let text = std::fs::read(&phrase).map_err(CliError::file(&phrase))?;
                let target = data_dir.join("operator.phrase");
                session_vm::head_key::write_private(&target, &text)
                    .map_err(CliError::file(&target))?;
            }
            told("restored", &copied, &data_dir, out)
        }
        NodeVerb::Rewind { data_dir, to } => rewind(&data_dir, to, out),
        NodeVerb::Pin { file, threshold } => pin(&file, threshold, home, out).await,
        NodeVerb::Forget => {
            let dir = session_client::StateDir::open(&home.dir)?;
            home.claim().await?;
            let mut state = dir.load()?;
            state.trust = session_client::Trust::default();
            dir.save(&state)?;
            out.done("the pinned chain and head key are forgotten")
        }
    }
}

/// Takes a stopped plugin's chain back.
fn rewind(data_dir: &Path, to: u64, out: &Out) -> Result<(), CliError> {
    let now = session_vm::rewind::rewind(data_dir, to)?;
    let (from, height, block) = (now.from, now.height, now.block.to_string());
    let text = if from == height {
        format!("the chain is at block {height} already")
    } else {
        format!("rewound from block {from} to block {height}, {block}")
    };
    let state_root = const_hex::encode(now.state_root);
    let value = json!({
        "ok": true, "from": from, "height": height, "block": block, "stateRoot": state_root,
    });
    out.result(&text, &value)
}

/// Nodes that are pinned together; keys take 4 kB each.
const NODES_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct NodesFile {
    nodes: Vec<Member>,
}

/// Believes several nodes instead of one. Chain and heights that were seen stay what they are.
async fn pin(
    file: &Path,
    threshold: Option<usize>,
    home: &Home,
    out: &Out,
) -> Result<(), CliError> {
    let nodes: NodesFile = serde_json::from_slice(&read_at_most(file, NODES_BYTES)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
    let count = nodes.nodes.len();
    let threshold = threshold.unwrap_or(count / 2 + 1);
    let committee = Committee::new(nodes.nodes, threshold)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
    let dir = session_client::StateDir::open(&home.dir)?;
    home.claim().await?;
    let mut state = dir.load()?;
    state.trust.committee = Some(committee);
    dir.save(&state)?;
    let text = format!("{count} nodes are pinned, and {threshold} of them must have signed a head");
    let value = json!({ "ok": true, "message": text, "nodes": count, "threshold": threshold });
    out.result(&text, &value)
}

/// Asks the node that runs on this directory, if one does.
async fn backup_running(data_dir: &Path, file: &Path) -> Result<Option<Value>, CliError> {
    let Ok(admin) = std::fs::read(data_dir.join(session_vm::app::ADMIN_FILE)) else {
        return Ok(None);
    };
    let admin: Value = serde_json::from_slice(&admin).unwrap_or_default();
    let text = |name: &str| admin.get(name).and_then(Value::as_str).unwrap_or_default();
    let (address, token) = (text("rpc"), Some(text("token").to_owned()));
    // With TLS its certificate names a host, and this is an address: the certificate itself is
    // what is known of it.
    let rpc = match const_hex::decode_to_array(text("certSha256")) {
        Ok(certificate) => RpcClient::with_certificate(address, token, certificate)?,
        Err(_) => RpcClient::new(address, token)?,
    };
    // The node resolves paths in its own directory, so it gets an absolute one.
    let file = std::path::absolute(file).map_err(CliError::file(file))?;
    match rpc
        .post_json("/admin/backup", &json!({ "file": file }))
        .await
    {
        Ok(answer) => Ok(Some(answer)),
        // It was killed and left its file behind: nobody has the store open.
        Err(RpcError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn told(
    what: &str,
    copied: &session_storage::Copied,
    path: &Path,
    out: &Out,
) -> Result<(), CliError> {
    let text = format!(
        "{what} {} entries, {}: {}",
        copied.entries,
        bytes(copied.bytes),
        path.display()
    );
    out.result(
        &text,
        &json!({ "ok": true, "entries": copied.entries, "bytes": copied.bytes }),
    )
}

async fn status(home: &Home, out: &Out) -> Result<(), CliError> {
    let rpc = home.rpc()?;
    let head: Value = rpc.call("sessionvm.GetHead", json!({})).await?;
    let health: Value = rpc.call("sessionvm.Health", json!({})).await?;
    let parameters: Value = rpc.call("sessionvm.GetParameters", json!({})).await?;
    let show = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    let text = format!(
        "node      {}\nchain     {}\nheight    {}\nhealthy   {}\nsessions  {}\npending   {}\nadmission {}",
        rpc.address(),
        show(&head, "chain"),
        show(&head, "height"),
        show(&health, "healthy"),
        show(&health, "sessions"),
        show(&health, "pending"),
        show(&parameters, "admission"),
    );
    out.result(
        &text,
        &json!({ "head": head, "health": health, "parameters": parameters }),
    )
}
