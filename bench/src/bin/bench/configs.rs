//! The config of each peer, made from a few values, and the command line that goes with it.
//! Every one has access logs off, the same limit of connections and the same timeouts.

mod http;
mod tcp;

use std::path::Path;

use crate::measure::Door;
use crate::peer::{Peer, stream_is_built_in};
use crate::site;
use crate::suite::Suite;

/// Where Debian puts nginx's stream module.
pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Has to fit under a hard limit of 20,000 descriptors: two for each connection, and HAProxy wants
/// half of one more for the pipes of splice.
const CONNECTIONS: usize = 7000;

/// What differs from run to run.
#[derive(Clone, Copy)]
pub struct Setting {
    pub suite: Suite,
    pub threads: usize,
    /// Port of the listener in clear text.
    pub clear: u16,
    /// Ports of the others, if this peer and run have them.
    pub tls: Option<u16>,
    pub files: Option<u16>,
    /// The same at each of the suite's backend hosts.
    pub backend_port: u16,
    pub nginx_needs_module: bool,
}

impl Setting {
    pub fn new(suite: Suite, peer: Peer, program: &Path, threads: usize) -> Setting {
        let nginx_needs_module =
            peer == Peer::Nginx && !suite.is_http() && !stream_is_built_in(program);
        let (clear, tls, files, backend_port) = (0, None, None, 0);
        Setting { suite, threads, clear, tls, files, backend_port, nginx_needs_module }
    }

    /// HOST:PORT of each backend.
    pub fn backends(&self) -> Vec<String> {
        let hosts = self.suite.backend_hosts().iter();
        hosts.map(|host| format!("{host}:{}", self.backend_port)).collect()
    }

    /// Tells where a door is.
    pub fn open(&mut self, door: Door, port: u16) {
        match door {
            Door::Clear => self.clear = port,
            Door::Tls => self.tls = Some(port),
            Door::Files => self.files = Some(port),
        }
    }
}

/// Name and text of each file a peer needs.
pub fn files(peer: Peer, setting: Setting) -> Vec<(&'static str, String)> {
    let write = |of_tcp: fn(Setting) -> String, of_http: fn(Setting) -> String| {
        if setting.suite.is_http() { of_http(setting) } else { of_tcp(setting) }
    };
    match peer {
        Peer::Evenkeel if setting.suite == Suite::Packets => {
            vec![("evenkeel.toml", tcp::evenkeel_by_packet(setting))]
        }
        Peer::Relay => vec![("evenkeel.toml", tcp::evenkeel(setting))],
        Peer::Evenkeel => vec![("evenkeel.toml", write(tcp::evenkeel, http::evenkeel))],
        Peer::Haproxy => vec![("haproxy.cfg", write(tcp::haproxy, http::haproxy))],
        Peer::Nginx => vec![("nginx.conf", write(tcp::nginx, http::nginx))],
        Peer::Envoy => vec![("envoy.yaml", write(tcp::envoy, http::envoy))],
        Peer::Traefik => vec![
            ("traefik.toml", write(tcp::traefik, http::traefik)),
            ("routes.toml", write(tcp::traefik_routes, http::traefik_routes)),
        ],
        Peer::Caddy => vec![("Caddyfile", http::caddy(setting))],
        Peer::Pingora | Peer::Direct => Vec::new(),
    }
}

/// Arguments, run in the folder that holds the files.
pub fn arguments(peer: Peer, setting: Setting) -> Vec<String> {
    let threads = setting.threads.to_string();
    let words: &[&str] = match peer {
        Peer::Evenkeel | Peer::Relay => &["run", "-c", "evenkeel.toml"],
        Peer::Haproxy => &["-db", "-f", "haproxy.cfg"],
        Peer::Nginx => &["-p", ".", "-e", "stderr", "-c", "nginx.conf"],
        Peer::Envoy => &[
            "-c",
            "envoy.yaml",
            "--concurrency",
            &threads,
            "--disable-hot-restart",
            "--log-level",
            "error",
        ],
        Peer::Traefik => &["--configFile=traefik.toml"],
        Peer::Caddy => &["run", "--config", "Caddyfile", "--adapter", "caddyfile"],
        Peer::Pingora => return pingora(setting),
        Peer::Direct => &[],
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// It has no config file.
fn pingora(Setting { threads, clear, tls, backend_port, .. }: Setting) -> Vec<String> {
    let address = |port| format!("127.0.0.1:{port}");
    let mut words = vec![threads.to_string(), address(backend_port), address(clear)];
    if let Some(tls) = tls {
        words.extend([address(tls), site::CERTIFICATE.to_owned(), site::KEY.to_owned()]);
    }
    words
}

/// Environment, for those that take their threads from there.
pub fn environment(peer: Peer, threads: usize) -> Option<(&'static str, String)> {
    matches!(peer, Peer::Traefik | Peer::Caddy).then(|| ("GOMAXPROCS", threads.to_string()))
}
