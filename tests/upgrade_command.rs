//! `evenkeel upgrade` and everything that is told of an upgrade: who asks for it hears what came of it, operators, balancers in
//! front, the pid file and the service manager find the process that serves, and what an operator has said goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::admin_drain::ready_address;
use crate::support::admin::{backend, refused, status, told, write};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, visit};
use crate::support::program::{BINARY, Program, once};
use crate::support::{config, until};

/// What the address for readiness says.
fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let asked = b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut said = String::new();
    stream.write_all(asked).is_ok()
        && stream.read_to_string(&mut said).is_ok()
        && said.starts_with("HTTP/1.1 200")
}

#[test]
fn whoever_asks_hears_who_serves_and_finds_that_process() {
    let one = Backend::echo();
    let ready = "[admin]\nready = \"127.0.0.1:0\"\n";
    let mut program = Program::run(&config(&[one.address], "", ready));
    // The same port in the next process too.
    let address = ready_address(&program);
    let text = config(&[one.address], "", &format!("[admin]\nready = \"{address}\"\n"));
    write(&program, &text);
    let open = [connect(program.address("public")), connect(program.address("public"))];
    open.iter().for_each(|client| assert_echo(client, b"before"));
    let old = program.pid();
    let said = told(&program, &["upgrade"]);
    assert!(said.contains("serves now; it has taken over 2 connections"), "{said}");
    until("the old process has ended", || program.has_ended());
    program.follow();
    until("the new process can be asked", || {
        status(&program)["pid"].as_u64() == Some(u64::from(program.pid()))
    });
    assert_ne!(program.pid(), old);
    until("it is ready", || is_ready(address));
    open.iter().for_each(|client| assert_echo(client, b"after"));
    let said = told(&program, &["upgrade", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((said["handed_over"].as_u64(), said["left"].as_u64()), (Some(2), Some(0)));
}

#[test]
fn what_an_operator_has_said_holds_in_the_new_process() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let mut program = Program::run(&config(&[old.address, new.address], "", ""));
    told(&program, &["drain", &format!("app/{}", old.address)]);
    program.upgrade();
    let door = program.address("public");
    assert_eq!((0..4).map(|_| visit(door)).collect::<Vec<_>>(), ["new"; 4]);
    until("the new process can be asked", || {
        status(&program)["pid"].as_u64() == Some(u64::from(program.pid()))
    });
    assert_eq!(backend(&program, &old.address.to_string())["state"], "drained");
    told(&program, &["ready", &format!("app/{}", old.address)]);
    let heard: Vec<_> = (0..4).map(|_| visit(door)).collect();
    assert!(heard.contains(&"old".to_owned()), "{heard:?}");
}

#[test]
fn who_cannot_be_upgraded_says_why_and_goes_on() {
    let one = Backend::echo();
    let mut program = Program::run_copy(&config(&[one.address], "", ""));
    program.replace_copy("#!/bin/sh\nexit 7\n");
    let said = refused(&program, &["upgrade"], 6);
    assert!(said.contains("the new process ended while it was to"), "{said}");
    assert!(said.contains("exit status: 7"), "{said}");
    assert_eq!(status(&program)["pid"].as_u64(), Some(u64::from(program.pid())));
    told(&program, &["reload", "--confirm-within", "60s"]);
    let said = refused(&program, &["upgrade"], 6);
    assert!(said.contains("waits to be confirmed"), "{said}");
    assert_echo(connect(program.address("public")), b"still here");
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_daemon_goes_on_in_the_background_and_its_pid_file_names_who_serves() {
    let one = Backend::echo();
    let folder = tempfile::tempdir().expect("a folder");
    let own = "[process]\npid-file = \"run.pid\"\ndaemon = true\n\
               [log]\nfile = \"evenkeel.log\"\naccess = \"access.log\"\n\
               [admin]\nlisten = \"unix:admin.sock\"\n";
    fs::write(folder.path().join("evenkeel.toml"), config(&[one.address], "", own)).expect("write");
    let pid = || {
        let text = fs::read_to_string(folder.path().join("run.pid")).unwrap_or_default();
        text.trim().parse::<i32>().ok()
    };
    // The config is named as it stands, relative to where the start was.
    let started = once(&["run"], folder.path());
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    let (first, log) = (pid().expect("a pid"), || {
        fs::read_to_string(folder.path().join("evenkeel.log")).unwrap_or_default()
    });
    let said = log();
    let door = said.split("listening on ").nth(1).and_then(|rest| rest.split([' ', ',']).next());
    let door: SocketAddr = door.expect("an address").parse().expect("an address");
    let open = connect(door);
    assert_echo(&open, b"before");
    for turn in 0..3 {
        let before = pid();
        let upgraded = once(&["upgrade"], folder.path());
        assert_eq!(upgraded.status.code(), Some(0), "{turn}: {upgraded:?}\n{}", log());
        until("the pid file names another process", || pid() != before && pid().is_some());
        assert_echo(&open, b"after");
        assert_echo(connect(door), b"a new one");
        let ended = format!("/proc/{}/cmdline", before.expect("a pid"));
        until("the one before has ended", || fs::read(&ended).unwrap_or_default().is_empty());
    }
    let last = pid().expect("a pid");
    assert_ne!(first, last);
    assert_eq!(fs::read_link(format!("/proc/{last}/cwd")).expect("its folder").to_str(), Some("/"));
    kill_process(Pid::from_raw(last).expect("a pid"), Signal::TERM).expect("kill");
    drop(open);
    until("its file is gone", || !folder.path().join("run.pid").exists());
}

#[test]
fn the_service_manager_is_told_whom_to_watch_once_that_process_serves() {
    let one = Backend::echo();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, config(&[one.address], "", "")).expect("write");
    let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let hear = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file);
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    command.env("RUNTIME_DIRECTORY", folder.path().join("run"));
    let mut program = Program::spawn(command, folder);
    let ready = |pid: u32| format!("READY=1\nMAINPID={pid}\nSTATUS=serving 1 listeners");
    assert_eq!(hear(), ready(program.pid()));
    // A new process that comes to nothing is not spoken of.
    let good = fs::read(&file).expect("the config");
    fs::write(&file, "nonsense").expect("write");
    program.signal(Signal::USR2);
    program.until_said("upgrade failed");
    fs::write(&file, good).expect("write");
    program.upgrade();
    assert_eq!(hear(), ready(program.pid()));
    program.signal(Signal::HUP);
    assert!(hear().starts_with("RELOADING=1"));
    assert!(hear().contains(&format!("MAINPID={}\n", program.pid())));
}

