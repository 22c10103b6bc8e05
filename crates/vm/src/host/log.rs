//! The log of a hosted VM: lines on stderr, which the host puts into the chain's log. It starts
//! before any configuration is known, so what it says can be changed later.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged until a configuration says otherwise.
const DEFAULT: &str = "info";

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

/// Starts the log.
pub(crate) fn start() -> Level {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(DEFAULT));
    let lines = fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    // A second start in one process keeps the first one's log.
    let _started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    Level(handle)
}

impl Level {
    /// Logs what `filter` says, such as `info` or `session_vm=debug`.
    ///
    /// # Errors
    /// Why it is no filter.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let filter: EnvFilter = filter.parse().map_err(|error| format!("{error}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}
