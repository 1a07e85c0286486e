//! What is forwarded is what was asked, what comes back is what was answered, and nothing is lost in between.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use evenkeel::Why;

use crate::support::backend::Backend;
use crate::support::http::{Client, Recorder, config, ok, serve};
use crate::support::{client, noise, until};

#[test]
fn requests_on_one_connection_go_to_the_backends_in_turn() {
    let names = ["A", "B", "C"];
    let backends = names.map(|name| Recorder::answering(move |_| ok(name.as_bytes())));
    let addresses: Vec<_> = backends.iter().map(Recorder::address).collect();
    let (_running, door) = serve(&config(&addresses, "", ""));
    let mut client = Client::connect(door);
    let answers: Vec<String> = (0..6).map(|_| client.get("/").text()).collect();
    assert_eq!(answers, ["A", "B", "C", "A", "B", "C"]);
    // Each backend was connected to once: its connection was kept.
    assert_eq!(backends.map(|recorder| recorder.backend.accepted()), [1, 1, 1]);
}

#[test]
fn a_request_reaches_the_backend_with_its_line_host_and_fields_and_ours() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client
        .send("GET /a%20b?c=d HTTP/1.1\r\nHost: App.test:8080\r\nAccept: x\r\nCookie: a=b\r\n\r\n");
    assert_eq!(client.answer().text(), "GET /a%20b?c=d HTTP/1.1");
    let asked = &recorder.requests()[0];
    assert_eq!(asked.field("host"), Some("App.test:8080"));
    assert_eq!(asked.field("accept"), Some("x"));
    assert_eq!(asked.field("cookie"), Some("a=b"));
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.field("x-forwarded-host"), Some("App.test:8080"));
    assert_eq!(asked.field("x-request-id").map(str::len), Some(32));
    assert_eq!(asked.field("connection"), None);
}

#[test]
fn bodies_of_both_framings_pass_both_ways_byte_by_byte() {
    let recorder = Recorder::answering(|request| ok(&request.body));
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    for length in [0, 1, 15_000, 16_384, 70_000, 3_000_000] {
        let body = noise(length as u64, length);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.send(&body);
        assert!(client.answer().body == body, "{length} bytes by length");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in body.chunks(7_777) {
            client.send(format!("{:X}\r\n", part.len())).send(part).send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert!(client.answer().body == body, "{length} bytes in chunks");
    }
}

#[test]
fn trailers_are_kept_in_both_directions() {
    let recorder = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
            .to_vec()
    });
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("1\r\nx\r\n0\r\nX-Mine: 1\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().trailers, [("x-sum".to_owned(), "7".to_owned())]);
    // What would change the meaning of the message does not pass.
    assert_eq!(recorder.requests()[0].trailers, [("x-mine".to_owned(), "1".to_owned())]);
}

#[test]
fn a_request_right_behind_a_long_body_is_the_next_one() {
    let recorder = Recorder::answering(|request| ok(request.body.len().to_string().as_bytes()));
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    for length in [0, 1, 16_000, 32_768, 65_536, 100_001] {
        let mut all =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        all.extend(noise(1, length));
        all.extend(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".repeat(2));
        client.send(all);
        let lengths = [(); 3].map(|()| client.answer().text());
        assert_eq!(lengths, [&*length.to_string(), "3", "3"]);
    }
}

#[test]
fn a_part_of_a_long_body_goes_on_while_the_backend_pauses() {
    // What the kernel keeps for more to come, it keeps for 200 ms (tcp(7), TCP_CORK), unless it is half of a window.
    const KEPT: Duration = Duration::from_millis(150);
    for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked", "Connection: close"] {
        let backend = Backend::serving(move |mut stream| {
            while stream.read(&mut [0; 1024])? > 0 {
                write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n")?;
                if head.contains("chunked") {
                    write!(stream, "{:x}\r\n", 100_000)?;
                }
                stream.write_all(&noise(1, 12_000))?;
            }
            Ok(())
        });
        let (_running, door) = serve(&config(&[backend.address], "", ""));
        // A busy machine may be late once, but not every time.
        let soonest = (0..5).map(|_| {
            let mut stream = client::connect(door);
            write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let began = Instant::now();
            let (mut seen, mut room) = (0, vec![0; 65_536]);
            while seen < 12_000 {
                seen += stream.read(&mut room).unwrap();
            }
            began.elapsed()
        });
        assert!(soonest.min().unwrap() < KEPT, "{head}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    let ahead: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(ahead);
    for n in 0..50 {
        assert_eq!(client.answer().text(), format!("GET /{n} HTTP/1.1"));
    }
}

#[test]
fn head_and_bodiless_statuses_have_no_body_and_the_connection_goes_on() {
    let recorder = Recorder::answering(|request| match request.line.split(' ').nth(1) {
        Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
    });
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.try_answer(true).unwrap();
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("1234")));
    assert_eq!((client.get("/204").status, client.get("/304").status), (204, 304));
    assert_eq!(recorder.backend.accepted(), 1);
}

#[test]
fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    let recorder = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
    });
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    let answer = client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer();
    assert_eq!((answer.field("transfer-encoding"), answer.text().as_str()), (None, "abc"));
    assert!(client.is_closed());
}

