//! The background: whoever starts a daemon learns whether it serves, by exit code and in words, and then it needs nothing of where
//! it was started. The pid file names a living process or is not there.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, is_served};
use crate::support::http::{Client, Recorder, ok};
use crate::support::program::{BINARY, Program, once};
use crate::support::tls::Certificates;
use crate::support::{config, until, until_within};

/// A daemon of one test, with its pid file and its log in its folder. It is ended with the test.
struct Daemon {
    folder: TempDir,
    pid: u32,
}

/// What every daemon here has in its config.
const OWN: &str = "[process]\npid-file = \"run.pid\"\ndaemon = true\nworkers = 2\n\
                   [log]\nfile = \"evenkeel.log\"\naccess = \"access.log\"\n";

impl Daemon {
    /// Starts one on a config in a folder, which may have more in it.
    fn start(folder: TempDir, config: &str) -> Daemon {
        fs::write(folder.path().join("evenkeel.toml"), config).unwrap();
        let started = once(&["run"], folder.path());
        assert_eq!(started.status.code(), Some(0), "{started:?}");
        Daemon::of(folder)
    }

    /// The one that has just been started in a folder: its file is there already.
    fn of(folder: TempDir) -> Daemon {
        let pid = fs::read_to_string(folder.path().join("run.pid")).expect("the pid file");
        Daemon { folder, pid: pid.trim().parse().expect("a number") }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("evenkeel.log")).unwrap_or_default()
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let log = self.log();
        let is_meant = |line: &&str| line.ends_with(&format!("listener={listener}"));
        let mut lines = log.lines().filter(|line| line.contains("listening on "));
        let line = lines.find(is_meant).unwrap_or_else(|| panic!("no {listener} in:\n{log}"));
        let after = line.split("listening on ").nth(1).unwrap();
        after.split([' ', ',']).next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid as i32).unwrap(), signal).expect("kill");
    }

    fn until_said(&self, text: &str) {
        until(&format!("the log says {text:?}"), || self.log().contains(text));
    }

    fn until_ended(&self) {
        until("the daemon has ended", || has_ended(self.pid));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !has_ended(self.pid) {
            let _ = kill_process(Pid::from_raw(self.pid as i32).unwrap(), Signal::KILL);
        }
    }
}

/// Whether a process is gone, or waits only for somebody to take note of it.
fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn with_config(config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("evenkeel.toml"), config).unwrap();
    folder
}

#[test]
fn a_daemon_serves_when_its_start_returns_and_is_tied_to_nothing() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder, &format!("{OWN}{}", config(&[backend.address], "", "")));
    // At once, without waiting: that is the promise.
    assert_echo(&connect(daemon.address("public")), b"hello");
    let of = |what: &str| PathBuf::from(format!("/proc/{}/{what}", daemon.pid));
    assert_eq!(fs::read_link(of("cwd")).unwrap(), Path::new("/"));
    for stream in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(fs::read_link(of(stream)).unwrap(), Path::new("/dev/null"), "{stream}");
    }
    let stat = fs::read_to_string(of("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Parent, process group, session and terminal (proc(5)).
    assert_ne!(fields[1], std::process::id().to_string());
    assert_eq!(fields[2..5], [&daemon.pid.to_string(), &daemon.pid.to_string(), "0"]);
    daemon.signal(Signal::TERM);
    daemon.until_ended();
    assert!(daemon.log().contains("stopped; every connection had ended"), "{}", daemon.log());
    assert!(!daemon.folder.path().join("run.pid").exists(), "the pid file is gone");
}

#[test]
fn daemon_can_also_be_said_on_the_command_line_with_what_it_costs() {
    let backend = Backend::echo();
    let own = "[process]\npid-file = \"run.pid\"\n";
    let folder = with_config(&format!("{own}{}", config(&[backend.address], "", "")));
    let started = once(&["run", "--daemon", "-c", "evenkeel.toml"], folder.path());
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    let daemon = Daemon::of(folder);
    let said = text(&started.stderr);
    assert!(said.contains("nobody will see its diagnostics"), "{said}");
    assert!(said.contains("the access log goes nowhere"), "{said}");
    assert!(said.contains("listening on "), "what it says until it is ready is passed on:\n{said}");
    daemon.signal(Signal::TERM);
    daemon.until_ended();
}

#[test]
fn a_start_that_fails_is_said_with_its_reason_and_its_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
    let own = own.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let folder = with_config(&format!("{OWN}{own}"));
    let failed = once(&["run"], folder.path());
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    let said = text(&failed.stderr);
    assert!(said.contains("[tcp.public]") && said.contains("in use"), "{said}");
    assert!(said.contains("it has not started: it ended with exit code 3"), "{said}");
    assert!(!folder.path().join("run.pid").exists());
    let wrong = with_config(&format!("{OWN}{}", own.replace("upstream = ", "upstraem = ")));
    let refused = once(&["run"], wrong.path());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("evenkeel.toml:"), "{refused:?}");
}

