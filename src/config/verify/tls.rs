//! What `tls` must hold beyond its single values: certificates and keys that are there and fit each other, and a way to
//! take every client that must show a certificate. Files are read, since a listener that cannot show a certificate, or
//! cannot judge one, is of no use to anybody.

use std::collections::HashMap;

use super::{Complaints, tcp};
use crate::config::problem::shown;
use crate::config::{
    Address, Certificate, ClientAuth, ClientDemand, Tls, TlsProfile, TlsVersion, Upstream,
    UpstreamTls, Verify,
};
use crate::tls::{Flaw, certificate};

pub(super) fn verify(tls: &Tls, complaints: &mut Complaints) {
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let pair = Certificate::new(certificate.clone(), key.clone());
            self::certificate(&Certificate { ocsp: tls.ocsp.clone(), ..pair }, complaints);
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
            clients(&tls.demand_of(pair), pair.client_auth.is_some(), complaints);
        });
    }
    clients(&tls.demand(), tls.client_auth.is_some(), complaints);
    names(tls, complaints);
    handshake(tls, complaints);
}

/// What `tls` of an upstream must hold.
pub(super) fn outward(tls: &UpstreamTls, upstream: &Upstream, complaints: &mut Complaints) {
    if tls.verify == Verify::Off {
        let message =
            "backends are not verified: anybody in between can read and change everything";
        let advice = "name their authority by ca, or their certificates by fingerprints";
        complaints.warning(&["verify"], message, advice);
    }
    let ways = [
        ("verify", tls.verify == Verify::Off),
        ("fingerprints", !tls.fingerprints.is_empty()),
        ("ca", !tls.ca.is_empty()),
    ];
    let mut ways = ways.into_iter().filter(|(_, is_there)| *is_there);
    if let (Some((first, _)), Some((second, _))) = (ways.next(), ways.next()) {
        let message = format!("{second} does nothing beside {first}");
        complaints.error(&[second], message, "leave out one of them");
    }
    if let (Some(_), None) | (None, Some(_)) = (&tls.certificate, &tls.key) {
        let (there, missing) =
            if tls.key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
        let message = format!("this {there} has no {missing}");
        complaints.error(&[there], message, format!("add {missing} = \"FILE\""));
    }
    let is_verified = tls.verify == Verify::Full && tls.fingerprints.is_empty();
    let is_nameless =
        upstream.backends.iter().any(|backend| matches!(backend.address, Address::Unix(_)));
    if is_verified && is_nameless && tls.name.is_none() {
        let advice = "add name = \"HOST\", the name in its certificate";
        complaints.error(&[], "a Unix socket has no name that could be verified", advice);
    }
    for (index, protocol) in tls.alpn.iter().enumerate() {
        tcp::protocol_name(&["alpn", &index.to_string()], protocol, complaints);
    }
    if upstream.h2 && !tls.alpn.is_empty() {
        complaints.error(&["alpn"], "with h2, what is offered is \"h2\"", "leave it out");
    }
    if let Some(name) = &tls.name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        let message = format!("\"{}\" is no name that a certificate could have", shown(name));
        complaints.error(&["name"], message, "write a name such as \"app.internal\"");
    }
    if let Err(flaw) = crate::tls::connect::check(&tls.compiled(upstream.h2)) {
        flawed(flaw, complaints);
    }
}

fn handshake(tls: &Tls, complaints: &mut Complaints) {
    for (index, protocol) in tls.alpn.iter().enumerate() {
        tcp::protocol_name(&["alpn", &index.to_string()], protocol, complaints);
    }
    let advice = "10s is the default";
    complaints.beyond_zero("handshake-timeout", Some(tls.handshake_timeout), advice);
    complaints.within("handshakes-max", tls.handshakes_max, 1..=1_000_000);
    if tls.profile == TlsProfile::Modern && tls.min_version == Some(TlsVersion::Tls12) {
        let advice = "remove it, or take profile = \"intermediate\"";
        complaints.error(&["min-version"], "the modern profile is TLS 1.3 alone", advice);
    }
    if let Some(file) = &tls.ticket_keys
        && let Err(flaw) = crate::tls::tickets::check(file)
    {
        flawed(flaw, complaints);
    }
}

fn certificate(pair: &Certificate, complaints: &mut Complaints) {
    match certificate::load(&pair.files()) {
        // A restart must not take down what still works for somebody.
        Ok(identity) => identity.out_of_date.into_iter().for_each(|(part, message)| {
            complaints.warning(&[part.key()], message, "renew it, or set the clock");
        }),
        Err(flaw) => flawed(flaw, complaints),
    }
}

fn flawed(flaw: Flaw, complaints: &mut Complaints) {
    complaints.error(&[flaw.part.key()], flaw.message, flaw.advice);
}

/// What is demanded of clients must be possible, and must demand something.
fn clients(demand: &ClientDemand, is_written: bool, complaints: &mut Complaints) {
    let key = if is_written { &["client-auth"][..] } else { &[] };
    if demand.auth != ClientAuth::Off && !demand.takes_any() {
        let advice = "add client-ca = \"FILE\", or client-fingerprints = [\"...\"]";
        complaints.error(key, "no certificate of a client could be taken", advice);
    }
    if !demand.crl.is_empty() && demand.ca.is_empty() {
        let advice = "add client-ca = \"FILE\"";
        complaints.error(&["client-crl"], "there is no authority whose list this could be", advice);
    }
    if demand.auth != ClientAuth::Off && demand.self_signed {
        let message = "any certificate that vouches for itself is taken, and anybody can make one";
        let advice = "name those you mean by client-fingerprints, or have them issued by an authority of your own";
        complaints.warning(&["client-self-signed"], message, advice);
    }
    if let Err(flaw) = crate::tls::clients::check(&demand.compiled()) {
        flawed(flaw, complaints);
    }
}

/// Two certificates for one name are for one kind of clients.
fn names(tls: &Tls, complaints: &mut Complaints) {
    let mut known: HashMap<String, ClientDemand> = HashMap::new();
    for pair in tls.every_certificate() {
        // One that cannot be read has been named already.
        let Ok(identity) = certificate::load(&pair.files()) else { continue };
        let demand = tls.demand_of(&pair);
        for name in identity.names_in_lower_case() {
            if known.get(&name).is_some_and(|other| *other != demand) {
                let message =
                    format!("two certificates for {name} demand different things of clients");
                let advice = "write the same client-auth, client-ca and client-crl for both";
                complaints.error(&["certificates"], message, advice);
                return;
            }
            known.insert(name, demand.clone());
        }
    }
}
