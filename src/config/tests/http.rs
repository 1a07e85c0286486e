//! What the HTTP sections of a config promise: every key is read and written back, and everything that makes no
//! sense is named at its place.

mod compress;
mod files;

use std::path::PathBuf;

use super::*;

pub(super) const ALL: &str = r#"
[upstream.app]
backends = "127.0.0.1:9001"
response-timeout = "5s"
keep-alive = { max = 8, idle = "30s", requests = 100 }
balance = { hash = "header:X-User", on = "ring" }
sticky = { cookie = "s", key-file = "keys/sticky.key", max-age = "8h", same-site = "none", secure = "always" }
eject-errors = { share = "40%", answers = 10, within = "5s" }
eject-latency = 2.5
health = { http = "/", method = "OPTIONS", headers = { X-Check = "1" }, status = 200, body = "hex:6f6b" }

[upstream.other]
backends = "127.0.0.1:9002"
keep-alive = "off"
sticky = "other"
eject-errors = 50

[http.web]
listen = [":80", "unix:run/web.sock"]
http = "1.1"
upstream = "app"
trusted-proxies = "10.0.0.0/8"
head-timeout = "5s"
head-max = "16KiB"
line-max = "4KiB"
headers-max = 50
idle-timeout = "off"
tunnel-timeout = "1h"
request-timeout = "1m"
body-max = 0
buffer-max = "64KiB"
requests-max = 1
connect = true
deny = "192.0.2.0/24"
keepalive = "on"

[[http.web.route]]
host = ["www.example.com", "*.example.org"]
path = ["/api/*", "/status"]
method = ["GET", "PROPFIND"]
client = "127.0.0.1"
header = { x-version = "2", X-Debug = "*" }
query = { a = "${WORD}" }
upstream = "other"
response-timeout = "1s"
body-max = "1GB"
request-headers = { set = { X-Client = "{client.ip}", X-Odd = "{{{host}}" }, remove = "Cookie" }
response-headers = { set = { X-Id = "{request.id}" }, remove = ["Server", "X-Powered-By"] }

[[http.web.route]]
path = "/static/*"
files = "/srv/www"
index = ["index.html", "index.htm"]
hidden = true
listing = true
precompressed = ["zstd", "br"]
cache = { "*.css" = "max-age=3600", "*" = "no-cache" }
open-files = "5s"
file-timeout = "3s"
try = "upstream:other"
compress = { codings = ["gzip", "br"], types = ["text/*", "image/svg+xml"], min-size = "2KiB", level = 6 }

[[http.web.route]]
host = "old.example.com"
redirect = "{scheme}://www.{host}{uri}"
redirect-status = 308

[[http.web.route]]
path = "/new/*"
split = ["app", { upstream = "other", weight = 3 }]
split-cookie = { cookie = "side", max-age = "1d" }
compress = true

[[http.web.route]]
path = "/gone"
reply = 410

[[http.web.route]]
path = "/robots.txt"
reply = { status = 200, body = "User-agent: *\n", content-type = "text/plain" }
"#;

/// A listener with this route, and what is said about it, with its place.
pub(super) fn said(route: &str) -> Vec<String> {
    said_of(&format!("[[http.web.route]]\n{route}"))
}

/// The same for whatever follows on a listener's first keys.
pub(super) fn said_of(more: &str) -> Vec<String> {
    let backends = "backends = \"a:1\"";
    let text = format!(
        "[upstream.app]\n{backends}\n[upstream.api]\n{backends}\n[tcp.x]\nlisten = \":1\"\n\
         upstream = \"app\"\n[tcp.y]\nlisten = \":2\"\nupstream = \"api\"\n\
         [http.web]\nlisten = \":80\"\n{more}"
    );
    let config = match Config::parse_with(&text, &environment) {
        Ok(config) => config,
        Err(wrong) => return listed(&wrong),
    };
    verify(&config).iter().map(|one| format!("{} {}", one.path.join("."), one.message)).collect()
}

