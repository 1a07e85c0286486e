//! `evenkeel journal`: which decisions were made, the newest last, from the rings of the running process or of one that has died. It
//! reads files beside the process and costs it nothing.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ask::{Answer, Failure, Reach};
use super::status::table;
use super::{ConfigFile, complain, exit, say};
use crate::admin::message::JournalAnswer;
use crate::config::Time;
use crate::observe::clock;
use crate::observe::journal::{Chronicle, DecisionRow};

/// How often new ones are looked for.
const PAUSE: Duration = Duration::from_millis(200);
/// Those that are read at a time while following.
const FOLLOWED_MAX: usize = 10_000;

/// Where a journal is looked for.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The config file of the running process.
    pub(super) file: &'a Path,
    pub(super) socket: Option<&'a Path>,
    /// A folder or a file, in place of asking a process.
    pub(super) journal: Option<&'a Path>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The admin socket of the process, in place of finding it by the config file.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Read this: a folder that a process has left, or an exported file. Without it, the running process says where it is.
    #[arg(long, value_name = "FOLDER|FILE")]
    journal: Option<PathBuf>,
    /// How many decisions at most, the latest.
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
    /// Go on with what comes, until it is interrupted.
    #[arg(long, conflicts_with_all = ["export", "json"])]
    follow: bool,
    /// Only decisions of this upstream.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only decisions for this backend.
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<String>,
    /// Only decisions for this client.
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// Only decisions of this request, by its id.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only decisions that are no older: `10m`.
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Print them as a JSON array.
    #[arg(long)]
    json: bool,
    /// Write everything that `replay` needs into a new file: all decisions, and what they were made of.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

impl Place<'_> {
    /// The folder or file, or the exit code.
    fn find(&self) -> Result<PathBuf, u8> {
        if let Some(path) = self.journal {
            return Ok(path.to_owned());
        }
        let file = ConfigFile { config: self.file.to_owned() };
        let reach = Reach { file, socket: self.socket.map(Path::to_owned), json: false };
        let answer: Result<Answer<JournalAnswer>, Failure> = reach.see("/v1/journal?last=0");
        let folder = answer.map_err(|failure| failure.say(false))?.value.folder;
        folder.map(PathBuf::from).ok_or_else(|| {
            complain("evenkeel: the process keeps no journal: [log] journal, or its log says why");
            exit::REFUSED
        })
    }

    /// Everything in it, or the exit code.
    pub(super) fn read(&self) -> Result<Chronicle, u8> {
        Chronicle::read(&self.find()?).map_err(|error| {
            complain(&format!("evenkeel: {error}"));
            exit::NOT_REACHED
        })
    }
}

pub(super) fn journal(arguments: &Arguments) -> u8 {
    let code = match (&arguments.export, arguments.follow) {
        (Some(path), _) => export(arguments, path),
        (None, true) => follow(arguments),
        (None, false) => show(arguments),
    };
    code.map_or_else(|code| code, |()| exit::FINE)
}

fn show(arguments: &Arguments) -> Result<(), u8> {
    let rows = arguments.place().read()?.rows();
    let rows: Vec<_> = rows.into_iter().filter(|row| arguments.is_meant(row)).collect();
    let rows = &rows[rows.len().saturating_sub(arguments.last)..];
    if arguments.json {
        say(&serde_json::to_string_pretty(rows).unwrap_or_default());
    } else {
        let titles =
            ["TIME", "LISTENER", "CLIENT", "UPSTREAM", "BACKEND", "LASTED", "REQUEST", "REASON"];
        table(&titles, rows.iter().map(cells).collect()).iter().for_each(|line| say(line));
    }
    Ok(())
}

fn export(arguments: &Arguments, path: &Path) -> Result<(), u8> {
    let chronicle = arguments.place().read()?;
    chronicle.export(path).map_err(|error| {
        complain(&format!("evenkeel: {}: {error}", path.display()));
        exit::NOT_STARTED
    })?;
    complain(&format!("{} decisions in {}", chronicle.picks().count(), path.display()));
    Ok(())
}

/// Prints what comes until the journal is gone.
fn follow(arguments: &Arguments) -> Result<(), u8> {
    let place = arguments.place().find()?;
    let mut seen: HashSet<(u16, u64)> = HashSet::new();
    let mut is_first = true;
    loop {
        let Ok(chronicle) = Chronicle::latest(&place, FOLLOWED_MAX) else { return Ok(()) };
        let rows = chronicle.rows();
        let fresh = rows.iter().filter(|row| !seen.contains(&identity(row)));
        let mut fresh: Vec<_> = fresh.filter(|row| arguments.is_meant(row)).collect();
        if std::mem::take(&mut is_first) {
            fresh.drain(..fresh.len().saturating_sub(arguments.last));
        }
        fresh.iter().for_each(|row| say(&cells(row).join("  ")));
        seen = rows.iter().map(identity).collect();
        std::thread::sleep(PAUSE);
    }
}

fn identity(row: &DecisionRow) -> (u16, u64) {
    (row.worker, row.position)
}

impl Arguments {
    fn place(&self) -> Place<'_> {
        let (socket, journal) = (self.socket.as_deref(), self.journal.as_deref());
        Place { file: &self.file.config, socket, journal }
    }

    fn is_meant(&self, row: &DecisionRow) -> bool {
        let is = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        };
        let since = self.since.as_ref().and_then(|since| SystemTime::now().checked_sub(since.0));
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        is(&self.upstream, Some(&row.upstream))
            && is(&self.backend, row.backend.as_ref())
            && is(&self.from.map(|from| from.to_canonical().to_string()), row.client.as_ref())
            && self.request.as_ref().is_none_or(|id| row.is_of(id))
            && since.is_none_or(|since| u128::from(row.at_ms) >= since.as_millis())
    }
}

fn cells(row: &DecisionRow) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let at = UNIX_EPOCH + Duration::from_millis(row.at_ms);
    let route = row.route.map(|route| format!("#{route}")).unwrap_or_default();
    let mut time = String::new();
    clock::write_time(&mut time, at);
    let note = match row.outcome.as_str() {
        "taken" => row.reason.clone(),
        outcome => format!("{outcome}; {}", row.reason),
    };
    vec![
        time,
        format!("{}{route}", row.listener),
        or_none(row.client.clone()),
        row.upstream.clone(),
        or_none(row.backend.clone()),
        or_none(row.lasted_ms.map(|millis| format!("{millis:.1} ms"))),
        or_none(row.request.clone()),
        note,
    ]
}
