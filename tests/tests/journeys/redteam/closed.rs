//! The deployment as it is, on one backend: the attacker is the program that the `exec` runner runs.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::api::Api;
use tests::eventually;
use tests::model::{Model, Reply};
use tests::stack::{Backend, Options, Stack};
use tokio::sync::Semaphore;

use super::cases::{Batch, Case, Judge, of};
use super::place::{Place, joined};
use super::program::{self, Outcome, Outcomes, by_streams, marked, plainly, told, told_by};
use super::repository;
use crate::support::{MINUTE, find, toml_text, uid};

const CANARY: &str = "red-canary";
/// Sandboxes that are tried at one time: a machine of two processors shall not be the reason for a late answer.
const AT_ONCE: usize = 4;

struct Closed {
    stack: Stack,
    _model: Model,
    mallory: Api,
    bob: Api,
    known: Value,
    own: String,
    other: String,
    place: Place,
}

/// Tries every case on a backend.
pub(crate) async fn tried(backend: Backend) -> Outcomes {
    let mut closed = Closed::prepare(backend).await;
    let mut outcomes = closed.attack().await;
    let (foreign, resources, tricks) =
        tokio::join!(closed.attack_as_a_foreign_worker(), closed.take_resources(), closed.play_tricks());
    outcomes.extend(foreign);
    outcomes.extend(resources);
    outcomes.extend(tricks);
    outcomes.extend(closed.try_from_the_outside().await);
    closed.nobody_else_noticed().await;
    outcomes
}

fn settings() -> String {
    let library = program::preface(&json!({"redis": "/rekindle/sock/redis.sock"}));
    format!(
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"exec\"\nidle_timeout_sec = 300\n\
         runner_command = [\"python3\", \"-\"]\nmemory_mb = 256\npids = 128\nnofile = 1024\ntmp_mb = 64\nworkspace_max_mb = 24\nworkspace_max_files = 2000\nmax_attempts = 1\n\
         turn_timeout_sec = 300\n\
         [limits]\nrequests_per_sec = 10000\nrequest_burst = 20000\nmodel_requests_per_sec = 1\nmodel_request_burst = 40\n\
         [profiles.foreign]\nimage = \"rekindle/test-base:latest\"\nidle_timeout_sec = 300\nmax_attempts = 1\n\
         command = [\"/usr/bin/python3\", \"-c\", {}]\n\
         [profiles.foreign.env]\nRED_LIB = {}\nRED_IN = \"${{in}}\"\nRED_OUT = \"${{out}}\"\n",
        toml_text(program::FOREIGN),
        toml_text(&library),
    )
}

impl Closed {
    async fn prepare(backend: Backend) -> Self {
        let model = Model::start(|_| Reply::text(marked("at-the-provider"))).await;
        let stack = Stack::start(Options::new(backend).model(model.base_url()).settings(&settings())).await;
        let (mallory, bob) = (stack.api("mallory"), stack.api("bob"));
        let place = Place::make(stack.home()).await;
        stack.redis.command(&["SET", CANARY, &marked("in-the-ledger")]).await.expect("reach Redis");

        let secret =
            "open('secret.txt', 'w').write('rekindle-secret-' + 'mark-' + 'of-bob'); print(open('secret.txt').read())";
        let body = json!({"prompt": secret, "workspaces": [{"id": "bobs", "mode": "rw"}]});
        let theirs = bob.post("/v1/units/vault/invoke", &body).await.expect(200).json();
        let other = uid(&bob, "vault").await;

        let notes =
            json!({"prompt": "open('notes.txt', 'w').write('notes')", "workspaces": [{"id": "notes", "mode": "rw"}]});
        mallory.post("/v1/units/writer/invoke", &notes).await.expect(200);
        let store = stack.store();
        let links = format!(
            "import os; os.symlink({0}, 'link'); os.symlink('../bobs', 'folder')",
            Value::from(store.join("workspaces/bobs/secret.txt").display().to_string())
        );
        let mine = json!({"prompt": links, "workspaces": [{"id": "mine", "mode": "rw"}]});
        mallory.post("/v1/units/linker/invoke", &mine).await.expect(200);

        let known = joined(
            place.known(stack.home()),
            json!({
                "redis": "/rekindle/sock/redis.sock", "gateway": "/rekindle/sock/gateway.sock",
                "door": "/rekindle/sock/redis.sock", "canary": CANARY, "other": other, "other_turn": theirs["turn_id"],
                "read_only": "/workspaces/notes", "port": stack.worker_port("worker"), "http": stack.address,
                "jwt": tests::keys::caller_token(&stack.secrets().jwt, "mallory"),
                "theirs": "bobs", "mine": "mine", "their_unit": other, "their_turn": theirs["turn_id"],
            }),
        );
        let mut closed = Self { stack, _model: model, mallory, bob, known, own: String::new(), other, place };
        // The same shape as all its later turns, so that one sandbox serves them.
        closed.turn("attacker", "print('here')").await;
        closed.own = uid(&closed.mallory, "attacker").await;
        closed.known = joined(closed.known, json!({"own": closed.own}));
        closed
    }

