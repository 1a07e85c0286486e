//! Connecting: one time limit over all steps, addresses in turn, and errors that name the step and the culprit.

use std::time::{Duration, Instant};

use evenkeel_client::{Connector, Error, Keepalive, Step};
use socket2::SockRef;

use crate::support::{BlackHole, PATIENCE, connector, echo, framing, listen, nobody};

const LIMIT: Duration = Duration::from_millis(200);

fn tries(error: &Error) -> &[evenkeel_client::Unreached] {
    match error {
        Error::Connect(tries) => tries,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_refused_connect_says_whose_and_how_soon() {
    let address = nobody().await;
    let error = connector(framing()).connect(address).await.unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with(&format!("connect to {address}: refused after ")), "{said}");
    assert!(!error.is_timeout() && !error.was_sent());
    let source = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    let cause = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_black_hole_ends_with_the_time_limit() {
    let hole = BlackHole::new();
    let began = Instant::now();
    let error = Connector::new(framing()).timeout(LIMIT).connect(hole.address).await.unwrap_err();
    assert!(began.elapsed() >= LIMIT && began.elapsed() < PATIENCE);
    assert!(error.is_timeout() && !error.was_sent(), "{error}");
    assert_eq!(tries(&error)[0].step, Step::Connect);
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("connect to {}: no answer within 2", hole.address)),
        "{said}"
    );
}

#[tokio::test]
async fn half_a_second_is_the_limit_unless_told_otherwise() {
    let hole = BlackHole::new();
    let began = Instant::now();
    let error = Connector::new(framing()).connect(hole.address).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn addresses_are_tried_in_turn_and_each_has_the_whole_limit() {
    let (hole, closed, (listener, open)) = (BlackHole::new(), nobody().await, listen().await);
    let began = Instant::now();
    let connector = Connector::new(framing()).timeout(LIMIT);
    let mut connection = connector.connect([hole.address, closed, open]).await.unwrap();
    assert!(began.elapsed() >= LIMIT);
    assert_eq!(connection.peer_addr(), open);
    echo(listener.accept().await.unwrap().0);
    assert_eq!(connection.request(b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn when_all_addresses_fail_the_error_of_each_is_told() {
    let (hole, closed) = (BlackHole::new(), nobody().await);
    let connector = Connector::new(framing()).timeout(LIMIT);
    let error = connector.connect([hole.address, closed]).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("{}: no answer", hole.address)), "{said}");
    assert!(said.contains(&format!("{closed}: refused")), "{said}");
    assert!(!error.is_timeout(), "one of them was refused");
    assert_eq!(tries(&error).len(), 2);
}

#[tokio::test]
async fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    let (listener, address) = listen().await;
    // It may mean ::1 too, where nobody listens.
    let name = format!("localhost:{}", address.port());
    let mut connection = connector(framing()).connect(name).await.unwrap();
    echo(listener.accept().await.unwrap().0);
    assert_eq!(connection.request(b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn what_is_no_address_fails_at_the_look_up() {
    for wrong in ["no-port", "", "127.0.0.1:99999", "name.invalid:80"] {
        let error = connector(framing()).connect(wrong).await.unwrap_err();
        assert_eq!(tries(&error)[0].step, Step::LookUp, "{error}");
    }
    let none: [&str; 0] = [];
    assert!(matches!(connector(framing()).connect(none).await, Err(Error::Unusable(_))));
}

#[tokio::test]
async fn a_limit_without_end_is_none() {
    let (_listener, address) = listen().await;
    let keepalive = Keepalive { count: 3, ..Keepalive::from(Duration::from_secs(7)) };
    let connector = Connector::new(framing()).timeout(Duration::MAX).keepalive(keepalive);
    let connection = connector.connect(address.to_string()).await.unwrap();
    assert_eq!(connection.peer_addr(), address);
}

#[tokio::test]
async fn the_peer_sees_small_packets_at_once_and_the_kernel_keeps_idle_ones_alive() {
    // Looked at by way of the system, as a connection does not show its socket.
    let (listener, address) = listen().await;
    let connector = connector(framing()).keepalive(Duration::from_secs(33));
    let _connection = connector.connect(address).await.unwrap();
    let (peer, from) = listener.accept().await.unwrap();
    assert!(!SockRef::from(&peer).keepalive().unwrap(), "only this side asked for it");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [from, address].map(|end| format!("0100007F:{:04X}", end.port())).join(" ");
    let line = table.lines().find(|line| line.contains(&ends)).unwrap();
    // The kind of timer that is set: 2 is keepalive (proc(5)).
    assert!(line.split_whitespace().nth(5).unwrap().starts_with("02:"), "{line}");
}
