//! One token for each way in which it may be wrong.

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use settings::KeyAlgorithm::{ES256, EdDSA, HS256, RS256};

use super::support::*;
use crate::auth::{AuthError, Authenticator, Scope, api_key};

async fn of_claims(claims: Value) -> Result<crate::auth::Caller, AuthError> {
    Keys::new().check(&signed(&Header::default(), SECRET, &claims)).await
}

#[tokio::test]
async fn a_good_token_names_its_owner_whatever_its_form() {
    let caller = of_claims(json!({"sub": "a|b/../c@d", "exp": now() + 60, "aud": "anything"})).await.unwrap();
    assert_eq!(caller.owner.as_str(), "a|b/../c@d");
    // Without `scope` it allows nothing.
    assert!(Scope::ALL.into_iter().all(|scope| !caller.may(scope)));
    let caller = of_claims(json!({"sub": "x", "exp": now() + 60, "scope": "a units:impersonate"})).await.unwrap();
    assert!(caller.may(Scope::Impersonate) && !caller.may(Scope::Invoke) && caller.key.is_none());
}

#[tokio::test]
async fn times_are_demanded_and_looked_at_with_bounded_skew() {
    assert_eq!(of_claims(json!({"sub": "x"})).await, Err(AuthError::Missing("exp".into())));
    assert_eq!(of_claims(json!({"sub": "x", "exp": now() - 60})).await, Err(AuthError::Expired));
    assert!(of_claims(json!({"sub": "x", "exp": now() - 2})).await.is_ok());
    let early = json!({"sub": "x", "exp": now() + 60, "nbf": now() + 30});
    assert_eq!(of_claims(early.clone()).await, Err(AuthError::NotYet));
    let mut keys = Keys::new();
    keys.auth.clock_skew_sec = 60;
    assert!(keys.check(&signed(&Header::default(), SECRET, &early)).await.is_ok());
    for odd in [json!("soon"), json!(null), json!([1])] {
        let got = of_claims(json!({"sub": "x", "exp": odd})).await;
        assert!(matches!(got, Err(AuthError::WrongClaim(_) | AuthError::Missing(_))), "{odd}: {got:?}");
    }
}

#[tokio::test]
async fn a_subject_must_be_there_and_usable() {
    assert_eq!(of_claims(json!({"exp": now() + 60})).await, Err(AuthError::Missing("sub".into())));
    for sub in [json!(""), json!("a\nb"), json!("x".repeat(256)), json!(7), json!(["ann"])] {
        let got = of_claims(json!({"sub": sub, "exp": now() + 60})).await;
        assert!(matches!(got, Err(AuthError::WrongClaim(_) | AuthError::Missing(_))), "{sub}: {got:?}");
    }
    let got = of_claims(json!({"sub": "x", "exp": now() + 60, "scope": ["units:admin"]})).await;
    assert!(matches!(got, Err(AuthError::WrongClaim(_))), "{got:?}");
}

