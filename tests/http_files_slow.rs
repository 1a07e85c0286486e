//! A folder that does not answer costs those who ask for its files and nobody else: no file operation blocks a worker,
//! what waits is bounded in number and in time. There is one worker here, so whatever held it up would show.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::http::{Client, Recorder, config, serve};
use crate::support::slow_folder::{self, SlowFolder};
use crate::support::{until, until_ended};

/// Threads of a worker that may wait for files (`FILE_THREADS` in src/process/worker.rs).
const FILE_THREADS: usize = 4;

/// A proxy with one worker that serves a folder under `/slow/*`, another under `/fast/*`, and has an upstream.
fn site(
    slow: &std::path::Path,
    fast: &std::path::Path,
    more: &str,
    process: &str,
) -> (evenkeel::Running, SocketAddr, Recorder) {
    let recorder = Recorder::echoing();
    let routes = format!(
        "[[http.web.route]]\npath = \"/slow/*\"\nfiles = \"{}\"\n{more}\n\
         [[http.web.route]]\npath = \"/fast/*\"\nfiles = \"{}\"\n\
         [process]\nworkers = 1\n{process}\n",
        slow.display(),
        fast.display()
    );
    let (running, door) = serve(&config(&[recorder.address()], "", &routes));
    (running, door, recorder)
}

/// How long two hundred requests to the upstream take, one after the other.
fn pace(door: SocketAddr) -> Duration {
    let mut client = Client::connect(door);
    let began = Instant::now();
    for n in 0..200 {
        let answer = client.get(&format!("/app/{n}"));
        assert_eq!(answer.text(), format!("GET /app/{n} HTTP/1.1"));
    }
    began.elapsed()
}

fn asking(door: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(door);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    client
}

/// A pace that is not much worse than another one, on a machine that has other things to do.
fn is_kept(pace: Duration, before: Duration) -> bool {
    pace < 10 * before + Duration::from_secs(1)
}

#[test]
fn a_folder_that_hangs_holds_up_nobody_but_those_who_ask_for_its_files() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(fast.path().join("a"), "fast").unwrap();
    let (_running, door, _recorder) = site(slow.path(), fast.path(), "", "");
    assert!(Client::connect(door).get("/slow/quick-1").body == slow_folder::content());
    let before = pace(door);

    // More than there are threads, so that some wait for a thread and not for the folder.
    let mut waiting: Vec<_> =
        (0..3 * FILE_THREADS).map(|n| asking(door, &format!("/slow/find-{n}"))).collect();
    until("every file thread hangs", || slow.hanging() == FILE_THREADS);
    let meanwhile = pace(door);
    assert!(is_kept(meanwhile, before), "{meanwhile:?} instead of {before:?}");
    assert_eq!(slow.hanging(), FILE_THREADS);

    slow.release();
    for client in &mut waiting {
        let answer = client.answer();
        assert!(answer.status == 200 && answer.body == slow_folder::content());
    }
    assert_eq!(Client::connect(door).get("/fast/a").text(), "fast");
}

#[test]
fn a_file_whose_name_is_known_can_still_take_its_time_to_open() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir().unwrap();
    let (_running, door, _recorder) = site(slow.path(), fast.path(), "", "");
    assert_eq!(Client::connect(door).get("/slow/quick-1").status, 200);
    // The kernel remembers this name: finding it asks nobody any more.
    fs::metadata(slow.path().join("open-1")).unwrap();
    let before = pace(door);
    let mut waiting = asking(door, "/slow/open-1");
    until("opening hangs", || slow.hanging() == 1);
    let meanwhile = pace(door);
    assert!(is_kept(meanwhile, before), "{meanwhile:?} instead of {before:?}");
    slow.release();
    assert_eq!(waiting.answer().status, 200);
}

#[test]
fn files_in_memory_are_served_while_another_folder_hangs() {
    let Some(slow) = SlowFolder::mount() else { return };
    let Some(fast) = fast_folder() else { return };
    fs::write(fast.path().join("a"), "fast").unwrap();
    let (_running, door, _recorder) = site(slow.path(), fast.path(), "", "");
    let mut client = Client::connect(door);
    assert_eq!(client.get("/fast/a").text(), "fast");
    let _waiting: Vec<_> =
        (0..FILE_THREADS).map(|n| asking(door, &format!("/slow/find-{n}"))).collect();
    until("every file thread hangs", || slow.hanging() == FILE_THREADS);
    // Longer than a file or the folder stays open: they are found in memory again, which needs no thread.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        let mut client = Client::connect(door);
        for _ in 0..100 {
            let answer = client.get("/fast/a");
            assert_eq!(answer.text(), "fast", "after {:?}", began.elapsed());
        }
    }
}

