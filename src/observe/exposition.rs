//! Metrics as text, in the two dialects that scrapers read: Prometheus 0.0.4 and OpenMetrics 1.0. It writes what it is given, family
//! by family, and knows no metric by name. The crate of the trade writes OpenMetrics alone, and wants to own what it writes.

use std::fmt::{self, Write as _};

use super::count::{Distribution, STEPS};

/// How the text is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Prometheus,
    OpenMetrics,
}

impl Dialect {
    /// What a scraper asks for by its `Accept`: OpenMetrics only where it is named, and not refused.
    pub(crate) fn asked(accept: &str) -> Dialect {
        let is_wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            let refused = |part: &str| {
                let weight = part.strip_prefix("q=").and_then(|weight| weight.parse::<f64>().ok());
                weight == Some(0.0)
            };
            named && !parts.any(refused)
        };
        match accept.split(',').any(is_wanted) {
            true => Dialect::OpenMetrics,
            false => Dialect::Prometheus,
        }
    }

    /// What it is called in a `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Dialect::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    Gauge,
    /// Times, sorted into steps; its name ends in `_seconds`.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric with all its samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One sentence without quotation marks, backslashes and line breaks.
    pub(crate) help: &'static str,
}

/// A number in a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Whole(value) => value.fmt(f),
            Value::Real(value) => value.fmt(f),
        }
    }
}

/// Names and values of labels.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The text in the making.
#[derive(Debug)]
pub(crate) struct Exposition {
    dialect: Dialect,
    text: String,
    family: Option<Family>,
}

impl Exposition {
    pub(crate) fn new(dialect: Dialect) -> Exposition {
        Exposition { dialect, text: String::with_capacity(64 * 1024), family: None }
    }

    /// Begins a family: what is added from now on belongs to it.
    pub(crate) fn begin(&mut self, family: Family) {
        self.family = Some(family);
        let Family { name, kind, help } = family;
        let open = self.dialect == Dialect::OpenMetrics;
        let name = if open { base(name) } else { name };
        let _ = writeln!(self.text, "# HELP {name} {help}");
        let _ = writeln!(self.text, "# TYPE {name} {}", kind.as_str());
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
        if let (true, Some(unit)) = (open, unit) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// Adds a sample.
    pub(crate) fn add(&mut self, labels: Labels<'_>, value: impl Into<Value>) {
        let Some(Family { name, .. }) = self.family else { return };
        self.sample(name, "", labels, None, value.into());
    }

    /// Adds the samples of a histogram: each step with all below it.
    pub(crate) fn add_times(&mut self, labels: Labels<'_>, times: &Distribution) {
        let Some(Family { name, .. }) = self.family else { return };
        let mut below = 0;
        for (count, end) in times.steps.iter().zip(STEPS) {
            below += count;
            let end = self.step(end.as_secs_f64());
            self.sample(name, "_bucket", labels, Some(&end), below.into());
        }
        let all = times.count();
        self.sample(name, "_bucket", labels, Some("+Inf"), all.into());
        self.sample(name, "_sum", labels, None, times.sum.as_secs_f64().into());
        self.sample(name, "_count", labels, None, all.into());
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// OpenMetrics writes each end of a step as a real number.
    fn step(&self, end: f64) -> String {
        match self.dialect {
            Dialect::Prometheus => format!("{end}"),
            Dialect::OpenMetrics => format!("{end:?}"),
        }
    }

    fn sample(
        &mut self,
        name: &str,
        ending: &str,
        labels: Labels<'_>,
        step: Option<&str>,
        value: Value,
    ) {
        self.text.push_str(name);
        self.text.push_str(ending);
        let all = labels.iter().copied().chain(step.map(|step| ("le", step)));
        let mut before = '{';
        for (label, value) in all {
            self.text.push(before);
            before = ',';
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(&mut self.text, value);
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A counter is called by its name without the ending that its samples have.
fn base(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

fn push_escaped(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::count::Times;
    use std::time::Duration;

    fn written(dialect: Dialect) -> String {
        let mut text = Exposition::new(dialect);
        let (name, help) = ("a_bytes_total", "Bytes so far.");
        text.begin(Family { name, kind: Kind::Counter, help });
        text.add(&[("by", "a \"b\"\\\n")], 7_u64);
        let (name, help) = ("b_seconds", "How long.");
        text.begin(Family { name, kind: Kind::Histogram, help });
        let (times, mut all) = (Times::default(), Distribution::default());
        times.note(Duration::from_secs(60));
        times.note(Duration::from_secs(61));
        all.add(&times);
        text.add_times(&[], &all);
        text.finish()
    }

    #[test]
    fn each_dialect_is_spelled_as_its_readers_want() {
        let (plain, open) = (written(Dialect::Prometheus), written(Dialect::OpenMetrics));
        let begins = "# HELP a_bytes_total Bytes so far.\n# TYPE a_bytes_total counter\na_bytes_total{by=\"a \\\"b\\\"\\\\\\n\"} 7\n";
        assert!(plain.starts_with(begins), "{plain}");
        let begins = "# HELP a_bytes Bytes so far.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{by=";
        assert!(open.starts_with(begins), "{open}");
        assert!(plain.contains("b_seconds_bucket{le=\"30\"} 0\nb_seconds_bucket{le=\"60\"} 1\n"));
        assert!(
            open.contains("b_seconds_bucket{le=\"60.0\"} 1\nb_seconds_bucket{le=\"+Inf\"} 2\n")
        );
        assert!(plain.ends_with("b_seconds_sum 121\nb_seconds_count 2\n"), "{plain}");
        assert!(open.ends_with("b_seconds_count 2\n# EOF\n"), "{open}");
    }

    #[test]
    fn open_metrics_are_for_those_who_ask_for_them() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Dialect::asked(prometheus), Dialect::OpenMetrics);
        for other in ["", "*/*", "text/html", "text/plain, application/openmetrics-text;q=0"] {
            assert_eq!(Dialect::asked(other), Dialect::Prometheus, "{other}");
        }
    }
}