/// A copy of the config that only root can read, as keys are; and a process that has become somebody else.
fn somebody_else(one: &Backend, more: &str) -> Option<Program> {
    // Only root can become somebody else.
    rustix::process::geteuid().is_root().then(|| {
        let own = format!("[process]\nuser = 54321\ngroup = 54321\n{more}");
        let program = Program::run(&config(&[one.address], "", &own));
        let file = program.folder().join("evenkeel.toml");
        fs::set_permissions(file, PermissionsExt::from_mode(0o600)).expect("chmod");
        program
    })
}

fn user_of(program: &Program) -> String {
    let about = fs::read_to_string(format!("/proc/{}/status", program.pid())).expect("/proc");
    let uid = about.lines().find(|line| line.starts_with("Uid:")).expect("Uid");
    uid.split_whitespace().nth(1).expect("a number").to_owned()
}

/// The processes that were started by this one, by name.
fn started_by(program: &Program) -> Vec<(u32, String)> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = numbers.filter_map(|number| {
        let about = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        let is_its = about.contains(&format!("PPid:\t{}\n", program.pid()));
        let name = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
        is_its.then(|| (number, name.trim().to_owned()))
    });
    named.collect()
}

#[test]
fn a_process_that_has_given_up_rights_is_followed_by_one_that_begins_with_them() {
    let one = Backend::echo();
    let Some(mut program) = somebody_else(&one, "") else { return };
    let open = connect(program.address("public"));
    assert_echo(&open, b"before");
    // The running process cannot even read its config, and could not open this port.
    let file = program.folder().join("evenkeel.toml");
    let low = (500..1024).find(|port| std::net::TcpListener::bind(("127.0.0.77", *port)).is_ok());
    let low = low.expect("a port for root");
    let more = format!("[tcp.low]\nlisten = \"127.0.0.77:{low}\"\nupstream = \"app\"\n");
    let text = fs::read_to_string(&file).expect("the config") + &more;
    fs::write(&file, text).expect("write");
    program.signal(Signal::HUP);
    // Whoever keeps the rights does.
    let low = SocketAddr::from(([127, 0, 0, 77], low));
    until("the new port is open", || TcpStream::connect(low).is_ok());
    for turn in 0..20_u8 {
        program.upgrade();
        assert_echo(&open, &[turn]);
        assert_eq!(user_of(&program), "54321");
    }
    assert_echo(connect(low), b"low");
    let left = started_by(&program);
    assert_eq!(left.len(), 1, "one that keeps the rights, and nobody else: {left:?}");
}

#[test]
fn who_keeps_the_rights_obeys_nobody_else_and_ends_with_its_process() {
    let one = Backend::echo();
    let Some(mut program) = somebody_else(&one, "") else { return };
    let kept = started_by(&program);
    let [(number, name)] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(name, "ek-starter");
    let process = Pid::from_raw(*number as i32).expect("a pid");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::TERM, Signal::INT] {
        kill_process(process, signal).expect("kill");
    }
    let open = connect(program.address("public"));
    assert_echo(&open, b"before");
    program.upgrade();
    assert_echo(&open, b"after");
    let ended = || fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default().is_empty();
    until("it has ended with its process", ended);
    let kept = started_by(&program);
    program.signal(Signal::KILL);
    until("killed", || program.has_ended());
    let [(number, _)] = &kept[..] else { panic!("{kept:?}") };
    let ended = || fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default().is_empty();
    until("the next one has ended too", ended);
}

#[test]
fn a_new_process_that_fails_is_ended_by_whoever_has_the_right() {
    let one = Backend::echo();
    let Some(program) = somebody_else(&one, "") else { return };
    let file = program.folder().join("evenkeel.toml");
    let good = fs::read_to_string(&file).expect("the config");
    fs::write(&file, "nonsense").expect("write");
    let said = refused(&program, &["upgrade"], 6);
    assert!(said.contains("the new process refuses"), "{said}");
    fs::write(&file, good).expect("write");
    assert_echo(connect(program.address("public")), b"still here");
    until("nobody is left of it", || started_by(&program).len() == 1);
}
