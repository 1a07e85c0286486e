//! A client's connection through TLS. rustls keeps no bytes here: what is read and written passes through buffers of the
//! thread, and a connection holds only what must wait, so that an idle one holds nothing.
//! It must never hold more than [`HELD`] bytes for a client that does not read, nor take a cut for an end.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};

use super::HELD;
use crate::socket::Socket;

/// Bytes that are taken from the kernel at a time, at least and at most.
const LEAST: usize = 4096;
const MOST: usize = 20 * 1024;

/// Bytes that may have come and not be done with: the longest message of a handshake that rustls takes, 64 KiB, in
/// records with their heads, and what came with its end.
const UNFINISHED: usize = 128 * 1024;

/// Bytes in clear that are made to records at a time.
const TO_RECORDS: usize = 16 * 1024;

thread_local! {
    /// What is just being decrypted.
    static ARRIVING: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST]);
    /// What was just encrypted.
    static LEAVING: RefCell<Vec<u8>> = RefCell::new(vec![0; TO_RECORDS + 1024]);
    /// Pieces that become one record.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection whose client is, or is being, agreed with.
pub(crate) struct Served {
    socket: Socket,
    session: UnbufferedServerConnection,
    /// What has come of a record that is not whole.
    arrived: Vec<u8>,
    /// What was decrypted and not read yet.
    clear: Kept,
    /// What was encrypted, and not taken by the kernel yet.
    leaving: Kept,
    /// The client has said that no more comes (`close_notify`).
    ended: bool,
    /// We have.
    closing: bool,
    /// For whoever reads next, again and again.
    failed: Option<(io::ErrorKind, String)>,
}

/// Bytes that wait, and how many of them are gone already.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    gone: usize,
}

impl Kept {
    fn left(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.gone == self.bytes.len()
    }

