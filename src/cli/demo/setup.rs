//! What the demo is made of: names, ports, files and the config of its proxy, in code and as a person would write it.
//! A port that is taken is replaced by one well away from those the kernel gives out to outgoing connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{AccessTo, Address, AdminListen, Backend, Balance, Config, Health};
use crate::config::{HttpListener, JournalTo, Probe, Time, Upstream};
use crate::{Proxy, Running, StartError};

/// The backends by name, each with the port that is tried first.
pub(super) const BACKENDS: [(&str, u16); 3] = [("blue", 9001), ("green", 9002), ("orange", 9003)];
/// The ports of the listeners for TCP and HTTP that are tried first.
pub(super) const LISTEN: u16 = 8080;
pub(super) const LISTEN_HTTP: u16 = 8081;
/// The listeners' names in the config.
const LISTENER: &str = "demo";
const LISTENER_HTTP: &str = "web";
/// The upstream's.
pub(super) const UPSTREAM: &str = "colours";
/// Threads of the proxy: the demo's traffic needs no more.
const WORKERS: u32 = 2;

/// Everything about the proxy that can differ from one run to the next.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) listen: SocketAddr,
    pub(super) listen_http: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
    pub(super) balance: Balance,
    /// Where the admin socket, the token and the journal are.
    pub(super) folder: PathBuf,
}

impl Setup {
    /// What carries the traffic, as an embedding program builds it.
    fn config(&self) -> Config {
        let backends =
            self.backends.iter().map(|address| Backend::new(Address::Ip(*address))).collect();
        let probe = Probe {
            tcp: true,
            every: Time(Duration::from_millis(500)),
            timeout: Time(Duration::from_millis(500)),
            rise: 1,
            fall: 2,
            ..Probe::default()
        };
        let upstream = Upstream {
            balance: self.balance.clone(),
            health: Health::Active(probe),
            eject_after: 2,
            eject_time: Time::seconds(1),
            eject_time_max: Time::seconds(1),
            ..Upstream::new(backends)
        };
        let tcp = crate::config::TcpListener {
            upstream: Some(UPSTREAM.into()),
            ..crate::config::TcpListener::new(vec![Address::Ip(self.listen)])
        };
        let mut config = Config::default();
        config.upstream.insert(UPSTREAM.into(), upstream);
        config.tcp.insert(LISTENER.into(), tcp);
        let upstream = Some(UPSTREAM.into());
        let listener = vec![Address::Ip(self.listen_http)];
        let listener = HttpListener { upstream, ..HttpListener::new(listener) };
        config.http.insert(LISTENER_HTTP.into(), listener);
        config
    }

    /// The same config as a file.
    pub(super) fn toml(&self) -> String {
        let backends: Vec<String> =
            self.backends.iter().map(|address| format!("\"{address}\"")).collect();
        format!(
            "[upstream.{UPSTREAM}]\n\
             backends = [{}]\n\
             balance = \"{}\"\n\
             health = {{ tcp = true, every = \"500ms\", timeout = \"500ms\", rise = 1, fall = 2 }}\n\
             eject-after = 2\n\
             eject-time = \"1s\"\n\
             eject-time-max = \"1s\"\n\
             \n\
             [tcp.{LISTENER}]\n\
             listen = \"{}\"\n\
             upstream = \"{UPSTREAM}\"\n\
             \n\
             [http.{LISTENER_HTTP}]\n\
             listen = \"{}\"\n\
             upstream = \"{UPSTREAM}\"",
            backends.join(", "),
            self.balance,
            self.listen,
            self.listen_http
        )
    }

    /// All of the config, as a file: what carries the traffic, and what an operator sees and steers it by.
    pub(super) fn file(&self) -> String {
        let (traffic, folder) = (self.toml(), self.folder.display());
        format!(
            "{traffic}\n\
             \n\
             [admin]\n\
             listen = [\"unix:{folder}/sock\", \"127.0.0.1:0\"]\n\
             token-file = \"{folder}/token\"\n\
             \n\
             [log]\n\
             access = \"off\"\n\
             journal = \"{folder}/journal\"\n\
             \n\
             [process]\n\
             workers = {WORKERS}\n"
        )
    }

