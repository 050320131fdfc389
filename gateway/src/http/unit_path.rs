//! `{unit}` and `{turn}` of a route, and whether the caller may know of them.

use axum::extract::{FromRequestParts, Path};
use contract::{ErrorCode, TurnId, UnitId};
use http::request::Parts;
use ledger::{TurnRecord, UnitRecord};

use super::problem::Failure;
use crate::address::Address;
use crate::app::App;
use crate::auth::Caller;

/// A `{unit}` that the caller named.
#[derive(Debug)]
pub struct UnitPath {
    /// Who asks.
    pub caller: Caller,
    /// What it named.
    pub address: Address,
}

impl FromRequestParts<App> for UnitPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let text = segment(parts, app).await?;
        let address = Address::parse(&text, &caller.owner)
            .map_err(|e| Failure::new(ErrorCode::InvalidParameter, format!("the unit in the path: {e}")))?;
        Ok(Self { caller, address })
    }
}

impl UnitPath {
    /// The unit's key.
    pub fn uid(&self) -> UnitId {
        self.address.uid(&self.caller.owner)
    }

    /// The unit's record.
    ///
    /// # Errors
    /// 404 when there is none or it is somebody else's.
    pub async fn record(&self, app: &App) -> Result<UnitRecord, Failure> {
        let (ledger, uid) = (app.ledger()?, self.uid());
        // A uid may be anybody's, and whoever knows an owner and a name can compute it.
        if matches!(self.address, Address::Uid(_)) {
            let owner = ledger.unit_owner(&uid).await?;
            owner.filter(|owner| self.caller.may_see(owner)).ok_or_else(|| Failure::not_found("unit"))?;
        }
        let record = ledger.unit(&uid).await?;
        record.filter(|unit| self.caller.may_see(&unit.owner)).ok_or_else(|| Failure::not_found("unit"))
    }
}

/// A `{turn}` that the caller named.
#[derive(Debug)]
pub struct TurnPath {
    /// Who asks.
    pub caller: Caller,
    /// What it named.
    pub turn: TurnId,
}

impl FromRequestParts<App> for TurnPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let text = segment(parts, app).await?;
        let turn = TurnId::parse(text)
            .map_err(|e| Failure::new(ErrorCode::InvalidParameter, format!("the turn in the path: {e}")))?;
        Ok(Self { caller, turn })
    }
}

impl TurnPath {
    /// The turn's record, with the beginnings of its texts.
    ///
    /// # Errors
    /// 404 when there is none or it is somebody else's.
    pub async fn record(&self, app: &App) -> Result<TurnRecord, Failure> {
        let record = app.ledger()?.turn_head(&self.turn).await?;
        record.filter(|turn| self.caller.may_see(&turn.owner)).ok_or_else(|| Failure::not_found("turn"))
    }
}

/// The route's one parameter, decoded.
async fn segment(parts: &mut Parts, app: &App) -> Result<String, Failure> {
    match Path::<String>::from_request_parts(parts, app).await {
        Ok(Path(text)) => Ok(text),
        Err(rejection) => Err(Failure::new(ErrorCode::InvalidParameter, rejection.body_text())),
    }
}
