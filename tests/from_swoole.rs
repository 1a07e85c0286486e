//! The three programs of docs/from-swoole.md, as they stand there: a TCP proxy, a client that goes through it, and a reverse
//! proxy with files, HTTP/2 and client certificates.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::authority::Authority;
use crate::support::backend::dead;
use crate::support::client::connect;
use crate::support::http::{Recorder, ok};
use crate::support::packets::{answering, frame, next};
use crate::support::program::{BINARY, Program};
use crate::support::servers::{program, run};
use crate::support::tls::Certificates;

/// The block of the page in this language that has these words.
fn block(language: &str, words: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/from-swoole.md");
    let page = fs::read_to_string(page).expect("the page");
    let mut blocks = page.split("```").skip(1).step_by(2);
    let found = blocks.find(|block| block.starts_with(language) && block.contains(words));
    found.expect("a block").split_once('\n').expect("lines").1.to_owned()
}

/// A config with other addresses in it, each of which must be there.
fn with(config: &str, changes: &[(&str, String)]) -> String {
    changes.iter().fold(config.to_owned(), |config, (from, to)| {
        assert!(config.contains(from), "{from} is not in\n{config}");
        config.replace(from, to)
    })
}

fn proxy(servers: [SocketAddr; 2], further: &str) -> Program {
    let config = with(
        &block("toml", "[tcp.public]"),
        &[
            ("0.0.0.0:8080", "127.0.0.1:0".to_owned()),
            ("192.168.1.1:9501", servers[0].to_string()),
            ("192.168.1.2:9501", servers[1].to_string()),
        ],
    );
    Program::run(&format!("{config}{further}"))
}

#[test]
fn the_tcp_proxy_spreads_connections_by_weight_and_with_two_lines_more_packets() {
    let servers = ["1", "2"].map(|name| answering(name, Duration::ZERO));
    let addresses = servers.each_ref().map(|server| server.address);
    let shares = |answers: &str| ["1", "2"].map(|name| answers.matches(name).count());
    let ask = |client: &mut std::net::TcpStream| {
        client.write_all(&frame(b"hello")).unwrap();
        let reply = next(client).unwrap().expect("a reply");
        String::from_utf8(reply).unwrap()
    };
    let running = proxy(addresses, "");
    let door = running.address("public");
    let answers: String = (0..30).map(|_| ask(&mut connect(door))).collect();
    assert_eq!(shares(&answers), [10, 20]);
    let running = proxy(addresses, &block("toml", "balance-per = \"packet\""));
    let mut client = connect(running.address("public"));
    let answers: String = (0..30).map(|_| ask(&mut client)).collect();
    assert_eq!(shares(&answers), [10, 20]);
}

/// Runs the client's file, which cargo builds if it has to.
fn client(door: SocketAddr) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "--quiet", "-p", "evenkeel-client", "--example", "swoole_client", "--"]);
    run(command.arg(door.to_string()), Duration::from_secs(300))
}

#[test]
fn the_client_sends_through_the_proxy_and_tells_each_event() {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/crates/evenkeel-client/examples/swoole_client.rs");
    let file = fs::read_to_string(file).expect("the file");
    // What is said to a linter is not for the page.
    let file = file.replacen("#![allow(clippy::print_stdout)]\n", "", 1);
    assert_eq!(file, block("rust", "impl Handler for"));
    let servers = ["1", "1"].map(|name| answering(name, Duration::ZERO));
    let running = proxy(servers.each_ref().map(|server| server.address), "");
    let said = client(running.address("public"));
    assert_eq!(said, "received: 1hello world\nclosed: this side closed the connection\n");
    let nobody = dead();
    let said = client(nobody);
    assert!(said.starts_with(&format!("failed: connect to {nobody}: refused")), "{said}");
}

/// A folder with what the reverse proxy reads: its certificate, its authority of clients, and a file.
fn folder(certificates: &Certificates, authority: &Authority) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::copy(certificates.path("a.crt"), at("server.crt")).expect("copy");
    fs::copy(certificates.path("a.key"), at("server.key")).expect("copy");
    fs::write(at("clients.crt"), authority.certificate.pem()).expect("write");
    fs::create_dir(at("public")).expect("a folder");
    fs::write(at("public/style.css"), "body {}").expect("write");
    folder
}

fn reverse_proxy(folder: &Path, backend: SocketAddr) -> Program {
    let changes = [
        ("listen = \":9502\"", "listen = \"127.0.0.1:0\"".to_owned()),
        ("127.0.0.1:9501", backend.to_string()),
    ];
    let file = folder.join("evenkeel.toml");
    fs::write(&file, with(&block("toml", "[http.public]"), &changes)).expect("write");
    let mut command = Command::new(BINARY);
    // From another folder: paths are relative to the file.
    command.args(["run", "-c"]).arg(&file).current_dir("/");
    let program = Program::spawn(command, tempfile::tempdir().expect("a folder"));
    program.until_said_times("listening on ", 1);
    program
}

#[test]
fn the_reverse_proxy_has_files_a_backend_http_2_and_client_certificates() {
    let (certificates, authority) = (Certificates::new(), Authority::new("clients"));
    let folder = folder(&certificates, &authority);
    let issued = authority.issue("me");
    fs::write(folder.path().join("me.der"), &issued.chain[0]).expect("write");
    fs::write(folder.path().join("me.key"), issued.key.serialize_pem()).expect("write");
    let recorder = Recorder::answering(|_| ok(b"from the backend"));
    let running = reverse_proxy(folder.path(), recorder.address());
    let door = running.address("public");
    let curl = |door: SocketAddr, path: &str, shows: bool, words: &[&str]| {
        let mut command = Command::new(program("curl"));
        command.args(["-s", "--max-time", "20", "--cacert"]).arg(certificates.path("a.crt"));
        command.args(["--resolve", &format!("a.test:{}:127.0.0.1", door.port())]);
        if shows {
            command.args(["--cert", "me.der", "--cert-type", "DER", "--key", "me.key"]);
        }
        command.args(["-w", "\n%{http_code} %{http_version} %{content_type}"]).args(words);
        command.arg(format!("https://a.test:{}{path}", door.port())).current_dir(folder.path());
        command
    };
    let get = |door, path, words: &[&str]| {
        run(&mut curl(door, path, true, words), Duration::from_secs(30))
    };
    assert_eq!(get(door, "/style.css", &["--http2"]), "body {}\n200 2 text/css");
    assert_eq!(get(door, "/style.css", &["--http1.1"]), "body {}\n200 1.1 text/css");
    assert!(get(door, "/cart", &["--http2"]).starts_with("from the backend\n200 2"));
    assert!(get(door, "/cart", &["--http1.1"]).starts_with("from the backend\n200 1.1"));
    // Who shows no certificate is not let in.
    let status = curl(door, "/style.css", false, &[]).status().expect("curl");
    assert!(!status.success());
    let running = reverse_proxy(folder.path(), dead());
    let door = running.address("public");
    assert!(get(door, "/cart", &["--http2"]).ends_with("\n503 2 text/html; charset=utf-8"));
    assert!(get(door, "/style.css", &["--http2"]).starts_with("body {}\n200"));
}
