//! What a person or a program sees, and the errors with the way out of them.

use std::io::{IsTerminal, Read as _, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use session_client::{ClientError, RpcError, StateError, TrustError};
use session_devnet::DevnetError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{path}: {error}")]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    App(#[from] session_vm::app::AppError),
    #[error("{0}")]
    Storage(#[from] session_storage::StoreError),
    #[error("{0}")]
    Rewind(#[from] session_vm::rewind::RewindError),
    #[error("{0}")]
    Devnet(#[from] DevnetError),
    #[error("{0}")]
    Crypto(#[from] session_crypto::CryptoError),
    #[error("no home directory: give --home DIR or set SESSION_HOME")]
    NoHome,
    #[error("there is no identity in {0}: make one with `session identity new`")]
    NoIdentity(PathBuf),
    #[error("there is an identity in {0} already: move it away first, or use another --home")]
    IdentityExists(PathBuf),
    #[error(
        "{dir} is in use by another `session` command{process}: wait until it has ended, or end it"
    )]
    HomeInUse { dir: PathBuf, process: String },
    #[error("{path}: {problem}")]
    Identity { path: PathBuf, problem: String },
    #[error(
        "{0} is no contact, no session and no whole id: `session contact add NAME 07…` adds a \
         contact, `session sessions` lists sessions"
    )]
    NoContact(String),
    #[error("no session with {0} yet: open one with `session open {0}`")]
    NoSession(String),
    #[error(
        "{0} is no contact, no group here and no whole id: `session contact add NAME 07…` adds a \
         contact, `session group list` lists conversations"
    )]
    NoChat(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotProved(String),
    #[error("{step}: {problem}")]
    Demo { step: &'static str, problem: String },
    #[error("interrupted")]
    Interrupted,
    /// It is part of the one JSON value that was printed.
    #[error("{0}")]
    Told(Box<CliError>),
}

impl From<RpcError> for CliError {
    fn from(error: RpcError) -> Self {
        Self::Client(error.into())
    }
}

impl From<session_client::e2ee::E2eeError> for CliError {
    fn from(error: session_client::e2ee::E2eeError) -> Self {
        Self::Client(error.into())
    }
}

impl From<TrustError> for CliError {
    fn from(error: TrustError) -> Self {
        Self::Client(error.into())
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        Self::Client(error.into())
    }
}

impl CliError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Self::File {
            path: path.to_owned(),
            error,
        }
    }

    /// 0 done, 1 failed, 2 wrong arguments, 3 waits in the outbox, 4 not proved.
    pub(crate) const fn exit_code(&self) -> u8 {
        if let Self::Told(error) = self {
            error.exit_code()
        } else if matches!(
            self,
            Self::Usage(_)
                | Self::Devnet(DevnetError::NodeCount { .. } | DevnetError::NoNode { .. })
        ) {
            2
        } else if matches!(self, Self::Client(ClientError::Waiting { .. })) {
            3
        } else if matches!(
            self,
            Self::NotProved(_) | Self::Client(ClientError::Trust(_))
        ) {
            4
        } else if matches!(self, Self::Interrupted) {
            130
        } else {
            1
        }
    }

    /// What to do about it, where that is not in the message.
    fn way_out(&self) -> Option<&'static str> {
        if let Self::Devnet(error) = self {
            error.way_out()
        } else if let Self::Client(ClientError::Rpc(RpcError::Unreachable { problem, .. })) = self
            && problem.contains("certificate")
        {
            Some("name the node's certificate, or that of its authority, with --ca FILE")
        } else if matches!(self, Self::Client(ClientError::NoIdentity(_))) {
            Some("make one with `session identity new`")
        } else if matches!(
            self,
            Self::Client(ClientError::Rpc(RpcError::Unreachable { .. }))
        ) {
            Some("start a node with `session node run --data-dir DIR`, or name one with --node")
        } else if matches!(
            self,
            Self::Client(ClientError::Rpc(RpcError::Http { status: 401, .. }))
        ) {
            Some("set SESSION_TOKEN to the access token that its operator gave you")
        } else if matches!(
            self,
            Self::Client(ClientError::Trust(TrustError::OtherChain { .. }))
        ) {
            Some(
                "the node serves another chain than the one that this home knows: name another \
                 node with --node or another home with --home; `session node forget` gives up the \
                 known one",
            )
        } else if matches!(
            self,
            Self::Client(ClientError::State(StateError::Damaged { .. }))
        ) {
            Some(
                "put it back from a copy, or move it away and begin anew: contacts and cursors \
                 are lost then, and what is still stored is read again",
            )
        } else {
            None
        }
    }
}