/// A start that hangs, as nobody reads the pipe that its log is.
struct Hung {
    parent: Child,
    /// The process in the background.
    child: u32,
    folder: TempDir,
}

impl Hung {
    fn start() -> Hung {
        let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
        let folder = with_config(&format!("{OWN}{own}"));
        let pipe = folder.path().join("evenkeel.log");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let mut command = Command::new(BINARY);
        command.arg("run").current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).env_remove("EVENKEEL_LOG");
        let parent = command.spawn().unwrap();
        let mut child = None;
        until("it has cut itself loose", || {
            child = child_of(parent.id());
            child.is_some_and(|child| {
                fs::read_link(format!("/proc/{child}/cwd")).is_ok_and(|cwd| cwd == Path::new("/"))
            })
        });
        Hung { parent, child: child.unwrap(), folder }
    }

    fn end(&mut self) -> Output {
        let mut said = self.parent.stderr.take().unwrap();
        let mut output =
            Output { status: self.parent.wait().unwrap(), stdout: vec![], stderr: vec![] };
        std::io::Read::read_to_end(&mut said, &mut output.stderr).unwrap();
        output
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
        if !has_ended(self.child) {
            let _ = kill_process(Pid::from_raw(self.child as i32).unwrap(), Signal::KILL);
        }
    }
}

fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_daemon_that_dies_before_it_serves_is_said_with_what_killed_it() {
    let mut hung = Hung::start();
    kill_process(Pid::from_raw(hung.child as i32).unwrap(), Signal::KILL).unwrap();
    let output = hung.end();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("it has not started: it was ended by signal 9"), "{said}");
}

#[test]
fn a_start_that_was_given_up_leaves_no_daemon_behind() {
    let mut hung = Hung::start();
    hung.parent.kill().unwrap();
    hung.parent.wait().unwrap();
    // Now it can go on.
    let log = hung.folder.path().join("evenkeel.log");
    let _reader = fs::File::options().read(true).write(true).open(log).unwrap();
    until("the daemon has ended", || has_ended(hung.child));
    assert!(!hung.folder.path().join("run.pid").exists(), "the pid file is gone");
}

#[test]
fn paths_are_relative_to_the_config_file_wherever_the_daemon_lives() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("etc/evenkeel");
    for below in ["more", "www", "logs"] {
        fs::create_dir_all(home.join(below)).unwrap();
    }
    let certificates = Certificates::new();
    for file in ["a.crt", "a.key"] {
        fs::copy(certificates.path(file), home.join(file)).unwrap();
    }
    fs::write(home.join("www/index.html"), "a page").unwrap();
    let hash = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
    fs::write(home.join("users"), format!("ann:{hash}\n")).unwrap();
    let backend = Recorder::answering(|_| ok(b"a backend"));
    let route = "[[http.web.route]]\npath = \"/app\"\nupstream = \"app\"\n\
                 [[http.web.route]]\npath = \"/secret\"\nreply = 200\n\
                 basic-auth = { users-file = \"users\" }\n\
                 [[http.web.route]]\nfiles = \"www\"\n";
    let main = format!(
        "include = \"more/*.toml\"\n[process]\npid-file = \"../../run.pid\"\nwatch = true\n\
         [log]\nfile = \"logs/evenkeel.log\"\naccess = \"logs/access.log\"\n\
         [http.web]\nlisten = [\"127.0.0.1:0\", \"unix:door.sock\"]\n\
         tls = {{ certificate = \"a.crt\", key = \"a.key\" }}\n{route}"
    );
    fs::write(home.join("evenkeel.toml"), main).unwrap();
    let included = format!("[upstream.app]\nbackends = \"{}\"\n", backend.address());
    fs::write(home.join("more/app.toml"), &included).unwrap();
    let started = once(&["run", "--daemon", "-c", "etc/evenkeel/evenkeel.toml"], folder.path());
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    std::os::unix::fs::symlink(
        "etc/evenkeel/logs/evenkeel.log",
        folder.path().join("evenkeel.log"),
    )
    .unwrap();
    let daemon = Daemon::of(folder);
    let door = daemon.address("web");
    let get = |path: &str| {
        let answer = certificates.client(door).get(path);
        (answer.status, answer.text())
    };
    assert_eq!(get("/"), (200, "a page".to_owned()));
    assert_eq!(get("/app"), (200, "a backend".to_owned()));
    assert_eq!(get("/secret").0, 401);
    assert!(daemon.folder.path().join("etc/evenkeel/door.sock").exists());
    let home = daemon.folder.path().join("etc/evenkeel");
    let access = || fs::read_to_string(home.join("logs/access.log")).unwrap_or_default();
    until("the access log has its lines", || access().lines().count() >= 3);
    // By a signal, and by itself when an included file changes.
    daemon.signal(Signal::HUP);
    daemon.until_said("reloaded ");
    let changed = "balance = \"random\"\n";
    fs::write(home.join("more/app.toml"), format!("{included}{changed}")).unwrap();
    daemon.until_said("upstream.app.balance: \"random\" instead of \"round-robin\"");
    assert_eq!(get("/app"), (200, "a backend".to_owned()));
    for log in ["evenkeel.log", "access.log"] {
        fs::rename(home.join("logs").join(log), home.join("logs").join(format!("{log}.1")))
            .unwrap();
    }
    daemon.signal(Signal::USR1);
    until("both logs are there again", || {
        get("/");
        access().contains(" /") && home.join("logs/evenkeel.log").exists()
    });
    daemon.signal(Signal::TERM);
    daemon.until_ended();
    assert!(daemon.log().contains("stopped"), "the new file goes on:\n{}", daemon.log());
}

