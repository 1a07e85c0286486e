//! Events: whatever happens, each connect ends in exactly one of `failed` and `closed`, and the reason is the right one.

use std::time::Duration;

use bytes::Bytes;
use evenkeel_client::{
    Backoff, Closed, Connector, Error, Framing, Handler, PacketRefusal, Remote, Tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{
    BlackHole, PATIENCE, connector, echo, framing, listen, next, nobody, packet, reset,
};
use crate::tls::Pair;

/// Writes down what it is told, and does what a test wants at each of two moments.
struct Recorder<C, R> {
    told: mpsc::UnboundedSender<String>,
    at_connected: C,
    at_received: R,
}

impl<C: FnMut(&Remote), R: FnMut(&Remote, &[u8])> Handler for Recorder<C, R> {
    fn connected(&mut self, remote: &Remote) {
        self.told.send("connected".into()).unwrap();
        (self.at_connected)(remote);
    }

    fn received(&mut self, remote: &Remote, packet: Bytes) {
        self.told.send(format!("received {}", String::from_utf8_lossy(&packet))).unwrap();
        (self.at_received)(remote, &packet);
    }

    fn failed(&mut self, error: &Error) {
        let kind = match error {
            Error::Connect(_) if error.is_timeout() => "timeout",
            Error::Connect(_) => "connect",
            Error::Closed => "closed",
            Error::Unusable(_) => "unusable",
            _ => "else",
        };
        self.told.send(format!("failed {kind}")).unwrap();
    }

    fn closed(&mut self, why: &Closed) {
        let kind = match why {
            Closed::ByPeer => "by-peer".into(),
            Closed::WithinPacket => "within-packet".into(),
            Closed::Reset(_) => "reset".into(),
            Closed::BadPacket(refusal) => format!("{refusal:?}"),
            Closed::ByUs => "by-us".into(),
            _ => "else".into(),
        };
        self.told.send(format!("closed {kind}")).unwrap();
    }
}

type Told = mpsc::UnboundedReceiver<String>;

fn recorder<C: FnMut(&Remote), R: FnMut(&Remote, &[u8])>(
    at_connected: C,
    at_received: R,
) -> (Recorder<C, R>, Told) {
    let (told, all) = mpsc::unbounded_channel();
    (Recorder { told, at_connected, at_received }, all)
}

/// All that was told in a run that ends by itself.
async fn run(
    connector: Connector,
    address: impl ToString,
    at_connected: impl FnMut(&Remote),
    at_received: impl FnMut(&Remote, &[u8]),
) -> Vec<String> {
    let (recorder, mut all) = recorder(at_connected, at_received);
    let ran = timeout(PATIENCE, connector.run(address.to_string(), recorder)).await;
    drop(ran.expect("it ends"));
    let mut told = Vec::new();
    while let Ok(one) = all.try_recv() {
        told.push(one);
    }
    told
}

#[tokio::test]
async fn a_connect_that_comes_to_nothing_has_failed_once() {
    let quick = || connector(framing()).timeout(Duration::from_millis(100));
    let (hole, (_silent, silent)) = (BlackHole::new(), listen().await);
    let other = Pair::new("localhost");
    let tls = || Tls::with_roots_pem(other.certificate.as_bytes()).unwrap();
    let (refusing, refusing_at) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = refusing.accept().await.unwrap();
        let _ = Pair::new("localhost").acceptor(None).accept(stream).await;
    });
    for (connector, address, wanted) in [
        (connector(framing()), nobody().await.to_string(), "failed connect"),
        (quick(), hole.address.to_string(), "failed timeout"),
        (quick().tls(tls()), silent.to_string(), "failed timeout"),
        (connector(framing()).tls(tls()), refusing_at.to_string(), "failed connect"),
        (connector(framing()), "no-port".into(), "failed connect"),
        (connector(framing().matching(0, 0)), "127.0.0.1:1".into(), "failed unusable"),
    ] {
        let told = run(connector, &address, |_| {}, |_, _| {}).await;
        assert_eq!(told, [wanted], "{address}");
    }
}

/// What the peer does once it is connected to.
#[derive(Clone, Copy, Debug)]
enum Deed {
    End,
    EndWithin,
    Reset,
    TooLong,
    Negative,
}

async fn does(mut stream: TcpStream, deed: Deed) {
    stream.write_all(&packet("hello")).await.unwrap();
    match deed {
        Deed::End => {}
        Deed::EndWithin => stream.write_all(b"\0\0").await.unwrap(),
        Deed::Reset => {
            // It has taken the packet: a reset must not overtake it.
            assert_eq!(next(&mut stream).await.unwrap(), b"got it");
            return reset(stream);
        }
        Deed::TooLong => stream.write_all(b"\x7f\0\0\0").await.unwrap(),
        Deed::Negative => stream.write_all(b"\xff\0\0\0").await.unwrap(),
    }
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_open_connection_is_closed_once_and_for_the_right_reason() {
    for (deed, why) in [
        (Deed::End, "by-peer"),
        (Deed::EndWithin, "within-packet"),
        (Deed::Reset, "reset"),
        (Deed::TooLong, "TooLong"),
        (Deed::Negative, "Negative"),
    ] {
        let (listener, address) = listen().await;
        tokio::spawn(async move { does(listener.accept().await.unwrap().0, deed).await });
        let framing = Framing::length("i32be").unwrap();
        let answer = |remote: &Remote, _: &[u8]| remote.send(b"got it").unwrap();
        let told = run(connector(framing), address, |_| {}, answer).await;
        assert_eq!(told, ["connected", "received hello", &format!("closed {why}")], "{deed:?}");
    }
}

#[tokio::test]
async fn closing_ends_it_from_within_any_event() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), b"last words");
        assert!(next(&mut stream).await.is_none(), "and then the end, in order");
        drop(stream);
        echo(listener.accept().await.unwrap().0).await.unwrap();
    });
    let leave = |remote: &Remote| {
        remote.send(b"last words").unwrap();
        remote.close();
        assert!(matches!(remote.send(b"more"), Err(Error::Closed)));
    };
    let told = run(connector(framing()), address, leave, |_, _| {}).await;
    assert_eq!(told, ["connected", "closed by-us"]);

    let ask = |remote: &Remote| {
        remote.send(b"one").unwrap();
        remote.send(b"two").unwrap();
    };
    let told = run(connector(framing()), address, ask, |remote, _| remote.close()).await;
    assert_eq!(told, ["connected", "received one", "closed by-us"]);
    peer.await.unwrap();
}

