//! What `tls` must hold beyond its single values: certificates and keys that are there and fit each other, and a way to
//! take every client that must show a certificate. Files are read, since a listener that cannot show a certificate, or
//! cannot judge one, is of no use to anybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::{Complaints, tcp};
use crate::config::problem::shown;
use crate::config::{
    Acme, Address, Certificate, Challenge, ClientAuth, ClientDemand, Config, HostPattern, Tls,
    TlsProfile, TlsVersion, Upstream, UpstreamTls, Verify,
};
use crate::tls::acme::Managed;
use crate::tls::{Flaw, Trust, certificate};

pub(super) fn verify(tls: &Tls, complaints: &mut Complaints) {
    match tls.first() {
        Some(first) => certificate(&first, complaints),
        None if tls.certificates.is_empty() => {
            let advice = "add certificate = \"FILE\" and key = \"FILE\", or acme";
            complaints.error(&[], "there is no certificate", advice);
        }
        None => {}
    }
    for (index, pair) in tls.certificates.iter().enumerate() {
        complaints.below(&["certificates", &index.to_string()], |complaints| {
            certificate(pair, complaints);
            clients(&tls.demand_of(pair), pair.client_auth.is_some(), complaints);
        });
    }
    clients(&tls.demand(), tls.client_auth.is_some(), complaints);
    plain(tls, complaints);
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
    match (&pair.certificate, &pair.key, &pair.acme) {
        (None, None, Some(acme)) => {
            return complaints.below(&["acme"], |complaints| self::acme(acme, complaints));
        }
        (certificate, _, Some(_)) => {
            let key = if certificate.is_some() { "certificate" } else { "key" };
            let message = format!("this {key} does nothing beside acme");
            return complaints.error(&[key], message, "leave out one of them");
        }
        (Some(_), Some(_), None) => {}
        (Some(_), None, None) => {
            let advice = "add key = \"FILE\"";
            return complaints.error(&["certificate"], "this certificate has no key", advice);
        }
        (None, Some(_), None) => {
            let advice = "add certificate = \"FILE\"";
            return complaints.error(&["key"], "this key has no certificate", advice);
        }
        (None, None, None) => {
            let advice = "add certificate = \"FILE\" and key = \"FILE\", or acme";
            return complaints.error(&[], "there is no certificate", advice);
        }
    }
    let Some(source) = pair.source() else { return };
    match certificate::load(&source) {
        // A restart must not take down what still works for somebody.
        Ok(identity) => identity.out_of_date.into_iter().for_each(|(part, message)| {
            complaints.warning(&[part.key()], message, "renew it, or set the clock");
        }),
        Err(flaw) => flawed(flaw, complaints),
    }
}

