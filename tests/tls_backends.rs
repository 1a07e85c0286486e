//! TLS towards backends: who cannot prove who it is gets nothing, and what is between us and the others is not in clear.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use evenkeel::{Running, Why};
use rcgen::date_time_ymd;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::support::authority::Authority;
use crate::support::backend::Backend;
use crate::support::client::{self, line};
use crate::support::http::{Client, config, ok, read_request, serve};
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::{start, until, until_ended, until_state};

/// What a backend has seen of a handshake.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: Option<String>,
    subject: bool,
    kind: Option<HandshakeKind>,
}

/// An HTTPS backend that shows a certificate and remembers each handshake.
struct Secured {
    backend: Backend,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Secured {
    fn new(certificates: &Certificates, file: &str) -> Secured {
        Secured::asking(certificates, file, None)
    }

    /// The same, for clients of an authority alone.
    fn asking(certificates: &Certificates, file: &str, ca: Option<&Authority>) -> Secured {
        let read = |end: &str| fs::read(certificates.path(&format!("{file}.{end}"))).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&read("crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read("key")).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = match ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.certificate.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let backend = Backend::serving(move |socket| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, socket);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            told.lock().unwrap().push(Seen {
                name: stream.conn.server_name().map(str::to_owned),
                subject: stream.conn.peer_certificates().is_some(),
                kind: stream.conn.handshake_kind(),
            });
            let mut stream = BufReader::new(stream);
            while let Ok(request) = read_request(&mut stream) {
                stream.get_mut().write_all(&ok(request.line.as_bytes()))?;
            }
            Ok(())
        });
        Secured { backend, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn trusting(certificates: &Certificates, file: &str) -> String {
    format!("ca = [\"{}\"]", certificates.path(file).display())
}

/// An HTTP listener over one backend that is verified like this.
fn over(address: SocketAddr, tls: &str) -> (Running, SocketAddr) {
    serve(&config(&[address], &format!("retries = 0\ntls = {{ {tls} }}"), ""))
}

fn status(door: SocketAddr) -> u16 {
    Client::connect(door).get("/").status
}

#[test]
fn a_backend_is_asked_only_when_its_certificate_is_for_its_name() {
    let mut certificates = Certificates::new();
    certificates.add("other", &["other.test"]);
    let secured = Secured::new(&certificates, "a");
    let trusted = trusting(&certificates, "a.crt");
    for (tls, expected) in [
        (format!("{trusted}, name = \"a.test\""), 200),
        (format!("{trusted}, name = \"A.test\""), 200),
        (format!("{trusted}, name = \"b.test\""), 502),
        // The address in the config is not in the certificate.
        (trusted.clone(), 502),
        (format!("{}, name = \"a.test\"", trusting(&certificates, "other.crt")), 502),
    ] {
        let (running, door) = over(secured.backend.address, &tls);
        assert_eq!(status(door), expected, "{tls}");
        if expected == 502 {
            let mut page = Client::connect(door);
            assert!(page.get("/").text().contains("backend-tls"));
        }
        drop(running);
    }
    let names: Vec<_> = secured.seen().into_iter().map(|seen| seen.name).collect();
    assert_eq!(names, [Some("a.test".to_owned()), Some("a.test".to_owned())]);
}

#[test]
fn a_name_in_the_config_is_the_one_that_is_asked_for_and_verified() {
    let mut certificates = Certificates::new();
    certificates.add("local", &["localhost"]);
    certificates.add("number", &["127.0.0.1"]);
    let text = |address: &str, file: &str| {
        format!(
            "[upstream.app]\nbackends = [\"{address}\"]\ntls = {{ {} }}\n\
             [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
            trusting(&certificates, file)
        )
    };
    let serving = |file: &str| {
        let pair = ["crt", "key"].map(|end| certificates.path(&format!("{file}.{end}")));
        let running = start(&format!(
            "[http.web]\nlisten = \"127.0.0.1:0\"\nroute = [{{ reply = 204 }}]\n\
             tls = {{ certificate = \"{}\", key = \"{}\" }}\n",
            pair[0].display(),
            pair[1].display()
        ));
        let port = running.addresses("web")[0].port();
        (running, port)
    };
    for (file, host) in [("local", "localhost"), ("number", "127.0.0.1")] {
        let (_backend, port) = serving(file);
        let (_running, door) = serve(&text(&format!("{host}:{port}"), &format!("{file}.crt")));
        until(&format!("{host} is reached"), || status(door) == 204);
    }
}

#[test]
fn a_certificate_out_of_its_time_is_not_taken() {
    let mut certificates = Certificates::new();
    for (file, from, to) in [("over", 2020, 2021), ("early", 2090, 2091)] {
        certificates.add_with(file, &["a.test"], |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        let secured = Secured::new(&certificates, file);
        let trusted = trusting(&certificates, &format!("{file}.crt"));
        let (running, door) =
            over(secured.backend.address, &format!("{trusted}, name = \"a.test\""));
        assert_eq!(status(door), 502, "{file}");
        until_ended(&running, Why::ClientFinished, 1);
    }
}

#[test]
fn a_pinned_certificate_is_taken_and_no_other_one_and_off_takes_all() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let print = |file: &str| {
        let pem = fs::read(certificates.path(file)).unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        let digest = aws_lc_rs_digest(&der);
        format!("fingerprints = [\"{digest}\"]")
    };
    let secured = Secured::new(&certificates, "a");
    let (_running, door) = over(secured.backend.address, &print("a.crt"));
    assert_eq!(status(door), 200);
    let (_running, door) = over(secured.backend.address, &print("b.crt"));
    assert_eq!(status(door), 502);
    let text = config(&[secured.backend.address], "tls = { verify = \"off\" }", "");
    let program = Program::run(&(text + "[log]\naccess = \"off\"\n"));
    program.until_said("anybody in between can read and change everything");
    assert_eq!(status(program.address("web")), 200);
}

fn aws_lc_rs_digest(bytes: &[u8]) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_backend_may_ask_who_we_are() {
    let certificates = Certificates::new();
    let authority = Authority::new("proxies");
    let own = authority.issue("evenkeel");
    fs::write(certificates.path("own.crt"), own.pem()).unwrap();
    fs::write(certificates.path("own.key"), own.key.serialize_pem()).unwrap();
    let secured = Secured::asking(&certificates, "a", Some(&authority));
    let trusted = format!("{}, name = \"a.test\"", trusting(&certificates, "a.crt"));
    let (_running, door) = over(secured.backend.address, &trusted);
    assert_ne!(status(door), 200);
    let (certificate, key) = (certificates.path("own.crt"), certificates.path("own.key"));
    let tls = format!(
        "{trusted}, certificate = \"{}\", key = \"{}\"",
        certificate.display(),
        key.display()
    );
    let (_running, door) = over(secured.backend.address, &tls);
    assert_eq!(status(door), 200);
    assert!(secured.seen().iter().all(|seen| seen.subject));
}

#[test]
fn a_backend_that_comes_again_need_not_begin_anew() {
    let certificates = Certificates::new();
    let secured = Secured::new(&certificates, "a");
    let upstream = format!(
        "keep-alive = \"off\"\ntls = {{ {}, name = \"a.test\" }}",
        trusting(&certificates, "a.crt")
    );
    let (_running, door) = serve(&config(&[secured.backend.address], &upstream, ""));
    for _ in 0..4 {
        assert_eq!(status(door), 200);
    }
    let kinds: Vec<_> = secured.seen().iter().map(|seen| seen.kind).collect();
    assert!(kinds[1..].contains(&Some(HandshakeKind::Resumed)), "{kinds:?}");
}

#[test]
fn connections_through_tls_are_kept_like_others() {
    let certificates = Certificates::new();
    let secured = Secured::new(&certificates, "a");
    let tls = format!("{}, name = \"a.test\"", trusting(&certificates, "a.crt"));
    let (_running, door) = over(secured.backend.address, &tls);
    let mut client = Client::connect(door);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.get(path).text(), format!("GET {path} HTTP/1.1"));
    }
    assert_eq!(secured.seen().len(), 1);
}

