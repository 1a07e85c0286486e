//! What is offered to clients over TLS, and what is demanded of them, compiled.

use crate::config::{ClientCertificate, HttpVersion, Tls, TlsVersion, UnknownName};
use crate::route::Certified;
use crate::tls::{Settings, Version};

/// TLS of an HTTP listener that speaks these versions.
pub(super) fn of_http(config: &Tls, versions: &[HttpVersion]) -> Settings {
    // The best first: clients may name several, and ours is the choice.
    let known = [HttpVersion::Http2, HttpVersion::Http11];
    let spoken = known.into_iter().filter(|version| versions.contains(version));
    Settings {
        identities: config
            .every_certificate()
            .iter()
            .map(|pair| (pair.files(), config.demand_of(pair).compiled()))
            .collect(),
        refuse_unknown_names: config.unknown_name == UnknownName::Refused,
        min_version: match config.oldest() {
            TlsVersion::Tls12 => Version::Tls12,
            TlsVersion::Tls13 => Version::Tls13,
        },
        ticket_keys: config.ticket_keys.clone(),
        handshake_timeout: config.handshake_timeout.0,
        handshakes_max: config.handshakes_max as usize,
        protocols: spoken.map(HttpVersion::alpn).collect(),
    }
}

pub(super) fn certified(config: &ClientCertificate) -> Certified {
    Certified {
        names: config.name.clone(),
        subjects: config.subject.clone(),
        issuers: config.issuer.clone(),
        fingerprints: config.fingerprint.iter().map(ToString::to_string).collect(),
    }
}
