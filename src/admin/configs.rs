//! The config in force: shown with what is wrong with it, and its backends changed while it is. Every change goes the way of a reload, is
//! judged as a file would be, and is meant for one config only: an order that has seen another one is refused.

use http::header::{CONTENT_TYPE, HeaderMap, IF_MATCH};
use http::request::Parts;
use serde_json::{Map, Value};

use super::Wish;
use super::answer::Answer;
use super::api::{Desk, read};
use super::in_force::InForce;
use super::message::{
    Applied, Batch, BatchStep, ConfigAnswer, ConfiguredBackends, Kind, Outcome, ProblemRow,
    Refusal, Step,
};
use super::query::Query;
use super::who::Who;
use crate::config::edit::{Edit, Unedited, differences, keys_of};
use crate::config::{Config, Severity, written};

/// Changes of one order: more are a new config.
const STEPS_MAX: usize = 1000;

/// What may stand behind the path of the config.
pub(super) const WORDS: &[(&str, &str)] = &[
    (
        "format",
        "`toml`: the file itself, with what was changed over this API; over TCP without secrets.",
    ),
    ("file", "One of `files`, in place of the main one."),
];

/// What an order for the config is meant for.
enum Meant {
    /// Whichever is in force.
    Any,
    Mark(String),
}

impl Desk {
    fn in_force(&self) -> InForce {
        self.in_force.borrow().clone()
    }

    /// `GET /v1/config`.
    pub(super) fn config(&self, query: &str, who: &Who) -> Answer {
        let now = self.in_force();
        match self.config_text(&now, query, who) {
            Ok(answer) => answer.marked(&now.mark),
            Err(refusal) => Answer::refused(&refusal),
        }
    }

    fn config_text(&self, now: &InForce, query: &str, who: &Who) -> Result<Answer, Refusal> {
        let query = Query::read(query, &["format", "file"])?;
        let is_meant = |file: &std::path::Path| match query.text("file") {
            Some(name) => file.as_os_str() == name,
            None => true,
        };
        let Some((file, text)) = now.files.iter().find(|(file, _)| is_meant(file)) else {
            return Err(Refusal::new(Kind::Unknown, "the config has no such file"));
        };
        let of_file = |hides| written::written(text, &now.read, &now.config, hides);
        match query.text("format") {
            Some("toml") => {
                // Whoever is on the socket may read the file.
                let text = of_file(matches!(who, Who::Afar { .. })).text;
                return Ok(Answer::of("application/toml; charset=utf-8", text.into_bytes()));
            }
            Some(_) => return Err(Refusal::new(Kind::Order, "`format` is toml, or absent")),
            None => {}
        }
        let hidden = of_file(true);
        let problems = now.problems.iter().filter(|problem| problem.file == *file);
        let problems = problems.map(|problem| {
            let (line, column) = match problem.line {
                0 => (0, 0),
                _ => hidden.position(problem.span.start),
            };
            ProblemRow {
                line,
                column,
                level: match problem.severity {
                    Severity::Error => "error".to_owned(),
                    Severity::Warning => "warning".to_owned(),
                },
                text: problem.message.clone(),
                advice: problem.advice.clone(),
            }
        });
        let name = |file: &std::path::Path| file.display().to_string();
        let changed = self.changed_files(now);
        let answer = ConfigAnswer {
            mark: now.mark.to_string(),
            file: name(file),
            problems: problems.collect(),
            files: now.files.iter().map(|(file, _)| name(file)).collect(),
            changed_files: changed,
            changes: now.lost().iter().map(|line| without_verdict(line)).collect(),
            text: hidden.text,
        };
        Ok(Answer::json(http::StatusCode::OK, &answer))
    }

    /// Files that would have to be written for nothing to be lost.
    fn changed_files(&self, now: &InForce) -> Vec<String> {
        let changed = differences(&now.read, &now.config);
        let has = |text: &str| {
            let own = written::upstreams(text);
            changed.iter().any(|(upstream, ..)| own.contains(upstream))
        };
        let files = now.files.iter().filter(|(_, text)| !changed.is_empty() && has(text));
        files.map(|(file, _)| file.display().to_string()).collect()
    }

    /// `GET /v1/upstreams/U/backends`, and of one of them.
    pub(super) fn configured(&self, upstream: &str, backend: Option<&str>) -> Answer {
        let now = self.in_force();
        let Some(known) = now.config.upstream.get(upstream) else {
            let names: Vec<_> = now.config.upstream.keys().cloned().collect();
            return Answer::refused(&unedited(Unedited::NoUpstream(names), upstream, ""));
        };
        let rows = known.backends.iter().map(|backend| Value::Object(keys_of(backend)));
        let answer = match backend {
            None => {
                let backends = rows.collect();
                let mark = now.mark.to_string();
                Answer::json(http::StatusCode::OK, &ConfiguredBackends { mark, backends })
            }
            Some(name) => match now.config.backend(upstream, name) {
                Some(backend) => {
                    let (mark, backends) =
                        (now.mark.to_string(), vec![Value::Object(keys_of(backend))]);
                    Answer::json(http::StatusCode::OK, &ConfiguredBackends { mark, backends })
                }
                None => {
                    let names = known.backends.iter().map(|known| known.address.to_string());
                    let unknown = Unedited::NoBackend(names.collect());
                    return Answer::refused(&unedited(unknown, upstream, name));
                }
            },
        };
        answer.marked(&now.mark)
    }

