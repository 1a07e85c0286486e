//! Where logs go: files, pipes, a syslog, journald. One that is slow, full or away holds up no client: lines are lost, counted, and told
//! once it takes lines again; and what is not counted as lost has arrived.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel::Running;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

use crate::support::backend::dead;
use crate::support::http::Client;
use crate::support::program::{BINARY, Program};
use crate::support::{start, until};

/// A listener `web` that answers by itself.
fn replying(listen: &str, log: &str) -> String {
    format!("[http.web]\nlisten = \"{listen}\"\n[[http.web.route]]\nreply = 204\n[log]\n{log}\n")
}

/// Sends so many requests one by one, each answered before the next: whoever is held up would be seen. Their paths count on
/// from a number.
fn ask(door: SocketAddr, from: usize, count: usize) {
    let begin = Instant::now();
    let mut client = Client::connect(door);
    for number in from..from + count {
        // A connection has so many requests and no more.
        if number % 1000 == 999 {
            client = Client::connect(door);
        }
        assert_eq!(client.get(&format!("/n{number}")).status, 204);
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

fn served(log: &str) -> (Running, SocketAddr) {
    let running = start(&replying("127.0.0.1:0", log));
    let door = running.addresses("web")[0];
    (running, door)
}

/// The numbers of paths in lines, in the order that they came in.
fn numbers(text: &str) -> Vec<usize> {
    let after = text.split("/n").skip(1);
    after.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut message = vec![0; 256 * 1024];
    let count = socket.recv(&mut message).expect("a message");
    message.truncate(count);
    message
}

fn listening(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// The binary with diagnostics that are not on its standard error, and where it listens.
fn elsewhere(log: &str) -> (Program, SocketAddr) {
    let (folder, door) = (tempfile::tempdir().unwrap(), dead());
    let file = folder.path().join("evenkeel.toml");
    fs::write(&file, replying(&door.to_string(), log)).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file);
    let program = Program::spawn(command, folder);
    until("it listens", || TcpStream::connect(door).is_ok());
    (program, door)
}

#[test]
fn both_logs_go_to_a_syslog_with_facility_severity_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let syslog = listening(&path);
    let to = format!("\"syslog:{}\"", path.display());
    let own = "syslog = { facility = \"local3\", name = \"lb-1\" }";
    let (program, door) = elsewhere(&format!("to = {to}\naccess = {to}\n{own}"));
    ask(door, 7, 1);
    let mut seen = Vec::new();
    while !seen.iter().any(|message: &String| message.contains("/n7")) {
        seen.push(String::from_utf8(receive(&syslog)).unwrap());
    }
    // local3 is 19: 19 * 8, and 6 for what is as it should be.
    let form = format!(
        "^<158>1 20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{{3}}Z \\S+ lb-1 {} (access|diagnostics) - ",
        program.pid()
    );
    let form = regex::Regex::new(&form).unwrap();
    let listens = seen.iter().find(|message| message.contains("listening on")).expect("told");
    let (kind, access) = (
        |message: &str| form.captures(message).map(|found| found[1].to_owned()),
        seen.last().unwrap(),
    );
    assert_eq!(kind(listens).as_deref(), Some("diagnostics"), "{listens}");
    assert_eq!(kind(access).as_deref(), Some("access"), "{access}");
    assert!(listens.ends_with(&format!(" - listening on {door} listener=web")), "{listens}");
    assert!(access.contains(" web - - replied us ") && !access.contains('\n'), "{access}");
}

#[test]
fn a_syslog_is_reached_by_udp() {
    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = format!("access = \"syslog:{}\"", syslog.local_addr().unwrap());
    let (_running, door) = served(&to);
    ask(door, 1, 3);
    let mut text = String::new();
    let mut message = [0; 2048];
    while numbers(&text).len() < 3 {
        let count = syslog.recv(&mut message).unwrap();
        assert!(message.starts_with(b"<30>1 "), "daemon is 3, and it went well");
        text += &String::from_utf8_lossy(&message[..count]);
    }
    assert_eq!(numbers(&text), [1, 2, 3]);
}

/// Reads messages with their lengths in front, up to one that has a text.
fn read_until(stream: &mut impl BufRead, text: &str, into: &mut String) {
    while !into.contains(text) {
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).unwrap();
        let length = String::from_utf8(length).unwrap().trim_end().parse().unwrap();
        let mut message = vec![0; length];
        stream.read_exact(&mut message).unwrap();
        into.push_str(&String::from_utf8(message).unwrap());
        into.push('\n');
    }
}