#[tokio::test]
async fn closing_from_outside_ends_it_too() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    let (hand, mut remotes) = mpsc::unbounded_channel();
    let hand_over = move |remote: &Remote| hand.send(remote.clone()).unwrap();
    let (recorder, mut told) = recorder(hand_over, |_, _| {});
    let running = tokio::spawn(async move { connector(framing()).run(address, recorder).await });
    let remote = remotes.recv().await.unwrap();
    assert_eq!(remote.peer_addr(), address);
    assert_eq!(told.recv().await.unwrap(), "connected");
    remote.send(b"from outside").unwrap();
    assert_eq!(told.recv().await.unwrap(), "received from outside");
    remote.close();
    drop(timeout(PATIENCE, running).await.unwrap().unwrap());
    assert_eq!(told.recv().await.unwrap(), "closed by-us");
    assert!(told.recv().await.is_none());
    assert!(matches!(remote.send(b"late"), Err(Error::Closed)));
    peer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_fills_the_queue_and_cannot_hold_up_the_end() {
    let (listener, address) = listen().await;
    let accepting = tokio::spawn(async move { listener.accept().await.unwrap() });
    let connector =
        Connector::new(framing()).timeout(Duration::from_millis(300)).queue_max(100_000);
    let fill = |remote: &Remote| {
        let mut sent = 0;
        let error = loop {
            match remote.send(&[0; 30_000]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Full { sent: false, .. }), "{error}");
        assert_eq!(sent, 3);
        // What no peer takes that does not read.
        remote.close();
    };
    let told = run(connector, address, fill, |_, _| {}).await;
    assert_eq!(told, ["connected", "closed by-us"]);
    drop(accepting.await.unwrap());
}

#[tokio::test]
async fn with_reconnect_a_run_goes_on_until_it_is_closed() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        reset(listener.accept().await.unwrap().0);
        echo(listener.accept().await.unwrap().0).await.unwrap();
    });
    let first = Duration::from_millis(1);
    let connector = connector(framing()).reconnect(Backoff { first, ..Backoff::default() });
    let mut remotes = Vec::new();
    let greet = |remote: &Remote| {
        let _ = remote.send(b"hello");
        if let Some(old) = remotes.last() {
            let old: &Remote = old;
            assert!(matches!(old.send(b"x"), Err(Error::Closed)), "that one has ended");
        }
        remotes.push(remote.clone());
    };
    let told = run(connector, address, greet, |remote, _| remote.close()).await;
    assert_eq!(told.iter().filter(|one| *one == "connected").count(), 3, "{told:?}");
    assert_eq!(told.iter().filter(|one| one.starts_with("closed")).count(), 3, "{told:?}");
    assert_eq!(told.last().unwrap(), "closed by-us");
}

#[tokio::test]
async fn closing_ends_a_run_that_waits_to_connect_again() {
    let (listener, address) = listen().await;
    tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let first = Duration::from_secs(3600);
    let backoff = Backoff { first, most: first, jitter_percent: 0 };
    let (hand, mut remotes) = mpsc::unbounded_channel();
    let hand_over = move |remote: &Remote| hand.send(remote.clone()).unwrap();
    let (recorder, mut told) = recorder(hand_over, |_, _| {});
    let connector = connector(framing()).reconnect(backoff);
    let running = tokio::spawn(async move { connector.run(address, recorder).await });
    assert_eq!(told.recv().await.unwrap(), "connected");
    assert_eq!(told.recv().await.unwrap(), "closed by-peer");
    remotes.recv().await.unwrap().close();
    drop(timeout(PATIENCE, running).await.unwrap().unwrap());
    assert!(told.recv().await.is_none(), "no connect had begun that would end");
}

#[tokio::test]
async fn a_packet_that_cannot_be_is_refused_at_once() {
    let (listener, address) = listen().await;
    let _held = tokio::spawn(async move { listener.accept().await.unwrap() });
    let wrong = |remote: &Remote| {
        let refused = remote.send(b"two\nlines");
        assert!(matches!(refused, Err(Error::Refused(PacketRefusal::Malformed))));
        remote.close();
    };
    let told = run(
        Connector::new(Framing::lines()).timeout(Duration::from_millis(300)),
        address,
        wrong,
        |_, _| {},
    );
    assert_eq!(told.await, ["connected", "closed by-us"]);
}
