//! WebSocket through Evenkeel, with tungstenite on both sides: what is said arrives as it was said, and ends as it was ended.

use std::time::{Duration, Instant};

use evenkeel::Running;
use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::http::{config, serve};
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::websocket::{Clients, Echo, assert_echo, next};
use crate::support::{noise, until};

/// Tries a promise in clear and through TLS; `listener` is more of the listener's lines.
fn both_ways(listener: &str, promise: impl Fn(&Clients<'_>, &Echo, &Running)) {
    let echo = Echo::start();
    let (running, door) = serve(&config(&[echo.address], "", listener));
    promise(&Clients::of(door, None), &echo, &running);

    let echo = Echo::start();
    let certificates = Certificates::new();
    let tls = format!("tls = {{ {} }}\n{listener}", certificates.pair());
    let (running, door) = serve(&config(&[echo.address], "", &tls));
    promise(&Clients::of(door, Some(&certificates)), &echo, &running);
}

fn until_nobody_is_inside(running: &Running) {
    until("no tunnel is open", || running.counts().open == 0 && running.backends()[0].open == 0);
}

#[test]
fn text_and_a_binary_message_of_1_mb_come_back_unchanged() {
    both_ways("", |clients, _, running| {
        clients.run(async {
            let (mut socket, protocol) = clients.connect().await;
            assert_eq!(protocol.as_deref(), Some("chat.v2"));
            assert_echo(&mut socket, Message::text("hello \u{1f44b}")).await;
            assert_echo(&mut socket, Message::binary(noise(5, 1_000_000))).await;
            assert_echo(&mut socket, Message::binary(Vec::new())).await;
            for at in 0..200 {
                assert_echo(&mut socket, Message::text(at.to_string())).await;
            }
        });
        until_nobody_is_inside(running);
    });
}

#[test]
fn a_ping_is_answered_by_the_other_end() {
    both_ways("", |clients, _, _| {
        clients.run(async {
            let (mut socket, _) = clients.connect().await;
            socket.send(Message::Ping("are you there".into())).await.expect("send");
            assert_eq!(next(&mut socket).await, Message::Pong("are you there".into()));
        });
    });
}

#[test]
fn a_close_reaches_the_other_end_with_its_code_and_reason() {
    let frame = |code: u16, reason: &'static str| {
        Some(CloseFrame { code: code.into(), reason: reason.into() })
    };
    both_ways("", |clients, echo, running| {
        clients.run(async {
            // The client begins.
            let (mut socket, _) = clients.connect().await;
            socket.close(frame(4001, "enough")).await.expect("close");
            assert_eq!(next(&mut socket).await, Message::Close(frame(4001, "enough")));
            assert!(socket.next().await.is_none(), "nothing comes after a close");
        });
        until("the backend sees it", || echo.ends() == [frame(4001, "enough")]);
        clients.run(async {
            // The backend begins.
            let (mut socket, _) = clients.connect().await;
            socket.send(Message::text("close 4002 restart")).await.expect("send");
            assert_eq!(next(&mut socket).await, Message::Close(frame(4002, "restart")));
            assert!(socket.next().await.is_none(), "nothing comes after a close");
        });
        until("the answer comes back", || {
            echo.ends() == [frame(4001, "enough"), frame(4002, "restart")]
        });
        until_nobody_is_inside(running);
    });
}

#[test]
fn a_hundred_talk_at_the_same_time() {
    const MANY: usize = 100;
    both_ways("", |clients, echo, running| {
        clients.run(async {
            let mut sockets = Vec::new();
            for _ in 0..MANY {
                sockets.push(clients.connect().await.0);
            }
            assert_eq!(running.counts().open, MANY as u64);
            let mut talks = tokio::task::JoinSet::new();
            for (at, mut socket) in sockets.into_iter().enumerate() {
                talks.spawn(async move {
                    for word in 0..20 {
                        assert_echo(&mut socket, Message::text(format!("{at} {word}"))).await;
                    }
                    socket.close(None).await.expect("close");
                    while let Some(Ok(_)) = socket.next().await {}
                });
            }
            while let Some(done) = talks.join_next().await {
                done.expect("a talk");
            }
        });
        until_nobody_is_inside(running);
        until("the backend sees all ends", || echo.ends().len() == MANY);
    });
}

#[test]
fn silence_ends_a_websocket_at_the_tunnel_timeout_and_pings_keep_it() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    both_ways("tunnel-timeout = \"600ms\"", |clients, _, running| {
        clients.run(async {
            let (mut silent, _) = clients.connect().await;
            let (mut alive, _) = clients.connect().await;
            let begun = Instant::now();
            while begun.elapsed() < TIMEOUT * 3 {
                alive.send(Message::Ping("on".into())).await.expect("send");
                assert_eq!(next(&mut alive).await, Message::Pong("on".into()));
                tokio::time::sleep(TIMEOUT / 12).await;
            }
            let ended = tokio::time::timeout(Duration::from_millis(100), silent.next()).await;
            assert!(!matches!(ended, Err(_) | Ok(Some(Ok(_)))), "not ended: {ended:?}");
            assert_echo(&mut alive, Message::text("still here")).await;
        });
        until_nobody_is_inside(running);
    });
}

#[test]
fn a_stopping_proxy_lets_websockets_finish() {
    let echo = Echo::start();
    let mut program = Program::run(&config(&[echo.address], "", ""));
    let clients = Clients::of(program.address("web"), None);
    clients.run(async {
        let (mut socket, _) = clients.connect().await;
        program.signal(Signal::TERM);
        while tokio::net::TcpStream::connect(clients.door).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_echo(&mut socket, Message::text("still served")).await;
        assert!(!program.has_ended());
        socket.close(None).await.expect("close");
        while let Some(Ok(_)) = socket.next().await {}
    });
    assert!(program.until_exit(Duration::from_secs(5)).success());
}

#[test]
fn a_websocket_that_outlasts_the_drain_timeout_is_cut_and_counted() {
    let echo = Echo::start();
    let drain = "[process]\ndrain-timeout = \"300ms\"\n";
    let mut program = Program::run(&config(&[echo.address], "", drain));
    let clients = Clients::of(program.address("web"), None);
    clients.run(async {
        let (mut socket, _) = clients.connect().await;
        assert_echo(&mut socket, Message::text("hello")).await;
        program.signal(Signal::TERM);
        assert!(!matches!(socket.next().await, Some(Ok(_))), "a message out of nowhere");
    });
    program.until_exit(Duration::from_secs(5));
    until("the access log says so", || program.output().contains(" drain-cut "));
}
