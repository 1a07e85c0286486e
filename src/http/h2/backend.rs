//! A connection of HTTP/2 to a backend: how it begins, and what drives it until it is over.
//! It must never outlive its use: a backend that floods, stops within a head, or takes no goodbye is left.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};

use super::batched::Batched;
use super::guarded::{Floods, Guarded, Watch};
use super::shared::Shared;
use super::{PARTING, SEND_BUFFER};
use crate::http::alarm::Alarm;
use crate::link::Link;

/// Bytes of one answer that may be under way from a backend before they are taken.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same for all streams of a connection, so that one slow client does not hold up the others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A connection that has begun, for [`drive`].
pub(in crate::http) struct Greeted {
    connection: Connection<Guarded<Batched<Link>>, Bytes>,
    link: Batched<Link>,
    watch: Rc<Watch>,
}

/// Begins HTTP/2 on a connection to a backend, without asking whether it speaks it (RFC 9113 3.3).
pub(in crate::http) async fn greet(
    link: Link,
    head_max: usize,
    floods: Floods,
) -> Result<(SendRequest<Bytes>, Greeted), h2::Error> {
    let (watch, link) = (Watch::new(), Batched::new(link));
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(Guarded::of_backend(link.clone(), floods, Rc::clone(&watch)))
        .await?;
    Ok((sender, Greeted { connection, link, watch }))
}

/// Drives a connection to its end, by its own or because it is of no more use. What it says is worth telling whoever
/// runs the backend. A head or a frame that has begun has `patience` to come to its end.
pub(in crate::http) async fn drive(
    greeted: Greeted,
    shared: &Shared,
    patience: Duration,
) -> Result<(), String> {
    let Greeted { connection, link, watch } = greeted;
    let (mut connection, mut alarm) = (pin!(connection), Alarm::default());
    let driven = poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // What the requests of this turn have written goes out as one.
        if let Poll::Ready(Err(_)) = link.poll_written(cx) {
            return Poll::Ready(Ok(()));
        }
        if watch.is_settled() {
            shared.settle();
        }
        if let Some(flood) = watch.flood() {
            return Poll::Ready(Err(format!("sent too many {flood} frames")));
        }
        let owed = watch.incomplete().map(|since| since + patience);
        match alarm.is_over(cx, owed) {
            true => Poll::Ready(Err("stopped within a head or a frame".to_owned())),
            false => Poll::Pending,
        }
    });
    // The last stream being over, it says goodbye; one that does not take it is not waited for.
    let left = async {
        shared.abandoned().await;
        tokio::time::sleep(PARTING).await;
    };
    tokio::select! {
        biased;
        outcome = driven => outcome,
        () = left => Ok(()),
    }
}
