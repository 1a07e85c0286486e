//! What a person may write, as types: every section, key, default and meaning of the config file.
//! Parsing, problems and the reference page all follow from these declarations; nothing else names a key.
//! A section is declared once with `section!`, so that a key cannot exist in the parser and not in the docs.

#[macro_use]
mod section;
pub(crate) mod accounts;
mod admin;
mod balancing;
mod changes;
pub(crate) mod edit;
mod environment;
mod gate;
mod http;
mod include;
mod log;
mod packet;
mod parse;
pub mod problem;
mod read;
mod reference;
mod renamed;
pub(crate) mod secrets;
pub(crate) mod stamp;
#[cfg(test)]
mod tests;
mod tls;
mod users;
pub mod value;
mod verify;
pub(crate) mod written;

use indexmap::IndexMap;

pub use admin::{Admin, AdminTls};
pub use balancing::{EjectErrors, EjectLatency, SplitShare, Sticky};
pub use changes::changes;
pub use gate::{BasicAuth, ForwardAuth, Mirror, RateLimit};
pub use http::{
    ClientCertificate, Compression, H2Limits, HeaderEdits, Http2, HttpListener, IdleConnections,
    Reply, Route, RouteRetry,
};
pub use log::{Rotation, Syslog};
pub use packet::{LastReply, Packet, PacketId, Ping, Prologue};
pub use parse::Loaded;
pub use problem::{Misread, Problem, Problems, Severity};
pub use section::{Field, Section};
pub(crate) use tls::ClientDemand;
pub use tls::{Acme, Certificate, Tls, UpstreamTls};
pub use users::Users;
pub use value::*;
pub use verify::{Complaint, verify};

section! {
    /// A whole config file.
    pub struct Config {
        /// More files to read, as paths or globs relative to this file. Each may hold every section except `[process]`, `[log]` and `[admin]`.
        include: Vec<String> = Vec::new(),
        /// The process as a whole.
        process: Process = Process::default(),
        /// Where diagnostics and the access log go.
        log: Log = Log::default(),
        /// How to speak to the running process.
        admin: Admin = Admin::default(),
        /// Named groups of backends: `[upstream.NAME]`.
        upstream: IndexMap<String, Upstream> = IndexMap::new(),
        /// TCP listeners: `[tcp.NAME]`.
        tcp: IndexMap<String, TcpListener> = IndexMap::new(),
        /// HTTP listeners: `[http.NAME]`.
        http: IndexMap<String, HttpListener> = IndexMap::new(),
    }
}

section! {
    /// `[process]`: the process as a whole.
    pub struct Process {
        /// Worker threads that carry traffic. Default: one per core.
        workers: Option<u32> = None,
        /// Client connections served at the same time, over all listeners. Default: as many as the descriptor limit carries.
        connections_max: Option<u32> = None,
        /// Files of `[http.NAME]` routes kept open for a moment, over all workers; see `open-files`. Default: a part of the descriptor limit.
        open_files_max: Option<u32> = None,
        /// Requests of one worker that wait for a file which is not in memory; more are answered with 503.
        file_queue_max: u32 = 1024,
        /// Answers compressed at the same time, over all workers, each of which has its share; more go as they are. Each takes up to 2 MiB of memory, at the highest `level` up to 4 MiB.
        compress_max: u32 = 128,
        /// How long open connections may go on after a request to stop, before they are cut.
        drain_timeout: Time = Time::seconds(30),
        /// How long to go on accepting after a request to stop, so that a balancer in front can notice first.
        lame_duck: Time = Time::seconds(0),
        /// What becomes of relayed connections and tunnels whose backend a reload has removed: they go on, or have `drain-timeout` to end.
        removed_backends: RemovedBackends = RemovedBackends::Keep,
        /// Reload when the config file, or a file that it includes, has changed.
        watch: bool = false,
        /// The most memory to use. Near it, connections that were idle for longest are closed; at it, new ones are refused. Default: 80 % of the limit of the control group, without one none.
        memory_max: Option<Bytes> = None,
        /// The user to become once every address is listened on: a name or a number. Only root can. Absent: whoever started it.
        user: Option<Account> = None,
        /// With `user`: the group to become, by name or number. Default: the user's own.
        group: Option<Account> = None,
        /// How far the process locks itself in once it serves: files (Landlock) and system calls (seccomp). `"auto"`: as far as the kernel allows; `"strict"`: only what this config names, ports too, and no start where the kernel cannot do all of it; `"off"`: not at all.
        sandbox: Sandbox = Sandbox::Auto,
        /// A file that has the process number while the process runs.
        pid_file: Option<std::path::PathBuf> = None,
        /// Go into the background once every address is listened on; the same as `evenkeel run --daemon`.
        daemon: bool = false,
        /// DNS servers for backend names. Default: those of the system.
        nameservers: Vec<std::net::SocketAddr> = Vec::new(),
    }
}

