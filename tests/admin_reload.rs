//! `evenkeel reload`: the answer says what came of it, a file with errors changes nothing, and a config that nobody confirms goes
//! by itself. While one waits to be confirmed, no other takes its place, whoever asks.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::admin::{backend, refused, status, tell, told, write};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, visit};
use crate::support::http::{Client, Recorder, ok};
use crate::support::program::{Program, once};
use crate::support::{config, until};

#[test]
fn reload_answers_with_what_has_changed_and_what_takes_a_restart() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    assert_eq!(visit(door), "1");
    let further = "[process]\nworkers = 7\n[admin]\nready = \"127.0.0.1:0\"\n";
    write(&program, &config(&[two.address], "", further));
    let said = told(&program, &["reload"]);
    let lists = format!("upstream.app.backends: +\"{}\" -\"{}\"\n", two.address, one.address);
    assert!(said.contains(&lists) && said.ends_with("reloaded: 3 changes\n"), "{said}");
    for key in ["process.workers", "admin.ready"] {
        let named = format!("{key}: takes effect with the next start only\n");
        assert!(said.contains(&named), "{said}");
    }
    assert_eq!(visit(door), "2");
    let again = told(&program, &["reload"]);
    assert!(again.ends_with("reloaded: nothing has changed\n"), "{again}");
    let json: Value = serde_json::from_str(&told(&program, &["reload", "--json"])).unwrap();
    assert_eq!(json["changes"], serde_json::json!([]));
}

#[test]
fn a_reload_that_cannot_be_changes_nothing_and_every_problem_is_drawn() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    let wrong = config(&[two.address], "blance = \"random\"", "idle-timout = \"1s\"");
    write(&program, &wrong);
    for arguments in [&["reload"][..], &["reload", "--dry-run"]] {
        let said = refused(&program, arguments, 1);
        for part in ["evenkeel.toml:3:1", "evenkeel.toml:7:1", "blance = \"random\""] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
    }
    let output = tell(&program, &["reload", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["problems"].as_array().unwrap().len(), 2);
    assert_eq!(json["problems"][0]["line"], 3);
    program.until_said("reload refused, nothing has changed");
    // What only the start would find out has an exit code of its own.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let listener = format!("[tcp.second]\nlisten = \"{port}\"\nupstream = \"app\"\n");
    write(&program, &config(&[two.address], "", &listener));
    assert!(refused(&program, &["reload"], 3).contains("another process listens"));
    assert_eq!(visit(door), "1");
}

#[test]
fn a_dry_run_changes_nothing_and_counts_the_connections_it_would_touch() {
    let (stays, leaves) = (Backend::echo(), Backend::echo());
    let first = "balance = \"first\"";
    let program = Program::run(&config(&[leaves.address, stays.address], first, ""));
    let door = program.address("public");
    let inside: Vec<_> = (0..3).map(|_| connect(door)).collect();
    inside.iter().for_each(|client| assert_echo(client, b"before"));
    let other = "idle-timeout = \"5s\"\n[process]\nremoved-backends = \"drain\"\n";
    let new = config(&[stays.address], first, other);
    std::fs::write(program.folder().join("new.toml"), &new).unwrap();
    let by_diff = told(&program, &["diff", "new.toml"]);
    write(&program, &new);
    let said = told(&program, &["reload", "--dry-run"]);
    assert_eq!(by_diff, said);
    let removed = format!(
        "app/{} (removed): 3 open connections; each has 30s to end, and is cut then\n",
        leaves.address
    );
    assert!(said.contains(&removed), "{said}");
    assert!(
        said.contains("tcp.public (changed): 3 open connections; each goes on as it began\n"),
        "{said}"
    );
    assert!(said.contains("tcp.public.idle-timeout: \"5s\" instead of \"10m\"\n"), "{said}");
    // It still goes by the old one.
    let fourth = connect(door);
    assert_echo(&fourth, b"hello");
    assert_eq!((leaves.accepted(), stays.accepted()), (4, 0));
    assert!(!program.diagnostics().contains("reloaded"), "{}", program.diagnostics());
    // A file that is gone is no reason not to ask the process.
    let offline = once(&["diff", "--offline", "-c", "evenkeel.toml", "new.toml"], program.folder());
    assert_eq!(offline.stdout, b"nothing would change\n");
}

