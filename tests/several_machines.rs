//! Machines in a row and side by side: another balancer in front, an address that moves when a machine dies, and backends
//! that see the client itself.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::netns::Hosts;
use crate::support::servers::program;
use crate::support::until_within;

/// A program in a host, ended with the test.
struct Running(Child, #[expect(dead_code, reason = "it holds its files")] TempDir);

impl Running {
    fn start(mut command: Command, folder: TempDir) -> Running {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Running(child.expect("start it"), folder)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backend_sees_the_client_itself_where_that_is_asked_for() {
    let Some(hosts) = Hosts::new(&["client", "proxy", "backend"]) else { return };
    hosts.link(("client", "eth0", "10.77.1.2/24"), ("proxy", "clients", "10.77.1.1/24"));
    hosts.link(("proxy", "backends", "10.77.2.1/24"), ("backend", "eth0", "10.77.2.2/24"));
    hosts.within("backend", "ip route add 10.77.1.0/24 via 10.77.2.1");
    // As docs/several-machines.md has it: what backends answer to clients is for us.
    hosts.within("proxy", "ip rule add iif backends lookup 100");
    hosts.within("proxy", "ip route add local default dev lo table 100");
    let backend = r#"
[http.whoami]
listen = "10.77.2.2:80"
[[http.whoami.route]]
client = ["10.77.1.2"]
reply = { status = 200, body = "the client" }
[[http.whoami.route]]
reply = { status = 200, body = "the proxy" }
"#;
    let _backend = hosts.evenkeel("backend", backend);
    let curl = |port: u16| {
        let url = format!("http://10.77.1.1:{port}/");
        hosts.within("client", &format!("curl -qsS --max-time 10 --noproxy * {url}"))
    };
    let proxy = r#"
[upstream.open]
backends = ["10.77.2.2:80"]
transparent = true
[upstream.plain]
backends = ["10.77.2.2:80"]
[tcp.open]
listen = "10.77.1.1:8001"
upstream = "open"
[tcp.plain]
listen = "10.77.1.1:8002"
upstream = "plain"
[http.open-http]
listen = "10.77.1.1:8003"
upstream = "open"
"#;
    let proxy = hosts.evenkeel("proxy", proxy);
    proxy.until_said("listener=open-http");
    assert_eq!(curl(8001), "the client");
    assert_eq!(curl(8002), "the proxy");
    assert_eq!(curl(8003), "the client");
}

/// Two nodes on one bridge with a client, an nginx in front, three backends, and an address that one of the nodes has.
struct Network {
    hosts: Hosts,
}

impl Network {
    fn new() -> Option<Network> {
        let hosts = Hosts::new(&["lan", "client", "front", "node1", "node2", "backends"])?;
        hosts.within("lan", "ip link add bridge type bridge");
        hosts.within("lan", "ip link set bridge up");
        let members = [
            ("client", "10.78.0.2/24"),
            ("front", "10.78.0.3/24"),
            ("node1", "10.78.0.11/24"),
            ("node2", "10.78.0.12/24"),
            ("backends", "10.78.0.21/24"),
        ];
        for (host, address) in members {
            hosts.link((host, "eth0", address), ("lan", host, ""));
            hosts.within("lan", &format!("ip link set {host} master bridge"));
        }
        for last in 4..10 {
            hosts.within("client", &format!("ip address add 10.78.0.{last}/24 dev eth0"));
        }
        Some(Network { hosts })
    }

    fn node(&self, name: &str) -> crate::support::program::Program {
        let config = format!(
            r#"
[log]
access = "off"
[upstream.app]
backends = ["10.78.0.21:8001", "10.78.0.21:8002", "10.78.0.21:8003"]
balance = {{ hash = "source", on = "maglev" }}
[http.direct]
listen = "0.0.0.0:80"
upstream = "app"
route = [{{ path = "/*", upstream = "app", response-headers = {{ set = {{ x-node = "{name}" }} }} }}]
[http.behind]
listen = "0.0.0.0:81"
accept-proxy = {{ from = ["10.78.0.3"] }}
route = [{{ path = "/*", upstream = "app", response-headers = {{ set = {{ x-node = "{name}" }} }} }}]
"#
        );
        let program = self.hosts.evenkeel(name, &config);
        program.until_said("listener=behind");
        program
    }

    fn keepalived(&self, host: &str, priority: u8) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global_defs {{\n  router_id {host}\n  vrrp_version 3\n}}\nvrrp_instance front {{\n  state BACKUP\n  \
             interface eth0\n  virtual_router_id 51\n  priority {priority}\n  advert_int 0.2\n  \
             virtual_ipaddress {{\n    10.78.0.100/24\n  }}\n}}\n"
        );
        let file = folder.path().join("keepalived.conf");
        fs::write(&file, config).expect("write");
        let mut command = self.hosts.command(host, program("keepalived"));
        command.args(["--dont-fork", "--log-console", "--vrrp", "-f"]).arg(&file);
        command.arg("-p").arg(folder.path().join("pid"));
        command.arg("-r").arg(folder.path().join("vrrp.pid"));
        Running::start(command, folder)
    }

    /// nginx in front of both nodes, that tells them for whom it connects.
    fn nginx(&self) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
        let load = match fs::exists(module) {
            Ok(true) => format!("load_module {module};\n"),
            _ => String::new(),
        };
        let config = format!(
            "{load}daemon off; master_process off; error_log stderr; pid {at}/pid;\n\
             events {{ worker_connections 200; }}\n\
             stream {{ upstream nodes {{ server 10.78.0.11:81; server 10.78.0.12:81; }}\n\
             server {{ listen 10.78.0.3:80; proxy_pass nodes; proxy_protocol on; }} }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("write");
        let mut command = self.hosts.command("front", program("nginx"));
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path());
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        Running::start(command, folder)
    }

    /// Which node and which backend answer a client; none if nobody does.
    fn asked(&self, client: u8, at: &str) -> Option<(String, String)> {
        let mut curl = self.hosts.command("client", program("curl"));
        curl.args(["-qsS", "-i", "--max-time", "2", "--noproxy", "*"]);
        curl.args(["--interface", &format!("10.78.0.{client}"), &format!("http://{at}/")]);
        let output = curl.output().expect("start curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let node = text.lines().find_map(|line| line.strip_prefix("x-node: "))?.trim().to_owned();
        let backend = text.rsplit("\r\n\r\n").next()?.to_owned();
        Some((node, backend))
    }
}

#[test]
fn two_nodes_pick_the_same_backend_behind_nginx_and_when_the_address_moves_to_the_other() {
    let Some(network) = Network::new() else { return };
    let backends: String = (1..=3)
        .map(|number| {
            format!(
                "[http.b{number}]\nlisten = \"10.78.0.21:800{number}\"\n\
                 route = [{{ reply = {{ status = 200, body = \"b{number}\" }} }}]\n"
            )
        })
        .collect();
    let _backends = network.hosts.evenkeel("backends", &backends);
    let (node1, _node2) = (network.node("node1"), network.node("node2"));
    let (keepalived1, _keepalived2) =
        (network.keepalived("node1", 150), network.keepalived("node2", 100));
    let _nginx = network.nginx();
    let virtual_address = "10.78.0.100";
    until_within(Duration::from_secs(30), "the first node has the address", || {
        network.asked(2, virtual_address).is_some_and(|(node, _)| node == "node1")
    });
    until_within(Duration::from_secs(30), "nginx is in front", || {
        network.asked(2, "10.78.0.3").is_some()
    });
    // Behind nginx, requests go to both nodes, and each client still to one backend.
    let clients: Vec<u8> = (2..10).filter(|last| *last != 3).collect();
    let backend_of: Vec<String> = clients
        .iter()
        .map(|client| {
            let answers: Vec<_> =
                (0..4).map(|_| network.asked(*client, "10.78.0.3").expect("served")).collect();
            for node in ["node1", "node2"] {
                assert!(answers.iter().any(|(by, _)| by == node), "{node}: {answers:?}");
            }
            assert!(answers.iter().all(|(_, backend)| *backend == answers[0].1), "{answers:?}");
            answers[0].1.clone()
        })
        .collect();
    assert!(backend_of.iter().any(|backend| *backend != backend_of[0]), "{backend_of:?}");
    // The first machine dies.
    drop((keepalived1, node1));
    network.hosts.within("node1", "ip link set eth0 down");
    until_within(Duration::from_secs(30), "the address has moved", || {
        network.asked(2, virtual_address).is_some_and(|(node, _)| node == "node2")
    });
    for (client, backend) in clients.iter().zip(&backend_of) {
        let answer = network.asked(*client, virtual_address).expect("served");
        assert_eq!(answer, ("node2".to_owned(), backend.clone()), "client {client}");
    }
}
