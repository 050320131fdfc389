//! Commits of the platform: how they are named, written and recognised.

use std::time::{SystemTime, UNIX_EPOCH};

use contract::{Generation, Principal, Trigger, TurnId, UnitId, WorkspaceId};
use git2::Oid;
use serde::{Deserialize, Serialize};

use crate::open::Unit;

/// Who made a turn's commits, and why.
#[derive(Debug, Clone)]
pub struct TurnMeta {
    /// The unit.
    pub unit: UnitId,
    /// The turn.
    pub turn: TurnId,
    /// The generation that ran it.
    pub generation: Generation,
    /// Why it fired.
    pub trigger: Trigger,
    /// Git author.
    pub principal: Principal,
    /// The prompt, or its first line: it is cut to a subject of at most 72 characters here.
    pub subject: String,
}

/// A commit that is written and pinned, but that no branch points to yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedCommit {
    /// Of which workspace.
    pub workspace: WorkspaceId,
    /// The ref that shall move, e.g. `refs/heads/main`; `HEAD` where the workspace has a detached one.
    pub branch: String,
    /// The commit, hexadecimal.
    pub sha: String,
    /// Files changed.
    pub files: u64,
    /// Lines added; text files up to 1 MiB are counted.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// A commit that a branch points to: the fields of a `commit` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Of which workspace.
    pub workspace: WorkspaceId,
    /// The ref that moved.
    pub branch: String,
    /// The commit, hexadecimal.
    pub sha: String,
    /// Files changed.
    pub files: u64,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

impl From<&PreparedCommit> for CommitInfo {
    fn from(c: &PreparedCommit) -> Self {
        Self {
            workspace: c.workspace.clone(),
            branch: c.branch.clone(),
            sha: c.sha.clone(),
            files: c.files,
            insertions: c.insertions,
            deletions: c.deletions,
        }
    }
}

const COMMITTER: &str = "Rekindle <rekindle@localhost>";
const MAX_SUBJECT_CHARS: usize = 72;

/// A commit's message and author, before it has a tree.
pub(crate) struct Message {
    author: String,
    text: String,
}

impl Message {
    /// The one commit of a completed turn.
    pub fn turn(meta: &TurnMeta) -> Self {
        let subject = subject(&meta.subject).unwrap_or_else(|| format!("Turn {}", meta.turn));
        Self { author: ident(&meta.principal), text: with_trailers(&subject, meta) }
    }

    /// What an unfinished turn left.
    pub fn interrupted(meta: &TurnMeta) -> Self {
        Self { author: ident(&meta.principal), text: with_trailers(&format!("Interrupted turn {}", meta.turn), meta) }
    }

    /// What a turn left of which nothing but its id is known any more.
    pub fn interrupted_by_crash(unit: &Unit, turn: &TurnId) -> Self {
        let text = format!(
            "Interrupted turn {turn}\n\nUnit: {}\nTurn: {turn}\nGeneration: {}\nTrigger: recovery\n",
            unit.uid, unit.generation
        );
        Self { author: COMMITTER.into(), text }
    }

    /// What people changed while no generation was alive.
    pub fn outside(unit: &Unit, turn: &TurnId) -> Self {
        let text = format!(
            "Changes from outside\n\nUnit: {}\nTurn: {turn}\nGeneration: {}\nTrigger: outside\n",
            unit.uid, unit.generation
        );
        Self { author: COMMITTER.into(), text }
    }

    /// The empty commit that a repository without one begins with.
    pub fn first(unit: &Unit) -> Self {
        let text = format!("Begin\n\nUnit: {}\nGeneration: {}\nTrigger: outside\n", unit.uid, unit.generation);
        Self { author: COMMITTER.into(), text }
    }

    /// The commit object's bytes (gitformat: header lines, an empty line, the message).
    pub fn encode(&self, tree: Oid, parents: &[Oid]) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut out = format!("tree {tree}\n");
        for parent in parents {
            out.push_str(&format!("parent {parent}\n"));
        }
        out.push_str(&format!("author {} {now} +0000\ncommitter {COMMITTER} {now} +0000\n\n", self.author));
        out.push_str(&self.text);
        out.into_bytes()
    }
}

