//! Who may come in: connections per process, per listener and per client address, new ones a second, allowed networks.
//! A place taken is given back by dropping it, once; the tables are bounded whatever clients do.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::observe::ended::Why;

/// Shards of the table of client addresses; each has a lock of its own, held for a few instructions.
const SHARDS: usize = 64;

/// Client addresses remembered per shard. Those with open connections are bounded by `connections-max`
/// anyway; beyond this, the ones without are forgotten, which forgives them their rate.
const CLIENTS_PER_SHARD: usize = 4096;

/// A true count with an upper limit, shared by all workers.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicU32,
    max: AtomicU32,
    /// Nobody new comes in, whatever is free: there is no memory for more.
    is_shut: AtomicBool,
}

impl Places {
    pub(crate) fn new(max: Option<u32>) -> Arc<Places> {
        let max = AtomicU32::new(max.unwrap_or(u32::MAX));
        Arc::new(Places { taken: AtomicU32::new(0), max, is_shut: AtomicBool::new(false) })
    }

    /// Lets nobody in until it is opened again.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Relaxed);
    }

    /// Sets another limit. Places that are taken beyond it stay so until they are given back.
    pub(crate) fn limit(&self, max: Option<u32>) {
        self.max.store(max.unwrap_or(u32::MAX), Relaxed);
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let max = self.max.load(Relaxed);
        self.taken
            .fetch_update(Relaxed, Relaxed, |taken| (taken < max).then_some(taken + 1))
            .ok()?;
        Some(Place { places: Arc::clone(self) })
    }

    /// Takes a place whether there is one or not.
    fn take_one_more(self: &Arc<Self>) -> Place {
        self.taken.fetch_add(1, Relaxed);
        Place { places: Arc::clone(self) }
    }
}

/// One taken place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Relaxed);
    }
}

/// The limits of one listener.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    pub(crate) allow: Vec<IpNet>,
    pub(crate) deny: Vec<IpNet>,
    pub(crate) connections_max: Option<u32>,
    pub(crate) client_connections_max: Option<u32>,
    pub(crate) client_connections_per_second: Option<u32>,
}

/// The door of one listener, shared by all workers.
#[derive(Debug)]
pub(crate) struct Door {
    rules: Rules,
    process: Arc<Places>,
    listener: Arc<Places>,
    clients: Option<Arc<Clients>>,
}

impl Door {
    pub(crate) fn new(rules: Rules, process: Arc<Places>) -> Door {
        let counts_clients =
            rules.client_connections_max.is_some() || rules.client_connections_per_second.is_some();
        Door {
            listener: Places::new(rules.connections_max),
            process,
            clients: counts_clients.then(|| Arc::new(Clients::default())),
            rules,
        }
    }

    /// The same door by new rules: who is inside still counts. It is in force with [`Door::enforce`].
    pub(crate) fn succeed(&self, rules: Rules) -> Door {
        let door = Door::new(rules, Arc::clone(&self.process));
        let clients = door.clients.map(|fresh| self.clients.clone().unwrap_or(fresh));
        Door { listener: Arc::clone(&self.listener), clients, ..door }
    }

