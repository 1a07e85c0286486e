//! Pictures and keys of `top`, from two readings that are written down here.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::connections::Connections;
use super::draw::{Picture, draw};
use super::reading::Readings;
use super::view::{Act, Key, Order, Page, Sort, View, keys};
use super::{Look, as_text};

fn latency(fast: u64, slow: u64) -> Value {
    json!({ "total": { "count": fast + slow,
        "buckets": [[1.0, fast], [100.0, fast + slow], ["inf", fast + slow]] } })
}

fn backend(address: &str, state: &str, done: u64, failed: u64, slow: u64) -> Value {
    json!({ "backend": address, "state": state, "reason": null, "operator": null, "weight": 1, "open": done % 7,
        "requests": done, "connections": done, "failures": 0, "responses": { "5xx": failed },
        "bytes_up": done * 100, "bytes_down": done * 2000, "latency": latency(done - slow, slow), "connections-max": null })
}

/// How everything is at a number of seconds.
fn state(second: u64) -> Value {
    let of_api = json!({ "name": "api", "balance": "least-connections",
        "queue": { "waiting": 3, "max": 100, "refused": 0 },
        "backends": [
            backend("10.0.0.1:8080", "healthy", 1000 + 100 * second, 0, 10),
            backend("10.0.0.2:8080", "ejected", 500 + 20 * second, 5 * second, 10 * second),
        ] });
    let db = json!({ "name": "db", "balance": "first", "queue": {}, "backends": [
        { "backend": "[2001:db8::12]:5432", "state": "drained", "operator": "drained by root", "open": 4 }] });
    json!({
        "version": "0.1.0", "pid": 4711, "uptime_ms": 93_784_000, "now_at_ms": 1_000_000 + second * 1000, "draining": false,
        "confirm_within_ms": null, "open": 1234, "accepted": 9000 + 50 * second,
        "bytes_up": 1_000_000 * second, "bytes_down": 25_000_000 * second,
        "requests": { "2xx": 100 * second, "5xx": 5 * second },
        "ended": { "client-finished": 40 * second, "connect-refused": 2 * second }, "requests_ended": { "answered": 100 * second },
        "process": { "descriptors": { "open": 88, "max": 1024 }, "memory": { "used": 12_345_678, "max": null },
            "workers": [{ "number": 0, "busy": 0.25, "delay_ms": { "p50": null, "p99": 1.5 } }, { "busy": 0.35 }],
            "panics": 0, "stalls": 2, "log_lines_lost": { "access": 7, "diagnostics": 0 } },
        "listeners": [
            { "name": "http.web", "kind": "http", "addresses": ["0.0.0.0:443"], "open": 1200, "accepted": 50 * second,
              "requests": { "2xx": 100 * second }, "ended": { "connect-refused": 2 * second }, "latency": latency(90 * second, 10 * second) },
            { "name": "tcp.db", "kind": "tcp", "addresses": ["127.0.0.1:5432"], "open": 34, "accepted": 3 * second },
        ],
        "upstreams": [of_api, db],
    })
}

fn readings() -> Readings {
    let mut readings = Readings::default();
    for second in 0..=5 {
        readings.take(serde_json::from_value(state(second)).unwrap());
    }
    readings
}

fn connections() -> Connections {
    serde_json::from_value(json!({ "matching": 1234, "connections": [
        { "id": "0/77", "listener": "http.web", "client": "192.0.2.7:41926", "kind": "http/1", "state": "answering",
          "upstream": "api", "backend": "10.0.0.1:8080", "open_ms": 65_000, "bytes_up": 10, "bytes_down": 5_000_000 },
        { "id": "1/3", "listener": "tcp.db", "client": "[2001:db8::7]:5", "state": "relaying" },
    ] }))
    .unwrap()
}

const PLAIN: Look = Look { color: false, blocks: false };

fn drawn(view: &View, (width, height): (u16, u16), look: Look) -> Buffer {
    let (readings, open) = (readings(), connections());
    let picture = Picture { readings: &readings, view, open: &open, silent: None, look };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(picture, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    };
    buffer.content.chunks(width).map(line).collect()
}

