//! `[admin]`: how an operator speaks to the running process, and where others ask whether it is ready.
//! Absent, there is a socket for its user all the same, and nobody else can reach anything.

use std::path::PathBuf;

use super::value::{Address, AdminListen};
use crate::tls::Files;

section! {
    /// `[admin]`: how to speak to the running process.
    pub struct Admin {
        /// Where operators are listened to. `"unix:/path"`: the Unix socket of `evenkeel reload`, `status`, `drain` and the others, for its own user alone (mode 0600); absent, one for each config file, which the commands find by that; `"off"`: none. `"127.0.0.1:9900"` besides: the same over HTTP for browsers and tools, with the token of `token-file`.
        listen: Vec<AdminListen> = Vec::new(),
        /// A file with the token that whoever asks over TCP must show, as `Authorization: Bearer TOKEN`: at least 16 characters, such as those of `openssl rand -hex 32`. Its mode should be 0600. A new token in it counts at once.
        token_file: Option<PathBuf> = None,
        /// Names that the address over TCP is asked for by, beside `localhost` and addresses. All others are refused, so that no page elsewhere can point a name of its own here.
        hosts: Vec<String> = Vec::new(),
        /// Speak TLS at the addresses over TCP: a table with `certificate` and `key`. Absent: in clear.
        tls: Option<AdminTls> = None,
        /// Listen without `tls` also at addresses that other machines can reach. Everybody between can read the token then.
        public: bool = false,
        /// An address that answers `GET /ready` over HTTP: 200, or 503 from the moment the process begins to stop; and `GET /live`: 200. For balancers in front; nothing else can be asked there. Absent: none.
        ready: Option<Address> = None,
        /// An address that answers `GET /metrics` over HTTP, for Prometheus and others that scrape: no token, nothing can be changed there, and nothing else be asked. May be the one of `ready`. Absent: only on the socket.
        metrics: Option<Address> = None,
    }
}

section! {
    /// `tls` of `[admin]`. Files are PEM, and are read at the start.
    pub struct AdminTls {
        /// The file of the certificate, followed by those that vouch for it.
        certificate: PathBuf = required,
        /// The file of its private key, which is not encrypted.
        key: PathBuf = required,
    }
}

impl AdminTls {
    pub(crate) fn files(&self) -> Files {
        Files { certificate: self.certificate.clone(), key: self.key.clone(), ocsp: None }
    }
}
