//! A certificate and its key, read from two PEM files and held against each other before anybody is shown them.
//! What is wrong is said with the file and the way out; a key never stands in what is said.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::Error;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Files;

/// A larger file is no certificate and no key.
const LENGTH_MAX: u64 = 1024 * 1024;

/// A certificate with its key, and the names it is for.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// As they stand in the certificate, wildcards included.
    pub(super) names: Vec<String>,
    /// Why clients will not take it now, if they will not.
    pub(crate) out_of_date: Option<String>,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) part: Part,
    pub(crate) message: String,
    pub(crate) advice: String,
}

/// Which of the two files it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Certificate,
    Key,
}

/// Reads both files and holds them against each other.
pub(crate) fn load(files: &Files) -> Result<Identity, Flaw> {
    let chain = chain(&files.certificate)?;
    let key = private_key(&files.key)?;
    let leaf = chain.first().ok_or_else(Flaw::nothing)?;
    let (names, out_of_date) = inspect(leaf, &files.certificate)?;
    let signer = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    let signer = signer.map_err(|_| {
        let message = format!("the key {} cannot be used", quoted(&files.key));
        Flaw::new(
            Part::Key,
            message,
            "take RSA of 2048 bits or more, ECDSA P-256 or P-384, Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) => Ok(Identity { certified: Arc::new(certified), names, out_of_date }),
        Err(Error::InconsistentKeys(_)) => {
            let (key, certificate) = (quoted(&files.key), quoted(&files.certificate));
            let message = format!("the key {key} does not fit the certificate {certificate}");
            let advice = "the certificate of the server itself stands first in its file";
            Err(Flaw::new(Part::Key, message, advice))
        }
        Err(error) => Err(unreadable(&files.certificate, &error.to_string())),
    }
}

/// The certificate of the server, and those that vouch for it.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let pem = read(path, Part::Certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| unreadable(path, &error.to_string()))?;
    if chain.is_empty() {
        let message = format!("there is no certificate in {}", quoted(path));
        let advice = if holds(&pem, "PRIVATE KEY-----") {
            "it is a private key: certificate and key have changed places"
        } else {
            "write PEM, which begins with -----BEGIN CERTIFICATE-----"
        };
        return Err(Flaw::new(Part::Certificate, message, advice));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Flaw> {
    let pem = read(path, Part::Key)?;
    // PKCS #8 (RFC 5958) says so in its name, older keys in a header (RFC 1421 4.6.1.1).
    if holds(&pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(&pem, "4,ENCRYPTED") {
        let message = format!("the key {} is encrypted", quoted(path));
        let advice = "nobody is there to type its password: store it decrypted (openssl pkey -in OLD -out NEW), \
                      readable by Evenkeel alone";
        return Err(Flaw::new(Part::Key, message, advice));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let message = format!("there is no private key in {}", quoted(path));
        let advice = if holds(&pem, "-----BEGIN CERTIFICATE-----") {
            "it is a certificate: certificate and key have changed places"
        } else {
            "write PEM, which begins with -----BEGIN PRIVATE KEY-----"
        };
        Flaw::new(Part::Key, message, advice)
    })
}

/// The names in a certificate, and whether it is valid now.
fn inspect(leaf: &CertificateDer<'_>, path: &Path) -> Result<(Vec<String>, Option<String>), Flaw> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(path, &error.to_string()))?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let names = alternatives.into_iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
    let out_of_date = if to.timestamp() < now {
        Some(format!("the certificate {} has expired: it was valid to {to}", quoted(path)))
    } else if from.timestamp() > now {
        Some(format!("the certificate {} is not valid before {from}", quoted(path)))
    } else {
        None
    };
    Ok((names.collect(), out_of_date))
}

fn read(path: &Path, part: Part) -> Result<Vec<u8>, Flaw> {
    let word = if part == Part::Certificate { "certificate" } else { "key" };
    let failed = |cause: &dyn fmt::Display| {
        let message = format!("the {word} {} cannot be read: {cause}", quoted(path));
        Flaw::new(part, message, "a path is relative to the file that names it")
    };
    // Anything else, such as a pipe, might keep us waiting.
    let is_file = std::fs::metadata(path).map_err(|error| failed(&error))?.is_file();
    if !is_file {
        return Err(failed(&"it is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > LENGTH_MAX {
        return Err(failed(&"it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, cause: &str) -> Flaw {
    let message = format!("the certificate {} is damaged: {cause}", quoted(path));
    Flaw::new(Part::Certificate, message, "have it issued anew, or copy it again")
}

fn holds(pem: &[u8], words: &str) -> bool {
    pem.windows(words.len()).any(|window| window == words.as_bytes())
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

impl Flaw {
    fn new(part: Part, message: String, advice: &str) -> Flaw {
        Flaw { part, message, advice: advice.to_owned() }
    }

    pub(super) fn nothing() -> Flaw {
        let message = "there is no certificate".to_owned();
        Flaw::new(Part::Certificate, message, "name one, and its key")
    }

    pub(super) fn of_library(error: Error) -> Flaw {
        Flaw::new(Part::Certificate, format!("TLS cannot be set up: {error}"), "please report it")
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Flaw {}
