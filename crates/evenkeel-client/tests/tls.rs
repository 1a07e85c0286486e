//! TLS: whom to trust, what to show, and the same promises as in clear.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_client::{Connector, Error, Step, Tls};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{connector, framing, listen, next, packet};

/// A certificate that vouches for itself, and its key, both PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    key: String,
}

impl Pair {
    pub(crate) fn new(name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A server with it; with `clients`, one that lets in nobody else.
    pub(crate) fn acceptor(&self, clients: Option<&Pair>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let der =
            |pair: &Pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(der(clients)).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![der(self)], key).unwrap()))
    }

    fn trusted(&self) -> Tls {
        Tls::with_roots_pem(self.certificate.as_bytes()).unwrap()
    }
}

/// Echoes packets of one client, and then ends as TLS wants it.
fn echo(listener: TcpListener, acceptor: TlsAcceptor) {
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        while let Some(body) = next(&mut stream).await {
            stream.write_all(&packet(body)).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.shutdown().await.unwrap();
    });
}

#[tokio::test]
async fn packets_pass_through_tls_in_one_piece_and_in_halves() {
    let pair = Pair::new("localhost");
    let (listener, address) = listen().await;
    echo(listener, pair.acceptor(None));
    let connector = connector(framing()).tls(pair.trusted());
    let name = format!("localhost:{}", address.port());
    let mut connection = connector.connect(name).await.unwrap();
    let body = vec![3; 100_000];
    assert_eq!(connection.request(&body).await.unwrap(), body);
    let (mut sender, mut receiver) = connection.split().unwrap();
    sender.send(b"half").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "half");
    sender.finish().await.unwrap();
    assert!(receiver.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let (own, other) = (Pair::new("localhost"), Pair::new("localhost"));
    for tls in [other.trusted(), own.trusted().server_name("another.test")] {
        let (listener, address) = listen().await;
        echo(listener, own.acceptor(None));
        let error = connector(framing()).tls(tls).connect(address).await.unwrap_err();
        let Error::Connect(tries) = &error else { panic!("{error}") };
        assert_eq!(tries[0].step, Step::Tls, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn the_name_that_is_verified_can_be_another_one() {
    let pair = Pair::new("inside.test");
    let (listener, address) = listen().await;
    echo(listener, pair.acceptor(None));
    let tls = pair.trusted().server_name("inside.test");
    let mut connection = connector(framing()).tls(tls).connect(address).await.unwrap();
    assert_eq!(connection.request(b"x").await.unwrap(), "x");
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (server, client) = (Pair::new("localhost"), Pair::new("client.test"));
    let own = |tls: Tls| {
        tls.client_certificate_pem(client.certificate.as_bytes(), client.key.as_bytes()).unwrap()
    };
    let (listener, address) = listen().await;
    echo(listener, server.acceptor(Some(&client)));
    let tls = own(server.trusted()).server_name("localhost");
    let mut connection = connector(framing()).tls(tls).connect(address).await.unwrap();
    assert_eq!(connection.request(b"x").await.unwrap(), "x");

    // Without it: with TLS 1.3, the refusal comes after the handshake.
    let (listener, address) = listen().await;
    echo(listener, server.acceptor(Some(&client)));
    let tls = server.trusted().server_name("localhost");
    let mut connection = connector(framing()).tls(tls).connect(address).await.unwrap();
    let error = connection.request(b"x").await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn an_end_that_tls_does_not_vouch_for_is_a_loss() {
    let pair = Pair::new("localhost");
    let (listener, address) = listen().await;
    let acceptor = pair.acceptor(None);
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        stream.write_all(&packet("whole")).await.unwrap();
        stream.flush().await.unwrap();
        stream.get_mut().0.shutdown().await.unwrap();
        next(&mut stream).await;
    });
    let tls = pair.trusted().server_name("localhost");
    let mut connection = connector(framing()).tls(tls).connect(address).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "whole");
    let error = connection.recv().await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn the_time_limit_covers_the_handshake() {
    let pair = Pair::new("localhost");
    // The kernel accepts, and nobody answers.
    let (_listener, address) = listen().await;
    let connector = Connector::new(framing()).timeout(Duration::from_millis(100));
    let error = connector.tls(pair.trusted()).connect(address).await.unwrap_err();
    let Error::Connect(tries) = &error else { panic!("{error}") };
    assert!(error.is_timeout() && tries[0].step == Step::Tls, "{error}");
}

#[test]
fn what_is_no_certificate_is_named_where_it_is_given() {
    assert!(matches!(Tls::with_roots_pem(b"nothing"), Err(Error::Unusable(_))));
    let (one, other) = (Pair::new("a.test"), Pair::new("b.test"));
    let mixed =
        one.trusted().client_certificate_pem(one.certificate.as_bytes(), other.key.as_bytes());
    assert!(matches!(mixed, Err(Error::Unusable(_))));
}
