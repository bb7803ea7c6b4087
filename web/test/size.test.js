import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const BYTES_MAX = 12 * 1024;

test("the client is less than 12 KiB, minified and gzipped", async (t) => {
  const entry = fileURLToPath(new URL("../client.js", import.meta.url));
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
    metafile: true,
    outdir: "bundle",
  });
  assert.equal(outputFiles.length, 1);
  const imports = Object.values(metafile.outputs).flatMap(({ imports }) => imports);
  assert.deepEqual(imports, [], "everything is in the bundle");
  const { exports } = Object.values(metafile.outputs)[0];
  assert.ok(exports.includes("connect"), "and it is the client");
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  t.diagnostic(`client.js: ${outputFiles[0].contents.length} bytes minified, ${bytes} gzipped (less than ${BYTES_MAX})`);
  assert.ok(bytes < BYTES_MAX, `${bytes} bytes gzipped, which is not less than ${BYTES_MAX}`);
});
