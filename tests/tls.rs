//! Clients come through TLS, and everything else is as it is in clear: nothing is lost, nothing looks whole that is not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{HandshakeKind, NamedGroup};

use crate::support::backend::Backend;
use crate::support::http::{Client, Recorder, config, ok, serve};
use crate::support::program::Program;
use crate::support::servers::{program, run};
use crate::support::tls::{Certificates, connect, shown, try_connect};
use crate::support::{client, noise, until, until_ended};

/// A proxy that shows the certificate for `a.test`; `tls` is more of its table, `listener` more of its lines.
fn secure(
    certificates: &Certificates,
    backend: SocketAddr,
    tls: &str,
    listener: &str,
) -> (Running, SocketAddr) {
    let pair = certificates.pair();
    serve(&config(&[backend], "", &format!("tls = {{ {pair}{tls} }}\n{listener}")))
}

fn curl(certificates: &Certificates, door: SocketAddr) -> Command {
    let mut command = Command::new(program("curl"));
    command.args(["-q", "-sS", "--max-time", "20", "--noproxy", "*"]);
    command.arg("--cacert").arg(certificates.path("a.crt"));
    command.args(["--resolve", &format!("a.test:{}:{}", door.port(), door.ip())]);
    command
}

#[test]
fn curl_is_served_over_both_versions_of_tls_and_backends_hear_of_https() {
    let certificates = Certificates::new();
    let recorder = Recorder::answering(|_| ok(b"hello"));
    let (_running, door) = secure(&certificates, recorder.address(), "", "");
    let url = format!("https://a.test:{}/x", door.port());
    for version in ["1.2", "1.3"] {
        // curl takes HTTP/2 where it is offered.
        for (http, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let mut curl = curl(&certificates, door);
            curl.args([&format!("--tlsv{version}"), "--tls-max", version, http]);
            curl.args(["-w", " %{http_version} %{ssl_verify_result}", &url]);
            let said = run(&mut curl, Duration::from_secs(30));
            assert_eq!(said, format!("hello {spoken} 0"), "TLS {version}");
        }
    }
    let asked = recorder.requests();
    assert!(asked.iter().all(|asked| asked.field("x-forwarded-proto") == Some("https")));
    assert_eq!(asked.len(), 4);
}

#[test]
fn a_listener_speaks_only_the_versions_that_are_named() {
    let certificates = Certificates::new();
    let recorder = Recorder::answering(|_| ok(b"hello"));
    for (named, asked_for, spoken) in
        [("1.1", "--http2", "hello 1.1"), ("2", "--http2", "hello 2"), ("2", "--http1.1", "")]
    {
        let versions = format!("http = \"{named}\"");
        let (_running, door) = secure(&certificates, recorder.address(), "", &versions);
        let mut curl = curl(&certificates, door);
        curl.args([asked_for, "-w", " %{http_version}"]);
        curl.arg(format!("https://a.test:{}/x", door.port()));
        let output = curl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), !spoken.is_empty(), "{named} {asked_for}: {said}");
        assert!(spoken.is_empty() || said == spoken, "{named} {asked_for}: {said}");
    }
}

#[test]
fn a_version_below_the_oldest_allowed_is_refused() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), ", min-version = \"1.3\"", "");
    let mut curl = curl(&certificates, door);
    curl.args(["--tls-max", "1.2", &format!("https://a.test:{}/", door.port())]);
    assert!(!curl.output().unwrap().status.success());
    until_ended(&running, Why::TlsFailed, 1);
    assert_eq!(certificates.client(door).get("/").status, 200);
}

#[test]
fn a_redirect_names_the_scheme_that_was_asked_with() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let route = "[[http.web.route]]\npath = \"/old\"\nredirect = \"{scheme}://{host}/new\"";
    let (_running, door) = secure(&certificates, recorder.address(), "", route);
    let answer = certificates.client(door).get("/old");
    assert_eq!(answer.field("location"), Some("https://app.test/new"));
}

