//! What a config must hold beyond its single values: names that exist, limits that make sense,
//! addresses that do not collide. It looks only at the config, so one built in code is judged alike.

mod admin;
mod balancing;
mod compress;
mod dead_routes;
mod gate;
mod http;
mod log;
mod packet;
mod rights;
mod tcp;
mod tls;
mod upstream;

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::problem::{Misread, Problems, Severity, nearest, shown};
use super::{AcceptProxy, Address, Bytes, Config, HttpListener, Keepalive, TcpListener, Time};

/// What is wrong with a config as a whole, at a path of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The keys that lead there, list positions included: `upstream`, `app`, `backends`, `0`.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// Whether it keeps the config from being used.
    pub severity: Severity,
}

/// Below it, a journal would forget what it is asked for; beyond it, nobody would read all of it.
const JOURNAL_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Everything that is wrong with a config whose single values are fine.
pub fn verify(config: &Config) -> Vec<Complaint> {
    let mut complaints = Complaints::default();
    process(config, &mut complaints);
    log::verify(config, &mut complaints);
    rights::verify(config, &mut complaints);
    admin::admin(config, &mut complaints);
    let used = used(config);
    for (name, upstream) in &config.upstream {
        complaints.below(&["upstream", name], |complaints| {
            self::name(name, complaints);
            upstream::verify(upstream, complaints);
            if !used.by_tcp.contains(name.as_str()) && !used.by_http.contains(name.as_str()) {
                let message = format!("no listener uses the upstream \"{}\"", shown(name));
                complaints.warning(&[], message, "point a listener at it, or remove it");
            } else if !used.by_http.contains(name.as_str()) {
                balancing::without_http(upstream, complaints);
            }
        });
    }
    if config.tcp.is_empty() && config.http.is_empty() {
        let advice = "add one: [tcp.public] with listen = \":8080\" and upstream = \"NAME\"";
        complaints.error(&["tcp"], "a config without a listener is refused", advice);
    }
    for (name, listener) in &config.tcp {
        complaints.below(&["tcp", name], |complaints| {
            self::name(name, complaints);
            tcp::listener(config, listener, complaints);
        });
    }
    for (name, listener) in &config.http {
        complaints.below(&["http", name], |complaints| {
            self::name(name, complaints);
            if config.tcp.contains_key(name) {
                let message = format!("[tcp.{}] has the same name", shown(name));
                complaints.error(&[], message, "logs and counts tell listeners by name");
            }
            http::http_listener(config, listener, complaints);
        });
    }
    collisions(config, &mut complaints);
    tls::one_of_each(config, &mut complaints);
    complaints.list
}

impl Config {
    /// The warnings about a config, or all that is wrong with it when it cannot be used. There is no
    /// text to point into, so each message begins with the keys that lead to its place.
    pub fn verify_or_problems(&self) -> Result<Problems, Problems> {
        let mut problems = Problems::default();
        let source = problems.source("config".as_ref(), None);
        for complaint in verify(self) {
            let path = shown(&complaint.path.join("."));
            let message = format!("{path}: {}", complaint.message);
            let misread = Misread { message, advice: complaint.advice };
            problems.add(source, 0..0, complaint.severity, misread);
        }
        if problems.has_errors() { Err(problems) } else { Ok(problems) }
    }
}

/// Collects complaints below a path.
#[derive(Default)]
struct Complaints {
    list: Vec<Complaint>,
    path: Vec<String>,
}

impl Complaints {
    fn error(&mut self, keys: &[&str], message: impl Into<String>, advice: impl Into<String>) {
        self.add(keys, message.into(), advice.into(), Severity::Error);
    }

    fn warning(&mut self, keys: &[&str], message: impl Into<String>, advice: impl Into<String>) {
        self.add(keys, message.into(), advice.into(), Severity::Warning);
    }

    fn add(&mut self, keys: &[&str], message: String, advice: String, severity: Severity) {
        let path = self.path.iter().cloned().chain(keys.iter().map(|key| (*key).to_owned()));
        let advice = if advice.is_empty() { None } else { Some(advice) };
        self.list.push(Complaint { path: path.collect(), message, advice, severity });
    }

    fn below(&mut self, keys: &[&str], look: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.extend(keys.iter().map(|key| (*key).to_owned()));
        look(self);
        self.path.truncate(length);
    }

