//! One picture of the demo. It is computed from a reading alone, and says everything in words:
//! colours and block characters only make it faster to see.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use super::chronicle::{Event, Tone};
use super::scene::{BackendView, View};
use super::tenths;

/// Less than this cannot show even the backends.
const SMALLEST: (u16, u16) = (40, 10);
/// With so many lines, there is room for what could be left out.
const ROOMY: u16 = 28;
/// Commands that are shown where there is less, and how many lines those take.
const COMMANDS: usize = 4;
const FOR_COMMANDS: u16 = 21;
const FOR_LINK: u16 = 16;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Look {
    pub(in crate::cli) color: bool,
    pub(in crate::cli) blocks: bool,
}

impl Look {
    /// By the environment: `NO_COLOR`, and whether the language is written in UTF-8.
    pub(in crate::cli) fn of_this_terminal() -> Look {
        let language = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        Look {
            color: std::env::var_os("NO_COLOR").is_none(),
            blocks: language.contains("utf-8") || language.contains("utf8"),
        }
    }

    pub(in crate::cli) fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Good => self.of(Color::Green),
            Tone::Neutral => Style::new(),
            Tone::Uneasy => self.of(Color::Yellow),
            Tone::Bad => self.of(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// A backend is drawn in the colour it is named after.
    fn name(self, name: &str) -> Style {
        self.of(match name {
            "blue" => Color::Blue,
            "green" => Color::Green,
            _ => Color::Indexed(208),
        })
    }
}

/// Draws everything.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    view: &View,
    events: &VecDeque<Event>,
    config_shown: bool,
    look: Look,
) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        frame.render_widget(Paragraph::new("Evenkeel demo: enlarge the window; q quits"), area);
        return;
    }
    let backends_rows = 1 + 2 * view.backends.len() as u16;
    // What is least needed has least room when there is little.
    let gap = u16::from(area.height >= ROOMY);
    let tips = tip_lines(view, area.height);
    let ended = ended(view);
    let [head, _, backends, _, ends, middle, keys, below] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(gap),
        Constraint::Length(backends_rows),
        Constraint::Length(gap),
        Constraint::Length(if ended.width() > usize::from(area.width) { 2 } else { 1 }),
        Constraint::Min(0),
        Constraint::Length(2),
        Constraint::Length(tips.len() as u16),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(view)), head);
    frame.render_widget(Paragraph::new(table(view, backends.width, look)), backends);
    frame.render_widget(Paragraph::new(ended).wrap(Wrap { trim: true }), ends);
    frame.render_widget(Paragraph::new(recent(events, middle, look)), middle);
    frame.render_widget(Paragraph::new(key_lines()), keys);
    frame.render_widget(Paragraph::new(tips), below);
    if config_shown {
        show_config(frame, view);
    }
}

fn strong(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

fn header(view: &View) -> Vec<Line<'static>> {
    let pace = if view.paused { "paused".into() } else { format!("{}/s", view.per_second) };
    let visits = view.visits;
    vec![
        Line::from(vec![
            strong("Evenkeel demo"),
            format!(": TCP :{} and HTTP :{} ", view.listen.port(), view.listen_http.port()).into(),
            "over three backends, ".into(),
            strong(view.balance.clone()),
        ]),
        Line::from(vec![
            "TCP  ".into(),
            strong(pace.clone()),
            format!(
                ": {} answered, {} cut off later, {} failed; {} open now",
                visits.answered, visits.cut, visits.failed, view.open
            )
            .into(),
        ]),
        Line::from(vec![
            "HTTP ".into(),
            strong(pace),
            format!(
                ": {}; {} by HTTP/1.1, {} by HTTP/2",
                statuses(view),
                view.answers.http1,
                view.answers.http2
            )
            .into(),
        ]),
    ]
}

/// Requests a second by status; those that nobody sends are left out.
pub(super) fn statuses(view: &View) -> String {
    let all = view.statuses.iter().zip(1..).skip(1);
    let rates = all.filter(|(rate, class)| *class != 3 || **rate > 0.0);
    let rates: Vec<_> = rates.map(|(rate, class)| format!("{class}xx {rate:.0}/s")).collect();
    rates.join(", ")
}

