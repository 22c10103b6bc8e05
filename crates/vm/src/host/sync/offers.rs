//! The states that are offered to others: of the last two fixed heights, as long as keeping them
//! does not take too much memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use session_chain::sweep::is_due;
use session_chain::sync::{Index, REPLY_BYTES, Request, Source};
use session_chain::view::ViewError;
use session_core::codec::{Decode, Encode};
use session_storage::Store;

use super::{ANSWER, GONE, LATER, Summary, SyncOptions};
use crate::head::Head;
use crate::lock::lock;
use crate::store;

/// States that are offered at once.
const KEPT: usize = 2;

/// An index that nobody asked for is forgotten after this.
const INDEX_IDLE: Duration = Duration::from_secs(60);

/// A state that is offered.
struct Offer {
    summary: Summary,
    id: [u8; 32],
    head: Arc<Head>,
    index: Mutex<Indexing>,
}

/// The records of an offered state in the order of their tree keys, made when somebody asks.
enum Indexing {
    None,
    UnderWay,
    Ready(Arc<Index>, Instant),
}

/// What is offered.
pub(crate) struct Offers {
    options: SyncOptions,
    kept: Mutex<VecDeque<Arc<Offer>>>,
}

impl Offers {
    pub(crate) const fn new(options: SyncOptions) -> Self {
        Self {
            options,
            kept: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) const fn options(&self) -> &SyncOptions {
        &self.options
    }

    /// A block was accepted: its state is offered if its height is one of those.
    pub(crate) fn accepted(&self, head: &Arc<Head>, store: &dyn Store) {
        let mut kept = lock(&self.kept);
        for offer in kept.iter() {
            let mut index = lock(&offer.index);
            if matches!(&*index, Indexing::Ready(_, at) if at.elapsed() > INDEX_IDLE) {
                *index = Indexing::None;
            }
        }
        while !kept.is_empty() && store.held_bytes() > self.options.held_bytes {
            let gone = kept.pop_front();
            let height = gone.map(|offer| offer.summary.header.height);
            tracing::info!(
                ?height,
                "a state is no longer offered: keeping it takes too much memory"
            );
        }
        let header = head.header;
        if header.height == 0 || !header.height.is_multiple_of(self.options.interval) {
            return;
        }
        match is_due(&head.view(), header.time) {
            Ok(false) => {}
            Ok(true) => {
                return tracing::info!(
                    height = header.height,
                    "this state is not offered: something is still due"
                );
            }
            Err(error) => return tracing::warn!(%error, "this state is not offered"),
        }
        let summary = Summary { header };
        kept.push_back(Arc::new(Offer {
            summary,
            id: summary.id(),
            head: head.clone(),
            index: Mutex::new(Indexing::None),
        }));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        tracing::debug!(
            height = header.height,
            "this state is offered to nodes that come late"
        );
    }

    /// Offers nothing more: another state counts.
    pub(crate) fn forget(&self) {
        lock(&self.kept).clear();
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<Summary> {
        lock(&self.kept).back().map(|offer| offer.summary)
    }

    /// The one of a height.
    pub(crate) fn at(&self, height: u64) -> Option<Summary> {
        let kept = lock(&self.kept);
        let mut offers = kept.iter().map(|offer| offer.summary);
        offers.find(|summary| summary.header.height == height)
    }

    /// Answers a peer's request, which is everything behind the handler's number; none where it is
    /// no request.
    pub(crate) fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (id, request) = request.split_first_chunk()?;
        let request = Request::from_bytes(request).ok()?;
        let offer = {
            let kept = lock(&self.kept);
            kept.iter().find(|offer| offer.id == *id).cloned()
        };
        let Some(offer) = offer else {
            return Some(vec![GONE]);
        };
        let Some(index) = offer.index() else {
            return Some(vec![LATER]);
        };
        match offer.reply(&index, &request) {
            Ok(reply) => Some(reply),
            Err(error) => {
                tracing::warn!(%error, "reading an offered state failed");
                Some(vec![LATER])
            }
        }
    }
}

impl Offer {
    /// The index, if it is there; else it is being made.
    fn index(self: &Arc<Self>) -> Option<Arc<Index>> {
        let mut indexing = lock(&self.index);
        match &mut *indexing {
            Indexing::Ready(index, asked) => {
                *asked = Instant::now();
                return Some(index.clone());
            }
            Indexing::UnderWay => return None,
            Indexing::None => *indexing = Indexing::UnderWay,
        }
        drop(indexing);
        let this = self.clone();
        let made = std::thread::Builder::new()
            .name("state index".to_owned())
            .spawn(move || {
                let index = Index::of(&this.head.view());
                *lock(&this.index) = match index {
                    Ok(index) => Indexing::Ready(Arc::new(index), Instant::now()),
                    Err(error) => {
                        tracing::warn!(%error, "reading the records of an offered state failed");
                        Indexing::None
                    }
                };
            });
        if made.is_err() {
            *lock(&self.index) = Indexing::None;
        }
        None
    }

    fn reply(&self, index: &Index, request: &Request) -> Result<Vec<u8>, ViewError> {
        let head = &self.head;
        let block = match request {
            Request::Block => store::block(head.snapshot.as_ref(), &head.id)?.unwrap_or_default(),
            Request::Top | Request::Records(..) | Request::Cells(..) => Vec::new(),
        };
        let source = Source {
            view: &head.view(),
            tree: &head.tree,
            index,
            block: &block,
            reply_bytes: REPLY_BYTES,
        };
        let mut out = vec![ANSWER];
        out.extend(source.answer(request)?.to_bytes());
        Ok(out)
    }
}
