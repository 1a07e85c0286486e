//! A connection through TLS whose keys are agreed on. What is read and written passes through buffers of the thread, and
//! a connection holds only what must wait, so that an idle one holds nothing.
//! It must never hold more than [`BATCH`] bytes of records for a peer that does not read, nor take a cut for an end.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, Error, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

use super::handshake::Successors;
use super::kept::Kept;
use super::parts::{ALONE_MIN, parts};
use super::records::{
    ALERT, AROUND_MAX, CLEAR_MAX, DATA, HANDSHAKE, Key, RECORD_MAX, Refused, UNEXPECTED,
    record_length,
};
use crate::socket::Socket;

/// Bytes that are taken from the kernel at a time, at least and at most.
const LEAST: usize = 4096;
const MOST: usize = 2 * RECORD_MAX;

/// Bytes that are sealed at a time: two records, and a small one before them.
pub(super) const BATCH: usize = 2 * CLEAR_MAX + ALONE_MIN + 3 * AROUND_MAX;

/// The longest message of a handshake that is put together from several records.
const MESSAGE_MAX: usize = 64 * 1024;

/// Records that may come one after the other without carrying anything.
const EMPTY_MAX: u8 = 32;

/// Messages of a handshake (RFC 8446 4, RFC 5246 7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Alerts (RFC 8446 6).
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

thread_local! {
    /// What is just being decrypted.
    static ARRIVING: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST]);
    /// What was just encrypted.
    static LEAVING: RefCell<Vec<u8>> = RefCell::new(vec![0; BATCH]);
}

/// A connection whose other side is known.
pub(crate) struct Secured {
    socket: Socket,
    opener: Key,
    sealer: Key,
    suite: SupportedCipherSuite,
    successors: Option<Box<Successors>>,
    /// Agreed on by ALPN.
    protocol: Option<Box<[u8]>>,
    /// What has come of a record that is not whole.
    arrived: Vec<u8>,
    /// What has come of a message of a handshake that is not whole.
    message: Vec<u8>,
    /// What was decrypted and not read yet.
    clear: Kept,
    /// What was encrypted, and not taken by the kernel yet.
    leaving: Kept,
    /// Records in a row that carried nothing.
    empty: u8,
    /// It was told that nothing is agreed on anew, which is said once.
    refused: bool,
    /// We have changed our key because it asked for that, and sent nothing with it yet: once is enough for all who ask
    /// (RFC 8446 4.6.3).
    changed: bool,
    /// The other side has said that no more comes (`close_notify`).
    ended: bool,
    /// We have.
    closing: bool,
    /// One side has said that it is over (a fatal alert): nothing more may be said.
    broken: bool,
    /// For whoever reads next, again and again.
    failed: Option<Box<(io::ErrorKind, String)>>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Secured {
    /// What a handshake came to: what has arrived behind it, and what ALPN agreed on.
    pub(super) fn new(
        socket: Socket,
        suite: SupportedCipherSuite,
        secrets: &ExtractedSecrets,
        successors: Successors,
        (arrived, protocol): (Vec<u8>, Option<Box<[u8]>>),
    ) -> Result<Secured, Error> {
        let has_successors = suite.version().version == ProtocolVersion::TLSv1_3;
        Ok(Secured {
            socket,
            opener: Key::new(suite, secrets.rx.0, &secrets.rx.1)?,
            sealer: Key::new(suite, secrets.tx.0, &secrets.tx.1)?,
            suite,
            successors: has_successors.then(|| Box::new(successors)),
            protocol,
            arrived,
            message: Vec::new(),
            clear: Kept::default(),
            leaving: Kept::default(),
            empty: 0,
            refused: false,
            changed: false,
            ended: false,
            closing: false,
            broken: false,
            failed: None,
        })
    }

    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
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
        self.arrived.capacity()
            + self.message.capacity()
            + self.clear.capacity()
            + self.leaving.capacity()
    }

    #[cfg(test)]
    pub(super) fn sealer(&mut self) -> &mut Key {
        &mut self.sealer
    }

    fn fail(&mut self, kind: io::ErrorKind, said: impl fmt::Display) {
        self.failed.get_or_insert_with(|| Box::new((kind, said.to_string())));
    }

    fn error(&self) -> Option<io::Error> {
        self.failed.as_ref().map(|failed| io::Error::new(failed.0, failed.1.clone()))
    }

