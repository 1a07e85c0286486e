//! The last things that the process has said about itself, kept for whoever looks at it from outside: a page does not read log files.
//! It never grows beyond its number and length, whatever is said.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// As many are kept.
const KEPT: usize = 200;

/// As many bytes of each, about.
const LENGTH_MAX: usize = 500;

/// They are few, and said by whoever is not carrying bytes at that moment.
static RECENT: Mutex<VecDeque<Said>> = Mutex::new(VecDeque::new());

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) at: SystemTime,
    /// `error`, `warn` or `info`.
    pub(crate) level: &'static str,
    /// With its fields behind it.
    pub(crate) text: String,
}

/// What was said last, the oldest first.
pub(crate) fn all() -> Vec<Said> {
    recent().iter().cloned().collect()
}

fn recent() -> MutexGuard<'static, VecDeque<Said>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is said from now on.
#[derive(Debug)]
pub(super) struct Remember;

impl<S: Subscriber> Layer<S> for Remember {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let text = words.message + &words.fields;
        let said = Said { at: SystemTime::now(), level, text };
        let mut recent = recent();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(said);
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut into = Bounded(String::new());
        // What is too long is cut off, which is no error here.
        let _ = write!(into, "{value:?}");
        match field.name() {
            "message" => self.message = into.0,
            name if self.fields.len() < LENGTH_MAX => {
                self.fields += &format!(" {name}={}", into.0);
            }
            _ => {}
        }
    }
}

/// A text that takes no more than [`LENGTH_MAX`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = LENGTH_MAX.saturating_sub(self.0.len());
        match more.len() <= room {
            true => self.0.push_str(more),
            false => {
                let end = (0..=room).rev().find(|end| more.is_char_boundary(*end)).unwrap_or(0);
                self.0.push_str(&more[..end]);
                return Err(std::fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn the_last_things_said_are_kept_and_no_more_of_them_than_fits() {
        let subscriber = tracing_subscriber::registry().with(Remember);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("a detail of this test");
            tracing::warn!(backend = %"10.0.0.1:80", "first of this test");
            (0..KEPT + 10).for_each(|number| tracing::info!("{number} of this test"));
            tracing::error!("last of this test {}", "é".repeat(LENGTH_MAX));
        });
        // Other tests may say something meanwhile.
        let kept = all();
        assert_eq!(kept.len(), KEPT);
        let own: Vec<_> = kept.iter().filter(|said| said.text.contains("of this test")).collect();
        assert!(!own[0].text.starts_with("first") && own[0].level == "info");
        let last = own.last().unwrap();
        assert!(last.level == "error" && last.text.starts_with("last of this test éé"));
        assert!(last.text.len() <= LENGTH_MAX);
    }

    #[test]
    fn fields_stand_behind_what_was_said() {
        let subscriber = tracing_subscriber::registry().with(Remember);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(upstream = %"app", count = 3, "is down by fields");
        });
        let kept = all();
        let said = kept.iter().find(|said| said.text.contains("by fields")).unwrap();
        assert_eq!((said.level, &*said.text), ("warn", "is down by fields upstream=app count=3"));
    }
}
