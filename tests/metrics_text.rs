//! The text of the metrics, and the state as JSON: right to the letter in either dialect, as long as the config makes it and no
//! longer, to be had where it should be and nowhere else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::admin::{raw, socket};
use crate::support::backend::dead;
use crate::support::client::patient;
use crate::support::http::{Client, Recorder, config};
use crate::support::metrics::{Scrape, scrape, text, until_counted};
use crate::support::program::Program;
use crate::support::servers::program as installed;
use crate::support::tls::Certificates;
use crate::support::until;

/// A program with everything of which there are metrics, and some traffic behind it.
fn everything(certificates: &Certificates) -> (Program, Recorder) {
    let backend = Recorder::echoing();
    let tls = format!(
        "[http.secure]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\ntls = {{ {} }}\n\
         [tcp.plain]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        certificates.pair()
    );
    let rules = "health = { tcp = true, every = \"100ms\" }";
    let program = Program::run(&config(&[backend.address(), dead()], rules, &format!("\n{tls}")));
    let mut client = Client::connect(program.address("web"));
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    until_counted(&program, "evenkeel_listener_requests_total", &[("status", "2xx")], 20.0);
    (program, backend)
}

#[test]
fn both_dialects_keep_to_their_grammar_and_say_the_same() {
    let certificates = Certificates::new();
    let (program, _backend) = everything(&certificates);
    let plain = Scrape::read(&text(&program, false), false);
    let open = Scrape::read(&text(&program, true), true);
    let names = |scrape: &Scrape| -> Vec<_> {
        let names = scrape.samples.keys().map(|(name, labels)| {
            let mut labels = labels.clone();
            // One writes the end of a step as 60, the other as 60.0.
            labels.remove("le");
            (name.clone(), labels)
        });
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    assert_eq!(names(&plain), names(&open));
    assert!(plain.kinds.len() > 40, "{}", plain.kinds.len());
    assert_eq!(plain.samples.len(), open.samples.len());
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let certificates = Certificates::new();
    let (program, _backend) = everything(&certificates);
    let mut promtool = Command::new(installed("promtool"));
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text(&program, false).as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let said = (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned());
    assert_eq!(said, (Some(0), String::new()));
}

#[test]
fn nothing_that_clients_send_makes_the_text_longer() {
    let certificates = Certificates::new();
    let (program, _backend) = everything(&certificates);
    let before = scrape(&program);
    let door = program.address("web");
    for number in 0..400_u32 {
        let (host, path) = (number.wrapping_mul(2_654_435_761), number.wrapping_mul(40_503));
        let method = ["GET", "PUT", "BREW", "PURGE"][number as usize % 4];
        let mut client = Client::connect(door);
        client.send(format!(
            "{method} /{path}?q={host} HTTP/1.1\r\nHost: h{host}.test\r\nUser-Agent: u{number}\r\n\
             X-Any-{number}: {number}\r\nConnection: close\r\n\r\n"
        ));
        let _ = client.try_answer(false);
    }
    let total = "evenkeel_listener_requests_total";
    until_counted(&program, total, &[("listener", "http.web")], 420.0);
    let after = scrape(&program);
    let names = |scrape: &Scrape| scrape.samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    // As the page promises.
    for listener in ["http.web", "http.secure", "tcp.plain"] {
        assert!(after.count("listener", Some(listener)) <= 250, "{listener}");
    }
    assert!(after.count("worker", Some("0")) <= 30);
    assert!(after.count("upstream", None) <= 5 + 2 * 100);
    let known = ["listener", "worker", "upstream"].map(|label| after.count(label, None));
    assert!(after.samples.len() - known.iter().sum::<usize>() <= 40);
}

#[test]
fn who_reads_metrics_slowly_takes_one_of_few_places_and_no_memory_without_end() {
    // So much text that no buffer takes it.
    let backends = (1..=800).map(|port| format!("\"127.0.0.1:{port}\"")).collect::<Vec<_>>();
    let program = Program::run(&format!(
        "[admin]\nmetrics = \"127.0.0.1:0\"\n[upstream.app]\nbackends = [{}]\nhealth = \"off\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        backends.join(", ")
    ));
    let door = address_after(&program, "metrics at http://");
    let begin = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&door.into()).unwrap();
        let mut stream = patient(socket.into());
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8(status.to_vec()).unwrap())
    };
    let mut slow: Vec<_> = (0..8).map(|_| begin()).collect();
    assert!(slow.iter().all(|(_, status)| status == "HTTP/1.1 200"));
    assert_eq!(begin().1, "HTTP/1.1 503");
    // Whoever reads to the end makes room.
    let (mut reader, _) = slow.pop().unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 4_000_000, "{}", rest.len());
    until("there is room again", || begin().1 == "HTTP/1.1 200");
}

