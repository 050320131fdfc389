//! Workloads as containers of a Docker engine: no network, no capabilities, the static worker as PID 1.
//!
//! A start is two requests, create and start. Ends are seen in one stream of events; whenever that has been broken, every
//! workload is looked at anew.

mod container;
mod engine;
mod events;
mod image;
mod inspect;
mod network;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use contract::{Generation, UnitId, WorkloadId};
use futures_util::StreamExt;
use settings::Network;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{BackendError, Condition, Exit, Launch, Sighting};
use crate::config::RuntimeConfig;
use container::Common;
use engine::{Engine, status_of, words};
use image::Images;

/// The engine's socket when nothing else is said.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// How far events of one moment may lie apart.
const LATE_EVENT: Duration = Duration::from_millis(500);
/// Label of everything that belongs to a deployment.
const DEPLOYMENT: &str = "rekindle.deployment";
const UID: &str = "rekindle.uid";
const GENERATION: &str = "rekindle.generation";
const PROFILE: &str = "rekindle.profile";

/// A Docker engine on this host.
#[derive(Debug)]
pub(crate) struct DockerBackend {
    engine: Arc<Engine>,
    deployment: String,
    worker: PathBuf,
    ids: (u32, u32),
    oci_runtime: Option<String>,
    images: Images,
    _events: AbortOnDropHandle<()>,
}

impl DockerBackend {
    pub fn open(
        config: &RuntimeConfig,
        sightings: mpsc::Sender<Sighting>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let from_environment = || std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
        let host = config.docker_host.clone().or_else(from_environment).unwrap_or_else(|| DEFAULT_HOST.into());
        if !host.starts_with("unix:///") {
            let detail = format!(
                "runtime.docker_host is `{host}`; it must be unix:///path: workspaces are folders of this host, which an \
                 engine elsewhere cannot mount"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let engine = Arc::new(Engine::new(host));
        let listener = events::listen(Arc::clone(&engine), config.deployment.clone(), sightings, stop);
        Ok(Self {
            engine,
            deployment: config.deployment.clone(),
            // The engine knows this host's paths, not our working directory.
            worker: config.worker_binary.canonicalize().unwrap_or_else(|_| config.worker_binary.clone()),
            ids: config.worker_ids(),
            oci_runtime: config.oci_runtime.clone(),
            images: Images::default(),
            _events: AbortOnDropHandle::new(tokio::spawn(listener)),
        })
    }

    fn name(&self, id: &WorkloadId) -> String {
        format!("rekindle-{}-{id}", self.deployment)
    }

    pub async fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        if !self.worker.is_file() {
            return Err(BackendError(format!("there is no worker binary at {}", self.worker.display())));
        }
        let docker = self.engine.get().await?;
        let name = self.name(launch.dir.id());
        let token = if launch.profile.token_in_env { launch.dir.token()? } else { String::new() };
        self.engine.check(launch.profile.isolation).await?;
        let network = match launch.profile.network {
            Network::None => None,
            Network::Internal => Some(network::ensure(&self.engine, &self.deployment).await?),
        };
        let common = Common {
            deployment: &self.deployment,
            worker: &self.worker,
            ids: self.ids,
            oci_runtime: self.oci_runtime.as_deref(),
            network: network.as_deref(),
        };
        let body = container::describe(launch, &common, &token)?;
        let options = || Some(CreateContainerOptionsBuilder::new().name(&name).build());

        let image = &launch.profile.image;
        let mut created = docker.create_container(options(), body.clone()).await;
        if let Err(error) = &created {
            let no_image = status_of(error) == Some(404) && words(error).to_lowercase().contains("no such image");
            if no_image {
                tokio::select! {
                    () = launch.abort.cancelled() => return Err(aborted()),
                    pulled = self.images.pull(docker, image) => pulled?,
                }
                created = docker.create_container(options(), body).await;
            } else if status_of(error) == Some(409) {
                // Left by a start that was cut short: its generation is this one, so it is ours to replace.
                self.remove(launch.dir.id()).await?;
                created = docker.create_container(options(), body).await;
            }
        }
        created.map_err(|e| match status_of(&e) {
            Some(_) => BackendError(format!("the engine does not create a container of {image}: {}", words(&e))),
            None => self.engine.silent(&e),
        })?;
        if launch.abort.is_cancelled() {
            return Err(aborted());
        }
        docker.start_container(&name, None::<StartContainerOptions>).await.map_err(|e| match status_of(&e) {
            Some(_) => BackendError(format!("the engine does not start a container of {image}: {}", words(&e))),
            None => self.engine.silent(&e),
        })
    }

    pub async fn examine(&self, id: &WorkloadId) -> Result<Condition, BackendError> {
        let docker = self.engine.get().await?;
        let name = self.name(id);
        let inspected = match docker.inspect_container(&name, None::<InspectContainerOptions>).await {
            Ok(inspected) => inspected,
            Err(e) if status_of(&e) == Some(404) => return Ok(Condition::Absent),
            Err(e) => return Err(self.engine.silent(&e)),
        };
        let state = inspected.state.unwrap_or_default();
        match state.status {
            Some(ContainerStateStatusEnum::CREATED) => Ok(Condition::NeverStarted),
            Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => {
                let code = state.exit_code.and_then(|c| i32::try_from(c).ok());
                let oom = state.oom_killed == Some(true) && code == Some(137);
                let told = state.error.filter(|e| !e.is_empty());
                let limit = inspected.host_config.and_then(|h| h.memory).filter(|m| *m > 0);
                let detail = match (code, oom, limit) {
                    (Some(0), _, _) => None,
                    (_, true, Some(bytes)) => Some(format!("memory limit of {} MiB", bytes >> 20)),
                    _ => match told {
                        Some(told) => Some(told),
                        None => self.tail(docker, &name).await,
                    },
                };
                let at = state.finished_at.and_then(|t| t.parse().ok());
                Ok(Condition::Exited(Exit { code, oom, never_ran: false, at, detail }))
            }
            _ => Ok(Condition::Running),
        }
    }

    /// Whether it was memory that a KILL was about. The engine learns that from its own events, which may come after the one of
    /// the end; what it says of the state then stays wrong for ever.
    pub async fn ran_out_of_memory(&self, id: &WorkloadId) -> bool {
        let mut seen = self.engine.oom.subscribe();
        let name = id.to_string();
        tokio::time::timeout(LATE_EVENT, seen.wait_for(|all| all.contains(&name))).await.is_ok()
    }

    /// Its last lines, as the engine kept them.
    async fn tail(&self, docker: &Docker, name: &str) -> Option<String> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("10").build();
        let mut lines = docker.logs(name, Some(options));
        let mut text = String::new();
        while let Some(Ok(line)) = lines.next().await {
            text.push_str(&line.to_string());
        }
        let text = text.trim();
        let start = text.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        (!text.is_empty()).then(|| text[start..].to_owned())
    }

