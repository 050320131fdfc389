//! What a container of ours looks like.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use contract::Mode;

use super::super::Launch;
use super::{DEPLOYMENT, GENERATION, PROFILE, UID};
use crate::environment::{self, Places};

/// The whole description. Nothing in it is secret, unless the profile asks for the token in the environment: everybody who
/// may talk to the engine can read it back.
pub(super) fn describe(
    launch: &Launch,
    deployment: &str,
    worker: &Path,
    (uid, gid): (u32, u32),
    token: &str,
) -> io::Result<ContainerCreateBody> {
    let spec = &launch.spec;
    let places = Places::sandboxed(spec);
    let env = environment::build(spec, &launch.profile, &places, token);
    let mut mounts = vec![
        bind(&launch.dir.sock(), "/rekindle/sock", true)?,
        bind(worker, "/rekindle/worker", true)?,
        bind(&launch.state, "/rekindle/state", false)?,
        bind(&launch.dir.hosts(), "/etc/hosts", true)?,
        bind(&launch.dir.home(), "/home/agent", false)?,
    ];
    for ((_, mode, host), (_, _, inside)) in launch.workspaces.iter().zip(&places.workspaces) {
        mounts.push(bind(host, inside, *mode == Mode::Ro)?);
    }
    let memory = launch.memory_bytes().and_then(|b| i64::try_from(b).ok());
    Ok(ContainerCreateBody {
        image: Some(launch.profile.image.clone()),
        entrypoint: Some(vec!["/rekindle/worker".into()]),
        cmd: Some(Vec::new()),
        user: Some(format!("{uid}:{gid}")),
        working_dir: Some("/workspace".into()),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(HashMap::from([
            (DEPLOYMENT.into(), deployment.to_owned()),
            (UID.into(), spec.unit.uid.to_string()),
            (GENERATION.into(), spec.unit.generation.to_string()),
            (PROFILE.into(), spec.profile.clone()),
        ])),
        // An image's own probe would start processes beside the worker.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        // With `none` alone the engine still makes a network sandbox of its own, by a hook that is more than half of a start.
        // Told that there is none, it leaves the namespace to the OCI runtime, which makes a new one with a loopback in it; it
        // writes no /etc/hosts then, so there is one among the mounts.
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            init: Some(false),
            mounts: Some(mounts),
            memory,
            // The same as memory: no swap.
            memory_swap: memory,
            nano_cpus: launch.cpu().map(|cpu| (cpu * 1e9) as i64),
            pids_limit: i64::try_from(launch.profile.pids).ok(),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([("max-size".into(), "256k".into()), ("max-file".into(), "1".into())])),
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

pub(super) fn bind(host: &Path, inside: &str, read_only: bool) -> io::Result<Mount> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", host.display()));
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(host.to_str().ok_or_else(wrong)?.to_owned()),
        target: Some(inside.to_owned()),
        read_only: Some(read_only),
        ..Default::default()
    })
}
