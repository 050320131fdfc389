//! What a script costs is the same however much there is of what an owner or a sandbox can make large, or in proportion to what
//! the script removes, ends, or was asked about by name. Counted in commands of Redis, by Redis: each script runs against so
//! much and against ten times as much.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::{
    DISPATCH_AUDIENCE, DispatchClaims, Generation, Launcher, Mode, StopReason, TurnId, UnitId, UnitName, WorkloadId,
    WorkspaceAt, WorkspaceId,
};
use ledger::{
    Bound, Config, DrainReason, Emit, EraseWorkspace, Ledger, NewApiKey, Paced, Rate, StrayKind, StreamId, Submission,
    Tokens, UsePart, Used,
};

use crate::support::*;

/// More than two scripts in a row look at.
const FEW: u64 = 16;
/// Commands for each thing that a script removes, ends or is asked about.
const FOR_EACH: u64 = 20;
/// In front of every script, and none by themselves.
const LIBRARIES: [&str; 5] = ["lib", "grants", "room", "lines", "stored"];
/// Commands that depend on the clock: a lease that is over nudges somebody.
const BY_CHANCE: u64 = 4;
/// Commands that the fan-out may ask for of itself, where it runs beside the script.
const BESIDE: u64 = 30;
const LEASE: Duration = Duration::from_secs(60);

/// Commands, and for how many things.
type Cost = (u64, u64);

struct World {
    redis: Redis,
    ledger: Ledger,
    n: u64,
}

impl World {
    async fn with(n: u64) -> Self {
        let redis = Redis::start().await;
        let ledger = redis.ledger("g1").await;
        Self { redis, ledger, n }
    }

    /// A gateway that keeps nothing of what has ended, beside one that keeps it for its time.
    async fn forgetful(&self) -> Ledger {
        let config = Config { detail_ttl: Duration::ZERO, ..self.redis.config("g2") };
        Ledger::connect(config).await.unwrap()
    }

    /// What Redis did for a call, whoever asked.
    async fn count<T>(&self, call: impl Future<Output = ledger::Result<T>>) -> u64 {
        let mut raw = self.redis.raw().await;
        redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut raw).await.unwrap();
        call.await.unwrap();
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
        stats.lines().filter(|line| !line.starts_with("cmdstat_config")).filter_map(calls).sum()
    }

    async fn same<T>(&self, call: impl Future<Output = ledger::Result<T>>) -> Option<Cost> {
        Some((self.count(call).await, 0))
    }

    async fn each<T>(&self, call: impl Future<Output = ledger::Result<T>>) -> Option<Cost> {
        Some((self.count(call).await, self.n))
    }

    /// A unit whose turn runs and has said much, while many more wait.
    async fn busy(&self) -> (UnitId, Generation, TurnId) {
        let first = submission("busy", "p");
        let (uid, generation) = make_live(&self.ledger, &first).await;
        take(&self.ledger, &uid, generation).await;
        for seq in 1..=self.n {
            emit(&self.ledger, &uid, generation, &first.turn, seq).await;
            commit(&self.ledger, &uid, generation).await.unwrap();
        }
        for _ in 0..self.n {
            submit(&self.ledger, &submission("busy", "p")).await;
        }
        (uid, generation, first.turn)
    }

    /// Units that wait in line for its workspace; each goes on to wait for another one.
    async fn line(&self) -> UnitId {
        let other = submission("other", "p");
        let (uid, generation) = make_live(&self.ledger, &other).await;
        take(&self.ledger, &uid, generation).await;
        for n in 0..self.n {
            let mut waits = submission(&format!("waits{n}"), "p");
            let own = super::support::uid(&format!("waits{n}")).own_workspace();
            waits.shape.workspaces = vec![rw("busy"), rw("other"), rw(own.as_str())];
            submit(&self.ledger, &waits).await;
        }
        super::support::uid("waits0")
    }

    /// A busy unit with nothing else waiting in it, and a line behind it.
    async fn held(&self) -> (UnitId, Generation, TurnId) {
        let first = submission("busy", "p");
        let (uid, generation) = make_live(&self.ledger, &first).await;
        take(&self.ledger, &uid, generation).await;
        self.line().await;
        (uid, generation, first.turn)
    }

    /// A unit that is starting, with many turns and starts beside it.
    async fn starting(&self) -> (UnitId, Generation) {
        for n in 0..self.n {
            submit(&self.ledger, &submission(&format!("starts{n}"), "p")).await;
        }
        for _ in 0..self.n {
            submit(&self.ledger, &submission("starts0", "p")).await;
        }
        let uid = super::support::uid("starts0");
        let state = self.ledger.unit(&uid).await.unwrap().unwrap().state;
        (uid, state.generation().unwrap())
    }

    /// Units that drain.
    async fn draining(&self) -> (UnitId, Generation) {
        let (uid, generation) = self.starting().await;
        for n in 0..self.n {
            self.ledger.drain_unit(&super::support::uid(&format!("starts{n}"))).await.unwrap();
        }
        (uid, generation)
    }

    /// Another owner's units that mount a workspace, while it is granted to as many owners more.
    async fn guests(&self, workspace: &WorkspaceId, mode: Mode) {
        let (ann, bob) = (owner("ann"), owner("bob"));
        for n in 0..self.n {
            self.ledger.grant(workspace, &ann, &owner(&format!("o{n}")), Mode::Ro, 10_000).await.unwrap();
        }
        self.ledger.grant(workspace, &ann, &bob, mode, 10_000).await.unwrap();
        for n in 0..self.n {
            let mut guest = Submission { owner: bob.clone(), ..submission(&format!("guest{n}"), "p") };
            guest.shape.workspaces = vec![WorkspaceAt { id: workspace.clone(), mode: Mode::Ro }];
            submit(&self.ledger, &guest).await;
        }
    }

    async fn key(&self, n: u64, ttl: Option<Duration>) -> ledger::Result<ledger::KeyMade> {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        let ann = owner("ann");
        self.ledger.make_key(&NewApiKey { hash, owner: &ann, name: "k", scopes: "s", ttl, most: 100_000 }).await
    }
}

