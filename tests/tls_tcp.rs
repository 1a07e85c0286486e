//! TLS on TCP listeners: ended here and carried on in clear, or only looked at and passed through to whom it asks for.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};
use rustls::ClientConfig;

use crate::real_postgres::{pgbench, transactions};
use crate::support::authority::Authority;
use crate::support::backend::Backend;
use crate::support::http::{Recorder, ok};
use crate::support::program::Program;
use crate::support::servers::{self, fed, program, run};
use crate::support::tls::{Certificates, Stream, connect, try_connect};
use crate::support::{client, config, noise, start, until, until_ended};

/// A TCP listener `public` that ends TLS for `a.test` and leads to a backend.
fn ending(certificates: &Certificates, backend: SocketAddr, tls: &str) -> (Running, SocketAddr) {
    let pair = certificates.pair();
    crate::support::serve(&config(&[backend], "", &format!("tls = {{ {pair}{tls} }}")))
}

fn secure(certificates: &Certificates, door: SocketAddr) -> Stream {
    connect(door, "a.test", certificates.trusted(&[])).stream.into_inner()
}

#[test]
fn bytes_pass_both_ways_and_each_side_may_finish_first() {
    let certificates = Certificates::new();
    let backend = Backend::serving(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        request.reverse();
        stream.write_all(&request)
    });
    let (running, door) = ending(&certificates, backend.address, "");
    for length in [0, 1, 16_384, 700_000, 5_000_000] {
        let mut request = noise(7, length);
        let mut client = secure(&certificates, door);
        client.write_all(&request).unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        let mut reply = Vec::new();
        // Without close_notify, this is an error of rustls.
        client.read_to_end(&mut reply).unwrap();
        request.reverse();
        assert!(reply == request, "the reply to {length} bytes differs");
    }
    until_ended(&running, Why::ClientFinished, 5);
    let backend = Backend::serving(|mut stream| {
        stream.write_all(&noise(1, 3_000_000))?;
        stream.shutdown(Shutdown::Write)?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        assert_eq!(said, b"heard");
        Ok(())
    });
    let (running, door) = ending(&certificates, backend.address, "");
    let mut client = secure(&certificates, door);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert!(all == noise(1, 3_000_000));
    client.write_all(b"heard").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    until_ended(&running, Why::BackendFinished, 1);
}

#[test]
fn a_stream_that_is_cut_off_is_a_reset_to_the_other_side() {
    let certificates = Certificates::new();
    let (told, hear) = std::sync::mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        let ended = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        told.send(ended).expect("the test waits");
        Ok(())
    });
    let (running, door) = ending(&certificates, backend.address, "");
    let mut client = secure(&certificates, door);
    client.write_all(b"half of it").unwrap();
    // An end of TCP without the word for it: whoever is in between could have made it.
    client.sock.shutdown(Shutdown::Write).unwrap();
    let heard = hear.recv_timeout(client::PATIENCE).unwrap();
    assert_eq!(heard, Err(ErrorKind::ConnectionReset));
    until_ended(&running, Why::ClientReset, 1);

    let backend = Backend::serving(|mut stream| {
        stream.read_exact(&mut [0; 1])?;
        stream.write_all(b"half of it")?;
        client::reset(stream);
        Ok(())
    });
    let (running, door) = ending(&certificates, backend.address, "");
    let mut client = secure(&certificates, door);
    client.write_all(b"x").unwrap();
    assert!(client.read_to_end(&mut Vec::new()).is_err(), "half looks whole");
    until_ended(&running, Why::BackendReset, 1);
}

#[test]
fn a_client_that_never_reads_costs_no_more_than_the_buffers() {
    let certificates = Certificates::new();
    let (told, hear) = std::sync::mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let piece = noise(3, 65_536);
        let mut taken = 0_usize;
        while let Ok(count) = stream.write(&piece) {
            taken += count;
        }
        told.send(taken).expect("the test waits");
        Ok(())
    });
    let (_running, door) = ending(&certificates, backend.address, "");
    let _client = secure(&certificates, door);
    let taken = hear.recv_timeout(client::PATIENCE).unwrap();
    assert!(taken < 16 << 20, "{taken} bytes were taken for nobody");
}

