//! The config compiled into the parts that the rooms are handed: immutable, swapped whole.
//! Everything that can be wrong with a config has been said by `config` before a plan is made.

mod balancing;
mod compress;
mod gate;
mod packet;
mod tls;
mod traces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::budget::{self, Budget};
use evenkeel_balance::{Algorithm, HashOn, health as verdict};
use indexmap::IndexMap;

use crate::config::{self, Address, Balance, Config, Health, Keepalive, Template, value};
use crate::health::{Check, Probe};
use crate::observe::access_log;
use crate::observe::selection::Selection;
use crate::observe::target::To;
use crate::route::{Conditions, StreamConditions, Wanted};
use crate::socket::{KeepaliveTimes, SocketOptions};
use crate::upstream::introduce::SendProxy;
use crate::upstream::{BackendAddress, Entry, EntryPlace};
use crate::{http, limits, listen, proxied, tcp, upstream};

pub(crate) use packet::cut as packet_cut;

/// A whole config, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) connections_max: u32,
    pub(crate) share: Share,
    /// Descriptors of files that stay open for a moment, over all workers.
    pub(crate) open_files: u64,
    pub(crate) drain_timeout: Duration,
    pub(crate) lame_duck: Duration,
    /// Whether connections to backends that have left the config are cut after `drain_timeout`.
    pub(crate) drains_removed: bool,
    pub(crate) nameservers: Vec<std::net::SocketAddr>,
    pub(crate) access_log: access_log::Settings,
    pub(crate) traces: Option<crate::observe::traces::Settings>,
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) listeners: Vec<ListenerPlan>,
}

/// What one worker may use of what there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) pipes: usize,
    pub(crate) files: http::FileShare,
    /// Answers compressed at the same time.
    pub(crate) compress: usize,
}

/// One upstream with its active checks.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamPlan {
    pub(crate) rules: upstream::Rules,
    pub(crate) tls: Option<crate::tls::Outward>,
    pub(crate) probe: Option<Probe>,
}

/// One listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerPlan {
    pub(crate) name: Arc<str>,
    pub(crate) listen: listen::Settings,
    pub(crate) door: limits::Rules,
    pub(crate) proxied: Option<proxied::Rules>,
    pub(crate) tls: Option<crate::tls::Settings>,
    pub(crate) job: Job,
}

/// What is spoken on a listener. Upstreams are still names here.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Tcp {
        rules: tcp::Rules,
        routes: Vec<(StreamConditions, Arc<str>)>,
        upstream: Option<Arc<str>>,
        plain: Option<Arc<str>>,
    },
    Http {
        rules: Box<http::Rules>,
        routes: Vec<(Conditions, http::Action<Arc<str>>)>,
    },
}

impl Plan {
    /// Compiles a verified config for a process that may open `descriptors` files.
    pub(crate) fn compile(config: &Config, descriptors: u64) -> Plan {
        let workers = config.process.worker_count();
        let open_files = open_files(config, descriptors);
        let acme = self::tls::answered_over_http(config);
        let carried = carried_by(descriptors.saturating_sub(open_files));
        Plan {
            workers,
            share: Share {
                pipes: pipes(descriptors) as usize / workers.max(1),
                files: http::FileShare {
                    open_max: open_files as usize / workers.max(1),
                    queue_max: config.process.file_queue_max as usize,
                },
                compress: (config.process.compress_max as usize).div_ceil(workers.max(1)),
            },
            open_files,
            connections_max: config.process.connections_max.unwrap_or(carried),
            drain_timeout: config.process.drain_timeout.0,
            lame_duck: config.process.lame_duck.0,
            drains_removed: config.process.removed_backends == value::RemovedBackends::Drain,
            nameservers: config.process.nameservers.clone(),
            access_log: access_log_settings(&config.log),
            traces: self::traces::settings(&config.log),
            upstreams: config
                .upstream
                .iter()
                .map(|(name, upstream)| upstream_plan(name, upstream, workers))
                .collect(),
            listeners: config
                .tcp
                .iter()
                .map(|(name, listener)| tcp_listener(name, listener))
                .chain(
                    config.http.iter().map(|(name, listener)| http_listener(name, listener, &acme)),
                )
                .collect(),
        }
    }
}

/// Connections that so many descriptors carry: two each, after those for pipes and for ourselves.
pub(crate) fn carried_by(descriptors: u64) -> u32 {
    let ours = (descriptors / 20).clamp(48, 1024) + 2 * pipes(descriptors);
    u32::try_from((descriptors.saturating_sub(ours) / 2).max(1)).unwrap_or(u32::MAX)
}

