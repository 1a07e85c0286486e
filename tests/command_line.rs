//! The command line: exit codes that scripts can rest on, every problem of a config with its place, defaults on demand.
//! The real binary runs here, in a folder of its own.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::visit;
use crate::support::h2::H2Client;
use crate::support::http::{Client, Recorder, ok};
use crate::support::program::{BINARY, Program, once};

const GOOD: &str = "[upstream.app]\nbackends = [\"127.0.0.1:9001\"]\n\
                    [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";

const BAD: &str = "[upstream.app]\nbackends = [\"127.0.0.1:9001\"]\nblance = \"random\"\n\
                   [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"ap\"\nidle-timeout = 30\n";

/// Runs a command line in a folder that has these files.
fn run(arguments: &[&str], files: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    once(arguments, folder.path())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_says_fine_or_every_problem_with_its_place() {
    let fine = run(&["check", "-c", "x.toml"], &[("x.toml", GOOD)]);
    assert_eq!(fine.status.code(), Some(0));
    assert!(text(&fine.stdout).contains("x.toml is fine"), "{fine:?}");
    let bad = run(&["check", "-c", "x.toml"], &[("x.toml", BAD)]);
    assert_eq!(bad.status.code(), Some(1));
    let said = text(&bad.stderr);
    for place in ["x.toml:3:1", "x.toml:6:12", "x.toml:7:16"] {
        assert!(said.contains(place), "{place} is not in:\n{said}");
    }
    assert!(said.contains("balance") && said.contains("app"), "it names the nearest:\n{said}");
    assert!(said.contains("blance = \"random\""), "it draws the line:\n{said}");
}

#[test]
fn the_config_is_evenkeel_toml_when_nothing_else_is_said() {
    let fine = run(&["check"], &[("evenkeel.toml", GOOD)]);
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    let missing = run(&["check"], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("evenkeel.toml"), "{missing:?}");
}

#[test]
fn diff_says_what_another_file_would_change() {
    let new = format!("[process]\nworkers = 7\n{}", GOOD.replace("[tcp.", "[tcp.other-"));
    let said = run(&["diff", "-c", "x.toml", "new.toml"], &[("x.toml", GOOD), ("new.toml", &new)]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = text(&said.stdout);
    assert!(said.contains("process.workers: 7 instead of nothing\n"), "{said}");
    assert!(said.contains(": new\n") && said.contains(": removed\n"), "{said}");
    assert!(said.contains("process.workers: takes effect with the next start only\n"), "{said}");
    let same = run(&["diff", "-c", "x.toml", "x.toml"], &[("x.toml", GOOD)]);
    assert_eq!(text(&same.stdout), "nothing would change\n");
    let bad = run(&["diff", "-c", "x.toml", "bad.toml"], &[("x.toml", GOOD), ("bad.toml", BAD)]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).contains("bad.toml:3:1"), "{bad:?}");
}

#[test]
fn check_speaks_json_when_asked() {
    let bad = run(&["check", "--json", "-c", "x.toml"], &[("x.toml", BAD)]);
    assert_eq!(bad.status.code(), Some(1));
    let problems: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    let problems = problems.as_array().or_else(|| problems["problems"].as_array()).expect("a list");
    assert_eq!(problems.len(), 3, "{problems:?}");
    let lines: Vec<_> = problems.iter().map(|problem| problem["line"].as_u64()).collect();
    assert_eq!(lines, [Some(3), Some(6), Some(7)]);
    assert!(problems.iter().all(|problem| problem["file"] == "x.toml"), "{problems:?}");
    let fine = run(&["check", "--json", "-c", "x.toml"], &[("x.toml", GOOD)]);
    assert_eq!(fine.status.code(), Some(0));
    serde_json::from_slice::<Value>(&fine.stdout).expect("JSON");
}

#[test]
fn the_effective_config_has_every_default_and_can_be_read_again() {
    let shown = run(&["check", "--effective"], &[("evenkeel.toml", GOOD)]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let effective = text(&shown.stdout);
    for default in ["connect-timeout = \"3s\"", "retries = 1", "idle-timeout = \"10m\""] {
        assert!(effective.contains(default), "{default} is not in:\n{effective}");
    }
    let again = run(&["check", "--effective"], &[("evenkeel.toml", effective)]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(text(&again.stdout), effective);
}

#[test]
fn schema_is_a_json_schema_and_version_a_version() {
    let schema = run(&["schema"], &[]);
    assert_eq!(schema.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["$schema"].is_string() && schema["properties"]["tcp"].is_object());
    let version = run(&["version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), concat!("evenkeel ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    for arguments in [
        &["run", "--colour"][..],
        &["fly"],
        &[],
        &["tcp", "--listen", "127.0.0.1:0"],
        &["tcp", "--listen", "nonsense", "--to", "127.0.0.1:1"],
        &["tcp", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1*x"],
    ] {
        let refused = run(arguments, &[]);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(!refused.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn a_bad_config_does_not_run() {
    let refused = run(&["run"], &[("evenkeel.toml", BAD)]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("evenkeel.toml:3:1"), "{refused:?}");
    let empty = run(&["run"], &[("evenkeel.toml", "")]);
    assert_eq!(empty.status.code(), Some(1), "{empty:?}");
    assert!(text(&empty.stderr).contains("listener"), "{empty:?}");
}

#[test]
fn an_address_in_use_is_exit_code_three() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let config = GOOD.replace("127.0.0.1:0\"\nupstream", &format!("{taken}\"\nupstream"));
    let refused = run(&["run"], &[("evenkeel.toml", &config)]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains(&taken) && said.contains("[tcp.public]"), "{said}");
}

#[test]
fn a_second_start_of_the_same_config_is_refused() {
    let backend = Backend::named("x");
    let free = crate::support::backend::dead();
    let config = format!(
        "[upstream.app]\nbackends = [\"{}\"]\n[tcp.public]\nlisten = \"{free}\"\nupstream = \"app\"\n",
        backend.address
    );
    let first = Program::run(&config);
    let second = run(&["run"], &[("evenkeel.toml", &config)]);
    assert_eq!(second.status.code(), Some(3), "{second:?}");
    assert_eq!(visit(first.address("public")), "x");
}

#[test]
fn tcp_balances_without_a_config_and_a_star_gives_a_weight() {
    let (a, b) = (Backend::named("A"), Backend::named("B"));
    let mut command = Command::new(BINARY);
    let to = format!("{},{}*2", a.address, b.address);
    command.args(["tcp", "--listen", "127.0.0.1:0", "--to", &to]);
    let mut program = Program::spawn(command, tempfile::tempdir().unwrap());
    program.until_said("listening on");
    let door = program.address("tcp");
    let names: String = (0..30).map(|_| visit(door)).collect();
    assert_eq!((names.matches('A').count(), names.matches('B').count()), (10, 20), "{names}");
    assert_eq!(program.until_lines(30).len(), 30);
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn http_balances_requests_without_a_config_and_serves_the_files_there_are() {
    let backends = ["A", "B"].map(|name| Recorder::answering(move |_| ok(name.as_bytes())));
    let [a, b] = [backends[0].address(), backends[1].address()];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("there.txt"), "a file").unwrap();
    let mut command = Command::new(BINARY);
    command.args(["http", "--listen", "127.0.0.1:0", "--to", &format!("{a},{b}"), "--files"]);
    command.arg(folder.path());
    let mut program = Program::spawn(command, folder);
    program.until_said("listening on");
    let door = program.address("http");
    let mut client = Client::connect(door);
    let names: String = (0..10).map(|_| client.get("/elsewhere").text()).collect();
    assert_eq!((names.matches('A').count(), names.matches('B').count()), (5, 5), "{names}");
    assert_eq!(client.get("/there.txt").text(), "a file");
    assert_eq!(H2Client::connect(door).get("/there.txt").text(), "a file");
    assert_eq!(program.until_lines(12).len(), 12);
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn values_come_from_the_environment_and_parts_from_other_files() {
    let backend = Backend::named("x");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sites")).unwrap();
    let main = "include = [\"sites/*.toml\"]\n[upstream.app]\nbackends = [\"${BACKEND}\"]\n";
    let site = "[tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    fs::write(folder.path().join("evenkeel.toml"), main).unwrap();
    fs::write(folder.path().join("sites/one.toml"), site).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("run").current_dir(folder.path()).env("BACKEND", backend.address.to_string());
    let program = Program::spawn(command, folder);
    program.until_said("listening on");
    assert_eq!(visit(program.address("public")), "x");
    let missing = once(&["check"], program.folder());
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("BACKEND"), "{missing:?}");
}
