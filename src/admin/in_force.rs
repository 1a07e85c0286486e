//! The config that is in force, as those who change it or look at it need to know it: how it was read, what has become of it since, and a
//! mark by which an order says which one it was meant for.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::{Config, Loaded, Problems, edit};

/// A config in force. Replaced whole.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    /// As the file had it when it was read last.
    pub(crate) read: Arc<Config>,
    /// With what was changed since.
    pub(crate) config: Arc<Config>,
    /// The texts of the files, the main one first.
    pub(crate) files: Arc<[(PathBuf, Arc<str>)]>,
    /// What is questionable in them.
    pub(crate) problems: Arc<Problems>,
    /// Of no other config.
    pub(crate) mark: Arc<str>,
}

impl InForce {
    /// What was read just now.
    pub(crate) fn of(loaded: &Loaded) -> InForce {
        let config = Arc::new(loaded.config.clone());
        InForce {
            mark: mark(&config),
            read: Arc::clone(&config),
            config,
            files: loaded.warnings.texts().into(),
            problems: Arc::new(loaded.warnings.clone()),
        }
    }

    /// The same file, with another config made of it.
    pub(crate) fn changed(&self, config: Config) -> InForce {
        InForce { mark: mark(&config), config: Arc::new(config), ..self.clone() }
    }

    /// What was changed since the file was read, and what becomes of that with another file.
    pub(crate) fn taken_back(&self, next: &Config) -> Vec<String> {
        edit::taken_back(&self.read, &self.config, next)
    }

    /// The same in a new process, which begins with the file.
    pub(crate) fn lost(&self) -> Vec<String> {
        self.taken_back(&self.read)
    }
}

fn mark(config: &Config) -> Arc<str> {
    let digest = digest::digest(&digest::SHA256, config.effective().as_bytes());
    let short: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    short.into()
}
