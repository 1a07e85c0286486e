//! Holds what a run found against what it may find, and writes both down as tables.
//! Every check stands on its own line, so that a failed run says by itself what to look into.

use crate::judge::Loss;
use crate::run::{Found, Sample};

/// What may be kept for later at most: 16 empty pipes a worker (src/tcp/flow.rs), two ends each.
pub const SPARE_PIPE_ENDS: usize = crate::config::WORKERS * 16 * 2;
const GROWTH_BYTES: f64 = 4e6;
const GROWTH_SHARE: f64 = 0.10;
/// Fewer samples say nothing about growth.
const FEWEST_SAMPLES: usize = 20;

/// One thing that has to hold.
pub struct Check {
    pub what: &'static str,
    pub found: String,
    pub allowed: String,
    /// None when the run was too short to say, or broke off.
    pub passed: Option<bool>,
}

impl Check {
    fn new(what: &'static str, found: String, allowed: &str, passed: Option<bool>) -> Check {
        Check { what, found, allowed: allowed.to_owned(), passed }
    }

    fn verdict(&self) -> &'static str {
        match self.passed {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "not known",
        }
    }
}

/// Every check of a run.
pub fn checks(found: &Found) -> Vec<Check> {
    let zero = |count: u64| Some(count == 0);
    let wrong = found.judge.of(Loss::Wrong);
    let lost = found.judge.unexcused() - wrong;
    vec![
        Check::new("connections with wrong bytes", wrong.to_string(), "0", zero(wrong)),
        Check::new("connections lost without excuse", lost.to_string(), "0", zero(lost)),
        descriptors(found),
        memory(found),
        Check::new(
            "lines in the access log",
            found.recorded.to_string(),
            &format!("{}, one for each connection", found.opened),
            Some(found.recorded == found.opened),
        ),
        Check::new(
            "errors in the diagnostics",
            found.complaints.len().to_string(),
            "0",
            Some(found.complaints.is_empty()),
        ),
        Check::new(
            "end of the proxy, asked to stop",
            match (&found.broken, found.ended) {
                (Some(_), _) => "before its time".to_owned(),
                (None, Some(status)) => status.to_string(),
                (None, None) => "had to be killed".to_owned(),
            },
            "exit status: 0",
            Some(found.broken.is_none() && found.ended.is_some_and(|status| status.success())),
        ),
    ]
}

pub fn passed(found: &Found) -> bool {
    checks(found).iter().all(|check| check.passed != Some(false))
}

fn descriptors(found: &Found) -> Check {
    let (before, after) = (found.descriptors_before, found.descriptors_after);
    let pipes = before.of_pipes + SPARE_PIPE_ENDS;
    let let_go = Some(after.others <= before.others && after.of_pipes <= pipes);
    Check::new(
        "descriptors after all clients left",
        format!("{}, and {} of pipes", after.others, after.of_pipes),
        &format!("{} as at the start, and {pipes} of pipes", before.others),
        let_go.filter(|_| found.broken.is_none()),
    )
}

fn memory(found: &Found) -> Check {
    const WHAT: &str = "growth of resident memory in the second half";
    let Some((middle, end)) = halves(&found.samples) else {
        return Check::new(WHAT, "-".to_owned(), "-", None);
    };
    let allowed = GROWTH_BYTES.max(middle * GROWTH_SHARE);
    Check::new(
        WHAT,
        format!("{:+.2} MB, from {:.2} MB", (end - middle) / 1e6, middle / 1e6),
        &format!("{:.2} MB", allowed / 1e6),
        Some(end - middle <= allowed),
    )
}

/// Medians of resident memory (the proportional share also moves when somebody else starts or ends
/// the same program): of the tenth after the middle of the run, and of its last tenth.
fn halves(samples: &[Sample]) -> Option<(f64, f64)> {
    let count = samples.len();
    let median = |samples: &[Sample]| {
        let mut sizes: Vec<u64> = samples.iter().map(|sample| sample.memory.rss).collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2] as f64
    };
    (count >= FEWEST_SAMPLES).then(|| {
        (
            median(&samples[count / 2..count / 2 + count / 10]),
            median(&samples[count - count / 10..]),
        )
    })
}

