//! `evenkeel top` beside a running process, as somebody at a terminal sees and uses it: it is live, drains a backend after a question, says
//! when nobody answers, and gives the terminal back.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::admin::{backend, told};
use crate::support::http::{Client, Recorder, config, ok};
use crate::support::program::{BINARY, Program, once};
use crate::support::until;

/// `top` in a terminal of 80 by 24.
struct Watcher {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

fn terminal() -> vt100::Parser {
    let [rows, columns] = [24, 80].map(|size| NonZero::new(size).expect("not zero"));
    vt100::Parser::new(rows, columns, 0)
}

impl Watcher {
    fn begin(program: &Program) -> Watcher {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("for us");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let name = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("text");
        let theirs = File::options().read(true).write(true).open(name).expect("its other end");
        let of = || Stdio::from(theirs.try_clone().expect("a copy"));
        let mut command = Command::new(BINARY);
        command.args(["top", "--every", "200ms", "-c", "evenkeel.toml"]);
        command
            .current_dir(program.folder())
            .env("RUNTIME_DIRECTORY", program.folder().join("run"));
        command.env("TERM", "xterm").env("NO_COLOR", "1").env("LANG", "C");
        let child = command.stdin(of()).stdout(of()).stderr(of()).spawn().expect("top starts");
        drop(theirs);
        let keys = File::from(ours);
        let screen = Arc::new(Mutex::new(terminal()));
        let (mut reader, shown) = (keys.try_clone().expect("a copy"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                shown.lock().expect("no panic").process(&bytes[..count]);
            }
        });
        Watcher { child, keys, screen }
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.screen().contains(text) {
            let (screen, ended) = (self.screen(), self.child.try_wait());
            assert!(Instant::now() < deadline, "no {text:?}; {ended:?}; on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a key");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serving() -> (Recorder, Recorder, Program) {
    let (one, other) =
        (Recorder::answering(|_| ok(b"hello")), Recorder::answering(|_| ok(b"hello")));
    let program = Program::run(&config(&[one.address(), other.address()], "", ""));
    // It is there when the socket is.
    until("it answers", || once_status(&program));
    (one, other, program)
}

fn once_status(program: &Program) -> bool {
    crate::support::admin::tell(program, &["status"]).status.success()
}

#[test]
fn top_is_live_and_drains_a_backend_once_the_answer_is_yes() {
    let (one, other, program) = serving();
    let mut top = Watcher::begin(&program);
    top.until("http.web");
    top.until("2/2 up");
    let (first, second) = (one.address().to_string(), other.address().to_string());
    // What happens is seen without a key.
    let mut client = Client::connect(program.address("web"));
    let mut seen = false;
    until("requests are seen as they come", || {
        client.get("/");
        seen |= top.screen().lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            line.starts_with("http.web") && words.get(3).is_some_and(|rate| *rate != "0")
        });
        seen
    });
    // The second one; first with a no.
    top.press("jd");
    top.until(&format!("Drain app/{second}?"));
    top.press("n");
    until("the question is gone", || !top.screen().contains("Drain app/"));
    assert_eq!(backend(&program, &second)["state"], "healthy");
    top.press("\x1b[Ad");
    top.until(&format!("Drain app/{first}?"));
    top.press("y");
    top.until("gets nothing new");
    top.until("drained");
    assert_eq!(backend(&program, &first)["state"], "drained");
    top.press("r");
    top.until("back into rotation?");
    top.press("y");
    top.until("2/2 up");
    top.press("2");
    top.until("answered");
    top.press("1/no-such\r");
    top.until("nothing is of that name");
    top.press("\x1bq");
    until("it ends", || top.child.try_wait().unwrap().is_some());
    assert!(top.child.wait().unwrap().success());
    assert!(!top.screen.lock().unwrap().screen().alternate_screen(), "the terminal is as it was");
}

#[test]
fn top_says_when_nobody_answers_any_more_and_goes_on() {
    let (_one, _other, program) = serving();
    let mut top = Watcher::begin(&program);
    top.until("2/2 up");
    program.signal(rustix::process::Signal::TERM);
    top.until("NO ANSWER");
    top.press("q");
    until("it ends", || top.child.try_wait().unwrap().is_some());
}

#[test]
fn one_picture_can_be_printed_and_the_answer_too() {
    let (one, _other, program) = serving();
    Client::connect(program.address("web")).get("/");
    let text = told(&program, &["top", "--once", "--every", "200ms"]);
    assert!(text.starts_with("evenkeel "), "{text}");
    for words in ["LISTENER", "http.web", "app", &one.address().to_string(), "healthy"] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 80));
    let json: serde_json::Value =
        serde_json::from_str(&told(&program, &["top", "--json"])).unwrap();
    assert_eq!(json["listeners"][0]["name"], "http.web");
}

#[test]
fn top_without_a_process_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("evenkeel.toml"), "").unwrap();
    let output = once(&["top", "--once", "-c", "evenkeel.toml"], folder.path());
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no running process answers"));
}
