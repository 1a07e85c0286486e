//! The admin socket: for its user alone, found by the config file, taken from nobody, and never a reason not to start. Whoever
//! sends nonsense or nothing at all is refused, and whoever changes something is named in the log.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::admin::{begin, raw, refused, socket, status, tell, told};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::program::{Program, once};
use crate::support::{config, until};

const SOON: Duration = Duration::from_secs(5);

/// A program whose socket is at a path of our choice.
fn at(backend: &Backend, listen: &str) -> Program {
    Program::run(&format!("[admin]\nlisten = \"{listen}\"\n{}", config(&[backend.address], "", "")))
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn pid_at(path: &Path) -> u64 {
    let socket = path.display().to_string();
    let output = once(&["status", "--json", "--socket", &socket], Path::new("."));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    status["pid"].as_u64().unwrap()
}

#[test]
fn the_socket_is_for_its_user_alone_and_goes_with_the_process() {
    let backend = Backend::echo();
    let mut program = Program::run(&config(&[backend.address], "", ""));
    let path = socket(&program);
    let about = std::fs::metadata(&path).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("evenkeel-"), "{name}");
    assert_eq!(status(&program)["pid"], program.pid());
    program.signal(Signal::TERM);
    assert_eq!(program.until_exit(SOON).code(), Some(0));
    assert!(!path.exists());
    assert!(refused(&program, &["status"], 5).contains("no running process answers"));
}

#[test]
fn status_shows_listeners_and_backends_in_words() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let clients = [connect(program.address("public")), connect(program.address("public"))];
    clients.iter().for_each(|client| assert_echo(client, b"hello"));
    let said = told(&program, &["status"]);
    let door = program.address("public").to_string();
    let listener = said.lines().find(|line| line.starts_with("tcp.public")).unwrap();
    let words: Vec<_> = listener.split_whitespace().collect();
    assert_eq!(words, ["tcp.public", &door, "2"]);
    let row = said.lines().find(|line| line.starts_with("app/")).unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    let name = format!("app/{}", backend.address);
    assert_eq!(words, [&name, "healthy", "-", "1", "2", "2", "0", "0"]);
    let pid = format!("process {}, up ", program.pid());
    assert!(said.contains(&pid) && said.contains("2 open connections"), "{said}");
}