/// Pipes for bulk transfers, of two descriptors each: a sixteenth of what may be open, and no more than bulk can use.
fn pipes(descriptors: u64) -> u64 {
    (descriptors / 32).min(512)
}

/// Files that stay open for a moment, if there are routes to files at all.
fn open_files(config: &Config, descriptors: u64) -> u64 {
    let mut routes = config.http.values().flat_map(|listener| &listener.route);
    if !routes.any(|route| route.files.is_some() && route.open_files.0.is_some()) {
        return 0;
    }
    config.process.open_files_max.map_or((descriptors / 32).min(1024), u64::from)
}

fn access_log_settings(log: &config::Log) -> access_log::Settings {
    let format = log.access_format.clone().unwrap_or(match log.format {
        value::LogFormat::Text => value::AccessFormat::Text,
        value::LogFormat::Json => value::AccessFormat::Json,
    });
    let skip = log.access_skip.clone().unwrap_or_default();
    let selection = Selection::new(log.access_sample.0, skip.path, skip.status);
    let to = To::of_access(log);
    access_log::Settings { to, format, selection, hide_query: log.hide_query.clone() }
}

fn upstream_plan(name: &str, config: &config::Upstream, workers: usize) -> UpstreamPlan {
    let (active, passive) = match &config.health {
        Health::Passive => (None, true),
        Health::Off => (None, false),
        Health::Active(probe) => (Some(probe), true),
    };
    let rules = upstream::Rules {
        name: name.into(),
        entries: config.backends.iter().map(entry).collect(),
        balance: algorithm(&config.balance),
        key_part: balancing::key_part(&config.balance),
        sticky: config.sticky.as_ref().map(balancing::cookie),
        connect_timeout: config.connect_timeout.0,
        retries: config.retries,
        response_timeout: config.response_timeout.0,
        keep_alive: balancing::keep(config, workers),
        h2: config.h2.then(|| balancing::h2(config)),
        queue_max: config.queue_max,
        queue_timeout: config.queue_timeout.0,
        verdict: verdict::Rules {
            rise: active.map_or(1, |probe| probe.rise),
            fall: active.map_or(1, |probe| probe.fall),
            eject_after: config.eject_after,
            eject_time: config.eject_time.0,
            eject_time_max: config.eject_time_max.0,
            slow_start: config.slow_start.0,
            active: active.is_some(),
            passive,
        },
        outliers: balancing::outliers(config, passive),
        eject_max_percent: config.eject_max_percent.0,
        fail_open_percent: config.fail_open.0,
        sources: config.source.clone(),
        send_proxy: balancing::send_proxy(config),
        transparent: config.transparent,
        options: options(config.nodelay, &config.keepalive, config.user_timeout),
    };
    let told = rules.send_proxy.as_ref().map(SendProxy::own);
    let tls = config.tls.on().map(|tls| tls.compiled(config.h2));
    UpstreamPlan { rules, tls, probe: active.map(|active| Probe { told, ..probe(active) }) }
}

fn entry(backend: &config::Backend) -> Entry {
    let place = match &backend.address {
        Address::Ip(address) => EntryPlace::At(BackendAddress::Ip(*address)),
        Address::Port(port) => EntryPlace::At(BackendAddress::Ip(([127, 0, 0, 1], *port).into())),
        Address::Unix(path) => EntryPlace::At(BackendAddress::Unix(path.clone())),
        Address::Name { host, port } => EntryPlace::Named { host: host.clone(), port: *port },
    };
    Entry {
        place,
        weight: backend.weight,
        backup: backend.backup,
        connections_max: backend.connections_max,
    }
}

fn algorithm(balance: &Balance) -> Algorithm {
    match balance {
        Balance::RoundRobin => Algorithm::RoundRobin,
        Balance::Random => Algorithm::Random,
        Balance::LeastConnections => Algorithm::LeastConnections,
        Balance::PowerOfTwo => Algorithm::PowerOfTwo,
        Balance::LeastLatency => Algorithm::LeastLatency,
        Balance::First => Algorithm::First,
        Balance::Hash { on, bounded_load, .. } => Algorithm::Hash {
            on: match on {
                value::HashOn::Maglev => HashOn::Maglev,
                value::HashOn::Ring => HashOn::Ring,
                value::HashOn::Rendezvous => HashOn::Rendezvous,
            },
            bounded_load: *bounded_load,
        },
    }
}

