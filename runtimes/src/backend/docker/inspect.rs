//! A look into a workspace as a container: nothing but the workspace, read-only, and the worker's binary.

use std::collections::HashMap;
use std::path::Path;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures_util::StreamExt;

use super::container::bind;
use super::{BackendError, DEPLOYMENT, DockerBackend, status_of, words};
use crate::inspect::{Inspection, Printed};

/// Label of what is no generation of a unit.
const KIND: &str = "rekindle.kind";
const INSPECT: &str = "inspect";
const NAME: &str = "rekindle.inspect";
const MEMORY_BYTES: i64 = 512 << 20;
const PIDS: i64 = 32;

impl DockerBackend {
    /// Looks, and returns what was printed. Whatever becomes of it, [`Self::end_inspect`] removes the container.
    pub async fn inspect(&self, inspection: &Inspection) -> Result<Printed, BackendError> {
        let docker = self.engine.get().await?;
        let name = self.inspect_name(&inspection.name);
        let body = self.describe_inspect(inspection, &self.worker)?;
        let options = || Some(CreateContainerOptionsBuilder::new().name(&name).build());
        let failed = |e: bollard::errors::Error| match status_of(&e) {
            Some(_) => BackendError(words(&e)),
            None => self.engine.silent(&e),
        };
        match docker.create_container(options(), body.clone()).await {
            Err(e) if status_of(&e) == Some(404) && words(&e).to_lowercase().contains("no such image") => {
                self.images.pull(docker, &inspection.image).await?;
                docker.create_container(options(), body).await.map_err(failed)?;
            }
            created => drop(created.map_err(failed)?),
        }
        // Before its start, so that nothing it says is missed.
        let attach = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
        let mut attached = docker.attach_container(&name, Some(attach)).await.map_err(failed)?;
        docker.start_container(&name, None::<StartContainerOptions>).await.map_err(failed)?;
        let mut printed = Printed::default();
        while let Some(output) = attached.output.next().await {
            match output.map_err(failed)? {
                LogOutput::StdErr { message } => printed.push(false, &message)?,
                LogOutput::StdOut { message } => printed.push(true, &message)?,
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
            }
        }
        Ok(printed)
    }

    /// Ends and removes it; one that is not there is no error.
    pub async fn end_inspect(&self, name: &str) -> Result<(), BackendError> {
        let docker = self.engine.get().await?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(&self.inspect_name(name), Some(options)).await {
            // 409: the engine is at it already.
            Err(e) if !matches!(status_of(&e), Some(404 | 409)) => Err(BackendError(words(&e))),
            _ => Ok(()),
        }
    }

    /// Names of all that there are, of whichever runtime.
    pub async fn inspects(&self) -> Result<Vec<String>, BackendError> {
        let docker = self.engine.get().await?;
        let labels = vec![format!("{DEPLOYMENT}={}", self.deployment), format!("{KIND}={INSPECT}")];
        let options =
            ListContainersOptionsBuilder::new().all(true).filters(&HashMap::from([("label", labels)])).build();
        let containers = docker.list_containers(Some(options)).await.map_err(|e| self.engine.silent(&e))?;
        Ok(containers.into_iter().filter_map(|c| c.labels?.remove(NAME)).collect())
    }

    fn inspect_name(&self, name: &str) -> String {
        format!("rekindle-{}-inspect-{name}", self.deployment)
    }

    fn describe_inspect(&self, inspection: &Inspection, worker: &Path) -> Result<ContainerCreateBody, BackendError> {
        let (uid, gid) = self.ids;
        Ok(ContainerCreateBody {
            image: Some(inspection.image.clone()),
            entrypoint: Some(["/rekindle/worker", "inspect", "/workspace"].map(Into::into).to_vec()),
            cmd: Some(Vec::new()),
            user: Some(format!("{uid}:{gid}")),
            working_dir: Some("/".into()),
            env: Some(vec![format!("REKINDLE_INSPECT={}", inspection.look)]),
            labels: Some(HashMap::from([
                (DEPLOYMENT.into(), self.deployment.clone()),
                (KIND.into(), INSPECT.into()),
                (NAME.into(), inspection.name.clone()),
            ])),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
            network_disabled: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some("none".into()),
                init: Some(false),
                mounts: Some(vec![
                    bind(&inspection.folder, "/workspace", true)?,
                    bind(worker, "/rekindle/worker", true)?,
                ]),
                readonly_rootfs: Some(true),
                memory: Some(MEMORY_BYTES),
                memory_swap: Some(MEMORY_BYTES),
                pids_limit: Some(PIDS),
                cap_drop: Some(vec!["ALL".into()]),
                security_opt: Some(vec!["no-new-privileges".into()]),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                // What it says is read as it says it, and is nobody else's.
                log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}
