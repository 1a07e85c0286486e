//! What is offered to clients over TLS, and what is demanded of them, compiled.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{
    Challenge, ClientCertificate, Config, HttpVersion, StartTls, TcpRoute, Tls, UnknownName,
};
use crate::route::{Certified, StreamConditions};
use crate::tls::{self, Settings};

/// TLS of an HTTP listener that speaks these versions.
pub(super) fn of_http(config: &Tls, versions: &[HttpVersion]) -> Settings {
    // The best first: clients may name several, and ours is the choice.
    let known = [HttpVersion::Http2, HttpVersion::Http11];
    let spoken = known.into_iter().filter(|version| versions.contains(version));
    settings(config, spoken.map(|version| version.alpn().to_vec()).collect())
}

/// TLS of a TCP listener.
pub(super) fn of_tcp(config: &Tls) -> Settings {
    settings(config, config.alpn.iter().map(|name| name.as_bytes().to_vec()).collect())
}

/// What a route of a TCP listener goes by, and where it leads.
pub(super) fn stream(config: &TcpRoute) -> (StreamConditions, Arc<str>) {
    let conditions = StreamConditions {
        sni: config.sni.clone(),
        alpn: config.alpn.iter().map(|name| name.as_bytes().into()).collect(),
        client: config.client.clone(),
        certificate: config.client_certificate.as_ref().map(certified),
    };
    (conditions, config.upstream.as_str().into())
}

fn settings(config: &Tls, protocols: Vec<Vec<u8>>) -> Settings {
    Settings {
        identities: config
            .every_certificate()
            .iter()
            .filter_map(|pair| Some((pair.source()?, config.demand_of(pair).compiled())))
            .collect(),
        refuse_unknown_names: config.unknown_name == UnknownName::Refused,
        min_version: config.oldest().compiled(),
        ticket_keys: config.ticket_keys.clone(),
        handshake_timeout: config.handshake_timeout.0,
        handshakes_max: config.handshakes_max as usize,
        protocols,
        allow_plain: config.allow_plain,
        start_tls: config.starttls.map(|StartTls::Postgresql| tls::StartTls::Postgresql),
    }
}

/// Where answers to challenges stand that are given over HTTP, whichever listener the certificate is for.
pub(super) fn answered_over_http(config: &Config) -> Vec<PathBuf> {
    let tls = config.http.values().map(|listener| &listener.tls);
    let tls = tls.chain(config.tcp.values().map(|listener| &listener.tls)).flatten();
    let managed = tls.flat_map(Tls::every_certificate).filter_map(|pair| pair.acme);
    let over_http = managed.filter(|acme| acme.challenge == Challenge::Http);
    let mut states: Vec<_> = over_http.map(|acme| acme.compiled().folder()).collect();
    states.sort_unstable();
    states.dedup();
    states
}

pub(super) fn certified(config: &ClientCertificate) -> Certified {
    Certified {
        names: config.name.clone(),
        subjects: config.subject.clone(),
        issuers: config.issuer.clone(),
        fingerprints: config.fingerprint.iter().map(ToString::to_string).collect(),
    }
}