impl Process {
    /// How many workers: one for each core, where nothing is said.
    pub(crate) fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, |workers| workers as usize)
    }
}

section! {
    /// `[log]`: where diagnostics and the access log go.
    pub struct Log {
        /// The least severe diagnostics to print. The environment variable `EVENKEEL_LOG` overrides it.
        level: Level = Level::Info,
        /// A file that diagnostics go to, instead of where `to` says. With `daemon`, standard error ends when the process has started. Absent: none.
        file: Option<std::path::PathBuf> = None,
        /// Where diagnostics go: `"stderr"`, a syslog (`"syslog"` for `/dev/log`, `"syslog:10.0.0.1:514"` for UDP, `"syslog:tcp:10.0.0.1:601"` for TCP), or `"journald"`.
        to: LogTo = LogTo::Stderr,
        /// How diagnostics and access lines are written.
        format: LogFormat = LogFormat::Text,
        /// Where the access log goes: `"stdout"`, `"stderr"`, `"off"`, a file, or a syslog or journald as in `to`. A file by the name of one of these words is written `"./syslog"`.
        access: AccessTo = AccessTo::Stdout,
        /// What an access line looks like: `"text"`, `"json"`, `"common"`, `"combined"`, or text of your own with variables in braces. Absent: as `format` says.
        access_format: Option<AccessFormat> = None,
        /// The share of access lines that is written of connections and requests that ended well. Failures are always written.
        access_sample: Percent = Percent(100),
        /// Requests that have no access line.
        access_skip: Option<AccessSkip> = None,
        /// Parameters in the query of a request whose values access lines show as `***`, in any case of letters. `[]`: none.
        hide_query: Vec<String> = secrets::parameters(),
        /// Begin log files anew by themselves, by size or age. Absent: they grow until somebody moves them away and sends the signal USR1.
        rotate: Option<Rotation> = None,
        /// What messages to a syslog say of where they come from.
        syslog: Syslog = Syslog::default(),
        /// A collector of OpenTelemetry that gets spans of HTTP requests, as `"http://HOST:PORT"`: OTLP over HTTP, in JSON. Absent: none.
        traces: Option<Collector> = None,
        /// With `traces`: the share of requests that leave a span, where no trusted proxy has decided that.
        traces_sample: Percent = Percent(1),
        /// Where the journal of picks is kept: `"auto"` for a folder on memory (tmpfs), `"off"`, or a folder of your own.
        journal: JournalTo = JournalTo::Auto,
        /// How much of it is kept for each worker, and once more for notes of what has changed; less where that is more than half of what is free. It is taken at the start and never grows: the oldest picks are forgotten. 4 MiB hold the last 26,000 requests of a worker.
        journal_size: Bytes = Bytes(4 * 1024 * 1024),
    }
}

section! {
    /// `access-skip`: requests without an access line. All conditions that are written must hold; of one with several values, any.
    pub struct AccessSkip {
        /// Paths, written as those of a route.
        path: Vec<PathPattern> = Vec::new(),
        /// Statuses, as `200` or `"200-299"`.
        status: Vec<StatusRange> = Vec::new(),
    }
}

