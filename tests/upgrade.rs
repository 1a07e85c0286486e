//! An upgrade: the running process starts the program anew and hands it everything that is open. Nothing is closed, nothing is
//! lost, nothing is said twice; and if the new process is no good, the old one goes on as if nothing had been asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::client::{Last, PATIENCE, assert_echo, connect, line, read_to_last, visit};
use crate::support::http::{self, Client, Recorder, ok};
use crate::support::program::Program;
use crate::support::{config, config_with, until};

/// A running program with an echo behind it.
fn echoing(backend: &Backend, more: &str) -> (Program, SocketAddr) {
    let program = Program::run(&config(&[backend.address], "", more));
    let door = program.address("public");
    (program, door)
}

#[test]
fn open_connections_go_on_and_new_ones_are_served() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "");
    let open: Vec<_> = (0..150).map(|_| connect(door)).collect();
    open.iter().for_each(|client| assert_echo(client, b"before"));
    let old = program.pid();
    program.upgrade();
    assert_ne!(program.pid(), old);
    open.iter().for_each(|client| assert_echo(client, b"after"));
    assert_echo(connect(door), b"a new one");
    assert_eq!(backend.accepted(), 151, "no backend was connected to again");
    assert_eq!(program.output(), "", "a hand-over is no end");
    drop(open);
    let lines = program.until_lines(151);
    let wholes = lines.iter().filter(|line| line.contains("client-finished client up=11 down=11"));
    assert_eq!(wholes.count(), 150, "each is recorded once, with all its bytes: {lines:?}");
}

#[test]
fn bytes_that_wait_for_a_slow_reader_arrive_in_their_place() {
    // Both directions are stuck: the backend writes without reading, the client reads and writes nothing yet.
    let size = 6_000_000;
    let pattern = |salt: usize| (0..size).map(|at| (at * 31 + at / 997 + salt) as u8).collect();
    let (upwards, downwards): (Vec<u8>, Vec<u8>) = (pattern(1), pattern(2));
    let (expected, sent) = (upwards.clone(), downwards.clone());
    let (report, reported) = channel();
    let backend = Backend::serving(move |mut stream| {
        let mut writer = stream.try_clone()?;
        let sent = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        // It begins to read when it is told to, by the last byte that the client reads.
        writing.join().expect("no panic")?;
        let mut got = vec![0; size];
        stream.read_exact(&mut got)?;
        let _ = report.send(got == expected);
        Ok(())
    });
    let (mut program, door) = echoing(&backend, "");
    let client = connect(door);
    let mut writer = client.try_clone().expect("a copy");
    let writing = std::thread::spawn(move || writer.write_all(&upwards));
    // Nothing moves any more when what was accepted stays the same.
    until("the backend has a client", || backend.accepted() == 1);
    program.upgrade();
    program.upgrade();
    let mut got = vec![0; size];
    (&client).read_exact(&mut got).expect("everything from the backend");
    assert!(got == downwards, "what came down differs");
    assert!(reported.recv_timeout(PATIENCE).expect("a report"), "what went up differs");
    writing.join().expect("no panic").expect("written");
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn a_half_closed_client_still_gets_its_reply_from_the_next_process() {
    let (go, told) = channel::<()>();
    let told = Mutex::new(told);
    let backend = Backend::serving(move |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        let _ = told.lock().expect("no panic").recv();
        stream.write_all(&request)
    });
    let (mut program, door) = echoing(&backend, "");
    let mut client = connect(door);
    client.write_all(b"all there is").expect("send");
    client.shutdown(Shutdown::Write).expect("half-close");
    until("the backend is connected to", || backend.accepted() == 1);
    program.upgrade();
    go.send(()).expect("the backend waits");
    assert_eq!(read_to_last(&client), (b"all there is".to_vec(), Last::End));
    let lines = program.until_lines(1);
    assert!(lines[0].contains("client-finished client up=12 down=12"), "{lines:?}");
}

#[test]
fn a_reset_after_an_upgrade_is_passed_on() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "");
    let client = connect(door);
    assert_echo(&client, b"before");
    program.upgrade();
    crate::support::client::reset(client);
    let lines = program.until_lines(1);
    assert!(lines[0].contains("client-reset client up=6 down=6"), "{lines:?}");
}

