//! Certificates, keys and what else TLS reads from files: taken anew when they change, kept when the new ones are bad.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::SerialNumber;
use rustix::process::Signal;
use rustls::{ClientConfig, HandshakeKind};

use crate::support::authority::Authority;
use crate::support::program::Program;
use crate::support::servers::{fed, run};
use crate::support::tls::{connect, shown, try_connect};
use crate::support::{until, until_within};
use crate::tls_clients::{Scene, asked};

const QUIET: &str = "\n[log]\naccess = \"off\"\n";

/// Whether a client that comes back goes on with its session.
fn goes_on(door: SocketAddr, client: &Arc<ClientConfig>) -> bool {
    let mut client = connect(door, "a.test", Arc::clone(client));
    let kind = client.stream.get_ref().conn.handshake_kind();
    // With the answer come the tickets.
    assert_eq!(client.get("/").status, 200);
    kind == Some(HandshakeKind::Resumed)
}

#[test]
fn a_new_certificate_is_shown_by_itself_and_a_bad_one_leaves_the_old_one() {
    let mut scene = Scene::new();
    let program = Program::run(&(scene.config("handshakes-max = 100", "") + QUIET));
    let door = program.address("web");
    let seen = |scene: &Scene| shown(&connect(door, "a.test", scene.nobody()));
    let first = seen(&scene);
    let mut open = scene.certificates.client(door);
    assert_eq!(open.get("/").status, 200);

    fs::write(scene.certificates.path("a.key"), "no key").unwrap();
    program.until_said("there is no private key");
    program.until_said("what served before goes on serving");
    assert_eq!(seen(&scene), first);

    scene.certificates.add("a", &["a.test"]);
    until("the new certificate is shown", || {
        try_connect(door, "a.test", scene.nobody()).is_ok_and(|client| shown(&client) != first)
    });
    assert_eq!(open.get("/").status, 200, "an open connection goes on");
    let said = program.diagnostics();
    assert_eq!(said.matches("what served before").count(), 1, "once is enough:\n{said}");
}

#[test]
fn a_command_reads_files_anew_at_once() {
    let scene = Scene::new();
    let program = Program::run(&(scene.config("handshakes-max = 100", "") + QUIET));
    program.signal(Signal::HUP);
    program.until_said("[http.web] tls: certificates and keys were read anew");
    assert_eq!(asked(program.address("web"), &scene.nobody()), Some(200));
}

#[test]
fn a_changed_authority_or_list_voids_the_tickets_of_clients() {
    let scene = Scene::new();
    let list = scene.write("list.crl", scene.authority.revoke(&[], 2090));
    let demand = format!("{}, client-crl = [\"{list}\"]", scene.ca());
    let program = Program::run(&(scene.config(&demand, "") + QUIET));
    let door = program.address("web");
    let numbered = scene.authority.issue_with("x", |params| {
        params.serial_number = Some(SerialNumber::from(7));
    });
    let client = scene.somebody(&numbered);
    assert!(!goes_on(door, &client));
    assert!(goes_on(door, &client));
    // An authority more: nobody is shut out, and all begin anew.
    let both = scene.authority.certificate.pem() + &Authority::new("more").certificate.pem();
    scene.write("ca.crt", both);
    program.signal(Signal::HUP);
    program.until_said("were read anew");
    assert!(!goes_on(door, &client));
    assert!(goes_on(door, &client));
    scene.write("list.crl", scene.authority.revoke(&[7], 2090));
    until("the revoked one is shut out", || asked(door, &client).is_none());
}

#[test]
fn a_reload_without_its_authority_is_refused_and_demands_as_much_as_before() {
    // THREATS 1.4: mTLS fails open when the CA file is bad (CVE-2026-27586).
    let scene = Scene::new();
    let program = Program::run(&(scene.config(&scene.ca(), "") + QUIET));
    let door = program.address("web");
    let good = scene.somebody(&scene.authority.issue("good"));
    for bad in [Some(""), Some("garbage"), None] {
        match bad {
            Some(text) => drop(scene.write("ca.crt", text)),
            None => fs::remove_file(scene.certificates.path("ca.crt")).unwrap(),
        }
        let before = program.diagnostics().matches("goes on serving").count();
        program.signal(Signal::HUP);
        until("it is refused", || {
            program.diagnostics().matches("goes on serving").count() > before
        });
        assert_eq!(asked(door, &scene.nobody()), None, "{bad:?}");
        assert_eq!(asked(door, &good), Some(200), "{bad:?}");
    }
}

#[test]
fn nodes_that_share_a_file_of_ticket_keys_go_on_with_each_others_sessions() {
    let scene = Scene::new();
    let lines = |secrets: [u8; 3]| secrets.map(|byte| base64_of(&[byte; 48])).join("\n");
    let keys = scene.write("keys", lines([1, 2, 3]));
    let tls = format!("ticket-keys = \"{keys}\"");
    let program = Program::run(&(scene.config(&tls, "") + QUIET));
    let (first, (_other, second)) = (program.address("web"), scene.serve(&tls, ""));
    let client = scene.nobody();
    assert!(!goes_on(first, &client));
    assert!(goes_on(second, &client));
    assert!(goes_on(first, &client));
    // Keys that nobody knows any more open nothing.
    scene.write("keys", lines([7, 8, 9]));
    program.signal(Signal::HUP);
    program.until_said("were read anew");
    assert!(!goes_on(first, &client));
    assert!(goes_on(first, &client));
    let (_alone, apart) = scene.serve("handshakes-max = 100", "");
    assert!(!goes_on(apart, &client));
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// An authority that answers for the certificate of the server, which it has issued.
struct Answering<'s> {
    scene: &'s Scene,
}

