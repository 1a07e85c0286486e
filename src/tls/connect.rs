//! The client's side of a handshake: how a backend proves who it is, and what it is shown of us. A backend that cannot
//! prove it gets not a byte of what is meant for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::certificate;
use super::files::{self, Flaw, Part};
use super::shown::fingerprint;
use super::watch::{Stamp, stamps};
use super::{Files, Version};
use crate::link::{Handshake, Link};
use crate::socket::Socket;

/// Sessions that are kept to be gone on with, per upstream.
const SESSIONS: usize = 1024;

/// What was configured for TLS with the backends of one upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outward {
    pub(crate) trust: Trust,
    /// The name that is asked for and verified, in place of each backend's own.
    pub(crate) name: Option<String>,
    /// What backends are shown that ask for it.
    pub(crate) own: Option<Files>,
    pub(crate) min_version: Version,
    /// What is offered by ALPN.
    pub(crate) protocols: Vec<Vec<u8>>,
    /// Whether a backend must take one of them.
    pub(crate) protocol_is_required: bool,
}

/// How a backend proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// By an authority that the system trusts.
    System,
    /// By one of these.
    Authorities(Vec<PathBuf>),
    /// By being one of these.
    Pinned(Vec<[u8; 32]>),
    /// Not at all.
    Off,
}

/// Goes through handshakes with the backends of one upstream.
#[derive(Debug)]
pub(crate) struct Connector {
    settings: Outward,
    first_read: Vec<Stamp>,
    configs: ArcSwap<Configs>,
}

#[derive(Debug)]
struct Configs {
    traffic: Arc<ClientConfig>,
    /// Checks speak HTTP/1, or no more than TCP.
    probes: Arc<ClientConfig>,
}

impl Outward {
    /// Every file that is read, and read anew when it changes.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let own = self.own.iter().flat_map(|files| [&files.certificate, &files.key]);
        let authorities = match &self.trust {
            Trust::Authorities(paths) => &paths[..],
            Trust::System | Trust::Pinned(_) | Trust::Off => &[],
        };
        own.chain(authorities).cloned().collect()
    }
}

impl Connector {
    /// Reads everything that stands in files.
    pub(crate) fn load(settings: &Outward) -> Result<Connector, Flaw> {
        let first_read = stamps(&settings.files());
        let configs = ArcSwap::from_pointee(Configs::load(settings)?);
        Ok(Connector { settings: settings.clone(), first_read, configs })
    }

    /// Reads all files anew. If one cannot be used, everything stays as it is.
    pub(super) fn reload(&self) -> Result<(), Flaw> {
        self.configs.store(Arc::new(Configs::load(&self.settings)?));
        Ok(())
    }

    pub(super) fn settings(&self) -> &Outward {
        &self.settings
    }

    pub(super) fn first_read(&self) -> &[Stamp] {
        &self.first_read
    }

    /// Goes through the handshake with a backend that has just been connected; `host` is its name in the config.
    pub(crate) async fn secure(&self, socket: Socket, host: &str) -> io::Result<Link> {
        let config = Arc::clone(&self.configs.load().traffic);
        let link = self.handshake(config, socket, host).await?;
        let is_offered = |agreed: &[u8]| self.settings.protocols.iter().any(|one| one == agreed);
        if self.settings.protocol_is_required && !link.protocol().is_some_and(is_offered) {
            let wanted = String::from_utf8_lossy(&self.settings.protocols.concat()).into_owned();
            return Err(io::Error::other(format!("it did not agree to speak {wanted} (ALPN)")));
        }
        Ok(link)
    }

    /// The same for a check.
    pub(crate) async fn secure_check(&self, socket: Socket, host: &str) -> io::Result<Link> {
        let config = Arc::clone(&self.configs.load().probes);
        self.handshake(config, socket, host).await
    }

    async fn handshake(
        &self,
        config: Arc<ClientConfig>,
        socket: Socket,
        host: &str,
    ) -> io::Result<Link> {
        let name = server_name(self.settings.name.as_deref().unwrap_or(host))?;
        let done = Handshake::connect(socket, config, name).await?;
        Ok(Link::Secured(Box::new(done.into_secured()?)))
    }
}

/// The name of a host, or its address; a host without either is asked for nothing.
fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::other(format!("\"{host}\" is no name that a certificate could have"))
    })
}

/// Whether everything that was configured can be read.
pub(crate) fn check(settings: &Outward) -> Result<(), Flaw> {
    Configs::load(settings).map(drop)
}

/// Whether backends, or an authority, could be verified so.
pub(crate) fn check_trust(trust: &Trust) -> Result<(), Flaw> {
    verifier(trust, &Arc::new(aws_lc_rs::default_provider())).map(drop)
}

impl Configs {
    fn load(settings: &Outward) -> Result<Configs, Flaw> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = match settings.min_version {
            Version::Tls12 => &[&TLS13, &TLS12],
            Version::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).map_err(Flaw::of_library)?;
        let verifier = verifier(&settings.trust, &provider)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut traffic = match &settings.own {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let own = Arc::clone(&certificate::of_files(files)?.certified);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
        };
        // The connection goes on with them by itself.
        traffic.enable_secret_extraction = true;
        traffic.resumption = Resumption::in_memory_sessions(SESSIONS);
        let mut probes = traffic.clone();
        probes.resumption = Resumption::in_memory_sessions(SESSIONS);
        traffic.alpn_protocols.clone_from(&settings.protocols);
        Ok(Configs { traffic: Arc::new(traffic), probes: Arc::new(probes) })
    }
}

fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Flaw> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            // Some of many may be of a kind that is not supported.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let message =
                    "the system trusts no authority: there are no certificates".to_owned();
                let advice = "install ca-certificates, or name your own authority: ca = [\"FILE\"]";
                return Err(Flaw::new(Part::Ca, message, advice));
            }
        }
        Trust::Authorities(paths) => {
            for path in paths {
                for authority in files::certificates(path, Part::Ca)? {
                    let damaged = |error: Error| files::damaged(path, Part::Ca, &error.to_string());
                    roots.add(authority).map_err(damaged)?;
                }
            }
        }
        Trust::Pinned(_) | Trust::Off => {
            let pinned = match trust {
                Trust::Pinned(pinned) => Some(pinned.clone()),
                _ => None,
            };
            return Ok(Arc::new(Alone { pinned, provider: Arc::clone(provider) }));
        }
    }
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier: Arc<dyn ServerCertVerifier> = builder.build().map_err(Flaw::of_library)?;
    Ok(verifier)
}

/// Takes certificates for themselves: one of these, or any.
#[derive(Debug)]
struct Alone {
    pinned: Option<Vec<[u8; 32]>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Alone {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pinned {
            Some(pinned) if !pinned.contains(&fingerprint(leaf)) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    // Whoever shows a certificate must have its key, whatever else is taken on trust.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
