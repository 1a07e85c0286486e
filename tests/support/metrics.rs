//! Metrics as a strict reader takes them: whatever breaks the rules of either text format is a failed test, and not passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::admin::{raw, socket};
use super::program::Program;
use super::until;

type Labels = BTreeMap<String, String>;

/// What was read at one moment.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// By name, as it is written.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
}

/// The text that a program answers with on its admin socket; OpenMetrics, if it is `open`.
pub(crate) fn text(program: &Program, open: bool) -> String {
    text_at(&socket(program), open)
}

fn text_at(socket: &Path, open: bool) -> String {
    let accept = if open { "application/openmetrics-text; version=1.0.0" } else { "*/*" };
    let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
    let answer = raw(socket, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let kind = if open { "application/openmetrics-text; version=1.0.0" } else { "version=0.0.4" };
    assert!(head.contains(kind), "{head}");
    body.to_owned()
}

/// Reads the metrics of a program.
pub(crate) fn scrape(program: &Program) -> Scrape {
    Scrape::read(&text(program, false), false)
}

/// Waits until a sum of samples is exactly this.
pub(crate) fn until_counted(program: &Program, name: &str, labels: &[(&str, &str)], value: f64) {
    until(&format!("{name}{labels:?} is {value}: {}", scrape(program).sum(name, labels)), || {
        scrape(program).sum(name, labels) == value
    });
}

impl Scrape {
    /// Reads a whole text; `open` is OpenMetrics.
    pub(crate) fn read(text: &str, open: bool) -> Scrape {
        assert!(text.ends_with('\n'), "the last line has no end");
        let body = match open {
            true => text.strip_suffix("# EOF\n").expect("an end"),
            false => text,
        };
        let (mut scrape, mut family, mut helped) = (Scrape::default(), None, BTreeSet::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(helped.contains(name), "a type without help: {line}");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                let before = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "twice: {line}");
                family = Some((name.to_owned(), kind.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').expect("a unit");
                assert!(open && name.ends_with(&format!("_{unit}")), "{line}");
                assert_eq!(family.as_ref().map(|(family, _)| &**family), Some(name), "{line}");
            } else {
                let family = family.as_ref().expect("a sample belongs to a family");
                scrape.sample(line, family, open);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, line: &str, (family, kind): &(String, String), open: bool) {
        let (name, labels, value) = parts(line);
        let endings: &[&str] = match (&**kind, open) {
            ("counter", true) => &["_total"],
            ("counter" | "gauge", _) => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        let fits = endings.iter().any(|ending| format!("{family}{ending}") == name);
        assert!(fits, "{line} is not of {family}");
        assert_eq!(labels.contains_key("le"), name.ends_with("_bucket"), "{line}");
        if kind != "gauge" {
            assert!(value >= 0.0, "{line}");
        }
        assert!(self.samples.insert((name, labels), value).is_none(), "twice: {line}");
    }

    /// Each step holds those below it, and the last one all of them.
    fn check_histograms(&self) {
        let mut steps: BTreeMap<(&str, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &self.samples {
            let Some(base) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let end = labels.remove("le").expect("checked above");
            let end = if end == "+Inf" { f64::INFINITY } else { end.parse().expect("an end") };
            steps.entry((base, labels)).or_default().push((end, *count));
        }
        for ((base, labels), mut steps) in steps {
            steps.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            assert!(steps.is_sorted_by_key(|(_, count)| *count), "{base} {labels:?}: {steps:?}");
            let (end, all) = *steps.last().expect("some");
            let count = self.samples[&(format!("{base}_count"), labels.clone())];
            assert!(end.is_infinite() && all == count, "{base} {labels:?}");
            assert!(self.samples.contains_key(&(format!("{base}_sum"), labels)), "{base}");
        }
    }

    /// The sum of all samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let has = |labels: &Labels| {
            wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|known| known == value))
        };
        let of_name = self.samples.iter().filter(|((known, _), _)| known == name);
        of_name.filter(|((_, labels), _)| has(labels)).map(|(_, value)| value).sum()
    }

    /// Whether there is a sample that has a label of this value.
    pub(crate) fn names(&self, value: &str) -> bool {
        self.samples.keys().any(|(_, labels)| labels.values().any(|known| known == value))
    }

    /// How many samples have this label, of this value if there is one.
    pub(crate) fn count(&self, label: &str, value: Option<&str>) -> usize {
        let has = |labels: &Labels| {
            labels.get(label).is_some_and(|known| value.is_none_or(|value| known == value))
        };
        self.samples.keys().filter(|(_, labels)| has(labels)).count()
    }
}

/// Name, labels and value of a sample.
fn parts(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line}"));
    let name = &line[..end];
    let is_word = |text: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        text.chars().all(fits) && text.starts_with(|first: char| !first.is_ascii_digit())
    };
    assert!(is_word(name), "{line}");
    let (mut labels, mut rest) = (Labels::new(), &line[end..]);
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_word(label), "{line}");
            let (value, after) = quoted(after).unwrap_or_else(|| panic!("{line}"));
            assert!(labels.insert(label.to_owned(), value).is_none(), "twice: {line}");
            match (after.strip_prefix(','), after.strip_prefix('}')) {
                (Some(more), _) => rest = more,
                (None, Some(over)) => {
                    rest = over;
                    break;
                }
                (None, None) => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
    (name.to_owned(), labels, value.unwrap_or_else(|| panic!("no number: {line}")))
}

/// A value up to its quotation mark, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                _ => return None,
            },
            letter => value.push(letter),
        }
    }
    None
}
