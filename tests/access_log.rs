//! The access log: exactly one line for every connection that came, also for those that were refused.
//! Text and JSON say the same: who, where, why it ended and by whose doing, bytes, times, tries.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use serde_json::Value;

use crate::support::backend::{Backend, dead};
use crate::support::client::{connect, is_served, read_to_last, reset, visit};
use crate::support::config;
use crate::support::program::Program;

fn logging(backends: &[SocketAddr], upstream: &str, listener: &str, format: &str) -> Program {
    let own = config(backends, upstream, listener);
    Program::run(&format!("{own}[log]\nformat = \"{format}\"\n"))
}

fn json(program: &Program, count: usize) -> Vec<Value> {
    let lines = program.until_lines(count);
    assert_eq!(lines.len(), count, "{lines:?}");
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    lines.iter().map(parse).collect()
}

/// A backend that takes all, waits a moment and answers with five bytes.
fn replying() -> Backend {
    Backend::serving(|mut stream| {
        stream.read_to_end(&mut Vec::new())?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        stream.write_all(b"12345")
    })
}

fn ask(door: SocketAddr) -> SocketAddr {
    let mut client = connect(door);
    client.write_all(b"123").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let who = client.local_addr().unwrap();
    assert_eq!(read_to_last(client).0, b"12345");
    who
}

