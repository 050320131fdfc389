//! What a submission may say beyond its schema: everything here ends up in an argument list, a path or a commit.

use contract::{Dispatch, Entrypoint, ErrorCode, Options, Owner, Principal, StartWith};
use settings::{Limits, Profile};

use super::body::too_large;
use super::problem::Failure;

/// The runners that the worker has.
pub const RUNNERS: &[&str] = &["claude-code", "exec", "echo"];

const PATH_MAX: usize = 4096;
const WORD_MAX: usize = 256;
const TOOLS_MAX: usize = 256;
const WORKSPACES_MAX: usize = 32;

/// What a dispatch says besides names: its prompt in the words of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The prompt itself; empty when it is all in the file.
    pub text: String,
    /// File of the primary workspace, relative to it.
    pub path: Option<String>,
    /// Session of the agent CLI to go on with.
    pub session: Option<String>,
}

/// The prompt of a dispatch. A `session` start has none of its own: the agent is told to continue.
///
/// # Errors
/// 400 with the pointer of the offender, 413 for a prompt above the bound.
pub fn prompt(start: &StartWith, limits: &Limits) -> Result<Prompt, Failure> {
    match start {
        StartWith::Entrypoint(Entrypoint { inline, path }) => {
            if let Some(text) = inline {
                prompt_text(text, "/start/entrypoint/inline", limits)?;
            }
            if let Some(path) = path {
                relative_path(path).map_err(|why| Failure::invalid("/start/entrypoint/path", why))?;
            }
            Ok(Prompt { text: inline.clone().unwrap_or_default(), path: path.clone(), session: None })
        }
        StartWith::Session(session) => {
            let reference = session.reference.as_str();
            word(reference).map_err(|why| Failure::invalid("/start/session/ref", why))?;
            Ok(Prompt { text: "Continue.".into(), path: None, session: Some(reference.into()) })
        }
    }
}

/// A prompt is 1 byte to `limits.prompt_bytes`.
///
/// # Errors
/// 400 with this pointer, 413.
pub fn prompt_text(text: &str, pointer: &str, limits: &Limits) -> Result<(), Failure> {
    if text.is_empty() {
        return Err(Failure::invalid(pointer, "the prompt is empty; say what to do"));
    }
    if text.len() > limits.prompt_bytes {
        return Err(too_large("a prompt", limits.prompt_bytes).at(pointer));
    }
    Ok(())
}

/// Tools, workspaces, principal and token of a dispatch.
///
/// # Errors
/// 400 with the pointer of the offender.
pub fn dispatch(dispatch: &Dispatch) -> Result<(), Failure> {
    if dispatch.identity.token.is_some() {
        return Err(Failure::invalid(
            "/identity/token",
            "leave it out: the platform makes the token when it starts a worker",
        ));
    }
    if let Some(principal) = &dispatch.identity.principal {
        signature(principal)?;
    }
    if dispatch.context.kind == contract::ContextKind::Meeting && dispatch.context.meeting.is_none() {
        return Err(Failure::invalid("/context", "`kind` is meeting, but there is no `meeting`"));
    }
    if dispatch.workspaces.is_empty() {
        return Err(Failure::invalid("/workspaces", "at least one workspace is required"));
    }
    if dispatch.workspaces.len() > WORKSPACES_MAX {
        return Err(Failure::invalid("/workspaces", format!("at most {WORKSPACES_MAX} workspaces")));
    }
    for (i, at) in dispatch.workspaces.iter().enumerate() {
        if dispatch.workspaces[..i].iter().any(|other| other.id == at.id) {
            return Err(Failure::invalid(
                &format!("/workspaces/{i}/id"),
                format!("workspace `{}` is named twice", at.id),
            ));
        }
    }
    if dispatch.tools.len() > TOOLS_MAX {
        return Err(Failure::invalid("/tools", format!("at most {TOOLS_MAX} tools")));
    }
    for (i, tool) in dispatch.tools.iter().enumerate() {
        word(tool).map_err(|why| Failure::invalid(&format!("/tools/{i}"), why))?;
    }
    Ok(())
}

/// Options of a turn.
///
/// # Errors
/// 400 with the pointer of the offender, 413.
pub fn options(options: &Options, limits: &Limits) -> Result<(), Failure> {
    if let Some(model) = &options.model {
        word(model).map_err(|why| Failure::invalid("/options/model", why))?;
    }
    if options.max_turns == Some(0) {
        return Err(Failure::invalid("/options/max_turns", "must be at least 1"));
    }
    if options.max_budget_usd.is_some_and(|usd| !usd.is_finite() || usd <= 0.0) {
        return Err(Failure::invalid("/options/max_budget_usd", "must be above 0"));
    }
    if let Some(text) = &options.append_system_prompt {
        if text.len() > limits.prompt_bytes {
            return Err(too_large("a system prompt", limits.prompt_bytes).at("/options/append_system_prompt"));
        }
        if text.contains('\0') {
            return Err(Failure::invalid("/options/append_system_prompt", "must not contain NUL"));
        }
    }
    if options.output_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
        return Err(Failure::invalid("/options/output_schema", "must be a JSON Schema, an object"));
    }
    Ok(())
}

