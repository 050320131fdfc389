//! The environment of a workload: what the runtime alone knows, and the names that a spec may put it under.

use std::collections::BTreeMap;

use contract::{Mode, WorkloadSpec, WorkspaceId};
use settings::Profile;

/// Where things are as the workload sees them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Every workspace, the primary one first.
    pub workspaces: Vec<(WorkspaceId, Mode, String)>,
    /// The unit's state.
    pub state: String,
    /// The two sockets' folder.
    pub sock: String,
    /// The disposable home.
    pub home: String,
}

impl Places {
    /// As in every sandbox that has a mount namespace.
    pub fn sandboxed(spec: &WorkloadSpec) -> Self {
        let path = |index: usize, id: &WorkspaceId| match index {
            0 => "/workspace".to_owned(),
            _ => format!("/workspaces/{id}"),
        };
        let workspaces =
            spec.mounts.iter().enumerate().map(|(i, m)| (m.workspace.clone(), m.mode, path(i, &m.workspace))).collect();
        Self { workspaces, state: "/rekindle/state".into(), sock: "/rekindle/sock".into(), home: "/home/agent".into() }
    }
}

/// The whole environment. What the runtime sets wins over what the spec says.
pub(crate) fn build(spec: &WorkloadSpec, profile: &Profile, places: &Places, token: &str) -> BTreeMap<String, String> {
    let uid = &spec.unit.uid;
    let redis_url = format!("redis+unix://{}/redis.sock", places.sock);
    let gateway_url = format!("unix://{}/gateway.sock", places.sock);
    let workspace = places.workspaces.first().map(|(_, _, path)| path.clone()).unwrap_or_default();
    let foreign = !profile.command.is_empty();

    let mut names = BTreeMap::from([
        ("unit", uid.to_string()),
        ("generation", spec.unit.generation.to_string()),
        ("in", uid.in_stream()),
        ("out", uid.out_stream()),
        ("workspace", workspace),
        ("state", places.state.clone()),
    ]);
    if !foreign {
        // Around a foreign worker these are ports that the static binary opens, so it replaces the names itself.
        names.insert("redis_url", redis_url.clone());
        names.insert("gateway_url", gateway_url.clone());
    }
    if profile.token_in_env {
        names.insert("token", token.to_owned());
    }

    let mut env: BTreeMap<String, String> =
        spec.env.iter().map(|(name, value)| (name.clone(), substitute(value, &names))).collect();
    env.entry("HOME".into()).or_insert_with(|| places.home.clone());
    let workspaces: Vec<_> = places
        .workspaces
        .iter()
        .map(|(id, mode, path)| serde_json::json!({ "id": id, "mode": mode, "path": path }))
        .collect();
    let own = [
        ("REKINDLE_UNIT", uid.to_string()),
        ("REKINDLE_GENERATION", spec.unit.generation.to_string()),
        ("REKINDLE_IN", uid.in_stream()),
        ("REKINDLE_OUT", uid.out_stream()),
        ("REDIS_URL", redis_url),
        ("REKINDLE_GATEWAY_URL", gateway_url),
        ("REKINDLE_WORKSPACES", serde_json::Value::from(workspaces).to_string()),
        ("REKINDLE_STATE", places.state.clone()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if foreign {
        env.insert("REKINDLE_COMMAND".into(), serde_json::Value::from(profile.command.clone()).to_string());
    }
    env
}

/// Replaces each `${name}` that is known, once: what a value brings in is not looked at again.
fn substitute(text: &str, names: &BTreeMap<&str, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        out.push_str(before);
        let known = after[2..].find('}').and_then(|end| Some((end, names.get(&after[2..2 + end])?)));
        match known {
            Some((end, value)) => {
                out.push_str(value);
                rest = &after[end + 3..];
            }
            None => {
                out.push_str("${");
                rest = &after[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(env: &[(&str, &str)]) -> WorkloadSpec {
        let env: BTreeMap<_, _> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        contract::parse_value(serde_json::json!({
            "workloadId": "uabcdefghijklmnopqrstuvwx2-7", "profile": "default", "env": env, "token": "secret",
            "unit": {"uid": "uabcdefghijklmnopqrstuvwx2", "generation": 7},
            "mounts": [{"workspace": "a", "mode": "rw"}, {"workspace": "b", "mode": "ro"}],
        }))
        .unwrap()
    }

    #[test]
    fn names_are_replaced_once_and_the_token_only_where_it_is_asked_for() {
        let spec = spec(&[("T", "${out}|${token}|${nope}|${"), ("REKINDLE_UNIT", "forged"), ("R", "${redis_url}")]);
        let places = Places::sandboxed(&spec);
        let mut profile = Profile::default();
        let env = build(&spec, &profile, &places, "secret");
        assert_eq!(env["T"], "unit:uabcdefghijklmnopqrstuvwx2:out|${token}|${nope}|${");
        assert_eq!(env["REKINDLE_UNIT"], "uabcdefghijklmnopqrstuvwx2");
        assert_eq!(env["R"], "redis+unix:///rekindle/sock/redis.sock");
        assert_eq!(
            env["REKINDLE_WORKSPACES"],
            r#"[{"id":"a","mode":"rw","path":"/workspace"},{"id":"b","mode":"ro","path":"/workspaces/b"}]"#
        );
        assert!(!format!("{env:?}").contains("secret"));
        profile.token_in_env = true;
        profile.command = vec!["/bin/agent".into()];
        let env = build(&spec, &profile, &places, "secret");
        assert!(env["T"].contains("|secret|"));
        assert_eq!(env["R"], "${redis_url}");
        assert_eq!(env["REKINDLE_COMMAND"], r#"["/bin/agent"]"#);
    }
}
