//! Rights: a process that began as root is nobody special once clients can reach it, in each of its threads, and cannot become root
//! again. What it has to go on doing (log files, reloads) it can do as that user, or says why not.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect, is_served};
use crate::support::program::{BINARY, Program, once};
use crate::support::tls::Certificates;
use crate::support::{config, until};

/// Somebody that every system has, by name; its number and its group's, as its lists say.
const USER: &str = "nobody";

/// Numbers of [`USER`] and its group; none where these tests cannot be run.
fn nobody() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: only root can become somebody else");
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = users.lines().find(|line| line.starts_with("nobody:"));
    let Some(entry) = entry else {
        let _ = writeln!(std::io::stderr(), "skipped: this system has no user nobody");
        return None;
    };
    let fields: Vec<_> = entry.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A folder that belongs to a user, and that others may look into.
fn folder_of(user: u32, group: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(user), Some(group)).unwrap();
    folder
}

fn run_in(folder: &Path) -> Program {
    let mut command = Command::new(BINARY);
    command.arg("run").current_dir(folder);
    Program::spawn(command, tempfile::tempdir().unwrap())
}

/// Each thread of a process: its name, and what the system says of it.
fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = tasks.map(|task| fs::read_to_string(task.path().join("status")).unwrap());
    let status = status.map(|status| (of(&status, "Name").join(" "), status));
    status.collect()
}

fn of<'s>(status: &'s str, key: &str) -> Vec<&'s str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in:\n{status}")).split_whitespace().collect()
}

const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

#[test]
fn every_thread_has_the_users_rights_and_no_others_once_clients_can_connect() {
    let Some((user, group)) = nobody() else { return };
    let backend = Backend::echo();
    let folder = folder_of(user, group);
    let own = config(&[backend.address], "", "");
    let rest = format!(
        "[process]\nuser = \"{USER}\"\nworkers = 2\npid-file = \"run.pid\"\n\
         [log]\nfile = \"evenkeel.log\"\naccess = \"access.log\"\n"
    );
    fs::write(folder.path().join("evenkeel.toml"), format!("{rest}{own}")).unwrap();
    let mut program = run_in(folder.path());
    let file = |name: &str| folder.path().join(name);
    let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
    until("it listens", || read("evenkeel.log").contains("listening on "));
    let after = read("evenkeel.log").split("listening on ").nth(1).unwrap().to_owned();
    let door = after.split([' ', '\n']).next().unwrap().parse().unwrap();
    assert_echo(&connect(door), b"hello");
    let threads = threads(program.pid());
    for name in ["worker-0", "worker-1", "control", "access-log", "diagnostics"] {
        assert!(threads.iter().any(|(known, _)| known == name), "{name} is not in {threads:?}");
    }
    let (user_s, group_s) = (user.to_string(), group.to_string());
    for (name, status) in &threads {
        assert_eq!(of(status, "Uid"), [&*user_s; 4], "{name}");
        assert_eq!(of(status, "Gid"), [&*group_s; 4], "{name}");
        assert!(!of(status, "Groups").contains(&"0"), "{name}");
        for set in CAPABILITIES {
            assert_eq!(of(status, set), ["0000000000000000"], "{set} of {name}");
        }
        assert_eq!(of(status, "NoNewPrivs"), ["1"], "{name}");
    }
    for log in ["evenkeel.log", "access.log", "run.pid"] {
        let about = file(log).metadata().unwrap();
        assert_eq!((about.uid(), about.gid()), (user, group), "{log}");
    }
    for log in ["evenkeel.log", "access.log"] {
        fs::rename(file(log), file(&format!("{log}.1"))).unwrap();
    }
    program.signal(Signal::USR1);
    until("both are there again and go on", || {
        is_served(connect(door)) && !read("access.log").is_empty() && file("evenkeel.log").exists()
    });
    program.signal(Signal::TERM);
    program.until_exit(Duration::from_secs(5));
    assert!(read("evenkeel.log").contains("stopped"), "{}", read("evenkeel.log"));
    assert!(!file("run.pid").exists());
}

#[test]
fn a_pid_file_that_cannot_be_removed_any_more_names_nobody() {
    let Some((user, group)) = nobody() else { return };
    // The folder is root's, as /run is.
    let folder = folder_of(0, 0);
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
    let rest = format!("[process]\nuser = {user}\ngroup = {group}\npid-file = \"run.pid\"\n");
    fs::write(folder.path().join("evenkeel.toml"), format!("{rest}{own}")).unwrap();
    for _ in 0..2 {
        let mut program = run_in(folder.path());
        program.until_said("listening on ");
        let file = folder.path().join("run.pid");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", program.pid()));
        program.signal(Signal::TERM);
        program.until_exit(Duration::from_secs(5));
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }
}

#[test]
fn sending_from_the_clients_address_keeps_the_one_right_that_it_takes() {
    let Some((user, _)) = nobody() else { return };
    let own = config(&["127.0.0.1:1".parse().unwrap()], "transparent = true", "");
    let program = Program::run(&format!("[process]\nuser = \"{USER}\"\n{own}"));
    for (name, status) in threads(program.pid()) {
        assert_eq!(of(&status, "Uid"), [&*user.to_string(); 4], "{name}");
        // CAP_NET_ADMIN is number 12.
        let expected = ["0000000000000000", "0000000000001000", "0000000000001000"];
        for (set, expected) in ["CapInh", "CapPrm", "CapEff"].iter().zip(expected) {
            assert_eq!(of(&status, set), [expected], "{set} of {name}");
        }
        assert_eq!(of(&status, "NoNewPrivs"), ["1"], "{name}");
    }
}

