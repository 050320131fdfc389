//! The connection to the engine, and what must be known of it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::SystemInfo;
use settings::Isolation;
use tokio::sync::{OnceCell, watch};

use super::BackendError;

/// Seconds that the engine may take to answer.
const TIMEOUT_SEC: u64 = 60;

/// The connection, made and its version negotiated when it is first needed: the engine may come later than we do.
#[derive(Debug)]
pub(super) struct Engine {
    pub host: String,
    docker: OnceCell<Docker>,
    filters: OnceCell<bool>,
    /// Workloads that were seen to run out of memory, until they are removed.
    pub oom: watch::Sender<BTreeSet<String>>,
    /// Its stream of events is open.
    pub heard: AtomicBool,
}

impl Engine {
    /// Not connected to yet.
    pub fn new(host: String) -> Self {
        Self {
            host,
            docker: OnceCell::new(),
            filters: OnceCell::new(),
            oom: watch::Sender::default(),
            heard: AtomicBool::new(false),
        }
    }

    /// Refuses an engine that puts no filter of system calls around its containers, where isolation is demanded; elsewhere that
    /// is said once.
    pub async fn check(&self, demanded: Isolation) -> Result<(), BackendError> {
        let ask = || async {
            let info = self.get().await?.info().await.map_err(|e| self.silent(&e))?;
            let filters = has_seccomp(&info);
            if !filters {
                tracing::warn!(
                    "the Docker engine runs containers WITHOUT a seccomp profile: every system call is open to them"
                );
            }
            Ok::<_, BackendError>(filters)
        };
        if *self.filters.get_or_try_init(ask).await? || demanded == Isolation::Any {
            return Ok(());
        }
        let detail = "the profile demands isolation, and this engine runs containers without a seccomp profile";
        Err(BackendError(detail.into()))
    }

    pub async fn get(&self) -> Result<&Docker, BackendError> {
        let path = self.host.trim_start_matches("unix://");
        let connect = || async {
            Docker::connect_with_unix(path, TIMEOUT_SEC, bollard::API_DEFAULT_VERSION)?.negotiate_version().await
        };
        self.docker.get_or_try_init(connect).await.map_err(|e| self.silent(&e))
    }

    /// The engine does not answer: what to do about it.
    pub fn silent(&self, error: &Error) -> BackendError {
        let hint = "is it running, and may this user open its socket? (systemctl start docker)";
        BackendError(format!("the Docker engine at {} does not answer: {}; {hint}", self.host, words(error)))
    }
}

/// The engine's own reason, without our library's words around it.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}

pub(super) fn status_of(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// `security_options` has an entry `name=seccomp,profile=…`; the profile of an engine that was told to use none is `unconfined`.
fn has_seccomp(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options.filter(|o| o.contains("name=seccomp")).any(|o| !o.contains("unconfined"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_a_filter_is_known_by_its_own_words() {
        let info = |option: &str| SystemInfo {
            security_options: Some(vec!["name=apparmor".into(), option.into()]),
            ..SystemInfo::default()
        };
        assert!(has_seccomp(&info("name=seccomp,profile=default")));
        assert!(has_seccomp(&info("name=seccomp,profile=builtin")));
        assert!(!has_seccomp(&info("name=seccomp,profile=unconfined")));
        assert!(!has_seccomp(&info("name=cgroupns")));
    }
}