#[test]
fn a_backend_that_speaks_in_clear_is_a_bad_answer_and_never_shown() {
    // THREATS 1.4: plaintext from the upstream before the handshake (CVE-2026-1642).
    let backend = Backend::serving(|mut stream| {
        stream.write_all(&ok(b"injected"))?;
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    });
    let (running, door) = over(backend.address, "verify = \"off\"");
    let mut client = Client::connect(door);
    let answer = client.get("/");
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("injected"));
    drop(client);
    until_ended(&running, Why::ClientFinished, 1);
}

#[test]
fn a_backend_that_never_answers_a_handshake_is_given_up_in_time() {
    let backend = Backend::serving(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    });
    let upstream = "retries = 0\nconnect-timeout = \"300ms\"\ntls = { verify = \"off\" }";
    let (_running, door) = serve(&config(&[backend.address], upstream, ""));
    assert_eq!(status(door), 504);
}

#[test]
fn another_backend_is_tried_when_one_cannot_prove_who_it_is() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let (good, bad) = (Secured::new(&certificates, "a"), Secured::new(&certificates, "b"));
    let upstream = format!(
        "balance = \"first\"\ntls = {{ {}, name = \"a.test\" }}",
        trusting(&certificates, "a.crt")
    );
    let both = [bad.backend.address, good.backend.address];
    let (running, door) = serve(&config(&both, &upstream, ""));
    assert_eq!(status(door), 200);
    let failures = running.backends()[0].failures;
    assert_eq!(failures, 1, "it counts against the one");
    assert_eq!(bad.seen(), []);
}

