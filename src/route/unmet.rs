//! Why a route does not take a request or a connection, in words. It must never decide that: the conditions do, by the code that
//! traffic goes through, and only what they answer is put into words here.

use std::fmt::Display;

use super::{Ask, Conditions, Routes, StreamAsk, StreamConditions, Wanted};
use crate::config::HostPattern;

/// The first condition of a route that is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet<'a> {
    Path,
    Host,
    Method,
    Client,
    Certificate,
    Header(&'a [u8], &'a Wanted),
    Query(&'a [u8], &'a Wanted),
    /// Of TLS.
    Name,
    /// Of ALPN.
    Protocol,
}

impl Routes {
    /// For each route in written order, why it does not take the request; nothing for those that would.
    pub(crate) fn why_not(&self, ask: &Ask<'_>) -> Vec<Option<String>> {
        let host = HostPattern::normal(ask.host);
        let ask = Ask { host: &host, ..*ask };
        let why = |when: &Conditions| when.unmet(&ask).map(|unmet| when.words(unmet, &ask));
        self.in_order.iter().map(why).collect()
    }
}

impl Conditions {
    fn words(&self, unmet: Unmet<'_>, ask: &Ask<'_>) -> String {
        match unmet {
            Unmet::Path => is_not("path", text(ask.path), &self.path),
            Unmet::Host => is_not("host", text(ask.host), &self.host),
            Unmet::Method => {
                let wanted: Vec<_> = self.method.iter().map(|method| text(method)).collect();
                is_not("method", text(ask.method), &wanted)
            }
            Unmet::Client => not_from(ask.client, &self.client),
            Unmet::Header(name, wanted) => lacks("header", name, wanted),
            Unmet::Query(name, wanted) => lacks("query parameter", name, wanted),
            Unmet::Certificate | Unmet::Name | Unmet::Protocol => certificate(),
        }
    }
}

impl StreamConditions {
    /// Why it does not take the connection; nothing if it would.
    pub(crate) fn why_not(&self, ask: &StreamAsk<'_>) -> Option<String> {
        Some(match self.unmet(ask)? {
            Unmet::Name => match ask.name {
                Some(name) => is_not("name", name.to_owned(), &self.sni),
                None => "the client asks for no name".to_owned(),
            },
            Unmet::Protocol => {
                let wanted: Vec<_> = self.alpn.iter().map(|name| text(name)).collect();
                format!("the client offers none of the protocols {}", wanted.join(", "))
            }
            Unmet::Client => not_from(ask.client, &self.client),
            _ => certificate(),
        })
    }
}

fn is_not(what: &str, value: String, wanted: &[impl Display]) -> String {
    let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    format!("{what} {value} is not {}", wanted.join(" or "))
}

fn not_from(client: Option<std::net::IpAddr>, nets: &[ipnet::IpNet]) -> String {
    match client {
        Some(client) => is_not("client", client.to_string(), nets),
        None => "the address of the client is not known".to_owned(),
    }
}

fn lacks(what: &str, name: &[u8], wanted: &Wanted) -> String {
    match wanted {
        Wanted::Present => format!("there is no {what} {}", text(name)),
        Wanted::Is(value) => format!("no {what} {} is {}", text(name), text(value)),
    }
}

fn certificate() -> String {
    "the client shows no such certificate".to_owned()
}

/// What clients send may hold anything, and goes to a terminal.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
