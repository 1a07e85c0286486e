//! What is known of a client before it is served: enough to say in a log what a worker is doing, and to list it while it lasts.
//! Nothing here changes anything.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Adopted, Guest, Job, Record};
use crate::observe::ended::ClientAddress;
use crate::tcp::Kind;
use crate::tcp::packets::Framed;

/// A client that is about to be served.
#[derive(Debug, Clone)]
pub(crate) struct Introduced {
    /// The name of its listener.
    pub(crate) listener: Arc<str>,
    /// Who has connected; a proxy, where one in front of us has yet to say for whom.
    pub(crate) client: ClientAddress,
    /// What is spoken at first.
    pub(crate) kind: Kind,
    /// When it was accepted, by whichever process.
    pub(crate) since: SystemTime,
}

impl Guest {
    pub(crate) fn introduced(&self) -> Introduced {
        self.record.introduced()
    }
}

impl Adopted {
    pub(crate) fn introduced(&self) -> Introduced {
        self.record.introduced()
    }
}

impl Record {
    fn introduced(&self) -> Introduced {
        Introduced {
            listener: Arc::clone(&self.service.listener),
            client: self.client,
            kind: self.service.job.kind(),
            since: self.at,
        }
    }
}

impl Job {
    fn kind(&self) -> Kind {
        match self {
            Job::Http(_) => Kind::Http1,
            Job::Tcp(site) => match site.rules.packets.as_deref() {
                Some(Framed::ByPacket(_)) => Kind::Packets,
                Some(Framed::ByConnection(_)) | None => Kind::Tcp,
            },
        }
    }
}