    /// Starts the proxy on the first ports that are free, and keeps which they are.
    pub(super) fn start_near(&mut self) -> Result<Running, Box<dyn std::error::Error>> {
        let (mut ports, mut ports_http) = (ports_near(LISTEN), ports_near(LISTEN_HTTP));
        self.listen.set_port(ports.next().unwrap_or_default());
        self.listen_http.set_port(ports_http.next().unwrap_or_default());
        loop {
            let error = match Proxy::new(self.whole_config())?.start() {
                Ok(running) => {
                    let bound = |name| running.addresses(name).pop();
                    self.listen = bound(LISTENER).unwrap_or(self.listen);
                    self.listen_http = bound(LISTENER_HTTP).unwrap_or(self.listen_http);
                    return Ok(running);
                }
                Err(error) => error,
            };
            let (address, ports) = match &error {
                StartError::Listen { listener, .. } if listener.starts_with("http.") => {
                    (&mut self.listen_http, &mut ports_http)
                }
                StartError::Listen { .. } => (&mut self.listen, &mut ports),
                StartError::Certificate { .. } | StartError::System { .. } => {
                    return Err(error.into());
                }
            };
            match ports.next() {
                Some(port) => address.set_port(port),
                None => return Err(error.into()),
            }
        }
    }

    /// All of the config. The port of the dashboard is the system's choice.
    fn whole_config(&self) -> Config {
        let mut config = self.config();
        let socket = AdminListen::Unix(self.folder.join("sock"));
        config.admin.listen = vec![socket, AdminListen::Tcp(local(0))];
        config.admin.token_file = Some(self.folder.join("token"));
        config.log.access = AccessTo::Off;
        config.log.journal = JournalTo::Folder(self.folder.join("journal"));
        config.process.workers = Some(WORKERS);
        config
    }

    /// What can be pasted into another terminal, the most telling first.
    pub(super) fn try_out(&self) -> Vec<String> {
        let (tcp, http) = (self.listen, self.listen_http);
        let command = |line: &str| format!("cd {} && ./evenkeel {line}", self.folder.display());
        vec![
            command(&format!("explain http http://{http}/")),
            command("journal --last 10"),
            command("replay"),
            format!("curl -i http://{http}/"),
            command("status"),
            command("top"),
            format!("nc {} {}", tcp.ip(), tcp.port()),
        ]
    }
}

/// A socket on the first port that is free.
pub(super) fn bind_near(usual: u16) -> io::Result<TcpListener> {
    let mut refused = None;
    for port in ports_near(usual) {
        match TcpListener::bind(local(port)) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("there is always a port to try"))
}

/// An address that only this machine can reach.
pub(super) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The usual port, then some in steps of ten, then whatever the kernel chooses. That one comes last, because the
/// kernel may give it to an outgoing connection while a stopped backend does not hold it.
fn ports_near(usual: u16) -> impl Iterator<Item = u16> {
    (0..50).map(move |step| usual + 10 * step).chain([0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_that_is_shown_is_the_config_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "0123456789abcdef").unwrap();
        for balance in ["round-robin", "hash", "least-latency"] {
            let setup = Setup {
                listen: local(LISTEN),
                listen_http: local(LISTEN_HTTP),
                backends: BACKENDS.map(|(_, port)| local(port)).to_vec(),
                balance: balance.parse().unwrap(),
                folder: folder.path().to_owned(),
            };
            assert_eq!(Config::parse(&setup.toml()).unwrap(), setup.config());
            assert_eq!(Config::parse(&setup.file()).unwrap(), setup.whole_config());
        }
    }

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = bind_near(19001).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(bind_near(port).unwrap().local_addr().unwrap().port(), port);
    }
}