    async fn turn(&self, unit: &str, prompt: &str) -> Value {
        let body = json!({"prompt": prompt, "workspaces": [{"id": unit, "mode": "rw"}, {"id": "notes", "mode": "ro"}]});
        let answer = self.mallory.post(&format!("/v1/units/{unit}/invoke"), &body).await;
        assert_eq!(answer.status.as_u16(), 200, "{unit}: {}", answer.text());
        answer.json()
    }

    /// Turns of one sandbox, beside a victim in another.
    async fn attack(&mut self) -> Outcomes {
        let known = joined(self.known.clone(), json!({"victim_folder": self.stack.store().join("units")}));
        let body = json!({"prompt": program::victim(&known)});
        let mut victim = self.bob.invoke_streaming("victim", &body).await;
        victim.until("message-delta", MINUTE).await;
        let lives = uid(&self.bob, "victim").await;
        let workspace = self.stack.workspace(&lives);
        let known = joined(known, json!({"victim_folder": workspace}));

        let mut outcomes = Outcomes::new();
        let control = program::attempts(&known, Batch::Models, &["a-plain-request"]);
        let control = told(&self.turn("attacker", &control).await["output"], Batch::Models);
        assert!(
            control["a-plain-request"].reached,
            "a model answers, so the others fail for what they ask: {control:?}"
        );
        for batch in
            [Batch::Secrets, Batch::Network, Batch::Host, Batch::Sockets, Batch::Models, Batch::Printed, Batch::Last]
        {
            let answer = self.turn("attacker", &program::batch(&known, batch)).await;
            outcomes.extend(told(&answer["output"], batch));
        }
        let (own, other) = (self.stack.redis.events(&self.own).await, self.stack.redis.events(&self.other).await);
        by_streams(&mut outcomes, Batch::Sockets, &own, &other);
        by_streams(&mut outcomes, Batch::Printed, &own, &other);
        for case in of(Batch::Host).filter(|case| matches!(case.judge, Judge::Process)) {
            outcomes.entry(case.name.into()).or_default().reached = self.place.process_ended();
        }
        let canary = self.stack.redis.command(&["EXISTS", CANARY]).await.expect("reach Redis");
        for case in of(Batch::Last) {
            outcomes.entry(case.name.into()).or_default().reached = canary != ":1\r\n";
        }
        std::fs::write(workspace.join("go"), "").expect("let the victim end");
        let ended = victim.until("turn-complete", MINUTE).await;
        assert_eq!(find(&ended, "done").data["ok"], true, "the victim noticed nothing");
        outcomes
    }

    async fn attack_as_a_foreign_worker(&self) -> Outcomes {
        let ask = async |prompt: &str| {
            let body = json!({"prompt": prompt, "profile": "foreign"});
            self.mallory.post("/v1/units/foreign/invoke", &body).await.expect(200).json()
        };
        ask("outcomes = {}").await;
        let own = uid(&self.mallory, "foreign").await;
        let known = joined(self.known.clone(), json!({"own": own}));
        let answer = ask(&program::batch(&known, Batch::Foreign)).await;
        let mut outcomes = told(&answer["output"], Batch::Foreign);
        let events = self.stack.redis.events(&own).await;
        by_streams(&mut outcomes, Batch::Foreign, &events, &self.stack.redis.events(&self.other).await);
        outcomes
    }

    /// Each in a sandbox of its own, since the platform may end it for that.
    async fn take_resources(&self) -> Outcomes {
        let all = of(Batch::Patience).chain(of(Batch::Resources)).chain(of(Batch::Leftovers));
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let tried = all.map(|case| {
            let gate = gate.clone();
            async move {
                let _one = gate.acquire().await.expect("an open semaphore");
                (case.name.to_owned(), self.take(case).await)
            }
        });
        join_all(tried).await.into_iter().collect()
    }

