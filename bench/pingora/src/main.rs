//! A reverse proxy in a few lines on the published Pingora crates, to measure beside Evenkeel.
//! It forwards everything to one backend and logs nothing: what Pingora's own quick start does.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Idle connections to the backend that are kept, as in the configs of the other peers.
const KEPT: usize = 512;

const USAGE: &str = "bench-pingora THREADS BACKEND CLEAR [TLS CERTIFICATE KEY]";

struct Forward {
    backend: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.len() == 1 {
        println!("bench-pingora {}", PINGORA);
        return Ok(());
    }
    let (threads, backend, clear, tls) = match words.as_slice() {
        [threads, backend, clear] => (threads, backend, clear, None),
        [threads, backend, clear, tls, certificate, key] => {
            (threads, backend, clear, Some((tls, certificate, key)))
        }
        _ => return Err(USAGE.into()),
    };
    let settings = ServerConf {
        threads: threads.parse()?,
        upstream_keepalive_pool_size: KEPT,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let forward = Forward { backend: backend.parse()? };
    let mut service = http_proxy_service(&server.configuration, forward);
    service.add_tcp(clear);
    if let Some((address, certificate, key)) = tls {
        let mut tls = TlsSettings::intermediate(certificate, key)?;
        tls.enable_h2();
        service.add_tls_with_settings(address, None, tls);
    }
    server.add_service(service);
    server.run_forever()
}

/// As pinned in Cargo.toml.
const PINGORA: &str = "0.9.1";
