//! The files that TLS is made of, read with a limit, and what is wrong with one said with its name and the way out.
//! A key never stands in what is said.

use std::fmt;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::keeper;

/// A larger file is no certificate and no key.
const LENGTH_MAX: u64 = 1024 * 1024;

/// Lists of authorities, and of revoked certificates, may be longer.
const LIST_MAX: u64 = 16 * 1024 * 1024;

/// Why a file, or several together, cannot be used.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) part: Part,
    pub(crate) message: String,
    pub(crate) advice: String,
}

/// Which file it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Certificate,
    Key,
    Ocsp,
    ClientCa,
    ClientCrl,
    TicketKeys,
    /// Of backends.
    Ca,
}

impl Part {
    /// Its key in the config.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Part::Certificate => "certificate",
            Part::Key => "key",
            Part::Ocsp => "ocsp",
            Part::ClientCa => "client-ca",
            Part::ClientCrl => "client-crl",
            Part::TicketKeys => "ticket-keys",
            Part::Ca => "ca",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Part::Certificate => "certificate",
            Part::Key => "key",
            Part::Ocsp => "OCSP answer",
            Part::ClientCa | Part::Ca => "authority",
            Part::ClientCrl => "list of revoked certificates",
            Part::TicketKeys => "file of ticket keys",
        }
    }
}

/// All bytes of a file.
pub(super) fn read(path: &Path, part: Part) -> Result<Vec<u8>, Flaw> {
    let failed = |cause: &dyn fmt::Display| {
        let message = format!("the {} {} cannot be read: {cause}", part.words(), quoted(path));
        Flaw::new(part, message, "a path is relative to the file that names it")
    };
    let file = keeper::open(path).map_err(|error| failed(&error))?;
    // Anything else, such as a pipe, might keep us waiting.
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is not a file"));
    }
    let is_list = matches!(part, Part::ClientCa | Part::ClientCrl | Part::Ca);
    let most = if is_list { LIST_MAX } else { LENGTH_MAX };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > most {
        return Err(failed(&format_args!("it is larger than {} MiB", most / 1024 / 1024)));
    }
    Ok(bytes)
}

/// The certificates in a file, one at least.
pub(super) fn certificates(path: &Path, part: Part) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let pem = read(path, part)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| damaged(path, part, &error.to_string()))?;
    if chain.is_empty() {
        let message = format!("there is no certificate in {}", quoted(path));
        let advice = if holds(&pem, "PRIVATE KEY-----") {
            "it is a private key: certificate and key have changed places"
        } else {
            "write PEM, which begins with -----BEGIN CERTIFICATE-----"
        };
        return Err(Flaw::new(part, message, advice));
    }
    Ok(chain)
}

/// The private key in a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Flaw> {
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

pub(super) fn damaged(path: &Path, part: Part, cause: &str) -> Flaw {
    let message = format!("the {} {} is damaged: {cause}", part.words(), quoted(path));
    Flaw::new(part, message, "have it issued anew, or copy it again")
}

fn holds(pem: &[u8], words: &str) -> bool {
    pem.windows(words.len()).any(|window| window == words.as_bytes())
}

pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

impl Flaw {
    pub(super) fn new(part: Part, message: String, advice: &str) -> Flaw {
        Flaw { part, message, advice: advice.to_owned() }
    }

    pub(super) fn nothing() -> Flaw {
        let message = "there is no certificate".to_owned();
        Flaw::new(Part::Certificate, message, "name one, and its key")
    }

    pub(super) fn of_library(error: impl fmt::Display) -> Flaw {
        Flaw::new(Part::Certificate, format!("TLS cannot be set up: {error}"), "please report it")
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Flaw {}
