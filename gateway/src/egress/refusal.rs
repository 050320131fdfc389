//! What a sandbox, and whoever reads its events, is told when nothing is opened for it.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use settings::{EgressRule, EgressTarget};

use super::Body;
use super::dial::DialError;
use super::meter::Full as MeterFull;

/// A request that was not passed on.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    /// What would allow it, where a setting would.
    pub(super) denied: Option<Denied>,
}

/// What `egress-denied` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) host: String,
    pub(super) setting: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), denied: None }
    }

    fn denied(target: &EgressTarget, why: &str, setting: String) -> Self {
        let host = target.to_string();
        let message = format!(
            "{host} may not be reached from this sandbox: {why}. In rekindle.toml this would allow it: {setting}"
        );
        Self { status: StatusCode::FORBIDDEN, message, denied: Some(Denied { host, setting }) }
    }

    /// The profile does not name it.
    pub(super) fn not_named(target: &EgressTarget, profile: &str, rules: &[EgressRule]) -> Self {
        let rules = rules.iter().map(ToString::to_string).chain([target.to_string()]);
        let list: Vec<_> = rules.map(|rule| format!("\"{rule}\"")).collect();
        let setting = format!("profiles.{}.egress = [{}]", key(profile), list.join(", "));
        Self::denied(target, "the profile does not name it", setting)
    }

    /// The profile has a preset that stands for nothing.
    pub(super) fn empty_preset(target: &EgressTarget, preset: &str, why: &str) -> Self {
        let setting = format!("egress_presets.{} = [\"{target}\"]", key(preset));
        Self::denied(target, &format!("preset:{preset} gives no host ({why})"), setting)
    }

    pub(super) fn dial(target: &EgressTarget, error: &DialError) -> Self {
        let status = match error {
            DialError::NotPublic { address, why } => {
                let setting = format!("gateway.egress_allow_private = [\"{address}\"]");
                return Self::denied(target, &format!("its address is not public but {why}"), setting);
            }
            DialError::Late => StatusCode::GATEWAY_TIMEOUT,
            DialError::Unknown(_) | DialError::Unreachable(_) => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, format!("{target} cannot be reached: {error}"))
    }

    pub(super) fn full(full: MeterFull) -> Self {
        match full {
            MeterFull::Connections => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this unit has as many connections open as it may (egress.connections_per_unit)",
            ),
            MeterFull::Bytes => {
                Self::new(StatusCode::FORBIDDEN, "this turn has moved as many bytes as it may (egress.turn_mb)")
            }
        }
    }

    /// For the log.
    pub(super) fn why(&self) -> &str {
        &self.message
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = Full::new(format!("rekindle: {}\n", self.message).into());
        let mut response = Response::new(body.map_err(|never| match never {}).boxed());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A key as TOML writes it, quoted where it has to be.
fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.into() } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_the_line_that_allows_it() {
        let target = EgressTarget::parse("new.example:8443", None).unwrap();
        let rules = ["a.example".parse().unwrap(), "preset:npm".parse().unwrap()];
        let refusal = Refusal::not_named(&target, "my.profile", &rules);
        let line = refusal.denied.unwrap().setting;
        assert_eq!(line, r#"profiles."my.profile".egress = ["a.example", "preset:npm", "new.example:8443"]"#);
        let settings = settings::Settings::from_text(std::path::Path::new("/x/y"), &line, std::iter::empty()).unwrap();
        assert!(settings.profiles["my.profile"].egress[2].allows(&target));

        let line = Refusal::empty_preset(&target, "npm", "x").denied.unwrap().setting;
        let settings = settings::Settings::from_text(std::path::Path::new("/x/y"), &line, std::iter::empty()).unwrap();
        assert!(settings.egress_presets["npm"][0].allows(&target));

        let address = "127.0.0.1:8443".parse().unwrap();
        let why = crate::public_address::judge("127.0.0.1".parse().unwrap()).unwrap_err();
        let line = Refusal::dial(&target, &DialError::NotPublic { address, why }).denied.unwrap().setting;
        let settings = settings::Settings::from_text(std::path::Path::new("/x/y"), &line, std::iter::empty()).unwrap();
        assert_eq!(settings.gateway.egress_allow_private, [address]);
    }
}
