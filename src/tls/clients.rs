//! Which certificates of clients are taken: those of named authorities, not revoked, those named one by one, or any that
//! vouches for itself where that was spelled out. A check that cannot be made is one that fails.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Validity, validity};
use super::files::{self, Flaw, Part, quoted};
use super::shown::fingerprint;

/// What is demanded of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Demand {
    pub(crate) auth: Auth,
    /// Files of authorities.
    pub(crate) ca: Vec<PathBuf>,
    /// Files of lists of revoked certificates.
    pub(crate) crl: Vec<PathBuf>,
    /// Certificates that are taken whoever vouches for them.
    pub(crate) fingerprints: Vec<[u8; 32]>,
    /// Whether any certificate is taken that vouches for itself.
    pub(crate) self_signed: bool,
    /// Authorities that may stand between a certificate and one of `ca`.
    pub(crate) depth: usize,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Auth {
    #[default]
    Off,
    Optional,
    Required,
}

/// Judges the certificates of clients.
#[derive(Debug)]
pub(super) struct Clients {
    demand: Demand,
    provider: Arc<CryptoProvider>,
    anchors: Vec<TrustAnchor<'static>>,
    /// The names of the authorities, which clients are told.
    subjects: Vec<DistinguishedName>,
    revoked: Vec<CertRevocationList<'static>>,
    fingerprints: HashSet<[u8; 32]>,
    /// Stands for everything above, the contents of files included.
    digest: [u8; 32],
}

/// Whether everything that a demand names can be read.
pub(crate) fn check(demand: &Demand) -> Result<(), Flaw> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Clients::load(demand, &provider).map(drop)
}

impl Clients {
    /// Reads the files that a demand names.
    pub(super) fn load(demand: &Demand, provider: &Arc<CryptoProvider>) -> Result<Clients, Flaw> {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        digest.update(
            format!("{:?} {} {}\0", demand.auth, demand.self_signed, demand.depth).as_bytes(),
        );
        let (mut anchors, mut subjects, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
        for path in &demand.ca {
            for authority in files::certificates(path, Part::ClientCa)? {
                let anchor = anchor_from_trusted_cert(&authority)
                    .map_err(|error| files::damaged(path, Part::ClientCa, &error.to_string()))?;
                subjects.push(DistinguishedName::in_sequence(&anchor.subject));
                anchors.push(anchor.to_owned());
                digest.update(b"ca");
                digest.update(fingerprint(&authority).as_ref());
            }
        }
        for path in &demand.crl {
            for (list, bytes) in revocations(path)? {
                revoked.push(list);
                digest.update(b"crl");
                digest.update(fingerprint(&bytes.into()).as_ref());
            }
        }
        let mut fingerprints = demand.fingerprints.clone();
        fingerprints.sort_unstable();
        fingerprints.iter().for_each(|pinned| digest.update(pinned));
        let mut whole = [0; 32];
        whole.copy_from_slice(digest.finish().as_ref());
        Ok(Clients {
            demand: demand.clone(),
            provider: Arc::clone(provider),
            anchors,
            subjects,
            revoked,
            fingerprints: fingerprints.into_iter().collect(),
            digest: whole,
        })
    }

    /// Stands for what is demanded, so that a ticket is of no use once that has changed.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether a client is served that shows no certificate.
    pub(super) fn is_required(&self) -> bool {
        self.demand.auth == Auth::Required
    }

    /// Looks once more at certificates that were taken before: those of a session that is gone on with.
    pub(super) fn judge_again(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<(), Error> {
        match chain.and_then(<[_]>::split_first) {
            Some((leaf, rest)) => self.verify_client_cert(leaf, rest, UnixTime::now()).map(drop),
            None if self.is_required() => Err(Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }

    /// Whether a named authority vouches for it, and no list says otherwise.
    fn judge_path(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
        let lists: Vec<_> = self.revoked.iter().collect();
        // Without lists, nobody is asked whether it was revoked.
        let revocation = RevocationOptionsBuilder::new(&lists).ok();
        let revocation = revocation
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let most = self.demand.depth;
        let is_short = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count() {
            count if count > most => Err(webpki::Error::MaximumPathDepthExceeded),
            _ => Ok(()),
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(
            algorithms,
            &self.anchors,
            rest,
            now,
            usage,
            revocation,
            Some(&is_short),
        )
        .map(drop)
        .map_err(refused)
    }
}

/// Whether a certificate that is taken as it stands is valid now, and, if it must, vouches for itself.
fn judge_alone(leaf: &CertificateDer<'_>, by_itself: bool) -> Result<(), Error> {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
        return Err(CertificateError::BadEncoding.into());
    };
    if by_itself && parsed.subject().as_raw() != parsed.issuer().as_raw() {
        return Err(CertificateError::UnknownIssuer.into());
    }
    match validity(&parsed) {
        Validity::Now => Ok(()),
        Validity::NotYet(_) => Err(CertificateError::NotValidYet.into()),
        Validity::Over(_) => Err(CertificateError::Expired.into()),
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // With these, a client would keep back one that is taken for itself.
        let only_authorities = self.fingerprints.is_empty() && !self.demand.self_signed;
        if only_authorities { &self.subjects } else { &[] }
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judged = if self.fingerprints.contains(&fingerprint(leaf)) {
            judge_alone(leaf, false)
        } else {
            match self.judge_path(leaf, rest, now) {
                Err(error) if self.demand.self_signed => judge_alone(leaf, true).map_err(|_| error),
                judged => judged,
            }
        };
        judged.map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The lists in a file, one at least, with their bytes.
fn revocations(
    path: &std::path::Path,
) -> Result<Vec<(CertRevocationList<'static>, Vec<u8>)>, Flaw> {
    let pem = files::read(path, Part::ClientCrl)?;
    let damaged =
        |cause: &dyn std::fmt::Display| files::damaged(path, Part::ClientCrl, &cause.to_string());
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(&pem) {
        let list = list.map_err(|error| damaged(&error))?;
        let parsed =
            BorrowedCertRevocationList::from_der(&list).map_err(|error| damaged(&error))?;
        let owned = parsed.to_owned().map_err(|error| damaged(&error))?;
        lists.push((CertRevocationList::Owned(owned), list.to_vec()));
    }
    if lists.is_empty() {
        let message = format!("there is no list of revoked certificates in {}", quoted(path));
        let advice = "write PEM, which begins with -----BEGIN X509 CRL-----";
        return Err(Flaw::new(Part::ClientCrl, message, advice));
    }
    Ok(lists)
}

/// Why a certificate was not taken, in the words of rustls.
fn refused(error: webpki::Error) -> Error {
    let cause = match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    cause.into()
}
