//! Certificates of clients: who is let in, who is not, and that no way around leads to a name that asks for more.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel::{Running, Why};
use rcgen::{SanType, SerialNumber, date_time_ymd};
use rustls::{ClientConfig, HandshakeKind};

use crate::support::authority::{Authority, Issued};
use crate::support::http::{Recorder, config, ok, serve};
use crate::support::program::Program;
use crate::support::tls::{Certificates, connect, try_connect};
use crate::support::until_ended;

/// A listener for `a.test`, with an authority of clients in `ca.crt`.
pub(crate) struct Scene {
    pub(crate) certificates: Certificates,
    pub(crate) authority: Authority,
    recorder: Recorder,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let certificates = Certificates::new();
        let authority = Authority::new("clients");
        fs::write(certificates.path("ca.crt"), authority.certificate.pem()).unwrap();
        Scene { certificates, authority, recorder: Recorder::answering(|_| ok(b"hello")) }
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.certificates.path(file);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn ca(&self) -> String {
        format!("client-ca = [\"{}\"]", self.certificates.path("ca.crt").display())
    }

    /// The lines of a config whose clients must be as `demand` says.
    pub(crate) fn config(&self, demand: &str, listener: &str) -> String {
        let pair = self.certificates.pair();
        let listener = format!("tls = {{ {pair}, {demand} }}\n{listener}");
        config(&[self.recorder.address()], "", &listener)
    }

    pub(crate) fn serve(&self, demand: &str, listener: &str) -> (Running, SocketAddr) {
        serve(&self.config(demand, listener))
    }

    pub(crate) fn nobody(&self) -> Arc<ClientConfig> {
        self.certificates.trusted(&["http/1.1"])
    }

    pub(crate) fn somebody(&self, issued: &Issued) -> Arc<ClientConfig> {
        issued.shown_by(&self.nobody())
    }
}

/// The status of a request as this client; none where it is not let in.
pub(crate) fn asked(door: SocketAddr, client: &Arc<ClientConfig>) -> Option<u16> {
    asked_as(door, "a.test", client)
}

fn asked_as(door: SocketAddr, name: &str, client: &Arc<ClientConfig>) -> Option<u16> {
    let mut client = try_connect(door, name, Arc::clone(client)).ok()?;
    client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"));
    // In TLS 1.3 a client learns with the first answer that its certificate is not taken.
    client.try_answer(false).ok().map(|answer| answer.status)
}

