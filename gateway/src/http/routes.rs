//! The table of routes: the router is built from it and the OpenAPI document describes it, so neither can lack one.

use axum::routing::{MethodRouter, delete, get, post, put};
use contract::ErrorCode::{
    self, Conflict, IdempotencyMismatch, InvalidDocument, InvalidParameter, LedgerFull, MalformedJson, NotFound,
    StillRunning, StoredTooMuch, TooLarge, TooMany, TurnFailed, Unauthenticated, Unavailable, UnknownProfile,
    UnknownRunner, UnsupportedMediaType,
};
use contract::{Dispatch, InspectAnswer, InvokeBody, RuntimeEvent};
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::health::Ready;
use super::outcome::TurnResult;
use super::submit::AcceptedTurn;
use super::turns::{Cancelled, TurnList};
use super::units::UnitList;
use super::views::{TurnView, UnitView};
use super::{
    dispatch, events, grants, health, invoke, keys, named, openapi, pool, runtime_events, turns, units, usage,
    workspaces,
};
use crate::app::App;
use crate::auth::Scope;

type Make = fn(&mut SchemaGenerator) -> Schema;

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody.
    Open,
    /// Whoever shows a caller's credential with this scope.
    Caller(Scope),
    /// The runtime, with its token.
    Runtime,
}

/// What a good answer holds.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Nothing.
    None,
    /// A JSON document of this schema.
    Json(Make),
    /// A JSON document of this schema, or server-sent events.
    JsonOrEvents(Make),
    /// A file's bytes, or a JSON document of this schema for what is no file.
    BytesOrJson(Make),
    /// Text of this media type.
    Text(&'static str),
}

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<App>,
    /// Name of the operation.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) access: Access,
    /// Query parameters and headers.
    pub(super) parameters: &'static [Parameter],
    pub(super) body: Option<Make>,
    pub(super) answers: Vec<(u16, &'static str, Content)>,
    pub(super) errors: Vec<ErrorCode>,
}

