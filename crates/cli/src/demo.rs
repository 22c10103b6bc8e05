//! `session demo`: the main job, once, from nothing - with a crash in the middle.

mod devnet;
mod group;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use session_client::{Account, Item, RpcClient};
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_crypto::Identity;
use session_devnet::ChainHead;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::out::{CliError, Out, bytes, duration, short};
use crate::proof::{self, ProofFile};

/// A node that is not ready by then has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);

const SCRIPT: [(bool, &str); 6] = [
    (true, "Hello Bob. Nobody between us can read this."),
    (
        false,
        "Hello Alice. Not today, and not with a quantum computer either.",
    ),
    (true, "And if the node dies while we talk?"),
    (false, "Then it starts again and everything is still there."),
    (true, "How would we know that nothing was left out?"),
    (false, "It has to prove it. We check."),
];

/// Where it happens.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// A stand-alone node that ends with the demo
    Node,
    /// The network of `session devnet up`, three nodes at least; it runs on afterwards
    Devnet,
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where it happens
    #[arg(long, value_enum, default_value_t = Where::Node)]
    network: Where,
    /// Where the devnet lives [default: ~/.local/share/session/devnet]
    #[arg(long, env = "SESSION_DEVNET", value_name = "DIR")]
    devnet_dir: Option<PathBuf>,
    /// Also sends this file, in pieces
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// A group of so many people with forward secrecy instead, of whom one is robbed and one removed
    #[arg(
        long, value_name = "N", conflicts_with_all = ["network", "file"],
        value_parser = clap::value_parser!(u8).range(3..=30)
    )]
    group: Option<u8>,
    /// Keeps everything here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A node in a process of its own.
struct NodeProcess {
    child: Child,
    rpc: String,
    chain: String,
    height: u64,
}

impl NodeProcess {
    async fn start(data_dir: &Path) -> Result<Self, CliError> {
        let failed = |problem: String| CliError::Demo {
            step: "starting the node",
            problem,
        };
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args([
                "node",
                "run",
                "--rpc",
                "127.0.0.1:0",
                "--log",
                "warn",
                "--data-dir",
            ])
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| failed("no output".to_owned()))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await;
        let line = line.map_err(|_| failed("not ready in 20 s".to_owned()))??;
        let line = line.ok_or_else(|| failed("it ended; its message is above".to_owned()))?;
        let ready: Value = serde_json::from_str(&line).map_err(|e| failed(e.to_string()))?;
        let text = |name| {
            ready
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let height = ready
            .get("height")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        Ok(Self {
            child,
            rpc: text("rpc"),
            chain: text("chain"),
            height,
        })
    }

    /// SIGKILL, and waits until the process is gone.
    async fn kill(mut self) -> Result<(), CliError> {
        Ok(self.child.kill().await?)
    }
}

struct Report<'a> {
    out: &'a Out,
    steps: Vec<Value>,
    /// The nodes that it happens on, where there are several.
    network: Option<session_devnet::Network>,
}

impl Report<'_> {
    /// Waits until what one node has accepted is known to all that run; a single one knows.
    async fn level(&self) -> Result<Option<ChainHead>, CliError> {
        let Some(network) = &self.network else {
            return Ok(None);
        };
        let nodes = network.state().nodes.iter().filter(|node| node.runs());
        let numbers: Vec<usize> = nodes.map(|node| node.number).collect();
        Ok(network.level(&numbers, &|_| ()).await?)
    }

    fn step(&mut self, name: &str, text: &str, took: Duration, facts: Value) {
        if !self.out.is_json() {
            let mark = self.out.paint("32", "✓");
            let time = self.out.paint("2", &format!("{:>9}", duration(took)));
            self.out
                .line(&format!(" {mark} {name:<11} {text:<58} {time}"));
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.steps
            .push(json!({ "step": name, "us": us, "facts": facts }));
    }
}

fn must(holds: bool, step: &'static str, problem: &str) -> Result<(), CliError> {
    if holds {
        Ok(())
    } else {
        Err(CliError::Demo {
            step,
            problem: problem.to_owned(),
        })
    }
}