#[test]
fn who_must_show_a_certificate_of_a_named_authority_is_let_in_with_no_other() {
    let scene = Scene::new();
    let other = Authority::new("clients");
    let good = scene.authority.issue("good");
    for demand in [scene.ca(), format!("{}, client-auth = \"required\"", scene.ca())] {
        let (running, door) = scene.serve(&demand, "");
        assert_eq!(asked(door, &scene.somebody(&good)), Some(200));
        assert_eq!(asked(door, &scene.nobody()), None, "without one");
        assert_eq!(asked(door, &scene.somebody(&other.issue("x"))), None, "of another authority");
        let alone = Issued::alone("x", |_| {});
        assert_eq!(asked(door, &scene.somebody(&alone)), None, "that vouches for itself");
        until_ended(&running, Why::TlsFailed, 3);
    }
    assert_eq!(scene.recorder.requests().len(), 2);
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let scene = Scene::new();
    let (running, door) = scene.serve(&scene.ca(), "");
    let over = scene.authority.issue_with("x", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = scene.authority.issue_with("x", |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    assert_eq!(asked(door, &scene.somebody(&over)), None);
    assert_eq!(asked(door, &scene.somebody(&early)), None);
    until_ended(&running, Why::TlsFailed, 2);
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let scene = Scene::new();
    let demand = format!("{}, client-auth = \"optional\"", scene.ca());
    let (_running, door) = scene.serve(&demand, "");
    assert_eq!(asked(door, &scene.nobody()), Some(200));
    assert_eq!(asked(door, &scene.somebody(&scene.authority.issue("x"))), Some(200));
    let wrong = Authority::new("others").issue("x");
    assert_eq!(asked(door, &scene.somebody(&wrong)), None);
}

#[test]
fn a_revoked_certificate_is_refused_and_so_is_everyone_when_the_list_is_too_old() {
    let scene = Scene::new();
    let number = |serial: u64| {
        scene.authority.issue_with("x", |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        })
    };
    let (revoked, good) = (number(7), number(8));
    for (year, expected) in [(2090, Some(200)), (2024, None)] {
        let list = scene.write("list.crl", scene.authority.revoke(&[7], year));
        let demand = format!("{}, client-crl = [\"{list}\"]", scene.ca());
        let (_running, door) = scene.serve(&demand, "");
        assert_eq!(asked(door, &scene.somebody(&revoked)), None);
        assert_eq!(asked(door, &scene.somebody(&good)), expected, "a list to {year}");
    }
    // A list of somebody else says nothing about ours.
    let list = scene.write("list.crl", Authority::new("others").revoke(&[], 2090));
    let (_running, door) = scene.serve(&format!("{}, client-crl = [\"{list}\"]", scene.ca()), "");
    assert_eq!(asked(door, &scene.somebody(&good)), None);
}

#[test]
fn no_more_authorities_may_stand_in_between_than_allowed() {
    let scene = Scene::new();
    let middle = scene.authority.below("middle");
    let lower = middle.below("lower");
    let near = middle.issue("near").with(&middle);
    let far = lower.issue("far").with(&lower).with(&middle);
    for (depth, near_in, far_in) in
        [(0, None, None), (1, Some(200), None), (2, Some(200), Some(200))]
    {
        let (_running, door) = scene.serve(&format!("{}, verify-depth = {depth}", scene.ca()), "");
        assert_eq!(asked(door, &scene.somebody(&near)), near_in, "depth {depth}");
        assert_eq!(asked(door, &scene.somebody(&far)), far_in, "depth {depth}");
    }
}

#[test]
fn a_certificate_is_taken_for_itself_when_it_is_pinned() {
    let scene = Scene::new();
    let (pinned, other) = (Issued::alone("x", |_| {}), Issued::alone("x", |_| {}));
    let over = Issued::alone("x", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let prints = [&pinned, &over].map(|one| format!("\"{}\"", one.fingerprint())).join(", ");
    let (_running, door) = scene.serve(&format!("client-fingerprints = [{prints}]"), "");
    assert_eq!(asked(door, &scene.somebody(&pinned)), Some(200));
    assert_eq!(asked(door, &scene.somebody(&other)), None);
    assert_eq!(asked(door, &scene.somebody(&over)), None);
    assert_eq!(asked(door, &scene.nobody()), None);
}

#[test]
fn any_certificate_that_vouches_for_itself_is_taken_where_that_is_spelled_out_and_warned_of() {
    let scene = Scene::new();
    let demand = "client-self-signed = true";
    let (_running, door) = scene.serve(demand, "");
    assert_eq!(asked(door, &scene.somebody(&Issued::alone("x", |_| {}))), Some(200));
    let with_issuer = Authority::new("others").issue("x");
    assert_eq!(asked(door, &scene.somebody(&with_issuer)), None);
    assert_eq!(asked(door, &scene.nobody()), None);
    let program = Program::run(&format!("{}\n[log]\naccess = \"off\"\n", scene.config(demand, "")));
    program.until_said("anybody can make one");
}

/// Two names on one listener: `a.test` for anybody, and `b.test` for those who show a certificate.
fn two_names(scene: &mut Scene) -> (Running, SocketAddr) {
    scene.certificates.add("b", &["b.test", "*.b.test"]);
    let (certificate, key) = (scene.certificates.path("b.crt"), scene.certificates.path("b.key"));
    let (certificate, key) = (certificate.display(), key.display());
    let more = format!(
        "certificates = [{{ certificate = \"{certificate}\", key = \"{key}\", {} }}]",
        scene.ca()
    );
    scene.serve(&more, "")
}

#[test]
fn a_session_of_an_open_name_is_not_gone_on_with_under_a_name_that_asks_for_more() {
    // THREATS 1.4: session ticket resumed on a stricter virtual host (CVE-2025-23419).
    let mut scene = Scene::new();
    let (_running, door) = two_names(&mut scene);
    let open = scene.nobody();
    let mut first = connect(door, "a.test", Arc::clone(&open));
    assert_eq!(first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().status, 200);
    let again = connect(door, "a.test", Arc::clone(&open));
    assert_eq!(again.stream.get_ref().conn.handshake_kind(), Some(HandshakeKind::Resumed));
    // The same store of sessions, asked for the other name: what it has for the first is offered for the second.
    for version in ["-tls1_2", "-tls1_3"] {
        let session = scene.certificates.path("session");
        let resumed = |name: &str, more: &[&str]| {
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["s_client", version, "-connect", &door.to_string(), "-servername", name]);
            openssl.arg("-CAfile").arg(scene.certificates.path("a.crt")).args(more);
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            crate::support::servers::fed(&mut openssl, request.as_bytes())
        };
        let path = session.display().to_string();
        let first = resumed("a.test", &["-sess_out", &path, "-ign_eof"]);
        assert!(first.contains("HTTP/1.1 200"), "{first}");
        let same = resumed("a.test", &["-sess_in", &path, "-ign_eof"]);
        assert!(same.contains("Reused, TLS") && same.contains("HTTP/1.1 200"), "{same}");
        let other = resumed("b.test", &["-sess_in", &path, "-ign_eof"]);
        assert!(!other.contains("Reused, TLS") && !other.contains("HTTP/1.1 200"), "{other}");
    }
}

#[test]
fn a_request_for_a_host_that_asks_for_more_is_misdirected_however_it_is_spelled() {
    // THREATS 1.4: SNI / Host mismatch (CVE-2026-48491, CVE-2022-23632).
    let mut scene = Scene::new();
    let (running, door) = two_names(&mut scene);
    let spellings = [
        "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: B.TEST\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b.test.\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x.b.test\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
    ];
    let mut client = connect(door, "a.test", scene.nobody());
    for spelling in spellings {
        assert_eq!(client.send(spelling).answer().status, 421, "{spelling}");
        // It goes on: the same connection is good for the name that it was opened for.
        let fine = client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer();
        assert_eq!(fine.status, 200);
    }
    assert_eq!(scene.recorder.requests().len(), spellings.len());
    let good = scene.somebody(&scene.authority.issue("good"));
    let mut client = connect(door, "x.b.test", good);
    assert_eq!(client.send(spellings[0]).answer().status, 200);
    // What one name lets in is not good for another.
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().status, 421);
    drop(client);
    until_ended(&running, Why::ClientFinished, 1);
}

