//! Answers to an authority that asks whether a name is ours. They are files, so that whichever node it asks can answer;
//! what it asks for becomes the name of a file only if it looks like one of ours.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::state::CHALLENGES;

/// The protocol that such an authority offers, alone (RFC 8737 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// Where it asks over HTTP (RFC 8555 8.3).
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// The longest answer.
const ANSWER_MAX: u64 = 16 * 1024;

/// The answer to a request for this path; none where it is no such request, or not ours. It reads a file.
pub(crate) fn answer_http(states: &[PathBuf], path: &[u8]) -> Option<Vec<u8>> {
    let token = str::from_utf8(path.strip_prefix(PATH)?).ok()?;
    is_token(token).then(|| read(states, token)).flatten()
}

/// Whether this can be a token: base64url (RFC 8555 8.3).
pub(super) fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a path is one that only an authority asks for.
pub(crate) fn is_asked(path: &[u8]) -> bool {
    path.starts_with(PATH)
}

/// The certificate that answers a handshake for this name. It reads a file.
pub(crate) fn tls_identity(states: &[PathBuf], name: &str) -> Option<Arc<CertifiedKey>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 253 || name.contains("..") || !name.bytes().all(is_plain) {
        return None;
    }
    let pem = read(states, &tls_file(name))?;
    let chain = vec![CertificateDer::from_pem_slice(&pem).ok()?];
    let key = PrivateKeyDer::from_pem_slice(&pem).ok()?;
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).ok()?;
    // Not looked at any closer: what makes it an answer is an extension that is critical, and known to authorities only.
    Some(Arc::new(CertifiedKey::new(chain, key)))
}

/// The name of the file that answers a handshake.
pub(super) fn tls_file(name: &str) -> String {
    format!("tls-{}.pem", name.to_ascii_lowercase())
}

/// What that file holds: a certificate with the digest of the answer (RFC 8737 3), and its key.
pub(super) fn tls_answer(name: &str, digest: &[u8]) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn read(states: &[PathBuf], name: &str) -> Option<Vec<u8>> {
    states.iter().find_map(|state| {
        let path = state.join(CHALLENGES).join(name);
        let about = fs::symlink_metadata(&path).ok()?;
        let is_fine = about.is_file() && about.len() <= ANSWER_MAX;
        is_fine.then(|| fs::read(path).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_as_an_answer_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let states = [folder.path().join("acme")];
        fs::create_dir_all(states[0].join(CHALLENGES)).unwrap();
        fs::write(states[0].join("account.json"), "secret").unwrap();
        fs::write(states[0].join(CHALLENGES).join("to-k_en"), "answer").unwrap();
        let asked = |path: &str| answer_http(&states, path.as_bytes());
        assert_eq!(asked("/.well-known/acme-challenge/to-k_en").as_deref(), Some(&b"answer"[..]));
        for path in ["", "x", "../account.json", "..", "to-k_en/", "%74o-k_en", "a/b", "to-k_en\0"]
        {
            assert_eq!(asked(&format!("/.well-known/acme-challenge/{path}")), None, "{path}");
        }
        assert_eq!(asked("/to-k_en"), None);
    }

    #[test]
    fn a_handshake_is_answered_for_the_name_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let states = [folder.path().to_owned()];
        fs::create_dir_all(states[0].join(CHALLENGES)).unwrap();
        let pem = tls_answer("a.test", &[7; 32]).unwrap();
        fs::write(states[0].join(CHALLENGES).join(tls_file("A.test")), pem).unwrap();
        assert!(tls_identity(&states, "a.test").is_some());
        for name in ["b.test", "", "../a.test", "a.test/", "a.test\0"] {
            assert!(tls_identity(&states, name).is_none(), "{name}");
        }
    }
}