fn press(view: &mut View, text: &str) -> Act {
    let (readings, open) = (readings(), connections());
    let acts = keys(text.as_bytes()).into_iter();
    let mut acts = acts.map(|key| view.press(key, &readings, &open.connections));
    let last = acts.by_ref().last();
    last.unwrap_or(Act::Nothing)
}

#[test]
fn eighty_by_twenty_four_holds_everything() {
    let rows = rows(&drawn(&View::default(), (80, 24), PLAIN));
    let expected = [
        "evenkeel 0.1.0 4711, up 1d2h",
        "open 1234  conn/s 50  req/s 105  fail/s 2.0  in 1.0MB/s  out 25MB/s",
        "busy 30%  late 1.5ms  mem 12MB  fds 88/1024  2 stalls  7 log lines lost",
        "LISTENER             ADDRESS      OPEN RATE/S FAIL/S    P50    P99   IN/S  OUT/S",
        "http.web             0.0.0.0:4~   1200    100    2.0  556us   90ms     0B     0B",
        "tcp.db               127.0.0.1~     34    3.0      0      -      -     0B     0B",
        "",
        "UPSTREAM/BACKEND     STATE        OPEN RATE/S FAIL/S    P50    P99   IN/S  OUT/S",
        "api                  1/2 up",
        "  10.0.0.1:8080      healthy         2    100      0  500us  990us   10kB  200kB",
        "  10.0.0.2:8080      ejected         5     20    5.0  1.0ms   98ms  2.0kB   40kB",
        "db                   0/1 up",
        "  [2001:db8::12]:54~ drained         4      0      0      -      -     0B     0B",
    ];
    for (row, expected) in rows.iter().zip(expected) {
        assert!(row.starts_with(expected), "\n{row}\n{expected}\nin\n{}", rows.join("\n"));
    }
    assert!(rows[23].contains("q quit") && rows[23].contains("s sort:config"), "{}", rows[23]);
}

