//! A connection whose peer must take what is sent to it.
//!
//! Heads and bodies have their time to arrive; without this, a thousand readers that never read
//! would hold every connection for ever.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// A peer that takes not one byte for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A stream that ends when its peer stops reading.
pub(super) struct TakenStream {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    stalled: bool,
}

impl TakenStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            patience: Box::pin(sleep(WRITE_TIMEOUT)),
            stalled: false,
        }
    }

    fn bound<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.patience.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        let out_of_patience = self.patience.as_mut().poll(cx);
        out_of_patience.map(|()| Err(Error::from(ErrorKind::TimedOut)))
    }
}

impl AsyncRead for TakenStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TakenStream {
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
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
