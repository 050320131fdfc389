//! `$REKINDLE_HOME`: its folders, its lock, its secrets.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use settings::Home;

use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::secrets::{keep, random_hex};

/// `sun_path` of unix(7) has 108 bytes, the last of them zero.
const LONGEST_SOCKET: usize = 107;

/// The public half of the key that signs dispatch tokens, for the runtime.
const DISPATCH_PUBLIC: &str = "dispatch_ed25519.pub.pem";

/// Makes the folders, private to their owner.
///
/// # Errors
/// When one cannot be made, or the path is too long for sockets.
pub fn make(home: &Home) -> Result<(), Failure> {
    let socket = home.run().join("runtime.sock");
    if socket.as_os_str().len() > LONGEST_SOCKET {
        return Err(Failure::Refused(format!(
            "{} is too long for a socket; choose a shorter folder with --home",
            socket.display()
        )));
    }
    settings::make_private(home.path(), &["run", "rekindle.toml"])
        .map_err(|e| Failure::Refused(format!("cannot use {} as a home: {e}", home.path().display())))?;
    for folder in [home.run(), home.secrets(), home.redis(), home.logs(), home.store()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))
            .with_context(|| format!("make {} private", folder.display()))?;
    }
    Ok(())
}

/// Held by the one supervisor of a home.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock is released when the file is closed")] File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Failure::Refused`] when another supervisor has it.
    pub fn take(home: &Home) -> Result<Self, Failure> {
        let path = home.run().join("up.lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = match pid.trim() {
                "" => String::new(),
                pid => format!(" (process {pid})"),
            };
            return Err(Failure::Refused(format!(
                "another `rekindle up`{pid} runs on {}; stop it, or give this one another folder with --home",
                home.path().display()
            )));
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }

    /// Whether some supervisor has it.
    pub fn is_held(home: &Home) -> bool {
        File::open(home.run().join("up.lock"))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }
}

/// Makes the secrets that are not there yet.
///
/// # Errors
/// When one cannot be written.
pub fn make_secrets(home: &Home) -> anyhow::Result<()> {
    let secrets = home.secrets();
    keep(&secrets.join("jwt_hs256"), || Ok(random_hex()))?;
    keep(&secrets.join("runtime_token"), || Ok(random_hex()))?;
    let private = secrets.join("dispatch_ed25519.pem");
    keep(&private, crate::secrets::ed25519_pem)?;
    // From the key that is there, which may be older than this file.
    let private = std::fs::read_to_string(&private).with_context(|| format!("read {}", private.display()))?;
    crate::secrets::write(&secrets.join(DISPATCH_PUBLIC), &crate::secrets::ed25519_public_pem(&private)?)
}

/// Sockets and files below the home folder, where the user chose no others.
pub fn choose_paths(deployment: &mut Deployment) {
    let home = deployment.home.clone();
    let (run, secrets) = (home.run(), home.secrets());
    let socket = |scheme: &str, name: &str| format!("{scheme}://{}", run.join(name).display());
    let text = |path: &Path| path.to_string_lossy().into_owned();
    deployment.choose("redis.url", socket("redis+unix", "redis.sock"));
    deployment.choose("runtime.url", socket("unix", "runtime.sock"));
    deployment.choose("gateway.worker_port", socket("unix", "worker.sock"));
    deployment.choose("runtime.token_file", text(&secrets.join("runtime_token")));
    if !deployment.is_given("gateway.dispatch_key_file") {
        // The runtime proves what our own key has signed, and mounts nothing else.
        deployment.choose("runtime.dispatch_public_key_files", vec![text(&secrets.join(DISPATCH_PUBLIC))]);
    }
    deployment.choose("gateway.dispatch_key_file", text(&secrets.join("dispatch_ed25519.pem")));
    deployment.choose("auth.jwt_secret_file", text(&secrets.join("jwt_hs256")));
    deployment.choose("runtime.store", text(&home.store()));
}

/// A name for this deployment's workloads, so that two homes on one machine do not take each other's for their own.
///
/// # Errors
/// When it cannot be read or written.
pub fn deployment_name(home: &Home) -> anyhow::Result<String> {
    let path = home.path().join("deployment");
    keep(&path, || Ok(random_hex()[..12].to_owned()))?;
    read_line(&path)
}

fn read_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_private_and_secrets_stay() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::at(root.path().join("deep/home"));
        make(&home).unwrap();
        make_secrets(&home).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.secrets().join("runtime_token")), 0o600);
        let name = deployment_name(&home).unwrap();
        assert_eq!((name.len(), deployment_name(&home).unwrap()), (12, name));
    }

    #[test]
    fn a_second_supervisor_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::at(root.path());
        make(&home).unwrap();
        assert!(!Lock::is_held(&home));
        let lock = Lock::take(&home).unwrap();
        assert!(Lock::is_held(&home));
        let refusal = Lock::take(&home).unwrap_err();
        assert_eq!(refusal.status(), 2);
        assert!(refusal.to_string().contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(lock);
        Lock::take(&home).unwrap();
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::at(root.path().join("x".repeat(100)));
        assert!(make(&home).unwrap_err().to_string().contains("--home"));
    }

    #[test]
    fn everything_lies_below_the_home_unless_the_user_chose() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("rekindle.toml");
        std::fs::write(&file, "[runtime]\nstore = \"/srv/store\"\n").unwrap();
        let mut d = Deployment::find(Home::at(home.path()), Some(&file)).unwrap();
        choose_paths(&mut d);
        d.settle().unwrap();
        let s = &d.settings;
        assert_eq!(s.runtime.store, Path::new("/srv/store"));
        assert_eq!(s.auth.jwt_secret_file, home.path().join("secrets/jwt_hs256"));
        assert_eq!(s.runtime.dispatch_public_key_files, [home.path().join("secrets/dispatch_ed25519.pub.pem")]);
        assert_eq!(s.redis.url, format!("redis+unix://{}/run/redis.sock", home.path().display()));
    }
}