    /// What is gone makes room first: it may be long until all is.
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.gone);
        self.gone = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Memory goes with the last byte.
    fn take(&mut self, count: usize) {
        self.gone += count;
        if self.gone >= self.bytes.len() {
            *self = Kept::default();
        }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Served {
    /// Goes through the handshake; `arrived` is what was read of it already.
    pub(crate) async fn accept(
        socket: Socket,
        config: Arc<ServerConfig>,
        arrived: Vec<u8>,
    ) -> io::Result<Served> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut served = Served {
            socket,
            session,
            arrived,
            clear: Kept::default(),
            leaving: Kept::default(),
            ended: false,
            closing: false,
            failed: None,
        };
        let mut arrived = std::mem::take(&mut served.arrived);
        let rest = served.digest(&mut arrived, &mut []).0;
        served.arrived = arrived.split_off(arrived.len() - rest);
        loop {
            // An alert is sent too, and the error that it tells matters more than whether it arrives.
            let sent = poll_fn(|cx| served.poll_flush(cx)).await;
            if !served.session.is_handshaking() {
                return sent.map(|()| served);
            }
            if let Some(error) = served.error() {
                return Err(error);
            }
            sent?;
            if served.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            poll_fn(|cx| served.poll_arrival(cx, &mut [])).await;
        }
    }

    pub(crate) fn session(&self) -> &UnbufferedServerConnection {
        &self.session
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn holds_back(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Bytes of memory for what waits.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.arrived.capacity() + self.clear.bytes.capacity() + self.leaving.bytes.capacity()
    }

    fn fail(&mut self, kind: io::ErrorKind, said: impl fmt::Display) {
        self.failed.get_or_insert_with(|| (kind, said.to_string()));
    }

    fn error(&self) -> Option<io::Error> {
        self.failed.as_ref().map(|(kind, said)| io::Error::new(*kind, said.clone()))
    }

    /// Goes on with what has come; gives how many bytes of it are left at its end, and how many went to `into`. What
    /// `into` has no room for is kept.
    fn digest(&mut self, arrived: &mut [u8], into: &mut [u8]) -> (usize, usize) {
        let (mut from, mut given) = (0, 0);
        loop {
            let Some(rest) = arrived.get_mut(from..) else { return (0, given) };
            let UnbufferedStatus { mut discard, state, .. } =
                self.session.process_tls_records(rest);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let room = into.get_mut(given..).unwrap_or_default();
                        let fits = room.len().min(record.payload.len());
                        let (now, later) = record.payload.split_at(fits);
                        room[..fits].copy_from_slice(now);
                        given += fits;
                        self.clear.add(later);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if let Err(EncodeError::InsufficientSize(short)) = message.encode(&mut []) {
                        let mut bytes = vec![0; short.required_size];
                        let _ = message.encode(&mut bytes);
                        self.leaving.add(&bytes);
                    }
                    true
                }
                // It is in order behind what else is leaving.
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    true
                }
                Ok(_) => false,
                Err(error) => {
                    // Once more for the alert, if there is one.
                    let first = self.failed.is_none();
                    self.fail(io::ErrorKind::InvalidData, error);
                    first
                }
            };
            from += discard;
            if !goes_on {
                return (arrived.len().saturating_sub(from), given);
            }
        }
    }

    /// Waits for bytes and goes on with them, until something can be read, the stream ends, fails, or a message of the
    /// handshake was read. Gives how many bytes went to `into`.
    fn poll_arrival(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<usize> {
        ARRIVING.with_borrow_mut(|buffer| {
            let known = self.arrived.len();
            let end = known + into.len().clamp(LEAST, MOST);
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            buffer[..known].copy_from_slice(&self.arrived);
            match ready!(self.socket.poll_read(cx, &mut buffer[known..end])) {
                Ok(0) => {
                    self.fail(io::ErrorKind::UnexpectedEof, "cut off without close_notify");
                    Poll::Ready(0)
                }
                Ok(count) => {
                    let (rest, given) = self.digest(&mut buffer[..known + count], into);
                    let end = known + count;
                    self.arrived.clear();
                    self.arrived.extend_from_slice(&buffer[end - rest..end]);
                    if rest == 0 {
                        self.arrived = Vec::new();
                    }
                    if rest > UNFINISHED {
                        self.fail(io::ErrorKind::InvalidData, "a message without end");
                    }
                    Poll::Ready(given)
                }
                Err(error) => {
                    self.fail(error.kind(), error);
                    Poll::Ready(0)
                }
            }
        })
    }

    /// The same with what has come before.
    fn digest_arrived(&mut self, into: &mut [u8]) -> usize {
        if self.arrived.is_empty() {
            return 0;
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        let (rest, given) = self.digest(&mut arrived, into);
        arrived.drain(..arrived.len() - rest);
        self.arrived = arrived;
        given
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let kept = self.clear.left();
            if !kept.is_empty() {
                let count = kept.len().min(into.len());
                into[..count].copy_from_slice(&kept[..count]);
                self.clear.take(count);
                return Poll::Ready(Ok(count));
            }
            let given = self.digest_arrived(into);
            if given > 0 {
                return Poll::Ready(Ok(given));
            }
            if !self.clear.is_empty() {
                continue;
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            if let Some(error) = self.error() {
                let _ = self.poll_flush(cx);
                return Poll::Ready(Err(error));
            }
            let given = ready!(self.poll_arrival(cx, into));
            if self.holds_back() {
                let _ = self.poll_flush(cx);
            }
            if given > 0 {
                return Poll::Ready(Ok(given));
            }
        }
    }

    /// Ready also for an end and for an error, which the next read tells.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.clear.is_empty() || self.ended || self.failed.is_some() {
                return Poll::Ready(());
            }
            self.digest_arrived(&mut []);
            if self.clear.is_empty() && !self.ended && self.failed.is_none() {
                ready!(self.poll_arrival(cx, &mut []));
            }
        }
    }

    /// Encrypts as much of `from` as there is room for, and hands it to the kernel.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        while taken < from.len() {
            if self.holds_back() {
                match self.poll_flush(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if self.leaving.left().len() + TO_RECORDS > HELD => break,
                    _ => {}
                }
            }
            let piece = &from[taken..from.len().min(taken + TO_RECORDS)];
            self.encrypt(cx, piece)?;
            taken += piece.len();
        }
        if taken == 0 && !from.is_empty() { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    /// Of many pieces, as one.
    pub(crate) fn poll_write_pieces(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            for piece in pieces {
                let room = 2 * TO_RECORDS - gathered.len();
                gathered.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            self.poll_write(cx, gathered)
        })
    }

    /// Makes records of a piece; what the kernel does not take at once is kept.
    fn encrypt(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> io::Result<()> {
        LEAVING.with_borrow_mut(|records| {
            let count = loop {
                match self.traffic(|traffic| traffic.encrypt(piece, records))? {
                    Ok(count) => break count,
                    Err(EncryptError::InsufficientSize(short)) => {
                        records.resize(short.required_size, 0);
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            };
            self.send(cx, &records[..count])
        })
    }

    fn send(&mut self, cx: &mut Context<'_>, mut records: &[u8]) -> io::Result<()> {
        while self.leaving.is_empty() && !records.is_empty() {
            match self.socket.poll_write(cx, records) {
                Poll::Ready(count) => records = &records[count?..],
                Poll::Pending => break,
            }
        }
        self.leaving.add(records);
        Ok(())
    }

    /// Does something that a connection can do once it is agreed with.
    fn traffic<T>(
        &mut self,
        act: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> io::Result<T> {
        self.digest_arrived(&mut []);
        // What is left is a part of a record.
        let UnbufferedStatus { discard, state, .. } =
            self.session.process_tls_records(&mut self.arrived);
        let done = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => Ok(act(&mut traffic)),
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error)),
        };
        self.arrived.drain(..discard);
        done
    }

    /// Hands everything that was encrypted to the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.leaving.is_empty() {
            let count = ready!(self.socket.poll_write(cx, self.leaving.left()))?;
            self.leaving.take(count);
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            let mut word = [0; 64];
            let told = self.traffic(|traffic| traffic.queue_close_notify(&mut word));
            if let Ok(Ok(count)) = told {
                self.leaving.add(&word[..count]);
            }
        }
        self.poll_flush(cx)
    }
}
