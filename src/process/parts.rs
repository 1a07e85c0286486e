//! A config made into everything that serves, beside what serves already: nothing of it is in force yet, and whatever cannot
//! be made leaves nothing behind. What means the same as before is taken over as it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use super::memory::Budget;
use super::sandbox::Sandbox;
use super::{StartError, section};
use crate::config::{self, Config};
use crate::connection::{Job, Service};
use crate::http::{Gate, GateRules, Site};
use crate::limits::{self, Door, Places};
use crate::observe::access_log::{AccessLog, Writer};
use crate::observe::counts::Tally;
use crate::observe::journal::{Asker, Journal};
use crate::observe::log_file::Owner;
use crate::observe::meter::Meter;
use crate::observe::traces::{Exporter, Tracer};
use crate::plan::{self, ListenerPlan, Plan, UpstreamPlan};
use crate::route::{Conditions, Routes};
use crate::tcp;
use crate::tls::{Acceptor, Connector, Sectioned};
use crate::upstream::{Upstream, UpstreamPast};

/// What every config of a process has in common.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// How many may be open.
    pub(super) descriptors: u64,
    pub(super) tally: Arc<Tally>,
    /// Of connections, over all listeners.
    pub(super) places: Arc<Places>,
    /// What a process before this one knew of upstreams.
    pub(super) pasts: Arc<[UpstreamPast]>,
    /// How much memory all of them may use.
    pub(super) memory: Arc<Budget>,
    /// Whose log files are that are made.
    pub(super) owner: Option<Owner>,
    /// Whether the whole process is on its way out.
    pub(super) is_draining: Arc<AtomicBool>,
    /// What picks were made of; none where none is kept.
    pub(super) journal: Option<Arc<Journal>>,
    /// What the process has given up.
    pub(super) sandbox: Option<Arc<Sandbox>>,
}

impl Shared {
    pub(super) fn new(
        descriptors: u64,
        pasts: Arc<[UpstreamPast]>,
        owner: Option<Owner>,
    ) -> Shared {
        Shared {
            descriptors,
            tally: Arc::default(),
            places: Places::new(None),
            pasts,
            memory: Arc::default(),
            owner,
            is_draining: Arc::default(),
            journal: None,
            sandbox: None,
        }
    }

    fn past(&self, upstream: &str) -> Option<&UpstreamPast> {
        self.pasts.iter().find(|past| past.name == upstream)
    }
}

/// One config, made.
#[derive(Debug)]
pub(super) struct Parts {
    /// How many plans there have been, with this one.
    pub(super) number: u32,
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) log: AccessLog,
    /// What will write it, until its thread begins.
    log_writer: Option<Writer>,
    /// Where spans are left, and what will send them.
    pub(super) tracer: Option<Tracer>,
    exporter: Option<Exporter>,
    /// Those that write it, and those of before that still do.
    pub(super) log_threads: Vec<JoinHandle<()>>,
    /// In the order of the plan, as are those below.
    pub(super) upstreams: Vec<Arc<Upstream>>,
    connectors: Vec<Option<Arc<Connector>>>,
    acceptors: Vec<Option<Arc<Acceptor>>>,
    pub(super) services: Vec<Arc<Service>>,
}

impl Parts {
    /// Makes a verified config.
    pub(super) fn make(
        config: Config,
        shared: &Shared,
        before: Option<&Parts>,
    ) -> Result<Parts, StartError> {
        let system = |step| move |cause| StartError::System { step, cause };
        let mut planned = config.clone();
        if let Some(before) = before {
            // They are as many as there were, whatever is wished for, and share out what there is.
            planned.process.workers = u32::try_from(before.plan.workers).ok();
        }
        let plan = Plan::compile(&planned, shared.descriptors);
        let (log, log_writer) = match before {
            Some(before) if before.plan.access_log == plan.access_log => (before.log.clone(), None),
            _ => AccessLog::open(&plan.access_log, &shared.tally, shared.owner)
                .map_err(system("access log"))?,
        };
        let (tracer, exporter) = match (before, &plan.traces) {
            (Some(before), wish) if before.plan.traces == *wish => (before.tracer.clone(), None),
            (_, None) => (None, None),
            (_, Some(settings)) => {
                let (tracer, exporter) = Tracer::open(settings, &shared.tally);
                (Some(tracer), Some(exporter))
            }
        };
        let connectors = plan.upstreams.iter();
        let connectors = connectors.map(|plan| connector(plan, &config, before));
        let connectors: Vec<_> = connectors.collect::<Result<_, _>>()?;
        let upstreams = plan.upstreams.iter().zip(&connectors);
        let upstreams = upstreams.map(|(plan, tls)| upstream(plan, tls, &config, (shared, before)));
        let upstreams: Vec<_> = upstreams.collect::<io::Result<_>>().map_err(system("sticky"))?;
        let acceptors = plan.listeners.iter();
        let acceptors = acceptors.map(|plan| acceptor(plan, &config, before));
        let acceptors: Vec<_> = acceptors.collect::<Result<_, _>>()?;
        let mut parts = Parts {
            number: before.map_or(1, |before| before.number.wrapping_add(1)),
            config,
            plan,
            log,
            log_writer,
            tracer,
            exporter,
            log_threads: Vec::new(),
            upstreams,
            connectors,
            acceptors,
            services: Vec::new(),
        };
        let listeners = parts.plan.listeners.iter().zip(&parts.acceptors);
        let services =
            listeners.map(|(plan, tls)| parts.service(plan, tls.clone(), shared, before));
        let services = services.collect::<io::Result<_>>().map_err(system("split-cookie"));
        parts.services = services?;
        Ok(parts)
    }

