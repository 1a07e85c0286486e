//! The life of one connection, top to bottom: admitted or refused, served, ended with exactly one record.
//! Whatever happens in between, also a panic, the record is written and everything taken is given back.

mod greeting;
mod handed;
mod known;
mod record;

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::http;
use crate::limits::{Admitted, Door};
use crate::link::Link;
use crate::observe::access_log::AccessLog;
use crate::observe::ended::{ClientAddress, Why};
use crate::observe::journal::Asker;
use crate::observe::meter::Meter;
use crate::proxied::{self, Whose};
use crate::socket::Socket;
use crate::tcp::packets::Framed;
use crate::tcp::{self, Cut, Outcome, Scratch};
use crate::tls::{Acceptor, Agreed, Pace};
use crate::upstream::Upstream;
use crate::upstream::introduce::Known;
use greeting::{Greeted, Not};
pub(crate) use handed::{Adopted, Handed, Parcel};
pub(crate) use known::Introduced;
use record::Record;

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) listener: Arc<str>,
    pub(crate) door: Door,
    /// Which proxies say for whom they connect; none where nobody is asked.
    pub(crate) proxied: Option<proxied::Rules>,
    /// Who takes clients through a handshake; none where they speak in clear.
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) job: Job,
    pub(crate) log: AccessLog,
    pub(crate) meter: Arc<Meter>,
}

/// What is served at an address at this moment; replaced whole by each new config.
#[derive(Debug)]
pub(crate) struct Slot {
    service: ArcSwap<Service>,
    /// Its listener has left the config.
    is_closed: AtomicBool,
    /// Where its listener has moved.
    moved: OnceLock<Arc<Slot>>,
}

impl Slot {
    pub(crate) fn new(service: Arc<Service>) -> Arc<Slot> {
        Arc::new(Slot {
            service: ArcSwap::new(service),
            is_closed: AtomicBool::new(false),
            moved: OnceLock::new(),
        })
    }

    /// From now on its listener is found there: what has come in here goes by it too.
    pub(crate) fn move_to(&self, other: Arc<Slot>) {
        let _ = self.moved.set(other);
    }

    /// From now on nothing is served here; what has come in is done with in order, as far as it can be.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// What is served now.
    pub(crate) fn now(&self) -> Arc<Service> {
        self.service.load_full()
    }

    /// Serves this from the next connection on.
    pub(crate) fn replace(&self, service: Arc<Service>) {
        self.service.store(service);
    }

    /// Lets an accepted client in, or closes it at once with a record of why.
    pub(crate) fn admit(self: &Arc<Self>, fd: OwnedFd, client: ClientAddress) -> Option<Guest> {
        let Some((record, admitted)) = self.now().admit(client) else {
            // Its record is written before it can see the end.
            drop(fd);
            return None;
        };
        Some(Guest { fd, record, admitted, slot: Arc::clone(self) })
    }

    /// The site that requests go by now; none if HTTP is no longer spoken here.
    fn site(&self) -> Option<Arc<http::Site>> {
        if let Some(moved) = self.moved.get() {
            return moved.site();
        }
        match &self.service.load().job {
            Job::Http(site) if !self.is_closed.load(Relaxed) => Some(Arc::clone(site)),
            Job::Http(_) | Job::Tcp(_) => None,
        }
    }
}

/// What is spoken on a listener, and where it leads.
#[derive(Debug)]
pub(crate) enum Job {
    Tcp(tcp::Site),
    Http(Arc<http::Site>),
}

impl Job {
    /// The names of the upstreams that it leads to, each once.
    pub(crate) fn upstreams(&self) -> Vec<Arc<str>> {
        let all: Vec<_> = match self {
            Job::Tcp(site) => {
                let routed = site.routes.iter().map(|(_, upstream)| upstream);
                routed.chain(&site.upstream).chain(&site.plain).collect()
            }
            Job::Http(site) => {
                site.actions.iter().flat_map(|action| action.target.upstreams()).collect()
            }
        };
        let mut names: Vec<Arc<str>> = Vec::new();
        for upstream in all {
            if !names.contains(&upstream.rules.name) {
                names.push(Arc::clone(&upstream.rules.name));
            }
        }
        names
    }
}

