//! Real servers and clients from the system's packages, each server on a free port with data of its own.
//! What is not installed fails the test with what to run, nothing waits for ever, and nothing is left behind.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// How long a server may take to answer after its start, on a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a server may take to end after its signal.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Another process may take a port between our look and the server's.
const PORTS_TRIED: usize = 5;

/// A running server; dropping it ends it and removes its data.
pub(crate) struct Server {
    kind: Kind,
    folder: TempDir,
    child: Option<Child>,
    pub(crate) address: SocketAddr,
}

/// What differs from server to server.
struct Kind {
    program: &'static str,
    command: fn(folder: &Path, port: u16) -> Command,
    answers: fn(SocketAddr) -> bool,
    /// The signal that ends it at once, with all its processes.
    end: Signal,
}

/// A PostgreSQL server that lets `postgres` in without a password.
pub(crate) fn postgres() -> Server {
    let folder = folder();
    let owner = unprivileged();
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("chown");
    }
    let mut initdb = Command::new(program("initdb"));
    initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-D"]);
    initdb.arg(folder.path().join("data")).current_dir("/");
    run(as_user(&mut initdb, owner), Duration::from_secs(60));
    let kind = Kind {
        program: "postgres",
        command: |folder, port| {
            let mut command = Command::new(program("postgres"));
            command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "fsync=off",
                "shared_buffers=16MB",
                "max_connections=50",
            ] {
                command.args(["-c", setting]);
            }
            as_user(command.current_dir("/"), unprivileged());
            command
        },
        answers: |address| {
            let mut ask = Command::new(program("pg_isready"));
            ask.args(["-q", "-t", "2", "-h", "127.0.0.1", "-p", &address.port().to_string()]);
            ask.status().is_ok_and(|status| status.success())
        },
        end: Signal::QUIT,
    };
    Server::start(kind, folder)
}

/// A Redis server that saves nothing.
pub(crate) fn redis() -> Server {
    let kind = Kind {
        program: "redis-server",
        command: |folder, port| {
            let mut command = Command::new(program("redis-server"));
            command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
            command.arg("--dir").arg(folder);
            command
        },
        answers: |address| ask(address, "PING\r\n").starts_with("+PONG"),
        end: Signal::KILL,
    };
    Server::start(kind, folder())
}

/// A Mosquitto that lets everybody in, and knows no limit of message sizes.
pub(crate) fn mosquitto() -> Server {
    let kind = Kind {
        program: "mosquitto",
        command: |folder, port| {
            let file = folder.join("mosquitto.conf");
            let says = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
            std::fs::write(&file, says).expect("write");
            let mut command = Command::new(program("mosquitto"));
            command.arg("-c").arg(file);
            command
        },
        answers: |address| TcpStream::connect(address).is_ok(),
        end: Signal::KILL,
    };
    Server::start(kind, folder())
}

/// An nginx that serves the file `big`, its name at `/name` and 200 at `/healthz`. On the socket `h2` in its folder it
/// speaks HTTP/2 without being asked; on `told` it wants a PROXY header, and says at `/who` whom that named.
pub(crate) fn nginx(name: &str, big: &[u8]) -> Server {
    let folder = folder();
    std::fs::write(folder.path().join("name"), format!("{name}\n")).expect("write");
    std::fs::write(folder.path().join("big"), big).expect("write");
    let kind = Kind {
        program: "nginx",
        command: |folder, port| {
            let at = folder.display();
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
                .concat();
            let config = format!(
                "daemon off; master_process off; error_log stderr; pid {at}/pid; events {{ worker_connections 2000; }}
                 http {{ access_log off; default_type text/plain; {temporary}
                 server {{ listen 127.0.0.1:{port}; listen unix:{at}/h2 http2;
                 listen unix:{at}/told proxy_protocol; root {at};
                 location = /who {{ return 200 $proxy_protocol_addr:$proxy_protocol_port; }}
                 location = /healthz {{ return 200; }} }} }}"
            );
            std::fs::write(folder.join("nginx.conf"), config).expect("write");
            let mut command = Command::new(program("nginx"));
            command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
            command
        },
        answers: |address| ask(address, "GET /healthz HTTP/1.0\r\n\r\n").contains(" 200 "),
        end: Signal::KILL,
    };
    Server::start(kind, folder)
}

/// An HAProxy that relays to an address, with these words behind both in its config.
pub(crate) fn haproxy(listens: &str, to: SocketAddr, how: &str) -> Server {
    let folder = folder();
    std::fs::write(folder.path().join("listens"), listens).expect("write");
    std::fs::write(folder.path().join("server"), format!("server app {to} {how}\n"))
        .expect("write");
    let kind = Kind {
        program: "haproxy",
        command: |folder, port| {
            let words = |name| std::fs::read_to_string(folder.join(name)).expect("written before");
            let (listens, server) = (words("listens"), words("server"));
            let config = format!(
                "defaults\n mode tcp\n timeout connect 3s\n timeout client 30s\n timeout server 30s\n\
                 listen door\n bind 127.0.0.1:{port} {listens}\n unique-id-format %rt\n {server}"
            );
            std::fs::write(folder.join("haproxy.cfg"), config).expect("write");
            let mut command = Command::new(program("haproxy"));
            command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
            command
        },
        answers: |address| TcpStream::connect(address).is_ok(),
        end: Signal::KILL,
    };
    Server::start(kind, folder)
}