#[test]
fn checks_go_through_the_same_handshake() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let (good, bad) = (Secured::new(&certificates, "a"), Secured::new(&certificates, "b"));
    let upstream = format!(
        "health = {{ http = \"/ok\", every = \"50ms\", fall = 1, rise = 1 }}\ntls = {{ {}, name = \"a.test\" }}",
        trusting(&certificates, "a.crt")
    );
    let both = [good.backend.address, bad.backend.address];
    let (running, _) = serve(&config(&both, &upstream, ""));
    until_state(&running, bad.backend.address, "unhealthy");
    until_state(&running, good.backend.address, "healthy");
    assert!(good.seen().iter().all(|seen| seen.name.as_deref() == Some("a.test")));
}

#[test]
fn bytes_of_tcp_listeners_go_to_backends_through_tls_too() {
    let certificates = Certificates::new();
    let secured = Secured::new(&certificates, "a");
    let pair = certificates.pair();
    let text = format!(
        "[upstream.app]\nbackends = [\"{}\"]\n\
         tls = {{ {}, name = \"a.test\" }}\n\
         [tcp.plain]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n\
         [tcp.secure]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\ntls = {{ {pair} }}\n",
        secured.backend.address,
        trusting(&certificates, "a.crt")
    );
    let running = start(&text);
    let mut plain = client::connect(running.addresses("plain")[0]);
    plain.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(line(&mut plain).trim(), "HTTP/1.1 200 OK");
    let mut secure = certificates.client(running.addresses("secure")[0]);
    assert_eq!(secure.get("/y").text(), "GET /y HTTP/1.1");
    assert_eq!(secured.seen().len(), 2);
}

#[test]
fn http2_is_agreed_on_with_backends_or_nothing_is() {
    let certificates = Certificates::new();
    let pair = certificates.pair();
    let backend = |versions: &str| {
        start(&format!(
            "[http.web]\nlisten = \"127.0.0.1:0\"\nhttp = [{versions}]\ntls = {{ {pair} }}\n\
             route = [{{ reply = {{ status = 200, body = \"hello\" }} }}]\n"
        ))
    };
    for (versions, expected) in [("\"2\"", 200), ("\"1.1\", \"2\"", 200), ("\"1.1\"", 502)] {
        let running = backend(versions);
        let upstream = format!(
            "retries = 0\nh2 = true\ntls = {{ {}, name = \"a.test\" }}",
            trusting(&certificates, "a.crt")
        );
        let (_running, door) = serve(&config(&[running.addresses("web")[0]], &upstream, ""));
        assert_eq!(status(door), expected, "{versions}");
    }
}

#[test]
fn what_cannot_be_verified_is_refused_before_start() {
    let certificates = Certificates::new();
    fs::write(certificates.path("empty.crt"), "").unwrap();
    for (backend, tls, what) in [
        ("127.0.0.1:1", "ca = [\"missing.crt\"]", "cannot be read"),
        ("127.0.0.1:1", "ca = [\"empty.crt\"]", "there is no certificate in"),
        ("127.0.0.1:1", "ca = [\"a.crt\"], verify = \"off\"", "does nothing beside verify"),
        ("127.0.0.1:1", "certificate = \"a.crt\"", "this certificate has no key"),
        ("127.0.0.1:1", "name = \"a b\"", "is no name that a certificate could have"),
        ("unix:/run/app.sock", "ca = [\"a.crt\"]", "has no name that could be verified"),
    ] {
        let text = format!(
            "[upstream.app]\nbackends = [\"{backend}\"]\ntls = {{ {tls} }}\n\
             [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n"
        );
        fs::write(certificates.path("evenkeel.toml"), text).unwrap();
        let folder = certificates.folder.path();
        let output = crate::support::program::once(&["check", "-c", "evenkeel.toml"], folder);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success() && said.contains(what), "{tls}: {said}");
    }
}

#[test]
fn a_new_authority_is_trusted_without_a_restart() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["a.test"]);
    let secured = Secured::new(&certificates, "a");
    fs::copy(certificates.path("b.crt"), certificates.path("ca.crt")).unwrap();
    let tls = format!("{}, name = \"a.test\"", trusting(&certificates, "ca.crt"));
    let (_running, door) = over(secured.backend.address, &tls);
    assert_eq!(status(door), 502);
    fs::copy(certificates.path("a.crt"), certificates.path("ca.crt")).unwrap();
    until("it is trusted", || status(door) == 200);
}

#[test]
fn an_answer_without_length_that_is_cut_off_never_looks_whole() {
    let certificates = Certificates::new();
    for says_so in [true, false] {
        let read = |end: &str| fs::read(certificates.path(&format!("a.{end}"))).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&read("crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read("key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let server = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let backend = Backend::serving(move |socket| {
            let session = ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(session, socket));
            read_request(&mut stream)?;
            let stream = stream.get_mut();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it?")?;
            if says_so {
                stream.conn.send_close_notify();
            }
            stream.flush()
        });
        let tls = format!("{}, name = \"a.test\"", trusting(&certificates, "a.crt"));
        let (_running, door) = over(backend.address, &tls);
        let answer = Client::connect(door)
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .try_answer(false)
            .map(|answer| answer.text());
        assert_eq!(answer.ok().as_deref(), says_so.then_some("all of it?"), "{says_so}");
    }
}