/// What all connections of one worker share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) http: Rc<http::Local>,
    pub(crate) packets: tcp::packets::PacketPool,
    pub(crate) pace: Rc<Pace>,
    /// Where connections go that are to go on in another process.
    pub(crate) leaving: RefCell<Option<mpsc::UnboundedSender<Parcel>>>,
}

/// An accepted client that has been let in. Dropped unserved, it still leaves its record.
#[derive(Debug)]
pub(crate) struct Guest {
    fd: OwnedFd,
    record: Record,
    admitted: Admitted,
    slot: Arc<Slot>,
}

impl Service {
    /// Lets an accepted client in, or leaves a record of why not.
    fn admit(self: &Arc<Self>, client: ClientAddress) -> Option<(Record, Admitted)> {
        self.meter.accepted();
        let record = Record::begin(self, client);
        let admitted = match &self.proxied {
            None => self.door.admit(ip(client), std::time::Instant::now()),
            // Who it is will be seen.
            Some(rules) if rules.trusts(client) => self.door.admit(None, std::time::Instant::now()),
            Some(_) => Err(Why::Denied),
        };
        match admitted {
            Ok(admitted) => Some((record, admitted)),
            Err(why) => {
                record.end(Outcome::without_backend(why, None));
                None
            }
        }
    }
}

impl Guest {
    /// Serves the client to its end. Runs on the worker whose event loop shall carry it; `stay` is dropped when it is
    /// over, however that comes.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps each argument twice, for as long as it runs"
    )]
    pub(crate) fn serve<S>(
        mut self,
        desk: Rc<Desk>,
        cut: Rc<Cut>,
        stay: S,
    ) -> impl Future<Output = ()> + use<S> {
        async move {
            let _stay = stay;
            let outcome = match Socket::adopt(self.fd) {
                Err(error) => {
                    Some(Outcome::without_backend(Why::OutOfResources, Some(error.to_string())))
                }
                Ok(socket) => {
                    let turned_away = if self.record.service.proxied.is_some() {
                        // Boxed, so that the room for it is given back when it is done.
                        Box::pin(identify(&socket, &mut self.record, &mut self.admitted, &cut))
                            .await
                            .err()
                    } else {
                        None
                    };
                    let service = Arc::clone(&self.record.service);
                    match (turned_away, &service.job) {
                        (Some((why, detail)), _) => Some(Outcome::without_backend(why, detail)),
                        // Each is boxed, so that none carries the room for another.
                        (None, Job::Tcp(site)) => match site.rules.packets.as_deref() {
                            None => {
                                let record = &mut self.record;
                                Box::pin(serve_tcp(socket, site, record, &desk, &cut)).await
                            }
                            Some(framed) => {
                                let (site, record) = ((site, framed), &mut self.record);
                                let served = serve_packets(socket, site, record, &desk, &cut);
                                Some(Box::pin(served).await)
                            }
                        },
                        (None, Job::Http(site)) => {
                            let (site, record) = ((site, &*self.slot), &mut self.record);
                            Box::pin(serve_http(socket, site, record, &desk, &cut)).await
                        }
                    }
                }
            };
            // Places are free before the record can be read, so that nobody sees an end that still counts.
            drop(self.admitted);
            match outcome {
                Some(outcome) => self.record.end(outcome.judged(&cut)),
                None => self.record.leave(),
            }
        }
    }
}

