//! `evenkeel connections`: who is connected to the running process, and `close`, which ends one of them. Filters are judged by the
//! process; nothing is fetched that is not shown.

use super::ask::{Answer, Failure, Reach};
use super::status::{spoken, table};
use super::{exit, say};
use crate::admin::message::{Closed, Connections};
use crate::config::Time;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    order: Option<Order>,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// End one connection now. The access log says `closed-by-operator`.
    Close {
        /// Its id, as the list shows it.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Debug, clap::Args)]
struct Filters {
    /// Only of this listener: `tcp.db`, `http.web`.
    #[arg(long, value_name = "LISTENER")]
    listener: Option<String>,
    /// Only those that are at a backend of this upstream now.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only those that are at the backend of this address now.
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<String>,
    /// Only clients of this address or network.
    #[arg(long, value_name = "NETWORK")]
    client: Option<String>,
    /// Only those that are open for longer than this.
    #[arg(long, value_name = "TIME")]
    older_than: Option<Time>,
    /// What comes first.
    #[arg(long, value_name = "ORDER", value_parser = ["oldest", "newest", "bytes"], default_value = "oldest")]
    sort: String,
    /// Show not more than so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after the last page, with what that said.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(super) fn connections(arguments: &Arguments) -> u8 {
    match &arguments.order {
        Some(Order::Close { id, reach }) => close(id, reach),
        None => list(&arguments.filters, &arguments.reach),
    }
}

fn list(filters: &Filters, reach: &Reach) -> u8 {
    let answer: Answer<Connections> = match reach.see(&filters.path()) {
        Ok(answer) => answer,
        Err(failure) => return failure.say(reach.json),
    };
    if reach.json {
        say(&answer.text);
        return exit::FINE;
    }
    say(&drawn(&answer.value));
    exit::FINE
}

fn close(id: &str, reach: &Reach) -> u8 {
    let done: Result<Answer<Closed>, Failure> =
        reach.remove(&format!("/v1/connections/{}", encoded(id)));
    match done {
        Ok(answer) if reach.json => say(&answer.text),
        Ok(answer) => say(&format!("{} is closed", answer.value.closed)),
        Err(failure) => return failure.say(reach.json),
    }
    exit::FINE
}

impl Filters {
    fn path(&self) -> String {
        let words = [
            ("listener", self.listener.clone()),
            ("upstream", self.upstream.clone()),
            ("backend", self.backend.clone()),
            ("client", self.client.clone()),
            ("older-than", self.older_than.map(|time| time.to_string())),
            ("sort", Some(self.sort.clone())),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        let words = words.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let words: Vec<_> =
            words.map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
        format!("/v1/connections?{}", words.join("&"))
    }
}

/// A text as it may stand in a part of a path, or behind it.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

fn drawn(page: &Connections) -> String {
    let titles =
        ["ID", "LISTENER", "CLIENT", "KIND", "STATE", "AT", "OPEN FOR", "BYTES UP", "BYTES DOWN"];
    let rows = page.connections.iter().map(|row| {
        let at = match (&row.upstream, &row.backend) {
            (Some(upstream), Some(backend)) => format!("{upstream}/{backend}"),
            _ => "-".to_owned(),
        };
        vec![
            row.id.clone(),
            row.listener.clone(),
            row.client.clone(),
            row.kind.clone(),
            row.state.clone(),
            at,
            spoken(row.open_ms),
            row.bytes_up.to_string(),
            row.bytes_down.to_string(),
        ]
    });
    let mut lines = table(&titles, rows.collect());
    let (shown, all) = (page.connections.len(), page.matching);
    lines.push(String::new());
    lines.push(match &page.next {
        Some(next) => format!("{shown} of {all}; more with --cursor {next}"),
        None => format!("{shown} of {all}"),
    });
    lines.join("\n")
}
