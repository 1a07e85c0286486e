//! Who is asking, as far as that is known: a process of this machine by what the kernel says, or whoever has the token by its address.
//! Whatever is changed leaves a line in the log with this.

use std::net::SocketAddr;

use tokio::net::UnixStream;

/// Who is asking.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// On the Unix socket.
    Local { uid: Option<u32>, pid: Option<i32> },
    /// Over TCP, with a token of this mark.
    Afar { address: SocketAddr, token: String },
}

impl Who {
    pub(super) fn of(stream: &UnixStream) -> Who {
        let known = stream.peer_cred().ok();
        let uid = known.as_ref().map(tokio::net::unix::UCred::uid);
        Who::Local { uid, pid: known.and_then(|known| known.pid()) }
    }

    /// Leaves a line in the log of what was ordered.
    pub(super) fn orders(&self, what: &str) {
        match self {
            Who::Local { uid, pid } => {
                let uid = uid.map_or("unknown".to_owned(), |uid| uid.to_string());
                let pid = pid.map_or("unknown".to_owned(), |pid| pid.to_string());
                tracing::info!(%uid, %pid, "admin: {what}");
            }
            Who::Afar { address, token } => tracing::info!(%address, %token, "admin: {what}"),
        }
    }
}
