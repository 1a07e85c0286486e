//! What all workers know of each other: who has how many connections, and how each is told to do something. It is the only thing that
//! they share, and nothing of it is touched while bytes pass.

use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

use tokio::sync::mpsc;

use super::worker::Task;

/// In place of the load of a worker that takes no more: it has ended.
pub(super) const LEFT: usize = usize::MAX;

/// What all workers know of each other.
#[derive(Debug)]
pub(super) struct Crew {
    /// Connections by worker, those on their way included.
    pub(super) loads: Vec<AtomicUsize>,
    pub(super) tasks: Vec<mpsc::UnboundedSender<Task>>,
}

impl Crew {
    /// The worker with the fewest connections, with one more counted there already.
    pub(super) fn take_place(&self) -> Option<usize> {
        loop {
            let loads = self.loads.iter().map(|load| load.load(Relaxed)).enumerate();
            let (least, _) =
                loads.filter(|(_, load)| *load != LEFT).min_by_key(|(_, load)| *load)?;
            if self.take_place_at(least) {
                return Some(least);
            }
        }
    }

    /// Counts one more connection there; false if that worker has ended.
    pub(super) fn take_place_at(&self, worker: usize) -> bool {
        let count = |load: usize| (load != LEFT).then_some(load + 1);
        self.loads[worker].fetch_update(AcqRel, Relaxed, count).is_ok()
    }
}
