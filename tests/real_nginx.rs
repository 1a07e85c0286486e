//! nginx behind Evenkeel and curl before it: HTTP as one more protocol over TCP, checked by an HTTP health check.
//! A big file must arrive byte for byte, and turns must be exact whoever counts them.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::servers::{self, program, run};
use crate::support::{config, noise, serve, until, until_state};

const HEALTH: &str = r#"health = { http = "/healthz", status = [200], every = "200ms" }"#;

#[test]
fn a_hundred_requests_of_curl_are_shared_evenly_by_two_nginx() {
    let (one, two) = (servers::nginx("one", b""), servers::nginx("two", b""));
    let (_running, door) = serve(&config(&[one.address, two.address], HEALTH, ""));

    // One request after the other, and a connection for each.
    let url = format!("http://{door}/name?[1-100]");
    let said = run(curl().args(["-H", "Connection: close", &url]), Duration::from_secs(60));

    let answers = |name: &str| said.lines().filter(|line| *line == name).count();
    assert_eq!((answers("one"), answers("two")), (50, 50), "{said}");
}

#[test]
fn a_server_that_fails_its_http_check_gets_no_request() {
    let (one, two) = (servers::nginx("one", b""), servers::nginx("two", b""));
    // The check asks for a file that only one of them has.
    std::fs::write(one.folder().join("ready"), "yes").expect("write");
    let health = r#"health = { http = "/ready", status = [200], every = "100ms", fall = 2 }"#;
    let (running, door) = serve(&config(&[one.address, two.address], health, ""));
    until_state(&running, two.address, "unhealthy");

    let ten_requests = || {
        let url = format!("http://{door}/name?[1-10]");
        run(curl().args(["-H", "Connection: close", &url]), Duration::from_secs(60))
    };
    until("all requests go to the other", || ten_requests() == "one\n".repeat(10));

    std::fs::write(two.folder().join("ready"), "yes").expect("write");
    until_state(&running, two.address, "healthy");
    until("it has its half again", || ten_requests().matches("two").count() == 5);
}

#[test]
fn a_big_file_arrives_byte_for_byte() {
    let file = noise(7, 64 << 20);
    let nginx = servers::nginx("one", &file);
    let (_running, door) = serve(&config(&[nginx.address], HEALTH, ""));
    let fetched = nginx.folder().join("fetched");

    run(curl().arg("-o").arg(&fetched).arg(big(door)), Duration::from_secs(120));

    let fetched = std::fs::read(fetched).expect("what curl has written");
    assert_eq!(fetched.len(), file.len());
    assert!(fetched == file, "the file was changed on its way");
}

fn big(door: SocketAddr) -> String {
    format!("http://{door}/big")
}

fn curl() -> Command {
    let mut command = Command::new(program("curl"));
    // Neither a proxy from the environment nor settings from a home folder.
    command.args(["-q", "--noproxy", "*", "--silent", "--show-error", "--fail"]);
    command
}
