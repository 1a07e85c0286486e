//! `evenkeel completions` and `evenkeel man`: what shells and `man` want to know of the command line, made of its own declaration, so that
//! neither can fall behind it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Line, complain, exit};

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    shell: Known,
}

/// The shells that there are completions for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The folder that they are written into, one for each command. It is made if it is not there.
    #[arg(value_name = "FOLDER")]
    into: PathBuf,
}

pub(super) fn completions(arguments: &Completions) -> u8 {
    let shell = match arguments.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut seen(&Line::command()), "evenkeel", &mut text);
    // A reader that went away is no error.
    let _ = std::io::stdout().write_all(&text);
    exit::FINE
}

/// A command as everybody may type it: what only we call is left out.
fn seen(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let about = command.get_about().cloned().unwrap_or_default();
    // For the rest of a life that ends when this is written.
    let name: &str = command.get_name().to_owned().leak();
    Command::new(name).about(about).args(arguments).subcommands(commands.map(seen))
}

pub(super) fn man(arguments: &Man) -> u8 {
    let into = &arguments.into;
    let made = std::fs::create_dir_all(into);
    match made.and_then(|()| clap_mangen::generate_to(Line::command(), into)) {
        Ok(()) => exit::FINE,
        Err(error) => {
            complain(&format!("evenkeel: write into {}: {error}", into.display()));
            exit::NOT_STARTED
        }
    }
}