#[test]
fn large_bodies_pass_both_ways_on_one_connection() {
    let certificates = Certificates::new();
    let recorder = Recorder::answering(|request| ok(&request.body));
    let (_running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    for length in [0, 1, 16_384, 16_385, 10_000_000] {
        let body = noise(length as u64, length);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.send(&body);
        assert!(client.answer().body == body, "{length} bytes");
    }
    assert_eq!(recorder.requests().len(), 5);
    assert_eq!(recorder.backend.accepted(), 1);
}

#[test]
fn a_late_reader_gets_everything() {
    let certificates = Certificates::new();
    let body = noise(7, 20_000_000);
    let answer = ok(&body);
    let recorder = Recorder::answering(move |_| answer.clone());
    let (_running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // It has begun to come, and nobody reads.
    client.stream.get_mut().sock.peek(&mut [0]).unwrap();
    assert!(client.answer().body == body);
}

#[test]
fn a_body_that_ends_with_the_connection_ends_with_a_word() {
    let certificates = Certificates::new();
    let recorder = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
    });
    let (_running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    // Without close_notify, reading to the end is an error of rustls.
    let answer = client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer();
    assert_eq!(answer.text(), "abc");
}

#[test]
fn half_an_answer_never_looks_whole() {
    let certificates = Certificates::new();
    let backend = Backend::serving(|mut stream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    });
    let (running, door) = secure(&certificates, backend.address, "", "");
    let mut client = certificates.client(door);
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut all = Vec::new();
    assert!(client.stream.read_to_end(&mut all).is_err());
    until_ended(&running, Why::BackendGone, 1);
}

#[test]
fn a_client_that_leaves_between_two_requests_without_a_word_has_finished() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    assert_eq!(client.get("/").status, 200);
    client.stream.get_mut().sock.shutdown(Shutdown::Write).unwrap();
    until_ended(&running, Why::ClientFinished, 1);
}

#[test]
fn a_request_whose_body_was_cut_off_is_never_completed() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha");
    client.stream.get_mut().sock.shutdown(Shutdown::Write).unwrap();
    until_ended(&running, Why::ClientGone, 1);
    assert_eq!(recorder.requests().len(), 0);
}

#[test]
fn a_proxy_that_stops_says_so_to_idle_clients() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = certificates.client(door);
    assert_eq!(client.get("/").status, 200);
    running.drain();
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_comes_back_need_not_begin_anew_and_sends_nothing_early() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (_running, door) = secure(&certificates, recorder.address(), "", "");
    let settings = certificates.trusted(&["http/1.1"]);
    let kinds = [(); 2].map(|()| {
        let mut client = connect(door, "a.test", settings.clone());
        assert_eq!(client.get("/").status, 200);
        let session = &mut client.stream.get_mut().conn;
        assert!(session.early_data().is_none());
        let agreed = session.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(agreed, Some(NamedGroup::X25519MLKEM768));
        session.handshake_kind()
    });
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[test]
fn a_client_that_wants_another_protocol_is_refused() {
    // THREATS 1.4: cross-protocol attacks (ALPACA, CVE-2021-3618).
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    assert!(try_connect(door, "a.test", certificates.trusted(&["smtp"])).is_err());
    until_ended(&running, Why::TlsFailed, 1);
    // One that names none is taken for HTTP/1.1.
    let mut client = connect(door, "a.test", certificates.trusted(&[]));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn each_name_is_shown_its_certificate() {
    let mut certificates = Certificates::new();
    certificates.add("wild", &["*.b.test"]);
    certificates.add("exact", &["www.b.test"]);
    let more: Vec<_> = ["wild", "exact"]
        .map(|file| {
            let (certificate, key) = (format!("{file}.crt"), format!("{file}.key"));
            let path = |file: &str| certificates.path(file).display().to_string();
            format!("{{ certificate = \"{}\", key = \"{}\" }}", path(&certificate), path(&key))
        })
        .into();
    let recorder = Recorder::echoing();
    let more = format!(", certificates = [{}]", more.join(", "));
    let (_running, door) = secure(&certificates, recorder.address(), &more, "");
    let settings = certificates.trusted(&["http/1.1"]);
    for (name, file) in [
        ("a.test", "a"),
        ("A.TEST", "a"),
        ("x.b.test", "wild"),
        ("X.B.Test", "wild"),
        ("www.b.test", "exact"),
        ("WWW.b.test", "exact"),
    ] {
        let client = connect(door, name, settings.clone());
        let expected = CertificateDer::from_pem_file(certificates.path(&format!("{file}.crt")));
        assert!(shown(&client) == expected.unwrap(), "{name}");
    }
    // A stranger's name gets the first, and its client decides.
    assert!(try_connect(door, "other.test", settings).is_err());
}

#[test]
fn a_hello_in_small_pieces_still_names_its_name() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let path = |file: &str| certificates.path(file).display().to_string();
    let more = format!(
        ", certificates = [{{ certificate = \"{}\", key = \"{}\" }}]",
        path("b.crt"),
        path("b.key")
    );
    let recorder = Recorder::echoing();
    let (_running, door) = secure(&certificates, recorder.address(), &more, "");
    let settings = certificates.trusted(&[]);
    let expected = CertificateDer::from_pem_file(certificates.path("b.crt")).unwrap();
    for in_records in [false, true] {
        let name = "b.test".try_into().unwrap();
        let mut session = rustls::ClientConnection::new(settings.clone(), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        if in_records {
            // The message in records of five bytes: a record has a head of its kind, version and length.
            let parts = hello[5..].chunks(5);
            hello =
                parts.flat_map(|part| [&[22, 3, 1, 0, part.len() as u8], part].concat()).collect();
        }
        let mut sock = client::connect(door);
        for byte in hello {
            sock.write_all(&[byte]).unwrap();
        }
        while session.is_handshaking() {
            session.complete_io(&mut sock).unwrap();
        }
        assert!(session.peer_certificates().unwrap()[0] == expected);
    }
}

#[test]
fn a_request_in_clear_is_told_that_tls_is_expected() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    let mut client = Client::connect(door);
    let answer = client.get("/secret");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.field("x-evenkeel-cause"), Some("plain-http-where-tls-is-expected"));
    assert!(client.is_closed());
    until_ended(&running, Why::TlsFailed, 1);
    assert_eq!(recorder.requests().len(), 0);
}

