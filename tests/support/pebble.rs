//! Pebble, an ACME authority for tests, with the DNS server that it asks: every name is at 127.0.0.1.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::servers::{free_address, program};
use super::tls::Certificates;
use super::until;

pub(crate) struct Pebble {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    /// Where records of DNS can be set (`/set-txt`).
    pub(crate) dns_management: SocketAddr,
    children: Vec<Child>,
}

impl Pebble {
    /// One that looks at these ports when it wants to know whether a name is ours.
    pub(crate) fn looking_at(http: SocketAddr, tls: SocketAddr) -> Pebble {
        let mut server = Certificates::new();
        server.add("pebble", &["localhost", "127.0.0.1"]);
        let Certificates { folder, .. } = server;
        let (address, management) = (free_address(), free_address());
        let (dns, dns_management) = (free_address(), free_address());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("pebble.crt"),
            "privateKey": folder.path().join("pebble.key"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        std::fs::write(folder.path().join("pebble.json"), config.to_string()).expect("write");
        let mut names = Command::new(program("pebble-challtestsrv"));
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &dns.to_string(), "-management", &dns_management.to_string()]);
        let mut pebble = Command::new(program("pebble"));
        pebble.args(["-dnsserver", &dns.to_string(), "-config"]);
        pebble.arg(folder.path().join("pebble.json")).env("PEBBLE_VA_NOSLEEP", "1");
        let children = [names, pebble].map(|mut command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("start it")
        });
        let pebble = Pebble { folder, address, dns_management, children: children.into() };
        for address in [address, dns_management] {
            until("pebble listens", || TcpStream::connect(address).is_ok());
        }
        pebble
    }

    /// Who vouches for its own server.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("pebble.crt")
    }

    /// The lines of `acme` that lead here, for these names.
    pub(crate) fn acme(&self, domains: &str, state: &std::path::Path, more: &str) -> String {
        self.acme_at(&format!("https://localhost:{}", self.address.port()), domains, state, more)
    }

    pub(crate) fn acme_at(
        &self,
        at: &str,
        domains: &str,
        state: &std::path::Path,
        more: &str,
    ) -> String {
        format!(
            "acme = {{ domains = [{domains}], contact = [\"mailto:a@example.com\"], directory = \"{at}/dir\", \
             directory-ca = \"{}\", state = \"{}\"{more} }}",
            self.ca().display(),
            state.display()
        )
    }

    /// A program that sets records where Pebble looks for them.
    pub(crate) fn dns_hook(&self) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.folder.path().join("hook.sh");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o755).open(&path).expect("write");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>\"$0.log\"\ncurl -qsS --noproxy '*' -d \"{{\\\"host\\\":\\\"_acme-challenge.$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{}/$1-txt >&2\n",
            self.dns_management
        );
        file.write_all(script.as_bytes()).expect("write");
        path
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
