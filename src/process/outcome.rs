//! What comes of starting, reloading, handing over and stopping, as whoever asked for it is told.

use std::io;

use crate::config::problem::Problems;

/// Why a proxy could not start. Nothing is left open.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on.
    Listen {
        /// The listener, as its section is called: `tcp.NAME` or `http.NAME`.
        listener: String,
        /// What failed, and what to do.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate or its key could not be used: the files have changed since the config was checked.
    Certificate {
        /// The listener or upstream, as its section is called.
        listener: String,
        /// What is wrong with them.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The access log could not be opened, a thread or the resolver not be started, the pid file is another one's, or the
    /// process cannot become `user`.
    System {
        /// The step that failed.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Listen { listener, cause }
            | StartError::Certificate { listener, cause } => {
                write!(f, "[{listener}] {cause}")
            }
            StartError::System { step, cause } => write!(f, "{step}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen { cause, .. } | StartError::Certificate { cause, .. } => {
                Some(&**cause)
            }
            StartError::System { cause, .. } => Some(cause),
        }
    }
}

/// What came of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What has changed, in words, a line each.
    pub changes: Vec<String>,
    /// What of it takes effect with the next start only.
    pub after_restart: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug)]
pub enum ReloadError {
    /// The config has errors.
    Config(Problems),
    /// It could not be put into force: an address is in use, a certificate cannot be read.
    Start(StartError),
    /// The proxy is stopping, or has stopped.
    Stopping,
    /// Another process has taken over meanwhile, and has been told to read its config again.
    HandedOver,
}

impl std::fmt::Display for ReloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReloadError::Config(problems) => problems.fmt(f),
            ReloadError::Start(error) => error.fmt(f),
            ReloadError::Stopping => f.write_str("it is stopping"),
            ReloadError::HandedOver => f.write_str("another process has taken over, and reads it"),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReloadError::Start(error) => Some(error),
            ReloadError::Config(_) | ReloadError::Stopping | ReloadError::HandedOver => None,
        }
    }
}

/// What came of handing over to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandedOver {
    /// Connections that go on there.
    pub(crate) connections: u64,
    /// Connections that end here.
    pub(crate) left: u64,
    /// The process that serves now.
    pub(crate) pid: u32,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Connections that were still open when the time for draining was over, and were cut.
    pub cut: u64,
}
