//! The alerts and the dashboard of `deploy` ask for what the server tells: every name, label and value in them is one that it has.

mod support;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;
use support::TestServer;

fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).unwrap()
}

/// What Prometheus adds to every series by itself.
const ITS_OWN: [&str; 2] = ["job", "instance"];

/// A name in an expression, with the labels that are asked for: each with its values, or with none where it is only grouped by.
#[derive(Debug)]
struct Asked<'a> {
    name: &'a str,
    labels: Vec<(&'a str, Vec<&'a str>)>,
}

/// Every metric of ours in an expression of PromQL.
fn asked(expression: &str) -> Vec<Asked<'_>> {
    let mut found = Vec::new();
    for (start, _) in expression.match_indices("switchboard_") {
        let rest = &expression[start..];
        let name = &rest[..rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(rest.len())];
        let matchers = rest[name.len()..].strip_prefix('{').map_or("", |rest| &rest[..rest.find('}').expect("it is closed")]);
        let labels = matchers.split(", ").filter(|matcher| !matcher.is_empty()).map(|matcher| {
            let (label, values) = matcher.split_once('=').expect("a label and its value");
            (label.trim_end_matches('!'), values.trim_start_matches('~').trim_matches('"').split('|').collect())
        });
        found.push(Asked { name, labels: labels.collect() });
    }
    found
}

/// What an expression groups by.
fn grouped_by(expression: &str) -> impl Iterator<Item = &str> {
    expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap_or_default().split(", "))
}

/// Is there such a label in a series of this name?
fn is_told(told: &str, name: &str, label: &str) -> bool {
    told.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(label)))
}

fn assert_told(told: &str, expression: &str) {
    let all = asked(expression);
    for Asked { name, labels } in &all {
        let is_there = told.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(is_there, "{name} is told by no server: {expression}");
        for (label, values) in labels.iter().filter(|(label, _)| !ITS_OWN.contains(label)) {
            for value in values {
                assert!(is_told(told, name, &format!("{label}=\"{value}\"")), "{name} has no {label} {value}: {expression}");
            }
        }
    }
    for label in grouped_by(expression).filter(|label| !ITS_OWN.contains(label)) {
        assert!(all.iter().any(|asked| is_told(told, asked.name, &format!("{label}=\""))), "nothing here has a {label}: {expression}");
    }
}

/// The values of all fields of this name, however deep.
fn fields<'a>(document: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match document {
        Value::Object(object) => {
            found.extend(object.get(name));
            object.values().for_each(|value| fields(value, name, found));
        }
        Value::Array(array) => array.iter().for_each(|value| fields(value, name, found)),
        _ => {}
    }
}

/// Every expression of the dashboard.
fn dashboard_expressions(dashboard: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    fields(dashboard, "expr", &mut found);
    found.into_iter().filter_map(Value::as_str).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_a_server_tells() {
    let told = TestServer::start().metrics();
    let alerts = shipped("alerts.yml");
    let (mut expressions, mut lines) = (Vec::new(), alerts.lines().peekable());
    while let Some(line) = lines.next() {
        if let Some(expression) = line.trim().strip_prefix("expr: ") {
            let mut whole = expression.trim_start_matches('|').to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                whole = whole + more.trim() + " ";
            }
            expressions.push(whole);
        }
    }
    assert_eq!(expressions.len(), alerts.matches("- alert: ").count());
    let dashboard: Value = serde_json::from_str(&shipped("grafana.json")).unwrap();
    let drawn = dashboard_expressions(&dashboard);
    for expression in expressions.iter().map(String::as_str).chain(drawn.iter().copied()) {
        assert_told(&told, expression);
    }

    // And the dashboard shows all that there is. A histogram is three names.
    let base = |name: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned();
    let shown: BTreeSet<String> = drawn.iter().flat_map(|expression| asked(expression)).map(|asked| base(asked.name)).collect();
    let names = told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let hidden: Vec<&str> = names.filter(|name| !shown.contains(*name) && *name != "switchboard_build_info").collect();
    assert_eq!(hidden, [""; 0]);
}

#[test]
fn the_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&shipped("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} overlaps", panel["title"]);
        }
    }
}

#[test]
#[ignore = "needs promtool: tests/run"]
fn prometheus_understands_the_dashboard_and_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard: Value = serde_json::from_str(&shipped("grafana.json")).unwrap();
    // What Grafana fills in.
    let filled = |expression: &str| expression.replace("$__rate_interval", "5m").replace("$job", "switchboard").replace("$instance", ".*");
    let rules: Vec<Value> = dashboard_expressions(&dashboard)
        .iter()
        .enumerate()
        .map(|(number, expression)| serde_json::json!({"record": format!("panel:{number}"), "expr": filled(expression)}))
        .collect();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // Any JSON is YAML.
    fs::write(directory.path().join("dashboard.yml"), groups.to_string()).unwrap();
    fs::write(directory.path().join("metrics"), TestServer::start().metrics()).unwrap();
    let metrics = fs::File::open(directory.path().join("metrics")).unwrap();
    let mut promtool = Command::new("promtool");
    for command in [
        promtool.current_dir(&directory).args(["check", "rules", "dashboard.yml"]),
        Command::new("promtool").args(["check", "metrics"]).stdin(metrics),
    ] {
        let output = command.output().unwrap_or_else(|error| panic!("promtool: {error}; tests/run installs it"));
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{said}");
    }
}
