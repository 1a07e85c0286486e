//! The sections of HTTP: listeners, their routes, and what a route answers. Declared like everything else in a config.

use std::path::PathBuf;

use super::*;

section! {
    /// `[http.NAME]`: addresses to accept HTTP on, and the routes that requests take.
    pub struct HttpListener {
        /// Addresses to listen on: `IP:PORT`, `[IP6]:PORT`, `:PORT` for all addresses, `unix:/path`.
        listen: Vec<Address> = required,
        /// Take clients through TLS, and so serve `https`: a table with a certificate and its key. Absent: in clear.
        tls: Option<Tls> = None,
        /// The versions of HTTP that are spoken; `"1.1"` includes 1.0. With `tls`, clients choose among them by ALPN.
        http: Vec<HttpVersion> = vec![HttpVersion::Http11, HttpVersion::Http2],
        /// The upstream of every request that no route takes.
        upstream: Option<String> = None,
        /// Routes, tried in written order: `[[http.NAME.route]]`.
        route: Vec<Route> = Vec::new(),
        /// Networks of proxies in front of us. Only these are believed when they say for whom they forward (`X-Forwarded-*`, `X-Real-IP`, `Forwarded`, `X-Request-Id`); the client is then the last address in `X-Forwarded-For` that is not one of them.
        trusted_proxies: Vec<ipnet::IpNet> = Vec::new(),
        /// What backends get of `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`: `"append"` (what trusted proxies say, and ours), `"keep"` (the same, where they said something), `"replace"` (only ours) or `"drop"` (none).
        x_forwarded: Forwarding = Forwarding::Append,
        /// The same for `Forwarded` (RFC 7239).
        forwarded: Forwarding = Forwarding::Keep,
        /// How many requests a client may send, whatever route they take.
        rate_limit: Option<RateLimit> = None,
        /// How long the head of a request may take, from its first byte; on a new connection from accepting it.
        head_timeout: Time = Time::seconds(10),
        /// The largest head of a request or of an answer.
        head_max: Bytes = Bytes::kib(32),
        /// The longest request line.
        line_max: Bytes = Bytes::kib(8),
        /// The most fields in a head, 256 at most.
        headers_max: u32 = 100,
        /// End a connection on which nothing has passed for this long, between two requests or within a body; `"off"` for never. PINGs of HTTP/2 do not count.
        idle_timeout: Limit = Limit::seconds(600),
        /// The same for connections that were switched to another protocol, such as WebSocket.
        tunnel_timeout: Limit = Limit::seconds(600),
        /// How long one request may take as a whole. Absent: no limit.
        request_timeout: Option<Time> = None,
        /// The largest body of a request. Bodies are streamed: this is no memory.
        body_max: Bytes = Bytes::kib(64 * 1024),
        /// The most that is kept for a reader that is slower than its sender, per direction, after a switch of protocols.
        buffer_max: Bytes = Bytes::kib(256),
        /// Requests on one connection.
        requests_max: u32 = 10_000,
        /// Limits of HTTP/2 with clients.
        http2: Http2 = Http2::default(),
        /// Take several slashes in a row in a path for one, as many servers do: routes see the path so, and backends get it so.
        merge_slashes: bool = false,
        /// Whether CONNECT is passed on to an upstream.
        connect: bool = false,
        /// Pages of your own for errors, by status: `"404"`, or `"5xx"` for all of a hundred. `{status}`, `{cause}` and `{request.id}` are filled in.
        errors: IndexMap<String, PathBuf> = IndexMap::new(),
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
    /// `http2` of a listener: what one client's connection may ask of us. Frames beyond a limit end the connection.
    pub struct Http2 {
        /// Requests at the same time on one connection.
        streams_max: u32 = 100,
        /// Bytes of one request's body that a client may send before they are taken.
        stream_window: Bytes = Bytes::kib(256),
        /// The same over all requests of a connection. This much memory one client can make us hold.
        connection_window: Bytes = Bytes::kib(1024),
        /// Requests that a client gives up, or makes us give up, within a second.
        resets_per_second: u32 = 100,
        /// PING frames within a second.
        pings_per_second: u32 = 20,
        /// SETTINGS frames within a second.
        settings_per_second: u32 = 20,
        /// DATA frames without data within a second.
        empty_frames_per_second: u32 = 100,
        /// WINDOW_UPDATE, PRIORITY and unknown frames within a second.
        control_frames_per_second: u32 = 10_000,
        /// CONTINUATION frames of one head.
        continuations_max: u32 = 8,
    }
}

section! {
    /// `h2-limits` of an upstream: how many frames a backend may send over one connection of HTTP/2. More end it, and the requests on it.
    pub struct H2Limits {
        /// Heads of answers, interim ones included, within a second. Whoever is asked much may answer more.
        heads_per_second: u32 = 10_000,
        /// Requests that it gives up within a second.
        resets_per_second: u32 = 10_000,
        /// PING frames within a second.
        pings_per_second: u32 = 100,
        /// SETTINGS frames within a second.
        settings_per_second: u32 = 100,
        /// DATA frames without data within a second.
        empty_frames_per_second: u32 = 1_000,
        /// WINDOW_UPDATE, PRIORITY and unknown frames within a second. Whoever is sent much may send more.
        control_frames_per_second: u32 = 10_000,
        /// CONTINUATION frames of one head.
        continuations_max: u32 = 16,
    }
}

section! {
    /// `[[http.NAME.route]]`: which requests, and what becomes of them. All conditions that are written must hold; of one with several values, any.
    pub struct Route {
        /// Hosts: `www.example.com`, or `*.example.com` for one label more.
        host: Vec<HostPattern> = Vec::new(),
        /// Paths: `/exact`, `/below/*` for that path and everything below it, or `~ REGEX` for the whole path.
        path: Vec<PathPattern> = Vec::new(),
        /// Methods, in capitals.
        method: Vec<String> = Vec::new(),
        /// Headers that must have this value; `"*"` for any.
        header: IndexMap<String, String> = IndexMap::new(),
        /// Parameters of the query that must have this value, as it is written in the URL; `"*"` for any.
        query: IndexMap<String, String> = IndexMap::new(),
        /// Client networks.
        client: Vec<ipnet::IpNet> = Vec::new(),
        /// The certificate that the client must have shown (`client-auth`): any with `{}`, or what it must say.
        client_certificate: Option<ClientCertificate> = None,
        /// The upstream that the requests go to.
        upstream: Option<String> = None,
        /// Upstreams that share the requests by weight, in place of one.
        split: Vec<SplitShare> = Vec::new(),
        /// With `split`: a cookie that keeps a client with its upstream, by name or as a table.
        split_cookie: Option<Sticky> = None,
        /// The folder whose files are the answers. The path of the request is looked up in it, without what stands before the `*` of the route's path.
        files: Option<PathBuf> = None,
        /// With `files`: the names to look for in a folder that is asked for.
        index: Vec<String> = vec!["index.html".to_owned()],
        /// With `files`: whether names that begin with a dot are served.
        hidden: bool = false,
        /// With `files`: whether a folder without an index is answered with a list of what is in it.
        listing: bool = false,
        /// With `files`: forms of a file that may lie beside it, as `NAME.br`, `NAME.zst` and `NAME.gz`, and go to clients that understand them: `"br"`, `"zstd"`, `"gzip"`, the preferred one first. One that is older than its file is not used.
        precompressed: Vec<Coding> = Vec::new(),
        /// With `files`: `Cache-Control` by the name of the file, as `{ "*.css" = "max-age=3600", "*" = "no-cache" }`; the first pattern that matches counts.
        cache: IndexMap<String, String> = IndexMap::new(),
        /// With `files`: how long a file that was opened is used again without looking whether it is still the same, or `"off"` to look each time.
        open_files: Limit = Limit::seconds(1),
        /// With `files`: how long a request may wait for one operation on a file before it is answered with 503.
        file_timeout: Time = Time::seconds(10),
        /// With `files`: where a request goes whose file is not there, as `"upstream:NAME"`. Absent: it is answered with 404.
        r#try: Option<TryUpstream> = None,
        /// Where to send the client instead, with `{scheme}`, `{host}`, `{path}`, `{query}` and `{uri}` (path and query) filled in; `{{` is a brace.
        redirect: Option<String> = None,
        /// The status of that redirect: 301, 302, 303, 307 or 308.
        redirect_status: u16 = 301,
        /// A fixed answer: a status, or a table.
        reply: Option<Reply> = None,
        /// Begin the path with what stands behind this: with `"/api"`, `/api/users` is asked of the backend as `/users`. Paths without it stay as they are.
        strip_prefix: Option<String> = None,
        /// The path that the backend is asked for, with `{path}` and `{rest}` (what stands under the `*` of the route) filled in. The query stays.
        replace_path: Option<String> = None,
        /// The `Host` that the backend is asked for, or `"{backend}"` for its own name and port. Absent: as the client asked.
        host_header: Option<HostHeader> = None,
        /// In place of the listener's `x-forwarded`.
        x_forwarded: Option<Forwarding> = None,
        /// In place of the listener's `forwarded`.
        forwarded: Option<Forwarding> = None,
        /// How many requests a client may send.
        rate_limit: Option<RateLimit> = None,
        /// Requests in flight on this route. Absent: no limit.
        requests_max: Option<u32> = None,
        /// Who is let in: the users of a file, with their passwords.
        basic_auth: Option<BasicAuth> = None,
        /// Another server that is asked first whether a request may pass.
        forward_auth: Option<ForwardAuth> = None,
        /// Another upstream that gets a copy of some requests.
        mirror: Option<Mirror> = None,
        /// What changes in the headers that a backend gets.
        request_headers: HeaderEdits = HeaderEdits::default(),
        /// What changes in the headers that the client gets.
        response_headers: HeaderEdits = HeaderEdits::default(),
        /// Whether answers are compressed for clients that understand it: `true`, or a table. Absent: as they are.
        compress: Toggle<Compression> = Toggle::Off,
        /// Pages of your own for errors, before those of the listener.
        errors: IndexMap<String, PathBuf> = IndexMap::new(),
        /// In place of the upstream's `response-timeout`.
        response_timeout: Option<Time> = None,
        /// In place of the listener's `body-max`.
        body_max: Option<Bytes> = None,
        /// How much of a body is read before a backend is picked, so that a slow client keeps none waiting. `0` passes it on as it comes.
        request_buffer: Bytes = Bytes(0),
        /// When a request goes to a backend again: how often, or a table.
        retry: Option<RouteRetry> = None,
    }
}

section! {
    /// `client-certificate` of a route: what the certificate of a client must say. All conditions that are written must hold; of one with several values, any.
    pub struct ClientCertificate {
        /// One of its further names (SAN); `"*.example.com"` for one label more.
        name: Vec<String> = Vec::new(),
        /// Whom it is for, as `CN=device-1,O=Example` (RFC 4514).
        subject: Vec<String> = Vec::new(),
        /// Who vouches for it.
        issuer: Vec<String> = Vec::new(),
        /// Its SHA-256.
        fingerprint: Vec<Fingerprint> = Vec::new(),
    }
}

section! {
    /// `retry` of a route: when a request goes to a backend again. Only requests that mean the same twice (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) do, without a body or with one that `request-buffer` held whole. Failed connects are `retries` of the upstream.
    pub struct RouteRetry from times {
        /// Further tries of one request.
        times: u32 = required,
        /// After what: `"gone"` (the backend ended before its answer began), `"late"` (nothing within `try-timeout`), or statuses, as `502` or `502-504`.
        on: Vec<RetryOn> = vec![RetryOn::Gone, RetryOn::Late],
        /// How long one try may take to begin its answer. All tries together have `response-timeout`.
        try_timeout: Option<Time> = None,
        /// The most retries, as a share of the requests of the last ten seconds.
        budget: Percent = Percent(20),
        /// Retries a second that there may be however few the requests are.
        at_least: u32 = 3,
    }
}

section! {
    /// `compress` of a route: which answers of backends, and which files, are compressed on their way to a client.
    pub struct Compression {
        /// The codings, the preferred one first: a client gets the one that it likes best.
        codings: Vec<Coding> = vec![Coding::Br, Coding::Zstd, Coding::Gzip],
        /// The types of content, as `Content-Type` names them; `*` stands for any part without a slash.
        types: Vec<String> = Compression::texts(),
        /// Answers that are known to be shorter stay as they are.
        min_size: Bytes = Bytes::kib(1),
        /// From 1, the fastest, to 6, the smallest; higher levels take more memory as well.
        level: u32 = 4,
    }
}

impl Compression {
    /// Types that are text, or like text.
    fn texts() -> Vec<String> {
        let texts = [
            "text/*",
            "application/json",
            "application/*+json",
            "application/x-ndjson",
            "application/javascript",
            "application/xml",
            "application/*+xml",
            "application/wasm",
            "image/svg+xml",
        ];
        texts.map(str::to_owned).to_vec()
    }
}

section! {
    /// `request-headers` and `response-headers` of a route. Removing comes first, then setting, then adding. In values, variables such as `{client.ip}`, `{host}`, `{uri}`, `{user}` and `{header.NAME}` are filled in; `{{` is a brace.
    pub struct HeaderEdits {
        /// Headers that are taken away.
        remove: Vec<String> = Vec::new(),
        /// Headers that get this value in place of any they have.
        set: IndexMap<String, String> = IndexMap::new(),
        /// Headers that get these values beside those they have.
        add: IndexMap<String, Vec<String>> = IndexMap::new(),
    }
}

section! {
    /// A fixed answer.
    pub struct Reply from status {
        /// The status, 200 to 599.
        status: u16 = required,
        /// The body.
        body: String = String::new(),
        /// The type of the body.
        content_type: String = "text/plain; charset=utf-8".to_owned(),
    }
}

section! {
    /// `keep-alive` of an upstream: connections to its backends that stay open between two HTTP requests, or between two packets where those are balanced.
    pub struct IdleConnections {
        /// Idle connections to one backend, over the whole process.
        max: u32 = 256,
        /// How long one may be idle.
        idle: Time = Time::seconds(60),
        /// Requests on one connection.
        requests: u32 = 1000,
    }
}
