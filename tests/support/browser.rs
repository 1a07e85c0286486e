//! A real Chromium without a window, steered by its driver (W3C WebDriver over HTTP), on a profile that is thrown away.
//! It must reach nothing but the addresses it is given: no other name resolves for it.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Client;
use super::servers::{self, Server, program};
use super::tls::Certificates;

/// How long the driver may take to do what it is asked, the start of the browser included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one window; it ends when dropped.
pub(crate) struct Browser {
    driver: Server,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// A browser for which `https://a.test/` is at the address and shows the certificate of that name.
    pub(crate) fn open(door: SocketAddr, certificates: &Certificates) -> Browser {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let arguments = [
            "--headless",
            // As root it refuses to run with its sandbox, and it meets nothing but our own pages.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--no-first-run",
            "--no-proxy-server",
            &format!("--user-data-dir={}", profile.path().display()),
            &format!("--host-resolver-rules=MAP a.test:443 {door}, MAP * ~NOTFOUND"),
            &format!("--ignore-certificate-errors-spki-list={}", fingerprint(certificates)),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": program("chromium"), "args": arguments },
        } } });
        let mut browser =
            Browser { driver: servers::chromedriver(), session: String::new(), _profile: profile };
        let begun = browser.ask("POST", "/session", &capabilities);
        let id = begun["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("/session/{id}");
        browser
    }

    /// Loads a page, with everything that it names.
    pub(crate) fn visit(&self, url: &str) {
        self.ask("POST", &format!("{}/url", self.session), &json!({ "url": url }));
    }

    /// The value of a script that runs in the page.
    pub(crate) fn script(&self, script: &str) -> Value {
        let asked = json!({ "script": script, "args": [] });
        self.ask("POST", &format!("{}/execute/sync", self.session), &asked)
    }

    /// What the page and the browser have written to the console since the last look.
    pub(crate) fn console(&self) -> Vec<String> {
        let said =
            self.ask("POST", &format!("{}/se/log", self.session), &json!({"type": "browser"}));
        let lines = said.as_array().expect("a list").iter();
        lines.map(|line| format!("{} {}", line["level"], line["message"])).collect()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut client = Client::connect(self.driver.address);
        client.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        let (host, body) = (self.driver.address, body.to_string());
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.try_answer(false).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        answer["value"].take()
    }
}

/// The hash of the certificate's public key, by which Chromium is told to trust it: SHA-256 in base64.
fn fingerprint(certificates: &Certificates) -> String {
    let der = CertificateDer::from_pem_file(certificates.path("a.crt")).expect("a certificate");
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    base64(digest(&SHA256, certificate.public_key().raw).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
