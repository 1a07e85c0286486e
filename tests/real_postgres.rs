//! PostgreSQL behind Evenkeel, driven by its own benchmark: the people who connect must not notice that we are there.
//! Both servers hold the same tables, so whichever a connection gets, every transaction must succeed.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::servers::{self, program, run};
use crate::support::start;

#[test]
fn pgbench_loses_no_transaction_over_two_postgresql_servers() {
    let (one, two) = (servers::postgres(), servers::postgres());
    let (a, b) = (one.address, two.address);
    let running = start(&format!(
        r#"
        [upstream.one]
        backends = ["{a}"]
        [upstream.two]
        backends = ["{b}"]
        [upstream.both]
        backends = ["{a}", "{b}"]
        balance = "least-connections"
        health = {{ tcp = true, every = "500ms" }}
        [tcp.one]
        listen = "127.0.0.1:0"
        upstream = "one"
        [tcp.two]
        listen = "127.0.0.1:0"
        upstream = "two"
        [tcp.both]
        listen = "127.0.0.1:0"
        upstream = "both"
        "#
    ));
    for name in ["one", "two"] {
        run(pgbench(running.addresses(name)[0]).args(["-i", "-q"]), Duration::from_secs(60));
    }

    let door = running.addresses("both")[0];
    let said = run(pgbench(door).args(["-n", "-c", "8", "-T", "3", "-S"]), Duration::from_secs(60));

    assert!(transactions(&said) > 100, "{said}");
    assert!(!said.contains("failed transactions:") || said.contains("transactions: 0 "), "{said}");
    for counts in running.backends() {
        assert_eq!(counts.failures, 0, "{counts:?}");
        let fair = if counts.upstream == "both" { 3 } else { 1 };
        assert!(counts.connections >= fair, "{counts:?}");
    }
}

/// How many transactions pgbench says it has done.
pub(crate) fn transactions(said: &str) -> u64 {
    let line = said.lines().find(|line| line.contains("actually processed:"));
    let number = line.and_then(|line| line.split(": ").nth(1)?.split(['/', ' ']).next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("pgbench said: {said}"))
}

/// pgbench against an address; what it shall do is still to be added.
pub(crate) fn pgbench(to: SocketAddr) -> Command {
    let mut command = Command::new(program("pgbench"));
    command.env("PGHOST", "127.0.0.1").env("PGPORT", to.port().to_string());
    command.env("PGUSER", "postgres").env("PGDATABASE", "postgres").env("PGCONNECT_TIMEOUT", "10");
    command
}
