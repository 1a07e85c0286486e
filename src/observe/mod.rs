//! What operators see: how each connection ended, counts, the access log and diagnostics.
//! Nothing here decides anything; it is told, and it must never make a worker wait.

pub(crate) mod access_log;
pub(crate) mod clock;
pub(crate) mod count;
pub(crate) mod counts;
pub(crate) mod diagnostics;
pub(crate) mod ended;
mod escape;
pub(crate) mod exposition;
pub(crate) mod journal;
mod journald;
mod line;
pub(crate) mod log_file;
pub(crate) mod meter;
pub(crate) mod reasons;
pub(crate) mod recent;
mod rotation;
pub(crate) mod selection;
pub(crate) mod sheets;
pub(crate) mod stripes;
mod syslog;
pub(crate) mod target;
pub(crate) mod traces;
