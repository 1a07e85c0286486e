//! Where logs go: a stream, a file, a syslog or journald, each written as one word or address. What stands here is only named;
//! `observe` opens it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::choice::choice;
use super::{Spelled, spelled};
use crate::config::problem::{Misread, shown};

choice! {
    /// A facility of syslog (RFC 5424 6.2.1).
    pub enum Facility ("a facility of syslog") {
        /// 1, of programs.
        User = "user",
        /// 3, of what serves.
        Daemon = "daemon",
        /// 4, of who may come in.
        Auth = "auth",
        /// 10, the same, for few eyes.
        AuthPriv = "authpriv",
        /// 16, of whatever an operator decides.
        Local0 = "local0",
        /// 17.
        Local1 = "local1",
        /// 18.
        Local2 = "local2",
        /// 19.
        Local3 = "local3",
        /// 20.
        Local4 = "local4",
        /// 21.
        Local5 = "local5",
        /// 22.
        Local6 = "local6",
        /// 23.
        Local7 = "local7",
    }
}

impl Facility {
    /// Its number (RFC 5424 6.2.1).
    pub fn number(self) -> u8 {
        match self {
            Facility::User => 1,
            Facility::Daemon => 3,
            Facility::Auth => 4,
            Facility::AuthPriv => 10,
            Facility::Local0 => 16,
            Facility::Local1 => 17,
            Facility::Local2 => 18,
            Facility::Local3 => 19,
            Facility::Local4 => 20,
            Facility::Local5 => 21,
            Facility::Local6 => 22,
            Facility::Local7 => 23,
        }
    }
}

/// How a syslog is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAt {
    /// At a Unix socket, `/dev/log` if no other is written.
    Unix(PathBuf),
    /// By UDP (RFC 5426).
    Udp(SocketAddr),
    /// By TCP, each message with its length in front (RFC 6587 3.4.1).
    Tcp(SocketAddr),
}

const LOCAL: &str = "/dev/log";

impl fmt::Display for SyslogAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyslogAt::Unix(path) if path == Path::new(LOCAL) => f.write_str("syslog"),
            SyslogAt::Unix(path) => write!(f, "syslog:{}", path.display()),
            SyslogAt::Udp(address) => write!(f, "syslog:{address}"),
            SyslogAt::Tcp(address) => write!(f, "syslog:tcp:{address}"),
        }
    }
}

impl SyslogAt {
    /// What is written as `syslog...`; nothing for what begins otherwise.
    fn read(text: &str) -> Option<Result<SyslogAt, Misread>> {
        if text == "syslog" {
            return Some(Ok(SyslogAt::Unix(LOCAL.into())));
        }
        let at = text.strip_prefix("syslog:")?;
        let wrong = || {
            Misread::new(format!("\"{}\" is not where a syslog is", shown(text))).advise(
                "write \"syslog\" for /dev/log, \"syslog:10.0.0.1:514\" for UDP, \
                 \"syslog:tcp:10.0.0.1:601\" for TCP, or \"syslog:/path\" for another Unix socket",
            )
        };
        let is_socket = at.starts_with('/') && !at.contains(char::is_control);
        Some(match at.strip_prefix("tcp:") {
            Some(address) => address.parse().map(SyslogAt::Tcp).map_err(|_| wrong()),
            None if is_socket => Ok(SyslogAt::Unix(at.into())),
            None => at.parse().map(SyslogAt::Udp).map_err(|_| wrong()),
        })
    }
}

const JOURNALD: &str = "/run/systemd/journal/socket";

/// What is written as `journald...`; nothing for what begins otherwise.
fn read_journald(text: &str) -> Option<Result<PathBuf, Misread>> {
    if text == "journald" {
        return Some(Ok(JOURNALD.into()));
    }
    let socket = text.strip_prefix("journald:")?;
    if socket.starts_with('/') && !socket.contains(char::is_control) {
        return Some(Ok(socket.into()));
    }
    let advice = "write \"journald\", or \"journald:/path\" for another socket than systemd's";
    let wrong = format!("\"{}\" is not where journald is", shown(text));
    Some(Err(Misread::new(wrong).advise(advice)))
}

