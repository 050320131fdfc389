//! The deployment without defences, as the simplest systems of this kind are built: root in a container with the host's
//! network, the engine's socket, the secrets in the environment and all of Redis; whoever commits uses git as it is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use contract::UnitId;
use serde_json::{Value, json};
use tests::git::git;
use tests::redis::Redis;
use tests::{keys, paths};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ulid::Ulid;

use super::cases::{Batch, Judge, of};
use super::naive::{self, Service};
use super::place::{Place, joined};
use super::program::{self, Outcome, Outcomes, by_streams, fed, marked, plainly, told_by};
use super::repository;

const CANARY: &str = "red-canary";

struct Open {
    home: PathBuf,
    redis: Redis,
    known: Value,
    own: String,
    other: String,
    place: Place,
    _services: Vec<Service>,
}

/// Tries every case.
pub(crate) async fn tried() -> Outcomes {
    let home = tempfile::Builder::new().prefix("rk-open-").tempdir_in("/tmp").expect("a temporary folder");
    let mut open = Open::prepare(home.path()).await;
    let mut outcomes = Outcomes::new();

    let workspace = open.make("victim-workspace");
    let victim = program::victim(&open.known);
    let mut lives = Box::pin(plainly(&victim, &workspace, &[]));
    let attacks = async {
        tests::eventually("the victim is ready", crate::support::MINUTE, || async {
            workspace.join("secret-of-the-victim").exists().then_some(())
        })
        .await;
        open.attack().await
    };
    tokio::select! {
        said = &mut lives => panic!("the victim ended: {said}"),
        attacked = attacks => outcomes.extend(attacked),
    }
    std::fs::write(workspace.join("go"), "").expect("let the victim end");
    lives.await;
    outcomes.extend(open.play_tricks().await);
    outcomes
}

impl Open {
    async fn prepare(home: &Path) -> Self {
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).expect("open the folder");
        let redis = Redis::start(&home.join("generation/sock")).await;
        let at = |path: &str| home.join(path);
        for folder in [
            "generation/state",
            "workspace",
            "shelf/notes/.git",
            "secrets",
            "run",
            "workspaces/mine",
            "workspaces/bobs",
        ] {
            std::fs::create_dir_all(at(folder)).expect("make a folder");
        }
        std::fs::write(at("generation/token"), marked("token")).expect("write the token");
        std::fs::write(at("generation/worker"), "a program").expect("write the worker");
        std::fs::write(at("secrets/key"), marked("key")).expect("write a secret");
        std::fs::write(at("run/runtime.sock"), "").expect("write a name");
        std::fs::write(at("shelf/notes/notes.txt"), "notes").expect("write notes");
        std::fs::write(at("workspaces/bobs/secret.txt"), marked("bobs")).expect("write a secret");
        std::os::unix::fs::symlink(at("workspaces/bobs/secret.txt"), at("workspaces/mine/link")).expect("make a link");
        std::os::unix::fs::symlink("../bobs", at("workspaces/mine/folder")).expect("make a link");

        let unit =
            |name: &str| UnitId::of(&"open".parse().expect("an owner"), &name.parse().expect("a name")).to_string();
        let (own, other) = (unit("own"), unit("other"));
        std::os::unix::fs::symlink("bobs", home.join("workspaces").join(&other)).expect("make a link");
        for uid in [&own, &other] {
            let (inbox, outbox) = (format!("unit:{uid}:in"), format!("unit:{uid}:out"));
            let event = json!({"type": "message-delta", "text": "hello"}).to_string();
            for words in [
                &["XADD", &outbox, "*", "event", &event][..],
                &["XADD", &inbox, "*", "turn", "{}"],
                &["XADD", &inbox, "*", "turn", "{}"],
                &["XGROUP", "CREATE", &inbox, "workers", "0"],
                &["SET", CANARY, &marked("in-the-ledger")],
            ] {
                redis.command(words).await.expect("reach Redis");
            }
        }

