//! The config of each peer, made from four values, and the command line that goes with it.
//! Every one has access logs off, the same limit of connections and the same timeouts.

use std::path::Path;

use crate::peer::{Peer, stream_is_built_in};

/// Where Debian puts nginx's stream module.
pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Has to fit under a hard limit of 20,000 descriptors: two for each connection, and HAProxy wants
/// half of one more for the pipes of splice.
const CONNECTIONS: usize = 7000;

/// What differs from run to run.
#[derive(Clone, Copy)]
pub struct Setting {
    pub threads: usize,
    pub listen_port: u16,
    pub backend_port: u16,
    pub nginx_needs_module: bool,
}

impl Setting {
    pub fn new(peer: Peer, program: &Path, threads: usize, backend_port: u16) -> Setting {
        let nginx_needs_module = peer == Peer::Nginx && !stream_is_built_in(program);
        Setting { threads, listen_port: 0, backend_port, nginx_needs_module }
    }
}

/// Name and text of each file a peer needs.
pub fn files(peer: Peer, setting: Setting) -> Vec<(&'static str, String)> {
    match peer {
        Peer::Evenkeel => vec![("evenkeel.toml", evenkeel(setting))],
        Peer::Haproxy => vec![("haproxy.cfg", haproxy(setting))],
        Peer::Nginx => vec![("nginx.conf", nginx(setting))],
        Peer::Envoy => vec![("envoy.yaml", envoy(setting))],
        Peer::Traefik => {
            vec![("traefik.toml", traefik(setting)), ("routes.toml", traefik_routes(setting))]
        }
        Peer::Direct => Vec::new(),
    }
}

/// Arguments, run in the folder that holds the files.
pub fn arguments(peer: Peer, threads: usize) -> Vec<String> {
    let threads = threads.to_string();
    let words: &[&str] = match peer {
        Peer::Evenkeel => &["run", "-c", "evenkeel.toml"],
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
        Peer::Direct => &[],
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Environment, for the one that takes its threads from there.
pub fn environment(peer: Peer, threads: usize) -> Option<(&'static str, String)> {
    (peer == Peer::Traefik).then(|| ("GOMAXPROCS", threads.to_string()))
}

fn evenkeel(Setting { threads, listen_port, backend_port, .. }: Setting) -> String {
    format!(
        r#"[process]
workers = {threads}
connections-max = {CONNECTIONS}

[log]
level = "warn"
access = "off"

[upstream.echo]
backends = ["127.0.0.1:{backend_port}"]
health = "off"

[tcp.bench]
listen = "127.0.0.1:{listen_port}"
upstream = "echo"
idle-timeout = "600s"
"#
    )
}

fn haproxy(Setting { threads, listen_port, backend_port, .. }: Setting) -> String {
    format!(
        "global
    nbthread {threads}
    maxconn {CONNECTIONS}

defaults
    mode tcp
    maxconn {CONNECTIONS}
    timeout connect 3s
    timeout client 600s
    timeout server 600s
    option splice-auto

listen bench
    bind 127.0.0.1:{listen_port} backlog 4096
    server echo 127.0.0.1:{backend_port}
"
    )
}

fn nginx(setting: Setting) -> String {
    let Setting { threads, listen_port, backend_port, nginx_needs_module } = setting;
    let module =
        if nginx_needs_module { format!("load_module {NGINX_STREAM};\n") } else { String::new() };
    let descriptors = 2 * CONNECTIONS;
    format!(
        "{module}daemon off;
worker_processes {threads};
pid nginx.pid;
error_log stderr crit;

events {{
    worker_connections {descriptors};
}}

stream {{
    access_log off;

    upstream echo {{
        server 127.0.0.1:{backend_port};
    }}

    server {{
        listen 127.0.0.1:{listen_port} reuseport backlog=4096;
        proxy_connect_timeout 3s;
        proxy_timeout 600s;
        proxy_pass echo;
    }}
}}
"
    )
}

fn envoy(Setting { listen_port, backend_port, .. }: Setting) -> String {
    format!(
        r#"static_resources:
  listeners:
  - name: bench
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {listen_port} }} }}
    enable_reuse_port: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: echo
          idle_timeout: 600s
  clusters:
  - name: echo
    type: STATIC
    connect_timeout: 3s
    circuit_breakers:
      thresholds:
      - {{ max_connections: {CONNECTIONS}, max_pending_requests: {CONNECTIONS} }}
    load_assignment:
      cluster_name: echo
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend_port} }} }}
"#
    )
}

fn traefik(Setting { listen_port, .. }: Setting) -> String {
    format!(
        r#"[global]
checkNewVersion = false
sendAnonymousUsage = false

[log]
level = "ERROR"

[entryPoints.bench]
address = "127.0.0.1:{listen_port}"

[providers.file]
filename = "routes.toml"
"#
    )
}

fn traefik_routes(Setting { backend_port, .. }: Setting) -> String {
    format!(
        r#"[tcp.routers.bench]
entryPoints = ["bench"]
rule = "HostSNI(`*`)"
service = "echo"

[[tcp.services.echo.loadBalancer.servers]]
address = "127.0.0.1:{backend_port}"
"#
    )
}
