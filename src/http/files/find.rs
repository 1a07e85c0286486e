//! Finds what lies at a path beneath a root, by asking the kernel and not by reading names (openat2, RESOLVE_BENEATH).
//! A name can be looked up in two manners: by a thread that may wait for disks and networks, or on a worker's loop
//! from what is in memory already (RESOLVE_CACHED, Linux 5.12), which answers at once or not at all. The second is
//! right only on a local file system: on others, even opening a file whose name is known asks somebody (FUSE, NFS).
//! It therefore stays on the file system of its root, and the root must be on one of those known to be local.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fstat, fstatfs, open,
    openat2, statx,
};
use rustix::io::Errno;

use super::Folder;
use super::listing::Listing;
use super::warm::Warm;
use crate::config::Coding;

/// A file that a thread has to open is read by it at once, up to this length, which leaves in one write with its head.
/// Files kept open hold no more than that in memory each.
const AHEAD_MAX: u64 = 15 * 1024;

/// The end of the year 9999, the latest that a date in HTTP can say.
pub(super) const LAST_SECOND: u64 = 253_402_300_799;

/// A rename elsewhere in the tree can make the kernel unsure about `..` in a link; then it wants to be asked again.
const ASKED_AGAIN_MAX: u32 = 16;

/// What lies at a path.
#[derive(Debug)]
pub(super) enum Found {
    File(Arc<Page>),
    Listing(Listing),
    /// A folder, whose name was written without the slash that its links are counted from.
    WithoutSlash,
    Nothing,
    Forbidden,
}

/// A file with its other forms, and what is said about all of them.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) plain: Opened,
    pub(super) siblings: Vec<(Coding, Opened)>,
    pub(super) content_type: &'static str,
    pub(super) cache_control: Option<String>,
}

/// One open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    /// Changes with every change of the file that its time or length shows.
    pub(super) etag: String,
    pub(super) last_modified: String,
    /// Whether what is in memory can be read without asking anybody.
    pub(super) is_local: bool,
    pub(super) warm: Warm,
    /// All of it, if it is small and a thread opened it.
    pub(super) ahead: Option<Vec<u8>>,
}

/// The folder of a route, opened.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    pub(super) is_local: bool,
    pub(super) device: Option<Device>,
}

/// Which file system something lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(u32, u32);

/// How to look a name up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// On the loop: any error means that a thread has to look.
    InMemory,
    /// By a thread.
    Waiting,
}

/// What a look brought.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) found: io::Result<Found>,
    pub(super) root: Option<Arc<Root>>,
}

impl Looked {
    pub(super) fn of(found: Found) -> Looked {
        Looked { found: Ok(found), root: None }
    }
}

impl Page {
    pub(super) fn descriptors(&self) -> usize {
        1 + self.siblings.len()
    }
}

/// The name below the root, decoded once; none where nothing can be: a hidden part, or bytes that no name has.
pub(super) fn relative(rest: &[u8], hidden: bool) -> Option<PathBuf> {
    let mut name = Vec::with_capacity(rest.len());
    let mut left = rest;
    while let [first, tail @ ..] = left {
        left = tail;
        let byte = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                left = after;
                let digit = |byte: &u8| (*byte as char).to_digit(16);
                (digit(high)? * 16 + digit(low)?) as u8
            }
            (byte, _) => *byte,
        };
        if byte == 0 {
            return None;
        }
        name.push(byte);
    }
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let name = &name[start..];
    let mut parts = name.split(|byte| *byte == b'/');
    if parts.any(|part| part == b".." || (part.starts_with(b".") && !hidden)) {
        return None;
    }
    let name: &[u8] = if name.is_empty() { b"./" } else { name };
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

/// Looks a name up from the root on, opening that too unless it is open. May wait for a disk or a network.
pub(super) fn look_up_whole(folder: &Folder, name: &Path, root: Option<Arc<Root>>) -> Looked {
    let root = match root.map_or_else(|| open_root(&folder.root).map(Arc::new), Ok) {
        Ok(root) => root,
        Err(error) => return Looked { found: absent(error), root: None },
    };
    let found = look_up(&root, folder, name, Manner::Waiting).or_else(absent);
    Looked { found, root: Some(root) }
}

