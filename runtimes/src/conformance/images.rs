//! What only containers have: images, and an engine that has an opinion.

use contract::{StopReason, WorkloadState};

use super::bench::{Bench, Substrate};
use crate::error::RuntimeError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_is_told() {
    let image = "127.0.0.1:1/rekindle/nothing-there:1";
    let mut bench = Bench::with(Substrate::Docker, |config| {
        config.profiles.get_mut("default").unwrap().image = image.into();
    })
    .await;
    let spec = bench.spec("sleep");
    let status = bench.runtime.start(spec.clone()).await.unwrap();
    assert_eq!(
        (status.state, status.stop_reason),
        (WorkloadState::Stopped, Some(StopReason::StartFailed)),
        "{status:?}"
    );
    let detail = status.detail.unwrap();
    assert!(detail.starts_with(&format!("image {image} is not on this engine and could not be pulled: ")), "{detail}");
    assert!(matches!(bench.runtime.start(spec).await, Err(RuntimeError::Stale { .. })));
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_the_engine_cannot_run_is_told() {
    let mut bench = Bench::with(Substrate::Docker, |config| {
        let script = config.store.with_file_name("not-a-program");
        std::fs::write(&script, "no program").unwrap();
        config.worker_binary = script;
    })
    .await;
    let spec = bench.spec("sleep");
    let status = bench.runtime.start(spec).await.unwrap();
    assert_eq!(
        (status.state, status.stop_reason),
        (WorkloadState::Stopped, Some(StopReason::StartFailed)),
        "{status:?}"
    );
    assert!(status.detail.unwrap().contains("does not start a container"));
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oci_runtime_or_a_network_that_the_engine_does_not_have_is_told() {
    let mut bench = Bench::with(Substrate::Docker, |config| {
        let profile = config.profiles["default"].clone();
        let oci = settings::Profile { oci_runtime: Some("no-such-runtime".into()), ..profile.clone() };
        let network = settings::Profile { network: settings::Network::Internal, ..profile };
        config.profiles.extend([("oci".into(), oci), ("network".into(), network)]);
    })
    .await;
    let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
    let version = docker.version().await.unwrap().version.unwrap();
    let is_old = version.split('.').next().unwrap().parse::<u32>().unwrap() < 28;
    let cases = [("oci", "no-such-runtime"), ("network", "28 or later")];
    for (profile, words) in cases.into_iter().filter(|(profile, _)| is_old || *profile != "network") {
        let mut spec = bench.spec("sleep");
        spec.profile = profile.into();
        let status = bench.runtime.start(spec).await.unwrap();
        assert_eq!(status.stop_reason, Some(StopReason::StartFailed), "{status:?}");
        assert!(status.detail.as_deref().unwrap_or_default().contains(words), "{status:?}");
    }
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_absent_is_told_and_found_when_it_comes() {
    let bench = Bench::new(Substrate::Docker).await;
    let mut config = bench.config.clone();
    let socket = bench.dir.path().join("docker.sock");
    config.docker_host = Some(format!("unix://{}", socket.display()));
    config.store = bench.dir.path().join("second");
    let runtime = crate::Runtime::open(config).await.unwrap();
    let detail = runtime.health().await.unwrap_err().to_string();
    assert!(detail.contains("does not answer") && detail.contains("docker.sock"), "{detail}");
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    runtime.inner.when_ready().await.unwrap();
    runtime.health().await.unwrap();
    runtime.close().await;
    bench.clean().await;
}

/// A container as a runtime leaves it that is killed between its two requests to the engine.
async fn created_behind_its_back(bench: &Bench, id: &contract::WorkloadId) {
    let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
    let labels = [
        ("rekindle.deployment", bench.config.deployment.clone()),
        ("rekindle.uid", id.uid.to_string()),
        ("rekindle.generation", id.generation.to_string()),
        ("rekindle.profile", "default".into()),
    ];
    let name = format!("rekindle-{}-{id}", bench.config.deployment);
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::new().name(&name).build();
    let body = bollard::models::ContainerCreateBody {
        image: Some(super::bench::EMPTY_IMAGE.into()),
        entrypoint: Some(vec!["/rekindle/worker".into()]),
        labels: Some(labels.map(|(k, v)| (k.into(), v)).into()),
        ..Default::default()
    };
    docker.create_container(Some(options), body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_was_never_started_is_cleaned_up() {
    let mut bench = Bench::new(Substrate::Docker).await;
    bench.runtime.close().await;
    let spec = bench.spec("sleep");
    let id = spec.workload_id.clone();
    let status = serde_json::json!({
        "workloadId": id, "profile": "default", "state": "starting", "backend": "docker"
    });
    let dir = bench.runtime.inner.store.generation(&id);
    dir.create(&spec, &contract::parse_value(status).unwrap()).unwrap();
    created_behind_its_back(&bench, &id).await;
    bench.restart().await;
    let status = bench.stopped(&id).await;
    assert_eq!(status.stop_reason, Some(StopReason::StartFailed), "{status:?}");
    assert_eq!(bench.left(&id).await, Vec::<String>::new());
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_without_a_folder_is_listed_and_can_be_destroyed() {
    let mut bench = Bench::new(Substrate::Docker).await;
    bench.runtime.close().await;
    let id = bench.spec("sleep").workload_id;
    created_behind_its_back(&bench, &id).await;
    bench.restart().await;
    let listed: Vec<_> = bench.runtime.list().await.into_iter().map(|s| s.workload_id).collect();
    assert_eq!(listed, [id]);
    bench.clean().await;
}

/// An earlier container of the same name, of which this store knows nothing, is in nobody's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_is_taken_back() {
    let mut bench = Bench::new(Substrate::Docker).await;
    let spec = bench.spec("sleep");
    created_behind_its_back(&bench, &spec.workload_id).await;
    bench.start_ready(spec).await;
    bench.clean().await;
}
