//! Certificates by ACME, from a real authority: got, used and renewed without anybody's hand, and never asked for too often.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::authority::Authority;
use crate::support::backend::Backend;
use crate::support::http::{Client, read_request};
use crate::support::pebble::Pebble;
use crate::support::program::{BINARY, Program};
use crate::support::servers::{free_address, run};
use crate::support::tls::{Certificates, connect, shown, try_connect};
use crate::support::{until, until_within};

/// Issuing takes a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const QUIET: &str = "[log]\naccess = \"off\"\n";

/// Takes whatever it is shown, to look at it.
#[derive(Debug)]
struct Curious;

impl ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn curious() -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Curious));
    Arc::new(builder.with_no_client_auth())
}

/// Who vouches for what a name is shown.
fn issuer(door: SocketAddr, name: &str) -> String {
    let shown = shown(&connect(door, name, curious()));
    let (_, parsed) = X509Certificate::from_der(&shown).unwrap();
    parsed.issuer().to_string()
}

fn until_issued(door: SocketAddr, name: &str) {
    until_within(PATIENCE, "the authority has issued", || issuer(door, name).contains("Pebble"));
}

fn listener(name: &str, at: SocketAddr, tls: &str) -> String {
    format!("[http.{name}]\nlisten = \"{at}\"\nroute = [{{ reply = 204 }}]\n{tls}\n")
}

#[test]
fn one_port_has_names_by_file_by_acme_and_for_certified_clients() {
    let certificates = Certificates::new();
    let authority = Authority::new("clients");
    let (ca, mut more) = (certificates.path("ca.crt"), Certificates::new());
    fs::write(&ca, authority.certificate.pem()).unwrap();
    more.add("c", &["c.test"]);
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let state = certificates.path("acme");
    let text = format!(
        "[http.web.tls]\n{}\n[[http.web.tls.certificates]]\n{}\n\
         [[http.web.tls.certificates]]\ncertificate = \"{}\"\nkey = \"{}\"\nclient-ca = [\"{}\"]\n",
        certificates.pair().replace(", ", "\n"),
        pebble.acme("\"b.test\"", &state, ""),
        more.path("c.crt").display(),
        more.path("c.key").display(),
        ca.display(),
    );
    // Another port passes TLS through by name to this one.
    let front = format!(
        "[upstream.web]\nbackends = [\"{tls}\"]\n[tcp.front]\nlisten = \"127.0.0.1:0\"\n\
         route = [{{ sni = [\"b.test\"], upstream = \"web\" }}]\n"
    );
    let program = Program::run(&format!("{}{text}{front}{QUIET}", listener("web", tls, "")));
    assert!(!issuer(tls, "a.test").contains("Pebble"));
    until_issued(tls, "b.test");
    until_issued(program.address("front"), "b.test");
    assert_eq!(certificates.client(tls).get("/").status, 204);
    let somebody = authority.issue("x").shown_by(&curious());
    let status = |client: Arc<ClientConfig>| {
        let mut client = try_connect(tls, "c.test", client).ok()?;
        client.send("GET / HTTP/1.1\r\nHost: c.test\r\n\r\n");
        client.try_answer(false).ok().map(|answer| answer.status)
    };
    assert_eq!(status(somebody), Some(204));
    assert_eq!(status(curious()), None);
    // Nobody else may read what is kept, and no answer is left lying about.
    let state = state.join(format!("localhost_{}", pebble.address.port()));
    for file in ["b.test.pem", "account.json", "."] {
        let mode = fs::metadata(state.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
    until("answers are taken away", || {
        fs::read_dir(state.join("challenges")).unwrap().count() == 0
    });
}

#[test]
fn a_stand_in_serves_until_the_first_one_comes_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let acme = pebble.acme(
        "\"a.test\", \"www.a.test\"",
        &folder.path().join("acme"),
        ", challenge = \"http-01\"",
    );
    let text =
        listener("plain", http, "") + &listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET;
    let _program = Program::run(&text);
    // Whoever comes first is served all the same.
    let mut early = connect(tls, "a.test", curious());
    assert_eq!(early.get("/").status, 204);
    until_issued(tls, "www.a.test");
    assert_eq!(early.get("/").status, 204);
    // Other paths, and tokens that were never given, go where they always went.
    let mut client = Client::connect(http);
    assert_eq!(client.get("/.well-known/acme-challenge/other").status, 204);
}

#[test]
fn a_wildcard_is_proved_by_a_record_that_a_program_makes() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let hook = pebble.dns_hook();
    let more = format!(
        ", challenge = \"dns-01\", dns-hook = \"{}\", dns-delay = \"100ms\"",
        hook.display()
    );
    let acme = pebble.acme("\"*.a.test\"", &folder.path().join("acme"), &more);
    let text = listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET;
    let _program = Program::run(&text);
    until_issued(tls, "x.a.test");
    let log = fs::read_to_string(hook.with_extension("sh.log")).unwrap();
    assert!(log.starts_with("set a.test ") && log.contains("\nclear a.test "), "{log}");
}