    /// A number that must lie in a range.
    fn within(&mut self, key: &str, number: u32, range: std::ops::RangeInclusive<u32>) {
        if range.contains(&number) {
            return;
        }
        let (least, most) = (range.start(), range.end());
        let range = match *most {
            u32::MAX => format!("at least {least}"),
            _ => format!("{least} to {most}"),
        };
        self.error(&[key], format!("{key} must be {range}, not {number}"), "");
    }

    fn at_least_one(&mut self, key: &str, number: Option<u32>) {
        self.within(key, number.unwrap_or(1), 1..=u32::MAX);
    }

    /// A time that makes no sense as zero.
    fn beyond_zero(&mut self, key: &str, time: Option<Time>, advice: &str) {
        if time.is_some_and(|time| time.0.is_zero()) {
            self.error(&[key], format!("{key} must be longer than zero"), advice);
        }
    }

    /// A Unix socket path as long as the kernel takes it, which is a field of 108 bytes with its end.
    fn socket_path(&mut self, keys: &[&str], address: &Address) {
        if let Address::Unix(path) = address
            && path.as_os_str().len() > 107
        {
            let message = "the path of a Unix socket must be at most 107 bytes long";
            self.error(keys, message, "choose a shorter path");
        }
    }
}

fn name(name: &str, complaints: &mut Complaints) {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(letter) {
        let message = format!("\"{}\" cannot be a name", shown(name));
        let advice = "a name is 1 to 64 letters, digits, \"_\", \".\" or \"-\"";
        complaints.error(&[], message, advice);
    }
}

fn process(config: &Config, complaints: &mut Complaints) {
    complaints.below(&["process"], |complaints| {
        complaints.within("workers", config.process.workers.unwrap_or(1), 1..=1024);
        complaints.at_least_one("connections-max", config.process.connections_max);
        complaints.within("file-queue-max", config.process.file_queue_max, 1..=u32::MAX);
        complaints.within("compress-max", config.process.compress_max, 1..=u32::MAX);
        for (index, server) in config.process.nameservers.iter().enumerate() {
            if server.port() == 0 {
                let keys = ["nameservers", &index.to_string()];
                complaints.error(&keys, "a name server cannot have port 0", "DNS is on port 53");
            }
        }
    });
}

/// What every listener has, whatever is spoken on it.
struct Door<'a> {
    listen: &'a [Address],
    buffer_max: Bytes,
    connections_max: Option<u32>,
    client_connections_max: Option<u32>,
    client_connections_per_second: Option<u32>,
    backlog: u32,
    user_timeout: Option<Time>,
    keepalive: &'a Keepalive,
    accept_proxy: Option<&'a AcceptProxy>,
}

macro_rules! doors {
    ($($listener:ty),*) => {$(
        impl<'a> From<&'a $listener> for Door<'a> {
            fn from(listener: &'a $listener) -> Door<'a> {
                Door {
                    listen: &listener.listen,
                    buffer_max: listener.buffer_max,
                    connections_max: listener.connections_max,
                    client_connections_max: listener.client_connections_max,
                    client_connections_per_second: listener.client_connections_per_second,
                    backlog: listener.backlog,
                    user_timeout: listener.user_timeout,
                    keepalive: &listener.keepalive,
                    accept_proxy: listener.accept_proxy.as_ref(),
                }
            }
        }
    )*};
}
doors!(TcpListener, HttpListener);

fn door(door: &Door<'_>, complaints: &mut Complaints) {
    if door.listen.is_empty() {
        let advice = "write an address, for instance \":8080\"";
        complaints.error(&["listen"], "there is nothing to listen on", advice);
    }
    for (index, address) in door.listen.iter().enumerate() {
        complaints.socket_path(&["listen", &index.to_string()], address);
    }
    complaints.beyond_zero("user-timeout", door.user_timeout, "leave it out for the default");
    let (least, most) = (Bytes::kib(4), Bytes::kib(1024 * 1024));
    if !(least..=most).contains(&door.buffer_max) {
        let found = door.buffer_max;
        let message = format!("buffer-max must be {least} to {most}, not {found}");
        complaints.error(&["buffer-max"], message, "");
    }
    complaints.at_least_one("connections-max", door.connections_max);
    complaints.at_least_one("client-connections-max", door.client_connections_max);
    let rate = door.client_connections_per_second;
    complaints.at_least_one("client-connections-per-second", rate);
    // listen(2) takes a signed number.
    complaints.within("backlog", door.backlog, 1..=i32::MAX.unsigned_abs());
    keepalive(door.keepalive, complaints);
    if let Some(rules) = door.accept_proxy {
        complaints.below(&["accept-proxy"], |complaints| accept_proxy(rules, complaints));
    }
}

