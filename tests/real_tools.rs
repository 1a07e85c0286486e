//! curl, nghttp, h2load and wrk before Evenkeel, nginx and Python's `http.server` behind it: what they all agree on must hold.
//! Nothing is timed here; what counts is that not one request fails.

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::http::{Recorder, ok, read_body, read_head, serve};
use crate::support::servers::{self, Server, program, run};
use crate::support::tls::Certificates;
use crate::support::{config, noise};

/// How long one tool may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The versions of HTTP that curl is told to speak, and how it names what was spoken.
const VERSIONS: [(&str, &str, bool); 6] = [
    ("--http1.0", "1.1", false),
    ("--http1.1", "1.1", false),
    // It asks for an upgrade, which is not taken.
    ("--http2", "1.1", false),
    ("--http2-prior-knowledge", "2", false),
    ("--http1.1", "1.1", true),
    ("--http2", "2", true),
];

/// A proxy with a listener in clear, `web`, and one through TLS, `secure`, and where they are.
struct Doors {
    _running: evenkeel::Running,
    certificates: Certificates,
    clear: SocketAddr,
    secure: SocketAddr,
}

impl Doors {
    /// `backends` as they stand in the file, `upstream` is more of theirs, `lines` more of both listeners.
    fn open(backends: &str, upstream: &str, lines: &str) -> Doors {
        let certificates = Certificates::new();
        let tls = certificates.pair();
        let listener = |name: &str, more: &str| {
            let lines = lines.replace("[[http.web.", &format!("[[http.{name}."));
            format!(
                "[http.{name}]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n{more}\n{lines}\n"
            )
        };
        let config = format!(
            "[upstream.app]\nbackends = [{backends}]\n{upstream}\n{}{}",
            listener("web", ""),
            listener("secure", &format!("tls = {{ {tls} }}")),
        );
        let (running, clear) = serve(&config);
        let secure = running.addresses("secure")[0];
        Doors { _running: running, certificates, clear, secure }
    }

    /// curl with one of the versions; the path follows.
    fn curl(&self, version: &str, through_tls: bool, path: &str) -> Command {
        let mut command = Command::new(program("curl"));
        command.args(["-q", "-sS", "--fail", "--max-time", "50", "--noproxy", "*", version]);
        let door = if through_tls { self.secure } else { self.clear };
        command.arg("--cacert").arg(self.certificates.path("a.crt"));
        command.args(["--resolve", &format!("a.test:{}:{}", door.port(), door.ip())]);
        command.arg(format!("{}{path}", self.url(through_tls)));
        command
    }

    /// Asks so often for `/name`; the answers and the version of each, line by line.
    fn names(&self, version: &str, through_tls: bool, count: usize) -> String {
        // curl 7.88 asks only once over a connection of prior knowledge, whoever is at its other end.
        let (runs, path) = match version {
            "--http2-prior-knowledge" => (count, "/name".to_owned()),
            _ => (1, format!("/name?[1-{count}]")),
        };
        let once = |_| {
            let mut curl = self.curl(version, through_tls, &path);
            run(curl.args(["-w", "%{http_version}\n"]), PATIENCE)
        };
        (0..runs).map(once).collect()
    }

    fn url(&self, through_tls: bool) -> String {
        match through_tls {
            true => format!("https://a.test:{}", self.secure.port()),
            false => format!("http://a.test:{}", self.clear.port()),
        }
    }

    /// The same for tools that resolve no names of ours.
    fn plain_url(&self, through_tls: bool) -> String {
        match through_tls {
            true => format!("https://{}", self.secure),
            false => format!("http://{}", self.clear),
        }
    }
}

/// nginx and Python with the same files, side by side.
fn two_servers(big: &[u8], upstream: &str) -> (Server, Server, Doors) {
    let (nginx, python) = (servers::nginx("nginx", big), servers::python("python", big));
    // Python's queue of connections has five places.
    let backends = format!(
        "\"{}\", {{ address = \"{}\", connections-max = 4 }}",
        nginx.address, python.address
    );
    let patient = "queue-timeout = \"30s\"\nconnect-timeout = \"10s\"";
    let doors = Doors::open(&backends, &format!("{patient}\n{upstream}"), "");
    (nginx, python, doors)
}

#[test]
fn curl_is_served_by_nginx_and_python_in_turn_whatever_it_speaks() {
    let (_nginx, _python, doors) = two_servers(b"", "");
    for (version, spoken, through_tls) in VERSIONS {
        let said = doors.names(version, through_tls, 10);
        let count = |line: &str| said.lines().filter(|said| *said == line).count();
        let counts = (count("nginx"), count("python"), count(spoken));
        assert_eq!(counts, (5, 5, 10), "{version} {through_tls}: {said}");
    }
}

