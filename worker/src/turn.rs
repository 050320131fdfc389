//! One turn, from its delivery to its `done`, in the steps of the design's section 7. Each step is a function here.
//!
//! ```text
//! 1 open      state folder, record: is it of this very turn? If it is not, and the turn shall be run: accept. Then the
//!             workspaces; after a turn that never settled: recover. Tell again, or tell and stop here
//! 2 begin     what people changed is committed; branch, HEAD and tree are noted
//! 3 agent     the runner runs
//! 4 quiet     nothing else may write any more
//! 5 look      the tree is walked and judged; commits are written as objects, pinned, on no branch yet
//! 6 record    the record is written: the turn has happened. Then the branches move
//! 7 tell      policy-reverted, commit, done
//! ```
//!
//! A worker that is told to end before step 6 leaves everything as it is and tells nothing: the ledger has the turn as
//! delivered, and the next generation's step 1 takes it up.

use std::sync::OnceLock;
use std::time::Duration;

use contract::{EventBody, FailReason, Mode, Tell, TurnMessage};
use workspace::{
    Baseline, CommitInfo, Finished, Limits, Mounted, Record, Recovered, StateDir, TurnMeta, Unit, WalkCache, Workspace,
    WorkspaceError, crash_point,
};

use crate::conversation;
use crate::done::{self, Result as TurnResult};
use crate::events::Sink;
use crate::link::Events;
use crate::oom::OomCounter;
use crate::ports::Closer;
use crate::processes::Awaited;
use crate::runners::{self, Context, Outcome};
use crate::settings::Settings;
use crate::stop::{Stop, Stopper, Stops};
use crate::{prompt, quiet};

/// What outlives a turn.
#[derive(Debug)]
pub struct Bench {
    /// The worker's settings.
    pub settings: Settings,
    /// The loopback port to the gateway.
    pub gateway_port: u16,
    /// Closes what goes through it.
    pub connections: Closer,
    /// Whom the worker waits for itself.
    pub awaited: Awaited,
    /// Tells whether memory ran out.
    pub oom: OomCounter,
    /// The state folder, once it was found to be usable: that takes fsyncs, which a warm turn need not wait for.
    pub state: OnceLock<StateDir>,
}

impl Bench {
    async fn state(&self) -> Result<StateDir, WorkspaceError> {
        if let Some(state) = self.state.get().filter(|state| state.path().is_dir()) {
            return Ok(state.clone());
        }
        let path = self.settings.state.clone();
        let state = off_thread(move || StateDir::open(path)).await?;
        Ok(self.state.get_or_init(|| state).clone())
    }
}

/// How a turn left the worker.
#[derive(Debug)]
pub enum Ended {
    /// Its `done` was said.
    Told,
    /// The worker ends; nothing was said, and the next generation takes the turn up.
    Left,
    /// Something in the sandbox could not be stopped: the worker has to go, and its sandbox with it.
    Restless(quiet::Restless),
}

/// The folders of one turn. Owned by whoever works on them: this thread, or for a while the one where git works.
struct Folders {
    state: StateDir,
    /// The `rw` ones, in the order of their mounts: the primary one first.
    workspaces: Vec<Workspace>,
    cache: WalkCache,
}

