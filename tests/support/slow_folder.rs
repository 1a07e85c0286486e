//! A folder that answers when the test lets it: a file system of our own, mounted through /dev/fuse, which needs root.
//! In it, `quick-*` is answered at once, finding `find-*` hangs, opening `open-*` hangs, reading `read-*` hangs, until
//! [`SlowFolder::release`].
//! It speaks only what it is asked (linux/fuse.h, protocol 7.31), and every file has the same bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Bytes of each file: more than is read ahead together with finding it.
pub(crate) const LENGTH: usize = 100_000;

const ROOT: u64 = 1;
const QUICK: u64 = 2;
const READ_HANGS: u64 = 3;
const OPEN_HANGS: u64 = 4;

/// A mounted folder that can hang.
pub(crate) struct SlowFolder {
    place: tempfile::TempDir,
    device: Arc<File>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    released: bool,
    /// Answers that are held back.
    held: Vec<Vec<u8>>,
}

impl SlowFolder {
    /// Mounts one; none where that is not possible, which is said.
    pub(crate) fn mount() -> Option<SlowFolder> {
        let place = tempfile::tempdir().expect("a folder to mount on");
        match SlowFolder::mount_on(place) {
            Ok(folder) => Some(folder),
            Err(error) if !rustix::process::geteuid().is_root() => {
                skipped(&format!("mounting a slow folder needs root ({error})"))
            }
            Err(error) if !Path::new("/dev/fuse").exists() => {
                skipped(&format!("there is no /dev/fuse ({error})"))
            }
            Err(error) => panic!("mount a slow folder: {error}"),
        }
    }

    fn mount_on(place: tempfile::TempDir) -> io::Result<SlowFolder> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&device);
        let data = format!("fd={number},rootmode=40000,user_id=0,group_id=0");
        let data = std::ffi::CString::new(data)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("slow", place.path(), "fuse", flags, data.as_c_str())?;
        let (device, state) = (Arc::new(device), Arc::<Mutex<State>>::default());
        let folder = SlowFolder { place, device: Arc::clone(&device), state: Arc::clone(&state) };
        std::thread::spawn(move || serve(&device, &state));
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// How many operations hang.
    pub(crate) fn hanging(&self) -> usize {
        self.state.lock().expect("no panic").held.len()
    }

    /// Answers everything that hangs, and from now on at once.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.released = true;
        for answer in state.held.drain(..) {
            // Who asked may have gone.
            let _ = (&*self.device).write(&answer);
        }
    }
}

impl Drop for SlowFolder {
    fn drop(&mut self) {
        self.release();
        let _ = unmount(self.place.path(), UnmountFlags::DETACH);
    }
}

/// Says so where the test runner does not hide it.
fn skipped(why: &str) -> Option<SlowFolder> {
    let _ = writeln!(io::stderr(), "skipped: {why}");
    None
}

/// The bytes of every file.
pub(crate) fn content() -> Vec<u8> {
    super::noise(3, LENGTH)
}

fn serve(mut device: &File, state: &Mutex<State>) {
    let content = content();
    let mut request = vec![0; 256 * 1024];
    // Reading fails when the folder is unmounted and nobody uses it any more.
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize, size: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&request[at..at + size]);
            usize::try_from(u64::from_le_bytes(bytes)).expect("a small number")
        };
        let (operation, node) = (number(4, 4), number(16, 8) as u64);
        let body = &request[40..length];
        let hangs = match operation {
            1 => body.starts_with(b"find-"),
            14 => node == OPEN_HANGS,
            15 => node == READ_HANGS,
            _ => false,
        };
        let answer = match operation {
            // Forget, forget many, interrupt: nobody waits for an answer.
            2 | 42 | 36 => continue,
            1 if body.starts_with(b"read-") => Ok(entry(READ_HANGS)),
            1 if body.starts_with(b"open-") => Ok(entry(OPEN_HANGS)),
            1 if body.starts_with(b"find-") || body.starts_with(b"quick-") => Ok(entry(QUICK)),
            1 => Err(2),
            3 => Ok([[0; 16].as_slice(), &attributes(node)].concat()),
            14 | 27 => Ok(vec![0; 16]),
            15 => {
                let (start, most) = (number(48, 8), number(56, 4));
                let end = (start + most).min(LENGTH);
                Ok(content[start.min(end)..end].to_vec())
            }
            17 => Ok(vec![0; 80]),
            18 | 25 | 28 | 29 | 38 => Ok(Vec::new()),
            26 => {
                let mut answer = vec![0; 64];
                answer[0..4].copy_from_slice(&7_u32.to_le_bytes());
                answer[4..8].copy_from_slice(&31_u32.to_le_bytes());
                // Names may be looked up at the same time (FUSE_PARALLEL_DIROPS).
                answer[12..16].copy_from_slice(&(1_u32 << 18).to_le_bytes());
                answer[20..24].copy_from_slice(&65_536_u32.to_le_bytes());
                Ok(answer)
            }
            _ => Err(38),
        };
        let answer = framed(&request[8..16], answer);
        let mut state = state.lock().expect("no panic");
        if hangs && !state.released {
            state.held.push(answer);
        } else {
            let _ = device.write(&answer);
        }
    }
}

/// An answer to the request with this number: bytes, or an error.
fn framed(unique: &[u8], answer: Result<Vec<u8>, i32>) -> Vec<u8> {
    let (error, body) = match answer {
        Ok(body) => (0, body),
        Err(errno) => (-errno, Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).expect("a short answer");
    [&length.to_le_bytes()[..], &error.to_le_bytes(), unique, &body].concat()
}

/// What a name leads to. What hangs when it is opened may be remembered; everything else is asked for each time.
fn entry(node: u64) -> Vec<u8> {
    let seconds: u64 = if node == OPEN_HANGS { 3600 } else { 0 };
    let valid = [seconds.to_le_bytes(); 2].concat();
    [&node.to_le_bytes()[..], &[0; 8], &valid, &[0; 8], &attributes(node)].concat()
}

fn attributes(node: u64) -> Vec<u8> {
    let mut attributes = vec![0; 88];
    let mode: u32 = if node == ROOT { 0o040_755 } else { 0o100_644 };
    attributes[0..8].copy_from_slice(&node.to_le_bytes());
    attributes[8..16].copy_from_slice(&(LENGTH as u64).to_le_bytes());
    attributes[60..64].copy_from_slice(&mode.to_le_bytes());
    attributes[64..68].copy_from_slice(&1_u32.to_le_bytes());
    attributes
}
