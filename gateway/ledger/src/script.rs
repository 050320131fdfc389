//! The Lua scripts: one file per transition, each with `lib.lua`, `grants.lua`, `room.lua`, `lines.lua` and `stored.lua` in front.
//!
//! Redis asks a script that writes for its flags when it has reached its `maxmemory` (`noeviction`): without `allow-oom` it is
//! refused as a whole. So what ends, drains, settles, erases or tells goes on, and what begins something is refused. (In a script
//! without a shebang the first command that could grow something fails, in whichever it is; Redis documentation, "Eval flags".)

use std::sync::{Arc, LazyLock};

use redis::Cmd;
use sha1::{Digest, Sha1};

use crate::config::Config;

/// What every script is given in front of its own arguments; see `lib.lua`.
#[derive(Clone)]
pub(crate) struct Header(Arc<[String; 13]>);

impl Header {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new([
            config.gateway.clone(),
            config.out_entries.max(1).to_string(),
            config.out_bytes.to_string(),
            config.turn_ttl.as_secs().to_string(),
            config.turn_margin.as_millis().to_string(),
            config.live_per_owner.max(1).to_string(),
            config.live_total.max(1).to_string(),
            config.pending_starts.max(1).to_string(),
            config.detail_ttl.as_secs().to_string(),
            config.stored_bytes_per_owner.to_string(),
            config.units_per_owner.to_string(),
            config.workspaces_per_owner.to_string(),
            config.open_turns.to_string(),
        ]))
    }
}

/// What becomes of a script while Redis has reached its `maxmemory`.
enum WhenFull {
    /// It begins something: it is refused, and nothing was changed.
    Refused,
    /// What was accepted goes on by it. It adds little, and no more than once for what was accepted.
    GoesOn,
    /// It goes on, and adds as little as it can: `FULL` is true in it.
    Lean,
    /// It only reads.
    Reads,
    /// It answers also where it can write nothing, as on a replica: its writes may fail (`pcall`).
    Answers,
}

impl WhenFull {
    /// The first line. Lua sees it as well, Redis takes it off.
    fn head(&self) -> &'static str {
        match self {
            Self::Refused => "#!lua\nlocal FULL = false",
            Self::GoesOn => "#!lua flags=allow-oom\nlocal FULL = false",
            Self::Lean => "#!lua flags=allow-oom\nlocal FULL = true",
            Self::Reads => "#!lua flags=no-writes\nlocal FULL = false",
            Self::Answers => "local FULL = false",
        }
    }
}

/// A script and its hash.
pub(crate) struct Script {
    source: String,
    hash: String,
}

impl Script {
    fn new(when_full: WhenFull, body: &str) -> Self {
        let [lib, grants, room, lines, stored] = [
            include_str!("lua/lib.lua"),
            include_str!("lua/grants.lua"),
            include_str!("lua/room.lua"),
            include_str!("lua/lines.lua"),
            include_str!("lua/stored.lua"),
        ];
        let head = when_full.head();
        let source = format!("{head}\n{lib}\n{grants}\n{room}\n{lines}\n{stored}\n{body}");
        let hash = data_encoding::HEXLOWER.encode(&Sha1::digest(&source));
        Self { source, hash }
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn by_hash(&self, header: &Header, args: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.hash, header, args)
    }

    pub(crate) fn by_source(&self, header: &Header, args: &[&[u8]]) -> Cmd {
        command("EVAL", &self.source, header, args)
    }
}

// No KEYS: a ledger is one Redis, and which keys a transition touches is found out inside it.
fn command(name: &str, script: &str, header: &Header, args: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(0).arg(&*header.0);
    for arg in args {
        command.arg(*arg);
    }
    command
}

macro_rules! scripts {
    ($($name:ident = $file:literal, $when_full:ident;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(WhenFull::$when_full, include_str!(concat!("lua/", $file, ".lua"))));)*
        /// All of them.
        pub(crate) static ALL: &[&LazyLock<Script>] = &[$(&$name,)*];
    };
}

scripts! {
    SUBMIT = "submit", Refused;
    GRANT = "grant", Refused;
    MAKE_KEY = "make_key", Refused;
    ADMIT_USE = "admit_use", Refused;
    EMIT = "emit", Refused;
    EMIT_LEAN = "emit", Lean;
    SETTLE = "settle", Refused;
    SETTLE_LEAN = "settle", Lean;
    READY = "ready", GoesOn;
    TAKE = "take", GoesOn;
    UNLINK = "unlink", GoesOn;
    CANCEL = "cancel", GoesOn;
    PICK_STARTS = "pick_starts", GoesOn;
    RENEW_START = "renew_start", GoesOn;
    START_FAILED = "start_failed", GoesOn;
    START_WAITS = "start_waits", GoesOn;
    RESTART = "restart", GoesOn;
    BEGIN_DRAIN = "begin_drain", GoesOn;
    BEGIN_IDLE_DRAIN = "begin_idle_drain", GoesOn;
    DUE = "due", GoesOn;
    PICK_DRAINS = "pick_drains", GoesOn;
    RENEW_DRAIN = "renew_drain", GoesOn;
    EXITED = "exited", GoesOn;
    ERASE = "erase", GoesOn;
    FORGET = "forget", GoesOn;
    ERASE_WORKSPACE = "erase_workspace", GoesOn;
    FORGET_WORKSPACE = "forget_workspace", GoesOn;
    AGE = "age", GoesOn;
    GO_ON = "go_on", GoesOn;
    HEARTBEAT = "heartbeat", GoesOn;
    CLAIM_PERIOD = "claim_period", GoesOn;
    STRAYS = "strays", GoesOn;
    RENEW_STRAY = "renew_stray", GoesOn;
    PICK_ERASURES = "pick_erasures", GoesOn;
    TEND_LINES = "tend_lines", GoesOn;
    TEND_PLACES = "tend_places", GoesOn;
    DENY_EGRESS = "deny_egress", GoesOn;
    REVOKE_GRANT = "grant", GoesOn;
    REVOKE_KEY = "revoke_key", GoesOn;
    LIST_KEYS = "list_keys", Reads;
    UNITS = "units", Reads;
    REPLAY = "replay", Reads;
    LAST_EVENT = "last_event", Reads;
    USE_KEY = "use_key", Answers;
    THROTTLE = "throttle", Answers;
    ADD_USE = "add_use", GoesOn;
}
