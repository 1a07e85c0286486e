//! The record of one connection in the making. Whatever becomes of the connection, also a panic, it is written exactly once,
//! unless the connection goes on in another process, which then writes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::greeting::Greeted;
use super::{Job, Service, ip};
use crate::observe::ended::{ClientAddress, Ended, Phases, Why};
use crate::observe::meter::Asked;
use crate::route::StreamAsk;
use crate::tcp::Outcome;
use crate::tls::Shown;

/// The record in the making; dropped without an end (a panic, a worker that could not serve), it says so.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) service: Arc<Service>,
    pub(super) client: ClientAddress,
    /// What the client connected to, where a proxy in front of us says so.
    pub(super) destination: Option<SocketAddr>,
    pub(super) upstream: Option<Arc<str>>,
    /// The name that the client asks for.
    pub(super) name: Option<Arc<str>>,
    pub(super) certificate: Option<Arc<Shown>>,
    pub(super) at: SystemTime,
    pub(super) began: Instant,
    ended: bool,
}

impl Record {
    pub(super) fn begin(service: &Arc<Service>, client: ClientAddress) -> Record {
        let service = Arc::clone(service);
        let (at, began) = (SystemTime::now(), Instant::now());
        let upstream = match &service.job {
            Job::Tcp(site) => {
                site.upstream.as_ref().map(|upstream| Arc::clone(&upstream.rules.name))
            }
            // On HTTP, that is decided by request.
            Job::Http(_) => None,
        };
        let (destination, name, certificate) = (None, None, None);
        Record {
            service,
            client,
            destination,
            upstream,
            name,
            certificate,
            at,
            began,
            ended: false,
        }
    }

    /// Remembers what a client has said of itself, for the line in the log; and what its route goes by.
    pub(super) fn note<'g>(&mut self, greeted: &'g Greeted) -> StreamAsk<'g> {
        self.name.clone_from(&greeted.name);
        let shown = greeted.agreed.as_ref().and_then(|agreed| agreed.shown.as_ref());
        self.certificate = shown.cloned();
        StreamAsk {
            name: greeted.name.as_deref(),
            protocols: &greeted.protocols,
            client: ip(self.client),
            shown: shown.map(|shown| &**shown),
        }
    }

    /// What the route of a client goes by that has said nothing.
    pub(super) fn nothing_known(&self) -> StreamAsk<'static> {
        StreamAsk { name: None, protocols: &[], client: ip(self.client), shown: None }
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.publish(outcome);
    }

    /// The connection goes on in another process, and its record with it.
    pub(super) fn leave(mut self) {
        self.ended = true;
        self.service.meter.handed_over();
    }

    fn publish(&self, outcome: Outcome) {
        let Outcome { why, detail, backend, efforts, carried, spoke, request } = outcome;
        if let Some(request) = request {
            self.publish_request(*request);
        }
        let record = Ended {
            at: self.at,
            client: self.client,
            listener: Arc::clone(&self.service.listener),
            upstream: self.upstream.clone().unwrap_or_else(|| "-".into()),
            backend,
            why,
            detail,
            bytes_up: carried.up,
            bytes_down: carried.down,
            phases: Phases {
                queue: efforts.queue,
                connect: efforts.connect,
                first_byte: carried.first_byte.map(|at| at - self.began),
                total: self.began.elapsed(),
            },
            tried: efforts.tried,
            name: self.name.clone(),
            certificate: self.certificate.clone(),
            request: None,
        };
        // On HTTP, each request has left a line of its own.
        let told_already = matches!(self.service.job, Job::Http(_)) && spoke;
        self.service.meter.ended(&record, told_already);
        if !told_already && self.service.log.takes(record.why, None, None) {
            self.service.log.write(record);
        }
    }
}

impl Record {
    /// The record of a request that became a tunnel.
    fn publish_request(&self, ended: Ended) {
        let log = &self.service.log;
        self.service.meter.asked(&Asked::of(&ended));
        let line = ended.request.as_deref();
        let status = line.and_then(|line| line.status);
        if log.takes(ended.why, status, line.map(|line| line.target.as_bytes())) {
            log.write(ended);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.publish(Outcome::without_backend(Why::InternalError, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::connection::Job;
    use crate::limits::Door;
    use crate::limits::{Places, Rules};
    use crate::observe::access_log::AccessLog;
    use crate::observe::meter::Meter;
    use crate::observe::sheets::ListenerReading;
    use crate::plan::{self, Plan};
    use crate::tcp;
    use crate::upstream::Upstream;

    fn service() -> Arc<Service> {
        let config = Config::parse(
            "log.access = \"off\"\n[upstream.app]\nbackends = \"127.0.0.1:1\"\n[tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        )
        .unwrap();
        let plan = Plan::compile(&config, 1024);
        let (log, _) = AccessLog::open(&plan.access_log, &Arc::default(), None).unwrap();
        let plan::Job::Tcp { rules, .. } = plan.listeners[0].job.clone() else {
            panic!("the config has a TCP listener");
        };
        Arc::new(Service {
            listener: "public".into(),
            door: Door::new(Rules::default(), Places::new(None)),
            proxied: None,
            tls: None,
            job: Job::Tcp(tcp::Site {
                rules,
                routes: Vec::new(),
                upstream: Some(Upstream::new(plan.upstreams[0].rules.clone(), None, None).unwrap()),
                plain: None,
                place: Default::default(),
            }),
            log,
            meter: Meter::new(&Arc::default()),
        })
    }

    fn counts(service: &Service) -> ListenerReading {
        service.meter.reading()
    }

    #[test]
    fn a_panic_in_one_connection_is_recorded_as_our_fault_and_counted_once() {
        let service = service();
        service.meter.accepted();
        let panics = {
            let service = Arc::clone(&service);
            std::thread::spawn(move || {
                let _record = Record::begin(&service, ClientAddress::Unix);
                panic!("as a fault in a connection would");
            })
        };
        assert!(panics.join().is_err());
        let counts = counts(&service);
        assert_eq!(counts.ended[Why::InternalError as usize], 1);
        assert_eq!((counts.ended.iter().sum::<u64>(), counts.accepted), (1, 1));
    }

    #[test]
    fn an_end_that_was_told_is_recorded_once() {
        let service = service();
        service.meter.accepted();
        Record::begin(&service, ClientAddress::Unix)
            .end(Outcome::without_backend(Why::Denied, None));
        assert_eq!(counts(&service).ended.iter().sum::<u64>(), 1);
    }
}
