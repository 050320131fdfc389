//! All attempts by name: with what they are run, and who says what came of them.

/// What an attempt is run as, and together with which others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// A turn of the attacker's, each of these.
    Secrets,
    Network,
    Host,
    Sockets,
    Printed,
    Last,
    /// As [`Batch::Sockets`], of a worker that claims nothing.
    Foreign,
    /// A unit of its own, each.
    Resources,
    /// As [`Batch::Resources`], of the sockets: who waits or storms there shall not do it where others are tried.
    Patience,
    /// As [`Batch::Resources`]; what it leaves behind counts.
    Leftovers,
    /// A unit and a workspace of its own, each; what is committed counts.
    Tricks,
    /// A process outside of every sandbox.
    Tokens,
    Callers,
}

/// Who says whether an attempt reached what it was after.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judge {
    /// The attempt, by what it got hold of.
    Said,
    /// A unit's stream: what was forged lies in it.
    Stream,
    /// The unit's stream: it grew without bound.
    Length,
    /// The ledger: what was in it is gone.
    Canary,
    /// The host: a process of it ended.
    Process,
    /// The workspace: a file in it changes still.
    Alive,
    /// The workspace's repository.
    Repository(Left),
}

/// What a trick is after, in the repository.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left {
    /// `change.txt` is not committed as it lies there.
    NoChange,
    /// The change of `base.txt` is not committed.
    OldBase,
    /// A program that the agent chose was run by whoever commits.
    Ran,
    /// A link to a repository instead of its files.
    GitLink,
    /// A commit by the agent's hand is on the branch.
    ForeignCommit,
    /// What was there before is not in the history.
    LostHistory,
    /// A file is committed that must not be.
    File(&'static str),
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) batch: Batch,
    pub(crate) judge: Judge,
}

macro_rules! cases {
    ($($batch:ident $judge:expr => $($name:literal)+;)+) => {
        &[$($(Case { name: $name, batch: Batch::$batch, judge: $judge }),+),+]
    };
}

use Judge::{Alive, Canary, Length, Process, Repository, Said, Stream};

