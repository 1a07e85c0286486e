//! The sections of TLS: what clients are shown and what is demanded of them. Declared like everything else in a config.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::tls::acme::{Managed, Proof};
use crate::tls::{Auth, Demand, Files, Outward, Source, Trust, Version};

section! {
    /// `tls` of a listener: the certificates that clients are shown, what is demanded of theirs, and what a handshake may be. Files are PEM; keys are not encrypted. All of them are read anew when they change.
    pub struct Tls {
        /// The file of the certificate, followed by those that vouch for it.
        certificate: Option<PathBuf> = None,
        /// The file of its private key.
        key: Option<PathBuf> = None,
        /// In their place: have the certificate issued, and renewed, by ACME.
        acme: Option<Acme> = None,
        /// The file of an OCSP answer (DER) about it, which clients are shown with it while it is valid.
        ocsp: Option<PathBuf> = None,
        /// More certificates. A client is shown the one for the name that it asks for (SNI); of several for one name, the one that it can use.
        certificates: Vec<Certificate> = Vec::new(),
        /// What becomes of a client that asks for a name of no certificate, or for none: it is shown the `"first"` of all certificates, or it is `"refused"`.
        unknown_name: UnknownName = UnknownName::First,
        /// The versions and cipher suites, by the names that Mozilla gave them: `"modern"` is TLS 1.3 alone, `"intermediate"` also TLS 1.2 with forward secrecy.
        profile: TlsProfile = TlsProfile::Intermediate,
        /// The oldest version of TLS that is taken. Absent: as the profile says.
        min_version: Option<TlsVersion> = None,
        /// The file of the keys that session tickets are sealed with, for several nodes to share. Absent: keys that never leave the process, new every six hours.
        ticket_keys: Option<PathBuf> = None,
        /// TCP listeners: the protocols that are offered by ALPN, the preferred one first. HTTP listeners offer what their `http` says.
        alpn: Vec<String> = Vec::new(),
        /// TCP listeners: what clients say in clear before their handshake, `"postgresql"`. Absent: nothing.
        starttls: Option<StartTls> = None,
        /// Also serve clients that do not begin as TLS does, in clear.
        allow_plain: bool = false,
        /// How long a handshake may take, from accepting the connection.
        handshake_timeout: Time = Time::seconds(10),
        /// Handshakes under way at the same time, once a client has said its ClientHello; more wait for their turn.
        handshakes_max: u32 = 4000,
        /// Whether clients show a certificate of their own: `"off"`, `"optional"` or `"required"`. Absent: `"required"` if it is said below which ones are taken, else `"off"`.
        client_auth: Option<ClientAuth> = None,
        /// Files of the authorities whose client certificates are taken.
        client_ca: Vec<PathBuf> = Vec::new(),
        /// Files of their lists of revoked certificates. With one, there must be a valid list of every authority.
        client_crl: Vec<PathBuf> = Vec::new(),
        /// Client certificates that are taken whoever vouches for them, by the SHA-256 of the whole certificate in hexadecimal.
        client_fingerprints: Vec<Fingerprint> = Vec::new(),
        /// Take any certificate that vouches for itself. Whoever wants can make one: it shows that a client has come before, never who it is.
        client_self_signed: bool = false,
        /// Authorities that may stand between a client's certificate and one of `client-ca`.
        verify_depth: u32 = 3,
    }
}

section! {
    /// One of `certificates`. Where it says nothing of clients, what the table around it says holds.
    pub struct Certificate {
        /// The file of the certificate, followed by those that vouch for it.
        certificate: Option<PathBuf> = None,
        /// The file of its private key.
        key: Option<PathBuf> = None,
        /// In their place: have the certificate issued, and renewed, by ACME.
        acme: Option<Acme> = None,
        /// The file of an OCSP answer (DER) about it.
        ocsp: Option<PathBuf> = None,
        /// Whether clients that ask for its names show a certificate of their own.
        client_auth: Option<ClientAuth> = None,
        /// Files of the authorities whose client certificates are taken.
        client_ca: Vec<PathBuf> = Vec::new(),
        /// Files of their lists of revoked certificates.
        client_crl: Vec<PathBuf> = Vec::new(),
        /// Client certificates that are taken whoever vouches for them, by their SHA-256.
        client_fingerprints: Vec<Fingerprint> = Vec::new(),
        /// Take any certificate that vouches for itself.
        client_self_signed: bool = false,
        /// Authorities that may stand between a client's certificate and one of `client-ca`.
        verify_depth: Option<u32> = None,
    }
}