    /// Starts the threads that belong to it.
    pub(super) fn begin(&mut self) -> Result<(), StartError> {
        if let Some(writer) = self.log_writer.take() {
            let begun = writer.begin();
            let cause = |cause| StartError::System { step: "start threads", cause };
            self.log_threads.push(begun.map_err(cause)?);
        }
        if let Some(exporter) = self.exporter.take() {
            let cause = |cause| StartError::System { step: "start threads", cause };
            self.log_threads.push(exporter.begin().map_err(cause)?);
        }
        Ok(())
    }

    /// Has the journal know of it, before anything is picked by it.
    pub(super) fn note(&self, shared: &Shared) {
        if let Some(journal) = &shared.journal {
            let listeners = self.plan.listeners.iter().map(section);
            // A pick goes by none of the secrets.
            let (config, _) = self.config.effective_without_secrets();
            journal.note_plan(self.number, listeners.collect(), &config);
            self.upstreams.iter().for_each(|upstream| upstream.keep_journal(journal));
        }
    }

    /// From now on it is in force, as far as it was not handed to anybody.
    pub(super) fn enforce(&self, shared: &Shared) {
        self.upstreams.iter().for_each(Upstream::take_over);
        shared.places.limit(Some(self.plan.connections_max));
        shared.memory.set(self.config.process.memory_max.map(|max| max.0));
        self.services.iter().for_each(|service| service.door.enforce());
    }

    /// What a relay belongs to that began in another process, `on_http` as a tunnel; its listener may have left the config.
    pub(super) fn service_of(
        &self,
        listener: &str,
        on_http: bool,
        shared: &Shared,
    ) -> Arc<Service> {
        let is_it = |service: &&Arc<Service>| {
            *service.listener == *listener && matches!(service.job, Job::Http(_)) == on_http
        };
        if let Some(service) = self.services.iter().find(is_it) {
            return Arc::clone(service);
        }
        Arc::new(Service {
            listener: listener.into(),
            door: Door::new(limits::Rules::default(), Arc::clone(&shared.places)),
            proxied: None,
            tls: None,
            job: Job::Tcp(tcp::Site::closed()),
            log: self.log.clone(),
            meter: Meter::new(&shared.tally),
        })
    }

    /// Everything that is made of files of TLS, by its section.
    pub(super) fn of_files(&self) -> Vec<Sectioned> {
        let listeners = self.plan.listeners.iter().zip(&self.acceptors);
        let listeners =
            listeners.filter_map(|(plan, tls)| Some((section(plan), tls.clone()? as _)));
        let upstreams = self.plan.upstreams.iter().zip(&self.connectors);
        let upstreams = upstreams.filter_map(|(plan, tls)| {
            Some((format!("upstream.{}", plan.rules.name), tls.clone()? as _))
        });
        listeners.chain(upstreams).collect()
    }

    /// The number of a listener of the same name, that speaks the same.
    fn listener(&self, wanted: &ListenerPlan) -> Option<usize> {
        let is_it = |plan: &ListenerPlan| section(plan) == section(wanted);
        self.plan.listeners.iter().position(is_it)
    }

