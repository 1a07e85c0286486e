//! Compressed bodies on their way: at once when the sender pauses, whole or visibly not, within limits.

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::support::backend::Backend;
use crate::support::coded::{ALL, css, decoded, decoded_so_far, route, site, text};
use crate::support::h2::{H2Backend, H2Client, H2Reply, exchange, request};
use crate::support::http::{Answer, Client, serve};
use crate::support::{noise, until};

fn accepting(client: &mut Client, path: &str, coding: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
    client.send(head).answer()
}

fn asking_h2(path: &str, coding: &str) -> http::Request<()> {
    let mut asked = request("GET", path);
    asked.headers_mut().insert("accept-encoding", coding.parse().unwrap());
    asked
}

/// A backend that answers with a stream of events, one for each time it is told to; none is the end.
fn events() -> (Backend, Sender<Option<&'static str>>) {
    let (tell, told) = channel();
    let told: Mutex<Receiver<Option<&'static str>>> = Mutex::new(told);
    let backend = Backend::serving(move |mut stream| {
        let mut head = [0; 4096];
        let told = told.lock().unwrap();
        while stream.read(&mut head)? > 0 {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
            write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n")?;
            while let Ok(Some(event)) = told.recv() {
                write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
            }
            write!(stream, "0\r\n\r\n")?;
        }
        Ok(())
    });
    (backend, tell)
}

#[test]
fn an_event_arrives_at_once_though_it_is_compressed() {
    for coding in ALL {
        let (backend, tell) = events();
        let (_running, door) = serve(&route(&[backend.address], "", "compress = true"));
        let mut client = Client::connect(door);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(client.stream.read_line(&mut head).unwrap() > 0);
        }
        assert!(head.contains(&format!("Content-Encoding: {coding}\r\n")), "{head}");
        let (mut coded, mut expected) = (Vec::new(), String::new());
        for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            tell.send(Some(event)).unwrap();
            expected.push_str(event);
            // The next is not sent before this one has been read.
            while decoded_so_far(coding, &coded).0 != expected.as_bytes() {
                coded.extend(chunk(&mut client).expect("the body goes on"));
            }
        }
        tell.send(None).unwrap();
        while let Some(chunk) = chunk(&mut client) {
            coded.extend(chunk);
        }
        assert_eq!(decoded(coding, &coded).unwrap(), expected.as_bytes());
    }
}

