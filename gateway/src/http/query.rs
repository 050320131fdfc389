//! Query parameters, refused as problems.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query as Inner};
use contract::ErrorCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Failure;
use crate::app::App;

/// The route's query parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        match Inner::<T>::from_request_parts(parts, app).await {
            Ok(Inner(query)) => Ok(Self(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(Failure::new(ErrorCode::InvalidParameter, error.body_text()))
            }
            Err(other) => Err(Failure::new(ErrorCode::InvalidParameter, other.body_text())),
        }
    }
}