/// Runs one turn.
pub async fn run(bench: &Bench, turn: &TurnMessage, events: Events, stopper: &Stopper, stops: Stops) -> Ended {
    let mut sink = Sink::new(events, turn.turn_id.clone());
    crash_point("delivered");
    // 1
    let (state, record) = match look_up(bench).await {
        Ok(found) => found,
        Err(error) => return refuse(bench, turn, &sink, error).await,
    };
    let again = record.as_ref().is_some_and(|record| record.turn == turn.turn_id);
    if !again && turn.tell.is_none() {
        // Before git has a look: whoever waits hears of it that much sooner.
        accept(turn, &sink).await;
    }
    crash_point("accepted");
    let opened = open(bench, turn, state, record.clone()).await;
    crash_point("opened");
    if let Some(record) = record.filter(|_| again) {
        // The record stands, whatever became of the folder since.
        let refused = |error: WorkspaceError| vec![Recovered { refused: vec![error.chain()], ..Recovered::default() }];
        let recovered = opened.map_or_else(refused, |(_, recovered)| recovered);
        done::tell_again(&sink, record, recovered).await;
        return Ended::Told;
    }
    let (folders, recovered) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(bench, turn, &sink, error).await,
    };
    if let Some(tell) = turn.tell {
        let result = TurnResult::of(unrun(tell), Vec::new()).noting(done::recovery_notices(recovered));
        return conclude(folders, turn, &sink, result, Vec::new()).await;
    }
    // 2
    let (folders, baselines, mut notices) = match begin(folders, turn).await {
        Ok(begun) => begun,
        Err(error) => return refuse(bench, turn, &sink, error).await,
    };
    notices.splice(0..0, done::recovery_notices(recovered));
    crash_point("begun");
    // 3
    let outcome = agent(bench, turn, &folders.state, &mut sink, stopper, &stops).await;
    crash_point("agent-ended");
    // 4
    if let Err(restless) = quiet::end_everything_else().await {
        return Ended::Restless(restless);
    }
    bench.connections.close_all();
    crash_point("quiet");
    if stops.asked().is_some_and(Stop::ends_worker) {
        return Ended::Left;
    }
    // 5
    let (folders, result, commits) = look(bench, folders, baselines, turn, outcome).await;
    if stops.asked() == Some(Stop::Fenced) {
        return Ended::Left;
    }
    crash_point("prepared");
    // 6 and 7
    conclude(folders, turn, &sink, result.noting(notices), commits).await
}

/// Step 1 begins: the state folder, and its record.
async fn look_up(bench: &Bench) -> Result<(StateDir, Option<Record>), WorkspaceError> {
    let state = bench.state().await?;
    off_thread(move || match state.record() {
        // A damaged record says nothing of this turn; it is replaced by this turn's own.
        Err(WorkspaceError::State { file, why }) => {
            tracing::warn!(file, why, "damaged");
            Ok((state, None))
        }
        read => read.map(|record| (state, record)),
    })
    .await
}

/// Step 1 goes on: opens what the turn works on. Where the ledger says that a turn was delivered and never settled, or the
/// record is of this very turn, the moves that the record names are finished and leftovers are put aside.
async fn open(
    bench: &Bench,
    turn: &TurnMessage,
    state: StateDir,
    record: Option<Record>,
) -> Result<(Folders, Vec<Recovered>), WorkspaceError> {
    let turn = turn.clone();
    let unit = Unit { uid: bench.settings.unit.clone(), generation: bench.settings.generation };
    let mounts: Vec<_> = bench.settings.workspaces.iter().filter(|at| at.mode == Mode::Rw).cloned().collect();
    off_thread(move || {
        let again = record.as_ref().is_some_and(|record| record.turn == turn.turn_id);
        let (mut workspaces, mut recovered) = (Vec::new(), Vec::new());
        let cache = WalkCache::load(&state, turn.cache.as_deref());
        for at in mounts {
            let mounted = Mounted { id: at.id, mode: at.mode, path: at.path };
            let mut workspace = Workspace::open(&mounted, &unit, Limits::default())?;
            workspace.remember(&cache);
            let unclean = turn.unclean.get(workspace.id()).or(again.then_some(&turn.turn_id)).cloned();
            // A turn that was settled without its leftovers being put aside is nobody else's to answer for.
            if let Some(dead) = unclean.or_else(|| workspace.unconcluded()) {
                recovered.push(workspace.recover(&dead, record.as_ref())?);
            }
            workspaces.push(workspace);
        }
        Ok((Folders { state, workspaces, cache }, recovered))
    })
    .await
}

/// The turn is going to be run: whoever waits hears that it is being worked on.
async fn accept(turn: &TurnMessage, sink: &Sink) {
    let prompt = turn.prompt.clone();
    sink.tell(EventBody::TurnAccepted { prompt, attempt: turn.attempt, start: turn.start }).await;
}