#[test]
fn streams_of_http2_are_held_to_the_name_of_their_connection_too() {
    let mut scene = Scene::new();
    let (_running, door) = two_names(&mut scene);
    let curl = |host: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-q",
            "-sS",
            "--http2",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
        ]);
        curl.arg("--cacert").arg(scene.certificates.path("a.crt"));
        curl.args(["--resolve", &format!("a.test:{}:{}", door.port(), door.ip())]);
        curl.args(["-w", "%{http_version} %{http_code}", "-H", &format!("Host: {host}")]);
        curl.arg(format!("https://a.test:{}/", door.port()));
        crate::support::servers::run(&mut curl, std::time::Duration::from_secs(30))
    };
    assert_eq!(curl("a.test"), "2 200");
    assert_eq!(curl("b.test"), "2 421");
}

#[test]
fn routes_headers_and_the_log_know_who_has_come() {
    let scene = Scene::new();
    let listener = r#"
[[http.web.route]]
client-certificate = { name = ["*.devices.test"], subject = ["CN=device-1"] }
reply = { status = 200, body = "device" }
[[http.web.route]]
client-certificate = { issuer = ["CN=clients"] }
upstream = "app"
request-headers = { set = { X-Subject = "{client.subject}", X-Issuer = "{client.issuer}", X-Print = "{client.fingerprint}", X-Names = "{client.names}" } }
[[http.web.route]]
reply = { status = 403 }
"#;
    let demand = format!("{}, client-auth = \"optional\"", scene.ca());
    let log = "[log]\naccess-format = \"{client.subject}|{client.fingerprint}|{client.names}|{status}\"\n";
    let whole = scene.config(&demand, listener).replace("upstream = \"app\"\ntls", "tls");
    let program = Program::run(&format!("{whole}\n{log}"));
    let door = program.address("web");
    let device = scene.authority.issue_with("device-1", |params| {
        params.subject_alt_names = vec![SanType::DnsName("x.devices.test".try_into().unwrap())];
    });
    let user = scene.authority.issue_with("user, x", |params| {
        params.subject_alt_names = vec![SanType::Rfc822Name("u@example.com".try_into().unwrap())];
    });
    let mut client = connect(door, "a.test", scene.somebody(&device));
    assert_eq!(client.get("/").text(), "device");
    let mut client = connect(door, "a.test", scene.somebody(&user));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Subject: CN=admin\r\nx_subject: CN=admin\r\n\r\n");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(asked(door, &scene.nobody()), Some(403));
    let seen = &scene.recorder.requests()[0];
    let subjects: Vec<_> =
        seen.fields.iter().filter(|(name, _)| name.replace('_', "-") == "x-subject").collect();
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    assert_eq!(seen.field("x-subject"), Some("CN=user\\, x"));
    assert_eq!(seen.field("x-issuer"), Some("CN=clients"));
    assert_eq!(seen.field("x-print"), Some(&*user.fingerprint()));
    assert_eq!(seen.field("x-names"), Some("u@example.com"));
    let lines = program.until_lines(3);
    assert_eq!(lines[0], format!("CN=device-1|{}|x.devices.test|200", device.fingerprint()));
    assert!(lines[1].starts_with("CN=user\\x5C, x|"), "{}", lines[1]);
    assert_eq!(lines[2], "-|-|-|403");
}

