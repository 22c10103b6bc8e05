//! What a person or a program sees, and the errors with the way out of them.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use session_client::{ClientError, RpcError, StateError, TrustError};

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
    Crypto(#[from] session_crypto::CryptoError),
    #[error("no home directory: give --home DIR or set SESSION_HOME")]
    NoHome,
    #[error("there is no identity in {0}: make one with `session identity new`")]
    NoIdentity(PathBuf),
    #[error("there is an identity in {0} already: move it away first, or use another --home")]
    IdentityExists(PathBuf),
    #[error("{path}: {problem}")]
    Identity { path: PathBuf, problem: String },
    #[error("no contact is called {0}: add one with `session contact add {0} 07…`")]
    NoContact(String),
    #[error("no session with {0} yet: open one with `session open {0}`")]
    NoSession(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotProved(String),
    #[error("{step}: {problem}")]
    Demo { step: &'static str, problem: String },
    #[error("interrupted")]
    Interrupted,
}

impl From<RpcError> for CliError {
    fn from(error: RpcError) -> Self {
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
        if matches!(self, Self::Usage(_)) {
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
    const fn way_out(&self) -> Option<&'static str> {
        if matches!(self, Self::Client(ClientError::NoIdentity(_))) {
            Some("make one with `session identity new`")
        } else if matches!(
            self,
            Self::Client(ClientError::Rpc(RpcError::Unreachable { .. }))
        ) {
            Some("start a node with `session node run --data-dir DIR`, or name one with --node")
        } else {
            None
        }
    }
}

/// Something that a person should know, and no result.
pub(crate) fn note(text: &str) {
    let _closed = writeln!(std::io::stderr(), "note: {text}");
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

    pub(crate) fn error(&self, error: &CliError) {
        if self.json {
            let value = json!({ "ok": false, "error": error.to_string(), "hint": error.way_out() });
            self.line(&value.to_string());
            return;
        }
        let _closed = writeln!(std::io::stderr(), "session: {error}");
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

/// The first and last characters of a long id.
pub(crate) fn short(id: &str) -> String {
    match (id.get(..8), id.get(id.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if id.len() > 14 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}
