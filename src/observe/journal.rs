//! The journal: what each pick was made of, in a bounded ring on memory for each thread, so that it can be shown and made again. It
//! must never make a worker wait, fail a request or stop the process: where none can be kept, there is a warning and none.

mod folder;
mod notes;
mod pen;
mod read;
mod record;
mod ring;
mod rows;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use folder::Folder;
pub(crate) use notes::{BackendNote, BalanceNote, LineUpNote, Note, PlanNote};
pub(crate) use pen::{Gauge, Pen};
pub(crate) use read::{Chronicle, Entry};
pub(crate) use record::{Asker, Mark, Noted, Outcome, Pick, Reads, RequestKey};
use ring::Ring;
pub(crate) use rows::DecisionRow;

/// Configs of plans that are kept beside the rings.
const PLANS_KEPT: usize = 16;

/// The journal of one process, with the notes of what changes seldom; shared by all threads.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: Folder,
    notes: Mutex<Notes>,
    line_ups: AtomicU32,
    /// The rings of threads that have not begun yet.
    pens: Mutex<Vec<Option<Pen>>>,
    is_removed: AtomicBool,
}

#[derive(Debug)]
struct Notes {
    ring: Ring,
    record: Vec<u64>,
    /// Configs beside the ring, the oldest first.
    plans: VecDeque<PathBuf>,
}

thread_local! {
    static PEN: RefCell<Option<Rc<Pen>>> = const { RefCell::new(None) };
}

impl Journal {
    /// Begins one, with a ring of so many bytes for each of so many workers, below a folder or on memory.
    pub(crate) fn open(
        folder: Option<&Path>,
        bytes: u64,
        workers: usize,
    ) -> io::Result<Arc<Journal>> {
        let folder = folder::make(folder)?;
        let path = &folder.path;
        let bytes = folder.fitting(bytes, workers as u64 + 1);
        let open = || {
            let mut pens = Vec::new();
            for number in 0..=workers {
                // The control thread picks only for those who wait.
                let bytes = if number < workers { bytes } else { bytes / 8 };
                let ring = Ring::create(&path.join(format!("worker-{number}.ring")), bytes)?;
                pens.push(Some(Pen::new(u16::try_from(number).unwrap_or(u16::MAX), ring)));
            }
            Ok((pens, Ring::create(&path.join("notes.ring"), bytes)?))
        };
        match open() {
            Ok((pens, ring)) => Ok(Arc::new(Journal {
                notes: Mutex::new(Notes { ring, record: Vec::new(), plans: VecDeque::new() }),
                line_ups: AtomicU32::new(0),
                pens: Mutex::new(pens),
                is_removed: AtomicBool::new(false),
                folder,
            })),
            Err(error) => {
                let _ = std::fs::remove_dir_all(path);
                Err(error)
            }
        }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// From now on, picks of this thread are written into the ring of this number.
    pub(crate) fn begin_thread(&self, number: usize) {
        let mut pens = self.pens.lock().unwrap_or_else(PoisonError::into_inner);
        let pen = pens.get_mut(number).and_then(Option::take);
        PEN.with(|own| *own.borrow_mut() = pen.map(Rc::new));
    }

    /// Notes a line-up before it is picked from, and gives it a number.
    pub(crate) fn note_line_up(&self, note: LineUpNote) -> u32 {
        let line_up = self.line_ups.fetch_add(1, Relaxed).wrapping_add(1);
        self.note(&Note::LineUp(LineUpNote { line_up, at: pen::now(), ..note }));
        line_up
    }

    /// Notes a plan, with its config in a file beside.
    pub(crate) fn note_plan(&self, plan: u32, listeners: Vec<String>, config: &str) {
        let path = self.folder.path.join(format!("plan-{plan}.toml"));
        let written = write_private(&path, config.as_bytes());
        if let Err(error) = &written {
            tracing::warn!("journal: {}: {error}", path.display());
        }
        self.note(&Note::Planned(PlanNote {
            plan,
            at: pen::now(),
            listeners,
            config: String::new(),
        }));
        let mut notes = self.notes();
        notes.plans.extend(written.ok().map(|()| path));
        if notes.plans.len() > PLANS_KEPT
            && let Some(oldest) = notes.plans.pop_front()
        {
            let _ = std::fs::remove_file(oldest);
        }
    }

    fn note(&self, note: &Note) {
        let json = serde_json::to_vec(note).unwrap_or_default();
        let Notes { ring, record, .. } = &mut *self.notes();
        record.clear();
        record::note(record, ring.position(), &json);
        ring.write(record);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes its files away; whoever still writes does so into memory that nobody can find.
    pub(crate) fn remove(&self) {
        if !self.is_removed.swap(true, Relaxed)
            && let Err(error) = std::fs::remove_dir_all(&self.folder.path)
        {
            tracing::warn!("journal: {}: {error}", self.folder.path.display());
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The pen of this thread, if it has one.
pub(crate) fn pen() -> Option<Rc<Pen>> {
    PEN.try_with(|pen| pen.borrow().clone()).ok().flatten()
}

/// Whether picks of this thread are written down.
pub(crate) fn is_kept() -> bool {
    PEN.try_with(|pen| pen.borrow().is_some()).unwrap_or(false)
}

/// Notes that what a pick began is over.
pub(crate) fn note_end(mark: Mark) {
    if !mark.is_nowhere() {
        // At the end of a thread there may be none any more.
        let _ = PEN.try_with(|pen| {
            if let Ok(pen) = pen.try_borrow()
                && let Some(pen) = &*pen
            {
                pen.note_end(mark);
            }
        });
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
