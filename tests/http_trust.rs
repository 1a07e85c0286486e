//! What a client says about itself, and where it wants to go, is never believed further than it must be.
//! Each test is named after its class in the list of what attacks a proxy, and judged by what reached which backend.

use std::net::SocketAddr;

use crate::support::h2::{H2Client, request};
use crate::support::http::{Asked, Client, Recorder, config, serve};

/// A proxy whose routes lead to two backends: `guarded` by the routes given, and `open` for everything else.
struct Ground {
    guarded: Recorder,
    open: Recorder,
    _running: evenkeel::Running,
    door: SocketAddr,
}

impl Ground {
    /// Each item is the conditions of a route to `guarded`.
    fn new(routes: &[&str]) -> Ground {
        let (guarded, open) = (Recorder::echoing(), Recorder::echoing());
        let routes: String = routes
            .iter()
            .map(|lines| format!("[[http.web.route]]\n{lines}\nupstream = \"guarded\"\n"))
            .collect();
        let upstream = format!("[upstream.guarded]\nbackends = [\"{}\"]\n", guarded.address());
        let (running, door) = serve(&config(&[open.address()], "", &format!("{routes}{upstream}")));
        Ground { guarded, open, _running: running, door }
    }

    /// Sends a request on a connection of its own; the status.
    fn send(&self, bytes: impl AsRef<[u8]>) -> u16 {
        let mut client = Client::connect(self.door);
        client.send(&bytes);
        let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        client.try_answer(false).unwrap_or_else(|error| panic!("{error}: {shown:?}")).status
    }

    /// Sends a request; what reached the guarded backend, and what the open one.
    fn reached(&self, bytes: impl AsRef<[u8]>) -> (Option<Asked>, Option<Asked>) {
        let before = (self.guarded.requests().len(), self.open.requests().len());
        self.send(bytes);
        let after = |recorder: &Recorder, before: usize| recorder.requests().get(before).cloned();
        (after(&self.guarded, before.0), after(&self.open, before.1))
    }
}

/// A request with these header lines and what follows on them, and what of it reached a backend.
fn passed(listener: &str, rest: &str) -> Asked {
    let recorder = Recorder::echoing();
    let (_running, door) = serve(&config(&[recorder.address()], "", listener));
    let mut client = Client::connect(door);
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{rest}"));
    assert_eq!(client.answer().status, 200, "{rest}");
    recorder.requests()[0].clone()
}

const EDITS: &str = "[[http.web.route]]\nupstream = \"app\"\n\
    request-headers = { set = { x-team = \"ours\" }, remove = [\"x-debug\"] }";

#[test]
fn hop_by_hop_abuse_takes_away_neither_what_we_add_nor_what_frames_and_names_a_request() {
    for connection in [
        "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Request-Id, X-Team",
        "Connection: close, x-forwarded-for\r\nConnection: x-team, X-FORWARDED-HOST",
        "connection:,, X-Forwarded-For ,\tX-Request-Id,x-team,,",
        "Connection: keep-alive\r\nConnection: Host, Cookie, Authorization, Content-Type, X-Team",
        "Connection: Content-Length, Transfer-Encoding, Connection, Host, Cookie, Authorization",
    ] {
        let lines = format!(
            "{connection}\r\nX-Forwarded-For: 6.6.6.6\r\nX-Team: theirs\r\nCookie: a=b\r\n\
             Authorization: Basic Zm9v\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
        );
        let asked = passed(EDITS, &lines);
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "a.test"),
            ("x-forwarded-proto", "http"),
            ("x-team", "ours"),
            ("host", "a.test"),
            ("cookie", "a=b"),
            ("authorization", "Basic Zm9v"),
            ("content-type", "text/plain"),
            ("content-length", "4"),
        ] {
            let found: Vec<_> = asked.fields.iter().filter(|(known, _)| known == name).collect();
            assert_eq!(found, [&(name.to_owned(), value.to_owned())], "{connection}");
        }
        assert_eq!(asked.body, b"body", "{connection}");
        assert_eq!(asked.field("x-request-id").map(str::len), Some(32), "{connection}");
    }
}

#[test]
fn underscore_look_alikes_of_what_frames_or_forwards_are_refused_over_both_versions() {
    let ground = Ground::new(&[]);
    for name in [
        "Content_Length",
        "content_length",
        "Transfer_Encoding",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded_proto",
        "X_Forwarded-Host",
        "x_forwarded_port",
        "X_Request_Id",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{name}: 6\r\n\r\n");
        assert_eq!(ground.send(head), 400, "{name}");
        let mut asked = request("GET", "/");
        let name = name.to_ascii_lowercase();
        asked
            .headers_mut()
            .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), "6".parse().unwrap());
        let answer = H2Client::connect(ground.door).send(asked, None, None);
        assert!(answer.map_or(true, |answer| answer.status == 400), "{name} over HTTP/2");
    }
    assert!(ground.open.requests().is_empty());
    // A name that looks like nothing of ours is the backend's own matter.
    assert_eq!(ground.send("GET / HTTP/1.1\r\nHost: a.test\r\nMy_Field: 6\r\n\r\n"), 200);
    assert_eq!(ground.open.requests()[0].field("my_field"), Some("6"));
}