#[test]
fn without_user_and_sandbox_nothing_is_given_up() {
    let off = "[process]\nsandbox = \"off\"\n";
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", off);
    let program = Program::run(&own);
    let all = threads(program.pid());
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    for (name, status) in all {
        for key in ["Uid", "CapEff", "NoNewPrivs"] {
            assert_eq!(of(&status, key), of(&ours, key), "{key} of {name}");
        }
    }
}

#[test]
fn whoever_is_not_root_can_be_the_user_already_and_nobody_else() {
    let Some((user, group)) = nobody() else { return };
    let folder = folder_of(user, group);
    // Where the tests are built may be closed to others.
    let binary = folder.path().join("evenkeel");
    // By another process: what is open for writing here could be so in a child of another test, and cannot be run then.
    assert!(Command::new("cp").arg(BINARY).arg(&binary).status().unwrap().success());
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
    let as_nobody = |wanted: &str| {
        let text = format!("[process]\nuser = \"{wanted}\"\n{own}");
        fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
        let mut command = Command::new(&binary);
        command.arg("run").current_dir(folder.path()).uid(user).gid(group);
        Program::spawn(command, tempfile::tempdir().unwrap())
    };
    let mut refused = as_nobody("root");
    assert_eq!(refused.until_exit(Duration::from_secs(5)).code(), Some(3));
    let now = format!("user {user} of group {group}");
    refused.until_said(&format!("only root can become user 0 of group 0, and this is {now}"));
    let mut other_group = as_nobody("nobody\"\ngroup = \"root");
    assert_eq!(other_group.until_exit(Duration::from_secs(5)).code(), Some(3));
    other_group.until_said(&format!("only root can become user {user} of group 0"));
    let same = as_nobody(USER);
    same.until_said("listening on ");
    for (name, status) in threads(same.pid()) {
        assert_eq!(of(&status, "NoNewPrivs"), ["1"], "{name}");
    }
}

#[test]
fn a_user_that_is_not_there_is_a_problem_of_the_config() {
    let own = config(&["127.0.0.1:1".parse().unwrap()], "", "");
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[process]\nuser = \"no-such-user\"\n{own}");
    fs::write(folder.path().join("evenkeel.toml"), text).unwrap();
    for command in ["check", "run"] {
        let refused = once(&[command], folder.path());
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let place = "evenkeel.toml:2:8";
        assert!(said.contains(place) && said.contains("there is no user"), "{said}");
    }
}

#[test]
fn a_reload_has_the_rights_of_the_start_for_what_its_config_names_and_another_user_waits() {
    if nobody().is_none() {
        return;
    }
    let certificates = Certificates::new();
    let folder = folder_of(0, 0);
    let plain = "[http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nreply = 200\n";
    let rest = format!("[process]\nuser = \"{USER}\"\n");
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, format!("{rest}{plain}")).unwrap();
    let mut program = run_in(folder.path());
    program.until_said("listening on ");
    let door = program.address("web");
    let key = folder.path().join("own.key");
    fs::copy(certificates.path("a.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let pair = certificates.pair().replace(certificates.path("a.key").to_str().unwrap(), "own.key");
    let low = (500..1024).find(|port| TcpListener::bind(("127.0.0.78", *port)).is_ok());
    let low = SocketAddr::from(([127, 0, 0, 78], low.expect("a port for root")));
    let secure = format!(
        "[http.secure]\nlisten = \"{low}\"\ntls = {{ {} }}\n[[http.secure.route]]\nreply = 204\n",
        pair
    );
    // Nobody but root can read it, no more than the key.
    fs::write(&file, format!("{rest}{plain}{secure}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    program.signal(Signal::HUP);
    until("the new port is open", || TcpStream::connect(low).is_ok());
    assert!(threads(program.pid()).iter().all(|(_, status)| of(status, "Uid")[1] != "0"));
    fs::write(&file, format!("[process]\nuser = \"root\"\n{plain}")).unwrap();
    program.signal(Signal::HUP);
    program.until_said("process.user takes effect with the next start only");
    assert!(threads(program.pid()).iter().all(|(_, status)| of(status, "Uid")[1] != "0"));
    assert_eq!(crate::support::http::Client::connect(door).get("/").status, 200);
    program.signal(Signal::TERM);
    program.until_exit(Duration::from_secs(5));
}

#[test]
fn whoever_keeps_the_rights_opens_nothing_for_a_config_that_the_user_can_write() {
    let Some((user, group)) = nobody() else { return };
    let folder = folder_of(user, group);
    let plain = "[http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nreply = 200\n";
    let rest = format!("[process]\nuser = \"{USER}\"\n");
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, format!("{rest}{plain}")).unwrap();
    let program = run_in(folder.path());
    program.until_said("listening on ");
    // As somebody would write it who wants to see what only root may.
    let asks = plain.replace("reply = 200", "reply = 200\nerrors = { 404 = \"shadow.html\" }");
    std::os::unix::fs::symlink("/etc/shadow", folder.path().join("shadow.html")).unwrap();
    fs::write(&file, format!("{rest}{asks}")).unwrap();
    program.signal(Signal::HUP);
    program.until_said("Permission denied");
    program.until_said("reload refused, nothing has changed");
}