#[test]
fn a_wide_window_has_room_for_reasons_and_pictures() {
    let text = rows(&drawn(&View::default(), (160, 40), PLAIN)).join("\n");
    for words in
        ["drained by root", "least-connections, 3 of 100 wait", "  req ", "[2001:db8::12]:5432"]
    {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    let blocks = Look { color: false, blocks: true };
    assert!(rows(&drawn(&View::default(), (160, 40), blocks)).join("\n").contains('█'));
    assert!(text.is_ascii(), "a terminal without UTF-8 is sent none");
}

#[test]
fn every_size_of_window_can_be_drawn() {
    let mut views = vec![View::default()];
    for page in [Page::Reasons, Page::Connections] {
        views.push(View { page, ..View::default() });
    }
    views.push(View { shows_help: true, picked: 99, ..View::default() });
    views.push(View { asked: Some(Order::Close("7".to_owned())), ..View::default() });
    for view in &views {
        for width in [1, 20, 40, 41, 55, 56, 71, 72, 80, 120, 300] {
            for height in [1, 5, 10, 11, 12, 24, 100] {
                drawn(view, (width, height), PLAIN);
            }
        }
    }
    let narrow = rows(&drawn(&View::default(), (40, 12), PLAIN)).join("\n");
    assert!(narrow.contains("10.0.0.1") && narrow.contains("healthy"), "{narrow}");
}

#[test]
fn without_colors_no_cell_has_one_and_a_failed_backend_is_told_in_words() {
    let plain = drawn(&View::default(), (80, 24), PLAIN);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let colored = drawn(&View::default(), (80, 24), Look { color: true, blocks: false });
    assert!(colored.content.iter().any(|cell| cell.fg == Color::Red));
    assert_eq!(rows(&plain), rows(&colored));
}

#[test]
fn keys_sort_and_filter() {
    let mut view = View::default();
    press(&mut view, "sss");
    assert_eq!(view.sort, Sort::Errors);
    let names = |view: &View| -> Vec<String> {
        view.rows(&readings()).into_iter().map(|row| row.name).collect()
    };
    assert_eq!(names(&view)[0], "10.0.0.2:8080", "the most failures first");
    press(&mut view, "ss/db\r");
    assert_eq!(
        (view.sort, names(&view)),
        (Sort::Config, vec!["db".to_owned(), "[2001:db8::12]:5432".to_owned()])
    );
    press(&mut view, "/q\x7fx\r");
    assert!(rows(&drawn(&view, (80, 24), PLAIN)).join("\n").contains("nothing is of that name"));
    assert_eq!(press(&mut view, "\x1b"), Act::Nothing, "it ends the filter");
    assert_eq!(names(&view).len(), 5);
    assert_eq!(press(&mut view, "q"), Act::End);
}

#[test]
fn nothing_is_ordered_before_the_answer_is_yes() {
    let order = |letter: &str| {
        let mut view = View::default();
        press(&mut view, &format!("\x1b[Bj\x1b[A{letter}"));
        let asked = rows(&drawn(&view, (80, 24), PLAIN)).join("\n");
        assert!(asked.contains("api/10.0.0.2:8080"), "{asked}");
        // Only yes is yes, and only once.
        let mut other = View { asked: view.asked.clone(), ..View::default() };
        assert_eq!(press(&mut other, "d"), Act::Nothing);
        assert_eq!(press(&mut other, "y"), Act::Nothing);
        press(&mut view, "y")
    };
    let (upstream, backend) = ("api".to_owned(), "10.0.0.2:8080".to_owned());
    let (one, other) = (upstream.clone(), backend.clone());
    assert_eq!(order("d"), Act::Order(Order::Drain { upstream: one, backend: other }));
    let (one, other) = (upstream.clone(), backend.clone());
    assert_eq!(order("r"), Act::Order(Order::Ready { upstream: one, backend: other }));
    assert_eq!(order("x"), Act::Order(Order::Down { upstream, backend }));
    let mut view = View::default();
    press(&mut view, "3jx");
    assert_eq!(press(&mut view, "y"), Act::Order(Order::Close("1/3".to_owned())));
}

#[test]
fn what_is_picked_stays_in_sight() {
    let mut view = View::default();
    press(&mut view, "jjjjjjjj");
    let buffer = drawn(&view, (80, 11), PLAIN);
    let picked =
        buffer.content.chunks(80).position(|row| row[0].modifier.contains(Modifier::REVERSED));
    let rows = rows(&buffer);
    assert!(rows[picked.expect("in sight")].contains("2001:db8"), "{}", rows.join("\n"));
}

#[test]
fn reasons_and_connections_have_pages_of_their_own() {
    let of = |page| rows(&drawn(&View { page, ..View::default() }, (80, 24), PLAIN));
    let reasons = of(Page::Reasons);
    assert_eq!(reasons[4], "answered                         100          500");
    assert!(reasons.iter().any(|row| row.starts_with("connect-refused                  2.0")));
    let connections = of(Page::Connections);
    assert!(
        connections[4].starts_with(
            "192.0.2.7:41926       http.web     1m5s    10B  5.0MB answering 10.0.0.1:8080"
        ),
        "{}",
        connections[4]
    );
    assert!(connections.iter().any(|row| row.starts_with("2 of 1234 open")));
}

#[test]
fn keys_are_read_from_what_terminals_send() {
    let read = keys(b"j\x1b[A\x1bOB\x1b[15~\x1b[5~q\r\x7f\x03");
    let expected = [
        Key::Char('j'),
        Key::Up,
        Key::Down,
        Key::Char('q'),
        Key::Enter,
        Key::Backspace,
        Key::Char('q'),
    ];
    assert_eq!(read, expected);
    assert_eq!(keys(b"\x1b"), [Key::Escape]);
    assert_eq!(keys(b"\x1b["), [], "a sequence that is cut short");
}

#[test]
fn one_picture_as_text_ends_with_its_last_line() {
    let (readings, view, open) = (readings(), View::default(), Connections::default());
    let picture =
        Picture { readings: &readings, view: &view, open: &open, silent: None, look: PLAIN };
    let text = as_text(picture, 80, 60);
    assert!(text.starts_with("evenkeel 0.1.0") && text.ends_with("0B"), "{text}");
    assert!(!text.contains("q quit"), "{text}");
}
