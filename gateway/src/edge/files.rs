//! Descriptors: each connection takes one, and those of Redis, the runtime and the workers must not be what is left over.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that is no caller's connection.
const OTHERS: u64 = 512;

/// How many connections there may be, of so many that are wanted. Raises the process' soft limit where that is too low.
pub fn enough_for(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + OTHERS;
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let raised = needed.min(hard);
    let files = match soft < raised {
        true => setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum })
            .map_or(soft, |()| raised),
        false => soft,
    };
    let room = connections(files, wanted);
    if room < wanted {
        tracing::warn!(files, connections = room, wanted, "fewer connections than edge.connections: too few files");
    }
    room
}

/// Half of what there is where it is very little.
fn connections(files: u64, wanted: usize) -> usize {
    let room = files.saturating_sub(OTHERS).max(files / 2).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_keep_theirs() {
        assert_eq!(connections(65_536, 8_192), 8_192);
        assert_eq!(connections(4_096, 8_192), 3_584);
        assert_eq!(connections(256, 8_192), 128);
    }
}
