//! Which conversation of the agent CLI a thread goes on with.

use contract::TurnMessage;
use workspace::{Session, StateDir, ThreadSession, WorkspaceError};

use crate::bounds::is_session;
use crate::runners::{NO_SESSION, Outcome, Resume};
use crate::settings::{RunnerKind, Settings};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The conversation to go on with; none begins a new one.
    pub resume: Option<Resume>,
    /// What to say of the search.
    pub note: Option<String>,
}

/// The conversation that the caller names, else the thread's own, else one that the workspace carries from an earlier system.
pub fn find(settings: &Settings, turn: &TurnMessage, state: &StateDir) -> Found {
    let (session, mut note) = match state.session() {
        Ok(session) => (session, None),
        Err(error) => (Session::default(), Some(format!("a new conversation was begun: {}", error.chain()))),
    };
    let own = session.threads.get(&turn.thread).filter(|own| own.runner == settings.runner.as_str());
    let resume = match (&turn.session, own) {
        (Some(named), own) => {
            let known = own.filter(|own| own.session_id == *named);
            Some(Resume { session_id: named.clone(), cost_usd_total: known.map_or(0.0, |own| own.cost_usd_total) })
        }
        (None, Some(own)) => Some(Resume { session_id: own.session_id.clone(), cost_usd_total: own.cost_usd_total }),
        (None, None) => None,
    };
    // Anybody in the sandbox can have written the session file.
    let resume = match resume {
        Some(resume) if !is_session(&resume.session_id) => {
            add(&mut note, NO_SESSION);
            None
        }
        resume => resume,
    };
    if settings.runner != RunnerKind::ClaudeCode {
        return Found { resume, note };
    }
    let cwd = &settings.primary().path;
    let prepared = match &resume {
        Some(resume) => workspace::adopt_transcript(state, &resume.session_id, cwd).map(|_| resume.clone()).map(Some),
        None if session.threads.is_empty() => import(state, cwd),
        None => Ok(None),
    };
    match prepared {
        Ok(resume) => Found { resume, note },
        Err(error) => {
            add(&mut note, &error.chain());
            Found { resume, note }
        }
    }
}

fn add(note: &mut Option<String>, more: &str) {
    let said = note.get_or_insert_default();
    said.push_str(if said.is_empty() { "" } else { "; " });
    said.push_str(more);
}

fn import(state: &StateDir, cwd: &std::path::Path) -> Result<Option<Resume>, WorkspaceError> {
    let Some(legacy) = workspace::legacy_session(cwd) else { return Ok(None) };
    workspace::import_legacy(state, &legacy, cwd)?;
    Ok(Some(Resume { session_id: legacy.session_id, cost_usd_total: 0.0 })
        .filter(|found| is_session(&found.session_id)))
}

/// Notes a thread's conversation for the next turn.
///
/// # Errors
/// When the session file cannot be written; the one that was there is kept.
pub fn keep(state: &StateDir, thread: &str, runner: RunnerKind, outcome: &Outcome) -> Result<(), WorkspaceError> {
    let Some(session_id) = &outcome.session_id else { return Ok(()) };
    // A damaged file was told of when the turn began, and is replaced.
    let mut session = state.session().unwrap_or_default();
    let own = session.threads.entry(thread.to_owned()).or_default();
    let before = own.clone();
    if own.runner != runner.as_str() || own.session_id != *session_id {
        *own = ThreadSession { runner: runner.as_str().into(), session_id: session_id.clone(), ..Default::default() };
    }
    if let Some(cost) = outcome.cost_usd_total {
        own.cost_usd_total = cost;
    }
    if *own == before { Ok(()) } else { state.save_session(&session) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_session_is_not_gone_on_with() {
        let mut note = Some("said".into());
        add(&mut note, "more");
        assert_eq!(note.as_deref(), Some("said; more"));
        for (id, usable) in
            [("s".repeat(512), true), ("s".repeat(513), false), ("a\nb".into(), false), (String::new(), false)]
        {
            assert_eq!(is_session(&id), usable, "{id:.20}");
        }
    }

    #[test]
    fn a_thread_keeps_its_conversation_and_what_it_cost() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        let said = |session: &str, cost| Outcome {
            session_id: Some(session.into()),
            cost_usd_total: cost,
            ..Outcome::default()
        };
        keep(&state, "main", RunnerKind::ClaudeCode, &said("a", Some(0.5))).unwrap();
        keep(&state, "other", RunnerKind::ClaudeCode, &said("b", None)).unwrap();
        // A run that ended without a result says nothing of the cost.
        keep(&state, "main", RunnerKind::ClaudeCode, &said("a", None)).unwrap();
        keep(&state, "main", RunnerKind::ClaudeCode, &Outcome::default()).unwrap();
        let threads = state.session().unwrap().threads;
        assert_eq!((threads["main"].session_id.as_str(), threads["main"].cost_usd_total), ("a", 0.5));
        keep(&state, "main", RunnerKind::Exec, &said("a", None)).unwrap();
        assert_eq!(state.session().unwrap().threads["main"].cost_usd_total, 0.0);
        assert_eq!(state.session().unwrap().threads["other"].session_id, "b");
    }
}
