//! The admin API described for programs (OpenAPI 3.1) and for people, from the table of routes and the very types that are read and
//! written: neither can say anything that the server does not.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::message::{
    Applied, BackendOrder, Backends, Batch, Closed, ConfigAnswer, ConfiguredBackends, Connections,
    DiffOrder, JournalAnswer, Outcome, Refusal, ReloadOrder, Status, Upgraded,
};
use super::routes::{Does, ROUTES, Route};
use super::{configs, connections};
use crate::config::Backend;
use crate::observe::reasons::{Asked, Reasons};

/// Where the types are.
const DEFINITIONS: &str = "/components/schemas";

const ABOUT: &str = "HTTP with JSON on a Unix socket, for the user of the process and for root; over TCP for whoever \
                     shows the token. Fields may be added to answers; a field of an order that is not known is refused.";

/// The description, as `GET /v1/openapi.json` has it.
pub(crate) fn description() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = DEFINITIONS.into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let all = paths.entry(route.path).or_insert_with(|| json!({}));
        all[route.method.to_ascii_lowercase()] = operation(route, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Evenkeel admin API",
            "version": "1",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Over TCP: the text of `token-file` in [admin]. On the Unix socket it is not asked for.",
            } },
        },
        "security": [{ "token": [] }, {}],
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let refused = schema::<Refusal>(generator);
    let (content_type, answer) = answer(route.does, generator);
    let mut operation = json!({
        "summary": route.about,
        "operationId": format!("{:?}", route.does),
        "parameters": parameters(route),
        "responses": {
            "200": { "description": "It is done.", "content": { content_type: { "schema": answer } } },
            "default": {
                "description": "It was refused, and nothing has changed.",
                "content": { "application/json": { "schema": refused } },
            },
        },
    });
    if let Some(body) = body(route.does, generator) {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": body } } });
    }
    operation
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |name: &str, place: &str, about: &str| {
        json!({
            "name": name,
            "in": place,
            "required": place == "path",
            "description": about,
            "schema": { "type": "string" },
        })
    };
    let parts = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parts = parts.map(|part| parameter(part, "path", "Encoded, as `10.0.0.1%3A80`."));
    let words = match route.does {
        Does::Connections => connections::WORDS,
        Does::Journal => &[("last", "How many; without it 50, at most 10,000.")],
        Does::Config => configs::WORDS,
        _ => &[],
    };
    let words = words.iter().map(|(name, about)| parameter(name, "query", about));
    let mut all: Vec<_> = parts.chain(words).collect();
    if route.does.is_conditional() {
        let about = "The ETag of the config that the change is meant for, or `*`. Without it: 428; if that is not in force any more: 412.";
        let mut condition = parameter("If-Match", "header", about);
        condition["required"] = true.into();
        all.push(condition);
    }
    all
}

/// What an order consists of.
fn body(does: Does, generator: &mut SchemaGenerator) -> Option<Value> {
    Some(match does {
        Does::Reload => schema::<ReloadOrder>(generator),
        Does::Diff => schema::<DiffOrder>(generator),
        Does::Explain => schema::<Asked>(generator),
        Does::Drain | Does::Ready | Does::Down | Does::Weight => schema::<BackendOrder>(generator),
        Does::Batch => schema::<Batch>(generator),
        Does::Put | Does::Patch => {
            let mut keys = schema::<Backend>(generator);
            // Its address stands in the path.
            keys = json!({ "description": "Keys of a backend, as a file has them; `address` may be left out.", "anyOf": [keys, { "type": "object" }] });
            keys
        }
        _ => return None,
    })
}

