//! Sockets that somebody else has opened, as systemd does for a socket unit (sd_listen_fds(3)): they are listened on where the
//! config has their addresses, through upgrades too, and what belongs to whoever opened them stays theirs.

use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::client::{line, visit};
use crate::support::program::{BINARY, Program};
use crate::support::until;

/// Opens a TCP and a Unix socket, tells where, and becomes the program with them.
const OPENER: &str = r#"
import os, socket, sys
program, config, path = sys.argv[1:]
tcp = socket.socket(); tcp.bind(("127.0.0.1", 0)); tcp.listen(64)
unix = socket.socket(socket.AF_UNIX); unix.bind(path); unix.listen(64)
other = socket.socket(); other.bind(("127.0.0.1", 0)); other.listen(64)
text = open(config).read().replace("TCP", "127.0.0.1:%d" % tcp.getsockname()[1])
open(config, "w").write(text)
# Out of the way first: they may have one of the three numbers themselves.
kept = [os.dup2(one.fileno(), 50 + at) for at, one in enumerate((tcp, unix, other))]
for at, fd in enumerate(kept): os.dup2(fd, 3 + at); os.close(fd)
os.environ.update(LISTEN_FDS="3", LISTEN_PID=str(os.getpid()))
os.execv(program, [program, "run", "-c", config])
"#;

#[test]
fn sockets_that_were_passed_are_listened_on_and_stay_whose_they_are() {
    let backend = Backend::named("here");
    let folder = tempfile::tempdir().expect("a folder");
    let (file, path) = (folder.path().join("evenkeel.toml"), folder.path().join("door.sock"));
    let config = format!(
        "[upstream.app]\nbackends = \"{}\"\n[tcp.public]\nlisten = \"TCP\"\nupstream = \"app\"\n\
         [tcp.unix]\nlisten = \"unix:door.sock\"\nupstream = \"app\"\n\
         [tcp.own]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        backend.address
    );
    std::fs::write(&file, config).expect("write the config");
    let mut command = Command::new("python3");
    command.args(["-c", OPENER, BINARY]).args([&file, &path]);
    let mut program = Program::spawn(command, folder);
    program.until_said_times("listening on ", 3);
    let door = program.address("public");
    let serves = |program: &Program| {
        assert_eq!(visit(door), "here");
        assert_eq!(line(UnixStream::connect(&path).expect("the socket is there")), "here");
        assert_eq!(visit(program.address("own")), "here");
    };
    serves(&program);
    program.until_said("no listener wants the socket on 127.0.0.1:");
    program.upgrade();
    serves(&program);
    program.signal(Signal::TERM);
    until("it has ended", || program.has_ended());
    assert!(path.exists(), "the file is whose the socket is");
}
