//! Requests: each gets its own reply, and never the late one of another.

use std::time::Duration;

use evenkeel_client::{Error, Framing};
use tokio::io::AsyncWriteExt;

use crate::support::{connector, echo, framing, next, packet, pair};

const SOON: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_request_gets_its_reply() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    echo(peer);
    for n in 0..100_u32 {
        assert_eq!(connection.request(&n.to_be_bytes()).await.unwrap(), n.to_be_bytes()[..]);
    }
}

#[tokio::test]
async fn in_order_a_late_reply_is_never_given_to_the_next_request() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    let error = connection.request_within(b"slow", SOON).await.unwrap_err();
    assert!(error.is_timeout() && error.was_sent(), "{error}");
    assert_eq!(error.to_string(), "await a reply: not done within 20 ms");
    let waiting = tokio::spawn(async move {
        let reply = connection.request(b"quick").await.unwrap();
        (connection, reply)
    });
    assert_eq!(next(&mut peer).await.unwrap(), b"slow");
    assert_eq!(next(&mut peer).await.unwrap(), b"quick");
    let replies = [packet("to slow"), packet("to quick"), packet("to nobody")].concat();
    peer.write_all(&replies).await.unwrap();
    let (mut connection, reply) = waiting.await.unwrap();
    assert_eq!(reply, "to quick");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "to nobody");
}

#[tokio::test]
async fn in_order_a_request_waits_for_its_turn_behind_what_was_only_sent() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    echo(peer);
    connection.send(b"a").await.unwrap();
    connection.send(b"b").await.unwrap();
    assert_eq!(connection.request(b"c").await.unwrap(), "c");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "a");
    connection.send(b"d").await.unwrap();
    assert_eq!(connection.request(b"e").await.unwrap(), "e");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "b");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "d");
}

/// An id of two bytes behind the length.
fn with_ids() -> Framing {
    framing().matching(4, 2)
}

#[tokio::test]
async fn by_id_replies_may_come_in_any_order_and_late_ones_are_dropped() {
    let (mut connection, mut peer) = pair(&connector(with_ids())).await;
    let error = connection.request_within(b"01 slow", SOON).await.unwrap_err();
    assert!(error.is_timeout() && error.was_sent(), "{error}");
    let waiting = tokio::spawn(async move {
        let reply = connection.request(b"02 quick").await.unwrap();
        (connection, reply)
    });
    assert_eq!(next(&mut peer).await.unwrap(), b"01 slow");
    assert_eq!(next(&mut peer).await.unwrap(), b"02 quick");
    let replies = [packet("77 push"), packet("01 late"), packet("x"), packet("02 reply")].concat();
    peer.write_all(&replies).await.unwrap();
    let (mut connection, reply) = waiting.await.unwrap();
    assert_eq!(reply, "02 reply");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "77 push");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "x", "too short for an id");
    peer.write_all(&packet("01 again")).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "01 again", "it was answered before");
}

#[tokio::test]
async fn by_id_a_request_that_repeats_an_id_waits_for_the_later_reply() {
    let (mut connection, mut peer) = pair(&connector(with_ids())).await;
    connection.request_within(b"01 old", SOON).await.unwrap_err();
    peer.write_all(&[packet("01 to old"), packet("01 to new")].concat()).await.unwrap();
    assert_eq!(connection.request(b"01 new").await.unwrap(), "01 to new");
}

#[tokio::test]
async fn a_request_without_room_for_its_id_is_refused() {
    let (mut connection, _peer) = pair(&connector(with_ids())).await;
    let error = connection.request(b"1").await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)) && !error.was_sent(), "{error}");
}

#[tokio::test]
async fn a_request_is_not_sent_where_the_peer_has_ended() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    drop(peer);
    assert!(connection.recv().await.unwrap().is_none());
    let error = connection.request(b"anybody?").await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }) && !error.was_sent(), "{error}");
}

#[tokio::test]
async fn a_request_whose_connection_ends_may_have_been_sent() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    tokio::spawn(async move {
        next(&mut peer).await.unwrap();
    });
    let error = connection.request(b"anybody?").await.unwrap_err();
    assert!(matches!(error, Error::Ended { within_packet: false, .. }), "{error}");
    assert!(error.was_sent());
}

#[tokio::test]
async fn packets_for_nobody_are_kept_up_to_a_limit() {
    let (mut connection, mut peer) = pair(&connector(with_ids())).await;
    tokio::spawn(async move {
        for _ in 0..2000 {
            peer.write_all(&packet("99 push")).await.unwrap();
        }
        peer.write_all(&packet("01 reply")).await.unwrap();
        next(&mut peer).await;
    });
    let error = connection.request(b"01").await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }) && error.was_sent(), "{error}");
    for _ in 0..2000 {
        assert_eq!(connection.recv().await.unwrap().unwrap(), "99 push");
    }
}