#[test]
fn a_handshake_that_is_not_done_in_time_is_ended() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) =
        secure(&certificates, recorder.address(), ", handshake-timeout = \"300ms\"", "");
    // Nothing at all; the beginning of a record; and one byte after the other.
    let began = Instant::now();
    let mut waiting = client::connect(door);
    let mut begun = client::connect(door);
    begun.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let mut dripping = client::connect(door);
    dripping.write_all(&[22, 3, 1, 2, 0]).unwrap();
    while dripping.write_all(&[1]).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "it may drip for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    for stream in [&mut waiting, &mut begun] {
        let read = stream.read(&mut [0; 99]);
        assert!(
            matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
        );
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    until_ended(&running, Why::TlsFailed, 3);
    assert_eq!(certificates.client(door).get("/").status, 200);
}

#[test]
fn a_look_at_the_port_is_no_failure() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let (running, door) = secure(&certificates, recorder.address(), "", "");
    drop(client::connect(door));
    until_ended(&running, Why::ClientFinished, 1);
    assert_eq!(running.counts().ended_by(Why::TlsFailed), 0);
}

#[test]
fn the_access_log_says_why_a_handshake_failed() {
    let certificates = Certificates::new();
    let recorder = Recorder::echoing();
    let text = config(&[recorder.address()], "", &format!("tls = {{ {} }}", certificates.pair()));
    let program = Program::run(&text);
    program.until_said("listening on ");
    let door = program.address("web");
    let mut garbage = client::connect(door);
    garbage.write_all(b"\x16\x03\x01\xff\xff garbage that is no hello").unwrap();
    drop(garbage);
    let strangers = Certificates::new();
    assert!(try_connect(door, "a.test", strangers.trusted(&["http/1.1"])).is_err());
    let _ = Client::connect(door).get("/");
    let lines = program.until_lines(3).join("\n");
    assert_eq!(lines.matches(" tls-failed client ").count(), 3, "{lines}");
    assert!(lines.contains("received fatal alert"), "{lines}");
    assert!(lines.contains("plain-http-where-tls-is-expected"), "{lines}");
}

/// A backend that agrees to another protocol and then does as it is told with the connection.
fn switching(
    then: impl Fn(std::net::TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Backend {
    Backend::serving(move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        )?;
        then(stream)
    })
}

const SWITCH: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