/// Something that a person should know, and no result.
pub(crate) fn note(text: &str) {
    let _closed = writeln!(std::io::stderr(), "note: {}", printable(text));
}

/// Where output goes.
pub(crate) struct Out {
    json: bool,
    color: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some();
        Self {
            json,
            color: !json && !plain && std::io::stdout().is_terminal(),
        }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// A closed pipe on the other side is no error of ours.
    pub(crate) fn line(&self, text: &str) {
        let _closed = writeln!(std::io::stdout(), "{text}");
    }

    /// The result: text for people, the value for programs.
    pub(crate) fn result(&self, text: &str, value: &Value) -> Result<(), CliError> {
        if self.json {
            self.line(&value.to_string());
        } else if !text.is_empty() {
            self.line(text);
        }
        Ok(())
    }

    pub(crate) fn done(&self, text: &str) -> Result<(), CliError> {
        self.result(text, &json!({ "ok": true, "message": text }))
    }

    pub(crate) fn error_json(&self, error: &CliError) -> Value {
        json!({ "ok": false, "error": error.to_string(), "hint": error.way_out() })
    }

    pub(crate) fn error(&self, error: &CliError) {
        if matches!(error, CliError::Told(_)) {
            return;
        }
        if self.json {
            self.line(&self.error_json(error).to_string());
            return;
        }
        // It may quote a node, which may be anybody.
        let text = printable(&error.to_string());
        let _closed = writeln!(std::io::stderr(), "session: {text}");
        if let Some(way_out) = error.way_out() {
            let _closed = writeln!(std::io::stderr(), "  {way_out}");
        }
    }

    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A progress bar of bytes on a terminal's standard error; invisible elsewhere.
    pub(crate) fn progress(&self, total: u64, what: &'static str) -> ProgressBar {
        self.bar(total, what, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
    }

    /// The same for things that are counted.
    pub(crate) fn counter(&self, total: usize, what: &'static str) -> ProgressBar {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        self.bar(
            total,
            what,
            "{msg} {wide_bar} {human_pos}/{human_len} {eta}",
        )
    }

    fn bar(&self, total: u64, what: &'static str, template: &str) -> ProgressBar {
        let target = if self.json || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar
    }
}

/// A file's bytes, as long as it is no larger than anything of its kind.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(CliError::file(path))?;
    // Also a device that never ends is not read to its end.
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(CliError::file(path))?;
    if bytes.len() as u64 > limit {
        let problem = format!("{} is larger than {limit} bytes", path.display());
        return Err(CliError::Usage(problem));
    }
    Ok(bytes)
}

/// `1.4 kB`, `3.2 MB`.
pub(crate) fn bytes(n: u64) -> String {
    let tenth = |unit: u64| format!("{}.{}", n / unit, n % unit * 10 / unit);
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", tenth(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenth(1_000_000)),
        _ => format!("{} GB", tenth(1_000_000_000)),
    }
}

/// `120 µs`, `4.7 ms`, `1.2 s`.
pub(crate) fn duration(time: std::time::Duration) -> String {
    let us = time.as_micros();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// Text of others as a terminal may have it: what would move the cursor, set colours or write
/// the clipboard is shown, not done. Lines and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        // Marks that turn the direction of writing make a name look like another one.
        let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (char.is_control() && !matches!(char, '\n' | '\t')) || turns {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// `1 message`, `3 messages`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// The first and last characters of a long id.
pub(crate) fn short(id: &str) -> String {
    match (id.get(..8), id.get(id.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if id.len() > 14 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(printable("two\nlines\tand ü"), "two\nlines\tand ü");
        assert_eq!(
            printable("\u{1b}[2Jgone\r\u{9b}31m"),
            "\\u{1b}[2Jgone\\u{d}\\u{9b}31m"
        );
        assert_eq!(printable("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
    }
}