/// A folder on a file system whose memory the kernel can be asked for; none where the build folder is on another one.
fn fast_folder() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // ext4, XFS, Btrfs, F2FS.
    let local = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];
    let kind = rustix::fs::statfs(folder.path()).unwrap().f_type as u32;
    if !local.contains(&kind) {
        let _ =
            writeln!(std::io::stderr(), "skipped: the build folder is on a file system {kind:#x}");
        return None;
    }
    Some(folder)
}

#[test]
fn a_file_whose_bytes_do_not_come_holds_up_nobody_and_ends_in_a_cut_answer() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir().unwrap();
    let (running, door, _recorder) = site(slow.path(), fast.path(), "file-timeout = \"2s\"", "");
    let before = pace(door);
    let mut waiting = asking(door, "/slow/read-1");
    until("reading hangs", || slow.hanging() == 1);
    let meanwhile = pace(door);
    assert!(is_kept(meanwhile, before), "{meanwhile:?} instead of {before:?}");
    // The head promised bytes that never came: no end that could look whole.
    assert!(waiting.try_answer(false).is_err());
    until_ended(&running, evenkeel::Why::FileLate, 1);
}

#[test]
fn a_slow_folder_within_a_fast_one_is_treated_as_slow() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let within = fast.path().join("mounted");
    fs::create_dir(&within).unwrap();
    let flags = rustix::mount::MountFlags::BIND;
    rustix::mount::mount(slow.path(), &within, "", flags, None).unwrap();
    let _end = Unmount(&within);
    let (_running, door, _recorder) = site(fast.path(), fast.path(), "", "");
    // Now the kernel knows the names, and would find them in memory.
    assert_eq!(Client::connect(door).get("/slow/mounted/quick-1").status, 200);
    fs::metadata(slow.path().join("open-1")).unwrap();
    let before = pace(door);
    let _waiting: Vec<_> = ["find-1", "read-1", "open-1"]
        .map(|name| asking(door, &format!("/slow/mounted/{name}")))
        .into();
    until("looking and reading hang", || slow.hanging() == 3);
    let meanwhile = pace(door);
    assert!(is_kept(meanwhile, before), "{meanwhile:?} instead of {before:?}");
    slow.release();
}

struct Unmount<'a>(&'a std::path::Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn who_waits_for_files_is_bounded_in_number_and_in_time() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir().unwrap();
    let (_running, door, _recorder) =
        site(slow.path(), fast.path(), "file-timeout = \"2s\"", "file-queue-max = 2");
    let began = Instant::now();
    let mut waiting: Vec<_> =
        (0..FILE_THREADS + 2).map(|n| asking(door, &format!("/slow/find-{n}"))).collect();
    until("every file thread hangs", || slow.hanging() == FILE_THREADS);
    // One connection after the other, so that all six are being waited for before the next one asks.
    until("one more is too many", || {
        let answer = Client::connect(door).get("/slow/quick-1");
        if began.elapsed() < Duration::from_secs(2) {
            assert_eq!(answer.field("x-evenkeel-cause"), Some("out-of-resources"));
        }
        answer.status == 503
    });
    for client in &mut waiting {
        let answer = client.answer();
        assert_eq!(answer.status, 503);
        assert!(answer.field("retry-after").is_some());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    // Who was called off before it began takes no place; who hangs in the kernel does, until it returns.
    assert_eq!(slow.hanging(), FILE_THREADS);
    slow.release();
    until("files are served again", || Client::connect(door).get("/slow/quick-1").status == 200);
}

#[test]
fn a_stop_does_not_wait_for_a_folder_that_hangs() {
    let Some(slow) = SlowFolder::mount() else { return };
    let fast = tempfile::tempdir().unwrap();
    let (running, door, _recorder) = site(slow.path(), fast.path(), "", "");
    let mut waiting = asking(door, "/slow/find-1");
    until("looking hangs", || slow.hanging() == 1);
    let began = Instant::now();
    running.cut();
    drop(running);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(waiting.try_answer(false).is_err());
}