#[test]
fn a_syslog_that_went_away_and_came_back_gets_the_rest_and_what_it_missed_is_told() {
    let syslog = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = syslog.local_addr().unwrap();
    let program = Program::run(&replying("127.0.0.1:0", &format!("access = \"syslog:tcp:{at}\"")));
    let door = program.address("web");
    let mut text = String::new();
    ask(door, 0, 10);
    let mut stream = BufReader::new(syslog.accept().unwrap().0);
    read_until(&mut stream, "/n9 ", &mut text);
    drop((stream, syslog));
    // Nobody is held up meanwhile.
    ask(door, 10, 10);
    program.until_said("lines are being lost");
    let syslog = TcpListener::bind(at).unwrap();
    syslog.set_nonblocking(true).unwrap();
    let (mut asked, mut came) = (20, None);
    until("it is reached again", || {
        ask(door, asked, 1);
        asked += 1;
        came = syslog.accept().ok();
        came.is_some()
    });
    ask(door, asked, 1);
    let stream = came.unwrap().0;
    stream.set_nonblocking(false).unwrap();
    read_until(&mut BufReader::new(stream), &format!("/n{asked} "), &mut text);
    program.until_said("access lines were lost");
    let said = program.diagnostics();
    let told = said.lines().filter(|line| line.contains("access lines were lost"));
    let lost: usize =
        told.filter_map(|line| line.split("lost=").nth(1)?.parse::<usize>().ok()).sum();
    assert_eq!(numbers(&text).len() + lost, asked + 1, "{said}");
    assert!(lost >= 10, "{said}");
    assert_eq!(said.matches("lines are being lost").count(), 1, "{said}");
}

#[test]
fn a_socket_that_nobody_reads_holds_up_nobody_and_every_line_is_there_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let syslog = listening(&path);
    let (running, door) = served(&format!("access = \"syslog:{}\"", path.display()));
    ask(door, 0, 2000);
    until("lines are lost", || running.counts().access_lines_lost > 0);
    // Now somebody reads.
    syslog.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut message = [0; 2048];
    let mut came = 0;
    until("every line is there or counted", || {
        while syslog.recv(&mut message).is_ok() {
            came += 1;
        }
        came + running.counts().access_lines_lost == 2000
    });
    ask(door, 2000, 1);
    until("the next line is there", || syslog.recv(&mut message).is_ok());
}

#[test]
fn a_full_pipe_holds_up_nobody_and_every_line_is_there_or_counted() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (running, door) = served(&format!("access = \"/proc/self/fd/{}\"", writer.as_raw_fd()));
    let total = 12_000;
    ask(door, 0, total);
    until("lines are lost", || running.counts().access_lines_lost > 0);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let mut lines = BufReader::new(reader);
        while lines.read_line(&mut text).unwrap() > 0 {}
        text
    });
    let lost = running.counts().access_lines_lost as usize;
    drop(writer);
    running.stop();
    let text = reading.join().unwrap();
    let numbers = numbers(&text);
    assert_eq!(numbers.len() + lost, total);
    assert_eq!(text.lines().count(), numbers.len(), "no line is torn");
}

