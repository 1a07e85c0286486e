//! Where an operator speaks to the running process: a Unix socket, an address, or nowhere. A name is no address here: what it stands for
//! may become another machine's tomorrow.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Address, Spelled, spelled};
use crate::config::problem::{Misread, shown};

/// `unix:/path`, `IP:PORT` or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// At no Unix socket.
    Off,
    /// At this path.
    Unix(PathBuf),
    /// At this address, for those who have the token.
    Tcp(SocketAddr),
}

impl AdminListen {
    /// Where the Unix socket is, by all that is written; none where nothing is said of it.
    pub(crate) fn socket(all: &[AdminListen]) -> Option<&AdminListen> {
        let path = all.iter().find(|one| matches!(one, AdminListen::Unix(_)));
        path.or_else(|| all.iter().find(|one| **one == AdminListen::Off))
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Off => f.write_str("off"),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
            AdminListen::Tcp(address) => address.fmt(f),
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
            Ok(Address::Ip(address)) => Ok(AdminListen::Tcp(address)),
            Err(misread) => Err(misread),
            Ok(Address::Name { port, .. } | Address::Port(port)) => {
                let message = format!("\"{}\" is not an address here", shown(text));
                Err(Misread::new(message).advise(format!("write \"127.0.0.1:{port}\"")))
            }
        }
    }
}

impl Spelled for AdminListen {
    const WORDS: &'static str = "\"unix:/path\", \"IP:PORT\" or \"off\"";
    const PATTERN: Option<&'static str> = Some("^(off$|unix:.|.*:[0-9]+$)");

    fn within(self, folder: &Path) -> AdminListen {
        match self {
            AdminListen::Unix(path) => AdminListen::Unix(folder.join(path)),
            other => other,
        }
    }
}

spelled!(AdminListen);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_addresses_and_off_are_taken_and_names_are_not() {
        for text in ["off", "unix:/run/a.sock", "127.0.0.1:9900", "[::1]:9900"] {
            assert_eq!(text.parse::<AdminListen>().unwrap().to_string(), text);
        }
        for text in ["localhost:9900", ":9900"] {
            let refused = text.parse::<AdminListen>().unwrap_err();
            assert_eq!(refused.advice.as_deref(), Some("write \"127.0.0.1:9900\""), "{refused}");
        }
        assert!("unix:".parse::<AdminListen>().is_err() && "on".parse::<AdminListen>().is_err());
    }

    #[test]
    fn an_address_does_not_take_the_socket_away() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let socket = |texts: &[&str]| {
            let all: Vec<_> = all(texts);
            AdminListen::socket(&all).cloned()
        };
        assert_eq!(socket(&["127.0.0.1:1"]), None);
        assert_eq!(socket(&["127.0.0.1:1", "off"]), Some(AdminListen::Off));
        assert_eq!(socket(&["127.0.0.1:1", "unix:/a"]), Some(AdminListen::Unix("/a".into())));
    }
}