    /// Goes on with what has come; gives how many bytes of it are left at its end, and how many went to `into`. What
    /// `into` has no room for is kept.
    fn digest(&mut self, arrived: &mut [u8], into: &mut [u8]) -> (usize, usize) {
        let (mut from, mut given) = (0, 0);
        // Behind the last word, or what cannot be taken, nothing counts.
        while !self.ended && self.failed.is_none() {
            let rest = arrived.get_mut(from..).unwrap_or_default();
            let outcome = match record_length(rest) {
                Ok(Some(length)) if length <= rest.len() => {
                    from += length;
                    self.take(&mut rest[..length], into, &mut given)
                }
                Ok(_) => return (arrived.len() - from, given),
                Err(refused) => Err(refused),
            };
            if let Err(refused) = outcome {
                self.say(ALERT, &[2, refused.alert]);
                self.broken = true;
                self.fail(io::ErrorKind::InvalidData, refused.said);
            }
        }
        (0, given)
    }

    /// Takes one record.
    fn take(
        &mut self,
        record: &mut [u8],
        into: &mut [u8],
        given: &mut usize,
    ) -> Result<(), Refused> {
        let (kind, content) = self.opener.open(record)?;
        // A message goes on in the next record, or not at all (RFC 8446 5.1).
        if kind != HANDSHAKE && !self.message.is_empty() {
            return Err(UNEXPECTED);
        }
        if kind == DATA && !content.is_empty() {
            self.empty = 0;
            let room = into.get_mut(*given..).unwrap_or_default();
            let (now, later) = content.split_at(room.len().min(content.len()));
            room[..now.len()].copy_from_slice(now);
            *given += now.len();
            if !later.is_empty() {
                self.clear.add(later);
            }
            return Ok(());
        }
        self.empty += 1;
        if self.empty > EMPTY_MAX {
            return Err(Refused { alert: UNEXPECTED.alert, said: "nothing, again and again" });
        }
        match (kind, content) {
            (DATA, _) => Ok(()),
            (ALERT, &[level, alert]) => self.be_told(level, alert),
            (HANDSHAKE, content) if !content.is_empty() => {
                if self.message.len() + content.len() > MESSAGE_MAX {
                    return Err(UNEXPECTED);
                }
                self.message.extend_from_slice(content);
                let mut message = std::mem::take(&mut self.message);
                let outcome = self.go_on(&mut message);
                self.message = message;
                outcome
            }
            _ => Err(UNEXPECTED),
        }
    }

    fn be_told(&mut self, level: u8, alert: u8) -> Result<(), Refused> {
        let is_warning = self.successors.is_none() && level == 1;
        match alert {
            CLOSE_NOTIFY => self.ended = true,
            USER_CANCELED => {}
            _ if is_warning => {}
            _ => {
                let alert = Error::AlertReceived(AlertDescription::from(alert));
                self.broken = true;
                self.fail(io::ErrorKind::InvalidData, alert);
            }
        }
        Ok(())
    }

    /// Goes on with the messages of a handshake that are whole.
    fn go_on(&mut self, bytes: &mut Vec<u8>) -> Result<(), Refused> {
        while let &[kind, a, b, c, ..] = &bytes[..] {
            let end = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if end > MESSAGE_MAX {
                return Err(UNEXPECTED);
            }
            let Some(body) = bytes.get(4..end) else { return Ok(()) };
            let is_last = end == bytes.len();
            match (kind, &mut self.successors) {
                (NEW_SESSION_TICKET, Some(successors)) => match successors.take_ticket(body) {
                    Some(Ok(())) => {}
                    _ => return Err(UNEXPECTED),
                },
                // Nothing may stand behind it that was sealed with the key it ends (RFC 8446 5.1).
                (KEY_UPDATE, Some(_)) if is_last => self.change_opener(body)?,
                // Agreeing anew is refused, and not the end (RFC 5246 7.2.2).
                (HELLO_REQUEST | CLIENT_HELLO, None) if !self.refused => {
                    self.refused = true;
                    self.say(ALERT, &[1, NO_RENEGOTIATION]);
                }
                _ => return Err(UNEXPECTED),
            }
            bytes.drain(..end);
        }
        if bytes.is_empty() {
            *bytes = Vec::new();
        }
        Ok(())
    }