pub(crate) async fn run(args: &DemoArgs, out: &Out) -> Result<(), CliError> {
    let temporary = tempfile::Builder::new().prefix("session-demo-").tempdir()?;
    let base = args
        .data_dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let file = match &args.file {
        Some(path) => Some((path, std::fs::read(path).map_err(CliError::file(path))?)),
        None => None,
    };
    let title = match (args.network, args.group) {
        (_, Some(_)) => "Lux Session: a group, a crash, a theft, and a removal",
        (Where::Node, None) => "Lux Session: two people, one node, and a crash",
        (Where::Devnet, None) => "Lux Session: two people, several nodes, and a crash",
    };
    if !out.is_json() {
        out.line(&format!("\n {}\n", out.paint("1", title)));
    }
    let mut report = Report {
        out,
        steps: Vec::new(),
        network: None,
    };
    let sent = match (args.network, args.group) {
        (_, Some(people)) => group::run(&mut report, &base, people.into()).await?,
        (Where::Node, None) => on_a_node(&mut report, &base, file.as_ref()).await?,
        (Where::Devnet, None) => {
            let dir = crate::devnet::directory(args.devnet_dir.as_deref())?;
            devnet::run(&mut report, &dir, &base, file.as_ref()).await?
        }
    };
    if out.is_json() {
        let value = json!({ "ok": true, "messages": sent, "steps": report.steps });
        out.line(&value.to_string());
        return Ok(());
    }
    out.line(&format!(
        "\n {}",
        out.paint("1;32", "Everything was as it should be.")
    ));
    if args.data_dir.is_some() && args.group.is_none() {
        let file = base.join("mailbox.proof");
        out.line(&format!(
            " Verify the mailbox again: session verify {}",
            file.display()
        ));
    }
    out.line("");
    Ok(())
}

/// On a node of its own; answers how many messages were sent.
async fn on_a_node(
    report: &mut Report<'_>,
    base: &Path,
    file: Option<&(&PathBuf, Vec<u8>)>,
) -> Result<u64, CliError> {
    let began = Instant::now();
    let node = NodeProcess::start(&base.join("node")).await?;
    let text = format!(
        "stand-alone SessionVM on {}",
        node.rpc.trim_start_matches("http://")
    );
    report.step(
        "node",
        &text,
        began.elapsed(),
        json!({ "rpc": node.rpc, "chain": node.chain }),
    );

    let rpc = RpcClient::new(&node.rpc, None)?;
    let (mut alice, mut bob) = identities(report, [rpc.clone(), rpc], base).await?;
    let session = open_session(report, &mut alice, &mut bob).await?;
    let mut sent = talk(report, &mut alice, &mut bob, &session).await?;
    if let Some((path, content)) = file {
        sent += send_file(report, &mut alice, &session, path, content).await?;
    }
    let first = read_all(report, &mut alice, &mut bob, &session, file).await?;
    let proofs = prove(report, &alice, &session, sent).await?;

    let began = Instant::now();
    node.kill().await?;
    let node = NodeProcess::start(&base.join("node")).await?;
    let text = format!("SIGKILL, and up again at block {}", node.height);
    report.step(
        "crash",
        &text,
        began.elapsed(),
        json!({ "height": node.height }),
    );
    must(
        node.height >= proofs.height,
        "crash",
        "the node came back with an older block",
    )?;

    let rpc = RpcClient::new(&node.rpc, None)?;
    read_again(report, &rpc, base, &session, (sent, first)).await?;
    drop((alice, bob));
    node.kill().await?;
    Ok(sent)
}

async fn identities(
    report: &mut Report<'_>,
    [to_alice, to_bob]: [RpcClient; 2],
    base: &Path,
) -> Result<(Account, Account), CliError> {
    let began = Instant::now();
    let (alice, bob) = (Identity::generate()?, Identity::generate()?);
    let text = format!(
        "alice {}  bob {}",
        short(&alice.id().to_string()),
        short(&bob.id().to_string())
    );
    let facts = json!({ "alice": alice.id().to_string(), "bob": bob.id().to_string() });
    report.step("identities", &text, began.elapsed(), facts);

    let began = Instant::now();
    let alice = keep_and_open(to_alice, alice, &base.join("alice")).await?;
    let bob = keep_and_open(to_bob, bob, &base.join("bob")).await?;
    report.level().await?;
    report.step(
        "registered",
        "both key pairs are on the chain",
        began.elapsed(),
        json!({}),
    );
    Ok((alice, bob))
}