#[track_caller]
pub(super) fn one_says(said: &[String], expected: &str) {
    assert!(matches!(said, [one] if one.ends_with(expected)), "{said:#?}\nand not {expected:?}");
}

#[test]
fn every_http_key_is_read() {
    let config = Config::parse_with(ALL, &environment).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(config.upstream["app"].response_timeout, Time::seconds(5));
    let idle = IdleConnections { max: 8, idle: Time::seconds(30), requests: 100 };
    assert_eq!(config.upstream["app"].keep_alive, KeepAlive::On(idle));
    assert_eq!(config.upstream["other"].keep_alive, KeepAlive::Off);
    let web = &config.http["web"];
    assert_eq!((web.headers_max, web.requests_max, web.connect), (50, 1, true));
    assert_eq!(web.http, [HttpVersion::Http11]);
    assert_eq!((web.idle_timeout, web.body_max), (Limit::OFF, Bytes(0)));
    let [api, files, old, new, gone, robots] = &web.route[..] else { panic!("{:?}", web.route) };
    assert_eq!(api.header.keys().collect::<Vec<_>>(), ["x-version", "X-Debug"]);
    assert_eq!(api.query["a"], "word");
    assert_eq!(api.request_headers.set["X-Client"], "{client.ip}");
    assert_eq!(api.response_headers.remove, ["Server", "X-Powered-By"]);
    assert_eq!(files.files, Some(PathBuf::from("/srv/www")));
    assert_eq!((files.listing, &files.precompressed[..]), (true, &[Coding::Zstd, Coding::Br][..]));
    assert_eq!(files.cache.keys().collect::<Vec<_>>(), ["*.css", "*"]);
    assert_eq!((files.open_files, files.file_timeout), (Limit::seconds(5), Time::seconds(3)));
    assert_eq!(files.r#try, Some(TryUpstream("other".to_owned())));
    assert_eq!(old.redirect_status, 308);
    let weights: Vec<_> =
        new.split.iter().map(|share| (&share.upstream[..], share.weight)).collect();
    assert_eq!(weights, [("app", 1), ("other", 3)]);
    assert_eq!(new.split_cookie.as_ref().unwrap().max_age, Some(Time::seconds(86_400)));
    assert_eq!(gone.reply, Some(Reply::new(410)));
    assert_eq!(robots.reply.as_ref().unwrap().body, "User-agent: *\n");
}

#[test]
fn an_effective_http_config_is_read_back_as_an_equal_one() {
    let config = Config::parse_with(ALL, &environment).unwrap();
    let effective = config.effective();
    for line in ["[http.web]", "[[http.web.route]]", "try = \"upstream:other\"", "max = 8"] {
        assert!(effective.contains(line), "{line} is not in\n{effective}");
    }
    let again = Config::parse(&effective).unwrap_or_else(|wrong| panic!("{wrong}\n{effective}"));
    assert_eq!(config, again, "{effective}");
}

#[test]
fn an_http_listener_needs_little() {
    assert_eq!(said_of("upstream = \"app\""), [""; 0]);
    assert_eq!(said("upstream = \"app\""), [""; 0]);
}

#[test]
fn files_are_looked_for_beside_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let route = "[http.web]\nlisten = \":81\"\n[[http.web.route]]\nfiles = \"www\"\n";
    write(folder.path(), "main.toml", &format!("{SAMPLE}{route}"));
    let loaded = Config::from_file(folder.path().join("main.toml")).unwrap();
    assert_eq!(loaded.config.http["web"].route[0].files, Some(folder.path().join("www")));
    one_says(&said("files = \"\""), " this cannot be a path");
}

