//! Connections to backends that are kept open between two requests: one worker's share, newest first.
//! It must never hand out a connection that has ended or said something unasked, and never grows beyond its limits.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, Channel};

/// What was configured for kept connections of one upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Keep {
    /// Idle connections to one backend, on one worker.
    pub(crate) max: usize,
    /// How long one may be idle.
    pub(crate) idle: Duration,
    /// Requests on one connection.
    pub(crate) requests: u32,
}

/// A connection that can be kept.
pub(crate) trait Quiet {
    /// Whether it is as it was left: nothing has come, and it has not ended.
    fn is_quiet(&mut self) -> bool;
}

/// An open connection without a request, and what it has carried.
#[derive(Debug)]
pub(crate) struct Kept<C> {
    pub(crate) connection: C,
    /// Requests it has carried.
    pub(crate) requests: u32,
}

/// The idle connections of one worker, by backend.
#[derive(Debug)]
pub(crate) struct IdleConnections<C> {
    // By the place in memory of the way to it, which is its own for as long as it is in the value.
    by_backend: HashMap<*const Channel, Stack<C>, BuildHasherDefault<ByPlace>>,
}

/// Hashes a place in memory, which nobody outside can choose.
#[derive(Debug, Default)]
struct ByPlace(u64);

impl Hasher for ByPlace {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        // The golden ratio spreads what differs in few bits (Knuth, TAOCP 3, 6.4).
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

#[derive(Debug)]
struct Stack<C> {
    channel: Arc<Channel>,
    newest_last: VecDeque<(Kept<C>, Instant)>,
    /// How many there are by what was said last.
    told: u32,
}

impl<C> Stack<C> {
    fn tell(&mut self) {
        let now = self.newest_last.len() as u32;
        self.channel.note_idle(self.told, now);
        self.told = now;
    }
}

impl<C> Drop for Stack<C> {
    fn drop(&mut self) {
        self.channel.note_idle(self.told, 0);
    }
}

impl<C> Default for IdleConnections<C> {
    fn default() -> IdleConnections<C> {
        IdleConnections { by_backend: HashMap::default() }
    }
}

impl<C: Quiet> IdleConnections<C> {
    /// The connection that was used last and is still quiet; those that are not are closed.
    pub(crate) fn take(&mut self, backend: &Arc<Backend>, now: Instant) -> Option<Kept<C>> {
        let stack = self.by_backend.get_mut(&Arc::as_ptr(backend.channel()))?;
        while let Some((mut kept, until)) = stack.newest_last.pop_back() {
            if now < until && kept.connection.is_quiet() {
                return Some(kept);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if the limits allow it.
    pub(crate) fn keep(
        &mut self,
        backend: &Arc<Backend>,
        kept: Kept<C>,
        rules: &Keep,
        now: Instant,
    ) {
        if kept.requests >= rules.requests || rules.max == 0 {
            return;
        }
        let stack = self.by_backend.entry(Arc::as_ptr(backend.channel())).or_insert_with(|| {
            let (channel, newest_last) = (Arc::clone(backend.channel()), VecDeque::new());
            Stack { channel, newest_last, told: 0 }
        });
        if stack.newest_last.len() >= rules.max {
            // The oldest is the least likely to be of use.
            stack.newest_last.pop_front();
        }
        stack.newest_last.push_back((kept, now + rules.idle));
    }

    /// Closes what is over its time or was ended by its backend, and forgets backends without any.
    pub(crate) fn sweep(&mut self) {
        let now = Instant::now();
        self.by_backend.retain(|_, stack| {
            stack
                .newest_last
                .retain_mut(|(kept, until)| now < *until && kept.connection.is_quiet());
            stack.tell();
            // Nobody else knows the way any more: its backend has left the config.
            let is_orphaned = Arc::strong_count(&stack.channel) == 1;
            !stack.newest_last.is_empty() && !is_orphaned
        });
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        self.by_backend.clear();
    }
}