    /// The places of its listener.
    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.listener
    }

    /// What it demands, in words by its keys, and whether a client has that; none where only real traffic can tell.
    pub(crate) fn explain(&self, client: IpAddr, mut tell: impl FnMut(&str, String, Option<bool>)) {
        let Rules { allow, deny, .. } = &self.rules;
        if !allow.is_empty() || !deny.is_empty() {
            let passes = self.is_allowed(client);
            let verdict = if passes { "may come in" } else { "is kept out" };
            tell("allow, deny", format!("{client} {verdict}"), Some(passes));
        }
        let taken = self.listener.taken();
        if let Some(max) = self.rules.connections_max {
            let what = format!("{taken} of {max} connections of the listener are open");
            tell("connections-max", what, Some(taken < max));
        }
        if let Some(max) = self.rules.client_connections_max {
            let what = format!("at most {max} connections of one client");
            tell("client-connections-max", what, None);
        }
        if let Some(rate) = self.rules.client_connections_per_second {
            let what = format!("at most {rate} new connections of one client a second");
            tell("client-connections-per-second", what, None);
        }
    }

    /// From now on, the limit of the listener is the one of these rules.
    pub(crate) fn enforce(&self) {
        self.listener.limit(self.rules.connections_max);
    }

    /// Lets a client in or says which limit keeps it out. `client` is none for a Unix socket, which only the totals limit.
    pub(crate) fn admit(&self, client: Option<IpAddr>, now: Instant) -> Result<Admitted, Why> {
        if let Some(client) = client
            && !self.is_allowed(client)
        {
            return Err(Why::Denied);
        }
        if self.process.is_shut.load(Relaxed) {
            return Err(Why::LimitMemory);
        }
        // A client over its own limit must not take a place, not even for a moment, that others need.
        let client = match (&self.clients, client) {
            (Some(clients), Some(address)) => Some(clients.admit(&self.rules, address, now)?),
            _ => None,
        };
        let listener = self.listener.take().ok_or(Why::LimitListener)?;
        let process = self.process.take().ok_or(Why::LimitProcess)?;
        Ok(Admitted { _process: process, _listener: listener, client })
    }

    /// Counts a client that was let in by another process, whatever the limits are.
    pub(crate) fn take_over(&self, client: Option<IpAddr>) -> Admitted {
        let client = match (&self.clients, client) {
            (Some(clients), Some(address)) => Some(clients.take_over(address, Instant::now())),
            _ => None,
        };
        let (process, listener) = (self.process.take_one_more(), self.listener.take_one_more());
        Admitted { _process: process, _listener: listener, client }
    }

    /// The same for whoever has come in as somebody unknown, once it is known who that is.
    pub(crate) fn admit_known(
        &self,
        admitted: &mut Admitted,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Why> {
        let Some(address) = client else { return Ok(()) };
        if !self.is_allowed(address) {
            return Err(Why::Denied);
        }
        if let Some(clients) = &self.clients {
            admitted.client = Some(clients.admit(&self.rules, address, now)?);
        }
        Ok(())
    }

    fn is_allowed(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let listed = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        !listed(&self.rules.deny) && (self.rules.allow.is_empty() || listed(&self.rules.allow))
    }
}

/// Everything a served connection has taken; dropping it gives all of it back.
#[derive(Debug)]
pub(crate) struct Admitted {
    _process: Place,
    _listener: Place,
    client: Option<ClientPlace>,
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one, which is what one customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u64, bool);

impl ClientKey {
    pub(crate) fn of(address: IpAddr) -> ClientKey {
        match address.to_canonical() {
            IpAddr::V4(address) => ClientKey(u64::from(address.to_bits()), false),
            IpAddr::V6(address) => ClientKey((address.to_bits() >> 64) as u64, true),
        }
    }
}

