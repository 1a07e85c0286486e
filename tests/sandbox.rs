//! The sandbox: what runs cannot read what its config does not name, run programs, or look into other processes, whatever becomes of it.
//! That is shown from inside, by a debugger that has the serving process try. What it is to go on doing, it can do.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, geteuid};

use crate::support::admin::{refused, told, write};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::http::Client;
use crate::support::program::Program;
use crate::support::tls::Certificates;
use crate::support::{config, until};

/// Has a process call functions of the C library; what each returned, where it came back.
fn inside(pid: u32, calls: &[String]) -> Vec<i64> {
    let mut debugger = Command::new("timeout");
    debugger.args(["60", "gdb", "-nx", "-batch", "-p", &pid.to_string()]);
    for call in calls {
        debugger.args(["-ex", &format!("printf \"came back: %ld\\n\", (long){call}")]);
    }
    let output = debugger.stdin(Stdio::null()).output().expect("gdb runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let back = said.lines().filter_map(|line| line.strip_prefix("came back: "));
    back.map(|number| number.parse().expect("a number")).collect()
}

/// Numbers of openat(2), ptrace(2) and execve(2).
const CALLS: [u16; 3] = if cfg!(target_arch = "x86_64") { [257, 101, 59] } else { [56, 117, 221] };

fn call(number: u16, arguments: &str) -> String {
    format!("((long(*)(long, ...))syscall)({number}, {arguments})")
}

fn open(path: &Path) -> String {
    // AT_FDCWD is -100.
    call(CALLS[0], &format!("-100, \"{}\", 0", path.display()))
}

fn look_into(pid: u32) -> String {
    // PTRACE_ATTACH is 16.
    call(CALLS[1], &format!("16, {pid}, 0, 0"))
}

/// Tries to become a program that is not there, so that who may is told just that.
fn run() -> String {
    call(CALLS[2], "\"/nowhere\", 0, 0")
}

/// Why the last call has failed.
fn why() -> String {
    "*((int*(*)())__errno_location)()".to_owned()
}

#[test]
fn a_process_that_serves_cannot_read_secrets_run_programs_or_look_into_others() {
    if !geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: only root may read what is tried here");
        return;
    }
    let backend = Backend::echo();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let mut other = Command::new("sleep").arg("100").spawn().unwrap();
    let tries = |program: &Program| {
        let own = program.folder().join("evenkeel.toml");
        let calls = [
            open(&own),
            open(Path::new("/etc/shadow")),
            open(&secret),
            look_into(other.id()),
            run(),
            why(),
        ];
        inside(program.pid(), &calls)
    };
    let free = Program::run(&config(&[backend.address], "", "[process]\nsandbox = \"off\"\n"));
    let could = tries(&free);
    let [own, shadow, file, looked, ran, why] = could[..] else { panic!("{could:?}") };
    assert!(own >= 0 && shadow >= 0 && file >= 0 && looked == 0, "{could:?}");
    assert_eq!((ran, why), (-1, i64::from(Errno::NOENT.raw_os_error())));
    // With it, its hold on the other one ends.
    drop(free);
    for wanted in ["auto", "strict"] {
        let text = format!("[process]\nsandbox = \"{wanted}\"\n");
        let program = Program::run(&config(&[backend.address], "", &text));
        let could = tries(&program);
        let [own, denied @ .., why] = &could[..] else { panic!("{wanted}: {could:?}") };
        assert!(*own >= 0, "{wanted}: its own config: {could:?}");
        assert_eq!(denied, [-1; 4], "{wanted}");
        assert_eq!(*why, i64::from(Errno::PERM.raw_os_error()), "{wanted}");
        assert_echo(connect(program.address("public")), b"it goes on");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn every_thread_is_inside_and_the_log_says_what_the_kernel_can() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    assert_echo(connect(program.address("public")), b"hello");
    program.until_said("sandbox: ");
    let said = program.diagnostics();
    assert!(said.contains("files of the config alone, any port, no programs"), "{said}");
    assert!(said.contains("system calls"), "{said}");
    let tasks = fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap().flatten();
    let mut count = 0;
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        count += 1;
    }
    assert!(count > 3, "{count}");
}

