//! The `evenkeel` binary: hands the command line to `cli`, which knows every command. It does nothing else.

/// Requests make and drop many small things, HTTP/2 most of all. Without huge pages (`no_thp`): they would be had for a few
/// bytes, and an idle process would grow by megabytes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    evenkeel::cli::main()
}