section! {
    /// `accept-proxy` of a listener: proxies in front of us that send a PROXY header, version 1 or 2, before anything else. The client it names is the client for limits, networks, hashing, routes, headers and the log. What connects over a Unix socket counts as such a proxy.
    pub struct AcceptProxy {
        /// Networks of these proxies. Connections from anywhere else are refused.
        from: Vec<ipnet::IpNet> = required,
        /// Whether they may also send no header. Whoever is behind such a proxy can then write one, and be any address.
        optional: bool = false,
        /// How long the header may take.
        timeout: Time = Time::seconds(3),
    }
}

section! {
    /// `[upstream.NAME]`: a group of backends with its balancing, health and limits.
    pub struct Upstream {
        /// The backends, as addresses or tables.
        backends: Vec<Backend> = required,
        /// Which backend the next connection goes to.
        balance: Balance = Balance::RoundRobin,
        /// HTTP: a cookie that keeps a client with its backend, by name or as a table.
        sticky: Option<Sticky> = None,
        /// How long connecting to one backend may take.
        connect_timeout: Time = Time::seconds(3),
        /// Further backends to try when connecting to one failed and no byte has been sent.
        retries: u32 = 1,
        /// HTTP: how long a backend may take to begin its answer, connecting included.
        response_timeout: Time = Time::seconds(60),
        /// HTTP: connections that stay open between two requests, or `"off"`.
        keep_alive: KeepAlive = KeepAlive::On(IdleConnections::default()),
        /// HTTP: speak HTTP/2 with the backends, many requests on one connection.
        h2: bool = false,
        /// With `h2`: requests at the same time on one connection. A backend may allow fewer.
        streams_max: u32 = 100,
        /// With `h2`: what a backend may send.
        h2_limits: H2Limits = H2Limits::default(),
        /// Connections that may wait when every usable backend is at its `connections-max`.
        queue_max: u32 = 1000,
        /// How long a connection may wait for a place.
        queue_timeout: Time = Time::seconds(3),
        /// Active checks, or `"off"` for no health at all. Absent: passive ejection only.
        health: Health = Health::Passive,
        /// Consecutive failures (connect failures, resets before any byte passed) after which a backend is ejected.
        eject_after: u32 = 5,
        /// HTTP: eject a backend for the share of its answers that are 5xx. Absent: not.
        eject_errors: Option<EjectErrors> = None,
        /// HTTP: eject a backend that is this many times slower than the others. Absent: not.
        eject_latency: Option<EjectLatency> = None,
        /// How long the first ejection lasts; each further one in a row lasts that much longer.
        eject_time: Time = Time::seconds(10),
        /// The longest ejection.
        eject_time_max: Time = Time::seconds(300),
        /// The largest share of backends that may be ejected passively at the same time. The last usable one never is.
        eject_max_percent: Percent = Percent(50),
        /// How long a backend that came back takes to reach its full weight.
        slow_start: Time = Time::seconds(0),
        /// Ignore health when fewer than this share of the backends is usable; `0` means never.
        fail_open: Percent = Percent(0),
        /// Speak TLS with the backends, health checks included: `true`, or a table.
        tls: Toggle<UpstreamTls> = Toggle::Off,
        /// Tell backends for whom we connect, before anything else on each connection and in health checks (PROXY protocol): `"v1"` or `"v2"`. The backends must expect it. On HTTP, each request then gets a connection of its own.
        send_proxy: Option<SendProxy> = None,
        /// With `send-proxy = "v2"`: what is told besides addresses: `"authority"`, `"alpn"`, `"ssl"`, `"unique-id"`.
        send_proxy_tlvs: Vec<ProxyTlv> = Vec::new(),
        /// Connect from the client's own address (IP_TRANSPARENT). It takes the right CAP_NET_ADMIN, and routes that bring the answers back here. On HTTP, each request then gets a connection of its own.
        transparent: bool = false,
        /// Local addresses to connect from, used in turn. More addresses mean more source ports.
        source: Vec<std::net::IpAddr> = Vec::new(),
        /// Send small writes at once (TCP_NODELAY).
        nodelay: bool = true,
        /// TCP keepalive probes towards backends, or `"off"`.
        keepalive: Keepalive = Keepalive::Off,
        /// How long sent data may stay unacknowledged before the kernel gives the connection up (TCP_USER_TIMEOUT).
        user_timeout: Option<Time> = None,
    }
}

