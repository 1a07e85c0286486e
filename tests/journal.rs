//! The journal: every decision leaves a record in a bounded ring, for its user alone, which can be shown, filtered and followed, and
//! is gone with the process that ends in order. That it cannot be kept is never a reason not to serve.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::admin::{begin, raw, refused, socket, tell, told};
use crate::support::backend::{Backend, dead};
use crate::support::client::{connect, connect_from, line, visit};
use crate::support::http::{Client, Recorder, config as http_config, ok};
use crate::support::program::{Program, once};
use crate::support::{config, until};

const KEPT: &str = "[log]\njournal = \"kept\"\njournal-size = \"64KiB\"\n";

/// A config whose journal is beside it.
fn kept(config: &str) -> String {
    format!("{KEPT}{config}")
}

fn rows(program: &Program, more: &[&str]) -> Vec<Value> {
    let said = told(program, &[&["journal", "--json", "--last", "100000"], more].concat());
    serde_json::from_str(&said).expect("JSON")
}

/// The folder of a process, below the one of its config.
fn folder(program: &Program) -> PathBuf {
    let process = format!("journal-{}-", program.pid());
    let mut all = std::fs::read_dir(program.folder().join("kept")).unwrap().flatten();
    let found = all.find(|entry| entry.file_name().to_string_lossy().starts_with(&process));
    found.expect("the folder of the process").path()
}

#[test]
fn every_connection_leaves_a_decision_that_can_be_found_by_client_backend_and_time() {
    let backends = [Backend::named("A"), Backend::named("B")];
    let program = Program::run(&kept(&config(&backends.each_ref().map(|b| b.address), "", "")));
    let door = program.address("public");
    let clients: Vec<_> = (1..=4).map(|n| std::net::Ipv4Addr::new(127, 0, 4, n)).collect();
    for client in &clients {
        line(connect_from((*client).into(), door));
    }
    until("all have ended", || rows(&program, &[]).iter().all(|row| !row["lasted_ms"].is_null()));
    let all = rows(&program, &[]);
    assert_eq!(all.len(), 4, "{all:#?}");
    for (row, client) in all.iter().zip(&clients) {
        assert_eq!(row["client"], client.to_string());
        assert_eq!((&row["listener"], &row["upstream"]), (&"tcp.public".into(), &"app".into()));
        assert_eq!((&row["outcome"], &row["plan"]), (&"taken".into(), &1.into()));
        let turn = format!("round-robin, turn {}", row["ticket"]);
        assert_eq!(row["reason"], turn);
    }
    let names: Vec<_> = all.iter().map(|row| row["backend"].as_str().unwrap()).collect();
    let expected = [0, 1, 0, 1].map(|at: usize| backends[at].address.to_string());
    assert_eq!(names, expected);
    let of_one = rows(&program, &["--backend", &expected[1], "--from", "127.0.4.4"]);
    assert_eq!(of_one.len(), 1);
    assert_eq!(rows(&program, &["--since", "1h", "--upstream", "app"]).len(), 4);
    assert_eq!(rows(&program, &["--upstream", "other"]).len(), 0);
    let said = told(&program, &["journal", "--last", "1"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("127.0.4.4") && said.starts_with("TIME "), "{said}");
}

#[test]
fn a_request_that_has_happened_is_explained_by_its_id() {
    let backends = ["A", "B"].map(|name| Recorder::answering(move |_| ok(name.as_bytes())));
    let addresses = backends.each_ref().map(Recorder::address);
    let route = "[[http.web.route]]\npath = \"/x\"\nupstream = \"app\"\n";
    let text = format!("{}{route}", http_config(&addresses, "balance = \"least-connections\"", ""));
    let program = Program::run(&kept(&text));
    let mut client = Client::connect(program.address("web"));
    let went_to = client.get("/x").text();
    let at = usize::from(went_to == "B");
    let request = &backends[at].requests()[0];
    let id = request.field("x-request-id").unwrap().to_owned();
    let ask = ["explain", "--request", &id];
    let said: Value =
        serde_json::from_str(&told(&program, &[&ask[..], &["--json"]].concat())).unwrap();
    let tries = said.as_array().unwrap();
    assert_eq!(tries.len(), 1, "{said:#}");
    let name = addresses[at].to_string();
    assert_eq!(tries[0]["decision"]["backend"], name);
    assert_eq!(tries[0]["decision"]["route"], 1);
    assert_eq!(tries[0]["choice"]["picked"], name);
    assert_eq!(tries[0]["choice"]["candidates"].as_array().unwrap().len(), 2);
    let said = told(&program, &ask);
    assert!(
        said.contains("least-connections") && said.contains(&format!("picked {name}")),
        "{said}"
    );
    let complaint = refused(&program, &["explain", "--request", "00"], 6);
    assert!(complaint.contains("no request 00"), "{complaint}");
}

#[test]
fn failed_tries_stand_before_the_one_that_was_taken() {
    let good = Backend::named("A");
    let upstream = "balance = \"first\"\nhealth = \"off\"\n";
    let program = Program::run(&kept(&config(&[dead(), good.address], upstream, "")));
    assert_eq!(visit(program.address("public")), "A");
    let all = rows(&program, &[]);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!((&all[0]["tried"], &all[1]["tried"]), (&0.into(), &1.into()));
    assert_eq!(all[1]["backend"], good.address.to_string());
}

#[test]
fn its_files_are_for_its_user_alone_and_go_with_a_process_that_ends_in_order() {
    let backend = Backend::named("A");
    let mut program = Program::run(&kept(&config(&[backend.address], "", "")));
    let place = folder(&program);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    let files: Vec<_> = std::fs::read_dir(&place).unwrap().flatten().map(|it| it.path()).collect();
    assert!(files.iter().any(|path| path.ends_with("plan-1.toml")), "{files:?}");
    assert!(files.iter().any(|path| path.ends_with("worker-0.ring")), "{files:?}");
    assert!(files.iter().all(|path| mode(path) == 0o600), "{files:?}");
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(Duration::from_secs(5)).code(), Some(0));
    assert!(!place.exists());
}

