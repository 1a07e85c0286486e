//! The service manager: every word that systemd's Type=notify waits for comes, in its order, and the unit file that we ship is one
//! that systemd takes.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::config;
use crate::support::program::{BINARY, Program};

/// The socket of a service manager, in a folder with a config.
struct Listening {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Listening {
    fn on(config: &str) -> Listening {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("evenkeel.toml"), config).unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Listening { folder, socket }
    }

    fn start(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path());
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.envs(variables.iter().copied());
        Program::spawn(command, tempfile::tempdir().unwrap())
    }

    /// The next message, as its lines.
    fn hear(&self) -> Vec<String> {
        let mut message = [0; 1024];
        let length = self.socket.recv(&mut message).expect("a message");
        let text = std::str::from_utf8(&message[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that is not the watchdog's.
    fn hear_but_watchdog(&self) -> Vec<String> {
        loop {
            let heard = self.hear();
            if heard != ["WATCHDOG=1"] {
                return heard;
            }
        }
    }
}

fn now_micros() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[test]
fn the_manager_hears_of_the_start_of_each_reload_and_of_the_stop() {
    let backend = Backend::echo();
    let manager = Listening::on(&config(&[backend.address], "", ""));
    let mut program = manager.start(&["run"], &[]);
    let pid = format!("MAINPID={}", program.pid());
    assert_eq!(manager.hear(), ["READY=1", &pid, "STATUS=serving 1 listeners"]);
    // It is true already; the log is written on its own time.
    program.until_said("listening on ");
    let client = connect(program.address("public"));
    assert_echo(&client, b"hello");
    let before = now_micros();
    program.signal(Signal::HUP);
    let reloading = manager.hear();
    assert_eq!((&*reloading[0], &*reloading[2]), ("RELOADING=1", "STATUS=reloading"));
    let since = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<i128>().unwrap();
    assert!((before..=now_micros()).contains(&since), "{reloading:?}");
    assert_eq!(manager.hear(), ["READY=1", &pid, "STATUS=serving; reloaded with 0 changes"]);
    // One that is refused is over too.
    let file = manager.folder.path().join("evenkeel.toml");
    fs::File::options().append(true).open(file).unwrap().write_all(b"nonsense").unwrap();
    program.signal(Signal::HUP);
    assert_eq!(manager.hear()[0], "RELOADING=1");
    let refused = "STATUS=serving; a reload was refused, the log says why";
    assert_eq!(manager.hear(), ["READY=1", &pid, refused]);
    program.signal(Signal::TERM);
    assert_eq!(manager.hear()[0], "STOPPING=1");
    assert!(!program.has_ended(), "while a connection is open it drains");
    drop(client);
    program.until_exit(Duration::from_secs(5));
}

#[test]
fn the_watchdog_hears_of_progress_twice_within_its_time() {
    let manager = Listening::on(&config(&["127.0.0.1:1".parse().unwrap()], "", ""));
    let mut program = manager.start(&["run"], &[("WATCHDOG_USEC", "2000000")]);
    assert_eq!(manager.hear_but_watchdog()[0], "READY=1");
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(manager.hear(), ["WATCHDOG=1"]);
    }
    let took = began.elapsed().as_secs_f64();
    assert!((2.0..6.0).contains(&took), "four in {took} s");
    program.signal(Signal::TERM);
    assert_eq!(manager.hear_but_watchdog()[0], "STOPPING=1");
    program.until_exit(Duration::from_secs(5));
}

#[test]
fn a_watchdog_for_another_process_is_left_alone() {
    let manager = Listening::on(&config(&["127.0.0.1:1".parse().unwrap()], "", ""));
    let variables = [("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    let mut program = manager.start(&["run"], &variables);
    assert_eq!(manager.hear()[0], "READY=1");
    manager.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "nothing more is said");
    program.signal(Signal::TERM);
    program.until_exit(Duration::from_secs(5));
}

#[test]
fn a_daemon_names_itself_as_the_main_process() {
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
    let manager = Listening::on(&format!("[log]\nfile = \"log\"\naccess = \"off\"\n{own}"));
    let mut program = manager.start(&["run", "--daemon"], &[("WATCHDOG_USEC", "2000000")]);
    assert_eq!(program.until_exit(Duration::from_secs(10)).code(), Some(0));
    let heard = manager.hear_but_watchdog();
    let pid = heard[1].strip_prefix("MAINPID=").unwrap().parse::<u32>().unwrap();
    assert_ne!(pid, program.pid());
    assert_eq!(manager.hear(), ["WATCHDOG=1"]);
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(manager.hear_but_watchdog()[0], "STOPPING=1");
}

/// The keys of a unit file by section.
fn keys(unit: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in unit.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if !line.starts_with('#') {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
            keys.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    keys
}

#[test]
fn the_unit_file_is_one_that_systemd_takes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/evenkeel.service");
    let unit = fs::read_to_string(&path).expect("the unit file");
    let keys = keys(&unit);
    let value = |key: &str| {
        let mut found =
            keys.iter().filter(|(section, known, _)| section == "Service" && known == key);
        found.next().map(|(_, _, value)| value.as_str()).unwrap_or_else(|| panic!("no {key}"))
    };
    assert_eq!((value("Type"), value("NotifyAccess")), ("notify", "all"));
    assert_eq!(value("ProtectSystem"), "strict");
    assert_eq!(value("NoNewPrivileges"), "yes");
    assert_eq!(value("CapabilityBoundingSet"), "CAP_NET_BIND_SERVICE");
    assert!(value("WatchdogSec").ends_with('s'));
    let nofile: u64 = value("LimitNOFILE").parse().unwrap();
    assert!(nofile >= 65_536);
    let binary = "/usr/bin/evenkeel";
    assert!(value("ExecStart").starts_with(&format!("{binary} run -c ")));
    // systemd looks for the program too: for the check it is the one that was built.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("evenkeel.service");
    fs::write(&copy, unit.replace(binary, BINARY)).unwrap();
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output() {
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: systemd-analyze: {error}");
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ours: Vec<_> =
                said.lines().filter(|line| line.contains("evenkeel.service")).collect();
            assert!(output.status.success() && ours.is_empty(), "{said}");
        }
    }
}
