//! `session`: what a person types.

mod channel;
mod chat;
mod clock;

mod contact;
mod demo;
mod device;
mod devnet;
mod group;
mod history;
mod home;
mod identity;
mod inbox;
mod load;
mod node;
mod out;
mod outbox;
mod progress;
mod proof;
mod request;
mod session;
mod vectors;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::home::Home;
use crate::out::{CliError, Out};

/// Post-quantum private messaging: identities, conversations, a node, and proofs of everything.
#[derive(Parser)]
#[command(
    name = "session",
    version,
    about,
    after_help = "Examples:\n  session demo                          a node, two people, messages, a crash, proofs\n  session node run --data-dir ./node    a node of your own on 127.0.0.1:9652\n  session devnet up --nodes 5           five avalanchego nodes with SessionVM, here\n  session identity new                  who you are\n  session contact add bob 07…           who you write to\n  session chat bob                      a conversation that only you two can read, ever\n  session group new crew bob carol      one with several people\n  session open bob                      a session, without forward secrecy\n  session send bob \"Hello\"              words, or --file PATH\n  session inbox --follow                what others sent\n\nExit codes: 0 done, 1 failed, 2 wrong arguments, 3 not accepted yet (kept in the outbox),\n4 a proof or signature does not hold, 130 interrupted."
)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Args, Clone)]
struct Global {
    /// Directory with identity, contacts, outbox and history [default: ~/.lux-session]
    #[arg(long, env = "SESSION_HOME", global = true, value_name = "DIR")]
    home: Option<std::path::PathBuf>,
    /// Node to talk to, http://… or https://…, a chain of a host as http://…/ext/bc/CHAIN;
    /// SESSION_TOKEN holds its access token
    #[arg(
        long,
        env = "SESSION_NODE",
        global = true,
        default_value = "http://127.0.0.1:9652"
    )]
    node: String,
    /// Certificates to trust for https, PEM; without it the authorities of the web
    #[arg(long, env = "SESSION_CA", global = true, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
    /// Prints one JSON value instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the whole thing once: node, identities, messages, a crash, proofs
    Demo(demo::DemoArgs),
    /// A node of your own
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// A local network of avalanchego nodes with SessionVM as their plugin
    #[command(subcommand)]
    Devnet(devnet::DevnetVerb),
    /// Who you are
    #[command(subcommand)]
    Identity(identity::IdentityVerb),
    /// Who you write to
    #[command(subcommand)]
    Contact(contact::ContactVerb),
    /// Talks: a conversation with forward secrecy, on a terminal or line by line
    Chat(chat::ChatArgs),
    /// Conversations of several people
    #[command(subcommand)]
    Group(group::GroupVerb),
    /// What strangers want
    #[command(subcommand)]
    Request(request::RequestVerb),
    /// The devices of your account
    #[command(subcommand)]
    Device(device::DeviceVerb),
    /// Opens a session with a contact, or with up to 99
    Open(session::OpenArgs),
    /// Accepts a session that somebody opened with you
    Accept(session::SessionArgs),
    /// Gives a session a name, for you alone
    Name(session::NameArgs),
    /// Lists your sessions and the requests of others, proved complete
    Sessions,
    /// Sends a text, standard input, or a file
    Send(session::SendArgs),
    /// Shows what others sent
    Inbox(inbox::InboxArgs),
    /// Tells what of your messages was confirmed as delivered, with proof
    Receipts(session::SessionArgs),
    /// What was sent and received so far
    #[command(subcommand)]
    History(history::HistoryVerb),
    /// Lists what waits to be accepted, and sends it if the node answers
    Outbox(outbox::OutboxArgs),
    /// Rosters with roles
    #[command(subcommand)]
    Channel(channel::ChannelVerb),
    /// Closes a session
    Close(session::SessionArgs),
    /// Writes a proof to a file
    Prove(proof::ProveArgs),
    /// Verifies a proof file, offline
    Verify(proof::VerifyArgs),
    /// Another implementation's values
    #[command(subcommand)]
    Vectors(vectors::VectorsVerb),
    /// Loads a node with signed messages and measures it
    Load(load::LoadArgs),
    /// Prints a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a directory
    Man {
        /// Directory
        dir: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    // A node may load this very program as its plugin.
    if let Some(code) = session_vm::host::run_hosted() {
        return code;
    }
    let args = Args::parse();
    let out = Out::new(args.global.json);
    match run(args, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: Args, out: &Out) -> Result<(), CliError> {
    // These need no runtime, or make their own.
    if let Verb::Node(node::NodeVerb::Run(run)) = args.verb {
        return Ok(session_vm::app::run(*run)?);
    }
    if let Verb::Completions { shell } = args.verb {
        // Into memory first: the generator panics where a reader closes the pipe early.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "session", &mut script);
        out.line(String::from_utf8_lossy(&script).trim_end());
        return Ok(());
    }
    if let Verb::Man { dir } = &args.verb {
        std::fs::create_dir_all(dir).map_err(CliError::file(dir))?;
        clap_mangen::generate_to(Args::command(), dir).map_err(CliError::file(dir))?;
        return out.done(&format!("manual pages are in {}", dir.display()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let work = dispatch(args.global, args.verb, out);
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
        }
    })
}

async fn dispatch(global: Global, verb: Verb, out: &Out) -> Result<(), CliError> {
    let home = Home::new(global.home, &global.node, global.ca)?;
    match verb {
        Verb::Demo(args) => demo::run(&args, out).await,
        Verb::Node(verb) => node::run(verb, &home, out).await,
        Verb::Devnet(verb) => devnet::run(verb, out).await,
        Verb::Identity(verb) => identity::run(verb, &home, out).await,
        Verb::Contact(verb) => contact::run(verb, &home, out).await,
        Verb::Chat(args) => chat::run(&args, &home, out).await,
        Verb::Group(verb) => group::run(verb, &home, out).await,
        Verb::Request(verb) => request::run(verb, &home, out).await,
        Verb::Device(verb) => device::run(verb, &home, out).await,
        Verb::Open(args) => session::open(&args, &home, out).await,
        Verb::Accept(args) => session::accept(&args, &home, out).await,
        Verb::Name(args) => session::name(&args, &home, out).await,
        Verb::Sessions => session::sessions(&home, out).await,
        Verb::Send(args) => session::send(&args, &home, out).await,
        Verb::Inbox(args) => inbox::inbox(&args, &home, out).await,
        Verb::Receipts(args) => session::receipts(&args, &home, out).await,
        Verb::History(verb) => history::run(verb, &home, out).await,
        Verb::Outbox(args) => outbox::run(&args, &home, out).await,
        Verb::Channel(verb) => channel::run(verb, &home, out).await,
        Verb::Close(args) => session::close(&args, &home, out).await,
        Verb::Prove(args) => proof::prove(&args, &home, out).await,
        Verb::Verify(args) => proof::verify(&args, out),
        Verb::Vectors(verb) => vectors::run(&verb, out),
        Verb::Load(args) => load::run(&args, &home, out).await,
        Verb::Completions { .. } | Verb::Man { .. } => Ok(()),
    }
}
