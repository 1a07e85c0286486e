//! What the keys promise that say what a route demands of a request and changes in it: each is read and written back,
//! and contradictions are named at their place.

use super::http::{one_says, said, said_of};
use super::*;

const HASH: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

/// What is said about a route to an upstream with these lines.
fn on_route(lines: &str) -> Vec<String> {
    said(&format!("upstream = \"app\"\n{lines}"))
}

#[test]
fn every_key_of_gates_is_read_and_written_back() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "users", &format!("ann:{HASH}\n"));
    let text = format!(
        "{SAMPLE}\n[http.web]\nlisten = \":81\"\nx-forwarded = \"replace\"\nforwarded = \"append\"\n\
         rate-limit = {{ requests = 5 }}\n[[http.web.route]]\nupstream = \"app\"\nreplace-path = \"/a{{rest}}\"\n\
         host-header = \"{{backend}}\"\nx-forwarded = \"drop\"\nforwarded = \"drop\"\nrequests-max = 7\n\
         rate-limit = {{ requests = 10, per = \"1m\", burst = 3, by = \"cookie:id\", keys-max = 9 }}\n\
         basic-auth = {{ realm = \"x\", users-file = \"users\", pass = true }}\n\
         request-headers = {{ add = {{ X-A = [\"{{user}}\", \"b\"] }} }}\n\
         [[http.web.route]]\npath = \"/b/*\"\nupstream = \"app\"\nstrip-prefix = \"/b\"\nhost-header = \"a.test:81\"\n"
    );
    write(folder.path(), "main.toml", &text);
    let loaded = Config::from_file(folder.path().join("main.toml")).unwrap();
    let web = &loaded.config.http["web"];
    assert_eq!((web.x_forwarded, web.forwarded), (Forwarding::Replace, Forwarding::Append));
    assert_eq!(web.rate_limit, Some(RateLimit::new(5)));
    let [first, second] = &web.route[..] else { panic!("{:?}", web.route) };
    let limit = first.rate_limit.as_ref().unwrap();
    assert_eq!((limit.per, limit.burst, limit.keys_max), (Time::seconds(60), Some(3), 9));
    assert_eq!(limit.by, CountBy::Cookie("id".to_owned()));
    assert_eq!((&first.host_header, first.requests_max), (&Some(HostHeader::Backend), Some(7)));
    let auth = first.basic_auth.as_ref().unwrap();
    assert_eq!((&auth.users_file, auth.pass), (&folder.path().join("users"), true));
    assert_eq!(first.request_headers.add["X-A"], ["{user}", "b"]);
    assert_eq!(second.host_header, Some(HostHeader::Fixed("a.test:81".to_owned())));
    let effective = loaded.config.effective();
    let again = Config::parse(&effective).unwrap_or_else(|wrong| panic!("{wrong}\n{effective}"));
    assert_eq!(loaded.config, again, "{effective}");
}

#[test]
fn senseless_limits_of_routes_are_refused() {
    for (line, message) in [
        ("rate-limit = { requests = 0 }", "15:27 requests must be at least 1, not 0"),
        ("rate-limit = { requests = 1, burst = 0 }", "burst must be at least 1, not 0"),
        ("rate-limit = { requests = 1, per = \"0s\" }", "per must be longer than zero"),
        ("rate-limit = { requests = 1, keys-max = 0 }", "keys-max must be 1 to 10000000, not 0"),
        ("rate-limit = { requests = 11, per = \"10ns\" }", "more requests than can be counted"),
        ("rate-limit = { requests = 1, by = \"ip\" }", "\"ip\" is nothing to count by"),
        ("requests-max = 0", "requests-max must be at least 1, not 0"),
        ("x-forwarded = \"off\"", "\"off\" is not a way of forwarding"),
        ("host-header = \"{host}\"", "\"{host}\" is not a host"),
    ] {
        one_says(&on_route(line), message);
    }
    one_says(&on_route("rate-limit = {}"), "\"requests\" is missing");
    let listener = "upstream = \"app\"\nrate-limit = { requests = 0 }";
    one_says(&said_of(listener), "requests must be at least 1, not 0");
}

#[test]
fn a_prefix_that_no_path_of_the_route_has_is_refused() {
    let strip = |path: &str, prefix: &str| {
        on_route(&format!("path = [{path}]\nstrip-prefix = \"{prefix}\""))
    };
    for (path, prefix) in [
        ("\"/api/*\"", "/api"),
        ("\"/api/v1/*\"", "/api"),
        ("\"/api/*\"", "/api/v1"),
        ("\"/api/v1\"", "/api"),
        ("\"/x\", \"/api/*\"", "/api"),
        ("\"*\"", "/api"),
        ("\"~ /.*\"", "/api"),
        ("", "/api"),
    ] {
        assert_eq!(strip(path, prefix), [""; 0], "{path} {prefix}");
    }
    for path in ["\"/apis/*\"", "\"/x/api\"", "\"/\"", "\"/a/*\", \"/b/*\""] {
        let expected = "16:16 no path of this route begins with \"/api\"";
        one_says(&strip(path, "/api"), expected);
    }
    for prefix in ["", "/", "api", "/api/", "/api/*", "*", "/a?b", "/a/../b", "/%61", "~ /a"] {
        one_says(&strip("\"*\"", prefix), &format!("\"{prefix}\" cannot be stripped"));
    }
}

