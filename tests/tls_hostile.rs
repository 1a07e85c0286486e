//! Clients of TLS that mean harm (THREATS 1.4): each is refused in time and by itself, and whoever is being served does
//! not notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::{Running, Why};

use crate::support::http::{Client, Recorder, config, ok, serve};
use crate::support::servers::fed;
use crate::support::tls::{Certificates, Stream, connect};
use crate::support::{client, noise, until_ended};

/// A listener for `a.test` with somebody who is being served.
struct Scene {
    certificates: Certificates,
    _recorder: Recorder,
    running: Running,
    door: SocketAddr,
    served: Client<Stream>,
}

impl Scene {
    fn new(tls: &str) -> Scene {
        let certificates = Certificates::new();
        let recorder = Recorder::answering(|_| ok(b"hello"));
        let lines = format!("tls = {{ {}{tls} }}", certificates.pair());
        let (running, door) = serve(&config(&[recorder.address()], "", &lines));
        let served = certificates.client(door);
        let mut scene = Scene { certificates, _recorder: recorder, running, door, served };
        scene.is_well();
        scene
    }

    /// Whoever was being served still is, and others come in.
    fn is_well(&mut self) {
        assert_eq!(self.served.get("/").text(), "hello");
        assert_eq!(self.certificates.client(self.door).get("/").text(), "hello");
    }

    /// What comes back for these bytes, until the connection ends; it must end.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = client::connect(self.door);
        let _ = socket.write_all(bytes);
        let mut all = Vec::new();
        match socket.read_to_end(&mut all) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => all,
        }
    }

    /// The first message of a client, in one record.
    fn hello(&self) -> Vec<u8> {
        let name = "a.test".to_owned().try_into().unwrap();
        let trusted = self.certificates.trusted(&["http/1.1"]);
        let mut session = rustls::ClientConnection::new(trusted, name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        hello
    }

    fn openssl(&self, arguments: &str, input: &[u8]) -> String {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).args(["-servername", "a.test", "-connect"]);
        fed(command.arg(self.door.to_string()), input)
    }
}

#[test]
fn garbage_in_place_of_a_client_hello_is_refused() {
    let mut scene = Scene::new("");
    let mut garbage: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 300)).collect();
    garbage.iter_mut().for_each(|bytes| bytes[0] |= 0x80);
    garbage.push(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00".to_vec());
    garbage.push([&b"\x16\x03\x01\x40\x00"[..], &noise(1, 16_384)].concat());
    garbage.push(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec());
    for bytes in &garbage {
        let answer = scene.answer(bytes);
        assert!(answer.is_empty() || answer[0] == 21, "not an alert: {answer:?}");
    }
    until_ended(&scene.running, Why::TlsFailed, garbage.len() as u64);
    scene.is_well();
}

#[test]
fn a_changed_client_hello_is_refused_or_leads_to_no_harm() {
    let mut scene = Scene::new("");
    let hello = scene.hello();
    for at in (0..hello.len()).step_by(11) {
        let mut bent = hello.clone();
        bent[at] ^= 0xff;
        let mut socket = client::connect(scene.door);
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = socket.write_all(&bent);
        let _ = socket.read(&mut [0; 4096]);
    }
    scene.is_well();
}

#[test]
fn records_that_are_too_large_or_empty_are_refused() {
    let mut scene = Scene::new("");
    // Longer than a record may be (RFC 8446 5.2), after a handshake that was fine.
    let mut client = connect(scene.door, "a.test", scene.certificates.trusted(&["http/1.1"]));
    let socket = &mut client.stream.get_mut().sock;
    socket.write_all(&[23, 3, 3, 0x41, 0x01]).unwrap();
    let _ = socket.write_all(&noise(1, 0x4101));
    let mut end = Vec::new();
    let _ = socket.read_to_end(&mut end);
    // Records without anything in them, as many as somebody likes to send.
    let hello = scene.hello();
    let empty = [22, 3, 1, 0, 0].repeat(10_000);
    let answer = scene.answer(&[empty, hello].concat());
    assert!(answer.is_empty() || answer[0] == 21);
    scene.is_well();
}

