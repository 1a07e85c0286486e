//! gRPC through Evenkeel, with tonic on both sides: every kind of call, its status, its end before time, and calls shared out one by one.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::{Code, Request, Response, Status};

use crate::support::grpc::{GrpcClient, GrpcServer, Messages, Plain, path, unary};
use crate::support::http::{config, serve};
use crate::support::tls::Certificates;
use crate::support::{noise, until};

/// What every client is tried with: in clear by prior knowledge, and through TLS with ALPN.
fn clients(backends: &[SocketAddr], promise: impl FnMut(&GrpcClient, &evenkeel::Running)) {
    clients_within("", backends, promise);
}

/// The same with further lines of the listener.
fn clients_within(
    listener: &str,
    backends: &[SocketAddr],
    mut promise: impl FnMut(&GrpcClient, &evenkeel::Running),
) {
    let (running, door) = serve(&config(backends, "h2 = true", listener));
    promise(&GrpcClient::connect(door), &running);
    let certificates = Certificates::new();
    let tls = format!("tls = {{ {} }}\n{listener}", certificates.pair());
    let (running, door) = serve(&config(backends, "h2 = true", &tls));
    let pem = std::fs::read_to_string(certificates.path("a.crt")).expect("a certificate");
    promise(&GrpcClient::connect_tls(door, &pem), &running);
}

fn one_server(promise: impl Fn(&GrpcClient, &GrpcServer)) {
    let server = GrpcServer::start();
    clients(&[server.address], |client, _| promise(client, &server));
}

fn said(answer: Result<Response<Bytes>, Status>) -> Bytes {
    answer.expect("an answer").into_inner()
}

#[test]
fn a_unary_call_takes_its_message_and_metadata_there_and_back() {
    one_server(|client, _| {
        let mut request = Request::new(Bytes::from_static(b"hello"));
        request.metadata_mut().insert("x-word", "one".parse().expect("a value"));
        let answer = client.unary("Echo", request).expect("an answer");
        assert_eq!(answer.metadata().get("x-word").expect("metadata"), "one");
        assert_eq!(answer.into_inner(), "hello");
        assert_eq!(said(client.unary("Echo", Request::new(Bytes::new()))), "");
    });
}

#[test]
fn messages_of_4_mb_pass_both_ways() {
    let message = Bytes::from(noise(3, 4_000_000));
    one_server(|client, _| {
        let answer = said(client.unary("Echo", Request::new(message.clone())));
        assert!(answer == message, "the message was changed on its way");
    });
}

#[test]
fn a_status_comes_with_its_message_details_and_metadata() {
    one_server(|client, _| {
        let details = Bytes::from(noise(1, 300));
        let status = client.unary("Fail", Request::new(details.clone())).expect_err("a status");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "it is wrong: 100 % \u{fc}ber\nall");
        assert_eq!(status.details(), details);
        assert_eq!(status.metadata().get("x-why").expect("metadata"), "because");
        let status = client.unary("Nothing", Request::new(details)).expect_err("a status");
        assert_eq!(status.code(), Code::Unimplemented);
    });
}

#[test]
fn a_stream_of_the_server_comes_whole_and_in_order() {
    one_server(|client, _| {
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let asked = Request::new(Bytes::from_static(b"2000"));
            let answer = caller.server_streaming(asked, path("Count"), Plain).await;
            let mut messages = answer.expect("an answer").into_inner();
            for at in 0..2000 {
                let message = messages.next().await.expect("a message").expect("no status");
                assert_eq!(message, at.to_string());
            }
            assert!(messages.next().await.is_none());
        });
    });
}

#[test]
fn a_stream_of_the_client_arrives_whole_and_in_order() {
    one_server(|client, _| {
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let (messages, receiver) = mpsc::channel(4);
            let all: String = (0..2000).map(|at| format!("{at} ")).collect();
            tokio::spawn(async move {
                for at in 0..2000 {
                    messages.send(Bytes::from(format!("{at} "))).await.expect("it is read");
                }
            });
            let asked = Request::new(Messages(receiver));
            let answer = caller.client_streaming(asked, path("Join"), Plain).await;
            assert_eq!(answer.expect("an answer").into_inner(), all);
        });
    });
}

#[test]
fn in_a_talk_each_message_is_answered_before_the_next_is_sent() {
    one_server(|client, _| {
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let (messages, receiver) = mpsc::channel(1);
            let asked = Request::new(Messages(receiver));
            // The head of the answer comes before the first message is sent.
            let answer = caller.streaming(asked, path("Talk"), Plain).await;
            let mut answers = answer.expect("an answer").into_inner();
            for word in ["one", "two", "three", &"long".repeat(50_000)] {
                messages.send(Bytes::from(word.to_owned())).await.expect("it is read");
                let message = answers.next().await.expect("a message").expect("no status");
                assert!(message == word.to_uppercase(), "{word:.10}");
            }
            drop(messages);
            assert!(answers.next().await.is_none());
        });
    });
}