section! {
    /// `acme`: a certificate that is issued and renewed by an authority such as Let's Encrypt (RFC 8555). Whoever writes this agrees to its terms of service.
    pub struct Acme {
        /// The names it is for. Whoever asks for one of them must reach this listener, or be answered by `dns-hook`.
        domains: Vec<String> = required,
        /// How the authority may reach you, as `"mailto:you@example.com"`.
        contact: Vec<String> = Vec::new(),
        /// Where the authority's directory is.
        directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        /// The file of whoever vouches for the authority's own server, in place of those that the system trusts.
        directory_ca: Option<PathBuf> = None,
        /// The folder for the account, the certificate and answers to challenges. Several nodes may share it.
        state: PathBuf = PathBuf::from("acme"),
        /// How it is shown that the names are ours: `"tls-alpn-01"` (over port 443 of this listener), `"http-01"` (over an HTTP listener on port 80) or `"dns-01"` (by `dns-hook`).
        challenge: Challenge = Challenge::TlsAlpn,
        /// With `"dns-01"`: a program that makes the record in DNS, called as `PROGRAM set DOMAIN VALUE` before and `PROGRAM clear DOMAIN VALUE` after.
        dns_hook: Option<PathBuf> = None,
        /// With `"dns-01"`: how long a record may take to be seen.
        dns_delay: Time = Time::seconds(30),
    }
}

section! {
    /// `tls` of an upstream: how backends prove who they are, and what they are shown of us. `true` verifies them by the authorities that the system trusts and the names that they have in `backends`.
    pub struct UpstreamTls {
        /// Files of the authorities that backends are verified by, in place of those that the system trusts.
        ca: Vec<PathBuf> = Vec::new(),
        /// Certificates of backends that are taken whoever vouches for them and whatever name they have, by the SHA-256 of the whole certificate.
        fingerprints: Vec<Fingerprint> = Vec::new(),
        /// The name that is asked for (SNI) and verified. Absent: the name or address of each backend in `backends`.
        name: Option<String> = None,
        /// `"off"` takes whoever answers, so that anybody in between can read and change everything.
        verify: Verify = Verify::Full,
        /// The file of our own certificate, for backends that ask for it.
        certificate: Option<PathBuf> = None,
        /// The file of its private key.
        key: Option<PathBuf> = None,
        /// The oldest version of TLS that is taken.
        min_version: TlsVersion = TlsVersion::Tls12,
        /// The protocols that are offered by ALPN. With `h2`, that is `"h2"`, and backends must take it.
        alpn: Vec<String> = Vec::new(),
    }
}

/// What is demanded of the clients of one certificate, wherever that was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClientDemand {
    pub(crate) auth: ClientAuth,
    pub(crate) ca: Vec<PathBuf>,
    pub(crate) crl: Vec<PathBuf>,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) self_signed: bool,
    pub(crate) depth: u32,
}

impl ClientDemand {
    /// Whether any certificate of a client could be taken.
    pub(crate) fn takes_any(&self) -> bool {
        !self.ca.is_empty() || !self.fingerprints.is_empty() || self.self_signed
    }

    /// What was said, or what it means that nothing was.
    fn with(mut self, said: Option<ClientAuth>) -> ClientDemand {
        let meant = if self.takes_any() { ClientAuth::Required } else { ClientAuth::Off };
        self.auth = said.unwrap_or(meant);
        self
    }
}

impl Tls {
    /// Every certificate with its key, the first being the default.
    pub(crate) fn every_certificate(&self) -> Vec<Certificate> {
        let first = self.first();
        first.into_iter().chain(self.certificates.iter().cloned()).collect()
    }

    /// The one that is written beside everything else.
    pub(crate) fn first(&self) -> Option<Certificate> {
        let first = Certificate {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            acme: self.acme.clone(),
            ocsp: self.ocsp.clone(),
            ..Certificate::default()
        };
        (first != Certificate::default()).then_some(first)
    }

