//! One picture of `evenkeel top`, computed from readings and a view alone. Everything is said in words and numbers; colors and blocks only
//! make it faster to see, and a small window loses the columns that are least needed.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Widget, Wrap};

use super::connections::Connections;
use super::reading::{Readings, Row};
use super::view::{Page, View};
use crate::cli::demo::draw::Look;

/// Less than this cannot show even one backend.
const SMALLEST: (u16, u16) = (40, 10);

/// All that is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture<'p> {
    pub(super) readings: &'p Readings,
    pub(super) view: &'p View,
    pub(super) open: &'p Connections,
    /// Why there is no newer reading.
    pub(super) silent: Option<&'p str>,
    pub(super) look: Look,
}

/// Draws everything.
pub(super) fn draw(picture: Picture<'_>, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        Paragraph::new("evenkeel top: enlarge the window; q quits").render(area, buffer);
        return;
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0), Constraint::Length(1)])
            .areas(area);
    Paragraph::new(header(picture, area.width)).render(head, buffer);
    match picture.view.page {
        Page::Traffic => traffic(picture, body, buffer),
        Page::Reasons => reasons(picture, body, buffer),
        Page::Connections => connections(picture, body, buffer),
    }
    Paragraph::new(footer(picture)).render(foot, buffer);
    if picture.view.shows_help {
        over(&HELP, area, buffer);
    }
    if let Some(order) = &picture.view.asked {
        over(&[&order.question(), "", "y  yes     any other key  no"], area, buffer);
    }
}

/// How many rows all of it takes.
pub(super) fn height(readings: &Readings, view: &View) -> u16 {
    let rows = readings.listeners().len() + view.rows(readings).len();
    u16::try_from(rows + 7).unwrap_or(u16::MAX)
}

const HELP: [&str; 12] = [
    "1  listeners, upstreams, backends",
    "2  why connections and requests ended",
    "3  open connections, the largest first",
    "j k or arrows  pick a line",
    "s  sort by config, open, rate, errors, p99",
    "/  filter by name or address; Escape ends it",
    "d  drain the backend     r  take it back",
    "x  treat it as failed; on page 3: close",
    "p  pause the picture",
    "q  quit",
    "",
    "any key goes back",
];

