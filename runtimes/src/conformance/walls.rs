//! What stands between a workload and the host, and what it may take of it.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Mode, Mount, Owner, StopReason, UnitId, UnitName, WorkspaceId};

use super::bench::{Bench, Substrate, eventually, granted};

/// `name=value` lines; a name that comes several times keeps all its values.
fn parsed(report: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in report.lines().filter_map(|line| line.split_once('=')) {
        all.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    all
}

fn one<'a>(all: &'a BTreeMap<String, Vec<String>>, name: &str) -> &'a str {
    match all.get(name).map(Vec::as_slice) {
        Some([value]) => value,
        other => panic!("{name} is {other:?} in {all:?}"),
    }
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mounted {
    point: String,
    read_only: bool,
    kind: String,
}

fn mounts(report: &str) -> Vec<Mounted> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<_> = left.split(' ').collect();
        Some(Mounted {
            point: fields.get(4)?.to_string(),
            read_only: fields.get(5)?.split(',').any(|o| o == "ro"),
            kind: right.split(' ').next()?.to_owned(),
        })
    };
    report.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// What the backends put into a sandbox besides the workload's own: the system's programs where there is no image.
fn of_the_system(substrate: Substrate) -> BTreeSet<String> {
    if substrate == Substrate::Docker {
        return ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(str::to_owned).into();
    }
    let mut all: BTreeSet<_> = ["/usr", "/etc/hosts", "/etc/passwd", "/etc/group"].map(str::to_owned).into();
    all.extend(
        ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
            .map(str::to_owned)
            .into_iter()
            .filter(|path| std::fs::symlink_metadata(path).is_ok_and(|seen| seen.is_dir())),
    );
    let etc = crate::backend::process::SYSTEM_ETC.iter().map(|name| format!("/etc/{name}"));
    all.extend(etc.filter(|path| std::path::Path::new(path).exists()));
    all
}

pub async fn it_has_its_mounts_and_nothing_else_of_the_host(substrate: Substrate) {
    if substrate == Substrate::Bare {
        // There is no mount namespace of its own for a plain user; what root gets is in `mounts`.
        return;
    }
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("mounts");
    spec.mounts.push(Mount { workspace: WorkspaceId::parse("notes").unwrap(), mode: Mode::Ro });
    spec.mounts.push(Mount { workspace: WorkspaceId::parse("other").unwrap(), mode: Mode::Rw });
    bench.start_ready(spec).await;
    let found = mounts(&bench.report().await);
    let own = BTreeMap::from([
        ("/workspace", false),
        ("/workspaces/notes", true),
        ("/workspaces/other", false),
        ("/rekindle/state", false),
        ("/rekindle/sock", true),
        ("/rekindle/worker", true),
        ("/home/agent", false),
    ]);
    for (point, read_only) in &own {
        let all: Vec<_> = found.iter().filter(|m| m.point == *point).collect();
        assert_eq!(all.len(), 1, "{point}");
        assert_eq!(all[0].read_only, *read_only, "{point}");
    }
    // The root may be written by nobody; what may be is memory, with a size.
    assert!(found.iter().filter(|m| m.point == "/").all(|m| m.read_only));
    let system = of_the_system(substrate);
    let counter = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    let scratch = ["/tmp", "/run", "/var/tmp"];
    for mount in &found {
        let point = mount.point.as_str();
        let below = |top: &str| point == top || point.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        let is_known = own.contains_key(point)
            || (point == "/" && matches!(mount.kind.as_str(), "overlay" | "tmpfs"))
            || (scratch.contains(&point) && mount.kind == "tmpfs" && !mount.read_only)
            || (system.contains(point) && mount.read_only)
            || (counter.contains(&point) && mount.read_only && mount.kind.starts_with("cgroup"))
            || (below("/proc") && matches!(mount.kind.as_str(), "proc" | "tmpfs" | "devtmpfs"))
            || (below("/dev") && matches!(mount.kind.as_str(), "tmpfs" | "devtmpfs" | "devpts" | "mqueue"))
            || (substrate == Substrate::Docker
                && below("/sys")
                && mount.read_only
                && matches!(mount.kind.as_str(), "sysfs" | "tmpfs" | "cgroup" | "cgroup2"));
        assert!(is_known || (substrate == Substrate::Docker && point == "/sys/fs/cgroup"), "{point} ({})", mount.kind);
    }
    bench.clean().await;
}