fn acme(acme: &Acme, complaints: &mut Complaints) {
    if acme.domains.is_empty() {
        let advice = "name them: domains = [\"www.example.com\"]";
        complaints.error(&["domains"], "there is no name to get a certificate for", advice);
    }
    // So many names a certificate of Let's Encrypt may have.
    complaints.within("domains", u32::try_from(acme.domains.len()).unwrap_or(u32::MAX), 0..=100);
    for (index, domain) in acme.domains.iter().enumerate() {
        let keys = ["domains", &index.to_string()];
        match domain.parse() {
            Ok(HostPattern::Exact(name)) if name.parse::<IpAddr>().is_err() => {}
            Ok(HostPattern::Below(_)) if acme.challenge == Challenge::Dns => {}
            Ok(HostPattern::Below(_)) => {
                let advice = "write challenge = \"dns-01\"";
                complaints.error(&keys, "only dns-01 can show that a wildcard is yours", advice);
            }
            _ => {
                let message = format!("\"{}\" is no name of a host", shown(domain));
                complaints.error(&keys, message, "write one such as \"www.example.com\"");
            }
        }
    }
    for (index, contact) in acme.contact.iter().enumerate() {
        if !contact.starts_with("mailto:") {
            let message = format!("\"{}\" is no way to reach you", shown(contact));
            let advice = "write \"mailto:you@example.com\"";
            complaints.error(&["contact", &index.to_string()], message, advice);
        }
    }
    if !acme.directory.starts_with("https://") {
        let message = "the directory of an authority is at an address that begins with https://";
        complaints.error(&["directory"], message, "leave it out for Let's Encrypt");
    }
    if let Some(ca) = &acme.directory_ca {
        let trust = Trust::Authorities(vec![ca.clone()]);
        if let Err(flaw) = crate::tls::connect::check_trust(&trust) {
            complaints.error(&["directory-ca"], flaw.message, flaw.advice);
        }
    }
    match (acme.challenge, &acme.dns_hook) {
        (Challenge::Dns, None) => {
            let advice = "add dns-hook = \"PROGRAM\"";
            complaints.error(&["challenge"], "nobody would make the record in DNS", advice);
        }
        (Challenge::Dns, Some(hook)) if !hook.is_file() => {
            let message = format!("there is no program \"{}\"", hook.display());
            complaints.error(
                &["dns-hook"],
                message,
                "a path is relative to the file that names it",
            );
        }
        (Challenge::Http | Challenge::TlsAlpn, Some(_)) => {
            let advice = "write challenge = \"dns-01\", or leave it out";
            complaints.error(&["dns-hook"], "only dns-01 needs this", advice);
        }
        _ => {}
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

/// In clear nobody shows a certificate.
fn plain(tls: &Tls, complaints: &mut Complaints) {
    let demands = tls.certificates.iter().map(|pair| tls.demand_of(pair)).chain([tls.demand()]);
    let demands: Vec<_> = demands.map(|demand| demand.auth).collect();
    if !tls.allow_plain {
    } else if demands.contains(&ClientAuth::Required) {
        let message = "in clear, clients would be served that show no certificate";
        complaints.error(&["allow-plain"], message, "leave it out, or client-auth");
    } else if demands.contains(&ClientAuth::Optional) {
        let message = "clients in clear are served as those that show no certificate";
        complaints.warning(&["allow-plain"], message, "");
    }
}

/// Certificates by ACME whose first names are the same share a file, and so must be the same.
pub(super) fn one_of_each(config: &Config, complaints: &mut Complaints) {
    let mut known: HashMap<PathBuf, Managed> = HashMap::new();
    let http = config.http.iter().map(|(name, listener)| ("http", name, &listener.tls));
    let tcp = config.tcp.iter().map(|(name, listener)| ("tcp", name, &listener.tls));
    for (section, name, tls) in http.chain(tcp) {
        let every = tls.iter().flat_map(Tls::every_certificate);
        for managed in every.filter_map(|pair| pair.acme).map(|acme| acme.compiled()) {
            if known.get(&managed.file()).is_some_and(|other| *other != managed) {
                let first = managed.domains.first().map_or("", String::as_str);
                let message =
                    format!("another acme also begins with {}, and is different", shown(first));
                let advice = "write both alike, or give each a state of its own";
                complaints.error(&[section, name, "tls"], message, advice);
            }
            known.insert(managed.file(), managed);
        }
    }
}

/// Two certificates for one name are for one kind of clients.
fn names(tls: &Tls, complaints: &mut Complaints) {
    let mut known: HashMap<String, ClientDemand> = HashMap::new();
    for (index, pair) in tls.every_certificate().into_iter().enumerate() {
        // One that cannot be read has been named already.
        let Some(Ok(identity)) = pair.source().map(|source| certificate::load(&source)) else {
            continue;
        };
        if index > 0 && identity.names_in_lower_case().next().is_none() {
            let message = "no name of a host stands in one of the certificates";
            let advice = "nobody could ask for it: have it issued with subjectAltName";
            complaints.error(&["certificates"], message, advice);
            return;
        }
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
