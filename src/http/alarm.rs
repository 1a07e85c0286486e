//! One timer for all the time limits of a connection, set anew only when a limit comes sooner than it is set for.
//! Requests move their limits all the time, nearly always further away; that must cost nothing.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep};

/// A timer that follows a moving deadline.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<(Pin<Box<Sleep>>, bool)>,
}

impl Alarm {
    /// For somebody else to go on with: a timer that runs already costs less than a new one.
    pub(super) fn passed_on(mut self) -> Alarm {
        // It wakes whoever had it until it is asked again.
        if let Some((_, is_set)) = &mut self.sleep {
            *is_set = false;
        }
        self
    }

    /// Whether `due` is over; if not, the task of `cx` is woken at that time or before.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> bool {
        let Some(due) = due else { return false };
        let (sleep, is_set) =
            self.sleep.get_or_insert_with(|| (Box::pin(tokio::time::sleep_until(due)), false));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
            *is_set = false;
        }
        // A timer that runs wakes this task by itself, and says so once it is over.
        if *is_set && !sleep.is_elapsed() {
            return false;
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                *is_set = false;
                return true;
            }
            sleep.as_mut().reset(due);
        }
        *is_set = true;
        false
    }
}
