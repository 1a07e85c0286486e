//! How many steps of handshakes a worker takes before everything else has its turn. A step may cost a signature, as much as
//! dozens of messages: thousands of clients that arrive at once must not hold up those that are served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Steps of handshakes in one turn of a worker's event loop.
const STEPS_PER_TURN: usize = 1;

/// One worker's account of steps.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    taken: Cell<usize>,
    waiting: RefCell<VecDeque<Waiting>>,
}

/// Whose turn comes, in the order in which they asked.
#[derive(Debug)]
struct Waiting {
    granted: Rc<Cell<bool>>,
    waker: Waker,
}

/// A handshake that takes its steps one at a time.
pub(super) struct Paced<F> {
    handshake: Pin<Box<F>>,
    pace: Rc<Pace>,
    /// The step it has asked for.
    asked: Option<Rc<Cell<bool>>>,
}

impl Pace {
    /// Whether a step may be taken now; if not, the task of `cx` is woken when it may.
    fn may_step(self: &Rc<Pace>, cx: &Context<'_>, asked: &mut Option<Rc<Cell<bool>>>) -> bool {
        match asked {
            Some(granted) if granted.get() => {
                *asked = None;
                return true;
            }
            // It was woken for another reason, and keeps its place in the queue.
            Some(_) => return false,
            None => {}
        }
        let taken = self.taken.get();
        if taken == 0 {
            tokio::task::spawn_local(Rc::clone(self).turns());
        }
        if taken < STEPS_PER_TURN {
            self.taken.set(taken + 1);
            return true;
        }
        let granted = Rc::new(Cell::new(false));
        let waiting = Waiting { granted: Rc::clone(&granted), waker: cx.waker().clone() };
        self.waiting.borrow_mut().push_back(waiting);
        *asked = Some(granted);
        false
    }

    /// Grants steps in each turn, until nobody waits for one.
    async fn turns(self: Rc<Pace>) {
        loop {
            // Comes back when the event loop has looked for what has arrived, and everything else has run.
            tokio::task::yield_now().await;
            let mut granted = 0;
            while granted < STEPS_PER_TURN {
                let Some(next) = self.waiting.borrow_mut().pop_front() else { break };
                // One that has been given up has dropped its side.
                if Rc::strong_count(&next.granted) > 1 {
                    next.granted.set(true);
                    next.waker.wake();
                    granted += 1;
                }
            }
            self.taken.set(granted);
            if granted == 0 {
                return;
            }
        }
    }
}

impl<F: Future> Paced<F> {
    pub(super) fn new(handshake: F, pace: &Rc<Pace>) -> Paced<F> {
        Paced { handshake: Box::pin(handshake), pace: Rc::clone(pace), asked: None }
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let paced = self.get_mut();
        if !paced.pace.may_step(cx, &mut paced.asked) {
            return Poll::Pending;
        }
        paced.handshake.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_take_few_steps_in_a_turn_and_all_get_theirs() {
        let runtime = tokio::runtime::Builder::new_current_thread().build_local(Default::default());
        runtime.unwrap().block_on(async {
            let pace = Rc::new(Pace::default());
            let steps = Rc::new(Cell::new(0));
            let handshakes: Vec<_> = (0..20)
                .map(|_| {
                    let steps = Rc::clone(&steps);
                    let step = async move { steps.set(steps.get() + 1) };
                    tokio::task::spawn_local(Paced::new(step, &pace))
                })
                .collect();
            // One that goes away while it waits takes no step of another.
            handshakes[10].abort();
            let mut seen = 0;
            for _ in 0..24 {
                tokio::task::yield_now().await;
                assert!(steps.get() <= seen + STEPS_PER_TURN, "{} after {seen}", steps.get());
                seen = steps.get();
            }
            assert_eq!(seen, 19);
            assert_eq!(pace.taken.get(), 0);
        });
    }
}
