//! What a client gets when something fails: a small page or JSON, with the cause and the request id of the access line; or a
//! page of one's own. Nothing of it says what is behind the proxy, and all of it comes in time.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel::{Config, Running};
use tempfile::TempDir;

use crate::support::backend::{Backend, BlackHole, dead};
use crate::support::h2::{self, H2Client};
use crate::support::http::{Answer, Client, config, serve};
use crate::support::until;

/// Every way to fail: a status, the cause told to the client, the reason in the log, and a request that gets there. `A`
/// stands for the value of `Accept`.
const FAILURES: [(u16, &str, &str, &str); 8] = [
    (400, "unclear-path", "bad-request", "GET /a%2fb HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n"),
    (404, "no-route", "no-route", "GET /nowhere HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n"),
    (405, "bad-request", "bad-request", "DELETE /files/x HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n"),
    (
        408,
        "idle-timeout",
        "idle-timeout",
        "POST /waiting HTTP/1.1\r\nHost: a\r\nAccept: A\r\nContent-Length: 5\r\n\r\n12",
    ),
    (
        413,
        "limit-body",
        "limit-body",
        "POST /waiting HTTP/1.1\r\nHost: a\r\nAccept: A\r\nContent-Length: 5000\r\n\r\n",
    ),
    (502, "backend-gone", "backend-gone", "GET /closing HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n"),
    (
        503,
        "connect-refused",
        "connect-refused",
        "GET /dead HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n",
    ),
    (
        504,
        "response-timeout",
        "response-timeout",
        "GET /late HTTP/1.1\r\nHost: a\r\nAccept: A\r\n\r\n",
    ),
];

/// A proxy on which every failure can be had, and what it needs to live.
struct Stage {
    _running: Running,
    door: SocketAddr,
    folder: TempDir,
    /// Whatever a page must not say.
    secrets: Vec<String>,
    _backends: [Backend; 2],
}

impl Stage {
    /// `listener` and `route` are further lines of theirs; `pages` are files to write before.
    fn set(listener: &str, route: &str, pages: &[(&str, &str)]) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in pages {
            fs::write(folder.path().join(name), text).unwrap();
        }
        // One reads and never answers, the other ends what it gets.
        let silent = Backend::serving(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop));
        let closing = Backend::serving(|mut stream| stream.read(&mut [0; 4096]).map(drop));
        let refusing = dead();
        let upstream = |name: &str, to: SocketAddr, more: &str| {
            format!("[upstream.hidden-{name}]\nbackends = \"{to}\"\nhealth = \"off\"\n{more}\n")
        };
        let to = |path: &str| {
            format!(
                "[[http.web.route]]\npath = \"/{path}\"\nupstream = \"hidden-{path}\"\n{route}\n"
            )
        };
        let file = folder.path().join("evenkeel.toml");
        let text = [
            "[log]\naccess = \"access.log\"\naccess-format = \"{status} {why} {request.id}\"\n"
                .into(),
            upstream("waiting", silent.address, ""),
            upstream("late", silent.address, "response-timeout = \"100ms\""),
            upstream("closing", closing.address, ""),
            upstream("dead", refusing, ""),
            format!(
                "[http.web]\nlisten = \"127.0.0.1:0\"\nidle-timeout = \"400ms\"\nbody-max = 100\n{listener}\n"
            ),
            to("waiting"),
            to("late"),
            to("closing"),
            to("dead"),
            "[[http.web.route]]\npath = \"/files/*\"\nfiles = \".\"\n".into(),
        ];
        fs::write(&file, text.concat()).unwrap();
        let config = Config::from_file(&file).unwrap_or_else(|wrong| panic!("{wrong}")).config;
        let running = evenkeel::Proxy::new(config).unwrap().start().unwrap();
        let door = running.addresses("web")[0];
        let addresses = [silent.address, closing.address, refusing];
        let mut secrets: Vec<_> = addresses.iter().map(|a| a.port().to_string()).collect();
        secrets.extend(addresses.iter().map(|a| a.ip().to_string()));
        secrets.extend(["hidden", "os error", "refused (", "/tmp"].map(str::to_owned));
        Stage { _running: running, door, folder, secrets, _backends: [silent, closing] }
    }

    fn ask(&self, request: &str, accept: &str) -> Answer {
        Client::connect(self.door)
            .send(request.replace("Accept: A", &format!("Accept: {accept}")))
            .answer()
    }

    /// The access line with this request id.
    fn line(&self, id: &str) -> String {
        let file = self.folder.path().join("access.log");
        let find = || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.lines().find(|line| line.ends_with(id)).map(str::to_owned)
        };
        until("the access line is written", || find().is_some());
        find().expect("found just now")
    }

    /// What holds for every failure, whoever wrote its page; the request id.
    fn holds(&self, answer: &Answer, status: u16, cause: &str, why: &str) -> String {
        assert_eq!(answer.status, status, "{cause}");
        assert_eq!(answer.field("x-evenkeel-cause"), Some(cause));
        assert_eq!(answer.field("retry-after"), (status == 503).then_some("1"), "{cause}");
        let id = answer.field("x-request-id").expect("a request id").to_owned();
        assert_eq!(self.line(&id), format!("{status} {why} {id}"));
        let said = format!("{:?} {}", answer.fields, answer.text()).replace(&id, "");
        // Whatever names us by address is our own, not what is behind us.
        for secret in &self.secrets {
            assert!(!said.contains(secret.as_str()), "{status} says {secret:?}: {said}");
        }
        id
    }
}