/// A runner that this build knows, and that the profile can run.
///
/// # Errors
/// 422 `unknown-runner`.
pub fn runner(runner: &str, profile_name: &str, profile: &Profile) -> Result<(), Failure> {
    let refuse = |detail: String| Failure::new(ErrorCode::UnknownRunner, detail).at("/runner");
    if !RUNNERS.contains(&runner) {
        let known = RUNNERS.join(", ");
        return Err(refuse(format!("there is no runner `{}`; there are {known}", runner.escape_debug())));
    }
    if runner == "exec" && profile.runner_command.is_empty() {
        return Err(refuse(format!(
            "runner `exec` needs `runner_command` in profile `{profile_name}`, which has none"
        )));
    }
    Ok(())
}

/// Git author for who gives none: the owner itself, by its address if it has the form of one.
pub fn default_principal(owner: &Owner) -> Principal {
    let sub = owner.as_str();
    let name: String = sub.chars().filter(|c| !matches!(c, '<' | '>')).collect();
    let is_address =
        sub.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'))
            && !sub.chars().any(|c| c.is_whitespace() || matches!(c, '<' | '>'));
    Principal {
        name: if name.trim().is_empty() { owner.key() } else { name.trim().into() },
        email: if is_address { sub.into() } else { format!("{}@users.rekindle.invalid", owner.key()) },
    }
}

/// Name and email stand in commit headers: one line, no angle brackets.
fn signature(principal: &Principal) -> Result<(), Failure> {
    for (field, text) in [("name", &principal.name), ("email", &principal.email)] {
        let legal = |c: char| !c.is_control() && !matches!(c, '<' | '>');
        if text.trim().is_empty() || text.len() > WORD_MAX || !text.chars().all(legal) {
            return Err(Failure::invalid(
                &format!("/identity/principal/{field}"),
                format!("must be 1 to {WORD_MAX} bytes without control characters and without < and >"),
            ));
        }
    }
    Ok(())
}

/// A word becomes an argument of a program: not empty, not an option, nothing unprintable.
fn word(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > WORD_MAX || text.starts_with('-') || text.chars().any(char::is_control) {
        return Err(format!("must be 1 to {WORD_MAX} bytes, without control characters, and not begin with `-`"));
    }
    Ok(())
}

fn relative_path(path: &str) -> Result<(), String> {
    let escapes = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if path.is_empty() || path.len() > PATH_MAX || escapes || path.chars().any(char::is_control) {
        return Err(format!(
            "must be a path of at most {PATH_MAX} bytes, relative to the primary workspace, without `..` and control characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use contract::SessionRef;

    use super::*;

    fn entrypoint(inline: Option<&str>, path: Option<&str>) -> Result<Prompt, Failure> {
        let start = StartWith::Entrypoint(Entrypoint { inline: inline.map(Into::into), path: path.map(Into::into) });
        prompt(&start, &Limits { prompt_bytes: 8, ..Limits::default() })
    }

    #[test]
    fn prompts_are_bounded_and_their_files_stay_inside() {
        assert_eq!(entrypoint(Some("12345678"), None).unwrap().text, "12345678");
        assert_eq!(entrypoint(Some("123456789"), None).unwrap_err().status(), 413);
        assert_eq!(entrypoint(Some(""), Some("p.md")).unwrap_err().status(), 400);
        assert_eq!(entrypoint(None, Some("a/b..md")).unwrap().path.as_deref(), Some("a/b..md"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a/..", "a\0b", "a\nb"] {
            assert_eq!(entrypoint(None, Some(bad)).unwrap_err().status(), 400, "{bad:?}");
        }
    }

    #[test]
    fn a_session_is_never_an_option_of_the_cli() {
        let with = |reference: &str| {
            prompt(&StartWith::Session(SessionRef { reference: reference.into() }), &Limits::default())
        };
        assert_eq!(with("5b3a2f3e").unwrap().session.as_deref(), Some("5b3a2f3e"));
        for bad in ["", "--help", "a\nb"] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn runners_are_known_and_can_run() {
        let profile = Profile::default();
        assert!(runner("echo", "default", &profile).is_ok());
        assert_eq!(runner("emacs", "default", &profile).unwrap_err().status(), 422);
        assert_eq!(runner("exec", "default", &profile).unwrap_err().status(), 422);
        let profile = Profile { runner_command: vec!["cat".into()], ..Profile::default() };
        assert!(runner("exec", "default", &profile).is_ok());
    }

    #[test]
    fn principals_are_fit_for_a_commit() {
        let of = |sub: &str| default_principal(&Owner::parse(sub).unwrap());
        assert_eq!(
            of("ann@example.com"),
            Principal { name: "ann@example.com".into(), email: "ann@example.com".into() }
        );
        let odd = of("a|b/../c d@<e>");
        assert_eq!(odd.name, "a|b/../c d@e");
        assert!(odd.email.ends_with("@users.rekindle.invalid"), "{}", odd.email);
        assert_eq!(of("<>").name, Owner::parse("<>").unwrap().key());
        assert!(signature(&Principal { name: "a\nb".into(), email: "x".into() }).is_err());
    }
}