/// A turn that shall not be run, and of which there is no record.
fn unrun(tell: Tell) -> Outcome {
    let (reason, detail) = match tell {
        Tell::Dead => (FailReason::Dead, "the turn's workers were lost until it was out of attempts"),
        Tell::Timeout => (FailReason::Timeout, "the turn ran out of time, and its worker was lost"),
        Tell::Flooded => (FailReason::Flooded, "the turn said more than it may, and its worker was ended"),
        Tell::Cancelled => (FailReason::Cancelled, "the turn was cancelled, and its worker was lost"),
    };
    Outcome { reason: Some(reason), ..Outcome::failed(detail) }
}

/// Step 2.
async fn begin(
    mut folders: Folders,
    turn: &TurnMessage,
) -> Result<(Folders, Vec<Baseline>, Vec<String>), WorkspaceError> {
    let turn = turn.turn_id.clone();
    off_thread(move || {
        let (mut baselines, mut notices) = (Vec::new(), Vec::new());
        for workspace in &mut folders.workspaces {
            let begun = workspace.begin(&turn, &folders.cache)?;
            if let Some(outside) = begun.outside {
                let CommitInfo { workspace, sha, .. } = outside;
                notices.push(format!("what people changed in {workspace} was committed first, as {sha}"));
            }
            notices.extend(begun.violations.into_iter().take(20).map(|v| format!("{}: {}", v.path, v.reason)));
            notices.extend(begun.notices);
            baselines.push(begun.baseline);
        }
        Ok((folders, baselines, notices))
    })
    .await
}

/// Step 3: the runner, for as long as it may take.
async fn agent(
    bench: &Bench,
    turn: &TurnMessage,
    state: &StateDir,
    sink: &mut Sink,
    stopper: &Stopper,
    stops: &Stops,
) -> Outcome {
    let settings = &bench.settings;
    let primary = settings.primary();
    let prompt = match prompt::compose(&turn.prompt, turn.prompt_path.as_deref(), &primary.path) {
        Ok(prompt) => prompt,
        Err(why) => return Outcome::failed(why),
    };
    let found = conversation::find(settings, turn, state);
    let ctx = Context {
        unit: &settings.unit,
        turn,
        prompt: &prompt,
        session: found.resume,
        workspace: &primary.path,
        state: state.path(),
        home: &settings.home,
        config: &settings.runner_config,
        gateway_port: bench.gateway_port,
        awaited: &bench.awaited,
    };
    let kills_before = bench.oom.kills();
    let running = runners::run(settings.runner, &ctx, sink, stops.clone());
    tokio::pin!(running);
    let mut outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = tokio::time::sleep(Duration::from_secs(turn.timeout_sec)) => {
            stopper.stop(Stop::Timeout);
            let mut outcome = running.await;
            outcome.say(&format!("it ran for longer than {} s", turn.timeout_sec));
            outcome
        }
    };
    if let Some(note) = found.note {
        outcome.say(&note);
    }
    if bench.oom.kills() > kills_before {
        outcome.say("memory ran out in the sandbox while the turn ran, and something was killed for it");
        if outcome.reason == Some(FailReason::Error) {
            outcome.reason = Some(FailReason::Oom);
        }
    }
    outcome
}

