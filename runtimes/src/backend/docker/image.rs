//! Images that the engine does not have are pulled once, however many starts wait for them.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::info;

use super::super::BackendError;
use super::words;

/// Between two lines of progress in the log.
const PROGRESS: Duration = Duration::from_secs(5);

/// Pulls that are under way, by image.
#[derive(Debug, Default)]
pub(super) struct Images {
    pulls: Mutex<HashMap<String, Pull>>,
}

type Pull = Shared<BoxFuture<'static, Result<(), BackendError>>>;

impl Images {
    /// Returns when the image has been pulled, by this call or by an earlier one that still runs. A pull is driven by those
    /// who wait for it; when none is left it ends, and the engine keeps the layers that it has.
    ///
    /// # Errors
    /// With the engine's own reason.
    pub async fn pull(&self, docker: &Docker, image: &str) -> Result<(), BackendError> {
        let pull = {
            let mut pulls = self.pulls.lock().await;
            pulls.retain(|_, pull| pull.peek().is_none());
            pulls
                .entry(image.to_owned())
                .or_insert_with(|| fetch(docker.clone(), image.to_owned()).boxed().shared())
                .clone()
        };
        pull.await
    }
}

async fn fetch(docker: Docker, image: String) -> Result<(), BackendError> {
    info!(image, "not on this engine; pulling it");
    let options = CreateImageOptionsBuilder::new().from_image(&with_tag(&image)).build();
    let mut steps = docker.create_image(Some(options), None, None);
    let mut told = Instant::now();
    while let Some(step) = steps.next().await {
        let failed = |reason: &str| {
            BackendError(format!("image {image} is not on this engine and could not be pulled: {reason}"))
        };
        let step = step.map_err(|e| failed(&words(&e)))?;
        if let Some(error) = step.error_detail.and_then(|e| e.message) {
            return Err(failed(&error));
        }
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            let (layer, status) = (step.id.unwrap_or_default(), step.status.unwrap_or_default());
            let done = step.progress_detail.and_then(|p| Some(format!("{} of {} bytes", p.current?, p.total?)));
            info!(image, layer, status, done, "pulling");
        }
    }
    info!(image, "pulled");
    Ok(())
}

/// Without a tag the engine would pull all of them.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_image_without_a_tag_means_latest() {
        assert_eq!(super::with_tag("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(super::with_tag("a:1"), "a:1");
        assert_eq!(super::with_tag("a@sha256:00"), "a@sha256:00");
    }
}
