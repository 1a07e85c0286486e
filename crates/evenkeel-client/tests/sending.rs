//! Sending: whole packets in their order, whatever is given up, by one task or by two halves.

use std::time::Duration;

use evenkeel_client::{Connection, Error, Framing};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{PATIENCE, connector, echo, framing, next, packet, pair};

/// A packet with its number in front.
fn numbered(number: u32, size: usize) -> Vec<u8> {
    [&number.to_be_bytes()[..], &vec![number as u8; size]].concat()
}

/// Reads numbered packets to the end, slowly; each must be what it was sent as, and later than the one before.
async fn read_slowly(mut peer: TcpStream) -> Vec<u32> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16_000]);
    loop {
        // Slower than the sender.
        tokio::time::sleep(Duration::from_micros(300)).await;
        match peer.read(&mut piece).await.unwrap() {
            0 => break,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
    let (mut numbers, mut rest) = (Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let (head, after) = rest.split_at(4);
        let (body, after) = after.split_at(u32::from_be_bytes(head.try_into().unwrap()) as usize);
        let number = u32::from_be_bytes(body[..4].try_into().unwrap());
        assert_eq!(body, numbered(number, body.len() - 4), "a packet is torn");
        numbers.push(number);
        rest = after;
    }
    numbers
}

#[tokio::test]
async fn a_send_that_is_given_up_leaves_all_of_its_packet_or_nothing() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    SockRef::from(&peer).set_recv_buffer_size(32_768).unwrap();
    let reading = tokio::spawn(read_slowly(peer));
    let (mut surely, mut given_up) = (Vec::new(), 0);
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..300 {
        let body = numbered(number, random.usize(0..40_000));
        let patience = Duration::from_micros(random.u64(0..3000));
        match timeout(patience, connection.send(&body)).await {
            Ok(sent) => {
                sent.unwrap();
                surely.push(number);
            }
            Err(_) => given_up += 1,
        }
    }
    connection.finish().await.unwrap();
    let numbers = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(numbers.is_sorted_by(|a, b| a < b), "doubled, or out of order: {numbers:?}");
    assert!(surely.iter().all(|number| numbers.contains(number)), "one that was sent is missing");
    assert!(given_up > 0);
}

#[tokio::test]
async fn what_was_fed_leaves_with_the_next_call_that_waits() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    echo(peer);
    connection.feed(b"one").await.unwrap();
    connection.feed(b"two").await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "one");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn what_is_not_one_packet_is_refused_and_nothing_is_sent() {
    let (mut connection, mut peer) = pair(&connector(Framing::lines().max(10))).await;
    for wrong in ["two\nlines", "far too long for ten bytes"] {
        let error = connection.send(wrong.as_bytes()).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)) && !error.was_sent(), "{error}");
    }
    connection.send(b"fine").await.unwrap();
    connection.finish().await.unwrap();
    let mut all = String::new();
    peer.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "fine\n");
}

#[tokio::test]
async fn a_side_that_has_finished_still_receives() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    connection.send(b"question").await.unwrap();
    connection.finish().await.unwrap();
    assert!(matches!(connection.send(b"more").await, Err(Error::Closed)));
    assert_eq!(next(&mut peer).await.unwrap(), b"question");
    assert!(next(&mut peer).await.is_none());
    peer.write_all(&packet("answer")).await.unwrap();
    drop(peer);
    assert_eq!(connection.recv().await.unwrap().unwrap(), "answer");
    assert!(connection.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_peer_that_answers_before_it_reads_on_does_not_stand_still() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    echo(peer);
    // More than all socket buffers together hold on both ways, and less than what is kept.
    let body = vec![7; 900_000];
    timeout(PATIENCE, connection.send(&body)).await.unwrap().unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), body);
}

#[tokio::test]
async fn halves_send_and_receive_in_tasks_of_their_own() {
    let (mut connection, peer) = pair(&connector(framing())).await;
    // A reply that is owed, and one that nobody waits for any more, go along.
    connection.send(b"before").await.unwrap();
    let late = connection.request_within(b"late", Duration::from_millis(1)).await;
    assert!(late.is_err_and(|error| error.is_timeout() && error.was_sent()));
    let echoing = echo(peer);
    let (mut sender, mut receiver) = connection.split().unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..1000 {
            sender.send(&numbered(number, 5000)).await.unwrap();
        }
        sender.finish().await.unwrap();
        assert!(matches!(sender.send(b"more").await, Err(Error::Closed)));
    });
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "before");
    for number in 0..1000 {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), numbered(number, 5000));
    }
    assert!(receiver.recv_within(PATIENCE).await.unwrap().is_none());
    sending.await.unwrap();
    echoing.await.unwrap();
}

#[tokio::test]
async fn a_split_keeps_whole_and_half_packets_that_have_come() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    peer.write_all(&[packet("a"), packet("b"), b"\0\0\0\x04ha".to_vec()].concat()).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "a");
    let (sender, mut receiver) = connection.split().unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "b");
    peer.write_all(b"lf").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "half");
    drop((sender, peer));
    assert!(receiver.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_half_tells_a_failure_once() {
    let (connection, mut peer) = pair(&connector(framing())).await;
    let (_sender, mut receiver) = connection.split().unwrap();
    peer.write_all(b"\x7f\0\0\0").await.unwrap();
    assert!(matches!(receiver.recv().await, Err(Error::BadPacket { .. })));
    assert!(matches!(receiver.recv().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_reply_that_came_before_the_loss_is_still_received() {
    let (mut connection, mut peer) = pair(&connector(framing())).await;
    let (told, come) = oneshot::channel();
    tokio::spawn(async move {
        assert_eq!(next(&mut peer).await.unwrap(), b"first");
        peer.write_all(&packet("go away")).await.unwrap();
        // Unread bytes at the end make it a reset.
        peer.readable().await.unwrap();
        drop(peer);
        told.send(()).unwrap();
    });
    connection.send(b"first").await.unwrap();
    connection.send(b"second").await.unwrap();
    come.await.unwrap();
    until_lost(&mut connection).await;
    assert_eq!(connection.recv().await.unwrap().unwrap(), "go away");
    assert!(matches!(connection.recv().await, Err(Error::Closed)));
}

/// Sends until that fails.
async fn until_lost(connection: &mut Connection) {
    while connection.send(b"more").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn connections_and_halves_may_be_sent_and_shared() {
    fn is_sent_and_shared<T: Send + Sync>() {}
    is_sent_and_shared::<Connection>();
    is_sent_and_shared::<evenkeel_client::Sender>();
    is_sent_and_shared::<evenkeel_client::Receiver>();
    is_sent_and_shared::<evenkeel_client::Remote>();
    is_sent_and_shared::<Error>();
}
