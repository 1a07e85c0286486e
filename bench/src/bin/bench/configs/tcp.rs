//! The configs of plain TCP proxies. All are the shortest that do the job with the same limits.

use super::{CONNECTIONS, NGINX_STREAM, Setting};

pub fn evenkeel(setting: Setting) -> String {
    let Setting { threads, clear: listen_port, .. } = setting;
    let backends = setting.backends().join("\", \"");
    format!(
        r#"[process]
workers = {threads}
connections-max = {CONNECTIONS}

[log]
level = "warn"
access = "off"

[upstream.echo]
backends = ["{backends}"]
health = "off"

[tcp.bench]
listen = "127.0.0.1:{listen_port}"
upstream = "echo"
idle-timeout = "600s"
"#
    )
}

/// The same, and each packet to the backend whose turn it is.
pub fn evenkeel_by_packet(setting: Setting) -> String {
    let packet = "packet = { length = \"u32be\" }\nbalance-per = \"packet\"\n";
    evenkeel(setting) + packet
}

pub fn haproxy(setting: Setting) -> String {
    let Setting { threads, clear: listen_port, .. } = setting;
    let servers: String = setting
        .backends()
        .iter()
        .zip(1..)
        .map(|(backend, number)| format!("    server echo{number} {backend}\n"))
        .collect();
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
{servers}"
    )
}

pub fn nginx(setting: Setting) -> String {
    let Setting { threads, clear: listen_port, nginx_needs_module, .. } = setting;
    let module =
        if nginx_needs_module { format!("load_module {NGINX_STREAM};\n") } else { String::new() };
    let descriptors = 2 * CONNECTIONS;
    let servers: String =
        setting.backends().iter().map(|backend| format!("        server {backend};\n")).collect();
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
{servers}    }}

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

pub fn envoy(Setting { clear: listen_port, backend_port, .. }: Setting) -> String {
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

pub fn traefik(Setting { clear: listen_port, .. }: Setting) -> String {
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

pub fn traefik_routes(Setting { backend_port, .. }: Setting) -> String {
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
