//! What every algorithm asks of a member on the way to a pick: was it tried, has it room, is it
//! within its bound. A witness hears each answer, so that a pick and its explanation are one code.
//!
//! It must never decide the order in which members are looked at: that is the algorithm.

use crate::bounded::{Bound, Limit};
use crate::trace::Outcome;
use crate::{Ask, Loads, Member, hash_bytes};

/// A member as a table keeps it; algorithms speak of it by its position.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) index: u32,
    pub(crate) weight: u32,
    pub(crate) name_hash: u64,
}

impl Candidate {
    pub(crate) fn new(member: &Member) -> Candidate {
        let name_hash = hash_bytes(member.name.as_bytes());
        Candidate { index: member.index, weight: member.weight, name_hash }
    }
}

/// Hears why members are passed over.
pub(crate) trait Witness {
    /// Whether telling it anything is of use, so that a pick need not prepare what nobody hears.
    const LISTENS: bool;

    fn note(&mut self, index: u32, outcome: Outcome);
}

/// The witness of a plain pick: costs nothing.
pub(crate) struct Blind;

impl Witness for Blind {
    const LISTENS: bool = false;

    fn note(&mut self, _: u32, _: Outcome) {}
}

/// Whether a member can take it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Look {
    Free,
    /// It could, but is above its share: only if nobody is free.
    OverBound {
        open: u32,
        bound: u64,
    },
    Full,
    Tried,
}

/// One pick under way.
pub(crate) struct Search<'a, L, W> {
    pub(crate) candidates: &'a [Candidate],
    pub(crate) loads: &'a L,
    pub(crate) ask: &'a Ask<'a>,
    limit: Option<Limit>,
    witness: &'a mut W,
}

impl<'a, L: Loads, W: Witness> Search<'a, L, W> {
    pub(crate) fn new(
        candidates: &'a [Candidate],
        loads: &'a L,
        ask: &'a Ask<'a>,
        bound: Option<Bound>,
        witness: &'a mut W,
    ) -> Self {
        let limit = bound.map(|bound| bound.limit(candidates, loads));
        Search { candidates, loads, ask, limit, witness }
    }

    /// Looks at a member without telling the witness.
    pub(crate) fn look(&self, position: usize) -> Look {
        let candidate = &self.candidates[position];
        if self.ask.tried.contains(&candidate.index) {
            return Look::Tried;
        }
        if !self.loads.has_room(candidate.index) {
            return Look::Full;
        }
        let Some(limit) = &self.limit else { return Look::Free };
        let open = self.loads.open(candidate.index);
        let bound = limit.of(candidate.weight);
        if u64::from(open) < bound { Look::Free } else { Look::OverBound { open, bound } }
    }

    /// Whether this member is free; if not, the witness hears why.
    pub(crate) fn takes(&mut self, position: usize) -> bool {
        let look = self.look(position);
        self.note_look(position, look);
        look == Look::Free
    }

    /// Tells the witness why a member that is not free was passed over.
    pub(crate) fn note_look(&mut self, position: usize, look: Look) {
        match look {
            Look::Free => {}
            Look::OverBound { open, bound } => {
                self.note(position, Outcome::OverBound { open, bound });
            }
            Look::Full => self.note(position, Outcome::Full),
            Look::Tried => self.note(position, Outcome::Tried),
        }
    }

    pub(crate) fn note(&mut self, position: usize, outcome: Outcome) {
        self.witness.note(self.candidates[position].index, outcome);
    }

    pub(crate) fn listened_to(&self) -> bool {
        W::LISTENS
    }

    /// The first free member in the order they were given: the `first` algorithm.
    pub(crate) fn first(&mut self) -> Option<usize> {
        (0..self.candidates.len()).find(|&position| self.takes(position))
    }

    /// Where a member stands, if it takes part.
    pub(crate) fn place_of(&self, index: u32) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.index == index)
    }

    /// The member that the question prefers, if it can take it; else the witness hears why not.
    pub(crate) fn preferred(&mut self) -> Option<usize> {
        let position = self.place_of(self.ask.preferred?)?;
        match self.look(position) {
            Look::Free | Look::OverBound { .. } => Some(position),
            look => {
                self.note_look(position, look);
                None
            }
        }
    }

    /// Closes the search: the caller's number of the chosen member.
    pub(crate) fn chosen(&mut self, position: usize) -> u32 {
        self.note(position, Outcome::Chosen);
        self.candidates[position].index
    }
}