fn strong(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

fn header(picture: Picture<'_>, width: u16) -> Vec<Line<'static>> {
    let Picture { readings, look, .. } = picture;
    let (state, sums) = (&readings.now, readings.sums());
    let mut first = vec![
        strong(format!("evenkeel {}", state.version)),
        format!(" {}, up {}", state.pid, age(state.uptime_ms)).into(),
    ];
    if let Some(why) = picture.silent {
        first.push(Span::styled(format!("  NO ANSWER: {why}"), bad(look)));
    } else if state.draining {
        first.push(Span::styled("  draining", uneasy(look)));
    } else if let Some(left) = state.confirm_within_ms {
        first.push(Span::styled(format!("  goes back in {}", age(left)), uneasy(look)));
    }
    if picture.view.is_paused {
        first.push(Span::styled("  paused", uneasy(look)));
    }
    let mut second = format!(
        "open {}  conn/s {}  req/s {}",
        state.open,
        number(sums.accepted),
        number(sums.requests)
    );
    let rest = [
        format!("  fail/s {}", number(sums.errors)),
        format!("  in {}/s  out {}/s", bytes(sums.up), bytes(sums.down)),
    ];
    for part in rest {
        if second.chars().count() + part.chars().count() <= usize::from(width) {
            second += &part;
        }
    }
    vec![first.into(), second.into(), third(picture, width)]
}

/// What the process itself uses, and small pictures of the last minutes.
fn third(picture: Picture<'_>, width: u16) -> Line<'static> {
    let Picture { readings, look, .. } = picture;
    let process = &readings.now.process;
    let busy: Vec<f64> = process.workers.iter().filter_map(|worker| worker.busy).collect();
    let delays = process.workers.iter().filter_map(|worker| worker.delay_ms.p99);
    let mut parts = Vec::new();
    if !busy.is_empty() {
        let mean = busy.iter().sum::<f64>() / busy.len() as f64;
        parts.push(format!("busy {:.0}%", mean * 100.0));
    }
    if let Some(delay) = delays.reduce(f64::max) {
        parts.push(format!("late {}", millis(Some(delay))));
    }
    if let Some(used) = process.memory.used {
        parts.push(format!("mem {}", bytes(used as f64)));
    }
    if let (Some(open), Some(most)) = (process.descriptors.used, process.descriptors.max) {
        parts.push(format!("fds {open}/{most}"));
    }
    let lost: u64 = process.log_lines_lost.values().sum();
    for (count, what) in
        [(process.panics, "panics"), (process.stalls, "stalls"), (lost, "log lines lost")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let mut text = parts.join("  ");
    let room = usize::from(width).saturating_sub(text.chars().count());
    // Two pictures side by side, if there is room for both.
    let columns = (room / 2).saturating_sub("  fail ".len()).min(60);
    if columns >= 6 {
        let requests = readings.history(columns, |sums| sums.requests.max(sums.accepted));
        let failures = readings.history(columns, |sums| sums.errors);
        for (name, values) in [("req", requests), ("fail", failures)] {
            let drawn = small_picture(&values, look.blocks);
            text += &format!("  {name} {drawn:<columns$}");
        }
    }
    text.into()
}

/// Values as blocks of eight heights, or as signs where the terminal has no blocks. The largest is the highest.
fn small_picture(values: &[f64], has_blocks: bool) -> String {
    let steps: &[char] = match has_blocks {
        true => &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        false => &[' ', '.', ':', '-', '=', '+', '*', '#', '@'],
    };
    let most = values.iter().copied().fold(0.0, f64::max);
    let step = |value: &f64| match *value > 0.0 {
        true => steps[(1.0 + value / most * 7.0).round() as usize],
        false => steps[0],
    };
    values.iter().map(step).collect()
}

/// Columns beside the name, as far as there is room: the first are the most needed.
fn columns(width: u16) -> usize {
    // An address of IPv4, the state and two numbers fit into 40.
    match width {
        0..=55 => 2,
        56..=71 => 5,
        _ => 7,
    }
}

const TITLES: [&str; 7] = ["OPEN", "RATE/S", "FAIL/S", "P50", "P99", "IN/S", "OUT/S"];
/// How wide a number is, with the space before it.
const NUMBER: usize = 7;
const STATE: usize = 10;

fn cells(name: &str, state: &str, numbers: &[String], width: u16) -> String {
    let shown = columns(width);
    let left = usize::from(width).saturating_sub(shown * NUMBER + STATE + 1);
    // Nobody needs a name that is wider than most are.
    let room = left.clamp(8, 48);
    let mut line = format!("{} {}", fitted(name, room), fitted(state, STATE));
    for number in numbers.iter().take(shown) {
        line += &format!("{:>NUMBER$}", number);
    }
    line
}

/// A text in exactly so many columns; the end of a long one is left out.
fn fitted(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['~']).collect(),
        false => format!("{text:<width$}"),
    }
}

fn numbers(row: &Row) -> [String; 7] {
    [
        row.open.to_string(),
        number(row.rate),
        number(row.errors),
        millis(row.p50),
        millis(row.p99),
        bytes(row.up),
        bytes(row.down),
    ]
}

fn title(name: &str, state: &str, width: u16) -> Line<'static> {
    let text = cells(name, state, &TITLES.map(str::to_owned), width);
    Span::styled(text, Style::new().add_modifier(Modifier::UNDERLINED)).into()
}

fn traffic(picture: Picture<'_>, area: Rect, buffer: &mut Buffer) {
    let Picture { readings, view, look, .. } = picture;
    let mut listeners = readings.listeners();
    listeners.retain(|row| view.takes(&[&row.name, &row.state]) || view.filter.is_empty());
    let most = usize::from(area.height / 3).saturating_sub(1).max(1);
    let hidden = listeners.len().saturating_sub(most);
    let mut lines = vec![title("LISTENER", "ADDRESS", area.width)];
    for row in listeners.iter().take(most) {
        lines.push(line(row, &row.name, area.width, look));
    }
    if hidden > 0 {
        lines.push(format!("  and {hidden} more listeners; filter with /").into());
    }
    lines.push(Line::default());
    lines.push(title("UPSTREAM/BACKEND", "STATE", area.width));
    let room = usize::from(area.height).saturating_sub(lines.len());
    let rows = view.rows(readings);
    let mut drawn = Vec::new();
    let (mut number, mut picked_at) = (0, 0);
    for row in &rows {
        let Some(upstream) = &row.within else {
            let mut whole = line(row, &row.name, area.width, look);
            whole = whole.patch_style(Modifier::BOLD);
            drawn.push(with_more(whole, row, area.width));
            continue;
        };
        let name = match view.sort == super::view::Sort::Config {
            true => format!("  {}", row.name),
            false => format!("{upstream}/{}", row.name),
        };
        let is_picked = number == view.picked;
        number += 1;
        let mut whole = with_more(line(row, &name, area.width, look), row, area.width);
        if is_picked {
            picked_at = drawn.len();
            whole = whole.patch_style(Modifier::REVERSED);
        }
        drawn.push(whole);
    }
    if drawn.is_empty() {
        drawn.push("  nothing is of that name; Escape ends the filter".into());
    }
    // What is picked is always in sight.
    let from = picked_at.saturating_sub(room.saturating_sub(1));
    lines.extend(drawn.into_iter().skip(from));
    Paragraph::new(lines).render(area, buffer);
}

fn line(row: &Row, name: &str, width: u16, look: Look) -> Line<'static> {
    let text = cells(name, &row.state, &numbers(row), width);
    let style = match row.state.as_str() {
        "healthy" => good(look),
        "drained" => uneasy(look),
        "unhealthy" | "ejected" | "down" => bad(look),
        _ => Style::new(),
    };
    Span::styled(text, style).into()
}