        let place = Place::make(home).await;
        let door = at("generation/sock/door.sock");
        let (http, mut services) = naive::gateway(&at("workspaces"), &at("generation/sock/gateway.sock")).await;
        services.push(naive::worker_port(&door, redis.socket()));
        let token = token(&own);
        let known = joined(
            place.known(home),
            json!({
                "redis": "/rekindle/sock/redis.sock", "gateway": "/rekindle/sock/gateway.sock",
                "door": "/rekindle/sock/door.sock", "canary": CANARY, "own": own, "other": other, "other_turn": "01" ,
                "turn": "02", "read_only": "/workspaces/notes", "victim_folder": at("victim-workspace"),
                "port": door, "token": token, "ended": token, "jwt": token, "http": http,
                "theirs": "bobs", "mine": "mine", "their_unit": "vault", "their_turn": "01", "hold_sec": 0,
            }),
        );
        Self { home: home.to_path_buf(), redis, known, own, other, place, _services: services }
    }

    fn make(&self, folder: &str) -> PathBuf {
        let folder = self.home.join(folder);
        std::fs::create_dir_all(&folder).expect("make a folder");
        folder
    }

    /// Everything but the tricks.
    async fn attack(&mut self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for batch in [Batch::Secrets, Batch::Network, Batch::Sockets] {
            outcomes.extend(self.in_container(batch, &[]).await);
        }
        let at_once = tokio::join!(self.in_container(Batch::Patience, &[]), self.in_container(Batch::Resources, &[]));
        outcomes.extend(at_once.0.into_iter().chain(at_once.1));
        outcomes.extend(self.in_container(Batch::Host, &["--pid", "host"]).await);
        for case in of(Batch::Host).filter(|case| matches!(case.judge, Judge::Process)) {
            outcomes.entry(case.name.into()).or_default().reached = self.place.process_ended();
        }
        for batch in [Batch::Tokens, Batch::Callers] {
            let printed = plainly(&program::batch(&self.known, batch), &self.make("outside"), &[]).await;
            outcomes.extend(told_by(&printed, batch));
        }
        outcomes.extend(self.forward_what_is_printed().await);
        for case in of(Batch::Leftovers) {
            let folder = self.make(&format!("leftovers/{}", case.name));
            plainly(&program::attempts(&self.known, case.batch, &[case.name]), &folder, &[]).await;
            outcomes.insert(case.name.into(), repository::changes(&folder.join("alive")).await);
        }
        by_streams(
            &mut outcomes,
            Batch::Sockets,
            &self.redis.events(&self.own).await,
            &self.redis.events(&self.other).await,
        );
        by_streams(&mut outcomes, Batch::Printed, &self.redis.events(&self.own).await, &[]);
        outcomes.extend(self.in_container(Batch::Last, &[]).await);
        let canary = self.redis.command(&["EXISTS", CANARY]).await.expect("reach Redis");
        for case in of(Batch::Last) {
            outcomes.entry(case.name.into()).or_default().reached = canary == ":0\r\n";
        }
        outcomes
    }

    async fn in_container(&self, batch: Batch, more: &[&str]) -> Outcomes {
        let home = self.home.display();
        let name = format!("rk-open-{}", Ulid::new().to_string().to_lowercase());
        let mut command = paths::command(paths::tool("docker", "docker.io"));
        command.args(["run", "--rm", "-i", "--name", &name, "--network", "host", "--ipc", "host"]).args(more);
        command.args(["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE", "--ulimit", "core=-1"]);
        command.args(["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]);
        command.args(["--ulimit", "nofile=15000:15000", "--workdir", "/workspace"]);
        command.args(["-e", &format!("ANTHROPIC_API_KEY={}", marked("model-key"))]);
        for volume in [
            format!("{home}:{home}"),
            format!("{home}/generation:/rekindle"),
            format!("{home}/workspace:/workspace"),
            format!("{home}/shelf:/workspaces"),
            format!("{home}/secrets:/run/secrets"),
            "/var/run/docker.sock:/var/run/docker.sock".into(),
        ] {
            command.args(["-v", &volume]);
        }
        // A shell is the first process, and has a secret on its command line.
        let program = ["/bin/sh", "-c", "python3 -; exit $?", "sh", &marked("on-a-command-line")].map(str::to_owned);
        command.arg("rekindle/test-base:latest").args(program);
        let printed = fed(command, &program::batch(&self.known, batch)).await;
        told_by(&printed, batch)
    }

    /// A worker that hands on whatever its runner prints.
    async fn forward_what_is_printed(&self) -> Outcomes {
        let printed = plainly(&program::batch(&self.known, Batch::Printed), &self.make("printed"), &[]).await;
        let stream = format!("unit:{}:out", self.own);
        let mut commands = String::new();
        for line in printed.lines().filter(|line| line.starts_with('{') && !line.contains("\"result\"")) {
            commands.push_str("*5\r\n");
            for word in ["XADD", &stream, "*", "event", line] {
                commands.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
        }
        commands.push_str("*1\r\n$4\r\nQUIT\r\n");
        let (mut read, mut write) =
            tokio::net::UnixStream::connect(self.redis.socket()).await.expect("reach Redis").into_split();
        let mut answers = Vec::new();
        let (written, answered) = tokio::join!(write.write_all(commands.as_bytes()), read.read_to_end(&mut answers));
        written.and(answered.map(drop)).expect("talk to Redis");
        told_by(&printed, Batch::Printed)
    }

    async fn play_tricks(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for case in of(Batch::Tricks) {
            let folder = self.make(&format!("tricks/{}/workspace", case.name));
            let state = self.make(&format!("tricks/{}/state", case.name));
            git(&folder, &["init", "-q", "-b", "main"]);
            let outcome = self.play(case.name, case.judge, &folder, &state).await;
            outcomes.insert(case.name.into(), outcome);
        }
        outcomes
    }

    async fn play(&self, name: &str, judge: Judge, folder: &Path, state: &Path) -> Outcome {
        let environment = [("REKINDLE_TURN", "02"), ("REKINDLE_STATE", state.to_str().expect("a path in UTF-8"))];
        let run = async |name: &str| {
            plainly(&program::attempts(&self.known, Batch::Tricks, &[name]), folder, &environment).await
        };
        run("prepare").await;
        // The first commit has no parent that could be pinned.
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "-qm", "prepared"]);
        let before = repository::tip(folder, "main").expect("the first commit");
        run(name).await;
        if name == "leftovers-of-a-crash" {
            run("after-the-crash").await;
        }
        naive::commit(folder, state, &self.own).await;
        match judge {
            Judge::Repository(left) => repository::judge(folder, "main", &before, left),
            _ => repository::changes(&folder.join("late.txt")).await,
        }
    }
}

/// A token as the platform's, by a key of nobody's.
fn token(unit: &str) -> String {
    let claims = json!({"sub": "open", "unit": unit, "generation": 1, "scope": "worker", "exp": 1});
    let key = jsonwebtoken::EncodingKey::from_ed_pem(keys::ed25519_pem().as_bytes()).expect("a key");
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA), &claims, &key)
        .expect("sign a token")
}
