//! A follow-up of the real agent CLI to the first output of the model, beside the CLI run by itself against the same model.

use anyhow::Context as _;
use serde_json::{Value, json};
use tests::claude::{self, Claude};
use tests::model::{Model, Reply};
use tests::stack::{Backend, Options};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, timeout};

use super::{Measure, Rounds, ms};
use crate::deployment::{self, LIMIT};
use crate::figure::Figure;

const SESSION: &str = "0b7c0c6e-5f0a-4f0e-9d6b-0d8f3c1a2b34";

pub const MEASURE: Measure = Measure {
    name: "follow-up",
    what: "a second turn of the agent CLI, from the invoke to the model's first word at the caller",
    figures: &["follow-up"],
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let model = Model::start(|_| Reply::text("This is what there is to say.")).await;
    let options = Options::new(Backend::Process).model(model.base_url()).settings(&claude::profile());
    let stack = deployment::start(options).await;
    let api = stack.api("ann");
    api.invoke("agent", "hello").await.expect(200);
    let alone = Claude::new(model.base_url());
    let first = alone.turn("hello", &["--session-id", SESSION]).await;
    anyhow::ensure!(first.code == Some(0), "the CLI by itself: {}", first.stderr);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first round fills caches and is not counted.
    for round in 0..=rounds.of(15, 2) {
        let begun = Instant::now();
        let mut events = api.invoke_streaming("agent", &json!({ "prompt": "and then?" })).await;
        events.until("message-delta", LIMIT).await;
        let with = ms(begun.elapsed());
        events.until("turn-complete", LIMIT).await;

        let begun = Instant::now();
        let mut child = alone.begin("and then?", &["--resume", SESSION]).await;
        let mut lines = BufReader::new(child.stdout.take().context("the CLI's output")?).lines();
        let first_word = async {
            while let Some(line) = lines.next_line().await? {
                let line: Value = serde_json::from_str(&line)?;
                if line["event"]["delta"]["type"] == "text_delta" {
                    return Ok(());
                }
            }
            anyhow::bail!("the CLI by itself says nothing")
        };
        timeout(LIMIT, first_word).await??;
        let without = ms(begun.elapsed());
        timeout(LIMIT, async { while let Ok(Some(_)) = lines.next_line().await {} }).await?;
        child.wait().await?;

        if round > 0 {
            ours.push(with);
            theirs.push(without);
        }
    }
    Ok(vec![Figure::beside("follow-up", ours, theirs)])
}
