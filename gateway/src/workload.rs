//! What a start job becomes: the specification of its workload. A pure function of the job and the settings, so that any
//! gateway builds the same one.

use std::collections::BTreeMap;

use contract::{DISPATCH_AUDIENCE, DispatchClaims, Mount, Resources, UnitRef, WorkloadId, WorkloadSpec};
use ledger::StartJob;
use serde_json::json;
use settings::Profile;

/// A worker that idles this many times as long as its unit may has lost the platform, and ends itself.
const LAST_RESORT: u64 = 2;
const LAST_RESORT_MIN_SEC: u64 = 60;

/// Claims of the generation's token; `now_sec` is seconds since the epoch.
pub fn claims(job: &StartJob, now_sec: u64) -> DispatchClaims {
    DispatchClaims {
        sub: job.owner.clone(),
        launcher: job.launcher.clone(),
        unit: job.uid.clone(),
        generation: job.generation,
        workspaces: job.shape.workspaces.clone(),
        scope: "worker".into(),
        aud: DISPATCH_AUDIENCE.into(),
        exp: now_sec.saturating_add(max_lifetime_sec(job)),
    }
}

/// The workload of a start job, with its signed token.
pub fn spec(job: &StartJob, profile: &Profile, token: String, callback_url: &str) -> WorkloadSpec {
    let idle_sec =
        job.policy.idle_timeout_ms.div_ceil(1000).saturating_mul(LAST_RESORT).saturating_add(LAST_RESORT_MIN_SEC);
    let mounts = job.shape.workspaces.iter();
    WorkloadSpec {
        workload_id: WorkloadId { uid: job.uid.clone(), generation: job.generation },
        profile: job.shape.profile.clone(),
        env: environment(job, profile, idle_sec),
        callback_url: Some(callback_url.into()),
        resources: Resources { cpu: profile.cpu, memory_mb: profile.memory_mb, gpu: None },
        idle_timeout_sec: Some(idle_sec),
        max_lifetime_sec: Some(max_lifetime_sec(job)),
        backend: None,
        unit: UnitRef { uid: job.uid.clone(), generation: job.generation },
        mounts: mounts.map(|at| Mount { workspace: at.id.clone(), mode: at.mode }).collect(),
        token,
    }
}

fn max_lifetime_sec(job: &StartJob) -> u64 {
    job.policy.max_lifetime_ms.div_ceil(1000)
}

/// The platform's own names win over the profile's: a profile cannot tell a worker that it is somebody else.
fn environment(job: &StartJob, profile: &Profile, idle_sec: u64) -> BTreeMap<String, String> {
    let mut config = json!({ "command": profile.runner_command });
    if let Some(model) = &profile.model {
        config["model"] = model.as_str().into();
    }
    let mut env = profile.env.clone();
    env.insert("REKINDLE_START".into(), "cold".into());
    env.insert("REKINDLE_RUNNER".into(), job.shape.runner.clone());
    env.insert("REKINDLE_RUNNER_CONFIG".into(), config.to_string());
    env.insert("REKINDLE_IDLE_SEC".into(), idle_sec.to_string());
    if let Some(trace) = &job.traceparent {
        env.insert("TRACEPARENT".into(), trace.clone());
    }
    env
}