#[test]
fn connections_of_listeners_that_leave_are_counted_too() {
    let (one, web) = (Backend::echo(), Recorder::answering(|_| ok(b"hello")));
    let upstream = format!("[upstream.web]\nbackends = \"{}\"\n", web.address());
    let http = "[http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"web\"\n";
    let other = "[tcp.other]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n";
    let program = Program::run(&config(&[one.address], "", &[&upstream, http, other].concat()));
    let inside = connect(program.address("other"));
    assert_echo(&inside, b"hello");
    let mut client = Client::connect(program.address("web"));
    assert_eq!(client.get("/").text(), "hello");
    let http = http.replace("upstream =", "idle-timeout = \"9s\"\nupstream =");
    write(&program, &config(&[one.address], "", &[&*upstream, &http].concat()));
    let said = told(&program, &["reload", "--dry-run"]);
    assert!(
        said.contains("tcp.other (removed): 1 open connection; it goes on to its end\n"),
        "{said}"
    );
    let next = "http.web (changed): 1 open connection; it goes by the new config from its next request on\n";
    assert!(said.contains(next), "{said}");
    assert!(!said.contains("tcp.public ("), "nobody is there: {said}");
    write(&program, &config(&[one.address], "", ""));
    let said = told(&program, &["reload"]);
    assert!(
        said.contains("http.web (removed): 1 open connection; it ends between two requests\n"),
        "{said}"
    );
    assert!(client.is_closed());
    assert_echo(&inside, b"still here");
}

#[test]
fn a_config_that_nobody_confirms_goes_by_itself() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    told(&program, &["weight", "app", "4"]);
    // Of an upstream that is gone in between, its operator's words come back too.
    write(&program, &config(&[two.address], "", "").replace("app", "other"));
    let said = told(&program, &["reload", "--confirm-within", "3s"]);
    assert!(said.contains("goes back in 3s, unless `evenkeel confirm` comes"), "{said}");
    assert_eq!(visit(door), "2");
    program.until_said("unless `evenkeel confirm` comes");
    program.until_said("nobody has confirmed within 3s: back to the config before");
    assert_eq!(visit(door), "1");
    assert_eq!(status(&program)["confirm_within_ms"], Value::Null);
    assert_eq!(backend(&program, &one.address.to_string())["operator"], "weight 4");
    assert!(refused(&program, &["confirm"], 6).contains("nothing waits"));
}

#[test]
fn a_config_that_is_confirmed_stays() {
    let (one, two) = (Backend::named("1"), Backend::named("2"));
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    write(&program, &config(&[two.address], "", ""));
    told(&program, &["reload", "--confirm-within", "4s"]);
    let left = status(&program)["confirm_within_ms"].as_u64().unwrap();
    assert!((1..=4000).contains(&left), "{left}");
    told(&program, &["confirm"]);
    assert_eq!(status(&program)["confirm_within_ms"], Value::Null);
    // Past the time at which it would have gone.
    std::thread::sleep(Duration::from_millis(left + 200));
    assert_eq!(visit(door), "2");
    assert!(!program.diagnostics().contains("back to the config before"));
    assert!(refused(&program, &["confirm"], 6).contains("nothing waits"));
}

#[test]
fn while_a_config_waits_to_be_confirmed_no_other_takes_its_place() {
    let (one, two, three) = (Backend::named("1"), Backend::named("2"), Backend::named("3"));
    let program = Program::run(&config(&[one.address], "", ""));
    let door = program.address("public");
    write(&program, &config(&[two.address], "", ""));
    told(&program, &["reload", "--confirm-within", "8s"]);
    write(&program, &config(&[three.address], "", ""));
    let said = refused(&program, &["reload"], 6);
    assert!(said.contains("waits to be confirmed"), "{said}");
    assert!(refused(&program, &["reload", "--confirm-within", "60s"], 6).contains("waits"));
    program.signal(Signal::HUP);
    program.until_said_times("reload refused, nothing has changed", 3);
    assert_eq!(visit(door), "2");
    // What would come may be asked for all the same.
    assert!(told(&program, &["reload", "--dry-run"]).contains(&three.address.to_string()));
    program.until_said("back to the config before");
    assert_eq!(visit(door), "1");
    program.signal(Signal::HUP);
    program.until_said("reloaded ");
    until("the third is in force", || visit(door) == "3");
}

#[test]
fn a_process_that_drains_waits_for_no_confirmation() {
    let (one, two) = (Backend::echo(), Backend::echo());
    let with =
        |backend: &Backend| config(&[backend.address], "", "[process]\ndrain-timeout = \"60s\"\n");
    let mut program = Program::run(&with(&one));
    let inside = connect(program.address("public"));
    assert_echo(&inside, b"before");
    write(&program, &with(&two));
    told(&program, &["reload", "--confirm-within", "60s"]);
    program.signal(Signal::TERM);
    program.until_said("the config that waits to be confirmed stays to the end");
    assert!(refused(&program, &["confirm"], 6).contains("nothing waits"));
    assert!(refused(&program, &["reload"], 6).contains("it is stopping"));
    drop(inside);
    assert_eq!(program.until_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_file_that_changes_while_one_waits_is_read_afterwards() {
    let (one, two, three) = (Backend::named("1"), Backend::named("2"), Backend::named("3"));
    let watched = |to: &Backend| config(&[to.address], "", "[process]\nwatch = true\n");
    let program = Program::run(&watched(&one));
    let door = program.address("public");
    write(&program, &watched(&two));
    // It may have been noticed already; then this changes nothing and waits all the same.
    told(&program, &["reload", "--confirm-within", "60s"]);
    write(&program, &watched(&three));
    told(&program, &["confirm"]);
    until("the third is in force", || visit(door) == "3");
}