#[test]
fn a_call_that_its_client_gives_up_ends_at_the_server() {
    let server = GrpcServer::start();
    let mut given_up = 0;
    clients(&[server.address], |client, running| {
        // Before anything is answered.
        let before = server.calls.begun.load(SeqCst);
        client.run(async {
            let call = tokio::spawn({
                let caller = client.caller();
                async move { unary(caller, "Hang", Request::new(Bytes::new())).await }
            });
            while server.calls.begun.load(SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            call.abort();
        });
        given_up += 1;
        until("the server sees the end", || server.calls.given_up.load(SeqCst) == given_up);
        // In the middle of a stream without an end.
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let asked = Request::new(Bytes::from(u64::MAX.to_string()));
            let answer = caller.server_streaming(asked, path("Count"), Plain).await;
            let mut messages = answer.expect("an answer").into_inner();
            for _ in 0..3 {
                messages.next().await.expect("a message").expect("no status");
            }
        });
        given_up += 1;
        until("the server sees the end", || server.calls.given_up.load(SeqCst) == given_up);
        until("no request is open", || running.backends().iter().all(|one| one.open == 0));
        assert_eq!(said(client.unary("Echo", Request::new(Bytes::from_static(b"on")))), "on");
    });
}

#[test]
fn a_deadline_is_passed_on_and_ends_the_call_at_both_sides() {
    let server = GrpcServer::start();
    let mut calls = 0;
    clients(&[server.address], |client, _| {
        let mut request = Request::new(Bytes::new());
        request.set_timeout(Duration::from_millis(300));
        let status = client.unary("Hang", request).expect_err("no answer");
        let codes = [Code::DeadlineExceeded, Code::Cancelled];
        assert!(codes.contains(&status.code()), "{status}");
        calls += 1;
        assert_eq!(server.calls.with_deadline.load(SeqCst), calls);
        until("the server sees the end", || server.calls.given_up.load(SeqCst) == calls);
    });
}

#[test]
fn calls_of_one_client_at_the_same_time_are_shared_evenly_by_two_servers() {
    const CALLS: usize = 400;
    let servers = [GrpcServer::start(), GrpcServer::start()];
    let addresses = servers.each_ref().map(|server| server.address);
    let mut rounds = 0;
    clients(&addresses, |client, running| {
        client.run(async {
            let mut calls = tokio::task::JoinSet::new();
            for at in 0..CALLS {
                let caller = client.caller();
                let message = Bytes::from(format!("call {at}"));
                calls.spawn(async move {
                    let answer = unary(caller, "Echo", Request::new(message.clone())).await;
                    answer.is_ok_and(|answer| *answer.get_ref() == message)
                });
            }
            while let Some(done) = calls.join_next().await {
                assert!(done.expect("no panic"), "a call failed");
            }
        });
        rounds += 1;
        for server in &servers {
            assert_eq!(server.calls.begun.load(SeqCst), rounds * CALLS / 2);
        }
        assert_eq!(running.counts().accepted, 1, "one connection was enough");
    });
}

#[test]
fn a_server_that_is_gone_is_a_status_that_says_so() {
    let server = GrpcServer::start();
    let address = server.address;
    drop(server);
    clients(&[address], |client, _| {
        let status = client.unary("Echo", Request::new(Bytes::new())).expect_err("no server");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), "HTTP status 503, cause: connect-refused");
    });
}

#[test]
fn a_stream_of_the_client_that_is_too_large_in_all_ends_with_a_status() {
    let server = GrpcServer::start();
    clients_within("body-max = \"100KB\"", &[server.address], |client, _| {
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let (messages, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                while messages.send(Bytes::from(noise(2, 10_000))).await.is_ok() {}
            });
            let asked = Request::new(Messages(receiver));
            let status = caller.client_streaming(asked, path("Join"), Plain).await;
            let status = status.expect_err("it is cut");
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        });
        assert_eq!(said(client.unary("Echo", Request::new(Bytes::from_static(b"on")))), "on");
    });
}

#[test]
fn silence_ends_a_stream_at_the_idle_timeout_and_messages_keep_it() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    let server = GrpcServer::start();
    clients_within("idle-timeout = \"600ms\"", &[server.address], |client, running| {
        client.run(async {
            let mut caller = client.caller();
            caller.ready().await.expect("a connection");
            let (messages, receiver) = mpsc::channel(1);
            let asked = Request::new(Messages(receiver));
            let answer = caller.streaming(asked, path("Talk"), Plain).await;
            let mut answers = answer.expect("an answer").into_inner();
            for _ in 0..24 {
                messages.send(Bytes::from_static(b"on")).await.expect("it is read");
                assert_eq!(answers.next().await.expect("a message").expect("no status"), "ON");
                tokio::time::sleep(TIMEOUT / 12).await;
            }
            answers.next().await.expect("a status").expect_err("silence is no message");
        });
        until("no request is open", || running.backends()[0].open == 0);
    });
}
