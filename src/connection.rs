//! The life of one connection, top to bottom: admitted or refused, served, ended with exactly one record.
//! Whatever happens in between, also a panic, the record is written and everything taken is given back.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::limits::{Admitted, Door};
use crate::observe::access_log::AccessLog;
use crate::observe::counts::Tally;
use crate::observe::ended::{ClientAddress, Ended, Phases, Why};
use crate::socket::Socket;
use crate::tcp::{self, Cut, Outcome, Scratch};
use crate::upstream::{Upstream, connect::Efforts};

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) listener: Arc<str>,
    pub(crate) door: Door,
    pub(crate) rules: tcp::Rules,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) log: AccessLog,
    pub(crate) tally: Arc<Tally>,
}

/// An accepted client that has been let in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) fd: OwnedFd,
    pub(crate) client: ClientAddress,
    pub(crate) service: Arc<Service>,
    admitted: Admitted,
}

impl Service {
    /// Lets an accepted client in, or closes it at once with a record of why.
    pub(crate) fn admit(self: &Arc<Self>, fd: OwnedFd, client: ClientAddress) -> Option<Guest> {
        self.tally.accepted();
        match self.door.admit(ip(client), std::time::Instant::now()) {
            Ok(admitted) => Some(Guest { fd, client, service: Arc::clone(self), admitted }),
            Err(why) => {
                drop(fd);
                self.record(client, why);
                None
            }
        }
    }

    fn record(self: &Arc<Self>, client: ClientAddress, why: Why) {
        Record::begin(self, client).end_with(why, None);
    }
}

impl Guest {
    /// Serves the client to its end. Runs on the worker whose event loop shall carry it.
    pub(crate) async fn serve(self, scratch: Rc<RefCell<Scratch>>, cut: Rc<Cut>) {
        let Guest { fd, client, service, admitted } = self;
        let record = Record::begin(&service, client);
        let outcome = match Socket::adopt(fd) {
            Ok(socket) => {
                let key = service.upstream.source_key(ip(client));
                tcp::serve(socket, &service.rules, &service.upstream, key, &scratch, &cut).await
            }
            Err(error) => return record.end_with(Why::OutOfResources, Some(error.to_string())),
        };
        // Places are free before the record can be read, so that nobody sees an end that still counts.
        drop(admitted);
        record.end(outcome);
    }
}

fn ip(client: ClientAddress) -> Option<IpAddr> {
    match client {
        ClientAddress::Ip(address) => Some(address.ip()),
        ClientAddress::Unix => None,
    }
}

/// The record in the making; dropped without an end (a panic), it says so.
struct Record {
    service: Arc<Service>,
    client: ClientAddress,
    at: SystemTime,
    began: Instant,
    ended: bool,
}

impl Record {
    fn begin(service: &Arc<Service>, client: ClientAddress) -> Record {
        let service = Arc::clone(service);
        Record { service, client, at: SystemTime::now(), began: Instant::now(), ended: false }
    }

    fn end_with(self, why: Why, detail: Option<String>) {
        let (efforts, carried) = (Efforts::default(), tcp::relay::Carried::default());
        self.end(Outcome { why, detail, backend: None, efforts, carried });
    }

    fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.publish(outcome);
    }

    fn publish(&self, outcome: Outcome) {
        let Outcome { why, detail, backend, efforts, carried } = outcome;
        let record = Ended {
            at: self.at,
            client: self.client,
            listener: Arc::clone(&self.service.listener),
            upstream: Arc::clone(&self.service.upstream.rules.name),
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
        };
        self.service.tally.ended(&record);
        self.service.log.write(record);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            let (efforts, carried) = (Efforts::default(), tcp::relay::Carried::default());
            self.publish(Outcome {
                why: Why::InternalError,
                detail: None,
                backend: None,
                efforts,
                carried,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Places, Rules};
    use crate::observe::access_log;
    use crate::{Config, plan::Plan};

    fn service() -> Arc<Service> {
        let config = Config::parse(
            "[upstream.app]\nbackends = \"127.0.0.1:1\"\n[tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        )
        .unwrap();
        let plan = Plan::compile(&config, 1024);
        let off = access_log::Settings { to: access_log::Destination::Off, json: false };
        let (log, _) = AccessLog::open(&off).unwrap();
        Arc::new(Service {
            listener: "public".into(),
            door: Door::new(Rules::default(), Places::new(None)),
            rules: plan.listeners[0].tcp.clone(),
            upstream: Upstream::new(plan.upstreams[0].rules.clone()),
            log,
            tally: Arc::default(),
        })
    }

    #[test]
    fn a_panic_in_one_connection_is_recorded_as_our_fault_and_counted_once() {
        let service = service();
        service.tally.accepted();
        let panics = {
            let service = Arc::clone(&service);
            std::thread::spawn(move || {
                let _record = Record::begin(&service, ClientAddress::Unix);
                panic!("as a fault in a connection would");
            })
        };
        assert!(panics.join().is_err());
        let counts = service.tally.counts();
        assert_eq!((counts.ended_by(Why::InternalError), counts.open), (1, 0));
    }

    #[test]
    fn an_end_that_was_told_is_recorded_once() {
        let service = service();
        service.tally.accepted();
        Record::begin(&service, ClientAddress::Unix).end_with(Why::Denied, None);
        let ended: u64 = service.tally.counts().ended.iter().map(|(_, count)| count).sum();
        assert_eq!(ended, 1);
    }
}
