//! `unit.v1`: the dispatch envelope, and the invoke body that is sugar for it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use sha1::{Digest, Sha1};

use crate::id::{UnitName, WorkspaceId};

/// Write access to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Read only.
    Ro,
    /// Read and write: needs the workspace's lease.
    Rw,
}

/// A workspace at a mode. The first of a dispatch is the primary one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceAt {
    /// Which workspace.
    pub id: WorkspaceId,
    /// Source of truth for write access.
    pub mode: Mode,
}

/// Why a dispatch fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person's message.
    Message,
    /// A schedule.
    Scheduled,
    /// An event from outside, e.g. a webhook.
    Event,
    /// A transcription of a meeting.
    Transcription,
}

impl Trigger {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Scheduled => "scheduled",
            Self::Event => "event",
            Self::Transcription => "transcription",
        }
    }

    /// Mode of workspaces that the caller did not choose: it follows the trust in the trigger.
    pub fn default_mode(self) -> Mode {
        match self {
            Self::Message | Self::Scheduled => Mode::Rw,
            Self::Event | Self::Transcription => Mode::Ro,
        }
    }
}

/// Git author of the turn's commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Author name.
    pub name: String,
    /// Author email.
    pub email: String,
}

/// What fired the dispatch: `user:<id>`, `schedule:<id>`, `webhook:<id>` or `integration:<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(user|schedule|webhook|integration):.+$"))]
pub struct Launcher(String);

impl Launcher {
    /// The launcher of a person's own call.
    pub fn user(id: &str) -> Self {
        Self(format!("user:{id}"))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Launcher {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let known = |kind| matches!(kind, "user" | "schedule" | "webhook" | "integration");
        match text.split_once(':') {
            Some((kind, id))
                if known(kind) && !id.is_empty() && text.len() <= 300 && !id.chars().any(char::is_control) =>
            {
                Ok(Self(text))
            }
            _ => Err("launcher must be user:<id>, schedule:<id>, webhook:<id> or integration:<id>".into()),
        }
    }
}

impl From<Launcher> for String {
    fn from(launcher: Launcher) -> String {
        launcher.0
    }
}

/// Who a dispatch acts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The person the unit acts for; the caller itself unless its token may impersonate.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
    /// What fired it.
    pub launcher: Launcher,
    /// Git author; default from the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Absent when authored; injected at spawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What the turn is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// Nothing in particular.
    #[default]
    None,
    /// A meeting.
    Meeting,
    /// An email.
    Email,
    /// Something with a reference.
    Generic,
}

/// A meeting that a turn is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meeting {
    /// The meeting.
    pub meeting_id: String,
    /// The meeting's session; it names the unit.
    pub session_uid: String,
    /// Where it takes place.
    pub platform: String,
}

/// A reference to something outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ref {
    /// Where it is.
    pub uri: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Context of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// What the turn is about.
    #[serde(default)]
    pub kind: ContextKind,
    /// Present for `meeting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<Meeting>,
    /// Present for `email` and `generic`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Ref>,
    /// The conversation thread; `main` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<UnitName>,
}

/// A prompt, inline or in a file of the primary workspace, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entrypoint {
    /// The prompt itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// A file of the primary workspace that holds the prompt, relative to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A conversation to go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRef {
    /// The agent CLI's session id.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// What to start: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartWith {
    /// A prompt.
    Entrypoint(Entrypoint),
    /// A session.
    Session(SessionRef),
}

impl<'de> Deserialize<'de> for StartWith {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            entrypoint: Option<Entrypoint>,
            session: Option<SessionRef>,
        }
        let refuse = serde::de::Error::custom;
        match Both::deserialize(deserializer)? {
            Both { entrypoint: Some(_), session: Some(_) } => {
                Err(refuse("exactly one of `entrypoint` and `session` is allowed, both are given"))
            }
            Both { entrypoint: Some(Entrypoint { inline: None, path: None }), .. } => {
                Err(refuse("`entrypoint` needs `inline`, `path` or both"))
            }
            Both { entrypoint: Some(e), .. } => Ok(Self::Entrypoint(e)),
            Both { session: Some(s), .. } => Ok(Self::Session(s)),
            _ => Err(refuse("one of `entrypoint` and `session` is required")),
        }
    }
}

fn default_runner() -> String {
    "claude-code".into()
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WorkspaceAt>, D::Error> {
    let list = Vec::<WorkspaceAt>::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("at least one workspace is required"));
    }
    for (i, w) in list.iter().enumerate() {
        if list[..i].iter().any(|other| other.id == w.id) {
            return Err(serde::de::Error::custom(format!("workspace `{}` is named twice", w.id)));
        }
    }
    Ok(list)
}

