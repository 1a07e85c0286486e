//! Certificates and keys that cannot be used are named before anything starts, each at the key that names its file.

use std::process::Command;

use rcgen::date_time_ymd;

use crate::support::program::{BINARY, once};
use crate::support::servers::program;
use crate::support::tls::Certificates;

/// What `check` says of a listener with these lines after `tls =` in a file beside the certificates, and its exit.
fn checked(certificates: &Certificates, tls: &str) -> (String, bool) {
    let text = format!(
        "[upstream.app]\nbackends = \"127.0.0.1:1\"\n[http.web]\nlisten = \"127.0.0.1:0\"\n\
         upstream = \"app\"\ntls = {tls}\n"
    );
    std::fs::write(certificates.path("evenkeel.toml"), text).unwrap();
    let output = once(&["check", "-c", "evenkeel.toml"], certificates.folder.path());
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}

/// That a problem stands at this key of line 6, is refused, and says so.
fn refused(certificates: &Certificates, tls: &str, key: &str, what: &str) {
    let (said, fine) = checked(certificates, tls);
    assert!(!fine, "{tls} is taken");
    let value = format!("tls = {tls}").find(&format!("{key} = ")).unwrap() + key.len() + 4;
    let place = format!("evenkeel.toml:6:{value}");
    assert!(said.contains(&place), "not at {place}:\n{said}");
    assert!(said.contains(what), "no {what:?} in:\n{said}");
}