#[test]
fn a_process_that_was_killed_leaves_its_journal_to_be_read() {
    let backend = Backend::named("A");
    let mut program = Program::run(&kept(&config(&[backend.address], "", "")));
    assert_eq!(visit(program.address("public")), "A");
    let place = folder(&program);
    program.signal(Signal::KILL);
    program.until_exit(Duration::from_secs(5));
    for journal in [place.to_str().unwrap(), "kept"] {
        let arguments = ["journal", "--json", "--journal", journal];
        let output = once(&arguments, program.folder());
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(rows.len(), 1, "{journal}");
        assert_eq!(rows[0]["backend"], backend.address.to_string());
    }
    let output = once(&["journal", "--journal", "nowhere"], program.folder());
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn it_keeps_its_size_and_forgets_the_oldest() {
    let recorder = Recorder::answering(|_| ok(b"A"));
    let one = "[process]\nworkers = 1\n";
    let program =
        Program::run(&kept(&format!("{one}{}", http_config(&[recorder.address()], "", ""))));
    let sizes = || {
        let files = std::fs::read_dir(folder(&program)).unwrap().flatten();
        let rings = files.filter(|it| it.path().extension().is_some_and(|end| end == "ring"));
        let mut sizes: Vec<_> = rings.map(|it| it.metadata().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    let before = sizes();
    let mut client = Client::connect(program.address("web"));
    let count = 1500;
    (0..count).for_each(|_| drop(client.get("/")));
    let all = rows(&program, &[]);
    assert_eq!(sizes(), before);
    // 64 KiB hold about 400 requests with their ends.
    assert!((300..600).contains(&all.len()), "{}", all.len());
    let tickets: Vec<_> = all.iter().map(|row| row["ticket"].as_u64().unwrap()).collect();
    assert_eq!(tickets, (count - tickets.len() as u64..count).collect::<Vec<_>>());
}

#[test]
fn the_admin_socket_gives_the_latest_decisions_and_the_folder() {
    let backend = Backend::named("A");
    let program = Program::run(&kept(&config(&[backend.address], "", "")));
    let door = program.address("public");
    (0..5).for_each(|_| drop(visit(door)));
    let ask = |query: &str| {
        let head =
            format!("GET /v1/journal{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        raw(&socket(&program), head.as_bytes())
    };
    let answer = ask("?last=2");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let tickets: Vec<_> =
        body["decisions"].as_array().unwrap().iter().map(|row| row["ticket"].clone()).collect();
    assert_eq!(tickets, [3, 4]);
    assert_eq!(body["folder"], folder(&program).display().to_string());
    assert!(ask("?last=x").starts_with("HTTP/1.1 400 "));
    assert!(ask("?first=1").starts_with("HTTP/1.1 400 "));
}

#[test]
fn where_it_cannot_be_kept_there_is_a_warning_and_traffic() {
    let backend = Backend::named("A");
    let text = config(&[backend.address], "", "");
    let program = Program::run(&format!("[log]\njournal = \"/proc/nothing\"\n{text}"));
    program.until_said("no journal is kept");
    assert_eq!(visit(program.address("public")), "A");
    refused(&program, &["journal"], 6);
    let program = Program::run(&format!("[log]\njournal = \"off\"\n{text}"));
    assert_eq!(visit(program.address("public")), "A");
    assert!(!program.diagnostics().contains("journal"));
    refused(&program, &["journal"], 6);
}

/// A small file system.
struct SmallDisk {
    place: tempfile::TempDir,
}

impl SmallDisk {
    /// None where mounting is not possible, which is said.
    fn mount(options: &std::ffi::CStr) -> Option<SmallDisk> {
        let place = tempfile::tempdir().expect("a folder to mount on");
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(std::io::stderr(), "skipped: mounting a small disk needs root");
            return None;
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("small", place.path(), "tmpfs", flags, options).expect("mount");
        Some(SmallDisk { place })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.place.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_no_reason_not_to_serve() {
    let Some(disk) = SmallDisk::mount(c"size=100k,mode=700") else { return };
    let backend = Backend::named("A");
    let (text, folder) = (config(&[backend.address], "", ""), disk.place.path());
    let journal = format!("[log]\njournal = \"{}\"\njournal-size = \"1MiB\"\n", folder.display());
    let program = Program::run(&format!("{journal}{text}"));
    program.until_said("no journal is kept");
    assert_eq!(visit(program.address("public")), "A");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn where_there_is_little_room_it_takes_less_than_half_of_it() {
    let Some(disk) = SmallDisk::mount(c"size=4m,mode=700") else { return };
    let backend = Backend::named("A");
    let (text, folder) = (config(&[backend.address], "", ""), disk.place.path());
    let journal = format!("[log]\njournal = \"{}\"\n", folder.display());
    let workers = "[process]\nworkers = 2\n";
    let program = Program::run(&format!("{workers}{journal}{text}"));
    program.until_said("KiB a worker, as there is little room");
    assert_eq!(visit(program.address("public")), "A");
    assert_eq!(rows(&program, &[]).len(), 1);
    let about = rustix::fs::statvfs(folder).unwrap();
    assert!(about.f_bfree > about.f_blocks / 2, "{} of {}", about.f_bfree, about.f_blocks);
}

#[test]
fn following_shows_what_comes() {
    let backend = Backend::named("A");
    let program = Program::run(&kept(&config(&[backend.address], "", "")));
    let door = program.address("public");
    visit(door);
    let mut follower = begin(&program, &["journal", "--follow"]);
    let mut shown = std::io::BufReader::new(follower.stdout.take().unwrap());
    let mut next = || {
        let mut text = String::new();
        std::io::BufRead::read_line(&mut shown, &mut text).unwrap();
        text
    };
    assert!(next().contains("127.0.0.1"));
    drop(connect_from("127.0.4.9".parse().unwrap(), door));
    assert!(next().contains("127.0.4.9"));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn an_upgrade_begins_a_journal_of_its_own() {
    let backend = Backend::named("A");
    let mut program = Program::run(&kept(&config(&[backend.address], "", "")));
    visit(program.address("public"));
    let before = folder(&program);
    program.upgrade();
    let door = program.address("public");
    visit(door);
    let now = folder(&program);
    assert_ne!(before, now);
    until("the folder of the process before is gone", || !before.exists());
    let all = rows(&program, &[]);
    assert_eq!(all.len(), 1, "{all:#?}");
}

#[test]
fn a_reload_goes_on_in_the_same_journal_with_its_plan() {
    let backends = [Backend::named("A"), Backend::named("B")];
    let program = Program::run(&kept(&config(&[backends[0].address], "", "")));
    let door = program.address("public");
    assert_eq!(visit(door), "A");
    let listen = format!("listen = \"{door}\"");
    let text = kept(&config(&[backends[1].address], "", ""));
    let text = text.replace("listen = \"127.0.0.1:0\"", &listen);
    crate::support::admin::write(&program, &text);
    told(&program, &["reload"]);
    assert_eq!(visit(door), "B");
    let all = rows(&program, &[]);
    let plans: Vec<_> = all.iter().map(|row| row["plan"].as_u64().unwrap()).collect();
    assert_eq!(plans, [1, 2], "{all:#?}");
    let plan = std::fs::read_to_string(folder(&program).join("plan-2.toml")).unwrap();
    assert!(plan.contains(&backends[1].address.to_string()), "{plan}");
    let held = connect(door);
    assert_eq!(line(&held), "B");
    let output = tell(&program, &["journal", "--export", "out.journal"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mode =
        std::fs::metadata(program.folder().join("out.journal")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
