//! Connections that are open: a page of them, filtered and sorted, and the order to close one. An id names one connection of one
//! process, and never another one later.

use std::time::{SystemTime, UNIX_EPOCH};

use super::api::{Desk, millis};
use super::message::{Closed, ConnectionEntry, Connections, Kind, Refusal};
use super::query::Query;
use super::who::Who;
use crate::config::Time;
use crate::process::{Asked, ConnectionRow, Rank, Sort, Which};

/// Rows of a page, where nobody says how many; and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// What may stand behind the path, and what it means.
pub(super) const WORDS: &[(&str, &str)] = &[
    ("listener", "Only of this listener, as `tcp.db` or `http.web`."),
    ("upstream", "Only those that are at a backend of this upstream now."),
    ("backend", "Only those that are at the backend of this address now."),
    ("client", "Only clients of this address or network."),
    ("older-than", "Only those that are open for longer than this time, as `90s` or `2h`."),
    ("sort", "What comes first: `oldest` (default), `newest` or `bytes`."),
    ("limit", "Rows of a page, up to 1000; 100 by default."),
    ("cursor", "The `next` of the page before."),
];

impl Desk {
    /// `GET /v1/connections`.
    pub(super) async fn connections(&self, query: &str) -> Result<Connections, Refusal> {
        let asked = asked(query)?;
        let limit = asked.limit();
        let listed = self.remote.connections(asked).await;
        let last = listed.rows.last().map(|(rank, _)| *rank);
        let has_more = listed.beyond > limit as u64;
        Ok(Connections {
            connections: listed.rows.into_iter().map(|(_, row)| entry(row)).collect(),
            matching: listed.matching,
            next: last.filter(|_| has_more).map(cursor),
        })
    }

    /// `DELETE /v1/connections/ID`.
    pub(super) async fn close(&self, id: &str, who: &Who) -> Result<Closed, Refusal> {
        let known = numbers(id).filter(|[process, ..]| *process == u64::from(std::process::id()));
        let closed = match known {
            Some([_, worker, number]) => {
                self.remote.close_connection(worker as usize, number).await
            }
            None => false,
        };
        if !closed {
            let error = format!("there is no connection {id}; it may have ended");
            return Err(Refusal::new(Kind::Unknown, error));
        }
        who.orders(&format!("close connection {id}"));
        Ok(Closed { closed: id.to_owned() })
    }
}

fn asked(query: &str) -> Result<Asked, Refusal> {
    let names: Vec<_> = WORDS.iter().map(|(name, _)| *name).collect();
    let query = Query::read(query, &names)?;
    let text = |name| query.text(name).map(str::to_owned);
    let wrong = |error: &str| Refusal::new(Kind::Order, error);
    let client = match query.text("client") {
        None => None,
        Some(client) => {
            let alone = client.parse().map(|address: std::net::IpAddr| address.into());
            let network = alone.or_else(|_| client.parse());
            Some(network.map_err(|_| wrong("`client` is an address or a network"))?)
        }
    };
    let older_than = query.value::<Time>("older-than")?;
    let sort = match query.text("sort") {
        None | Some("oldest") => Sort::Oldest,
        Some("newest") => Sort::Newest,
        Some("bytes") => Sort::Bytes,
        Some(_) => return Err(wrong("`sort` is oldest, newest or bytes")),
    };
    let limit = query.value("limit")?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong(&format!("`limit` is 1 to {LIMIT_MAX}")));
    }
    let after = match query.text("cursor") {
        None => None,
        Some(text) => {
            let numbers = numbers(text).ok_or_else(|| wrong("`cursor` is the `next` of a page"))?;
            let [key, worker, number] = numbers;
            Some(Rank { key, worker: worker as usize, number })
        }
    };
    let which = Which {
        listener: text("listener"),
        upstream: text("upstream"),
        backend: text("backend"),
        client,
        older_than: older_than.map(|time| time.0),
    };
    Ok(Asked::new(which, sort, after, limit))
}

fn cursor(rank: Rank) -> String {
    format!("{}-{}-{}", rank.key, rank.worker, rank.number)
}

fn numbers(text: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split('-').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

fn entry(row: ConnectionRow) -> ConnectionEntry {
    let (upstream, backend) = row.place.unzip();
    let since = row.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    ConnectionEntry {
        id: format!("{}-{}-{}", std::process::id(), row.worker, row.number),
        listener: row.listener,
        client: row.client.to_string(),
        kind: row.kind.to_owned(),
        state: row.state.to_owned(),
        upstream: upstream.map(|name| name.to_string()),
        backend: backend.map(|name| name.to_string()),
        requests_open: row.requests,
        bytes_up: row.bytes_up,
        bytes_down: row.bytes_down,
        since_at_ms: millis(since),
        open_ms: millis(SystemTime::now().duration_since(row.since).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_a_wrong_one_is_refused() {
        let asked = asked("client=10.0.0.0/8&older-than=2m&sort=bytes&limit=5&cursor=1-2-3");
        let asked = asked.unwrap();
        assert_eq!(asked.which().client, Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(asked.which().older_than.unwrap().as_secs(), 120);
        let after = Rank { key: 1, worker: 2, number: 3 };
        assert_eq!(asked, Asked::new(asked.which().clone(), Sort::Bytes, Some(after), 5));
        for wrong in
            ["client=10", "older-than=2", "sort=up", "limit=0", "limit=1001", "cursor=1-2", "age=1"]
        {
            assert!(super::asked(wrong).is_err(), "{wrong}");
        }
    }
}
