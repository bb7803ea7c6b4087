import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

for (const folder of ["pages", "admin"]) {
  test(`what ${folder} say about their types is true`, () => {
    const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [path("../node_modules/typescript/bin/tsc"), "--project", path(`../${folder}`)], {
      encoding: "utf8",
      timeout: 60_000,
    });
    assert.equal(status, 0, `${stdout}${stderr}`);
  });
}
