//! The same on a network of real hosts: written through one node, read through another, and the
//! node that is written through is killed in the middle of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use session_client::{Account, ClientError, Committee, Member, RpcClient, StateDir, TrustError};
use session_core::ids::SessionId;
use session_devnet::{ChainHead, DevnetError, Network, NodeState};

use super::{
    Report, identities, must, open_again, open_session, prove, read_again, read_all, send_file,
    talk,
};
use crate::out::{CliError, short};

/// Messages that are sent while a node dies.
const STORM: usize = 60;

/// After so many of them it does.
const BEFORE: usize = 20;

/// What waits in the outbox is accepted by then: with one of five validators dead a block takes
/// up to 10 s.
const FLUSH_LIMIT: Duration = Duration::from_secs(180);

/// How often it is tried.
const LOOK: Duration = Duration::from_millis(200);

/// The number of the node that dies.
const VICTIM: usize = 1;

/// Runs it on the network in `dir`; answers how many messages were sent.
pub(super) async fn run(
    report: &mut Report<'_>,
    dir: &Path,
    base: &Path,
    file: Option<&(&PathBuf, Vec<u8>)>,
) -> Result<u64, CliError> {
    let [first, second, third] = nodes(report, dir).await?;
    let homes = [base.join("alice"), base.join("bob")];
    trust_all(report, &homes)?;
    let (mut alice, mut bob) = identities(report, [first.clone(), second.clone()], base).await?;
    let session = open_session(report, &mut alice, &mut bob).await?;
    let mut sent = talk(report, &mut alice, &mut bob, &session).await?;
    if let Some((path, content)) = file {
        sent += send_file(report, &mut alice, &session, path, content).await?;
    }
    let read = read_all(report, &mut alice, &mut bob, &session, file).await?;

    storm(report, &mut alice, &session).await?;
    drop(alice);
    let [alice_home, _] = &homes;
    let mut alice = send_rest(report, &second, alice_home).await?;
    sent += STORM as u64;
    drop(bob);
    let [_, bob_home] = &homes;
    read_storm(report, &third, bob_home, &session, sent).await?;
    // Her own are passed over, and she has read them by that.
    let own = alice.receive(&session).await?.messages.len();

    come_back(report).await?;
    prove(report, &alice, &session, sent).await?;
    drop(alice);
    read_again(report, &first, base, &session, (sent, read + STORM + own)).await?;
    Ok(sent)
}

/// The network, and clients of three of its nodes; the first is the one that dies.
async fn nodes(report: &mut Report<'_>, dir: &Path) -> Result<[RpcClient; 3], CliError> {
    let began = Instant::now();
    let network = Network::open(dir)?;
    let state = network.state();
    let running = state
        .nodes
        .iter()
        .filter(|node| node.runs() && node.plugin_runs());
    let urls: Vec<&str> = running.filter_map(|node| node.url.as_deref()).collect();
    let ([first, second, third, ..], true) =
        (urls.as_slice(), state.nodes.iter().all(NodeState::runs))
    else {
        return Err(DevnetError::NotWell(format!(
            "{} of {} nodes run: one is killed on the way, so all must run, and be three at least \
             (`session devnet up --nodes 5`)",
            urls.len(),
            state.nodes.len()
        ))
        .into());
    };
    let client = |url: &str| RpcClient::new(url, None);
    let clients = [client(first)?, client(second)?, client(third)?];
    let chain = state
        .chain
        .map(|chain| chain.to_string())
        .unwrap_or_default();
    let text = format!(
        "{} nodes of avalanchego {}",
        state.nodes.len(),
        state.version
    );
    let facts = json!({ "nodes": state.nodes.len(), "version": state.version, "chain": chain });
    report.network = Some(network);
    let height = report.level().await?.map_or(0, |head| head.height);
    report.step(
        "network",
        &format!("{text}, at block {height}"),
        began.elapsed(),
        facts,
    );
    Ok(clients)
}

/// Both believe what more than half of the nodes have signed, whichever they ask.
fn trust_all(report: &mut Report<'_>, homes: &[PathBuf]) -> Result<(), CliError> {
    let began = Instant::now();
    let nodes = report
        .network
        .iter()
        .flat_map(|network| &network.state().nodes);
    let members = nodes.filter_map(|node| {
        Some(Member {
            url: node.url.clone()?,
            head_key: node.head_key.clone()?,
        })
    });
    let members: Vec<Member> = members.collect();
    let (all, threshold) = (members.len(), members.len() / 2 + 1);
    let committee = Committee::new(members, threshold)?;
    for home in homes {
        let dir = StateDir::open(home)?;
        let mut state = dir.load()?;
        state.trust.committee = Some(committee.clone());
        dir.save(&state)?;
    }
    let text = format!("{threshold} of {all} head keys must have signed what is believed");
    let facts = json!({ "threshold": threshold, "nodes": all });
    report.step("trust", &text, began.elapsed(), facts);
    Ok(())
}

