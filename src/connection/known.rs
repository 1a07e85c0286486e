//! What is known of a client before it is served: enough to say in a log what a worker is doing. Nothing here changes anything.

use std::sync::Arc;

use super::{Adopted, Guest};
use crate::observe::ended::ClientAddress;

impl Guest {
    /// Whose listener's it is.
    pub(crate) fn listener(&self) -> &Arc<str> {
        &self.record.service.listener
    }

    /// Who has connected; a proxy, where one in front of us has yet to say for whom.
    pub(crate) fn client(&self) -> ClientAddress {
        self.record.client
    }
}

impl Adopted {
    /// Whose listener's it is.
    pub(crate) fn listener(&self) -> &Arc<str> {
        &self.record.service.listener
    }

    /// Who has connected.
    pub(crate) fn client(&self) -> ClientAddress {
        self.record.client
    }
}
