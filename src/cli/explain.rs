//! `evenkeel explain`: why a request or a connection goes where it goes, asked of the running process with its counts, or of a
//! config file alone. It only asks: no turn is taken, and nothing is sent to a backend.

use std::net::IpAddr;
use std::path::PathBuf;

use super::ask::{Answer, Reach};
use super::journal::Place;
use super::status::table;
use super::{ConfigFile, complain, exit, say, wants_color};
use crate::config::Config;
use crate::observe::reasons::{Asked, CandidateRow, Choice, Reasons};
use crate::process::explain_offline;
use crate::upstream::replay::explain as of_the_past;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_required = false)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// A request that has happened, by its id: as it stands in the access log, in X-Request-Id, and on error pages.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// With --request: look in this folder or exported file, not in the journal of the running process.
    #[arg(long, value_name = "FOLDER|FILE", requires = "request")]
    journal: Option<PathBuf>,
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
    let Arguments { what, config, live, socket, json, .. } = arguments;
    if let Some(id) = &arguments.request {
        return happened(arguments, id).map_or_else(|code| code, |()| exit::FINE);
    }
    let Some(what) = what else {
        complain("evenkeel: say what to explain: `http URL`, `tcp`, or --request ID; see --help");
        return exit::BAD_LINE;
    };
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

/// Explains what was decided for a request that has happened, each try of it.
fn happened(arguments: &Arguments, id: &str) -> Result<(), u8> {
    let file = arguments.config.clone().unwrap_or_else(|| super::DEFAULT_FILE.into());
    let (socket, journal) = (arguments.socket.as_deref(), arguments.journal.as_deref());
    let chronicle = Place { file: &file, socket, journal }.read()?;
    let rows = chronicle.rows();
    let told = rows.iter().zip(chronicle.picks()).filter(|(row, _)| row.is_of(id));
    let told: Vec<_> = told.map(|(row, pick)| (row, of_the_past(&chronicle, pick))).collect();
    if told.is_empty() {
        complain(&format!(
            "evenkeel: the journal has no request {id}: it may be older than all it holds"
        ));
        return Err(exit::REFUSED);
    }
    if arguments.json {
        let told = told
            .iter()
            .map(|(row, choice)| serde_json::json!({ "decision": row, "choice": choice }));
        say(&serde_json::to_string_pretty(&told.collect::<Vec<_>>()).unwrap_or_default());
        return Ok(());
    }
    for (number, (row, choice)) in told.iter().enumerate() {
        let route = row.route.map(|route| format!(", route {route}")).unwrap_or_default();
        let client = row.client.as_deref().unwrap_or("unix");
        let (listener, outcome) = (&row.listener, &row.outcome);
        say(&format!("decision {}: {listener}{route}, for {client}: {outcome}", number + 1));
        match choice {
            Some(choice) => drawn_choice(choice).iter().for_each(|line| say(line)),
            None => say("the journal has forgotten the backends of then"),
        }
    }
    Ok(())
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
        row.open.map_or_else(|| "-".to_owned(), |open| format!("{open}{most}")),
        or_none(latency),
        or_none(row.score.map(|score| format!("{score:.4}"))),
        row.why.clone(),
    ]
}
