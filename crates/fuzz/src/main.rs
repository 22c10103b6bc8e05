//! `session-fuzz [TARGET | --all]`: fuzzes decoders, replays inputs, writes seeds.

use clap::Parser;
use session_fuzz::{Limit, Target, all, find, fuzz, replay};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Mutation-based fuzzing of every decoder that faces bytes from outside.
///
/// Not coverage-guided. Build without --release to see arithmetic overflow.
#[derive(Debug, Parser)]
#[command(name = "session-fuzz", version)]
struct Arguments {
    /// Target to run; without one, or --all, the targets are listed.
    target: Option<String>,
    /// Run every target in turn.
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Seconds for each target.
    #[arg(long, default_value_t = 10, conflicts_with = "cases")]
    seconds: u64,
    /// Mutants for each target: with --seed, the same run again.
    #[arg(long)]
    cases: Option<u64>,
    /// Seed of the mutations; the time of day when left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder with further inputs, in one folder for each target.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Folder for inputs that make a target panic.
    #[arg(long, default_value = "fuzz-failures")]
    failures: PathBuf,
    /// Run the target on this one input.
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
    /// Write the seeds of the targets that are at most 1.3 kB long into this folder.
    #[arg(long)]
    export: Option<PathBuf>,
}

/// An envelope to one person fits; larger seeds are keys and signatures, which code makes as well.
const EXPORTED_BYTES_MAX: usize = 1_300;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("session-fuzz: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Answers whether nothing panicked.
fn run(arguments: &Arguments) -> std::io::Result<bool> {
    let targets: Vec<&Target> = match &arguments.target {
        Some(name) => vec![find(name).ok_or_else(|| {
            std::io::Error::other(format!(
                "no target {name}; without arguments all are listed"
            ))
        })?],
        None => all().collect(),
    };
    if let Some(folder) = &arguments.export {
        return export(&targets, folder).map(|()| true);
    }
    if let (Some(file), [target]) = (&arguments.replay, targets.as_slice()) {
        let failure = replay(target, &std::fs::read(file)?);
        say(&match &failure {
            Ok(true) => "accepted".to_owned(),
            Ok(false) => "refused".to_owned(),
            Err(failure) => format!("panicked: {}", failure.message),
        });
        return Ok(failure.is_ok());
    }
    if arguments.target.is_none() && !arguments.all {
        for target in targets {
            say(target.name);
        }
        return Ok(true);
    }
    let seed = arguments.seed.unwrap_or_else(time_of_day);
    let limit = match arguments.cases {
        Some(cases) => Limit::Cases(cases),
        None => Limit::Time(Duration::from_secs(arguments.seconds)),
    };
    let mut clean = true;
    for target in targets {
        clean &= run_target(target, seed, limit, arguments)?;
    }
    Ok(clean)
}

fn run_target(
    target: &Target,
    seed: u64,
    limit: Limit,
    arguments: &Arguments,
) -> std::io::Result<bool> {
    let name = target.name;
    let corpus = match &arguments.corpus {
        Some(folder) => inputs(&folder.join(name))?,
        None => Vec::new(),
    };
    let outcome = fuzz(target, seed, limit, &corpus);
    let (cases, accepted) = (outcome.cases, outcome.accepted);
    say(&format!(
        "{name}: seed {seed}, {cases} cases, {accepted} accepted"
    ));
    let Some(failure) = outcome.failure else {
        return Ok(true);
    };
    std::fs::create_dir_all(&arguments.failures)?;
    let file = arguments.failures.join(format!("{name}-{seed}-{cases}"));
    std::fs::write(&file, &failure.input)?;
    let file = file.display();
    say(&format!("{name}: panicked: {}", failure.message));
    say(&format!(
        "{name}: replay with: session-fuzz {name} --replay {file}"
    ));
    Ok(false)
}

/// The files of a folder, by name; none where there is no folder.
fn inputs(folder: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().map(std::fs::read).collect()
}

fn export(targets: &[&Target], folder: &Path) -> std::io::Result<()> {
    for target in targets {
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            if seed.len() <= EXPORTED_BYTES_MAX {
                let folder = folder.join(target.name);
                std::fs::create_dir_all(&folder)?;
                std::fs::write(folder.join(format!("seed-{number}")), seed)?;
            }
        }
    }
    Ok(())
}

fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
}

/// A closed pipe is the reader's decision, not an error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
