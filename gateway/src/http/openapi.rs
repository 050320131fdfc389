//! `GET /openapi.json`: OpenAPI 3.1, made from the table of routes and the types' own schemas.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::response::IntoResponse;
use contract::{ErrorCode, Problem};
use http::header;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{Answer, PROBLEM_JSON};
use super::routes::{Access, Content, Route, table};

/// The document, the same for every call.
pub async fn openapi() -> Answer {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string());
    Ok(([(header::CONTENT_TYPE, "application/json")], text.as_str()).into_response())
}

/// The OpenAPI document.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in table() {
        let operation = operation(&route, &mut generator, &problem.clone().into());
        paths.entry(template(route.path)).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rekindle",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A serverless function gateway for coding agents.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "caller": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A JWT, or an API key (`rk_…`); with the scope that the operation names.",
                },
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "x-api-key",
                    "description": "An API key, where no Authorization header is sent.",
                },
                "runtime": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

/// OpenAPI has no name for a parameter that holds slashes; they are part of it as they are.
fn template(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": responses(route, generator, problem),
    });
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        let schema = Value::from(body(generator));
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    match route.access {
        Access::Open => {}
        Access::Caller(scope) => {
            operation["security"] = json!([{ "caller": [scope.as_str()] }, { "apiKey": [scope.as_str()] }]);
        }
        Access::Runtime => operation["security"] = json!([{ "runtime": [] }]),
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let path = template(route.path);
    let in_path = path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let description = match name {
            "unit" => "Short name, full name or uid.",
            "owner" => "Its `sub`, percent-encoded.",
            "path" => "Relative to the workspace; slashes are part of it.",
            _ => "Its id.",
        };
        json!({ "name": name, "in": "path", "required": true, "description": description, "schema": { "type": "string" } })
    });
    let others = route.parameters.iter().map(
        |p| json!({ "name": p.name, "in": p.place, "description": p.description, "schema": { "type": "string" } }),
    );
    in_path.chain(others).collect()
}

fn responses(route: &Route, generator: &mut SchemaGenerator, problem: &Value) -> Map<String, Value> {
    let mut responses = Map::new();
    for (status, description, content) in &route.answers {
        let mut response = json!({ "description": description });
        let text = json!({ "schema": { "type": "string" } });
        match content {
            Content::None => {}
            Content::Json(make) => {
                response["content"] = json!({ "application/json": { "schema": Value::from(make(generator)) } })
            }
            Content::JsonOrEvents(make) => {
                let schema = Value::from(make(generator));
                response["content"] = json!({ "application/json": { "schema": schema }, "text/event-stream": text });
            }
            Content::BytesOrJson(make) => {
                let schema = Value::from(make(generator));
                let bytes = json!({ "schema": { "type": "string", "format": "binary" } });
                response["content"] =
                    json!({ "application/octet-stream": bytes, "application/json": { "schema": schema } });
            }
            Content::Text(kind) => response["content"] = json!({ *kind: text }),
        }
        responses.insert(status.to_string(), response);
    }
    let mut errors: BTreeMap<u16, Vec<&ErrorCode>> = BTreeMap::new();
    let guards: &[ErrorCode] = match route.access {
        Access::Caller(_) => &[ErrorCode::Unauthenticated, ErrorCode::Forbidden, ErrorCode::TooMany],
        Access::Open | Access::Runtime => &[],
    };
    for code in route.errors.iter().chain(guards.iter().filter(|code| !route.errors.contains(code))) {
        errors.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in errors {
        let titles: Vec<_> = codes.iter().map(|c| format!("`{}`: {}", c.as_str(), c.title())).collect();
        let content = json!({ PROBLEM_JSON: { "schema": problem } });
        responses.insert(status.to_string(), json!({ "description": titles.join("; "), "content": content }));
    }
    responses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_as_published() {
        insta::assert_json_snapshot!(document());
    }

    #[test]
    fn every_route_is_described_once() {
        let document = document();
        let routes = table();
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(described, routes.len());
        for route in routes {
            let operation = &document["paths"][template(route.path)][route.method.as_str().to_lowercase()];
            assert_eq!(operation["operationId"], route.id);
            assert!(
                operation["responses"].as_object().is_some_and(|r| r.keys().any(|s| s.starts_with('2'))),
                "{}",
                route.id
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, root: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(root.pointer(pointer).is_some(), "{reference}");
                    }
                    map.values().for_each(|v| walk(v, root));
                }
                Value::Array(list) => list.iter().for_each(|v| walk(v, root)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
