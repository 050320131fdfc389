use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"a secret that is long enough for HS256";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn signed(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn headers(authorization: &str) -> HeaderMap {
    [(header::AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())].into_iter().collect()
}

fn check(claims: Value) -> Result<Caller, AuthError> {
    let token = signed(Algorithm::HS256, SECRET, &claims);
    Authenticator::new(SECRET, None, None).caller(&headers(&format!("Bearer {token}")))
}

#[test]
fn a_good_token_names_its_owner_whatever_its_form() {
    let caller = check(json!({"sub": "a|b/../c@d", "exp": now() + 60, "aud": "anything"})).unwrap();
    assert_eq!(caller.owner.as_str(), "a|b/../c@d");
    assert!(!caller.may_impersonate);
    let caller = check(json!({"sub": "x", "exp": now() + 60, "scope": "a units:impersonate"})).unwrap();
    assert!(caller.may_impersonate);
}

#[test]
fn expiry_is_demanded_and_has_five_seconds_of_leeway() {
    assert_eq!(check(json!({"sub": "x"})), Err(AuthError::Missing("exp".into())));
    assert_eq!(check(json!({"sub": "x", "exp": now() - 60})), Err(AuthError::Expired));
    assert!(check(json!({"sub": "x", "exp": now() - 2})).is_ok());
    assert_eq!(check(json!({"sub": "x", "exp": now() + 60, "nbf": now() + 30})), Err(AuthError::NotYet));
}

#[test]
fn a_subject_must_be_there_and_usable() {
    assert_eq!(check(json!({"exp": now() + 60})), Err(AuthError::Missing("sub".into())));
    for sub in ["", "a\nb", &"x".repeat(256)] {
        let got = check(json!({"sub": sub, "exp": now() + 60}));
        assert!(matches!(got, Err(AuthError::WrongClaim(_))), "{sub:?}: {got:?}");
    }
}

#[test]
fn other_keys_and_algorithms_are_refused() {
    let authenticator = Authenticator::new(SECRET, None, None);
    let claims = json!({"sub": "x", "exp": now() + 60});
    let other = signed(Algorithm::HS256, b"another secret", &claims);
    assert_eq!(authenticator.caller(&headers(&format!("Bearer {other}"))), Err(AuthError::WrongSignature));
    let strong = signed(Algorithm::HS512, SECRET, &claims);
    assert_eq!(authenticator.caller(&headers(&format!("Bearer {strong}"))), Err(AuthError::WrongAlgorithm));
    // {"alg":"none"} with no signature, as by hand.
    let body = signed(Algorithm::HS256, SECRET, &claims).split('.').nth(1).unwrap().to_owned();
    let none = authenticator.caller(&headers(&format!("Bearer eyJhbGciOiJub25lIn0.{body}.")));
    assert!(none.is_err(), "{none:?}");
}

#[test]
fn issuer_and_audience_are_demanded_where_set() {
    let authenticator = Authenticator::new(SECRET, Some("me"), Some("here"));
    let check = |claims: Value| {
        let token = signed(Algorithm::HS256, SECRET, &claims);
        authenticator.caller(&headers(&format!("Bearer {token}"))).map(|_| ())
    };
    let exp = now() + 60;
    assert_eq!(check(json!({"sub": "x", "exp": exp, "iss": "me", "aud": "here"})), Ok(()));
    assert_eq!(check(json!({"sub": "x", "exp": exp, "iss": "you", "aud": "here"})), Err(AuthError::WrongIssuer));
    assert_eq!(check(json!({"sub": "x", "exp": exp, "iss": "me", "aud": "there"})), Err(AuthError::WrongAudience));
    assert_eq!(check(json!({"sub": "x", "exp": exp, "iss": "me"})), Err(AuthError::Missing("aud".into())));
}

#[test]
fn a_header_that_is_no_bearer_jwt_says_so() {
    let authenticator = Authenticator::new(SECRET, None, None);
    assert_eq!(authenticator.caller(&HeaderMap::new()), Err(AuthError::Absent));
    for bad in ["Basic eDp5", "Bearer", "Bearer ", "Bearer x.y", "Bearer a b c", "x"] {
        assert!(matches!(authenticator.caller(&headers(bad)), Err(AuthError::Malformed(_))), "{bad}");
    }
    let mut twice = headers("Bearer x");
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer y"));
    assert!(matches!(authenticator.caller(&twice), Err(AuthError::Malformed(_))));
}