fn table(view: &View, width: u16, look: Look) -> Vec<Line<'static>> {
    let titles =
        row(["", "backend", "address", "state", "open", "total", "failed", "new/s", "req/s"]);
    let mut lines = vec![Line::styled(titles, Modifier::UNDERLINED)];
    for (index, backend) in view.backends.iter().enumerate() {
        lines.push(backend_line(index, backend, look));
        lines.push(share_line(backend, width, look));
    }
    lines
}

/// Where the columns of address, state and numbers begin; the numbers end at 80.
const COLUMNS: [usize; 3] = [10, 26, 49];

fn row(cells: [&str; 9]) -> String {
    let [key, name, address, state, open, total, failed, rate, requests] = cells;
    format!(
        "{key:<2}{name:<8.8}{address:<16.16}{state:<23.23}{open:>5}{total:>7}{failed:>7}{rate:>6}{requests:>6}"
    )
}

fn backend_line(index: usize, backend: &BackendView, look: Look) -> Line<'static> {
    let text = row([
        &(index + 1).to_string(),
        backend.name,
        &backend.address.to_string(),
        &backend.state,
        &backend.open.to_string(),
        &backend.connections.to_string(),
        &backend.failures.to_string(),
        &format!("{:.0}", backend.rate),
        &format!("{:.0}", backend.requests_rate),
    ]);
    // All cells are ASCII, so that a column is a byte.
    let [address, state, numbers] = COLUMNS;
    Line::from(vec![
        Span::styled(text[..address].to_owned(), look.name(backend.name).bold()),
        text[address..state].to_owned().into(),
        Span::styled(text[state..numbers].to_owned(), look.tone(backend.tone)),
        text[numbers..].to_owned().into(),
    ])
}

fn share_line(backend: &BackendView, width: u16, look: Look) -> Line<'static> {
    let words = format!(" {:>3.0} % of new connections", backend.share * 100.0);
    let room = usize::from(width).saturating_sub(2 + words.len());
    let full = ((room as f64 * backend.share).round() as usize).min(room);
    let (done, left) = if look.blocks { ("█", "░") } else { ("#", ".") };
    Line::from(vec![
        "  ".into(),
        Span::styled(done.repeat(full), look.name(backend.name)),
        Span::styled(left.repeat(room - full), Modifier::DIM),
        words.into(),
    ])
}

fn ended(view: &View) -> Line<'static> {
    let ends: Vec<String> = view.ends.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let ends = if ends.is_empty() { "none yet".into() } else { ends.join(", ") };
    Line::from(vec![strong("Ended: "), ends.into()])
}

/// Where the text of an event begins.
const EVENT_INDENT: usize = 10;

fn recent(events: &VecDeque<Event>, area: Rect, look: Look) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(strong("What happened, the latest first:"))];
    if events.is_empty() {
        lines.push("  nothing yet; press 2 to stop green, and 2 again to start it".into());
    }
    let width = usize::from(area.width).saturating_sub(EVENT_INDENT);
    for event in events.iter().rev().take(usize::from(area.height)) {
        let mut time = format!("{:>8}", tenths(event.at));
        for part in broken(&event.text, width) {
            let text = format!("{time:<EVENT_INDENT$}{part}");
            lines.push(Line::styled(text, look.tone(event.tone)));
            time.clear();
        }
    }
    lines
}

/// A text in lines of at most this width, broken at spaces; a longer word stays whole.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn key_lines() -> Vec<Line<'static>> {
    let keys = |pairs: &[(&'static str, &'static str)]| {
        let spans =
            pairs.iter().flat_map(|(key, what)| [strong(*key), format!(" {what}   ").into()]);
        Line::from_iter(spans)
    };
    vec![
        keys(&[("1 2 3", "stop or start a backend"), ("+ -", "more or fewer clients")]),
        keys(&[("p", "pause"), ("b", "next way to balance"), ("c", "the config"), ("q", "quit")]),
    ]
}

/// What else there is to look at: as much of it as a window of this height has room for.
fn tip_lines(view: &View, height: u16) -> Vec<Line<'static>> {
    if height < FOR_LINK {
        return Vec::new();
    }
    let mut commands = if height >= FOR_COMMANDS { COMMANDS } else { 0 };
    if height >= ROOMY {
        commands = view.try_out.len();
    }
    let mut lines = vec![Line::from(vec![strong("Dashboard: "), view.dashboard.clone().into()])];
    if commands > 0 {
        lines.push(
            "Paste into another terminal (there are also ./evenkeel status, top, --help):".into(),
        );
    }
    let commands = view.try_out.iter().take(commands);
    lines.extend(commands.map(|command| Line::from(format!("  {command}"))));
    lines
}