/// Step 5: what the turn changed becomes commits on no branch yet; a turn that did not go well has none, and its leftovers
/// are put aside. A workspace that cannot be looked at makes the turn one that did not go well.
async fn look(
    bench: &Bench,
    mut folders: Folders,
    baselines: Vec<Baseline>,
    turn: &TurnMessage,
    mut outcome: Outcome,
) -> (Folders, TurnResult, Vec<workspace::PreparedCommit>) {
    let meta = TurnMeta {
        unit: bench.settings.unit.clone(),
        turn: turn.turn_id.clone(),
        generation: bench.settings.generation,
        trigger: turn.trigger,
        principal: turn.principal.clone(),
        subject: turn.prompt.clone(),
    };
    let runner = bench.settings.runner;
    let thread = turn.thread.clone();
    off_thread(move || {
        if let Err(error) = conversation::keep(&folders.state, &thread, runner, &outcome) {
            outcome.say(&format!("the conversation could not be noted: {}", error.chain()));
        }
        let mut finished = Vec::new();
        if outcome.ok {
            // Secondaries first, so that the primary one's commit stands for all.
            for (workspace, baseline) in folders.workspaces.iter_mut().zip(&baselines).rev() {
                match workspace.finish(baseline, &meta) {
                    Ok(done) => {
                        finished.push(done);
                        crash_point("prepared-one");
                    }
                    Err(error) => {
                        outcome = Outcome { ok: false, ..outcome };
                        outcome.reason = Some(done::reason(&error));
                        outcome.say(&error.chain());
                        break;
                    }
                }
            }
        }
        let mut notices = Vec::new();
        if !outcome.ok {
            finished.clear();
            for (workspace, baseline) in folders.workspaces.iter_mut().zip(&baselines) {
                match workspace.interrupt(baseline, &meta) {
                    Ok(left) => {
                        notices.extend(left.kept.map(|kept| format!("what it left is kept on {kept}")));
                        notices.extend(
                            left.agent_commits.into_iter().map(|name| format!("its own commits are on {name}")),
                        );
                        notices.extend(left.notices);
                    }
                    Err(error) => notices.push(error.chain()),
                }
            }
        }
        let (mut commits, mut reverted) = (Vec::new(), Vec::new());
        for Finished { commit, reverted: put_back, agent_commits, notices: said, .. } in finished {
            commits.extend(commit);
            reverted.extend(put_back);
            notices.extend(agent_commits.into_iter().map(|name| format!("its own commits are on {name}")));
            notices.extend(said);
        }
        (folders, TurnResult::of(outcome, reverted).noting(notices), commits)
    })
    .await
}

/// Step 6, then step 7. Without a record the turn has not happened: then nothing is moved, and that is told.
async fn conclude(
    mut folders: Folders,
    turn: &TurnMessage,
    sink: &Sink,
    mut result: TurnResult,
    commits: Vec<workspace::PreparedCommit>,
) -> Ended {
    let turn = turn.turn_id.clone();
    let (result, moved) = off_thread(move || {
        if let Err(error) = folders.state.write_record(&result.record(&turn, commits.clone())) {
            return (result.unrecorded(&error), Vec::new());
        }
        crash_point("recorded");
        let mut moved = Vec::new();
        for commit in &commits {
            let workspace = folders.workspaces.iter_mut().find(|workspace| *workspace.id() == commit.workspace);
            match workspace.map(|workspace| workspace.apply(commit, &turn)) {
                Some(Ok(info)) => {
                    moved.push(info);
                    crash_point("moved");
                }
                Some(Err(error)) => result = result.noting(vec![error.chain()]),
                None => {}
            }
        }
        crash_point("moves-made");
        for workspace in &folders.workspaces {
            folders.cache.update(workspace);
        }
        match folders.cache.save(&folders.state) {
            Ok(hash) => result.cache = Some(hash),
            // The next turn reads everything, that is all.
            Err(error) => tracing::warn!(error = error.chain(), "cannot keep the walk cache"),
        }
        (result, moved)
    })
    .await;
    done::tell(sink, result, moved).await;
    Ended::Told
}

/// The turn cannot be worked on. That is recorded where it can be, and told.
async fn refuse(bench: &Bench, turn: &TurnMessage, sink: &Sink, error: WorkspaceError) -> Ended {
    let outcome = Outcome { reason: Some(done::reason(&error)), ..Outcome::failed(error.chain()) };
    let result = TurnResult::of(outcome, Vec::new());
    let record = result.record(&turn.turn_id, Vec::new());
    let recorded = match bench.state().await {
        Ok(state) => off_thread(move || state.write_record(&record)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = recorded {
        tracing::warn!(error = error.chain(), "cannot record that the turn failed");
    }
    done::tell(sink, result, Vec::new()).await;
    Ended::Told
}

/// Git and the file system, off the thread that keeps the links alive.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime shuts down, and then nobody waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
