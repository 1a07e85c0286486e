//! Where an explanation gets its listeners from: those that serve, or those of a config file that is made into parts for the
//! question alone. For a file, nothing is listened on, no log is opened, and names are looked up once.

use std::net::ToSocketAddrs;
use std::sync::Arc;

use super::parts::{Parts, Shared};
use super::section;
use crate::config::{AccessTo, Config};
use crate::descriptors;
use crate::explain::{Door, explain};
use crate::observe::reasons::{Asked, Reasons};
use crate::upstream::{EntryPlace, Upstream};

/// Explains by a verified config that nobody serves; an error is about the question, or says what could not be loaded.
pub(crate) fn explain_offline(config: &Config, asked: &Asked) -> Result<Reasons, String> {
    let mut config = config.clone();
    config.log.access = AccessTo::Off;
    let shared = Shared::new(descriptors::raise(), Vec::new().into(), None);
    let parts = Parts::make(config, &shared, None).map_err(|error| error.to_string())?;
    parts.upstreams.iter().for_each(look_up);
    parts.explain(asked)
}

/// Finds the addresses behind names, as a start does soon.
fn look_up(upstream: &Arc<Upstream>) {
    for (entry, config) in upstream.rules.entries.iter().enumerate() {
        if let EntryPlace::Named { host, port } = &config.place
            && let Ok(found) = (host.as_str(), *port).to_socket_addrs()
        {
            let (v4, v6): (Vec<_>, Vec<_>) = found.partition(std::net::SocketAddr::is_ipv4);
            upstream.set_addresses(entry, v4.into_iter().chain(v6).collect());
        }
    }
    upstream.settle();
}

impl Parts {
    /// Explains by what these parts serve.
    pub(super) fn explain(&self, asked: &Asked) -> Result<Reasons, String> {
        let listeners = self.plan.listeners.iter().zip(&self.services);
        let doors = listeners.map(|(plan, service)| Door {
            section: section(plan),
            addresses: plan.listen.addresses.iter().map(ToString::to_string).collect(),
            service,
        });
        explain(&doors.collect::<Vec<_>>(), asked)
    }
}
