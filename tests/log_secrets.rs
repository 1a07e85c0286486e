//! Secrets that clients, backends and configs hold are in nothing that is written: access lines of any format, diagnostics at every level,
//! answers to operators, pictures of mistakes. Each secret here has the same word in it, and that word is looked for everywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;

use crate::support::admin::{raw, socket, tell};
use crate::support::h2::{H2Client, request};
use crate::support::http::{Client, Recorder};
use crate::support::program::{BINARY, Program, once};
use crate::support::{admin, until};

/// What every secret has in it.
const CANARY: &str = "kanarienvogel";

fn basic() -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("ann:{CANARY}"))
}

/// Nothing of what is secret is in a text, in clear or as passwords are sent.
fn assert_silent(text: &str, what: &str) {
    for secret in [CANARY, &basic()] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} has a secret in it: {line:?}");
    }
}

/// A config with a secret wherever one can stand; `more` are further lines of `[log]`.
fn config(backend: &Recorder, folder: &Path, secret: &str, more: &str) -> String {
    let users = folder.join("users");
    let hash = bcrypt::hash(CANARY, 4).unwrap();
    fs::write(&users, format!("ann:{hash}\n")).unwrap();
    let key = folder.join("key");
    fs::write(&key, format!("{CANARY}{CANARY}{CANARY}")).unwrap();
    let at = backend.address();
    format!(
        "[upstream.app]\nbackends = \"{at}\"\n\
         sticky = {{ cookie = \"at\", key-file = \"{key}\" }}\n\
         health = {{ http = \"/health\", every = \"100ms\", headers = {{ Authorization = \"Bearer {secret}\" }} }}\n\
         [upstream.auth]\nbackends = \"{at}\"\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\n\
         [[http.web.route]]\npath = \"/basic/*\"\nupstream = \"app\"\nbasic-auth = {{ users-file = \"{users}\" }}\n\
         [[http.web.route]]\npath = \"/asked/*\"\nupstream = \"app\"\nforward-auth = {{ upstream = \"auth\", path = \"/verify\" }}\n\
         [[http.web.route]]\nupstream = \"app\"\n\
         request-headers = {{ set = {{ Authorization = \"Bearer {secret}\", X-Api-Key = \"{secret}\" }} }}\n\
         [log]\nlevel = \"trace\"\n{more}\n",
        key = key.display(),
        users = users.display(),
    )
}

/// Requests with secrets in every place that is for one, well-formed and not.
fn ask_everything(program: &Program) -> usize {
    let door = program.address("web");
    let basic = basic();
    let mut asked = 0;
    for (path, more) in [
        ("/basic/a", format!("Authorization: Basic {basic}\r\n")),
        ("/basic/a", format!("Authorization: Basic {basic}AAAA\r\n")),
        ("/basic/a", format!("Authorization: Basic {CANARY}\r\n")),
        ("/asked/a", format!("Authorization: Bearer {CANARY}\r\nCookie: a={CANARY}\r\n")),
        ("/", format!("Cookie: at={CANARY}; b={CANARY}\r\nProxy-Authorization: {CANARY}\r\n")),
        (&*format!("/?token={CANARY}&a=b&API_KEY={CANARY}"), String::new()),
        (&*format!("http://ann:{CANARY}@app.test/"), String::new()),
        ("/", format!("Referer: https://a:{CANARY}@b/?access_token={CANARY}\r\n")),
        ("/", format!("X-Auth-Token: {CANARY}\r\nX-Api-Key: {CANARY}\r\n")),
        // Not even what is refused.
        ("/", format!("Authorization : {CANARY}\r\n")),
        ("/", format!("Cookie: {CANARY}\nX: y\r\n")),
        ("/", format!("Cookie: {CANARY}\0\r\n")),
        ("/", format!(" {CANARY}\r\n")),
        ("/", format!("Content-Length: {CANARY}\r\n")),
    ] {
        let mut client = Client::connect(door);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n{more}\r\n"));
        client.answer();
        asked += 1;
    }
    let client = H2Client::connect(door);
    let mut h2 = request("GET", &format!("/?sig={CANARY}"));
    for (name, value) in
        [("authorization", format!("Bearer {CANARY}")), ("cookie", format!("a={CANARY}"))]
    {
        h2.headers_mut().insert(name, value.parse().unwrap());
    }
    client.run(async { client.sender().send_request(h2, true).unwrap().0.await }).unwrap();
    asked + 1
}

fn backend() -> Recorder {
    Recorder::answering(|_| {
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: a={CANARY}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    })
}

