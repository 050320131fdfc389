//! From a checked dispatch to a submission.

use std::time::{SystemTime, UNIX_EPOCH};

use contract::{Dispatch, ErrorCode, Options, Owner, TurnId, UnitName};
use http::HeaderMap;
use ledger::{Idempotency, Policy, Shape, Submission};
use rand::Rng;
use settings::Profile;
use sha2::{Digest, Sha256};

use super::checks;
use super::preferences::idempotency_key;
use super::problem::Failure;
use super::trace::Traceparent;
use crate::app::App;

/// What a submission has besides the dispatch itself.
pub struct Intake<'a> {
    /// The subject, as whose the unit runs.
    pub owner: Owner,
    /// The addressed unit's full name.
    pub name: UnitName,
    /// The conversation thread.
    pub thread: String,
    /// The profile, `default` where none is named.
    pub profile: &'a str,
    /// Options for this turn.
    pub options: Options,
    /// For `traceparent`.
    pub trace: &'a Traceparent,
    /// For `Idempotency-Key`.
    pub headers: &'a HeaderMap,
    /// What makes a request with the same key the same request.
    pub request: &'a [&'a [u8]],
}

impl Intake<'_> {
    /// Checks what the schema does not, and puts the turn together.
    ///
    /// # Errors
    /// 400 with the pointer of the offender, 413, or 422 for an unknown profile or runner.
    pub fn submission(self, app: &App, dispatch: Dispatch) -> Result<Submission, Failure> {
        let limits = &app.settings.limits;
        let profile = profile(app, self.profile)?;
        checks::dispatch(&dispatch)?;
        checks::options(&self.options, limits)?;
        checks::runner(&dispatch.runner, self.profile, &profile)?;
        let prompt = checks::prompt(&dispatch.start, limits)?;
        let key = idempotency_key(self.headers)?;
        let principal = dispatch.identity.principal.unwrap_or_else(|| checks::default_principal(&self.owner));
        let tools = if dispatch.tools.is_empty() { profile.tools.clone() } else { dispatch.tools };
        Ok(Submission {
            turn: new_turn(),
            prompt: prompt.text,
            prompt_path: prompt.path,
            session: prompt.session,
            thread: self.thread,
            trigger: dispatch.trigger,
            launcher: dispatch.identity.launcher,
            options: self.options,
            shape: Shape {
                profile: self.profile.into(),
                runner: dispatch.runner,
                workspaces: dispatch.workspaces,
                tools,
                principal,
            },
            policy: policy(&profile),
            timeout_sec: profile.turn_timeout_sec,
            traceparent: Some(self.trace.as_str().into()),
            idempotency: key.map(|key| Idempotency { key, body_hash: hash(self.request) }),
            owner: self.owner,
            name: self.name,
        })
    }
}

/// The profile of this name.
///
/// # Errors
/// 422 `unknown-profile`.
pub fn profile(app: &App, name: &str) -> Result<Profile, Failure> {
    app.settings.profile(name).ok_or_else(|| {
        let detail = format!("there is no profile `{}` in this deployment's settings", name.escape_debug());
        Failure::new(ErrorCode::UnknownProfile, detail).at("/profile")
    })
}

fn policy(profile: &Profile) -> Policy {
    Policy {
        idle_timeout_ms: profile.idle_timeout_sec.saturating_mul(1000),
        start_timeout_ms: profile.start_timeout_sec.saturating_mul(1000),
        max_lifetime_ms: profile.max_lifetime_sec.saturating_mul(1000),
        max_attempts: profile.max_attempts,
        max_starts: profile.max_starts,
    }
}

fn new_turn() -> TurnId {
    // Only the order within a listing depends on it; a clock before 1970 does no harm.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    TurnId::new(u64::try_from(now_ms).unwrap_or_default(), rand::rng().random())
}

/// Parts are kept apart by their lengths, so that no two requests run together.
fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_do_not_run_together() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_eq!(hash(&[b"a"]), hash(&[b"a"]));
        assert_ne!(new_turn(), new_turn());
    }
}
