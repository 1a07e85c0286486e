//! A folder of files beside one that nobody may reach, and a proxy that serves it under `/static/*`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::http::{Recorder, config, serve};

pub(crate) type Site = (tempfile::TempDir, evenkeel::Running, SocketAddr, Recorder);

/// A site whose route has these further lines.
pub(crate) fn site(route: &str) -> Site {
    site_with(route, "")
}

/// The same with further lines of the listener.
pub(crate) fn site_with(route: &str, listener: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let root = root_of(&folder);
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir(folder.path().join("root-evil")).unwrap();
    fs::write(folder.path().join("root-evil/secret"), "secret").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(root.join("a.html"), "hello").unwrap();
    fs::write(root.join("sub/index.html"), "index").unwrap();
    fs::create_dir(root.join(".git")).unwrap();
    fs::write(root.join(".git/config"), "secret").unwrap();
    fs::write(root.join(".hidden"), "secret").unwrap();
    fs::write(root.join("unknown.kind"), "?").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("../root-evil", root.join("out-folder")).unwrap();
    symlink("/etc/passwd", root.join("far")).unwrap();
    symlink("a.html", root.join("in")).unwrap();
    let recorder = Recorder::echoing();
    let route = format!(
        "{listener}\n[[http.web.route]]\npath = \"/static/*\"\nfiles = \"{}\"\n{route}\n",
        root.display()
    );
    let (running, door) = serve(&config(&[recorder.address()], "", &route));
    (folder, running, door, recorder)
}

/// The folder that is served.
pub(crate) fn root_of(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("root")
}