/// A parameter that is not in the path.
pub(super) struct Parameter {
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

const fn header(name: &'static str, description: &'static str) -> Parameter {
    Parameter { place: "header", name, description }
}

const fn query(name: &'static str, description: &'static str) -> Parameter {
    Parameter { place: "query", name, description }
}

const SUBMIT: &[Parameter] = &[
    header("Prefer", "`respond-async`: answer 202 at once. `wait=N`: wait at most N seconds for the result."),
    header("Idempotency-Key", "1 to 255 visible characters: a repeated request gets the first one's turn."),
    header("traceparent", "W3C trace context; passed on to the worker."),
];
const PAGE_OF_UNITS: &[Parameter] =
    &[query("cursor", "`next` of the page before."), query("limit", "1 to 200; 50 if not given.")];
const PAGE_OF_TURNS: &[Parameter] =
    &[query("before", "`next` of the page before."), query("limit", "1 to 200; 50 if not given.")];
const USAGE: &[Parameter] = &[
    query(
        "group_by",
        "Some of `unit`, `model`, `day` and, with the scope `units:admin`, `owner`; `day,model` if not given.",
    ),
    query("from", "The first day (UTC), as `2026-01-31`; 30 days before `to` if not given."),
    query("to", "The last day; today if not given."),
    query("cursor", "`next` of the page before."),
    query("limit", "1 to 200; 50 if not given."),
];
const FROM: &[Parameter] = &[
    header("Last-Event-ID", "Id of the last event that was read; wins over `from`."),
    query("from", "Id of an event: those after it are sent. All that are kept if not given."),
    query("follow", "`false`: end with the last event that is there now."),
];
const PAGE_OF_COMMITS: &[Parameter] =
    &[query("before", "`next` of the page before."), query("limit", "1 to 200; 50 if not given.")];
const BETWEEN: &[Parameter] = &[
    query("from", "The older commit; the first parent of `to` if not given."),
    query("to", "The newer commit; the last one of the present branch if not given."),
];
const WAIT: &[Parameter] = &[header("Prefer", "`wait=N`: wait at most N seconds for the worker's end.")];
const ERASE: &[Parameter] = &[
    query("keep_workspace", "`true`: keep the unit's own workspace."),
    header("Prefer", "`wait=N`: wait at most N seconds for the worker's end; 30 if not given."),
];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// All routes.
pub(super) fn table() -> Vec<Route> {
    [submissions(), of_turns(), of_units(), of_workspaces(), of_grants(), of_keys(), of_the_platform()]
        .into_iter()
        .flatten()
        .collect()
}

fn submission(
    path: &'static str,
    handler: MethodRouter<App>,
    id: &'static str,
    summary: &'static str,
    body: Make,
) -> Route {
    Route {
        method: Method::POST,
        path,
        handler,
        id,
        summary,
        access: Access::Caller(Scope::Invoke),
        parameters: SUBMIT,
        body: Some(body),
        answers: vec![
            (
                200,
                "The turn's result; or, with `Accept: text/event-stream`, its events as they happen. Just before the last \
                 event comes a comment `server-timing …; rekindle-start …`: headers were sent long ago.",
                Content::JsonOrEvents(schema::<TurnResult>),
            ),
            (202, "Accepted; `Location` is the turn.", Content::Json(schema::<AcceptedTurn>)),
        ],
        errors: vec![
            MalformedJson,
            InvalidDocument,
            InvalidParameter,
            NotFound,
            Conflict,
            TooLarge,
            UnsupportedMediaType,
            UnknownProfile,
            UnknownRunner,
            IdempotencyMismatch,
            TooMany,
            TurnFailed,
            Unavailable,
            LedgerFull,
            StoredTooMuch,
            StillRunning,
        ],
    }
}

fn submissions() -> Vec<Route> {
    let invoke = submission(
        "/v1/units/{unit}/invoke",
        post(invoke::invoke),
        "invoke",
        "Run one turn of a unit, which need not exist yet.",
        schema::<InvokeBody>,
    );
    let dispatch = submission(
        "/v1/dispatch",
        post(dispatch::dispatch),
        "dispatch",
        "Run one turn of the unit that a unit.v1 envelope addresses.",
        schema::<Dispatch>,
    );
    vec![invoke, dispatch]
}

fn plain(
    method: Method,
    path: &'static str,
    handler: MethodRouter<App>,
    id: &'static str,
    summary: &'static str,
) -> Route {
    let scope = if method == Method::GET { Scope::Read } else { Scope::Invoke };
    Route {
        method,
        path,
        handler,
        id,
        summary,
        access: Access::Caller(scope),
        parameters: &[],
        body: None,
        answers: Vec::new(),
        errors: vec![InvalidParameter, NotFound, Unavailable],
    }
}

fn of_turns() -> Vec<Route> {
    vec![
        Route {
            parameters: PAGE_OF_TURNS,
            answers: vec![(200, "A page, the newest turn first.", Content::Json(schema::<TurnList>))],
            ..plain(Method::GET, "/v1/units/{unit}/turns", get(turns::list), "listTurns", "A unit's conversation.")
        },
        Route {
            answers: vec![(200, "The turn.", Content::Json(schema::<TurnView>))],
            ..plain(
                Method::GET,
                "/v1/turns/{turn}",
                get(turns::get),
                "getTurn",
                "One turn's prompt, status and result.",
            )
        },
        Route {
            answers: vec![(200, "What the cancel came to.", Content::Json(schema::<Cancelled>))],
            ..plain(
                Method::POST,
                "/v1/turns/{turn}/cancel",
                post(turns::cancel),
                "cancelTurn",
                "End a turn. Idempotent; the worker stays warm.",
            )
        },
    ]
}

fn of_units() -> Vec<Route> {
    let mut erase = plain(
        Method::DELETE,
        "/v1/units/{unit}",
        delete(units::erase),
        "eraseUnit",
        "Erase a unit: its state and, unless asked to keep it, its own workspace.",
    );
    erase.parameters = ERASE;
    erase.answers = vec![(204, "Erased.", Content::None)];
    erase.errors.push(Conflict);
    vec![
        Route {
            parameters: PAGE_OF_UNITS,
            answers: vec![(200, "A page, by full name.", Content::Json(schema::<UnitList>))],
            ..plain(Method::GET, "/v1/units", get(units::list), "listUnits", "The caller's units.")
        },
        Route {
            answers: vec![(200, "The unit.", Content::Json(schema::<UnitView>))],
            ..plain(Method::GET, "/v1/units/{unit}", get(units::get), "getUnit", "One unit.")
        },
        Route {
            parameters: FROM,
            answers: vec![(200, "Events, without end unless asked for one.", Content::Text("text/event-stream"))],
            ..plain(
                Method::GET,
                "/v1/units/{unit}/events",
                get(events::events),
                "unitEvents",
                "What happens in a unit.",
            )
        },
        Route {
            parameters: WAIT,
            answers: vec![
                (200, "Its worker is gone.", Content::Json(schema::<UnitView>)),
                (202, "Its worker is being ended.", Content::Json(schema::<UnitView>)),
            ],
            ..plain(Method::POST, "/v1/units/{unit}/stop", post(units::stop), "stopUnit", "End a unit's worker.")
        },
        erase,
        Route {
            answers: vec![(200, "The pool.", Content::Json(schema::<pool::Pool>))],
            errors: vec![Unavailable],
            ..plain(
                Method::GET,
                "/v1/pool",
                get(pool::get),
                "pool",
                "The caller's units that have a worker, and how often turns found one.",
            )
        },
        Route {
            parameters: USAGE,
            answers: vec![(200, "A page.", Content::Json(schema::<usage::UsageReport>))],
            errors: vec![InvalidParameter, Unavailable],
            ..plain(
                Method::GET,
                "/v1/usage",
                get(usage::get),
                "usage",
                "What the caller's units used of models, and what that cost.",
            )
        },
    ]
}

fn of_workspaces() -> Vec<Route> {
    let look = |path, handler, id, summary| {
        let mut route = plain(Method::GET, path, handler, id, summary);
        route.errors.extend([Conflict, TooMany]);
        route
    };
    let json = |description| vec![(200, description, Content::Json(schema::<InspectAnswer>))];
    let mut erase = plain(
        Method::DELETE,
        "/v1/workspaces/{id}",
        delete(named::erase),
        "eraseWorkspace",
        "Erase a workspace that the caller named: its folder, its grants, its name.",
    );
    erase.parameters = WAIT;
    erase.answers = vec![(204, "Erased.", Content::None)];
    erase.errors.push(Conflict);
    vec![
        Route {
            answers: vec![(200, "By name.", Content::Json(schema::<named::WorkspaceList>))],
            errors: vec![Unavailable],
            ..plain(Method::GET, "/v1/workspaces", get(named::list), "listWorkspaces", "The workspaces that one named.")
        },
        erase,
        Route {
            answers: json("What is in it."),
            ..look(
                "/v1/workspaces/{id}/files",
                get(workspaces::files),
                "listFiles",
                "What is in a workspace now. A unit's own workspace has the unit's uid as its id.",
            )
        },
        Route {
            answers: vec![(
                200,
                "A file's bytes, at most the first MiB (`Rekindle-Truncated: true`; `Rekindle-Size` is the whole file's); a folder \
                 or a link, which is not followed, as JSON.",
                Content::BytesOrJson(schema::<InspectAnswer>),
            )],
            ..look(
                "/v1/workspaces/{id}/files/{*path}",
                get(workspaces::files),
                "getFile",
                "A file or a folder of a workspace, as it is now.",
            )
        },
        Route {
            parameters: PAGE_OF_COMMITS,
            answers: json("A page, the newest commit first."),
            ..look(
                "/v1/workspaces/{id}/log",
                get(workspaces::log),
                "workspaceLog",
                "Commits of a workspace's present branch, first parents only.",
            )
        },
        Route {
            parameters: BETWEEN,
            answers: json("Status and patch of every file that differs."),
            ..look(
                "/v1/workspaces/{id}/diff",
                get(workspaces::diff),
                "workspaceDiff",
                "What a commit of a workspace changed, or what differs between two.",
            )
        },
    ]
}

fn of_grants() -> Vec<Route> {
    let path = "/v1/workspaces/{id}/grants/{owner}";
    let mut grant = plain(
        Method::PUT,
        path,
        put(grants::grant),
        "grantWorkspace",
        "Let another owner use a workspace of the caller's, or change how.",
    );
    grant.body = Some(schema::<grants::GrantBody>);
    grant.answers = vec![(204, "It is so from now on; workers that mount more than that are ended.", Content::None)];
    grant.errors.extend([
        MalformedJson,
        InvalidDocument,
        TooLarge,
        UnsupportedMediaType,
        Conflict,
        LedgerFull,
        StoredTooMuch,
    ]);
    vec![
        Route {
            answers: vec![(200, "Its grants.", Content::Json(schema::<grants::GrantList>))],
            ..plain(
                Method::GET,
                "/v1/workspaces/{id}/grants",
                get(grants::list),
                "listGrants",
                "Who else may use a workspace of the caller's.",
            )
        },
        grant,
        Route {
            answers: vec![(204, "No start mounts it any more; workers that do are ended.", Content::None)],
            ..plain(Method::DELETE, path, delete(grants::revoke), "revokeGrant", "End a grant.")
        },
    ]
}

fn of_keys() -> Vec<Route> {
    let mut make = plain(
        Method::POST,
        "/v1/keys",
        post(keys::make),
        "makeKey",
        "Make an API key for the caller. Not for callers that came with one.",
    );
    make.body = Some(schema::<keys::NewKey>);
    make.answers = vec![(201, "The key, which is shown this once.", Content::Json(schema::<keys::MadeKey>))];
    make.errors =
        vec![MalformedJson, InvalidDocument, TooLarge, UnsupportedMediaType, Conflict, Unavailable, LedgerFull];
    vec![
        make,
        Route {
            answers: vec![(200, "Its keys, the oldest first.", Content::Json(schema::<keys::KeyList>))],
            errors: vec![Unavailable],
            ..plain(Method::GET, "/v1/keys", get(keys::list), "listKeys", "The caller's API keys.")
        },
        Route {
            answers: vec![(204, "Every gateway refuses it from now on.", Content::None)],
            ..plain(
                Method::DELETE,
                "/v1/keys/{id}",
                delete(keys::revoke),
                "revokeKey",
                "End an API key of the caller's.",
            )
        },
    ]
}

fn of_the_platform() -> Vec<Route> {
    let open = |path, handler, id, summary| Route {
        access: Access::Open,
        errors: Vec::new(),
        ..plain(Method::GET, path, handler, id, summary)
    };
    let metrics = "application/openmetrics-text";
    vec![
        Route {
            answers: vec![(200, "It answers.", Content::Json(schema::<serde_json::Value>))],
            ..open("/healthz", get(health::healthz), "healthz", "Whether the gateway lives.")
        },
        Route {
            answers: vec![(200, "All parts answer.", Content::Json(schema::<Ready>))],
            errors: vec![Unavailable],
            ..open("/readyz", get(health::readyz), "readyz", "Whether the ledger and the runtime answer.")
        },
        Route {
            answers: vec![(200, "Figures.", Content::Text(metrics))],
            ..open("/metrics", get(health::metrics), "metrics", "Figures in the OpenMetrics format.")
        },
        Route {
            answers: vec![(200, "OpenAPI 3.1.", Content::Json(schema::<serde_json::Value>))],
            ..open("/openapi.json", get(openapi::openapi), "openapi", "This document.")
        },
        Route {
            access: Access::Runtime,
            body: Some(schema::<RuntimeEvent>),
            answers: vec![(204, "The ledger has it.", Content::None)],
            errors: vec![MalformedJson, InvalidDocument, Unauthenticated, TooLarge, UnsupportedMediaType, Unavailable],
            ..plain(
                Method::POST,
                "/internal/runtime-events",
                post(runtime_events::runtime_events),
                "runtimeEvents",
                "What the runtime says about its workloads.",
            )
        },
    ]
}
