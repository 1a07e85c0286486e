//! Files come from under their folder and from nowhere else, as the standard says, and slow ones hold nobody up.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::support::files::{root_of, site};
use crate::support::http::Client;
use crate::support::until;

#[test]
fn a_file_comes_with_its_type_length_and_marks() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    let answer = client.get("/static/a.html");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.field("content-type"), Some("text/html"));
    assert!(answer.field("etag").is_some() && answer.field("last-modified").is_some());
    assert_eq!(
        client.get("/static/unknown.kind").field("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(client.get("/static/in").text(), "hello");
    client.send("HEAD /static/a.html HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_answer(true).unwrap();
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
}

#[test]
fn a_folder_is_its_index_and_is_asked_for_with_a_slash() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/sub/").text(), "index");
    let moved = client.get("/static/sub?x=1");
    assert_eq!((moved.status, moved.field("location")), (301, Some("/static/sub/?x=1")));
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let (_folder, _running, door, _) = site("");
    let mut client = Client::connect(door);
    let first = client.get("/static/a.html");
    let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let mut ask = |line: &str| {
        client
            .send(format!("GET /static/a.html HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .answer()
            .status
    };
    assert_eq!(ask(&format!("If-None-Match: \"x\", W/{etag}")), 304);
    assert_eq!(ask("If-None-Match: *"), 304);
    assert_eq!(ask("If-None-Match: \"x\""), 200);
    assert_eq!(ask(&format!("If-Modified-Since: {modified}")), 304);
    assert_eq!(ask("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 200);
    assert_eq!(ask("If-Match: \"x\""), 412);
    assert_eq!(ask(&format!("If-Match: {etag}")), 200);
    assert_eq!(ask("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 412);
}

#[test]
fn what_is_not_among_the_files_is_asked_of_the_upstream() {
    let (_folder, _running, door, recorder) = site("try = \"upstream:app\"");
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/a.html").text(), "hello");
    assert_eq!(client.get("/static/b").text(), "GET /static/b HTTP/1.1");
    client.send("POST /static/a.html HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.answer().text(), "POST /static/a.html HTTP/1.1");
    assert_eq!(recorder.requests()[1].body, b"hi");
}

#[test]
fn a_big_file_arrives_whole_and_a_pipe_is_no_file() {
    let (folder, _running, door, _) = site("");
    let bytes = crate::support::noise(7, 10_000_000);
    fs::write(folder.path().join("root/big"), &bytes).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("root/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let mut client = Client::connect(door);
    assert!(client.get("/static/big").body == bytes);
    assert_eq!(client.get("/static/pipe").status, 404);
}

#[test]
fn a_small_answer_is_not_held_back_after_a_big_file() {
    // What fills no packet, the kernel keeps for 200 ms if nobody tells it that no more comes (tcp(7), TCP_CORK).
    const KEPT: Duration = Duration::from_millis(150);
    let (folder, _running, door, _) = site("");
    fs::write(folder.path().join("root/big"), vec![7; 2_000_001]).unwrap();
    let mut client = Client::connect(door);
    // A busy machine may be late once, but not every time.
    let soonest = (0..5).map(|_| {
        assert_eq!(client.get("/static/big").body.len(), 2_000_001);
        let began = Instant::now();
        assert_eq!(client.get("/static/a.html").text(), "hello");
        began.elapsed()
    });
    assert!(soonest.min().unwrap() < KEPT);
}

#[test]
fn cache_control_goes_by_the_name_of_the_file_and_the_first_pattern_counts() {
    let more = "cache = { \"*.html\" = \"no-cache\", \"a.*\" = \"max-age=1\", \"*.kind\" = \"max-age=9, immutable\" }";
    let (folder, _running, door, _) = site(more);
    fs::write(root_of(&folder).join("a.css"), "").unwrap();
    let mut client = Client::connect(door);
    let mut said = |path: &str| client.get(path).field("cache-control").map(str::to_owned);
    assert_eq!(said("/static/a.html").as_deref(), Some("no-cache"));
    assert_eq!(said("/static/a.css").as_deref(), Some("max-age=1"));
    assert_eq!(said("/static/unknown.kind").as_deref(), Some("max-age=9, immutable"));
    assert_eq!(said("/static/sub/").as_deref(), Some("no-cache"), "it is index.html");
    assert_eq!(said("/static/nothing.kind"), None, "there is no such file");
    let mut client = Client::connect(door);
    let etag = client.get("/static/a.css").field("etag").unwrap().to_owned();
    client.send(format!("GET /static/a.css HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n"));
    let known = client.answer();
    assert_eq!((known.status, known.field("cache-control")), (304, Some("max-age=1")));
    assert_eq!(known.field("content-length"), None);
}

#[test]
fn a_route_changes_what_is_said_about_its_files_but_not_where_they_end() {
    let (_folder, _running, door, _) = site(
        "cache = { \"*\" = \"no-cache\" }\nprecompressed = \"gzip\"\n\
         response-headers = { set = { cache-control = \"private\", x-a = \"1\", vary = \"Cookie\" }, remove = [\"etag\"] }",
    );
    let answer = Client::connect(door).get("/static/a.html");
    let all = |name: &str| -> Vec<&str> {
        let fields = answer.fields.iter().filter(|(known, _)| known == name);
        fields.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(
        (all("cache-control"), all("x-a"), all("etag")),
        (vec!["private"], vec!["1"], vec![])
    );
    assert_eq!(all("vary"), ["Cookie", "Accept-Encoding"]);
    assert_eq!((all("content-length"), answer.text().as_str()), (vec!["5"], "hello"));
}

#[test]
fn a_changed_file_is_seen_within_the_time_it_may_stay_open_or_at_once() {
    let (folder, _running, door, _) = site("");
    let root = root_of(&folder);
    let replace = |text: &str| {
        fs::write(root.join("new"), text).unwrap();
        fs::rename(root.join("new"), root.join("a.html")).unwrap();
    };
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/a.html").text(), "hello");
    replace("changed");
    until("the change is seen", || client.get("/static/a.html").text() == "changed");

    let (folder, _running, door, _) = site("open-files = \"off\"");
    let root = root_of(&folder);
    let mut client = Client::connect(door);
    for text in ["one", "two", "three"] {
        fs::write(root.join("new"), text).unwrap();
        fs::rename(root.join("new"), root.join("a.html")).unwrap();
        assert_eq!(client.get("/static/a.html").text(), text);
    }
}

#[test]
fn a_folder_that_a_deployment_moves_is_the_new_one() {
    let (folder, _running, door, _) = site("open-files = \"100ms\"");
    let root = root_of(&folder);
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/a.html").text(), "hello");
    fs::rename(&root, folder.path().join("old")).unwrap();
    fs::create_dir(folder.path().join("v2")).unwrap();
    fs::write(folder.path().join("v2/a.html"), "second").unwrap();
    symlink("v2", &root).unwrap();
    until("the new folder is served", || client.get("/static/a.html").text() == "second");
}

#[test]
fn files_of_every_length_arrive_whole_whether_in_memory_or_not() {
    let (folder, _running, door, _) = site("");
    let root = root_of(&folder);
    let mut client = Client::connect(door);
    for length in [0, 1, 4095, 4097, 15_360, 15_361, 65_536, 65_537, 81_921, 300_000, 3_000_001] {
        let bytes = crate::support::noise(length as u64 + 1, length);
        let path = root.join(format!("f{length}"));
        fs::write(&path, &bytes).unwrap();
        // Once from the disk, if there is one: what was written is flushed and forgotten.
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        for turn in 0..3 {
            let answer = client.get(&format!("/static/f{length}"));
            assert!(answer.status == 200 && answer.body == bytes, "{length} in turn {turn}");
        }
    }
}

#[test]
fn head_tells_the_true_length_and_nothing_follows_it() {
    let (folder, _running, door, _) = site("listing = true\nprecompressed = \"gzip\"");
    fs::write(root_of(&folder).join("big"), vec![b'x'; 200_000]).unwrap();
    fs::create_dir(root_of(&folder).join("many")).unwrap();
    let mut client = Client::connect(door);
    for path in ["/static/a.html", "/static/big", "/static/sub/", "/static/many/"] {
        let length = client.get(path).body.len().to_string();
        for range in ["", "Range: bytes=0-1\r\n", "Range: bytes=0-1,100-101\r\n"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n{range}\r\n"));
            let head = client.try_answer(true).unwrap();
            assert_eq!((head.status, head.field("content-length")), (200, Some(length.as_str())));
        }
    }
    assert_eq!(client.get("/static/a.html").text(), "hello");
}

#[test]
fn a_slow_reader_gets_a_big_file_whole_and_one_that_stops_is_let_go() {
    use std::io::Read;
    let (folder, running, door, _) =
        crate::support::files::site_with("", "idle-timeout = \"500ms\"");
    let bytes = crate::support::noise(5, 20_000_000);
    fs::write(root_of(&folder).join("big"), &bytes).unwrap();
    let mut client = Client::connect(door);
    client.send("GET /static/big HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut got = Vec::new();
    let mut piece = vec![0; 1_000_000];
    while got.len() < bytes.len() {
        let count = client.stream.read(&mut piece).unwrap();
        assert!(count > 0, "cut after {}", got.len());
        got.extend_from_slice(&piece[..count]);
        if got.len() % 7 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let head = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        if got.len() - head == bytes.len() {
            assert!(got[head..] == bytes);
            break;
        }
    }
    drop(client);
    let mut idle = Client::connect(door);
    idle.send("GET /static/big HTTP/1.1\r\nHost: a\r\n\r\n");
    crate::support::until_ended(&running, evenkeel::Why::IdleTimeout, 1);
    let mut rest = Vec::new();
    let cut = idle.stream.read_to_end(&mut rest);
    assert!(cut.is_err() || rest.len() < bytes.len());
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_never_looks_whole() {
    use std::io::Read;
    let (folder, _running, door, _) = site("");
    let path = root_of(&folder).join("big");
    fs::write(&path, vec![b'x'; 50_000_000]).unwrap();
    let mut client = Client::connect(door);
    client.send("GET /static/big HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut first = [0; 1000];
    client.stream.read_exact(&mut first).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let mut rest = Vec::new();
    let end = client.stream.read_to_end(&mut rest);
    assert!(end.is_err(), "an end in order after {} bytes", rest.len());
    assert!(rest.len() < 50_000_000);
}

#[test]
fn a_client_of_a_unix_socket_gets_files_as_well() {
    use std::io::{Read, Write};
    let place = tempfile::tempdir().unwrap();
    let bytes = crate::support::noise(9, 3_000_000);
    fs::write(place.path().join("big"), &bytes).unwrap();
    let socket = place.path().join("door.sock");
    let config = format!(
        "[http.web]\nlisten = \"unix:{}\"\n[[http.web.route]]\nfiles = \"{}\"\n",
        socket.display(),
        place.path().display()
    );
    let _running = crate::support::start(&config);
    // The first time by a thread, the second time from memory.
    for _ in 0..2 {
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        client.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(&bytes), "{}", answer.len());
    }
}