#[test]
fn a_path_to_replace_with_is_one_path() {
    let replace = |path: &str| on_route(&format!("replace-path = \"{path}\""));
    for good in ["/new", "/new{rest}", "/new/{rest}", "{rest}", "/a{path}/b", "/%C3%A9"] {
        assert_eq!(replace(good), [""; 0], "{good}");
    }
    for bad in ["", "new", "/a b", "/a?b", "/é", "/a/../b{rest}", "/%61", "{path}?x", "/a\\\\b"] {
        let shown = bad.replace("\\\\", "\\");
        one_says(&replace(bad), &format!("\"{shown}\" is not a path"));
    }
    for many in ["/a/*", "*", "~ /a"] {
        one_says(&replace(many), &format!("\"{many}\" is not one path"));
    }
    one_says(&replace("/a{query}"), "\"query\" is not a variable here");
    let both = on_route("strip-prefix = \"/a\"\nreplace-path = \"/b\"");
    one_says(&both, "this route has both strip-prefix and replace-path");
}

#[test]
fn what_changes_a_request_to_a_backend_stands_with_an_upstream() {
    for (key, line) in [
        ("strip-prefix", "strip-prefix = \"/a\""),
        ("replace-path", "replace-path = \"/a\""),
        ("host-header", "host-header = \"a\""),
        ("x-forwarded", "x-forwarded = \"drop\""),
        ("forwarded", "forwarded = \"append\""),
    ] {
        let expected = format!("{key} counts only with an upstream");
        one_says(&said(&format!("reply = 204\n{line}")), &expected);
        let tried = format!("files = \"www\"\ntry = \"upstream:app\"\n{line}");
        assert_eq!(said(&tried), [""; 0], "{line}");
    }
}

#[test]
fn a_file_of_users_is_judged_with_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let about = |file: &str, more: &str| {
        let file = folder.path().join(file);
        on_route(&format!("basic-auth = {{ users-file = \"{}\"{more} }}", file.display()))
    };
    write(folder.path(), "good", &format!("ann:{HASH}\n"));
    assert_eq!(about("good", ", realm = \"a b\""), [""; 0]);
    one_says(&about("good", ", realm = \"a\\\"b\""), "this cannot be the name of a realm");
    one_says(&about("none", ""), "none: No such file or directory (os error 2)");
    write(folder.path(), "bad", &format!("ann:{HASH}\nbob:secret\neve:$apr1$a$b\n"));
    let problems = about("bad", "");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].ends_with("bad:2: the password of \"bob\" is not hashed with bcrypt"));
    assert!(problems[1].ends_with("bad:3: the password of \"eve\" is not hashed with bcrypt"));
    write(folder.path(), "empty", "\n");
    one_says(&about("empty", ""), "empty:1: there is no user in it");
    write(folder.path(), "large", &"# a comment\n".repeat(100_000));
    one_says(&about("large", ""), "large is larger than 1MiB");
    one_says(&on_route("basic-auth = { realm = \"x\" }"), "\"users-file\" is missing");
}

#[test]
fn headers_with_a_user_need_somebody_to_ask_for_one() {
    let expected = "\"{user}\" is always empty on this route";
    one_says(&on_route("request-headers = { set = { a = \"{user}\" } }"), expected);
    one_says(&on_route("response-headers = { add = { a = [\"b\", \"{user}\"] } }"), expected);
}

#[test]
fn added_headers_are_judged_like_set_ones() {
    let add = |entry: &str| on_route(&format!("request-headers = {{ add = {{ {entry} }} }}"));
    assert_eq!(add("a = [\"{header.B}\", \"{cookie.c}\"], A = \"d\""), [""; 0]);
    one_says(&add("Content-Length = \"1\""), "\"Content-Length\" cannot be changed by a route");
    one_says(&add("a = [\"b\", \"c\\nd\"]"), "this is not the value of a header");
    one_says(&add("a = \"{hots}\""), "\"hots\" is not a variable here");
    one_says(&add("a = \"{header.a b}\""), "\"a b\" is not a name");
}

#[test]
fn a_server_to_ask_first_is_an_upstream_with_a_path() {
    let ask = |more: &str| on_route(&format!("forward-auth = {{ upstream = \"api\"{more} }}"));
    assert_eq!(ask(", path = \"/v?a=b\", copy-headers = \"X-A\", answer-max = \"1MiB\""), [""; 0]);
    let unknown = on_route("forward-auth = { upstream = \"apii\" }");
    one_says(&unknown, "there is no upstream \"apii\"");
    one_says(&on_route("forward-auth = { path = \"/\" }"), "\"upstream\" is missing");
    for path in ["", "verify", "/a b", "/a#b", "/*", "/a?b#c", "/../a"] {
        one_says(&ask(&format!(", path = \"{path}\"")), &format!("\"{path}\" is not a path"));
    }
    one_says(&ask(", copy-headers = \"a b\""), "\"a b\" is not the name of a header");
    let framing = ask(", copy-headers = [\"X-A\", \"Content-Length\"]");
    one_says(&framing, "\"Content-Length\" cannot be changed by a route");
    one_says(&ask(", answer-max = \"2MiB\""), "answer-max must be at most 1MiB, not 2MiB");
}

#[test]
fn a_mirror_is_an_upstream_with_limits() {
    let mirror = |more: &str| on_route(&format!("mirror = {{ upstream = \"api\"{more} }}"));
    assert_eq!(mirror(", share = \"10%\", body-max = \"1MiB\", requests-max = 10_000"), [""; 0]);
    one_says(&on_route("mirror = { upstream = \"apii\" }"), "there is no upstream \"apii\"");
    one_says(&mirror(", share = 0"), "no request is ever copied");
    one_says(&mirror(", body-max = \"2MiB\""), "body-max must be at most 1MiB, not 2MiB");
    one_says(&mirror(", requests-max = 0"), "requests-max must be 1 to 10000, not 0");
    let alone = said("reply = 204\nmirror = { upstream = \"api\" }");
    one_says(&alone, "mirror counts only with an upstream");
}