/// A hook that says how many descriptors it may open, once that is what it waits for, and then goes on as another one.
fn counting(folder: &Path, hook: &Path) -> PathBuf {
    let path = folder.join("counting.sh");
    let script = format!(
        "#!/bin/sh\nfor try in $(seq 300); do [ $(ulimit -Sn) = 700 ] && break; sleep 0.01; done\n\
         ulimit -Sn >>\"$0.log\"\nexec {} \"$@\"\n",
        hook.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_program_of_the_operators_has_the_descriptors_that_we_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let hook = counting(folder.path(), &pebble.dns_hook());
    let more = format!(
        ", challenge = \"dns-01\", dns-hook = \"{}\", dns-delay = \"100ms\"",
        hook.display()
    );
    let acme = pebble.acme("\"*.a.test\"", &folder.path().join("acme"), &more);
    let text = listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET;
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("sh");
    let script = "ulimit -Sn 700; exec \"$0\" run -c \"$1\"";
    command.args(["-c", script, BINARY]).arg(&file);
    let program = Program::spawn(command, tempfile::tempdir().unwrap());
    program.until_said("listening on ");
    until_issued(tls, "x.a.test");
    let limits = fs::read_to_string(hook.with_extension("sh.log")).unwrap();
    assert!(limits.lines().count() >= 2 && limits.lines().all(|line| line == "700"), "{limits}");
    let ours = fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let ours = ours.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_ne!(ours.split_whitespace().nth(3), Some("700"), "ours is raised: {ours}");
}

#[test]
fn nodes_that_share_a_folder_get_one_certificate_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls, other) = (free_address(), free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let acme = pebble.acme("\"a.test\"", &folder.path().join("acme"), "");
    let node = |at| Program::run(&(listener("web", at, &format!("tls = {{ {acme} }}")) + QUIET));
    let (_one, _other) = (node(tls), node(other));
    until_issued(tls, "a.test");
    until_issued(other, "a.test");
    let certificate = |at| shown(&connect(at, "a.test", curious()));
    until("both show the same", || certificate(tls) == certificate(other));
}

#[test]
fn an_authority_that_cannot_be_reached_is_left_alone_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let state = folder.path().join("acme");
    let port = free_address().port();
    let nobody = format!("https://localhost:{port}");
    let acme = pebble.acme_at(&nobody, "\"a.test\"", &state, "");
    let text = listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET;
    let program = Program::run(&text);
    program.until_said("acme: no new certificate for a.test: make an account: ");
    program.until_said("the next try is in 900s");
    let mut client = connect(tls, "a.test", curious());
    assert_eq!(client.get("/").status, 204);
    drop(program);
    assert_eq!(
        fs::read_to_string(state.join(format!("localhost_{port}/a.test.failures"))).unwrap(),
        "1"
    );
    let program = Program::run(&text);
    let mut client = connect(tls, "a.test", curious());
    assert_eq!(client.get("/").status, 204);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!program.diagnostics().contains("acme:"), "{}", program.diagnostics());
}

#[test]
fn a_name_that_is_not_ours_is_refused_with_the_authority_s_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    // The authority looks at a port where nobody is, nor comes to be meanwhile.
    let elsewhere = "127.0.0.1:1".parse().unwrap();
    let pebble = Pebble::looking_at(http, elsewhere);
    let acme = pebble.acme("\"a.test\"", &folder.path().join("acme"), "");
    let program = Program::run(&(listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET));
    until_within(PATIENCE, "it is refused", || {
        program.diagnostics().contains("prove that the names are ours")
    });
    let said = program.diagnostics();
    assert!(said.contains("Failed to connect to 127.0.0.1"), "{said}");
}

