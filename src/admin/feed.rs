//! `GET /v1/events`: the state at once and then each second, as server-sent events, for as long as somebody reads. Whoever is slow
//! misses some: a state is made when there is room for it, and none is kept.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::Desk;
use super::state;

/// How often the state is told.
const EVERY: Duration = Duration::from_secs(1);

/// Those who may read at the same time: fewer than operators may come, so that some always find room.
pub(super) const READERS_MAX: usize = 8;

/// Scrapes that may be read at the same time: each is as large as the config is.
pub(super) const SCRAPES_MAX: usize = 8;

/// What an answer consists of.
pub(super) enum Content {
    Whole(Full<Bytes>),
    Feed(Box<Feed>),
}

/// One reader's feed.
pub(super) struct Feed {
    desk: Arc<Desk>,
    ticks: Interval,
    /// Whether anything has been said.
    has_begun: bool,
    _place: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed for one more reader; none if there are enough.
    pub(super) fn open(desk: &Arc<Desk>) -> Option<Feed> {
        let place = Arc::clone(&desk.readers).try_acquire_owned().ok()?;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Feed { desk: Arc::clone(desk), ticks, has_begun: false, _place: place })
    }

    fn next(&mut self) -> Bytes {
        // Who has lost the connection comes back after so many milliseconds.
        let before = if self.has_begun { "" } else { "retry: 1000\n" };
        self.has_begun = true;
        format!("{before}event: state\ndata: {}\n\n", state::of(&self.desk)).into()
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Content::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Content::Feed(feed) => {
                ready!(feed.ticks.poll_tick(cx));
                Poll::Ready(Some(Ok(Frame::data(feed.next()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Whole(whole) => whole.is_end_stream(),
            Content::Feed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(whole) => whole.size_hint(),
            Content::Feed(_) => SizeHint::default(),
        }
    }
}