#[test]
fn an_idle_client_is_ended_and_one_that_speaks_in_clear_is_refused() {
    let certificates = Certificates::new();
    let backend = Backend::echo();
    let pair = certificates.pair();
    let lines = format!("tls = {{ {pair} }}\nidle-timeout = \"300ms\"");
    let (running, door) = crate::support::serve(&config(&[backend.address], "", &lines));
    let mut client = secure(&certificates, door);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert!(client.read(&mut [0]).is_err(), "an end that is no end of the stream");
    until_ended(&running, Why::IdleTimeout, 1);
    for clear in [&b"HELO\r\n"[..], b"\0\0\0\x08hello"] {
        let mut client = client::connect(door);
        client.write_all(clear).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    until_ended(&running, Why::TlsFailed, 2);
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn clients_in_clear_are_served_too_where_that_is_asked_for() {
    let certificates = Certificates::new();
    let backend = Backend::echo();
    let (_running, door) = ending(&certificates, backend.address, ", allow-plain = true");
    for byte in [b'a', b'A', 0, 23, 255] {
        let mut plain = client::connect(door);
        plain.write_all(&[byte]).unwrap();
        let mut back = [0];
        plain.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
    let mut client = secure(&certificates, door);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn http_in_clear_and_through_tls_may_share_a_port() {
    let certificates = Certificates::new();
    let recorder = Recorder::answering(|_| ok(b"hello"));
    let pair = certificates.pair();
    let lines = format!("tls = {{ {pair}, allow-plain = true }}");
    let whole = crate::support::http::config(&[recorder.address()], "", &lines);
    let (_running, door) = crate::support::http::serve(&whole);
    assert_eq!(crate::support::http::Client::connect(door).get("/").status, 200);
    assert_eq!(certificates.client(door).get("/").status, 200);
    let seen: Vec<_> = recorder.requests();
    let schemes: Vec<_> = seen.iter().map(|asked| asked.field("x-forwarded-proto")).collect();
    assert_eq!(schemes, [Some("http"), Some("https")]);
}

#[test]
fn protocols_are_agreed_on_and_decide_about_the_route() {
    let certificates = Certificates::new();
    let (red, blue) = (Backend::named("red"), Backend::named("blue"));
    let running = start(&format!(
        r#"
        [upstream.red]
        backends = ["{}"]
        [upstream.blue]
        backends = ["{}"]
        [tcp.public]
        listen = "127.0.0.1:0"
        tls = {{ {}, alpn = ["red", "mqtt"] }}
        upstream = "blue"
        route = [{{ alpn = ["red"], upstream = "red" }}]
        "#,
        red.address,
        blue.address,
        certificates.pair()
    ));
    let door = running.addresses("public")[0];
    for (offered, expected) in [(&["mqtt", "red"][..], "red"), (&["mqtt"], "blue"), (&[], "blue")] {
        let mut client = connect(door, "a.test", certificates.trusted(offered));
        assert_eq!(client::line(&mut client.stream).trim(), expected, "{offered:?}");
    }
    assert!(try_connect(door, "a.test", certificates.trusted(&["other"])).is_err());
}

#[test]
fn who_must_show_a_certificate_reaches_nobody_without_one() {
    let certificates = Certificates::new();
    let authority = Authority::new("clients");
    fs::write(certificates.path("ca.crt"), authority.certificate.pem()).unwrap();
    let ca = format!(", client-ca = [\"{}\"]", certificates.path("ca.crt").display());
    let backend = Backend::echo();
    let (running, door) = ending(&certificates, backend.address, &ca);
    let nobody = certificates.trusted(&[]);
    let echoes = |config: Arc<ClientConfig>| {
        let client = try_connect(door, "a.test", config).map(|client| client.stream.into_inner());
        let mut client = client.ok()?;
        client.write_all(b"x").ok()?;
        client.read_exact(&mut [0]).ok()
    };
    assert_eq!(echoes(Arc::clone(&nobody)), None);
    until_ended(&running, Why::TlsFailed, 1);
    assert_eq!(backend.accepted(), 0);
    assert_eq!(echoes(authority.issue("x").shown_by(&nobody)), Some(()));
}

#[test]
fn postgresql_is_reached_through_tls_that_its_clients_verify_in_full() {
    let mut certificates = Certificates::new();
    certificates.add("a", &["localhost"]);
    let server = servers::postgres();
    let tls = ", starttls = \"postgresql\", allow-plain = true";
    let (running, door) = ending(&certificates, server.address, tls);
    let bench = |mode: &str, arguments: &[&str]| {
        let mut command = pgbench(door);
        command.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1");
        command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", certificates.path("a.crt"));
        run(command.args(arguments), Duration::from_secs(60))
    };
    bench("verify-full", &["-i", "-q"]);
    let said = bench("verify-full", &["-n", "-c", "4", "-T", "1", "-S", "-C"]);
    assert!(transactions(&said) > 4, "{said}");
    let said = bench("disable", &["-n", "-c", "2", "-T", "1", "-S"]);
    assert!(transactions(&said) > 4, "{said}");
    assert_eq!(running.counts().ended_by(Why::TlsFailed), 0);
}

#[test]
fn what_came_in_clear_with_the_wish_for_tls_is_not_taken_for_secret() {
    // CVE-2021-23222: a query that somebody put behind SSLRequest must never reach the server.
    let certificates = Certificates::new();
    let backend = Backend::echo();
    let (running, door) = ending(&certificates, backend.address, ", starttls = \"postgresql\"");
    let mut client = client::connect(door);
    client.write_all(b"\0\0\0\x08\x04\xd2\x16\x2fQ\0\0\0\x0dselect 1;\0").unwrap();
    let mut all = Vec::new();
    let _ = client.read_to_end(&mut all);
    assert_eq!(all.first(), Some(&b'S'));
    until_ended(&running, Why::TlsFailed, 1);
    assert_eq!(backend.accepted(), 0);
}

/// Two HTTPS servers behind routes by name, whose TLS passes through; and where the rest goes.
struct Passing {
    certificates: Certificates,
    running: Running,
    door: SocketAddr,
    _servers: Vec<Running>,
    _plain: Backend,
}

impl Passing {
    fn new(more: &str) -> Passing {
        let mut certificates = Certificates::new();
        certificates.add("b", &["b.test", "x.b.test"]);
        let server = |file: &str| {
            let pair = format!(
                "certificate = \"{}\", key = \"{}\"",
                certificates.path(&format!("{file}.crt")).display(),
                certificates.path(&format!("{file}.key")).display()
            );
            start(&format!(
                "[http.web]\nlisten = \"127.0.0.1:0\"\ntls = {{ {pair} }}\n\
                 route = [{{ reply = {{ status = 200, body = \"{file}\" }} }}]"
            ))
        };
        let servers = vec![server("a"), server("b")];
        let plain = Backend::named("plain");
        let running = start(&format!(
            r#"
            [upstream.a]
            backends = ["{}"]
            [upstream.b]
            backends = ["{}"]
            [upstream.plain]
            backends = ["{}"]
            [tcp.public]
            listen = "127.0.0.1:0"
            hello-timeout = "500ms"
            route = [{{ sni = ["a.test"], upstream = "a" }}, {{ sni = ["b.test", "*.b.test"], upstream = "b" }}]
            {more}
            "#,
            servers[0].addresses("web")[0],
            servers[1].addresses("web")[0],
            plain.address
        ));
        let door = running.addresses("public")[0];
        Passing { certificates, running, door, _servers: servers, _plain: plain }
    }

    fn asked(&self, name: &str) -> Option<String> {
        let trusted = self.certificates.trusted(&["http/1.1"]);
        let mut client = try_connect(self.door, name, trusted).ok()?;
        Some(client.get("/").text())
    }

    fn curl(&self, name: &str) -> String {
        let mut curl = Command::new(program("curl"));
        curl.args(["-q", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]);
        curl.arg(self.certificates.path("b.crt"));
        let port = self.door.port();
        curl.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
        curl.arg(format!("https://{name}:{port}/"));
        run(&mut curl, Duration::from_secs(30))
    }
}

#[test]
fn tls_passes_through_to_whom_it_asks_for() {
    let passing = Passing::new("");
    assert_eq!(passing.asked("a.test").as_deref(), Some("a"));
    assert_eq!(passing.asked("b.test").as_deref(), Some("b"));
    assert_eq!(passing.curl("x.b.test"), "b");
    // THREATS 1.4: case-sensitive SNI lookup (CVE-2026-53622).
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-servername", "X.B.TEST", "-ign_eof", "-connect"]);
    openssl.arg(passing.door.to_string());
    let said = fed(&mut openssl, b"GET / HTTP/1.1\r\nHost: x.b.test\r\nConnection: close\r\n\r\n");
    assert!(said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn a_name_of_no_route_is_refused_as_a_server_would_or_goes_to_the_rest() {
    let passing = Passing::new("");
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-servername", "c.test", "-connect", &passing.door.to_string()]);
    let said = fed(&mut openssl, b"Q\n");
    assert!(said.contains("unrecognized name"), "{said}");
    until_ended(&passing.running, Why::NoRoute, 1);
    let passing = Passing::new("upstream = \"a\"");
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-noservername", "-connect", &passing.door.to_string()]);
    openssl.arg("-CAfile").arg(passing.certificates.path("a.crt"));
    let said = fed(&mut openssl, b"Q\n");
    assert!(said.contains("Verify return code: 0"), "{said}");
}

#[test]
fn a_client_hello_in_the_smallest_pieces_finds_its_way() {
    // THREATS 1.4: fragmented ClientHello hides SNI (CVE-2026-32305).
    let passing = Passing::new("upstream = \"a\"");
    let trusted = passing.certificates.trusted(&[]);
    for carry in [1, 5, 40] {
        let name = "b.test".to_owned().try_into().unwrap();
        let mut conn = rustls::ClientConnection::new(Arc::clone(&trusted), name).unwrap();
        let mut hello = Vec::new();
        conn.write_tls(&mut hello).unwrap();
        let mut socket = client::connect(passing.door);
        for fragment in hello[5..].chunks(carry) {
            let head = [22, 3, 1, 0, fragment.len() as u8];
            for piece in [&head[..], fragment].concat().chunks(400) {
                socket.write_all(piece).unwrap();
            }
        }
        let mut stream = rustls::StreamOwned::new(conn, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let shown = stream.conn.peer_certificates().unwrap()[0].clone();
        let pem = fs::read(passing.certificates.path("b.crt")).unwrap();
        use rustls::pki_types::pem::PemObject;
        let expected = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
        assert_eq!(shown, expected, "records of {carry}");
    }
}

#[test]
fn what_is_no_client_hello_is_refused_and_a_slow_one_is_not_waited_for() {
    let passing = Passing::new("");
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x00\x05\x02\0\0\0\0",
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut client = client::connect(passing.door);
        client.write_all(bytes).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    until_ended(&passing.running, Why::TlsFailed, 3);
    let began = Instant::now();
    let mut slow = client::connect(passing.door);
    slow.write_all(b"\x16\x03\x01").unwrap();
    let _ = slow.read_to_end(&mut Vec::new());
    assert!(began.elapsed() < Duration::from_secs(10));
    until_ended(&passing.running, Why::TlsFailed, 4);
    drop(TcpStream::connect(passing.door).unwrap());
    until_ended(&passing.running, Why::ClientFinished, 1);
}

#[test]
fn clients_that_speak_no_tls_go_where_they_are_sent() {
    let passing = Passing::new("plain-upstream = \"plain\"");
    let mut client = client::connect(passing.door);
    client.write_all(b"hello").unwrap();
    assert_eq!(client::line(&mut client).trim(), "plain");
    assert_eq!(passing.asked("a.test").as_deref(), Some("a"));
}

#[test]
fn the_log_has_the_name_that_was_asked_for() {
    let certificates = Certificates::new();
    let backend = Backend::echo();
    let pair = certificates.pair();
    let program = Program::run(&config(&[backend.address], "", &format!("tls = {{ {pair} }}")));
    let mut client = secure(&certificates, program.address("public"));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    drop(client);
    until("a line", || program.output().contains("sni=\"a.test\""));
}
