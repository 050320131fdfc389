//! What models were used for, as callers see it.

use axum::body::Body;
use contract::{Owner, UnitId, UnitName};
use ledger::{Tokens, UsePart, Used};
use serde_json::{Value, json};

use crate::world::{Answer, World, token, world};

async fn use_up(world: &World, owner: &str, unit: &str, model: &str, output: u64) {
    let owner = Owner::parse(owner).unwrap();
    let uid = UnitId::of(&owner, &UnitName::parse(unit).unwrap());
    let tokens = Tokens { input: 1, output, ..Tokens::default() };
    let used = Used { requests: 1, tokens, cost_nano: 1_500_000_000, ..Used::default() };
    let request = format!("{owner} {unit} {model} {output}");
    let part = UsePart { request: &request, part: 1, turn: None, model, used };
    world.ledger.add_use(&owner, &uid, 90, part).await.unwrap();
}

async fn as_admin(world: &World, path: &str) -> Answer {
    let admin = format!("Bearer {}", token("op", 60, "units:read units:admin"));
    world.call(http::Request::get(path).header("authorization", admin).body(Body::empty()).unwrap()).await
}

fn rows(report: &Value, fields: [&str; 3]) -> Vec<Value> {
    let row = |row: &Value| fields.iter().map(|field| row[*field].clone()).collect::<Value>();
    report["rows"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn usage_is_ones_own_and_grouped_as_asked() {
    let world = world().await;
    use_up(&world, "ann", "one", "m-1", 10).await;
    use_up(&world, "ann", "one", "m-2", 20).await;
    use_up(&world, "ann", "two", "m-1", 30).await;
    use_up(&world, "bob", "one", "m-1", 40).await;

    let report = world.get("/v1/usage", "ann").await.json();
    let today = &report["to"];
    assert_eq!(report["group_by"], json!(["day", "model"]));
    let by_model = [json!(["m-1", 40, 3.0]), json!(["m-2", 20, 1.5])];
    assert_eq!(rows(&report, ["model", "output_tokens", "cost"]), by_model);
    assert_eq!(report["rows"][0]["day"], *today);
    assert_eq!((&report["rows"][0]["requests"], &report["rows"][0]["input_tokens"]), (&json!(2), &json!(2)));

    let report = world.get("/v1/usage?group_by=unit", "ann").await.json();
    let mut outputs: Vec<_> = report["rows"].as_array().unwrap().iter().map(|r| r["output_tokens"].clone()).collect();
    outputs.sort_by_key(Value::as_u64);
    assert_eq!(outputs, [30, 30]);
    assert_eq!(world.get("/v1/usage", "eve").await.json()["rows"], json!([]));
    let past = world.get("/v1/usage?from=2026-01-01&to=2026-01-31", "ann").await.json();
    assert_eq!((&past["rows"], &past["from"], &past["to"]), (&json!([]), &json!("2026-01-01"), &json!("2026-01-31")));
}

#[tokio::test]
async fn who_administers_sees_all_owners() {
    let world = world().await;
    use_up(&world, "ann", "one", "m-1", 10).await;
    use_up(&world, "bob", "one", "m-1", 40).await;
    let report = as_admin(&world, "/v1/usage?group_by=owner,model").await.json();
    let both = [json!(["ann", "m-1", 10]), json!(["bob", "m-1", 40])];
    assert_eq!(rows(&report, ["owner", "model", "output_tokens"]), both);
    // Without owners among the groups, what is asked for is the caller's own.
    assert_eq!(as_admin(&world, "/v1/usage").await.json()["rows"], json!([]));
    world.get("/v1/usage?group_by=owner", "ann").await.problem(403, "forbidden");
}

#[tokio::test]
async fn pages_follow_each_other() {
    let world = world().await;
    for model in ["c", "a", "b", "e", "d"] {
        use_up(&world, "ann", "one", model, 1).await;
        use_up(&world, "ann", "two", model, 1).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/usage?group_by=model&limit=2".to_owned());
    for _ in 0..3 {
        let page = world.get(&path, "ann").await.json();
        seen.extend(rows(&page, ["model", "requests", "output_tokens"]));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/usage?group_by=model&limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"].map(|model| json!([model, 2, 2])));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let world = world().await;
    for query in [
        "group_by=week",
        "group_by=",
        "from=yesterday",
        "from=2026-02-01&to=2026-01-01",
        "from=2020-01-01&to=2026-01-01",
        "from=1900-01-01&to=1900-01-02",
        "cursor=x!",
        "limit=0",
        "owner=bob",
    ] {
        world.get(&format!("/v1/usage?{query}"), "ann").await.problem(400, "invalid-parameter");
    }
}
