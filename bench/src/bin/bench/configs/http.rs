//! The configs of HTTP proxies and file servers, each with what its manual names for this work:
//! kept connections to the backend, no access log, bodies streamed and not stored on disk.

use super::{CONNECTIONS, Setting};
use crate::site::{BOTH, CERTIFICATE, FILES, KEY};

/// Idle connections to the backend that are kept: more than any measure has clients.
const KEPT: usize = 512;
/// Requests on one connection: no measure shall reach it.
const REQUESTS: usize = 1_000_000_000;

pub fn evenkeel(Setting { threads, clear, tls, files, backend_port, .. }: Setting) -> String {
    let tls = tls.map_or(String::new(), |port| {
        format!(
            r#"
[http.secure]
listen = "127.0.0.1:{port}"
upstream = "app"
requests-max = {REQUESTS}
tls = {{ certificate = "{CERTIFICATE}", key = "{KEY}" }}
"#
        )
    });
    let files = files.map_or(String::new(), |port| {
        format!(
            r#"
[http.files]
listen = "127.0.0.1:{port}"
requests-max = {REQUESTS}
route = [{{ files = "{FILES}" }}]
"#
        )
    });
    format!(
        r#"[process]
workers = {threads}
connections-max = {CONNECTIONS}

[log]
level = "warn"
access = "off"

[upstream.app]
backends = ["127.0.0.1:{backend_port}"]
health = "off"
keep-alive = {{ max = {KEPT}, requests = {REQUESTS} }}

[http.clear]
listen = "127.0.0.1:{clear}"
upstream = "app"
requests-max = {REQUESTS}
{tls}{files}"#
    )
}

pub fn haproxy(Setting { threads, clear, tls, backend_port, .. }: Setting) -> String {
    let tls = tls.map_or(String::new(), |port| {
        format!("    bind 127.0.0.1:{port} backlog 4096 ssl crt {BOTH} alpn h2,http/1.1\n")
    });
    format!(
        "global
    nbthread {threads}
    maxconn {CONNECTIONS}

defaults
    mode http
    maxconn {CONNECTIONS}
    timeout connect 3s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always
    option splice-auto

listen bench
    bind 127.0.0.1:{clear} backlog 4096
{tls}    server app 127.0.0.1:{backend_port}
"
    )
}

pub fn nginx(setting: Setting) -> String {
    let Setting { threads, backend_port, .. } = setting;
    let descriptors = 2 * CONNECTIONS;
    let servers = nginx_servers(setting);
    format!(
        "daemon off;
worker_processes {threads};
pid nginx.pid;
error_log stderr crit;

events {{
    worker_connections {descriptors};
}}

http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600s;
    keepalive_requests {REQUESTS};
    client_max_body_size 16m;
    proxy_connect_timeout 3s;
    proxy_read_timeout 600s;
    proxy_send_timeout 600s;
    proxy_buffers 8 16k;
    proxy_max_temp_file_size 0;
    proxy_request_buffering off;

    upstream app {{
        server 127.0.0.1:{backend_port};
        keepalive {KEPT};
        keepalive_requests {REQUESTS};
        keepalive_timeout 600s;
    }}
{servers}}}
"
    )
}

fn nginx_servers(Setting { clear, tls, files, .. }: Setting) -> String {
    let location = "        location / {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }
";
    let clear = format!(
        "
    server {{
        listen 127.0.0.1:{clear} reuseport backlog=4096;
{location}    }}
"
    );
    let tls = tls.map(|port| {
        format!(
            "
    server {{
        listen 127.0.0.1:{port} ssl http2 reuseport backlog=4096;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {CERTIFICATE};
        ssl_certificate_key {KEY};
{location}    }}
"
        )
    });
    let files = files.map(|port| {
        format!(
            "
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        root {FILES};
    }}
"
        )
    });
    [Some(clear), tls, files].into_iter().flatten().collect()
}

pub fn envoy(Setting { clear, tls, backend_port, .. }: Setting) -> String {
    let secure = format!(
        r#"
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [ h2, http/1.1 ]
            tls_certificates:
            - certificate_chain: {{ filename: {CERTIFICATE} }}
              private_key: {{ filename: {KEY} }}"#
    );
    let mut listeners = envoy_listener("clear", clear, "");
    if let Some(port) = tls {
        listeners += &envoy_listener("secure", port, &secure);
    }
    format!(
        r#"static_resources:
  listeners:{listeners}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 3s
    circuit_breakers:
      thresholds:
      - {{ max_connections: {CONNECTIONS}, max_pending_requests: {CONNECTIONS}, max_requests: {CONNECTIONS} }}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend_port} }} }}
"#
    )
}

/// As Envoy's own advice on benchmarks has it: no request ids, no dynamic statistics.
fn envoy_listener(name: &str, port: u16, transport: &str) -> String {
    format!(
        r#"
  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    enable_reuse_port: true
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          generate_request_id: false
          common_http_protocol_options: {{ idle_timeout: 600s }}
          route_config:
            virtual_hosts:
            - name: app
              domains: [ "*" ]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: app }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false{transport}"#
    )
}

pub fn traefik(Setting { clear, tls, .. }: Setting) -> String {
    let tls = tls.map_or(String::new(), |port| {
        format!("\n[entryPoints.secure]\naddress = \"127.0.0.1:{port}\"\n")
    });
    format!(
        r#"[global]
checkNewVersion = false
sendAnonymousUsage = false

[log]
level = "ERROR"

[entryPoints.clear]
address = "127.0.0.1:{clear}"
{tls}
[serversTransport]
maxIdleConnsPerHost = {KEPT}

[providers.file]
filename = "routes.toml"
"#
    )
}

pub fn traefik_routes(Setting { tls, backend_port, .. }: Setting) -> String {
    let tls = tls.map_or(String::new(), |_| {
        format!(
            r#"
[http.routers.secure]
entryPoints = ["secure"]
rule = "PathPrefix(`/`)"
service = "app"

[http.routers.secure.tls]

[[tls.certificates]]
certFile = "{CERTIFICATE}"
keyFile = "{KEY}"
"#
        )
    });
    format!(
        r#"[http.routers.clear]
entryPoints = ["clear"]
rule = "PathPrefix(`/`)"
service = "app"

[[http.services.app.loadBalancer.servers]]
url = "http://127.0.0.1:{backend_port}"
{tls}"#
    )
}

pub fn caddy(Setting { clear, tls, files, backend_port, .. }: Setting) -> String {
    let proxy = format!(
        "\treverse_proxy 127.0.0.1:{backend_port} {{
\t\ttransport http {{
\t\t\tkeepalive_idle_conns_per_host {KEPT}
\t\t}}
\t}}
"
    );
    let tls = tls.map_or(String::new(), |port| {
        format!("\nhttps://:{port} {{\n\tbind 127.0.0.1\n\ttls {CERTIFICATE} {KEY}\n{proxy}}}\n")
    });
    let files = files.map_or(String::new(), |port| {
        format!("\nhttp://:{port} {{\n\tbind 127.0.0.1\n\troot * {FILES}\n\tfile_server\n}}\n")
    });
    format!(
        "{{
\tadmin off
\tauto_https off
\tpersist_config off
\tstorage file_system .
\tlog {{
\t\tlevel ERROR
\t}}
\tservers {{
\t\tprotocols h1 h2
\t\ttimeouts {{
\t\t\tidle 600s
\t\t}}
\t}}
}}

http://:{clear} {{
\tbind 127.0.0.1
{proxy}}}
{tls}{files}"
    )
}
