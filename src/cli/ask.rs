//! A small client of the admin socket: finds the running process by its config file, asks it once, and reads the answer. It
//! speaks only to sockets of this machine and knows nothing of proxies.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};
use toml::de::{DeTable, DeValue};

use super::{ConfigFile, complain, exit};
use crate::admin::message::{Kind, Refusal};
use crate::admin::place;
use crate::config::{AdminListen, Config};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long an answer may take: a reload may have much to load.
const ANSWER_WITHIN: Duration = Duration::from_secs(130);
/// A longer answer is not one of ours.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Which process is meant, and how it is to be spoken of.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The admin socket of the process, in place of finding it by the config file.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Why there is no answer that was hoped for.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is there.
    NotReached(String),
    /// Whoever is there does not speak as we do.
    NotUnderstood(String),
    Refused(Refusal),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// As it came.
    pub(super) text: String,
    pub(super) value: T,
}

impl Failure {
    /// Complains, and gives the exit code.
    pub(super) fn say(&self, json: bool) -> u8 {
        match self {
            Failure::NotReached(what) | Failure::NotUnderstood(what) => {
                complain(&format!("evenkeel: {what}"));
                exit::NOT_REACHED
            }
            Failure::Refused(refusal) => {
                match (json, refusal.kind) {
                    (true, _) => super::say(&serde_json::to_string(refusal).unwrap_or_default()),
                    (false, Kind::Config) => complain(&refusal.error),
                    (false, _) => complain(&format!("evenkeel: {}", refusal.error)),
                }
                match refusal.kind {
                    Kind::Config => exit::BAD_CONFIG,
                    Kind::Start => exit::NOT_STARTED,
                    Kind::Order
                    | Kind::Unknown
                    | Kind::Refused
                    | Kind::Elsewhere
                    | Kind::Stale
                    | Kind::Unconditional => exit::REFUSED,
                }
            }
        }
    }
}

impl Reach {
    /// Whether the process was named by its socket.
    pub(super) fn names_a_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks for something.
    pub(super) fn see<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.ask("GET", path, None)
    }

    /// Gives an order.
    pub(super) fn order<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        self.ask("POST", path, Some(&serde_json::to_vec(order).unwrap_or_default()))
    }

    /// Gives an order that is meant for the config of this mark.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        (method, path): (&str, &str),
        mark: &str,
        order: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        let order = serde_json::to_vec(order).unwrap_or_default();
        self.understood(self.fetch(method, path, Some(&order), Some(mark))?)
    }

    /// Asks for a text.
    pub(super) fn text(&self, path: &str) -> Result<String, Failure> {
        let (status, text) = self.fetch("GET", path, None, None)?;
        if status == 200 {
            Ok(text)
        } else {
            Err(self
                .understood::<()>((status, text))
                .err()
                .unwrap_or_else(|| Failure::NotUnderstood("the answer is none".to_owned())))
        }
    }

    /// Has something removed.
    pub(super) fn remove<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.ask("DELETE", path, None)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer<T>, Failure> {
        self.understood(self.fetch(method, path, body, None)?)
    }

    fn fetch(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        mark: Option<&str>,
    ) -> Result<(u16, String), Failure> {
        let mut stream = self.connect()?;
        let mark = mark.map_or(String::new(), |mark| format!("If-Match: \"{mark}\"\r\n"));
        exchange(&mut stream, (method, path), &mark, body).map_err(|error| {
            Failure::NotReached(format!("the process did not answer to the end: {error}"))
        })
    }

    fn understood<T: DeserializeOwned>(
        &self,
        (status, text): (u16, String),
    ) -> Result<Answer<T>, Failure> {
        let not_understood = |error: serde_json::Error| {
            Failure::NotUnderstood(format!("the answer ({status}) is not understood: {error}"))
        };
        if status != 200 {
            return Err(Failure::Refused(serde_json::from_str(&text).map_err(not_understood)?));
        }
        let value = serde_json::from_str(&text).map_err(not_understood)?;
        Ok(Answer { text, value })
    }

    fn connect(&self) -> Result<UnixStream, Failure> {
        let sockets = self.sockets()?;
        let mut looked_at = Vec::new();
        for path in &sockets {
            match connect(path) {
                Ok(stream) => return Ok(stream),
                // It may be that of somebody else's process, and ours be at the next place.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let path = path.display();
                    let who = "only the user of the process and root may speak to it";
                    looked_at.push(format!("{path}: {error}; {who}"));
                }
                Err(error) => looked_at.push(format!("{}: {error}", path.display())),
            }
        }
        let file = self.file.config.display();
        let by = match &self.socket {
            Some(_) => "it was asked for there".to_owned(),
            None => format!("the process is found by its config file, {file}; name it with -c"),
        };
        let looked_at = looked_at.join("\n  ");
        Err(Failure::NotReached(format!("no running process answers; {by}\n  {looked_at}")))
    }

    /// Where the process may be listening.
    fn sockets(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(path) = &self.socket {
            let text = path.to_string_lossy();
            return Ok(vec![text.strip_prefix("unix:").map_or(path.clone(), PathBuf::from)]);
        }
        let file = &self.file.config;
        let mut paths = Vec::new();
        match AdminListen::socket(&written(file)) {
            Some(AdminListen::Off) => {
                let file = file.display();
                let said = format!("{file} has switched the admin socket off: [admin] listen");
                return Err(Failure::NotReached(said));
            }
            Some(AdminListen::Unix(path)) => paths.push(path.clone()),
            Some(AdminListen::Tcp(_)) | None => {}
        }
        // The process may have begun before the file said anything.
        paths.extend(place::of(file).into_iter().filter(|path| place::is_trusted(path)));
        Ok(paths)
    }
}

