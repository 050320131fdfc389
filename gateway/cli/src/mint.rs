//! Bearer tokens of callers: HS256 JWTs with the deployment's secret.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use settings::{Auth, read_secret};

use crate::failure::Failure;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    scope: String,
}

/// What a token allows whoever it is for: to call one's own units, and to look at them.
const USUAL: [&str; 2] = ["units:invoke", "units:read"];

/// A token for `sub` that is good for `ttl`, with the issuer and audience that the gateway demands, and with these scopes
/// besides the usual ones.
///
/// # Errors
/// When the secret cannot be read.
pub fn mint(auth: &Auth, sub: &str, ttl: Duration, scopes: &[String]) -> Result<String, Failure> {
    let secret = read_secret(&auth.jwt_secret_file).map_err(|e| {
        let why = crate::api::whole(&e);
        Failure::Unfit(format!("no token can be made: {why}; `rekindle up` makes the secret when it first runs"))
    })?;
    let more = scopes.iter().map(String::as_str).filter(|scope| !USUAL.contains(scope));
    let scope: Vec<&str> = USUAL.into_iter().chain(more).collect();
    let now = Timestamp::now().as_second();
    let claims = Claims {
        sub,
        iat: now,
        exp: now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        iss: auth.issuer.as_deref(),
        aud: auth.audience.as_deref(),
        scope: scope.join(" "),
    };
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(|e| Failure::Other(e.into()))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_token_has_what_the_gateway_demands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "5ec7e7\n").unwrap();
        let auth = Auth {
            jwt_secret_file: file.path().into(),
            issuer: Some("here".into()),
            audience: Some("rekindle".into()),
            ..Auth::default()
        };
        let scopes = ["units:admin".to_owned(), "units:read".to_owned()];
        let token = mint(&auth, "auth0|1", Duration::from_secs(60), &scopes).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&["here"]);
        validation.set_audience(&["rekindle"]);
        validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        let key = DecodingKey::from_secret(b"5ec7e7");
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "auth0|1");
        assert_eq!(claims["scope"], "units:invoke units:read units:admin");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    }

    #[test]
    fn without_a_secret_it_says_what_to_do() {
        let auth = Auth { jwt_secret_file: "/nowhere/jwt".into(), ..Auth::default() };
        let failure = mint(&auth, "x", Duration::from_secs(1), &[]).unwrap_err();
        assert_eq!(failure.status(), 1);
        assert!(failure.to_string().contains("rekindle up"));
    }
}
