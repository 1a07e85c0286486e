//! A certificate and its key, read from two PEM files and held against each other before anybody is shown them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::acme::Managed;
use super::files::{self, Flaw, Part, quoted};
use super::ocsp;
use super::shown;
use super::{Files, Source};

/// A certificate with its key, and the names it is for.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// As they stand in the certificate, wildcards included.
    pub(super) names: Vec<String>,
    /// Why clients will not take it now, or will not get its OCSP answer.
    pub(crate) out_of_date: Vec<(Part, String)>,
    /// When something about it changes by itself: its OCSP answer is too old then.
    pub(super) until: Option<SystemTime>,
    /// Whether it only stands in for one that ACME has not got yet.
    pub(super) stands_in: bool,
}

impl Identity {
    /// The names without regard to capitals.
    pub(crate) fn names_in_lower_case(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| name.to_ascii_lowercase())
    }
}

/// Reads a certificate and its key and holds them against each other. One that ACME has not got yet is stood in for.
pub(crate) fn load(source: &Source) -> Result<Identity, Flaw> {
    match source {
        Source::Files(files) => of_files(files),
        Source::Managed(managed) => Ok(managed_or_stand_in(managed)?),
    }
}

/// Reads both files and holds them against each other.
pub(crate) fn of_files(files: &Files) -> Result<Identity, Flaw> {
    let chain = files::certificates(&files.certificate, Part::Certificate)?;
    let key = files::private_key(&files.key)?;
    let mut identity = pair(chain, key, files)?;
    if let Some(path) = &files.ocsp {
        staple(&mut identity, path)?;
    }
    Ok(identity)
}

/// What is spoken with whoever is shown the certificate of these files, and demanded nothing else of.
pub(crate) fn server_config(files: &Files) -> Result<Arc<ServerConfig>, Flaw> {
    let certified = of_files(files)?.certified;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(Flaw::of_library)?;
    let shown = SingleCertAndKey::from(Arc::clone(&certified));
    Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(shown))))
}

/// What ACME has got, or one that vouches for itself until it has.
fn managed_or_stand_in(managed: &Managed) -> Result<Identity, Flaw> {
    let file = managed.file();
    if !file.exists() {
        return stand_in(&managed.domains);
    }
    let files = Files { certificate: file.clone(), key: file, ocsp: None };
    match of_files(&files) {
        // Also names that it is not for yet: what is demanded of their clients must hold from the beginning.
        Ok(mut identity) => {
            identity.names.extend(managed.domains.iter().cloned());
            Ok(identity)
        }
        Err(flaw) => {
            let mut identity = stand_in(&managed.domains)?;
            identity.out_of_date.push((Part::Certificate, flaw.message));
            Ok(identity)
        }
    }
}

fn stand_in(domains: &[String]) -> Result<Identity, Flaw> {
    let made = rcgen::generate_simple_self_signed(domains.to_vec()).map_err(Flaw::of_library)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = aws_lc_rs::default_provider();
    let chain = vec![made.cert.der().clone()];
    let certified =
        CertifiedKey::from_der(chain, key.into(), &provider).map_err(Flaw::of_library)?;
    let (certified, names) = (Arc::new(certified), domains.to_vec());
    Ok(Identity { certified, names, out_of_date: Vec::new(), until: None, stands_in: true })
}

/// A certificate, with those that vouch for it, and its key, wherever they come from.
fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &Files,
) -> Result<Identity, Flaw> {
    let leaf = chain.first().ok_or_else(Flaw::nothing)?;
    let (names, out_of_date) = inspect(leaf, &files.certificate)?;
    let out_of_date = out_of_date.into_iter().map(|said| (Part::Certificate, said)).collect();
    let signer = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    let signer = signer.map_err(|_| {
        let message = format!("the key {} cannot be used", quoted(&files.key));
        let advice = "take RSA of 2048 bits or more, ECDSA P-256 or P-384, Ed25519";
        Flaw::new(Part::Key, message, advice)
    })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) => {
            let certified = Arc::new(certified);
            Ok(Identity { certified, names, out_of_date, until: None, stands_in: false })
        }
        Err(Error::InconsistentKeys(_)) => {
            let (key, certificate) = (quoted(&files.key), quoted(&files.certificate));
            let message = format!("the key {key} does not fit the certificate {certificate}");
            let advice = "the certificate of the server itself stands first in its file";
            Err(Flaw::new(Part::Key, message, advice))
        }
        Err(error) => {
            Err(files::damaged(&files.certificate, Part::Certificate, &error.to_string()))
        }
    }
}

/// Adds an OCSP answer, for as long as it is valid.
fn staple(identity: &mut Identity, path: &Path) -> Result<(), Flaw> {
    let bytes = files::read(path, Part::Ocsp)?;
    let serial = identity.certified.cert.first().and_then(|leaf| serial(leaf));
    let answer = ocsp::read(&bytes)
        .map_err(|cause| files::damaged(path, Part::Ocsp, cause))?
        .filter(|answer| Some(answer.serial.as_slice()) == serial.as_deref());
    let Some(answer) = answer else {
        let message = format!(
            "the OCSP answer {} is about another certificate, and is not shown",
            quoted(path)
        );
        // As after a renewal, before the answer has been asked for anew: no reason to keep the new one back.
        identity.out_of_date.push((Part::Ocsp, message));
        return Ok(());
    };
    if !answer.is_good {
        let message =
            format!("the OCSP answer {} says that the certificate is not good", quoted(path));
        return Err(Flaw::new(Part::Ocsp, message, "have the certificate issued anew"));
    }
    let is_over = |until: i64| until <= unix_seconds(SystemTime::now());
    match answer.until {
        Some(until) if is_over(until) => {
            let said = format!("the OCSP answer {} is too old, and is not shown", quoted(path));
            identity.out_of_date.push((Part::Ocsp, said));
        }
        until => {
            let until = until.and_then(|until| u64::try_from(until).ok());
            identity.until = until.map(|until| UNIX_EPOCH + Duration::from_secs(until));
            let mut certified = CertifiedKey::clone(&identity.certified);
            certified.ocsp = Some(bytes);
            identity.certified = Arc::new(certified);
        }
    }
    Ok(())
}

fn serial(leaf: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    Some(parsed.tbs_certificate.raw_serial().to_vec())
}

/// The names in a certificate, and why it is not valid now if it is not.
fn inspect(leaf: &CertificateDer<'_>, path: &Path) -> Result<(Vec<String>, Option<String>), Flaw> {
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| files::damaged(path, Part::Certificate, &error.to_string()))?;
    let out_of_date = match validity(&parsed) {
        Validity::Over(to) => {
            Some(format!("the certificate {} has expired: it was valid to {to}", quoted(path)))
        }
        Validity::NotYet(from) => {
            Some(format!("the certificate {} is not valid before {from}", quoted(path)))
        }
        Validity::Now => None,
    };
    Ok((shown::dns_names(&parsed), out_of_date))
}

/// Whether a certificate is valid at this moment.
pub(super) enum Validity {
    Now,
    NotYet(ASN1Time),
    Over(ASN1Time),
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let now = unix_seconds(SystemTime::now());
    let (from, to) = (certificate.validity().not_before, certificate.validity().not_after);
    if to.timestamp() < now {
        Validity::Over(to)
    } else if from.timestamp() > now {
        Validity::NotYet(from)
    } else {
        Validity::Now
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}
