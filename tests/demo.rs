//! `evenkeel demo` without a terminal: it shows what it promises, takes other ports where the usual are taken,
//! ends by itself or when told to, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::h2::H2Client;
use crate::support::http::Client;
use crate::support::{client, until};

/// One demo at a time: what one finds free must not be what another is about to leave.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The addresses of the three backends and of both listeners, from the first lines.
pub(crate) fn addresses(text: &str) -> Vec<SocketAddr> {
    let named = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).trim().parse().unwrap()
    };
    ["blue", "green", "orange", "load balancer", "and for HTTP"].map(named).to_vec()
}

#[test]
fn the_demo_shows_an_ejection_and_a_return_and_leaves_nothing_behind() {
    let _alone = alone();
    let text = text(&demo(&["--for", "6s"]).output().unwrap());
    let events: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once(" * ")?.1)).collect();
    let at = |part: &str| {
        let found = events.iter().position(|event| event.contains(part));
        found.unwrap_or_else(|| panic!("{part:?} did not happen in\n{text}"))
    };
    assert!(at("green was stopped") < at("green was started"), "{text}");
    let away = events.iter().position(|event| {
        event.starts_with("green is ejected") || event.starts_with("green is down")
    });
    assert!(away.is_some_and(|away| away < at("green is back")), "{text}");
    let (total, _) = text.split_once(" connections with round-robin").expect("a sum");
    let total: u64 = total.lines().last().unwrap().parse().unwrap();
    assert!(total > 0, "{text}");
    for address in addresses(&text) {
        until(&format!("{address} is free again"), || TcpListener::bind(address).is_ok());
    }
}

#[test]
fn the_demo_takes_other_ports_where_the_usual_are_taken() {
    let _alone = alone();
    // Whoever holds the port, this test or another program: it is taken.
    let usual = ["127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:9001"];
    let _taken = usual.map(TcpListener::bind);
    let text = text(&demo(&["--for", "1s"]).output().unwrap());
    let found = addresses(&text);
    for usual in usual {
        let port = usual.parse::<SocketAddr>().unwrap().port();
        assert!(found.iter().all(|address| address.port() != port), "{text}");
        assert!(text.contains(&format!("port {port} is taken")), "{text}");
    }
}

#[test]
fn the_demo_balances_requests_of_both_versions_of_http() {
    let _alone = alone();
    let text = text(&demo(&["--for", "4s"]).output().unwrap());
    let number = |form: &str| -> u64 {
        let form = regex::Regex::new(form).unwrap();
        let found = form.captures(&text).unwrap_or_else(|| panic!("{form} is not in\n{text}"));
        found[1].parse().unwrap()
    };
    for backend in ["blue", "green", "orange"] {
        assert!(number(&format!(r"HTTP requests: .*{backend} (\d+)")) > 0, "{text}");
    }
    let total = number(r"(\d+) HTTP requests: ");
    let (old, new) = (number(r"(\d+) answered by HTTP/1\.1"), number(r"and (\d+) by HTTP/2"));
    assert!(old > 0 && new > 0 && old + new <= total, "{text}");
    // The live lines have rates by backend and by status, also of what is not there.
    assert!(number(r"blue \d+/s, HTTP ([1-9]\d*)/s, healthy") > 0, "{text}");
    assert!(number(r"HTTP 2xx ([1-9]\d*)/s, 4xx [1-9]\d*/s, 5xx \d+/s") > 0, "{text}");
    let door = addresses(&text)[4];
    assert!(text.contains(&format!("  curl -i http://{door}/\n")), "{text}");
}

#[test]
fn anybody_can_ask_the_demo_by_tcp_and_both_versions_of_http() {
    let _alone = alone();
    let mut child = demo(&["--for", "30s"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let begin: Vec<String> = lines.take_while(|line| !line.contains("clients a second")).collect();
    let found = addresses(&begin.join("\n"));
    let hello = |text: String| assert!(text.starts_with("hello from "), "{text}");
    let mut client = Client::connect(found[4]);
    hello(client.get("/").text());
    hello(client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").answer().text());
    assert_eq!(client.get("/missing").status, 404);
    hello(H2Client::connect(found[4]).get("/").text());
    // Over TCP, also a client that waits for the server to begin is greeted.
    hello(client::line(&client::connect(found[3])));
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_ends_the_demo_in_order() {
    let _alone = alone();
    let mut child = demo(&["--for", "1h"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("healthy")).expect("a line about the backends");
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let began = std::time::Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(began.elapsed() < std::time::Duration::from_secs(2));
    assert!(lines.any(|line| line.contains("answered")), "no sum at the end");
}
