//! Chromium on `samples/site.toml`: a page from files calls an API of three backends, talks on a WebSocket and listens to events.
//! The page writes down what came of it, and nothing may be missing, neither over HTTP/2 nor over HTTP/1.1.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::http::{ok, read_request};
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::until_within;
use crate::support::websocket::Echo;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A site</title>
<link rel="icon" href="logo.svg">
<link rel="stylesheet" href="style.css">
<script src="app.js" defer></script>
<img src="logo.svg" alt="">
</html>
"#;

const STYLE: &str = "body { color: rgb(1, 2, 3) }\n";

const LOGO: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="32" height="16"></svg>"#;

const SCRIPT: &str = r#"
const text = "\u00fc".repeat(100000);

const socket = () => new Promise((done, fail) => {
    const said = [];
    const socket = new WebSocket(`wss://${location.host}/chat`, ["one", "two"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { socket.send(text); socket.send(new Uint8Array([0, 255, 7])); };
    socket.onmessage = event => {
        said.push(typeof event.data === "string" ? event.data === text : [...new Uint8Array(event.data)]);
        if (said.length === 2) socket.close(4000, "enough");
    };
    socket.onclose = event => done([socket.protocol, said, event.code, event.reason, event.wasClean]);
});

// Each event is sent only when the one before it has been seen here.
const events = () => new Promise((done, fail) => {
    const seen = [];
    const source = new EventSource("/api/events");
    source.onerror = () => fail("the stream of events broke off");
    source.onmessage = event => {
        seen.push(event.data);
        if (seen.length < 3) { fetch("/api/next"); return; }
        source.close();
        done(seen);
    };
});

async function all() {
    const image = document.querySelector("img");
    await image.decode();
    const names = await Promise.all(
        [...Array(30).keys()].map(at => fetch(`/api/name?${at}`).then(answer => answer.json())));
    const posted = await fetch("/api/echo", { method: "POST", body: text });
    const missing = await fetch("/missing.txt", { method: "HEAD" });
    return {
        style: getComputedStyle(document.body).color,
        image: image.naturalWidth,
        names: names.map(answer => answer.name).sort(),
        echo: await posted.text() === text,
        missing: missing.status,
        socket: await socket(),
        events: await events(),
        protocols: performance.getEntries().filter(entry => "nextHopProtocol" in entry)
            .map(entry => [new URL(entry.name).pathname, entry.nextHopProtocol]),
    };
}

onload = () => all().catch(error => ({ error: `${error}` })).then(verdict => { window.verdict = verdict; });
"#;

/// A backend of the API. An event leaves once `released` says so, whichever backend was told.
fn api(name: &'static str, released: Arc<AtomicUsize>) -> Backend {
    Backend::serving(move |stream| {
        let mut stream = BufReader::new(stream);
        while let Ok(request) = read_request(&mut stream) {
            let path = request.line.split(' ').nth(1).unwrap_or_default();
            let answer = match path {
                "/api/events" => return send_events(stream.into_inner(), &released),
                "/api/next" => {
                    released.fetch_add(1, SeqCst);
                    ok(b"")
                }
                "/api/echo" => ok(&request.body),
                _ => ok(json!({ "name": name }).to_string().as_bytes()),
            };
            stream.get_mut().write_all(&answer)?;
        }
        Ok(())
    })
}

fn send_events(mut stream: TcpStream, released: &AtomicUsize) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for at in 0..3 {
        let deadline = Instant::now() + Duration::from_secs(20);
        while released.load(SeqCst) < at && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let event = format!("data: event {at}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    }
    // The page ends it.
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

/// The sample with real addresses, a certificate, and these versions of HTTP.
fn site(
    backends: &[Backend],
    chat: &Echo,
    root: &Path,
    certificates: &Certificates,
    http: &str,
) -> Program {
    let tls = format!("tls = {{ {} }}\nhttp = [{http}]", certificates.pair());
    let mut config = include_str!("../samples/site.toml").to_owned();
    let mut replace = |written: &str, real: &str| {
        assert!(config.contains(written), "the sample no longer has {written}");
        config = config.replace(written, real);
    };
    for (at, backend) in backends.iter().enumerate() {
        replace(&format!("127.0.0.1:910{}", at + 1), &backend.address.to_string());
    }
    replace("127.0.0.1:9201", &chat.address.to_string());
    replace("\":8080\"", "\"127.0.0.1:0\"");
    replace("# tls  = { certificate = \"fullchain.pem\", key = \"privkey.pem\" }", &tls);
    replace("/srv/www", &root.display().to_string());
    Program::run(&format!(
        "{config}\n[log]\naccess-format = \"{{path}} {{protocol}} {{status}} {{why}}\"\n"
    ))
}

/// Visits the site; what the page wrote down, and the access log.
fn visit(http: &str) -> (Value, String) {
    let certificates = Certificates::new();
    let root = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in
        [("index.html", PAGE), ("style.css", STYLE), ("app.js", SCRIPT), ("logo.svg", LOGO)]
    {
        std::fs::write(root.path().join(name), text).expect("write");
    }
    let released = Arc::new(AtomicUsize::new(0));
    let backends = ["one", "two", "three"].map(|name| api(name, Arc::clone(&released)));
    let chat = Echo::start();
    let program = site(&backends, &chat, root.path(), &certificates, http);

    let browser = Browser::open(program.address("site"), &certificates);
    browser.visit("https://a.test/");
    let mut verdict = Value::Null;
    until_within(Duration::from_secs(30), "the page has its verdict", || {
        verdict = browser.script("return window.verdict");
        verdict != Value::Null
    });
    let console = browser.console();
    // It was asked for on purpose, and Chromium says so.
    let complaints: Vec<_> = console.iter().filter(|line| !line.contains("/missing.txt")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{verdict:#}");
    drop(browser);
    until_within(Duration::from_secs(10), "the WebSocket has its line", || {
        program.output().contains("/chat ")
    });
    (verdict, program.output())
}

fn assert_whole(verdict: &Value, protocol: &str) {
    let names: Vec<_> = ["one", "three", "two"].into_iter().flat_map(|name| [name; 10]).collect();
    assert_eq!(verdict["error"], Value::Null);
    assert_eq!(verdict["style"], "rgb(1, 2, 3)");
    assert_eq!(verdict["image"], 32);
    assert_eq!(verdict["names"], json!(names), "each backend has its third of the calls");
    assert_eq!(verdict["echo"], true);
    assert_eq!(verdict["missing"], 404);
    assert_eq!(verdict["socket"], json!(["one", [true, [0, 255, 7]], 4000, "enough", true]));
    assert_eq!(verdict["events"], json!(["event 0", "event 1", "event 2"]));
    let protocols = verdict["protocols"].as_array().expect("a list");
    for part in ["/", "/style.css", "/app.js", "/logo.svg", "/api/name", "/api/echo", "/api/next"] {
        assert!(protocols.contains(&json!([part, protocol])), "{part}: {protocols:?}");
    }
    assert!(protocols.iter().all(|part| part[1] == protocol), "{protocols:?}");
}

#[test]
fn a_page_with_all_its_parts_works_in_chromium_over_http2() {
    let (verdict, log) = visit("\"1.1\", \"2\"");
    assert_whole(&verdict, "h2");
    // The WebSocket is a stream of the same connection (RFC 8441).
    assert!(log.contains("/chat HTTP/2.0 200 "), "{log}");
}

#[test]
fn a_page_with_all_its_parts_works_in_chromium_over_http1() {
    let (verdict, log) = visit("\"1.1\"");
    assert_whole(&verdict, "http/1.1");
    assert!(log.contains("/chat HTTP/1.1 101 "), "{log}");
}