pub async fn the_doors_of_the_kernel_are_shut(substrate: Substrate) {
    if substrate == Substrate::Bare {
        return;
    }
    let mut bench = Bench::new(substrate).await;
    bench.running("calls").await;
    let told = parsed(&bench.report().await);
    assert_eq!(told.len(), 18, "{told:?}");
    for name in told.keys() {
        let answer = one(&told, name);
        let refused = ["Function not implemented", "Operation not permitted"].contains(&answer)
            || (name == "vsock" && answer == "Address family not supported by protocol")
            // Engines before 25 leave these two to their containers.
            || (substrate == Substrate::Docker && ["vsock", "io_uring_setup"].contains(&name.as_str()));
        assert!(refused, "{name}: {answer}");
    }
    bench.clean().await;
}

pub async fn it_writes_where_it_may_and_no_more_than_it_may(substrate: Substrate) {
    if substrate == Substrate::Bare {
        return;
    }
    let mut bench = Bench::with(substrate, |config| config.profiles.get_mut("default").unwrap().tmp_mb = 8).await;
    bench.running("scratch").await;
    let told = parsed(&bench.report().await);
    for folder in ["/", "/etc", "/usr", "/var", "/dev", "/rekindle", "/sys", "/proc"] {
        // The engine's own /dev is memory of a fixed size, in which only root may write.
        assert_eq!(one(&told, folder), "no", "{folder}");
    }
    for folder in ["/tmp", "/var/tmp", "/run", "/dev/shm", "/home/agent"] {
        assert_eq!(one(&told, folder), "yes", "{folder}");
    }
    assert_eq!((one(&told, "tmp-exec"), one(&told, "tmp-suid")), ("yes", "no"));
    let mib: u64 = one(&told, "tmp-mib").parse().unwrap();
    assert!((6..=8).contains(&mib), "{mib}");
    assert_eq!(one(&told, "then"), "No space left on device");
    bench.clean().await;
}

pub async fn what_a_process_may_have_is_the_profiles(substrate: Substrate) {
    let mut bench = Bench::with(substrate, |config| config.profiles.get_mut("default").unwrap().nofile = 123).await;
    bench.running("limits").await;
    let told = parsed(&bench.report().await);
    assert_eq!((one(&told, "core"), one(&told, "nofile")), ("0", "123"));
    // The three streams: nothing that the runtime, the shim or bwrap had open.
    assert_eq!(told["fd"], ["0", "1", "2"]);
    assert_eq!(one(&told, "uid"), bench.config.worker_ids().0.to_string());
    if substrate != Substrate::Bare {
        assert_eq!(one(&told, "pid"), "1");
    }
    bench.clean().await;
}

/// An owner's name that is nowhere by chance.
const SOMEBODY: &str = "ann.of.accounts@example.com";

/// What a script reports in a unit of another owner's, beside what runs already.
async fn of_somebody_else(bench: &mut Bench, script: &str) -> (UnitId, String) {
    let mut spec = bench.spec(script);
    let uid = UnitId::of(&Owner::parse(SOMEBODY).unwrap(), &UnitName::parse("books").unwrap());
    (spec.unit.uid, spec.workload_id.uid) = (uid.clone(), uid.clone());
    spec.mounts[0].workspace = uid.own_workspace();
    let report = bench.config.store.join("units").join(uid.as_str()).join("state/report");
    let id = spec.workload_id.clone();
    bench.runtime.start(granted(spec)).await.unwrap();
    let told = eventually("the other's report", || std::fs::read_to_string(&report).ok()).await;
    bench.runtime.destroy(&id).await.unwrap();
    (uid, told)
}

/// Where a mount comes from is told inside of it (proc_pid_mountinfo(5)): that is a path of the store.
pub async fn its_mounts_name_no_owner_and_no_other_unit(substrate: Substrate) {
    if substrate == Substrate::Bare {
        return;
    }
    let mut bench = Bench::new(substrate).await;
    bench.running("sleep").await;
    let (own, told) = of_somebody_else(&mut bench, "mounts").await;
    assert!(told.contains(own.as_str()), "its own uid is in the path of its workspace: {told}");
    assert!(!told.contains(bench.uid().as_str()) && !told.contains("accounts"), "{told}");
    bench.clean().await;
}