/// What more there is to say, where the line has room.
fn with_more(mut line: Line<'static>, row: &Row, width: u16) -> Line<'static> {
    let room = usize::from(width).saturating_sub(line.width() + 2);
    if room >= 8 && !row.more.is_empty() {
        line.push_span(format!("  {}", fitted(&row.more, room).trim_end()));
    }
    line
}

fn reasons(picture: Picture<'_>, area: Rect, buffer: &mut Buffer) {
    let head = format!("{:<24} {:>9} {:>12}", "ENDED BECAUSE", "IN A SECOND", "SO FAR");
    let mut lines =
        vec![Line::from(Span::styled(head, Style::new().add_modifier(Modifier::UNDERLINED)))];
    for (name, rate, sum) in picture.readings.reasons() {
        if picture.view.takes(&[&name]) {
            lines.push(format!("{name:<24} {:>11} {sum:>12}", number(rate)).into());
        }
    }
    lines.push(Line::default());
    lines.push("docs/why-did-it-end.md says of each what it means and what to do".into());
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(area, buffer);
}

fn connections(picture: Picture<'_>, area: Rect, buffer: &mut Buffer) {
    let is_wide = area.width >= 72;
    let cells = |client: &str, listener: &str, backend: &str, rest: [&str; 4]| {
        let [state, age, up, down] = rest;
        let mut text = format!(
            "{} {} {age:>6}{up:>7}{down:>7}",
            fitted(client, 21),
            fitted(listener, if is_wide { 10 } else { 1 })
        );
        if is_wide {
            text += &format!(" {} {backend}", fitted(state, 9));
        }
        text
    };
    let titles = cells("CLIENT", "LISTENER", "BACKEND", ["STATE", "AGE", "IN", "OUT"]);
    let mut lines =
        vec![Line::from(Span::styled(titles, Style::new().add_modifier(Modifier::UNDERLINED)))];
    let all = picture.view.connections(&picture.open.connections);
    let room = usize::from(area.height).saturating_sub(2);
    let from = picture.view.picked.saturating_sub(room.saturating_sub(1));
    for (at, it) in all.iter().enumerate().skip(from).take(room) {
        let rest = [
            it.state.clone(),
            age(it.open_ms),
            bytes(it.bytes_up as f64),
            bytes(it.bytes_down as f64),
        ];
        let rest = rest.each_ref().map(String::as_str);
        let backend = it.backend.as_deref().unwrap_or("-");
        let text = cells(&it.client, &it.listener, backend, rest);
        let is_picked = at == picture.view.picked;
        let style = if is_picked { Modifier::REVERSED } else { Modifier::empty() };
        lines.push(Span::styled(text, style).into());
    }
    let (shown, matching) = (all.len(), picture.open.matching);
    lines.push(match shown {
        0 => "no connection is to be seen".into(),
        _ => format!("{shown} of {matching} open; x closes the one that is picked").into(),
    });
    Paragraph::new(lines).render(area, buffer);
}

fn footer(picture: Picture<'_>) -> Line<'static> {
    let view = picture.view;
    if let Some(said) = &view.said {
        return strong(said.clone()).into();
    }
    if view.is_typing {
        return vec![
            strong("filter: "),
            format!("{}_  Enter keeps it, Escape ends it", view.filter).into(),
        ]
        .into();
    }
    let filter = match view.filter.is_empty() {
        true => "/ filter".to_owned(),
        false => format!("/ \"{}\"", view.filter),
    };
    let sort = view.sort.word();
    format!("q quit  ? help  1 2 3 pages  {filter}  s sort:{sort}  d drain  r ready  p pause")
        .into()
}

/// Lines in a box in the middle of everything.
fn over(lines: &[&str], area: Rect, buffer: &mut Buffer) {
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as u16;
    let width = (widest + 4).min(area.width);
    let rows: u16 =
        lines.iter().map(|line| (line.chars().count() as u16).div_ceil(width - 4).max(1)).sum();
    let height = (rows + 2).min(area.height);
    let place = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    Clear.render(place, buffer);
    let block =
        ratatui::widgets::Block::bordered().padding(ratatui::widgets::Padding::horizontal(1));
    let block = match area.width {
        _ if lines.is_empty() => block,
        _ => block.border_set(PLAIN),
    };
    let text: Vec<_> = lines.iter().map(|line| Line::from((*line).to_owned())).collect();
    Paragraph::new(text).wrap(Wrap { trim: false }).block(block).render(place, buffer);
}

/// A frame that every terminal can show.
const PLAIN: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

fn good(look: Look) -> Style {
    look.of(Color::Green)
}

fn uneasy(look: Look) -> Style {
    look.of(Color::Yellow)
}

fn bad(look: Look) -> Style {
    look.of(Color::Red).add_modifier(Modifier::BOLD)
}

/// A number in six columns at most.
fn number(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 9_999.5 => format!("{value:.0}"),
        value if value < 999_500.0 => format!("{:.0}k", value / 1e3),
        value => format!("{:.1}M", value / 1e6),
    }
}

/// A size in six columns at most, in thousands.
fn bytes(value: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut at) = (value, 0);
    while value >= 999.5 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    match at > 0 && value < 9.95 {
        true => format!("{value:.1}{}", units[at]),
        false => format!("{value:.0}{}", units[at]),
    }
}

/// A time in six columns at most.
fn millis(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 0.995 => format!("{:.0}us", value * 1000.0),
        Some(value) if value < 9.95 => format!("{value:.1}ms"),
        Some(value) if value < 999.5 => format!("{value:.0}ms"),
        Some(value) if value < 99_950.0 => format!("{:.1}s", value / 1000.0),
        Some(value) => format!("{:.0}s", value / 1000.0),
    }
}

/// A time in its two largest units.
fn age(value: u64) -> String {
    crate::cli::status::spoken(value)
}
