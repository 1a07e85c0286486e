//! What came of sending: replies and failures, counted by kind, and the words for them. Each kind of failure is complained
//! about once, when it first happens, since a run may have millions.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_client::Error;

use super::latencies::Latencies;
use crate::cli::complain;

/// What came of sending.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Packets that were given to a connection.
    pub(super) sent: u64,
    pub(super) latencies: Latencies,
    failed: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// So many packets failed, all for this reason.
    pub(super) fn fail(&mut self, kind: &'static str, count: u64, words: &str) {
        if count == 0 {
            return;
        }
        let failed = self.failed.entry(kind).or_default();
        if *failed == 0 {
            complain(&format!("evenkeel packet send: {words}"));
        }
        *failed += count;
    }

    /// The same for what a connection says.
    pub(super) fn fail_by(&mut self, error: &Error, count: u64) {
        let kind = match error {
            Error::Connect(_) => "not connected",
            Error::Timeout { .. } => "timeout",
            Error::Lost { .. } => "lost",
            Error::BadPacket { .. } => "bad packet",
            Error::Ended { .. } => "ended",
            _ => "refused",
        };
        self.fail(kind, count, &error.to_string());
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// In words, over several lines.
    pub(super) fn summary(&self, took: Duration, awaits_replies: bool) -> String {
        let seconds = took.as_secs_f64();
        let rate = if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 };
        let mut said = format!("{} packets in {seconds:.3} s, {rate:.1} per second", self.sent);
        if awaits_replies {
            said += &format!(", {} answered", self.latencies.count());
        }
        if let Some(latencies) = self.latencies.summary() {
            said += &format!("\n{latencies}");
        }
        if self.has_failed() {
            let kinds = self.failed.iter().map(|(kind, count)| format!("{count} {kind}"));
            said += &format!("\nfailed: {}", kinds.collect::<Vec<_>>().join(", "));
        }
        said
    }
}
