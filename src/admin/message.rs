//! What is said over the admin socket, as JSON: orders and answers, for the server here and the commands alike. Names of fields
//! are a promise to scripts; fields of answers may be added, and readers must not mind. A field of an order that is not known is
//! refused: an order must never do more than was meant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Problems;
use crate::observe::counts::BackendCounts;
use crate::observe::journal::DecisionRow;
use crate::process::{Comparison, NotSaid};

/// `POST /v1/reload`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReloadOrder {
    /// Change nothing, only say what would change.
    pub(crate) dry_run: bool,
    /// Go back after so many milliseconds, unless it is confirmed.
    pub(crate) confirm_within_ms: Option<u64>,
    /// Whether problems are to be drawn in colour.
    pub(crate) color: bool,
}

/// `POST /v1/diff`: what would this config change?
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DiffOrder {
    /// A whole config in TOML, its paths absolute.
    pub(crate) config: String,
}

/// `POST /v1/drain`, `/v1/ready`, `/v1/down`, `/v1/weight`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackendOrder {
    /// Whose backends.
    pub(crate) upstream: Option<String>,
    /// Its address, or its name in the config; absent, all of the upstream.
    pub(crate) backend: Option<String>,
    /// For `/v1/weight`; absent, the one of the config.
    pub(crate) weight: Option<u32>,
    /// For `/v1/drain`, in place of an upstream: the whole process.
    pub(crate) all: bool,
}

/// What a reload has changed, or would.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Outcome {
    /// A line each.
    pub(crate) changes: Vec<String>,
    /// Keys of them that take effect with the next start only.
    pub(crate) after_restart: Vec<String>,
    pub(crate) touched: Vec<TouchedRow>,
    /// What operators have said of backends, and what becomes of it; a line each.
    pub(crate) operator: Vec<String>,
    /// What is questionable in the file.
    pub(crate) warnings: Vec<serde_json::Value>,
    /// The same, drawn for people.
    pub(crate) drawn: String,
    /// What was changed over the admin API, and what becomes of that; a line each.
    pub(crate) over_api: Vec<String>,
    /// It goes back by itself after so many milliseconds.
    pub(crate) confirm_within_ms: Option<u64>,
    /// The process that was asked; none, if only files were compared.
    pub(crate) pid: Option<u32>,
}

/// What came of `POST /v1/upgrade`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Upgraded {
    /// The process that serves now.
    pub(crate) pid: u32,
    /// Open connections that go on there.
    pub(crate) handed_over: u64,
    /// Those that the process before finishes, and ends with.
    pub(crate) left: u64,
    /// What was changed over the admin API and is not in the file, which the new process goes by; a line each.
    pub(crate) over_api: Vec<String>,
}

/// Open connections that are touched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TouchedRow {
    /// `tcp.NAME`, `http.NAME` or `UPSTREAM/BACKEND`.
    pub(crate) of: String,
    /// `changed` or `removed`.
    pub(crate) how: String,
    pub(crate) open: u32,
    /// What each of them does then, in words.
    pub(crate) then: String,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) draining: bool,
    /// A config waits to be confirmed, for so many milliseconds more.
    pub(crate) confirm_within_ms: Option<u64>,
    /// Connections of clients.
    pub(crate) open: u64,
    pub(crate) accepted: u64,
    pub(crate) listeners: Vec<ListenerRow>,
    pub(crate) backends: Vec<BackendRow>,
}

/// `GET /v1/journal?last=N`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct JournalAnswer {
    /// Where the whole of it is, for programs of the same user; none if none is kept.
    pub(crate) folder: Option<String>,
    /// The latest, the oldest first.
    pub(crate) decisions: Vec<DecisionRow>,
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ListenerRow {
    /// `tcp.NAME` or `http.NAME`.
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) open: u32,
}

/// One backend.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BackendRow {
    pub(crate) upstream: String,
    pub(crate) backend: String,
    pub(crate) state: String,
    /// What an operator has said of it.
    pub(crate) operator: Option<String>,
    pub(crate) weight: u32,
    pub(crate) open: u32,
    pub(crate) connections: u64,
    pub(crate) failures: u64,
    pub(crate) requests: u64,
}

/// The backends that an order was for, as they are now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Backends {
    pub(crate) backends: Vec<BackendRow>,
}

/// `GET /v1/connections`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) connections: Vec<ConnectionEntry>,
    /// How many there are altogether to which the filters apply.
    pub(crate) matching: u64,
    /// The `cursor` of the next page; none if this is the last.
    pub(crate) next: Option<String>,
}

/// One open connection of a client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ConnectionEntry {
    /// By which it can be closed.
    pub(crate) id: String,
    /// `tcp.NAME` or `http.NAME`.
    pub(crate) listener: String,
    pub(crate) client: String,
    /// `tcp`, `packets`, `http/1`, `http/2` or `tunnel`.
    pub(crate) kind: String,
    /// `connecting`, `relaying`, `waiting` (for a request), `answering` or `closing`.
    pub(crate) state: String,
    /// Where it is now: of HTTP/1, the request under way. Of HTTP/2 and of packets there are many at a time, and this is absent.
    pub(crate) upstream: Option<String>,
    pub(crate) backend: Option<String>,
    /// Requests under way.
    pub(crate) requests_open: u32,
    /// From the client; of HTTP, bodies of requests that are over. Packets are not counted.
    pub(crate) bytes_up: u64,
    /// To the client, likewise.
    pub(crate) bytes_down: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub(crate) since_at_ms: u64,
    pub(crate) open_ms: u64,
}

