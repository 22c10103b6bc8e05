//! One process of the plugin, started and spoken to as the node does.
//!
//! ```text
//! start ──▶ argv[0] = a link named by the VM id, no arguments, one variable
//!       ◀── vm.runtime.Runtime/Initialize{protocol, address}     within 5 s
//!       ──▶ vm.VM at that address
//! ```

use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use session_rpcchainvm::vm::runtime::InitializeRequest;
use session_rpcchainvm::vm::runtime::runtime_server::{Runtime, RuntimeServer};
use session_rpcchainvm::vm::vm_client::VmClient;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::serve::{Served, dial};

pub use rustix::process::{Pid, Signal};

/// The VM's id, which the plugin's file is named by.
pub const VM_ID: &str = "speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48";

/// The one variable of the plugin's environment.
pub const ENGINE_ADDRESS: &str = "AVALANCHE_VM_RUNTIME_ENGINE_ADDR";

/// How long a node waits for the handshake, and for an exit after `Shutdown` and SIGTERM.
pub const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// Sends SIGKILL.
pub fn kill(pid: Pid) {
    send(pid, Signal::KILL);
}

/// Sends a signal; a process that is gone already does not mind.
pub fn send(pid: Pid, signal: Signal) {
    let _gone = rustix::process::kill_process(pid, signal);
}

/// Whether a process is still there; one that nobody has waited for yet is not.
pub fn lives(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    std::fs::read_to_string(path).is_ok_and(|stat| {
        let state = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.trim().chars().next());
        !matches!(state, Some('Z' | 'X') | None)
    })
}

/// Polls until something holds, or this much time is over.
pub async fn within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if began.elapsed() >= time {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the node answers to the handshake.
#[derive(Debug, Clone, Default)]
pub enum Handshake {
    /// Any number that the stubs speak.
    #[default]
    Taken,
    /// This number alone.
    Number(u32),
    /// A gRPC error with this text.
    Refused(&'static str),
}

/// How to start a plugin.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The plugin's binary.
    pub binary: PathBuf,
    /// A program that is its parent in place of this process (`fakehost-launcher`), and the
    /// number which that program says it speaks; `hang` lets it say nothing.
    pub launcher: Option<(PathBuf, String)>,
    /// What the node answers.
    pub handshake: Handshake,
    /// What is in the plugin's environment, `{}` standing for the engine's address.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Launch {
    /// This binary, as a child of this process; another one, such as an optimised build, where
    /// `SESSION_HOST_PLUGIN` names it.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let named = std::env::var_os("SESSION_HOST_PLUGIN").map(PathBuf::from);
        Self {
            binary: named.unwrap_or_else(|| binary.into()),
            launcher: None,
            handshake: Handshake::Taken,
            environment: vec![(ENGINE_ADDRESS, "{}")],
        }
    }
}

/// A process with its output collected. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Of the plugin itself, when another program is its parent.
    plugin: Option<Pid>,
    output: Arc<Mutex<Vec<u8>>>,
    _directory: tempfile::TempDir,
}

