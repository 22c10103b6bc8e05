//! One process of the plugin, started as a Lux node starts it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use session_zap::handshake::{Handshake, PROTOCOL};
use session_zap::{Call, Empty};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::client::Client;
use crate::plugin::{Launch, NODE_PATIENCE, Pid, Process, Signal, send};

/// What the node answers to the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One byte, 0x01.
    Taken,
    /// Another byte.
    Byte(u8),
    /// The connection is closed.
    Closed,
    /// Nothing.
    Silence,
}

/// Why a start came to nothing.
#[derive(Debug)]
pub enum StartError {
    /// It ended before the handshake.
    Ended(ExitStatus, String),
    /// No handshake within the node's patience.
    Late(String),
    /// It was not taken; the process may still be there.
    Refused(Box<Process>),
}

/// The plugin's binary with the environment of a Lux node.
pub fn launch(binary: impl Into<PathBuf>) -> Launch {
    Launch {
        environment: vec![
            ("HOME", "/nonexistent"),
            ("VM_TRANSPORT", "zap"),
            ("VM_RUNTIME_ENGINE_ADDR", "{}"),
            ("LUX_VM_RUNTIME_ENGINE_ADDR", "{}"),
        ],
        ..Launch::new(binary)
    }
}

/// A plugin after its handshake, and the node's connection to it.
#[derive(Debug)]
pub struct Plugin {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: String,
    /// The node's connection.
    pub client: Client,
    /// From start to handshake.
    pub took: Duration,
    pid: Pid,
}

async fn shake(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
) -> std::io::Result<Handshake> {
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    let length = Handshake::length(first).map_err(std::io::Error::other)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    let said = Handshake::read(&rest).map_err(std::io::Error::other)?;
    match answer {
        Answer::Taken => stream.write_all(&[1]).await?,
        Answer::Byte(byte) => stream.write_all(&[byte]).await?,
        Answer::Closed => {}
        Answer::Silence => tokio::time::sleep(Duration::from_secs(30)).await,
    }
    Ok(said)
}

impl Plugin {
    /// Starts a plugin, and answers its handshake.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(launch: &Launch, answer: Answer) -> Result<Self, StartError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let process = Process::start(launch, listener.local_addr().unwrap());
        let came = async {
            let (stream, _) = listener.accept().await.unwrap();
            shake(stream, answer).await
        };
        Self::met(launch, process, came, answer).await
    }

    /// The same at a socket of the file system.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_at_socket(launch: &Launch) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vm.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let process = Process::start(launch, path.display());
        let came = async {
            let (stream, _) = listener.accept().await.unwrap();
            shake(stream, Answer::Taken).await
        };
        Self::met(launch, process, came, Answer::Taken).await
    }

    async fn met(
        launch: &Launch,
        mut process: Process,
        came: impl Future<Output = std::io::Result<Handshake>>,
        answer: Answer,
    ) -> Result<Self, StartError> {
        let began = Instant::now();
        if answer == Answer::Silence {
            // It says its words, and gives up on an answer by itself.
            let _never = tokio::time::timeout(2 * NODE_PATIENCE, async {
                tokio::select! {
                    _ = came => {}
                    _ = process.ended(2 * NODE_PATIENCE) => {}
                }
            })
            .await;
            return Err(StartError::Refused(Box::new(process)));
        }
        let said = {
            let mut came = std::pin::pin!(came);
            loop {
                tokio::select! {
                    said = &mut came => break said.expect("a handshake"),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
                if let Some(status) = process.ended(Duration::ZERO).await {
                    process.settle().await;
                    return Err(StartError::Ended(status, process.output()));
                }
                if began.elapsed() > NODE_PATIENCE {
                    return Err(StartError::Late(process.output()));
                }
            }
        };
        let took = began.elapsed();
        assert_eq!(said.protocol, PROTOCOL);
        if answer != Answer::Taken {
            return Err(StartError::Refused(Box::new(process)));
        }
        let pid = process.pid(launch.launcher.is_some()).await;
        let client = Client::dial(&said.address).await;
        Ok(Self {
            process,
            address: said.address,
            client,
            took,
            pid,
        })
    }

    /// The plugin's process id.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Stops it as a node does: `Shutdown`, SIGTERM, SIGKILL after the node's patience. Answers
    /// how it ended, or none if it had to be killed.
    pub async fn stop(mut self) -> Option<ExitStatus> {
        let shut_down = self.client.ask::<Empty>(Call::Shutdown);
        let _answer = tokio::time::timeout(NODE_PATIENCE, shut_down).await;
        send(self.pid, Signal::TERM);
        self.process.ended(NODE_PATIENCE).await
    }
}
