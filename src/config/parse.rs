//! The ways in: a config from a text, or from a file with the files it includes. Reading never stops
//! at the first problem, and a config is handed out only when there is no error left.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{self, Environment};
use super::problem::{Misread, Problems, Severity, shown};
use super::read::{Findings, Reader, Value};
use super::{Config, include, verify};

/// A larger file is not a config.
const LENGTH_MAX: usize = 16 * 1024 * 1024;
/// Syntax errors after the first one are looked for in files up to this size.
const RECOVERED_MAX: usize = 1024 * 1024;

/// A config read from files, with what else came to light.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config, with everything from the included files in it.
    pub config: Config,
    /// What does not keep the config from being used.
    pub warnings: Problems,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
    /// The folders in which further files may come to be included.
    pub folders: Vec<PathBuf>,
}

impl Config {
    /// Reads a config from its text, with `${NAME}` filled in from the environment of the process.
    /// Paths stay as they are written; `include` has nothing to be relative to and is refused.
    pub fn parse(text: &str) -> Result<Config, Problems> {
        Config::parse_with(text, &environment::of_this_process)
    }

    /// Like [`Config::parse`], with the variables that `environment` knows.
    pub fn parse_with(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, Problems> {
        let mut findings = Findings::default();
        let read = read(Path::new("config"), text.as_bytes(), None, environment, &mut findings);
        if read.as_ref().is_some_and(|config| !config.include.is_empty())
            && let Some(place) = findings.places.get(["include".to_owned()].as_slice()).cloned()
        {
            let misread = Misread::new("only a config file can include others")
                .advise("put the config into a file, or take the include out");
            findings.problems.add(place.source, place.span, Severity::Error, misread);
        }
        conclude(read, findings).map(|(config, _)| config)
    }

    /// Reads a config file and the files it includes, with `${NAME}` filled in from the environment
    /// of the process. Paths in values become absolute, seen from the file they stand in.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Loaded, Problems> {
        Config::from_file_with(path, &environment::of_this_process)
    }

    /// Like [`Config::from_file`], with the variables that `environment` knows.
    pub fn from_file_with(
        path: impl AsRef<Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Problems> {
        let path = path.as_ref();
        let mut findings = Findings::default();
        let mut files = vec![path.to_owned()];
        let mut folders = Vec::new();
        let config = file(path, environment, &mut findings).map(|mut config| {
            let beside = path.parent().unwrap_or(Path::new("."));
            let patterns = config.include.iter().map(|pattern| beside.join(pattern));
            folders.extend(patterns.filter_map(|pattern| Some(pattern.parent()?.to_owned())));
            files.extend(include::merge(&mut config, path, environment, &mut findings));
            config
        });
        let (config, warnings) = conclude(config, findings)?;
        Ok(Loaded { config, warnings, files, folders })
    }
}

/// Reads one file; nothing if its syntax is wrong or it cannot be read at all.
pub(super) fn file(
    path: &Path,
    environment: Environment<'_>,
    findings: &mut Findings,
) -> Option<Config> {
    let mut bytes = Vec::new();
    let opened = crate::keeper::open(path);
    let limit = LENGTH_MAX as u64 + 1;
    if let Err(error) = opened.and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        let source = findings.problems.source(path, None);
        let misread = Misread::new(format!("cannot read the file: {error}"));
        findings.problems.add(source, 0..0, Severity::Error, misread);
        return None;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    // An empty path stands for the working directory, but cannot be made absolute as such.
    let folder = std::path::absolute(Path::new(".").join(folder)).ok();
    read(path, &bytes, folder.as_deref(), environment, findings)
}

fn read(
    path: &Path,
    bytes: &[u8],
    folder: Option<&Path>,
    environment: Environment<'_>,
    findings: &mut Findings,
) -> Option<Config> {
    let text = decoded(path, bytes, findings)?;
    let source = findings.problems.source(path, Some(text));
    let (mut table, errors) = match DeTable::parse(text) {
        Ok(table) => (table, Vec::new()),
        // A large file that is no config at all would have an error in each line.
        Err(error) if text.len() > RECOVERED_MAX => {
            (Spanned::new(0..0, DeTable::new()), vec![error])
        }
        Err(_) => DeTable::parse_recoverable(text),
    };
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let misread = explained(error.message(), text.get(span.clone()).unwrap_or(""));
        findings.problems.add(source, span, Severity::Error, misread);
    }
    if !errors.is_empty() {
        return None;
    }
    let node = Spanned::new(0..0, DeValue::Table(std::mem::take(table.get_mut())));
    Config::read(&node, &mut Reader { source, folder, environment, path: Vec::new(), findings })
}

/// The text of a file without its byte order mark.
fn decoded<'b>(path: &Path, bytes: &'b [u8], findings: &mut Findings) -> Option<&'b str> {
    if bytes.len() > LENGTH_MAX {
        let source = findings.problems.source(path, None);
        let misread = Misread::new("the file is over 16 MiB: this cannot be a config");
        findings.problems.add(source, 0..0, Severity::Error, misread);
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let source = findings.problems.source(path, Some(&String::from_utf8_lossy(bytes)));
            let misread = Misread::new("the file is not UTF-8 from here on")
                .advise("save the file as UTF-8, without a byte order mark");
            let at = error.valid_up_to();
            findings.problems.add(source, at..at, Severity::Error, misread);
            None
        }
    }
}

/// A syntax error of the TOML parser, with what to do where its message leaves that open.
fn explained(message: &str, marked: &str) -> Misread {
    if message == "duplicate key" {
        return Misread::new(format!("the key \"{}\" stands here a second time", shown(marked)))
            .advise("remove one of the two");
    }
    if message.starts_with("string values must be quoted") {
        return Misread::new("a string must stand in quotes").advise("write key = \"value\"");
    }
    Misread::new(shown(message))
}

/// Judges what was read, and hands it out if it can be used.
fn conclude(config: Option<Config>, findings: Findings) -> Result<(Config, Problems), Problems> {
    let Findings { mut problems, places, spoiled, incomplete } = findings;
    if let Some(config) = &config
        && !incomplete
    {
        let flawed = problems.has_errors();
        for complaint in verify::verify(config) {
            let echo = |path: &Vec<String>| {
                let of_a_value = complaint.path.len() > 2;
                complaint.path.starts_with(path) || of_a_value && path.starts_with(&complaint.path)
            };
            // What could not be read was reported; doubts about the rest can wait for better times.
            if spoiled.iter().any(echo) || (flawed && complaint.severity == Severity::Warning) {
                continue;
            }
            let known = (1..=complaint.path.len()).rev();
            let place = known.filter_map(|length| places.get(&complaint.path[..length])).next();
            let (source, span) = place.map_or((0, 0..0), |at| (at.source, at.span.clone()));
            let misread = Misread { message: complaint.message, advice: complaint.advice };
            problems.add(source, span, complaint.severity, misread);
        }
    }
    problems.sort();
    match config {
        Some(config) if !problems.has_errors() => Ok((config, problems)),
        _ => Err(problems),
    }
}