/// In the order in which they are tried.
pub(crate) const CASES: &[Case] = cases! {
    Secrets Said =>
        "environment-of-the-runner" "environment-of-pid-1" "environment-of-any-process" "command-line-of-any-process"
        "memory-of-pid-1" "descriptors-of-pid-1" "root-of-pid-1" "trace-pid-1" "memory-of-pid-1-by-its-number"
        "files-with-secrets" "token-beside-the-sockets" "secrets-folder-of-the-platform" "mounts-of-the-host"
        "core-dump" "core-dump-of-pid-1" "kernel-keyring" "limits-of-pid-1";
    Network Said =>
        "interfaces" "routes" "internet" "metadata-address" "loopback-of-the-host" "address-of-the-host"
        "abstract-socket-of-the-host" "raw-packets" "raw-ip" "docker-socket" "sockets-of-the-platform"
        "loopback-of-another-sandbox" "abstract-socket-of-another-sandbox" "shared-memory-of-another-sandbox"
        "workspace-of-another-sandbox";
    Host Said =>
        "process-of-the-host" "process-of-another-sandbox" "file-of-the-host" "file-of-the-host-by-dot-dot"
        "file-of-the-host-by-symlink" "file-of-the-host-by-hard-link" "write-to-the-host" "write-to-system-folders"
        "overwrite-the-worker" "replace-the-sockets" "capabilities" "become-root" "mount-something" "user-namespace"
        "device-node" "page-faults-of-others" "performance-counters" "io-uring" "load-bpf"
        "write-to-a-read-only-workspace" "chmod-in-a-read-only-workspace" "write-to-a-read-only-workspace-by-hard-link"
        "write-to-a-read-only-workspace-by-descriptor" "remount-a-read-only-workspace" "git-of-a-read-only-workspace";
    Host Process => "kill-a-process-of-the-host";
    Sockets Said =>
        "read-the-stream-of-another-unit" "follow-the-stream-of-another-unit" "take-the-turn-of-another-unit"
        "list-the-keys-of-the-ledger" "scan-the-keys-of-the-ledger" "read-a-key-of-the-ledger"
        "write-a-key-of-the-ledger" "run-a-script-in-the-ledger" "configure-the-ledger" "watch-all-commands"
        "subscribe-to-everything" "list-the-other-clients" "a-transaction" "an-inline-command" "another-database"
        "empty-the-own-history" "trim-the-own-history" "delete-the-own-history" "read-without-acknowledging"
        "take-the-turns-of-the-own-worker" "acknowledge-for-the-worker";
    Sockets Stream =>
        "an-explicit-id" "emit-for-the-worker" "a-forged-end-of-the-own-turn" "a-forged-end-of-the-next-turn"
        "a-forged-end-of-another-units-turn" "another-units-turn-on-the-own-stream" "two-ends"
        "a-sequence-number-of-2-to-the-53" "an-end-of-the-worker" "a-word-of-the-control-plane"
        "an-event-of-another-generation";
    Sockets Said =>
        "claim-the-generation" "guess-the-nonce" "a-second-preamble" "the-api-through-the-gateway-socket"
        "the-api-by-dot-dot-through-the-broker" "an-event-of-32-mib";
    Patience Said => "a-half-open-connection" "ten-thousand-connections";
    Printed Stream => "a-printed-end" "a-printed-end-of-the-worker" "a-printed-refusal";
    Printed Length => "a-flood-of-events";
    Foreign Said =>
        "read-the-stream-of-another-unit" "take-the-turn-of-another-unit" "list-the-keys-of-the-ledger"
        "read-a-key-of-the-ledger" "run-a-script-in-the-ledger" "configure-the-ledger" "watch-all-commands"
        "empty-the-own-history" "trim-the-own-history" "delete-the-own-history" "a-transaction" "a-second-preamble"
        "an-event-of-32-mib";
    Foreign Stream =>
        "an-explicit-id" "a-forged-end-of-the-next-turn" "a-forged-end-of-another-units-turn"
        "another-units-turn-on-the-own-stream" "an-end-of-the-worker" "a-word-of-the-control-plane"
        "an-event-of-another-generation";
    Resources Said =>
        "fork-bomb" "eat-memory" "fill-the-workspace" "fill-the-workspace-without-a-name"
        "fill-the-workspace-below-a-long-path" "flood-the-workspace-with-names" "fill-the-temporary-folder" "open-files"
        "take-the-inotify-instances" "take-the-message-queues";
    Leftovers Alive =>
        "outlive-the-turn" "outlive-the-turn-inside-vfork" "outlive-the-turn-without-a-first-thread";
    Tricks Repository(Left::NoChange) =>
        "exclude-file" "excludes-of-the-configuration" "another-worktree" "bare-repository" "moved-head"
        "end-of-line-attributes" "alternates" "stale-index-lock" "stale-branch-lock" "stale-head-lock" "blocked-refs"
        "forged-refs" "broken-index" "forged-record";
    Tricks Repository(Left::OldBase) => "assume-unchanged" "skip-worktree" "same-size-and-time" "forged-walk-cache";
    Tricks Repository(Left::Ran) =>
        "file-system-monitor" "hooks" "hooks-elsewhere" "clean-filter" "signing-program";
    Tricks Repository(Left::GitLink) => "nested-repository" "submodule";
    Tricks Repository(Left::ForeignCommit) => "own-commits";
    Tricks Repository(Left::LostHistory) => "rewritten-history" "deleted-refs";
    Tricks Repository(Left::File("kg/entities/red.md")) => "broken-knowledge";
    Tricks Repository(Left::File("leftover.txt")) => "leftovers-of-a-crash";
    Tricks Alive => "writes-after-the-end";
    Tokens Said =>
        "a-stolen-token-after-its-generation" "a-stolen-token-reads" "a-stolen-token-on-another-unit"
        "a-stolen-token-claims-again" "a-token-without-algorithm" "a-token-of-another-algorithm"
        "a-token-with-another-generation" "a-token-with-another-unit" "a-token-of-another-owner"
        "a-token-that-never-expires" "a-callers-token-at-the-worker-port";
    Callers Said =>
        "invoke-on-a-workspace-of-another-owner" "read-only-invoke-on-a-workspace-of-another-owner"
        "invoke-on-the-own-workspace-of-another-unit" "invoke-by-dot-dot" "dispatch-on-a-workspace-of-another-owner"
        "dispatch-for-another-subject" "files-of-another-owner" "files-by-dot-dot" "files-by-escaped-dot-dot"
        "files-through-a-link" "files-through-a-linked-folder" "events-of-another-owner" "turn-of-another-owner"
        "cancel-a-turn-of-another-owner" "a-callers-token-without-algorithm";
    Last Canary => "empty-the-ledger";
};

/// The cases of a batch.
pub(crate) fn of(batch: Batch) -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(move |case| case.batch == batch)
}
