//! The Lua scripts: one file per transition, each with `lib.lua`, `grants.lua`, `room.lua` and `lines.lua` in front.

use std::sync::LazyLock;

use redis::Cmd;
use sha1::{Digest, Sha1};

use crate::config::Config;

/// What every script is given in front of its own arguments; see `lib.lua`.
#[derive(Clone)]
pub(crate) struct Header([String; 8]);

impl Header {
    pub(crate) fn new(config: &Config) -> Self {
        Self([
            config.gateway.clone(),
            config.out_entries.max(1).to_string(),
            config.out_bytes.to_string(),
            config.turn_ttl.as_secs().max(1).to_string(),
            config.turn_margin.as_millis().to_string(),
            config.live_per_owner.max(1).to_string(),
            config.live_total.max(1).to_string(),
            config.pending_starts.max(1).to_string(),
        ])
    }
}

/// A script and its hash.
pub(crate) struct Script {
    source: String,
    hash: String,
}

impl Script {
    fn new(body: &str) -> Self {
        let [lib, grants, room, lines] = [
            include_str!("lua/lib.lua"),
            include_str!("lua/grants.lua"),
            include_str!("lua/room.lua"),
            include_str!("lua/lines.lua"),
        ];
        let source = format!("{lib}\n{grants}\n{room}\n{lines}\n{body}");
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
    command.arg(script).arg(0).arg(&header.0);
    for arg in args {
        command.arg(*arg);
    }
    command
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file, ".lua"))));)*
        /// All of them.
        pub(crate) static ALL: &[&LazyLock<Script>] = &[$(&$name,)*];
    };
}

scripts! {
    SUBMIT = "submit";
    READY = "ready";
    TAKE = "take";
    UNLINK = "unlink";
    EMIT = "emit";
    SETTLE = "settle";
    CANCEL = "cancel";
    PICK_STARTS = "pick_starts";
    RENEW_START = "renew_start";
    START_FAILED = "start_failed";
    RESTART = "restart";
    BEGIN_DRAIN = "begin_drain";
    BEGIN_IDLE_DRAIN = "begin_idle_drain";
    DUE = "due";
    PICK_DRAINS = "pick_drains";
    RENEW_DRAIN = "renew_drain";
    EXITED = "exited";
    ERASE = "erase";
    FORGET = "forget";
    GO_ON = "go_on";
    REPLAY = "replay";
    LAST_EVENT = "last_event";
    HEARTBEAT = "heartbeat";
    STRAYS = "strays";
    RENEW_STRAY = "renew_stray";
    PICK_ERASURES = "pick_erasures";
    TEND_LINES = "tend_lines";
    TEND_PLACES = "tend_places";
    START_WAITS = "start_waits";
    DENY_EGRESS = "deny_egress";
    GRANT = "grant";
    MAKE_KEY = "make_key";
    USE_KEY = "use_key";
    REVOKE_KEY = "revoke_key";
    LIST_KEYS = "list_keys";
    THROTTLE = "throttle";
    ADMIT_USE = "admit_use";
    ADD_USE = "add_use";
}
