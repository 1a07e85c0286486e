//! Spans of requests: right for a collector, joined with the traces of trusted proxies and of backends, and never in the way.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::backend::dead;
use crate::support::http::{Asked, Client, Recorder, config, ok};
use crate::support::metrics::until_counted;
use crate::support::program::Program;
use crate::support::until;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn collector() -> Recorder {
    Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".to_vec()
    })
}

/// A program that leaves spans of this share of requests.
fn traced(backend: &Recorder, collector: &str, sample: &str, listener: &str) -> Program {
    let log = format!("\n[log]\ntraces = \"http://{collector}\"\ntraces-sample = \"{sample}\"\n");
    Program::run(&config(&[backend.address()], "", &format!("{listener}{log}")))
}

/// Every span that a collector has got.
fn spans(collector: &Recorder) -> Vec<Value> {
    let mut all = Vec::new();
    for asked in collector.requests() {
        assert_eq!(asked.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(asked.field("content-type"), Some("application/json"));
        let message: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let resource = &message["resourceSpans"][0];
        assert_eq!(attribute(&resource["resource"], "service.name"), "evenkeel");
        all.extend(resource["scopeSpans"][0]["spans"].as_array().expect("a list").clone());
    }
    all
}

fn until_spans(collector: &Recorder, count: usize) -> Vec<Value> {
    until(&format!("{count} spans"), || spans(collector).len() >= count);
    spans(collector)
}

/// An attribute as text, whatever it is; empty if it is not there.
fn attribute(of: &Value, key: &str) -> String {
    let all = of["attributes"].as_array().expect("a list");
    let value = all.iter().find(|it| it["key"] == key).map(|it| &it["value"]);
    let text = value.and_then(|it| it["stringValue"].as_str().or_else(|| it["intValue"].as_str()));
    text.unwrap_or_default().to_owned()
}

fn traceparent(asked: &Asked) -> Option<&str> {
    asked.field("traceparent")
}

#[test]
fn a_request_leaves_a_span_that_its_backend_can_join() {
    let (backend, collector) = (Recorder::answering(|_| ok(b"hello")), collector());
    let program = traced(&backend, &collector.address().to_string(), "100%", "");
    let mut client = Client::connect(program.address("web"));
    client.send("GET /a/b?token=secret HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let all = until_spans(&collector, 1);
    let span = &all[0];
    let id = |key: &str| span[key].as_str().unwrap().to_owned();
    assert_eq!((id("traceId").len(), id("spanId").len(), id("parentSpanId").len()), (32, 16, 0));
    let told = format!("00-{}-{}-01", id("traceId"), id("spanId"));
    assert_eq!(traceparent(&backend.requests()[0]), Some(&*told));
    assert_eq!((&span["name"], &span["kind"]), (&"GET web".into(), &2.into()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/a/b"),
        ("server.address", "app.test"),
        ("http.response.status_code", "200"),
        ("evenkeel.listener", "web"),
        ("evenkeel.upstream", "app"),
        ("evenkeel.backend", &backend.address().to_string()),
        ("evenkeel.reason", "answered"),
    ] {
        assert_eq!(attribute(span, key), value, "{key}");
    }
    assert!(!span.to_string().contains("secret"), "{span}");
    let nanos = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    let (began, ended) = (nanos(&span["startTimeUnixNano"]), nanos(&span["endTimeUnixNano"]));
    let first = nanos(&span["events"][0]["timeUnixNano"]);
    assert!(began < first && first <= ended, "{span}");
    assert_eq!(span["status"], serde_json::json!({}));
    until_counted(&program, "evenkeel_trace_spans_total", &[("result", "sent")], 1.0);
}

#[test]
fn a_trusted_proxy_decides_and_anybody_elses_trace_is_not_ours() {
    let (backend, collector) = (Recorder::answering(|_| ok(b"hello")), collector());
    let address = collector.address().to_string();
    let ask = |program: &Program, parent: &str| {
        let mut client = Client::connect(program.address("web"));
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\ntracestate: a=b\r\n\r\n"
        ));
        assert_eq!(client.answer().status, 200);
        backend.requests().pop().unwrap()
    };
    let trusting = traced(&backend, &address, "0%", "trusted-proxies = \"127.0.0.1\"");
    let asked = ask(&trusting, PARENT);
    let span = until_spans(&collector, 1).pop().unwrap();
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    let told =
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", span["spanId"].as_str().unwrap());
    assert_eq!((traceparent(&asked), asked.field("tracestate")), (Some(&*told), Some("a=b")));
    // What it does not want sampled is not, and passes as it is.
    let unwanted = PARENT.replace("-01", "-00");
    assert_eq!(traceparent(&ask(&trusting, &unwanted)), Some(&*unwanted));
    drop(trusting);

    let stranger = traced(&backend, &address, "0%", "");
    assert_eq!(traceparent(&ask(&stranger, PARENT)), Some(PARENT));
    drop(stranger);
    assert_eq!(spans(&collector).len(), 1);

    let sampling = traced(&backend, &address, "100%", "");
    let asked = ask(&sampling, PARENT);
    let span = until_spans(&collector, 2).pop().unwrap();
    assert_ne!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let told = traceparent(&asked).unwrap();
    assert!(told.contains(span["traceId"].as_str().unwrap()), "{told}");
    assert_eq!(asked.field("tracestate"), None);
}

#[test]
fn a_refusal_leaves_a_span_too_and_one_of_ours_is_an_error() {
    let collector = collector();
    let log =
        format!("\n[log]\ntraces = \"http://{}\"\ntraces-sample = 100\n", collector.address());
    let program = Program::run(&config(&[dead()], "retries = 0", &log));
    assert_eq!(Client::connect(program.address("web")).get("/").status, 503);
    let span = until_spans(&collector, 1).pop().unwrap();
    assert_eq!(attribute(&span, "evenkeel.reason"), "connect-refused");
    assert_eq!(attribute(&span, "http.response.status_code"), "503");
    assert_eq!(span["status"]["code"], 2);
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let backend = Recorder::answering(|_| ok(b"hello"));
    let program = traced(&backend, &dead().to_string(), "100%", "");
    let mut client = Client::connect(program.address("web"));
    let began = Instant::now();
    (0..50).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    until_counted(&program, "evenkeel_trace_spans_total", &[("result", "lost")], 50.0);
    program.until_said("spans are being lost");
}

#[test]
fn what_is_left_at_the_stop_is_still_sent() {
    let (backend, collector) = (Recorder::answering(|_| ok(b"hello")), collector());
    let mut program = traced(&backend, &collector.address().to_string(), "100%", "");
    let mut client = Client::connect(program.address("web"));
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    drop(client);
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(spans(&collector).len(), 20);
}
