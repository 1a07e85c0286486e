//! What goes on beside the traffic for as long as a config is in force: verdicts, checks and names of upstreams, certificates.
//! What is the same in the next config goes on; everything else ends with its config.

use std::sync::Arc;

use hickory_resolver::TokioResolver;
use tokio::task::JoinSet;

use super::parts::Parts;
use super::section;
use crate::discover::dns;
use crate::health;
use crate::plan::{Plan, UpstreamPlan};
use crate::tls::acme::Managed;
use crate::tls::{Sectioned, Source, Watch};
use crate::upstream::{EntryPlace, Upstream};

/// All of them. Dropping one ends it.
#[derive(Default)]
pub(super) struct Errands {
    upstreams: Vec<(Arc<Upstream>, JoinSet<()>)>,
    resolver: Option<TokioResolver>,
    certificates: Arc<Watch>,
    /// What is made of files of TLS, and who looks after them.
    of_files: Vec<Sectioned>,
    watching: JoinSet<()>,
    /// What is to be done after a while.
    later: JoinSet<()>,
    /// What goes on whatever the config says.
    always: JoinSet<()>,
}

impl Errands {
    /// Goes on for these parts, and for no others. Runs on the control thread.
    pub(super) fn follow(&mut self, parts: &Parts) {
        let known = std::mem::take(&mut self.upstreams);
        let mut known: Vec<_> = known.into_iter().map(Some).collect();
        for (upstream, plan) in parts.upstreams.iter().zip(&parts.plan.upstreams) {
            let is_same = |known: &&mut Option<(Arc<Upstream>, JoinSet<()>)>| {
                known.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, upstream))
            };
            let going_on = known.iter_mut().find(is_same).and_then(Option::take);
            let errands = match going_on {
                Some((_, errands)) => errands,
                None => self.look_after(upstream, plan, &parts.plan),
            };
            self.upstreams.push((Arc::clone(upstream), errands));
        }
        let of_files = parts.of_files();
        let is_same = |(one, other): (&Sectioned, &Sectioned)| {
            one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1)
        };
        let are_as_before = of_files.len() == self.of_files.len()
            && of_files.iter().zip(&self.of_files).all(is_same);
        if !are_as_before {
            self.watch(of_files, &parts.plan);
        }
    }

    /// Looks after certificates, and after nothing that it looked after before.
    fn watch(&mut self, of_files: Vec<Sectioned>, plan: &Plan) {
        self.watching = JoinSet::new();
        for (section, managed) in managed(plan) {
            self.watching.spawn(managed.keep_up(section));
        }
        self.certificates = Arc::default();
        self.of_files.clone_from(&of_files);
        if !of_files.is_empty() {
            self.watching.spawn(Arc::clone(&self.certificates).keep_up(of_files));
        }
    }

    /// Does something that takes its time, and ends by itself.
    pub(super) fn later(&mut self, errand: impl Future<Output = ()> + Send + 'static) {
        while self.later.try_join_next().is_some() {}
        self.later.spawn(errand);
    }

    /// Goes on with something until the process stops.
    pub(super) fn always(&mut self, errand: impl Future<Output = ()> + Send + 'static) {
        self.always.spawn(errand);
    }

    /// Does nothing any more that was to be done after a while.
    pub(super) fn forget_later(&mut self) {
        self.later = JoinSet::new();
    }

    /// What reads certificates anew.
    pub(super) fn certificates(&self) -> &Watch {
        &self.certificates
    }

    fn look_after(
        &mut self,
        upstream: &Arc<Upstream>,
        plan: &UpstreamPlan,
        whole: &Plan,
    ) -> JoinSet<()> {
        let mut errands = JoinSet::new();
        let entries = &upstream.rules.entries;
        if entries.iter().any(|entry| matches!(entry.place, EntryPlace::Named { .. })) {
            if self.resolver.is_none() {
                match dns::resolver(&whole.nameservers) {
                    Ok(resolver) => self.resolver = Some(resolver),
                    Err(error) => tracing::error!(
                        "names cannot be looked up: {error}; set `nameservers` in [process]"
                    ),
                }
            }
            if let Some(resolver) = &self.resolver {
                dns::follow(upstream, resolver, &mut errands);
            }
        }
        errands.spawn(Arc::clone(upstream).keep_up());
        if let Some(probe) = &plan.probe {
            errands.spawn(health::watch(Arc::clone(upstream), probe.clone()));
        }
        errands
    }
}

/// The certificates that ACME is asked for, each once.
fn managed(plan: &Plan) -> Vec<(String, Arc<Managed>)> {
    let mut all: Vec<(String, Arc<Managed>)> = Vec::new();
    for listener in &plan.listeners {
        for (source, _) in listener.tls.iter().flat_map(|tls| &tls.identities) {
            if let Source::Managed(managed) = source
                && !all.iter().any(|(_, known)| known.file() == managed.file())
            {
                all.push((section(listener), Arc::clone(managed)));
            }
        }
    }
    all
}
