//! A connection that carries HTTP/2, with an eye on its frames: what costs us more than its sender is counted as it
//! passes, and a flood is never read. The `h2` crate limits what it must hold; this limits what it must answer.
//! It stands between the crate and the socket on either side of us, since a backend can flood as well as a client.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evenkeel_wire::{FrameHead, FrameKind, Frames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many frames of a kind one peer may send within a second.
#[derive(Debug, Clone)]
pub(crate) struct Floods {
    pub(crate) resets: u32,
    pub(crate) pings: u32,
    pub(crate) settings: u32,
    /// DATA without data that does not end a stream.
    pub(crate) empty: u32,
    /// Everything else that is neither a head nor data: window updates, priorities, unknown frames. Whoever is
    /// sent much has reason to send more: one for each [`BYTES_PER_CONTROL_FRAME`].
    pub(crate) control: u32,
    /// CONTINUATION frames of one head.
    pub(crate) continuations: u32,
    /// Heads of answers, interim ones included, and one for each [`BYTES_PER_HEAD`] that the peer is sent; none
    /// for a client, whose heads open streams, which are limited by themselves.
    pub(crate) heads: Option<u32>,
}

/// Some libraries give room again for every 4 KiB that was read, on the stream and on the connection.
const BYTES_PER_CONTROL_FRAME: u64 = 1024;

/// A request takes more than twice this, with the id that we give it, and rarely more than two heads answer it.
const BYTES_PER_HEAD: u64 = 16;

/// Heads that are read from a backend before those who wait for them get their turn: only they know how many are
/// too many, and until they look, every one is held.
const HEADS_PER_TURN: u32 = 64;

/// What is known of a connection to whoever drives it.
#[derive(Debug)]
pub(in crate::http) struct Watch {
    active: Cell<Instant>,
    /// Since when a frame or a head has been incomplete, and its number.
    incomplete: Cell<Option<(Instant, u64)>>,
    flood: Cell<Option<&'static str>>,
    /// Whether the peer has sent its settings.
    settled: Cell<bool>,
}

impl Watch {
    pub(in crate::http) fn new() -> Rc<Watch> {
        let active = Cell::new(Instant::now());
        let (incomplete, flood, settled) = Default::default();
        Rc::new(Watch { active, incomplete, flood, settled })
    }

    /// When a byte of a message last passed, either way. What only keeps a connection alive does not count.
    pub(in crate::http) fn active(&self) -> Instant {
        self.active.get()
    }

    /// Since when the peer has owed the rest of a head, or of a frame that is not DATA: for bodies there are other
    /// limits, since they may take their time.
    pub(in crate::http) fn incomplete(&self) -> Option<Instant> {
        self.incomplete.get().map(|(since, _)| since)
    }

    /// Whether the peer has sent its settings: what it can do is known.
    pub(in crate::http) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// The kind of frames that the peer floods us with. Nothing is read any more.
    pub(in crate::http) fn flood(&self) -> Option<&'static str> {
        self.flood.get()
    }
}

/// A connection whose frames are counted.
#[derive(Debug)]
pub(in crate::http) struct Guarded<T> {
    io: T,
    /// What had been read before it was known that this is HTTP/2.
    ahead: Vec<u8>,
    tally: Tally,
    /// What we write.
    written: Written,
    watch: Rc<Watch>,
}

#[derive(Debug, Default)]
struct Written {
    frames: Frames,
    in_message: bool,
}

#[derive(Debug)]
struct Tally {
    frames: Frames,
    floods: Floods,
    second: Instant,
    counts: [u32; 6],
    /// Bytes that the peer was sent within this second.
    sent: u64,
    /// Frames so far.
    seen: u64,
    /// The number of the frame that began the head which goes on.
    fields: Option<u64>,
    in_data: bool,
    in_message: bool,
    continuations: u32,
    heads_in_turn: u32,
    /// Whether the peer has sent its settings.
    settled: bool,
}

impl<T> Guarded<T> {
    /// The connection of a client, of which `ahead` has been read already.
    pub(in crate::http) fn of_client(
        io: T,
        ahead: Vec<u8>,
        floods: Floods,
        watch: Rc<Watch>,
    ) -> Guarded<T> {
        let tally = Tally::new(Frames::of_client(), floods);
        Guarded { io, ahead, tally, written: Written::default(), watch }
    }

    /// A connection to a backend.
    pub(in crate::http) fn of_backend(io: T, floods: Floods, watch: Rc<Watch>) -> Guarded<T> {
        let tally = Tally::new(Frames::default(), floods);
        Guarded { io, ahead: Vec::new(), tally, written: Written::default(), watch }
    }

    /// The first `count` bytes of these parts have been written.
    fn note_sent<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]>, mut count: usize) {
        self.tally.sent += count as u64;
        let Written { frames, in_message } = &mut self.written;
        let mut moves = *in_message && frames.is_in_payload();
        for part in parts {
            let taken = part.get(..count).unwrap_or(part);
            count -= taken.len();
            let followed: Result<(), Infallible> = frames.follow(taken, |head| {
                *in_message = is_message(&head);
                moves |= *in_message;
                Ok(())
            });
            let Ok(()) = followed;
        }
        if moves {
            self.watch.active.set(Instant::now());
        }
    }
}