    /// The oldest version that is taken.
    pub(crate) fn oldest(&self) -> TlsVersion {
        self.min_version.unwrap_or(match self.profile {
            TlsProfile::Modern => TlsVersion::Tls13,
            TlsProfile::Intermediate => TlsVersion::Tls12,
        })
    }

    /// What is demanded of clients where a certificate says nothing of its own.
    pub(crate) fn demand(&self) -> ClientDemand {
        let demand = ClientDemand {
            auth: ClientAuth::Off,
            ca: self.client_ca.clone(),
            crl: self.client_crl.clone(),
            fingerprints: self.client_fingerprints.clone(),
            self_signed: self.client_self_signed,
            depth: self.verify_depth,
        };
        demand.with(self.client_auth)
    }

    /// What is demanded of the clients of one certificate.
    pub(crate) fn demand_of(&self, certificate: &Certificate) -> ClientDemand {
        let own = ClientDemand {
            auth: ClientAuth::Off,
            ca: certificate.client_ca.clone(),
            crl: certificate.client_crl.clone(),
            fingerprints: certificate.client_fingerprints.clone(),
            self_signed: certificate.client_self_signed,
            depth: certificate.verify_depth.unwrap_or(self.verify_depth),
        };
        if own.takes_any() {
            return own.with(certificate.client_auth);
        }
        let around = self.demand();
        let crl = if own.crl.is_empty() { around.crl } else { own.crl };
        let auth = certificate.client_auth.unwrap_or(around.auth);
        ClientDemand { auth, crl, depth: own.depth, ..around }
    }
}

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
    /// Where it comes from, as `tls` takes it; none while that has not been said in full.
    pub(crate) fn source(&self) -> Option<Source> {
        if let Some(acme) = &self.acme {
            return Some(Source::Managed(Arc::new(acme.compiled())));
        }
        let (certificate, key) = self.certificate.clone().zip(self.key.clone())?;
        Some(Source::Files(Files { certificate, key, ocsp: self.ocsp.clone() }))
    }
}

impl Acme {
    /// The same as `tls` takes it.
    pub(crate) fn compiled(&self) -> Managed {
        Managed {
            domains: self
                .domains
                .iter()
                .map(|name| name.strip_suffix('.').unwrap_or(name).to_lowercase())
                .collect(),
            contact: self.contact.clone(),
            directory: self.directory.clone(),
            directory_ca: self.directory_ca.clone(),
            state: self.state.clone(),
            proof: match (&self.challenge, &self.dns_hook) {
                (Challenge::Http, _) => Proof::Http,
                (Challenge::TlsAlpn, _) => Proof::TlsAlpn,
                (Challenge::Dns, hook) => {
                    Proof::Dns { hook: hook.clone().unwrap_or_default(), delay: self.dns_delay.0 }
                }
            },
        }
    }
}

impl UpstreamTls {
    /// The same as `tls` takes it.
    pub(crate) fn compiled(&self, h2: bool) -> Outward {
        let trust = if self.verify == Verify::Off {
            Trust::Off
        } else if !self.fingerprints.is_empty() {
            Trust::Pinned(self.fingerprints.iter().map(|pinned| pinned.0).collect())
        } else if !self.ca.is_empty() {
            Trust::Authorities(self.ca.clone())
        } else {
            Trust::System
        };
        let own = self.certificate.clone().zip(self.key.clone());
        let protocols = match (h2, &self.alpn[..]) {
            (true, _) => vec![HttpVersion::Http2.alpn().to_vec()],
            (false, named) => named.iter().map(|name| name.as_bytes().to_vec()).collect(),
        };
        Outward {
            trust,
            name: self.name.clone(),
            own: own.map(|(certificate, key)| Files { certificate, key, ocsp: None }),
            min_version: self.min_version.compiled(),
            protocols,
            protocol_is_required: h2,
        }
    }
}

impl TlsVersion {
    /// The same as `tls` takes it.
    pub(crate) fn compiled(self) -> Version {
        match self {
            TlsVersion::Tls12 => Version::Tls12,
            TlsVersion::Tls13 => Version::Tls13,
        }
    }
}