#[test]
fn an_http_listener_of_an_included_file_is_part_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let web = "[http.web]\nlisten = \":81\"\nupstream = \"app\"\n";
    write(folder, "main.toml", &format!("include = [\"a.toml\"]\n{SAMPLE}"));
    write(folder, "a.toml", web);
    let loaded = Config::from_file(folder.join("main.toml")).unwrap();
    assert_eq!(loaded.config.http["web"].upstream.as_deref(), Some("app"));
    write(folder, "main.toml", &format!("include = [\"a.toml\", \"b.toml\"]\n{SAMPLE}"));
    write(folder, "b.toml", web);
    let wrong = Config::from_file(folder.join("main.toml")).unwrap_err();
    one_says(&listed(&wrong), "[http.web] stands in two files");
}

#[test]
fn a_listener_that_leads_nowhere_is_refused() {
    one_says(&said_of(""), "11:7 this listener leads nowhere");
    one_says(&said_of("upstream = \"app\"\nhttp = []"), "no version of HTTP is named");
    one_says(&said_of("upstream = \"app\"\nhttp = \"3\""), "\"3\" is not a version of HTTP");
    one_says(&said_of("upstream = \"ap\""), "13:12 there is no upstream \"ap\"");
}

#[test]
fn listeners_of_one_name_or_address_are_refused() {
    let more = "upstream = \"app\"\n[http.x]\nlisten = \":3\"\nupstream = \"app\"";
    one_says(&said_of(more), "14:7 [tcp.x] has the same name");
    let more = "upstream = \"app\"\n[http.z]\nlisten = \"0.0.0.0:1\"\nupstream = \"app\"";
    one_says(&said_of(more), "15:10 \"0.0.0.0:1\" is taken by \":1\" of [tcp.x]");
}

#[test]
fn an_upstream_that_only_routes_use_is_used() {
    let upstreams = ["a", "b", "c"].map(|name| format!("[upstream.{name}]\nbackends = \"a:1\"\n"));
    let routes = "[http.web]\nlisten = \":1\"\nupstream = \"a\"\n[[http.web.route]]\npath = \"/b\"\n\
                  upstream = \"b\"\n[[http.web.route]]\npath = \"/c/*\"\nfiles = \"c\"\n";
    let config = Config::parse(&format!("{}{routes}", upstreams.concat())).unwrap();
    let unused: Vec<_> = verify(&config).into_iter().map(|one| one.message).collect();
    assert_eq!(unused, ["no listener uses the upstream \"c\""]);
    let config = format!("{}{routes}try = \"upstream:c\"", upstreams.concat());
    assert_eq!(verify(&Config::parse(&config).unwrap()), []);
}

#[test]
fn senseless_limits_of_http_listeners_are_refused() {
    for (line, message) in [
        ("head-timeout = \"0s\"", "head-timeout must be longer than zero"),
        ("idle-timeout = \"0s\"", "idle-timeout must be longer than zero"),
        ("tunnel-timeout = \"0s\"", "tunnel-timeout must be longer than zero"),
        ("request-timeout = \"0s\"", "request-timeout must be longer than zero"),
        ("head-max = 100", "head-max must be 1KiB to 1MiB, not 100"),
        ("line-max = \"2MiB\"", "line-max must be 256 to 1MiB, not 2MiB"),
        ("headers-max = 0", "headers-max must be 1 to 256, not 0"),
        ("headers-max = 257", "headers-max must be 1 to 256, not 257"),
        ("requests-max = 0", "requests-max must be at least 1, not 0"),
        ("buffer-max = 0", "buffer-max must be 4KiB to 1GiB, not 0"),
        ("backlog = 0", "backlog must be 1 to 2147483647, not 0"),
        ("connections-max = 0", "connections-max must be at least 1, not 0"),
        ("client-connections-max = 0", "client-connections-max must be at least 1, not 0"),
        ("user-timeout = \"0s\"", "user-timeout must be longer than zero"),
        ("keepalive = { idle = \"0s\" }", "idle must be 1s to 32767s, not 0s"),
    ] {
        one_says(&said_of(&format!("upstream = \"app\"\n{line}")), message);
    }
    one_says(&said("upstream = \"app\"\nresponse-timeout = \"0s\""), "must be longer than zero");
}