/// The config over everything but the header, so that it can be copied whole.
fn show_config(frame: &mut Frame<'_>, view: &View) {
    let [_, area] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(frame.area());
    let mut lines = vec![
        Line::from(strong("The same as a config file, for `evenkeel run -c FILE` (c: back):")),
        Line::default(),
    ];
    lines.extend(view.toml.lines().map(|line| Line::from(line.to_owned())));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::cli::demo::requests::Answers;
    use crate::cli::demo::setup::local;
    use crate::cli::demo::traffic::Visits;

    const PLAIN: Look = Look { color: false, blocks: false };

    fn view() -> View {
        let backend = |name, port, state: &str, share| BackendView {
            name,
            address: local(port),
            tone: Tone::Bad,
            state: state.into(),
            open: 9_999,
            connections: 999_999,
            failures: 999_999,
            rate: 500.0,
            requests: 999_999,
            requests_rate: 167.0,
            share,
        };
        View {
            now: std::time::Duration::from_secs(1),
            listen: local(65535),
            listen_http: local(65534),
            balance: "least-connections".into(),
            per_second: 500,
            paused: false,
            visits: Visits { answered: 1, cut: 2, failed: 3 },
            answers: Answers { http1: 99_999, http2: 99_998, refused: 1, failed: 2 },
            statuses: [0.0, 475.0, 0.0, 25.0, 500.0],
            open: 4,
            ends: crate::Why::ALL.iter().take(4).map(|why| (why.as_str(), 12_345)).collect(),
            backends: vec![
                backend("blue", 65533, "healthy", 1.0),
                backend("green", 65534, "down 999 s, checks fail", 0.0),
                backend("orange", 65535, "ejected 10 s, it failed", 0.5),
            ],
            toml: "[tcp.demo]".into(),
            dashboard: format!("http://127.0.0.1:65535/#token={}", "f".repeat(32)),
            try_out: vec![
                "cd /tmp/evenkeel.ffff && ./evenkeel explain http http://127.0.0.1:65535/".into(),
                "journal".into(),
                "replay".into(),
                "curl http://127.0.0.1:65534/".into(),
                "status".into(),
                "nc 127.0.0.1 65535".into(),
            ],
        }
    }

    fn picture(width: u16, height: u16, config_shown: bool, look: Look) -> Buffer {
        let event = Event {
            at: std::time::Duration::from_secs(3600),
            tone: Tone::Bad,
            text: "words ".repeat(30),
        };
        let events = VecDeque::from(vec![event; 20]);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view(), &events, config_shown, look)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        cells.chunks(usize::from(buffer.area.width)).map(<[_]>::concat).collect()
    }

    #[test]
    fn eighty_by_twenty_four_holds_everything() {
        let rows = rows(&picture(80, 24, false, PLAIN));
        let text = rows.join("\n");
        for words in [
            "TCP :65535 and HTTP :65534 over three backends, least-connections\n",
            "HTTP 500/s: 2xx 475/s, 4xx 25/s, 5xx 500/s; 99999 by HTTP/1.1, 99998 by HTTP/2",
            "127.0.0.1:65534 down 999 s, checks fail 9999 999999 999999   500   167\n",
            "ejected 10 s, it failed",
            "new/s req/s\n",
            " 50 % of new connections\n",
            "backend-reset  ",
            "\n3600.0 s  words words",
            "q quit",
            "Dashboard: http://127.0.0.1:65535/#token=ffffffffffffffffffffffffffffffff",
            "  cd /tmp/evenkeel.ffff && ./evenkeel explain http http://127.0.0.1:65535/",
            "  replay  ",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(rows[23].starts_with("  curl http://127.0.0.1:65534/"), "{text}");
    }

    #[test]
    fn without_color_no_cell_has_one() {
        let colored = |look| {
            let buffer = picture(80, 24, false, look);
            buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        assert!(!colored(PLAIN));
        assert!(colored(Look { color: true, blocks: true }));
    }

    #[test]
    fn every_size_of_window_can_be_drawn() {
        for width in [1, 2, 39, 40, 53, 60, 80, 81, 200] {
            for height in [1, 2, 9, 10, 15, 19, 20, 22, 24, 60] {
                for config_shown in [false, true] {
                    picture(width, height, config_shown, Look { color: true, blocks: true });
                }
            }
        }
    }
}
