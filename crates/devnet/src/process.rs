//! A process that is known by more than its number, so that no other one is ever signalled.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often somebody looks whether a process has gone.
const LOOK: Duration = Duration::from_millis(20);

/// A running process of ours: numbers are used again, but not at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine was: field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// What `/proc/PID/stat` tells.
struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name stands in brackets and may hold anything, brackets among it.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 5 to 21 lie between.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            started,
        })
    }

    /// Ended, and only not collected by its parent yet.
    const fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

impl Process {
    /// The process with this number, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid).filter(|stat| !stat.has_ended())?;
        Some(Self {
            pid,
            started: stat.started,
        })
    }

    /// Whether it still runs: the same one, not another under its number.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| !stat.has_ended() && stat.started == self.started)
    }

    /// Asks it to end. One that has gone is no error.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once. One that has gone is no error.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // Between look and signal it may have ended, which is what was wanted.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits until it has gone, at most so long; answers whether it has.
    pub async fn gone_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Its children that were started as `program`, which is how a node starts a plugin.
    pub fn children_run_as(&self, program: &Path) -> Vec<Self> {
        all_run_as(program)
            .into_iter()
            .filter(|(_, parent)| *parent == self.pid)
            .map(|(process, _)| process)
            .collect()
    }
}

/// Every process that was started as `program`, an absolute path that nobody else uses: also those
/// whose parent has gone.
pub fn every_one_run_as(program: &Path) -> Vec<Process> {
    let all = all_run_as(program).into_iter();
    all.map(|(process, _)| process).collect()
}

fn all_run_as(program: &Path) -> Vec<(Process, i32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
        if first != program.as_os_str().as_encoded_bytes() {
            continue;
        }
        if let Some(stat) = Stat::read(pid).filter(|stat| !stat.has_ended()) {
            let started = stat.started;
            found.push((Process { pid, started }, stat.parent));
        }
    }
    found
}

/// The number of this run of the machine: no process outlives it. Empty where there is none.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 7, 12_345));
        assert!(Stat::parse("42 (cut").is_none());
        assert!(Stat::parse("42 (cut) S 7 42").is_none());
    }

    #[tokio::test]
    async fn another_process_under_the_same_number_is_left_alone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ours = Process::of(pid).unwrap();
        let other = Process {
            started: ours.started + 1,
            ..ours
        };
        assert!(!other.is_alive());
        other.kill();
        assert!(ours.is_alive(), "the wrong one was signalled");
        ours.kill();
        // Not collected yet, and gone all the same.
        assert!(ours.gone_within(Duration::from_secs(5)).await);
        assert_eq!(Process::of(pid), None);
        child.wait().unwrap();
    }
}
