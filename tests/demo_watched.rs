//! What `evenkeel demo` prints to be opened and pasted, used as a newcomer would: by hand, from another folder, while a backend dies
//! and comes back. Nothing of it is left when the demo has ended.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::demo::{addresses, alone, demo};
use crate::readme;
use crate::support::http::{Answer, Client};
use crate::support::program::Program;
use crate::support::{until, until_within};

/// A demo that runs.
struct Watched {
    program: Program,
    /// What it takes for the folder for temporary files.
    temporary: TempDir,
}

impl Watched {
    /// Starts it, and waits for all that it prints at first.
    fn start(lasts: &str) -> Watched {
        let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut command = demo(&["--plain", "--for", lasts]);
        command.env("TMPDIR", temporary.path());
        let watched = Watched { program: Program::spawn(command, folder), temporary };
        watched.until_told("clients a second");
        watched
    }

    fn until_told(&self, text: &str) {
        until_within(Duration::from_secs(30), &format!("the demo tells {text:?}"), || {
            self.program.output().contains(text)
        });
    }

    /// The address of the dashboard and its token, out of the link.
    fn dashboard(&self) -> (SocketAddr, String) {
        let said = self.program.output();
        let link = said.lines().find_map(|line| line.strip_prefix("The dashboard: http://"));
        let (address, token) = link.expect("a link").split_once("/#token=").expect("a token");
        (address.parse().unwrap(), token.to_owned())
    }

    fn commands(&self) -> Vec<String> {
        commands(&self.program.output())
    }

    /// The command that the demo prints with this word.
    fn command(&self, word: &str) -> String {
        let all = self.commands();
        let is_meant = |line: &&String| line.contains(&format!("./evenkeel {word}"));
        all.iter().find(is_meant).unwrap_or_else(|| panic!("no {word} in {all:?}")).clone()
    }

    /// Pastes it.
    fn paste(&self, word: &str) -> Output {
        paste(&self.command(word))
    }

    /// The same with another command in the place of `replay`.
    fn type_instead(&self, command: &str) -> Output {
        let all = self.commands();
        let replay = all.iter().find_map(|line| line.strip_suffix("./evenkeel replay"));
        paste(&format!("{}./evenkeel {command}", replay.expect("a command to replay")))
    }

    /// The state of the second backend, as the dashboard is told.
    fn green(&self) -> String {
        let (door, token) = self.dashboard();
        let state = ask(door, "/v1/state", Some(&token));
        let state: Value = serde_json::from_slice(&state.body).unwrap();
        let mut backends = state["upstreams"][0]["backends"].as_array().unwrap().iter();
        let green = addresses(&self.program.output())[1].to_string();
        let green = backends.find(|row| row["backend"] == green.as_str());
        green.unwrap_or_else(|| panic!("{state}"))["state"].as_str().unwrap().to_owned()
    }

    /// Has a real browser open the link; it ends when it has shown a backend die and come back.
    fn open_in_chromium(&self, backend: SocketAddr) -> Child {
        let (door, token) = self.dashboard();
        let mut node = Command::new("node");
        node.args(["tests/dashboard/demo.mjs", &format!("http://{door}/#token={token}")]);
        node.arg(backend.to_string()).current_dir(env!("CARGO_MANIFEST_DIR"));
        node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        node.spawn().expect("node runs: tests/install.sh installs it")
    }

    /// Waits until it has ended in order, and nothing of it is left.
    fn until_gone(mut self) {
        let (door, _) = self.dashboard();
        assert!(self.program.until_exit(Duration::from_secs(5)).success());
        self.until_told("Their clients: ");
        assert_eq!(self.program.diagnostics(), "");
        let left: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        until("the dashboard's port is free", || TcpListener::bind(door).is_ok());
    }
}

/// The lines that are to be pasted, of what a demo has printed.
pub(crate) fn commands(said: &str) -> Vec<String> {
    let (_, after) = said.split_once("paste into another terminal:\n\n").expect("commands");
    let lines = after.lines().take_while(|line| !line.is_empty());
    lines.map(|line| line.trim().to_owned()).collect()
}

/// As another shell would do it, in another folder.
fn paste(line: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir("/").stdin(Stdio::null());
    shell.output().expect("start a shell")
}

