//! The command line: what can be typed, and which room does it. Each command has a file of its own.
//! Nothing here knows how traffic is carried; commands build a config and start a proxy like any embedding program.

mod ask;
mod changes;
mod check;
mod config;
mod connections;
mod daemon;
mod demo;
mod diff;
mod draining;
mod explain;
mod http;
mod journal;
mod packet;
mod pages;
mod place;
mod reload;
mod reloading;
mod replay;
mod run;
mod set;
mod status;
mod tcp;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::process::{Successor, starter};
use place::Place;

/// Exit codes, the same for every command; documented in `--help` (see `EXIT_CODES`) and docs/commands.md.
pub(crate) mod exit {
    /// It worked.
    pub(crate) const FINE: u8 = 0;
    /// The config has errors.
    pub(crate) const BAD_CONFIG: u8 = 1;
    /// The command line has errors; the same as clap has.
    pub(crate) const BAD_LINE: u8 = 2;
    /// It could not start: an address is in use, a file cannot be opened.
    pub(crate) const NOT_STARTED: u8 = 3;
    /// Not everything that was sent was answered; or a pick comes out differently when it is made again.
    pub(crate) const FAILED: u8 = 4;
    /// No running process answers on its admin socket.
    pub(crate) const NOT_REACHED: u8 = 5;
    /// The running process refused: it has nothing of that name, or cannot do it now.
    pub(crate) const REFUSED: u8 = 6;
    /// Connections remained when the time to wait was over.
    pub(crate) const TIME_OVER: u8 = 7;
}

const EXIT_CODES: &str = "\
Examples:
  evenkeel check -c evenkeel.toml && evenkeel run -c evenkeel.toml
  evenkeel status                                   beside it: what it is doing
  evenkeel reload --confirm-within 60s              after a change of the file
  evenkeel drain app/10.0.0.1:8080 --wait           before a backend is restarted

Exit codes:
  0  it worked
  1  the config has errors
  2  the command line has errors
  3  it could not start
  4  not everything that was sent was answered, or a pick comes out differently when replayed
  5  no running process answers
  6  the running process refused
  7  connections remained when the time to wait was over

Signals to a running process:
  HUP                        reload the config
  TERM, QUIT, the first INT  drain
  a second TERM or INT       cut
  USR1                       reopen logs
  USR2                       start the program anew, which takes over every connection that can go on

More: https://github.com/evenkeel/evenkeel/tree/main/docs";

