//! `session devnet …`: a local network of real hosts with SessionVM as their plugin.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use session_devnet::{
    BASE_PORT, ChainHead, DevnetError, Ending, Logs, Mark, Mode, Network, NetworkState, NodeBinary,
    NodeStatus, STATE_FILE, Search, UpOptions,
};

use crate::out::{CliError, Out, counted, duration, note, printable, read_at_most, short};
use crate::progress::Progress;

/// The P-chain takes no larger genesis.
const GENESIS_MAX: u64 = 1 << 20;

/// How often logs are looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(crate) enum DevnetVerb {
    /// Starts a network, or goes on with the one that was stopped
    #[command(
        after_help = "Examples:\n  session devnet up --install            one node; builds avalanchego if there is none\n  session devnet up --nodes 5            five nodes that all count, ready in seconds\n  session devnet up --faithful           five validators with stake, as on a real network\n  session --json devnet up | jq -r '.nodes[0].url'\n  session --node URL inbox               URL as `up` prints it\n\nEverything listens on 127.0.0.1 alone. `session devnet down` stops it and keeps the data."
    )]
    Up(UpArgs),
    /// Tells how each node is: height, state, node and plugin alive or dead
    #[command(after_help = "Exit code 0 if every node and plugin runs and answers, 1 if not.")]
    Status(Dir),
    /// Shows the logs of a node, or of all
    #[command(
        after_help = "Examples:\n  session devnet logs 2 --lines 50\n  session devnet logs --follow"
    )]
    Logs(LogsArgs),
    /// Ends a node with SIGKILL, as a crash would
    #[command(
        after_help = "Examples:\n  session devnet kill 3                  node and plugin go\n  session devnet kill 3 --plugin-only    the node stays, does not notice, and hangs"
    )]
    Kill(KillArgs),
    /// Starts a node again and waits until it has caught up
    Restart(NodeArgs),
    /// Adds a node that joins late (not with --faithful)
    Add(Dir),
    /// Stops every node and plugin; the data stays
    #[command(
        after_help = "Examples:\n  session devnet down                    `up` goes on with it\n  session devnet down --delete           `up` begins anew"
    )]
    Down(DownArgs),
}

#[derive(Args)]
pub(crate) struct Dir {
    /// Where the network lives [default: ~/.local/share/session/devnet]
    #[arg(long, env = "SESSION_DEVNET", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Admission {
    /// Also unsigned messages
    Open,
    /// Signed transactions only
    Signed,
}

#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    dir: Dir,
    /// How many nodes, 1 to 7 [default: 1]
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Five validators with stake: sybil protection on
    #[arg(long)]
    faithful: bool,
    /// The avalanchego to run; else the one in PATH, else the one that was built before
    #[arg(long, value_name = "PATH")]
    node_binary: Option<PathBuf>,
    /// Builds avalanchego with the Go toolchain where none is found: some 2 minutes, once
    #[arg(long, conflicts_with = "node_binary")]
    install: bool,
    /// Only this version of avalanchego, such as v1.14.2 [default: any found; v1.14.0 is built]
    #[arg(long, value_name = "V")]
    node_version: Option<String>,
    /// The program to run as the plugin [default: this one]
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// Genesis of the chain, JSON, at most 1 MiB
    #[arg(long, value_name = "FILE", conflicts_with = "admission")]
    genesis: Option<PathBuf>,
    /// What the chain takes, without a genesis [default: signed]
    #[arg(long, value_enum)]
    admission: Option<Admission>,
    /// Raises the nodes' bandwidth limits, which bound five nodes under load (512 KiB/s a peer)
    #[arg(long)]
    fast_network: bool,
    /// Where the search for free ports begins
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT)]
    port: u16,
}

#[derive(Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    dir: Dir,
    /// Node number, from 1; all without it
    #[arg(value_name = "N")]
    number: Option<usize>,
    /// Goes on until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Lines of each file at first
    #[arg(long, default_value_t = 20, value_name = "K")]
    lines: usize,
}

#[derive(Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    dir: Dir,
    /// Node number, from 1
    #[arg(value_name = "N")]
    number: usize,
}

#[derive(Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Only its plugin
    #[arg(long)]
    plugin_only: bool,
}