/// The root is opened by its path, so that a folder that was replaced, or a link that was moved, is the new one.
fn open_root(path: &Path) -> Result<Root, Errno> {
    let fd = open(path, ROOT, Mode::empty())?;
    let (is_local, device) = (is_local(&fd), device(&fd));
    Ok(Root { fd, is_local, device })
}

/// The same on the loop: from what is in memory, and only if it lies on a file system that is known to be local.
/// A descriptor of this kind (O_PATH) opens nothing, so that no file system is asked.
pub(super) fn reopen_root(path: &Path, local: Device) -> Option<Root> {
    let fd = openat2(CWD, path, ROOT, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let device = device(&fd);
    (device == Some(local)).then_some(Root { fd, is_local: true, device })
}

const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Asks nobody: what is in memory is enough (AT_STATX_DONT_SYNC).
fn device(file: &OwnedFd) -> Option<Device> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let status = statx(file, "", flags, StatxFlags::empty()).ok()?;
    Some(Device(status.stx_dev_major, status.stx_dev_minor))
}

/// Looks a name up beneath the root.
pub(super) fn look_up(
    root: &Root,
    folder: &Folder,
    name: &Path,
    manner: Manner,
) -> Result<Found, Errno> {
    let (file, status) = beneath(root, name, manner)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => page(root, folder, name, (file, status), manner),
        FileType::Directory if !name.as_os_str().as_bytes().ends_with(b"/") => {
            Ok(Found::WithoutSlash)
        }
        FileType::Directory => {
            for index in &folder.index {
                let name = name.join(index);
                match beneath(root, &name, manner) {
                    Ok((file, status)) if FileType::from_raw_mode(status.st_mode).is_file() => {
                        return page(root, folder, &name, (file, status), manner);
                    }
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(error) if manner == Manner::InMemory => return Err(error),
                    Err(_) => {}
                }
            }
            match (folder.listing, manner) {
                (false, _) => Ok(Found::Nothing),
                (true, Manner::InMemory) => Err(Errno::AGAIN),
                (true, Manner::Waiting) => {
                    let link = |entry: &[u8]| follow(root, &name.join(OsStr::from_bytes(entry)));
                    Ok(Found::Listing(Listing::read(file, folder.hidden, link)?))
                }
            }
        }
        // Pipes, devices and sockets are no files to serve.
        _ => Ok(Found::Nothing),
    }
}

/// Opens without waiting for the other end of a pipe, and without leaving the root by any link.
fn beneath(root: &Root, name: &Path, manner: Manner) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match manner {
        Manner::InMemory => {
            let resolve = resolve | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
            openat2(&root.fd, name, flags, Mode::empty(), resolve)?
        }
        Manner::Waiting => {
            let mut asked = 0;
            loop {
                match openat2(&root.fd, name, flags, Mode::empty(), resolve) {
                    Err(Errno::AGAIN | Errno::INTR) if asked < ASKED_AGAIN_MAX => asked += 1,
                    outcome => break outcome?,
                }
            }
        }
    };
    let status = fstat(&file)?;
    Ok((file, status))
}

/// What a link beneath the root leads to; nothing if it leads out.
fn follow(root: &Root, name: &Path) -> Option<Stat> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    fstat(openat2(&root.fd, name, flags, Mode::empty(), resolve).ok()?).ok()
}

/// A file with those of its other forms that are not older than itself.
fn page(
    root: &Root,
    folder: &Folder,
    name: &Path,
    (file, status): (OwnedFd, Stat),
    manner: Manner,
) -> Result<Found, Errno> {
    let plain = opened(file, &status, "", manner);
    let mut siblings = Vec::new();
    for coding in &folder.precompressed {
        let mut sibling = name.as_os_str().to_owned().into_vec();
        sibling.extend_from_slice(coding.ending().as_bytes());
        match beneath(root, OsStr::from_bytes(&sibling).as_ref(), manner) {
            Ok((file, status)) if FileType::from_raw_mode(status.st_mode).is_file() => {
                let sibling = opened(file, &status, coding.ending(), manner);
                if sibling.modified >= plain.modified {
                    siblings.push((*coding, sibling));
                }
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) if manner == Manner::InMemory => return Err(error),
            Err(_) => {}
        }
    }
    let file_name = name.file_name().unwrap_or_default().to_string_lossy();
    let rule = folder.cache.iter().find(|(pattern, _)| pattern.matches(&file_name));
    Ok(Found::File(Arc::new(Page {
        plain,
        siblings,
        content_type: mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream"),
        cache_control: rule.map(|(_, value)| value.clone()),
    })))
}

