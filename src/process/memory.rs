//! How much memory the process uses, held against its budget. Near it, connections that were idle for longest make room; at it,
//! nobody new comes in: the process must never be killed for what its clients do. Looked at a few times a second.
//!
//! What counts is the larger of our own pages and what the control group is charged, which includes buffers of sockets; but what the group
//! has of files goes by itself. Where other programs share the group, it is held against its own limit alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::worker::{Crew, Task};
use crate::limits::Places;

/// How often memory is looked at, and room is made.
const LOOK: Duration = Duration::from_millis(250);

/// The share of a control group's limit that is the budget by default, in percent.
const OF_LIMIT: u64 = 80;

/// From this share of the budget on, idle connections make room, in percent.
const NEAR: u64 = 90;

/// How long a state that was said stands before the next one is.
const SAID_AGAIN: Duration = Duration::from_secs(5);

/// What the config says of memory; replaced by each new one.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// Sets another one; none is what the control group allows.
    pub(super) fn set(&self, max: Option<u64>) {
        self.0.store(max.unwrap_or(0), Relaxed);
    }

    /// How much is in use now, and of what.
    pub(super) fn state(&self) -> MemoryState {
        let (wish, group) = (Some(self.0.load(Relaxed)).filter(|max| *max > 0), Group::find());
        let Use { used, budget } = in_use(wish, group.as_ref());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut by = vec![
            ("heap", lines_in(&status, &["RssAnon:"])),
            ("shared", lines_in(&status, &["RssShmem:"])),
            ("program", lines_in(&status, &["RssFile:"])),
        ];
        by.extend(group.and_then(|group| group.sockets()).map(|bytes| ("kernel-buffers", bytes)));
        MemoryState { used, budget: Some(budget).filter(|budget| *budget != u64::MAX), by }
    }

    /// Looks after memory for as long as it runs. Runs on the control thread.
    pub(super) async fn keep(self: Arc<Self>, crew: Arc<Crew>, places: Arc<Places>) {
        let group = Group::find();
        let mut told = Told { state: State::Enough, at: Instant::now() };
        loop {
            tokio::time::sleep(LOOK).await;
            let wish = Some(self.0.load(Relaxed)).filter(|max| *max > 0);
            if wish.is_none() && group.is_none() && told.state == State::Enough {
                continue;
            }
            let in_use = in_use(wish, group.as_ref());
            let state = in_use.state();
            told.tell(state, in_use);
            places.shut(state == State::Over);
            if state != State::Enough {
                for tasks in &crew.tasks {
                    let _ = tasks.send(Task::MakeRoom { must_be: state == State::Over });
                }
            }
        }
    }
}

/// A reading of memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryState {
    /// Of the budget.
    pub(crate) used: u64,
    /// None if there is none.
    pub(crate) budget: Option<u64>,
    /// Whose it is, as far as that is known.
    pub(crate) by: Vec<(&'static str, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Enough,
    Near,
    Over,
}

/// What was said last.
struct Told {
    state: State,
    at: Instant,
}

impl Told {
    /// Says how it stands, if that is another state than before, and not each time that it sways.
    fn tell(&mut self, state: State, Use { used, budget }: Use) {
        let is_fresh =
            self.at.elapsed() < SAID_AGAIN && self.state != State::Enough && state != State::Over;
        if state == self.state || is_fresh {
            return;
        }
        (self.state, self.at) = (state, Instant::now());
        let (used, budget) = (mib(used), mib(budget));
        match state {
            State::Enough => {
                tracing::info!("memory: {used} of {budget} MiB in use, that is fine again");
            }
            State::Near => tracing::warn!(
                "memory: {used} of {budget} MiB in use: closing connections that were idle for longest"
            ),
            State::Over => tracing::error!(
                "memory: {used} of {budget} MiB in use: refusing new connections, and closing those that were idle for longest; raise memory-max, or lower connections-max and buffer sizes"
            ),
        }
    }
}

/// What is in use, of how much; whichever measure is closest to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    used: u64,
    budget: u64,
}

impl Use {
    fn state(self) -> State {
        let percent = u128::from(self.used) * 100 / u128::from(self.budget.max(1));
        match percent {
            100.. => State::Over,
            percent if percent >= u128::from(NEAR) => State::Near,
            _ => State::Enough,
        }
    }

    /// The one that is closer to its end.
    fn closer(self, other: Use) -> Use {
        let of = |one: Use, whole: Use| u128::from(one.used) * u128::from(whole.budget.max(1));
        if of(other, self) > of(self, other) { other } else { self }
    }
}

fn in_use(wish: Option<u64>, group: Option<&Group>) -> Use {
    let own = own_pages();
    let of_group = group.and_then(Group::measure);
    let default = of_group.map(|group| group.limit / 100 * OF_LIMIT);
    let budget = wish.or(default).unwrap_or(u64::MAX);
    let own = Use { used: own, budget };
    match of_group {
        None => own,
        Some(group) if group.is_ours_alone => own.closer(Use { used: group.used, budget }),
        Some(group) => {
            let budget = default.unwrap_or(u64::MAX);
            own.closer(Use { used: group.used, budget })
        }
    }
}