#[test]
fn a_certificate_and_its_key_are_taken_by_paths_beside_the_config() {
    let certificates = Certificates::new();
    let (said, fine) =
        checked(&certificates, r#"{ certificate = "a.crt", key = "a.key", min-version = "1.3" }"#);
    assert!(fine && said.contains("is fine"), "{said}");
}

#[test]
fn the_effective_config_of_tls_is_read_back_as_an_equal_one() {
    let certificates = Certificates::new();
    let pair = r#"certificate = "a.crt", key = "a.key""#;
    let tls = format!("{{ {pair}, certificates = [{{ {pair} }}], min-version = \"1.3\" }}");
    assert!(checked(&certificates, &tls).1);
    let folder = certificates.folder.path();
    let first = once(&["check", "-c", "evenkeel.toml", "--effective"], folder).stdout;
    std::fs::write(certificates.path("second.toml"), &first).unwrap();
    let second = once(&["check", "-c", "second.toml", "--effective"], folder).stdout;
    assert!(String::from_utf8(first.clone()).unwrap().contains("min-version = \"1.3\""));
    assert_eq!(first, second);
}

#[test]
fn a_pair_that_cannot_be_used_is_named_at_its_place() {
    let mut certificates = Certificates::new();
    certificates.add("b", &["b.test"]);
    let openssl = |arguments: &[&str]| {
        let folder = certificates.folder.path();
        let output = Command::new(program("openssl")).args(arguments).current_dir(folder).output();
        assert!(output.unwrap().status.success(), "openssl {arguments:?}");
    };
    let encrypt = ["-aes256", "-passout", "pass:secret"];
    openssl(
        &[
            &["pkcs8", "-topk8", "-in", "a.key", "-out", "pkcs8.key", "-v2", "aes256"],
            &encrypt[1..],
        ]
        .concat(),
    );
    openssl(&[&["ec", "-in", "a.key", "-out", "old.key"], &encrypt[..]].concat());
    openssl(&["x509", "-in", "a.crt", "-outform", "der", "-out", "der.crt"]);
    let text = std::fs::read_to_string(certificates.path("a.crt")).unwrap();
    std::fs::write(certificates.path("torn.crt"), &text[..text.len() / 2]).unwrap();
    std::fs::write(certificates.path("odd.crt"), text.replacen("MII", "MIA", 1)).unwrap();
    std::fs::write(certificates.path("large.key"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    for (certificate, key, guilty, what) in [
        ("none.crt", "a.key", "certificate", "cannot be read: No such file"),
        ("a.crt", "none.key", "key", "cannot be read: No such file"),
        (".", "a.key", "certificate", "it is not a file"),
        ("a.crt", "/dev/zero", "key", "it is not a file"),
        ("a.crt", "large.key", "key", "larger than 1 MiB"),
        ("a.crt", "b.key", "key", "does not fit the certificate"),
        ("a.crt", "pkcs8.key", "key", "is encrypted"),
        ("a.crt", "old.key", "key", "is encrypted"),
        ("a.key", "a.key", "certificate", "certificate and key have changed places"),
        ("a.crt", "a.crt", "key", "certificate and key have changed places"),
        ("der.crt", "a.key", "certificate", "-----BEGIN CERTIFICATE-----"),
        ("torn.crt", "a.key", "certificate", "is damaged"),
        ("odd.crt", "a.key", "certificate", "is damaged"),
    ] {
        let tls = format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}");
        refused(&certificates, &tls, guilty, what);
        let tls = format!("{{ certificates = [{tls}] }}");
        refused(&certificates, &tls, guilty, what);
    }
}

#[test]
fn a_table_without_a_whole_pair_is_refused() {
    let certificates = Certificates::new();
    refused(&certificates, r#"{ certificate = "a.crt" }"#, "certificate", "has no key");
    refused(&certificates, r#"{ key = "a.key" }"#, "key", "has no certificate");
    let (said, fine) = checked(&certificates, "{ min-version = \"1.3\" }");
    assert!(!fine && said.contains("there is no certificate"), "{said}");
    let pair = r#"certificate = "a.crt", key = "a.key""#;
    let tls = format!("{{ {pair}, handshake-timeout = \"0s\" }}");
    refused(&certificates, &tls, "handshake-timeout", "longer than zero");
    let (said, fine) = checked(&certificates, &format!("{{ {pair}, min-version = \"1.1\" }}"));
    assert!(!fine && said.contains("not a version of TLS"), "{said}");
}

#[test]
fn a_certificate_out_of_date_is_a_warning() {
    let mut certificates = Certificates::new();
    certificates.add_with("old", &["a.test"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    certificates.add_with("new", &["a.test"], |params| {
        params.not_before = date_time_ymd(2998, 1, 1);
        params.not_after = date_time_ymd(2999, 1, 1);
    });
    for (file, what) in [("old", "has expired"), ("new", "is not valid before")] {
        let tls = format!("{{ certificate = \"{file}.crt\", key = \"{file}.key\" }}");
        let (said, fine) = checked(&certificates, &tls);
        assert!(fine && said.contains("warning") && said.contains(what), "{said}");
        assert!(said.contains("evenkeel.toml:6:"), "{said}");
    }
}

#[test]
fn a_start_without_its_certificate_fails_and_says_which() {
    let certificates = Certificates::new();
    let text = "[upstream.app]\nbackends = \"127.0.0.1:1\"\n[http.web]\nlisten = \"127.0.0.1:0\"\n\
                upstream = \"app\"\ntls = { certificate = \"x.crt\", key = \"x.key\" }\n";
    std::fs::write(certificates.path("evenkeel.toml"), text).unwrap();
    let output = Command::new(BINARY)
        .args(["run", "-c", "evenkeel.toml"])
        .current_dir(certificates.folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("evenkeel.toml:6:") && said.contains("x.crt"), "{said}");
}

#[test]
fn what_is_demanded_of_clients_must_be_possible() {
    // THREATS 1.4: mTLS fails open when the CA file is bad (CVE-2026-27586).
    let mut certificates = Certificates::new();
    certificates.add("b", &["A.test"]);
    for (file, text) in [("empty.crt", ""), ("garbage.crt", "garbage"), ("keys", "short")] {
        std::fs::write(certificates.path(file), text).unwrap();
    }
    let pair = r#"certificate = "a.crt", key = "a.key""#;
    for (more, guilty, what) in [
        (r#"client-auth = "required""#, "client-auth", "no certificate of a client could be taken"),
        (r#"client-auth = "optional""#, "client-auth", "no certificate of a client could be taken"),
        (r#"client-ca = ["missing.crt"]"#, "client-ca", "cannot be read"),
        (r#"client-ca = ["empty.crt"]"#, "client-ca", "there is no certificate in"),
        (r#"client-ca = ["garbage.crt"]"#, "client-ca", "there is no certificate in"),
        (r#"client-ca = ["a.key"]"#, "client-ca", "there is no certificate in"),
        (r#"client-crl = ["a.crt"]"#, "client-crl", "no authority whose list"),
        (r#"client-ca = ["a.crt"], client-crl = ["a.crt"]"#, "client-crl", "no list of revoked"),
        (r#"client-fingerprints = ["00"]"#, "client-fingerprints", "is not a fingerprint"),
        (r#"ticket-keys = "keys""#, "ticket-keys", "has no key on line 1"),
        (r#"ticket-keys = "empty.crt""#, "ticket-keys", "has 0 keys"),
        (r#"ocsp = "a.crt""#, "ocsp", "is no OCSP answer"),
        (r#"profile = "modern", min-version = "1.2""#, "min-version", "TLS 1.3 alone"),
        (r#"handshakes-max = 0"#, "handshakes-max", "must be"),
    ] {
        let tls = format!("{{ {pair}, {more} }}");
        let (said, fine) = checked(&certificates, &tls);
        assert!(!fine && said.contains(what), "{tls}: no {what:?} in:\n{said}");
        let column =
            format!("tls = {tls}").find(&format!("{guilty} = ")).unwrap() + guilty.len() + 4;
        let near = (column..column + 2).any(|at| said.contains(&format!("evenkeel.toml:6:{at}")));
        assert!(near, "not at {guilty}:\n{said}");
    }
    let (said, fine) = checked(
        &certificates,
        &format!(
            r#"{{ {pair}, certificates = [{{ certificate = "b.crt", key = "b.key", client-ca = ["a.crt"] }}] }}"#
        ),
    );
    assert!(!fine && said.contains("demand different things of clients"), "{said}");
}
