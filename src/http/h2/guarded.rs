//! A connection that carries HTTP/2, with an eye on its frames: what costs us more than its sender is counted as it
//! passes, and a flood is never read. The `h2` crate limits what it must hold; this limits what it must answer.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evenkeel_wire::{FrameHead, FrameKind, Frames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many frames of a kind one client may send within a second.
#[derive(Debug, Clone)]
pub(crate) struct Floods {
    pub(crate) resets: u32,
    pub(crate) pings: u32,
    pub(crate) settings: u32,
    /// DATA without data that does not end a stream.
    pub(crate) empty: u32,
    /// Everything else that is neither a head nor data: window updates, priorities, unknown frames.
    pub(crate) control: u32,
    /// CONTINUATION frames of one head.
    pub(crate) continuations: u32,
}

/// What is known of a connection to whoever drives it.
#[derive(Debug)]
pub(in crate::http) struct Watch {
    active: Cell<Instant>,
    /// Since when a frame or a head has been incomplete.
    incomplete: Cell<Option<Instant>>,
    flood: Cell<Option<&'static str>>,
}

impl Watch {
    pub(in crate::http) fn new() -> Rc<Watch> {
        let active = Cell::new(Instant::now());
        Rc::new(Watch { active, incomplete: Cell::new(None), flood: Cell::new(None) })
    }

    /// When a byte last passed.
    pub(in crate::http) fn active(&self) -> Instant {
        self.active.get()
    }

    /// Since when the client has owed the rest of a frame or of a head.
    pub(in crate::http) fn incomplete(&self) -> Option<Instant> {
        self.incomplete.get()
    }

    /// The kind of frames that the client floods us with. Nothing is read any more.
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
    watch: Rc<Watch>,
}

#[derive(Debug)]
struct Tally {
    frames: Frames,
    floods: Floods,
    second: Instant,
    counts: [u32; 5],
    in_fields: bool,
    continuations: u32,
}

impl<T> Guarded<T> {
    pub(in crate::http) fn new(
        io: T,
        ahead: Vec<u8>,
        floods: Floods,
        watch: Rc<Watch>,
    ) -> Guarded<T> {
        let tally = Tally {
            frames: Frames::of_client(),
            floods,
            second: Instant::now(),
            counts: [0; 5],
            in_fields: false,
            continuations: 0,
        };
        Guarded { io, ahead, tally, watch }
    }
}

impl Tally {
    fn follow(&mut self, bytes: &[u8], now: Instant) -> Result<(), &'static str> {
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.counts) = (now, [0; 5]);
        }
        let Tally { frames, floods, counts, in_fields, continuations, .. } = self;
        let mut count = |kind: usize, most: u32, name: &'static str| {
            let seen = counts.get_mut(kind).map_or(0, |seen| {
                *seen += 1;
                *seen
            });
            if seen > most { Err(name) } else { Ok(()) }
        };
        frames.follow(bytes, |head: FrameHead| match head.kind {
            FrameKind::Headers => {
                *continuations = 0;
                *in_fields = !head.ends_fields();
                Ok(())
            }
            FrameKind::Continuation => {
                *continuations += 1;
                *in_fields = !head.ends_fields();
                if *continuations > floods.continuations { Err("continuation") } else { Ok(()) }
            }
            FrameKind::Data if head.length == 0 && !head.ends_stream() => {
                count(0, floods.empty, "empty-data")
            }
            FrameKind::Data => Ok(()),
            FrameKind::ResetStream => count(1, floods.resets, "reset"),
            FrameKind::Ping if !head.is_answer() => count(2, floods.pings, "ping"),
            FrameKind::Settings if !head.is_answer() => count(3, floods.settings, "settings"),
            _ => count(4, floods.control, "control"),
        })
    }

    fn is_between(&self) -> bool {
        self.frames.is_between() && !self.in_fields
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
        if !read.is_empty() {
            this.watch.active.set(now);
        }
        if let Err(flood) = this.tally.follow(read, now) {
            // Whoever drives the connection looks at this after each turn.
            this.watch.flood.set(Some(flood));
            into.set_filled(before);
            return Poll::Pending;
        }
        let since = this.watch.incomplete.get().unwrap_or(now);
        this.watch.incomplete.set((!this.tally.is_between()).then_some(since));
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
        self.watch.active.set(Instant::now());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, from))?;
        self.watch.active.set(Instant::now());
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
