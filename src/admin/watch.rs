//! What can only be looked at: metrics, the state, and the state each second. Nothing here changes anything, or asks the control
//! thread, so that it answers also while that is busy.

use std::sync::Arc;

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::answer::Answer;
use super::api::Desk;
use super::feed::Feed;
use super::routes::Does;
use super::{metrics, state};
use crate::observe::exposition::Dialect;
use crate::process::Remote;

/// The answer to a request that only wants to look.
pub(super) fn answer(does: Does, head: &Parts, desk: &Arc<Desk>) -> Answer {
    match does {
        Does::Metrics => scraped(&head.headers, &desk.remote),
        Does::Events if head.method == Method::HEAD => Answer::of("text/event-stream", ""),
        Does::Events => match Feed::open(desk) {
            Some(feed) => Answer::feed(feed),
            None => {
                let said = "too many read events already";
                Answer::not(StatusCode::SERVICE_UNAVAILABLE, said)
            }
        },
        _ => Answer::json(StatusCode::OK, &state::of(desk)),
    }
}

/// The metrics, in the dialect that is asked for.
pub(super) fn scraped(headers: &HeaderMap, remote: &Remote) -> Answer {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let dialect = Dialect::asked(&accept.collect::<Vec<_>>().join(","));
    let text = metrics::text(&remote.reading(), dialect);
    Answer::of(dialect.content_type(), text.into_bytes())
}