fn accept_proxy(rules: &AcceptProxy, complaints: &mut Complaints) {
    if rules.from.is_empty() {
        let advice = "name the networks of the proxies in front, for instance [\"10.0.0.0/8\"]";
        complaints.error(&["from"], "no proxy is believed, so nobody could connect", advice);
    }
    complaints.beyond_zero("timeout", Some(rules.timeout), "3s is the default");
    if rules.optional {
        let message = "whoever is behind such a proxy can write a header, and be any address";
        let advice = "leave it out once every proxy of `from` sends one";
        complaints.warning(&["optional"], message, advice);
    }
}

/// A name of an upstream must be one.
fn names_upstream(config: &Config, keys: &[&str], upstream: &str, complaints: &mut Complaints) {
    if config.upstream.contains_key(upstream) {
        return;
    }
    let name = shown(upstream);
    let message = format!("there is no upstream \"{name}\"");
    let advice = match nearest(upstream, config.upstream.keys().map(String::as_str)) {
        Some(near) => format!("did you mean \"{}\"?", shown(near)),
        None => format!("add [upstream.{name}] with backends = [\"ADDRESS:PORT\"]"),
    };
    complaints.error(keys, message, advice);
}

/// The upstreams that something leads to.
struct Used<'a> {
    by_tcp: HashSet<&'a str>,
    by_http: HashSet<&'a str>,
}

fn used(config: &Config) -> Used<'_> {
    let by_tcp = config.tcp.values().flat_map(tcp::upstreams).map(|(_, name)| name).collect();
    let mut by_http = HashSet::new();
    for listener in config.http.values() {
        by_http.extend(listener.upstream.as_deref());
        for route in &listener.route {
            by_http.extend(route.upstream.as_deref());
            by_http.extend(route.split.iter().map(|share| share.upstream.as_str()));
            by_http.extend(route.mirror.as_ref().map(|mirror| mirror.upstream.as_str()));
            by_http.extend(route.forward_auth.as_ref().map(|auth| auth.upstream.as_str()));
            by_http.extend(route.r#try.as_ref().map(|tried| tried.0.as_str()));
        }
    }
    Used { by_tcp, by_http }
}

/// The bounds are those of tcp(7) on Linux, which counts in whole seconds.
fn keepalive(keepalive: &Keepalive, complaints: &mut Complaints) {
    let Keepalive::On(probes) = keepalive else { return };
    complaints.below(&["keepalive"], |complaints| {
        for (key, time) in [("idle", probes.idle), ("interval", probes.interval)] {
            if time.0 < Duration::from_secs(1) || time.0 > Duration::from_secs(32_767) {
                let message = format!("{key} must be 1s to 32767s, not {time}");
                complaints.error(&[key], message, "");
            }
        }
        complaints.within("count", probes.count, 1..=127);
    });
}

/// Two listeners cannot have one address; `:80` is every address, so also `0.0.0.0:80`.
fn collisions(config: &Config, complaints: &mut Complaints) {
    let mut taken: HashMap<Address, (String, &Address)> = HashMap::new();
    let tcp = config.tcp.iter().map(|(name, listener)| ("tcp", name, &listener.listen));
    let http = config.http.iter().map(|(name, listener)| ("http", name, &listener.listen));
    for (section, name, listen) in tcp.chain(http) {
        for (index, address) in listen.iter().enumerate() {
            let mut first = None;
            for claim in claims(address) {
                match taken.get(&claim) {
                    Some(owner) => first = Some(owner.clone()),
                    None => {
                        taken.insert(claim, (format!("{section}.{name}"), address));
                    }
                }
            }
            let Some((owner, other)) = first else { continue };
            let (owner, other, new) =
                (shown(&owner), shown(&other.to_string()), shown(&address.to_string()));
            let message = format!("\"{new}\" is taken by \"{other}\" of [{owner}]");
            let keys = [section, name.as_str(), "listen", &index.to_string()];
            complaints.error(&keys, message, "let one of them listen elsewhere");
        }
    }
}