section! {
    /// One backend, or every address behind a name.
    pub struct Backend from address {
        /// `IP:PORT`, `NAME:PORT` or `unix:/path`.
        address: Address = required,
        /// Its share of the traffic against the others; `0` takes it out of rotation (drained).
        weight: u32 = 1,
        /// Used only while no other backend is usable.
        backup: bool = false,
        /// Connections it may have at the same time. Absent: no limit.
        connections_max: Option<u32> = None,
    }
}

section! {
    /// Active health checks. Exactly one of `tcp`, `send`/`expect` or `http` says what is tried; with none, connecting is.
    pub struct Probe {
        /// Connecting is enough.
        tcp: bool = false,
        /// Bytes to send after connecting, as text or as `hex:...`.
        send: Option<Bytestring> = None,
        /// Bytes the answer must begin with, as text or as `hex:...`.
        expect: Option<Bytestring> = None,
        /// Path of an HTTP request.
        http: Option<String> = None,
        /// The method of that request.
        method: ProbeMethod = ProbeMethod::Get,
        /// The `Host` of that request. Default: the backend's address.
        host: Option<String> = None,
        /// More headers of that request.
        headers: IndexMap<String, String> = IndexMap::new(),
        /// The statuses that count as healthy, as `200` or `200-299`.
        status: Vec<StatusRange> = vec![StatusRange(200, 399)],
        /// Text, or bytes as `hex:...`, that must occur in the first 64 KiB of the answer's body.
        body: Option<Bytestring> = None,
        /// A port to check other than the one that carries traffic.
        port: Option<u16> = None,
        /// Time from one check to the next.
        every: Time = Time::seconds(2),
        /// How long one check may take.
        timeout: Time = Time::seconds(2),
        /// Good checks in a row that make an unhealthy backend healthy.
        rise: u32 = 2,
        /// Failed checks in a row that make a healthy backend unhealthy.
        fall: u32 = 3,
        /// Random variation of `every`, so that checks do not come in step.
        jitter: Percent = Percent(10),
    }
}

