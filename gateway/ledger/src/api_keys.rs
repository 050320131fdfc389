//! API keys: for callers that can store one string. The ledger has a key's hash and what it allows, never the key.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use contract::Owner;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;

/// An API key's public name: `k` and 20 base32 characters of its hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiKeyId(String);

impl ApiKeyId {
    /// Of a key's hash.
    pub fn of(hash: &[u8; 32]) -> Self {
        let mut text = data_encoding::BASE32_NOPAD.encode(hash).to_ascii_lowercase();
        text.truncate(20);
        Self(format!("k{text}"))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiKeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let legal = |c: char| matches!(c, 'a'..='z' | '2'..='7');
        match text.strip_prefix('k') {
            Some(rest) if rest.len() == 20 && rest.chars().all(legal) => Ok(Self(text.into())),
            _ => Err("the id of an API key is `k` and 20 characters of a-z and 2-7"),
        }
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key to keep.
#[derive(Debug, Clone)]
pub struct NewApiKey<'a> {
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// Whose calls are made with it.
    pub owner: &'a Owner,
    /// For people.
    pub name: &'a str,
    /// Words with spaces between.
    pub scopes: &'a str,
    /// How long it is good for; none: until it is revoked.
    pub ttl: Option<Duration>,
    /// Keys that the owner may have.
    pub most: u32,
}

/// What became of a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMade {
    /// It is good from now on.
    Made {
        /// Its name.
        id: ApiKeyId,
        /// Since when, ms.
        created_ms: u64,
        /// Until when, ms.
        expires_ms: Option<u64>,
    },
    /// The owner has as many as it may have. Nothing was changed.
    Full,
}

/// A key, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// Words with spaces between.
    pub scopes: String,
    /// Since when, ms.
    pub created_ms: u64,
    /// Until when, ms.
    pub expires_ms: Option<u64>,
    /// When it was used last, ms, to a minute.
    pub used_ms: Option<u64>,
}

/// What a key is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// Whose calls are made with it.
    pub owner: Owner,
    /// Words with spaces between.
    pub scopes: String,
}

impl Ledger {
    /// Keeps a new key. Asked again with the same hash, it is the same key.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn make_key(&self, new: &NewApiKey<'_>) -> Result<KeyMade> {
        let id = ApiKeyId::of(&new.hash);
        let hash = data_encoding::HEXLOWER.encode(&new.hash);
        // Less than a second is one: none at all would be for ever.
        let ttl = new.ttl.map_or(0, |ttl| ttl.as_secs().max(1));
        let (owner_key, ttl, most) = (new.owner.key(), number(ttl), number(new.most));
        let args = [id.as_str(), &owner_key, new.owner.as_str(), &hash, new.name, new.scopes, &ttl, &most];
        let args = args.map(str::as_bytes);
        let reply = self.run_replicated(&script::MAKE_KEY, &args).await?;
        let (word, fields) = Fields::reply("make_key", reply)?;
        Ok(match word.as_str() {
            "made" => {
                KeyMade::Made { id, created_ms: fields.parsed("created_ms")?, expires_ms: fields.maybe("expires_ms")? }
            }
            "full" => KeyMade::Full,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// What the key with this hash is good for, if anything; notes that it was used.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn use_key(&self, hash: &[u8; 32]) -> Result<Option<KeyUse>> {
        let id = ApiKeyId::of(hash);
        let reply = self.run(&script::USE_KEY, &[id.as_str().as_bytes()]).await?;
        let (word, fields) = Fields::reply("use_key", reply)?;
        if word != "known" {
            return Ok(None);
        }
        let kept = data_encoding::HEXLOWER.decode(fields.need("hash")?.as_bytes());
        let kept = kept.map_err(|e| fields.wrong("hash", e))?;
        if !same(&kept, hash) {
            return Ok(None);
        }
        Ok(Some(KeyUse { owner: fields.parsed("owner")?, scopes: fields.get("scopes").unwrap_or_default().to_owned() }))
    }

    /// Ends a key of this owner's; `false` when it has none of this name.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn revoke_key(&self, owner: &Owner, id: &ApiKeyId) -> Result<bool> {
        let owner_key = owner.key();
        let args = [owner_key.as_str(), id.as_str()].map(str::as_bytes);
        let reply = self.run_replicated(&script::REVOKE_KEY, &args).await?;
        Ok(Fields::reply("revoke_key", reply)?.0 == "revoked")
    }

    /// The owner's keys, the oldest first.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn api_keys(&self, owner: &Owner) -> Result<Vec<ApiKey>> {
        let reply = self.run(&script::LIST_KEYS, &[owner.key().as_bytes()]).await?;
        let parse = |f: &Fields| {
            Ok(ApiKey {
                id: f.parsed("id")?,
                name: f.need("name")?.to_owned(),
                scopes: f.get("scopes").unwrap_or_default().to_owned(),
                created_ms: f.parsed("created_ms")?,
                expires_ms: f.maybe("expires_ms")?,
                used_ms: f.maybe("used_ms")?,
            })
        };
        Fields::list("list_keys", reply)?.iter().map(parse).collect()
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}
