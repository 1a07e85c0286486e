//! Until when a certificate that is shown to clients is valid, for whom and by whom it was issued: what an operator has to know in
//! time. It is read once, when the certificate is.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Identity;
use super::shown;

/// A certificate that a listener shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// As they stand in it.
    pub(crate) names: Vec<String>,
    /// Who vouches for it, as RFC 4514 writes it.
    pub(crate) issuer: String,
    /// In seconds since 1970.
    pub(crate) not_after: i64,
    /// Whether it only stands in for one that ACME has not got yet.
    pub(crate) stands_in: bool,
}

impl Expiry {
    /// None where it cannot be read, which no certificate that is shown is.
    pub(super) fn of(identity: &Identity) -> Option<Expiry> {
        let leaf = identity.certified.cert.first()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        Some(Expiry {
            names: shown::dns_names(&parsed),
            issuer: shown::distinguished(parsed.issuer()),
            not_after: parsed.validity().not_after.timestamp(),
            stands_in: identity.stands_in,
        })
    }
}
