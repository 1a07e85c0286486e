//! `evenkeel demo` without a terminal: it shows what it promises, takes other ports where the usual are taken,
//! ends by itself or when told to, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::until;

/// One demo at a time: what one finds free must not be what another is about to leave.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demo(arguments: &[&str]) -> Command {
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

/// The addresses of the three backends and the load balancer, from the first lines.
fn addresses(text: &str) -> Vec<SocketAddr> {
    let named = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).trim().parse().unwrap()
    };
    ["blue", "green", "orange", "load balancer"].map(named).to_vec()
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
    let usual = ["127.0.0.1:8080", "127.0.0.1:9001"];
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
