//! Whom a connection through TLS trusts, and what it shows of itself. Whatever is asked for is made into rustls's settings
//! at once, so that a bad certificate is found where it is named, and a connection never goes on without one.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// TLS for a connection: 1.2 or 1.3, by rustls with aws-lc-rs, the server's certificate verified.
#[derive(Clone, Debug)]
pub struct Tls {
    /// None where the settings came whole.
    roots: Option<Arc<RootCertStore>>,
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts whom this system trusts. Reads files. [`Error::Unusable`] if there is nobody.
    pub fn native() -> Result<Tls, Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let cause = found.errors.first().map(|error| format!(": {error}"));
            return Err(Error::Unusable(format!(
                "this system names no authority to trust{}",
                cause.unwrap_or_default()
            )));
        }
        Tls::trusting(roots)
    }

    /// Trusts these certificates (PEM) and nobody else. [`Error::Unusable`] if they cannot be read, or there is none.
    pub fn with_roots_pem(pem: &[u8]) -> Result<Tls, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots.add(certificate).map_err(|error| unusable("a certificate to trust", &error))?;
        }
        Tls::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Result<Tls, Error> {
        let roots = Arc::new(roots);
        let config = settings(Arc::clone(&roots), None)?;
        Ok(Tls { roots: Some(roots), config: Arc::new(config), server_name: None })
    }

    /// Shows this certificate to servers that ask for one: its chain and its key, both PEM. [`Error::Unusable`] if they
    /// cannot be read, or do not belong together, or if this was made from whole settings.
    pub fn client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Tls, Error> {
        let Some(roots) = &self.roots else {
            let what = "the client certificate is part of the settings that were given";
            return Err(Error::Unusable(what.to_owned()));
        };
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| unusable("the key of the client certificate", &error))?;
        let config = settings(Arc::clone(roots), Some((certificates(chain)?, key)))?;
        self.config = Arc::new(config);
        Ok(self)
    }

    /// The name that is asked for and verified, in place of the host that is connected to.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to verify, where `host` is connected to.
    pub(crate) fn name_for<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }
}

/// TLS with settings of rustls that are used as they are.
impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Tls {
        Tls { roots: None, config, server_name: None }
    }
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn settings(roots: Arc<RootCertStore>, own: Option<Own>) -> Result<ClientConfig, Error> {
    // Named here, as the process may have chosen another provider, or none.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots);
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable("the client certificate", &error)),
    }
}

/// The certificates in a text, one at least.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(Error::Unusable("there is no certificate in this PEM".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(unusable("a certificate", &error)),
    }
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unusable(format!("{what} cannot be used: {error}"))
}