#[test]
fn every_failure_has_a_page_and_json_with_its_cause_and_the_id_of_its_access_line() {
    let stage = Stage::set("", "", &[]);
    for (status, cause, why, request) in FAILURES {
        let page = stage.ask(request, "text/html,application/json;q=0.9,*/*;q=0.8");
        let id = stage.holds(&page, status, cause, why);
        assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"), "{cause}");
        let text = page.text();
        assert!(text.starts_with("<!doctype html>") && text.len() < 500, "{text}");
        assert!(text.contains(&format!("<h1>{status} ")), "{text}");
        assert!(text.contains(&format!("Cause: {cause}. Request: {id}")), "{text}");

        for accept in ["application/json", "application/problem+json, text/html"] {
            let json = stage.ask(request, accept);
            let id = stage.holds(&json, status, cause, why);
            assert_eq!(json.field("content-type"), Some("application/json"), "{cause}");
            let value: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
            assert_eq!((&value["status"], &value["cause"]), (&status.into(), &cause.into()));
            assert_eq!(value["request_id"], id);
        }
    }
}

#[test]
fn a_request_that_cannot_be_read_or_does_not_come_has_a_page_too() {
    let stage = Stage::set("head-timeout = \"200ms\"", "", &[]);
    for (bytes, status, cause, why) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, None, "bad-request"),
        ("GET / HTTP/1.1\r\nHost:", 408, Some("head-timeout"), "head-timeout"),
    ] {
        let answer = stage.ask(bytes, "");
        let told = answer.field("x-evenkeel-cause").expect("a cause").to_owned();
        assert!(cause.is_none_or(|cause| cause == told), "{told}");
        stage.holds(&answer, status, &told, why);
        assert_eq!(answer.field("connection"), Some("close"), "{told}");
    }
}

#[test]
fn pages_of_ones_own_answer_in_place_of_ours() {
    let css = "<style>b { margin: 0 }</style>";
    let stage = Stage::set(
        "errors = { 404 = \"lost.html\", 5xx = \"broken.txt\", 503 = \"down.json\" }",
        "errors = { 504 = \"late.html\" }",
        &[
            ("lost.html", &format!("{css}<b>{{status}} {{cause}} {{request.id}}</b>")),
            ("broken.txt", "{status}: broken"),
            ("down.json", "{\"down\": true, \"id\": \"{request.id}\"}"),
            ("late.html", "<p>late: {cause}"),
        ],
    );
    let of = |status| FAILURES.into_iter().find(|failure| failure.0 == status).unwrap();
    for (status, kind, page) in [
        (404, "text/html; charset=utf-8", format!("{css}<b>404 no-route ID</b>")),
        (502, "text/plain; charset=utf-8", "502: broken".to_owned()),
        (503, "application/json", "{\"down\": true, \"id\": \"ID\"}".to_owned()),
        (504, "text/html; charset=utf-8", "<p>late: response-timeout".to_owned()),
    ] {
        let (_, cause, why, request) = of(status);
        let answer = stage.ask(request, "text/html");
        let id = stage.holds(&answer, status, cause, why);
        assert_eq!(answer.field("content-type"), Some(kind));
        assert_eq!(answer.text(), page.replace("ID", &id));
        // Programs get JSON all the same.
        let answer = stage.ask(request, "application/json");
        let id = stage.holds(&answer, status, cause, why);
        let value: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        match status {
            503 => assert_eq!((&value["down"], &value["id"]), (&true.into(), &id.into())),
            _ => assert_eq!(value["request_id"], id),
        }
    }
    // Where there is no page of one's own, ours is there, also after a request of a route that has one.
    let mut client = Client::connect(stage.door);
    client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").answer();
    let (_, cause, why, request) = of(400);
    let answer = client.send(request).answer();
    stage.holds(&answer, 400, cause, why);
    assert!(answer.text().contains("<h1>400 Bad Request</h1>"));
}