#[test]
fn forged_internal_headers_never_reach_a_backend_beside_ours() {
    let forged = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 666\r\nForwarded: for=6.6.6.6;host=evil.test\r\n\
        X-Request-Id: 6\r\nX-Request-Id: 7\r\nX-Team: theirs\r\nx-TEAM: theirs too\r\nX-Debug: 1\r\nX-DEBUG: 2\r\n\r\n";
    let asked = passed(EDITS, forged);
    let said = format!("{:?}", asked.fields);
    for evil in ["6.6.6.6", "7.7.7.7", "https", "evil.test", "666", "theirs", "x-debug"] {
        assert!(!said.contains(evil), "{evil}: {said}");
    }
    assert_eq!(asked.field("forwarded"), None);
    assert_eq!(asked.field("x-team"), Some("ours"));
    for name in
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "x-team"]
    {
        let count = asked.fields.iter().filter(|(known, _)| known == name).count();
        assert_eq!(count, 1, "{name}: {said}");
    }
}

#[test]
fn a_look_alike_of_what_a_route_sets_or_removes_never_reaches_a_backend() {
    let lines = "X_Team: theirs\r\nx_team: theirs\r\nX_DEBUG: 1\r\nX_Teams: kept\r\n\r\n";
    let asked = passed(EDITS, lines);
    assert_eq!((asked.field("x_team"), asked.field("x_debug")), (None, None));
    assert_eq!((asked.field("x-team"), asked.field("x_teams")), (Some("ours"), Some("kept")));
}

#[test]
fn only_a_trusted_proxy_is_believed_and_a_client_cannot_pass_for_one_by_what_it_says() {
    let lines = "X-Forwarded-For: 10.0.0.1, 127.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\n\r\n";
    let asked = passed("trusted-proxies = [\"10.0.0.0/8\", \"192.0.2.1\"]", lines);
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.field("forwarded"), None);
    let asked = passed("trusted-proxies = [\"127.0.0.1\"]", lines);
    assert_eq!(asked.field("x-forwarded-for"), Some("10.0.0.1, 127.0.0.1, 127.0.0.1"));
    let forwarded = asked.field("forwarded").unwrap();
    assert!(forwarded.starts_with("for=10.0.0.1, for=127.0.0.1;"), "{forwarded}");
}

#[test]
fn host_confusion_every_spelling_of_a_guarded_host_takes_its_route_or_is_refused() {
    // More hosts than a short list would have, so that looking them up is tried too.
    let many: Vec<_> = (0..200).map(|at| format!("host = \"Host-{at}.test\"")).collect();
    let mut routes: Vec<_> = many.iter().map(String::as_str).collect();
    routes.extend(["host = \"secret.test\"", "host = \"*.secret.test\""]);
    let ground = Ground::new(&routes);
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [
        "secret.test",
        "SECRET.test",
        "Secret.Test:80",
        "secret.test.",
        "secret.test.:8080",
        "a.secret.test",
        "A.SECRET.TEST.",
        "HOST-199.TEST",
        "host-0.test.:1",
    ] {
        for target in ["/", &format!("http://{host}/")] {
            let (guarded, open) = ground.reached(get(target, host));
            assert!(guarded.is_some() && open.is_none(), "{target} of {host}");
        }
        let name = format!("http://{host}/");
        let asked = http::Request::get(name).version(http::Version::HTTP_2).body(()).unwrap();
        let before = ground.guarded.requests().len();
        assert_eq!(H2Client::connect(ground.door).send(asked, None, None).unwrap().status, 200);
        assert_eq!(ground.guarded.requests().len(), before + 1, "{host} over HTTP/2");
    }
    for head in [
        get("/", "open.test, secret.test"),
        get("/", "secret.test, open.test"),
        get("/", "open.test\r\nHost: secret.test"),
        get("/", "secret.test\r\nHost: open.test"),
        get("/", "open.test@secret.test"),
        get("/", "secret.test/"),
        get("/", "secret.test#"),
        get("/", "secret.test?"),
        get("/", "secret.test\\"),
        get("/", "secret.test:80:80"),
        get("/", "secret.test:"),
        get("/", "secret%2etest"),
        get("/", "secret\u{ff0e}test"),
        get("http://open.test/", "secret.test"),
        get("http://secret.test/", "open.test"),
        get("http://open.test@secret.test/", "secret.test"),
    ] {
        let (guarded, open) = ground.reached(&head);
        // What is not refused must at least not have got past the guard.
        assert!(open.is_none(), "{head:?} reached the open backend");
        assert!(
            guarded.is_none_or(|asked| asked.field("host") == Some("secret.test:")),
            "{head:?}"
        );
    }
    // Names that only look alike are others, and are nobody's.
    for host in ["secret.test.evil", "xsecret.test", "a.b.secret.test", "secret.tes", "secret-test"]
    {
        let (guarded, open) = ground.reached(get("/", host));
        assert!(guarded.is_none() && open.is_some(), "{host}");
    }
}

