//! How many answers a worker compresses at the same time: each takes memory for as long as its client takes to read it.
//! Whoever finds no place goes on without; nobody waits for one.

use std::cell::Cell;
use std::rc::Rc;

/// A worker's places, free and taken.
#[derive(Debug)]
pub(in crate::http) struct Places {
    taken: Rc<Cell<usize>>,
    most: usize,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(in crate::http) struct Place(Rc<Cell<usize>>);

impl Places {
    pub(in crate::http) fn new(most: usize) -> Places {
        Places { taken: Rc::default(), most }
    }

    pub(super) fn take(&self) -> Option<Place> {
        let taken = self.taken.get();
        (taken < self.most).then(|| {
            self.taken.set(taken + 1);
            Place(Rc::clone(&self.taken))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
