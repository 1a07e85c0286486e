//! What `tls` must hold beyond its single values: certificates and keys that are there and fit each other. Their files
//! are read, since a listener that cannot show a certificate is of no use to anybody.

use super::Complaints;
use crate::config::{Certificate, Tls};
use crate::tls::Files;
use crate::tls::certificate::{self, Part};

pub(super) fn verify(tls: &Tls, complaints: &mut Complaints) {
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let pair = Certificate { certificate: certificate.clone(), key: key.clone() };
            self::certificate(&pair, complaints);
        }
        (None, None) if tls.certificates.is_empty() => {
            let advice = "add certificate = \"FILE\" and key = \"FILE\"";
            complaints.error(&[], "there is no certificate", advice);
        }
        (Some(_), None) => {
            complaints.error(&["certificate"], "this certificate has no key", "add key = \"FILE\"");
        }
        (None, Some(_)) => {
            let advice = "add certificate = \"FILE\"";
            complaints.error(&["key"], "this key has no certificate", advice);
        }
        (None, None) => {}
    }
    for (index, pair) in tls.certificates.iter().enumerate() {
        complaints.below(&["certificates", &index.to_string()], |complaints| {
            certificate(pair, complaints);
        });
    }
    let advice = "10s is the default";
    complaints.beyond_zero("handshake-timeout", Some(tls.handshake_timeout), advice);
}

fn certificate(pair: &Certificate, complaints: &mut Complaints) {
    let files = Files { certificate: pair.certificate.clone(), key: pair.key.clone() };
    match certificate::load(&files) {
        Ok(identity) => {
            // A restart must not take down what still works for somebody.
            if let Some(message) = identity.out_of_date {
                complaints.warning(&["certificate"], message, "renew it, or set the clock");
            }
        }
        Err(flaw) => {
            let key = if flaw.part == Part::Key { "key" } else { "certificate" };
            complaints.error(&[key], flaw.message, flaw.advice);
        }
    }
}
