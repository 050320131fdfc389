//! What a request shows to say who calls.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::api_key;
use super::error::AuthError;

/// Where chat clients put the one string that they can store.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential, not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// `rk_…`
    ApiKey(&'a str),
    /// Anything else.
    Jwt(&'a str),
}

impl<'a> Credential<'a> {
    /// The request's: its bearer token, or `x-api-key` where that is all it has.
    ///
    /// # Errors
    /// [`AuthError::Absent`] and [`AuthError::Malformed`].
    pub fn of(headers: &'a HeaderMap) -> Result<Self, AuthError> {
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = only(headers, &X_API_KEY)?
        {
            return match text(value)?.trim() {
                key if api_key::looks_like_one(key) => Ok(Self::ApiKey(key)),
                _ => Err(AuthError::Malformed("x-api-key takes API keys (`rk_…`) and nothing else".into())),
            };
        }
        let token = bearer(headers)?;
        Ok(if api_key::looks_like_one(token) { Self::ApiKey(token) } else { Self::Jwt(token) })
    }
}

/// The bearer token of a request.
///
/// # Errors
/// [`AuthError::Absent`] and [`AuthError::Malformed`].
pub fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let value = only(headers, &header::AUTHORIZATION)?.ok_or(AuthError::Absent)?;
    match text(value)?.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(AuthError::Malformed("the scheme is another or the token is missing".into())),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, AuthError> {
    let mut given = headers.get_all(name).iter();
    let value = given.next();
    match given.next() {
        None => Ok(value),
        Some(_) => Err(AuthError::Malformed("it is given twice".into())),
    }
}

fn text(value: &HeaderValue) -> Result<&str, AuthError> {
    value.to_str().map_err(|_| AuthError::Malformed("it is not ASCII text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_header_that_is_no_credential_says_so() {
        assert_eq!(Credential::of(&HeaderMap::new()), Err(AuthError::Absent));
        for bad in ["Basic eDp5", "Bearer", "Bearer ", "x"] {
            let got = headers(&[("authorization", bad)]);
            assert!(matches!(Credential::of(&got), Err(AuthError::Malformed(_))), "{bad}");
        }
        let twice = headers(&[("authorization", "Bearer x"), ("authorization", "Bearer y")]);
        assert!(matches!(Credential::of(&twice), Err(AuthError::Malformed(_))));
    }

    #[test]
    fn an_api_key_may_come_by_its_own_header_if_it_comes_alone() {
        assert_eq!(Credential::of(&headers(&[("x-api-key", "rk_a")])), Ok(Credential::ApiKey("rk_a")));
        assert_eq!(Credential::of(&headers(&[("authorization", "bearer rk_a")])), Ok(Credential::ApiKey("rk_a")));
        let both = headers(&[("x-api-key", "rk_a"), ("authorization", "Bearer a.b.c")]);
        assert_eq!(Credential::of(&both), Ok(Credential::Jwt("a.b.c")));
        for bad in [&[("x-api-key", "a.b.c")][..], &[("x-api-key", "rk_a"), ("x-api-key", "rk_b")]] {
            assert!(matches!(Credential::of(&headers(bad)), Err(AuthError::Malformed(_))), "{bad:?}");
        }
    }
}
