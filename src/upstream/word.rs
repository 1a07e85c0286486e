//! What an operator has said of backends while the process runs: drained, down, another weight. It outlives configs, for as long
//! as they have the backend, and it must never be asked for by a pick: it becomes part of the line-up, as weights are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Backend, BackendAddress, EntryPlace, Upstream};

/// Words kept of one upstream. More can only come of names whose addresses change all the time.
const KEPT_MAX: usize = 4096;

/// Which state an operator wishes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// As if nothing had been said.
    Ready,
    /// It takes nothing new; what is open goes on.
    Drained,
    /// As if it had failed; its checks are not believed.
    Down,
}

/// What was said of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Word {
    pub(crate) said: Option<Said>,
    /// In place of the configured one.
    pub(crate) weight: Option<u32>,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saying {
    Be(Said),
    /// Have this weight; none is the one of the config.
    Weigh(Option<u32>),
}

/// Everything that was said of one upstream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WordsPast", into = "WordsPast")]
pub(crate) struct Words {
    /// Of all that nothing else was said of, also of those that come later.
    all: Option<Said>,
    each: HashMap<BackendAddress, Word>,
}

/// The same as another process is told of it, as a list.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WordsPast {
    #[serde(default)]
    all: Option<Said>,
    #[serde(default)]
    each: Vec<(BackendAddress, Word)>,
}

impl From<WordsPast> for Words {
    fn from(past: WordsPast) -> Words {
        Words { all: past.all, each: past.each.into_iter().collect() }
    }
}

impl From<Words> for WordsPast {
    fn from(words: Words) -> WordsPast {
        WordsPast { all: words.all, each: words.each.into_iter().collect() }
    }
}

/// Why something cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// No backend is called so; these are.
    Unknown(Vec<Arc<str>>),
    TooMany,
}

impl Word {
    fn is_nothing(&self) -> bool {
        *self == Word::default()
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.said {
            Some(Said::Drained) => "drained",
            Some(Said::Down) => "down",
            Some(Said::Ready) | None => "",
        };
        match self.weight {
            Some(weight) if said.is_empty() => write!(f, "weight {weight}"),
            Some(weight) => write!(f, "{said}, weight {weight}"),
            None => f.write_str(said),
        }
    }
}

impl Words {
    /// What holds for a backend; that it is to be ready is as if nothing had been said.
    pub(super) fn of(&self, address: &BackendAddress) -> Word {
        let word = self.each.get(address).copied().unwrap_or_default();
        let said = word.said.or(self.all).filter(|said| *said != Said::Ready);
        Word { said, weight: word.weight }
    }

    fn say_of_all(&mut self, saying: Saying, backends: &[Arc<Backend>]) {
        match saying {
            Saying::Be(said) => {
                self.all = Some(said).filter(|said| *said != Said::Ready);
                self.each.values_mut().for_each(|word| word.said = None);
            }
            Saying::Weigh(weight) => {
                for backend in backends {
                    self.each.entry(backend.address.clone()).or_default().weight = weight;
                }
            }
        }
        self.each.retain(|_, word| !word.is_nothing());
    }

    fn say_of(&mut self, saying: Saying, backend: &Backend) {
        let word = self.each.entry(backend.address.clone()).or_default();
        match saying {
            // Only where all others were told something else has it to be kept.
            Saying::Be(Said::Ready) => word.said = self.all.map(|_| Said::Ready),
            Saying::Be(said) => word.said = Some(said),
            Saying::Weigh(weight) => word.weight = weight,
        }
        self.each.retain(|_, word| !word.is_nothing());
    }
}

impl Upstream {
    /// Says something of a backend, or of all of them, and has it in force when this returns. Only for the control thread.
    ///
    /// A backend is called by its address, or by its name in the config: then each address behind that is meant.
    pub(crate) fn say(
        self: &Arc<Self>,
        backend: Option<&str>,
        saying: Saying,
    ) -> Result<Vec<Arc<Backend>>, Unsaid> {
        let all = self.backends();
        let is_meant = |known: &&Arc<Backend>| {
            backend.is_none_or(|name| *known.name == *name || *known.authority == *name)
        };
        let meant: Vec<_> = all.iter().filter(is_meant).cloned().collect();
        if backend.is_some() && meant.is_empty() {
            return Err(Unsaid::Unknown(all.iter().map(|known| Arc::clone(&known.name)).collect()));
        }
        {
            let mut words = self.words();
            if words.each.len() + meant.len() > KEPT_MAX {
                words.each.retain(|address, _| all.iter().any(|known| known.address == *address));
                if words.each.len() + meant.len() > KEPT_MAX {
                    return Err(Unsaid::TooMany);
                }
            }
            match backend {
                None => words.say_of_all(saying, &meant),
                Some(_) => meant.iter().for_each(|backend| words.say_of(saying, backend)),
            }
            // Most likely it was started anew meanwhile.
            let is_back = |backend: &&Arc<Backend>| {
                backend.word.said.is_some() && words.of(&backend.address).said.is_none()
            };
            let now = self.now();
            meant.iter().filter(is_back).for_each(|backend| backend.verdict().put_back(now));
        }
        self.line_up_anew();
        let now = self.backends().into_iter();
        Ok(now.filter(|known| meant.iter().any(|backend| backend.is(known))).collect())
    }