/// What is answered at an address, head and body.
fn asked(door: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn address_after(program: &Program, said: &str) -> SocketAddr {
    program.until_said(said);
    let log = program.diagnostics();
    let after = log.split(said).nth(1).unwrap();
    after.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn an_address_for_metrics_serves_them_and_nothing_else() {
    let backend = Recorder::echoing();
    let admin = "[admin]\nmetrics = \"127.0.0.1:0\"\nready = \"127.0.0.2:0\"\n";
    let program = Program::run(&format!("{admin}{}", config(&[backend.address()], "", "")));
    let metrics = address_after(&program, "metrics at http://");
    let ready = address_after(&program, "says whether it is ready at http://");
    let answer = asked(metrics, "GET /metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("no-store"), "{head}");
    assert!(Scrape::read(body, false).names("http.web"));
    assert!(asked(metrics, "HEAD /metrics").ends_with("\r\n\r\n"));
    assert!(asked(metrics, "POST /metrics").starts_with("HTTP/1.1 405 "));
    for path in ["/", "/ready", "/v1/status", "/v1/state", "/v1/events", "/metrics/x"] {
        assert!(asked(metrics, &format!("GET {path}")).starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(asked(ready, "GET /ready").starts_with("HTTP/1.1 200 "));
    assert!(asked(ready, "GET /metrics").starts_with("HTTP/1.1 404 "));
}

#[test]
fn one_address_can_serve_both() {
    let backend = Recorder::echoing();
    let admin = "[admin]\nlisten = \"off\"\nmetrics = \"127.0.0.1:0\"\nready = \"127.0.0.1:0\"\n";
    let program = Program::run(&format!("{admin}{}", config(&[backend.address()], "", "")));
    let door = address_after(&program, "metrics at http://");
    assert_eq!(door, address_after(&program, "says whether it is ready at http://"));
    for path in ["/metrics", "/ready", "/live"] {
        assert!(asked(door, &format!("GET {path}")).starts_with("HTTP/1.1 200 "), "{path}");
    }
}

#[test]
fn every_metric_that_the_dashboard_asks_for_exists() {
    let certificates = Certificates::new();
    let (program, _backend) = everything(&certificates);
    let known = scrape(&program);
    let file = include_str!("../contrib/grafana.json");
    let dashboard: Value = serde_json::from_str(file).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = dashboard["templating"]["list"].as_array().unwrap().iter();
    let texts = targets
        .map(|target| &target["expr"])
        .chain(queries.map(|variable| &variable["query"]))
        .filter_map(Value::as_str);
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut count = 0;
    for text in texts {
        for name in text.split(|letter| !is_part(letter)).filter(|it| it.starts_with("evenkeel_")) {
            let endings = ["_bucket", "_sum", "_count"];
            let base = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
            let kind = known.kinds.get(base).or_else(|| known.kinds.get(name));
            assert!(kind.is_some(), "the dashboard asks for {name}, which does not exist");
            assert_eq!(base != name, kind.is_some_and(|kind| kind == "histogram"), "{name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn prometheus_understands_what_the_dashboard_and_the_page_ask() {
    let dashboard: Value = serde_json::from_str(include_str!("../contrib/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked = targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned);
    let page = include_str!("../docs/watching.md").split("what to ask Prometheus").nth(1).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_suffix("` |")?.split_once("| `"));
    let on_page = rows.map(|(_, expression)| expression.replace("\\|", "|"));
    let filled = |expression: String| {
        let expression = expression.replace("$__rate_interval", "5m");
        ["$instance", "$listener", "$upstream"]
            .iter()
            .fold(expression, |it, name| it.replace(name, ".*"))
    };
    let rules: Vec<_> = asked
        .chain(on_page)
        .enumerate()
        .map(|(at, it)| serde_json::json!({ "record": format!("r:{at}"), "expr": filled(it) }))
        .collect();
    let count = rules.len();
    assert!(count > 50, "{count}");
    let groups = serde_json::json!({ "groups": [{ "name": "all", "rules": rules }] });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let mut promtool = Command::new(installed("promtool"));
    let said = promtool.args(["check", "rules"]).arg(file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.contains(&format!("SUCCESS: {count} rules")), "{said:?}");
}

fn json(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn the_state_has_what_the_metrics_have_and_the_reasons_in_words() {
    let certificates = Certificates::new();
    let (program, backend) = everything(&certificates);
    let read = || json(&raw(&socket(&program), b"GET /v1/state HTTP/1.1\r\nHost: a\r\n\r\n"));
    until("a check has failed", || read()["upstreams"][0]["backends"][1]["state"] == "unhealthy");
    let state = read();
    let mut listeners = state["listeners"].as_array().unwrap().iter();
    let web = listeners.find(|listener| listener["name"] == "http.web").unwrap();
    assert_eq!(web["kind"], "http");
    assert_eq!(web["addresses"][0], program.address("web").to_string());
    assert_eq!(web["requests"]["2xx"], 20);
    assert_eq!(web["ended"]["answered"], 20);
    assert_eq!(web["upstreams"][0], "app");
    let total = &web["latency"]["total"];
    assert_eq!(total["count"], 20);
    let buckets = total["buckets"].as_array().unwrap();
    assert_eq!(buckets.last().unwrap(), &serde_json::json!(["inf", 20]));
    assert!(total["p99_ms"].as_f64().unwrap() >= total["p50_ms"].as_f64().unwrap());
    let upstream = &state["upstreams"][0];
    assert_eq!(upstream["listeners"].as_array().unwrap().len(), 3);
    let [good, bad] = [&upstream["backends"][0], &upstream["backends"][1]];
    assert_eq!(good["backend"], backend.address().to_string());
    assert_eq!((&good["state"], &good["reason"]), (&"healthy".into(), &Value::Null));
    assert_eq!(good["responses"]["2xx"], 20);
    assert_eq!(good["health"][0]["ok"], true);
    assert!(good["health"][0]["said"].as_str().unwrap().starts_with("fine after "), "{good}");
    assert!(bad["reason"].as_str().unwrap().contains("refused"), "{bad}");
    assert!(bad["health"].as_array().unwrap().len() <= 20);
    assert_eq!(state["pid"], program.pid());
    assert_eq!(state["requests"]["2xx"], 20);
    assert_eq!(state["certificates"][0]["names"][0], "a.test");
    assert_eq!(state["certificates"][0]["listener"], "http.secure");
    assert!(state["process"]["descriptors"]["open"].as_u64().unwrap() > 5);
    assert!(!state["process"]["workers"].as_array().unwrap().is_empty());
    let said = state["events"].as_array().unwrap().iter();
    let is_it = |event: &&Value| {
        event["level"] == "warn" && event["text"].as_str().unwrap().contains("failed its checks")
    };
    assert!({ said }.any(|event| is_it(&event)), "{}", state["events"]);
    until("what was decided last is told", || {
        let state = read();
        let last = state["decisions"].as_array().unwrap().last().cloned().unwrap_or_default();
        last["upstream"] == "app" && last["backend"] == good["backend"]
    });
}

/// A reader of events that has got its head.
fn reader(program: &Program) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(socket(program)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    BufReader::new(stream)
}

fn next_state(from: &mut BufReader<UnixStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "the feed has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[test]
fn events_come_at_once_and_then_each_second() {
    let backend = Recorder::echoing();
    let program = Program::run(&config(&[backend.address()], "", ""));
    let began = Instant::now();
    let mut feed = reader(&program);
    let first = next_state(&mut feed);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(first["requests"]["2xx"], 0);
    assert_eq!(Client::connect(program.address("web")).get("/").status, 200);
    let mut next = next_state(&mut feed);
    while next["requests"]["2xx"] == 0 {
        assert!(began.elapsed() < Duration::from_secs(8));
        next = next_state(&mut feed);
    }
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(next["now_at_ms"].as_u64() > first["now_at_ms"].as_u64());
}

#[test]
fn so_many_readers_of_events_leave_room_for_operators() {
    let backend = Recorder::echoing();
    let program = Program::run(&config(&[backend.address()], "", ""));
    let mut feeds: Vec<_> = (0..8).map(|_| reader(&program)).collect();
    feeds.iter_mut().for_each(|feed| drop(next_state(feed)));
    let request = b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(raw(&socket(&program), request).starts_with("HTTP/1.1 503 "));
    let status = raw(&socket(&program), b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(status.starts_with("HTTP/1.1 200 "));
    feeds.pop();
    until("a place is free again", || {
        let mut line = String::new();
        let mut feed = reader(&program);
        feed.read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200 ")
    });
}
