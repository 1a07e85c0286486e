//! What the process can still do once it serves, whatever becomes of it: read and write where its config says, make the system
//! calls that serving takes, and nothing else. It begins before the first client can connect, holds for every thread that is
//! started from then on, and cannot be left; what takes more is done by the process that keeps the rights (`starter`).

mod calls;
mod files;
pub(super) mod needs;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::config::{Config, Sandbox as Wanted};
use crate::observe::journal::Journal;
pub(crate) use needs::Needs;

/// What the process gives up when it begins to serve.
#[derive(Debug)]
pub(crate) struct Sandbox {
    is_strict: bool,
    needs: Needs,
    /// Whether files are limited, and ports if they are to be.
    is_in_force: bool,
}

/// What came of limiting files and ports.
#[derive(Debug)]
struct Limited {
    /// In words.
    how: String,
    is_in_force: bool,
}

/// What a config is read from, and where else something is written.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// The config file and those that it includes, and folders in which such files may come and go.
    pub(crate) config: Vec<PathBuf>,
    /// Where the admin socket may be.
    pub(crate) sockets: Vec<PathBuf>,
}

impl Sandbox {
    /// What a config asks for; none if it is not to be.
    pub(crate) fn find(config: &Config, around: &Surroundings) -> Option<Sandbox> {
        let is_strict = match config.process.sandbox {
            Wanted::Off => return None,
            Wanted::Auto => false,
            Wanted::Strict => true,
        };
        Some(Sandbox { is_strict, needs: Needs::of(config, around, is_strict), is_in_force: false })
    }

    /// The same, but for the folder of a journal, which is written to and taken away at the end.
    pub(super) fn leaving(mut self, journal: Option<&Journal>) -> Sandbox {
        let folder = journal.and_then(|journal| journal.folder().parent());
        self.needs.write.extend(folder.map(PathBuf::from));
        self
    }

    /// Gives it up, for this thread and all that it starts from now on. There is no way back.
    pub(super) fn enter(mut self) -> Result<Arc<Sandbox>, StartError> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 {
            let said =
                format!("the program has {threads} threads already, which would stay outside");
            return self.without(&said);
        }
        let files = match files::restrict(&self.needs, self.is_strict) {
            Ok(Limited { how, is_in_force }) => {
                self.is_in_force = is_in_force;
                how
            }
            Err(error) if self.is_strict => return self.without(&format!("files: {error}")),
            Err(error) => format!("files and ports are not limited: {error}"),
        };
        let calls = match calls::restrict() {
            Ok(count) => format!("{count} system calls"),
            Err(error) if self.is_strict => return self.without(&format!("system calls: {error}")),
            Err(error) => format!("system calls are not limited: {error}"),
        };
        tracing::info!("sandbox: {files}; {calls}");
        Ok(Arc::new(self))
    }

    /// What another config needs that this process has given up, in words; nothing, if it can serve that one too.
    pub(super) fn lacks(&self, config: &Config) -> Option<String> {
        let lacks = self.needs.lack(config).filter(|_| self.is_in_force)?;
        Some(format!(
            "{lacks} out of reach for this process, as its config had no such thing when it began; \
             `evenkeel upgrade` begins anew with this config and closes nothing"
        ))
    }

    /// It cannot be: in `strict` the start fails, else it is told.
    fn without(self, why: &str) -> Result<Arc<Sandbox>, StartError> {
        if self.is_strict {
            let said = format!(
                "{why}; set sandbox = \"auto\" in [process] to serve with what the kernel can"
            );
            return Err(StartError::System { step: "sandbox", cause: io::Error::other(said) });
        }
        tracing::warn!("no sandbox: {why}");
        Ok(Arc::new(self))
    }
}
