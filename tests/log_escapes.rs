//! Whatever a client sends, one line stays one line, and nothing in it speaks to a terminal: in every format, in files as in a syslog and
//! journald, in diagnostics as in access lines.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::http::{Client, Recorder, config, ok};
use crate::support::program::Program;
use crate::support::tls::Certificates;

/// Bytes that act on whoever reads them as text: line ends, escapes of terminals, of ASCII and beyond, and what is no UTF-8 at all.
const ACTING: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\0",
    b"\x1b[31m",
    b"\x7f",
    b"\xc2\x9b31m",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xae",
    b"\xff\xfe",
    b"\xc0\x8a",
];

/// What may not be in anything that is written, but for the line ends of our own.
fn assert_still(written: &[u8], lines: usize, what: &str) {
    let text = std::str::from_utf8(written).unwrap_or_else(|_| panic!("{what}: no UTF-8"));
    let acts = |c: char| c.is_control() && c != '\n';
    let acting = ['\u{2028}', '\u{2029}', '\u{202e}'];
    assert!(!text.contains(acts) && !text.contains(acting), "{what}: {text:?}");
    assert_eq!(text.lines().count(), lines, "{what}: {text:?}");
}

/// Sends each of the bytes wherever a client has a say, each in a connection of its own.
fn send_all(door: SocketAddr) -> usize {
    let mut sent = 0;
    for acting in ACTING {
        let places: [(&[u8], &[u8]); 5] = [
            (b"GET /a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"GET /a?b=", b"c HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a", b"b\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a", b"b\r\nX-Own: c\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-Own: a", b"b\r\nReferer: http://a/\r\n\r\n"),
        ];
        for (before, after) in places {
            let mut client = Client::connect(door);
            client.send([before, acting, after].concat());
            let _ = client.stream.get_mut().shutdown(std::net::Shutdown::Write);
            let _ = client.try_answer(false);
            sent += 1;
        }
    }
    sent
}

#[test]
fn a_request_is_one_line_in_every_format_whatever_is_in_it() {
    let backend = Recorder::answering(|_| ok(b""));
    for format in [
        "\"text\"",
        "\"json\"",
        "\"common\"",
        "\"combined\"",
        "'{request} {host} {header.x-own} {header.user-agent} {detail}'",
    ] {
        let own = config(&[backend.address()], "", "");
        let program =
            Program::run(&format!("{own}\n[log]\naccess-format = {format}\nlevel = \"trace\"\n"));
        let sent = send_all(program.address("web"));
        program.until_lines(sent);
        assert_still(program.output().as_bytes(), sent, format);
        let said = program.diagnostics();
        assert_still(said.as_bytes(), said.lines().count(), "diagnostics");
    }
}

#[test]
fn a_message_to_a_syslog_or_journald_is_one_line_too() {
    let backend = Recorder::answering(|_| ok(b""));
    for target in ["syslog", "journald"] {
        for format in ["text", "json"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let own = config(&[backend.address()], "", "");
            let to = format!("access = \"{target}:{}\"\nformat = \"{format}\"", path.display());
            let (running, door) = crate::support::http::serve(&format!("{own}\n[log]\n{to}\n"));
            let reading = std::thread::spawn(move || {
                let mut message = vec![0; 65_536];
                let mut count = 0;
                while let Ok(length) = socket.recv(&mut message) {
                    if &message[..length] == b"end" {
                        break;
                    }
                    count += 1;
                    match target {
                        "syslog" => assert_still(&message[..length], 1, target),
                        // Each field is one; none has a length in front.
                        _ => {
                            let text = String::from_utf8(message[..length].to_vec()).unwrap();
                            assert!(text.lines().all(|line| line.contains('=')), "{text:?}");
                            assert_still(text.as_bytes(), text.lines().count(), target);
                        }
                    }
                }
                count
            });
            let sent = send_all(door);
            running.stop();
            UnixDatagram::unbound().unwrap().send_to(b"end", &path).unwrap();
            assert!(reading.join().unwrap() >= sent, "{target} {format}");
        }
    }
}

#[test]
fn a_name_that_a_tls_client_asks_for_is_in_one_line() {
    let certificates = Certificates::new();
    let backend = Recorder::answering(|_| ok(b""));
    let own = config(&[backend.address()], "", &format!("tls = {{ {} }}", certificates.pair()));
    let program = Program::run(&own);
    // A client of our own library sends no name that is none; by hand it does.
    let door = program.address("web");
    for acting in ACTING {
        let hello = hello_with(&[b"a", *acting, b"b"].concat());
        let mut client = Client::connect(door);
        client.send(hello);
        let _ = client.is_closed();
    }
    certificates.client(door);
    program.until_lines(ACTING.len());
    let written = program.output();
    assert_still(written.as_bytes(), written.lines().count(), "access log");
    assert!(written.lines().all(|line| line.starts_with("20")), "{written}");
    let said = program.diagnostics();
    assert_still(said.as_bytes(), said.lines().count(), "diagnostics");
}

/// A ClientHello (RFC 8446 4.1.2) that asks for a name.
fn hello_with(name: &[u8]) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &with_length(name)].concat();
    let names = with_length(&with_length(&entry));
    let mut extensions = [&[0, 0][..], &names].concat();
    // Versions, groups, signatures.
    extensions.extend([0, 43, 0, 3, 2, 3, 4, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(with_length(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &with_length(&handshake)].concat()
}
