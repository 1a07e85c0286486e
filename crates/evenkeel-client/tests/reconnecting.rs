//! Connecting again: a loss is told once, the next call connects, and nothing is sent twice.

use std::time::{Duration, Instant};

use evenkeel_client::{Backoff, Connector, Error};
use tokio::io::AsyncWriteExt;

use crate::support::{connector, echo, framing, listen, next, nobody, packet, reset};

fn persistent() -> Connector {
    let first = Duration::from_millis(30);
    connector(framing()).reconnect(Backoff { first, jitter_percent: 0, ..Backoff::default() })
}

#[tokio::test]
async fn a_loss_is_told_once_and_the_next_call_connects_again() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    let (mut first, _) = listener.accept().await.unwrap();
    first.write_all(&packet("before")).await.unwrap();
    reset_after_reading(first, &mut connection).await;
    let lost = Instant::now();
    echo_next(listener);
    assert_eq!(connection.request(b"again").await.unwrap(), "again");
    assert!(lost.elapsed() >= Duration::from_millis(25), "it waits before it comes again");
}

/// Resets once the one packet has been received, and takes in the error.
async fn reset_after_reading(
    peer: tokio::net::TcpStream,
    connection: &mut evenkeel_client::Connection,
) {
    assert_eq!(connection.recv().await.unwrap().unwrap(), "before");
    reset(peer);
    let error = connection.recv().await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

fn echo_next(listener: tokio::net::TcpListener) {
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        echo(stream).await.unwrap();
    });
}

#[tokio::test]
async fn an_end_in_order_is_told_too_before_connecting_again() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    drop(listener.accept().await.unwrap());
    assert!(connection.recv().await.unwrap().is_none());
    echo_next(listener);
    assert_eq!(connection.request(b"again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_packet_whose_connection_had_ended_unnoticed_was_not_sent() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    peer.write_all(&packet("x")).await.unwrap();
    drop(peer);
    let error = loop {
        match connection.feed(b"one").await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Ended { .. }) && !error.was_sent(), "{error}");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "x");
    let (told, done) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        told.send(next(&mut peer).await).unwrap();
    });
    connection.send(b"two").await.unwrap();
    assert_eq!(done.await.unwrap().unwrap(), b"two", "nothing is sent twice");
}

#[tokio::test]
async fn calls_with_short_limits_get_on_with_connecting() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    reset(listener.accept().await.unwrap().0);
    assert!(connection.recv().await.is_err());
    tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(&packet("hello again")).await.unwrap();
        next(&mut peer).await;
    });
    let mut given_up = 0;
    let received = loop {
        match connection.recv_within(Duration::from_millis(1)).await {
            Ok(packet) => break packet,
            Err(error) if error.is_timeout() => given_up += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(received.unwrap(), "hello again");
    assert!(given_up > 0, "the backoff alone takes longer than one of them");
}

#[tokio::test]
async fn the_address_after_the_one_that_failed_is_next() {
    let ((first, a), (second, b)) = (listen().await, listen().await);
    let mut connection = persistent().connect([a, b]).await.unwrap();
    assert_eq!(connection.peer_addr(), a);
    reset(first.accept().await.unwrap().0);
    assert!(connection.recv().await.is_err());
    echo_next(second);
    assert_eq!(connection.request(b"x").await.unwrap(), "x");
    assert_eq!(connection.peer_addr(), b, "though the first would be there");
}

#[tokio::test]
async fn a_round_that_fails_is_told_and_the_next_call_tries_again() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    reset(listener.accept().await.unwrap().0);
    drop(listener);
    assert!(matches!(connection.recv().await, Err(Error::Lost { .. })));
    for _ in 0..2 {
        let error = connection.request(b"x").await.unwrap_err();
        assert!(matches!(error, Error::Connect(_)) && !error.was_sent(), "{error}");
    }
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    echo_next(listener);
    assert_eq!(connection.request(b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn the_first_connect_is_tried_once_only() {
    let error = persistent().connect(nobody().await).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

#[tokio::test]
async fn what_was_finished_is_not_connected_again() {
    let (listener, address) = listen().await;
    let mut connection = persistent().connect(address).await.unwrap();
    connection.finish().await.unwrap();
    drop(listener.accept().await.unwrap());
    assert!(connection.recv().await.unwrap().is_none());
    assert!(connection.recv().await.unwrap().is_none());
    assert!(matches!(connection.send(b"x").await, Err(Error::Closed)));
}
