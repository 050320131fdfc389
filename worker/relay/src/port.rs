//! Where the gateway's worker port is.

use std::fmt;
use std::path::PathBuf;

/// Address of the gateway's worker port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerPort {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// Those of several gateways, each one of the above: the one that answered last, then the others in order.
    Several(Vec<WorkerPort>),
}

/// A text is no [`WorkerPort`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no worker port: it must be unix:///path or tcp://host:port, or several with spaces between")]
pub struct WorkerPortError(String);

impl WorkerPort {
    /// Parses `unix:///path` or `tcp://host:port`, or several of them with spaces between.
    ///
    /// # Errors
    /// [`WorkerPortError`] with the text when it is neither.
    pub fn parse(text: &str) -> Result<Self, WorkerPortError> {
        let refuse = || WorkerPortError(text.to_owned());
        let several: Vec<_> = text.split(' ').filter(|t| !t.is_empty()).collect();
        // A path may hold spaces; what follows one is a port only where it looks like one.
        if several.len() > 1 && several.iter().all(|t| t.starts_with("unix://") || t.starts_with("tcp://")) {
            return Ok(Self::Several(several.into_iter().map(Self::parse).collect::<Result<_, _>>()?));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') && !path.contains('\0') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(refuse())
            };
        }
        let address = text.strip_prefix("tcp://").ok_or_else(refuse)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
        if host.is_empty() || host.contains(['/', '@']) || port.parse::<u16>().is_err() {
            return Err(refuse());
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

impl fmt::Display for WorkerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Several(ports) => {
                for (index, port) in ports.iter().enumerate() {
                    write!(f, "{}{port}", if index == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}