#[tokio::test]
async fn the_header_chooses_no_algorithm() {
    let keys = Keys::new();
    let with = |header: Value| forged(&header, &claims());
    assert!(keys.check(&with(json!({"alg": "HS256"}))).await.is_ok());
    for alg in ["none", "None", "NONE", "hs256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", ""] {
        let got = keys.check(&with(json!({"alg": alg}))).await;
        assert_eq!(got, Err(AuthError::WrongAlgorithm), "{alg}");
    }
    // `none` as it is meant: with no signature.
    let token = with(json!({"alg": "none"}));
    let unsigned = token.rsplit_once('.').unwrap().0;
    assert_eq!(keys.check(&format!("{unsigned}.")).await, Err(AuthError::WrongAlgorithm));
    let token = with(json!({"alg": "HS256"}));
    let unsigned = token.rsplit_once('.').unwrap().0;
    assert_eq!(keys.check(&format!("{unsigned}.")).await, Err(AuthError::WrongSignature));
    let strong = signed(&Header::new(Algorithm::HS512), SECRET, &claims());
    assert_eq!(keys.check(&strong).await, Err(AuthError::WrongAlgorithm));
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    for (pair, of) in [(rsa(), RS256), (ec(), ES256), (ed(), EdDSA)] {
        // With HS256 keys about and without.
        let mut keys = Keys::new().with(of, &pair.public, None);
        for own_secret in [true, false] {
            if !own_secret {
                keys.auth.jwt_secret_file = "".into();
            }
            assert!(keys.check(&pair.sign(None, &claims())).await.is_ok(), "{of:?}");
            for secret in [pair.public.as_str(), pair.public.trim()] {
                let forged = signed(&Header::default(), secret, &claims());
                let got = keys.check(&forged).await;
                let expected = if own_secret { AuthError::WrongSignature } else { AuthError::WrongAlgorithm };
                assert_eq!(got, Err(expected), "{of:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_header_brings_along_is_not_used() {
    let keys = Keys::new().with(EdDSA, &ed().public, Some("real"));
    let mallory = ed();
    let token = mallory.sign(Some("real"), &claims());
    let [_, body, _] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let jwk = mallory.jwk("real");
    for extra in [
        json!({"jwk": jwk}),
        json!({"jku": "http://127.0.0.1:9/keys"}),
        json!({"x5u": "http://127.0.0.1:9/chain"}),
        json!({"x5c": ["AAAA"]}),
    ] {
        let mut header = json!({"alg": "EdDSA", "kid": "real"});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let head = data_encoding::BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        let message = format!("{head}.{body}");
        let key = jsonwebtoken::EncodingKey::from_ed_pem(mallory.private.as_bytes()).unwrap();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA).unwrap();
        assert_eq!(keys.check(&format!("{message}.{signature}")).await, Err(AuthError::WrongSignature), "{extra}");
    }
    // They do no harm in a token that is good otherwise.
    let odd = forged(&json!({"alg": "HS256", "jku": "http://127.0.0.1:9/keys"}), &claims());
    assert!(keys.check(&odd).await.is_ok());
    for crit in [json!(["b64"]), json!([]), json!(["exp"])] {
        let token = forged(&json!({"alg": "HS256", "crit": crit}), &claims());
        assert_eq!(keys.check(&token).await, Err(AuthError::Critical), "{crit}");
    }
}

#[tokio::test]
async fn two_keys_at_once_let_one_follow_the_other() {
    let (old, new) = (ed(), ed());
    let keys = Keys::new().with(EdDSA, &old.public, Some("1")).with(EdDSA, &new.public, Some("2"));
    for (pair, kid) in [(&old, "1"), (&new, "2")] {
        assert!(keys.check(&pair.sign(Some(kid), &claims())).await.is_ok());
        assert!(keys.check(&pair.sign(None, &claims())).await.is_ok());
    }
    assert_eq!(keys.check(&old.sign(Some("2"), &claims())).await, Err(AuthError::WrongSignature));
    assert_eq!(keys.check(&old.sign(Some("3"), &claims())).await, Err(AuthError::UnknownKey));
    assert_eq!(keys.check(&ed().sign(None, &claims())).await, Err(AuthError::WrongSignature));
    // Two secrets, as well.
    let next = "another secret that is long enough for it";
    let keys = Keys::new().with(HS256, next, None);
    for secret in [SECRET, next] {
        assert!(keys.check(&signed(&Header::default(), secret, &claims())).await.is_ok());
    }
    let other = signed(&Header::default(), "a secret of somebody else's entirely", &claims());
    assert_eq!(keys.check(&other).await, Err(AuthError::WrongSignature));
}

#[tokio::test]
async fn issuer_and_audience_are_demanded_where_set() {
    let mut keys = Keys::new();
    (keys.auth.issuer, keys.auth.audience) = (Some("me".into()), Some("here".into()));
    let authenticator = keys.authenticator();
    let exp = now() + 60;
    for (claims, expected) in [
        (json!({"sub": "x", "exp": exp, "iss": "me", "aud": "here"}), None),
        (json!({"sub": "x", "exp": exp, "iss": "me", "aud": ["there", "here"]}), None),
        (json!({"sub": "x", "exp": exp, "iss": "you", "aud": "here"}), Some(AuthError::WrongIssuer)),
        (json!({"sub": "x", "exp": exp, "iss": "me", "aud": "there"}), Some(AuthError::WrongAudience)),
        (json!({"sub": "x", "exp": exp, "iss": "me"}), Some(AuthError::Missing("aud".into()))),
        (json!({"sub": "x", "exp": exp, "aud": "here"}), Some(AuthError::Missing("iss".into()))),
    ] {
        let got = check(&authenticator, &signed(&Header::default(), SECRET, &claims)).await;
        assert_eq!(got.err(), expected, "{claims}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_told_so() {
    let keys = Keys::new();
    let good = signed(&Header::default(), SECRET, &claims());
    for bad in ["x", "x.y", "a.b.c", "..", &format!("{good}.x"), &"x".repeat(9 << 10), &format!("{good}{good}")] {
        let got = keys.check(bad).await;
        assert!(matches!(got, Err(AuthError::Malformed(_))), "{bad}: {got:?}");
    }
    assert_eq!(keys.check("rk_nonsense").await, Err(AuthError::NoLedger), "without a ledger no key is looked at");
    assert!(api_key::hash("rk_nonsense").is_err());
}

#[test]
fn keys_that_protect_nobody_are_refused_at_the_start() {
    let mut keys = Keys::new();
    keys.auth.jwt_secret_file = keys.file("too short for HS256");
    let error = |keys: &Keys| format!("{:#}", Authenticator::new(&keys.auth).unwrap_err());
    assert!(error(&keys).contains("19 bytes"), "{}", error(&keys));
    let pair = ed();
    for (of, text, word) in [
        (EdDSA, pair.private.as_str(), "private key"),
        (HS256, &pair.public, "PEM"),
        (RS256, &pair.public, "public key"),
        (EdDSA, "no PEM at all", "public key"),
    ] {
        let keys = Keys::new().with(of, text, None);
        assert!(error(&keys).contains(word), "{of:?}: {}", error(&keys));
    }
    let mut keys = Keys::new();
    keys.auth.jwt_secret_file = "".into();
    assert!(error(&keys).contains("nobody can call"));
}
