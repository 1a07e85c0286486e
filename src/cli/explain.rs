//! `evenkeel explain`: why a request or a connection goes where it goes, asked of the running process with its counts, or of a
//! config file alone. It only asks: no turn is taken, and nothing is sent to a backend.

use std::net::IpAddr;
use std::path::PathBuf;

use super::ask::{Answer, Reach};
use super::status::table;
use super::{ConfigFile, complain, exit, say, wants_color};
use crate::config::Config;
use crate::observe::reasons::{Asked, CandidateRow, Choice, Reasons};
use crate::process::explain_offline;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Explain by this config file alone. Without it, the running process is asked.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Ask the running process that was started with the file of -c.
    #[arg(long, global = true)]
    live: bool,
    /// Ask the process behind this admin socket.
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A request.
    ///
    /// Example: evenkeel explain http https://www.example.com/api --header 'Cookie: a=b' --from 203.0.113.7
    Http(Request),
    /// A TCP connection.
    ///
    /// Example: evenkeel explain tcp --listener db --from 203.0.113.7
    Tcp(Connection),
}

#[derive(Debug, clap::Args)]
struct Request {
    /// What is asked for, as a whole URL.
    url: String,
    /// A line of the request's head. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    #[arg(long, default_value = "GET")]
    method: String,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, clap::Args)]
struct Connection {
    /// A protocol that a TLS client offers. May be repeated.
    #[arg(long, value_name = "NAME")]
    alpn: Vec<String>,
    #[command(flatten)]
    client: Client,
}

#[derive(Debug, clap::Args)]
struct Client {
    /// Where the client connects from.
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// The listener; needed where several fit.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that a TLS client asks for; for a URL, its host unless this says otherwise.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

impl What {
    fn asked(&self) -> Asked {
        let (client, asked) = match self {
            What::Http(Request { url, header, method, client }) => {
                let (url, method) = (Some(url.clone()), Some(method.clone()));
                (client, Asked { url, method, headers: header.clone(), ..Asked::default() })
            }
            What::Tcp(Connection { alpn, client }) => {
                (client, Asked { alpn: alpn.clone(), ..Asked::default() })
            }
        };
        let Client { from, listener, sni } = client;
        Asked { from: *from, listener: listener.clone(), sni: sni.clone(), ..asked }
    }
}

pub(super) fn explain(arguments: &Arguments) -> u8 {
    let Arguments { what, config, live, socket, json } = arguments;
    let asked = what.asked();
    let reasons = match config {
        Some(file) if !live && socket.is_none() => match offline(file.clone(), &asked) {
            Ok(reasons) => reasons,
            Err(code) => return code,
        },
        file => {
            let config = file.clone().unwrap_or_else(|| super::DEFAULT_FILE.into());
            let reach = Reach { file: ConfigFile { config }, socket: socket.clone(), json: *json };
            let answer: Result<Answer<Reasons>, _> = reach.order("/v1/explain", &asked);
            match answer {
                Ok(answer) => answer.value,
                Err(failure) => return failure.say(*json),
            }
        }
    };
    if *json {
        say(&serde_json::to_string_pretty(&reasons).unwrap_or_default());
    } else {
        say(&drawn(&reasons));
    }
    exit::FINE
}

/// The exit code, if the file or the question is no good.
fn offline(file: PathBuf, asked: &Asked) -> Result<Reasons, u8> {
    let loaded = Config::from_file(&file).map_err(|problems| {
        complain(problems.render(wants_color()).trim_end());
        exit::BAD_CONFIG
    })?;
    explain_offline(&loaded.config, asked).map_err(|error| {
        complain(&format!("evenkeel: {error}"));
        exit::REFUSED
    })
}

fn drawn(reasons: &Reasons) -> String {
    let Reasons { listener, addresses, client, .. } = reasons;
    let mut lines = vec![format!("{listener} on {}, for {client}", addresses.join(", "))];
    if let Some(tls) = &reasons.tls {
        let name = tls.name.as_deref().unwrap_or("no name");
        let names = if tls.names.is_empty() { "no names".to_owned() } else { tls.names.join(", ") };
        let whose = tls.certificate.as_deref().unwrap_or("a certificate without a subject");
        lines.push(format!("  tls: asks for {name}, is shown {whose} for {names}"));
    }
    for gate in &reasons.gates {
        let verdict = match gate.passes {
            Some(true) => "passes",
            Some(false) => "TURNED AWAY",
            None => "is asked",
        };
        lines.push(format!("  {}: {} ({verdict})", gate.key, gate.what));
    }
    if let Some(request) = &reasons.request {
        lines.push(format!("  request: {} {}{}", request.method, request.host, request.target));
    }
    for route in &reasons.routes {
        let verdict = if route.taken { "TAKEN" } else { "no" };
        lines.push(format!("  route {}: {verdict}: {}", route.route, route.why));
    }
    lines.push(format!("  {}", reasons.end));
    lines.extend(reasons.choice.iter().flat_map(drawn_choice));
    if !reasons.limits.is_empty() {
        lines.push(String::new());
        let rows = reasons.limits.iter().map(|row| vec![row.key.clone(), row.value.clone()]);
        lines.extend(table(&["LIMIT", "VALUE"], rows.collect()));
    }
    lines.join("\n")
}

/// The backends with what became of each, and the pick.
pub(super) fn drawn_choice(choice: &Choice) -> Vec<String> {
    let Choice { upstream, balance, ticket, .. } = choice;
    let key = choice.key.as_ref().map(|key| format!(", by {key}")).unwrap_or_default();
    let mut lines =
        vec![String::new(), format!("upstream {upstream}: {balance}{key}, ticket {ticket}")];
    if let Some(session) = &choice.session {
        lines.push(format!("its session is with {session}"));
    }
    lines.push(String::new());
    let titles = ["", "BACKEND", "STATE", "WEIGHT", "OPEN", "LATENCY", "SCORE", "WHY"];
    lines.extend(table(&titles, choice.candidates.iter().map(cells).collect()));
    lines.push(String::new());
    lines.push(match &choice.picked {
        Some(picked) => format!("picked {picked}: {}", choice.why),
        None => format!("picked nobody: {}", choice.why),
    });
    lines
}

fn cells(row: &CandidateRow) -> Vec<String> {
    let role = if row.backup { ", backup" } else { "" };
    let most = row.connections_max.map(|max| format!("/{max}")).unwrap_or_default();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let latency = (row.latency_ms > 0.0).then(|| format!("{:.1} ms", row.latency_ms));
    vec![
        if row.picked { "->" } else { "" }.to_owned(),
        row.backend.clone(),
        format!("{}{role}", row.state),
        row.weight.to_string(),
        format!("{}{most}", row.open),
        or_none(latency),
        or_none(row.score.map(|score| format!("{score:.4}"))),
        row.why.clone(),
    ]
}