#[test]
fn a_reload_may_name_files_that_the_process_cannot_reach_and_no_others() {
    let certificates = Certificates::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let route = "[[http.web.route]]\nreply = 200\n";
    let plain = format!("[http.web]\nlisten = \"127.0.0.1:0\"\n{route}");
    let program = Program::run(&plain);
    let door = program.address("web");
    // A key, a page and a log that are elsewhere, all of them opened by whoever keeps the rights.
    let page = elsewhere.path().join("sorry.html");
    fs::write(&page, "so sorry").unwrap();
    let log = elsewhere.path().join("access.log");
    let text = format!(
        "[log]\naccess = \"{}\"\n[http.web]\nlisten = \"127.0.0.1:0\"\nerrors = {{ \"404\" = \"{}\" }}\n\
         [[http.web.route]]\npath = \"/here\"\nreply = 200\n\
         [http.secure]\nlisten = \"127.0.0.1:0\"\ntls = {{ {} }}\n{}",
        log.display(),
        page.display(),
        certificates.pair(),
        route.replace("web", "secure")
    );
    write(&program, &text);
    let said = told(&program, &["reload"]);
    assert!(said.contains("reloaded"), "{said}");
    let sorry = Client::connect(door).get("/nowhere");
    assert_eq!((sorry.status, sorry.text().as_str()), (404, "so sorry"));
    until("it is logged", || {
        fs::read_to_string(&log).is_ok_and(|lines| lines.contains("/nowhere"))
    });
    // Moved away, it is made anew.
    fs::rename(&log, elsewhere.path().join("access.log.1")).unwrap();
    program.signal(Signal::USR1);
    until("it is there again", || {
        let _ = Client::connect(door).get("/nowhere");
        fs::metadata(&log).is_ok_and(|about| about.len() > 0)
    });
}

#[test]
fn a_folder_that_is_out_of_reach_is_named_and_an_upgrade_has_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("a.txt"), "found").unwrap();
    let plain = "[http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nreply = 404\n";
    let mut program = Program::run(plain);
    let door = program.address("web");
    let folder = elsewhere.path().display();
    write(&program, &plain.replace("reply = 404", &format!("files = \"{folder}\"")));
    let said = refused(&program, &["reload"], 3);
    assert!(said.contains(&format!("the folder {folder} is out of reach")), "{said}");
    assert!(said.contains("`evenkeel upgrade`"), "{said}");
    assert_eq!(Client::connect(door).get("/a.txt").status, 404);
    program.upgrade();
    assert_eq!(Client::connect(door).get("/a.txt").text(), "found");
}

#[test]
fn in_strict_only_ports_of_the_config_can_be_reached() {
    let (one, other) = (Backend::echo(), Backend::echo());
    let strict = "[process]\nsandbox = \"strict\"\n";
    let program = Program::run(&config(&[one.address], "", strict));
    program.until_said("files and ports of the config alone");
    assert_echo(connect(program.address("public")), b"hello");
    write(&program, &config(&[other.address], "", strict));
    let said = refused(&program, &["reload"], 3);
    let port = other.address.port();
    assert!(said.contains(&format!("connecting to port {port} is out of reach")), "{said}");
    // Another port to listen on is bound by whoever may.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!("[tcp.more]\nlisten = \"{free}\"\nupstream = \"app\"\n");
    write(&program, &format!("{strict}{}{more}", config(&[one.address], "", "")));
    told(&program, &["reload"]);
    assert_echo(connect(free), b"more");
}

#[test]
fn where_files_are_served_a_link_may_lead_to_the_next_release() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for release in ["1", "2"] {
        fs::create_dir_all(at(&format!("site/releases/{release}"))).unwrap();
        fs::write(at(&format!("site/releases/{release}/a.txt")), release).unwrap();
    }
    let link = at("site/current");
    std::os::unix::fs::symlink("releases/1", &link).unwrap();
    let text = format!(
        "[http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nfiles = \"{}\"\nopen-files = \"off\"\n",
        link.display()
    );
    let program = Program::run(&text);
    let door: SocketAddr = program.address("web");
    assert_eq!(Client::connect(door).get("/a.txt").text(), "1");
    std::os::unix::fs::symlink("releases/2", at("site/next")).unwrap();
    fs::rename(at("site/next"), &link).unwrap();
    until("the next release is served", || Client::connect(door).get("/a.txt").text() == "2");
}

#[test]
fn off_is_off() {
    let backend = Backend::echo();
    let mut program =
        Program::run(&config(&[backend.address], "", "[process]\nsandbox = \"off\"\n"));
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    assert!(status.contains("Seccomp:\t0"), "{status}");
    assert!(!program.diagnostics().contains("sandbox:"), "{}", program.diagnostics());
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(5)).code(), Some(0));
}
