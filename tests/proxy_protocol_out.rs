//! Backends are told for whom we connect, first of all and once on each connection; and what is told is true.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_wire::{ProxyOrigin, ProxyRead, read_proxy_header, tlv};

use crate::support::authority::Authority;
use crate::support::backend::{Backend, fresh_loopback};
use crate::support::client::{connect, connect_from, is_served};
use crate::support::http::{self, ok};
use crate::support::program::{Program, once};
use crate::support::tls::{self, Certificates};
use crate::support::{config, serve, servers, until};

/// What the headers said, one for each connection; none for a connection of the proxy's own.
type Told = Arc<Mutex<Vec<Option<(SocketAddr, SocketAddr)>>>>;

/// Reads the header of a fresh connection, byte by byte so that nothing behind it is taken.
fn read_header(mut stream: &TcpStream, told: &Told) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.extend(byte);
        match read_proxy_header(&bytes).map_err(std::io::Error::other)? {
            ProxyRead::Partial => {}
            ProxyRead::Whole { header, .. } => {
                told.lock().unwrap().push(match header.origin {
                    ProxyOrigin::Tcp { source, destination } => Some((source, destination)),
                    ProxyOrigin::Own | ProxyOrigin::Unix { .. } => None,
                });
                return Ok(());
            }
        }
    }
}

/// A backend that wants a header, and then echoes.
fn curious(told: &Told) -> Backend {
    let told = Arc::clone(told);
    Backend::serving(move |stream| {
        read_header(&stream, &told)?;
        crate::support::backend::echo(stream)
    })
}

#[test]
fn a_tcp_backend_is_told_both_ends_before_the_first_byte() {
    for version in ["v1", "v2"] {
        let told = Told::default();
        let backend = curious(&told);
        let upstream = format!("send-proxy = \"{version}\"");
        let (_running, door) = serve(&config(&[backend.address], &upstream, ""));
        let client = connect_from(fresh_loopback(), door);
        assert!(is_served(&client), "{version}");
        assert_eq!(*told.lock().unwrap(), [Some((client.local_addr().unwrap(), door))]);
    }
}

#[test]
fn a_client_that_a_proxy_named_is_named_on() {
    let told = Told::default();
    let backend = curious(&told);
    let rules = "accept-proxy = { from = \"127.0.0.1\" }";
    let (_running, door) = serve(&config(&[backend.address], "send-proxy = \"v2\"", rules));
    let mut stream = connect(door);
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n").unwrap();
    assert!(is_served(&stream));
    let ends = ("192.0.2.7:4711".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    assert_eq!(*told.lock().unwrap(), [Some(ends)]);
}

#[test]
fn over_http_every_request_has_a_connection_that_names_its_own_client() {
    let told = Told::default();
    let seen = Arc::clone(&told);
    let backend = Backend::serving(move |mut stream| {
        read_header(&stream, &seen)?;
        let mut head = [0; 4096];
        while stream.read(&mut head)? > 0 {
            stream.write_all(&ok(b"yes"))?;
        }
        Ok(())
    });
    let upstream = "send-proxy = \"v1\"";
    let (_running, door) = http::serve(&http::config(&[backend.address], upstream, ""));
    let mut expected = Vec::new();
    for _ in 0..2 {
        let stream = connect_from(fresh_loopback(), door);
        let mut client = http::Client::over(stream.try_clone().unwrap());
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "yes");
            expected.push(Some((stream.local_addr().unwrap(), door)));
        }
    }
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn checks_say_that_they_are_nobodys() {
    for version in ["v1", "v2"] {
        let told = Told::default();
        let backend = curious(&told);
        let upstream = format!(
            "send-proxy = \"{version}\"\nhealth = {{ send = \"hi\", expect = \"hi\", every = \"50ms\" }}"
        );
        let (running, _) = serve(&config(&[backend.address], &upstream, ""));
        crate::support::until_state(&running, backend.address, "healthy");
        until("two checks", || told.lock().unwrap().len() >= 2);
        assert!(told.lock().unwrap().iter().all(Option::is_none));
    }
}