#[test]
fn a_route_has_one_target() {
    one_says(&said("path = \"/\""), "13:1 this route has no target");
    let both = "upstream = \"app\"\nreply = 404";
    one_says(&said(both), "15:9 this route has both upstream and reply");
    let both = "files = \"www\"\nredirect = \"/\"";
    one_says(&said(both), "15:12 this route has both files and redirect");
}

#[test]
fn upstreams_that_routes_name_must_exist() {
    one_says(&said("upstream = \"aap\""), "there is no upstream \"aap\"");
    one_says(&said("files = \"www\"\ntry = \"upstream:apii\""), "there is no upstream \"apii\"");
    one_says(&said("files = \"www\"\ntry = \"app\""), "\"app\" is nothing to try");
}

#[test]
fn statuses_are_those_that_can_be_sent() {
    for status in [0, 199, 600] {
        let expected = format!("{status} is not the status of an answer");
        one_says(&said(&format!("reply = {status}")), &expected);
        one_says(&said(&format!("reply = {{ status = {status} }}")), &expected);
    }
    for status in [300, 304, 305, 309, 200] {
        let expected = format!("{status} is not the status of a redirect");
        one_says(&said(&format!("redirect = \"/\"\nredirect-status = {status}")), &expected);
    }
    let alone = said("upstream = \"app\"\nredirect-status = 302");
    one_says(&alone, "redirect-status counts only with redirect");
    let bodiless = said("reply = { status = 204, body = \"x\" }");
    one_says(&bodiless, "reply.body an answer of status 204 has no body");
    let odd = said("reply = { status = 200, content-type = \"a\\nb\" }");
    one_says(&odd, "content-type is not the value of a header");
}

#[test]
fn conditions_that_cannot_hold_are_refused() {
    for method in ["get", "", "GET POST", "Get"] {
        let expected = format!("\"{method}\" is not a method");
        one_says(&said(&format!("method = \"{method}\"\nupstream = \"app\"")), &expected);
    }
    let header = said("header = { \"a b\" = \"*\" }\nupstream = \"app\"");
    one_says(&header, "14:12 \"a b\" is not the name of a header");
    one_says(&said("host = \"a:80\"\nupstream = \"app\""), "\"a:80\" is not a host");
    one_says(&said("path = \"a\"\nupstream = \"app\""), "\"a\" is not a path");
    let header = said("header = \"a\"\nupstream = \"app\"");
    one_says(&header, "expected strings by name, found the string \"a\"");
}

#[test]
fn redirects_know_their_variables() {
    for good in ["/new", "https://{host}{path}?{query}", "{scheme}://a{uri}", "/{{x}"] {
        assert_eq!(said(&format!("redirect = \"{good}\"")), [""; 0], "{good}");
    }
    one_says(&said("redirect = \"/{pth}\""), "14:12 \"pth\" is not a variable here");
    one_says(&said("redirect = \"/{client.ip}\""), "\"client.ip\" is not a variable here");
    one_says(&said("redirect = \"/{host\""), "a \"{\" is never closed in \"/{host\"");
    for nowhere in ["", "/a b", "/é", "/\\r\\nX: y"] {
        let expected = "this is not a place to send anybody";
        one_says(&said(&format!("redirect = \"{nowhere}\"")), expected);
    }
}