/// A heading row and rows of the same length.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn as_text(&self) -> String {
        let header: Vec<String> = self.header.iter().map(|&cell| cell.to_owned()).collect();
        let all = || std::iter::once(&header).chain(&self.rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let mut text = String::new();
        for row in all() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
            text += cells.collect::<String>().trim_end();
            text.push('\n');
        }
        text
    }

    pub fn as_markdown(&self) -> String {
        let rows = self.rows.iter().map(|row| format!("| {} |\n", row.join(" | ")));
        let rule = "|---".repeat(self.header.len());
        format!("| {} |\n{rule}|\n{}", self.header.join(" | "), rows.collect::<String>())
    }
}

/// The verdict, check by check.
pub fn table(found: &Found) -> Table {
    let row = |check: Check| {
        let verdict = check.verdict().to_owned();
        vec![check.what.to_owned(), check.found, check.allowed, verdict]
    };
    Table {
        header: vec!["check", "found", "allowed", "verdict"],
        rows: checks(found).into_iter().map(row).collect(),
    }
}

/// What was carried and what was lost.
pub fn counts(found: &Found) -> Table {
    let mut rows = vec![
        vec!["backends killed and started again".to_owned(), found.kills.to_string()],
        vec!["backends stopped for a while".to_owned(), found.stops.to_string()],
        vec!["connections".to_owned(), found.opened.to_string()],
    ];
    for (kind, count) in &found.served {
        rows.push(vec![format!("whole: {}", kind.title()), count.to_string()]);
    }
    for loss in Loss::ALL {
        rows.push(vec![format!("lost: {}", loss.title()), found.judge.of(loss).to_string()]);
    }
    let megabytes = format!("{:.0} MB", found.compared as f64 / 1e6);
    rows.push(vec!["bytes compared".to_owned(), megabytes]);
    let memory = [found.memory_before, most(found), found.memory_after];
    let memory = memory.map(|memory| format!("{:.2}", memory.rss as f64 / 1e6)).join(", ");
    rows.push(vec![
        "resident memory at the start, at most, after the clients left".to_owned(),
        memory + " MB",
    ]);
    let share = found.cpu_seconds / found.seconds.max(0.1) * 100.0;
    rows.push(vec!["processor time of the proxy".to_owned(), format!("{share:.0} % of one core")]);
    if found.skipped > 0 {
        rows.push(vec![
            "events left out, backends being late".to_owned(),
            found.skipped.to_string(),
        ]);
    }
    Table { header: vec!["", "count"], rows }
}

fn most(found: &Found) -> crate::gauge::Memory {
    let memory = found.samples.iter().map(|sample| sample.memory).chain([found.memory_after]);
    memory.max_by_key(|memory| memory.rss).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauge::Memory;

    fn found(rss: impl Fn(usize) -> u64) -> Found {
        let memory = |second| Memory { rss: rss(second), pss: 0 };
        let sample = |second| Sample { memory: memory(second), ..Sample::default() };
        Found { samples: (0..100).map(sample).collect(), ..Found::default() }
    }

    #[test]
    fn memory_may_grow_at_first_but_not_for_ever() {
        let levels_off = found(|second| second.min(50) as u64 * 1_000_000);
        assert_eq!(memory(&levels_off).passed, Some(true));
        let leaks = found(|second| second as u64 * 150_000);
        assert_eq!(memory(&leaks).passed, Some(false));
        assert_eq!(memory(&Found::default()).passed, None);
    }

    #[test]
    fn spare_pipes_are_no_leak_but_a_socket_is() {
        let mut found = Found::default();
        found.descriptors_after.of_pipes = SPARE_PIPE_ENDS;
        assert_eq!(descriptors(&found).passed, Some(true));
        found.descriptors_after.others = 1;
        assert_eq!(descriptors(&found).passed, Some(false));
    }
}