#[test]
fn times_go_on_where_they_were() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "idle-timeout = \"1500ms\"");
    let client = connect(door);
    assert_echo(&client, b"the last");
    let since = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(700));
    program.upgrade();
    assert_eq!(read_to_last(&client).1, Last::End);
    let lasted = since.elapsed();
    assert!(lasted < Duration::from_millis(2150), "the time began anew: {lasted:?}");
    assert!(program.until_lines(1)[0].contains("idle-timeout"), "{}", program.output());
}

#[test]
fn a_client_of_http_does_not_notice_it_between_two_requests() {
    let backend = Recorder::answering(|_| ok(b"hello"));
    let mut program = Program::run(&http::config(&[backend.address()], "", ""));
    let door = program.address("web");
    let (mut between, mut fresh, mut within) =
        (Client::connect(door), Client::connect(door), Client::connect(door));
    assert_eq!(between.get("/1").text(), "hello");
    // Half a head has been read already.
    within.send("GET /half HTTP/1.1\r\nHo");
    program.upgrade();
    assert_eq!(between.get("/2").text(), "hello");
    assert_eq!(fresh.get("/3").text(), "hello");
    within.send("st: example.com\r\n\r\n");
    assert_eq!(within.answer().text(), "hello");
    let lines = program.until_lines(4);
    assert!(lines.iter().all(|line| line.contains(" answered ")), "{lines:?}");
}

/// A backend that answers `/slow` when it is told to, and everything else at once.
struct Held {
    backend: Recorder,
    asked: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    fn backend() -> Held {
        let ((go, told), (ask, asked)) = (channel::<()>(), channel());
        let told = Mutex::new(told);
        let backend = Recorder::answering(move |request| {
            if request.line.contains("/slow") {
                let _ = ask.send(());
                let _ = told.lock().expect("no panic").recv();
            }
            ok(b"done")
        });
        Held { backend, asked, go }
    }

    fn until_asked(&self) {
        self.asked.recv_timeout(PATIENCE).expect("the backend is asked");
    }

    fn answer(&self) {
        self.go.send(()).expect("the backend waits");
    }
}

#[test]
fn a_request_in_progress_is_answered_by_the_old_process_and_its_connection_goes_on_in_the_new_one()
{
    let held = Held::backend();
    let mut program = Program::run(&http::config(&[held.backend.address()], "", ""));
    let door = program.address("web");
    let mut slow = Client::connect(door);
    slow.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    held.until_asked();
    program.begin_upgrade();
    assert!(!program.has_ended(), "it has a request to answer");
    assert_eq!(Client::connect(door).get("/quick").text(), "done");
    held.answer();
    assert_eq!(slow.answer().text(), "done");
    until("the old process has ended", || program.has_ended());
    program.follow();
    assert_eq!(slow.get("/after").text(), "done");
}

