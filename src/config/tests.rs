//! What a config file may rely on, as tests: from the text to the typed config, its problems and its
//! derived pages.

mod balancing;
mod gate;
mod http;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::*;

const SAMPLE: &str = r#"
[upstream.app]
backends = ["192.168.1.1:8080", "192.168.1.2:8080"]

[tcp.public]
listen = "0.0.0.0:8080"
upstream = "app"
"#;

const EVERYTHING: &str = r#"
[process]
workers = 2
connections-max = 10_000
drain-timeout = "1m"
lame-duck = "5s"
nameservers = ["192.0.2.53:53", "[2001:db8::53]:53"]

[log]
level = "debug"
format = "json"
access = "logs/access.log"

[upstream.app]
balance = { hash = "source", on = "ring", bounded-load = 1.25 }
backends = [
  "192.168.1.1:8080",
  { address = "[2001:db8::1]:8080", weight = 2 },
  { address = "db.internal:8080", backup = true, connections-max = 500 },
  "unix:run/app.sock",
]
connect-timeout = "250ms"
retries = 2
queue-max = 0
health = { http = "/$${healthz}", host = "app", status = [200, "300-399"], port = 81, every = "3s" }
eject-max-percent = 30
fail-open = "20%"
source = "192.168.1.9"
nodelay = false
keepalive = { idle = "1m", count = 3 }
user-timeout = "30s"

[upstream.bytes]
backends = { address = ":9000" }
balance = "hash"
health = { send = "PING\r\n", expect = "hex:ff00" }
keepalive = "on"

[upstream.quiet]
backends = "localhost:9001"
health = "off"

[tcp.public]
listen = [":80", "unix:run/public.sock"]
upstream = "app"
idle-timeout = "off"
idle-counts = "client"
heartbeat-check-interval = "1s"
max-duration = "1d"
buffer-max = "2MB"
allow = ["10.0.0.0/8", "192.0.2.1", "2001:db8::1"]
deny = "10.1.2.3/8"
connections-max = 100
client-connections-max = 10
client-connections-per-second = 5
backlog = 128

[tcp.bytes]
listen = "[::1]:81"
upstream = "bytes"
buffer-max = 65537

[tcp.quiet]
listen = "localhost:82"
upstream = "quiet"
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "YES" => Some("true".to_owned()),
        "WORD" => Some("word".to_owned()),
        "SLY" => Some("app\"\n[tcp.sly]\nlisten=\":1".to_owned()),
        _ => None,
    }
}

fn problems(text: &str) -> Problems {
    Config::parse_with(text, &environment).expect_err("a config with a problem was accepted")
}

/// Each problem as `line:column message`.
fn listed(problems: &Problems) -> Vec<String> {
    let one =
        |problem: &Problem| format!("{}:{} {}", problem.line, problem.column, problem.message);
    problems.iter().map(one).collect()
}

/// A config whose only upstream holds this too.
fn with_upstream(more: &str) -> String {
    SAMPLE.replace("[tcp.public]", &format!("{more}\n[tcp.public]"))
}

#[test]
fn the_sample_is_read_with_its_defaults() {
    let config = Config::parse(SAMPLE).unwrap();
    let app = &config.upstream["app"];
    assert_eq!(app.backends[1], Backend::new("192.168.1.2:8080".parse().unwrap()));
    assert_eq!(app, &Upstream::new(app.backends.clone()));
    let listen: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let listener = TcpListener {
        upstream: Some("app".to_owned()),
        ..TcpListener::new(vec![Address::Ip(listen)])
    };
    assert_eq!(config.tcp["public"], listener);
    assert_eq!(config.process, Process::default());
}

#[test]
fn every_kind_of_value_is_read() {
    let config = Config::parse(EVERYTHING).unwrap();
    let app = &config.upstream["app"];
    let Health::Active(probe) = &app.health else { panic!("{:?}", app.health) };
    assert_eq!(probe.http.as_deref(), Some("/${healthz}"));
    assert_eq!(probe.status, [StatusRange(200, 200), StatusRange(300, 399)]);
    assert_eq!(app.keepalive, {
        let idle = Time::seconds(60);
        Keepalive::On(KeepaliveProbes { idle, count: 3, ..KeepaliveProbes::default() })
    });
    assert_eq!(config.upstream["bytes"].keepalive, Keepalive::On(KeepaliveProbes::default()));
    assert_eq!(config.upstream["bytes"].backends.len(), 1);
    assert_eq!(config.upstream["quiet"].health, Health::Off);
    let public = &config.tcp["public"];
    let allow: Vec<String> = public.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"]);
    assert_eq!(public.idle_timeout, Limit::OFF);
    assert_eq!(config.tcp.keys().collect::<Vec<_>>(), ["public", "bytes", "quiet"]);
}