#[test]
fn a_big_file_of_nginx_and_of_python_arrives_byte_for_byte() {
    let file = noise(11, 8 << 20);
    let (nginx, _python, doors) = two_servers(&file, "");
    for (version, _, through_tls) in VERSIONS {
        // One from each of the two.
        for at in 0..2 {
            let fetched = nginx.folder().join("fetched");
            run(doors.curl(version, through_tls, "/big").arg("-o").arg(&fetched), PATIENCE);
            let fetched = std::fs::read(&fetched).expect("what curl has written");
            assert!(fetched == file, "{version} {through_tls} {at}: the file was changed");
        }
    }
}

#[test]
fn nginx_that_speaks_http2_is_spoken_to_in_it() {
    let file = noise(12, 8 << 20);
    let nginx = servers::nginx("nginx", &file);
    let socket = nginx.folder().join("h2");
    let doors = Doors::open(&format!("\"unix:{}\"", socket.display()), "h2 = true", "");
    for (version, _, through_tls) in VERSIONS {
        let names = doors.names(version, through_tls, 20);
        assert_eq!(names.matches("nginx\n").count(), 20, "{version} {through_tls}: {names}");
        let fetched = nginx.folder().join("fetched");
        run(doors.curl(version, through_tls, "/big").arg("-o").arg(&fetched), PATIENCE);
        let fetched = std::fs::read(&fetched).expect("what curl has written");
        assert!(fetched == file, "{version} {through_tls}: the file was changed");
    }
}

/// Gives back what is uploaded, and says "go on" first to whoever waits for it; counts those.
fn echoing(waited: &Arc<AtomicUsize>) -> Backend {
    let waited = Arc::clone(waited);
    Backend::serving(move |stream| {
        let mut stream = BufReader::new(stream);
        while let Ok(mut request) = read_head(&mut stream) {
            if request.field("expect") == Some("100-continue") {
                waited.fetch_add(1, SeqCst);
                stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            read_body(&mut stream, &mut request)?;
            stream.get_mut().write_all(&ok(&request.body))?;
        }
        Ok(())
    })
}

#[test]
fn an_upload_of_curl_arrives_byte_for_byte_whether_it_waits_for_a_go_ahead_or_not() {
    let waited = Arc::new(AtomicUsize::new(0));
    let backend = echoing(&waited);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sent, back) = (folder.path().join("sent"), folder.path().join("back"));
    let body = noise(13, 3_000_000);
    std::fs::write(&sent, &body).expect("write");
    let doors = Doors::open(&format!("\"{}\"", backend.address), "", "");
    // It would wait for longer than the test may take if nobody said "go on".
    for asking in ["Expect:", "Expect: 100-continue"] {
        for (version, _, through_tls) in VERSIONS {
            let mut curl = doors.curl(version, through_tls, "/upload");
            curl.args(["-H", asking, "--expect100-timeout", "55"]);
            run(curl.arg("-T").arg(&sent).arg("-o").arg(&back), PATIENCE);
            let back = std::fs::read(&back).expect("the echo");
            assert!(back == body, "{asking} {version} {through_tls}");
        }
    }
    // HTTP/1.0 knows no waiting (RFC 9110 10.1.1).
    assert!((1..=VERSIONS.len()).contains(&waited.load(SeqCst)), "{waited:?}");
}

#[test]
fn curl_gets_ranges_of_files_and_of_what_nginx_has() {
    let file = noise(14, 100_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("big"), &file).expect("write");
    let nginx = servers::nginx("nginx", &file);
    let route =
        format!("[[http.web.route]]\npath = \"/files/*\"\nfiles = \"{}\"", folder.path().display());
    let doors = Doors::open(&format!("\"{}\"", nginx.address), "", &route);
    let fetched = folder.path().join("fetched");
    for (version, _, through_tls) in VERSIONS {
        for path in ["/files/big", "/big"] {
            for (asked, range) in
                [("100-199", 100..200), ("-50", 99_950..100_000), ("99990-", 99_990..100_000)]
            {
                let mut curl = doors.curl(version, through_tls, path);
                curl.args(["-r", asked, "-w", "%{http_code}", "-o"]).arg(&fetched);
                assert_eq!(run(&mut curl, PATIENCE), "206", "{version} {path} {asked}");
                let part = std::fs::read(&fetched).expect("what curl has written");
                assert!(part == file[range], "{version} {path} {asked}");
            }
        }
    }
}