/// Writes the identity beside the account's state, so that it survives this process too.
async fn keep_and_open(
    rpc: RpcClient,
    identity: Identity,
    path: &Path,
) -> Result<Account, CliError> {
    // The directory may be somebody's own, by the names of the README.
    if session_client::IdentityFile::is_sealed(path) == Some(true) {
        return Err(CliError::IdentityExists(path.to_owned()));
    }
    let text = identity.to_json_exposing_secrets();
    session_client::StateDir::open(path)?.write_file("identity.json", text.as_bytes())?;
    Ok(Account::open(rpc, identity, path).await?)
}

async fn open_session(
    report: &mut Report<'_>,
    alice: &mut Account,
    bob: &mut Account,
) -> Result<SessionId, CliError> {
    let began = Instant::now();
    let session = alice.create_session(bob.id()).await?;
    report.level().await?;
    let requests = bob.sessions(true).await?;
    must(
        requests.iter().any(|r| r.session == session),
        "session",
        "bob sees no request",
    )?;
    bob.accept(session).await?;
    report.level().await?;
    let text = format!(
        "{} opened by alice, accepted by bob",
        short(&session.to_string())
    );
    report.step(
        "session",
        &text,
        began.elapsed(),
        json!({ "sessionId": session }),
    );
    Ok(session)
}

async fn talk(
    report: &mut Report<'_>,
    alice: &mut Account,
    bob: &mut Account,
    session: &SessionId,
) -> Result<u64, CliError> {
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for (from_alice, text) in SCRIPT {
        let one = Instant::now();
        let sender = if from_alice { &mut *alice } else { &mut *bob };
        sender.send_text(session, text).await?;
        slowest = slowest.max(one.elapsed());
    }
    let count = SCRIPT.len() as u64;
    let text = format!(
        "{count} sealed, signed, ordered, on disk (slowest {})",
        duration(slowest)
    );
    report.step(
        "messages",
        &text,
        began.elapsed(),
        json!({ "count": count }),
    );
    Ok(count)
}

async fn send_file(
    report: &mut Report<'_>,
    alice: &mut Account,
    session: &SessionId,
    path: &Path,
    content: &[u8],
) -> Result<u64, CliError> {
    let began = Instant::now();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    let bar = report.out.progress(content.len() as u64, " sending");
    let sent = alice
        .send_file(session, name, content, |done, _| bar.set_position(done))
        .await?;
    bar.finish_and_clear();
    let text = format!(
        "{name}, {} in {} messages",
        bytes(content.len() as u64),
        sent.messages
    );
    let facts = json!({ "name": name, "bytes": content.len(), "messages": sent.messages });
    report.step("file", &text, began.elapsed(), facts);
    Ok(sent.messages)
}

