//! Files that a worker keeps open for a moment, so that one asked for often is looked up once a second, not each time.
//! Nothing is used beyond the age that its route allows, and no more descriptors are held than the worker's share.
//! Time decides and nothing else: watching folders (inotify) would cost a descriptor and a queue for each of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::errand::Errands;
use super::find::{Device, Page, Root, reopen_root};
use super::{FileShare, Folder};

/// How long after its last use it is remembered on which file system a root was.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// One worker's open files and folders, and its errands.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(super) errands: Errands,
    open_max: usize,
    kept: RefCell<Kept>,
}

/// By path, each with the time from which on it is too old.
type Pages = HashMap<Box<[u8]>, (Arc<Page>, Instant)>;

/// The root of a folder, and when it is too old.
#[derive(Debug)]
struct KnownRoot {
    root: Option<Arc<Root>>,
    due: Instant,
    /// The file system it was on, if that is a local one: then no thread is needed to open it again.
    local: Option<Device>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By folder. A root is one descriptor for each route, whatever `open_max` says.
    roots: HashMap<u64, KnownRoot>,
    /// By folder, and by the path in it as it was asked for.
    pages: HashMap<u64, Pages>,
    /// Descriptors of all pages.
    open: usize,
    /// When the first of the pages is too old.
    first_due: Option<Instant>,
}

impl Shelf {
    pub(crate) fn new(share: FileShare, threads: usize) -> Shelf {
        let errands = Errands::new(share.queue_max.saturating_add(threads));
        Shelf { errands, open_max: share.open_max, kept: RefCell::default() }
    }

    pub(super) fn page(&self, folder: u64, rest: &[u8], now: Instant) -> Option<Arc<Page>> {
        let kept = self.kept.borrow();
        let (page, due) = kept.pages.get(&folder)?.get(rest)?;
        (now < *due).then(|| Arc::clone(page))
    }

    /// The root of a folder, if it is open, or can be opened anew without waiting.
    pub(super) fn root(&self, folder: &Folder, now: Instant) -> Option<Arc<Root>> {
        let keep = folder.keep?;
        let mut kept = self.kept.borrow_mut();
        let known = kept.roots.get_mut(&folder.id)?;
        if known.root.is_none() || now >= known.due {
            known.root = reopen_root(&folder.root, known.local?).map(Arc::new);
            known.due = now + keep;
        }
        known.root.clone()
    }

    /// Keeps the root that a thread used, unless it is kept already: using it does not make it younger.
    pub(super) fn keep_root(&self, folder: &Folder, root: &Arc<Root>, now: Instant) {
        let Some(keep) = folder.keep else { return };
        let mut kept = self.kept.borrow_mut();
        let known = kept.roots.get(&folder.id);
        if known.is_none_or(|known| known.root.is_none() || now >= known.due) {
            let local = root.device.filter(|_| root.is_local);
            let root = Some(Arc::clone(root));
            kept.roots.insert(folder.id, KnownRoot { root, due: now + keep, local });
        }
    }

    /// Keeps a page, if there is room.
    pub(super) fn keep_page(&self, folder: &Folder, rest: &[u8], page: &Arc<Page>, now: Instant) {
        let Some(keep) = folder.keep else { return };
        let mut kept = self.kept.borrow_mut();
        if kept.open + page.descriptors() > self.open_max {
            kept.sweep_pages(now);
        }
        if kept.open + page.descriptors() > self.open_max {
            return;
        }
        let due = now + keep;
        let pages = kept.pages.entry(folder.id).or_default();
        let before = pages.insert(rest.into(), (Arc::clone(page), due));
        kept.open += page.descriptors();
        kept.open -= before.map_or(0, |(page, _)| page.descriptors());
        kept.first_due = Some(kept.first_due.map_or(due, |first| first.min(due)));
    }

    /// Closes what is too old to be used.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        for known in kept.roots.values_mut().filter(|known| now >= known.due) {
            known.root = None;
        }
        kept.roots.retain(|_, known| now < known.due + FORGOTTEN_AFTER);
        kept.sweep_pages(now);
    }
}

impl Kept {
    fn sweep_pages(&mut self, now: Instant) {
        // A shelf full of young pages is not gone through for each one that finds no place.
        if self.first_due.is_none_or(|due| now < due) {
            return;
        }
        self.pages.values_mut().for_each(|pages| pages.retain(|_, (_, due)| now < *due));
        self.pages.retain(|_, pages| !pages.is_empty());
        let all = || self.pages.values().flat_map(HashMap::values);
        self.open = all().map(|(page, _)| page.descriptors()).sum();
        self.first_due = all().map(|(_, due)| *due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::files::find::{Found, look_up_whole};

    #[test]
    fn no_more_stays_open_than_allowed_and_nothing_for_longer() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(place.path().into());
        folder.keep = Some(Duration::from_secs(1));
        let page = |name: &str| {
            std::fs::write(place.path().join(name), name).unwrap();
            match look_up_whole(&folder, name.as_ref(), None).found {
                Ok(Found::File(page)) => page,
                _ => panic!("the file is there"),
            }
        };
        let shelf = Shelf::new(FileShare { open_max: 2, queue_max: 1 }, 1);
        let now = Instant::now();
        for name in ["a", "b", "c"] {
            shelf.keep_page(&folder, name.as_bytes(), &page(name), now);
        }
        let has = |name: &str, at| shelf.page(folder.id, name.as_bytes(), at).is_some();
        assert!(has("a", now) && has("b", now) && !has("c", now));
        let later = now + Duration::from_secs(1);
        assert!(!has("a", later) && !has("b", later));
        shelf.keep_page(&folder, b"c", &page("c"), later);
        assert!(has("c", later));
        assert_eq!(shelf.kept.borrow().open, 1);
    }
}