/// The sockets that an address to listen on stands for. Port 0 is a new one each time.
fn claims(address: &Address) -> Vec<Address> {
    match address {
        address if address.port() == Some(0) => Vec::new(),
        Address::Port(port) => vec![
            Address::Ip((Ipv4Addr::UNSPECIFIED, *port).into()),
            Address::Ip((Ipv6Addr::UNSPECIFIED, *port).into()),
        ],
        Address::Name { host, port } => {
            vec![Address::Name { host: host.to_lowercase(), port: *port }]
        }
        address => vec![address.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Limit, Upstream};

    fn config() -> Config {
        let backend = Backend::new("127.0.0.1:8080".parse().unwrap());
        let listener = TcpListener {
            upstream: Some("app".to_owned()),
            ..TcpListener::new(vec![":80".parse().unwrap()])
        };
        let mut config = Config::default();
        config.upstream.insert("app".to_owned(), Upstream::new(vec![backend]));
        config.tcp.insert("public".to_owned(), listener);
        config
    }

    fn complaint(change: impl FnOnce(&mut Config, &mut TcpListener)) -> String {
        let mut config = config();
        let mut listener = config.tcp.shift_remove("public").unwrap();
        change(&mut config, &mut listener);
        config.tcp.insert("public".to_owned(), listener);
        let complaints = verify(&config);
        let one = |complaint: &Complaint| complaint.path.join(".") + ": " + &complaint.message;
        complaints.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_config_built_in_code_is_fine() {
        assert_eq!(verify(&config()), []);
        assert!(config().verify_or_problems().unwrap().is_empty());
    }

    #[test]
    fn a_config_without_a_listener_is_refused() {
        let problems = Config::default().verify_or_problems().unwrap_err();
        let text = problems.to_string();
        assert!(text.starts_with("config: error: tcp: a config without a listener"), "{text}");
    }

    #[test]
    fn an_upstream_that_does_not_exist_is_told_the_nearest_one() {
        let mut config = config();
        config.tcp["public"].upstream = Some("ap".to_owned());
        let complaints = verify(&config);
        assert_eq!(complaints[1].advice.as_deref(), Some("did you mean \"app\"?"));
        assert_eq!(complaints[0].severity, Severity::Warning);
    }

    #[test]
    fn two_listeners_cannot_have_one_address() {
        let other = |address: &str| {
            let listener = TcpListener {
                upstream: Some("app".to_owned()),
                ..TcpListener::new(vec![address.parse().unwrap()])
            };
            complaint(|config, _| {
                config.tcp.insert("other".to_owned(), listener);
            })
        };
        for address in [":80", "0.0.0.0:80", "[::]:80"] {
            assert!(other(address).contains("is taken by"), "{address}");
        }
        for address in [":81", "unix:x"] {
            assert_eq!(other(address), "");
        }
        let zero: Address = ":0".parse().unwrap();
        assert_eq!(complaint(|_, listener| listener.listen = vec![zero.clone(), zero]), "");
    }

    #[test]
    fn senseless_listeners_are_refused() {
        assert!(complaint(|_, listener| listener.listen.clear()).contains("nothing to listen on"));
        let idle = complaint(|_, listener| listener.idle_timeout = Limit::seconds(0));
        assert!(idle.contains("tcp.public.idle-timeout: idle-timeout must be longer"), "{idle}");
        assert_eq!(complaint(|_, listener| listener.idle_timeout = Limit::OFF), "");
        for size in [0, 4095, (1 << 30) + 1] {
            let buffer = complaint(|_, listener| listener.buffer_max = Bytes(size));
            assert!(buffer.contains("buffer-max must be 4KiB to 1GiB"), "{buffer}");
        }
        assert!(complaint(|_, listener| listener.backlog = 0).contains("backlog"));
        assert!(complaint(|_, listener| listener.connections_max = Some(0)).contains("at least 1"));
        assert!(complaint(|config, _| config.process.workers = Some(1025)).contains("1 to 1024"));
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["", "a b", "é", &"a".repeat(65)] {
            let named = complaint(|config, listener| {
                config.tcp.insert(
                    name.to_owned(),
                    TcpListener { listen: vec![":81".parse().unwrap()], ..listener.clone() },
                );
            });
            assert!(named.contains("cannot be a name"), "{name}");
        }
    }
}
