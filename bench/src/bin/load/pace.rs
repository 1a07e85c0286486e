//! An open loop's clock: a timer that says how many sendings have become due, and when each was.
//! It never slows down when answers are late, which is the point of it.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::wire::{self, Watch};

/// No need to wake more often than this: a tick sends all that is due.
const SHORTEST_TICK: Duration = Duration::from_micros(50);

/// The token of the timer's events.
pub const TIMER: u64 = u64::MAX;

/// Sendings at equal distances since it was started.
pub struct Pace {
    timer: OwnedFd,
    began: Instant,
    apart: Duration,
    sent: u64,
}

impl Pace {
    /// Starts a timer for `rate` sendings a second.
    pub fn start(rate: f64, watch: &Watch) -> io::Result<Pace> {
        let apart = Duration::from_secs_f64(1.0 / rate.clamp(1.0, 1e7));
        let every = apart.max(SHORTEST_TICK);
        let every =
            Timespec { tv_sec: every.as_secs() as i64, tv_nsec: every.subsec_nanos().into() };
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        watch.add(&timer, TIMER, EventFlags::IN)?;
        Ok(Pace { timer, began: Instant::now(), apart, sent: 0 })
    }

    /// Numbers of the sendings that have become due since the last call.
    pub fn due(&mut self) -> io::Result<Range<u64>> {
        wire::ready(rustix::io::read(&self.timer, &mut [0u8; 8]).map_err(io::Error::from))?;
        let due = (self.began.elapsed().as_nanos() / self.apart.as_nanos()) as u64;
        let numbers = self.sent..due.max(self.sent);
        self.sent = numbers.end;
        Ok(numbers)
    }

    /// When a sending should have happened.
    pub fn moment(&self, number: u64) -> Instant {
        self.began + Duration::from_nanos(self.apart.as_nanos() as u64 * number)
    }
}
