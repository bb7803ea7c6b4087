//! The soak itself, for some seconds: that it runs to its end, tells what became of every message, and that nothing was lost.

mod support;

use support::process::switchboard;

#[test]
fn some_seconds_of_churn_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = switchboard(&directory).args(["soak", "--minutes", "0.2", "--rooms", "3"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("lost 0, duplicated 0, misordered 0"), "{told}");
    let resumed = told.split("resumed ").last().and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
    assert!(resumed > Some(0), "{told}");
}
