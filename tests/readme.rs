//! The config that the README tells people to paste, run by the real binary over real PostgreSQL and Redis servers.
//! Only the addresses are changed, as any reader would do.

use std::time::Duration;

use rustix::process::Signal;

use crate::real_postgres::{pgbench, transactions};
use crate::real_redis::benchmark;
use crate::support::program::Program;
use crate::support::servers::{self, free_address, run};

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

/// The first block of TOML in the README.
fn pasted() -> String {
    let readme = include_str!("../README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README has a config").to_owned()
}
