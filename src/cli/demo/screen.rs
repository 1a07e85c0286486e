//! The demo on a terminal: draws a reading ten times a second, obeys keys, and gives the terminal back as it was.
//! It gives it back on every way out: a key, a signal, an error, a panic.

use std::collections::VecDeque;
use std::time::Duration;

use super::chronicle::Event;
use super::draw::{Look, draw};
use super::keys::Keys;
use super::scene::Scene;
use super::stop::Stop;

/// From one picture to the next.
const PICTURE: Duration = Duration::from_millis(100);
/// Long enough for a signal that came meanwhile to be seen.
const MOMENT: Duration = Duration::from_millis(1);
/// Events that are kept to be shown.
const EVENTS_MAX: usize = 100;

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

/// What a key asks for.
enum Wish {
    End,
    Toggle(usize),
    Rate { more: bool },
    Pause,
    Rebalance,
    Config,
    Nothing,
}

/// Shows the demo until a key, a signal or its time ends it.
pub(super) fn show(
    scene: &mut Scene,
    stop: &mut Stop,
    lasts: Option<Duration>,
) -> Result<(), Box<dyn std::error::Error>> {
    let _restore = Restore;
    let mut terminal = ratatui::try_init()?;
    let look = Look::of_this_terminal();
    let mut input = Keys::of_this_terminal();
    let mut events: VecDeque<Event> = VecDeque::new();
    let mut config_shown = false;
    let is_over = |now| lasts.is_some_and(|lasts| now >= lasts);
    while !stop.within(MOMENT) && !is_over(scene.now()) && !scene.is_stopped() {
        events.extend(scene.look());
        while events.len() > EVENTS_MAX {
            events.pop_front();
        }
        let view = scene.view();
        terminal.draw(|frame| draw(frame, &view, &events, config_shown, look))?;
        // Without a terminal there is nobody to show it to.
        let Ok(keys) = input.within(PICTURE) else { return Ok(()) };
        for key in keys {
            match wish(key) {
                Wish::End => return Ok(()),
                Wish::Toggle(index) => scene.toggle(index),
                Wish::Rate { more } => scene.change_rate(more),
                Wish::Pause => scene.pause(),
                Wish::Rebalance => scene.rebalance()?,
                Wish::Config => config_shown = !config_shown,
                Wish::Nothing => {}
            }
        }
    }
    Ok(())
}

const CONTROL_C: u8 = 3;
const CONTROL_D: u8 = 4;
const ESCAPE: u8 = 27;

fn wish(key: u8) -> Wish {
    match key {
        b'q' | CONTROL_C | CONTROL_D | ESCAPE => Wish::End,
        b'1'..=b'3' => Wish::Toggle(usize::from(key - b'1')),
        b'+' | b'=' => Wish::Rate { more: true },
        b'-' | b'_' => Wish::Rate { more: false },
        b'p' | b' ' => Wish::Pause,
        b'b' => Wish::Rebalance,
        b'c' => Wish::Config,
        _ => Wish::Nothing,
    }
}
