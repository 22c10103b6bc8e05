//! A local avalanchego network that runs SessionVM as a plugin: found or built, started, watched,
//! broken and put right, from one process that may end in between.
//!
//! ```text
//! binary ── finds or builds avalanchego ─┐
//! staking ─ keys of the five validators ─┤
//!                                        ▼
//! network ── up: launch ─▶ nodes ─▶ platform: CreateSubnet, AddSubnetValidator, CreateChain (tx)
//!    │                                   └─▶ chain on every node ─▶ equal heads (api)
//!    ├─ life: down, kill, restart, add
//!    ├─ watch: status; logs: the line that explains
//!    └─ state: state.json, pids that cannot be mistaken (process)
//! ```
//!
//! A network lives in one directory. Everything listens on 127.0.0.1. All keys are the local
//! network's public test keys.
//!
//! ```no_run
//! # async fn example() -> Result<(), session_devnet::DevnetError> {
//! use session_devnet::{Network, NodeBinary, Search, UpOptions};
//!
//! let tell = |text: &str| eprintln!("{text}");
//! let binary = NodeBinary::find(&Search::default(), &tell).await?;
//! let dir = std::path::Path::new("./devnet");
//! let mut network = Network::up(dir, &UpOptions::new(binary, "./session".into()), &tell).await?;
//! network.kill(1).await?;
//! network.restart(1, &tell).await?;
//! network.down(&tell).await?;
//! # Ok(())
//! # }
//! ```

mod api;
mod binary;
mod error;
mod ids;
mod launch;
mod life;
mod logs;
mod network;
mod options;
mod platform;
mod port;
mod process;
mod staking;
mod state;
mod tx;
mod watch;

pub use api::{ChainHead, NodeApi, chain_url};
pub use binary::{DEFAULT_VERSION, NodeBinary, Search};
pub use error::DevnetError;
pub use ids::{Id, IdError, NodeId};
pub use launch::Layout;
pub use life::{Ending, Stopped};
pub use logs::{Explanation, Logs, Mark};
pub use network::Network;
pub use options::{UpOptions, default_genesis};
pub use platform::Platform;
pub use port::BASE as BASE_PORT;
pub use process::{Process, boot_id, every_one_run_as};
pub use staking::VALIDATORS;
pub use state::{Claim, Mode, NetworkState, NodeState, STATE_FILE, Speaks};
pub use tx::{ADDRESS, FEE, Kind, NETWORK, SignedTx, TxError, Utxo};
pub use watch::{NodeStatus, status};

/// The id of SessionVM: its name, filled up with zeros. In CB58
/// `speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48`.
pub const SESSION_VM: Id = vm_id(b"sessionvm");

/// The subnet that the first transaction of a local network makes: the key, the money and the
/// signature are the same each time, so its id is known before the first node starts.
pub const FIRST_SUBNET: &str = "fwmKWLVCppLsxEc3VRVK6p2MBEzxnfrwvv6FTWgaB9ztMH6F5";

/// Nodes at most: ten processes of two programs each take about a gigabyte.
pub const NODES_MAX: usize = 7;

/// Told what goes on, a line at a time.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// The id of a VM by its name of at most 32 bytes.
const fn vm_id(name: &[u8]) -> Id {
    let mut bytes = [0; 32];
    let (head, _) = bytes.split_at_mut(name.len());
    head.copy_from_slice(name);
    Id::new(bytes)
}