    /// The other side seals with its next key, and may want us to do so (RFC 8446 4.6.3).
    fn change_opener(&mut self, body: &[u8]) -> Result<(), Refused> {
        let &[wants_ours @ (0 | 1)] = body else {
            return Err(Refused { alert: 47, said: "a change of keys that makes no sense" });
        };
        let next = self.successors.as_mut().and_then(|successors| successors.open_with().ok());
        let next = next.and_then(|(number, secrets)| Key::new(self.suite, number, &secrets).ok());
        self.opener = next.ok_or(UNEXPECTED)?;
        if wants_ours == 1 && !self.closing && !self.changed {
            self.changed = true;
            self.change_sealer().map_err(|_| UNEXPECTED)?;
        }
        Ok(())
    }

    /// 1.2 has no second key.
    fn change_sealer(&mut self) -> Result<(), Error> {
        let successors = self.successors.as_mut().ok_or(Error::EncryptError)?;
        let (number, secrets) = successors.seal_with()?;
        let next = Key::new(self.suite, number, &secrets)?;
        self.say(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0]);
        self.sealer = next;
        Ok(())
    }

    /// Says something of TLS's own, behind what is leaving.
    fn say(&mut self, kind: u8, content: &[u8]) {
        let mut record = [0; 64];
        if let Some(length) = self.sealer.seal(kind, content, &mut record) {
            self.leaving.add(&record[..length]);
        }
    }

    /// Whether there is more than a part of a record, of what came with the handshake.
    fn has_record(&self) -> bool {
        match record_length(&self.arrived) {
            Ok(length) => length.is_some_and(|length| length <= self.arrived.len()),
            Err(_) => true,
        }
    }

    /// Waits for bytes and goes on with them, until something can be read, the stream ends, or fails. Gives how many
    /// bytes went to `into`.
    fn poll_arrival(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<usize> {
        if self.has_record() {
            let mut arrived = std::mem::take(&mut self.arrived);
            let (rest, given) = self.digest(&mut arrived, into);
            self.arrived = arrived.split_off(arrived.len() - rest);
            return Poll::Ready(given);
        }
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
                    let end = known + count;
                    let (rest, given) = self.digest(&mut buffer[..end], into);
                    self.arrived.clear();
                    self.arrived.extend_from_slice(&buffer[end - rest..end]);
                    if rest == 0 {
                        self.arrived = Vec::new();
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
            ready!(self.poll_arrival(cx, &mut []));
            if self.holds_back() {
                let _ = self.poll_flush(cx);
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
            match self.poll_write_pieces(cx, &[io::IoSlice::new(&from[taken..])]) {
                Poll::Ready(count) => taken += count?,
                Poll::Pending if taken > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Of some pieces, as much as is sealed at a time. What the kernel does not take at once is kept.
    pub(crate) fn poll_write_pieces(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        if let (true, Some(error)) = (self.broken, self.error()) {
            return Poll::Ready(Err(error));
        }
        self.changed = false;
        let taken = LEAVING.with_borrow_mut(|records| {
            let (mut end, mut taken) = (0, 0);
            parts(pieces, |part| {
                if records.len() - end < part.len() + AROUND_MAX {
                    return Ok(false);
                }
                if self.sealer.is_spent() {
                    self.leaving.add(&records[..end]);
                    end = 0;
                    self.change_sealer().map_err(io::Error::other)?;
                }
                let sealed = self.sealer.seal(DATA, part, &mut records[end..]);
                end += sealed.ok_or(io::ErrorKind::BrokenPipe)?;
                taken += part.len();
                Ok(true)
            })?;
            self.send(cx, &records[..end])?;
            Ok(taken)
        });
        Poll::Ready(taken)
    }

    fn send(&mut self, cx: &mut Context<'_>, mut records: &[u8]) -> io::Result<()> {
        while self.leaving.is_empty() && !records.is_empty() {
            match self.socket.poll_write(cx, records) {
                Poll::Ready(count) => records = &records[count?..],
                Poll::Pending => break,
            }
        }
        if !records.is_empty() {
            self.leaving.add(records);
        }
        Ok(())
    }

    /// Hands everything that was encrypted to the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leaving.poll_flush(cx, &self.socket)
    }

    pub(crate) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing && !self.broken {
            self.closing = true;
            self.say(ALERT, &[1, CLOSE_NOTIFY]);
        }
        self.poll_flush(cx)
    }
}
