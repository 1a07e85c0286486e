//! When a certificate is to be renewed: when its authority suggests, or else at two thirds of its life.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::CertificateIdentifier;
use rustls::pki_types::{CertificateDer, Der};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::shown;

/// The certificate that is there.
#[derive(Debug, Clone)]
pub(in crate::tls) struct Held {
    pub(super) der: CertificateDer<'static>,
    names: Vec<String>,
    from: SystemTime,
    to: SystemTime,
}

impl Held {
    /// None if it cannot be read.
    pub(super) fn of(der: CertificateDer<'static>) -> Option<Held> {
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let time = |seconds: i64| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
        let (from, to) = (time(from.timestamp()), time(to.timestamp()));
        let names = shown::dns_names(&parsed).iter().map(|name| name.to_lowercase()).collect();
        Some(Held { names, from, to, der })
    }

    pub(super) fn fingerprint(&self) -> [u8; 32] {
        shown::fingerprint(&self.der)
    }

    /// Whether it is for all these names.
    pub(super) fn is_for(&self, domains: &[String]) -> bool {
        domains.iter().all(|domain| self.names.contains(&domain.to_lowercase()))
    }

    pub(super) fn two_thirds(&self) -> SystemTime {
        let life = self.to.duration_since(self.from).unwrap_or_default();
        self.from + life / 3 * 2
    }

    /// A moment between two, always the same for this certificate, so that not everybody comes at once.
    pub(super) fn between(&self, start: SystemTime, end: SystemTime) -> SystemTime {
        let window = end.duration_since(start).unwrap_or_default();
        let number = u32::from(self.fingerprint()[0]);
        start + window / 256 * number
    }

    /// What the authority knows it by (RFC 9773 4.1).
    pub(super) fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        let authority =
            parsed.iter_extensions().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref(),
                _ => None,
            })?;
        let serial = Der::from_slice(parsed.tbs_certificate.raw_serial());
        Some(CertificateIdentifier::new(Der::from_slice(authority.0), serial).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_at_two_thirds_of_its_life() {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 3, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let held = Held::of(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!(held.two_thirds(), held.from + 60 * day);
        assert!(held.is_for(&["A.test".to_owned()]) && !held.is_for(&["b.test".to_owned()]));
        let due = held.between(held.from, held.to);
        assert!(held.from <= due && due < held.to);
        assert_eq!(due, held.between(held.from, held.to));
    }
}