/// The `http.server` of Python, which speaks HTTP/1.0, with a file `name` that has its name, and `big`.
pub(crate) fn python(name: &str, big: &[u8]) -> Server {
    let folder = folder();
    std::fs::write(folder.path().join("name"), format!("{name}\n")).expect("write");
    std::fs::write(folder.path().join("big"), big).expect("write");
    let kind = Kind {
        program: "python3",
        command: |folder, port| {
            let mut command = Command::new(program("python3"));
            command.args(["-m", "http.server", "--bind", "127.0.0.1"]);
            command.arg("-d").arg(folder).arg(port.to_string());
            command
        },
        answers: |address| ask(address, "GET /name HTTP/1.0\r\n\r\n").contains(" 200 "),
        end: Signal::KILL,
    };
    Server::start(kind, folder)
}

/// A service in Python, as somebody would write it who knows no more than `docs/packets.md`: four bytes of length, most
/// significant first, and a body, which comes back in capitals behind the name.
pub(crate) fn python_packets(name: &str) -> Server {
    const SERVICE: &str = r#"
import socketserver, struct, sys

class Packets(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(4)) == 4:
            body = self.rfile.read(struct.unpack(">I", head)[0])
            reply = NAME + body.upper()
            self.wfile.write(struct.pack(">I", len(reply)) + reply)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

NAME = open(sys.argv[1] + "/name", "rb").read()
Server(("127.0.0.1", int(sys.argv[2])), Packets).serve_forever()
"#;
    let folder = folder();
    std::fs::write(folder.path().join("name"), name).expect("write");
    std::fs::write(folder.path().join("service.py"), SERVICE).expect("write");
    let kind = Kind {
        program: "python3",
        command: |folder, port| {
            let mut command = Command::new(program("python3"));
            command.arg(folder.join("service.py")).arg(folder).arg(port.to_string());
            command
        },
        answers: |address| TcpStream::connect(address).is_ok(),
        end: Signal::KILL,
    };
    Server::start(kind, folder)
}

/// The driver of Chromium, which starts browsers and steers them for whoever asks over HTTP.
pub(crate) fn chromedriver() -> Server {
    let kind = Kind {
        program: "chromedriver",
        command: |folder, port| {
            let mut command = Command::new(program("chromedriver"));
            command.arg(format!("--port={port}")).current_dir(folder);
            command
        },
        answers: |address| {
            ask(address, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .contains(" 200 ")
        },
        end: Signal::KILL,
    };
    Server::start(kind, folder())
}

impl Server {
    fn start(kind: Kind, folder: TempDir) -> Server {
        let mut server = Server { kind, folder, child: None, address: free_address() };
        for _ in 0..PORTS_TRIED {
            if server.comes_up() {
                return server;
            }
            server.address = free_address();
        }
        panic!("{}: {PORTS_TRIED} free ports were taken by others", server.kind.program);
    }

    /// Ends it at once, without a word to its clients.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        let _ = kill_process(pid, self.kind.end);
        let deadline = Instant::now() + END_WITHIN;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // And whatever it has started itself and not ended.
        let _ = kill_process_group(pid, Signal::KILL);
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it once more at the address it had.
    pub(crate) fn start_again(&mut self) {
        let address = self.address;
        assert!(self.comes_up(), "{}: {address} was taken by another", self.kind.program);
    }

    /// Starts it and waits until it answers; false if its port was taken.
    fn comes_up(&mut self) -> bool {
        let name = self.kind.program;
        let path = self.folder.path().join("log");
        let log = File::create(&path).expect("a log");
        let mut command = (self.kind.command)(self.folder.path(), self.address.port());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        let child = self.child.insert(child);
        let deadline = Instant::now() + READY_WITHIN;
        while !(self.kind.answers)(self.address) {
            let ended = child.try_wait().expect("wait");
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            if ended.is_some() && said.contains("in use") {
                return false;
            }
            assert!(ended.is_none(), "{name} ended at once:\n{said}");
            assert!(Instant::now() < deadline, "{name} does not answer:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end and gives all that it printed; it must succeed, and within the given time.
pub(crate) fn run(command: &mut Command, most: Duration) -> String {
    let (status, text) = finish(command.stdin(Stdio::null()), b"", most);
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}

/// Runs a program that is told this on its standard input, and gives all that it printed, however it ended.
pub(crate) fn fed(command: &mut Command, input: &[u8]) -> String {
    finish(command.stdin(Stdio::piped()), input, Duration::from_secs(30)).1
}

fn finish(command: &mut Command, input: &[u8], most: Duration) -> (ExitStatus, String) {
    let mut printed = tempfile::tempfile().expect("a temporary file");
    let copy = |file: &File| file.try_clone().expect("a temporary file");
    command.stdout(copy(&printed)).stderr(copy(&printed));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already reads no more.
        let _ = stdin.write_all(input);
    }
    let deadline = Instant::now() + most;
    let status = loop {
        match child.try_wait().expect("wait") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = contents(&mut printed);
    let status = status.unwrap_or_else(|| panic!("{command:?} took over {most:?}:\n{text}"));
    (status, text)
}

/// The path of an installed program. PostgreSQL's own lie beside the PATH, one folder per version.
pub(crate) fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    let newest_first = versions.into_iter().rev().map(|(_, path)| path.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = newest_first
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run tests/install.sh"))
}

/// An address on which nothing listens at this moment.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn contents(file: &mut File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind().expect("rewind");
    file.read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a server answers to a few bytes; empty if it does not.
fn ask(address: SocketAddr, question: &str) -> String {
    let patience = Duration::from_secs(2);
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(question.as_bytes())?;
        let mut start = [0; 64];
        let count = stream.read(&mut start)?;
        Ok(String::from_utf8_lossy(&start[..count]).into_owned())
    };
    answer().unwrap_or_default()
}

/// User and group to run as where we are root, which PostgreSQL refuses to be.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse::<u32>);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user postgres or nobody"))
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    match user {
        Some((uid, gid)) => command.uid(uid).gid(gid),
        None => command,
    }
}