/// In front of Pebble: the same with renewal information (RFC 9773), which Debian's does not know. Every certificate is
/// to be renewed at once.
fn hurrying(pebble: &Pebble, replaced: Arc<std::sync::Mutex<Vec<String>>>) -> Backend {
    let read = |file: &str| fs::read(pebble.folder.path().join(file)).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("pebble.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("pebble.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let to = pebble.address;
    Backend::serving_at("127.0.0.1:0".parse().unwrap(), move |socket| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut client = BufReader::new(StreamOwned::new(session, socket));
        while let Ok(asked) = read_request(&mut client) {
            let host = asked.field("host").unwrap_or_default().to_owned();
            let target = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
            if target.starts_with("/renewal/") {
                let body = r#"{"suggestedWindow":{"start":"2024-01-01T00:00:00Z","end":"2024-01-02T00:00:00Z"}}"#;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nRetry-After: 60\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.get_mut().write_all(head.as_bytes())?;
                continue;
            }
            let name = "localhost".to_owned().try_into().unwrap();
            let session = ClientConnection::new(curious(), name).unwrap();
            let stream = StreamOwned::new(session, TcpStream::connect(to)?);
            let mut pebble = Client { stream: BufReader::new(stream) };
            let mut head = format!("{}\r\n", asked.line);
            for (name, value) in &asked.fields {
                head += &format!("{name}: {value}\r\n");
            }
            pebble.send(head + "\r\n").send(&asked.body);
            let mut answer = pebble.try_answer(asked.line.starts_with("HEAD"))?;
            let mut text = String::from_utf8_lossy(&answer.body).into_owned();
            if target == "/dir" {
                text = text.replacen(
                    '{',
                    &format!("{{\"renewalInfo\":\"https://{host}/renewal\","),
                    1,
                );
            } else if answer.status == 201
                && let Some(id) = replaces(&asked.body)
            {
                // Pebble refuses some nonces on purpose, so that an order may come twice.
                text = text.replacen('{', &format!("{{\"replaces\":\"{id}\","), 1);
                replaced.lock().unwrap().push(id);
            }
            answer.body = text.into_bytes();
            let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
            for (name, value) in &answer.fields {
                if name != "content-length" && name != "transfer-encoding" {
                    head += &format!("{name}: {value}\r\n");
                }
            }
            head += &format!("content-length: {}\r\n\r\n", answer.body.len());
            client.get_mut().write_all(&[head.as_bytes(), &answer.body].concat())?;
        }
        Ok(())
    })
}

/// The certificate that an order says it replaces.
fn replaces(body: &[u8]) -> Option<String> {
    use base64::Engine;
    let jws: serde_json::Value = serde_json::from_slice(body).ok()?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jws["payload"].as_str()?);
    let payload: serde_json::Value = serde_json::from_slice(&payload.ok()?).ok()?;
    payload["replaces"].as_str().map(str::to_owned)
}

#[test]
fn a_certificate_is_renewed_when_its_authority_suggests_it() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let replaced = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hurrying = hurrying(&pebble, Arc::clone(&replaced));
    let at = format!("https://localhost:{}", hurrying.address.port());
    let state = folder.path().join("acme");
    let acme = pebble.acme_at(&at, "\"a.test\"", &state, "");
    let text = listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET;
    let program = Program::run(&text);
    until_issued(tls, "a.test");
    let first = shown(&connect(tls, "a.test", curious()));
    drop(program);
    // What is an hour old may be renewed.
    age(&state.join(format!("localhost_{}/a.test.pem", hurrying.address.port())));
    let program = Program::run(&text);
    until_within(PATIENCE, "it is renewed", || {
        try_connect(tls, "a.test", curious()).is_ok_and(|client| shown(&client) != first)
    });
    assert_eq!(replaced.lock().unwrap().len(), 1);
    drop(program);
}

fn age(file: &Path) {
    let mut touch = Command::new("touch");
    run(touch.args(["-d", "2 hours ago"]).arg(file), Duration::from_secs(9));
}

#[test]
fn a_certificate_that_was_got_is_shown_on_when_its_folder_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let (http, tls) = (free_address(), free_address());
    let pebble = Pebble::looking_at(http, tls);
    let state = folder.path().join("acme");
    let acme = pebble.acme("\"a.test\"", &state, "");
    let program = Program::run(&(listener("web", tls, &format!("tls = {{ {acme} }}")) + QUIET));
    until_issued(tls, "a.test");
    fs::rename(&state, folder.path().join("elsewhere")).unwrap();
    program.until_said("a certificate that ACME had got is gone or damaged");
    assert!(issuer(tls, "a.test").contains("Pebble"));
}

#[test]
fn what_cannot_be_got_is_refused_before_start() {
    let certificates = Certificates::new();
    for (acme, what) in [
        ("{ domains = [] }", "no name to get a certificate for"),
        ("{ domains = [\"*.a.test\"] }", "only dns-01 can show that a wildcard is yours"),
        ("{ domains = [\"192.0.2.1\"] }", "is no name of a host"),
        ("{ domains = [\"a.test\"], contact = [\"me\"] }", "is no way to reach you"),
        ("{ domains = [\"a.test\"], directory = \"http://x\" }", "begins with https://"),
        ("{ domains = [\"a.test\"], challenge = \"dns-01\" }", "nobody would make the record"),
        ("{ domains = [\"a.test\"], dns-hook = \"x\" }", "only dns-01 needs this"),
        ("{ domains = [\"a.test\"], directory-ca = \"x\" }", "cannot be read"),
    ] {
        let text = listener("web", "127.0.0.1:0".parse().unwrap(), &format!("tls.acme = {acme}"));
        fs::write(certificates.path("evenkeel.toml"), text).unwrap();
        let folder = certificates.folder.path();
        let output = crate::support::program::once(&["check", "-c", "evenkeel.toml"], folder);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && said.contains(what), "{acme}: {said}");
    }
}