/// A TCP and HTTP load balancer: one binary, one TOML file.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
    /// Take over from the process at the other end of standard input.
    #[arg(long, hide = true, global = true)]
    take_over: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a config file says, until told to stop.
    ///
    /// Example: evenkeel run -c /etc/evenkeel.toml
    Run(run::Arguments),
    /// Say everything that is wrong with a config file, and change nothing.
    ///
    /// Example: evenkeel check -c new.toml && mv new.toml /etc/evenkeel.toml
    Check(check::Arguments),
    /// Say what another config file would change, key by key.
    ///
    /// Beside what the running process has in force, with the open connections that it touches; where none is running, beside
    /// the file.
    ///
    /// Example: evenkeel diff -c /etc/evenkeel.toml new.toml
    Diff(diff::Arguments),
    /// Have the running process read its config file again, and say what has changed.
    ///
    /// A file with errors changes nothing. With --confirm-within, the config before comes back by itself unless you confirm.
    ///
    /// Example: evenkeel reload -c /etc/evenkeel.toml --confirm-within 60s
    Reload(reloading::Arguments),
    /// Stay with the config of the last `reload --confirm-within`.
    ///
    /// Example: evenkeel confirm -c /etc/evenkeel.toml
    Confirm(reloading::Confirm),
    /// Have the running process start its program anew, and hand everything that is open to it.
    ///
    /// For a new version, or to get back rights that were given up. Nothing is closed: connections in clear go on in the new
    /// process, others are finished by the old one, which then ends. If the new one cannot begin, nothing changes.
    ///
    /// Example: evenkeel upgrade -c /etc/evenkeel.toml
    Upgrade(reloading::Upgrade),
    /// Say what the running process is doing: listeners, backends, open connections.
    ///
    /// Example: evenkeel status -c /etc/evenkeel.toml
    Status(status::Arguments),
    /// Watch the running process live: rates, times and errors of listeners, upstreams and backends.
    ///
    /// Keys sort, filter, drain a backend and take it back; `?` lists them. `--once` prints one picture for a script.
    ///
    /// Example: evenkeel top -c /etc/evenkeel.toml
    Top(top::Arguments),
    /// Say why a request or a connection goes where it goes: listener, routes, backends, and the reason of the pick.
    ///
    /// Of the running process with its counts, or, with -c, of a config file alone. Nothing is sent and no turn is taken.
    ///
    /// Example: evenkeel explain http http://www.example.com/api/users --from 203.0.113.7
    Explain(explain::Arguments),
    /// Show which decisions were made: what went where, when, and how long it stayed.
    ///
    /// Of the running process, or with --journal of one that has died, or of an exported file.
    ///
    /// Example: evenkeel journal --upstream app --since 10m
    Journal(journal::Arguments),
    /// Make every decision of a journal again and compare; or say where they would have gone by another config.
    ///
    /// Example: evenkeel replay --config new.toml
    Replay(replay::Arguments),
    /// List who is connected to the running process, or close one connection.
    ///
    /// Example: evenkeel connections --backend 10.0.0.1:8080 --older-than 1h
    Connections(connections::Arguments),
    /// Change keys of a backend of the running process, as its config file would.
    ///
    /// In force at once, and until the file is read again: `config --write` writes it down.
    ///
    /// Example: evenkeel set app/10.0.0.1:8080 weight=3 connections-max=100
    Set(set::Set),
    /// Add a backend to an upstream of the running process.
    ///
    /// Example: evenkeel add app 10.0.0.3:8080 weight=2
    Add(set::Add),
    /// Remove a backend from an upstream of the running process.
    ///
    /// Example: evenkeel remove app/10.0.0.1:8080
    Remove(set::Remove),
    /// Show the config that the running process has in force, or write it into a file.
    ///
    /// Example: evenkeel config -c /etc/evenkeel.toml --write /etc/evenkeel.toml
    Config(config::Arguments),
    /// Send a backend no new connections, and let those that are open end; or, with --all, stop the whole process so.
    ///
    /// Example: evenkeel drain app/10.0.0.1:8080 --wait --timeout 60s
    Drain(draining::Drain),
    /// Take back what was said by `drain` or `down`.
    ///
    /// Example: evenkeel ready app/10.0.0.1:8080
    Ready(draining::Named),
    /// Treat a backend as failed, at once and whatever its health checks say, until `ready`.
    ///
    /// Example: evenkeel down app/10.0.0.1:8080
    Down(draining::Named),
    /// Give a backend another weight until the next start; `config` takes that back.
    ///
    /// Example: evenkeel weight app/10.0.0.1:8080 3
    Weight(draining::Weight),
    /// Balance TCP without a config file.
    ///
    /// Example: evenkeel tcp --listen :8080 --to '10.0.0.1:80,10.0.0.2:80*2' --balance least-connections
    Tcp(tcp::Balancer),
    /// Balance HTTP without a config file, request by request.
    ///
    /// Example: evenkeel http --listen :8080 --to ':9001,:9002' --files /srv/www
    Http(http::Arguments),
    /// Try a framed protocol: send packets, or listen for them.
    ///
    /// Example: evenkeel packet send --length u32be 127.0.0.1:9000 hello
    Packet(packet::Arguments),
    /// Show a load balancer at work, with built-in backends and clients: nothing else is needed.
    ///
    /// Example: evenkeel demo --for 30s
    Demo(demo::Arguments),
    /// Print the JSON Schema of the config file, for editors and scripts.
    ///
    /// Example: evenkeel schema > evenkeel.schema.json
    Schema,
    /// Print what completes this command line in a shell.
    ///
    /// Example: evenkeel completions bash > /etc/bash_completion.d/evenkeel
    Completions(pages::Completions),
    /// Write a manual page for each command into a folder.
    ///
    /// Example: evenkeel man /usr/local/share/man/man1
    Man(pages::Man),
    /// Print the version.
    Version,
    /// Start the program in the place of a process that has given up its rights.
    #[command(hide = true, name = starter::COMMAND)]
    Starter(Starting),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    // Before it can be replaced.
    crate::process::program::path();
    let line = Line::parse();
    let place = match Place::find(line.take_over) {
        Ok(place) => place,
        Err(error) => {
            complain(&format!("evenkeel: {error}"));
            return ExitCode::from(exit::NOT_STARTED);
        }
    };
    let code = match line.command {
        Command::Run(arguments) => run::run(&arguments, place),
        Command::Check(arguments) => check::check(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Tcp(arguments) => tcp::tcp(arguments, place),
        Command::Http(arguments) => http::http(arguments, place),
        Command::Reload(arguments) => reloading::reload(&arguments),
        Command::Confirm(arguments) => reloading::confirm(&arguments),
        Command::Upgrade(arguments) => reloading::upgrade(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Top(arguments) => top::top(arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Journal(arguments) => journal::journal(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Connections(arguments) => connections::connections(&arguments),
        Command::Set(arguments) => set::set(&arguments),
        Command::Add(arguments) => set::add(&arguments),
        Command::Remove(arguments) => set::remove(&arguments),
        Command::Config(arguments) => config::config(&arguments),
        Command::Drain(arguments) => draining::drain(&arguments),
        Command::Ready(arguments) => draining::ready(&arguments),
        Command::Down(arguments) => draining::down(&arguments),
        Command::Weight(arguments) => draining::weight(&arguments),
        Command::Packet(arguments) => packet::packet(arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Starter(starting) => starting.serve(),
        Command::Schema => {
            let schema = crate::Config::schema();
            say(&serde_json::to_string_pretty(&schema).unwrap_or_default());
            exit::FINE
        }
        Command::Completions(arguments) => pages::completions(&arguments),
        Command::Man(arguments) => pages::man(&arguments),
        Command::Version => {
            say(concat!("evenkeel ", env!("CARGO_PKG_VERSION")));
            exit::FINE
        }
    };
    ExitCode::from(code)
}

/// What a starter starts.
#[derive(Debug, clap::Args)]
struct Starting {
    program: PathBuf,
    /// The config that says what else it may do.
    #[arg(long)]
    config: Option<PathBuf>,
    /// For whom.
    #[arg(long, requires = "group")]
    user: Option<u32>,
    #[arg(long)]
    group: Option<u32>,
    #[arg(long)]
    folder: Option<PathBuf>,
    #[arg(last = true)]
    arguments: Vec<std::ffi::OsString>,
}

impl Starting {
    fn serve(self) -> u8 {
        let Starting { program, config, user, group, folder, arguments } = self;
        let successor = Successor { program, folder, arguments, starter: None };
        match starter::serve(&successor, config, user.zip(group)) {
            Ok(()) => exit::FINE,
            Err(error) => {
                complain(&format!("evenkeel: start what takes over: {error}"));
                exit::NOT_STARTED
            }
        }
    }
}

/// Where a config is looked for that is not named.
const DEFAULT_FILE: &str = "evenkeel.toml";

/// The `-c FILE` that several commands take.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file.
    #[arg(short, long = "config", value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

/// Prints a result on standard output. A reader that went away (`| head`) is no error.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a complaint on standard error.
fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether complaints may be coloured (https://no-color.org).
fn wants_color() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
