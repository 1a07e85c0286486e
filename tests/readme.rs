//! The config that the README tells people to paste, run by the real binary over real PostgreSQL and Redis servers: only the addresses are
//! changed, as any reader would do. And what it shows of the demo, held against a demo that runs.

use std::time::Duration;

use rustix::process::Signal;

use crate::real_postgres::{pgbench, transactions};
use crate::real_redis::benchmark;
use crate::support::program::Program;
use crate::support::servers::{self, free_address, run};

const READMES: [&str; 2] = [include_str!("../README.md"), include_str!("../README.zh-CN.md")];

#[test]
fn the_config_of_the_readme_balances_postgresql_and_redis() {
    let databases = [servers::postgres(), servers::postgres()];
    let caches = [servers::redis(), servers::redis()];
    // Nobody listens at the primary's address: the replicas must do without it.
    let addresses = [
        ("10.0.0.11:5432", databases[0].address.to_string()),
        ("10.0.0.12:5432", databases[1].address.to_string()),
        ("10.0.0.10:5432", free_address().to_string()),
        ("10.0.0.21:6379", caches[0].address.to_string()),
        ("10.0.0.22:6379", caches[1].address.to_string()),
        ("127.0.0.1:6432", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:7379", "127.0.0.1:0".to_owned()),
    ];
    let mut config = pasted();
    for (written, real) in &addresses {
        assert!(config.contains(written), "the README's config no longer has {written}");
        config = config.replace(written, real);
    }
    let mut program = Program::run(&config);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("select.sql");
    std::fs::write(&script, "SELECT 1;\n").expect("write");
    let mut queries = pgbench(program.address("postgres"));
    let said =
        run(queries.args(["-n", "-c", "8", "-T", "2", "-f"]).arg(&script), Duration::from_secs(60));
    assert!(transactions(&said) > 100, "{said}");
    benchmark(program.address("redis"), &[]);

    program.signal(Signal::TERM);
    assert!(program.until_exit(Duration::from_secs(10)).success());
    for server in databases.iter().chain(&caches) {
        let served = format!(" {} client-finished client ", server.address);
        assert!(program.output().contains(&served), "{}", program.output());
    }
}

/// Holds that both languages show what pasting a command of the demo really says: each line of it, but for numbers, and up to
/// where the README breaks off.
pub(crate) fn shows(command: &str, said: &str) {
    let said: Vec<String> = said.lines().map(shape).collect();
    let name = command.split("./evenkeel ").nth(1).expect("a command of ours");
    for readme in READMES {
        let mut lines = readme.lines().map(str::trim_start);
        let shown = lines.find(|line| line.starts_with("$ cd ") && line.contains(name));
        let shown = shown.unwrap_or_else(|| panic!("the README does not paste `{name}`"));
        assert_eq!(shape(shown.trim_start_matches("$ ")), shape(command));
        let block: Vec<String> = lines.take_while(|line| *line != "```").map(shape).collect();
        assert!(!block.is_empty(), "nothing stands below `{name}`");
        for line in block {
            assert!(said.contains(&line), "{line:?} of the README is not in {said:#?}");
        }
    }
}

/// Holds that the picture in both languages has these lines.
pub(crate) fn pictures(commands: &[&str]) {
    for readme in READMES {
        let picture = readme.split("```text\nEvenkeel demo: ").nth(1).expect("a picture");
        let picture = picture.split("```").next().unwrap_or_default();
        let shapes: Vec<String> = picture.lines().map(shape).collect();
        for command in commands {
            assert!(shapes.contains(&shape(command)), "{command:?} is not in {shapes:#?}");
        }
    }
}

/// A line without what differs from run to run: numbers, the token, the folder, and how wide columns are.
fn shape(line: &str) -> String {
    let form = |form: &str| regex::Regex::new(form).expect("a form");
    let line = form(r"^cd \S+").replace(line.trim(), "cd FOLDER");
    let line = form(r"#token=[0-9a-f]+").replace(&line, "#token=TOKEN");
    let line = form(r"\d+(\.\d+)*").replace_all(&line, "N").into_owned();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first block of TOML in the README.
fn pasted() -> String {
    let readme = READMES[0];
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README has a config").to_owned()
}
