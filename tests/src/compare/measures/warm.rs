//! A turn of a warm unit beside one round trip through a Redis stream, and beside a bare HTTP handler.

use anyhow::Context as _;
use tests::api::Api;
use tests::stack::Backend;
use tokio::time::Instant;

use super::{Measure, Rounds, ms};
use crate::deployment::{self, LIMIT};
use crate::figure::Figure;
use crate::floors::{BareHandler, StreamRoundTrip};

pub const MEASURE: Measure = Measure {
    name: "warm",
    what: "a turn of a unit whose worker is idle, to turn-accepted and to its end; every write is synced",
    figures: &["warm-accepted", "warm-complete", "warm-accepted-http", "warm-complete-http"],
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::options(Backend::Process)).await;
    let mut round_trip = StreamRoundTrip::over(stack.redis.socket()).await?;
    let bare = BareHandler::start().await?;
    // All of them on connections that are kept.
    let mut ours = stack.api("ann").session().await?;
    let mut theirs = Api::new(&bare.address, "").session().await?;
    let (mut accepted, mut complete, mut stream, mut http) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (count, first) = (rounds.of(300, 20), 10);
    // The first rounds start the worker and fill caches; they are not counted.
    for round in 0..first + count {
        let begun = Instant::now();
        round_trip.run().await?;
        let stream_took = ms(begun.elapsed());

        let begun = Instant::now();
        theirs.invoke("bare", "hi").await?.expect(200);
        let http_took = ms(begun.elapsed());

        let begun = Instant::now();
        let mut events = ours.invoke_streaming("warm", "hi").await?;
        events.until("turn-accepted", LIMIT).await;
        let accepted_took = ms(begun.elapsed());
        events.until("turn-complete", LIMIT).await;
        let complete_took = ms(begun.elapsed());
        tokio::time::timeout(LIMIT, async { while events.next().await.is_some() {} })
            .await
            .context("the stream's end")?;

        if round >= first {
            stream.push(stream_took);
            http.push(http_took);
            accepted.push(accepted_took);
            complete.push(complete_took);
        }
    }
    Ok(vec![
        Figure::beside("warm-accepted", accepted.clone(), stream.clone()),
        Figure::beside("warm-complete", complete.clone(), stream),
        Figure::beside("warm-accepted-http", accepted, http.clone()),
        Figure::beside("warm-complete-http", complete, http),
    ])
}