    async fn take(&self, case: &Case) -> Outcome {
        let body = json!({"prompt": program::attempts(&self.known, case.batch, &[case.name])});
        let answer = self.mallory.post(&format!("/v1/units/{}/invoke", case.name), &body).await;
        let said = answer.json();
        if matches!(case.judge, Judge::Alive) {
            // What is left behind costs nobody a turn that went well.
            assert_eq!(answer.status.as_u16(), 200, "{}: {said:#}", case.name);
            let workspace = self.stack.workspace(&uid(&self.mallory, case.name).await);
            return repository::changes(&workspace.join("alive")).await;
        }
        if answer.status.as_u16() == 200 {
            return told(&said["output"], case.batch).remove(case.name).expect("its outcome");
        }
        // It was ended for it; a reason is told, and for memory the right one.
        let reason = said["reason"].as_str().unwrap_or_else(|| panic!("{}: no reason in {said:#}", case.name));
        if case.name == "eat-memory" {
            assert_eq!(reason, "oom", "{said:#}");
        }
        Outcome { reached: false, said: format!("the turn failed: {reason}, {}", said["detail"]) }
    }

    async fn play_tricks(&self) -> Outcomes {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let tried = of(Batch::Tricks).map(|case| {
            let gate = gate.clone();
            async move {
                let _one = gate.acquire().await.expect("an open semaphore");
                (case.name.to_owned(), self.play(case).await)
            }
        });
        join_all(tried).await.into_iter().collect()
    }

    async fn play(&self, case: &Case) -> Outcome {
        let unit = format!("trick-{}", case.name);
        let run = async |known: &Value, name: &str| {
            let prompt = program::attempts(known, Batch::Tricks, &[name]);
            self.mallory.post(&format!("/v1/units/{unit}/invoke"), &json!({ "prompt": prompt })).await
        };
        run(&self.known, "prepare").await.expect(200);
        let own = uid(&self.mallory, &unit).await;
        let folder = self.stack.workspace(&own);
        let branch = repository::branch(&folder);
        let before = repository::tip(&folder, &branch).expect("the first commit");
        let known = joined(self.known.clone(), json!({"own": own}));
        let answer = if case.name == "leftovers-of-a-crash" {
            let crash = program::attempts(&known, Batch::Tricks, &[case.name]) + "sys.exit(3)\n";
            self.mallory.post(&format!("/v1/units/{unit}/invoke"), &json!({ "prompt": crash })).await.expect(502);
            run(&known, "after-the-crash").await
        } else {
            run(&known, case.name).await
        };
        let mut outcome = match case.judge {
            Judge::Repository(left) => repository::judge(&folder, &branch, &before, left),
            _ => repository::changes(&folder.join("late.txt")).await,
        };
        outcome.said = format!("{}; the turn: {} {}", outcome.said, answer.status, answer.text());
        outcome
    }

    /// With a token that was stolen from the host, and with a caller's own.
    async fn try_from_the_outside(&self) -> Outcomes {
        self.mallory.invoke("ended", "print('here')").await.expect(200);
        let ended = self.token(&uid(&self.mallory, "ended").await);
        self.mallory.post("/v1/units/ended/stop", &json!({})).await;
        let is_cold = async || {
            let unit = self.mallory.get("/v1/units/ended").await.expect(200).json();
            (unit["state"] == "cold").then_some(())
        };
        eventually("that generation is over", MINUTE, is_cold).await;

        let stolen = json!({"token": self.token(&self.own), "ended": ended});
        let known = joined(self.known.clone(), stolen);
        let folder = self.stack.home().join("outside");
        std::fs::create_dir(&folder).expect("make a folder");
        let control = program::attempts(&known, Batch::Tokens, &["the-token-itself"]);
        let control = told_by(&plainly(&control, &folder, &[]).await, Batch::Tokens);
        assert!(control["the-token-itself"].reached, "a live token is answered, so the others fail for what they are");
        let mut outcomes = Outcomes::new();
        for batch in [Batch::Tokens, Batch::Callers] {
            outcomes.extend(told_by(&plainly(&program::batch(&known, batch), &folder, &[]).await, batch));
        }
        outcomes
    }

    fn token(&self, uid: &str) -> String {
        let workload = self.stack.generations().into_iter().find(|id| id.starts_with(uid)).expect("a live generation");
        let path: PathBuf = self.stack.generation(&workload).join("token");
        std::fs::read_to_string(path).expect("its token").trim().to_owned()
    }

    /// The deployment serves both as before.
    async fn nobody_else_noticed(&self) {
        let body = json!({"prompt": "print(open('secret.txt').read())", "workspaces": [{"id": "bobs", "mode": "rw"}]});
        let theirs = self.bob.post("/v1/units/vault/invoke", &body).await.expect(200).json();
        assert_eq!(theirs["reply"].as_str().map(str::trim), Some(marked("of-bob").as_str()));
        assert_eq!(self.turn("attacker", "print('still here')").await["reply"], "still here\n");
    }
}