fn probe(config: &config::Probe) -> Probe {
    let check = if let Some(path) = &config.http {
        let ranges = config.status.iter().map(|range| range.0..=range.1).collect();
        Check::Http(balancing::http_check(path, ranges, config))
    } else if config.send.is_some() || config.expect.is_some() {
        let bytes = |value: &Option<value::Bytestring>| {
            value.as_ref().map_or(Vec::new(), |value| value.0.clone())
        };
        Check::Exchange { send: bytes(&config.send), expect: bytes(&config.expect) }
    } else {
        Check::Connect
    };
    Probe {
        check,
        port: config.port,
        every: config.every.0,
        timeout: config.timeout.0,
        jitter_percent: config.jitter.0,
        told: None,
    }
}

fn tcp_listener(name: &str, config: &config::TcpListener) -> ListenerPlan {
    ListenerPlan {
        name: name.into(),
        listen: listen::Settings {
            addresses: config.listen.clone(),
            backlog: config.backlog,
            options: options(config.nodelay, &config.keepalive, config.user_timeout),
        },
        door: limits::Rules {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            connections_max: config.connections_max,
            client_connections_max: config.client_connections_max,
            client_connections_per_second: config.client_connections_per_second,
        },
        proxied: config.accept_proxy.as_ref().map(gate::proxied),
        tls: config.tls.as_ref().map(self::tls::of_tcp),
        job: Job::Tcp {
            routes: config.route.iter().map(self::tls::stream).collect(),
            upstream: config.upstream.as_deref().map(Arc::from),
            plain: config.plain_upstream.as_deref().map(Arc::from),
            rules: tcp::Rules {
                idle_timeout: config.idle_timeout.0,
                only_client_counts: config.idle_counts != value::IdleCounts::Both,
                max_duration: config.max_duration.map(|most| most.0),
                buffer_max: usize::try_from(config.buffer_max.0).unwrap_or(usize::MAX),
                hello_timeout: config.hello_timeout.0,
                packets: packet::framed(config).map(Box::new),
            },
        },
    }
}

fn http_listener(name: &str, config: &config::HttpListener, acme: &[PathBuf]) -> ListenerPlan {
    let size = |bytes: config::Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
    let rules = http::Rules {
        scheme: if config.tls.is_some() { "https" } else { "http" },
        head: evenkeel_wire::Limits {
            head_max: size(config.head_max),
            line_max: size(config.line_max),
            fields_max: config.headers_max as usize,
        },
        head_timeout: config.head_timeout.0,
        idle_timeout: config.idle_timeout.0,
        tunnel_timeout: config.tunnel_timeout.0,
        request_timeout: config.request_timeout.map(|most| most.0),
        body_max: config.body_max.0,
        buffer_max: size(config.buffer_max),
        requests_max: config.requests_max,
        connect: config.connect,
        merge_slashes: config.merge_slashes,
        trusted_proxies: config.trusted_proxies.clone(),
        forwards: http::Forwards { x_forwarded: config.x_forwarded, forwarded: config.forwarded },
        gate: gate::of_listener(config),
        http1: config.http.contains(&config::HttpVersion::Http11),
        http2: config.http.contains(&config::HttpVersion::Http2).then(|| http2(&config.http2)),
        pages: pages(&config.errors),
        acme: acme.to_vec(),
    };
    let mut routes: Vec<_> = config.route.iter().map(|one| route(config, one)).collect();
    if let Some(upstream) = &config.upstream {
        let target = http::Target::Upstream(upstream.as_str().into());
        routes.push((Conditions::default(), http::Action::new(target)));
    }
    ListenerPlan {
        name: name.into(),
        listen: listen::Settings {
            addresses: config.listen.clone(),
            backlog: config.backlog,
            options: options(config.nodelay, &config.keepalive, config.user_timeout),
        },
        door: limits::Rules {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            connections_max: config.connections_max,
            client_connections_max: config.client_connections_max,
            client_connections_per_second: config.client_connections_per_second,
        },
        proxied: config.accept_proxy.as_ref().map(gate::proxied),
        tls: config.tls.as_ref().map(|tls| self::tls::of_http(tls, &config.http)),
        job: Job::Http { rules: Box::new(rules), routes },
    }
}

fn http2(config: &config::Http2) -> http::Http2 {
    let window = |bytes: config::Bytes| u32::try_from(bytes.0).unwrap_or(u32::MAX);
    http::Http2 {
        streams_max: config.streams_max,
        stream_window: window(config.stream_window),
        connection_window: window(config.connection_window),
        floods: http::Floods {
            resets: config.resets_per_second,
            pings: config.pings_per_second,
            settings: config.settings_per_second,
            empty: config.empty_frames_per_second,
            control: config.control_frames_per_second,
            continuations: config.continuations_max,
            heads: None,
        },
    }
}

