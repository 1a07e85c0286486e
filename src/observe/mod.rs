//! What operators see: how each connection ended, counts, the access log and diagnostics.
//! Nothing here decides anything; it is told, and it must never make a worker wait.

pub(crate) mod access_log;
pub(crate) mod clock;
pub(crate) mod counts;
pub(crate) mod diagnostics;
pub(crate) mod ended;
mod escape;
mod journald;
mod line;
pub(crate) mod log_file;
mod rotation;
pub(crate) mod selection;
mod syslog;
pub(crate) mod target;