#[derive(Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    dir: Dir,
    /// Deletes the network with all its data
    #[arg(long)]
    delete: bool,
}

/// The directory that was named, or everybody's own.
pub(crate) fn directory(named: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(dir) = named {
        return Ok(dir.to_owned());
    }
    let some = |name| {
        std::env::var_os(name)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
    };
    let home = || some("HOME").map(|home| home.join(".local/share"));
    let data = some("XDG_DATA_HOME").or_else(home);
    let none = || CliError::Usage("no home directory: give --data-dir DIR".to_owned());
    Ok(data.ok_or_else(none)?.join("session/devnet"))
}

pub(crate) async fn run(verb: DevnetVerb, out: &Out) -> Result<(), CliError> {
    let of = |dir: &Dir| directory(dir.data_dir.as_deref());
    match verb {
        DevnetVerb::Up(args) => up(&args, &of(&args.dir)?, out).await,
        DevnetVerb::Status(dir) => status(&of(&dir)?, out).await,
        DevnetVerb::Logs(args) => logs(&args, &of(&args.dir)?, out).await,
        DevnetVerb::Kill(args) => kill(&args, &of(&args.node.dir)?, out).await,
        DevnetVerb::Restart(args) => restart(&args, &of(&args.dir)?, out).await,
        DevnetVerb::Add(dir) => add(&of(&dir)?, out).await,
        DevnetVerb::Down(args) => down(&args, &of(&args.dir)?, out).await,
    }
}

async fn up(args: &UpArgs, dir: &Path, out: &Out) -> Result<(), CliError> {
    let genesis = match &args.genesis {
        Some(path) => Some(read_at_most(path, GENESIS_MAX)?),
        None => None,
    };
    let plugin = match &args.plugin {
        Some(path) => std::path::absolute(path).map_err(CliError::file(path))?,
        None => std::env::current_exe()?,
    };
    let progress = Progress::new(out);
    let tell = |text: &str| progress.tell(text);
    let search = Search {
        named: args.node_binary.clone(),
        version: args.node_version.clone(),
        install: args.install,
    };
    let binary = NodeBinary::find(&search, &tell).await?;
    tell(&format!(
        "avalanchego {}, protocol {}: {}",
        binary.version,
        binary.protocol,
        binary.path.display()
    ));
    let options = UpOptions {
        nodes: args.nodes,
        faithful: args.faithful,
        genesis,
        admission: args.admission.map(|admission| match admission {
            Admission::Open => "open".to_owned(),
            Admission::Signed => "signed".to_owned(),
        }),
        fast_network: args.fast_network,
        base_port: args.port,
        ..UpOptions::new(binary, plugin)
    };
    let network = tokio::select! {
        network = Network::up(dir, &options, &tell) => network?,
        () = terminated() => return Err(CliError::Interrupted),
    };
    drop(progress);
    let state = network.state();
    out.result(
        &account_of(state, network.layout().dir(), out),
        &network_json(state, dir),
    )
}