#[test]
fn a_living_evenkeels_pid_file_is_respected_and_a_dead_ones_is_replaced() {
    let backend = Backend::echo();
    let own = config(&[backend.address], "", "");
    let own = format!("[process]\npid-file = \"run.pid\"\n{own}");
    let mut first = Program::run(&own);
    let file = first.folder().join("run.pid");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", first.pid()));
    let second = once(&["run"], first.folder());
    assert_eq!(second.status.code(), Some(3), "{second:?}");
    let said = text(&second.stderr);
    let reason = format!("evenkeel runs already, as process {}", first.pid());
    assert!(said.contains("pid file: ") && said.contains(&reason), "{said}");
    let door = first.address("public");
    assert!(is_served(connect(door)), "the first goes on");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", first.pid()));
    first.signal(Signal::KILL);
    first.until_exit(Duration::from_secs(5));
    assert!(file.exists(), "nobody was left to remove it");
    let mut command = Command::new(BINARY);
    command.arg("run").current_dir(first.folder());
    let mut next = Program::spawn(command, tempfile::tempdir().unwrap());
    next.until_said("listening on ");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", next.pid()));
    next.signal(Signal::TERM);
    next.until_exit(Duration::from_secs(5));
    assert!(!file.exists());
}

#[test]
fn diagnostics_go_to_their_file_and_a_new_one_after_it_was_moved() {
    let backend = Recorder::answering(|_| ok(b"fine"));
    let folder = with_config(&format!(
        "[log]\nfile = \"evenkeel.log\"\nformat = \"json\"\n[upstream.app]\nbackends = \"{}\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        backend.address()
    ));
    let log = folder.path().join("evenkeel.log");
    let mut command = Command::new(BINARY);
    command.arg("run").current_dir(folder.path());
    let mut program = Program::spawn(command, tempfile::tempdir().unwrap());
    let said = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    until("it says where it listens", || said(&log).contains("listening on "));
    let after = said(&log).split("listening on ").nth(1).unwrap().to_owned();
    let door: SocketAddr = after[..after.find('"').unwrap()].parse().unwrap();
    assert_eq!(Client::connect(door).get("/").status, 200);
    let moved = folder.path().join("moved");
    fs::rename(&log, &moved).unwrap();
    program.signal(Signal::USR1);
    until("a new file is there", || log.exists());
    program.signal(Signal::TERM);
    program.until_exit(Duration::from_secs(5));
    assert!(said(&log).contains("stopped; "), "{}", said(&log));
    assert!(!said(&moved).contains("stopped; "), "{}", said(&moved));
    assert_eq!(program.diagnostics(), "", "nothing of it goes to standard error");
}

#[test]
fn a_log_that_nobody_takes_holds_nobody_up() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // It is open for reading, and never read.
    let _reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let own = config(&[backend.address], "", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let fixed = taken.local_addr().unwrap();
    drop(taken);
    let own = own.replace("127.0.0.1:0", &fixed.to_string());
    fs::write(folder.path().join("evenkeel.toml"), format!("[log]\nfile = \"pipe\"\n{own}"))
        .unwrap();
    let mut command = Command::new(BINARY);
    command.arg("run").current_dir(folder.path());
    let mut program = Program::spawn(command, tempfile::tempdir().unwrap());
    until("it serves", || std::net::TcpStream::connect(fixed).is_ok());
    // Each reload says what it did, and 64 KiB is what the pipe holds.
    for round in 0..400 {
        let text = format!("[log]\nfile = \"pipe\"\n{own}idle-timeout = \"{}s\"\n", 60 + round);
        fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
        program.signal(Signal::HUP);
        assert!(is_served(connect(fixed)), "round {round}");
    }
    program.signal(Signal::TERM);
    until_within(Duration::from_secs(8), "it ends even so", || program.has_ended());
}
