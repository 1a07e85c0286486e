//! Open connections (`GET /v1/connections`), as far as the process lists them: those with the most bytes, so that what hurts is in sight.

use serde::Deserialize;

/// Where they are asked for.
pub(super) const PATH: &str = "/v1/connections?sort=bytes&limit=200";

/// An answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) connections: Vec<Connection>,
    pub(super) matching: u64,
}

/// One of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) listener: String,
    pub(super) client: String,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) upstream: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) open_ms: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

impl Connection {
    /// What a filter looks at.
    pub(super) fn words(&self) -> [&str; 5] {
        [
            &self.listener,
            &self.client,
            &self.state,
            self.upstream.as_deref().unwrap_or(""),
            self.backend.as_deref().unwrap_or(""),
        ]
    }
}