#[test]
fn a_full_disk_holds_up_nobody_and_what_it_did_not_take_is_told_once_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: mounting a small disk needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = place.path();
    mount("small", disk, "tmpfs", MountFlags::empty(), Some(c"size=64k")).expect("mount");
    let (log, ballast) = (disk.join("access.log"), disk.join("ballast"));
    fs::write(&ballast, vec![0; 32 * 1024]).unwrap();
    let log_to = format!("access = \"{}\"", log.display());
    let program = Program::run(&replying("127.0.0.1:0", &log_to));
    let door = program.address("web");
    ask(door, 0, 1000);
    program.until_said("No space left on device");
    // The diagnostics are elsewhere, and say so once.
    assert_eq!(program.diagnostics().matches("lines are being lost").count(), 1);
    let mut text = fs::read_to_string(&log).unwrap();
    fs::remove_file(&ballast).unwrap();
    fs::rename(&log, place.path().join("moved")).unwrap();
    let moved = place.path().join("moved");
    fs::write(&moved, "").unwrap();
    program.signal(Signal::USR1);
    ask(door, 1000, 10);
    program.until_said("access lines were lost");
    until("the last line is there", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("/n1009 "))
    });
    text += "\n";
    text += &fs::read_to_string(&log).unwrap();
    let whole = text
        .lines()
        .filter(|line| line.contains(" host=\"app.test\"") && line.contains("HTTP/1.1"));
    let said = program.diagnostics();
    let lost =
        said.split("lost=").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    let came = whole.count() + lost.unwrap();
    drop(program);
    unmount(disk, UnmountFlags::DETACH).unwrap();
    assert_eq!(came, 1010, "{said}");
}

/// Fields of an entry of journald's protocol.
fn entry(mut message: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    while !message.is_empty() {
        let end = message.iter().position(|byte| *byte == b'\n').unwrap();
        let line = &message[..end];
        message = &message[end + 1..];
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            fields.push((text(&line[..equals]), text(&line[equals + 1..])));
            continue;
        }
        let length = u64::from_le_bytes(message[..8].try_into().unwrap()) as usize;
        fields.push((text(line), text(&message[8..8 + length])));
        message = &message[8 + length + 1..];
    }
    fields
}

#[test]
fn journald_gets_fields_by_name_and_whatever_a_client_sends_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let journald = listening(&path);
    let to = format!("\"journald:{}\"", path.display());
    let (_program, door) = elsewhere(&format!("to = {to}\naccess = {to}"));
    let mut client = Client::connect(door);
    client.send("GET /n1 HTTP/1.1\r\nHost: a\r\nUser-Agent: a\u{2028}PRIORITY=0\u{9b}\r\n\r\n");
    assert_eq!(client.answer().status, 204);
    let (mut listens, mut access) = (None, None);
    while listens.is_none() || access.is_none() {
        let fields = entry(&receive(&journald));
        let all = |name: &str| {
            let found = fields.iter().filter(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        if all("MESSAGE")[0].contains("listening on") {
            listens = Some(["LISTENER", "PRIORITY", "SYSLOG_IDENTIFIER"].map(all));
        } else if all("MESSAGE")[0].contains("/n1") {
            assert!(!all("MESSAGE")[0].contains(['\u{2028}', '\u{9b}']), "{fields:?}");
            let names = ["LISTENER", "PRIORITY", "STATUS", "WHY", "TARGET", "EVENKEEL_LOG"];
            access = Some(names.map(all));
        }
    }
    let one = |value: &str| vec![value.to_owned()];
    assert_eq!(listens.unwrap(), ["web", "6", "evenkeel"].map(one));
    assert_eq!(access.unwrap(), ["web", "6", "204", "replied", "/n1", "access"].map(one));
}

#[test]
fn a_journald_that_is_not_there_keeps_nothing_from_starting_and_is_told_of() {
    let log = "to = \"journald:/nowhere/socket\"\naccess = \"syslog:/nowhere/log\"";
    let (program, door) = elsewhere(log);
    ask(door, 0, 3);
    program.until_said("write diagnostics to journald at /nowhere/socket: No such file");
    assert_eq!(program.diagnostics().matches("are being lost").count(), 1);
}