/// A path as a lenient backend may read it: every escape undone, dots resolved.
fn lenient(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.split('?').next().unwrap_or_default().bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next().unwrap_or(b'0')).to_digit(16).unwrap_or(0) as u8;
        bytes.push(if byte == b'%' { digit() << 4 | digit() } else { byte });
    }
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Ways to write paths that lead to `/admin` or seem to.
const SPELLINGS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "/%61dmin/x",
    "/admi%6e",
    "/%61%64%6D%69%6e/x",
    "/./admin/x",
    "/x/../admin/x",
    "/x/%2e%2e/admin/x",
    "/x/.%2E/admin",
    "/x/%2e./admin/.",
    "/admin/../admin/x",
    "/admin/../x",
    "/admin/%2e%2e/x",
    "/admin/..",
    "/admin/../../x",
    "/admin%2fx",
    "/admin%2Fx",
    "/x%2f..%2fadmin",
    "/admin%5cx",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/admin%00",
    "/admin%00/x",
    "/%2561dmin",
    "/admin%252fx",
    "/x/%252e%252e/admin",
    "/admin;a=b/x",
    "/admin;/x",
    "/x/..;/admin",
    "/ADMIN/x",
    "/Admin",
    "/administrator",
    "/admin.",
    "/admin%20",
    "/admin%09",
    "/admin?x",
    "/admin?/../x",
    "/x?/admin/",
    "//admin/x",
    "/x//../admin",
    "/x/..//admin",
    "/.//admin",
    "/admin//x",
    "/admin/./x",
    "/%c0%ae%c0%ae/admin",
    "/\u{ff0e}\u{ff0e}/admin",
    "/x/...//admin",
    "/%u0061dmin",
    "/admin#x",
    "/#/admin",
    "http://a.test/admin/x",
    "http://a.test/x/../admin/x",
    "http://a.test//admin",
];

#[test]
fn path_matching_and_the_path_that_is_sent_are_the_same() {
    let ground = Ground::new(&["path = \"/admin/*\""]);
    let is_guarded = |path: &str| path == "/admin" || path.starts_with("/admin/");
    for &spelling in SPELLINGS {
        let ask =
            |path: &str| ground.reached(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let sent = |asked: &Asked| asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
        match ask(spelling) {
            (None, None) => {}
            (Some(asked), None) => {
                let path = sent(&asked);
                assert!(is_guarded(path.split('?').next().unwrap()), "{spelling}: sent {path}");
                assert!(is_guarded(&lenient(&path)), "{spelling}: {path} leads out of the guard");
            }
            (None, Some(asked)) => {
                let path = sent(&asked);
                assert!(!is_guarded(&lenient(&path)), "{spelling}: {path} is read as guarded");
                // The same once more: nothing becomes another path by being sent again.
                let (guarded, open) = ask(&path);
                assert!(guarded.is_none(), "{spelling}: {path} is guarded");
                assert_eq!(open.map(|asked| sent(&asked)), Some(path));
            }
            both => panic!("{spelling}: {both:?}"),
        }
    }
}

#[test]
fn multi_value_headers_none_hides_another_from_a_route_or_a_backend() {
    let ground = Ground::new(&["header = { x-role = \"guest\" }"]);
    for lines in [
        "X-Role: guest",
        "X-Role: admin\r\nX-Role: guest",
        "X-Role: guest\r\nX-Role: admin",
        "x-role: admin\r\nAccept: y\r\nX-ROLE: guest",
        "X-Role:\r\nX-Role:  guest\t",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n");
        let (guarded, open) = ground.reached(head);
        assert!(open.is_none(), "{lines}");
        let asked = guarded.expect("it is a guest");
        let roles: Vec<_> = asked.fields.iter().filter(|(name, _)| name == "x-role").collect();
        assert_eq!(roles.len(), lines.to_lowercase().matches("x-role").count(), "{lines}");
    }
    for lines in
        ["X-Role: admin", "X-Role: Guest", "X-Roles: guest", "X-Role: guest, admin", "X: guest"]
    {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n");
        let (guarded, open) = ground.reached(head);
        assert!(guarded.is_none() && open.is_some(), "{lines}");
    }
}