/// Counts by client address.
#[derive(Debug)]
struct Clients {
    shards: Vec<Mutex<HashMap<ClientKey, Client>>>,
    hasher: RandomState,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

#[derive(Debug)]
struct Client {
    open: u32,
    /// The moment from which this client's allowance is full again (a leaky bucket kept as one number).
    full_at: Instant,
}

impl Clients {
    fn shard(&self, key: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, Client>> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(
        self: &Arc<Self>,
        rules: &Rules,
        address: IpAddr,
        now: Instant,
    ) -> Result<ClientPlace, Why> {
        let key = ClientKey::of(address);
        let mut shard = self.shard(key);
        if shard.len() >= CLIENTS_PER_SHARD && !shard.contains_key(&key) {
            shard.retain(|_, client| client.open > 0);
        }
        let client = shard.entry(key).or_insert(Client { open: 0, full_at: now });
        if rules.client_connections_max.is_some_and(|max| client.open >= max) {
            return Err(Why::LimitClient);
        }
        if let Some(rate) = rules.client_connections_per_second {
            // A second's worth may come at once; each connection then uses up 1/rate of a second.
            let full_at = client.full_at.max(now) + Duration::from_secs(1) / rate.max(1);
            if full_at > now + Duration::from_secs(1) {
                return Err(Why::LimitClientRate);
            }
            client.full_at = full_at;
        }
        client.open += 1;
        Ok(ClientPlace { clients: Arc::clone(self), key })
    }

    fn take_over(self: &Arc<Self>, address: IpAddr, now: Instant) -> ClientPlace {
        let key = ClientKey::of(address);
        self.shard(key).entry(key).or_insert(Client { open: 0, full_at: now }).open += 1;
        ClientPlace { clients: Arc::clone(self), key }
    }

    fn release(&self, key: ClientKey) {
        let mut shard = self.shard(key);
        if let Some(client) = shard.get_mut(&key) {
            client.open = client.open.saturating_sub(1);
            if client.open == 0 && client.full_at <= Instant::now() {
                shard.remove(&key);
            }
        }
    }
}

#[derive(Debug)]
struct ClientPlace {
    clients: Arc<Clients>,
    key: ClientKey,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.clients.release(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(rules: Rules, max: u32) -> Door {
        Door::new(rules, Places::new(Some(max)))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn exactly_the_configured_number_is_served_and_a_freed_place_is_usable_at_once() {
        let door = door(Rules::default(), 2);
        let now = Instant::now();
        let first = door.admit(ip("192.0.2.1"), now).unwrap();
        let _second = door.admit(None, now).unwrap();
        assert_eq!(door.admit(ip("192.0.2.1"), now).unwrap_err(), Why::LimitProcess);
        drop(first);
        door.admit(ip("192.0.2.1"), now).unwrap();
    }

    #[test]
    fn a_refusal_by_an_inner_limit_gives_the_outer_places_back() {
        let rules = Rules { client_connections_max: Some(1), ..Rules::default() };
        let door = door(rules, 10);
        let now = Instant::now();
        let _open = door.admit(ip("192.0.2.1"), now).unwrap();
        for _ in 0..50 {
            assert_eq!(door.admit(ip("192.0.2.1"), now).unwrap_err(), Why::LimitClient);
        }
        assert_eq!(door.process.taken.load(Relaxed), 1);
        door.admit(ip("192.0.2.2"), now).unwrap();
    }

    #[test]
    fn one_ipv6_64_is_one_client_and_a_mapped_ipv4_is_itself() {
        let rules = Rules { client_connections_max: Some(1), ..Rules::default() };
        let door = door(rules, 10);
        let now = Instant::now();
        let _open = door.admit(ip("2001:db8:1:2::1"), now).unwrap();
        assert_eq!(door.admit(ip("2001:db8:1:2:ffff::9"), now).unwrap_err(), Why::LimitClient);
        let _next_64 = door.admit(ip("2001:db8:1:3::1"), now).unwrap();
        let _v4 = door.admit(ip("192.0.2.1"), now).unwrap();
        assert_eq!(door.admit(ip("::ffff:192.0.2.1"), now).unwrap_err(), Why::LimitClient);
    }

    #[test]
    fn a_client_gets_a_seconds_worth_at_once_and_then_its_rate() {
        let rules = Rules { client_connections_per_second: Some(10), ..Rules::default() };
        let door = door(rules, 1000);
        let start = Instant::now();
        let admitted =
            |at: Instant| (0..100).filter(|_| door.admit(ip("192.0.2.1"), at).is_ok()).count();
        assert_eq!(admitted(start), 10);
        assert_eq!(admitted(start + Duration::from_millis(500)), 5);
        assert_eq!(
            door.admit(ip("192.0.2.1"), start + Duration::from_millis(500)).unwrap_err(),
            Why::LimitClientRate
        );
    }

    #[test]
    fn deny_wins_over_allow_and_an_allow_list_keeps_all_others_out() {
        let rules = Rules {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            ..Rules::default()
        };
        let door = door(rules, 10);
        let now = Instant::now();
        assert!(door.admit(ip("10.2.0.1"), now).is_ok());
        assert!(door.admit(ip("::ffff:10.2.0.1"), now).is_ok());
        assert_eq!(door.admit(ip("10.1.0.1"), now).unwrap_err(), Why::Denied);
        assert_eq!(door.admit(ip("192.0.2.1"), now).unwrap_err(), Why::Denied);
    }

    #[test]
    fn the_table_of_clients_stays_bounded_under_a_flood_of_addresses() {
        let rules = Rules { client_connections_per_second: Some(1), ..Rules::default() };
        let door = door(rules, 10);
        let now = Instant::now();
        for address in 0..600_000_u32 {
            let _ = door.admit(Some(IpAddr::from(address.to_be_bytes())), now);
        }
        let clients = door.clients.as_ref().unwrap();
        let remembered: usize =
            clients.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(remembered <= SHARDS * (CLIENTS_PER_SHARD + 1), "{remembered}");
    }
}
