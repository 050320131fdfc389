//! HTTP for callers: one file for each resource, one table of routes.

mod body;
mod checks;
mod dispatch;
mod events;
mod grants;
mod health;
mod intake;
mod invoke;
mod keys;
mod named;
mod openapi;
mod outcome;
mod pool;
mod preferences;
pub mod problem;
mod query;
mod routes;
mod runtime_events;
mod sse;
mod stream;
mod submit;
mod trace;
mod turns;
mod unique;
mod unit_path;
mod units;
mod usage;
mod views;
mod workspaces;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use contract::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::auth::guard;
use problem::{Answer, Failure};
use routes::Access;

pub use outcome::TurnResult;
pub use submit::AcceptedTurn;
pub use workspaces::Looks;

/// All routes. Whatever is answered otherwise (an unknown route, another method, a panic) is a problem document too.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in routes::table() {
        let handler = match route.access {
            // Every route for callers has its guard from here; none can forget it.
            Access::Caller(scope) => route.handler.route_layer(from_fn_with_state((app.clone(), scope), guard)),
            Access::Open | Access::Runtime => route.handler,
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(trace::layer))
        .layer(from_fn_with_state(app.clone(), count))
        .with_state(app)
}

async fn unknown_route() -> Answer {
    Err(Failure::new(ErrorCode::NotFound, "there is no such route; /openapi.json lists them all"))
}

async fn unknown_method(request: Request) -> Answer {
    let path = request.extensions().get::<MatchedPath>().map_or("this route", MatchedPath::as_str);
    let detail = format!("{path} is not served for this method; the Allow header lists those that are");
    Err(Failure::new(ErrorCode::MethodNotAllowed, detail))
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = said, "a handler panicked");
    Failure::new(ErrorCode::Internal, "a bug in the gateway; its log has the details").into_response()
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    app.metrics.request(&method, route, response.status().as_u16());
    response
}