fn worked(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn ask(door: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let shown = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let shown = shown.unwrap_or_default();
    Client::connect(door)
        .send(format!("GET {path} HTTP/1.1\r\nHost: {door}\r\n{shown}\r\n"))
        .answer()
}

/// The line of a table that a backend has.
fn row(table: &str, backend: SocketAddr) -> &str {
    let backend = backend.to_string();
    let is_it = |line: &&str| line.split_whitespace().any(|word| word.ends_with(&backend));
    table.lines().find(is_it).unwrap_or_else(|| panic!("no {backend} in\n{table}"))
}

#[test]
fn a_newcomer_watches_a_backend_die_and_come_back_and_is_told_why() {
    let _alone = alone();
    let watched = Watched::start("32s");
    let [_, green, ..] = addresses(&watched.program.output())[..] else { panic!("no green") };
    let (door, token) = watched.dashboard();
    assert!(door.ip().is_loopback());
    let page = ask(door, "/", None);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<script"), "{}", page.text());
    assert_eq!(ask(door, "/v1/state", None).status, 401);
    assert_eq!(ask(door, "/v1/state", Some(&token[1..])).status, 401);
    assert_eq!(watched.green(), "healthy");
    assert!(row(&worked(&watched.paste("status")), green).contains(" healthy "));
    let browser = watched.open_in_chromium(green);

    watched.until_told("green is down");
    assert_eq!(watched.green(), "unhealthy");
    let why = worked(&watched.paste("explain"));
    readme::shows(&watched.command("explain"), &why);
    assert!(row(&why, green).ends_with(" it is unhealthy"), "{why}");
    assert!(why.contains("\npicked 127.0.0.1:"), "{why}");
    assert!(!why.contains(&format!("picked {green}")), "{why}");
    assert!(row(&worked(&watched.paste("status")), green).contains(" unhealthy "));
    let journal = worked(&watched.paste("journal"));
    assert_eq!(journal.lines().count(), 11, "{journal}");
    assert!(journal.contains("http.web#1") && !journal.contains(&green.to_string()), "{journal}");

    watched.until_told("green is back");
    assert_eq!(watched.green(), "healthy");
    assert!(row(&worked(&watched.paste("explain")), green).contains(" healthy "));
    let replayed = worked(&watched.paste("replay"));
    readme::shows(&watched.command("replay"), &replayed);
    let picks = replayed.strip_suffix(" picks come out the same, 0 differently\n");
    let picks: u64 = picks.unwrap_or_else(|| panic!("{replayed}")).parse().unwrap();
    assert!(picks > 500, "{replayed}");
    let (door, token) = watched.dashboard();
    let link = format!("Dashboard: http://{door}/#token={token}");
    let commands = ["explain", "journal", "replay"].map(|word| watched.command(word));
    readme::pictures(&[&link, &commands[0], &commands[1], &commands[2]]);
    let seen = browser.wait_with_output().unwrap();
    assert!(worked(&seen).ends_with("it has died\nwatched\n"), "{seen:?}");
    watched.program.signal(Signal::INT);
    watched.until_gone();
}

#[test]
fn a_request_that_somebody_has_sent_to_the_demo_is_explained_by_its_id() {
    let _alone = alone();
    let watched = Watched::start("1h");
    let web = addresses(&watched.program.output())[4];
    let answer = Client::connect(web).get("/");
    let asked = worked(&watched.type_instead("journal --last 1000 --json"));
    let rows: Value = serde_json::from_str(&asked).unwrap();
    let mut rows = rows.as_array().unwrap().iter().rev();
    let last = rows.find(|row| row["listener"] == "http.web").expect("a request");
    let id = last["request"].as_str().unwrap();
    let why = worked(&watched.type_instead(&format!("explain --request {id}")));
    assert!(why.starts_with("decision 1: http.web, route 1, for 127.0.0.1: "), "{why}");
    assert!(why.contains("\npicked 127.0.0.1:"), "{why}");
    assert_eq!(answer.status, 200);
    watched.program.signal(Signal::TERM);
    watched.until_gone();
}

#[test]
fn an_operator_steers_the_demo_and_ends_it() {
    let _alone = alone();
    let watched = Watched::start("1h");
    let [blue, green, ..] = addresses(&watched.program.output())[..] else { panic!("no blue") };
    worked(&watched.type_instead(&format!("drain colours/{blue}")));
    watched.until_told("blue is drained: an operator said so");
    worked(&watched.type_instead(&format!("ready colours/{blue}")));
    watched.until_told("blue is back: an operator said so");
    worked(&watched.type_instead(&format!("remove colours/{green}")));
    watched.until_told("green was taken out of the config");
    assert!(worked(&watched.type_instead("replay")).contains(", 0 differently\n"));
    worked(&watched.type_instead("reload"));
    watched.until_told("green is in the config again");
    // What it is made of is in this process alone.
    let refused = watched.type_instead("upgrade");
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    worked(&watched.type_instead("drain --all"));
    watched.until_gone();
}
