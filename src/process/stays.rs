//! The connections that are on one worker: who they are, and the way to ask something of them. They are looked through in small steps,
//! so that a list of very many holds up nobody who is served.

use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::mpsc;

use super::connections::{Asked, ConnectionRow, Listed, Rank};
use crate::connection::Introduced;
use crate::tcp::Cut;

/// Connections that are looked at without a turn for others between them: some tens of microseconds.
const STEP: usize = 256;

/// All connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Stays {
    all: RefCell<Slab<Stayed>>,
    begun: Cell<u64>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stayed {
    pub(super) cut: Rc<Cut>,
    pub(super) known: Introduced,
    /// No other of this worker ever has it.
    pub(super) number: u64,
}

impl Stays {
    /// Notes one that begins; the key by which it is to be taken off.
    pub(super) fn begin(&self, cut: &Rc<Cut>, known: Introduced) -> usize {
        let number = self.begun.get() + 1;
        self.begun.set(number);
        cut.seen().is_of(known.client);
        cut.seen().speaks(known.kind);
        self.all.borrow_mut().insert(Stayed { cut: Rc::clone(cut), known, number })
    }

    pub(super) fn end(&self, key: usize) {
        self.all.borrow_mut().try_remove(key);
    }

    /// What can be asked of each.
    pub(super) fn cuts(&self) -> Vec<Rc<Cut>> {
        self.all.borrow().iter().map(|(_, stayed)| Rc::clone(&stayed.cut)).collect()
    }

    /// Has one end now; whether there is one of this number.
    pub(super) fn close(&self, number: u64) -> bool {
        let all = self.all.borrow();
        let found = all.iter().find(|(_, stayed)| stayed.number == number);
        // Its task is only woken: nothing of it runs while this is borrowed.
        found.inspect(|(_, stayed)| stayed.cut.close()).is_some()
    }

    /// Lists those that are asked for, the first of them by rank.
    pub(super) async fn list(self: Rc<Self>, asked: Arc<Asked>, to: mpsc::UnboundedSender<Listed>) {
        let mut best: BinaryHeap<Ranked> = BinaryHeap::new();
        let (mut matching, mut beyond, mut key) = (0, 0, 0);
        while key < self.all.borrow().capacity() {
            {
                let all = self.all.borrow();
                let step = (key..key + STEP).filter_map(|key| all.get(key));
                for row in step.filter_map(|stayed| asked.row_of(stayed)) {
                    matching += 1;
                    let rank = asked.rank_of(&row);
                    if asked.after.is_some_and(|after| rank <= after) {
                        continue;
                    }
                    beyond += 1;
                    best.push(Ranked(rank, row));
                    if best.len() > asked.limit {
                        best.pop();
                    }
                }
            }
            key += STEP;
            tokio::task::yield_now().await;
        }
        let rows = best.into_sorted_vec().into_iter().map(|Ranked(rank, row)| (rank, row));
        let _ = to.send(Listed { rows: rows.collect(), matching, beyond });
    }
}

/// A row that is compared by its rank alone.
struct Ranked(Rank, ConnectionRow);

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