#[test]
fn the_place_of_a_process_that_lives_is_not_taken_from_it() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let first = at(&backend, &unix(&path));
    let mut second = at(&backend, &unix(&path));
    second.until_said("another process listens there");
    assert_echo(connect(second.address("public")), b"served all the same");
    assert_eq!(pid_at(&path), u64::from(first.pid()));
    second.signal(Signal::TERM);
    second.until_exit(SOON);
    assert_eq!(pid_at(&path), u64::from(first.pid()));
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    let program = at(&backend, &unix(&path));
    assert_eq!(pid_at(&path), u64::from(program.pid()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Nothing else is left beside it.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_socket_that_cannot_be_had_is_only_warned_of() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    std::fs::write(&file, "text").unwrap();
    let nowhere = folder.path().join("none/none/admin.sock");
    let places = [(unix(&file), "not a socket"), (unix(&nowhere), "No such file")];
    for (listen, what) in places {
        let program = at(&backend, &listen);
        program.until_said("no admin socket");
        assert!(program.diagnostics().contains(what), "{}", program.diagnostics());
        assert_echo(connect(program.address("public")), b"hello");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn a_file_that_another_process_has_put_there_is_not_removed_at_the_end() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let mut program = at(&backend, &unix(&path));
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    program.signal(Signal::TERM);
    program.until_exit(SOON);
    assert!(path.exists());
}

#[test]
fn it_can_be_switched_off() {
    let backend = Backend::echo();
    let program = at(&backend, "off");
    assert!(refused(&program, &["status"], 5).contains("switched the admin socket off"));
    let all = std::fs::read_dir(program.folder()).unwrap().flatten();
    let files: Vec<_> = all.map(|entry| entry.file_name()).collect();
    assert_eq!(files, ["evenkeel.toml"]);
}

#[test]
fn whoever_changes_something_is_named_in_the_log() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let target = format!("app/{}", backend.address);
    for (arguments, what) in [
        (vec!["reload"], "admin: reload".to_owned()),
        (vec!["drain", &target], format!("admin: drain {target}")),
        (vec!["weight", &target, "3"], format!("admin: weight 3 for {target}")),
    ] {
        let child = begin(&program, &arguments);
        let who = format!("pid={}", child.id());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        program.until_said(&what);
        let said = program.diagnostics();
        let line = said.lines().find(|line| line.contains(&what)).unwrap();
        let user = format!("uid={}", rustix::process::geteuid().as_raw());
        assert!(line.contains(&who) && line.contains(&user), "{line}");
    }
    // Who only looks is not.
    told(&program, &["status"]);
    told(&program, &["reload", "--dry-run"]);
    assert_eq!(program.diagnostics().matches("admin: ").count(), 3);
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let path = socket(&program);
    let post = |to: &str, body: &str| {
        let length = body.len();
        raw(
            &path,
            format!("POST {to} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        )
    };
    let cases = [
        (post("/v1/none", ""), "404"),
        (post("/v1/status", ""), "405"),
        (raw(&path, b"GET /v1/reload HTTP/1.1\r\nHost: a\r\n\r\n"), "405"),
        (post("/v1/reload", "{"), "400"),
        // An order must not do more than was meant by a word that is not known.
        (post("/v1/reload", "{\"dryrun\":true}"), "400"),
        (post("/v1/drain", "{}"), "400"),
        (post("/v1/drain", "{\"upstream\":\"app\",\"all\":true}"), "400"),
        (post("/v1/weight", "{\"upstream\":\"app\",\"weight\":65536}"), "400"),
        (post("/v1/down", "{\"upstream\":\"none\"}"), "404"),
        (raw(&path, b"hello\r\n\r\n"), "400"),
    ];
    for (answer, status) in cases {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "not {status}: {answer}");
    }
    assert!(!program.diagnostics().contains("admin: "), "{}", program.diagnostics());
    assert_echo(connect(program.address("public")), b"hello");
}

#[test]
fn what_is_too_long_is_refused_unread() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let path = socket(&program);
    let before = program.memory();
    let announced = "POST /v1/diff HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    assert!(raw(&path, announced.as_bytes()).starts_with("HTTP/1.1 413"));
    let mut chunks =
        b"POST /v1/diff HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        chunks.extend_from_slice(b"100000\r\n");
        chunks.resize(chunks.len() + 0x10_0000, b'#');
        chunks.extend_from_slice(b"\r\n");
    }
    let answer = raw(&path, &chunks);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(100_000));
    let answer = raw(&path, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    let grown = program.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "it has grown by {grown} bytes");
    assert_eq!(status(&program)["pid"], program.pid());
}

#[test]
fn those_who_say_nothing_are_cut_so_that_others_get_their_turn() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let path = socket(&program);
    // What answers has opened all that it opens.
    assert_eq!(status(&program)["pid"], program.pid());
    let before = program.descriptors();
    let began = std::time::Instant::now();
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // All places are taken; this waits for one.
    assert_eq!(status(&program)["pid"], program.pid());
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "they are more at once than there are places"
    );
    drop(silent);
    until("their descriptors are given back", || program.descriptors() <= before);
    assert_echo(connect(program.address("public")), b"traffic does not notice");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_long() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let head = "POST /v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{";
    let answer = raw(&socket(&program), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(!program.diagnostics().contains("admin: "), "{}", program.diagnostics());
}

#[test]
fn an_answer_that_nobody_gives_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["status"][..], &["reload"], &["drain", "app"], &["confirm"]] {
        let output = once(arguments, folder.path());
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("evenkeel.toml; name it with -c"), "{said}");
    }
}

#[test]
fn the_address_for_readiness_tells_nothing_else() {
    let backend = Backend::echo();
    let admin = "[admin]\nready = \"127.0.0.1:0\"\n";
    let program = Program::run(&format!("{admin}{}", config(&[backend.address], "", "")));
    let door = crate::admin_drain::ready_address(&program);
    let ask = |path: &str| crate::support::http::Client::connect(door).get(path);
    let ready = ask("/ready");
    assert_eq!((ready.status, &*ready.text()), (200, "ready\n"));
    assert_eq!(ask("/live").status, 200);
    for path in ["/", "/v1/status", "/ready/x"] {
        assert_eq!(ask(path).status, 404);
    }
    assert!(tell(&program, &["status"]).status.success());
}