/// Opens somebody's account again, as a program that starts anew: with what the directory keeps.
async fn open_again(rpc: RpcClient, path: &Path) -> Result<Account, CliError> {
    let identity = std::fs::read_to_string(path.join("identity.json"));
    let identity = identity.map_err(CliError::file(path))?;
    let identity = Identity::from_json(&identity).map_err(|error| CliError::Identity {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Account::open(rpc, identity, path).await?)
}

/// Reads everything on both sides and checks every word of it.
async fn read_all(
    report: &mut Report<'_>,
    alice: &mut Account,
    bob: &mut Account,
    session: &SessionId,
    file: Option<&(&PathBuf, Vec<u8>)>,
) -> Result<usize, CliError> {
    report.level().await?;
    let began = Instant::now();
    let to_alice = alice.receive(session).await?;
    let to_bob = bob.receive(session).await?;
    let said = |by_alice: bool| -> Vec<&str> {
        SCRIPT
            .iter()
            .filter(|(a, _)| *a == by_alice)
            .map(|(_, text)| *text)
            .collect()
    };
    must(
        to_bob.texts() == said(true),
        "read",
        "bob read something else than alice wrote",
    )?;
    must(
        to_alice.texts() == said(false),
        "read",
        "alice read something else than bob wrote",
    )?;
    let all = to_alice.messages.iter().chain(&to_bob.messages);
    must(
        all.clone().all(|m| m.verified && m.bound),
        "read",
        "a signature does not hold",
    )?;
    if let Some((_, content)) = file {
        let arrived = to_bob
            .messages
            .iter()
            .find_map(|message| match &message.item {
                Item::File { path, .. } => std::fs::read(path).ok(),
                Item::Text(_)
                | Item::FileBegins { .. }
                | Item::FilePart
                | Item::Invitation(_)
                | Item::Link(_)
                | Item::Rejoin(_)
                | Item::Own
                | Item::Pruned
                | Item::Refused(_) => None,
            });
        must(
            arrived.as_ref() == Some(content),
            "read",
            "the file did not arrive as it was",
        )?;
    }
    let read = to_alice.messages.len() + to_bob.messages.len();
    let size = to_alice.proof_bytes + to_bob.proof_bytes;
    let text = format!(
        "decrypted, signatures and proofs ({}) verified",
        bytes(size as u64)
    );
    report.step(
        "read",
        &text,
        began.elapsed(),
        json!({ "proofBytes": size }),
    );

    let began = Instant::now();
    bob.acknowledge(session, to_bob.count).await?;
    report.level().await?;
    let receipt = alice.receipt(session).await?;
    let confirmed = receipt.map(|receipt| receipt.up_to);
    must(
        confirmed == Some(to_bob.count),
        "receipt",
        "bob's confirmation is not there",
    )?;
    let text = format!("bob confirmed all {}, proved to alice", to_bob.count);
    report.step(
        "receipt",
        &text,
        began.elapsed(),
        json!({ "upTo": to_bob.count }),
    );
    Ok(read)
}

struct Proofs {
    height: u64,
}

/// Complete mailbox and complete memberships: written to files, then verified from the files.
async fn prove(
    report: &mut Report<'_>,
    alice: &Account,
    session: &SessionId,
    sent: u64,
) -> Result<Proofs, CliError> {
    let base = alice
        .dir()
        .path()
        .parent()
        .unwrap_or(alice.dir().path())
        .to_owned();
    let mut height = 0;
    let mailbox = json!({ "sessionId": session, "from": 0, "to": sent });
    let memberships = json!({ "account": alice.id(), "from": 0, "to": 1_000 });
    for (name, params) in [("mailbox", mailbox), ("memberships", memberships)] {
        let file = proof::fetch(alice.rpc(), params).await?;
        let path = base.join(format!("{name}.proof"));
        let text = serde_json::to_vec_pretty(&file).unwrap_or_default();
        std::fs::write(&path, &text).map_err(CliError::file(&path))?;
        let file = ProofFile::read(&path)?;
        let began = Instant::now();
        let proved = file.verify(Some(&alice.state().trust.head_key))?;
        let took = began.elapsed();
        let entries = proved.entries.as_ref();
        let (shown, count) = entries.map_or((0, 0), |e| (e.entries.len() as u64, e.count));
        must(
            shown == count && count > 0,
            "proof",
            "the proof does not show the whole log",
        )?;
        must(
            name != "mailbox" || count == sent,
            "proof",
            "the mailbox has another length",
        )?;
        let size = file.proof.len() as u64 / 4 * 3;
        let leaves: usize =
            entries.map_or(0, |e| e.entries.iter().map(|e| e.to_bytes().len()).sum());
        let text = format!(
            "complete {name}: {count} of {count} entries, {}, offline",
            bytes(size)
        );
        let facts = json!({ "entries": count, "bytes": size, "leafBytes": leaves });
        report.step("proof", &text, took, facts);
        height = proved.header.height;
    }
    Ok(Proofs { height })
}

/// Everything again, as somebody who remembers nothing but the identity.
async fn read_again(
    report: &mut Report<'_>,
    rpc: &RpcClient,
    base: &Path,
    session: &SessionId,
    (sent, first): (u64, usize),
) -> Result<(), CliError> {
    let began = Instant::now();
    let mut read = 0;
    for name in ["alice", "bob"] {
        let path = base.join(name);
        let dir = session_client::StateDir::open(&path)?;
        let mut state = dir.load()?;
        for progress in state.sessions.values_mut() {
            (progress.cursor, progress.seen) = (0, Default::default());
        }
        dir.save(&state)?;
        let mut account = open_again(rpc.clone(), &path).await?;
        let inbox = account.receive(session).await?;
        must(
            inbox.count == sent,
            "read again",
            "messages are missing after the crash",
        )?;
        let fine = |item: &Item| !matches!(item, Item::Refused(_) | Item::Pruned);
        must(
            inbox.messages.iter().all(|m| fine(&m.item)),
            "read again",
            "a message is damaged",
        )?;
        read += inbox.messages.len();
    }
    must(read == first, "read again", "not everything came back")?;
    let text = format!("all {sent} messages are there, proved against the same logs");
    report.step(
        "read again",
        &text,
        began.elapsed(),
        json!({ "messages": sent }),
    );
    Ok(())
}
