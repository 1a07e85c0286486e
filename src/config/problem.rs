//! What is wrong with a config: each problem with its place, its line drawn, and what to do. The
//! text form is for a person at a terminal, the serialized form for an editor or a pipeline.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secrets;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Further problems are counted, not kept: a file that is not a config at all has one per line.
const KEPT_MAX: usize = 1000;
/// As much of a long line is drawn on each side of the marked place.
const DRAWN_AROUND: usize = 120;

/// Whether a config can be used in spite of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config is refused.
    Error,
    /// The config is used, but hardly as it was meant.
    Warning,
}

/// Why a text is not a value of the wanted kind, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Misread {
    pub(super) fn new(message: impl Into<String>) -> Misread {
        Misread { message: message.into(), advice: None }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Misread {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.advice.iter().try_for_each(|advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Misread {}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 where there is no text (a config built in code, an unreadable file).
    pub line: usize,
    /// The column in characters, from 1; 0 where there is no text.
    pub column: usize,
    /// The marked bytes of the file, counted after its byte order mark.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// Whether it keeps the config from being used.
    pub severity: Severity,
    source: usize,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Problem", 6)?;
        object.serialize_field("file", &self.file.to_string_lossy())?;
        object.serialize_field("line", &self.line)?;
        object.serialize_field("column", &self.column)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("advice", &self.advice)?;
        object.serialize_field("severity", &self.severity)?;
        object.end()
    }
}

/// A text that problems can point into.
#[derive(Debug, Clone)]
struct Source {
    file: PathBuf,
    text: Arc<str>,
    /// Where each line begins; empty if there is no text to point into.
    lines: Vec<usize>,
}

impl Source {
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The bytes of a line, without its end.
    fn bounds(&self, line: usize) -> Range<usize> {
        let start = line.checked_sub(1).and_then(|line| self.lines.get(line)).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..end).unwrap_or("");
        start..start + line.trim_end_matches(['\n', '\r']).len()
    }
}

/// Everything found wrong in a config and the files it includes, in the order of the text.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    list: Vec<Problem>,
    sources: Vec<Source>,
    omitted: usize,
    failed: bool,
}

impl Problems {
    /// The problems in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are to look at; the first thousand are kept.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them keeps the config from being used.
    pub fn has_errors(&self) -> bool {
        self.failed
    }

    /// The problems as text, each as `FILE:LINE:COLUMN`, the line drawn, and what to do.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for problem in &self.list {
            self.draw(problem, color, &mut text);
        }
        if self.omitted > 0 {
            text.push_str(&format!("and {} further problems\n", self.omitted));
        }
        text
    }

    /// The texts that were read, each with its file, the main one first.
    pub(crate) fn texts(&self) -> Vec<(PathBuf, Arc<str>)> {
        let read = self.sources.iter().filter(|source| !source.lines.is_empty());
        read.map(|source| (source.file.clone(), Arc::clone(&source.text))).collect()
    }

    pub(super) fn source(&mut self, file: &Path, text: Option<&str>) -> usize {
        let breaks = text.map(|text| text.match_indices('\n').map(|(at, _)| at + 1));
        let lines = breaks.map(|breaks| std::iter::once(0).chain(breaks).collect());
        self.sources.push(Source {
            file: file.to_owned(),
            text: text.unwrap_or("").into(),
            lines: lines.unwrap_or_default(),
        });
        self.sources.len() - 1
    }

    pub(super) fn add(
        &mut self,
        source: usize,
        span: Range<usize>,
        severity: Severity,
        misread: Misread,
    ) {
        self.failed |= severity == Severity::Error;
        if self.list.len() >= KEPT_MAX {
            self.omitted += 1;
            return;
        }
        let Some(place) = self.sources.get(source) else { return };
        let start = floor_boundary(&place.text, span.start);
        let end = floor_boundary(&place.text, span.end.max(start));
        let line = if place.lines.is_empty() { 0 } else { place.line(start) };
        let begin = place.bounds(line).start;
        let before = place.text.get(begin..start).unwrap_or("").chars().count();
        let column = if line == 0 { 0 } else { before + 1 };
        self.list.push(Problem {
            file: place.file.clone(),
            line,
            column,
            span: start..end,
            message: misread.message,
            advice: misread.advice,
            severity,
            source,
        });
    }

    /// `FILE:LINE:COLUMN` of a place, for messages that name a second one.
    pub(super) fn position(&self, source: usize, offset: usize) -> String {
        let Some(place) = self.sources.get(source) else { return String::new() };
        let (file, offset) = (place.file.display(), floor_boundary(&place.text, offset));
        let line = place.line(offset);
        let before = place.text.get(place.bounds(line).start..offset).unwrap_or("");
        format!("{file}:{line}:{}", before.chars().count() + 1)
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|problem| (problem.source, problem.span.start));
    }

    fn draw(&self, problem: &Problem, color: bool, text: &mut String) {
        let (word, paint) = match problem.severity {
            Severity::Error => ("error", "\u{1b}[1;31m"),
            Severity::Warning => ("warning", "\u{1b}[1;33m"),
        };
        let (paint, bold, plain) =
            if color { (paint, "\u{1b}[1m", "\u{1b}[0m") } else { ("", "", "") };
        let mut file = problem.file.display().to_string();
        if problem.line > 0 {
            file.push_str(&format!(":{}:{}", problem.line, problem.column));
        }
        text.push_str(&format!("{bold}{file}:{plain} {paint}{word}{plain}{bold}: "));
        text.push_str(&format!("{}{plain}\n", problem.message));
        if let Some(source) = self.sources.get(problem.source)
            && problem.line > 0
        {
            text.push_str(&drawn_line(source, problem, color));
        }
        if let Some(advice) = &problem.advice {
            text.push_str(&format!("{bold}help{plain}: {advice}\n"));
        }
        text.push('\n');
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Problems {}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.list)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The line of a problem with the place marked; of a long line, the part around it.
fn drawn_line(source: &Source, problem: &Problem, color: bool) -> String {
    let line = source.bounds(problem.line);
    let from = problem.span.start.min(line.end);
    let to = problem.span.end.clamp(from, line.end);
    let begin = floor_boundary(&source.text, from.saturating_sub(DRAWN_AROUND)).max(line.start);
    let to = floor_boundary(&source.text, to.min(from + DRAWN_AROUND));
    let end = floor_boundary(&source.text, to + DRAWN_AROUND).min(line.end);
    let whole = secrets::veiled(source.text.get(line.clone()).unwrap_or(""));
    let text = whole.get(begin - line.start..end - line.start).unwrap_or("");
    let level = if problem.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let mark = AnnotationKind::Primary.span(from - begin..to.max(from) - begin);
    let snippet = Snippet::source(text).line_start(problem.line).annotation(mark);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut drawn = renderer.render(&[Group::with_level(level).element(snippet)]);
    drawn.push('\n');
    drawn
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A text from outside, fit for a message: at most 80 characters, control characters escaped.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == 80 {
            shown.push_str("...");
            break;
        }
        let unseen = matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || unseen {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The known name that was probably meant.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    let allowed = 1 + name.len() / 4;
    known
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