fn text_of(number: usize) -> String {
    format!("message {number} of {STORM}")
}

/// Alice writes on and on, and the node that she writes through is killed meanwhile.
async fn storm(
    report: &mut Report<'_>,
    alice: &mut Account,
    session: &SessionId,
) -> Result<(), CliError> {
    let began = Instant::now();
    let (reached, has_reached) = tokio::sync::oneshot::channel();
    let mut reached = Some(reached);
    let mut kept = 0usize;
    let writing = async {
        for number in 0..STORM {
            if number == BEFORE
                && let Some(reached) = reached.take()
            {
                let _waits = reached.send(());
            }
            match alice.send_text(session, &text_of(number)).await {
                Ok(_) => {}
                Err(ClientError::Waiting { .. }) => kept += 1,
                Err(error) => return Err(CliError::from(error)),
            }
        }
        Ok(())
    };
    let network = report.network.as_mut();
    let killing = async {
        let reached = has_reached.await.is_ok();
        if let Some(network) = network.filter(|_| reached) {
            network.kill(VICTIM).await?;
        }
        Ok::<_, CliError>(())
    };
    let (written, killed) = tokio::join!(writing, killing);
    written?;
    killed?;
    must(kept > 0, "crash", "the node died and nobody noticed")?;
    let text = format!(
        "SIGKILL to node {VICTIM} while alice writes {STORM}: {} sent, {kept} kept",
        STORM - kept
    );
    let facts = json!({ "node": VICTIM, "sent": STORM - kept, "kept": kept });
    report.step("crash", &text, began.elapsed(), facts);
    Ok(())
}

/// Alice goes on through another node, which sends what waits.
async fn send_rest(
    report: &mut Report<'_>,
    other: &RpcClient,
    home: &Path,
) -> Result<Account, CliError> {
    let began = Instant::now();
    let until = began + FLUSH_LIMIT;
    let mut alice = loop {
        match open_again(other.clone(), home).await {
            Err(error) if is_for_now(&error) && Instant::now() < until => {
                tokio::time::sleep(LOOK).await;
            }
            opened => break opened?,
        }
    };
    while !alice.outbox()?.is_empty() {
        must(
            Instant::now() < until,
            "outbox",
            "messages still wait after 180 s",
        )?;
        let flushed = alice.flush_outbox().await?;
        let lost = flushed.refused.iter().chain(&flushed.unknown).next();
        must(lost.is_none(), "outbox", lost.map_or("", String::as_str))?;
        tokio::time::sleep(LOOK).await;
    }
    let text = "everything that was kept is accepted, through another node";
    report.step("outbox", text, began.elapsed(), json!({}));
    Ok(alice)
}

/// What passes by itself: no answer, or a node that is some blocks behind.
const fn is_for_now(error: &CliError) -> bool {
    if let CliError::Client(ClientError::Rpc(error)) = error {
        return error.is_temporary();
    }
    matches!(
        error,
        CliError::Client(ClientError::Trust(
            TrustError::GoesBack { .. } | TrustError::TooFewSigned { .. }
        ))
    )
}

/// Bob reads through a third node: every message once, in order, proved.
async fn read_storm(
    report: &mut Report<'_>,
    rpc: &RpcClient,
    home: &Path,
    session: &SessionId,
    sent: u64,
) -> Result<(), CliError> {
    report.level().await?;
    let began = Instant::now();
    let mut bob = open_again(rpc.clone(), home).await?;
    let inbox = bob.receive(session).await?;
    let expected: Vec<String> = (0..STORM).map(text_of).collect();
    must(
        inbox.texts() == expected,
        "arrived",
        "bob misses messages, or has some twice",
    )?;
    must(
        inbox.count == sent,
        "arrived",
        "the proved count is another",
    )?;
    let all = inbox
        .messages
        .iter()
        .all(|message| message.verified && message.bound);
    must(all, "arrived", "a signature does not hold")?;
    let text = format!("bob has all {STORM} once and in order, proved by a third node");
    report.step(
        "arrived",
        &text,
        began.elapsed(),
        json!({ "count": inbox.count }),
    );
    Ok(())
}

/// The node that was killed is started again and catches up: same block, same state.
async fn come_back(report: &mut Report<'_>) -> Result<(), CliError> {
    let began = Instant::now();
    let mut head: Option<ChainHead> = None;
    if let Some(network) = report.network.as_mut() {
        head = network.restart(VICTIM, &|_| ()).await?;
    }
    let Some(head) = head else {
        return must(false, "catch up", "the chain tells no head");
    };
    let text = format!(
        "node {VICTIM} is level again at block {}, state {}",
        head.height,
        short(&head.state_root)
    );
    let facts = json!({ "node": VICTIM, "height": head.height, "stateRoot": head.state_root });
    report.step("catch up", &text, began.elapsed(), facts);
    Ok(())
}
