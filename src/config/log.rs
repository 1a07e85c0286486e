//! `[log]` in its parts: how a log file is begun anew by itself, and what a syslog message says of its sender. The section itself
//! stands beside the others; nothing here opens anything.

use super::value::{Bytes, Facility, Time};

section! {
    /// `rotate` of `[log]`: begin a new file before one is too large or too old. `access.log` becomes `access.log.1`, what was that becomes `access.log.2`, and so on. It holds for `file`, and for `access` where that is a file.
    pub struct Rotation {
        /// The most that one file holds, at least `"64KiB"`. Absent: no limit.
        size: Option<Bytes> = None,
        /// How long one file is written to, counted from midnight UTC: with `"1d"` a file has one day. Absent: for ever.
        every: Option<Time> = None,
        /// Older files that are kept, 1 to 999; what is older than these is removed.
        keep: u32 = 7,
    }
}

section! {
    /// `syslog` of `[log]`: what messages to a syslog say of where they come from.
    pub struct Syslog {
        /// Which part of the system speaks, as the syslog sorts by it.
        facility: Facility = Facility::Daemon,
        /// The name of the program, up to 48 printable characters. In journald it is `SYSLOG_IDENTIFIER`.
        name: String = "evenkeel".to_owned(),
    }
}