#[test]
fn a_tunnel_goes_on_and_its_request_is_recorded_once_with_all_its_bytes() {
    let backend = Backend::serving(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n",
        )?;
        crate::support::backend::echo(stream)
    });
    let mut program = Program::run(&http::config(&[backend.address], "", ""));
    let mut client = connect(program.address("web"));
    client
        .write_all(b"GET /talk HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
        .expect("send");
    while !line(&client).is_empty() {}
    assert_echo(&client, b"before");
    program.upgrade();
    assert_echo(&client, b"after");
    drop(client);
    let lines = program.until_lines(1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["client-finished", "up=11 down=11", "status=101", "/talk"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
}

#[test]
fn what_is_known_of_backends_and_whose_turn_it_is_go_along() {
    let names = ["0", "1", "2", "3", "4"];
    let backends = names.map(Backend::named);
    let addresses: Vec<_> =
        backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
    let mut program = Program::run(&config_with(&addresses.join(", "), "", ""));
    let door = program.address("public");
    let before: Vec<_> = (0..3).map(|_| visit(door)).collect();
    program.upgrade();
    let after: Vec<_> = (0..7).map(|_| visit(door)).collect();
    let all = [before, after].concat();
    assert_eq!(all[..5], all[5..], "after the third comes the fourth: {all:?}");
    let mut once = all[..5].to_vec();
    once.sort();
    assert_eq!(once, names);
}

#[test]
fn a_backend_that_is_down_stays_down_without_a_new_check() {
    let (up, down) = (Backend::named("up"), crate::support::backend::dead());
    let health = "health = { every = \"20ms\", fall = 2 }";
    let mut program = Program::run(&config(&[up.address, down], health, ""));
    let door = program.address("public");
    program.until_said("is down");
    // From now on no check comes in time to say so again.
    let slow = config(&[up.address, down], "health = { every = \"60s\", fall = 2 }", "");
    std::fs::write(program.folder().join("evenkeel.toml"), slow).expect("write the config");
    program.upgrade();
    let heard: Vec<_> = (0..6).map(|_| visit(door)).collect();
    assert_eq!(heard, ["up"; 6]);
    let lines = program.until_lines(6);
    assert!(lines.iter().all(|line| line.contains("tried=1")), "{lines:?}");
}

#[test]
fn a_config_that_has_changed_is_the_new_one_and_what_is_open_goes_on_all_the_same() {
    let (old, new) = (Backend::echo(), Backend::named("new"));
    let (mut program, door) = echoing(&old, "");
    let open = connect(door);
    assert_echo(&open, b"before");
    // Its upstream and its listener have other names now, and its backend is gone.
    let other = format!(
        "[upstream.other]\nbackends = \"{}\"\n[tcp.renamed]\nlisten = \"{door}\"\nupstream = \"other\"\n",
        new.address
    );
    std::fs::write(program.folder().join("evenkeel.toml"), other).expect("write the config");
    program.upgrade();
    assert_echo(&open, b"after");
    assert_eq!(visit(door), "new");
    drop(open);
    let lines = program.until_lines(2);
    let ended = format!("public app {} client-finished client up=11", old.address);
    assert!(lines.iter().any(|line| line.contains(&ended)), "{lines:?}");
}

#[test]
fn sockets_of_every_kind_are_inherited() {
    let backend = Backend::named("here");
    let config = format!(
        "[upstream.app]\nbackends = \"{}\"\n[tcp.public]\nlisten = \"unix:door.sock\"\nupstream = \"app\"\n\
         [tcp.six]\nlisten = \"[::1]:0\"\nupstream = \"app\"\n",
        backend.address
    );
    let mut program = Program::run(&config);
    let (six, path) = (program.address("six"), program.folder().join("door.sock"));
    program.upgrade();
    let stream = std::os::unix::net::UnixStream::connect(&path).expect("the socket file is there");
    assert_eq!(line(stream), "here");
    assert_eq!(visit(six), "here");
    program.signal(Signal::TERM);
    until("the new process has ended", || program.has_ended());
    assert!(!path.exists(), "the last process removes it");
}

#[test]
fn a_new_process_that_is_no_good_changes_nothing() {
    let backend = Backend::echo();
    let mut program = Program::run_copy(&config(&[backend.address], "", ""));
    let door = program.address("public");
    let open = connect(door);
    assert_echo(&open, b"before");
    let upgrade_fails = |program: &Program, times: usize| {
        program.signal(Signal::USR2);
        program.until_said_times("upgrade failed, everything goes on as before", times);
        assert_echo(&open, b"still here");
        assert_echo(connect(door), b"and new ones");
    };
    for (times, (script, said)) in [
        ("#!/bin/sh\nexit 7\n", "exit status: 7"),
        ("#!/bin/sh\nkill -SEGV $$\n", "signal: 11"),
        ("no program at all\n", "could not be started"),
        // One that knows nothing of this, as a version from before would.
        (
            "#!/bin/sh\necho \"error: unexpected argument '--take-over'\" >&2\nexit 2\n",
            "exit status: 2",
        ),
    ]
    .iter()
    .enumerate()
    {
        program.replace_copy(script);
        upgrade_fails(&program, times + 1);
        program.until_said(said);
    }
    assert!(!program.has_ended());
    drop(open);
    assert!(program.until_lines(5).iter().all(|line| line.contains("client-finished")));
}

#[test]
fn a_config_that_cannot_be_used_is_said_and_changes_nothing() {
    let backend = Backend::echo();
    let (program, door) = echoing(&backend, "");
    let open = connect(door);
    assert_echo(&open, b"before");
    let file = program.folder().join("evenkeel.toml");
    std::fs::write(&file, "[tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"nobody\"\n")
        .expect("write");
    program.signal(Signal::USR2);
    program.until_said("upgrade failed, everything goes on as before: the new process refuses");
    assert_echo(&open, b"after");
    assert_echo(connect(door), b"a new one");
}

#[test]
fn a_hundred_upgrades_leave_one_process_and_nothing_behind() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "");
    let open: Vec<_> = (0..8).map(|_| connect(door)).collect();
    open.iter().for_each(|client| assert_echo(client, b"0"));
    program.upgrade();
    let descriptors = program.descriptors_but_pipes();
    for turn in 1..100_u32 {
        program.upgrade();
        open.iter().for_each(|client| assert_echo(client, &turn.to_be_bytes()));
    }
    assert_eq!(program.descriptors_but_pipes(), descriptors);
    let left = children_of(program.pid());
    assert_eq!(
        left,
        ["ek-starter"],
        "no process is left but the last, and whoever keeps its rights"
    );
    assert_eq!(backend.accepted(), 8);
    assert_echo(connect(door), b"a new one");
}