    fn service(
        &self,
        plan: &ListenerPlan,
        tls: Option<Arc<Acceptor>>,
        shared: &Shared,
        before: Option<&Parts>,
    ) -> io::Result<Arc<Service>> {
        let find = |name: &Arc<str>| {
            let upstream = self.upstreams.iter().find(|upstream| upstream.rules.name == *name);
            Arc::clone(upstream.expect("a verified config names only upstreams that exist"))
        };
        let place = Asker {
            plan: self.number,
            listener: self.listener(plan).and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX),
            ..Asker::default()
        };
        let old = before.and_then(|before| Some((before, before.listener(plan)?)));
        let old_service = old.map(|(before, at)| &before.services[at]);
        let meter = Meter::follow(old_service.map(|old| &old.meter), &shared.tally);
        let job = match &plan.job {
            plan::Job::Tcp { rules, routes, upstream, plain } => Job::Tcp(tcp::Site {
                rules: rules.clone(),
                routes: routes.iter().map(|(when, name)| (when.clone(), find(name))).collect(),
                upstream: upstream.as_ref().map(find),
                plain: plain.as_ref().map(find),
                place,
            }),
            plan::Job::Http { rules, routes } => {
                let is_same = |(before, _): &(&Parts, usize)| {
                    before.config.http.get(&*plan.name) == self.config.http.get(&*plan.name)
                };
                let old = match old.filter(is_same).map(|(before, at)| &before.services[at].job) {
                    Some(Job::Http(site)) => Some(site),
                    _ => None,
                };
                let (gate, gates) = gates(rules, routes, old.map(|site| &**site));
                Job::Http(Arc::new(Site {
                    listener: Arc::clone(&plan.name),
                    place,
                    rules: (**rules).clone(),
                    gate,
                    gates,
                    actions: routes
                        .iter()
                        .map(|(_, action)| action.clone().with(find))
                        .collect::<io::Result<_>>()?,
                    routes: Routes::compile(routes.iter().map(|(when, _)| when.clone()).collect()),
                    log: self.log.clone(),
                    meter: Arc::clone(&meter),
                    tracer: self.tracer.clone(),
                }))
            }
        };
        let door = old_service.map(|old| old.door.succeed(plan.door.clone()));
        let fresh = || Door::new(plan.door.clone(), Arc::clone(&shared.places));
        let door = door.unwrap_or_else(fresh);
        Ok(Arc::new(Service {
            listener: Arc::clone(&plan.name),
            door,
            proxied: plan.proxied.clone(),
            tls,
            job,
            log: self.log.clone(),
            meter,
        }))
    }
}

/// The gates of a listener and of its routes; whoever came too often has, whatever else changed.
fn gates(
    rules: &crate::http::Rules,
    routes: &[(Conditions, crate::http::Action<Arc<str>>)],
    old: Option<&Site>,
) -> (Gate, Vec<Gate>) {
    let made = |rules: &GateRules, old: Option<&Gate>| match old {
        Some(old) => old.again(rules),
        None => Gate::new(rules),
    };
    let gates = routes
        .iter()
        .enumerate()
        .map(|(at, (_, action))| made(&action.gate, old.and_then(|site| site.gates.get(at))));
    (made(&rules.gate, old.map(|site| &site.gate)), gates.collect())
}

/// Who goes through handshakes with the backends of an upstream, if they speak TLS.
fn connector(
    plan: &UpstreamPlan,
    config: &Config,
    before: Option<&Parts>,
) -> Result<Option<Arc<Connector>>, StartError> {
    let name = &*plan.rules.name;
    let means = |config: &Config| config.upstream.get(name).map(|it| (it.tls.clone(), it.h2));
    if let Some((before, at)) = before.and_then(|before| Some((before, before.upstream(name)?)))
        && means(&before.config) == means(config)
    {
        return Ok(before.connectors[at].clone());
    }
    let loaded = plan.tls.as_ref().map(Connector::load).transpose();
    loaded.map(|loaded| loaded.map(Arc::new)).map_err(|flaw| StartError::Certificate {
        listener: format!("upstream.{name}"),
        cause: Box::new(flaw),
    })
}

/// Who takes the clients of a listener through their handshakes, if they speak TLS.
fn acceptor(
    plan: &ListenerPlan,
    config: &Config,
    before: Option<&Parts>,
) -> Result<Option<Arc<Acceptor>>, StartError> {
    let means = |config: &Config| -> Option<config::Tls> {
        match plan.job {
            plan::Job::Tcp { .. } => config.tcp.get(&*plan.name)?.tls.clone(),
            plan::Job::Http { .. } => config.http.get(&*plan.name)?.tls.clone(),
        }
    };
    if let Some((before, at)) = before.and_then(|before| Some((before, before.listener(plan)?)))
        && means(&before.config) == means(config)
    {
        return Ok(before.acceptors[at].clone());
    }
    let loaded = plan.tls.as_ref().map(Acceptor::load).transpose();
    loaded
        .map(|loaded| loaded.map(Arc::new))
        .map_err(|flaw| StartError::Certificate { listener: section(plan), cause: Box::new(flaw) })
}

fn upstream(
    plan: &UpstreamPlan,
    tls: &Option<Arc<Connector>>,
    config: &Config,
    (shared, before): (&Shared, Option<&Parts>),
) -> io::Result<Arc<Upstream>> {
    let name = &*plan.rules.name;
    let Some((before, at)) = before.and_then(|before| Some((before, before.upstream(name)?)))
    else {
        return Upstream::new(plan.rules.clone(), tls.clone(), shared.past(name));
    };
    let old = &before.upstreams[at];
    let means_the_same = before.config.upstream.get(name) == config.upstream.get(name);
    if means_the_same && old.reaches_by(tls) {
        return Ok(Arc::clone(old));
    }
    old.succeed(plan.rules.clone(), tls.clone())
}

impl Parts {
    /// Whether an upstream is one of these, by this config or one before.
    pub(super) fn has(&self, upstream: &Upstream) -> bool {
        self.upstream(&upstream.rules.name).is_some()
    }

    fn upstream(&self, name: &str) -> Option<usize> {
        self.upstreams.iter().position(|upstream| *upstream.rules.name == *name)
    }
}
