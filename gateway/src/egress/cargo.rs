//! Cargo's registries. Cargo has no command that tells them, so its own files are read: the configuration, and what each
//! registry it has used says of itself (the index' `config.json`, which names where the crates are).

use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};

/// Bytes of one of cargo's files.
const FILE_BYTES: u64 = 1 << 20;
/// Indexes that are looked at.
const MOST_INDEXES: usize = 64;

/// URLs of the registries that cargo with this home knows.
pub(super) fn registries(home: &Path) -> Vec<String> {
    let mut urls = Vec::new();
    for name in ["config.toml", "config"] {
        if let Some(config) = read(&home.join(name)).and_then(|text| text.parse::<Table>().ok()) {
            urls.extend(configured(&config));
            break;
        }
    }
    let Ok(indexes) = std::fs::read_dir(home.join("registry/index")) else {
        return urls;
    };
    for index in indexes.flatten().take(MOST_INDEXES) {
        let Some(config) = read(&index.path().join("config.json")) else { continue };
        let config: Json = serde_json::from_str(&config).unwrap_or_default();
        urls.extend(["dl", "api"].iter().filter_map(|field| Some(config.get(field)?.as_str()?.to_owned())));
        // `<host>-<hash of the URL>`
        let name = index.file_name();
        if let Some((host, _)) = name.to_str().and_then(|name| name.rsplit_once('-')) {
            urls.push(host.to_owned());
        }
    }
    urls
}

fn configured(config: &Table) -> Vec<String> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let each = |section: &str, field: &'static str| {
        let tables = config.get(section).and_then(Value::as_table).into_iter().flatten();
        tables.filter_map(|(_, table)| text(table, field)).collect::<Vec<_>>()
    };
    [each("source", "registry"), each("registries", "index")].concat()
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_registries_and_used_ones_are_found() {
        let home = tempfile::tempdir().unwrap();
        assert!(registries(home.path()).is_empty());
        let config = "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"sparse+https://mirror.example/\"\n\
             [registries.own]\nindex = \"sparse+http://own.example:8080/i/\"\n[http]\nproxy = \"http://proxy.example\"\n";
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        let index = home.path().join("registry/index/index.used.example-1949cf8c6b5b557f");
        std::fs::create_dir_all(&index).unwrap();
        let json = r#"{"dl":"https://static.used.example/crates/{crate}","api":"https://used.example"}"#;
        std::fs::write(index.join("config.json"), json).unwrap();
        std::fs::create_dir_all(home.path().join("registry/index/git.example-29f9")).unwrap();
        let mut rules: Vec<_> = registries(home.path())
            .iter()
            .filter_map(|url| super::super::presets::rule(url))
            .map(|rule| rule.to_string())
            .collect();
        rules.sort();
        let want = ["index.used.example", "mirror.example", "own.example:8080", "static.used.example", "used.example"];
        assert_eq!(rules, want);
    }
}
