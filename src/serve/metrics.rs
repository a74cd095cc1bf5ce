//! Metrics in Prometheus' text format.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Media type of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a request. Paths are those of routes, so their number is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    path: &'static str,
    status: u16,
}

/// Label of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PathLabel {
    path: &'static str,
}

/// All metrics of the service.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<PathLabel, Histogram>,
    /// Requests whose response is not complete.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Jobs that wait for the model.
    pub queued: Gauge,
    /// Predicted faces.
    pub faces: Counter,
    /// Images of a batch.
    pub batch_images: Histogram,
    /// Time of a batch in the model.
    pub batch_seconds: Histogram,
    memory: Gauge,
}

/// The route of a path, as a label.
pub(super) fn route(path: &str) -> &'static str {
    match path {
        "/" => "/",
        "/v1/predict" => "/v1/predict",
        "/v1/model" => "/v1/model",
        "/healthz" => "/healthz",
        "/metrics" => "/metrics",
        "/openapi.json" => "/openapi.json",
        _ if path.starts_with("/assets/") => "/assets",
        _ => "other",
    }
}

fn histogram_of_seconds() -> Histogram {
    // 0.25 ms to 16 s.
    Histogram::new(exponential_buckets(0.00025, 2.0, 17))
}

impl Metrics {
    pub fn new() -> Self {
        let mut new = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram_of_seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            queued: Gauge::default(),
            faces: Counter::default(),
            batch_images: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            batch_seconds: histogram_of_seconds(),
            memory: Gauge::default(),
        };
        new.register();
        new
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("grimace_requests", "Finished requests by route and status", self.requests.clone());
        registry.register_with_unit(
            "grimace_request_duration",
            "Time from the headers of a request to its response",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register("grimace_requests_in_flight", "Requests without a response yet", self.in_flight.clone());
        registry.register("grimace_connections", "Open connections", self.connections.clone());
        registry.register("grimace_queue_length", "Requests that wait for the model", self.queued.clone());
        registry.register("grimace_faces", "Predicted faces", self.faces.clone());
        registry.register("grimace_batch_images", "Images in a batch of the model", self.batch_images.clone());
        let help = "Time of a batch in the model";
        registry.register_with_unit("grimace_batch_duration", help, Unit::Seconds, self.batch_seconds.clone());
        let name = "process_resident_memory";
        registry.register_with_unit(name, "Resident memory of the process", Unit::Bytes, self.memory.clone());
    }

    /// Records a finished request.
    pub fn finished(&self, path: &str, status: u16, time: Duration) {
        let path = route(path);
        self.requests.get_or_create(&RequestLabels { path, status }).inc();
        self.seconds.get_or_create(&PathLabel { path }).observe(time.as_secs_f64());
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        if let Some(bytes) = resident_memory() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// Resident memory of this process in bytes, if the system reports it.
fn resident_memory() -> Option<i64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_in_prometheus_text_format() {
        let metrics = Metrics::new();
        metrics.finished("/v1/predict", 200, Duration::from_millis(3));
        metrics.finished("/wp-admin", 404, Duration::ZERO);
        metrics.faces.inc_by(5);
        metrics.batch_images.observe(5.0);
        let text = metrics.text();
        for line in [
            "grimace_requests_total{path=\"/v1/predict\",status=\"200\"} 1",
            "grimace_requests_total{path=\"other\",status=\"404\"} 1",
            "grimace_request_duration_seconds_bucket{path=\"/v1/predict\",le=\"0.004\"} 1",
            "grimace_faces_total 5",
            "grimace_batch_images_sum 5.0",
            "grimace_queue_length 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
