//! HTTP/2 on either side says what was said on the other: nothing lost, nothing made up, many requests at the same time.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use crate::support::backend::Backend;
use crate::support::h2::{H2Backend, H2Client, H2Reply, exchange, get, read_all, request};
use crate::support::http::{Client, Recorder, config, ok, serve};
use crate::support::{noise, until};

/// Lines of an upstream whose backends speak HTTP/2.
const H2: &str = "h2 = true";

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

/// Backends of both versions that answer with the body they got, and how the upstream speaks with them.
fn echoes() -> (Recorder, H2Backend) {
    (Recorder::answering(|request| ok(&request.body)), H2Backend::echoing())
}

#[test]
fn a_request_of_http2_reaches_a_backend_of_http1_as_it_was_asked() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut asked = request("GET", "/a%20b?c=d");
    *asked.headers_mut() = fields(&[
        ("accept", "x"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x-forwarded-for", "1.2.3.4"),
    ]);
    let answer = H2Client::connect(door).send(asked, None, None).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a%20b?c=d HTTP/1.1"));
    let asked = &recorder.requests()[0];
    assert_eq!(asked.field("host"), Some("app.test"));
    assert_eq!(asked.field("cookie"), Some("a=1; b=2"));
    assert_eq!(asked.field("accept"), Some("x"));
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-host"), Some("app.test"));
    assert_eq!(asked.field("te"), None);
    assert_eq!(asked.field("transfer-encoding"), None);
    assert_eq!(asked.field("content-length"), None);
}

