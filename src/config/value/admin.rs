//! Where an operator speaks to the running process: a Unix socket, or nowhere. An address that a network can reach is refused,
//! as there is nothing yet by which to know who is asking.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Address, Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// `unix:/path` or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// At this path.
    Unix(PathBuf),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Off => f.write_str("off"),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for AdminListen {
    type Err = Misread;

    fn from_str(text: &str) -> Result<AdminListen, Misread> {
        if text == "off" {
            return Ok(AdminListen::Off);
        }
        match text.parse() {
            Ok(Address::Unix(path)) => Ok(AdminListen::Unix(path)),
            Err(misread) if text.starts_with("unix:") => Err(misread),
            Err(_) => {
                let message = format!("\"{}\" is neither a Unix socket nor \"off\"", shown(text));
                Err(Misread::new(message).advise("write \"unix:/run/evenkeel/admin.sock\""))
            }
            Ok(Address::Ip(_) | Address::Name { .. } | Address::Port(_)) => {
                let message = format!(
                    "\"{}\" could be reached over a network, and this version cannot tell who is asking there",
                    shown(text)
                );
                let advice = "write a Unix socket, \"unix:/run/evenkeel/admin.sock\", or \"off\"; \
                              to see over a network whether it is ready, use `ready`";
                Err(Misread::new(message).advise(advice))
            }
        }
    }
}

impl Spelled for AdminListen {
    const WORDS: &'static str = "\"unix:/path\" or \"off\"";
    const PATTERN: Option<&'static str> = Some("^(off$|unix:.)");

    fn within(self, folder: &Path) -> AdminListen {
        match self {
            AdminListen::Unix(path) => AdminListen::Unix(folder.join(path)),
            AdminListen::Off => AdminListen::Off,
        }
    }
}

spelled!(AdminListen);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_and_off_are_taken() {
        for text in ["off", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<AdminListen>().unwrap().to_string(), text);
        }
        let refused = "127.0.0.1:9900".parse::<AdminListen>().unwrap_err();
        assert!(refused.message.contains("could be reached over a network"), "{refused}");
        assert!("unix:".parse::<AdminListen>().is_err() && "on".parse::<AdminListen>().is_err());
    }
}