/// What came of `DELETE /v1/connections/ID`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Closed {
    /// Its id.
    pub(crate) closed: String,
}

/// `GET /v1/config`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ConfigAnswer {
    /// Of the config in force; the ETag too.
    pub(crate) mark: String,
    pub(crate) file: String,
    /// What the file would have to say for what is in force, without secrets.
    pub(crate) text: String,
    pub(crate) problems: Vec<ProblemRow>,
    /// All files of the config, the main one first.
    pub(crate) files: Vec<String>,
    /// Those that differ from what is in force.
    pub(crate) changed_files: Vec<String>,
    /// What was changed over this API since the files were read; a line each.
    pub(crate) changes: Vec<String>,
}

/// What is wrong in a config, or questionable.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ProblemRow {
    /// In `text`, from 1; 0 where it has no place there.
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// `error` or `warning`.
    pub(crate) level: String,
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

/// `GET /v1/upstreams/U/backends`: as they are configured.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ConfiguredBackends {
    /// Of the config in force; the ETag too.
    pub(crate) mark: String,
    /// Each with the keys that a file has for it.
    pub(crate) backends: Vec<serde_json::Value>,
}

/// `POST /v1/batch`: all of it, or nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// In this order; up to 1000.
    pub(crate) changes: Vec<BatchStep>,
}

/// One change of a batch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchStep {
    pub(crate) r#do: Step,
    pub(crate) upstream: String,
    /// Its address, as the config has it.
    pub(crate) backend: String,
    /// Keys of a backend, as a file has them.
    #[serde(default)]
    pub(crate) set: serde_json::Map<String, serde_json::Value>,
}

/// What is to become of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// Be there, which it is not yet.
    Add,
    /// Be there so, whether it was or not.
    Put,
    /// Have these keys besides; `null` is the default of one.
    Patch,
    Remove,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Step::Add => "add",
            Step::Put => "put",
            Step::Patch => "set",
            Step::Remove => "remove",
        }
    }
}

/// What came of changes of backends.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Applied {
    /// Of the config that is in force now; the ETag too.
    pub(crate) mark: String,
    /// A line each.
    pub(crate) changes: Vec<String>,
    pub(crate) touched: Vec<TouchedRow>,
    /// What operators have said of backends, and what becomes of it; a line each.
    pub(crate) operator: Vec<String>,
}

/// Why an order was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The order itself is wrong.
    Order,
    /// The config has errors.
    Config,
    /// It could not be put into force: an address is in use, a file cannot be opened.
    Start,
    /// There is nothing of that name.
    Unknown,
    /// Not now.
    Refused,
    /// Another process has taken over.
    Elsewhere,
    /// The config is not the one any more that the order was meant for.
    Stale,
    /// The order does not say which config it is meant for.
    Unconditional,
}

/// An order that was refused. Nothing has changed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) error: String,
    /// What is wrong with a config, as `check --json` says it.
    #[serde(default)]
    pub(crate) problems: Vec<serde_json::Value>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, error: impl Into<String>) -> Refusal {
        Refusal { kind, error: error.into(), problems: Vec::new() }
    }

    pub(crate) fn stopping() -> Refusal {
        Refusal::new(Kind::Refused, "it is stopping")
    }

    /// Of a config, drawn as `check` does.
    pub(crate) fn of_config(problems: &Problems, color: bool) -> Refusal {
        let error = problems.render(color).trim_end().to_owned();
        Refusal { problems: listed(problems), ..Refusal::new(Kind::Config, error) }
    }

    /// Of an order that names what is not there.
    pub(super) fn not_said(not_said: &NotSaid, upstream: &str, backend: Option<&str>) -> Refusal {
        let unknown = |error: String| Refusal::new(Kind::Unknown, error);
        match not_said {
            NotSaid::NoUpstream(known) => {
                unknown(format!("there is no upstream \"{upstream}\"; there is {}", list(known)))
            }
            NotSaid::NoBackend(known) => {
                let backend = backend.unwrap_or_default();
                let known = list(known);
                unknown(format!("{upstream} has no backend \"{backend}\"; there is {known}"))
            }
            NotSaid::TooMuch => {
                let error = "too much was said of its backends; say `ready` of those that are gone";
                Refusal::new(Kind::Refused, error)
            }
            NotSaid::Stopped => Refusal::stopping(),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn listed(problems: &Problems) -> Vec<serde_json::Value> {
    problems.iter().filter_map(|problem| serde_json::to_value(problem).ok()).collect()
}

impl Outcome {
    /// What a config changes that has these warnings.
    pub(crate) fn of(comparison: Comparison, warnings: &Problems, color: bool) -> Outcome {
        let touched = comparison.touched.into_iter().map(|touched| TouchedRow {
            of: touched.of,
            how: touched.how.to_owned(),
            open: touched.open,
            then: touched.then,
        });
        Outcome {
            changes: comparison.changes,
            after_restart: comparison.after_restart,
            touched: touched.collect(),
            operator: comparison.words,
            warnings: listed(warnings),
            drawn: warnings.render(color).trim_end().to_owned(),
            over_api: Vec::new(),
            confirm_within_ms: None,
            pid: Some(std::process::id()),
        }
    }
}

impl From<BackendCounts> for BackendRow {
    fn from(counts: BackendCounts) -> BackendRow {
        BackendRow {
            upstream: counts.upstream,
            backend: counts.address,
            state: counts.state.to_owned(),
            operator: counts.said,
            weight: counts.weight,
            open: counts.open,
            connections: counts.connections,
            failures: counts.failures,
            requests: counts.requests,
        }
    }
}