#[test]
fn a_request_of_http1_reaches_a_backend_of_http2_as_it_was_asked() {
    let backend = H2Backend::answering(|_| H2Reply {
        status: 203,
        fields: fields(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-note", "Here")]),
        body: b"hello".to_vec(),
        ..H2Reply::default()
    });
    let (_running, door) = serve(&config(&[backend.address], H2, ""));
    let mut client = Client::connect(door);
    client.send("GET /p?q HTTP/1.1\r\nHost: App.test:81\r\nX-Mixed: Case\r\nConnection: x-mine\r\nX-Mine: 1\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (203, "hello"));
    let cookies: Vec<_> =
        answer.fields.iter().filter(|(name, _)| name == "set-cookie").map(|(_, v)| v).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    let asked = &backend.requests()[0];
    assert_eq!(
        (asked.method.as_str(), asked.uri.to_string()),
        ("GET", "http://App.test:81/p?q".to_owned())
    );
    assert_eq!(asked.fields.get("x-mixed").unwrap(), "Case");
    assert_eq!(asked.fields.get("x-forwarded-for").unwrap(), "127.0.0.1");
    for gone in ["host", "connection", "x-mine"] {
        assert!(!asked.fields.contains_key(gone), "{gone}");
    }
}

#[test]
fn bodies_pass_whole_through_all_four_pairs_of_versions() {
    let (one, two) = echoes();
    let (_first, door_one) = serve(&config(&[one.address()], "", ""));
    let (_second, door_two) = serve(&config(&[two.address], H2, ""));
    for (door, upstream) in [(door_one, "HTTP/1"), (door_two, "HTTP/2")] {
        let (client_two, mut client_one) = (H2Client::connect(door), Client::connect(door));
        for length in [0, 1, 16_384, 70_000, 3_000_000] {
            let body = noise(length as u64, length);
            let sent = client_two.send(request("POST", "/"), Some(body.clone()), None).unwrap();
            assert!(
                sent.status == 200 && sent.body == body,
                "{length} bytes by HTTP/2 to {upstream}"
            );
            client_one
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
            client_one.send(&body);
            assert!(client_one.answer().body == body, "{length} bytes by HTTP/1 to {upstream}");
        }
    }
}

#[test]
fn a_length_that_is_known_is_told_on() {
    let recorder = Recorder::answering(|request| ok(&request.body));
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let client = H2Client::connect(door);
    let mut asked = request("POST", "/");
    *asked.headers_mut() = fields(&[("content-length", "3")]);
    let answer = client.send(asked, Some(b"abc".to_vec()), None).unwrap();
    assert_eq!(answer.field("content-length"), Some("3"));
    assert_eq!(recorder.requests()[0].field("content-length"), Some("3"));
    let answer = client.send(request("POST", "/"), Some(b"abc".to_vec()), None).unwrap();
    assert_eq!(answer.text(), "abc");
    assert_eq!(recorder.requests()[1].field("transfer-encoding"), Some("chunked"));
    let head = client.send(request("HEAD", "/"), None, None).unwrap();
    assert_eq!((head.field("content-length"), head.body.len()), (Some("0"), 0));
}

#[test]
fn trailers_pass_in_both_directions_and_a_grpc_status_with_them() {
    let grpc = H2Backend::answering(|asked| H2Reply {
        status: 200,
        fields: fields(&[("content-type", "application/grpc")]),
        body: asked.body.clone(),
        trailers: Some(fields(&[("grpc-status", "5"), ("grpc-message", "none")])),
        ..H2Reply::default()
    });
    let (_running, door) = serve(&config(&[grpc.address], H2, ""));
    let client = H2Client::connect(door);
    let mut asked = request("POST", "/pkg.Service/Method");
    *asked.headers_mut() = fields(&[("content-type", "application/grpc"), ("te", "trailers")]);
    let sum = fields(&[("x-sum", "7")]);
    let answer = client.send(asked, Some(b"\0\0\0\0\x01x".to_vec()), Some(sum)).unwrap();
    assert_eq!(answer.body, b"\0\0\0\0\x01x");
    assert_eq!(answer.trailers.get("grpc-status").unwrap(), "5");
    assert_eq!(answer.trailers.get("grpc-message").unwrap(), "none");
    let asked = &grpc.requests()[0];
    assert_eq!(asked.trailers.get("x-sum").unwrap(), "7");
    assert_eq!(asked.fields.get("te").unwrap(), "trailers");
    // The same for a client of HTTP/1, in chunks.
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 8\r\n\r\n");
    let answer = client.answer();
    assert!(answer.trailers.contains(&("grpc-status".to_owned(), "5".to_owned())), "{answer:?}");
    assert_eq!(grpc.requests()[1].trailers.get("x-sum").unwrap(), "8");
}

#[test]
fn an_answer_of_nothing_but_trailers_keeps_its_status() {
    let grpc = H2Backend::answering(|_| H2Reply {
        status: 200,
        fields: fields(&[("content-type", "application/grpc"), ("grpc-status", "14")]),
        ..H2Reply::default()
    });
    let (_running, door) = serve(&config(&[grpc.address], H2, ""));
    let answer =
        H2Client::connect(door).send(request("POST", "/"), Some(vec![0; 5]), None).unwrap();
    assert_eq!((answer.field("grpc-status"), answer.body.len()), (Some("14"), 0));
}

#[test]
fn requests_on_one_connection_run_at_the_same_time_and_are_balanced_one_by_one() {
    let backends = ["A", "B"].map(|name| {
        Recorder::answering(move |request| {
            if request.line.contains("slow") {
                std::thread::sleep(Duration::from_millis(700));
            }
            ok(name.as_bytes())
        })
    });
    let addresses: Vec<_> = backends.iter().map(Recorder::address).collect();
    let (_running, door) = serve(&config(&addresses, "", ""));
    let client = H2Client::connect(door);
    let began = Instant::now();
    let (slow, quick) = client.run(async {
        let slow = tokio::spawn(exchange(client.sender(), get("/slow"), None, None));
        let mut quick = Vec::new();
        for _ in 0..20 {
            quick.push(exchange(client.sender(), get("/"), None, None).await.unwrap().text());
        }
        let took = began.elapsed();
        slow.await.unwrap().unwrap();
        (took, quick)
    });
    assert!(slow < Duration::from_millis(600), "twenty requests waited for a slow one: {slow:?}");
    let to_a = quick.iter().filter(|name| *name == "A").count();
    assert!((9..=11).contains(&to_a), "{to_a} of 20 went to the first of two backends");
}

#[test]
fn many_requests_share_one_connection_to_a_backend_of_http2() {
    let backend = H2Backend::answering(|_| H2Reply {
        status: 200,
        body: b"x".to_vec(),
        after: Duration::from_millis(50),
        ..H2Reply::default()
    });
    let one_worker = "[process]\nworkers = 1\n";
    let (running, door) = serve(&format!("{one_worker}{}", config(&[backend.address], H2, "")));
    let client = H2Client::connect(door);
    let count = client.run(async {
        let asked = (0..80).map(|_| tokio::spawn(exchange(client.sender(), get("/"), None, None)));
        let asked: Vec<_> = asked.collect();
        let mut good = 0;
        for one in asked {
            good += u32::from(one.await.unwrap().unwrap().status == 200);
        }
        good
    });
    assert_eq!((count, backend.requests().len(), backend.accepted()), (80, 80, 1));
    until("no request is in flight", || running.backends()[0].open == 0);
}

#[test]
fn more_requests_than_a_connection_carries_open_another_one() {
    let backend = H2Backend::answering(|_| H2Reply {
        status: 200,
        after: Duration::from_millis(300),
        ..H2Reply::default()
    });
    let upstream = "h2 = true\nstreams-max = 5";
    let text = format!("[process]\nworkers = 1\n{}", config(&[backend.address], upstream, ""));
    let (_running, door) = serve(&text);
    let client = H2Client::connect(door);
    client.run(async {
        let asked = (0..12).map(|_| tokio::spawn(exchange(client.sender(), get("/"), None, None)));
        for one in asked.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap().unwrap().status, 200);
        }
    });
    assert_eq!(backend.accepted(), 3);
}