/// Learns from a proxy in front of us whose connection it is, and lets that client in or not.
async fn identify(
    socket: &Socket,
    record: &mut Record,
    admitted: &mut Admitted,
    cut: &Cut,
) -> Result<(), (Why, Option<String>)> {
    let service = Arc::clone(&record.service);
    let Some(rules) = &service.proxied else { return Ok(()) };
    let header = tokio::select! {
        biased;
        header = tokio::time::timeout(rules.timeout, proxied::take_header(socket, rules.optional)) => header,
        () = cut.asked() => return Err((Why::DrainCut, None)),
    };
    match header {
        Ok(Ok(Whose::Client { source, destination })) => {
            (record.client, record.destination) = (ClientAddress::Ip(source), Some(destination));
            cut.seen().is_of(record.client);
        }
        // Such as its health checks: what is demanded of clients is not for them.
        Ok(Ok(Whose::Own)) => return Ok(()),
        Ok(Ok(Whose::Untold)) => {}
        Ok(Err(failed)) => return Err((Why::ProxyHeader, Some(failed.to_string()))),
        // Some protocols begin with the server's word.
        Err(_) if rules.optional && socket.is_quiet() => {}
        Err(_) => {
            let late = format!("no whole PROXY header within {:?}", rules.timeout);
            return Err((Why::ProxyHeader, Some(late)));
        }
    }
    let now = std::time::Instant::now();
    service.door.admit_known(admitted, ip(record.client), now).map_err(|why| (why, None))
}

/// What a backend wants to hear first of this client.
fn told(
    upstream: &Upstream,
    record: &Record,
    link: &Link,
    agreed: Option<&Agreed>,
) -> Option<Box<[u8]>> {
    let how = upstream.rules.send_proxy.as_ref()?;
    let destination = record.destination.or_else(|| link.socket().local_address());
    let known = Known {
        ends: record.client.address().zip(destination),
        name: record.name.as_deref(),
        protocol: link.protocol(),
        tls: agreed.map(Agreed::known),
        id: None,
    };
    Some(how.header(&known))
}

/// Finds out where a connection goes.
async fn lead<'s>(
    socket: Socket,
    site: &'s tcp::Site,
    record: &mut Record,
    desk: &Desk,
    cut: &Cut,
) -> Result<(tcp::Client, &'s Arc<Upstream>), Box<Outcome>> {
    let tls = record.service.tls.clone();
    let mut agreed = None;
    let (link, upstream) = if tls.is_none() && !site.looks_first() {
        (Link::Plain(socket), site.upstream.as_ref().map(|upstream| (upstream, 0)))
    } else {
        // Boxed, so that the room for it is given back when it is done.
        let greeted = async {
            match &tls {
                Some(tls) => greeting::secure(tls, socket, &record.service.meter, desk, cut).await,
                None => greeting::look(socket, site.rules.hello_timeout, cut).await,
            }
        };
        match Box::pin(greeted).await {
            Ok(greeted) => {
                let upstream = site.find(&record.note(&greeted));
                if upstream.is_none() {
                    greeting::tell_unrecognized(&greeted.link);
                }
                agreed.clone_from(&greeted.agreed);
                (greeted.link, upstream)
            }
            Err(Not::Tls(socket)) => {
                let goes_on = match &tls {
                    Some(tls) => tls.allows_plain().then(|| site.find(&record.nothing_known())),
                    None => Some(site.plain.as_ref().map(|upstream| (upstream, 0))),
                };
                let Some(upstream @ Some(_)) = goes_on else {
                    let detail = Some("it does not speak TLS".to_owned());
                    return Err(Box::new(Outcome::without_backend(Why::TlsFailed, detail)));
                };
                (Link::Plain(socket), upstream)
            }
            Err(Not::Alive(outcome)) => return Err(outcome),
        }
    };
    let Some((upstream, route)) = upstream else {
        return Err(Box::new(Outcome::without_backend(Why::NoRoute, None)));
    };
    record.upstream = Some(Arc::clone(&upstream.rules.name));
    let key = upstream.stream_key(ip(record.client), record.name.as_deref());
    let told = told(upstream, record, &link, agreed.as_deref());
    let port = record.client.address().map_or(0, |address| address.port());
    let address = ip(record.client);
    let asker = Asker { route, client: address, ..site.place };
    let client = tcp::Client { link, key, told, address, port, asker };
    Ok((client, upstream))
}

