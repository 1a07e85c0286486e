//! The description of the admin API: whatever it says can be asked for answers as it says, and whatever answers is in it.

use serde_json::{Value, json};

use crate::support::admin::{raw, socket};
use crate::support::backend::Backend;
use crate::support::client::{assert_echo, connect};
use crate::support::config;
use crate::support::program::Program;

/// What is wrong with a value by its schema; a field that is not described is wrong too.
fn wrong(value: &Value, schema: &Value, all: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let place = name.strip_prefix('#').expect("within the description");
        return wrong(value, all.pointer(place).expect("it is there"), all);
    }
    if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let fits = choices.iter().any(|choice| wrong(value, choice, all).is_none());
        return (!fits).then(|| format!("{value} is none of {choices:?}"));
    }
    if let Some(only) = schema.get("const") {
        return (only != value).then(|| format!("{value} is not {only}"));
    }
    if let Some(choices) = schema["enum"].as_array() {
        return (!choices.contains(value)).then(|| format!("{value} is none of {choices:?}"));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null => return None,
        kind => vec![kind.clone()],
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind.into()) {
        return Some(format!("{value} is not of {kinds:?}"));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| wrong(item, &schema["items"], all)),
        Value::Object(fields) => {
            let known = schema["properties"].as_object()?;
            fields.iter().find_map(|(name, field)| match known.get(name) {
                Some(schema) => wrong(field, schema, all).map(|what| format!("{name}: {what}")),
                None => Some(format!("{name} is not described")),
            })
        }
        _ => None,
    }
}

fn ask(program: &Program, method: &str, path: &str, body: &str) -> (u16, String, Value) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer = raw(&socket(program), request.as_bytes());
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

/// An order of each kind that is carried out, in an order in which each can be.
fn orders(backend: &str, connection: &str) -> Vec<(&'static str, &'static str, String, String)> {
    let of = json!({ "upstream": "app", "backend": backend }).to_string();
    let one = |port: u16| format!("/v1/upstreams/app/backends/127.0.0.1%3A{port}");
    let this = format!("/v1/upstreams/app/backends/{}", backend.replace(':', "%3A"));
    let batch =
        json!({ "changes": [{ "do": "remove", "upstream": "app", "backend": "127.0.0.1:8" }] });
    let text = format!(
        "[upstream.app]\nbackends = \"{backend}\"\n[tcp.a]\nlisten = \":1\"\nupstream = \"app\"\n"
    );
    let plain = |path: &'static str| ("GET", path, path.to_owned(), String::new());
    let post = |path: &'static str, body: &str| ("POST", path, path.to_owned(), body.to_owned());
    let template = "/v1/upstreams/{upstream}/backends/{backend}";
    vec![
        plain("/v1/status"),
        plain("/v1/state"),
        plain("/metrics"),
        plain("/v1/connections"),
        plain("/v1/config"),
        plain("/v1/openapi.json"),
        plain("/v1/journal"),
        post("/v1/explain", "{\"listener\":\"public\"}"),
        ("DELETE", "/v1/connections/{id}", format!("/v1/connections/{connection}"), String::new()),
        (
            "GET",
            "/v1/upstreams/{upstream}/backends",
            "/v1/upstreams/app/backends".to_owned(),
            String::new(),
        ),
        ("GET", template, this, String::new()),
        ("PUT", template, one(9), "{}".to_owned()),
        ("PUT", template, one(8), "{\"weight\":2}".to_owned()),
        ("PATCH", template, one(9), "{\"weight\":2}".to_owned()),
        ("DELETE", template, one(9), String::new()),
        post("/v1/batch", &batch.to_string()),
        post("/v1/drain", &of),
        post("/v1/ready", &of),
        post("/v1/down", &of),
        post("/v1/weight", &of),
        post("/v1/diff", &json!({ "config": text }).to_string()),
        post("/v1/reload", "{\"confirm_within_ms\":60000}"),
        post("/v1/confirm", ""),
        post("/v1/upgrade", ""),
    ]
}

#[test]
fn whatever_is_described_answers_as_it_says_and_refusals_do_too() {
    let backend = Backend::echo();
    let program = Program::run(&config(&[backend.address], "", ""));
    let client = connect(program.address("public"));
    assert_echo(&client, b"hello");
    let (_, _, all) = ask(&program, "GET", "/v1/openapi.json", "");
    let (_, _, listed) = ask(&program, "GET", "/v1/connections", "");
    let connection = listed["connections"][0]["id"].as_str().unwrap();
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in all["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys();
        described.extend(methods.map(|method| (method.to_ascii_uppercase(), path.clone())));
    }
    let refusal = &all["paths"]["/v1/status"]["get"]["responses"]["default"]["content"]["application/json"]
        ["schema"];
    // Whoever asks in another way is told in which ways one can.
    for path in all["paths"].as_object().unwrap().keys() {
        let real = path.replace("{upstream}", "app").replace("{backend}", "a").replace("{id}", "1");
        let (status, head, body) = ask(&program, "TRACE", &real, "");
        assert_eq!((status, wrong(&body, refusal, &all)), (405, None), "{path}");
        let allow = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        let mut ways: Vec<_> = allow.to_ascii_uppercase().split(", ").map(str::to_owned).collect();
        let own = described.iter().filter(|(_, known)| known == path);
        let mut known: Vec<_> = own.map(|(method, _)| method.clone()).collect();
        ways.sort();
        known.sort();
        assert_eq!(ways, known, "{path}");
    }
    // The stream never ends, and is read elsewhere.
    let mut left = described;
    left.retain(|(_, path)| path != "/v1/events");
    for (method, path, real, body) in orders(&backend.address.to_string(), connection) {
        let (status, head, answer) = ask(&program, method, &real, &body);
        assert_eq!(status, 200, "{method} {real}: {answer}");
        let content =
            &all["paths"][path][method.to_ascii_lowercase()]["responses"]["200"]["content"];
        let (content_type, content) = content.as_object().unwrap().iter().next().unwrap();
        assert!(head.contains(&format!("content-type: {content_type}")), "{path}: {head}");
        if content_type == "application/json" {
            assert_eq!(wrong(&answer, &content["schema"], &all), None, "{method} {path}");
        }
        left.retain(|(known, of)| (known.as_str(), of.as_str()) != (method, path));
    }
    assert_eq!(left, [], "described, but nobody has asked for it here");
}