/// What a config file says of the socket, also if it has errors: it may be broken just now, which is why somebody asks.
fn written(file: &Path) -> Vec<AdminListen> {
    if let Ok(loaded) = Config::from_file(file) {
        return loaded.config.admin.listen;
    }
    recovered(file).unwrap_or_default()
}

/// The same of a file that has errors.
fn recovered(file: &Path) -> Option<Vec<AdminListen>> {
    let text = std::fs::read_to_string(file).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let admin = table.get_ref().iter().find(|(key, _)| key.get_ref() == "admin");
    let DeValue::Table(admin) = admin?.1.get_ref() else { return None };
    let listen = admin.iter().find(|(key, _)| key.get_ref() == "listen")?.1.get_ref();
    let alone = listen.as_str();
    let listed = listen.as_array().into_iter().flat_map(|all| all.iter());
    let texts = listed.filter_map(|one| one.get_ref().as_str()).chain(alone);
    let folder = std::path::absolute(file).ok()?.parent()?.to_owned();
    let read = texts.filter_map(|text| match text.parse().ok()? {
        AdminListen::Unix(path) => Some(AdminListen::Unix(folder.join(path))),
        other => Some(other),
    });
    Some(read.collect())
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    // It limits connecting too, where the queue of a process that hangs is full.
    socket.set_write_timeout(Some(CONNECT_WITHIN))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// One request and its answer, whose end is the end of the connection.
fn exchange(
    stream: &mut UnixStream,
    (method, path): (&str, &str),
    more: &str,
    body: Option<&[u8]>,
) -> io::Result<(u16, String)> {
    let body = body.unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: evenkeel\r\nConnection: close\r\n\
         {more}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    // One that is refused may be answered before all of it was taken.
    let sent = stream.write_all(&[head.as_bytes(), body].concat());
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_MAX).read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        sent?;
        read?;
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection"));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_says_where_the_socket_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broken.toml");
        for broken in ["[tcp.a]\nlisten = 7\n", "[upstream.a\nbackends = \n"] {
            std::fs::write(&file, format!("[admin]\nlisten = \"unix:a.sock\"\n{broken}")).unwrap();
            let expected = AdminListen::Unix(folder.path().join("a.sock"));
            assert_eq!(written(&file), [expected], "{broken}");
        }
        assert_eq!(written(&folder.path().join("none.toml")), []);
    }
}
