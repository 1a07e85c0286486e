//! An authority of a test's own, that issues certificates for clients and takes them back.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Whoever vouches for others.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, with those that vouch for it.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let params = authority(name);
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Another one that this one vouches for.
    pub(crate) fn below(&self, name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let params = authority(name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `CN=name`.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, |_| {})
    }

    /// The same with something else about it.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = person(name, change).signed_by(&key, &self.issuer).expect("one");
        Issued { chain: vec![certificate.der().clone()], key }
    }

    /// Its list of revoked certificates, by their serial numbers, valid to the end of a year.
    pub(crate) fn revoke(&self, serials: &[u64], year: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

impl Issued {
    /// One that vouches for itself.
    pub(crate) fn alone(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = person(name, change).self_signed(&key).expect("a certificate");
        Issued { chain: vec![certificate.der().clone()], key }
    }

    /// The same, shown together with an authority that vouches for it.
    pub(crate) fn with(mut self, authority: &Authority) -> Issued {
        self.chain.push(authority.certificate.der().clone());
        self
    }

    /// A client that shows it.
    pub(crate) fn shown_by(&self, client: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut client = ClientConfig::clone(client);
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let provider = client.crypto_provider();
        let key = provider.key_provider.load_private_key(key).expect("a key");
        let certified = rustls::sign::CertifiedKey::new(self.chain.clone(), key);
        client.client_auth_cert_resolver =
            Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        // A session of whoever showed something else is not theirs.
        client.resumption = rustls::client::Resumption::default();
        Arc::new(client)
    }

    /// The certificate itself in PEM.
    pub(crate) fn pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.chain[0]);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    /// Its SHA-256 in hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.chain[0]);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = person(name, |_| {});
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn person(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}
