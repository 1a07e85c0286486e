//! Receiving: nothing is lost by giving up, and every end is told as what it was.

use std::time::Duration;

use evenkeel_client::{Connector, Error, Framing, PacketRefusal};
use tokio::io::AsyncWriteExt;

use crate::support::{connector, framing, packet, pair, reset};

#[tokio::test]
async fn a_receive_that_is_given_up_at_any_byte_loses_nothing() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    let bodies: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; usize::from(n) * 3]).collect();
    let sent = bodies.clone();
    tokio::spawn(async move {
        peer.set_nodelay(true).unwrap();
        for byte in sent.into_iter().flat_map(packet) {
            peer.write_all(&[byte]).await.unwrap();
            // Slower than the receiver's patience, so that it gives up within most packets.
            tokio::time::sleep(Duration::from_micros(1500)).await;
        }
    });
    let (mut found, mut given_up) = (Vec::new(), 0);
    loop {
        match connection.recv_within(Duration::from_millis(1)).await {
            Ok(Some(body)) => found.push(body),
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_timeout() && !error.was_sent(), "{error}");
                given_up += 1;
            }
        }
    }
    assert_eq!(found, bodies);
    assert!(given_up > 0);
}

#[tokio::test]
async fn an_end_between_packets_is_none_and_stays_so() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    peer.write_all(&packet("last")).await.unwrap();
    drop(peer);
    assert_eq!(connection.recv().await.unwrap().unwrap(), "last");
    assert!(connection.recv().await.unwrap().is_none());
    assert!(connection.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn an_end_within_a_packet_is_an_error_and_then_closed() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    peer.write_all(b"\0\0\0\x05hal").await.unwrap();
    drop(peer);
    let error = connection.recv().await.unwrap_err();
    assert!(matches!(error, Error::Ended { within_packet: true, .. }), "{error}");
    assert!(matches!(connection.recv().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_reset_is_told_with_who_did_it() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    reset(peer);
    let error = connection.recv().await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    let who = connection.peer_addr().to_string();
    assert_eq!(error.to_string(), format!("receive from {who}: reset by it"));
    assert!(matches!(connection.recv().await, Err(Error::Closed)));
}

#[tokio::test]
async fn what_is_no_packet_is_refused_when_its_header_is_there() {
    for (bytes, framing, wanted) in [
        (&b"\x7f\xff\xff\xff"[..], framing(), PacketRefusal::TooLong),
        (b"\xff\xff\xff\xff", Framing::length("i32be").unwrap(), PacketRefusal::Negative),
        (b"hello", Framing::length("decimal").unwrap(), PacketRefusal::Malformed),
    ] {
        let (mut connection, mut peer) = pair(&connector(framing)).await;
        peer.write_all(bytes).await.unwrap();
        let error = connection.recv().await.unwrap_err();
        assert!(matches!(error, Error::BadPacket { refusal, .. } if refusal == wanted), "{error}");
    }
}

#[tokio::test]
async fn framing_that_contradicts_itself_is_refused_before_connecting() {
    for framing in [
        framing().offset(100).max(50),
        framing().matching(0, 0),
        framing().matching(0, 17),
        framing().matching(90, 16).max(100),
    ] {
        let error = Connector::new(framing).connect("127.0.0.1:1").await.unwrap_err();
        assert!(matches!(error, Error::Unusable(_)), "{error}");
    }
}
