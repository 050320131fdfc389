//! What one asks of a Docker engine before the runtime does: whether it answers, its version, an image.

use serde_json::Value;

use crate::local_http::get;

/// Where an engine should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `unix:///path` or `tcp://host:port`.
    pub host: String,
}

impl Engine {
    /// As the settings say, else `DOCKER_HOST`, else the usual socket.
    pub fn find(setting: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = setting.map(Into::into).or_else(|| variable("DOCKER_HOST").filter(|v| !v.is_empty()));
        Self { host: given.unwrap_or_else(|| "unix:///var/run/docker.sock".into()) }
    }

    /// Its version, if it answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn version(&self) -> anyhow::Result<String> {
        let (status, _) = get(&self.host, "/_ping", None).await?;
        anyhow::ensure!(status.is_success(), "it answers {status}");
        let (_, body) = get(&self.host, "/version", None).await?;
        let version: Value = serde_json::from_slice(&body)?;
        Ok(version.get("Version").and_then(Value::as_str).unwrap_or("of unknown version").into())
    }

    /// Whether it has this image.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn has_image(&self, image: &str) -> anyhow::Result<bool> {
        let (status, _) = get(&self.host, &format!("/images/{image}/json"), None).await?;
        Ok(status.is_success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_where_docker_itself_would_look() {
        let none = |_: &str| None;
        assert_eq!(Engine::find(None, none).host, "unix:///var/run/docker.sock");
        let variable = |_: &str| Some("unix:///run/user/1/docker.sock".to_owned());
        assert_eq!(Engine::find(None, variable).host, "unix:///run/user/1/docker.sock");
        assert_eq!(Engine::find(Some("tcp://h:1"), variable).host, "tcp://h:1");
    }
}
