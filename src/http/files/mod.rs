//! Static files: what lies under a folder, as the kernel finds it there and nowhere else (openat2, RESOLVE_BENEATH).
//! No file operation that may wait is done on a worker's loop: what a local file system has in memory is opened and
//! read there, everything else by a few threads, because disks and network folders may be slow and the other
//! connections of the worker must not notice.

mod answer;
mod choose;
mod coded;
mod errand;
mod find;
mod kept;
mod listing;
mod range;
mod send;
mod warm;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_wire::Method;
use rustix::io::Errno;
use tokio::time::Instant;

use super::Edits;
use super::record::Told;
use super::reply::Reply;
use super::session::{Next, Session};
use crate::config::Coding;
use crate::observe::ended::Why;
use errand::Lost;
use find::{Found, Looked, Manner};
pub(crate) use kept::Shelf;

/// What a worker may spend on files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileShare {
    /// Descriptors of files that stay open for a moment.
    pub(crate) open_max: usize,
    /// Requests that may wait for its file threads.
    pub(crate) queue_max: usize,
}

/// What was configured for the files of one route.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// No other folder of this process has it, also not one of an earlier config.
    pub(crate) id: u64,
    pub(crate) root: PathBuf,
    pub(crate) index: Vec<String>,
    pub(crate) hidden: bool,
    pub(crate) listing: bool,
    pub(crate) precompressed: Vec<Coding>,
    /// `Cache-Control` by the name of a file; the first pattern that matches counts.
    pub(crate) cache: Vec<(glob::Pattern, String)>,
    /// How long an open file may be used again; none: each request looks anew.
    pub(crate) keep: Option<Duration>,
    /// How long a request may wait for one operation on a file.
    pub(crate) patience: Duration,
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Folder {
            id: NEXT.fetch_add(1, Relaxed),
            root,
            index: Vec::new(),
            hidden: false,
            listing: false,
            precompressed: Vec::new(),
            cache: Vec::new(),
            keep: None,
            patience: Duration::from_secs(10),
        }
    }
}

impl Session<'_> {
    /// Answers with a file; none when there is none, and somebody else may answer.
    pub(super) async fn send_file(
        &mut self,
        folder: &Arc<Folder>,
        rest: &[u8],
        may_pass: bool,
        edits: &Edits,
    ) -> Option<(Next, Told)> {
        if !matches!(self.request.method, Method::Get | Method::Head) {
            return (!may_pass).then(|| self.refuse_method());
        }
        let found = match self.find(folder, rest).await {
            Ok(Looked { found: Ok(found), .. }) => found,
            Ok(Looked { found: Err(error), .. }) => {
                return Some(self.refuse_for_now(of_error(&error), error.to_string()));
            }
            Err(Lost::Cut) => return Some((Next::Abort(Why::DrainCut), Told::new(Why::DrainCut))),
            Err(lost) => return Some(self.refuse_for_now(lost.why(), lost.to_string())),
        };
        match found {
            Found::File(page) => Some(self.send_page(folder, &page, edits).await),
            Found::Listing(listing) => Some(self.send_listing(&listing, edits).await),
            Found::WithoutSlash => Some(self.redirect_to_folder()),
            Found::Nothing if may_pass => None,
            Found::Nothing => Some(self.refuse(404, Told::new(Why::NoFile))),
            Found::Forbidden => Some(self.refuse(403, Told::new(Why::NoFile))),
        }
    }

    /// What lies at a path: known from a moment ago, or looked up in memory, or else by a thread.
    async fn find(&mut self, folder: &Arc<Folder>, rest: &[u8]) -> Result<Looked, Lost> {
        let now = Instant::now();
        let shelf = &self.local.files;
        if let Some(page) = shelf.page(folder.id, rest, now) {
            return Ok(Looked::of(Found::File(page)));
        }
        let Some(name) = find::relative(rest, folder.hidden) else {
            return Ok(Looked::of(Found::Nothing));
        };
        let root = shelf.root(folder, now);
        if let Some(root) = root.as_ref().filter(|root| root.is_local)
            && let Ok(found) = find::look_up(root, folder, &name, Manner::InMemory)
        {
            if let Found::File(page) = &found {
                shelf.keep_page(folder, rest, page, now);
            }
            return Ok(Looked::of(found));
        }
        let looker = Arc::clone(folder);
        let looked =
            self.errand(folder.patience, move || find::look_up_whole(&looker, &name, root)).await?;
        let now = Instant::now();
        if let Some(root) = &looked.root {
            shelf.keep_root(folder, root, now);
        }
        if let Ok(Found::File(page)) = &looked.found {
            shelf.keep_page(folder, rest, page, now);
        }
        Ok(looked)
    }

    fn refuse_method(&mut self) -> (Next, Told) {
        let cause = Why::BadRequest.as_str();
        let mut reply = Reply::failure(405, cause, &self.request_id, &self.request.fields);
        reply.fields.push(("Allow", "GET, HEAD".to_owned()));
        self.reply(&reply, Told::new(Why::BadRequest))
    }

    fn refuse_for_now(&mut self, why: Why, detail: String) -> (Next, Told) {
        let told = Told { detail: Some(detail), ..Told::new(why) };
        self.refuse(503, told)
    }

    fn redirect_to_folder(&mut self) -> (Next, Told) {
        let target = String::from_utf8_lossy(&self.request.target).into_owned();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (target.as_str(), String::new()),
        };
        // Two slashes at the beginning would lead to another host.
        let to = format!("/{}/{query}", path.trim_start_matches('/'));
        self.redirect(301, to)
    }
}

/// Whose doing it was that nobody could say whether there is a file.
fn of_error(error: &io::Error) -> Why {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Why::OutOfResources,
        _ => Why::FileBroken,
    }
}
