//! Certificates made for one test, and clients that speak TLS and trust them and nobody else.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::client;
use super::http::Client;

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A folder of certificates, each vouching for itself.
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
    roots: RootCertStore,
}

impl Certificates {
    /// One for `a.test`, as `a.crt` and `a.key`.
    pub(crate) fn new() -> Certificates {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut certificates = Certificates { folder, roots: RootCertStore::empty() };
        certificates.add("a", &["a.test"]);
        certificates
    }

    /// One more for these names, as `FILE.crt` and `FILE.key`.
    pub(crate) fn add(&mut self, file: &str, names: &[&str]) {
        self.add_with(file, names, |_| {});
    }

    /// The same with something else about it.
    pub(crate) fn add_with(
        &mut self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        fs::write(self.path(&format!("{file}.crt")), made.pem()).expect("write it");
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).expect("write it");
        self.roots.add(made.der().clone()).expect("a root");
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The first lines of `tls`, with the one for `a.test`.
    pub(crate) fn pair(&self) -> String {
        let (certificate, key) = (self.path("a.crt"), self.path("a.key"));
        format!("certificate = \"{}\", key = \"{}\"", certificate.display(), key.display())
    }

    /// A client's settings, to be used for more than one connection.
    pub(crate) fn trusted(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let roots = self.roots.clone();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client that has asked for `a.test`.
    pub(crate) fn client(&self, door: SocketAddr) -> Client<Stream> {
        connect(door, "a.test", self.trusted(&["http/1.1"]))
    }
}

/// A client that is through its handshake.
pub(crate) fn connect(door: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Client<Stream> {
    try_connect(door, name, config).unwrap_or_else(|error| panic!("handshake as {name}: {error}"))
}

/// The same, or what the handshake came to.
pub(crate) fn try_connect(
    door: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<Client<Stream>> {
    let name = name.to_owned().try_into().expect("a name");
    let session = ClientConnection::new(config, name).expect("a client");
    let mut stream = StreamOwned::new(session, client::connect(door));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client { stream: std::io::BufReader::new(stream) })
}

/// The certificate that the other side has shown.
pub(crate) fn shown(client: &Client<Stream>) -> CertificateDer<'static> {
    let shown = client.stream.get_ref().conn.peer_certificates().expect("a certificate");
    shown[0].clone().into_owned()
}