/// What is answered, and as which type.
fn answer(does: Does, generator: &mut SchemaGenerator) -> (&'static str, Value) {
    let free = |about: &str| json!({ "type": "object", "description": about });
    let json = match does {
        Does::Status => schema::<Status>(generator),
        Does::State => free("Described in docs/watching.md."),
        Does::Events => return ("text/event-stream", json!({ "type": "string" })),
        Does::Metrics => return ("text/plain", json!({ "type": "string" })),
        Does::Journal => schema::<JournalAnswer>(generator),
        Does::Explain => schema::<Reasons>(generator),
        Does::Connections => schema::<Connections>(generator),
        Does::Close => schema::<Closed>(generator),
        Does::Config => schema::<ConfigAnswer>(generator),
        Does::Configured | Does::ConfiguredOne => schema::<ConfiguredBackends>(generator),
        Does::Put | Does::Patch | Does::Remove | Does::Batch => schema::<Applied>(generator),
        Does::Reload | Does::Diff => schema::<Outcome>(generator),
        Does::Confirm => json!({ "type": "null" }),
        Does::Upgrade => schema::<Upgraded>(generator),
        Does::Drain | Does::Ready | Does::Down | Does::Weight => schema::<Backends>(generator),
        Does::OpenApi => free("This description."),
    };
    ("application/json", json)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The description in words, for people.
    fn page() -> String {
        let all = description();
        let mut page = format!(
            "# Admin API\n\nGenerated from [the description of the API](evenkeel.openapi.json), which a process gives itself at `GET /v1/openapi.json`. {ABOUT}\n\n\
             [Where it listens, and who may ask](admin.md)\n\n| request | what it does |\n|---|---|\n"
        );
        for route in ROUTES {
            page += &format!("| `{} {}` | {} |\n", route.method, route.path, route.about);
        }
        for route in ROUTES {
            let operation = &all["paths"][route.path][route.method.to_ascii_lowercase()];
            page += &section(route, operation);
        }
        page += "\n## Types\n";
        for (name, schema) in all["components"]["schemas"].as_object().unwrap() {
            page += &kind(name, schema);
        }
        page
    }

    fn section(route: &Route, operation: &Value) -> String {
        let mut text = format!("\n## {} {}\n\n{}\n", route.method, route.path, route.about);
        let parameters = operation["parameters"].as_array().unwrap();
        if !parameters.is_empty() {
            text += "\n| parameter | in | meaning |\n|---|---|---|\n";
        }
        for parameter in parameters {
            let of = |key: &str| parameter[key].as_str().unwrap().to_owned();
            text += &format!("| `{}` | {} | {} |\n", of("name"), of("in"), of("description"));
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !body.is_null() {
            text += &format!("\nBody: {}\n", words(body));
        }
        let (content_type, answer) =
            operation["responses"]["200"]["content"].as_object().unwrap().iter().next().unwrap();
        text + &match content_type.as_str() {
            "application/json" => format!("\nAnswer: {}\n", words(&answer["schema"])),
            other => format!("\nAnswer: `{other}`\n"),
        }
    }

    fn kind(name: &str, schema: &Value) -> String {
        let about = schema["description"].as_str().unwrap_or_default();
        let mut text = format!("\n### {name}\n\n{about}\n");
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            let about = choice["description"].as_str().unwrap_or_default();
            let names = choice["const"].as_str().map(|name| vec![name.to_owned()]);
            let names = names.unwrap_or_else(|| {
                choice["enum"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one.as_str().map(str::to_owned))
                    .collect()
            });
            text += &format!("\n- `{}`: {about}", names.join("`, `"));
        }
        let Some(fields) = schema["properties"].as_object() else {
            return text.trim_end().to_owned() + "\n";
        };
        text += "\n| field | type | meaning |\n|---|---|---|\n";
        for (name, field) in fields {
            let about = field["description"].as_str().unwrap_or_default().replace('|', "\\|");
            text += &format!("| `{name}` | {} | {about} |\n", words(field));
        }
        text
    }

    /// A type in a few words.
    fn words(schema: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return format!("[{name}](#{})", name.to_ascii_lowercase());
        }
        if let Some(all) = schema["anyOf"].as_array() {
            return all.iter().map(words).collect::<Vec<_>>().join(" or ");
        }
        match &schema["type"] {
            Value::String(kind) if kind == "array" => {
                format!("list of {}", words(&schema["items"]))
            }
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
            }
            _ => "any value".to_owned(),
        }
    }

    /// As it is in the repository; with `EVENKEEL_BLESS=1`, written anew first.
    fn up_to_date(name: &str, text: &str) {
        let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("EVENKEEL_BLESS").is_some_and(|bless| bless == "1") {
            std::fs::write(&path, text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "docs/{name} is out of date: run the tests with EVENKEEL_BLESS=1");
    }

    #[test]
    fn the_description_and_its_page_are_those_of_this_version() {
        let text = serde_json::to_string_pretty(&description()).unwrap();
        up_to_date("evenkeel.openapi.json", &format!("{text}\n"));
        up_to_date("admin-api.md", &page());
    }

    #[test]
    fn every_route_is_described_once() {
        let all = description();
        let paths = all["paths"].as_object().unwrap();
        let described: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, ROUTES.len());
        for route in ROUTES {
            assert!(paths[route.path][route.method.to_ascii_lowercase()].is_object());
        }
    }
}