impl Answering<'_> {
    fn new(scene: &Scene) -> Answering<'_> {
        let answering = Answering { scene };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        answering.openssl(&format!(
            "req -x509 {key} -days 9 -subj /CN=root -keyout root.key -out root.crt"
        ));
        let names = "-addext subjectAltName=DNS:a.test";
        answering.openssl(&format!("req {key} -subj /CN=a.test {names} -keyout a.key -out a.csr"));
        let by = "-CA root.crt -CAkey root.key -days 9 -set_serial 4660";
        answering.openssl(&format!("x509 -req -in a.csr {by} -copy_extensions copy -out a.crt"));
        answering
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(self.scene.certificates.folder.path());
        run(&mut command, Duration::from_secs(20));
    }

    /// Answers in `a.ocsp` for nine minutes.
    fn answer(&self, status: &str) {
        self.scene.write("index.txt", format!("{status}\t1234\tunknown\t/CN=a.test\n"));
        let signer = "-rsigner root.crt -rkey root.key -CA root.crt -issuer root.crt";
        self.openssl(&format!(
            "ocsp -index index.txt {signer} -serial 4660 -respout a.ocsp -nmin 9"
        ));
    }

    /// Makes the answer end in three seconds.
    fn end_soon(&self) {
        let path = self.scene.certificates.path("a.ocsp");
        let mut bytes = fs::read(&path).unwrap();
        let mut date = Command::new("date");
        let date = date.args(["-u", "-d", "+3 seconds", "+%Y%m%d%H%M%SZ"]);
        let soon = run(date, Duration::from_secs(9));
        // The last time in it says until when; its signature is for clients to check.
        let time = |at: &usize| bytes[*at..].starts_with(&[0x18, 15]);
        let last = (0..bytes.len() - 300).rev().find(time).unwrap();
        bytes[last + 2..last + 17].copy_from_slice(soon.trim().as_bytes());
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_ocsp_answer_is_shown_while_it_is_valid() {
    const GOOD: &str = "V\t351231235959Z\t";
    let scene = Scene::new();
    let answering = Answering::new(&scene);
    answering.answer(GOOD);
    let ocsp = scene.certificates.path("a.ocsp").display().to_string();
    let program = Program::run(&(scene.config(&format!("ocsp = \"{ocsp}\""), "") + QUIET));
    let door = program.address("web").to_string();
    let status = || {
        let mut client = Command::new("openssl");
        client.args("s_client -status -servername a.test -CAfile root.crt -connect".split(' '));
        client.arg(&door).current_dir(scene.certificates.folder.path());
        fed(&mut client, b"Q\n")
    };
    let said = status();
    assert!(said.contains("Cert Status: good") && said.contains("Verify return code: 0"), "{said}");
    // A certificate that is not good any more is not shown as one that is.
    answering.answer("R\t351231235959Z\t240101000000Z");
    program.until_said("says that the certificate is not good");
    assert!(status().contains("Cert Status: good"), "the old answer is still valid");
    // One whose time comes to an end is left out, by itself.
    answering.answer(GOOD);
    answering.end_soon();
    until_within(Duration::from_secs(20), "it is left out", || {
        status().contains("OCSP response: no response sent")
    });
    program.until_said("is too old, and is not shown");
    assert!(status().contains("Verify return code: 0"), "clients are served without it");
}

#[test]
fn one_name_has_a_certificate_for_every_kind_of_client() {
    let scene = Scene::new();
    let folder = scene.certificates.folder.path();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "9",
        "-subj",
        "/CN=a.test",
    ]);
    openssl.args(["-addext", "subjectAltName=DNS:a.test", "-keyout", "rsa.key", "-out", "rsa.crt"]);
    run(openssl.current_dir(folder), Duration::from_secs(60));
    let (certificate, key) =
        (scene.certificates.path("rsa.crt"), scene.certificates.path("rsa.key"));
    let more = format!(
        "certificates = [{{ certificate = \"{}\", key = \"{}\" }}]",
        certificate.display(),
        key.display()
    );
    let (_running, door) = scene.serve(&more, "");
    let kind = |more: &[&str]| {
        let mut client = Command::new("openssl");
        client
            .args(["s_client", "-servername", "a.test", "-connect", &door.to_string()])
            .args(more);
        fed(&mut client, b"Q\n")
    };
    assert!(kind(&[]).contains("Peer signature type: ECDSA"));
    assert!(kind(&["-sigalgs", "RSA-PSS+SHA256"]).contains("Peer signature type: RSA-PSS"));
    let old = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert!(kind(&old).contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"));
    let new = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert!(kind(&new).contains("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"));
}

#[test]
fn a_name_that_is_not_known_may_be_refused_in_words_of_tls() {
    let scene = Scene::new();
    let (running, door) = scene.serve("unknown-name = \"refused\"", "");
    assert_eq!(asked(door, &scene.nobody()), Some(200));
    for named in [&["-servername", "b.test"][..], &["-noservername"]] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &door.to_string()]).args(named);
        let said = fed(&mut client, b"Q\n");
        assert!(said.contains("unrecognized name"), "{said}");
    }
    crate::support::until_ended(&running, evenkeel::Why::TlsFailed, 2);
}

#[test]
fn the_modern_profile_is_tls_1_3_alone() {
    let scene = Scene::new();
    let (_running, door) = scene.serve("profile = \"modern\"", "");
    let version = |version: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", version, "-servername", "a.test", "-connect", &door.to_string()]);
        fed(&mut client, b"Q\n")
    };
    assert!(
        version("-tls1_3").contains("Protocol  : TLSv1.3")
            || version("-tls1_3").contains("New, TLSv1.3")
    );
    assert!(version("-tls1_2").contains("protocol version"));
}
