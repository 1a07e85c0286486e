//! Keys that had another name in the release before. The old name is understood for one more release, with a warning that says the new
//! one: so a config never stops working from one release to the next, and an upgrade can be taken back.

/// A key under its old and its new name.
#[derive(Debug)]
pub(super) struct Renamed {
    /// The section it is in; `*` is any name.
    pub(super) section: &'static [&'static str],
    pub(super) old: &'static str,
    pub(super) new: &'static str,
}

/// All of them. Whoever removes a line makes a key stop working: one release after it came.
const RENAMED: &[Renamed] = &[];

#[cfg(test)]
const RENAMED_IN_TESTS: &[Renamed] =
    &[Renamed { section: &["upstream", "*"], old: "peers-of-before", new: "backends" }];
#[cfg(not(test))]
const RENAMED_IN_TESTS: &[Renamed] = &[];

/// Those of the section at a path.
pub(super) fn at(path: &[String]) -> impl Iterator<Item = &'static Renamed> {
    let is_it = move |section: &[&str]| {
        let pairs = section.iter().zip(path);
        section.len() == path.len() && pairs.into_iter().all(|(one, key)| *one == "*" || one == key)
    };
    RENAMED.iter().chain(RENAMED_IN_TESTS).filter(move |renamed| is_it(renamed.section))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const SAMPLE: &str = "\n[upstream.app]\nbackends = [\"192.168.1.1:8080\", \"192.168.1.2:8080\"]\n\n\
                          [tcp.public]\nlisten = \"0.0.0.0:8080\"\nupstream = \"app\"\n";

    #[test]
    fn a_key_by_its_old_name_means_the_same_and_is_warned_of() {
        let old = SAMPLE.replace("backends =", "peers-of-before =");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evenkeel.toml");
        std::fs::write(&file, &old).unwrap();
        let loaded = Config::from_file(&file).unwrap();
        assert_eq!(loaded.config, Config::parse(SAMPLE).unwrap());
        let said = loaded.warnings.to_string();
        assert!(said.contains(":3:1") && said.contains("is called \"backends\" now"), "{said}");
        // A list of what is wrong names the place by either name.
        let wrong = Config::parse(&old.replace("192.168.1.1:8080", "nowhere")).unwrap_err();
        assert!(wrong.to_string().contains(":3:20"), "{wrong}");
        let both = old.replace("[tcp", "backends = \"192.168.1.9:8080\"\n[tcp");
        let both = Config::parse(&both).unwrap_err().to_string();
        assert!(both.contains("the old name of \"backends\", which is here too"), "{both}");
        // Only where it was.
        let elsewhere = SAMPLE.replace("listen =", "peers-of-before = 1\nlisten =");
        assert!(Config::parse(&elsewhere).unwrap_err().to_string().contains("unknown key"));
    }
}
