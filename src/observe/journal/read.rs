//! Reads a journal: the rings of a process that lives or has died, or a file that was exported. What is overwritten meanwhile is left
//! out, and what cannot be read is not made up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::PREFIX;
use super::notes::{LineUpNote, Note, PlanNote};
use super::record::{self, End, Pick, Record};
use super::ring::Content;

/// Words that the record of a pick and of its end take together, with much that was read.
const WORDS_EACH: u64 = 40;

/// Everything that was found, in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) plans: HashMap<u32, PlanNote>,
    pub(crate) line_ups: HashMap<u32, LineUpNote>,
    pub(crate) entries: Vec<Entry>,
}

/// A pick, or the end of what one began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Entry {
    Pick(Box<Pick>),
    End(End),
}

impl Entry {
    fn at(&self) -> u64 {
        match self {
            Entry::Pick(pick) => pick.at,
            Entry::End(end) => end.at,
        }
    }
}

/// The folder of the process that began last, below one that was configured.
fn newest(parent: &Path) -> Option<std::path::PathBuf> {
    let all = std::fs::read_dir(parent).ok()?.flatten();
    let named = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    named
        .max_by_key(|entry| entry.metadata().and_then(|about| about.modified()).ok())
        .map(|it| it.path())
}

/// A line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    #[serde(rename = "plan")]
    Planned(PlanNote),
    #[serde(rename = "line-up")]
    Lined(LineUpNote),
    Pick(Box<Pick>),
    End(End),
}

impl Chronicle {
    /// Reads a folder of rings, or an exported file.
    pub(crate) fn read(path: &Path) -> io::Result<Chronicle> {
        match path.is_dir() {
            true => Chronicle::of_folder(path, u64::MAX),
            false => Chronicle::of_file(path),
        }
    }

    /// The last picks of a folder of rings, no more than so many; cheap where the rings are large.
    pub(crate) fn latest(folder: &Path, most: usize) -> io::Result<Chronicle> {
        let words = (most as u64).saturating_mul(WORDS_EACH);
        let mut chronicle = Chronicle::of_folder(folder, words)?;
        chronicle.keep_last(most);
        Ok(chronicle)
    }

    /// Leaves out all picks but the last so many, with everything before them.
    pub(crate) fn keep_last(&mut self, most: usize) {
        let picks = self.entries.iter().enumerate().rev();
        let mut picks = picks.filter(|(_, entry)| matches!(entry, Entry::Pick(_)));
        let from = match most.checked_sub(1) {
            None => self.entries.len(),
            Some(others) => picks.nth(others).map_or(0, |(at, _)| at),
        };
        self.entries.drain(..from);
    }

    fn of_folder(folder: &Path, most: u64) -> io::Result<Chronicle> {
        let mut chronicle = Chronicle::default();
        let mut found = false;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(name) = name.strip_suffix(".ring") else { continue };
            let worker: Option<u16> =
                name.strip_prefix("worker-").and_then(|number| number.parse().ok());
            // Of what changes seldom, all may be needed.
            let most = if worker.is_some() { most } else { u64::MAX };
            let content = Content::read(&path, most).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            chronicle.take(&content, worker.unwrap_or(u16::MAX));
            found = true;
        }
        if !found && let Some(newest) = newest(folder) {
            return Chronicle::of_folder(&newest, most);
        }
        if !found {
            let said = format!("{}: there is no journal here", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, said));
        }
        for plan in chronicle.plans.values_mut() {
            let file = folder.join(format!("plan-{}.toml", plan.plan));
            plan.config = std::fs::read_to_string(file).unwrap_or_default();
        }
        chronicle.settle();
        Ok(chronicle)
    }

    fn take(&mut self, content: &Content, worker: u16) {
        let mut end = content.end();
        while let Some((start, words)) = content.before(end, record::length) {
            end = start;
            match Record::read(words, worker, start) {
                Some(Record::Pick(pick)) => self.entries.push(Entry::Pick(pick)),
                Some(Record::End(end)) => self.entries.push(Entry::End(end)),
                Some(Record::Note(json)) => match serde_json::from_slice(&json) {
                    Ok(Note::Planned(plan)) => drop(self.plans.insert(plan.plan, plan)),
                    Ok(Note::LineUp(note)) => drop(self.line_ups.insert(note.line_up, note)),
                    Err(_) => {}
                },
                None => {}
            }
        }
    }

    /// From backwards in each ring to forwards over all.
    fn settle(&mut self) {
        self.entries.reverse();
        self.entries.sort_by_key(Entry::at);
    }

    fn of_file(path: &Path) -> io::Result<Chronicle> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(|error| io::Error::new(error.kind(), named(&error)))?;
        let mut chronicle = Chronicle::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let read = serde_json::from_str(&line?).map_err(|error| {
                let said = named(&format!("line {}: {error}", number + 1));
                io::Error::new(io::ErrorKind::InvalidData, said)
            });
            match read? {
                Line::Planned(plan) => drop(chronicle.plans.insert(plan.plan, plan)),
                Line::Lined(note) => drop(chronicle.line_ups.insert(note.line_up, note)),
                Line::Pick(pick) => chronicle.entries.push(Entry::Pick(pick)),
                Line::End(end) => chronicle.entries.push(Entry::End(end)),
            }
        }
        Ok(chronicle)
    }

    /// Writes everything into a new file, a line of JSON each; for its user alone.
    pub(crate) fn export(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(file);
        let mut write = |line: &Line| -> io::Result<()> {
            serde_json::to_writer(&mut file, line)?;
            file.write_all(b"\n")
        };
        for plan in self.plans.values() {
            write(&Line::Planned(plan.clone()))?;
        }
        for line_up in self.line_ups.values() {
            write(&Line::Lined(line_up.clone()))?;
        }
        for entry in &self.entries {
            write(&match entry {
                Entry::Pick(pick) => Line::Pick(pick.clone()),
                Entry::End(end) => Line::End(*end),
            })?;
        }
        file.flush()
    }

    /// The picks alone.
    pub(crate) fn picks(&self) -> impl DoubleEndedIterator<Item = &Pick> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Pick(pick) => Some(&**pick),
            Entry::End(_) => None,
        })
    }
}