#[test]
fn a_json_line_has_every_field_right() {
    let (gone, backend) = (dead(), replying());
    let program = logging(&[gone, backend.address], "balance = \"first\"", "", "json");
    let who = ask(program.address("public"));
    let line = json(&program, 1).remove(0);
    let expected = [
        ("client", who.to_string()),
        ("listener", "public".into()),
        ("upstream", "app".into()),
        ("backend", backend.address.to_string()),
        ("why", "client-finished".into()),
        ("side", "client".into()),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!((&line["bytes_up"], &line["bytes_down"]), (&3.into(), &5.into()), "{line}");
    assert_eq!(line["tried"], 2, "{line}");
    assert!(line["queue_ms"].is_null() && line["detail"].is_null(), "{line}");
    let [connect, first, total] =
        ["connect_ms", "first_byte_ms", "total_ms"].map(|field| line[field].as_f64().unwrap());
    assert!(connect > 0.0 && connect < first && first <= total, "{line}");
    assert!((45.0..5000.0).contains(&first), "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
}

#[test]
fn a_text_line_says_the_same() {
    let backend = replying();
    let program = logging(&[backend.address], "", "", "text");
    let who = ask(program.address("public"));
    let line = program.until_lines(1).remove(0);
    let words: Vec<_> = line.split(' ').collect();
    let backend = backend.address.to_string();
    assert_eq!(
        words[1..9],
        [
            &who.to_string(),
            "public",
            "app",
            &backend,
            "client-finished",
            "client",
            "up=3",
            "down=5"
        ],
        "{line}"
    );
    assert_eq!(words[9], "queue=-", "{line}");
    for (word, name) in words[10..13].iter().zip(["connect=", "first=", "total="]) {
        let time = word.strip_prefix(name).and_then(|time| time.strip_suffix("ms"));
        assert!(time.and_then(|time| time.parse::<f64>().ok()).is_some(), "{word} in {line}");
    }
    assert_eq!(words[13..], ["tried=1"], "{line}");
}

#[test]
fn a_refused_client_has_its_line_too() {
    let backend = Backend::echo();
    for (rule, why) in [
        ("deny = [\"127.0.0.0/8\"]", "denied"),
        ("connections-max = 1", "limit-listener"),
        ("client-connections-max = 1", "limit-client"),
        ("client-connections-per-second = 1", "limit-client-rate"),
        ("[process]\nconnections-max = 1", "limit-process"),
    ] {
        let program = logging(&[backend.address], "", rule, "json");
        let door = program.address("public");
        let first = connect(door);
        // Which of two is accepted first is only sure once one is served.
        assert_eq!(is_served(&first), why != "denied", "{rule}");
        let second = connect(door);
        read_to_last(&second);
        let who = second.local_addr().unwrap().to_string();
        drop(first);
        let lines = json(&program, 2);
        let line = lines.iter().find(|line| line["client"] == who).expect("a line of its own");
        assert_eq!(line["why"], why, "{line}");
        assert_eq!(line["side"], if why == "denied" { "client" } else { "limit" }, "{line}");
        assert!(line["backend"].is_null(), "{line}");
        assert_eq!((&line["tried"], &line["bytes_up"]), (&0.into(), &0.into()), "{line}");
    }
}

#[test]
fn failures_to_connect_name_the_backend_and_the_cause() {
    let gone = dead();
    let program = logging(&[gone], "", "", "json");
    assert_eq!(visit(program.address("public")), "");
    let line = json(&program, 1).remove(0);
    assert_eq!((&line["why"], &line["side"]), (&"connect-refused".into(), &"backend".into()));
    assert_eq!(line["backend"], gone.to_string());
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains(&gone.to_string()) && detail.contains("refused"), "{detail}");
}

#[test]
fn each_connection_has_exactly_one_line_however_it_ends() {
    let echo = Backend::echo();
    let program = logging(&[echo.address], "", "idle-timeout = \"300ms\"", "json");
    let door = program.address("public");
    let mut everybody = Vec::new();
    for round in 0..30 {
        let mut client = connect(door);
        everybody.push(client.local_addr().unwrap().to_string());
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        match round % 3 {
            0 => drop(client),
            1 => reset(client),
            _ => drop(read_to_last(client)),
        }
    }
    let lines = json(&program, 30);
    let named: Vec<_> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
    for who in &everybody {
        assert_eq!(named.iter().filter(|name| *name == who).count(), 1, "{who}");
    }
    for why in ["client-finished", "client-reset", "idle-timeout"] {
        assert_eq!(lines.iter().filter(|line| line["why"] == why).count(), 10, "{why}");
    }
}

#[test]
fn waiting_in_the_queue_is_told_apart_from_connecting() {
    let backend = Backend::named("x");
    let own = crate::support::config_with(
        &format!("{{ address = \"{}\", connections-max = 1 }}", backend.address),
        "queue-timeout = \"400ms\"",
        "",
    );
    let program = Program::run(&format!("{own}[log]\nformat = \"json\"\n"));
    let door = program.address("public");
    let first = connect(door);
    assert_eq!(crate::support::client::line(&first), "x");
    assert_eq!(visit(door), "");
    let line = json(&program, 1).remove(0);
    assert_eq!((&line["why"], &line["side"]), (&"queue-timeout".into(), &"timeout".into()));
    assert!(line["queue_ms"].as_f64().is_some_and(|ms| ms >= 390.0), "{line}");
    let second = connect(door);
    std::thread::sleep(std::time::Duration::from_millis(100));
    drop(first);
    assert_eq!(crate::support::client::line(&second), "x");
    drop(second);
    let line = json(&program, 3).remove(2);
    assert_eq!((&line["why"], &line["tried"]), (&"client-finished".into(), &1.into()), "{line}");
    assert!(line["queue_ms"].as_f64().is_some_and(|ms| (50.0..400.0).contains(&ms)), "{line}");
    assert!(line["connect_ms"].as_f64().is_some_and(|ms| ms < 50.0), "{line}");
}

#[test]
fn lines_go_to_a_file_beside_the_config_or_nowhere() {
    let backend = Backend::echo();
    let own = config(&[backend.address], "", "");
    let program = Program::run(&format!("{own}[log]\naccess = \"logs.txt\"\n"));
    drop(connect(program.address("public")));
    let file = program.folder().join("logs.txt");
    crate::support::until("the line is in the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 1)
    });
    assert_eq!(program.output(), "");
    let silent = Program::run(&format!("{own}[log]\naccess = \"off\"\n"));
    drop(connect(silent.address("public")));
    silent.signal(rustix::process::Signal::TERM);
    let mut silent = silent;
    assert!(silent.until_exit(std::time::Duration::from_secs(5)).success());
    assert_eq!(silent.output(), "");
}
