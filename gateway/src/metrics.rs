//! Figures in the OpenMetrics text format.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in milliseconds: from a warm hop to a slow image pull.
const MILLISECONDS: [f64; 14] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 1e4, 3e4, 12e4];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Turns that went to workers, by how warm those were: the warm pool's hit rate. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Deliveries(Family<Kind, Counter>);

impl Deliveries {
    /// A turn went to a worker.
    pub fn count(&self, start: contract::Start) {
        self.0.get_or_create(&Kind { kind: start.as_str() }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelRequest {
    provider: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelTokens {
    provider: String,
    kind: &'static str,
}

/// What models were used for, by the providers' configured names. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct ModelUse {
    requests: Family<ModelRequest, Counter>,
    tokens: Family<ModelTokens, Counter>,
}

impl ModelUse {
    /// Shows them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let (requests, tokens) = (self.requests.clone(), self.tokens.clone());
        registry.register("model_requests", "Requests to models by provider and what came of them", requests);
        let help = "Tokens by provider and kind; reasoning is a part of the output";
        registry.register("model_tokens", help, tokens);
    }

    /// A request has ended, or was refused.
    pub fn request(&self, provider: &str, outcome: &'static str) {
        self.requests.get_or_create(&ModelRequest { provider: provider.into(), outcome }).inc();
    }

    /// Tokens were used.
    pub fn tokens(&self, provider: &str, tokens: &ledger::Tokens) {
        for (kind, count) in tokens.kinds().into_iter().filter(|(_, count)| *count > 0) {
            self.tokens.get_or_create(&ModelTokens { provider: provider.into(), kind }).inc_by(count);
        }
    }
}

/// All figures of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    starts: Family<Kind, Counter>,
    workloads: Family<Outcome, Counter>,
    deliveries: Deliveries,
    models: ModelUse,
    turns: Family<Outcome, Counter>,
    streams: Gauge,
    queue_ms: Histogram,
    start_ms: Histogram,
    turn_ms: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(MILLISECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("rekindle_gateway"),
            requests: Family::default(),
            starts: Family::default(),
            workloads: Family::default(),
            deliveries: Deliveries::default(),
            models: ModelUse::default(),
            turns: Family::default(),
            streams: Gauge::default(),
            queue_ms: histogram(),
            start_ms: histogram(),
            turn_ms: histogram(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "Requests by route, method and status", metrics.requests.clone());
        registry.register(
            "starts",
            "Turns that callers waited for, by how warm their worker was",
            metrics.starts.clone(),
        );
        registry.register(
            "deliveries",
            "Turns that went to workers here, by how warm those were",
            metrics.deliveries.0.clone(),
        );
        metrics.models.register(registry);
        registry.register("workload_starts", "Start jobs by what came of them", metrics.workloads.clone());
        registry.register("turns", "Turns that callers waited for, by outcome", metrics.turns.clone());
        registry.register("open_streams", "Event streams that are open", metrics.streams.clone());
        registry.register(
            "queue_ms",
            "From a submission to its delivery or the start for it",
            metrics.queue_ms.clone(),
        );
        registry.register("start_ms", "From a start to the delivery of its first turn", metrics.start_ms.clone());
        registry.register("turn_ms", "From a turn's delivery to its settlement", metrics.turn_ms.clone());
        metrics
    }
}

impl Metrics {
    /// The figures as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A request was answered. `route` is the pattern, never the path: labels must be few.
    pub fn request(&self, method: &http::Method, route: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "DELETE" => "DELETE",
            "HEAD" => "HEAD",
            _ => "other",
        };
        self.requests.get_or_create(&Request { method, route: route.into(), status }).inc();
    }

    /// A start job ended: `started`, `failed`, `restarted` or `abandoned`.
    pub fn workload(&self, outcome: &'static str) {
        self.workloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// For the broker.
    pub fn models(&self) -> ModelUse {
        self.models.clone()
    }

    /// For whoever hands turns to workers.
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries.clone()
    }

    /// A turn that a caller waited for was settled.
    pub fn turn(
        &self,
        outcome: &'static str,
        start: Option<&'static str>,
        queue: Duration,
        starting: Duration,
        turn: Duration,
    ) {
        self.turns.get_or_create(&Outcome { outcome }).inc();
        let Some(kind) = start else {
            return;
        };
        self.starts.get_or_create(&Kind { kind }).inc();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        self.queue_ms.observe(ms(queue));
        self.turn_ms.observe(ms(turn));
        if kind != "warm" {
            self.start_ms.observe(ms(starting));
        }
    }

    /// A stream is open until the guard is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

/// Counts an open stream while it lives.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_counted_and_shown() {
        let metrics = Metrics::default();
        metrics.request(&http::Method::GET, "/v1/units/{unit}", 200);
        metrics.request(&http::Method::from_bytes(b"ANYTHING").unwrap(), "none", 405);
        metrics.turn("completed", Some("cold"), Duration::ZERO, Duration::from_millis(300), Duration::from_millis(7));
        metrics.deliveries().count(contract::Start::Warm);
        let open = metrics.open_stream();
        let text = metrics.text();
        for line in [
            r#"rekindle_gateway_http_requests_total{method="GET",route="/v1/units/{unit}",status="200"} 1"#,
            r#"rekindle_gateway_http_requests_total{method="other",route="none",status="405"} 1"#,
            r#"rekindle_gateway_turns_total{outcome="completed"} 1"#,
            r#"rekindle_gateway_starts_total{kind="cold"} 1"#,
            r#"rekindle_gateway_deliveries_total{kind="warm"} 1"#,
            "rekindle_gateway_start_ms_sum 300",
            "rekindle_gateway_open_streams 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(metrics.text().contains("rekindle_gateway_open_streams 0"));
    }
}