/// Carries the bytes of a connection to where it goes; none if it goes on in another process.
async fn serve_tcp(
    socket: Socket,
    site: &tcp::Site,
    record: &mut Record,
    desk: &Desk,
    cut: &Cut,
) -> Option<Outcome> {
    match lead(socket, site, record, desk, cut).await {
        Ok((client, to)) => {
            let served = tcp::serve(client, &site.rules, to, &desk.scratch, cut).await;
            // Boxed, as most never need the room for it.
            Box::pin(handed::settle(served, record, desk, cut)).await
        }
        Err(outcome) => Some(*outcome),
    }
}

/// The same packet by packet.
async fn serve_packets(
    socket: Socket,
    (site, framed): (&tcp::Site, &Framed),
    record: &mut Record,
    desk: &Desk,
    cut: &Cut,
) -> Outcome {
    match lead(socket, site, record, desk, cut).await {
        Ok((client, to)) => match framed {
            Framed::ByPacket(packets) => {
                let (rules, worker) = ((&site.rules, packets), (&desk.scratch, &desk.packets));
                tcp::packets::serve(client, rules, to, worker, cut).await
            }
            Framed::ByConnection(whole) => {
                let rules = (&site.rules, whole);
                Box::pin(tcp::packets::whole::serve(client, rules, to, &desk.scratch, cut)).await
            }
        },
        Err(outcome) => *outcome,
    }
}

/// A client of HTTP as it is served.
fn http_client(
    record: &Record,
    link: Link,
    scheme: &'static str,
    agreed: Option<Arc<Agreed>>,
) -> Box<http::Client> {
    let (address, local) = (record.client, record.destination);
    Box::new(http::Client { link, address, local, scheme, agreed, before: None })
}

/// Takes a client of HTTP through its handshake, or says how it ended.
async fn secure_http(
    tls: &Acceptor,
    socket: Socket,
    site: &Arc<http::Site>,
    record: &mut Record,
    desk: &Desk,
    cut: &Cut,
) -> Result<Box<http::Client>, Box<Outcome>> {
    let greeted = greeting::secure(tls, socket, &record.service.meter, desk, cut).await;
    match greeted {
        Ok(greeted) => {
            record.note(&greeted);
            let Greeted { link, agreed, .. } = greeted;
            Ok(http_client(record, link, site.rules.scheme, agreed))
        }
        Err(Not::Tls(socket)) if tls.allows_plain() => {
            Ok(http_client(record, Link::Plain(socket), "http", None))
        }
        Err(Not::Tls(socket)) => {
            let refused = http::refuse_plain(socket, site, record.client, &desk.http, cut);
            Err(Box::new(refused.await))
        }
        Err(Not::Alive(outcome)) => Err(outcome),
    }
}

/// Serves requests to the last; none if the connection goes on in another process.
async fn serve_http(
    socket: Socket,
    (site, slot): (&Arc<http::Site>, &Slot),
    record: &mut Record,
    desk: &Desk,
    cut: &Cut,
) -> Option<Outcome> {
    let client = match record.service.tls.clone() {
        None => http_client(record, Link::Plain(socket), site.rules.scheme, None),
        // Boxed, so that the room for a handshake is given back when it is done.
        Some(tls) => match Box::pin(secure_http(&tls, socket, site, record, desk, cut)).await {
            Ok(client) => client,
            Err(outcome) => return Some(*outcome),
        },
    };
    handed::serve_http(client, (site, slot), record, desk, cut).await
}

fn ip(client: ClientAddress) -> Option<IpAddr> {
    match client {
        ClientAddress::Ip(address) => Some(address.ip()),
        ClientAddress::Told(address) => Some(address),
        ClientAddress::Unix => None,
    }
}
