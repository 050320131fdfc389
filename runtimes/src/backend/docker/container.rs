//! What a container of ours looks like.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use contract::Mode;

use super::super::Launch;
use super::{DEPLOYMENT, GENERATION, PROFILE, UID};
use crate::environment::{self, Places};

const RUN_BYTES: u64 = 16 << 20;
const SHM_BYTES: i64 = 64 << 20;

/// What all containers of a deployment have in common.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub deployment: &'a str,
    pub worker: &'a Path,
    pub ids: (u32, u32),
    /// The OCI runtime where the profile names none.
    pub oci_runtime: Option<&'a str>,
    /// The network that reaches nobody, for profiles that ask for one.
    pub network: Option<&'a str>,
}

/// The whole description. Nothing in it is secret, unless the profile asks for the token in the environment: everybody who
/// may talk to the engine can read it back.
pub(super) fn describe(launch: &Launch, common: &Common<'_>, token: &str) -> io::Result<ContainerCreateBody> {
    let &Common { deployment, worker, ids: (uid, gid), network, .. } = common;
    let oci_runtime = launch.profile.oci_runtime.as_deref().or(common.oci_runtime);
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
        network_disabled: network.is_none().then_some(true),
        host_config: Some(HostConfig {
            network_mode: Some(network.unwrap_or("none").to_owned()),
            runtime: oci_runtime.map(str::to_owned),
            // The image is the same for everybody; what is written lies in the home, in the workspaces, or in memory.
            readonly_rootfs: Some(true),
            tmpfs: Some(scratch(launch.profile.tmp_mb)),
            shm_size: Some(SHM_BYTES),
            ipc_mode: Some("private".into()),
            ulimits: Some(vec![
                ulimit("core", 0),
                ulimit("nofile", launch.profile.nofile),
                // Message queues are counted for the uid, which all workers share.
                ulimit("msgqueue", 0),
            ]),
            init: Some(false),
            mounts: Some(mounts),
            memory,
            // The same as memory: no swap.
            memory_swap: memory,
            nano_cpus: launch.cpu().map(|cpu| (cpu * 1e9) as i64),
            pids_limit: i64::try_from(launch.profile.pids).ok(),
            cap_drop: Some(vec!["ALL".into()]),
            // The filter of system calls is the engine's own, whose absence `Engine::check` looks for.
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

/// Folders in memory, each with a size, in which everybody may write and run things, as build tools do.
fn scratch(tmp_mb: u64) -> HashMap<String, String> {
    let folder = |bytes: u64| format!("rw,exec,nosuid,nodev,mode=1777,size={bytes}");
    let tmp_bytes = tmp_mb.max(1) << 20;
    HashMap::from([
        ("/tmp".into(), folder(tmp_bytes)),
        ("/var/tmp".into(), folder(tmp_bytes)),
        ("/run".into(), folder(RUN_BYTES)),
    ])
}

fn ulimit(name: &str, most: u64) -> ResourcesUlimits {
    let most = i64::try_from(most).ok();
    ResourcesUlimits { name: Some(name.into()), soft: most, hard: most }
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
