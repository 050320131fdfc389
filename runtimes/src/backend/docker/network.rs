//! The deployment's own network, for profiles that ask for an interface: it leads nowhere.
//!
//! An internal bridge of older engines has an address of the host, by which every service that the host listens with can be
//! reached, and no rule of ours would hold there. Engines from 28 on can leave that address out (`isolated`); together with "no
//! communication between containers" nobody is left to talk to. Older engines are refused. The way out stays the worker's two
//! sockets.

use std::collections::HashMap;

use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;

use super::engine::{Engine, status_of, words};
use super::{BackendError, DEPLOYMENT};

/// The first engine that can leave the host out.
const ENGINE_MIN: u32 = 28;
const OPTIONS: [(&str, &str); 3] = [
    ("com.docker.network.bridge.enable_icc", "false"),
    ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
    ("com.docker.network.bridge.gateway_mode_ipv6", "isolated"),
];

/// The network's name; it is made if it is not there.
///
/// # Errors
/// When the engine cannot hold what it promises, or there is another network of this name.
pub(super) async fn ensure(engine: &Engine, deployment: &str) -> Result<String, BackendError> {
    let docker = engine.get().await?;
    let name = format!("rekindle-{deployment}");
    match docker.inspect_network(&name, None::<InspectNetworkOptions>).await {
        Ok(found) => return if is_ours(&found) { Ok(name) } else { Err(another(&name)) },
        Err(e) if status_of(&e) == Some(404) => {}
        Err(e) => return Err(engine.silent(&e)),
    }
    let version = docker.version().await.map_err(|e| engine.silent(&e))?.version.unwrap_or_default();
    if major(&version).is_none_or(|major| major < ENGINE_MIN) {
        return Err(BackendError(format!(
            "network = \"internal\" needs a Docker engine {ENGINE_MIN} or later, and this is {version}: in its internal networks \
             the host itself can be reached; leave the setting out, the worker needs no network"
        )));
    }
    match docker.create_network(describe(&name, deployment)).await {
        // Another start was faster.
        Err(e) if status_of(&e) != Some(409) => Err(BackendError(format!("the network {name}: {}", words(&e)))),
        _ => match docker.inspect_network(&name, None::<InspectNetworkOptions>).await {
            Ok(made) if is_ours(&made) => Ok(name),
            Ok(_) => Err(another(&name)),
            Err(e) => Err(engine.silent(&e)),
        },
    }
}

fn describe(name: &str, deployment: &str) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".into()),
        internal: Some(true),
        attachable: Some(false),
        options: Some(OPTIONS.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        labels: Some(HashMap::from([(DEPLOYMENT.to_owned(), deployment.to_owned())])),
        ..Default::default()
    }
}

/// Whether the engine kept every word: an option that it does not know it may drop.
fn is_ours(found: &NetworkInspect) -> bool {
    let has = |(key, value): &(&str, &str)| {
        found.options.as_ref().and_then(|all| all.get(*key)).is_some_and(|found| found == value)
    };
    found.internal == Some(true) && OPTIONS.iter().all(has)
}

fn another(name: &str) -> BackendError {
    BackendError(format!("the engine has a network {name} that is not the isolated one; remove it"))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_that_reaches_nobody_is_taken() {
        let asked = describe("rekindle-d", "d");
        let mut found = NetworkInspect { internal: asked.internal, options: asked.options, ..Default::default() };
        assert!(is_ours(&found));
        found.internal = Some(false);
        assert!(!is_ours(&found));
        found.internal = Some(true);
        found.options.as_mut().unwrap().remove("com.docker.network.bridge.gateway_mode_ipv4");
        assert!(!is_ours(&found));
        assert_eq!((major("28.2.2"), major("20.10.24+dfsg1"), major("dev")), (Some(28), Some(20), None));
    }
}
