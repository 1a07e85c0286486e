//! What a release is made of: a package that installs what it should and keeps what an operator has changed, and an image whose
//! process is nobody special. Nothing is installed here, and no image is built.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::program::once;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {:?}: {error}", command.get_program());
            None
        }
    }
}

#[test]
fn the_package_has_the_program_its_unit_and_a_config_that_stays_the_operators() {
    if run(Command::new("dpkg-deb").arg("--version")).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A small program in the place of ours, which takes long to compress.
    let made =
        Command::new(root().join("contrib/deb.sh")).arg("/bin/true").arg(folder.path()).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
    let package = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(package.contains(concat!("evenkeel_", env!("CARGO_PKG_VERSION"), "_")), "{package}");
    let unpacked = folder.path().join("unpacked");
    let unpack = Command::new("dpkg-deb").arg("-R").arg(&package).arg(&unpacked).output().unwrap();
    assert!(unpack.status.success(), "{unpack:?}");
    for file in [
        "usr/bin/evenkeel",
        "usr/lib/systemd/system/evenkeel.service",
        "etc/evenkeel/evenkeel.toml",
        "usr/share/doc/evenkeel/production.md",
        "usr/share/doc/evenkeel/copyright",
        "usr/share/bash-completion/completions/evenkeel",
        "usr/share/zsh/vendor-completions/_evenkeel",
        "usr/share/fish/vendor_completions.d/evenkeel.fish",
    ] {
        assert!(unpacked.join(file).is_file(), "{file}");
    }
    let read = |file: &str| fs::read_to_string(unpacked.join("DEBIAN").join(file)).unwrap();
    assert_eq!(read("conffiles").trim(), "/etc/evenkeel/evenkeel.toml");
    assert!(read("postinst").contains("useradd --system"));
    assert!(!read("control").contains("@VERSION@"), "{}", read("control"));
    for script in ["postinst", "prerm", "postrm"] {
        let script = unpacked.join("DEBIAN").join(script);
        let looked = Command::new("sh").arg("-n").arg(&script).output().unwrap();
        assert!(looked.status.success(), "{looked:?}");
    }
}

#[test]
fn the_config_of_the_package_is_fine_and_answers_to_nobody_outside() {
    let fine = once(&["check", "-c", "contrib/evenkeel.toml"], root());
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    assert!(fine.stderr.is_empty(), "{fine:?}");
    let text = fs::read_to_string(root().join("contrib/evenkeel.toml")).unwrap();
    let listens: Vec<_> = text.lines().filter(|line| line.starts_with("listen")).collect();
    assert_eq!(listens, ["listen = \"127.0.0.1:8080\""]);
}

#[test]
fn the_image_is_built_in_two_stages_and_its_process_is_nobody_special() {
    let text = fs::read_to_string(root().join("contrib/Dockerfile")).unwrap();
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let lines: Vec<_> = text.lines().filter(is_said).collect();
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert_eq!(lines.iter().filter(|line| line.starts_with("FROM ")).count(), 2);
    let user = lines[last..].iter().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let user: u32 = user.split(':').next().unwrap().parse().expect("a number, for Kubernetes");
    assert!(user >= 10_000);
    assert!(lines[last..].contains(&"STOPSIGNAL SIGTERM"));
    // The version of the compiler is the one that the crate asks for.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(lines[0].contains(&format!("rust:{}", wanted.trim_matches('"'))), "{}", lines[0]);
}
