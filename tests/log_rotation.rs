//! Log files that are begun anew by themselves: by size, by age, as another user and inside the sandbox, by two processes during an
//! upgrade. Every line is there exactly once, whatever happens to the file; and what cannot be moved is written on.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::http::Client;
use crate::support::program::Program;
use crate::support::until;

fn config(process: &str, log: &str) -> String {
    format!(
        "[http.web]\nlisten = \"127.0.0.1:0\"\n[[http.web.route]]\nreply = 204\n\
         [process]\n{process}\n[log]\n{log}\n"
    )
}

fn ask(door: SocketAddr, numbers: std::ops::Range<usize>) {
    let mut client = Client::connect(door);
    for number in numbers {
        assert_eq!(client.get(&format!("/n{number}")).status, 204);
    }
}

/// A log and the older ones beside it, the newest first.
fn files(log: &Path) -> Vec<PathBuf> {
    let older = (1..).map(|number| PathBuf::from(format!("{}.{number}", log.display())));
    [log.to_owned()].into_iter().chain(older).take_while(|file| file.exists()).collect()
}

/// The numbers of all lines, in the order of the files from the oldest on.
fn numbers(log: &Path) -> Vec<usize> {
    let texts = files(log).into_iter().rev().map(|file| fs::read_to_string(file).unwrap());
    let text: String = texts.collect();
    text.lines()
        .filter_map(|line| line.split("/n").nth(1)?.split(' ').next()?.parse().ok())
        .collect()
}

fn until_written(log: &Path, count: usize) {
    let expected: Vec<_> = (0..count).collect();
    until("every line is there", || numbers(log).len() >= count);
    assert_eq!(numbers(log), expected);
}

#[test]
fn files_are_rotated_by_size_and_no_line_is_lost_or_cut() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/access.log");
    fs::create_dir(log.parent().unwrap()).unwrap();
    let rotate = "rotate = { size = \"64KiB\", keep = 20 }";
    let program = Program::run(&config("", &format!("access = \"{}\"\n{rotate}", log.display())));
    ask(program.address("web"), 0..1500);
    until_written(&log, 1500);
    let files = files(&log);
    assert!((4..12).contains(&files.len()), "{files:?}");
    for file in files {
        assert!(file.metadata().unwrap().len() <= 64 * 1024, "{file:?}");
    }
}

#[test]
fn only_so_many_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let rotate = "rotate = { size = \"64KiB\", keep = 2 }";
    let program = Program::run(&config("", &format!("access = \"{}\"\n{rotate}", log.display())));
    ask(program.address("web"), 0..3000);
    until("the last line is there", || numbers(&log).contains(&2999));
    assert_eq!(files(&log).len(), 3);
    let kept = numbers(&log);
    assert_eq!(kept, (kept[0]..3000).collect::<Vec<_>>(), "the newest ones, without a gap");
}

#[test]
fn files_are_rotated_by_age_and_diagnostics_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let lines =
        format!("access = \"{}\"\nrotate = {{ every = \"1s\", keep = 100 }}", log.display());
    let program = Program::run(&config("", &lines));
    let (door, begin) = (program.address("web"), Instant::now());
    let mut asked = 0;
    while begin.elapsed() < Duration::from_millis(2500) {
        ask(door, asked..asked + 1);
        asked += 1;
    }
    until_written(&log, asked);
    assert!((3..=5).contains(&files(&log).len()), "{:?}", files(&log));
    // In each file, lines of one second alone; they are written within a tenth of one.
    let seconds = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| line[..19].to_owned()).collect::<BTreeSet<_>>()
    };
    let most = files(&log).iter().map(|file| seconds(file).len()).max();
    assert!(most.unwrap() <= 2, "{most:?}");
}

#[test]
fn another_user_in_the_sandbox_rotates_in_a_folder_that_is_not_its_own() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: only root can become somebody else");
        return;
    }
    for own in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        if own {
            chown(&logs, Some(65_534), Some(65_534)).unwrap();
        }
        let log = logs.join("access.log");
        let rotate = "rotate = { size = \"64KiB\", keep = 20 }";
        let process = "user = 65534\ngroup = 65534\nsandbox = \"strict\"";
        let program =
            Program::run(&config(process, &format!("access = \"{}\"\n{rotate}", log.display())));
        ask(program.address("web"), 0..1000);
        until_written(&log, 1000);
        assert!(files(&log).len() >= 3, "{:?}", files(&log));
        let owner = std::os::unix::fs::MetadataExt::uid(&log.metadata().unwrap());
        assert_eq!(owner, 65_534, "it can be opened anew by whoever writes it");
        assert!(!program.diagnostics().contains("rotate "), "{}", program.diagnostics());
    }
}

#[test]
fn what_cannot_be_moved_is_told_once_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    // Nothing can take the place of a folder.
    fs::create_dir(folder.path().join("access.log.1")).unwrap();
    let rotate = "rotate = { size = \"64KiB\", keep = 1 }";
    let program = Program::run(&config("", &format!("access = \"{}\"\n{rotate}", log.display())));
    ask(program.address("web"), 0..1500);
    program.until_said("going on with the old file");
    until("every line is there", || fs::read_to_string(&log).unwrap().lines().count() == 1500);
    assert_eq!(program.diagnostics().matches("going on with the old file").count(), 1);
}

#[test]
fn two_processes_that_write_one_file_rotate_it_together() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let text =
        format!("access = \"{}\"\nrotate = {{ size = \"64KiB\", keep = 50 }}", log.display());
    let one = Program::run(&config("", &text));
    let other = Program::run(&config("", &text));
    let doors = [one.address("web"), other.address("web")];
    std::thread::scope(|scope| {
        for (half, door) in doors.into_iter().enumerate() {
            scope.spawn(move || ask(door, half * 1500..(half + 1) * 1500));
        }
    });
    until("every line is there", || numbers(&log).len() >= 3000);
    let mut all = numbers(&log);
    all.sort_unstable();
    assert_eq!(all, (0..3000).collect::<Vec<_>>());
    assert!(files(&log).len() >= 6, "{:?}", files(&log));
}
