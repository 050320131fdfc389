//! A hostile agent in a real sandbox tries everything that it must not be able to do, and a hostile caller likewise.
//!
//! Every attempt is a small program. It is run first against a deployment without any of the defences, where it succeeds: so
//! it is known to be able to. Then the same program is run by the `exec` runner on each backend, and fails.

mod cases;
mod closed;
mod naive;
mod open;
mod place;
mod program;
mod repository;

use std::fmt::Write as _;
use std::io::Write as _;

use tests::stack::Backend;
use tokio::time::Instant;

use cases::CASES;
use program::{Outcomes, title};

/// Cases that are tried and shown, and may succeed, with the reason in SECURITY.md: Docker's own seccomp profile forbids
/// `io_uring` from engine 25 on, and no engine limits inotify for each container of one uid.
const NOT_OURS: &[(&str, Backend)] = &[("io-uring", Backend::Docker), ("take-the-inotify-instances", Backend::Docker)];

#[tokio::test]
async fn every_attempt_succeeds_without_the_defences_and_fails_with_them() {
    let begun = Instant::now();
    let open = open::tried().await;
    let opened = begun.elapsed();
    let (process, docker) = tokio::join!(closed::tried(Backend::Process), closed::tried(Backend::Docker));
    let (table, wrong) = judge(&open, [(Backend::Process, &process), (Backend::Docker, &docker)]);
    say(&format!(
        "{table}{} cases; without the defences {:.1} s, on both backends {:.1} s",
        CASES.len(),
        opened.as_secs_f32(),
        (begun.elapsed() - opened).as_secs_f32(),
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table, and what is wrong in it.
fn judge(open: &Outcomes, closed: [(Backend, &Outcomes); 2]) -> (String, Vec<String>) {
    let mut table = format!("{:<56} {:<8} {:<8} {:<8}\n", "case", "open", "process", "docker");
    let mut wrong = Vec::new();
    for case in CASES {
        let title = title(case.batch, case.name);
        // The same program, so the open deployment's outcome stands for the foreign worker as well.
        let succeeded = open.get(case.name);
        let _ = write!(table, "{title:<56} {:<8}", succeeded.map_or("absent", |o| word(o.reached)));
        if !succeeded.is_some_and(|o| o.reached) {
            wrong.push(format!("{title} does not even succeed without the defences: {succeeded:?}"));
        }
        for (backend, outcomes) in closed {
            let outcome = outcomes.get(&title);
            let _ = write!(table, " {:<8}", outcome.map_or("absent", |o| word(o.reached)));
            let ours = !NOT_OURS.contains(&(case.name, backend));
            match outcome {
                None => wrong.push(format!("{title} was not tried on {}", backend.name())),
                Some(o) if o.reached && ours => {
                    wrong.push(format!("{title} succeeds on {}: {}", backend.name(), o.said));
                }
                Some(_) => {}
            }
        }
        table.push('\n');
    }
    (table, wrong)
}

fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "held" }
}

/// Also when the test passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
