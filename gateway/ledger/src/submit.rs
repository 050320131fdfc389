//! A turn comes in.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Generation, Launcher, Options, Owner, Trigger, TurnId, TurnMessage, UnitId, UnitName, WorkspaceId};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;
use crate::shape::{Policy, Shape};
use crate::starts::StartJob;
use crate::stream_id::StreamId;

/// When to try again after a queue was full.
const FULL: Duration = Duration::from_secs(5);

/// `Idempotency-Key` of a call, within its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As the caller sent it.
    pub key: String,
    /// Hash of the request's body: the same key with another body is refused.
    pub body_hash: String,
}

/// A turn to accept.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Whose unit.
    pub owner: Owner,
    /// Which unit.
    pub name: UnitName,
    /// The turn's id, made by the caller: a repeated submit of the same id is recognised.
    pub turn: TurnId,
    /// What to do.
    pub prompt: String,
    /// A file of the primary workspace with (more of) the prompt.
    pub prompt_path: Option<String>,
    /// The conversation thread.
    pub thread: String,
    /// A session of the agent CLI to go on with.
    pub session: Option<String>,
    /// Why it fired.
    pub trigger: Trigger,
    /// What fired it.
    pub launcher: Launcher,
    /// Options for this turn.
    pub options: Options,
    /// What is fixed at a start.
    pub shape: Shape,
    /// The profile's bounds.
    pub policy: Policy,
    /// Seconds that the runner may take.
    pub timeout_sec: u64,
    /// W3C trace context of the caller.
    pub traceparent: Option<String>,
    /// The call's idempotency key, if it has one.
    pub idempotency: Option<Idempotency>,
}

/// Where a unit's worker is reached: a reading connection of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The gateway's id.
    pub gateway: String,
    /// The connection's number on it.
    pub connection: u64,
}

/// A turn that was taken and is to be handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// To whom.
    pub link: Link,
    /// The unit.
    pub uid: UnitId,
    /// The generation that it was given to.
    pub generation: Generation,
    /// What the worker is told.
    pub turn: TurnMessage,
}

/// Of what an owner has all that it may have; with how much that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredBound {
    /// Bytes of prompts, results and records.
    Bytes(u64),
    /// Units.
    Units(u64),
    /// Workspaces that it named.
    Workspaces(u64),
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time, and the large one is the common one")]
pub enum Submitted {
    /// The turn is the ledger's now; it will be settled.
    Accepted {
        /// The turn.
        turn: TurnId,
        /// Its unit.
        uid: UnitId,
        /// How many turns are before it.
        position: u64,
        /// Last id of the out-stream before this submit: a subscription from here misses nothing of the turn.
        after: StreamId,
        /// A start job that this gateway holds the lease of.
        start: Option<StartJob>,
        /// The turn was taken for a link of this gateway.
        deliver: Option<Delivery>,
    },
    /// The same idempotency key and body were seen before. Nothing was changed.
    Replayed {
        /// The turn that was accepted then.
        turn: TurnId,
        /// Its unit.
        uid: UnitId,
        /// Before its first event.
        after: StreamId,
    },
    /// The key was used with another body. Nothing was changed.
    KeyReused,
    /// The workspace is somebody else's. Nothing was changed.
    WorkspaceNotFound(WorkspaceId),
    /// The workspace is somebody else's, who granted it read only. Nothing was changed.
    WorkspaceReadOnly(WorkspaceId),
    /// Too many turns of the unit wait. Nothing was changed.
    QueueFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many turns of the owner wait. Nothing was changed.
    OwnerQueueFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many turns of all owners wait or run. Nothing was changed.
    AllFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// The owner has all that it may have of something. Nothing was changed.
    Stored(StoredBound),
    /// The workspace is being erased. Nothing was changed.
    WorkspaceErasing(WorkspaceId),
    /// The unit is being erased. Nothing was changed.
    Erasing,
}