/// Processes that a process has started and not seen off, by name.
fn children_of(pid: u32) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let parent = format!("PPid:\t{pid}\n");
    let children = all.filter_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let name = status.lines().next()?.strip_prefix("Name:\t")?;
        status.contains(&parent).then(|| name.to_owned())
    });
    children.collect()
}

#[test]
fn while_the_process_before_has_something_to_finish_there_is_no_next_upgrade() {
    let held = Held::backend();
    let mut program = Program::run(&http::config(&[held.backend.address()], "", ""));
    let mut slow = Client::connect(program.address("web"));
    slow.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    held.until_asked();
    program.begin_upgrade();
    program.follow();
    program.signal(Signal::USR2);
    program.until_said("the process before this one still has connections to finish");
    held.answer();
    assert_eq!(slow.answer().text(), "done");
    program.until_said("the process before has ended");
    program.upgrade();
    assert_eq!(Client::connect(program.address("web")).get("/").text(), "done");
}

#[test]
fn a_stop_that_is_asked_for_meanwhile_stops_all_of_it() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "");
    let open = connect(door);
    assert_echo(&open, b"before");
    program.signal(Signal::USR2);
    program.signal(Signal::TERM);
    program.until_said("draining");
    drop(open);
    until("it has ended", || program.has_ended());
    until("nobody listens any more", || TcpStream::connect(door).is_err());
}

#[test]
fn an_upgrade_while_it_drains_is_refused() {
    let backend = Backend::echo();
    let (program, door) = echoing(&backend, "");
    let open = connect(door);
    assert_echo(&open, b"before");
    program.signal(Signal::TERM);
    program.until_said("draining");
    program.signal(Signal::USR2);
    assert_echo(&open, b"after");
    assert!(!program.diagnostics().contains("upgrade: starting"));
}

#[test]
fn a_reload_that_is_asked_for_meanwhile_reaches_whoever_serves() {
    let backend = Backend::echo();
    let (mut program, door) = echoing(&backend, "");
    let open = connect(door);
    assert_echo(&open, b"before");
    for _ in 0..5 {
        program.signal(Signal::HUP);
        program.signal(Signal::USR2);
        program.signal(Signal::HUP);
        until("the old process has ended", || program.has_ended());
        program.follow();
        assert_echo(&open, b"after");
        assert_echo(connect(door), b"a new one");
    }
    assert!(!program.diagnostics().contains("ERROR"), "{}", program.diagnostics());
}

#[test]
fn as_the_first_process_it_refuses_and_says_why() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("evenkeel.toml"), config(&[backend.address], "", ""))
        .expect("write");
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", crate::support::program::BINARY, "run", "-c"]);
    command.arg(folder.path().join("evenkeel.toml"));
    let program = Program::spawn(command, folder);
    program.until_said("listening on ");
    let open = connect(program.address("public"));
    assert_echo(&open, b"before");
    let child = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid()));
    let child: i32 = child.expect("children").trim().parse().expect("one child");
    let child = rustix::process::Pid::from_raw(child).expect("a pid");
    rustix::process::kill_process(child, Signal::USR2).expect("kill");
    program.until_said("everything here ends with process 1");
    assert_echo(&open, b"after");
    rustix::process::kill_process(child, Signal::TERM).expect("kill");
    program.until_said("draining");
    drop(open);
    program.until_said("stopped; every connection had ended");
}
