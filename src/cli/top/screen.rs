//! `evenkeel top` on a terminal: a thread of its own asks the process, so that a process that hangs holds up no key. The terminal is given
//! back on every way out: a key, a signal, an error, a panic.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::connections::{self, Connections};
use super::draw::{Picture, draw};
use super::reading::{Readings, State};
use super::view::{Act, Order, Page, View, keys};
use crate::admin::message::{BackendOrder, Backends};
use crate::cli::ask::{Failure, Reach};
use crate::cli::demo::draw::Look;
use crate::cli::demo::keys::Keys;
use crate::cli::demo::stop::Stop;

/// How soon a key or a signal is seen.
const MOMENT: Duration = Duration::from_millis(50);

/// What the asking thread is told.
enum Errand {
    Order(Order),
    /// Ask for connections too, or no longer.
    Connections(bool),
}

/// What it tells.
enum News {
    State(Box<State>),
    Connections(Connections),
    Silent(String),
    /// What came of an order.
    Said(String),
}

/// Gives the terminal back when it is dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // In a panic, ratatui's hook has done it already, and what was said since must not be written over.
        if !std::thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Shows the process until a key or a signal ends it. `first` is what it has said already.
pub(super) fn show(
    reach: Reach,
    first: State,
    every: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut stop = Stop::on_signals()?;
    let (errands, orders) = channel();
    let (told, news) = channel();
    let reach = Arc::new(reach);
    std::thread::Builder::new()
        .name("top".into())
        .spawn(move || ask(&reach, &orders, &told, every))?;
    let _restore = Restore;
    let mut terminal = ratatui::try_init()?;
    let mut input = Keys::of_this_terminal();
    let look = Look::of_this_terminal();
    let (mut readings, mut view) = (Readings::default(), View::default());
    let (mut open, mut silent) = (Connections::default(), None);
    readings.take(first);
    loop {
        for news in news.try_iter() {
            match news {
                News::Said(said) => view.said = Some(said),
                News::Silent(why) => silent = Some(why),
                _ if view.is_paused => {}
                News::State(state) => {
                    silent = None;
                    readings.take(*state);
                }
                News::Connections(list) => open = list,
            }
        }
        let picture = Picture {
            readings: &readings,
            view: &view,
            open: &open,
            silent: silent.as_deref(),
            look,
        };
        terminal.draw(|frame| draw(picture, frame.area(), frame.buffer_mut()))?;
        // Without a terminal there is nobody to show it to.
        let Ok(bytes) = input.raw_within(MOMENT) else { return Ok(()) };
        if stop.within(Duration::from_millis(1)) {
            return Ok(());
        }
        for key in keys(&bytes) {
            let page = view.page;
            match view.press(key, &readings, &open.connections) {
                Act::End => return Ok(()),
                Act::Order(order) => errands.send(Errand::Order(order))?,
                Act::Nothing => {}
            }
            if view.page != page {
                errands.send(Errand::Connections(view.page == Page::Connections))?;
            }
        }
    }
}

/// Asks again and again, until nobody listens any more.
fn ask(reach: &Reach, orders: &Receiver<Errand>, told: &Sender<News>, every: Duration) {
    let mut with_connections = false;
    let mut next = Instant::now() + every;
    loop {
        let news = match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Errand::Order(order)) => Some(News::Said(obey(reach, &order))),
            Ok(Errand::Connections(wanted)) => {
                with_connections = wanted;
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let is_fine = news.is_none_or(|news| told.send(news).is_ok());
        next = Instant::now() + every;
        let state = match reach.see::<State>(super::PATH) {
            Ok(answer) => News::State(Box::new(answer.value)),
            Err(failure) => News::Silent(why(&failure)),
        };
        if !is_fine || told.send(state).is_err() {
            return;
        }
        if with_connections {
            let _ = told.send(match reach.see::<Connections>(connections::PATH) {
                Ok(answer) => News::Connections(answer.value),
                Err(failure) => News::Said(format!("no list of connections: {}", why(&failure))),
            });
        }
    }
}

/// Gives an order; what came of it, in words.
fn obey(reach: &Reach, order: &Order) -> String {
    let of_backend = |path: &str, upstream: &String, backend: &String, done: &str| {
        let order = BackendOrder {
            upstream: Some(upstream.clone()),
            backend: Some(backend.clone()),
            ..BackendOrder::default()
        };
        match reach.order::<Backends>(path, &order) {
            Ok(_) => format!("{upstream}/{backend} {done}"),
            Err(failure) => format!("not done: {}", why(&failure)),
        }
    };
    match order {
        Order::Drain { upstream, backend } => {
            of_backend("/v1/drain", upstream, backend, "gets nothing new")
        }
        Order::Ready { upstream, backend } => {
            of_backend("/v1/ready", upstream, backend, "is back in rotation")
        }
        Order::Down { upstream, backend } => {
            of_backend("/v1/down", upstream, backend, "counts as failed")
        }
        Order::Close(id) => {
            let id: String = id.bytes().map(encoded).collect();
            match reach.remove::<serde_json::Value>(&format!("/v1/connections/{id}")) {
                Ok(_) => "it is closed".to_owned(),
                Err(failure) => format!("not done: {}", why(&failure)),
            }
        }
    }
}

/// A byte as it may stand in a path.
fn encoded(byte: u8) -> String {
    match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    }
}

/// In one line.
pub(super) fn why(failure: &Failure) -> String {
    let words = match failure {
        Failure::NotReached(what) | Failure::NotUnderstood(what) => what,
        Failure::Refused(refusal) => &refusal.error,
    };
    words.lines().next().unwrap_or_default().to_owned()
}