impl Ledger {
    /// Accepts a turn, in one round trip: writes it, and in the same script takes it for a live idle worker or enters
    /// Starting. A repeated call with the same turn id changes nothing and answers as the first.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]: the turn may or may not have been accepted; ask again with the same id.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted> {
        let s = submission;
        let config = &self.0.config;
        let uid = UnitId::of(&s.owner, &s.name);
        let options = serde_json::to_string(&s.options).unwrap_or_else(|e| unreachable!("options are plain data: {e}"));
        let idem = s.idempotency.as_ref();
        let key = idem.map_or(String::new(), |i| format!("idem:{}:{}", s.owner.key(), i.key));
        let reply = self
            .run_replicated(
                &script::SUBMIT,
                &[
                    uid.as_str().as_bytes(),
                    s.turn.as_str().as_bytes(),
                    s.owner.as_str().as_bytes(),
                    s.name.as_str().as_bytes(),
                    s.owner.key().as_bytes(),
                    s.prompt.as_bytes(),
                    s.prompt_path.as_deref().unwrap_or_default().as_bytes(),
                    s.thread.as_bytes(),
                    s.session.as_deref().unwrap_or_default().as_bytes(),
                    s.trigger.as_str().as_bytes(),
                    s.launcher.as_str().as_bytes(),
                    options.as_bytes(),
                    s.shape.json().as_bytes(),
                    s.shape.hash().as_bytes(),
                    s.shape.ids(false).as_bytes(),
                    s.shape.ids(true).as_bytes(),
                    s.policy.text().as_bytes(),
                    number(s.timeout_sec).as_bytes(),
                    s.traceparent.as_deref().unwrap_or_default().as_bytes(),
                    key.as_bytes(),
                    idem.map_or("", |i| &i.body_hash).as_bytes(),
                    number(config.queued_turns_per_unit).as_bytes(),
                    number(config.queued_turns_per_owner).as_bytes(),
                ],
            )
            .await?;
        self.submitted(uid, submission, Fields::reply("submit", reply)?)
    }

    fn submitted(&self, uid: UnitId, s: &Submission, (word, fields): (String, Fields)) -> Result<Submitted> {
        Ok(match word.as_str() {
            "accepted" => Submitted::Accepted {
                turn: s.turn.clone(),
                position: fields.parsed("position")?,
                after: fields.parsed("after")?,
                start: fields.get("start_gen").map(|_| StartJob::parse(&fields)).transpose()?,
                deliver: fields.get("turn_id").map(|_| self.delivery(&uid, &fields, Some(&s.prompt))).transpose()?,
                uid,
            },
            "replayed" => Submitted::Replayed {
                turn: fields.parsed("turn")?,
                uid: fields.parsed("uid")?,
                after: fields.parsed("after")?,
            },
            "reused" => Submitted::KeyReused,
            "workspace" => Submitted::WorkspaceNotFound(fields.parsed("id")?),
            "read_only" => Submitted::WorkspaceReadOnly(fields.parsed("id")?),
            "full" if fields.get("of") == Some("owner") => Submitted::OwnerQueueFull { retry_after: FULL },
            "full" if fields.get("of") == Some("all") => Submitted::AllFull { retry_after: FULL },
            "full" => Submitted::QueueFull { retry_after: FULL },
            "stored" => {
                let most = fields.parsed("most")?;
                Submitted::Stored(match fields.need("what")? {
                    "units" => StoredBound::Units(most),
                    "workspaces" => StoredBound::Workspaces(most),
                    _ => StoredBound::Bytes(most),
                })
            }
            "erasing_workspace" => Submitted::WorkspaceErasing(fields.parsed("id")?),
            "erasing" => Submitted::Erasing,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// The delivery in a reply for a link of this gateway. The prompt is not sent back to whoever just sent it.
    pub(crate) fn delivery(&self, uid: &UnitId, fields: &Fields, prompt: Option<&str>) -> Result<Delivery> {
        Ok(Delivery {
            link: Link { gateway: self.0.config.gateway.clone(), connection: fields.parsed("connection")? },
            uid: uid.clone(),
            generation: Generation(fields.parsed("generation")?),
            turn: message(fields, prompt)?,
        })
    }
}

/// The message in a reply or in a mail.
pub(crate) fn message(fields: &Fields, prompt: Option<&str>) -> Result<TurnMessage> {
    let shape: Shape = fields.json("shape")?;
    let mut unclean = BTreeMap::new();
    let mut words = fields.get("unclean").unwrap_or_default().split_whitespace();
    while let (Some(workspace), Some(turn)) = (words.next(), words.next()) {
        unclean.insert(
            WorkspaceId::parse(workspace).map_err(|e| fields.wrong("unclean", e))?,
            TurnId::parse(turn).map_err(|e| fields.wrong("unclean", e))?,
        );
    }
    Ok(TurnMessage {
        turn_id: fields.parsed("turn_id")?,
        prompt: fields.get("prompt").or(prompt).unwrap_or_default().to_owned(),
        prompt_path: fields.get("prompt_path").map(Into::into),
        attempt: fields.parsed("attempt")?,
        trigger: fields.maybe_word("trigger")?.ok_or_else(|| fields.wrong("trigger", "absent"))?,
        thread: fields.get("thread").unwrap_or("main").to_owned(),
        principal: shape.principal,
        tools: shape.tools,
        options: fields.json("options")?,
        start: fields.maybe_word("start")?.ok_or_else(|| fields.wrong("start", "absent"))?,
        timeout_sec: fields.parsed("timeout_sec")?,
        tell: fields.maybe_word("tell")?,
        unclean,
        cache: fields.get("cache").map(Into::into),
        session: fields.get("session").map(Into::into),
        traceparent: fields.get("traceparent").map(Into::into),
    })
}
