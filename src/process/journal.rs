//! The journal of this process: begun after its rights are given up, so that its files are of whoever it has become, and taken away
//! when it ends in order. That there is none is never a reason not to serve.

use std::path::Path;
use std::sync::Arc;

use super::remote::Remote;
use crate::config::{Config, JournalTo};
use crate::observe::journal::{Chronicle, DecisionRow, Journal};

/// Begins the journal that a config asks for, with a ring for each worker and one for the control thread. A program that embeds this
/// one has none unless it names a folder: it did not ask for files.
pub(super) fn open(config: &Config, workers: usize, is_default: bool) -> Option<Arc<Journal>> {
    let folder: Option<&Path> = match &config.log.journal {
        JournalTo::Off => return None,
        JournalTo::Auto if !is_default => return None,
        JournalTo::Auto => None,
        JournalTo::Folder(folder) => Some(folder),
    };
    match Journal::open(folder, config.log.journal_size.0, workers) {
        Ok(journal) => {
            // Whoever comes after a crash has to know.
            tracing::info!("journal in {}", journal.folder().display());
            Some(journal)
        }
        Err(error) => {
            tracing::warn!("no journal is kept, so nothing can be replayed later: {error}");
            None
        }
    }
}

impl Remote {
    /// Where the journal is, if one is kept.
    pub(crate) fn journal(&self) -> Option<std::path::PathBuf> {
        self.shown().journal.clone()
    }

    /// The latest decisions, the oldest first. It reads files, and so is for a thread that may wait.
    pub(crate) fn decisions(&self, most: usize) -> Vec<DecisionRow> {
        let Some(folder) = self.journal().filter(|_| most > 0) else { return Vec::new() };
        // Of a process that has just ended, there are none.
        Chronicle::latest(&folder, most).map_or_else(|_| Vec::new(), |found| found.rows())
    }
}
