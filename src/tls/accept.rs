//! The server's side of a handshake: what a listener offers, and how long a client may take to agree.
//! It must never let a byte of early data in (0-RTT can be replayed), and never outlast its time.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use super::certificate::{self, Flaw};
use super::names::ByName;
use super::{Settings, Version};
use crate::link::{HELD, Link};
use crate::socket::Socket;

/// Takes clients of one listener through their handshakes.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    timeout: Duration,
}

/// Why there is no secure connection.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The client ended before its first byte: a health check, or a change of mind.
    Silent,
    /// The client speaks HTTP in clear. Nothing has been read from it.
    PlainHttp(Socket),
    /// It was not done after this time.
    Late(Duration),
    /// The handshake itself, with the cause as rustls says it.
    Handshake(io::Error),
}

impl Acceptor {
    /// Reads the certificates and their keys.
    pub(crate) fn load(settings: &Settings) -> Result<Acceptor, Flaw> {
        let mut identities = Vec::new();
        for files in &settings.identities {
            identities.push(certificate::load(files)?);
        }
        let names = ByName::new(identities).ok_or_else(Flaw::nothing)?;
        let versions: &[_] = match settings.min_version {
            Version::Tls12 => &[&TLS13, &TLS12],
            Version::Tls13 => &[&TLS13],
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(Flaw::of_library)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(names));
        config.alpn_protocols = settings.protocols.iter().map(|name| name.to_vec()).collect();
        // One for all workers of a listener, so that a client may come back on any. Its keys change every six hours.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(Flaw::of_library)?;
        config.max_early_data_size = 0;
        Ok(Acceptor { config: Arc::new(config), timeout: settings.handshake_timeout })
    }

    /// Goes through the handshake with a client that has just been let in.
    pub(crate) async fn accept(&self, socket: Socket) -> Result<Link, Failed> {
        let handshake = tokio::time::timeout(self.timeout, self.handshake(socket));
        handshake.await.unwrap_or(Err(Failed::Late(self.timeout)))
    }

    async fn handshake(&self, socket: Socket) -> Result<Link, Failed> {
        let mut first = [0];
        let arrived = poll_fn(|cx| socket.poll_peek_beyond(cx, 0, &mut first)).await;
        match arrived.map_err(Failed::Handshake)?.count {
            0 => return Err(Failed::Silent),
            // A record begins with 22 (RFC 8446 5.1), a request with its method.
            _ if first[0].is_ascii_uppercase() => return Err(Failed::PlainHttp(socket)),
            _ => {}
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let stream = acceptor.accept_with(socket, |session| session.set_buffer_limit(Some(HELD)));
        stream.await.map(Link::secure).map_err(Failed::Handshake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Files;

    #[test]
    fn early_data_is_off_and_tickets_are_on() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let acceptor = Acceptor::load(&Settings {
            identities: vec![Files { certificate, key }],
            min_version: Version::Tls13,
            handshake_timeout: Duration::from_secs(1),
            protocols: vec![b"http/1.1"],
        })
        .unwrap();
        assert_eq!(acceptor.config.max_early_data_size, 0);
        assert!(acceptor.config.ticketer.enabled());
        let groups = &acceptor.config.crypto_provider().kx_groups;
        assert_eq!(groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