    pub async fn signal(&self, id: &WorkloadId, signal: &str) -> Result<(), BackendError> {
        let docker = self.engine.get().await?;
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match docker.kill_container(&self.name(id), Some(options)).await {
            // It is gone, or it does not run.
            Err(e) if !matches!(status_of(&e), Some(404 | 409)) => Err(self.engine.silent(&e)),
            _ => Ok(()),
        }
    }

    pub async fn remove(&self, id: &WorkloadId) -> Result<(), BackendError> {
        let docker = self.engine.get().await?;
        let name = self.name(id);
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(&name, Some(options)).await {
            Ok(()) => {}
            Err(e) if status_of(&e) == Some(404) => return Ok(()),
            // Somebody else is at it already, or it failed: what is there now decides.
            Err(e) if status_of(&e).is_some() => tracing::debug!(container = name, error = words(&e), "remove"),
            Err(e) => return Err(self.engine.silent(&e)),
        }
        match docker.inspect_container(&name, None::<InspectContainerOptions>).await {
            Err(e) if status_of(&e) == Some(404) => Ok(()),
            Err(e) => Err(self.engine.silent(&e)),
            Ok(_) => Err(BackendError(format!("the engine has not removed the container {name} yet"))),
        }
    }

    pub async fn list(&self) -> Result<Vec<(WorkloadId, String)>, BackendError> {
        let docker = self.engine.get().await?;
        let filters = HashMap::from([("label", vec![format!("{DEPLOYMENT}={}", self.deployment)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = docker.list_containers(Some(options)).await.map_err(|e| self.engine.silent(&e))?;
        Ok(containers
            .into_iter()
            .filter_map(|c| {
                let labels = c.labels?;
                Some((labelled(&labels)?, labels.get(PROFILE).cloned().unwrap_or_default()))
            })
            .collect())
    }

    /// Whether it can be asked for something. A stream that is open saves the question.
    pub async fn reachable(&self) -> Result<(), BackendError> {
        if self.engine.heard.load(Ordering::Relaxed) { Ok(()) } else { self.health().await }
    }

    pub async fn health(&self) -> Result<(), BackendError> {
        let docker = self.engine.get().await?;
        docker.ping().await.map(drop).map_err(|e| self.engine.silent(&e))
    }
}

fn aborted() -> BackendError {
    BackendError("it was stopped before it had started".into())
}

/// The workload that these labels name.
fn labelled(labels: &HashMap<String, String>) -> Option<WorkloadId> {
    Some(WorkloadId {
        uid: UnitId::parse(labels.get(UID)?.as_str()).ok()?,
        generation: Generation(labels.get(GENERATION)?.parse().ok()?),
    })
}
