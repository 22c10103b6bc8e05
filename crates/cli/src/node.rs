//! `session node …`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use session_vm::app::NodeArgs;

use crate::home::Home;
use crate::out::{CliError, Out, bytes};

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// Runs a stand-alone node until Ctrl-C
    Run(Box<NodeArgs>),
    /// Asks the node how it is
    Status,
    /// Copies a stopped node's store into one file; head keys are not in it
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
    /// Forgets the pinned chain and head key of the node
    Forget,
}

pub(crate) async fn run(verb: NodeVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    match verb {
        NodeVerb::Run(_) => Ok(()),
        NodeVerb::Status => status(home, out).await,
        NodeVerb::Backup { data_dir, file } => {
            let store = session_storage::DiskStore::open(data_dir.join("store"))?;
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
                session_client::StateDir::open(&data_dir)?.write_file("operator.phrase", &text)?;
            }
            told("restored", &copied, &data_dir, out)
        }
        NodeVerb::Forget => {
            let dir = session_client::StateDir::open(&home.dir)?;
            let mut state = dir.load()?;
            state.trust = session_client::Trust::default();
            dir.save(&state)?;
            out.done("the pinned chain and head key are forgotten")
        }
    }
}

fn told(
    what: &str,
    copied: &session_storage::Copied,
    path: &std::path::Path,
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
