//! `rekindle-worker-crash`: the worker of the crash tests, which ends where it is told to (`workspace::STEPS`).

#[path = "main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
