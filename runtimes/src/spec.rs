//! What a spec must be before anything is done about it.

use std::collections::BTreeSet;

use contract::{ErrorCode, WorkloadSpec, is_uid_shaped};
use settings::Profile;

use crate::config::RuntimeConfig;
use crate::error::RuntimeError;
use crate::grant;
use crate::http_call::Endpoint;

/// A preamble has room for this much.
const TOKEN_MAX_BYTES: usize = 4000;

/// Checks the spec and finds its profile. Nothing is changed.
///
/// # Errors
/// [`RuntimeError::Refused`] with the pointer of the offender.
pub(crate) fn check(spec: &WorkloadSpec, config: &RuntimeConfig) -> Result<Profile, RuntimeError> {
    if spec.workload_id.uid != spec.unit.uid || spec.workload_id.generation != spec.unit.generation {
        return Err(RuntimeError::invalid("/workloadId", "must be the unit's uid and generation, joined by `-`"));
    }
    if let Some(wanted) = spec.backend.filter(|b| *b != config.backend) {
        let detail =
            format!("this runtime runs workloads with `{}`, not `{}`", config.backend.as_str(), wanted.as_str());
        return Err(RuntimeError::invalid("/backend", detail));
    }
    if spec.mounts.is_empty() {
        return Err(RuntimeError::invalid("/mounts", "at least one workspace is needed"));
    }
    let mut seen = BTreeSet::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let id = mount.workspace.as_str();
        if is_uid_shaped(id) && id != spec.unit.uid.as_str() {
            let detail = "this is another unit's own workspace, which that unit alone can use";
            return Err(RuntimeError::invalid(format!("/mounts/{index}/workspace"), detail));
        }
        if !seen.insert(id) {
            return Err(RuntimeError::invalid(format!("/mounts/{index}/workspace"), "a workspace is mounted once"));
        }
    }
    let token = &spec.token;
    if token.is_empty() || token.len() > TOKEN_MAX_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let detail = format!("must be one word of at most {TOKEN_MAX_BYTES} bytes");
        return Err(RuntimeError::invalid("/token", detail));
    }
    grant::check(spec, &config.dispatch_public_keys)?;
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(RuntimeError::invalid(format!("/env/{name}"), "is no environment variable"));
        }
    }
    if let Some(url) = &spec.callback_url
        && !matches!(Endpoint::parse(url), Some((Endpoint::Tcp(_), _)))
    {
        return Err(RuntimeError::invalid("/callbackUrl", "must be http://host[:port]/path"));
    }
    if spec.resources.cpu.is_some_and(|cpu| !cpu.is_finite() || cpu <= 0.0) {
        return Err(RuntimeError::invalid("/resources/cpu", "must be more than 0"));
    }
    config.profiles.get(&spec.profile).cloned().ok_or_else(|| {
        let known: Vec<_> = config.profiles.keys().map(String::as_str).collect();
        let detail = format!("no profile `{}`; the runtime's settings have: {}", spec.profile, known.join(", "));
        RuntimeError::refused(ErrorCode::UnknownProfile, detail)
    })
}