/// Pages of the process that are no file's, in bytes (proc_pid_status(5)).
fn own_pages() -> u64 {
    pages_in(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn pages_in(status: &str) -> u64 {
    lines_in(status, &["RssAnon:", "RssShmem:"])
}

/// What these lines of /proc/self/status come to, in bytes.
fn lines_in(status: &str, keys: &[&str]) -> u64 {
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let is_meant = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    status.lines().filter(is_meant).filter_map(kib).sum::<u64>() * 1024
}

/// The control group of this process that has a limit: the files that tell of it.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What a control group is charged, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Charge {
    used: u64,
    limit: u64,
    /// Whether nobody else is in it.
    is_ours_alone: bool,
}

impl Group {
    fn find() -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Group::find_below(Path::new("/sys/fs/cgroup"), &own)
    }

    /// The innermost one with a limit, from what /proc/self/cgroup says. In a container, its own one is mounted at the root.
    fn find_below(root: &Path, own: &str) -> Option<Group> {
        own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let (root, version) = match controllers {
                "" if root.join("unified").exists() => (root.join("unified"), Version::Two),
                "" => (root.to_owned(), Version::Two),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), Version::One)
                }
                _ => return None,
            };
            let path = Path::new(path.trim_start_matches('/'));
            let mut folders = path.ancestors().map(|path| root.join(path));
            let folder = folders.find(|folder| limit_in(folder, version).is_some())?;
            Some(Group { folder, version })
        })
    }

    /// Buffers of sockets, where nobody else's are among them.
    fn sockets(&self) -> Option<u64> {
        let charge = self.measure().filter(|charge| charge.is_ours_alone);
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        charge.filter(|_| self.version == Version::Two).map(|_| of(&stat, "sock"))
    }

    fn measure(&self) -> Option<Charge> {
        let limit = limit_in(&self.folder, self.version)?;
        let current = match self.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        let current: u64 = number(&self.folder.join(current))?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let files = match self.version {
            Version::One => ["total_inactive_file", "total_active_file"],
            Version::Two => ["inactive_file", "active_file"],
        };
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        let own = std::process::id().to_string();
        Some(Charge {
            used: current.saturating_sub(files.iter().map(|key| of(&stat, key)).sum()),
            limit,
            // In other namespaces of process numbers, others than ours are written as 0.
            is_ours_alone: members.lines().eq([own.as_str()]),
        })
    }
}

/// The limit of a group; none if it has none that could matter.
fn limit_in(folder: &Path, version: Version) -> Option<u64> {
    let file = match version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    };
    // Without one, version 1 says the largest number of pages, and version 2 says "max".
    number(&folder.join(file)).filter(|limit| *limit < 1 << 60)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value of a key in memory.stat.
fn of(stat: &str, key: &str) -> u64 {
    let mut values = stat.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    values.next().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_group_of_version_2_is_charged_without_its_files() {
        let own = std::process::id().to_string();
        let root = group(&[
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "1000000\n"),
            ("a/memory.current", "700000\n"),
            ("a/memory.stat", "anon 5\nfile 300000\ninactive_file 200000\nactive_file 90000\n"),
            ("a/cgroup.procs", &format!("{own}\n")),
        ]);
        let found = Group::find_below(root.path(), "0::/a/b\n").unwrap();
        assert_eq!(found, Group { folder: root.path().join("a"), version: Version::Two });
        let charge = Charge { used: 410_000, limit: 1_000_000, is_ours_alone: true };
        assert_eq!(found.measure(), Some(charge));
    }

    #[test]
    fn a_group_of_version_1_is_found_too_also_where_it_is_the_root_of_a_container() {
        let root = group(&[
            ("memory/memory.limit_in_bytes", "5000000\n"),
            ("memory/memory.usage_in_bytes", "600000\n"),
            ("memory/memory.stat", "total_inactive_file 100000\ninactive_file 7\n"),
            ("memory/cgroup.procs", "1\n2\n"),
        ]);
        let own = "5:cpu:/x\n4:memory:/docker/abc\n0::/\n";
        let found = Group::find_below(root.path(), own).unwrap();
        let charge = Charge { used: 500_000, limit: 5_000_000, is_ours_alone: false };
        assert_eq!(found.measure(), Some(charge));
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n")
            .unwrap();
        assert_eq!(Group::find_below(root.path(), own), None);
    }

    #[test]
    fn what_is_closest_to_its_end_decides() {
        let at = |used, budget| Use { used, budget };
        assert_eq!(at(89, 100).state(), State::Enough);
        assert_eq!(at(90, 100).state(), State::Near);
        assert_eq!(at(100, 100).state(), State::Over);
        assert_eq!(at(5, u64::MAX).state(), State::Enough);
        assert_eq!(at(10, 100).closer(at(20, 1000)), at(10, 100));
        assert_eq!(at(10, 100).closer(at(900, 1000)), at(900, 1000));
    }

    #[test]
    fn our_own_pages_are_those_of_no_file() {
        let status =
            "VmRSS:\t  900 kB\nRssAnon:\t  300 kB\nRssFile:\t  500 kB\nRssShmem:\t  100 kB\n";
        assert_eq!(pages_in(status), 400 * 1024);
        assert!(own_pages() > 100 * 1024);
    }
}
