//! Ways in which file servers have been made to give away what lies elsewhere, one test for each.
//! Beside the folder that is served lie `secret` and `root-evil/secret`; nobody may ever see what is in them.

use std::fs;
use std::net::SocketAddr;

use crate::support::files::{root_of, site};
use crate::support::http::{Answer, Client};

/// What these targets are answered with; none may be a secret, and none may be a success.
fn refused(door: SocketAddr, targets: &[&str]) {
    for target in targets {
        let answer = ask(door, target);
        assert!(matches!(answer.status, 400 | 403 | 404), "{target}: {}", answer.status);
        harmless(target, &answer);
    }
}

fn harmless(target: &str, answer: &Answer) {
    let text = answer.text();
    assert!(text != "secret" && !text.contains("root:"), "{target}: {text}");
}

fn ask(door: SocketAddr, target: &str) -> Answer {
    let mut client = Client::connect(door);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")).answer()
}

/// A target that is another path once it has been made normal: it goes to the upstream, which sees no `..`.
fn leads_elsewhere(door: SocketAddr, targets: &[(&str, &str)]) {
    for (target, path) in targets {
        let answer = ask(door, target);
        assert_eq!(answer.text(), format!("GET {path} HTTP/1.1"), "{target}");
    }
}

#[test]
fn traversal_by_dots_leads_nowhere() {
    let (_folder, _running, door, _recorder) = site("");
    leads_elsewhere(
        door,
        &[
            ("/static/../secret", "/secret"),
            ("/static/sub/../../secret", "/secret"),
            ("/static/./../secret", "/secret"),
        ],
    );
    refused(
        door,
        &[
            "/../secret",
            "/static/../../secret",
            "/static/../../../../../../etc/passwd",
            "/static/.../secret",
            "/static/sub/..;/..;/secret",
        ],
    );
    assert_eq!(ask(door, "/static/sub/../a.html").text(), "hello");
}

#[test]
fn encoded_dots_and_slashes_are_no_way_around() {
    let (_folder, _running, door, _recorder) = site("");
    // CVE-2021-41773 and its second half, CVE-2021-42013.
    leads_elsewhere(
        door,
        &[("/static/%2e%2e/secret", "/secret"), ("/static/.%2e/secret", "/secret")],
    );
    refused(
        door,
        &[
            "/static/..%2fsecret",
            "/static/%2e%2e%2fsecret",
            "/static/%2E%2E%2Fsecret",
            "/static/.%2e/.%2e/secret",
            "/static/%%32%65%%32%65/secret",
            "/static/%252e%252e/secret",
            "/static/%252e%252e%252fsecret",
            "/static/%2fetc/passwd",
            "/static/%2",
            "/static/%zz",
        ],
    );
}

#[test]
fn a_backslash_is_no_separator() {
    let (_folder, _running, door, _recorder) = site("");
    refused(
        door,
        &[
            "/static/..\\secret",
            "/static/..%5csecret",
            "/static/..%5C..%5Csecret",
            "/static/sub\\..\\..\\secret",
            "\\static\\a.html",
        ],
    );
}

#[test]
fn a_nul_ends_no_name() {
    let (_folder, _running, door, _recorder) = site("");
    refused(
        door,
        &["/static/a.html%00", "/static/a.html%00.css", "/static/%00", "/static/a\0.html"],
    );
}

#[test]
fn overlong_utf8_is_no_dot_and_no_slash() {
    let (_folder, _running, door, _recorder) = site("");
    refused(
        door,
        &[
            "/static/%c0%ae%c0%ae/secret",
            "/static/%c0%ae%c0%ae%c0%afsecret",
            "/static/..%c0%afsecret",
            "/static/%e0%80%ae%e0%80%ae/secret",
            "/static/%uff0e%uff0e/secret",
            "/static/\u{ff0e}\u{ff0e}/secret",
        ],
    );
}

#[test]
fn an_absolute_target_or_path_stays_within_the_folder() {
    let (folder, _running, door, _recorder) = site("");
    refused(
        door,
        &[
            "/static//etc/passwd",
            "/static///etc/passwd",
            "http://app.test/static//etc/passwd",
            "http://app.test/static/..%2fsecret",
            "file:///etc/passwd",
            "/static/file:///etc/passwd",
            "/static/C:/secret",
            "*",
        ],
    );
    assert_eq!(ask(door, "http://app.test/static/a.html").text(), "hello");
    // The path of the root itself is a path beneath the root like any other.
    refused(door, &[&format!("/static{}", folder.path().join("secret").display())]);
}