    /// Everything that was said of it.
    pub(crate) fn said(&self) -> Words {
        self.words().clone()
    }

    /// Has everything said again that was said of one which it comes after. Only for the control thread.
    pub(crate) fn say_again(self: &Arc<Self>, words: Words) {
        *self.words() = words;
        self.line_up_anew();
    }

    /// Forgets what was said of backends that are not in the config any more.
    pub(crate) fn forget_words_of_others(&self) {
        // Behind a name, any address may come back.
        let named = |place: &EntryPlace| matches!(place, EntryPlace::Named { .. });
        if self.rules.entries.iter().any(|entry| named(&entry.place)) {
            return;
        }
        let backends = self.backends();
        let mut words = self.words();
        words.each.retain(|address, _| backends.iter().any(|known| known.address == *address));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, named, picked, resolve, upstream};
    use super::*;

    #[test]
    fn who_comes_later_to_a_drained_upstream_is_drained_and_one_may_be_ready_alone() {
        let upstream = upstream(vec![named("app.test", false)]);
        resolve(&upstream, &[&[1]]);
        assert_eq!(upstream.say(None, Saying::Be(Said::Drained)).unwrap().len(), 1);
        resolve(&upstream, &[&[1, 2]]);
        assert!(upstream.backends().iter().all(|backend| backend.weight == 0));
        upstream.say(Some("192.0.2.2:5432"), Saying::Be(Said::Ready)).unwrap();
        assert_eq!(picked(&upstream), address(2).to_string());
        upstream.say(None, Saying::Be(Said::Ready)).unwrap();
        assert_eq!(upstream.said(), Words::default());
    }

    #[test]
    fn who_is_ready_again_starts_slowly_where_that_is_wished_for() {
        let mut rules = upstream(vec![named("app.test", false)]).rules.clone();
        rules.verdict.slow_start = std::time::Duration::from_secs(3600);
        let upstream = Upstream::new(rules, None, None).unwrap();
        resolve(&upstream, &[&[1, 2]]);
        let picks = || (0..100).filter(|_| picked(&upstream) == address(1).to_string()).count();
        assert_eq!(picks(), 50);
        let one = Some("192.0.2.1:5432");
        upstream.say(one, Saying::Weigh(Some(1))).unwrap();
        assert_eq!(picks(), 50);
        upstream.say(one, Saying::Be(Said::Drained)).unwrap();
        assert_eq!(picks(), 0);
        upstream.say(one, Saying::Be(Said::Ready)).unwrap();
        assert!((0..5).contains(&picks()));
    }

    #[test]
    fn what_was_said_of_an_address_holds_when_its_name_loses_it_for_a_while() {
        let upstream = upstream(vec![named("app.test", false)]);
        resolve(&upstream, &[&[1, 2]]);
        // By its name, each address behind that.
        assert_eq!(upstream.say(Some("app.test:5432"), Saying::Weigh(Some(3))).unwrap().len(), 2);
        upstream.say(Some("192.0.2.1:5432"), Saying::Be(Said::Down)).unwrap();
        resolve(&upstream, &[&[2]]);
        resolve(&upstream, &[&[1, 2]]);
        assert_eq!(picked(&upstream), address(2).to_string());
        let words: Vec<_> =
            upstream.backends().iter().map(|backend| backend.word.to_string()).collect();
        assert_eq!(words, ["down, weight 3", "weight 3"]);
        let unknown = upstream.say(Some("192.0.2.9:5432"), Saying::Weigh(None)).unwrap_err();
        assert!(matches!(unknown, Unsaid::Unknown(known) if known.len() == 2));
    }
}
