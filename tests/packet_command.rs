//! `evenkeel packet`: its two halves against each other, and `send` against peers that fail it. The real binary runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::program::{BINARY, Program, once};
use crate::support::servers::free_address;
use crate::support::{packets, tls};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `evenkeel packet listen`.
struct Listener {
    program: Program,
    address: String,
}

fn listening(arguments: &[&str]) -> Listener {
    let mut command = Command::new(BINARY);
    command.args(["packet", "listen", "--listen", "127.0.0.1:0"]).args(arguments);
    let program = Program::spawn(command, tempfile::tempdir().unwrap());
    program.until_said("listening on ");
    let said = program.diagnostics();
    let address = said.trim().rsplit(' ').next().unwrap().to_owned();
    Listener { program, address }
}

fn send(arguments: &[&str]) -> Output {
    once(&[&["packet", "send"], arguments].concat(), tempfile::tempdir().unwrap().path())
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn is_fine(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_is_sent_is_printed_and_comes_back() {
    let mut listener = listening(&["--length", "u32be"]);
    let sent = send(&["--length", "u32be", &listener.address, "hello", "you"]);
    is_fine(&sent);
    assert_eq!(out(&sent), "hello\nyou\n");
    let lines = listener.program.until_lines(2);
    assert!(lines[0].starts_with("127.0.0.1:") && lines[0].ends_with(" hello"), "{lines:?}");
    assert!(lines[1].ends_with(" you"), "{lines:?}");
    listener.program.signal(Signal::TERM);
    assert!(listener.program.until_exit(PATIENCE).success());
}

#[test]
fn every_way_to_cut_packets_is_spoken_by_both() {
    for framing in [
        &["--length", "N", "--offset", "4", "--body-offset", "8"][..],
        &["--length", "varint"],
        &["--length", "decimal4"],
        &["--end", "hex:0d0a"],
        &["--protocol", "lines"],
    ] {
        let listener = listening(framing);
        let sent = send(&[framing, &[&listener.address, "hello"]].concat());
        is_fine(&sent);
        assert_eq!(out(&sent), "hello\n", "{framing:?}");
    }
    let listener = listening(&["--protocol", "redis", "--reply", "+PONG\r\n"]);
    let sent = send(&["--protocol", "redis", &listener.address, "*1\r\n$4\r\nPING\r\n"]);
    is_fine(&sent);
    assert_eq!(out(&sent), "+PONG\n");
    let listener = listening(&["--protocol", "mqtt", "--reply", "hex:d000"]);
    let sent = send(&["--protocol", "mqtt", "--hex", &listener.address, "c0 00"]);
    is_fine(&sent);
    assert_eq!(out(&sent), "hex:d000\n");
}

#[test]
fn packets_come_as_hex_from_files_and_from_lines() {
    let listener = listening(&["--length", "u16be"]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("raw"), b"\0\x01").unwrap();
    fs::write(folder.path().join("lines"), "one\r\ntwo\n").unwrap();
    let at = ["packet", "send", "--length", "u16be", &listener.address];
    let arguments = ["--hex", "00 FF", "6869", "--file", "raw", "--lines-of", "lines"];
    let sent = once(&[&at[..], &arguments].concat(), folder.path());
    is_fine(&sent);
    assert_eq!(out(&sent), "hex:00ff\nhi\nhex:0001\none\ntwo\n");

    let mut piped = Command::new(BINARY)
        .args(at)
        .args(["--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    let sent = piped.wait_with_output().unwrap();
    is_fine(&sent);
    assert_eq!(out(&sent), "from a pipe\n");
}

#[test]
fn whole_packets_are_sent_as_they_are() {
    let listener = listening(&["--length", "u8"]);
    let sent = send(&["--length", "u8", "--whole", "--hex", &listener.address, "02 68 69"]);
    is_fine(&sent);
    assert_eq!(out(&sent), "hex:026869\n");
    assert!(listener.program.until_lines(1)[0].ends_with(" hi"));
    let wrong = send(&["--length", "u8", "--whole", "--hex", &listener.address, "03 68 69"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(err(&wrong).contains("packet 1 cannot be sent"), "{wrong:?}");
}

#[test]
fn a_count_ends_in_a_summary_with_latencies() {
    let listener = listening(&["--length", "u32be"]);
    let at = ["--length", "u32be", &listener.address, "a", "b", "--count", "500"];
    let sent = send(&[&at[..], &["--pipeline", "16"]].concat());
    is_fine(&sent);
    let lines: Vec<_> = out(&sent).lines().collect();
    assert!(lines[0].starts_with("1000 packets in "), "{lines:?}");
    assert!(lines[0].ends_with(" per second, 1000 answered"), "{lines:?}");
    let (names, line) = (["min ", "median ", "p90 ", "p99 ", "max "], lines[1]);
    assert!(
        line.starts_with("latency: ") && names.iter().all(|name| line.contains(name)),
        "{line}"
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(listener.program.until_lines(1000).len(), 1000);
}

#[test]
fn a_rate_spreads_packets_over_time() {
    let listener = listening(&["--protocol", "lines"]);
    let sent = send(&[
        "--protocol",
        "lines",
        &listener.address,
        "x",
        "--count",
        "11",
        "--rate",
        "50",
        "--print",
    ]);
    is_fine(&sent);
    assert_eq!(out(&sent).matches("x\n").count(), 11);
    let summary = out(&sent).lines().find(|line| line.contains(" packets in ")).unwrap();
    let seconds: f64 = summary.split(' ').nth(3).unwrap().parse().unwrap();
    // The last is due after ten intervals; a busy machine may take longer, but never less.
    assert!(seconds >= 0.2, "{summary}");
}

#[test]
fn without_replies_everything_is_delivered_before_the_end() {
    let mut listener = listening(&["--length", "u32be", "--quiet", "--count", "2000"]);
    let body = "x".repeat(500);
    let at = ["--length", "u32be", "--no-reply", "--count", "2000", &listener.address, &body];
    let sent = send(&at);
    is_fine(&sent);
    assert!(out(&sent).starts_with("2000 packets in "), "{sent:?}");
    assert!(!out(&sent).contains("answered"), "{sent:?}");
    assert!(listener.program.until_exit(PATIENCE).success(), "it ends after so many");
    assert_eq!(listener.program.until_lines(2000).len(), 2000);
}

#[test]
fn a_listener_ends_after_its_count_and_what_it_answered_arrives() {
    let mut listener = listening(&["--protocol", "lines", "--count", "3", "--reply", "done"]);
    let sent = send(&["--protocol", "lines", &listener.address, "1", "2", "3"]);
    is_fine(&sent);
    assert_eq!(out(&sent), "done\ndone\ndone\n");
    assert!(listener.program.until_exit(PATIENCE).success());
    assert_eq!(listener.program.until_lines(3).len(), 3);
}

#[test]
fn nobody_there_is_exit_code_four() {
    let address = free_address().to_string();
    let sent = send(&["--length", "u32be", &address, "hello"]);
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    assert!(err(&sent).contains(&format!("connect to {address}: refused after")), "{sent:?}");
    let sent = send(&["--length", "u32be", "--count", "7", &address, "hello"]);
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    assert!(out(&sent).contains("failed: 7 not connected"), "{sent:?}");
}

/// A peer that does something with each connection.
fn peer(each: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(each));
    address
}

#[test]
fn failures_are_counted_by_kind_and_told_once() {
    // Answers the first packet of each connection, and ends at the second.
    let address = peer(|mut stream| {
        let body = packets::next(&mut stream).unwrap().unwrap();
        stream.write_all(&packets::frame(&body)).unwrap();
        let _ = packets::next(&mut stream);
    })
    .to_string();
    let sent = send(&["--length", "u32be", "--count", "10", &address, "hello"]);
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    assert!(out(&sent).contains("10 packets in ") && out(&sent).contains("5 answered"), "{sent:?}");
    assert!(out(&sent).contains("failed: 5 ended"), "{sent:?}");
    assert_eq!(err(&sent).lines().count(), 1, "{sent:?}");

    let silent = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new()))).to_string();
    let at = ["--length", "u32be", "--timeout", "50ms", "--count", "3", &silent, "hello"];
    let sent = send(&at);
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    assert!(out(&sent).contains("failed: 3 timeout"), "{sent:?}");
    assert!(err(&sent).contains("await a reply: not done within 50 ms"), "{sent:?}");

    let strange = peer(|mut stream| {
        stream.write_all(b"\xff\xff\xff\xff").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let sent = send(&["--length", "u32be", &strange.to_string(), "hello"]);
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    assert!(err(&sent).contains("a packet that is too long"), "{sent:?}");
}

#[test]
fn a_command_line_that_cannot_be_is_exit_code_two_and_named() {
    for (arguments, named) in [
        (&["127.0.0.1:1", "x"][..], "--length"),
        (&["--length", "u24", "127.0.0.1:1", "x"], "u24"),
        (&["--length", "u32eb", "127.0.0.1:1", "x"], "did you mean \"u32be\""),
        (&["--length", "u32be", "--end", "x", "127.0.0.1:1", "x"], "--end"),
        (&["--end", "", "127.0.0.1:1", "x"], "--end takes 1 to 32 bytes"),
        (&["--protocol", "smtp", "127.0.0.1:1", "x"], "smtp"),
        (&["--protocol", "lines", "--offset", "3", "127.0.0.1:1", "x"], "--offset"),
        (&["--length", "u32be", "127.0.0.1:1"], "DATA"),
        (&["--length", "u32be", "--hex", "127.0.0.1:1", "0x"], "not hexadecimal"),
        (&["--length", "u32be", "--max", "6", "127.0.0.1:1", "too long"], "too long"),
        (&["--protocol", "lines", "127.0.0.1:1", "a\nb"], "packet 1 cannot be sent"),
        (&["--length", "u32be", "--file", "none", "127.0.0.1:1"], "none: "),
        (&["--length", "u32be", "--count", "0", "127.0.0.1:1", "x"], "--count"),
        (&["--length", "u32be", "--rate", "0", "127.0.0.1:1", "x"], "--rate"),
        (&["--length", "u32be", "--timeout", "3", "127.0.0.1:1", "x"], "no unit"),
    ] {
        let refused = send(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(err(&refused).contains(named), "{arguments:?}: {refused:?}");
    }
}

#[test]
fn an_address_in_use_is_exit_code_three() {
    let listener = listening(&["--length", "u32be"]);
    let line = ["packet", "listen", "--length", "u32be", "--listen", &listener.address];
    let refused = once(&line, tempfile::tempdir().unwrap().path());
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(err(&refused).contains(&listener.address), "{refused:?}");
}

#[test]
fn packets_are_sent_through_tls() {
    let certificates = tls::Certificates::new();
    let backend = listening(&["--length", "u32be"]);
    let program = Program::run(&format!(
        "[upstream.app]\nbackends = [\"{}\"]\n[tcp.public]\nlisten = \"127.0.0.1:0\"\n\
         upstream = \"app\"\ntls = {{ {} }}\n",
        backend.address,
        certificates.pair()
    ));
    let address = program.address("public").to_string();
    let authority = certificates.path("a.crt").display().to_string();
    let at = ["--length", "u32be", "--ca", &authority, &address, "secret"];
    let sent = send(&[&at[..], &["--server-name", "a.test"]].concat());
    is_fine(&sent);
    assert_eq!(out(&sent), "secret\n");
    let refused = send(&at);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(err(&refused).contains("TLS handshake with"), "{refused:?}");
}

#[test]
fn help_teaches_by_examples() {
    for command in ["send", "listen"] {
        let help = once(&["packet", command, "--help"], tempfile::tempdir().unwrap().path());
        is_fine(&help);
        let example = format!("evenkeel packet {command} --length u32be");
        assert!(out(&help).contains(&example), "{}", out(&help));
    }
}
