//! An operator of a running program: the commands that speak to it, as a shell would run them, and raw requests to its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::program::{BINARY, Program, once};
use super::until;

/// Runs a command on the config file of a program.
pub(crate) fn tell(program: &Program, arguments: &[&str]) -> Output {
    once(&[arguments, &["-c", "evenkeel.toml"]].concat(), program.folder())
}

/// The same, which has to work; what it prints.
pub(crate) fn told(program: &Program, arguments: &[&str]) -> String {
    let output = tell(program, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The same, which has to fail with this exit code; what it complains of.
pub(crate) fn refused(program: &Program, arguments: &[&str], code: i32) -> String {
    let output = tell(program, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// A command that goes on meanwhile; its output is read to the end.
pub(crate) fn begin(program: &Program, arguments: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.args(arguments).args(["-c", "evenkeel.toml"]);
    command.current_dir(program.folder()).env("RUNTIME_DIRECTORY", program.folder().join("run"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("start the binary")
}

/// What a program says of itself.
pub(crate) fn status(program: &Program) -> Value {
    serde_json::from_str(&told(program, &["status", "--json"])).expect("JSON")
}

/// What a program says of one backend.
pub(crate) fn backend(program: &Program, name: &str) -> Value {
    let status = status(program);
    let mut all = status["backends"].as_array().expect("a list").iter();
    let found = all.find(|row| row["backend"] == name);
    found.unwrap_or_else(|| panic!("no backend {name} in {status}")).clone()
}

/// Writes the config of a program anew.
pub(crate) fn write(program: &Program, config: &str) {
    std::fs::write(program.folder().join("evenkeel.toml"), config).expect("write the config");
}

/// Where the socket of a program is that says nothing of it in its config.
pub(crate) fn socket(program: &Program) -> PathBuf {
    let find = || {
        let all = std::fs::read_dir(program.folder().join("run")).ok()?.flatten();
        let is_it = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sock");
        all.map(|entry| entry.path()).find(is_it)
    };
    until("the admin socket is there", || find().is_some());
    find().expect("found above")
}

/// Sends bytes to a socket; all that comes back to the end.
pub(crate) fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
    // It may be refused before all of it was taken.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