/// Whether the frame carries something of a request or an answer.
fn is_message(head: &FrameHead) -> bool {
    let kinds = [FrameKind::Data, FrameKind::Headers, FrameKind::Continuation];
    head.length > 0 && kinds.contains(&head.kind)
}

impl Tally {
    fn new(frames: Frames, floods: Floods) -> Tally {
        Tally {
            frames,
            floods,
            second: Instant::now(),
            counts: [0; 6],
            sent: 0,
            seen: 0,
            fields: None,
            in_data: false,
            in_message: false,
            settled: false,
            continuations: 0,
            heads_in_turn: 0,
        }
    }

    /// Counts what has come. Whether anything of a message was in it, or else what there is too much of.
    fn follow(&mut self, bytes: &[u8], now: Instant) -> Result<bool, &'static str> {
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.counts, self.sent) = (now, [0; 6], 0);
        }
        let Tally { frames, floods, counts, sent, seen, fields, continuations, .. } = self;
        let (in_data, heads_in_turn) = (&mut self.in_data, &mut self.heads_in_turn);
        let (in_message, settled) = (&mut self.in_message, &mut self.settled);
        let mut moves = *in_message && frames.is_in_payload() && !bytes.is_empty();
        let with = |most: u32, bytes_for_one: u64| u64::from(most) + *sent / bytes_for_one;
        let mut count = |kind: usize, most: u64, name: &'static str| {
            let seen = counts.get_mut(kind).map_or(0, |seen| {
                *seen += 1;
                *seen
            });
            if u64::from(seen) > most { Err(name) } else { Ok(()) }
        };
        frames.follow(bytes, |head: FrameHead| {
            *seen += 1;
            *in_data = head.kind == FrameKind::Data;
            *in_message = is_message(&head);
            moves |= *in_message;
            match head.kind {
                FrameKind::Headers => {
                    *continuations = 0;
                    *fields = (!head.ends_fields()).then_some(*seen);
                    *heads_in_turn += 1;
                    let most = floods.heads.map(|most| with(most, BYTES_PER_HEAD));
                    most.map_or(Ok(()), |most| count(5, most, "headers"))
                }
                FrameKind::Continuation => {
                    *continuations += 1;
                    *fields = fields.filter(|_| !head.ends_fields());
                    if *continuations > floods.continuations { Err("continuation") } else { Ok(()) }
                }
                FrameKind::Data if head.length == 0 && !head.ends_stream() => {
                    count(0, floods.empty.into(), "empty-data")
                }
                FrameKind::Data => Ok(()),
                FrameKind::ResetStream => count(1, floods.resets.into(), "reset"),
                FrameKind::Ping if !head.is_answer() => count(2, floods.pings.into(), "ping"),
                FrameKind::Settings if !head.is_answer() => {
                    *settled = true;
                    count(3, floods.settings.into(), "settings")
                }
                _ => count(4, with(floods.control, BYTES_PER_CONTROL_FRAME), "control"),
            }
        })?;
        Ok(moves)
    }

    /// The number of what has begun and must come to its end soon: the first frame of a head, or a frame.
    fn owed(&self) -> Option<u64> {
        if self.fields.is_some() || self.frames.is_between() {
            return self.fields;
        }
        match self.frames.is_in_payload() {
            true => Some(self.seen).filter(|_| !self.in_data),
            false => Some(self.seen + 1),
        }
    }

    /// Whether those who wait for heads are to have their turn first.
    fn is_turn_over(&mut self) -> bool {
        let over = self.floods.heads.is_some() && self.heads_in_turn > HEADS_PER_TURN;
        if over {
            self.heads_in_turn = 0;
        }
        over
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.flood.get().is_some() {
            return Poll::Pending;
        }
        if this.tally.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, into))?;
        } else {
            let count = this.ahead.len().min(into.remaining());
            into.put_slice(&this.ahead[..count]);
            this.ahead.drain(..count);
        }
        let read = &into.filled()[before..];
        let now = Instant::now();
        match this.tally.follow(read, now) {
            Ok(true) => this.watch.active.set(now),
            Ok(false) => {}
            Err(flood) => {
                // Whoever drives the connection looks at this after each turn.
                this.watch.flood.set(Some(flood));
                into.set_filled(before);
                return Poll::Pending;
            }
        }
        this.watch.settled.set(this.tally.settled);
        let since = this.watch.incomplete.get();
        let owed = this.tally.owed();
        this.watch.incomplete.set(owed.map(|number| match since {
            Some((since, same)) if same == number => (since, number),
            _ => (now, number),
        }));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, from))?;
        self.note_sent(std::iter::once(from), count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, from))?;
        self.note_sent(from.iter().map(|part| &**part), count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