#[test]
fn the_effective_config_is_read_back_as_an_equal_one() {
    for text in [SAMPLE, EVERYTHING] {
        let config = Config::parse(text).unwrap();
        let effective = config.effective();
        let again =
            Config::parse(&effective).unwrap_or_else(|wrong| panic!("{wrong}\n{effective}"));
        assert_eq!(config, again, "{effective}");
    }
    let effective = Config::parse(SAMPLE).unwrap().effective();
    assert!(effective.contains("connect-timeout = \"3s\""), "{effective}");
}

#[test]
fn every_problem_is_reported_in_one_go() {
    let text = r#"
[process]
workers = "2"
drain-timeout = 30
[upstream.app]
backends = ["1.2.3.4", { adress = "a:1" }, "a:2", "a:2"]
blance = "random"
retries = -1
balance = "randum"
[tcp.public]
listen = [":80", ":80"]
upstream = "ap"
nonsense-key = 1
[tcp.late]
listen = true
"#;
    let problems = problems(text);
    let expected = [
        "3:11 expected integer, found the string \"2\"",
        "4:17 the time 30 has no unit",
        "6:13 \"1.2.3.4\" is not an address",
        "6:24 \"address\" is missing",
        "6:26 unknown key \"adress\", did you mean \"address\"?",
        "6:51 \"a:2\" stands here twice (first as number 3)",
        "7:1 unknown key \"blance\", did you mean \"balance\"?",
        "8:11 -1 is out of range, which is 0 to 4294967295",
        "9:11 \"randum\" is not a way to balance",
        "11:18 \":80\" is taken by \":80\" of [tcp.public]",
        "12:12 there is no upstream \"ap\"",
        "13:1 unknown key \"nonsense-key\"",
        "14:6 this listener leads nowhere",
        "15:10 expected address, as \"192.0.2.1:80\", \"name:80\", \":80\" or \"unix:/path\", \
         found true",
    ];
    assert_eq!(listed(&problems), expected);
    let advice = problems.iter().nth(11).and_then(|problem| problem.advice.clone()).unwrap();
    assert!(advice.starts_with("the keys here are listen, upstream, "), "{advice}");
}

#[test]
fn a_problem_is_drawn_where_it_stands() {
    let text = with_upstream("blance = \"random\"");
    let drawn = problems(&text).to_string();
    let expected = "\
config:4:1: error: unknown key \"blance\", did you mean \"balance\"?
  |
4 | blance = \"random\"
  | ^^^^^^";
    let drawn = drawn.replace("config:5", "config:4").replace("5 |", "4 |");
    assert_eq!(drawn, expected);
    let text = with_upstream("\tconnect-timeout\t= \"é\" # x\r");
    let wrong = problems(&text);
    assert_eq!(listed(&wrong), ["5:20 \"é\" is not a time"]);
    assert!(wrong.to_string().contains("help: write whole numbers with units"), "{wrong}");
    assert!(wrong.render(true).contains('\u{1b}') && !wrong.to_string().contains('\u{1b}'));
    let json = serde_json::to_value(&wrong).unwrap();
    assert_eq!(json[0]["line"], 5);
    assert_eq!(json[0]["column"], 20);
    assert_eq!(json[0]["severity"], "error");
    assert_eq!(json[0]["file"], "config");
}

#[test]
fn syntax_errors_are_all_reported_with_their_places() {
    let wrong = listed(&problems("a = 1\na = 2\nb = x\n[tcp\n"));
    assert!(wrong.iter().any(|line| line == "2:1 the key \"a\" stands here a second time"));
    assert!(wrong.iter().any(|line| line.starts_with("3:5 ")), "{wrong:?}");
    assert!(wrong.iter().any(|line| line.starts_with("4:5 ")), "{wrong:?}");
}

#[test]
fn odd_texts_have_clear_problems() {
    for text in ["", "\u{feff}", "\n\n", "# nothing"] {
        assert_eq!(listed(&problems(text)), ["1:1 a config without a listener is refused"]);
    }
    assert!(Config::parse(&format!("\u{feff}{}", SAMPLE.replace('\n', "\r\n"))).is_ok());
    let long = with_upstream(&format!("x = \"{}\"", "\u{1b}é".repeat(500_000)));
    assert!(listed(&problems(&long))[0].starts_with("5:6 invalid basic string"));
    let long = with_upstream(&format!("balance = \"{}\"", "é".repeat(500_000)));
    let drawn = problems(&long).to_string();
    assert!(drawn.len() < 2000, "{drawn}");
    let deep = format!("{} = 1", ["a"; 10_000].join("."));
    assert!(listed(&problems(&deep))[0].contains("recursion limit"));
    let huge = "#".repeat(16 * 1024 * 1024 + 1);
    assert_eq!(listed(&problems(&huge)), ["0:0 the file is over 16 MiB: this cannot be a config"]);
    let many =
        "a = 1\n[b]\n".to_owned() + &(0..5000).map(|n| format!("k{n} = 1\n")).collect::<String>();
    assert!(problems(&many).len() < 5);
}

