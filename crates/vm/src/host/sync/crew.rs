//! The peers that a state is asked of: who has the least to do, who is silent, who lied.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use session_chain::sync::{Reply, Request, SyncError};
use session_chain::tree::Branch;
use session_chain::view::ViewError;
use session_core::codec::{Decode, Encode};
use session_storage::StoreError;

use super::{ANSWER, GONE, HANDLER, LATER, Peer, Peers, Summary};
use crate::lock::lock;

/// How long an answer may take: a slow link gives one in a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long to wait until some peer can be asked.
const NO_PEERS: Duration = Duration::from_secs(30);

/// Pause before a peer that is not ready is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers in a row that a peer may leave out.
const SILENT_MAX: u32 = 3;

/// Answers "later" that are waited for, in all a minute.
const LATER_MAX: u32 = 600;

/// Why a state was not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no peer that can be asked has it")]
    NoPeers,
    #[error("stopped")]
    Stopped,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Wrong(#[from] SyncError),
    #[error("the state was taken over, and has another root")]
    OtherRoot,
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        Self::Wrong(error.into())
    }
}

/// Why a peer is not asked for the rest.
pub(super) enum Refused {
    /// It answered what is not so.
    Lied(SyncError),
    /// It does not have the state, or has nothing to say.
    Gone,
    /// It does not answer.
    Silent,
    /// Not its fault.
    Own(Failure),
}

impl From<SyncError> for Refused {
    fn from(error: SyncError) -> Self {
        if let SyncError::View(_) = error {
            return Self::Own(error.into());
        }
        Self::Lied(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Own(failure)
    }
}

/// Those who are asked, and what is known of them.
pub(super) struct Crew {
    pub(super) peers: Arc<dyn Peers>,
    /// Id of the state's summary.
    pub(super) summary: [u8; 32],
    pub(super) stop: Arc<AtomicBool>,
    pub(super) known: Mutex<HashMap<Peer, Standing>>,
}

#[derive(Default)]
pub(super) struct Standing {
    busy: u32,
    silent: u32,
    out: bool,
}

impl Crew {
    pub(super) fn check_stop(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        Ok(())
    }

    /// The one with the least to do.
    fn hire(&self) -> Result<Peer, Failure> {
        let began = Instant::now();
        loop {
            self.check_stop()?;
            let connected = self.peers.connected();
            {
                let mut known = lock(&self.known);
                let free = |peer: &&Peer| known.get(*peer).is_none_or(|peer| !peer.out);
                let busy = |peer: &&Peer| known.get(*peer).map_or(0, |peer| peer.busy);
                let found = connected.iter().filter(free).min_by_key(busy).cloned();
                if let Some(peer) = found {
                    known.entry(peer.clone()).or_default().busy += 1;
                    return Ok(peer);
                }
                if !connected.is_empty() && began.elapsed() > PAUSE * 10 {
                    return Err(Failure::NoPeers);
                }
            }
            if began.elapsed() > NO_PEERS {
                return Err(Failure::NoPeers);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// At most so many who may be asked.
    pub(super) fn some(&self, count: usize) -> Vec<Peer> {
        let known = lock(&self.known);
        let free = |peer: &Peer| known.get(peer).is_none_or(|peer| !peer.out);
        let connected = self.peers.connected().into_iter();
        connected.filter(free).take(count).collect()
    }

    /// Does not ask a peer again that is to blame.
    pub(super) fn refuse(&self, peer: &Peer, why: &Refused) {
        lock(&self.known).entry(peer.clone()).or_default().busy += 1;
        let _known = self.dismiss(peer, Some(why));
    }

    fn dismiss(&self, peer: &Peer, why: Option<&Refused>) -> Option<()> {
        let mut known = lock(&self.known);
        let standing = known.get_mut(peer)?;
        standing.busy = standing.busy.saturating_sub(1);
        let name = const_hex::encode(peer);
        match why {
            None => standing.silent = 0,
            Some(Refused::Lied(error)) => {
                standing.out = true;
                tracing::warn!(peer = name, %error, "a peer gives another state: not asking it any more");
            }
            Some(Refused::Gone) => {
                standing.out = true;
                tracing::debug!(peer = name, "a peer does not have the state");
            }
            Some(Refused::Silent) => {
                standing.silent += 1;
                standing.out = standing.silent >= SILENT_MAX;
            }
            Some(Refused::Own(_)) => {}
        }
        Some(())
    }

    /// Has something done by one peer after the other, until one does it.
    pub(super) fn by_somebody<T>(
        &self,
        mut work: impl FnMut(&Peer) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        loop {
            let peer = self.hire()?;
            let done = work(&peer);
            let _known = self.dismiss(&peer, done.as_ref().err());
            match done {
                Ok(done) => return Ok(done),
                Err(Refused::Own(failure)) => return Err(failure),
                Err(Refused::Lied(_) | Refused::Gone | Refused::Silent) => {}
            }
        }
    }

    pub(super) fn ask(&self, peer: &Peer, request: &Request) -> Result<Reply, Refused> {
        let mut message = vec![HANDLER];
        message.extend(self.summary);
        message.extend(request.to_bytes());
        for _ in 0..LATER_MAX {
            self.check_stop()?;
            let answer = self.peers.ask(peer, message.clone(), PATIENCE);
            let answer = answer.ok_or(Refused::Silent)?;
            match answer.split_first() {
                Some((&ANSWER, reply)) => {
                    return Ok(Reply::from_bytes(reply).map_err(SyncError::Malformed)?);
                }
                Some((&LATER, [])) => std::thread::sleep(PAUSE),
                Some((&GONE, [])) => return Err(Refused::Gone),
                Some(_) | None => return Err(SyncError::OtherAnswer.into()),
            }
        }
        Err(Refused::Gone)
    }

    /// The branches of the state.
    pub(super) fn top(&self, peer: &Peer, summary: &Summary) -> Result<Vec<Branch>, Refused> {
        let Reply::Top(_, branches) = self.ask(peer, &Request::Top)? else {
            return Err(SyncError::OtherAnswer.into());
        };
        let root = Branch::above(&branches).map(|root| root.hash());
        if root != Some(summary.header.state_root) {
            return Err(SyncError::OtherRoot.into());
        }
        Ok(branches)
    }
}
