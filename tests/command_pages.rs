//! Completions and manual pages: shells take them, each command is in them, and what is nobody's business is not.

use std::path::Path;
use std::process::Command;

use crate::support::program::once;

/// Commands that everybody may type.
const SOME: [&str; 6] = ["run", "reload", "connections", "drain", "set", "completions"];

fn completions(shell: &str) -> String {
    let output = once(&["completions", shell], Path::new("."));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_shell_completes_commands_and_their_flags() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("evenkeel.bash");
    std::fs::write(&script, completions("bash")).unwrap();
    // As the shell calls it for what has been typed.
    let complete = |words: &str, last: usize| {
        let word = words.split(' ').next_back().unwrap();
        let typed = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; COMP_TYPE=9; _evenkeel evenkeel {word} evenkeel; echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &typed]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("evenkeel conn", 1).trim(), "connections");
    let flags = complete("evenkeel connections --", 2);
    for flag in ["--upstream", "--older-than", "--json"] {
        assert!(flags.contains(flag), "{flags}");
    }
    assert!(!complete("evenkeel ''", 1).contains("starter"));
    for shell in ["zsh", "fish"] {
        let text = completions(shell);
        for name in SOME {
            assert!(text.contains(name), "{name} is not in the completions of {shell}");
        }
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("man1");
    let output = once(&["man", into.to_str().unwrap()], Path::new("."));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for name in SOME {
        let page = std::fs::read_to_string(into.join(format!("evenkeel-{name}.1"))).unwrap();
        assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
    }
    let all = std::fs::read_dir(&into).unwrap().flatten();
    let names: Vec<_> = all.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"evenkeel.1".to_owned()));
    assert!(!names.iter().any(|name| name.contains("starter")), "{names:?}");
    let nowhere = once(&["man", "/dev/null/x"], Path::new("."));
    assert_eq!(nowhere.status.code(), Some(3));
}
