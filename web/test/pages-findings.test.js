import assert from "node:assert/strict";
import { test } from "node:test";

import { failed, nothing, ok, outcomeOf, reportOf, skipped, warning } from "../pages/findings.js";
import { Text } from "../pages/i18n.js";

const good = ok("clock", ["check.clock-same"]);
const doubtful = warning("clock", ["check.clock-none"], ["check.advice-date"]);
const bad = failed("clock", ["check.clock-behind", { seconds: 3600 }], ["check.advice-clock"]);

test("the worst that was found counts, and what was passed over does not", () => {
  assert.equal(outcomeOf([good, nothing("turn", ["check.no-ice"])]), "ok");
  assert.equal(outcomeOf([good, doubtful]), "warning");
  assert.equal(outcomeOf([bad, doubtful, good]), "failed");
  assert.equal(outcomeOf([]), "failed", "who found nothing has not found that it works");
});

test("the report has the shape of the command's, in the language of the page", () => {
  for (const [language, detail] of [["en", "the server is 3600 s behind this device"], ["es", "el servidor va 3600 s por detrás de este dispositivo"]]) {
    const text = new Text(language);
    const report = reportOf("http://localhost:8080", [good, bad, skipped("forward", "websocket")], (key, values) => text.say(key, values));
    assert.deepEqual(Object.keys(report), ["url", "outcome", "findings"]);
    assert.deepEqual([report.url, report.outcome], ["http://localhost:8080/", "failed"]);
    assert.deepEqual(report.findings.map((finding) => Object.keys(finding)), [["check", "outcome", "detail"], ["check", "outcome", "detail", "advice"], ["check", "outcome", "detail"]]);
    assert.equal(report.findings[1].detail, detail);
    assert.deepEqual([report.findings[2].check, report.findings[2].outcome], ["forward", "skipped"]);
  }
});
