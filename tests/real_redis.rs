//! Redis behind Evenkeel, driven by its own benchmark, with a server dying and coming back in between.
//! Health is asked in Redis' own words: a server counts as up when it answers PING.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::servers::{self, program, run};
use crate::support::{backend_counts, config, serve, until_state};

#[test]
fn redis_benchmark_runs_without_errors_also_after_a_server_has_died() {
    let (mut one, two) = (servers::redis(), servers::redis());
    let health =
        r#"health = { send = "PING\r\n", expect = "+PONG", every = "100ms", fall = 2, rise = 2 }"#;
    let (running, door) = serve(&config(&[one.address, two.address], health, ""));
    let connections = |address| backend_counts(&running, address).connections;

    benchmark(door, &[]);
    for address in [one.address, two.address] {
        assert!(connections(address) >= 50, "{:?}", running.backends());
    }

    one.kill();
    until_state(&running, one.address, "unhealthy");
    let before = (connections(one.address), connections(two.address));
    benchmark(door, &[]);
    assert_eq!(connections(one.address), before.0, "a dead server got a connection");
    assert!(connections(two.address) >= before.1 + 100, "{:?}", running.backends());

    one.start_again();
    until_state(&running, one.address, "healthy");
    benchmark(door, &[]);
    assert!(connections(one.address) > before.0, "{:?}", running.backends());
}

#[test]
fn commands_of_one_connection_are_spread_over_two_servers() {
    let (one, two) = (servers::redis(), servers::redis());
    let by_packet = "packet = \"redis\"\nbalance-per = \"packet\"";
    let (running, door) = serve(&config(&[one.address, two.address], "", by_packet));
    // Sixteen commands at a time on each connection, and one.
    benchmark(door, &["-P", "16"]);
    benchmark(door, &[]);
    let requests = |address| backend_counts(&running, address).requests;
    let (first, second) = (requests(one.address), requests(two.address));
    assert!(first.abs_diff(second) <= 2 && first + second >= 80_000, "{first} and {second}");
    let cli = |words: &[&str]| {
        let mut command = Command::new(program("redis-cli"));
        command.args(["-h", "127.0.0.1", "-p", &door.port().to_string()]).args(words);
        run(&mut command, Duration::from_secs(10))
    };
    assert_eq!(cli(&["ECHO", "two words"]).trim(), "two words");
    // Each server has what it was told.
    for word in ["left", "right"] {
        assert_eq!(cli(&["SET", "side", word]).trim(), "OK");
    }
    let sides = [cli(&["GET", "side"]), cli(&["GET", "side"])].map(|side| side.trim().to_owned());
    assert!(sides.contains(&"left".to_owned()) && sides.contains(&"right".to_owned()), "{sides:?}");
}

/// 20,000 SETs and 20,000 GETs over 50 connections; fails on any error.
pub(crate) fn benchmark(to: SocketAddr, further: &[&str]) {
    let mut command = Command::new(program("redis-benchmark"));
    command.args(["-h", "127.0.0.1", "-p", &to.port().to_string()]);
    command.args(["-n", "20000", "-c", "50", "-q", "-t", "set,get"]);
    command.args(further);
    let said = run(&mut command, Duration::from_secs(60));
    let done = |test: &str| {
        let mut lines = said.split(['\r', '\n']);
        lines.any(|line| line.starts_with(test) && line.contains("requests per second"))
    };
    assert!(done("SET: ") && done("GET: "), "{said}");
    assert!(!said.to_lowercase().contains("error"), "{said}");
}