#[test]
fn wrong_sections_do_not_hide_the_rest() {
    let wrong = listed(&problems("upstream = 5\ntcp = []\nlog = \"x\"\nprocess.workers = 0\n"));
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    let wrong = listed(&problems("[upstream]\napp = 5\n[tcp]\npublic = { upstream = \"app\" }\n"));
    assert_eq!(wrong, ["2:7 expected table, found the integer 5", "4:10 \"listen\" is missing"]);
}

#[test]
fn the_environment_fills_values_but_not_structure() {
    let text = r#"
[process]
workers = "${WORKERS:-3}"
[upstream.app]
backends = "localhost:${PORT}"
nodelay = "${YES}"
retries = "${PORT}"
[tcp.public]
listen = ":${PORT}"
upstream = "app"
buffer-max = "${PORT}"
"#;
    let config = Config::parse_with(text, &environment).unwrap();
    assert_eq!(config.process.workers, Some(3));
    assert_eq!(config.upstream["app"].retries, 8080);
    assert_eq!(config.tcp["public"].buffer_max, Bytes(8080));
    let text = r#"
[upstream."${WORD}"]
backends = "${NONE}:${NONE}"
retries = "${WORD}"
nodelay = "${WORD}"
connect-timeout = "${WORD}"
[tcp.public]
listen = ":1"
upstream = "${SLY}"
"#;
    let expected = [
        "2:11 \"${WORD}\" cannot be a name",
        "3:12 the environment variable NONE is not set",
        "3:12 the environment variable NONE is not set",
        "4:11 expected integer, found \"word\"",
        "5:11 expected true or false, found \"word\"",
        "6:19 \"word\" is not a time",
        "9:12 there is no upstream \"app\\\"\\n[tcp.sly]\\nlisten=\\\":1\"",
    ];
    let wrong = listed(&problems(text));
    assert_eq!(wrong, expected.map(|line| line.replace("\\\"", "\"")));
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn included_files_become_part_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("[odd]");
    let upstream = "backends = \"unix:run/b.sock\"\n";
    write(&folder, "main.toml", &format!("include = [\"sites/*.toml\", \"none/*\"]\n{SAMPLE}"));
    write(&folder, "sites/b.toml", &format!("[upstream.b]\n{upstream}"));
    write(&folder, "sites/a.toml", "[tcp.a]\nlisten = \":81\"\nupstream = \"b\"\n");
    write(&folder, "sites/.hidden.toml", "nonsense");
    let loaded = Config::from_file(folder.join("main.toml")).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let names: Vec<_> = loaded.files.iter().filter_map(|file| file.file_name()).collect();
    assert_eq!(names, ["main.toml", "a.toml", "b.toml"]);
    let socket = Address::Unix(folder.join("sites/run/b.sock"));
    assert_eq!(loaded.config.upstream["b"].backends[0].address, socket);
    assert_eq!(Config::parse(&loaded.config.effective()).unwrap(), loaded.config);
}

#[test]
fn problems_of_included_files_stand_at_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "main.toml", &format!("include = [\"a.toml\"]\n{SAMPLE}"));
    write(
        folder,
        "a.toml",
        "include = []\n[log]\n[upstream.app]\nbackends = \"a:1\"\n[tcp.x]\nlisten = \":1\"\nupstream = \"y\"\n",
    );
    let wrong = Config::from_file(folder.join("main.toml")).unwrap_err();
    let expected = [
        "1:11 \"include\" cannot stand in an included file",
        "2:1 \"log\" cannot stand in an included file",
        "3:11 [upstream.app] stands in two files",
        "7:12 there is no upstream \"y\"",
    ];
    assert_eq!(listed(&wrong), expected, "{wrong}");
    assert!(wrong.iter().all(|problem| problem.file == folder.join("a.toml")));
    let advice = wrong.iter().nth(2).and_then(|problem| problem.advice.clone()).unwrap();
    assert!(advice.contains("main.toml:3:11"), "{advice}");

    write(folder, "main.toml", &format!("include = [\"gone.toml\", \"***\"]\n{SAMPLE}"));
    let wrong = Config::from_file(folder.join("main.toml")).unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong}");
    assert_eq!(listed(&wrong)[0], "1:12 there is no file \"gone.toml\"");
    let wrong = problems(&format!("include = \"a\"\n{SAMPLE}"));
    assert_eq!(listed(&wrong), ["1:11 only a config file can include others"]);
}