#[test]
fn routes_change_headers_but_not_framing() {
    for key in ["request-headers", "response-headers"] {
        let edit = |edit: &str| said(&format!("upstream = \"app\"\n{key} = {{ {edit} }}"));
        assert_eq!(
            edit("set = { X-A = \"é {client.ip}\", x-b = \"\" }, remove = \"X-C\""),
            [""; 0]
        );
        one_says(&edit("set = { \"a:\" = \"b\" }"), "\"a:\" is not the name of a header");
        one_says(&edit("remove = [\"a\", \"\"]"), "\"\" is not the name of a header");
        for value in ["a\\r\\nb: c", "a\\u0000", " a"] {
            let expected = "this is not the value of a header";
            one_says(&edit(&format!("set = {{ a = \"{value}\" }}")), expected);
        }
        one_says(&edit("set = { a = \"{rest}\" }"), "\"rest\" is not a variable here");
        one_says(&edit("set = { a = \"b\", A = \"c\" }"), "\"A\" stands here twice");
        one_says(&edit("set = { a = \"b\" }, remove = \"A\""), "\"A\" is both set and removed");
        for name in [
            "Content-Length",
            "Content_Length",
            "transfer-encoding",
            "Connection",
            "Host",
            "TE",
            "Trailer",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Connection",
            "HTTP2-Settings",
        ] {
            let expected = format!("\"{name}\" cannot be changed by a route");
            one_says(&edit(&format!("set = {{ {name} = \"1\" }}")), &expected);
            one_says(&edit(&format!("remove = \"{name}\"")), &expected);
        }
    }
}

/// What is said about two routes to one upstream, one above the other.
fn above_and_below(above: &str, below: &str) -> Vec<String> {
    let route =
        |conditions: &str| format!("[[http.web.route]]\nupstream = \"app\"\n{conditions}\n");
    said_of(&format!("{}{}", route(above), route(below)))
}

#[test]
fn a_route_that_can_never_match_is_named() {
    for (above, below) in [
        ("", "path = \"/\""),
        ("path = \"*\"", ""),
        ("path = \"/*\"", "host = \"a\""),
        ("path = \"/a/*\"", "path = \"/a\""),
        ("path = \"/a/*\"", "path = [\"/a/b/c/*\", \"/a/d\"]"),
        ("path = [\"/x\", \"/a/*\"]", "path = [\"/a/b\", \"/x\"]"),
        ("path = \"//*\"", "path = \"//a\""),
        ("host = \"*.b\"", "host = [\"A.b\", \"c.b\"]\npath = \"/\""),
        ("host = [\"a\", \"*\"]", "path = \"/\""),
        ("host = \"a\"\npath = \"/a/*\"", "host = \"a\"\npath = \"/a/b\""),
        ("method = [\"GET\", \"PUT\"]", "method = \"PUT\""),
        ("client = \"10.0.0.0/8\"", "client = [\"10.1.0.0/16\", \"10.2.3.4\"]"),
        ("header = { X-A = \"*\" }", "header = { x-a = \"1\", b = \"2\" }"),
        ("query = { a = \"1\" }", "query = { a = \"1\" }\npath = \"/\""),
    ] {
        let said = above_and_below(above, below);
        let expected = "http.web.route.1 this route can never match: \
                        route 1 above takes everything it would";
        assert_eq!(said, [expected], "{above} | {below}");
    }
}

#[test]
fn a_route_that_can_match_is_left_alone() {
    for (above, below) in [
        ("path = \"/a/b\"", "path = \"/a/*\""),
        ("path = \"/a/*\"", "path = \"/ab\""),
        ("path = \"/a/*\"", "path = [\"/a/b\", \"/c\"]"),
        ("path = \"/a\"", "path = \"/a/\""),
        ("path = \"/a\"", ""),
        ("host = \"*.b\"", "host = \"a.c.b\""),
        ("host = \"*.b\"", "host = \"b\""),
        ("host = \"a\"", "host = [\"a\", \"b\"]"),
        ("host = \"a\"", "path = \"/\""),
        ("host = \"a\"\nmethod = \"GET\"", "host = \"a\""),
        ("client = \"10.0.0.0/8\"", "client = \"0.0.0.0/0\""),
        ("header = { a = \"1\" }", "header = { a = \"*\" }"),
        ("header = { a = \"1\" }", "header = { a = \"2\" }"),
        ("query = { a = \"*\" }", "query = { A = \"1\" }"),
    ] {
        assert_eq!(above_and_below(above, below), [""; 0], "{above} | {below}");
    }
}