section! {
    /// `[tcp.NAME]`: addresses to accept TCP connections on, and where they go.
    pub struct TcpListener {
        /// Addresses to listen on: `IP:PORT`, `[IP6]:PORT`, `:PORT` for all addresses, `unix:/path`.
        listen: Vec<Address> = required,
        /// The upstream that connections go to which no route takes.
        upstream: Option<String> = None,
        /// Routes by what TLS clients ask for, tried in written order: `[[tcp.NAME.route]]`. Without `tls` their ClientHello is only looked at, and TLS passes through to the backends.
        route: Vec<TcpRoute> = Vec::new(),
        /// With routes and without `tls`: the upstream of clients that do not begin as TLS does. Absent: they are refused.
        plain_upstream: Option<String> = None,
        /// With routes and without `tls`: how long a ClientHello may take.
        hello_timeout: Time = Time::seconds(10),
        /// Take clients through TLS: a table with a certificate and its key. Absent: bytes pass as they are.
        tls: Option<Tls> = None,
        /// How the stream is cut into packets: a protocol's name, or a table with `length` or `end`. Only whole packets are passed on, and none that is too long.
        packet: Option<Packet> = None,
        /// Whether a backend is picked for each connection, or for each packet of it.
        balance_per: BalancePer = BalancePer::Connection,
        /// A packet that a backend gets before those of a client, and that names the client. With `packet`, by connection.
        prologue: Option<Prologue> = None,
        /// Put 26 bytes before the body of every packet to a backend: the client's address (16 bytes, IPv4 mapped into IPv6), its port (2) and a number of the connection (8). With a `length` field, which counts them.
        client_prefix: bool = false,
        /// By packet: what comes back for each. Replies go to the client in the order of its packets.
        replies: Replies = Replies::One,
        /// With `replies = "many"`: what the last reply to a packet has in it.
        last_reply: Option<LastReply> = None,
        /// By packet: the id by which replies are matched to packets. Then they go to the client as they come, in any order.
        r#match: Option<PacketId> = None,
        /// By packet: a packet of clients, such as a heartbeat, that is answered here in its turn.
        ping: Option<Ping> = None,
        /// By packet: the reply to a packet whose own cannot be had, as text or as `hex:...`. Absent: the client's connection ends.
        error_reply: Option<Bytestring> = None,
        /// By packet: packets of one client that may be under way at the same time.
        in_flight_max: u32 = 64,
        /// By packet: packets that may be under way on one connection to a backend.
        backend_in_flight_max: u32 = 32,
        /// By packet: whether a packet may be sent again whose backend was lost after it may have had it.
        retry: PacketRetry = PacketRetry::Unsent,
        /// End a connection on which nothing has passed for this long; `"off"` for never.
        idle_timeout: Limit = Limit::seconds(600),
        /// Whose bytes count against `idle-timeout`.
        idle_counts: IdleCounts = IdleCounts::Both,
        /// Accepted for users of Swoole; only bounds how late `idle-timeout` may strike, and it is exact without it.
        heartbeat_check_interval: Option<Time> = None,
        /// End a connection after this long in any case.
        max_duration: Option<Time> = None,
        /// The most that is kept for a reader that is slower than its sender, per direction. By packet: of packets of one client that are under way, and of replies that wait for others.
        buffer_max: Bytes = Bytes::kib(256),
        /// Proxies in front that say for whom they connect (PROXY protocol). Absent: nobody is asked.
        accept_proxy: Option<AcceptProxy> = None,
        /// Client networks that may connect. Absent: all.
        allow: Vec<ipnet::IpNet> = Vec::new(),
        /// Client networks that may not connect, even when `allow` names them.
        deny: Vec<ipnet::IpNet> = Vec::new(),
        /// Client connections on this listener at the same time.
        connections_max: Option<u32> = None,
        /// Connections of one client address (IPv6: of one /64) at the same time.
        client_connections_max: Option<u32> = None,
        /// New connections a second from one client address (IPv6: from one /64).
        client_connections_per_second: Option<u32> = None,
        /// Connections the kernel may keep waiting until we accept them.
        backlog: u32 = 4096,
        /// Send small writes at once (TCP_NODELAY).
        nodelay: bool = true,
        /// TCP keepalive probes towards clients, or `"off"`.
        keepalive: Keepalive = Keepalive::Off,
        /// How long sent data may stay unacknowledged before the kernel gives the connection up (TCP_USER_TIMEOUT).
        user_timeout: Option<Time> = None,
    }
}

section! {
    /// `[[tcp.NAME.route]]`: which connections, and where they go. All conditions that are written must hold; of one with several values, any.
    pub struct TcpRoute {
        /// The names that clients ask for (SNI): `www.example.com`, or `*.example.com` for one label more.
        sni: Vec<HostPattern> = Vec::new(),
        /// Protocols (ALPN) of which a client offers one; with `tls`, the one that was agreed on.
        alpn: Vec<String> = Vec::new(),
        /// Client networks.
        client: Vec<ipnet::IpNet> = Vec::new(),
        /// With `tls`: the certificate that the client must have shown.
        client_certificate: Option<ClientCertificate> = None,
        /// The upstream that the connections go to.
        upstream: String = required,
    }
}

section! {
    /// TCP keepalive: after `idle` without traffic, probe every `interval`; give up after `count` unanswered ones.
    pub struct KeepaliveProbes {
        /// Silence before the first probe.
        idle: Time = Time::seconds(60),
        /// Time between probes.
        interval: Time = Time::seconds(10),
        /// Unanswered probes before the connection is given up.
        count: u32 = 5,
    }
}