#[test]
fn a_header_cannot_name_the_clients_of_a_shared_connection() {
    let folder = tempfile::tempdir().unwrap();
    let text = config(&["127.0.0.1:1".parse().unwrap()], "send-proxy = \"v2\"\nh2 = true", "");
    std::fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
    let output = once(&["check"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no header can name them"), "{said}");
}

#[test]
fn two_of_us_in_a_row_know_the_client() {
    let backend = Backend::echo();
    let rules = "accept-proxy = { from = \"127.0.0.1\" }";
    let inner = Program::run(&config(&[backend.address], "", rules));
    for version in ["v1", "v2"] {
        let upstream = format!("send-proxy = \"{version}\"");
        let (_outer, door) = serve(&config(&[inner.address("public")], &upstream, ""));
        let client = {
            let stream = connect_from(fresh_loopback(), door);
            assert!(is_served(&stream));
            stream.local_addr().unwrap().to_string()
        };
        until("its line", || inner.output().lines().any(|line| line.contains(&client)));
    }
}

#[test]
fn haproxy_and_nginx_behind_us_learn_who_the_client_is() {
    let echo = Backend::echo();
    let haproxy = servers::haproxy("accept-proxy", echo.address, "");
    let nginx = servers::nginx("one", b"");
    for version in ["v1", "v2"] {
        let upstream = format!("send-proxy = \"{version}\"");
        let (_running, door) = serve(&config(&[haproxy.address], &upstream, ""));
        assert!(is_served(connect(door)), "{version}");

        let told = nginx.folder().join("told");
        let text = format!(
            "[upstream.app]\nbackends = [\"unix:{}\"]\n{upstream}\n\
             [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
            told.display()
        );
        let (_running, door) = http::serve(&text);
        let stream = connect_from(fresh_loopback(), door);
        let own = stream.local_addr().unwrap().to_string();
        assert_eq!(http::Client::over(stream).get("/who").text().trim(), own, "{version}");
        // A stream of HTTP/2 has no socket of its own.
        let source = fresh_loopback().to_string();
        let mut curl = Command::new(servers::program("curl"));
        curl.args(["-sS", "--http2-prior-knowledge", "--interface", &source]);
        let said = servers::run(curl.arg(format!("http://{door}/who")), Duration::from_secs(20));
        assert!(said.starts_with(&format!("{source}:")), "{version}: {said}");
    }
    assert!(!is_served_within(connect(haproxy.address)), "haproxy does not ask for a header");
}

/// The same without the patience of a client that trusts its server.
fn is_served_within(stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    is_served(stream)
}

/// A backend that keeps whole headers, and then echoes.
fn gathering(headers: &Arc<Mutex<Vec<Vec<u8>>>>) -> Backend {
    let headers = Arc::clone(headers);
    Backend::serving(move |mut stream| {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.extend(byte);
            if let ProxyRead::Whole { .. } =
                read_proxy_header(&bytes).map_err(std::io::Error::other)?
            {
                break;
            }
        }
        headers.lock().unwrap().push(bytes);
        crate::support::backend::echo(stream)
    })
}

#[test]
fn what_was_chosen_of_a_client_s_tls_is_told_too() {
    let certificates = Certificates::new();
    let authority = Authority::new("clients");
    std::fs::write(certificates.path("ca.crt"), authority.certificate.pem()).unwrap();
    let headers = Arc::default();
    let backend = gathering(&headers);
    let upstream = "send-proxy = \"v2\"\nsend-proxy-tlvs = [\"authority\", \"alpn\", \"ssl\"]";
    let tls = format!(
        "tls = {{ {}, alpn = [\"echo\"], client-ca = [\"{}\"], client-auth = \"optional\" }}",
        certificates.pair(),
        certificates.path("ca.crt").display()
    );
    let (_running, door) = serve(&config(&[backend.address], upstream, &tls));
    let nobody = certificates.trusted(&["echo"]);
    let somebody = authority.issue("device-1").shown_by(&nobody);
    for client in [nobody, somebody] {
        let mut client = tls::connect(door, "a.test", client).stream.into_inner();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let headers = headers.lock().unwrap();
    for (bytes, certified) in headers.iter().zip([false, true]) {
        let Ok(ProxyRead::Whole { header, .. }) = read_proxy_header(bytes) else { panic!() };
        assert_eq!(header.tlv(tlv::AUTHORITY), Some(&b"a.test"[..]));
        assert_eq!(header.tlv(tlv::ALPN), Some(&b"echo"[..]));
        let ssl = header.tlv(tlv::SSL).unwrap();
        // Flags, the verdict on a certificate, and facts of its own (proxy-protocol.txt 2.2.6).
        let expected = if certified { [7, 0, 0, 0, 0] } else { [1, 0, 0, 0, 1] };
        assert_eq!(ssl[..5], expected);
        let text = String::from_utf8_lossy(ssl);
        assert!(text.contains("TLSv1.3") && text.contains("TLS_AES_"), "{text}");
        assert_eq!(text.contains("device-1"), certified, "{text}");
    }
    assert_eq!(headers.len(), 2);
}

#[test]
fn a_request_is_told_by_its_id_and_a_client_in_clear_has_no_tls() {
    let headers = Arc::default();
    let backend = gathering(&headers);
    let upstream = "send-proxy = \"v2\"\nsend-proxy-tlvs = [\"unique-id\", \"ssl\", \"authority\"]";
    let (_running, door) = http::serve(&http::config(&[backend.address], upstream, ""));
    let mut client = http::Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("a header", || headers.lock().unwrap().len() == 1);
    let headers = headers.lock().unwrap();
    let Ok(ProxyRead::Whole { header, .. }) = read_proxy_header(&headers[0]) else { panic!() };
    assert_eq!(header.tlv(tlv::UNIQUE_ID).unwrap().len(), 32);
    assert_eq!((header.tlv(tlv::SSL), header.tlv(tlv::AUTHORITY)), (None, None));
}

#[test]
fn the_port_that_a_proxy_in_front_names_is_the_one_that_backends_of_http_hear_of() {
    let accept = "accept-proxy = { from = [\"127.0.0.0/8\"] }";
    let recorder = http::Recorder::answering(|_| ok(b"hello"));
    let (_running, door) = http::serve(&http::config(&[recorder.address()], "", accept));
    let mut client = http::Client::connect(door);
    client.send("PROXY TCP4 192.0.2.1 198.51.100.7 4242 8443\r\n");
    assert_eq!(client.get("/").status, 200);
    let asked = &recorder.requests()[0];
    assert_eq!(asked.field("x-forwarded-port"), Some("8443"));
    assert_eq!(asked.field("x-forwarded-for"), Some("192.0.2.1"));
}
