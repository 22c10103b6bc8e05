//! A connection whose peer must take what is sent to it, at some speed.
//!
//! Heads and bodies have their time to arrive; without this, a thousand readers that never read,
//! or take a byte now and then, would hold every connection, and the room that replies share, for
//! ever.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

const RATE: NonZeroU32 = NonZeroU32::new(16 << 10).unwrap();

/// How slow a peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A peer that takes not one byte for so long is gone.
    pub idle: Duration,
    /// A peer that has kept what is sent to it waiting may take so long to have all of it, …
    pub whole: Duration,
    /// … and longer only where it takes so many bytes a second meanwhile.
    pub bytes_per_second: NonZeroU32,
}

impl Default for Patience {
    /// 16 KiB a second: a reply of a megabyte in a minute.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(20),
            whole: Duration::from_secs(60),
            bytes_per_second: RATE,
        }
    }
}

/// What the peer has not taken at once.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    since: Instant,
    taken: u64,
}

impl Patience {
    /// When it ends for a peer that has just stopped taking bytes.
    fn ends(&self, backlog: Backlog, now: Instant) -> Instant {
        let earned_ms =
            backlog.taken.saturating_mul(1_000) / u64::from(self.bytes_per_second.get());
        let whole = self.whole.saturating_add(Duration::from_millis(earned_ms));
        let idle = now + self.idle;
        // What overflows is later than anything.
        backlog.since.checked_add(whole).unwrap_or(idle).min(idle)
    }
}

/// A stream that ends when its peer stops reading, or reads too slowly.
pub(super) struct TakenStream<S = TcpStream> {
    stream: S,
    patience: Patience,
    ends: Pin<Box<Sleep>>,
    stalled: bool,
    /// Since the first write that had to wait, until everything is written.
    backlog: Option<Backlog>,
}

impl<S> TakenStream<S> {
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        Self {
            stream,
            patience,
            ends: Box::pin(sleep(patience.idle)),
            stalled: false,
            backlog: None,
        }
    }

    fn bound(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if let Poll::Ready(result) = written {
            self.stalled = false;
            if let (Ok(bytes), Some(backlog)) = (&result, &mut self.backlog) {
                backlog.taken = backlog.taken.saturating_add(*bytes as u64);
            }
            return Poll::Ready(result);
        }
        if !self.stalled {
            self.stalled = true;
            let now = Instant::now();
            let begun = Backlog {
                since: now,
                taken: 0,
            };
            let backlog = *self.backlog.get_or_insert(begun);
            self.ends.as_mut().reset(self.patience.ends(backlog, now));
        }
        let out_of_patience = self.ends.as_mut().poll(cx);
        out_of_patience.map(|()| Err(Error::from(ErrorKind::TimedOut)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TakenStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TakenStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Whoever writes here, HTTP, TLS or a WebSocket, flushes once nothing is left to write.
        self.backlog = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Patience = Patience {
        idle: Duration::from_secs(20),
        whole: Duration::from_millis(300),
        bytes_per_second: RATE,
    };

    #[tokio::test]
    async fn a_reader_that_trickles_is_cut_though_it_never_stops() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut stream = TakenStream::new(ours, SHORT);
        let trickle = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            let mut taken = 0;
            loop {
                pace.tick().await;
                match theirs.read_u8().await {
                    Ok(_) => taken += 1,
                    Err(_) => return taken,
                }
            }
        });
        let reply = vec![7; 1 << 20];
        let writing = stream.write_all(&reply);
        let cut = tokio::time::timeout(SHORT.idle, writing).await.unwrap();
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(stream);
        assert!(trickle.await.unwrap() > 0, "it was reading");
    }

    #[tokio::test]
    async fn what_is_written_to_the_end_leaves_nothing_to_answer_for() {
        let (ours, mut theirs) = duplex(1 << 10);
        let mut stream = TakenStream::new(ours, SHORT);
        let reading = tokio::spawn(async move {
            let mut taken = Vec::new();
            theirs.read_to_end(&mut taken).await.map(|_| taken.len())
        });
        stream.write_all(&[7; 64 << 10]).await.unwrap();
        assert!(stream.backlog.is_some());
        stream.flush().await.unwrap();
        assert!(stream.backlog.is_none());
        drop(stream);
        assert_eq!(reading.await.unwrap().unwrap(), 64 << 10);
    }

    #[tokio::test]
    async fn time_is_earned_by_bytes_and_never_beyond_the_next_byte() {
        let since = Instant::now();
        let patience = Patience::default();
        let ends = |taken, after| {
            let now = since + Duration::from_secs(after);
            patience.ends(Backlog { since, taken }, now) - since
        };
        assert_eq!(ends(0, 0), Duration::from_secs(20));
        assert_eq!(ends(3, 57), Duration::from_secs(60));
        assert_eq!(ends(16 << 20, 1_000), Duration::from_secs(1_020));
        assert_eq!(ends(16 << 20, 1_070), Duration::from_secs(1_084));
        assert_eq!(ends(u64::MAX, 1_000), Duration::from_secs(1_020));
    }
}
