//! Logs of nodes: the line that explains a failure, the last lines, and what comes after.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::ids::Id;

/// Of a log, that much of its end is looked at.
const TAIL_BYTES: u64 = 256 << 10;

/// Characters of a line that are shown in an explanation.
const SHOWN: usize = 400;

/// The line of a log that explains a failure; none prints as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation(Option<(PathBuf, String)>);

impl Explanation {
    fn of(found: Option<(PathBuf, String)>) -> Self {
        Self(found.map(|(path, line)| {
            let line = reason_of(line.trim()).unwrap_or_else(|| line.trim().to_owned());
            (path, line.chars().take(SHOWN).collect())
        }))
    }

    /// File and line.
    pub fn line(&self) -> Option<(&Path, &str)> {
        let (path, line) = self.0.as_ref()?;
        Some((path, line))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((path, line)) => write!(f, "\n  {}: {line}", path.display()),
            None => Ok(()),
        }
    }
}

/// How long each log was at some moment: what stands before explains nothing after it.
#[derive(Debug, Clone, Default)]
pub struct Mark(BTreeMap<PathBuf, u64>);

/// The logs of one node.
#[derive(Debug, Clone)]
pub struct Logs {
    files: Vec<PathBuf>,
}

impl Logs {
    /// Those of the node in this directory, the chain's first.
    pub fn of(node_dir: &Path, chain: Option<Id>) -> Self {
        let logs = node_dir.join("logs");
        let chain = chain.map(|chain| logs.join(format!("{chain}.log")));
        let others = [
            logs.join("vm-factory.log"),
            logs.join("main.log"),
            logs.join("P.log"),
            node_dir.join("output.log"),
        ];
        Self {
            files: chain.into_iter().chain(others).collect(),
        }
    }

    /// The moment now.
    pub fn mark(&self) -> Mark {
        let len = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let lens = self.files.iter().map(|path| (path.clone(), len(path)));
        Mark(lens.collect())
    }

    /// The last line since `mark` that tells of a failure: a fatal one or a panic first, then an
    /// error of the chain, of the VM's loading, of the node.
    pub fn explain(&self, mark: &Mark) -> Explanation {
        let fatal = |line: &str| {
            line.contains("FATAL") || line.starts_with("panic:") || line.contains("panicked at")
        };
        let error = |line: &str| line.contains("ERROR");
        let found = self.last(mark, fatal).or_else(|| self.last(mark, error));
        // A node that refuses its arguments says so before it has a log.
        let output = |path: &PathBuf| path.ends_with("output.log");
        let found = found.or_else(|| {
            let path = self.files.iter().find(|path| output(path))?;
            let text = read_from(path, mark.0.get(path).copied().unwrap_or_default());
            let line = text.lines().rfind(|line| !line.trim().is_empty())?;
            Some((path.clone(), line.to_owned()))
        });
        Explanation::of(found)
    }

    /// The last line since `mark` that is meant.
    pub(crate) fn find(&self, mark: &Mark, meant: impl Fn(&str) -> bool) -> Option<Explanation> {
        let found = self.last(mark, meant);
        found.map(|found| Explanation::of(Some(found)))
    }

    fn last(&self, mark: &Mark, tells: impl Fn(&str) -> bool) -> Option<(PathBuf, String)> {
        self.files.iter().find_map(|path| {
            let text = read_from(path, mark.0.get(path).copied().unwrap_or_default());
            let line = text.lines().rfind(|line| tells(line))?;
            Some((path.clone(), line.to_owned()))
        })
    }

    /// The last `lines` lines of each log that is not empty.
    pub fn tail(&self, lines: usize) -> Vec<(PathBuf, Vec<String>)> {
        let tail = |path: &PathBuf| {
            let text = read_from(path, 0);
            let all: Vec<&str> = text.lines().collect();
            let last = all.get(all.len().saturating_sub(lines)..).unwrap_or(&all);
            let last: Vec<String> = last.iter().map(|line| (*line).to_owned()).collect();
            (path.clone(), last)
        };
        let all = self.files.iter().map(tail);
        all.filter(|(_, lines)| !lines.is_empty()).collect()
    }

