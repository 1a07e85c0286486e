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

/// The answer to a request that only wants to look.
pub(super) fn answer(does: Does, head: &Parts, desk: &Arc<Desk>) -> Answer {
    match does {
        Does::Metrics => scraped(&head.headers, desk),
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
pub(super) fn scraped(headers: &HeaderMap, desk: &Desk) -> Answer {
    let Ok(place) = Arc::clone(&desk.scrapers).try_acquire_owned() else {
        let said = "too many are reading metrics already, and read slowly";
        return Answer::not(StatusCode::SERVICE_UNAVAILABLE, said);
    };
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let dialect = Dialect::asked(&accept.collect::<Vec<_>>().join(","));
    let text = metrics::text(&desk.remote.reading(), dialect);
    Answer::large(dialect.content_type(), text, place)
}
