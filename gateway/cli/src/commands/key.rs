//! `rekindle key`: API keys, for callers that can store one string.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, Call, segment};
use crate::commands::token::ttl;
use crate::failure::Failure;
use crate::render::{json_line, printable};
use crate::table::table;
use crate::target::Target;

/// What to do with API keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it, this once; what else there is to say goes to stderr
    Create(Create),
    /// List your keys
    Ls(Ls),
    /// End a key: every gateway refuses it at once
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// What you call it
    name: String,
    /// What it allows, some of what your token does [default: units:invoke and units:read]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it is good for: 90s, 15m, 12h, 30d [default: until it is revoked]
    #[arg(long, value_parser = ttl)]
    ttl: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    /// One line of JSON for each key
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Its id, as `rekindle key ls` shows it
    id: String,
}

pub async fn run(command: Command, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    match command {
        Command::Create(args) => create(args, &api).await,
        Command::Ls(args) => ls(args, &api).await,
        Command::Revoke(args) => {
            api.json::<Value>(&Call::delete(format!("/v1/keys/{}", segment(&args.id)))).await?;
            println!("{}: revoked", printable(&args.id));
            Ok(())
        }
    }
}

async fn create(args: Create, api: &Api) -> Result<(), Failure> {
    let mut body = json!({ "name": args.name });
    if !args.scopes.is_empty() {
        body["scopes"] = args.scopes.into();
    }
    if let Some(ttl) = args.ttl {
        body["expires_in_sec"] = ttl.as_secs().into();
    }
    let made: Value = api.json(&Call::post("/v1/keys", &body)).await?;
    let text = |field: &str| made[field].as_str().unwrap_or_default();
    if text("key").is_empty() {
        return Err(Failure::Unreachable("the answer has no key: this is another version of the gateway".into()));
    }
    // The key alone on stdout, so that it can be put where it belongs without being seen.
    println!("{}", text("key"));
    eprintln!("{} is shown this once; `rekindle key revoke {}` ends it", printable(text("name")), text("id"));
    Ok(())
}

async fn ls(args: Ls, api: &Api) -> Result<(), Failure> {
    let mut list: Value = api.json(&Call::get("/v1/keys")).await?;
    let Value::Array(keys) = list["keys"].take() else {
        return Err(Failure::Unreachable("the answer has no keys: this is another version of the gateway".into()));
    };
    if args.json {
        keys.iter().for_each(|key| println!("{}", json_line(key)));
        return Ok(());
    }
    let rows: Vec<_> = keys.iter().map(row).collect();
    print!("{}", table(["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED"], &rows));
    Ok(())
}

fn row(key: &Value) -> [String; 6] {
    let text = |field: &str| key[field].as_str().unwrap_or("-").to_owned();
    let at = |field: &str| text(field).split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
    let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    [text("id"), text("name"), scopes.join(" "), at("created_at"), at("expires_at"), at("last_used_at")]
        .map(|cell| printable(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_row() {
        let key = json!({
            "id": "kabc", "name": "chat\u{1b}[2J", "scopes": ["units:read"], "created_at": "2026-11-23T20:00:00.123Z",
            "expires_at": null, "last_used_at": null,
        });
        let [id, name, scopes, created, expires, used] = row(&key);
        assert_eq!((id.as_str(), scopes.as_str(), created.as_str()), ("kabc", "units:read", "2026-11-23 20:00:00"));
        assert_eq!((expires.as_str(), used.as_str()), ("-", "-"));
        assert!(!name.contains('\u{1b}'), "{name:?}");
    }
}
