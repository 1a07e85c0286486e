//! What all HTTP connections of one worker share: buffers, open connections to backends, request ids, the date.
//! It never leaves its worker, so nothing in it takes a lock; it must never grow beyond the limits named here.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_wire::{Request, Response};

use super::alarm::Alarm;
use super::compress::Places;
use super::files::{FileShare, Shelf};
use super::h1;
use super::reach::SharedConnections;
use crate::upstream::idle::IdleConnections;

/// Size of a pooled buffer: most heads fit, and a small body with them.
pub(super) const BUFFER: usize = 16 * 1024;

/// Bytes read at a time where a body passes through without being held. They stay in the processor's first cache between
/// reading and writing: with 64 KiB an upload of 1 MB took 676 µs of processor time, with 32 KiB 386 (one run, 3 rounds).
const SCRATCH: usize = 32 * 1024;

/// Buffers kept for the next requests, about 4 MiB of each kind.
const SPARE_BUFFERS: usize = 256;

/// One worker's share of everything that HTTP connections use in turn.
#[derive(Debug)]
pub(crate) struct Local {
    this: Weak<Local>,
    pub(super) idle: RefCell<IdleConnections<Box<h1::Stream>>>,
    pub(super) shared: RefCell<SharedConnections>,
    pub(super) files: Shelf,
    /// Answers that are being compressed.
    pub(super) compressing: Places,
    /// Borrowed within a turn only.
    pub(super) scratch: RefCell<Box<[u8]>>,
    inputs: RefCell<Vec<Box<[u8]>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    /// Heads of requests and answers, of which each stream of HTTP/2 needs its own.
    heads: RefCell<Vec<(Request, Response)>>,
    /// Timers, of which each needs its own too.
    alarms: RefCell<Vec<Alarm>>,
    /// The first half of every request id: this worker of this run.
    id_prefix: String,
    id_count: Cell<u64>,
    date: RefCell<(u64, String)>,
}

impl Local {
    pub(crate) fn new(files: FileShare, file_threads: usize, compress_max: usize) -> Rc<Local> {
        use std::hash::{BuildHasher, RandomState};
        Rc::new_cyclic(|this| Local {
            this: Weak::clone(this),
            idle: RefCell::default(),
            shared: RefCell::default(),
            files: Shelf::new(files, file_threads),
            compressing: Places::new(compress_max),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            inputs: RefCell::default(),
            outputs: RefCell::default(),
            heads: RefCell::default(),
            alarms: RefCell::default(),
            id_prefix: format!("{:016x}", RandomState::new().hash_one(0_u8)),
            id_count: Cell::new(0),
            date: RefCell::new((u64::MAX, String::new())),
        })
    }

    /// The same, for a task that may outlive its connection.
    pub(super) fn own(&self) -> Option<Rc<Local>> {
        self.this.upgrade()
    }

    /// Closes connections to backends that have been idle for too long, or that their backends have ended, and files
    /// that were opened a while ago.
    pub(crate) fn sweep(&self) {
        self.idle.borrow_mut().sweep();
        self.shared.borrow_mut().sweep();
        self.files.sweep();
    }

    /// Closes every idle connection to a backend.
    pub(crate) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// A buffer to read into.
    pub(super) fn take_input(&self) -> Box<[u8]> {
        self.inputs.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
    }

    pub(super) fn give_input(&self, buffer: Box<[u8]>) {
        let mut spare = self.inputs.borrow_mut();
        if buffer.len() == BUFFER && spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }

    /// Heads with room from the last time.
    pub(super) fn take_heads(&self) -> (Request, Response) {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_heads(&self, mut request: Request, mut response: Response) {
        let mut spare = self.heads.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            request.clear();
            response.clear();
            spare.push((request, response));
        }
    }

    pub(super) fn take_alarm(&self) -> Alarm {
        self.alarms.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_alarm(&self, alarm: Alarm) {
        let mut spare = self.alarms.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(alarm.passed_on());
        }
    }

    /// An empty buffer to write into.
    pub(super) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_output(&self, mut buffer: Vec<u8>) {
        let mut spare = self.outputs.borrow_mut();
        if buffer.capacity() <= 2 * BUFFER && spare.len() < SPARE_BUFFERS {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// A name for one request that no other has, here or on another machine: 32 hexadecimal digits.
    pub(super) fn request_id(&self) -> String {
        let count = self.id_count.get().wrapping_add(1);
        self.id_count.set(count);
        let mut id = String::with_capacity(32);
        id.push_str(&self.id_prefix);
        id.push_str(str::from_utf8(&hexadecimal(count)).unwrap_or_default());
        id
    }

    /// Hands over the date of this second, as RFC 9110 5.6.7 wants it.
    pub(super) fn with_date(&self, take: impl FnOnce(&[u8])) {
        let second =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(SystemTime::now()));
        }
        take(date.1.as_bytes());
    }
}

/// 16 hexadecimal digits; formatting them costs ten times as much, for each request.
fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = number.to_be_bytes().map(|byte| [byte >> 4, byte & 15]);
    let digit = |value: &mut u8| *value = b"0123456789abcdef"[usize::from(*value & 15)];
    digits.as_flattened_mut().iter_mut().for_each(digit);
    let mut text = [0; 16];
    text.copy_from_slice(digits.as_flattened());
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_with_all_their_digits() {
        for number in [0, 1, 0xfedc_ba98_7654_3210, u64::MAX] {
            let digits = super::hexadecimal(number);
            assert_eq!(str::from_utf8(&digits), Ok(format!("{number:016x}").as_str()));
        }
    }
}
