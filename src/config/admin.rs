//! `[admin]`: how an operator speaks to the running process, and where others ask whether it is ready.
//! Absent, there is a socket for its user all the same, and nobody else can reach anything.

use super::value::{Address, AdminListen};

section! {
    /// `[admin]`: how to speak to the running process.
    pub struct Admin {
        /// The Unix socket of `evenkeel reload`, `status`, `drain` and the others, as `"unix:/path"`, for its own user alone (mode 0600); or `"off"`. Absent: one for each config file, which the commands find by that.
        listen: Option<AdminListen> = None,
        /// An address that answers `GET /ready` over HTTP: 200, or 503 from the moment the process begins to stop; and `GET /live`: 200. For balancers in front; nothing else can be asked there. Absent: none.
        ready: Option<Address> = None,
        /// An address that answers `GET /metrics` over HTTP, for Prometheus and others that scrape: no token, nothing can be changed there, and nothing else be asked. May be the one of `ready`. Absent: only on the socket.
        metrics: Option<Address> = None,
    }
}