#[test]
fn a_file_that_is_no_text_is_a_problem_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = |path: &Path| listed(&Config::from_file(path).unwrap_err());
    assert!(refused(&folder.join("gone"))[0].starts_with("0:0 cannot read the file: "));
    assert!(refused(folder)[0].starts_with("0:0 cannot read the file: "));
    let latin = folder.join("latin.toml");
    fs::write(&latin, b"# ok\n# caf\xe9\n").unwrap();
    assert_eq!(refused(&latin), ["2:6 the file is not UTF-8 from here on"]);
}

#[test]
fn warnings_do_not_refuse_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let unused = "[upstream.unused]\nbackends = \"a:1\"\n";
    write(folder.path(), "main.toml", &format!("{SAMPLE}{unused}"));
    let loaded = Config::from_file(folder.path().join("main.toml")).unwrap();
    assert_eq!(listed(&loaded.warnings), ["8:11 no listener uses the upstream \"unused\""]);
    assert!(loaded.warnings.to_string().contains(": warning: "));
}

#[test]
fn an_error_after_a_thousand_warnings_still_refuses_a_config() {
    let unused = |n| format!("[upstream.unused-{n}]\nbackends = \"a:1\"\n");
    let text = SAMPLE.to_owned() + &(0..2000).map(unused).collect::<String>();
    assert!(Config::parse(&text).is_ok());
    let wrong = problems(&text.replace("upstream = \"app\"", "upstream = \"other\""));
    assert!(wrong.has_errors() && wrong.to_string().ends_with("further problems"));
}

/// The page as it is in the repository; with `EVENKEEL_BLESS=1`, rewritten first.
fn up_to_date(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("EVENKEEL_BLESS").is_some_and(|bless| bless == "1") {
        write(path.parent().unwrap(), name, page);
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/{name} is out of date: run the tests with EVENKEEL_BLESS=1");
}

#[test]
fn the_reference_page_is_up_to_date() {
    up_to_date("reference.md", &Config::reference());
}

#[test]
fn the_schema_is_up_to_date() {
    let schema = serde_json::to_string_pretty(&Config::schema()).unwrap();
    up_to_date("evenkeel.schema.json", &(schema + "\n"));
}

/// Pieces that configs are made of, so that random texts get past the first line.
const PIECES: [&str; 49] = [
    "[upstream.a]",
    "[tcp.b]",
    "[http.c]",
    "[[http.c.route]]",
    "host",
    "path",
    "redirect",
    "reply",
    "request-headers",
    "files",
    "\"/a/{uri}\"",
    "[process]",
    "[log]",
    "[[tcp.b]]",
    "backends",
    "listen",
    "upstream",
    "balance",
    "health",
    "include",
    "idle-timeout",
    "buffer-max",
    "allow",
    "keepalive",
    "status",
    "=",
    " = ",
    "\n",
    "\r\n",
    "\t",
    ",",
    ".",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\"${X}\"",
    "\"a:1\"",
    "\":1\"",
    "\"off\"",
    "\"3s\"",
    "1",
    "-1",
    "1e9",
    "true",
    "é",
    "\u{0}",
    "#",
];

proptest::proptest! {
    // A failing text is printed in full: it belongs into a test of its own, not into a file.
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn no_text_makes_parse_panic(text in "\\PC*|(?s:.)*") {
        if let Err(wrong) = Config::parse(&text) {
            let _ = (wrong.render(true), serde_json::to_string(&wrong));
        }
    }

    #[test]
    fn no_mixture_of_config_pieces_makes_parse_panic(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)
    ) {
        if let Err(wrong) = Config::parse_with(&pieces.concat(), &environment) {
            let _ = (wrong.to_string(), serde_json::to_string(&wrong));
        }
    }

    #[test]
    fn every_time_and_size_is_read_back(nanoseconds in 0u64..3_000_000_000_000_000_000, bytes in 0u64..=i64::MAX as u64) {
        let time = Time(std::time::Duration::from_nanos(nanoseconds));
        proptest::prop_assert_eq!(time.to_string().parse::<Time>(), Ok(time));
        proptest::prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>(), Ok(Bytes(bytes)));
    }
}
