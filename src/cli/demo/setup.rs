//! What the demo is made of: names, ports and the config of its proxy, in code and as a person would write it.
//! A port that is taken is replaced by one well away from those the kernel gives out to outgoing connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::config::{AccessTo, Address, Backend, Balance, Config, Health, HttpListener, Probe};
use crate::config::{Time, Upstream};
use crate::{Proxy, Running, StartError};

/// The backends by name, each with the port that is tried first.
pub(super) const BACKENDS: [(&str, u16); 3] = [("blue", 9001), ("green", 9002), ("orange", 9003)];
/// The ports of the listeners for TCP and HTTP that are tried first.
pub(super) const LISTEN: u16 = 8080;
pub(super) const LISTEN_HTTP: u16 = 8081;
/// The port that the command to try listens on.
const TRY_LISTEN: u16 = 8082;
/// The listeners' names in the config.
const LISTENER: &str = "demo";
const LISTENER_HTTP: &str = "web";

/// Everything about the proxy that can differ from one run to the next.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) listen: SocketAddr,
    pub(super) listen_http: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
    pub(super) balance: Balance,
}

impl Setup {
    /// The config, as an embedding program builds it.
    pub(super) fn config(&self) -> Config {
        let backends =
            self.backends.iter().map(|address| Backend::new(Address::Ip(*address))).collect();
        let probe = Probe {
            tcp: true,
            every: Time(Duration::from_millis(500)),
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
            upstream: Some("colours".into()),
            ..crate::config::TcpListener::new(vec![Address::Ip(self.listen)])
        };
        let mut config = Config::default();
        config.upstream.insert("colours".into(), upstream);
        config.tcp.insert(LISTENER.into(), tcp);
        let upstream = Some("colours".into());
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
            "[upstream.colours]\n\
             backends = [{}]\n\
             balance = \"{}\"\n\
             health = {{ tcp = true, every = \"500ms\", rise = 1, fall = 2 }}\n\
             eject-after = 2\n\
             eject-time = \"1s\"\n\
             eject-time-max = \"1s\"\n\
             \n\
             [tcp.{LISTENER}]\n\
             listen = \"{}\"\n\
             upstream = \"colours\"\n\
             \n\
             [http.{LISTENER_HTTP}]\n\
             listen = \"{}\"\n\
             upstream = \"colours\"",
            backends.join(", "),
            self.balance,
            self.listen,
            self.listen_http
        )
    }

    /// Starts the proxy on exactly this address.
    pub(super) fn start(&self) -> Result<Running, Box<dyn std::error::Error>> {
        Ok(Proxy::new(self.quiet_config())?.start()?)
    }

    /// Starts the proxy on the first ports that are free, and keeps which they are.
    pub(super) fn start_near(&mut self) -> Result<Running, Box<dyn std::error::Error>> {
        let (mut ports, mut ports_http) = (ports_near(LISTEN), ports_near(LISTEN_HTTP));
        self.listen.set_port(ports.next().unwrap_or_default());
        self.listen_http.set_port(ports_http.next().unwrap_or_default());
        loop {
            let error = match Proxy::new(self.quiet_config())?.start() {
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

    /// The config without an access log, and with the few threads that the demo's traffic needs.
    fn quiet_config(&self) -> Config {
        let mut config = self.config();
        config.log.access = AccessTo::Off;
        config.process.workers = Some(2);
        config
    }

    /// What can be typed in another terminal.
    pub(super) fn try_out(&self) -> [String; 3] {
        let port = bind_near(TRY_LISTEN).and_then(|socket| socket.local_addr());
        let port = port.map_or(TRY_LISTEN, |address| address.port());
        let (first, second) = (self.backends[0], self.backends[1]);
        [
            format!("nc {} {}", self.listen.ip(), self.listen.port()),
            format!("curl -i http://{}/", self.listen_http),
            format!("evenkeel tcp --listen :{port} --to '{first},{second}*2'"),
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
        for balance in ["round-robin", "hash", "least-latency"] {
            let setup = Setup {
                listen: local(LISTEN),
                listen_http: local(LISTEN_HTTP),
                backends: BACKENDS.map(|(_, port)| local(port)).to_vec(),
                balance: balance.parse().unwrap(),
            };
            assert_eq!(Config::parse(&setup.toml()).unwrap(), setup.config());
        }
    }

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = bind_near(19001).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(bind_near(port).unwrap().local_addr().unwrap().port(), port);
    }
}
