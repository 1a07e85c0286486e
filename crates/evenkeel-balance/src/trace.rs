//! The reasons of a pick, for people: each candidate looked at and why it was passed over.
//! The recorder fills it while the same code runs that a plain pick runs.

use std::collections::HashSet;
use std::fmt;

use crate::search::Witness;

/// The candidates that one pick looked at, in the order it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// A member stands here once for being passed over and once for being chosen, at most.
    pub steps: Vec<Step>,
}

/// One candidate and what became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// [`crate::Member::index`].
    pub index: u32,
    /// Why it was passed over, or that it was chosen.
    pub outcome: Outcome,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is the answer; always the last step.
    Chosen,
    /// It was among [`crate::Ask::tried`].
    Tried,
    /// [`crate::Loads::has_room`] said no.
    Full,
    /// It already holds its share under a bounded load; taken after all if nobody else can.
    OverBound {
        /// Connections or requests in flight to it.
        open: u32,
        /// How many the bound allows it.
        bound: u64,
    },
    /// Another member was less loaded, or faster.
    LessLoaded {
        /// What choosing this one would cost: `(open + 1) / weight`, times latency if that counts.
        cost: f64,
        /// The member that was preferred.
        than: u32,
        /// What that one costs.
        than_cost: f64,
    },
    /// As good as the chosen one, but it was the other's turn.
    Tied {
        /// The cost of both.
        cost: f64,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Chosen => write!(f, "chosen"),
            Outcome::Tried => write!(f, "already tried"),
            Outcome::Full => write!(f, "full"),
            Outcome::OverBound { open, bound } => {
                write!(f, "over its bound ({open} open, {bound} allowed)")
            }
            Outcome::LessLoaded { cost, than, than_cost } => {
                write!(f, "{than} is less loaded ({than_cost:.4} against {cost:.4})")
            }
            Outcome::Tied { cost } => write!(f, "as good ({cost:.4}), not its turn"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.index, self.outcome)
    }
}

impl fmt::Display for Trace {
    /// One line: `0: already tried; 2: full; 1: chosen`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(f, "no candidates");
        }
        for (number, step) in self.steps.iter().enumerate() {
            let joint = if number == 0 { "" } else { "; " };
            write!(f, "{joint}{step}")?;
        }
        Ok(())
    }
}

/// The witness of an explanation.
#[derive(Default)]
pub(crate) struct Recorder {
    steps: Vec<Step>,
    seen: HashSet<u32>,
}

impl Recorder {
    pub(crate) fn into_trace(self) -> Trace {
        Trace { steps: self.steps }
    }
}

impl Witness for Recorder {
    const LISTENS: bool = true;

    /// A walk may come by the same member many times; only the first time is told.
    fn note(&mut self, index: u32, outcome: Outcome) {
        if self.seen.insert(index) || outcome == Outcome::Chosen {
            self.steps.push(Step { index, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_reads_as_one_line() {
        let mut recorder = Recorder::default();
        recorder.note(0, Outcome::Tried);
        recorder.note(0, Outcome::Tried);
        recorder.note(2, Outcome::OverBound { open: 3, bound: 2 });
        recorder.note(1, Outcome::LessLoaded { cost: 2.0, than: 2, than_cost: 0.5 });
        recorder.note(2, Outcome::Chosen);
        assert_eq!(
            recorder.into_trace().to_string(),
            "0: already tried; 2: over its bound (3 open, 2 allowed); \
             1: 2 is less loaded (0.5000 against 2.0000); 2: chosen"
        );
        assert_eq!(Trace::default().to_string(), "no candidates");
    }
}
