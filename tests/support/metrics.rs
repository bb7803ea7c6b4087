//! The text that Prometheus reads, read strictly: every sample belongs to a family that was announced, and stands once.

use std::collections::BTreeMap;

/// Each series as it is written, with its labels, and its value.
pub type Series = BTreeMap<String, f64>;

/// Reads text of version 0.0.4.
pub fn read(text: &str) -> Series {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut series = Series::new();
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(!help.is_empty() && !families.contains_key(name), "{line}");
            helped = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert_eq!(name, helped, "a type follows its help");
            families.insert(name, kind);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let name = sample.split('{').next().unwrap_or_default();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known = name == helped || (of_histogram == Some(helped) && families[helped] == "histogram");
            assert!(is_known, "{line} does not belong to {helped}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(series.insert(sample.to_owned(), value), None, "{sample} stands twice");
        }
    }
    series
}
