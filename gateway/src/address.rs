//! Names of units in routes: the short one, the full one, or the uid.
//!
//! An invoke of `demo` is a `message` dispatch with `context.session = demo`, so its unit is the one that such a dispatch
//! addresses: `agent-<subject>-chat-demo`. `demo` is its short name, that its full one; the routes take both, and the uid.
//! A name that has the form of a uid is always read as one.

use contract::{
    Context, Dispatch, Entrypoint, IdError, Identity, Launcher, Mode, Owner, StartWith, Trigger, UnitId, UnitName,
    WorkspaceAt, is_uid_shaped,
};

/// Length of the `-<10 hex>` that a full name ends in when the address itself is no legal name.
const HASH_SUFFIX: usize = 11;

/// What a route's `{unit}` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The conversation of this thread; it need not exist yet.
    Short(UnitName),
    /// A unit by its full name.
    Full(UnitName),
    /// A unit by its uid.
    Uid(UnitId),
}

impl Address {
    /// Reads a route's `{unit}`, for this caller.
    ///
    /// # Errors
    /// [`IdError`] when it is no legal name.
    pub fn parse(text: &str, owner: &Owner) -> Result<Self, IdError> {
        if is_uid_shaped(text) {
            return UnitId::parse(text).map(Self::Uid);
        }
        let name = UnitName::parse(text)?;
        Ok(if is_full(&name, owner) { Self::Full(name) } else { Self::Short(name) })
    }

    /// The unit's key, for this owner.
    pub fn uid(&self, owner: &Owner) -> UnitId {
        match self {
            Self::Short(session) => UnitId::of(owner, &full_name(owner, session)),
            Self::Full(name) => UnitId::of(owner, name),
            Self::Uid(uid) => uid.clone(),
        }
    }
}

/// Full name of the owner's conversation `session`.
pub fn full_name(owner: &Owner, session: &UnitName) -> UnitName {
    conversation(owner, session).unit_name()
}

/// The dispatch that an invoke of `session` is sugar for; prompt and workspaces are the caller's to fill in.
pub fn conversation(owner: &Owner, session: &UnitName) -> Dispatch {
    Dispatch {
        identity: Identity {
            subject: owner.as_str().into(),
            launcher: Launcher::user(owner.as_str()),
            principal: None,
            token: None,
        },
        runner: String::new(),
        workspaces: Vec::new(),
        tools: Vec::new(),
        trigger: Trigger::Message,
        context: Context { session: Some(session.clone()), ..Context::default() },
        start: StartWith::Entrypoint(Entrypoint::default()),
    }
}

/// The session whose conversation has this full name, if it is one of this owner's.
pub fn session_of(name: &UnitName, owner: &Owner) -> Option<UnitName> {
    let rest = name.as_str().strip_prefix(&format!("agent-{}-chat-", legal(owner)))?;
    let unhashed = rest.len().checked_sub(HASH_SUFFIX).and_then(|end| rest.get(..end));
    let candidates = [Some(rest), unhashed];
    candidates
        .into_iter()
        .flatten()
        .filter_map(|session| UnitName::parse(session).ok())
        .find(|session| full_name(owner, session) == *name)
}

/// The name that a caller would use: the short one where there is one.
pub fn shown_name(name: &UnitName, owner: &Owner) -> UnitName {
    match session_of(name, owner) {
        // A short name that would be read as something else is of no use.
        Some(session) if Address::parse(session.as_str(), owner) == Ok(Address::Short(session.clone())) => session,
        _ => name.clone(),
    }
}

/// The unit's own workspace, for who names none.
pub fn own_workspace(uid: &UnitId, mode: Mode) -> Vec<WorkspaceAt> {
    vec![WorkspaceAt { id: uid.own_workspace(), mode }]
}

fn is_full(name: &UnitName, owner: &Owner) -> bool {
    if name.as_str().starts_with("agent-meet-") {
        return true;
    }
    let prefix = format!("agent-{}-", legal(owner));
    let triggers = ["chat-", "scheduled-", "event-", "transcription-"];
    name.as_str().strip_prefix(&prefix).is_some_and(|rest| triggers.iter().any(|t| rest.starts_with(t)))
}

/// The owner as it stands in full names.
fn legal(owner: &Owner) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    owner.as_str().chars().map(|c| if legal(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(sub: &str) -> Owner {
        Owner::parse(sub).unwrap()
    }

    fn name(text: &str) -> UnitName {
        UnitName::parse(text).unwrap()
    }

    #[test]
    fn short_full_and_uid_address_the_same_unit() {
        for sub in ["ann", "auth0|12", "a|b/../c@d"] {
            let owner = owner(sub);
            let full = full_name(&owner, &name("demo"));
            let short = Address::parse("demo", &owner).unwrap();
            let long = Address::parse(full.as_str(), &owner).unwrap();
            let uid = Address::parse(UnitId::of(&owner, &full).as_str(), &owner).unwrap();
            assert_eq!(long, Address::Full(full.clone()), "{sub}");
            assert!(matches!(uid, Address::Uid(_)));
            assert_eq!(short.uid(&owner), long.uid(&owner));
            assert_eq!(short.uid(&owner), uid.uid(&owner));
            assert_eq!(session_of(&full, &owner), Some(name("demo")));
            assert_eq!(shown_name(&full, &owner), name("demo"));
        }
        assert_eq!(full_name(&owner("ann"), &name("demo")).as_str(), "agent-ann-chat-demo");
    }

    #[test]
    fn two_owners_with_the_same_names_have_two_units() {
        let (a, b) = (owner("auth0|1"), owner("auth0/1"));
        let address = |o: &Owner| Address::parse("demo", o).unwrap().uid(o);
        assert_ne!(address(&a), address(&b));
        // One owner's full name is but a strange short name of another.
        let other = Address::parse("agent-ann-chat-demo", &owner("bob")).unwrap();
        assert_eq!(other, Address::Short(name("agent-ann-chat-demo")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "../x", "a\0", "a/b", &"x".repeat(300)] {
            assert!(Address::parse(bad, &owner("ann")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_unit_without_a_short_name_is_shown_by_its_full_one() {
        let ann = owner("ann");
        for full in ["agent-meet-s1", "agent-ann-event-d0bc3d350f"] {
            assert_eq!(shown_name(&name(full), &ann), name(full));
        }
    }
}
