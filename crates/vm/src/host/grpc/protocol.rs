//! Which number of the protocol the parent speaks. It must be equal to ours, and nothing tells
//! it: neither arguments nor environment. So the parent's own program is asked.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use session_rpcchainvm::{PROTOCOL_MAX, PROTOCOL_MIN};

/// What is spoken where nobody tells: avalanchego v1.14.0 and v1.14.1.
const PROTOCOL_DEFAULT: u32 = 44;

/// The handshake must be over 5 s after the start. A node tells in 0.2 s, but not where a machine
/// has just started many of them on a few cores; and taking the usual number for another one's
/// leaves the chain without a plugin, so nearly all of the time is given to it.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);

const POLL: Duration = Duration::from_millis(5);

/// A file beside the program that names the number, where asking does not work.
const FILE: &str = "rpcchainvm";

/// The number: of the file beside the program, of the parent, or the usual one.
pub(super) fn number() -> u32 {
    let program = std::env::current_exe().ok();
    if let Some(number) = program.as_deref().and_then(from_file) {
        tracing::info!(number, "protocol, from the file beside the program");
        return number;
    }
    let parent = format!("/proc/{}/exe", std::os::unix::process::parent_id());
    match ask(Path::new(&parent)) {
        Some(number) => {
            if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&number) {
                tracing::warn!(
                    number,
                    "the node speaks a protocol that this program does not know: trying"
                );
            }
            tracing::info!(number, "protocol, as the node says");
            number
        }
        None => {
            tracing::warn!(
                number = PROTOCOL_DEFAULT,
                "the node does not tell its protocol: taking the usual one"
            );
            PROTOCOL_DEFAULT
        }
    }
}

fn from_file(program: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(program.with_file_name(FILE)).ok()?;
    text.trim().parse().ok()
}

/// Runs a program with `--version-json` and reads the number.
fn ask(program: &Path) -> Option<u32> {
    let mut child = Command::new(program)
        .arg("--version-json")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let out = child.stdout.take();
    // What it prints is short: it fits the pipe, and never blocks it.
    let deadline = Instant::now() + ASK_TIMEOUT;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) | Err(_) => {
                let _gone = child.kill();
                let _reaped = child.wait();
                break false;
            }
        }
    };
    let mut text = String::new();
    let read = out?.take(64 << 10).read_to_string(&mut text);
    if !ended || read.is_err() {
        return None;
    }
    read_number(&text)
}

fn read_number(text: &str) -> Option<u32> {
    let version: serde_json::Value = serde_json::from_str(text).ok()?;
    u32::try_from(version.get("rpcchainvm")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_what_the_node_prints() {
        let text = r#"{"application":"avalanchego/1.14.0","database":"v1.4.5","rpcchainvm":44,"commit":"","go":"1.24.8"}"#;
        assert_eq!(read_number(text), Some(44));
        assert_eq!(read_number("{}"), None);
        assert_eq!(read_number(r#"{"rpcchainvm":-1}"#), None);
        assert_eq!(read_number("usage: …"), None);
    }

    #[test]
    fn a_parent_that_knows_nothing_of_it_is_no_obstacle() {
        assert_eq!(ask(Path::new("/bin/false")), None);
        assert_eq!(ask(Path::new("/no/such/program")), None);
        assert_eq!(ask(Path::new("/bin/echo")), None);
    }

    #[test]
    fn a_file_beside_the_program_decides() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sessionvm");
        assert_eq!(from_file(&program), None);
        std::fs::write(directory.path().join(FILE), "46\n").unwrap();
        assert_eq!(from_file(&program), Some(46));
    }
}