/// One `unit.v1` envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// Who it acts for.
    pub identity: Identity,
    /// Which agent CLI; default `claude-code`.
    #[serde(default = "default_runner")]
    pub runner: String,
    /// The workspaces, the first is primary.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(length(min = 1))]
    pub workspaces: Vec<WorkspaceAt>,
    /// The allow-set that is handed to the runner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Why it fired.
    pub trigger: Trigger,
    /// What it is about.
    #[serde(default)]
    pub context: Context,
    /// What to start.
    pub start: StartWith,
}

/// JSON with object keys in sorted order and no white space, whatever the map type behind `Value` is.
fn canonical(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

impl Dispatch {
    /// Name of the unit that this dispatch addresses, before it is made a legal [`UnitName`]:
    /// message → `agent-<subject>-chat-<session>`, a meeting → `agent-meet-<session_uid>`, others →
    /// `agent-<subject>-<trigger>-<first 10 hex of sha1("<subject>|<trigger>|<start as JSON with sorted keys>")>`.
    pub fn unit_address(&self) -> String {
        let subject = &self.identity.subject;
        if let (ContextKind::Meeting, Some(meeting)) = (self.context.kind, &self.context.meeting) {
            return format!("agent-meet-{}", meeting.session_uid);
        }
        if self.trigger == Trigger::Message {
            return format!("agent-{subject}-chat-{}", self.thread());
        }
        let trigger = self.trigger.as_str();
        let mut start = String::new();
        canonical(&serde_json::to_value(&self.start).unwrap_or_default(), &mut start);
        let digest = Sha1::digest(format!("{subject}|{trigger}|{start}"));
        let hex = data_encoding::HEXLOWER.encode(&digest);
        format!("agent-{subject}-{trigger}-{}", &hex[..10])
    }

    /// The legal name of the addressed unit: [`Self::unit_address`] itself where it is one. A subject such as
    /// `auth0|12` is not; then what is illegal becomes `_`, and a `-` and 10 hex of the address' SHA-1 follow, so that two
    /// addresses never share a name.
    pub fn unit_name(&self) -> UnitName {
        legal_name(&self.unit_address())
    }

    /// The conversation thread: `context.session`, default `main`.
    pub fn thread(&self) -> &str {
        self.context.session.as_ref().map_or("main", |s| s.as_str())
    }
}

fn legal_name(address: &str) -> UnitName {
    if let Ok(name) = UnitName::parse(address) {
        return name;
    }
    let hex = data_encoding::HEXLOWER.encode(&Sha1::digest(address));
    let mut text: String = address
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .take(110)
        .collect();
    text.push('-');
    text.push_str(&hex[..10]);
    UnitName::parse(text).unwrap_or_else(|e| unreachable!("a name made of legal characters: {e}"))
}

/// Options for one turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Model that the runner shall use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most agent steps in the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Most US dollars for the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_budget_usd: Option<f64>,
    /// Text to put behind the agent's own system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_system_prompt: Option<String>,
    /// JSON Schema that the answer (`done.output`) must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<serde_json::Value>,
}

/// Body of `POST /v1/units/{unit}/invoke`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeBody {
    /// What to do: 1 byte to 1 MiB.
    pub prompt: String,
    /// Which agent CLI; default of the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Which profile; default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Default: the unit's own workspace at `rw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<WorkspaceAt>>,
    /// The allow-set that is handed to the runner; default of the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Options for this turn.
    #[serde(default)]
    pub options: Options,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch(subject: &str, trigger: &str, context: serde_json::Value) -> Dispatch {
        serde_json::from_value(serde_json::json!({
            "identity": {"subject": subject, "launcher": "user:x"},
            "workspaces": [{"id": "w", "mode": "rw"}],
            "trigger": trigger, "context": context,
            "start": {"entrypoint": {"path": "p.md", "inline": "hi"}},
        }))
        .unwrap()
    }

    #[test]
    fn addresses_follow_the_trigger() {
        let none = serde_json::json!({});
        assert_eq!(dispatch("ann", "message", none.clone()).unit_name().as_str(), "agent-ann-chat-main");
        let meeting = serde_json::json!({"kind": "meeting", "meeting": {"meeting_id": "m", "session_uid": "s1", "platform": "p"}});
        assert_eq!(dispatch("ann", "transcription", meeting).unit_name().as_str(), "agent-meet-s1");
        // sha1 of `ann|event|{"entrypoint":{"inline":"hi","path":"p.md"}}`, as any other tool computes it.
        assert_eq!(dispatch("ann", "event", none).unit_address(), "agent-ann-event-d0bc3d350f");
    }

    #[test]
    fn subjects_that_are_no_names_do_not_collide() {
        let a = dispatch("auth0|1", "message", serde_json::json!({})).unit_name();
        let b = dispatch("auth0/1", "message", serde_json::json!({})).unit_name();
        assert_ne!(a, b);
        assert!(a.as_str().starts_with("agent-auth0_1-chat-main-"));
    }
}