#[test]
fn a_name_that_a_new_certificate_lacks_is_not_opened_to_those_it_was_closed_to() {
    let mut scene = Scene::new();
    scene.certificates.add("b", &["b.test", "c.test"]);
    let (certificate, key) = (scene.certificates.path("b.crt"), scene.certificates.path("b.key"));
    let more = format!(
        "certificates = [{{ certificate = \"{}\", key = \"{}\", {} }}]",
        certificate.display(),
        key.display(),
        scene.ca()
    );
    let program = Program::run(&format!("{}\n[log]\naccess = \"off\"\n", scene.config(&more, "")));
    let door = program.address("web");
    assert_eq!(asked_as(door, "c.test", &scene.nobody()), None);
    scene.certificates.add("b", &["b.test"]);
    program.until_said("c.test is in no certificate any more");
    assert_eq!(asked_as(door, "c.test", &scene.nobody()), None);
}

#[test]
fn what_would_let_clients_in_without_their_certificates_is_refused_before_start() {
    let mut scene = Scene::new();
    scene.certificates.add("nameless", &[]);
    let nameless = ["crt", "key"].map(|end| scene.certificates.path(&format!("nameless.{end}")));
    let nameless = format!(
        "certificates = [{{ certificate = \"{}\", key = \"{}\", {} }}]",
        nameless[0].display(),
        nameless[1].display(),
        scene.ca()
    );
    for (demand, what) in [
        (format!("{}, allow-plain = true", scene.ca()), "clients would be served that show no"),
        (nameless, "no name of a host stands in one"),
    ] {
        let file = scene.write("evenkeel.toml", scene.config(&demand, ""));
        let folder = scene.certificates.folder.path();
        let output = crate::support::program::once(&["check", "-c", &file], folder);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && said.contains(what), "{demand}: {said}");
    }
}