#[test]
fn old_versions_and_weak_ciphers_are_refused() {
    // THREATS 1.4, protocol attacks: POODLE, BEAST, FREAK, Logjam, RC4, SWEET32, ROBOT and LUCKY13 need one of these.
    let mut scene = Scene::new("");
    for weak in [
        "s_client -tls1 -cipher ALL:@SECLEVEL=0",
        "s_client -tls1_1 -cipher ALL:@SECLEVEL=0",
        "s_client -tls1_2 -cipher AES128-SHA:@SECLEVEL=0",
        "s_client -tls1_2 -cipher AES128-GCM-SHA256:@SECLEVEL=0",
        "s_client -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0",
        "s_client -tls1_2 -cipher DHE:@SECLEVEL=0",
        "s_client -tls1_2 -cipher NULL:@SECLEVEL=0",
        "s_client -tls1_2 -cipher aNULL:@SECLEVEL=0",
        "s_client -tls1_2 -cipher 3DES:@SECLEVEL=0",
    ] {
        let said = scene.openssl(weak, b"Q\n");
        assert!(!said.contains("New, TLSv1"), "{weak} is taken: {said}");
    }
    for strong in [
        "s_client -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        "s_client -tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305",
        "s_client -tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384",
    ] {
        let said = scene.openssl(strong, b"Q\n");
        assert!(said.contains("New, TLSv1"), "{strong} is refused: {said}");
    }
    scene.is_well();
}

#[test]
fn a_handshake_cannot_be_begun_anew_on_a_connection() {
    // THREATS 1.4: renegotiation (CVE-2009-3555).
    let mut scene = Scene::new("");
    let said = scene.openssl("s_client -tls1_2", b"R\nGET / HTTP/1.1\r\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation") || said.contains("unexpected eof"), "{said}");
    assert!(said.contains("Secure Renegotiation IS supported"), "{said}");
    scene.is_well();
}

#[test]
fn messages_out_of_their_turn_are_refused() {
    // THREATS 1.4: CCS injection (CVE-2014-0224), Heartbleed (CVE-2014-0160), early data.
    let mut scene = Scene::new("");
    let hello = scene.hello();
    let change_cipher_spec = [20, 3, 3, 0, 1, 1];
    let heartbeat = [24, 3, 2, 0, 3, 1, 0x40, 0];
    let finished = [22, 3, 3, 0, 4, 20, 0, 0, 0];
    let data = [23, 3, 3, 0, 5, 1, 2, 3, 4, 5];
    let messages: [&[u8]; 4] = [&heartbeat, &finished, &data, &[21, 3, 3, 0, 2, 2, 0]];
    for message in messages {
        let before = scene.answer(message);
        assert!(before.is_empty() || before[0] == 21, "{message:?} before: {before:?}");
        let after = scene.answer(&[&hello[..], message].concat());
        // Its last word is an alert, and what was in memory is not among the others.
        assert!(after.len() < 16_384, "{} bytes after {message:?}", after.len());
    }
    assert!(scene.answer(&change_cipher_spec).len() < 100);
    scene.is_well();
}

#[test]
fn clients_that_vanish_in_the_midst_of_a_handshake_leave_nothing_behind() {
    let mut scene = Scene::new(", handshakes-max = 2");
    let hello = scene.hello();
    for number in 0..60 {
        let mut socket = client::connect(scene.door);
        socket.write_all(&hello[..hello.len() - number % 2 * 50]).unwrap();
        if number % 6 == 0 {
            let _ = socket.read(&mut [0; 1]);
        }
        client::reset(socket);
    }
    scene.is_well();
    until_ended(&scene.running, Why::TlsFailed, 60);
}

#[test]
fn handshakes_beyond_their_number_wait_for_their_turn_and_no_longer_than_their_time() {
    let mut scene = Scene::new(", handshakes-max = 1, handshake-timeout = \"2s\"");
    let mut holding = client::connect(scene.door);
    holding.write_all(&scene.hello()).unwrap();
    holding.read_exact(&mut [0; 1]).unwrap();
    // Whoever is served is served on, and the next one comes in when the first has had its time.
    assert_eq!(scene.served.get("/").text(), "hello");
    // The wait counts for the next one's time too, which begins later.
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let trusted = scene.certificates.trusted(&["http/1.1"]);
    let mut next = connect(scene.door, "a.test", Arc::clone(&trusted));
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(next.get("/").text(), "hello");
    until_ended(&scene.running, Why::TlsFailed, 1);
    drop(holding);
    scene.is_well();
}

#[test]
fn a_crowd_of_handshakes_does_not_hold_up_who_is_served() {
    let mut scene = Scene::new("");
    let hello = scene.hello();
    let crowd: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut socket = client::connect(scene.door);
            socket.write_all(&hello).unwrap();
            socket
        })
        .collect();
    // While they are all waiting for their answers, in a build without optimization.
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(scene.served.get("/").text(), "hello");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    for mut socket in crowd {
        assert!(socket.read(&mut [0; 5]).is_ok_and(|count| count > 0), "all get their answer");
    }
    scene.is_well();
}