    /// The whole lines that were written since `mark`, which moves on.
    pub fn since(&self, mark: &mut Mark) -> Vec<(PathBuf, Vec<String>)> {
        let mut news = Vec::new();
        for path in &self.files {
            let from = mark.0.entry(path.clone()).or_default();
            let len = std::fs::metadata(path).map_or(0, |meta| meta.len());
            if len < *from {
                // The node has begun a new file under this name.
                *from = 0;
            }
            let (start, bytes) = bytes_from(path, *from);
            // What has no end yet is read with its rest.
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            *from = start.saturating_add(end as u64).saturating_add(1);
            let whole = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
            news.push((path.clone(), whole.lines().map(str::to_owned).collect()));
        }
        news
    }
}

/// The host ends a line with a list of facts; of an error that is told why, only the reason helps.
fn reason_of(line: &str) -> Option<String> {
    let (text, facts) = line.split_at_checked(line.find(" {\"")?)?;
    let facts: serde_json::Value = serde_json::from_str(facts).ok()?;
    let reason = facts.get("error")?.as_str()?;
    Some(format!("{text}: {reason}"))
}

/// What stands in a file after `from`, of its last 256 KiB; nothing where there is no such file.
/// A file that is shorter was begun anew, and counts from its beginning.
fn read_from(path: &Path, from: u64) -> String {
    let (_, bytes) = bytes_from(path, from);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same bytes, and where they begin.
fn bytes_from(path: &Path, from: u64) -> (u64, Vec<u8>) {
    let mut bytes = Vec::new();
    let Ok(mut file) = std::fs::File::open(path) else {
        return (0, bytes);
    };
    let len = file.metadata().map_or(0, |meta| meta.len());
    let from = if from > len { 0 } else { from };
    let from = from.max(len.saturating_sub(TAIL_BYTES));
    if file.seek(SeekFrom::Start(from)).is_ok() {
        let _partial = file.take(TAIL_BYTES).read_to_end(&mut bytes);
    }
    (from, bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_fatal_line_explains_and_old_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let main = dir.path().join("logs/main.log");
        let factory = dir.path().join("logs/vm-factory.log");
        append(&main, "[1] FATAL an older run\n");
        let logs = Logs::of(dir.path(), None);
        let mark = logs.mark();
        assert_eq!(logs.explain(&mark), Explanation::default());
        assert_eq!(logs.explain(&mark).to_string(), "");
        append(&factory, "[2] ERROR failed to register VM\n[3] INFO fine\n");
        let why = logs.explain(&mark);
        assert_eq!(why.line().unwrap().1, "[2] ERROR failed to register VM");
        append(&main, "[4] FATAL couldn't initialize\n");
        let why = logs.explain(&mark).to_string();
        assert!(
            why.ends_with("main.log: [4] FATAL couldn't initialize"),
            "{why}"
        );
    }

    #[test]
    fn the_reason_is_taken_out_of_the_facts() {
        let line = r#"[1] ERROR error creating chain {"subnetID": "fwm", "error": "handshake"}"#;
        assert_eq!(
            reason_of(line).unwrap(),
            "[1] ERROR error creating chain: handshake"
        );
        for other in [
            "[1] ERROR plain",
            "[1] ERROR x {\"a\": 1}",
            "[1] ERROR x {\"error\": ",
        ] {
            assert_eq!(reason_of(other), None);
        }
    }

    #[test]
    fn a_node_that_refuses_its_arguments_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        append(&dir.path().join("output.log"), "unknown flag: --x\n\n");
        let logs = Logs::of(dir.path(), None);
        let why = logs.explain(&Mark::default());
        assert_eq!(why.line().unwrap().1, "unknown flag: --x");
    }

    #[test]
    fn whole_lines_come_once() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("output.log");
        append(&output, "one\ntwo\nthr");
        let logs = Logs::of(dir.path(), None);
        assert_eq!(logs.tail(1)[0].1, ["thr"]);
        let mut mark = Mark::default();
        assert_eq!(logs.since(&mut mark)[0].1, ["one", "two"]);
        assert!(logs.since(&mut mark).is_empty());
        append(&output, "ee\n");
        assert_eq!(logs.since(&mut mark)[0].1, ["three"]);
        std::fs::write(&output, "anew\n").unwrap();
        assert_eq!(logs.since(&mut mark)[0].1, ["anew"]);
    }
}
