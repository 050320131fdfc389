//! What a workload sees and may write.

use contract::{Mode, Mount, WorkspaceId};

use super::bench::{Bench, Substrate};
use crate::error::RuntimeError;

async fn touched(bench: &mut Bench, mode: Mode) -> String {
    let mut spec = bench.spec("touch");
    spec.mounts = vec![Mount { workspace: WorkspaceId::parse("notes").unwrap(), mode }];
    spec.env.insert("TARGET".into(), "${workspace}/new".into());
    bench.start_ready(spec).await;
    bench.report().await
}

pub async fn a_read_only_workspace_is_read_only(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    assert_eq!(touched(&mut bench, Mode::Ro).await, "Read-only file system");
    assert!(!bench.config.store.join("workspaces/notes/new").exists());
    bench.clean().await;
}

pub async fn a_writable_workspace_is_writable(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    assert_eq!(touched(&mut bench, Mode::Rw).await, "written");
    assert!(bench.config.store.join("workspaces/notes/new").exists());
    bench.clean().await;
}

pub async fn the_sockets_folder_is_read_only(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let spec = bench.spec("touch-in-sock");
    let id = bench.start_ready(spec).await;
    assert_eq!(bench.report().await, "Read-only file system");
    let sock = bench.config.store.join("generations").join(id.to_string()).join("sock");
    assert!(sock.join("redis.sock").exists() && sock.join("gateway.sock").exists());
    bench.clean().await;
}

pub async fn the_environment_is_whole_and_holds_no_secret(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("environment");
    spec.mounts.push(Mount { workspace: WorkspaceId::parse("other").unwrap(), mode: Mode::Ro });
    spec.env.insert("TOPIC".into(), "${out}".into());
    let id = bench.start_ready(spec).await;
    let report = bench.report().await;
    let value = |name: &str| {
        let line = report.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {report}")).to_owned()
    };
    assert_eq!(value("REKINDLE_UNIT"), id.uid.to_string());
    assert_eq!(value("REKINDLE_GENERATION"), id.generation.to_string());
    assert_eq!(value("REKINDLE_IN"), id.uid.in_stream());
    assert_eq!(value("TOPIC"), id.uid.out_stream());
    let workspaces: serde_json::Value = serde_json::from_str(&value("REKINDLE_WORKSPACES")).unwrap();
    assert_eq!(workspaces[1]["id"], "other");
    if substrate != Substrate::Bare {
        assert_eq!(value("HOME"), "/home/agent");
        assert_eq!(value("REDIS_URL"), "redis+unix:///rekindle/sock/redis.sock");
        assert_eq!(value("REKINDLE_STATE"), "/rekindle/state");
        assert_eq!(workspaces[0]["path"], "/workspace");
        assert_eq!(workspaces[1]["path"], "/workspaces/other");
    }
    assert!(!report.contains("marked-dispatch-token") && !report.contains("callback-token"), "{report}");
    // Nothing of the caller's own environment has come along.
    assert!(!report.contains("CARGO"), "{report}");
    if substrate == Substrate::Docker {
        let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
        let name = format!("rekindle-{}-{id}", bench.config.deployment);
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        let inspected = docker.inspect_container(&name, options).await.unwrap();
        assert!(!serde_json::to_string(&inspected).unwrap().contains("marked-dispatch-token"));
    }
    bench.clean().await;
}

pub async fn a_workspace_in_use_is_not_trashed(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let own = bench.uid().own_workspace();
    let id = bench.running("sleep").await;
    assert!(matches!(bench.runtime.trash_workspace(&own).await, Err(RuntimeError::Refused { .. })));
    assert!(matches!(bench.runtime.trash_state(&bench.uid()).await, Err(RuntimeError::Refused { .. })));
    bench.runtime.destroy(&id).await.unwrap();
    for _ in 0..2 {
        bench.runtime.trash_workspace(&own).await.unwrap();
        bench.runtime.trash_state(&bench.uid()).await.unwrap();
    }
    assert!(!bench.state().exists());
    bench.clean().await;
}

pub async fn it_has_a_loopback_and_no_other_network(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    bench.running("network").await;
    let report = bench.report().await;
    if substrate == Substrate::Bare {
        // There is no network of its own; the service's health says so.
        assert!(report.ends_with(" connected"), "{report}");
    } else {
        assert_eq!(report, "lo connected");
    }
    bench.clean().await;
}