fn write_journald(f: &mut fmt::Formatter<'_>, socket: &Path) -> fmt::Result {
    match socket == Path::new(JOURNALD) {
        true => f.write_str("journald"),
        false => write!(f, "journald:{}", socket.display()),
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTo {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// A file, appended to.
    File(PathBuf),
    /// A syslog.
    Syslog(SyslogAt),
    /// journald of systemd, by the path of its socket.
    Journald(PathBuf),
}

const WORDS: [&str; 5] = ["stdout", "stderr", "off", "syslog", "journald"];

fn begins_as_one(name: &str) -> bool {
    name.starts_with("syslog:") || name.starts_with("journald:")
}

impl fmt::Display for AccessTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessTo::Stdout => f.write_str("stdout"),
            AccessTo::Stderr => f.write_str("stderr"),
            AccessTo::Off => f.write_str("off"),
            // A file with the name of something else would be read back as that.
            AccessTo::File(path)
                if path
                    .to_str()
                    .is_some_and(|name| WORDS.contains(&name) || begins_as_one(name)) =>
            {
                write!(f, "./{}", path.display())
            }
            AccessTo::File(path) => path.display().fmt(f),
            AccessTo::Syslog(at) => at.fmt(f),
            AccessTo::Journald(socket) => write_journald(f, socket),
        }
    }
}

impl FromStr for AccessTo {
    type Err = Misread;

    fn from_str(text: &str) -> Result<AccessTo, Misread> {
        if let Some(syslog) = SyslogAt::read(text) {
            return syslog.map(AccessTo::Syslog);
        }
        if let Some(journald) = read_journald(text) {
            return journald.map(AccessTo::Journald);
        }
        match text {
            "stdout" => Ok(AccessTo::Stdout),
            "stderr" => Ok(AccessTo::Stderr),
            "off" => Ok(AccessTo::Off),
            _ if text.is_empty() || text.contains(char::is_control) => Err(Misread::new(
                "this cannot be the name of a file",
            )
            .advise("write \"stdout\", \"stderr\", \"off\", \"syslog\", \"journald\" or a path")),
            _ => Ok(AccessTo::File(text.into())),
        }
    }
}

impl Spelled for AccessTo {
    const WORDS: &'static str =
        "\"stdout\", \"stderr\", \"off\", \"syslog\", \"syslog:ADDRESS\", \"journald\" or a path";

    fn within(self, folder: &Path) -> AccessTo {
        match self {
            AccessTo::File(path) => AccessTo::File(folder.join(path)),
            other => other,
        }
    }
}

/// Where diagnostics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error.
    Stderr,
    /// A syslog.
    Syslog(SyslogAt),
    /// journald of systemd, by the path of its socket.
    Journald(PathBuf),
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTo::Stderr => f.write_str("stderr"),
            LogTo::Syslog(at) => at.fmt(f),
            LogTo::Journald(socket) => write_journald(f, socket),
        }
    }
}

impl FromStr for LogTo {
    type Err = Misread;

    fn from_str(text: &str) -> Result<LogTo, Misread> {
        if let Some(syslog) = SyslogAt::read(text) {
            return syslog.map(LogTo::Syslog);
        }
        if let Some(journald) = read_journald(text) {
            return journald.map(LogTo::Journald);
        }
        match text {
            "stderr" => Ok(LogTo::Stderr),
            _ => Err(Misread::new(format!("\"{}\" is not where diagnostics go", shown(text)))
                .advise("write \"stderr\", \"syslog\" or \"journald\"; for a file, write file = \"...\" instead")),
        }
    }
}

impl Spelled for LogTo {
    const WORDS: &'static str = "\"stderr\", \"syslog\", \"syslog:ADDRESS\" or \"journald\"";
}

spelled!(AccessTo, LogTo);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_log_goes_is_read_and_written_back() {
        let both = ["stderr", "syslog", "syslog:10.0.0.1:514", "syslog:tcp:[::1]:601", "journald"];
        let access = ["stdout", "off", "./off", "./syslog", "./syslog:a", "logs/access.log"];
        for text in both.into_iter().chain(access).chain(["syslog:/run/log", "journald:/run/j"]) {
            assert_eq!(text.parse::<AccessTo>().unwrap().to_string(), text);
        }
        for text in both {
            assert_eq!(text.parse::<LogTo>().unwrap().to_string(), text);
        }
        let default = "syslog:/dev/log".parse::<LogTo>().unwrap();
        assert_eq!(default, "syslog".parse().unwrap());
    }

    #[test]
    fn what_is_no_place_for_a_log_is_told_what_is() {
        for text in ["syslog:logs.example.com:514", "syslog:tcp:601", "syslog:", "syslog:a/b"] {
            let wrong = text.parse::<AccessTo>().unwrap_err().to_string();
            assert!(wrong.contains("\"syslog:10.0.0.1:514\" for UDP"), "{wrong}");
        }
        let file = "a.log".parse::<LogTo>().unwrap_err().to_string();
        assert!(file.contains("write file = "), "{file}");
        assert!("".parse::<AccessTo>().is_err());
    }
}