#[test]
fn an_upstream_behind_a_route_for_everything_is_named() {
    let said = said_of("upstream = \"app\"\n[[http.web.route]]\nreply = 404");
    one_says(&said, "http.web.upstream nothing is left for this: route 1 takes everything");
}

/// Routes by path, and by host, as a large site has them, with one that is dead at the end.
#[test]
fn ten_thousand_routes_are_verified_without_comparing_each_with_each() {
    let listener = |route: &dyn Fn(usize) -> Route| {
        let mut listener = HttpListener::new(vec![Address::Port(80)]);
        listener.route = (0..10_000).map(route).collect();
        listener.route.push(route(9_999));
        let mut config = Config::default();
        config.http.insert("web".to_owned(), listener);
        config
    };
    let replied = || Route { reply: Some(Reply::new(200)), ..Route::default() };
    let one_host = |n: usize| Route {
        host: vec!["a.test".parse().unwrap()],
        path: vec![format!("/section/{n}/*").parse().unwrap()],
        ..replied()
    };
    let many_hosts = |n: usize| Route {
        host: vec![format!("site-{n}.test").parse().unwrap()],
        path: vec!["/api/*".parse().unwrap()],
        ..replied()
    };
    let both = |n: usize| Route {
        host: vec![format!("site-{}.test", n % 100).parse().unwrap()],
        path: vec![format!("/section/{}/*", n / 100).parse().unwrap()],
        ..replied()
    };
    for config in [listener(&one_host), listener(&many_hosts), listener(&both)] {
        let said: Vec<_> = verify(&config).into_iter().map(|one| one.message).collect();
        let expected = "this route can never match: route 10000 above takes everything it would";
        assert_eq!(said, [expected]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    /// The index leaves out only what could not cover a route: comparing each with each says the same.
    #[test]
    fn dead_routes_are_those_that_another_covers(
        routes in proptest::collection::vec(
            (
                proptest::collection::vec(
                    proptest::sample::select(&["*", "a.b", "c.b", "*.b", "*.a.b", "b"][..]), 0..3),
                proptest::collection::vec(
                    proptest::sample::select(&["*", "/a", "/a/*", "/a/b", "/a/b/*", "/ab"][..]), 0..3),
            ),
            0..12,
        )
    ) {
        let route = |(hosts, paths): &(Vec<&str>, Vec<&str>)| Route {
            host: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path: paths.iter().map(|path| path.parse().unwrap()).collect(),
            reply: Some(Reply::new(200)),
            ..Route::default()
        };
        let routes: Vec<Route> = routes.iter().map(route).collect();
        let mut expected = Vec::new();
        for (index, below) in routes.iter().enumerate() {
            let any_host = [HostPattern::Any];
            let any_path = [PathPattern::Any];
            fn or<'a, T>(list: &'a [T], any: &'a [T]) -> &'a [T] {
                if list.is_empty() { any } else { list }
            }
            let covers = |above: &Route| {
                or(&below.host, &any_host).iter().all(|theirs| {
                    or(&above.host, &any_host).iter().any(|mine| mine.covers(theirs))
                }) && or(&below.path, &any_path).iter().all(|theirs| {
                    or(&above.path, &any_path).iter().any(|mine| mine.covers(theirs))
                })
            };
            if let Some(above) = routes[..index].iter().position(covers) {
                expected.push((index, format!("route {} above", above + 1)));
            }
        }
        let mut config = Config::default();
        let listener = HttpListener { route: routes, ..HttpListener::new(vec![Address::Port(80)]) };
        config.http.insert("web".to_owned(), listener);
        let found: Vec<_> = verify(&config)
            .into_iter()
            .filter(|one| one.severity == Severity::Warning)
            .map(|one| (one.path[3].parse::<usize>().unwrap(), one.message))
            .collect();
        proptest::prop_assert_eq!(found.len(), expected.len(), "{:?} {:?}", found, expected);
        for ((at, message), (index, named)) in found.iter().zip(&expected) {
            proptest::prop_assert!(at == index && message.contains(named), "{} {}", message, named);
        }
    }
}
