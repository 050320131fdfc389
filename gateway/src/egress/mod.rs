//! The way out: a proxy for the few hosts that a profile names.
//!
//! A sandbox has no route. What it may reach beside the model it reaches through its `gateway.sock`, by HTTP `CONNECT`, or by
//! `GET` and `HEAD` of an `http://` address: the gateway resolves the name, judges the address and connects to exactly that.
//! What goes through a tunnel is not looked at, the name in a TLS handshake neither: a host that serves strangers' content under
//! its own name, or under others' behind one address, is as open as it is to everybody.

mod cargo;
mod dial;
mod errand;
mod meter;
mod outlet;
mod plain;
mod presets;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::DispatchClaims;
use http_body_util::combinators::BoxBody;
use ledger::Ledger;
use settings::{EgressRule, EgressTarget, Settings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::public_address::Guard;
use dial::{Dialer, Names};
use errand::Errands;
use meter::Meters;
use outlet::Outlet;
use presets::Presets;
use refusal::Refusal;

type Body = BoxBody<Bytes, hyper::Error>;

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A profile names a preset of which nothing is known.
    #[error(
        "profiles.{profile}.egress names preset:{preset}, which is no package manager that can be asked (npm, pip, cargo, go, \
         apt); set egress_presets.{preset} to its hosts"
    )]
    UnknownPreset {
        /// Which profile.
        profile: String,
        /// Which preset.
        preset: String,
    },
    /// A preset names another.
    #[error("egress_presets.{0} names a preset; it has to name hosts")]
    NestedPreset(String),
}

/// The proxy, for all generations of this gateway.
#[derive(Debug)]
pub struct Egress {
    profiles: BTreeMap<String, Vec<EgressRule>>,
    presets: Presets,
    dialer: Dialer,
    meters: Arc<Meters>,
    idle: Duration,
}

impl Egress {
    /// From the settings. Presets are not looked up yet.
    ///
    /// # Errors
    /// [`EgressError`]
    pub fn new(settings: &Settings) -> Result<Self, EgressError> {
        let is_preset = |rule: &EgressRule| matches!(rule, EgressRule::Preset(_));
        if let Some((name, _)) = settings.egress_presets.iter().find(|(_, rules)| rules.iter().any(is_preset)) {
            return Err(EgressError::NestedPreset(name.clone()));
        }
        let profiles: BTreeMap<_, _> =
            settings.profiles.iter().map(|(name, profile)| (name.clone(), profile.egress.clone())).collect();
        let names: Vec<_> = profiles.values().flatten().filter_map(preset).map(str::to_owned).collect();
        let presets = Presets::new(names, &settings.egress_presets).map_err(|unknown| {
            let named = profiles.iter().find(|(_, rules)| rules.iter().any(|rule| preset(rule) == Some(&unknown)));
            let profile = named.map(|(name, _)| name.clone()).unwrap_or_default();
            EgressError::UnknownPreset { profile, preset: unknown }
        })?;
        let bounds = &settings.egress;
        let guard = Guard::new(&settings.gateway.egress_allow_private);
        Ok(Self {
            profiles,
            presets,
            dialer: Dialer { names: Names::System, guard, time: Duration::from_secs(bounds.connect_sec) },
            meters: Arc::new(Meters::new(bounds)),
            idle: Duration::from_secs(bounds.idle_sec.max(1)),
        })
    }

    /// Serves one worker's connection on which it takes the gateway for a proxy, to its end. It ends when the turn that it was
    /// opened for has; after `stop` no new request is taken.
    pub async fn serve<S>(&self, ledger: &Ledger, claims: &DispatchClaims, io: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let errands = Errands { ledger: ledger.clone(), uid: claims.unit.clone(), generation: claims.generation };
        Outlet::new(self, errands).serve(io, stop).await;
    }

    /// Whether a profile allows this.
    async fn check(&self, profile: &str, target: &EgressTarget) -> Result<(), Refusal> {
        let rules = self.profiles.get(profile).map(Vec::as_slice).unwrap_or_default();
        if rules.iter().any(|rule| rule.allows(target)) {
            return Ok(());
        }
        let mut empty = None;
        for name in rules.iter().filter_map(preset) {
            match self.presets.rules(name).await {
                Ok(known) if known.iter().any(|rule| rule.allows(target)) => return Ok(()),
                Ok(_) => {}
                Err(why) => empty = empty.or(Some(Refusal::empty_preset(target, name, &why))),
            }
        }
        Err(empty.unwrap_or_else(|| Refusal::not_named(target, profile, rules)))
    }
}

fn preset(rule: &EgressRule) -> Option<&str> {
    match rule {
        EgressRule::Preset(name) => Some(name),
        EgressRule::Host(_) | EgressRule::Below(..) => None,
    }
}