#[test]
fn a_folder_whose_name_begins_alike_is_another_folder() {
    let (_folder, _running, door, _recorder) = site("");
    leads_elsewhere(
        door,
        &[
            ("/static-evil/secret", "/static-evil/secret"),
            ("/staticsecret", "/staticsecret"),
            ("/static/../root-evil/secret", "/root-evil/secret"),
        ],
    );
    refused(door, &["/static/..%2froot-evil/secret", "/static/-evil/secret"]);
}

#[test]
fn links_that_lead_out_are_not_followed_also_not_half_way() {
    let (folder, _running, door, _recorder) = site("");
    let root = root_of(&folder);
    std::os::unix::fs::symlink("../root", root.join("around")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    std::os::unix::fs::symlink(root.join("a.html"), root.join("absolute")).unwrap();
    refused(
        door,
        &[
            "/static/out",
            "/static/out-folder/secret",
            "/static/out-folder/",
            "/static/far",
            "/static/magic",
            // Out and in again is out; and where an absolute link leads depends on who reads it.
            "/static/around/a.html",
            "/static/absolute",
        ],
    );
    assert_eq!(ask(door, "/static/in").text(), "hello");
}

#[test]
fn a_link_that_is_put_there_while_files_are_served_is_not_followed_either() {
    let (folder, _running, door, _recorder) = site("open-files = \"off\"");
    let root = root_of(&folder);
    fs::write(root.join("now"), "fine").unwrap();
    let swap = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for _ in 0..300 {
                std::os::unix::fs::symlink("../secret", root.join("next")).unwrap();
                fs::rename(root.join("next"), root.join("now")).unwrap();
                fs::write(root.join("next"), "fine").unwrap();
                fs::rename(root.join("next"), root.join("now")).unwrap();
            }
        });
        while !swapping.is_finished() {
            let mut client = Client::connect(door);
            for _ in 0..100 {
                let answer = client.get("/static/now");
                assert!(answer.text() != "secret");
                assert!(matches!(answer.status, 200 | 404), "{}", answer.status);
            }
        }
        swapping.join()
    });
    swap.unwrap();
}

#[test]
fn names_that_begin_with_a_dot_are_not_there_unless_wanted() {
    let (_folder, _running, door, _recorder) = site("");
    refused(
        door,
        &[
            "/static/.hidden",
            "/static/%2ehidden",
            "/static/%2Ehidden",
            "/static/.git/config",
            "/static/%2egit/config",
            "/static/sub/../.hidden",
            "/static/.git/",
            "/static/.git",
        ],
    );
    let (_folder, _running, door, _recorder) = site("hidden = true");
    assert_eq!(ask(door, "/static/.git/config").text(), "secret");
    refused(door, &["/static/..%2fsecret", "/static/sub/..%2f..%2fsecret"]);
}

#[test]
fn pipes_devices_and_sockets_are_no_files() {
    let (folder, _running, door, _recorder) = site("");
    let root = root_of(&folder);
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    refused(door, &["/static/pipe", "/static/socket", "/static/a.html/", "/static/a.html/b"]);
}

#[test]
fn nothing_can_be_written() {
    let (folder, _running, door, _recorder) = site("");
    for method in
        ["PUT", "DELETE", "POST", "PATCH", "MKCOL", "COPY", "MOVE", "PROPFIND", "TRACE", "OPTIONS"]
    {
        let mut client = Client::connect(door);
        client.send(format!(
            "{method} /static/a.html HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(fs::read(root_of(&folder).join("a.html")).unwrap(), b"hello");
}

#[test]
fn two_slashes_do_not_send_anybody_to_another_host() {
    // CVE-2022-28923: the redirect to the slash at the end of a folder.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("evil.example/sub")).unwrap();
    fs::create_dir_all(folder.path().join("sub")).unwrap();
    let backend = crate::support::http::Recorder::echoing();
    let route = format!("[[http.web.route]]\nfiles = \"{}\"\n", folder.path().display());
    let config = crate::support::http::config(&[backend.address()], "", &route);
    let (_running, door) = crate::support::http::serve(&config);
    for target in [
        "//evil.example/sub",
        "///evil.example/sub",
        "//evil.example",
        "/%2fevil.example/sub",
        "/%5cevil.example/sub",
        "/\\evil.example/sub",
        "//evil.example/sub?x=//evil.example",
        "/.//evil.example/sub",
        "/sub/..//evil.example/sub",
        "http://app.test//evil.example/sub",
    ] {
        let answer = ask(door, target);
        let to = answer.field("location").unwrap_or("/");
        let is_here = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\");
        assert!(is_here, "{target}: {to}");
    }
    assert_eq!(ask(door, "//evil.example/sub").field("location"), Some("/evil.example/sub/"));
}