#[test]
fn a_backend_that_says_goodbye_gets_the_next_request_on_a_fresh_connection() {
    let backend = H2Backend::echoing();
    let address = backend.address;
    let (_running, door) =
        serve(&config(&[address], "h2 = true\nkeep-alive = { requests = 1 }", ""));
    let client = H2Client::connect(door);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_stream_that_a_backend_refuses_goes_to_another_one() {
    // Refuses its first stream unread, and answers the next.
    let refusing = Backend::serving(move |stream| {
        stream.set_nonblocking(true)?;
        let stream = stream.try_clone()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let mut connection =
                h2::server::handshake(stream).await.map_err(std::io::Error::other)?;
            let mut refused = false;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if !std::mem::replace(&mut refused, true) {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let _ = respond.send_response(http::Response::new(()), true);
            }
            let _: &h2::server::Connection<_, Bytes> = &connection;
            Ok(())
        })
    });
    let (_running, door) = serve(&config(&[refusing.address], H2, ""));
    assert_eq!(H2Client::connect(door).send(request("POST", "/"), None, None).unwrap().status, 200);
}

#[test]
fn interim_answers_go_on_at_once() {
    let backend = Backend::serving(|mut stream| {
        let mut byte = [0; 1024];
        let _ = stream.read(&mut byte)?;
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        // The answer comes only when the hint has been seen: the client closes otherwise.
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        let _ = stream.read(&mut byte)?;
        Ok(())
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        let (mut answer, _) = sender.send_request(get("/"), true).unwrap();
        let hint = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(
            (hint.status().as_u16(), hint.headers()["link"].to_str().unwrap()),
            (103, "</a.css>")
        );
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(read_all(&mut body).await.unwrap().0, b"ok");
    });
}

#[test]
fn an_early_answer_ends_an_upload_and_the_connection_goes_on() {
    let backend = Backend::serving(|mut stream| {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        let (answer, mut send) = sender.send_request(request("POST", "/"), false).unwrap();
        send.send_data(Bytes::from_static(b"some of it"), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 413);
    });
    let again = client.send(request("POST", "/"), Some(vec![1; 10]), None).unwrap();
    assert_eq!(again.status, 413);
}

#[test]
fn what_a_backend_flushes_arrives_while_it_goes_on_answering() {
    let backend = Backend::serving(|mut stream| {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        // Only a client that has seen the first event lets us go on: it says so by asking again.
        let _ = stream.read(&mut bytes)?;
        Ok(())
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        let (answer, _) = sender.send_request(get("/events"), true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.headers["content-type"], "text/event-stream");
        assert_eq!(body.data().await.unwrap().unwrap(), "data: 1\n\n");
    });
}

#[test]
fn a_client_that_gives_up_a_request_ends_it_at_the_backend() {
    let backend = Backend::serving(|mut stream| {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        // No answer: reading on shows when the proxy lets go.
        let _ = stream.read(&mut bytes);
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        let (answer, mut send) = sender.send_request(get("/"), false).unwrap();
        until_async(|| running.backends()[0].open == 1).await;
        send.send_reset(h2::Reason::CANCEL);
        drop(answer);
        until_async(|| running.backends()[0].open == 0).await;
    });
}

#[test]
fn a_client_that_leaves_a_silent_stream_of_events_frees_its_backend() {
    let backend = Backend::serving(|mut stream| {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        let _ = stream.read(&mut bytes);
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        let (answer, mut send) = sender.send_request(get("/"), false).unwrap();
        send.send_data(Bytes::new(), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "data: 1\n\n");
        assert_eq!(running.backends()[0].open, 1);
        send.send_reset(h2::Reason::CANCEL);
        until_async(|| running.backends()[0].open == 0).await;
    });
    // Over HTTP/1 a reset says it.
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut some = [0; 15];
    client.stream.read_exact(&mut some).unwrap();
    until("the request is in flight", || running.backends()[0].open == 1);
    socket2::SockRef::from(client.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until("its backend is free", || running.backends()[0].open == 0);
}

async fn until_async(holds: impl Fn() -> bool) {
    let due = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < due, "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_stopping_proxy_says_goodbye_and_finishes_what_is_under_way() {
    let recorder = Recorder::answering(|_| {
        std::thread::sleep(Duration::from_millis(400));
        ok(b"late")
    });
    let (running, door) = serve(&config(&[recorder.address()], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let asked = tokio::spawn(exchange(client.sender(), get("/"), None, None));
        until_async(|| running.backends()[0].open == 1).await;
        let stopping = tokio::task::spawn_blocking(move || running.stop());
        assert_eq!(asked.await.unwrap().unwrap().text(), "late");
        stopping.await.unwrap();
    });
}

#[test]
fn what_nobody_reads_is_not_held_beyond_the_windows() {
    let recorder = Recorder::answering(|_| ok(&vec![7; 8_000_000]));
    let address: SocketAddr = recorder.address();
    let program = crate::support::program::Program::run(&format!(
        "[process]\nworkers = 1\n{}\n[log]\naccess = \"off\"\n",
        config(&[address], "", "")
    ));
    let client = H2Client::connect(program.address("web"));
    let before = program.memory_kib();
    client.run(async {
        let mut answers = Vec::new();
        for _ in 0..40 {
            let mut sender = client.sender().ready().await.unwrap();
            let (answer, _) = sender.send_request(get("/"), true).unwrap();
            // The head is read, the body never.
            answers.push(answer.await.unwrap());
        }
        let grown = program.memory_kib().saturating_sub(before);
        assert!(grown < 16 * 1024, "40 answers that nobody reads hold {grown} KiB");
    });
}