#[test]
fn a_client_that_asks_for_nothing_costs_no_processor_time() {
    let certificates = Certificates::new();
    let backend = switching(|mut stream| stream.read(&mut [0; 9]).map(drop));
    let text = config(&[backend.address], "", &format!("tls = {{ {} }}", certificates.pair()));
    let program = Program::run(&text);
    program.until_said("listening on ");
    let door = program.address("web");
    let idle = certificates.client(door);
    let mut switched = certificates.client(door);
    switched.send(SWITCH);
    assert_eq!(switched.answer().status, 101);
    // Half of a record, which cannot be decrypted yet.
    let mut half = certificates.client(door);
    half.stream.get_mut().sock.write_all(&[23, 3, 3, 1, 0, 1, 2, 3]).unwrap();
    let before = program.processor_time();
    // Silence is what is looked at here, so time has to pass.
    std::thread::sleep(Duration::from_millis(500));
    let used = program.processor_time() - before;
    assert!(used <= Duration::from_millis(60), "{used:?} in half a second");
    drop((idle, half));
}

#[test]
fn a_switched_protocol_passes_both_ways_and_each_side_may_finish_first() {
    let certificates = Certificates::new();
    let backend = switching(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)
    });
    let (running, door) = secure(&certificates, backend.address, "", "");
    let mut client = certificates.client(door);
    // The first bytes come along with the request.
    client.send([SWITCH.as_bytes(), b"early "].concat());
    assert_eq!(client.answer().status, 101);
    let sent = noise(3, 5_000_000);
    client.send(&sent);
    let stream = client.stream.get_mut();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut all = Vec::new();
    client.stream.read_to_end(&mut all).unwrap();
    assert!(all == [b"early ".as_slice(), &sent].concat());
    until_ended(&running, Why::ClientFinished, 1);
}

#[test]
fn what_passes_after_a_switch_waits_for_a_late_reader() {
    let certificates = Certificates::new();
    let sent = noise(4, 20_000_000);
    let from_backend = sent.clone();
    let backend = switching(move |mut stream| stream.write_all(&from_backend));
    let (running, door) = secure(&certificates, backend.address, "", "");
    let mut client = certificates.client(door);
    client.send(SWITCH);
    assert_eq!(client.answer().status, 101);
    client.stream.get_mut().sock.peek(&mut [0]).unwrap();
    let mut all = vec![0; sent.len()];
    client.stream.read_exact(&mut all).unwrap();
    assert!(all == sent);
    // The backend has finished, and so has the word for it.
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
    drop(client);
    until("it has ended", || {
        let counts = running.counts();
        counts.ended_by(Why::BackendFinished) + counts.ended_by(Why::ClientReset) == 1
    });
}

#[test]
fn silence_after_a_switch_is_ended() {
    let certificates = Certificates::new();
    let backend = switching(|mut stream| stream.read(&mut [0; 9]).map(drop));
    let (running, door) = secure(&certificates, backend.address, "", "tunnel-timeout = \"200ms\"");
    let mut client = certificates.client(door);
    client.send(SWITCH);
    assert_eq!(client.answer().status, 101);
    assert!(client.is_closed() || client.stream.read(&mut [0]).is_err());
    until_ended(&running, Why::IdleTimeout, 1);
}

#[test]
fn a_reset_after_a_switch_is_passed_on_and_a_cut_is_one() {
    let certificates = Certificates::new();
    let backend = switching(|mut stream| {
        stream.read_exact(&mut [0; 2])?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let (running, door) = secure(&certificates, backend.address, "", "");
    let mut client = certificates.client(door);
    client.send(SWITCH);
    assert_eq!(client.answer().status, 101);
    client.send("go");
    assert!(client.stream.read(&mut [0]).is_err());
    until_ended(&running, Why::BackendReset, 1);

    let (sender, receiver) = std::sync::mpsc::channel();
    let backend = switching(move |mut stream| {
        let last = stream.read(&mut [0]).map_err(|error| error.kind());
        let _ = sender.send(last);
        Ok(())
    });
    let (running, door) = secure(&certificates, backend.address, "", "");
    let mut client = certificates.client(door);
    client.send(SWITCH);
    assert_eq!(client.answer().status, 101);
    // An end without its word is no end.
    client.stream.get_mut().sock.shutdown(Shutdown::Write).unwrap();
    let last = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(last, Err(ErrorKind::ConnectionReset));
    until_ended(&running, Why::ClientReset, 1);
}
