//! A look into a workspace as a child of the runtime's own: it dies with the runtime, and when nobody waits for it any more.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::bubblewrap::{Bubblewrap, as_worker};
use super::mounts::PrivateMounts;
use super::{BackendError, ProcessBackend, text};
use crate::inspect::{Inspection, Printed};

const CHUNK_BYTES: usize = 64 << 10;

impl ProcessBackend {
    /// Looks, and returns what was printed. Dropping this kills it.
    pub async fn inspect(&self, inspection: &Inspection) -> Result<Printed, BackendError> {
        let mut mounts = PrivateMounts::default();
        let workspace = mounts.add(&inspection.folder, true)?;
        let worker = mounts.add(&self.worker, true)?;
        let filter = self.bwrap.as_ref().map(Bubblewrap::filter_file).transpose()?;
        let begin = match (&self.bwrap, &filter) {
            (Some(bwrap), Some(filter)) => bwrap.command(&filter.as_raw_fd().to_string())?,
            _ => Vec::new(),
        };
        let argv = argv(begin, &workspace, &worker)?;
        let mut command = Command::from(as_worker(&argv, mounts, filter, self.ids));
        command.env("REKINDLE_INSPECT", &inspection.look).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| BackendError(format!("cannot start `{}`: {e}", argv[0])))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut printed = Printed::default();
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(BackendError("its output is not there".into()));
        };
        // Read to the ends of both: then whoever had them is gone.
        read(stdout, stderr, &mut printed).await?;
        child.wait().await?;
        Ok(printed)
    }
}

/// The command line: below bubblewrap nothing is there but the workspace and the program, which needs nothing else.
fn argv(bubblewrap: Vec<String>, workspace: &Path, worker: &Path) -> io::Result<Vec<String>> {
    let (workspace, worker) = (text(workspace)?, text(worker)?);
    if bubblewrap.is_empty() {
        return Ok(vec![worker, "inspect".into(), workspace]);
    }
    let mut argv = bubblewrap;
    argv.extend(["--ro-bind".to_owned(), workspace, "/workspace".into()]);
    argv.extend(["--ro-bind".to_owned(), worker, "/rekindle/worker".into()]);
    argv.extend(["--remount-ro", "/", "--chdir", "/"].map(str::to_owned));
    argv.extend(["/rekindle/worker", "inspect", "/workspace"].map(str::to_owned));
    Ok(argv)
}

async fn read(
    mut stdout: impl AsyncRead + Unpin,
    mut stderr: impl AsyncRead + Unpin,
    printed: &mut Printed,
) -> Result<(), BackendError> {
    let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        tokio::select! {
            n = stdout.read(&mut out), if out_open => match n? {
                0 => out_open = false,
                n => printed.push(true, &out[..n])?,
            },
            n = stderr.read(&mut err), if err_open => match n? {
                0 => err_open = false,
                n => printed.push(false, &err[..n])?,
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandboxed_look_sees_two_things() {
        let argv = argv(vec!["bwrap".into()], Path::new("/w"), Path::new("/b")).unwrap();
        let binds: Vec<_> = argv.windows(3).filter(|w| w[0].contains("bind")).map(|w| (&*w[0], &*w[2])).collect();
        assert_eq!(binds, [("--ro-bind", "/workspace"), ("--ro-bind", "/rekindle/worker")]);
        assert_eq!(super::argv(Vec::new(), Path::new("/w"), Path::new("/b")).unwrap(), ["/b", "inspect", "/w"]);
    }
}
