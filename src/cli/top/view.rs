//! What somebody at the keys is looking at, and what a key does: it moves, sorts and filters here, and is an order to the process only
//! after a question was answered with yes.

use super::connections::Connection;
use super::reading::{Readings, Row};

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Page {
    /// Listeners, upstreams and backends.
    #[default]
    Traffic,
    /// Why connections and requests ended.
    Reasons,
    Connections,
}

/// What rows are in order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// As the config has them, backends below their upstreams.
    #[default]
    Config,
    Open,
    Rate,
    Errors,
    /// The slowest first.
    Time,
}

impl Sort {
    pub(super) fn word(self) -> &'static str {
        match self {
            Sort::Config => "config",
            Sort::Open => "open",
            Sort::Rate => "rate",
            Sort::Errors => "errors",
            Sort::Time => "p99",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Config => Sort::Open,
            Sort::Open => Sort::Rate,
            Sort::Rate => Sort::Errors,
            Sort::Errors => Sort::Time,
            Sort::Time => Sort::Config,
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
}

/// What the process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Drain {
        upstream: String,
        backend: String,
    },
    Ready {
        upstream: String,
        backend: String,
    },
    Down {
        upstream: String,
        backend: String,
    },
    /// By its id.
    Close(String),
}

impl Order {
    /// The question that comes before it.
    pub(super) fn question(&self) -> String {
        match self {
            Order::Drain { upstream, backend } => {
                format!("Drain {upstream}/{backend}? It gets nothing new, and what is open ends.")
            }
            Order::Ready { upstream, backend } => {
                format!("Take {upstream}/{backend} back into rotation?")
            }
            Order::Down { upstream, backend } => {
                format!("Treat {upstream}/{backend} as failed, at once?")
            }
            Order::Close(id) => format!("Close connection {id} now?"),
        }
    }
}

/// What a key came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    End,
    Order(Order),
}

/// What somebody is looking at.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) page: Page,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) shows_help: bool,
    /// Which of the lines that can be picked.
    pub(super) picked: usize,
    pub(super) asked: Option<Order>,
    /// What came of the last order.
    pub(super) said: Option<String>,
}

/// The longest filter.
const FILTER_MAX: usize = 40;

impl View {
    /// The lines of upstreams and backends, in order. Those that can be picked are backends.
    pub(super) fn rows(&self, readings: &Readings) -> Vec<Row> {
        let mut backends = readings.backends();
        backends.retain(|row| self.takes(&[&row.name, row.within.as_deref().unwrap_or("")]));
        if self.sort != Sort::Config {
            let by = |row: &Row| match self.sort {
                Sort::Config => 0.0,
                Sort::Open => row.open as f64,
                Sort::Rate => row.rate,
                Sort::Errors => row.errors,
                Sort::Time => row.p99.unwrap_or(-1.0),
            };
            backends.sort_by(|one, other| by(other).total_cmp(&by(one)));
            return backends;
        }
        let mut rows = Vec::new();
        for upstream in readings.upstreams() {
            let of = |row: &&Row| row.within.as_deref() == Some(&upstream.name);
            let own: Vec<_> = backends.iter().filter(of).cloned().collect();
            if !own.is_empty() || self.takes(&[&upstream.name]) {
                rows.push(upstream);
                rows.extend(own);
            }
        }
        rows
    }

    /// Whether a line with these words is to be seen.
    pub(super) fn takes(&self, words: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        words.iter().any(|word| word.to_lowercase().contains(&filter))
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key, readings: &Readings, open: &[Connection]) -> Act {
        if let Some(order) = self.asked.take() {
            return match key {
                Key::Char('y' | 'Y') => Act::Order(order),
                _ => Act::Nothing,
            };
        }
        if self.is_typing {
            self.type_filter(key);
            return Act::Nothing;
        }
        if std::mem::take(&mut self.shows_help) {
            return Act::Nothing;
        }
        self.said = None;
        match key {
            Key::Char('q') => return Act::End,
            Key::Escape if self.filter.is_empty() => return Act::End,
            Key::Escape => self.filter.clear(),
            Key::Char('1') => self.turn_to(Page::Traffic),
            Key::Char('2') => self.turn_to(Page::Reasons),
            Key::Char('3') | Key::Char('c') => self.turn_to(Page::Connections),
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('/') => self.is_typing = true,
            Key::Char(' ') | Key::Char('p') => self.is_paused = !self.is_paused,
            Key::Char('?') | Key::Char('h') => self.shows_help = true,
            Key::Up | Key::Char('k') => self.picked = self.picked.saturating_sub(1),
            Key::Down | Key::Char('j') => self.picked += 1,
            Key::Char(letter @ ('d' | 'r' | 'x')) => self.ask(letter, readings, open),
            Key::Char(_) | Key::Enter | Key::Backspace => {}
        }
        let most = self.pickable(readings, open).saturating_sub(1);
        self.picked = self.picked.min(most);
        Act::Nothing
    }

    fn turn_to(&mut self, page: Page) {
        (self.page, self.picked) = (page, 0);
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(letter) if self.filter.len() < FILTER_MAX && !letter.is_control() => {
                self.filter.push(letter);
            }
            Key::Char(_) | Key::Up | Key::Down => {}
        }
        self.picked = 0;
    }

    fn pickable(&self, readings: &Readings, open: &[Connection]) -> usize {
        match self.page {
            Page::Traffic => self.rows(readings).iter().filter(|row| row.within.is_some()).count(),
            Page::Reasons => 0,
            Page::Connections => self.connections(open).len(),
        }
    }

    /// Connections that are to be seen.
    pub(super) fn connections<'c>(&self, open: &'c [Connection]) -> Vec<&'c Connection> {
        open.iter().filter(|it| self.takes(&it.words())).collect()
    }

    fn ask(&mut self, letter: char, readings: &Readings, open: &[Connection]) {
        if self.page == Page::Connections {
            let picked = self.connections(open).get(self.picked).map(|it| it.id.clone());
            self.asked = picked.filter(|_| letter == 'x').map(Order::Close);
            return;
        }
        if self.page != Page::Traffic {
            return;
        }
        let rows = self.rows(readings);
        let picked = rows.into_iter().filter(|row| row.within.is_some()).nth(self.picked);
        let Some(Row { name: backend, within: Some(upstream), .. }) = picked else { return };
        self.asked = Some(match letter {
            'd' => Order::Drain { upstream, backend },
            'r' => Order::Ready { upstream, backend },
            _ => Order::Down { upstream, backend },
        });
    }
}

/// The keys that bytes from a terminal stand for. What other keys send is passed over.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        rest = more;
        match (first, more) {
            (27, [b'[' | b'O', after @ ..]) => {
                let end = after.iter().position(|byte| byte.is_ascii_alphabetic() || *byte == b'~');
                match end.map(|end| (end, after[end])) {
                    Some((0, b'A')) => keys.push(Key::Up),
                    Some((0, b'B')) => keys.push(Key::Down),
                    _ => {}
                }
                rest = end.map_or(&[], |end| &after[end + 1..]);
            }
            (27, _) => keys.push(Key::Escape),
            // Of Control and C or D.
            (3 | 4, _) => keys.push(Key::Char('q')),
            (b'\r' | b'\n', _) => keys.push(Key::Enter),
            (8 | 127, _) => keys.push(Key::Backspace),
            (32..=126, _) => keys.push(Key::Char(char::from(*first))),
            _ => {}
        }
    }
    keys
}