/// SIGTERM takes back what was started as Ctrl-C does.
async fn terminated() {
    let kind = tokio::signal::unix::SignalKind::terminate();
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// What a person needs of a network that runs.
fn account_of(state: &NetworkState, dir: &Path, out: &Out) -> String {
    let rules = match state.mode {
        Mode::Quick => "sybil protection off",
        Mode::Faithful => "five validators with stake",
    };
    let nodes = counted(state.nodes.len() as u64, "node");
    let mut text = format!(
        "devnet    {nodes}, avalanchego {}, {rules}\ndata      {}\nchain     {}\n",
        state.version,
        dir.display(),
        state
            .chain
            .map_or_else(|| "none".to_owned(), |chain| chain.to_string()),
    );
    for node in &state.nodes {
        let key = node.head_key.as_deref().unwrap_or("none");
        let url = node.url.as_deref().unwrap_or("none");
        let (number, key) = (node.number, short(key));
        text.push_str(&format!("node {number}    {url}  head key {key}\n"));
    }
    let url = state.nodes.first().and_then(|node| node.url.as_deref());
    text.push_str(&format!(
        "\nHead keys are whole in {}. Next:\n  export SESSION_NODE={}\n  session identity new\n  \
         session demo --network devnet\n  session devnet status\n  session devnet down",
        dir.join(STATE_FILE).display(),
        out.paint("1", url.unwrap_or("URL")),
    ));
    text
}

/// The same for programs.
fn network_json(state: &NetworkState, dir: &Path) -> Value {
    let nodes = state.nodes.iter().map(|node| {
        json!({
            "number": node.number,
            "url": node.url,
            "api": format!("http://127.0.0.1:{}", node.http_port),
            "nodeId": node.node_id,
            "pid": node.process.map(|process| process.pid),
            "pluginPid": node.plugin.map(|plugin| plugin.pid),
            "headKey": node.head_key,
        })
    });
    json!({
        "ok": true,
        "dataDir": dir,
        "mode": state.mode,
        "version": state.version,
        "protocol": state.protocol,
        "subnet": state.subnet,
        "chain": state.chain,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

async fn status(dir: &Path, out: &Out) -> Result<(), CliError> {
    let (state, all) = session_devnet::status(dir).await?;
    let well = all.iter().filter(|status| status.is_well()).count();
    let problem = (well < all.len()).then(|| {
        let problem = format!("{} of {} nodes are not well", all.len() - well, all.len());
        CliError::Devnet(DevnetError::NotWell(problem))
    });
    let heads = all.iter().filter_map(|status| status.head.as_ref());
    let level = heads
        .clone()
        .all(|head| Some(&head.block) == heads.clone().next().map(|h| &h.block));
    let mut text = format!(
        "chain     {}\nhost      avalanchego {}\n\n{:<6}{:<7}{:<8}{:>9}  {:<15}{}\n",
        state
            .chain
            .map_or_else(|| "none".to_owned(), |chain| chain.to_string()),
        state.version,
        "node",
        "host",
        "plugin",
        "height",
        "state root",
        "address",
    );
    for status in &all {
        text.push_str(&row(status, out));
    }
    if !level {
        text.push_str("not all nodes are at the same block now\n");
    }
    let value = json!({
        "ok": problem.is_none(),
        "error": problem.as_ref().map(CliError::to_string),
        "level": level,
        "chain": state.chain,
        "nodes": all.iter().map(status_json).collect::<Vec<_>>(),
    });
    out.result(text.trim_end(), &value)?;
    match problem {
        None => Ok(()),
        Some(problem) if out.is_json() => Err(CliError::Told(Box::new(problem))),
        Some(problem) => Err(problem),
    }
}

fn row(status: &NodeStatus, out: &Out) -> String {
    let alive = |alive: bool, width: usize| match alive {
        true => format!("{:<width$}", "alive"),
        false => out.paint("31", &format!("{:<width$}", "DEAD")),
    };
    let (height, root) = match &status.head {
        Some(head) => (head.height.to_string(), short(&head.state_root)),
        None => ("?".to_owned(), "?".to_owned()),
    };
    let mut row = format!(
        "{:<6}{}{}{height:>9}  {root:<15}{}\n",
        status.node.number,
        alive(status.runs, 7),
        alive(status.plugin_runs, 8),
        status.node.url.as_deref().unwrap_or("none"),
    );
    if let Some(problem) = &status.problem {
        row.push_str(&format!("      {}\n", printable(problem)));
    }
    row
}

fn status_json(status: &NodeStatus) -> Value {
    json!({
        "number": status.node.number,
        "url": status.node.url,
        "runs": status.runs,
        "pluginRuns": status.plugin_runs,
        "bootstrapped": status.bootstrapped,
        "height": status.head.as_ref().map(|head| head.height),
        "block": status.head.as_ref().map(|head| &head.block),
        "stateRoot": status.head.as_ref().map(|head| &head.state_root),
        "problem": status.problem,
    })
}

async fn logs(args: &LogsArgs, dir: &Path, out: &Out) -> Result<(), CliError> {
    let state = NetworkState::load(dir)?;
    let state = state.ok_or_else(|| DevnetError::NoNetwork(dir.to_owned()))?;
    let layout = session_devnet::Layout::new(dir);
    let numbers = match args.number {
        Some(number) => vec![state.node(number)?.number],
        None => state.nodes.iter().map(|node| node.number).collect(),
    };
    let of = |number: &usize| (*number, Logs::of(&layout.node(*number), state.chain));
    let all: Vec<(usize, Logs)> = numbers.iter().map(of).collect();
    let marks = all.iter().map(|(_, logs)| logs.mark());
    let mut marks: Vec<Mark> = marks.collect();
    for (number, logs) in &all {
        for (path, lines) in logs.tail(args.lines) {
            lines
                .iter()
                .for_each(|line| log_line(*number, &path, line, out));
        }
    }
    if args.follow {
        follow(&all, &mut marks, out).await;
    }
    Ok(())
}

/// What comes, until somebody interrupts it.
async fn follow(all: &[(usize, Logs)], marks: &mut [Mark], out: &Out) {
    loop {
        for ((number, logs), mark) in all.iter().zip(&mut *marks) {
            for (path, lines) in logs.since(mark) {
                lines
                    .iter()
                    .for_each(|line| log_line(*number, &path, line, out));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One line each, also for programs: logs have no end.
fn log_line(number: usize, path: &Path, line: &str, out: &Out) {
    let file = path.file_stem().and_then(|stem| stem.to_str());
    let file = match file.unwrap_or_default() {
        known @ ("vm-factory" | "main" | "P" | "output") => known,
        _ => "chain",
    };
    if out.is_json() {
        out.line(&json!({ "node": number, "file": file, "line": line }).to_string());
    } else {
        out.line(&format!("node{number} {file} | {}", printable(line)));
    }
}

async fn kill(args: &KillArgs, dir: &Path, out: &Out) -> Result<(), CliError> {
    let mut network = Network::open(dir)?;
    let number = args.node.number;
    if args.plugin_only {
        network.kill_plugin(number).await?;
        return out.done(&format!(
            "the plugin of node {number} is dead, and the node does not notice"
        ));
    }
    let plugin = network.kill(number).await?;
    if plugin == Ending::Killed {
        note("its plugin did not notice and was killed as well");
    }
    out.done(&format!(
        "node {number} is dead: `session devnet restart {number}` brings it back"
    ))
}

async fn restart(args: &NodeArgs, dir: &Path, out: &Out) -> Result<(), CliError> {
    let mut network = Network::open(dir)?;
    let progress = Progress::new(out);
    let began = Instant::now();
    let head = network
        .restart(args.number, &|text| progress.tell(text))
        .await?;
    drop(progress);
    joined(args.number, head, began.elapsed(), out)
}

async fn add(dir: &Path, out: &Out) -> Result<(), CliError> {
    let mut network = Network::open(dir)?;
    let progress = Progress::new(out);
    let began = Instant::now();
    let (number, head) = network.add(&|text| progress.tell(text)).await?;
    drop(progress);
    joined(number, head, began.elapsed(), out)
}

fn joined(
    number: usize,
    head: Option<ChainHead>,
    took: Duration,
    out: &Out,
) -> Result<(), CliError> {
    let height = head.as_ref().map_or(0, |head| head.height);
    let text = format!(
        "node {number} is level with the others at height {height} after {}",
        duration(took)
    );
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let root = head.map(|head| head.state_root);
    out.result(
        &text,
        &json!({ "ok": true, "node": number, "height": height, "stateRoot": root, "ms": ms }),
    )
}

async fn down(args: &DownArgs, dir: &Path, out: &Out) -> Result<(), CliError> {
    let mut network = Network::open(dir)?;
    let progress = Progress::new(out);
    let stopped = network.down(&|text| progress.tell(text)).await?;
    drop(progress);
    let stays = |ending: &Ending| *ending == Ending::Stays;
    if let Some(node) = stopped.iter().find(|s| stays(&s.node) || stays(&s.plugin)) {
        return Err(DevnetError::Stays(node.number).into());
    }
    let killed = stopped
        .iter()
        .filter(|s| s.node == Ending::Killed || s.plugin == Ending::Killed);
    let killed = killed.count();
    let mut text = "no node and no plugin of the network runs any more".to_owned();
    if killed > 0 {
        text.push_str(&format!(
            "; {} had to be killed",
            counted(killed as u64, "node")
        ));
    }
    if args.delete {
        network.delete()?;
        text.push_str("; its data is deleted");
    } else {
        text.push_str("; its data stays, and `session devnet up` goes on with it");
    }
    let value = json!({ "ok": true, "message": text, "killed": killed, "deleted": args.delete });
    out.result(&text, &value)
}
