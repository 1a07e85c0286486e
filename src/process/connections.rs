//! Which connections are open, asked of the workers and put together: a page of them, sorted, and one that is closed. Each worker answers
//! from what it alone knows; nothing here is written or read while bytes pass.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use super::remote::Remote;
use super::stays::Stayed;
use super::worker::Task;
use crate::observe::ended::ClientAddress;
use crate::tcp::{Kind, Seen};

/// How long a worker may be busy before the others are listed without it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// An upstream and a backend of it, by their names.
type Place = (Arc<str>, Arc<str>);

/// Which connections are meant; those for which all that is given holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Which {
    /// As its section is called: `tcp.NAME` or `http.NAME`.
    pub(crate) listener: Option<String>,
    pub(crate) upstream: Option<String>,
    /// The address of the backend that it is at now.
    pub(crate) backend: Option<String>,
    pub(crate) client: Option<IpNet>,
    pub(crate) older_than: Option<Duration>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Oldest,
    Newest,
    /// Whoever has carried most, both ways.
    Bytes,
}

/// Where a connection stands in a list. No two of a process have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) key: u64,
    pub(crate) worker: usize,
    pub(crate) number: u64,
}

/// A question to all workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    which: Which,
    sort: Sort,
    /// Only those that come after this one.
    pub(super) after: Option<Rank>,
    /// Not more than so many.
    pub(super) limit: usize,
    /// The upstream and the name of each backend, by its mark.
    names: Arc<HashMap<usize, Place>>,
    worker: usize,
    now: Option<SystemTime>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnectionRow {
    pub(crate) worker: usize,
    pub(crate) number: u64,
    /// As its section is called.
    pub(crate) listener: String,
    pub(crate) client: ClientAddress,
    pub(crate) since: SystemTime,
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    /// The upstream and the backend that it is at now.
    pub(crate) place: Option<Place>,
    /// Requests under way.
    pub(crate) requests: u32,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

/// Connections, the first ones by rank.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) rows: Vec<(Rank, ConnectionRow)>,
    /// How many there are altogether that are meant.
    pub(crate) matching: u64,
    /// How many of them come after the one that was named.
    pub(crate) beyond: u64,
}

impl Asked {
    pub(crate) fn new(which: Which, sort: Sort, after: Option<Rank>, limit: usize) -> Asked {
        Asked { which, sort, after, limit, ..Asked::default() }
    }

    #[cfg(test)]
    pub(crate) fn which(&self) -> &Which {
        &self.which
    }

    /// Not more than so many.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The row of a connection, if it is meant.
    pub(super) fn row_of(&self, stayed: &Stayed) -> Option<ConnectionRow> {
        let Stayed { cut, known, number } = stayed;
        let seen = cut.seen();
        let client = seen.client().unwrap_or(known.client);
        let which = &self.which;
        if which.client.is_some_and(|network| !is_in(client, network)) {
            return None;
        }
        if let (Some(age), Some(now)) = (which.older_than, self.now)
            && now.duration_since(known.since).unwrap_or_default() < age
        {
            return None;
        }
        let listener = section(seen.kind(), &known.listener);
        if which.listener.as_ref().is_some_and(|name| *name != listener) {
            return None;
        }
        let place = cut.place().or_else(|| self.names.get(&seen.at()).cloned());
        let is_at = |wanted: &Option<String>, at: Option<&Arc<str>>| {
            wanted.as_ref().is_none_or(|wanted| at.is_some_and(|at| **at == **wanted))
        };
        let (upstream, backend) = place.as_ref().map(|(one, other)| (one, other)).unzip();
        if !is_at(&which.upstream, upstream) || !is_at(&which.backend, backend) {
            return None;
        }
        let (bytes_up, bytes_down) = seen.carried();
        Some(ConnectionRow {
            worker: self.worker,
            number: *number,
            listener,
            client,
            since: known.since,
            kind: seen.kind().as_str(),
            state: if cut.is_ending() { "closing" } else { state(seen, place.is_some()) },
            place,
            requests: seen.under_way(),
            bytes_up,
            bytes_down,
        })
    }

    pub(super) fn rank_of(&self, row: &ConnectionRow) -> Rank {
        let since = row.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let key = match self.sort {
            Sort::Oldest => since,
            Sort::Newest => u64::MAX - since,
            Sort::Bytes => u64::MAX - row.bytes_up.saturating_add(row.bytes_down),
        };
        Rank { key, worker: row.worker, number: row.number }
    }
}

fn is_in(client: ClientAddress, network: IpNet) -> bool {
    let ip: IpAddr = match client {
        ClientAddress::Ip(address) => address.ip(),
        ClientAddress::Told(ip) => ip,
        ClientAddress::Unix => return false,
    };
    network.contains(&ip.to_canonical())
}

/// How the section of a listener is called.
fn section(kind: Kind, listener: &str) -> String {
    let protocol = match kind {
        Kind::Tcp | Kind::Packets => "tcp",
        Kind::Http1 | Kind::Http2 | Kind::Tunnel => "http",
    };
    format!("{protocol}.{listener}")
}

fn state(seen: &Seen, is_placed: bool) -> &'static str {
    match seen.kind() {
        Kind::Tcp if !is_placed => "connecting",
        Kind::Tcp | Kind::Packets | Kind::Tunnel => "relaying",
        Kind::Http1 | Kind::Http2 if seen.under_way() > 0 => "answering",
        Kind::Http1 | Kind::Http2 => "waiting",
    }
}

impl Remote {
    /// A page of the connections that are open. A worker that is too busy to answer is left out.
    pub(crate) async fn connections(&self, asked: Asked) -> Listed {
        let upstreams = self.shown().upstreams.clone();
        let names = upstreams.iter().flat_map(|upstream| {
            let name = Arc::clone(&upstream.rules.name);
            let all = upstream.backends().into_iter();
            all.map(move |backend| (backend.mark(), (Arc::clone(&name), Arc::clone(&backend.name))))
        });
        let (names, now) = (Arc::new(names.collect()), Some(SystemTime::now()));
        let asked = Asked { names, now, ..asked };
        let (to, mut answers) = mpsc::unbounded_channel();
        for (worker, tasks) in
            self.pulse().crew().iter().flat_map(|crew| crew.tasks.iter().enumerate())
        {
            let asked = Arc::new(Asked { worker, ..asked.clone() });
            let _ = tasks.send(Task::List(asked, to.clone()));
        }
        drop(to);
        let mut listed = Listed::default();
        let until = tokio::time::Instant::now() + ANSWERED_WITHIN;
        while let Ok(Some(more)) = tokio::time::timeout_at(until, answers.recv()).await {
            listed.rows.extend(more.rows);
            listed.matching += more.matching;
            listed.beyond += more.beyond;
        }
        listed.rows.sort_by_key(|(rank, _)| *rank);
        listed.rows.truncate(asked.limit);
        listed
    }

    /// Ends one connection now; whether there is one of this worker and number.
    pub(crate) async fn close_connection(&self, worker: usize, number: u64) -> bool {
        let (answer, answered) = oneshot::channel();
        let tasks = self.pulse().crew().and_then(|crew| crew.tasks.get(worker).cloned());
        let sent = tasks.is_some_and(|tasks| tasks.send(Task::Close(number, answer)).is_ok());
        // A worker that hangs does it when it goes on.
        let closed = tokio::time::timeout(ANSWERED_WITHIN, answered);
        sent && closed.await.is_ok_and(|closed| closed.unwrap_or(false))
    }
}
