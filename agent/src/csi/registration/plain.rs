//! A connection on which any `:authority` is taken.
//!
//! kubelet dials the path of a plugin's socket as it is, and grpc-go then sends `:authority: %2Fvar%2Flib%2F…-reg.sock`
//! (`pkg/kubelet/pluginmanager/operationexecutor`, up to 1.36 at least). Go and C++ take that; h2, up to 0.4.20 at
//! least, resets the stream with PROTOCOL_ERROR, since it is no authority of a URI, and nothing above it can say
//! otherwise. So it is replaced before h2 reads it. The replacing needs neither a table nor Huffman's code (see
//! `hpack`), which makes it smaller than any library that decodes and encodes headers, and than a server by hand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::frames::{Frames, Malformed};

/// Bytes that are read at once.
const PIECE: usize = 4 << 10;

/// A connection whose server reads another `:authority` than the client sent.
#[derive(Debug)]
pub struct Plain<S> {
    stream: S,
    frames: Frames,
    /// What the server has not read yet.
    ready: Vec<u8>,
    taken: usize,
}

impl<S> Plain<S> {
    /// The connection `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, frames: Frames::new(), ready: Vec::new(), taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, frames, ready, taken } = &mut *self;
        // Of a header block that is not whole yet, there is nothing to give.
        while *taken == ready.len() {
            ready.clear();
            *taken = 0;
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let read = frames.read(piece.filled(), ready);
            read.map_err(|Malformed(what)| io::Error::new(io::ErrorKind::InvalidData, what))?;
        }
        let rest = ready.get(*taken..).unwrap_or_default();
        let (now, _) = rest.split_at(rest.len().min(buffer.remaining()));
        buffer.put_slice(now);
        *taken += now.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Plain<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