impl Process {
    /// Starts the plugin with this engine address.
    pub fn start(launch: &Launch, engine: impl std::fmt::Display) -> Self {
        let engine = engine.to_string();
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join(VM_ID);
        std::os::unix::fs::symlink(&launch.binary, &link).unwrap();
        let environment = launch.environment.iter();
        let environment = environment.map(|(name, value)| (name, value.replace("{}", &engine)));
        let mut command = match &launch.launcher {
            None => Command::new(&link),
            Some((launcher, protocol)) => launcher_in(directory.path(), launcher, protocol, &link),
        };
        command
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // Another test's new process may still have the copied launcher open for writing.
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && began.elapsed() < NODE_PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{}: {error}", launch.binary.display()),
            }
        };
        let output = Arc::default();
        collect(child.stdout.take().unwrap(), &output);
        collect(child.stderr.take().unwrap(), &output);
        Self {
            child,
            plugin: None,
            output,
            _directory: directory,
        }
    }

    /// The child of this process: the plugin, or the launcher that is its parent.
    pub fn child(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    /// The plugin. With a launcher, known once it was told.
    pub async fn pid(&mut self, launched: bool) -> Pid {
        if !launched {
            return self.child();
        }
        let mut found = self.plugin;
        within(NODE_PATIENCE, || {
            found = found.or_else(|| {
                let output = self.output();
                let line = output.lines().find_map(|l| l.strip_prefix("launched "));
                line.and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            });
            found.is_some()
        })
        .await;
        self.plugin = found;
        found.unwrap_or_else(|| panic!("no plugin was launched: {}", self.output()))
    }

    /// What it has said on both outputs.
    pub fn output(&self) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Waits for the child's end, at most this long.
    pub async fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        within(patience, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        let _over = self.child.kill();
        if let Some(plugin) = self.plugin {
            kill(plugin);
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A copy of the launcher that answers with a number of its own, which lies beside it.
fn launcher_in(directory: &Path, launcher: &Path, protocol: &str, link: &Path) -> Command {
    let copy = directory.join("node");
    if std::fs::hard_link(launcher, &copy).is_err() {
        std::fs::copy(launcher, &copy).unwrap();
    }
    std::fs::write(directory.join("protocol"), protocol).unwrap();
    let mut command = Command::new(copy);
    command.arg(link);
    command
}

fn collect(mut pipe: impl Read + Send + 'static, output: &Arc<Mutex<Vec<u8>>>) {
    let output = output.clone();
    std::thread::spawn(move || {
        let mut piece = [0; 4_096];
        while let Ok(n) = pipe.read(&mut piece)
            && n > 0
        {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.extend_from_slice(&piece[..n]);
        }
    });
}

/// The engine's end of the handshake.
struct Engine {
    handshake: Handshake,
    came: mpsc::UnboundedSender<InitializeRequest>,
}

#[tonic::async_trait]
impl Runtime for Engine {
    async fn initialize(
        &self,
        request: Request<InitializeRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let protocol = request.protocol_version;
        let _late = self.came.send(request);
        let expected = match self.handshake {
            Handshake::Taken => return Ok(Response::new(())),
            Handshake::Number(expected) if expected == protocol => return Ok(Response::new(())),
            Handshake::Refused(text) => return Err(Status::unknown(text)),
            Handshake::Number(expected) => expected,
        };
        Err(Status::unknown(format!(
            "RPCChainVM protocol version mismatch between AvalancheGo and Virtual Machine plugin: \
             got {protocol}, expected {expected}"
        )))
    }
}

/// Why a start came to nothing.
#[derive(Debug)]
pub enum StartError {
    /// It ended before the handshake.
    Ended(ExitStatus, String),
    /// No handshake within the node's patience.
    Late(String),
    /// The handshake was refused; the process may still be there.
    Refused(Box<Process>, InitializeRequest),
}

/// A plugin after its handshake.
#[derive(Debug)]
pub struct Plugin {
    /// Its process.
    pub process: Process,
    /// What it said it speaks.
    pub protocol: u32,
    /// Where its `vm.VM` is.
    pub address: String,
    /// From start to handshake.
    pub took: Duration,
    pid: Pid,
    vm: VmClient<Channel>,
    _engine: Served,
}

impl Plugin {
    /// Starts a plugin and waits for its handshake.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(launch: &Launch) -> Result<Self, StartError> {
        let (came, mut handshakes) = mpsc::unbounded_channel();
        let engine = Engine {
            handshake: launch.handshake.clone(),
            came,
        };
        let router = Server::builder().add_service(RuntimeServer::new(engine));
        let engine = Served::start(router).await;
        let began = Instant::now();
        let mut process = Process::start(launch, engine.address());
        let came = loop {
            tokio::select! {
                came = handshakes.recv() => break came.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            if let Some(status) = process.child.try_wait().unwrap() {
                process.settle().await;
                return Err(StartError::Ended(status, process.output()));
            }
            if began.elapsed() > NODE_PATIENCE {
                return Err(StartError::Late(process.output()));
            }
        };
        let taken = match launch.handshake {
            Handshake::Taken => true,
            Handshake::Number(number) => number == came.protocol_version,
            Handshake::Refused(_) => false,
        };
        if !taken {
            return Err(StartError::Refused(Box::new(process), came));
        }
        let pid = process.pid(launch.launcher.is_some()).await;
        let vm = VmClient::new(dial(&came.addr))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(Self {
            process,
            protocol: came.protocol_version,
            address: came.addr,
            took: began.elapsed(),
            pid,
            vm,
            _engine: engine,
        })
    }

    /// The plugin's process id.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// A client of its `vm.VM`. Clones share one connection.
    pub fn vm(&self) -> VmClient<Channel> {
        self.vm.clone()
    }

    /// Stops it as a node does: `Shutdown`, SIGTERM, SIGKILL after the node's patience. Answers
    /// how it ended, or none if it had to be killed.
    pub async fn stop(mut self) -> Option<ExitStatus> {
        let shutdown = async { self.vm().shutdown(()).await };
        let _answer = tokio::time::timeout(NODE_PATIENCE, shutdown).await;
        send(self.pid, Signal::TERM);
        let status = self.process.ended(NODE_PATIENCE).await?;
        status.signal().is_none().then_some(status)
    }
}

impl Process {
    /// Waits until both outputs are read to their end, at most a second.
    pub async fn settle(&self) {
        within(Duration::from_secs(1), || {
            Arc::strong_count(&self.output) == 1
        })
        .await;
    }
}