/// The program with everything said that can be, by the libraries that it is made of too.
fn talkative(text: &str) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "EVENKEEL_LOG=trace exec \"$0\" run -c \"$1\"", BINARY]).arg(&file);
    let program = Program::spawn(command, folder);
    program.until_said("listening on ");
    program
}

#[test]
fn no_secret_is_in_any_line_whatever_its_format_or_level() {
    let (backend, folder) = (backend(), tempfile::tempdir().unwrap());
    let own = "'{request} {header.authorization} {header.cookie} {header.x-auth-token} {header.x-api-key} \
               {header.referer} {uri} {query} {detail} {header.proxy-authorization}'";
    for format in ["\"text\"", "\"json\"", "\"combined\"", own] {
        let text = config(&backend, folder.path(), CANARY, &format!("access-format = {format}"));
        let program = talkative(&text);
        let asked = ask_everything(&program);
        let lines = program.until_lines(asked);
        until("the backend is healthy", || !backend.requests().is_empty());
        assert!(program.diagnostics().contains("TRACE"), "everything was said");
        assert_silent(&program.output(), format);
        assert_silent(&program.diagnostics(), "diagnostics");
        let text = lines.concat();
        assert!(text.contains("***") && text.contains("a=b"), "it shows what is none: {text}");
    }
    // They were there to be told.
    let came = format!("{:?}", backend.requests());
    assert!(came.matches(CANARY).count() > 20, "{came}");
}

/// What is kept of decisions, and what commands show of it and of all else.
fn assert_records_are_silent(program: &Program, journal: &Path) {
    let all: [&[&str]; 5] =
        [&["journal"], &["journal", "--json"], &["config"], &["connections"], &["top", "--json"]];
    for arguments in all {
        let output = tell(program, arguments);
        let all = [output.stdout, output.stderr].concat();
        assert_silent(&String::from_utf8_lossy(&all), &arguments.join(" "));
    }
    let (mut folders, mut files) = (vec![journal.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = fs::read(entry.path()).unwrap();
            assert_silent(&String::from_utf8_lossy(&bytes), &entry.path().display().to_string());
            files += 1;
        }
    }
    assert!(files > 0, "there is a journal");
}

#[test]
fn no_secret_is_in_what_operators_are_answered_or_told_of_a_reload() {
    let (backend, folder) = (backend(), tempfile::tempdir().unwrap());
    let journal = folder.path().join("journal");
    let kept = format!("journal = \"{}\"", journal.display());
    let first = config(&backend, folder.path(), CANARY, &kept);
    let program = talkative(&first);
    ask_everything(&program);
    let second = config(&backend, folder.path(), &format!("{CANARY}-2"), &kept);
    let broken = second.replace("X-Api-Key =", "X-Bogus- = 7, X-Api-Key =");
    let unknown = second.replace("set = {", "sett = 1, set = {");
    let template = second.replace("\"Bearer ", "\"Bearer {nope} ");
    let run = |arguments: &[&str]| {
        let output = once(arguments, program.folder());
        let all = [output.stdout, output.stderr].concat();
        let all = String::from_utf8_lossy(&all).into_owned();
        assert_silent(&all, &arguments.join(" "));
        all
    };
    let files =
        [("second", &second), ("broken", &broken), ("unknown", &unknown), ("template", &template)];
    for (name, text) in files {
        fs::write(program.folder().join(format!("{name}.toml")), text).unwrap();
        let file = format!("{name}.toml");
        run(&["check", "-c", &file]);
        run(&["check", "--json", "-c", &file]);
        run(&["diff", &file]);
        run(&["diff", "--offline", "--json", &file]);
        let effective = run(&["check", "--effective", "-c", &file]);
        assert_eq!(effective.contains("Authorization = \"***\""), name == "second", "{effective}");
        admin::write(&program, text);
        for arguments in [
            &["reload", "--dry-run"][..],
            &["reload"],
            &["reload", "--json"],
            &["status", "--json"],
        ] {
            let output = tell(&program, arguments);
            let all = [output.stdout, output.stderr].concat();
            assert_silent(&String::from_utf8_lossy(&all), &format!("{name}: {arguments:?}"));
        }
    }
    let own =
        once(&["check", "--effective", "--with-secrets", "-c", "second.toml"], program.folder());
    assert!(
        String::from_utf8_lossy(&own.stdout).contains(CANARY),
        "whoever asks for them has them"
    );
    assert_records_are_silent(&program, &journal);
    for path in ["/v1/state", "/v1/status", "/metrics", "/v1/config"] {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: evenkeel\r\nConnection: close\r\n\r\n");
        assert_silent(&raw(&socket(&program), ask.as_bytes()), path);
    }
    assert_silent(&program.diagnostics(), "diagnostics");
    assert_silent(&program.output(), "the access log");
}