/// Runs nghttp, which must have seen no error at all; what it says.
fn nghttp(arguments: &[&str], data: Option<&Path>, url: &str) -> String {
    let mut command = Command::new(program("nghttp"));
    command.arg("-v").args(arguments);
    if let Some(data) = data {
        command.arg("-d").arg(data);
    }
    let said = run(command.arg(url), PATIENCE);
    for wrong in ["[ERROR]", "[INVALID", "RST_STREAM", "error_code=PROTOCOL", "not processed"] {
        let line = said.lines().find(|line| line.contains(wrong));
        assert!(line.is_none(), "{line:?}: {said}");
    }
    assert!(said.contains(":status: 200"), "{said}");
    said
}

#[test]
fn nghttp_sees_no_error_with_priorities_trailers_and_many_requests() {
    let recorder = Recorder::answering(|asked| ok(&asked.body));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    std::fs::write(&data, noise(15, 200_000)).expect("write");
    let doors = Doors::open(&format!("\"{}\"", recorder.address()), "", "");
    for through_tls in [false, true] {
        let url = format!("{}/x", doors.plain_url(through_tls));
        let secure: &[&str] = if through_tls { &["-y"] } else { &[] };
        nghttp(&[secure, &["-p", "200", "-m", "20"]].concat(), None, &url);
        nghttp(&[secure, &["--no-dep", "-w", "10", "-W", "12"]].concat(), Some(&data), &url);
        nghttp(&[secure, &["-b", "100", "--continuation"]].concat(), None, &url);
        let before = recorder.requests().len();
        let trailing = ["-n", "--no-content-length", "--trailer", "x-sum: 5"];
        nghttp(&[secure, &trailing].concat(), Some(&data), &url);
        let asked = &recorder.requests()[before];
        assert_eq!(asked.body.len(), 200_000);
        assert_eq!(asked.trailers, [("x-sum".to_owned(), "5".to_owned())]);
    }
}

#[test]
fn every_request_of_h2load_succeeds_over_nginx_and_python() {
    let (_nginx, _python, doors) = two_servers(b"", "");
    for (through_tls, version) in
        [(false, "--npn-list=h2"), (true, "--npn-list=h2"), (false, "--h1")]
    {
        let mut command = Command::new(program("h2load"));
        command.args(["-n", "2000", "-c", "10", "-m", "50", version]);
        command.arg(format!("{}/name", doors.plain_url(through_tls)));
        let said = run(&mut command, PATIENCE);
        let all =
            "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(said.contains(all), "{said}");
        assert!(said.contains("2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    }
}

#[test]
fn wrk_sees_neither_socket_errors_nor_failures_over_nginx_and_python() {
    let (_nginx, _python, doors) = two_servers(b"", "");
    for through_tls in [false, true] {
        let mut command = Command::new(program("wrk"));
        command.args(["-t", "2", "-c", "16", "-d", "2s", "--timeout", "20s"]);
        command.arg(format!("{}/name", doors.plain_url(through_tls)));
        let said = run(&mut command, PATIENCE);
        for wrong in ["Socket errors", "Non-2xx"] {
            assert!(!said.contains(wrong), "{said}");
        }
        let requests = said.lines().find_map(|line| line.trim().split_once(" requests in"));
        let requests = requests.and_then(|(count, _)| count.parse::<u64>().ok());
        assert!(requests.is_some_and(|count| count > 100), "{said}");
    }
}

#[test]
fn a_client_in_python_is_answered_by_services_in_python_packet_by_packet() {
    const CLIENT: &str = r#"
import socket, struct, sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    stream = server.makefile("rwb")
    for number in range(300):
        body = f"packet {number}".encode()
        stream.write(struct.pack(">I", len(body)) + body)
        if number % 10 == 9:
            stream.flush()
            for answered in range(number - 9, number + 1):
                reply = stream.read(struct.unpack(">I", stream.read(4))[0])
                assert reply[1:] == f"PACKET {answered}".encode(), reply
                print(reply[:1].decode(), end="")
"#;
    let (one, two) = (servers::python_packets("A"), servers::python_packets("B"));
    let rules = "packet = { length = \"u32be\", max = \"2MB\" }\nbalance-per = \"packet\"";
    let rules = config(&[one.address, two.address], "", rules);
    let (_running, door) = crate::support::serve(&rules);
    let mut client = Command::new(program("python3"));
    client.args(["-c", CLIENT, &door.port().to_string()]);
    assert_eq!(run(&mut client, Duration::from_secs(20)), "AB".repeat(150));
}
