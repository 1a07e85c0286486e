//! What `tls` must hold beyond its single values: certificates and keys that are there and fit each other, and a way to
//! take every client that must show a certificate. Files are read, since a listener that cannot show a certificate, or
//! cannot judge one, is of no use to anybody.

use std::collections::HashMap;

use super::{Complaints, tcp};
use crate::config::{Certificate, ClientAuth, ClientDemand, Tls, TlsProfile, TlsVersion};
use crate::tls::certificate;
use crate::tls::{Auth, Demand, Files, Flaw};

impl ClientDemand {
    /// The same as `tls` takes it.
    pub(crate) fn compiled(&self) -> Demand {
        Demand {
            auth: match self.auth {
                ClientAuth::Off => Auth::Off,
                ClientAuth::Optional => Auth::Optional,
                ClientAuth::Required => Auth::Required,
            },
            ca: self.ca.clone(),
            crl: self.crl.clone(),
            fingerprints: self.fingerprints.iter().map(|pinned| pinned.0).collect(),
            self_signed: self.self_signed,
            depth: self.depth as usize,
        }
    }
}

impl Certificate {
    /// Its files as `tls` takes them.
    pub(crate) fn files(&self) -> Files {
        let Certificate { certificate, key, ocsp, .. } = self.clone();
        Files { certificate, key, ocsp }
    }
}

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