    /// `PUT`, `PATCH` and `DELETE` of one backend.
    pub(super) async fn change(
        &self,
        step: Step,
        (upstream, backend): (&str, &str),
        (head, body): (&Parts, &[u8]),
        who: &Who,
    ) -> Answer {
        let set = match step {
            Step::Remove => Ok(Map::new()),
            _ => read(body),
        };
        let step = set.map(|set| BatchStep {
            r#do: step,
            upstream: upstream.to_owned(),
            backend: backend.to_owned(),
            set,
        });
        self.steps(step.map(|step| vec![step]), &head.headers, who).await
    }

    /// `POST /v1/batch`: all of it, or nothing.
    pub(super) async fn batch(&self, (head, body): (&Parts, &[u8]), who: &Who) -> Answer {
        let steps = read::<Batch>(body).map(|batch| batch.changes);
        self.steps(steps, &head.headers, who).await
    }

    async fn steps(
        &self,
        steps: Result<Vec<BatchStep>, Refusal>,
        headers: &HeaderMap,
        who: &Who,
    ) -> Answer {
        match self.try_steps(steps, headers, who).await {
            Ok(applied) => {
                let mark = applied.mark.clone();
                Answer::json(http::StatusCode::OK, &applied).marked(&mark)
            }
            Err(refusal) => Answer::refused(&refusal),
        }
    }

    async fn try_steps(
        &self,
        steps: Result<Vec<BatchStep>, Refusal>,
        headers: &HeaderMap,
        who: &Who,
    ) -> Result<Applied, Refusal> {
        let meant = meant(headers)?;
        let steps = steps?;
        if steps.is_empty() || steps.len() > STEPS_MAX {
            let error = format!("an order has 1 to {STEPS_MAX} changes");
            return Err(Refusal::new(Kind::Order, error));
        }
        let is_json = headers
            .get(CONTENT_TYPE)
            .is_none_or(|of| of.as_bytes().starts_with(b"application/json"));
        if !is_json {
            return Err(Refusal::new(Kind::Order, "an order is application/json"));
        }
        let now = self.in_force();
        if let Meant::Mark(mark) = &meant
            && **mark != *now.mark
        {
            return Err(stale(&now.mark));
        }
        let mut config = Config::clone(&now.config);
        for step in &steps {
            let BatchStep { upstream, backend, set, .. } = step;
            let edit = match step.r#do {
                Step::Add => Edit::Add(set.clone()),
                Step::Put => Edit::Put(set.clone()),
                Step::Patch => Edit::Patch(set.clone()),
                Step::Remove => Edit::Remove,
            };
            let edited = config.edit(upstream, backend, &edit);
            edited.map_err(|error| unedited(error, upstream, backend))?;
        }
        // It looks at files that the config names, and nobody else is to wait for them.
        let judged =
            tokio::task::spawn_blocking(move || config.verify_or_problems().map(|_| config));
        let judged = judged.await.map_err(|_| Refusal::stopping())?;
        let config = judged.map_err(|problems| Refusal::of_config(&problems, false))?;
        let (config, mark) = (Box::new(config), now.mark.to_string());
        let outcome = self.wish(|answer| Wish::Apply { config, mark, answer }).await??;
        for BatchStep { r#do, upstream, backend, set } in &steps {
            let keys = if set.is_empty() {
                String::new()
            } else {
                format!(" {}", Value::from(set.clone()))
            };
            who.orders(&format!("{} {upstream}/{backend}{keys}", r#do.as_str()));
        }
        let Outcome { changes, touched, operator, .. } = outcome;
        let mark = self.in_force.borrow().mark.to_string();
        Ok(Applied { mark, changes, touched, operator })
    }
}

/// What a line says of a change, without what becomes of it.
fn without_verdict(line: &str) -> String {
    line.rsplit_once(", ").map_or(line, |(what, _)| what).to_owned()
}

/// An order that does not say which config it is meant for might undo what it has not seen.
fn meant(headers: &HeaderMap) -> Result<Meant, Refusal> {
    let mut all = headers.get_all(IF_MATCH).iter();
    let (first, second) = (all.next(), all.next());
    let (Some(first), None) = (first, second) else {
        let error = "a change has to say which config it is meant for: If-Match, with the ETag of an answer, or *";
        return Err(Refusal::new(Kind::Unconditional, error));
    };
    let text = first.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Meant::Any);
    }
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(mark) => Ok(Meant::Mark(mark.to_owned())),
        None => Err(Refusal::new(Kind::Order, "If-Match is one ETag in quotes, or *")),
    }
}

pub(crate) fn stale(now: &str) -> Refusal {
    let error =
        format!("the config has changed since: it is \"{now}\" now; look again, and then order");
    Refusal::new(Kind::Stale, error)
}

fn unedited(error: Unedited, upstream: &str, backend: &str) -> Refusal {
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    match error {
        Unedited::NoUpstream(names) => {
            let error = format!("there is no upstream \"{upstream}\"; there is {}", list(&names));
            Refusal::new(Kind::Unknown, error)
        }
        Unedited::NoBackend(names) => {
            let names = list(&names);
            let error =
                format!("the config of {upstream} has no backend \"{backend}\"; there is {names}");
            Refusal::new(Kind::Unknown, error)
        }
        Unedited::IsThere => {
            Refusal::new(Kind::Refused, format!("{upstream} has a backend {backend} already"))
        }
        Unedited::Config(problems) => Refusal::of_config(&problems, false),
        Unedited::Unwritten(error) => Refusal::new(Kind::Order, error),
    }
}