fn with_trailers(subject: &str, meta: &TurnMeta) -> String {
    format!(
        "{subject}\n\nUnit: {}\nTurn: {}\nGeneration: {}\nTrigger: {}\n",
        meta.unit,
        meta.turn,
        meta.generation,
        meta.trigger.as_str()
    )
}

/// The first line that says something, on one line, without control characters, cut at 72 characters.
fn subject(text: &str) -> Option<String> {
    let clean =
        |line: &str| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned();
    let line = text.lines().map(clean).find(|l| !l.is_empty())?;
    if line.chars().count() <= MAX_SUBJECT_CHARS {
        return Some(line);
    }
    let mut cut: String = line.chars().take(MAX_SUBJECT_CHARS - 1).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    Some(cut)
}

/// `Name <email>` with what git forbids in either left out.
fn ident(principal: &Principal) -> String {
    let clean = |text: &str| {
        let kept: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
        let crud: &[char] = &['.', ',', ':', ';', '"', '\'', '\\', ' '];
        kept.trim_matches(crud).to_owned()
    };
    let name = clean(&principal.name);
    let email = clean(&principal.email);
    let name = if name.is_empty() { "unknown".to_owned() } else { name };
    format!("{name} <{}>", if email.is_empty() { "unknown@localhost" } else { &email })
}

/// What a commit object says of itself; parsed here because only these few lines matter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParsedCommit {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    trailers: Vec<(String, String)>,
}

impl ParsedCommit {
    pub fn parse(data: &[u8]) -> Option<Self> {
        let split = data.windows(2).position(|w| w == b"\n\n").unwrap_or(data.len());
        let header = std::str::from_utf8(&data[..split]).ok();
        let header = header.map_or_else(|| String::from_utf8_lossy(&data[..split]).into_owned(), str::to_owned);
        let mut lines = header.lines();
        let tree = lines.next()?.strip_prefix("tree ").and_then(|h| Oid::from_str(h).ok())?;
        let parents =
            lines.map_while(|l| l.strip_prefix("parent ")).map(Oid::from_str).collect::<Result<_, _>>().ok()?;
        let message = String::from_utf8_lossy(data.get(split + 2..).unwrap_or_default()).into_owned();
        let last = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let trailers =
            last.lines().filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Some(Self { tree, parents, trailers })
    }

    /// Whether its trailers name this unit and this turn, each once.
    pub fn names(&self, unit: &UnitId, turn: &TurnId) -> bool {
        let only = |key: &str| {
            let mut found = self.trailers.iter().filter(|(k, _)| k == key);
            let first = found.next().map(|(_, v)| v.as_str());
            if found.next().is_some() { None } else { first }
        };
        only("Unit") == Some(unit.as_str()) && only("Turn") == Some(turn.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_one_short_line() {
        assert_eq!(subject("\n\n  hello\tworld \nmore").as_deref(), Some("hello world"));
        assert_eq!(subject(" \n\t"), None);
        let long = subject(&"ä".repeat(200)).unwrap();
        assert_eq!(long.chars().count(), 72);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn idents_cannot_break_the_header() {
        let p = Principal { name: "A <b>\nauthor x".into(), email: "a@b>\n".into() };
        assert_eq!(ident(&p), "A bauthor x <a@b>");
        let p = Principal { name: "<>".into(), email: "\0".into() };
        assert_eq!(ident(&p), "unknown <unknown@localhost>");
    }

    #[test]
    fn trailers_are_read_back_and_a_forged_one_in_the_subject_is_not() {
        let meta = TurnMeta {
            unit: UnitId::parse("uaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap(),
            turn: TurnId::new(1, 1),
            generation: Generation(3),
            trigger: Trigger::Message,
            principal: Principal { name: "n".into(), email: "e".into() },
            subject: "Turn: 01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        };
        let bytes = Message::turn(&meta).encode(Oid::ZERO_SHA1, &[Oid::ZERO_SHA1]);
        let parsed = ParsedCommit::parse(&bytes).unwrap();
        assert_eq!(parsed.parents, [Oid::ZERO_SHA1]);
        assert!(parsed.names(&meta.unit, &meta.turn));
        assert!(!parsed.names(&meta.unit, &TurnId::new(2, 1)));
        assert_eq!(ParsedCommit::parse(b"garbage"), None);
    }
}
