//! What a dispatch token grants, held against what a spec asks for.
//!
//! Whoever can reach the runtime can name any workspace in a spec. The token is the gateways' signed word on who the workload is
//! and what it may mount, so nothing is mounted that it does not say. Without a public key the two are only compared: that
//! catches a gateway's mistake and not a gateway's impostor.

use std::path::PathBuf;

use contract::{DISPATCH_AUDIENCE, DispatchClaims, Mode, WorkloadSpec};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::error::RuntimeError;

/// Clocks may differ by this much.
const LEEWAY_SEC: u64 = 5;

/// Checks the spec's token, with these public keys if there are any, and that it grants every mount. Nothing is changed.
///
/// # Errors
/// [`RuntimeError::Refused`] with the pointer of the offender; [`RuntimeError::Unavailable`] when a key cannot be read.
pub(crate) fn check(spec: &WorkloadSpec, keys: &[PathBuf]) -> Result<(), RuntimeError> {
    let claims = claims(&spec.token, keys)?;
    if claims.aud != DISPATCH_AUDIENCE {
        return Err(RuntimeError::invalid("/token", "the dispatch token is meant for something else"));
    }
    if claims.unit != spec.unit.uid || claims.generation != spec.unit.generation {
        let detail = format!("the dispatch token is of {}-{}", claims.unit, claims.generation);
        return Err(RuntimeError::invalid("/unit", detail));
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        let granted = claims.workspaces.iter().find(|at| at.id == mount.workspace).map(|at| at.mode);
        let enough = match granted {
            Some(Mode::Rw) => true,
            Some(Mode::Ro) => mount.mode == Mode::Ro,
            None => false,
        };
        if !enough {
            let detail = "the dispatch token does not grant this mount at this mode";
            return Err(RuntimeError::invalid(format!("/mounts/{index}"), detail));
        }
    }
    Ok(())
}

fn claims(token: &str, keys: &[PathBuf]) -> Result<DispatchClaims, RuntimeError> {
    let bad =
        |e: &jsonwebtoken::errors::Error| RuntimeError::invalid("/token", format!("is no good dispatch token: {e}"));
    if keys.is_empty() {
        return jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|e| bad(&e));
    }
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = LEEWAY_SEC;
    validation.set_audience(&[DISPATCH_AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    let mut refused = None;
    for path in keys {
        let unreadable = |e: String| RuntimeError::unavailable(format!("the dispatch key {}: {e}", path.display()));
        let pem = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let key =
            DecodingKey::from_ed_pem(&pem).map_err(|_| unreadable("is not an Ed25519 public key (PEM)".into()))?;
        match jsonwebtoken::decode::<DispatchClaims>(token, &key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(e) => refused = Some(bad(&e)),
        }
    }
    Err(refused.unwrap_or_else(|| RuntimeError::unavailable("there is no dispatch key")))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use contract::{Launcher, Mount, Owner, WorkspaceAt, WorkspaceId};
    use jsonwebtoken::{EncodingKey, Header};

    use super::*;

    struct Signer {
        private: EncodingKey,
        public: PathBuf,
    }

    fn signer(folder: &tempfile::TempDir, name: &str) -> Signer {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let text = data_encoding::BASE64.encode(der.as_ref());
        let public = folder.path().join(name);
        std::fs::write(&public, format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")).unwrap();
        Signer { private: EncodingKey::from_ed_der(pkcs8.as_ref()), public }
    }

    fn workspace(name: &str) -> WorkspaceId {
        WorkspaceId::parse(name).unwrap()
    }

    fn spec() -> WorkloadSpec {
        contract::parse_value(serde_json::json!({
            "workloadId": "uabcdefghijklmnopqrstuvwx2-7", "profile": "default", "env": {}, "token": "",
            "unit": {"uid": "uabcdefghijklmnopqrstuvwx2", "generation": 7},
            "mounts": [{"workspace": "a", "mode": "rw"}, {"workspace": "b", "mode": "ro"}],
        }))
        .unwrap()
    }

    fn claims() -> DispatchClaims {
        let spec = spec();
        let at = |id, mode| WorkspaceAt { id: workspace(id), mode };
        DispatchClaims {
            sub: Owner::parse("o").unwrap(),
            launcher: Launcher::user("o"),
            unit: spec.unit.uid,
            generation: spec.unit.generation,
            workspaces: vec![at("a", Mode::Rw), at("b", Mode::Ro)],
            scope: "worker".into(),
            aud: DISPATCH_AUDIENCE.into(),
            exp: jiff::Timestamp::now().as_second().unsigned_abs() + 60,
        }
    }

    fn with_token(claims: &DispatchClaims, signer: &Signer) -> WorkloadSpec {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &signer.private).unwrap();
        WorkloadSpec { token, ..spec() }
    }

    fn refusal(result: Result<(), RuntimeError>) -> String {
        match result {
            Err(RuntimeError::Refused { problem }) => problem.pointer.unwrap(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_mount_that_the_token_does_not_grant_is_refused_with_a_key_and_without() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(&folder, "public.pem");
        for keys in [vec![], vec![signer.public.clone()]] {
            let good = with_token(&claims(), &signer);
            check(&good, &keys).unwrap();
            let mut less = good.clone();
            less.mounts[0].mode = Mode::Ro;
            check(&less, &keys).unwrap();
            let mut more = good.clone();
            more.mounts[1].mode = Mode::Rw;
            assert_eq!(refusal(check(&more, &keys)), "/mounts/1");
            let mut other = good.clone();
            other.mounts.push(Mount { workspace: workspace("somebody-elses"), mode: Mode::Ro });
            assert_eq!(refusal(check(&other, &keys)), "/mounts/2");
            let mut later = good.clone();
            later.unit.generation.0 += 1;
            assert_eq!(refusal(check(&later, &keys)), "/unit");
            let foreign = DispatchClaims { aud: "somebody-else".into(), ..claims() };
            assert_eq!(refusal(check(&with_token(&foreign, &signer), &keys)), "/token");
            assert_eq!(refusal(check(&WorkloadSpec { token: "no-token".into(), ..good }, &keys)), "/token");
        }
    }

    #[test]
    fn a_forged_token_is_refused_by_the_key_and_both_keys_of_an_exchange_do() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, forger) = (signer(&folder, "old"), signer(&folder, "new"), signer(&folder, "forger"));
        let keys = [old.public.clone(), new.public.clone()];
        check(&with_token(&claims(), &old), &keys).unwrap();
        check(&with_token(&claims(), &new), &keys).unwrap();
        assert_eq!(refusal(check(&with_token(&claims(), &forger), &keys)), "/token");
        // A good signature around other claims.
        let good = with_token(&claims(), &new).token;
        let mut wider = claims();
        wider.workspaces[1].mode = Mode::Rw;
        let wider = with_token(&wider, &forger).token;
        let parts: Vec<_> = good.split('.').collect();
        let mixed = format!("{}.{}.{}", parts[0], wider.split('.').nth(1).unwrap(), parts[2]);
        assert_eq!(refusal(check(&WorkloadSpec { token: mixed, ..spec() }, &keys)), "/token");
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
        assert_eq!(refusal(check(&WorkloadSpec { token: unsigned, ..spec() }, &keys)), "/token");
        let expired = DispatchClaims { exp: 1000, ..claims() };
        assert_eq!(refusal(check(&with_token(&expired, &new), &keys)), "/token");
        // A key that is none stops everything: silence would be a door.
        std::fs::write(&old.public, "hello").unwrap();
        assert!(matches!(check(&with_token(&claims(), &new), &keys), Err(RuntimeError::Unavailable { .. })));
    }
}
