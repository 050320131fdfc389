//! A turn in a repository with a long history beside one in a repository with a short one, and the same with many files.
//!
//! `cargo bench -p workspace --bench turns` prints ratios that are to be believed on a machine that does other things too:
//! the two places are measured in pairs, one right after the other and by turns the one and the other first, and what is
//! printed is the median of the pairs' own ratios with its 95 % interval. A pair that something got in the way of is one
//! pair, and slow drifts fall on both. Two places that are alike are measured first: so far from 1 is the machine's noise.

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

/// Prints how much longer work takes in the second place than in the first.
fn ratio(what: &str, pairs: usize, places: &mut [Place; 2], work: fn(&mut Place)) {
    let [first, second] = places;
    let mut ratios = Vec::with_capacity(pairs);
    let mut took = [Duration::ZERO; 2];
    for pair in 0..pairs {
        let (short, long) = if pair % 2 == 0 {
            let short = timed(|| work(first));
            (short, timed(|| work(second)))
        } else {
            let long = timed(|| work(second));
            (timed(|| work(first)), long)
        };
        took = [took[0] + short, took[1] + long];
        ratios.push(long.as_secs_f64() / short.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let at = |part: usize| ratios[part * (pairs - 1) / 4];
    // As the notches of a box plot are drawn (McGill, Tukey and Larsen 1978).
    let interval = 1.57 * (at(3) - at(1)) / (pairs as f64).sqrt();
    let [short, long] = took.map(|took| took / pairs as u32);
    println!("ratio of {what}: {:.3} ± {interval:.3} (means {long:.1?} / {short:.1?}, {pairs} pairs)", at(2));
}

fn turns(criterion: &mut Criterion) {
    let mut places = [Place::new(1).after(10), Place::new(1).after(10)];
    ratio("two places alike", 200, &mut places, Place::turn);
    println!("bound of the following: {BOUND}");
    // The short history grows by what is measured: it stays a fifth of the long one.
    let mut places = [Place::new(1).after(10), Place::new(1).after(1_000)];
    ratio("opening after 1,000 turns to after 10", 1_000, &mut places, |place| drop(place.open()));
    ratio("a turn after 1,000 turns to one after 10", 200, &mut places, Place::turn);

    let mut places = [Place::new(20_000).after(10), Place::new(20_000).after(100)];
    ratio("a turn among 20,000 files after 100 turns to one after 10", 40, &mut places, Place::turn);
    let mut group = criterion.benchmark_group("a turn that changes one file");
    group.sample_size(20);
    let [mut many, _] = places;
    group.bench_function("among 20,000 that did not", |b| b.iter(|| many.turn()));
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
