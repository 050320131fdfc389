//! A turn in a repository with a long history beside one in a repository with a short one, and the same with many files.
//!
//! `cargo bench -p workspace` prints the ratios of the medians. Turns of the two places alternate, so that whatever else the
//! machine and its disk do meanwhile falls on both.

use std::path::PathBuf;
use std::time::Duration;

use contract::{Generation, Mode, Principal, Trigger, TurnId, UnitId, WorkspaceId};
use criterion::{Criterion, criterion_group, criterion_main};
use workspace::{Limits, Mounted, Outcome, Record, StateDir, TurnMeta, Unit, WalkCache, Workspace};

/// A long history may cost so much more than a short one.
const BOUND: f64 = 1.1;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    state: StateDir,
    cache: WalkCache,
    turns: u64,
}

impl Place {
    fn new(files: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("workspace");
        for n in 0..files {
            let folder = path.join(format!("d{}", n / 100));
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(format!("f{n}")), n.to_string()).expect("a file");
        }
        let state = StateDir::open(dir.path().join("state")).expect("the state folder");
        Self { _dir: dir, path, state, cache: WalkCache::default(), turns: 0 }
    }

    fn after(mut self, turns: u64) -> Self {
        for _ in 0..turns {
            self.turn();
        }
        self
    }

    fn open(&self) -> Workspace {
        let mounted = Mounted { id: WorkspaceId::parse("w").expect("a name"), mode: Mode::Rw, path: self.path.clone() };
        Workspace::open(&mounted, &unit(), Limits::default()).map_err(|e| e.chain()).expect("open")
    }

    /// One turn that changes one file.
    fn turn(&mut self) {
        self.turns += 1;
        let turn = TurnId::new(1_700_000_000_000 + self.turns, 1);
        let meta = TurnMeta {
            unit: unit().uid,
            turn: turn.clone(),
            generation: Generation(1),
            trigger: Trigger::Message,
            principal: Principal { name: "Ann".into(), email: "ann@example.org".into() },
            subject: "bench".into(),
        };
        let mut workspace = self.open();
        let begun = workspace.begin(&turn, &self.cache).map_err(|e| e.chain()).expect("begin");
        std::fs::write(self.path.join("changed"), self.turns.to_string()).expect("a change");
        let finished = workspace.finish(&begun.baseline, &meta).map_err(|e| e.chain()).expect("finish");
        let commits: Vec<_> = finished.commit.into_iter().collect();
        let result = serde_json::json!({"ok": true});
        let record = Record {
            turn: turn.clone(),
            outcome: Outcome::Completed,
            result,
            commits: commits.clone(),
            events: Vec::new(),
        };
        self.state.write_record(&record).map_err(|e| e.chain()).expect("record");
        for commit in &commits {
            workspace.apply(commit, &turn).map_err(|e| e.chain()).expect("apply");
        }
        self.cache.update(&workspace);
        self.cache.save(&self.state).map_err(|e| e.chain()).expect("the walk cache");
    }
}

fn unit() -> Unit {
    Unit { uid: UnitId::parse("uaaaaaaaaaaaaaaaaaaaaaaaaa").expect("a uid"), generation: Generation(1) }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = tokio::time::Instant::now();
    work();
    begun.elapsed()
}

/// Prints how much longer work takes in the second place than in the first, of the medians of so many times each.
fn ratio(what: &str, times: usize, places: &mut [Place; 2], work: fn(&mut Place)) {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..times {
        for (place, took) in places.iter_mut().zip(&mut took) {
            took.push(timed(|| work(place)));
        }
    }
    let [short, long] = took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    });
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    println!("ratio of {what}: {ratio:.3} ({long:.1?} / {short:.1?}, bound {BOUND})");
}

fn turns(criterion: &mut Criterion) {
    let mut places = [Place::new(1).after(10), Place::new(1).after(1_000)];
    ratio("a turn after 1,000 turns to one after 10", 200, &mut places, Place::turn);
    ratio("opening after 1,000 turns to after 10", 200, &mut places, |place| drop(place.open()));
    let [mut short, mut long] = places;
    let mut group = criterion.benchmark_group("a turn that changes one file");
    group.sample_size(20);
    group.bench_function("after 10 turns", |b| b.iter(|| short.turn()));
    group.bench_function("after 1,000 turns", |b| b.iter(|| long.turn()));

    let mut places = [Place::new(20_000).after(10), Place::new(20_000).after(100)];
    ratio("a turn among 20,000 files after 100 turns to one after 10", 30, &mut places, Place::turn);
    let [mut many, _] = places;
    group.bench_function("among 20,000 that did not", |b| b.iter(|| many.turn()));
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