/// All workers have one uid, and the kernel counts some things for each uid: one takes all that it gets, then another one does.
pub async fn one_cannot_take_what_all_have_of_their_user(substrate: Substrate) {
    let mut bench = Bench::with(substrate, |config| {
        config.profiles.get_mut("default").unwrap().nofile = 1024;
        // A user of their own for these two: on another substrate one may have taken all.
        config.worker_uid = 1_000_000 + std::process::id() * 3 + substrate as u32;
    })
    .await;
    bench.running("take-what-users-share").await;
    let first = parsed(&bench.report().await);
    let second = parsed(&of_somebody_else(&mut bench, "take-what-users-share").await.1);
    for told in [&first, &second] {
        let queue = one(told, "queue");
        assert!(["Function not implemented", "Too many open files"].contains(&queue), "{queue}");
    }
    // No engine limits these for each container of one uid; SECURITY.md says so.
    if substrate == Substrate::Bubblewrap {
        for what in ["instances", "timers"] {
            let number = |told| one(told, what).parse::<u64>().unwrap();
            assert!(number(&first) > 0 && number(&first) == number(&second), "{what}: {first:?}, {second:?}");
        }
    }
    bench.clean().await;
}

pub async fn a_fork_bomb_is_held(substrate: Substrate) {
    let mut bench = Bench::with(substrate, |config| config.profiles.get_mut("default").unwrap().pids = 40).await;
    let id = bench.running("fork-bomb").await;
    let told = parsed(&bench.report().await);
    let born: u64 = one(&told, "born").parse().unwrap();
    assert!((30..40).contains(&born), "{born}");
    assert_eq!(one(&told, "then"), "Resource temporarily unavailable");
    bench.runtime.destroy(&id).await.unwrap();
    assert_eq!(bench.left(&id).await, Vec::<String>::new());
    bench.clean().await;
}

pub async fn out_of_memory_is_told(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("eat-memory");
    spec.resources.memory_mb = Some(32);
    let id = spec.workload_id.clone();
    bench.runtime.start(spec).await.unwrap();
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(137), Some(StopReason::Oom)), "{status:?}");
    assert!(status.detail.as_deref().unwrap_or_default().contains("memory limit"), "{status:?}");
    bench.clean().await;
}

pub async fn the_first_process_lives_and_sees_that_memory_ran_out(substrate: Substrate) {
    if substrate == Substrate::Bare {
        return;
    }
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("oom-child");
    spec.resources.memory_mb = Some(32);
    bench.start_ready(spec).await;
    let told = parsed(&bench.report().await);
    assert_eq!((one(&told, "signal"), one(&told, "kills")), ("9", "1"));
    bench.clean().await;
}

/// However what is in it is hidden.
pub async fn a_home_that_outgrows_its_limit_ends_it(substrate: Substrate) {
    let mut bench = Bench::with(substrate, |config| {
        let profile = config.profiles.get_mut("default").unwrap();
        (profile.home_max_mb, profile.home_max_files) = (4, 100);
    })
    .await;
    let mut ways = vec!["fill-home-plainly", "fill-home-deep", "fill-home-nameless", "flood-home"];
    if rustix::process::geteuid().is_root() {
        // A plain user is not told what is mapped.
        ways.push("fill-home-mapped");
    }
    for way in ways {
        // It may be ended before it has come to say anything.
        let spec = bench.spec(way);
        let id = spec.workload_id.clone();
        bench.runtime.start(spec).await.unwrap();
        let status = bench.stopped(&id).await;
        assert_eq!(status.stop_reason, Some(StopReason::Failed), "{way}: {status:?}");
        let detail = status.detail.unwrap();
        let limit = if way == "flood-home" { "files than home_max_files = 100" } else { "than home_max_mb = 4 MiB" };
        assert!(detail.contains("home and state") && detail.contains(limit), "{way}: {detail}");
    }
    bench.clean().await;
}