fn route(
    listener: &config::HttpListener,
    config: &config::Route,
) -> (Conditions, http::Action<Arc<str>>) {
    let wanted = |value: &String| match value.as_str() {
        "*" => Wanted::Present,
        value => Wanted::Is(value.as_bytes().into()),
    };
    let conditions = Conditions {
        host: config.host.clone(),
        path: config.path.clone(),
        method: config.method.iter().map(|method| method.as_bytes().into()).collect(),
        header: config.header.iter().map(|(n, v)| (n.as_bytes().into(), wanted(v))).collect(),
        query: config.query.iter().map(|(n, v)| (n.as_bytes().into(), wanted(v))).collect(),
        client: config.client.clone(),
        certificate: config.client_certificate.as_ref().map(self::tls::certified),
    };
    let target = if let Some(upstream) = &config.upstream {
        http::Target::Upstream(upstream.as_str().into())
    } else if !config.split.is_empty() {
        http::Target::Split(Box::new(balancing::split(config)))
    } else if let Some(root) = &config.files {
        let or = config.r#try.as_ref().map(|upstream| upstream.0.as_str().into());
        http::Target::Files { folder: Arc::new(folder(root, config)), or }
    } else if let Some(to) = &config.redirect {
        http::Target::Redirect {
            to: template(to, Template::IN_REDIRECTS),
            status: config.redirect_status,
        }
    } else {
        let reply = config.reply.clone().unwrap_or_else(|| config::Reply::new(404));
        http::Target::Reply {
            status: reply.status,
            content_type: reply.content_type,
            body: reply.body,
        }
    };
    let action = http::Action {
        gate: gate::of_route(config),
        forward_auth: config.forward_auth.as_ref().map(gate::forward_auth),
        mirror: config.mirror.as_ref().map(gate::mirror),
        rewrite: gate::rewrite(config),
        forwards: gate::forwards(listener, config),
        request: gate::edits(&config.request_headers),
        response: gate::edits(&config.response_headers),
        response_timeout: config.response_timeout.map(|time| time.0),
        body_max: config.body_max.map(|bytes| bytes.0),
        hold: config.request_buffer.0,
        retry: config.retry.as_ref().map(|retry| Arc::new(self::retry(retry))),
        compress: compress::rules(&config.compress).map(Arc::new),
        pages: pages(&config.errors),
        ..http::Action::new(target)
    };
    (conditions, action)
}

fn retry(config: &config::RouteRetry) -> http::Retry {
    let statuses = config.on.iter().filter_map(|on| match on {
        config::RetryOn::Status(range) => Some(range.0..=range.1),
        config::RetryOn::Gone | config::RetryOn::Late => None,
    });
    http::Retry {
        times: config.times,
        gone: config.on.contains(&config::RetryOn::Gone),
        late: config.on.contains(&config::RetryOn::Late),
        statuses: statuses.collect(),
        try_timeout: config.try_timeout.map(|time| time.0),
        budget: Budget::new(budget::Rules {
            percent: config.budget.0,
            per_second_min: config.at_least,
            within: Duration::from_secs(10),
        }),
    }
}

fn folder(root: &std::path::Path, config: &config::Route) -> http::Folder {
    // A verified config holds only patterns that can be read.
    let cache = config.cache.iter();
    let cache = cache
        .filter_map(|(pattern, value)| Some((glob::Pattern::new(pattern).ok()?, value.clone())));
    http::Folder {
        index: config.index.clone(),
        hidden: config.hidden,
        listing: config.listing,
        precompressed: config.precompressed.clone(),
        cache: cache.collect(),
        keep: config.open_files.0,
        patience: config.file_timeout.0,
        ..http::Folder::new(root.to_owned())
    }
}

/// A verified config has only pages that could be read; one that is gone since then is as if it had not been named.
fn pages(config: &IndexMap<String, PathBuf>) -> http::Pages {
    let read = |(key, path): (&String, &PathBuf)| {
        let (from, to) = value::error_statuses(key)?;
        match value::Page::read(path) {
            Ok(page) => Some((from, to, page)),
            Err(misread) => {
                tracing::error!("{misread}; errors {key} are answered with a page of Evenkeel's");
                None
            }
        }
    };
    http::Pages::new(config.iter().filter_map(read))
}

/// A verified config holds only templates that can be read.
fn template(text: &str, known: &[config::Variable]) -> Template {
    Template::read(text, known).unwrap_or_default()
}

fn options(
    nodelay: bool,
    keepalive: &Keepalive,
    user_timeout: Option<value::Time>,
) -> SocketOptions {
    let keepalive = match keepalive {
        Keepalive::Off => None,
        Keepalive::On(times) => Some(KeepaliveTimes {
            idle: times.idle.0,
            interval: times.interval.0,
            count: times.count,
        }),
    };
    SocketOptions { nodelay, keepalive, user_timeout: user_timeout.map(|time| time.0) }
}