fn chunk(client: &mut Client) -> Option<Vec<u8>> {
    let mut line = String::new();
    client.stream.read_line(&mut line).expect("a chunk");
    let size = usize::from_str_radix(line.trim(), 16).expect("its size");
    let mut chunk = vec![0; size + 2];
    client.stream.read_exact(&mut chunk).expect("the whole of it");
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

#[test]
fn an_event_arrives_at_once_on_a_stream_too() {
    for coding in ALL {
        let (backend, tell) = events();
        let (_running, door) = serve(&route(&[backend.address], "", "compress = true"));
        let client = H2Client::connect(door);
        client.run(async {
            let mut sender = client.sender().ready().await.unwrap();
            let (answer, _) = sender.send_request(asking_h2("/", coding), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            let (mut coded, mut expected) = (Vec::new(), String::new());
            for event in ["data: one\n\n", "data: two\n\n"] {
                tell.send(Some(event)).unwrap();
                expected.push_str(event);
                while decoded_so_far(coding, &coded).0 != expected.as_bytes() {
                    coded.extend(body.data().await.expect("the body goes on").unwrap());
                }
            }
            tell.send(None).unwrap();
            while let Some(piece) = body.data().await {
                coded.extend(piece.unwrap());
            }
            assert_eq!(decoded(coding, &coded).unwrap(), expected.as_bytes());
        });
    }
}

/// Ten megabytes, some of which can be compressed.
fn big() -> Vec<u8> {
    let mut body = Vec::new();
    for seed in 0..20 {
        body.extend(noise(seed, 100_000));
        body.extend(text(400_000));
    }
    body
}

#[test]
fn a_big_body_arrives_whole_between_all_versions() {
    let body = big();
    let sent = body.clone();
    let (_recorder, _running, first) = site("compress = true", move |_| css(&sent));
    let sent = body.clone();
    let backend = H2Backend::answering(move |_| {
        let mut fields = HeaderMap::new();
        fields.insert("content-type", "text/css".parse().unwrap());
        H2Reply { status: 200, fields, body: sent.clone(), ..H2Reply::default() }
    });
    let (_running, second) = serve(&route(&[backend.address], "h2 = true", "compress = true"));
    for door in [first, second] {
        for coding in ALL {
            let answer = accepting(&mut Client::connect(door), "/", coding);
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert!(decoded(coding, &answer.body).unwrap() == body, "{coding} on HTTP/1");
            let answer = H2Client::connect(door).send(asking_h2("/", coding), None, None).unwrap();
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert!(decoded(coding, &answer.body).unwrap() == body, "{coding} on HTTP/2");
        }
    }
}

#[test]
fn others_are_served_while_a_big_body_is_compressed() {
    let body = big();
    let (_recorder, _running, door) = site("compress = { level = 6 }", move |asked| {
        if asked.line.contains("big") { css(&body) } else { css(b"short") }
    });
    let mut slow = Client::connect(door);
    slow.send("GET /big HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
    // Once its beginning is there, most of it is still to be compressed.
    assert!(!slow.stream.fill_buf().unwrap().is_empty());
    let began = Instant::now();
    let mut other = Client::connect(door);
    for _ in 0..5 {
        assert_eq!(other.get("/").text(), "short");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_does_not_read_keeps_its_backend_from_sending() {
    const WHOLE: usize = 200_000_000;
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::serving(move |mut stream| {
        let _head = stream.read(&mut [0; 4096])?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\n")?;
        write!(stream, "Content-Length: {WHOLE}\r\n\r\n")?;
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let (piece, mut sent) = (noise(1, 100_000), 0);
        while sent < WHOLE && stream.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        let _ = tell.lock().unwrap().send(sent);
        Ok(())
    });
    let (_running, door) = serve(&route(&[backend.address], "", "compress = true"));
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: zstd\r\n\r\n");
    // What the kernel keeps on both sides is more by far than what we do.
    let sent = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(sent < WHOLE / 4, "{sent} bytes went out with nobody to take them");
    let h2 = H2Client::connect(door);
    let sent = h2.run(async {
        let mut sender = h2.sender().ready().await.unwrap();
        let (answer, _) = sender.send_request(asking_h2("/", "zstd"), true).unwrap();
        let _kept = answer.await.unwrap();
        told.recv_timeout(Duration::from_secs(15)).unwrap()
    });
    assert!(sent < WHOLE / 4, "{sent} bytes went out with nobody to take them");
}

#[test]
fn a_body_that_was_cut_does_not_look_whole() {
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let backend = Backend::serving(move |mut stream| {
            let _head = stream.read(&mut [0; 4096])?;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\n{framing}\r\n\r\n")?;
            if framing.contains("chunked") {
                write!(stream, "186a0\r\n")?;
            }
            stream.write_all(&text(50_000))
        });
        let (_running, door) = serve(&route(&[backend.address], "", "compress = true"));
        for coding in ALL {
            let mut client = Client::connect(door);
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n"));
            let mut all = Vec::new();
            let _ = client.stream.read_to_end(&mut all);
            assert!(!all.ends_with(b"\r\n0\r\n\r\n"), "{coding} {framing}: it looks whole");
            let h2 = H2Client::connect(door);
            let outcome = h2.run(exchange(h2.sender(), asking_h2("/", coding), None, None));
            assert!(outcome.is_err(), "{coding} {framing}: {outcome:?}");
        }
    }
}

#[test]
fn what_comes_after_a_body_is_kept() {
    let (_recorder, _running, door) = site("compress = true", |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nTrailer: X-Sum\r\n";
        let body = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
        format!("{head}{body}").into()
    });
    for coding in ALL {
        let answer = accepting(&mut Client::connect(door), "/", coding);
        assert_eq!(decoded(coding, &answer.body).unwrap(), b"hello");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
        let answer = H2Client::connect(door).send(asking_h2("/", coding), None, None).unwrap();
        assert_eq!(decoded(coding, &answer.body).unwrap(), b"hello");
        assert_eq!(answer.trailers.get("x-sum").unwrap(), "7");
    }
}

/// The coding of a short answer, and what it says that it was chosen by.
fn coding_of(door: SocketAddr) -> (Option<String>, Option<String>) {
    let answer = accepting(&mut Client::connect(door), "/short", "gzip");
    let field = |name| answer.field(name).map(str::to_owned);
    (field("content-encoding"), field("vary"))
}

#[test]
fn beyond_the_limit_answers_go_as_they_are() {
    let (slow, tell) = events();
    let quick = Backend::serving(|mut stream| {
        while stream.read(&mut [0; 4096])? > 0 {
            stream.write_all(&css(&text(5000)))?;
        }
        Ok(())
    });
    let own = format!(
        "{}[[http.web.route]]\nupstream = \"slow\"\ncompress = true\n\
         [upstream.slow]\nbackends = \"{}\"\n[process]\nworkers = 1\ncompress-max = 1\n",
        route(&[quick.address], "", "path = \"/short\"\ncompress = true"),
        slow.address,
    );
    let (_running, door) = serve(&own);
    let vary = Some("Accept-Encoding".to_owned());
    assert_eq!(coding_of(door), (Some("gzip".to_owned()), vary.clone()));
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    tell.send(Some("data: one\n\n")).unwrap();
    let mut line = String::new();
    while !line.contains("Content-Encoding: gzip") {
        assert!(client.stream.read_line(&mut line).unwrap() > 0);
    }
    assert_eq!(coding_of(door), (None, vary.clone()));
    let is_free = || coding_of(door) == (Some("gzip".to_owned()), vary.clone());
    tell.send(None).unwrap();
    until("the place of a body that has ended is free", is_free);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    tell.send(Some("data: one\n\n")).unwrap();
    until("the place is taken again", || !is_free());
    drop(client);
    until("the place of a client that is gone is free", || {
        // It is noticed when something is sent to it.
        let _ = tell.send(Some("data: more\n\n"));
        is_free()
    });
}

#[test]
fn many_compressed_bodies_at_once_on_one_connection_all_arrive() {
    let body = text(1_000_000);
    let sent = body.clone();
    let (_recorder, _running, door) = site("compress = true", move |_| css(&sent));
    let client = H2Client::connect(door);
    client.run(async {
        let asked = (0..40).map(|n| {
            let coding = ALL[n % ALL.len()];
            let sender = client.sender();
            async move {
                let answer = exchange(sender, asking_h2("/", coding), None, None).await.unwrap();
                assert_eq!(answer.field("content-encoding"), Some(coding));
                decoded(coding, &answer.body).unwrap()
            }
        });
        for got in futures_util::future::join_all(asked).await {
            assert!(got == body);
        }
    });
}
