//! `include`: the sections of further files, put into the config as if they stood in the main one.
//! It goes one level deep, and a name belongs to one file only, so that every key has one home.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use indexmap::IndexMap;

use super::environment::Environment;
use super::problem::{Misread, Severity, shown};
use super::read::{Findings, Place};
use super::{Config, parse};

/// `*` stays within its folder and leaves out the hidden files that editors make.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};
/// What only the main file may hold.
const MAIN_ONLY: [&str; 4] = ["include", "process", "log", "admin"];

/// Reads the files that `config` includes into it; returns which they were.
pub(super) fn merge(
    config: &mut Config,
    main: &Path,
    environment: Environment<'_>,
    findings: &mut Findings,
) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    seen.extend(main.canonicalize().ok());
    let mut files = Vec::new();
    // What is included is in the config from here on: nothing is left to include.
    for (index, pattern) in std::mem::take(&mut config.include).into_iter().enumerate() {
        let paths = match expand(main.parent().unwrap_or(Path::new("")), &pattern) {
            Ok(paths) => paths,
            Err(misread) => {
                findings.incomplete = true;
                complain(findings, &["include".to_owned(), index.to_string()], misread);
                continue;
            }
        };
        for path in paths {
            if path.canonicalize().is_ok_and(|file| !seen.insert(file)) {
                continue;
            }
            add(config, &path, environment, findings);
            files.push(path);
        }
    }
    files
}

/// The files that a path or glob names, in order.
fn expand(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Misread> {
    if !pattern.contains(['*', '?', '[']) {
        let path = folder.join(pattern);
        return match path.try_exists() {
            Ok(false) => Err(Misread::new(format!("there is no file \"{}\"", shown(pattern)))
                .advise(format!("it is looked for at {}", shown(&path.to_string_lossy())))),
            _ => Ok(vec![path]),
        };
    }
    // The folder is meant as it is, whatever characters it holds.
    let full = match (Path::new(pattern).is_absolute(), folder.to_str()) {
        (true, _) | (_, Some("")) => pattern.to_owned(),
        (_, Some(folder)) => format!("{}/{pattern}", Pattern::escape(folder)),
        (_, None) => {
            let misread = Misread::new("globs do not work in a folder whose name is not UTF-8");
            return Err(misread.advise("name the files one by one"));
        }
    };
    let matches = glob::glob_with(&full, OPTIONS).map_err(|error| {
        Misread::new(format!("\"{}\" is not a glob: {}", shown(pattern), error.msg))
    })?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| Misread::new(format!("cannot look there: {error}")))?;
        if !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file into the config.
fn add(config: &mut Config, path: &Path, environment: Environment<'_>, findings: &mut Findings) {
    // The places of the files before stay as they are: where two files name one thing, the first
    // to do so keeps it.
    let before = std::mem::take(&mut findings.places);
    let included = parse::file(path, environment, findings);
    let own = std::mem::replace(&mut findings.places, before);
    let Some(included) = included else {
        findings.incomplete = true;
        return;
    };
    for key in MAIN_ONLY {
        if let Some(place) = own.get([key.to_owned()].as_slice()) {
            let misread = Misread::new(format!("\"{key}\" cannot stand in an included file"))
                .advise("move it to the main file");
            findings.problems.add(place.source, place.span.clone(), Severity::Error, misread);
        }
    }
    let mut clash = |kind: &str, name: &str| {
        let path = [kind.to_owned(), name.to_owned()];
        let (Some(first), Some(second)) =
            (findings.places.get(path.as_slice()), own.get(path.as_slice()))
        else {
            return;
        };
        let Place { source, span } = second.clone();
        let first = findings.problems.position(first.source, first.span.start);
        let misread = Misread::new(format!("[{kind}.{}] stands in two files", shown(name)))
            .advise(format!("the first is at {first}; rename or remove one of them"));
        findings.problems.add(source, span, Severity::Error, misread);
    };
    take(&mut config.upstream, included.upstream, |name| clash("upstream", name));
    take(&mut config.tcp, included.tcp, |name| clash("tcp", name));
    take(&mut config.http, included.http, |name| clash("http", name));
    for (path, place) in own {
        findings.places.entry(path).or_insert(place);
    }
}

fn take<T>(all: &mut IndexMap<String, T>, more: IndexMap<String, T>, mut clash: impl FnMut(&str)) {
    for (name, value) in more {
        if all.contains_key(&name) {
            clash(&name);
        } else {
            all.insert(name, value);
        }
    }
}

fn complain(findings: &mut Findings, path: &[String], misread: Misread) {
    let known = (1..=path.len()).rev().find_map(|length| findings.places.get(&path[..length]));
    if let Some(Place { source, span }) = known.cloned() {
        findings.problems.add(source, span, Severity::Error, misread);
    }
}
