//! Everything that can be counted or measured of a running proxy, read at one moment by whoever shows it. Reading takes no part in
//! the traffic: it adds up what the workers have counted, and asks the kernel about the process.

use std::sync::Arc;
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};

use super::memory::MemoryState;
use super::remote::Remote;
use super::vitals::WorkerState;
use crate::observe::counts::{Counts, Events, Reasons};
use crate::observe::diagnostics;
use crate::observe::sheets::ListenerReading;
use crate::tls::Expiry;
use crate::upstream::UpstreamState;

/// A running proxy at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) process: ProcessState,
    pub(crate) listeners: Vec<ListenerState>,
    pub(crate) upstreams: Vec<UpstreamState>,
}

/// The process as a whole.
#[derive(Debug)]
pub(crate) struct ProcessState {
    pub(crate) counts: Counts,
    pub(crate) events: Events,
    pub(crate) reasons: Reasons,
    pub(crate) is_draining: bool,
    /// When it began to serve.
    pub(crate) began: SystemTime,
    pub(crate) memory: MemoryState,
    pub(crate) descriptors_open: u64,
    /// None if there is no limit.
    pub(crate) descriptors_max: Option<u64>,
    /// Lines of diagnostics that could not be written.
    pub(crate) lines_lost: u64,
    pub(crate) workers: Vec<WorkerState>,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct ListenerState {
    /// As its section is called: `tcp.NAME` or `http.NAME`.
    pub(crate) section: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) open: u32,
    /// Where it leads.
    pub(crate) upstreams: Vec<Arc<str>>,
    pub(crate) reading: ListenerReading,
    /// What it shows its clients; none where it does not speak TLS.
    pub(crate) certificates: Option<Arc<[Expiry]>>,
}

impl Remote {
    /// How everything is now. It reads a few files of the kernel, and is not for a worker.
    pub(crate) fn reading(&self) -> Reading {
        let shown = self.shown();
        let (shown_listeners, shown_upstreams) = (shown.listeners.clone(), shown.upstreams.clone());
        let addresses = shown.addresses.clone();
        drop(shown);
        let at = |name: &str| {
            let own = addresses.iter().filter(|(listener, _)| **listener == *name);
            own.map(|(_, address)| address.to_string()).collect()
        };
        let listeners = shown_listeners.into_iter().map(|listener| ListenerState {
            addresses: at(&listener.name),
            open: listener.places.taken(),
            upstreams: listener.upstreams,
            reading: listener.meter.reading(),
            certificates: listener.tls.map(|tls| tls.certificates()),
            section: listener.section,
        });
        Reading {
            process: ProcessState {
                counts: self.counts(),
                events: self.tally().events(),
                reasons: self.tally().reasons(),
                is_draining: self.is_draining(),
                began: self.pulse().began(),
                memory: self.budget().state(),
                descriptors_open: descriptors_open(),
                descriptors_max: getrlimit(Resource::Nofile).current,
                lines_lost: diagnostics::lost(),
                workers: self.pulse().states(),
            },
            listeners: listeners.collect(),
            upstreams: shown_upstreams.iter().map(|upstream| upstream.state()).collect(),
        }
    }
}

/// Linux says it as the size of the folder since 6.2; before, they are counted.
fn descriptors_open() -> u64 {
    match std::fs::metadata("/proc/self/fd") {
        Ok(about) if about.len() > 0 => about.len(),
        // Without the one by which it is read.
        _ => {
            std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64)
        }
    }
}
