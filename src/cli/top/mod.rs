//! `evenkeel top`: the running process, live: listeners, upstreams and backends with their rates, times and errors. It asks what anybody
//! may ask of the admin socket, and gives an order only after a question.

mod connections;
mod draw;
mod reading;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::ask::{Failure, Reach};
use super::demo::draw::Look;
use super::{complain, exit, say};
use crate::config::Time;
use connections::Connections;
use draw::{Picture, draw};
use reading::{Readings, State};
use view::View;

/// Where the process says all of it.
const PATH: &str = "/v1/state";

/// The width where there is no terminal to ask.
const WIDTH: u16 = 80;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Print one picture as text, of one interval, and end.
    #[arg(long)]
    once: bool,
    /// From one reading to the next.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: Time,
}

pub(super) fn top(arguments: Arguments) -> u8 {
    let Arguments { reach, once, every } = arguments;
    let every = every.0.clamp(Duration::from_millis(100), Duration::from_secs(3600));
    let first = match reach.see::<State>(PATH) {
        Ok(answer) if reach.json => {
            say(&answer.text);
            return exit::FINE;
        }
        Ok(answer) => answer.value,
        Err(failure) => return failure.say(reach.json),
    };
    if once || !is_for_screens() {
        return match print(&reach, first, every) {
            Ok(()) => exit::FINE,
            Err(failure) => failure.say(false),
        };
    }
    match screen::show(reach, first, every) {
        Ok(()) => exit::FINE,
        Err(error) => {
            complain(&format!("evenkeel: {error}"));
            exit::NOT_STARTED
        }
    }
}

fn is_for_screens() -> bool {
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    has_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints one picture of what happens in one interval, as high as it has to be.
fn print(reach: &Reach, first: State, every: Duration) -> Result<(), Failure> {
    let (mut readings, view) = (Readings::default(), View::default());
    readings.take(first);
    std::thread::sleep(every);
    readings.take(reach.see::<State>(PATH)?.value);
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size =
        ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
    let width = columns.or(size.map(|(width, _)| width)).unwrap_or(WIDTH).clamp(40, 500);
    let look = Look { color: false, ..Look::of_this_terminal() };
    let open = Connections::default();
    let picture = Picture { readings: &readings, view: &view, open: &open, silent: None, look };
    // Three listeners of ten have room in ten rows; so many have all.
    let height = draw::height(&readings, &view);
    say(&as_text(picture, width, height.saturating_mul(3).min(2000)));
    Ok(())
}

/// A picture as lines of text, without what follows the last line that has any.
fn as_text(picture: Picture<'_>, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(picture, area, &mut buffer);
    let rows = buffer.content.chunks(usize::from(width));
    let line = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.map(line).collect();
    // The last one has the keys, which are of no use on paper.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n")
}
