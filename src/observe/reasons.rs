//! The whole path of one decision, as an explanation tells it: which listener, which route and why, which backend and why. It is
//! only words and numbers, for people and as JSON; the rooms that decide fill it in by the code that they decide with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be explained: `POST /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Asked {
    /// The URL of a request; none for a TCP connection.
    pub(crate) url: Option<String>,
    pub(crate) method: Option<String>,
    /// Lines of its head, as `Name: value`.
    pub(crate) headers: Vec<String>,
    /// Where it comes from; absent, the loopback address.
    pub(crate) from: Option<std::net::IpAddr>,
    /// The listener, with or without `tcp.` or `http.` before its name; absent, the only one that fits.
    pub(crate) listener: Option<String>,
    /// The name that a TLS client asks for; absent, the host of the URL.
    pub(crate) sni: Option<String>,
    /// The protocols that a TLS client offers.
    pub(crate) alpn: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Reasons {
    /// Whether it is about a running process and its counts.
    pub(crate) live: bool,
    /// `tcp.NAME` or `http.NAME`.
    pub(crate) listener: String,
    pub(crate) addresses: Vec<String>,
    /// Who the request or connection is taken to be from.
    pub(crate) client: String,
    /// What would be shown to the client in a handshake; none in clear.
    pub(crate) tls: Option<TlsReasons>,
    /// What has to be passed on the way, in order.
    pub(crate) gates: Vec<GateRow>,
    pub(crate) request: Option<RequestRow>,
    /// Those of the listener, in the order in which they are tried.
    pub(crate) routes: Vec<RouteRow>,
    /// What becomes of it, in words.
    pub(crate) end: String,
    /// The pick, where it goes to an upstream.
    pub(crate) choice: Option<Choice>,
    /// Time limits, retries and other limits that would apply, by their keys.
    pub(crate) limits: Vec<LimitRow>,
}

/// A handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct TlsReasons {
    /// What the client asks for.
    pub(crate) name: Option<String>,
    /// The certificate that it would be shown: whom it is for.
    pub(crate) certificate: Option<String>,
    /// The names in it.
    pub(crate) names: Vec<String>,
    /// `off`, `optional` or `required`: whether it has to show one itself.
    pub(crate) client_auth: String,
}

/// Something on the way that may turn a client away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct GateRow {
    /// The key in the config.
    pub(crate) key: String,
    /// What is demanded, or what it says of this client.
    pub(crate) what: String,
    /// Whether it lets it through; none where only real traffic can tell.
    pub(crate) passes: Option<bool>,
}

/// What was made of the request before a route was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RequestRow {
    pub(crate) method: String,
    pub(crate) host: String,
    /// Path and query, made normal.
    pub(crate) target: String,
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RouteRow {
    /// Counted from 1, as they stand in the file.
    pub(crate) route: usize,
    pub(crate) taken: bool,
    /// Why it was taken, or why not.
    pub(crate) why: String,
}

/// A pick among backends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Choice {
    pub(crate) upstream: String,
    pub(crate) balance: String,
    /// What decides for hashing, and as which number.
    pub(crate) key: Option<String>,
    /// The turn that it would have.
    pub(crate) ticket: u64,
    /// Where its session is, if it has one.
    pub(crate) session: Option<String>,
    pub(crate) candidates: Vec<CandidateRow>,
    pub(crate) picked: Option<String>,
    pub(crate) why: String,
}

/// One backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct CandidateRow {
    pub(crate) backend: String,
    /// `healthy`, `unhealthy`, `ejected`, `drained`, `down`.
    pub(crate) state: String,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    /// None where a pick of the past has not looked at it.
    pub(crate) open: Option<u32>,
    pub(crate) connections_max: Option<u32>,
    /// Of its answers, as the balancing knows it; 0 where nothing was measured.
    pub(crate) latency_ms: f64,
    /// What choosing it would cost, where the algorithm compares that.
    pub(crate) score: Option<f64>,
    pub(crate) picked: bool,
    pub(crate) why: String,
}

/// One limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct LimitRow {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Reasons {
    /// Notes something that may turn the client away.
    pub(crate) fn gate(&mut self, key: &str, what: impl Into<String>, passes: Option<bool>) {
        self.gates.push(GateRow { key: key.to_owned(), what: what.into(), passes });
    }

    /// Notes a limit that would apply.
    pub(crate) fn limit(&mut self, key: &str, value: impl Into<String>) {
        self.limits.push(LimitRow { key: key.to_owned(), value: value.into() });
    }

    /// Whether something on the way turns it away.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.gates.iter().any(|gate| gate.passes == Some(false))
    }
}
