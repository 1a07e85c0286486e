//! Backend names: look up all addresses behind a name, again and again by the TTL of the answers.
//! A name never blocks the start, and a look-up that fails leaves the last answer in place.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use tokio::task::JoinSet;

use crate::upstream::{EntryPlace, Upstream};

/// Bounds of the time from one look-up to the next, whatever the TTL says.
const TTL_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The longest pause after failed look-ups; the first is the lower TTL bound, doubling from there.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long all tries of one look-up may take together; less than the default `queue-timeout` of those who wait for it.
const ANSWER_TIME: Duration = Duration::from_millis(2500);

/// Addresses of one name that become backends; more are left out, with a warning.
const ADDRESSES_MAX: usize = 1024;

/// Builds the resolver: the given servers, or those of the system.
pub(crate) fn resolver(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = nameservers.iter().map(|server| {
            let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
            udp.port = server.port();
            tcp.port = server.port();
            NameServerConfig::new(server.ip(), true, vec![udp, tcp])
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    // The answers are kept by us; a second cache would only make them older.
    options.cache_size = 0;
    builder.build()
}

/// Keeps every named entry of an upstream resolved, for as long as these errands go on.
pub(crate) fn follow(
    upstream: &Arc<Upstream>,
    resolver: &TokioResolver,
    errands: &mut JoinSet<()>,
) {
    for (entry, config) in upstream.rules.entries.iter().enumerate() {
        if let EntryPlace::Named { host, port } = &config.place {
            // What it stood for in the config before stays until there is an answer.
            let (v4, v6) = upstream.found(entry).into_iter().partition(IpAddr::is_ipv4);
            let name = Name {
                upstream: Arc::clone(upstream),
                entry,
                host: host.clone(),
                port: *port,
                v4,
                v6,
            };
            errands.spawn(name.follow(resolver.clone()));
        }
    }
}

/// One name being followed, with the last good answer of each family.
struct Name {
    upstream: Arc<Upstream>,
    entry: usize,
    host: String,
    port: u16,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Name {
    async fn follow(mut self, resolver: TokioResolver) {
        let mut pause = TTL_BOUNDS.0;
        let mut failing = false;
        loop {
            let (v4, v6) = tokio::join!(
                in_time(resolver.ipv4_lookup(self.host.as_str())),
                in_time(resolver.ipv6_lookup(self.host.as_str()))
            );
            match self.learn(v4, v6) {
                Ok(until) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(upstream = %self.upstream.rules.name, name = %self.host, "resolves again");
                    }
                    pause = TTL_BOUNDS.0;
                    let wait = until.saturating_duration_since(std::time::Instant::now());
                    tokio::time::sleep(wait.clamp(TTL_BOUNDS.0, TTL_BOUNDS.1)).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let keeps = if self.v4.is_empty() && self.v6.is_empty() {
                            "it has no backend yet"
                        } else {
                            "its last addresses stay"
                        };
                        tracing::warn!(upstream = %self.upstream.rules.name, name = %self.host, "look-up failed: {error}; {keeps}");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(FAILURE_PAUSE_MAX);
                }
            }
        }
    }

    /// Takes over what was answered; the moment of the next look-up, or why there is nothing new.
    fn learn(
        &mut self,
        v4: Result<Lookup, NetError>,
        v6: Result<Lookup, NetError>,
    ) -> Result<std::time::Instant, NetError> {
        let mut until = Vec::new();
        let mut error = None;
        // An answer of one family proves that the name exists: then "no records" of the other means it has none.
        let exists = v4.is_ok() || v6.is_ok();
        for (answer, known) in [(v4, &mut self.v4), (v6, &mut self.v6)] {
            match answer {
                Ok(lookup) => {
                    until.push(lookup.valid_until());
                    *known = addresses(&lookup);
                }
                Err(failed) if exists && failed.is_no_records_found() => known.clear(),
                Err(failed) => error = Some(failed),
            }
        }
        let Some(until) = until.into_iter().min() else {
            return Err(error.unwrap_or_else(|| NetError::from("no answer")));
        };
        let mut found: Vec<_> =
            self.v4.iter().chain(&self.v6).map(|ip| SocketAddr::new(*ip, self.port)).collect();
        if found.len() > ADDRESSES_MAX {
            tracing::warn!(upstream = %self.upstream.rules.name, name = %self.host, "has {} addresses; only {ADDRESSES_MAX} are used", found.len());
            found.truncate(ADDRESSES_MAX);
        }
        self.upstream.set_addresses(self.entry, found);
        Ok(until)
    }
}

/// A server that answers for one family and drops questions for the other must not hold up the first.
async fn in_time(
    answer: impl Future<Output = Result<Lookup, NetError>>,
) -> Result<Lookup, NetError> {
    match tokio::time::timeout(ANSWER_TIME, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(NetError::from("no answer in time")),
    }
}

/// The addresses of an answer in a fixed order: servers rotate them, which is no news.
fn addresses(lookup: &Lookup) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