#[test]
fn http2_gets_the_same_pages() {
    let stage = Stage::set("errors = { 404 = \"lost.html\" }", "", &[("lost.html", "<b>{cause}")]);
    let client = H2Client::connect(stage.door);
    let answer = client.get("/nowhere");
    assert_eq!((answer.status, answer.text().as_str()), (404, "<b>no-route"));
    let id = answer.field("x-request-id").expect("a request id");
    assert_eq!(stage.line(id), format!("404 no-route {id}"));
    let answer = client.send(h2::request("HEAD", "/nowhere"), None, None).unwrap();
    assert_eq!((answer.field("content-length"), answer.body.len()), (Some("11"), 0));
}

#[test]
fn head_is_told_the_length_of_the_page_and_gets_none() {
    for page in ["", "errors = { 404 = \"lost.html\" }"] {
        let stage = Stage::set(page, "", &[("lost.html", "<b>{cause} {request.id}")]);
        let mut client = Client::connect(stage.door);
        let whole = client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").answer();
        client.send("HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.try_answer(true).unwrap();
        stage.holds(&head, 404, "no-route", "no-route");
        for name in ["content-length", "content-type"] {
            assert_eq!(head.field(name), whole.field(name), "{name}");
        }
        // Had a body come, it would be read as the next answer.
        assert_eq!(client.get("/nowhere").status, 404);
    }
}

#[test]
fn a_page_that_cannot_be_used_is_a_problem_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large.html"), vec![b'a'; 65_537]).unwrap();
    let file = folder.path().join("evenkeel.toml");
    let text = "[http.web]\nlisten = \":0\"\nerrors = { 404 = \"none.html\", 5xx = \"large.html\" }\n\
                [[http.web.route]]\nreply = 404\nerrors.200 = \"evenkeel.toml\"\n";
    fs::write(&file, text).unwrap();
    let check = std::process::Command::new(crate::support::program::BINARY)
        .args(["check", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!check.status.success());
    let said = [check.stdout, check.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for (place, words) in [
        (":3:", "none.html: No such file"),
        (":3:", "is larger than 64KiB"),
        (":6:", "\"200\" is not the status of an error"),
        (":6:", "does not say what the page is written in"),
    ] {
        assert!(said.contains(place) && said.contains(words), "{words:?} is not in\n{said}");
    }
}

#[test]
fn when_all_backends_refuse_the_answer_comes_at_once() {
    let backends = [dead(), dead(), dead()];
    let (_running, door) = serve(&config(&backends, "retries = 5", ""));
    let began = Instant::now();
    let answer = Client::connect(door).get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

/// The shortest of some tries: a machine that is busy with something else is not what is measured. None may be too early.
fn soonest_answer(door: SocketAddr, least: Duration, most: Duration) -> Duration {
    let mut soonest = Duration::MAX;
    for _ in 0..3 {
        let mut client = Client::connect(door);
        let began = Instant::now();
        let answer = client.get("/");
        let took = began.elapsed();
        assert_eq!(answer.status, 504);
        assert!(took >= least, "{took:?} is before its time");
        soonest = soonest.min(took);
        if soonest <= most {
            break;
        }
    }
    soonest
}

#[test]
fn a_dead_upstream_is_answered_within_3_0_to_3_2_seconds() {
    let silent = Backend::serving(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop));
    let hole = BlackHole::open();
    let (least, most) = (Duration::from_millis(3000), Duration::from_millis(3200));
    // One accepts and never answers; the other never accepts, within its connect-timeout and beyond.
    let cases = [
        (silent.address, "response-timeout = \"3s\""),
        (hole.address, "response-timeout = \"3s\""),
        (hole.address, "response-timeout = \"3s\"\nconnect-timeout = \"1h\""),
    ];
    std::thread::scope(|scope| {
        for (backend, upstream) in cases {
            scope.spawn(move || {
                let (_running, door) = serve(&config(&[backend], upstream, ""));
                let took = soonest_answer(door, least, most);
                assert!(took <= most, "{took:?} with {upstream}");
            });
        }
    });
}