async fn commit(ledger: &Ledger, uid: &UnitId, generation: Generation) -> ledger::Result<ledger::Emitted> {
    let json = format!(r#"{{"type":"commit","sha":"{}"}}"#, "0a".repeat(20));
    ledger.emit(uid, generation, Emit { turn: None, seq: None, kind: "commit", json: &json, splice_turn: true }).await
}

async fn of_turns(w: &World, script: &str) -> Option<Cost> {
    let ledger = &w.ledger;
    match script {
        "submit" => {
            w.busy().await;
            w.line().await;
            let another = submission("busy", "p");
            w.same(ledger.submit(&another)).await
        }
        "emit" => {
            let (uid, generation, turn) = w.busy().await;
            // Some pages of them: a script that looked for the first would read them all.
            for seq in w.n + 1..=10 * w.n {
                emit(ledger, &uid, generation, &turn, seq).await;
            }
            let json = delta(&turn, 1, "again");
            let said = |seq| Emit { turn: Some(&turn), seq, kind: "message-delta", json: &json, splice_turn: false };
            // The first number again, then a commit more.
            let again = w.count(ledger.emit(&uid, generation, said(Some(1)))).await;
            Some((again + w.count(commit(ledger, &uid, generation)).await, 0))
        }
        "take" => {
            let (uid, generation, _) = w.busy().await;
            w.same(ledger.take(&uid, generation, 2, None)).await
        }
        "unlink" => {
            let (uid, generation, _) = w.busy().await;
            w.same(ledger.unlink(&uid, generation, 1)).await
        }
        "settle" => {
            let (uid, generation, turn) = w.busy().await;
            w.line().await;
            w.same(ledger.settle(&uid, generation, &turn, well())).await
        }
        "cancel" => {
            w.busy().await;
            let waits = w.line().await;
            let turn = ledger.turns(&waits, None, 1, 1 << 20).await.unwrap().0.remove(0).turn;
            w.same(ledger.cancel(&turn)).await
        }
        "deny_egress" => {
            let (uid, generation, _) = w.busy().await;
            for n in 0..w.n {
                ledger.deny_egress(&uid, generation, &format!("h{n}.example.org"), "s").await.unwrap();
            }
            w.same(ledger.deny_egress(&uid, generation, "last.example.org", "s")).await
        }
        "replay" => {
            let (uid, ..) = w.busy().await;
            let _fanout = run_fanout(ledger);
            let mut reader = ledger.fanout().subscribe(&uid, StreamId::ZERO, &share()).await.unwrap();
            w.same(async { Ok(next(&mut reader).await) }).await
        }
        "last_event" => {
            let (uid, ..) = w.busy().await;
            let fanout = ledger.fanout();
            w.same(fanout.end(&uid)).await
        }
        _ => None,
    }
}

async fn of_generations(w: &World, script: &str) -> Option<Cost> {
    let ledger = &w.ledger;
    match script {
        "ready" => {
            let (uid, generation) = w.starting().await;
            w.same(ledger.ready(&uid, generation, Some("nonce"), 1)).await
        }
        "pick_starts" => {
            w.starting().await;
            w.same(ledger.pick_starts(LEASE, 5)).await
        }
        "renew_start" => {
            let (uid, generation) = w.starting().await;
            w.same(ledger.renew_start(&uid, generation, LEASE)).await
        }
        "start_failed" => {
            let (uid, generation) = w.starting().await;
            w.same(ledger.start_failed(&uid, generation, "why", false)).await
        }
        "restart" => {
            let (uid, generation) = w.starting().await;
            w.same(ledger.restart(&uid, generation, generation)).await
        }
        "start_waits" => {
            let (uid, generation) = w.starting().await;
            w.same(ledger.start_waits(&uid, generation, "disk", LEASE)).await
        }
        "begin_drain" => {
            let (uid, generation, _) = w.busy().await;
            w.line().await;
            w.same(ledger.begin_drain(&uid, generation, DrainReason::Failed, Some(exit(StopReason::Failed)))).await
        }
        "begin_idle_drain" => {
            let (uid, generation, _) = w.busy().await;
            w.same(ledger.begin_idle_drain(&uid, generation)).await
        }
        "due" => {
            w.starting().await;
            w.same(ledger.due(5)).await
        }
        "pick_drains" => {
            w.draining().await;
            w.same(ledger.pick_drains(LEASE, 5)).await
        }
        "renew_drain" => {
            let (uid, generation) = w.draining().await;
            w.same(ledger.renew_drain(&uid, generation, LEASE)).await
        }
        _ => None,
    }
}

async fn of_lines(w: &World, script: &str) -> Option<Cost> {
    let ledger = &w.ledger;
    match script {
        "exited" | "go_on" => {
            let (uid, generation, turn) = w.held().await;
            settle(ledger, &uid, generation, &turn).await;
            ledger.drain_unit(&uid).await.unwrap();
            let cost = w.same(ledger.exited(&uid, generation, exit(StopReason::Stopped))).await;
            if script == "exited" { cost } else { w.same(ledger.go_on()).await }
        }
        "tend_lines" => {
            w.held().await;
            w.same(ledger.tend_lines(1)).await
        }
        "tend_places" => {
            w.starting().await;
            w.same(ledger.tend_places(5)).await
        }
        "erase" => {
            // Of a cold unit, all that waits in it is settled, and who mounts its workspace is ended.
            w.held().await;
            let waits = super::support::uid("waits0");
            w.guests(&waits.own_workspace(), Mode::Ro).await;
            for _ in 1..w.n {
                submit(ledger, &submission("waits0", "p")).await;
            }
            w.each(ledger.erase(&waits, true)).await
        }
        "forget" => {
            let (uid, generation, turn) = w.busy().await;
            settle(ledger, &uid, generation, &turn).await;
            ledger.erase(&uid, true).await.unwrap();
            ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
            w.each(ledger.forget(&uid)).await
        }
        "erase_workspace" | "forget_workspace" => {
            let (workspace, ann) = (WorkspaceId::parse("theirs").unwrap(), owner("ann"));
            let mut first = submission("names", "p");
            first.shape.workspaces = vec![rw("theirs")];
            let (uid, generation) = make_live(ledger, &first).await;
            take(ledger, &uid, generation).await;
            settle(ledger, &uid, generation, &first.turn).await;
            w.guests(&workspace, Mode::Ro).await;
            // Turns that name it are what it is kept for, so that they have to end first.
            for n in 0..w.n {
                let guest = UnitId::of(&owner("bob"), &UnitName::parse(format!("guest{n}")).unwrap());
                for turn in ledger.turns(&guest, None, 10, 1 << 20).await.unwrap().0 {
                    ledger.cancel(&turn.turn).await.unwrap();
                }
            }
            let erase = async {
                let answer = ledger.erase_workspace(&workspace, &ann).await?;
                assert_eq!(answer, EraseWorkspace::Draining, "bob's units mount it");
                Ok(())
            };
            let erase = w.each(erase).await;
            if script == "erase_workspace" {
                return erase;
            }
            let forget = w.same(ledger.forget_workspace(&workspace, &ann)).await;
            assert_eq!(ledger.workspace_owner(&workspace).await.unwrap(), None);
            forget
        }
        "age" => {
            // Turns of many units that are over their time: so many looks, whatever there is.
            let (old, few) = (w.forgetful().await, 5);
            for n in 0..w.n {
                let turn = submission(&format!("u{n}"), "p");
                submit(&old, &turn).await;
                old.cancel(&turn.turn).await.unwrap();
            }
            let looks = async { old.age(few).await.inspect(|looks| assert_eq!(*looks, few)) };
            let cost = w.count(looks).await;
            assert!(cost < 20 * few as u64, "{cost} commands for {few} looks");
            // One long stream: what goes of it.
            let mut w = World::with(w.n).await;
            w.ledger = w.forgetful().await;
            let (uid, generation, turn) = w.busy().await;
            settle(&w.ledger, &uid, generation, &turn).await;
            let before = events(&w.redis, &uid).await.len();
            let first = w.each(async { w.ledger.age(1).await.inspect(|looks| assert_eq!(*looks, 1)) }).await;
            assert!(events(&w.redis, &uid).await.len() < before, "nothing was over its time");
            first
        }
        "claim_period" => {
            for n in 0..w.n {
                ledger.claim_period(&format!("task{n}"), LEASE).await.unwrap();
            }
            w.same(ledger.claim_period("task0", LEASE)).await
        }
        "units" => {
            let (uid, ..) = w.busy().await;
            w.same(ledger.unit(&uid)).await
        }
        "pick_erasures" => {
            w.starting().await;
            for n in 0..w.n {
                ledger.erase(&super::support::uid(&format!("starts{n}")), true).await.unwrap();
            }
            w.same(ledger.pick_erasures(Duration::ZERO, 5)).await
        }
        "strays" | "renew_stray" => {
            let id = |n| WorkloadId { uid: super::support::uid(&format!("gone{n}")), generation: Generation(n + 1) };
            let named: Vec<_> = (0..w.n).map(id).collect();
            let strays = w.each(ledger.strays(StrayKind::Workloads, &named, LEASE, LEASE)).await;
            let renewed = ledger.renew_stray(StrayKind::Workloads, &named[0], LEASE);
            if script == "strays" { strays } else { w.same(renewed).await }
        }
        _ => None,
    }
}

async fn of_owners(w: &World, script: &str) -> Option<Cost> {
    let ledger = &w.ledger;
    let (ann, bob) = (owner("ann"), owner("bob"));
    match script {
        "grant" => {
            w.held().await;
            let workspace = WorkspaceId::parse("busy").unwrap();
            w.guests(&workspace, Mode::Rw).await;
            let eve = owner("eve");
            let more = w.count(ledger.grant(&workspace, &ann, &eve, Mode::Ro, 10_000)).await;
            // Only who may write is ended for less than before, and that is nobody; then everybody of bob's.
            let less = w.count(ledger.grant(&workspace, &ann, &bob, Mode::Ro, 10_000)).await;
            assert!(more < 20 && less < 20, "{more}, {less}");
            w.each(ledger.revoke_grant(&workspace, &ann, &bob)).await
        }
        "make_key" => {
            for n in 0..w.n {
                w.key(n, Some(Duration::from_secs(1_000))).await.unwrap();
            }
            w.same(w.key(w.n, None)).await
        }
        "use_key" | "revoke_key" | "list_keys" => {
            for n in 0..w.n {
                w.key(n, None).await.unwrap();
            }
            match script {
                "use_key" => w.same(ledger.use_key(&[0; 32])).await,
                "list_keys" => w.each(ledger.api_keys(&ann)).await,
                _ => w.same(ledger.revoke_key(&ann, &ledger::ApiKeyId::of(&[0; 32]))).await,
            }
        }
        "admit_use" | "add_use" => {
            let (uid, generation, turn) = w.busy().await;
            let tokens = Tokens { input: 1, output: 1, ..Tokens::default() };
            let used = Used { requests: 1, tokens, ..Used::default() };
            let of = |n: u64| (format!("r{n}"), format!("m{n}"));
            for (request, model) in (0..w.n).map(of) {
                let part = UsePart { request: &request, part: 1, turn: Some(&turn), model: &model, used };
                ledger.add_use(&ann, &uid, 9, part).await.unwrap();
            }
            let (request, model) = of(w.n);
            let part = UsePart { request: &request, part: 1, turn: Some(&turn), model: &model, used };
            if script == "add_use" {
                return w.same(ledger.add_use(&ann, &uid, 9, part)).await;
            }
            let claims = claims(&uid, generation);
            w.same(ledger.admit_use("r", &claims, 9, &[Bound { tokens: Some(1 << 40), ..Bound::default() }; 3])).await
        }
        "throttle" => w.same(ledger.leave(Paced::Calls, &ann, Rate { per_sec: 10, burst: 1 << 20 }, 1_000)).await,
        "heartbeat" => {
            let mut raw = w.redis.raw().await;
            for n in 0..w.n {
                let add = redis::cmd("XADD").arg("mail:g1").arg("*").arg("kind").arg(n).exec_async(&mut raw).await;
                add.unwrap();
            }
            // Its first connection: a heartbeat, and what the fan-out asks for besides.
            let mut mail = ledger.fanout().mail();
            let beat = async {
                let fanout = run_fanout(ledger);
                let first = mail.recv().await;
                drop(fanout);
                Ok(first)
            };
            w.same(beat).await
        }
        _ => None,
    }
}

fn claims(uid: &UnitId, generation: Generation) -> DispatchClaims {
    let (sub, launcher, aud) = (owner("ann"), Launcher::user("ann"), DISPATCH_AUDIENCE.into());
    let (unit, workspaces, scope) = (uid.clone(), vec![], "worker".into());
    DispatchClaims { sub, launcher, unit, generation, workspaces, scope, aud, exp: u64::MAX }
}

async fn cost(script: &str, n: u64) -> Cost {
    let w = World::with(n).await;
    if let Some(cost) = of_turns(&w, script).await {
        return cost;
    }
    if let Some(cost) = of_generations(&w, script).await {
        return cost;
    }
    if let Some(cost) = of_lines(&w, script).await {
        return cost;
    }
    of_owners(&w, script).await.unwrap_or_else(|| panic!("{script}.lua has no worst input here"))
}

#[tokio::test]
async fn a_script_costs_the_same_or_what_it_removes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lua");
    let name = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
    let scripts: BTreeSet<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    let mut wrong = Vec::new();
    for script in scripts.iter().map(|file| file.trim_end_matches(".lua")).filter(|name| !LIBRARIES.contains(name)) {
        let ((few, one), (many, ten)) = (cost(script, FEW).await, cost(script, 10 * FEW).await);
        println!("{script:<18} {few:>6} {many:>6} for {one:>4} and {ten:>4}");
        let beside = if matches!(script, "replay" | "heartbeat") { BESIDE } else { BY_CHANCE };
        if many > few + FOR_EACH * (ten - one) + beside {
            wrong.push(format!("{script}: {few} commands for {FEW}, {many} for {}", 10 * FEW));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