#[test]
fn interim_answers_and_the_wait_for_a_body_are_passed_on() {
    let backend = Backend::serving(|mut stream| {
        let mut head = [0; 1000];
        let _ = stream.read(&mut head)?;
        stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        )?;
        let mut body = [0; 4];
        stream.read_exact(&mut body)?;
        stream.write_all(&ok(&body))
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = Client::connect(door);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let hints = client.answer();
    assert_eq!((hints.status, hints.field("link")), (103, Some("</x>")));
    assert_eq!(client.answer().status, 100);
    assert_eq!(client.send("body").answer().text(), "body");
}

#[test]
fn an_upgrade_becomes_a_relay_of_bytes() {
    let backend = Backend::serving(|mut stream| {
        let mut head = [0; 1000];
        let _ = stream.read(&mut head)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi",
        )?;
        crate::support::backend::echo(stream)
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = Client::connect(door);
    client.send(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst",
    );
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    let mut said = [0; 7];
    client.stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hifirst");
    drop(client);
    until("the tunnel has ended", || running.counts().open == 0);
}

#[test]
fn a_dead_upstream_is_answered_within_the_response_timeout() {
    let backend = Backend::serving(|mut stream| {
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).map(drop)
    });
    let (_running, door) = serve(&config(&[backend.address], "response-timeout = \"300ms\"", ""));
    let began = Instant::now();
    let answer = Client::connect(door).get("/");
    assert_eq!((answer.status, answer.field("x-evenkeel-cause")), (504, Some("response-timeout")));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[test]
fn when_every_backend_refuses_the_answer_is_503_at_once() {
    let (one, other) = (Backend::echo().stop(), Backend::echo().stop());
    let (_running, door) = serve(&config(&[one, other], "", ""));
    let answer = Client::connect(door).get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(answer.field("x-evenkeel-cause"), Some("connect-refused"));
}

#[test]
fn a_kept_connection_that_its_backend_has_ended_is_not_used_again() {
    let served = AtomicUsize::new(0);
    let backend = Backend::serving(move |mut stream| {
        let mut head = [0; 1000];
        let _ = stream.read(&mut head)?;
        // It says that it goes on, and ends all the same.
        stream.write_all(&ok(served.fetch_add(1, SeqCst).to_string().as_bytes()))
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = Client::connect(door);
    for n in 0..20 {
        assert_eq!(client.get("/").text(), n.to_string());
    }
}

#[test]
fn an_early_answer_ends_the_upload_and_reaches_the_client() {
    let backend = Backend::serving(|mut stream| {
        let mut head = [0; 1000];
        let _ = stream.read(&mut head)?;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")?;
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = Client::connect(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\nbegin");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn a_body_over_its_limit_is_refused_whether_it_says_so_or_not() {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", "body-max = \"10\""));
    let told = Client::connect(door)
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
        .answer();
    assert_eq!((told.status, told.field("x-evenkeel-cause")), (413, Some("limit-body")));
    let counted = Client::connect(door)
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n",
        )
        .answer();
    assert_eq!(counted.status, 413);
    assert!(recorder.requests().is_empty());
}

#[test]
fn each_request_is_counted_and_an_idle_connection_ends_with_a_drain() {
    let recorder = Recorder::echoing();
    let (running, door) = serve(&config(&[recorder.address()], "", ""));
    let mut client = Client::connect(door);
    client.get("/");
    client.get("/");
    until("both are counted", || running.counts().requests[2] == 2);
    running.drain();
    assert!(client.is_closed());
    assert_eq!(running.stop().cut, 0);
}

#[test]
fn a_connect_that_is_switched_on_becomes_a_tunnel_through_the_upstream() {
    let backend = Backend::serving(|mut stream| {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes)?;
        assert!(bytes[..count].starts_with(b"CONNECT far.test:7 HTTP/1.1\r\nHost: far.test:7\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&bytes[..count].to_ascii_uppercase())?;
        }
    });
    let (_running, door) = serve(&config(&[backend.address], "", "connect = true"));
    let mut client = Client::connect(door);
    client.send("CONNECT far.test:7 HTTP/1.1\r\nHost: far.test:7\r\n\r\n");
    let mut head = [0; 19];
    client.stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n\r\n");
    let mut echo = [0; 5];
    client.send("hello");
    client.stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"HELLO");
}

#[test]
fn a_backend_that_breaks_off_never_looks_complete() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let backend = Backend::serving(move |mut stream| {
            let mut head = [0; 1000];
            let _ = stream.read(&mut head)?;
            stream.write_all(answer)
        });
        let (running, door) = serve(&config(&[backend.address], "", ""));
        let mut client = Client::connect(door);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_answer(false).is_err());
        until("it has ended", || running.counts().ended_by(Why::BackendGone) == 1);
    }
}

#[test]
fn a_client_that_breaks_off_never_makes_a_complete_request() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = sender.send(all);
        Ok(())
    });
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let mut stream = client::connect(door);
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha")
        .unwrap();
    drop(stream);
    let seen = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("0\r\n\r\n"));
}
