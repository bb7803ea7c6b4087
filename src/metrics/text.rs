//! The counts as Prometheus reads them: text, version 0.0.4, which everything else that collects metrics reads as well.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    TextEncoder,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    counts::{Family, FamilyKind},
    histogram::{BOUNDS_US, Totals},
};

/// The name of the histogram; what it is for stands with it.
const DELIVERY: &str = "switchboard_delivery_seconds";
const DELIVERY_HELP: &str = "How long a message to a peer takes, of one in 17 that are passed on: from when the server takes it up, with up to 63 \
    more of its sender, to when it is handed to the receiver's socket, or to its stream of QUIC, or to its HTTP request. Time in which sender or \
    receiver wait for the receiver to read is part of it; messages that the receiver got only by coming back are not.";

/// One family, with the sums of its series.
pub fn family(family: &Family, sums: &[u64]) -> MetricFamily {
    let metrics = (family.series)().into_iter().map(|(index, labels)| {
        let mut metric = Metric::from_label(labels.into_iter().map(|(name, value)| pair(name, value)).collect());
        match family.kind {
            FamilyKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(sums[index] as f64);
                metric.set_counter(counter);
            }
            FamilyKind::Gauge => {
                // What one thread has taken may be seen before what another has added.
                metric.set_gauge(gauge((sums[index] as i64).max(0) as f64));
            }
        }
        metric
    });
    let kind = match family.kind {
        FamilyKind::Counter => MetricType::COUNTER,
        FamilyKind::Gauge => MetricType::GAUGE,
    };
    named(family.name, &family.help(), kind, metrics.collect())
}

/// The time that messages take.
pub fn delivery(totals: &Totals) -> MetricFamily {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BOUNDS_US.len());
    for (bound, more) in BOUNDS_US.iter().zip(totals.buckets) {
        count += more;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e6);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(totals.buckets.iter().sum());
    histogram.set_sample_sum(totals.nanos as f64 / 1e9);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    named(DELIVERY, DELIVERY_HELP, MetricType::HISTOGRAM, vec![metric])
}

/// What the server is, and since when.
pub fn about(started: SystemTime) -> [MetricFamily; 2] {
    let mut build = Metric::from_label(vec![pair("version", env!("CARGO_PKG_VERSION"))]);
    build.set_gauge(gauge(1.0));
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    [
        named("switchboard_build_info", "What runs: always 1.", MetricType::GAUGE, vec![build]),
        named(
            "switchboard_start_time_seconds",
            "When the server started, in seconds since 1970.",
            MetricType::GAUGE,
            vec![Metric::from_gauge(gauge(since.as_secs_f64()))],
        ),
    ]
}

/// All of them, as text.
pub fn write(families: &[MetricFamily]) -> String {
    TextEncoder::new().encode_to_string(families).expect("every family has a name and a series")
}

fn named(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn gauge(value: f64) -> proto::Gauge {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    gauge
}