fn opened(file: OwnedFd, status: &Stat, form: &str, manner: Manner) -> Opened {
    let length = u64::try_from(status.st_size).unwrap_or(0);
    let seconds = u64::try_from(status.st_mtime).unwrap_or(0).min(LAST_SECOND);
    let nanoseconds = u32::try_from(status.st_mtime_nsec).unwrap_or(0);
    let since = Duration::new(seconds, nanoseconds);
    let modified = UNIX_EPOCH + since;
    let file = File::from(file);
    let ahead = match manner {
        Manner::Waiting if length <= AHEAD_MAX => {
            read_waiting(&file, 0, usize::try_from(length).unwrap_or(0)).ok()
        }
        _ => None,
    };
    Opened {
        length,
        modified,
        etag: format!("\"{:x}-{length:x}{}\"", since.as_nanos(), form.replace('.', "-")),
        last_modified: httpdate::fmt_http_date(modified),
        // What was found on the loop lies on the file system of its root, which was asked.
        is_local: manner == Manner::InMemory || is_local(&file),
        file: Arc::new(file),
        warm: Warm::of(length),
        ahead,
    }
}

/// Whether a file system keeps names and bytes in this machine's memory, asks nobody about what it has there, and can
/// say whether it has (RWF_NOWAIT). The numbers are those of statfs(2). What lies on top of others (overlayfs) is not
/// among them: they may be anything.
fn is_local(file: impl AsFd) -> bool {
    const LOCAL: [u32; 5] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // XFS
        0x9123_683E, // Btrfs
        0xF2F5_2010, // F2FS
        0xCA45_1A4E, // bcachefs
    ];
    // The field is signed on some machines: only its lower half counts.
    fstatfs(file).is_ok_and(|status| LOCAL.contains(&(status.f_type as u32)))
}

/// What an error says about a file. What is our own lack, or a fault of the disk, does not mean that there is none.
fn absent(error: Errno) -> io::Result<Found> {
    match error {
        Errno::ACCESS | Errno::PERM => Ok(Found::Forbidden),
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::XDEV
        | Errno::LOOP
        | Errno::NAMETOOLONG
        | Errno::INVAL
        | Errno::ILSEQ
        | Errno::NXIO
        | Errno::NODEV => Ok(Found::Nothing),
        error => Err(error.into()),
    }
}

/// Reads at a place, waiting for the disk. Fewer bytes than asked for are the end of the file.
pub(super) fn read_waiting(file: &File, mut at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_and_hidden_ones_are_not_there() {
        let name =
            |rest: &str| relative(rest.as_bytes(), false).map(|name| name.display().to_string());
        assert_eq!(name("/a%20b/c").as_deref(), Some("a b/c"));
        assert_eq!(name("/%2561").as_deref(), Some("%61"));
        assert_eq!(name("///a").as_deref(), Some("a"));
        assert_eq!(name("/").as_deref(), Some("./"));
        for none in
            ["/.git/config", "/a/../b", "/a/%2e%2e/b", "/.", "/a%00b", "/a%zz", "/a/.htaccess"]
        {
            assert_eq!(name(none), None, "{none}");
        }
        assert!(relative(b"/.well-known/x", true).is_some());
        assert!(relative(b"/../x", true).is_none());
    }

    #[test]
    fn what_is_in_memory_is_found_without_waiting_and_the_rest_is_not_guessed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a.css"), "a").unwrap();
        let folder = Folder::new(place.path().into());
        let looked = look_up_whole(&folder, "a.css".as_ref(), None);
        let root = looked.root.unwrap();
        match looked.found {
            Ok(Found::File(page)) => assert_eq!(page.plain.ahead.as_deref(), Some(&b"a"[..])),
            other => panic!("{other:?}"),
        }
        let found = look_up(&root, &folder, "a.css".as_ref(), Manner::InMemory);
        match found {
            Ok(Found::File(page)) => assert_eq!(page.content_type, "text/css"),
            other => panic!("{other:?}"),
        }
        // Nobody has asked for this name yet, so the kernel does not know whether it is there.
        let unknown = look_up(&root, &folder, "never-asked".as_ref(), Manner::InMemory);
        assert!(matches!(unknown, Err(Errno::AGAIN) | Ok(Found::Nothing)), "{unknown:?}");
    }
}
