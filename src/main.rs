//! The `evenkeel` binary: hands the command line to `cli`, which knows every command. It does nothing else.

fn main() -> std::process::ExitCode {
    evenkeel::cli::main()
}
