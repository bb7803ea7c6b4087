/**
 * The client as an application gets it from a registry: packed, installed into a folder that has nothing else of this repository, and
 * compiled against, by `project/`. A line there that stands below `@ts-expect-error` has to be refused, every other has to be accepted.
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL("./", import.meta.url));
const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const TSC = join(HERE, "node_modules/typescript/bin/tsc");
const RUN_MS = 120_000;

/** As bundlers find modules, and as node does. */
const RESOLUTIONS = { bundler: ["--module", "esnext", "--moduleResolution", "bundler"], node: ["--module", "nodenext", "--moduleResolution", "nodenext"] };

let folder;
let installed;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchboard-typescript-"));
  installed = join(folder, "node_modules/@switchboard/client");
  await succeed("npm", ["pack", "--pack-destination", folder], WEB);
  const [tarball] = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
  await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await succeed("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`], folder);
  // React's types, as a project has them that uses React.
  await symlink(join(HERE, "node_modules/@types"), join(folder, "node_modules/@types"));
  await cp(join(HERE, "project"), folder, { recursive: true });
});

after(() => folder && rm(folder, { recursive: true }));

test("the package is the modules, their types, package.json and a page to read, and nothing else", async () => {
  const modules = await reachable(Object.values(JSON.parse(await readFile(join(WEB, "package.json"), "utf8")).exports).map((entry) => entry.default));
  assert.ok(modules.includes("client.js") && modules.includes("swarm.js") && modules.includes("react.js") && modules.includes("src/room.js"));
  const types = modules.map((path) => `types/${path.replace(/\.js$/, ".d.ts")}`);
  assert.deepEqual(await filesOf(installed), [...modules, ...types, "package.json", "README.md"].sort());
});

test("the package asks for nothing but React, and that only if it is wanted", async () => {
  const { name, private: isPrivate, license, dependencies, peerDependencies, peerDependenciesMeta, exports } = JSON.parse(
    await readFile(join(installed, "package.json"), "utf8"),
  );
  const cargo = await readFile(join(WEB, "../Cargo.toml"), "utf8");
  assert.deepEqual([name, isPrivate, dependencies], ["@switchboard/client", undefined, undefined]);
  assert.equal(license, /^license = "(.*)"$/m.exec(cargo)[1]);
  assert.deepEqual(Object.keys(peerDependencies), ["react"]);
  assert.deepEqual(peerDependenciesMeta, { react: { optional: true } });
  assert.deepEqual(await readdir(join(folder, "node_modules/@switchboard")), ["client"]);
  for (const path of Object.values(exports).flatMap((entry) => Object.values(entry))) await readFile(join(installed, path));
});

test("its modules are found by their public names, and by no other", async () => {
  const script = `
    const { connect, PeerLink } = await import("@switchboard/client");
    const { Swarm } = await import("@switchboard/client/swarm");
    const inner = await import("@switchboard/client/src/connect.js").catch(({ code }) => code);
    console.log([typeof connect, typeof PeerLink, typeof Swarm, inner, import.meta.resolve("@switchboard/client/react").split("/").at(-1)].join());
  `;
  const { stdout } = await succeed(process.execPath, ["--input-type=module", "--eval", script], folder);
  assert.equal(stdout.trim(), "function,function,function,ERR_PACKAGE_PATH_NOT_EXPORTED,react.js");
});

for (const [name, resolution] of Object.entries(RESOLUTIONS)) {
  test(`a strict project compiles, where modules are resolved as by ${name}`, async () => {
    await succeed(process.execPath, [TSC, "--project", folder, "--noEmit", ...resolution], folder);
  });
}

/** So that no `@ts-expect-error` is there for another mistake than the one below it, and no type is `any` where it should not be. */
test("each wrong use is refused, on its very line", async () => {
  const strict = join(folder, "unexpected");
  await mkdir(strict);
  const wrong = [];
  for (const name of await readdir(join(HERE, "project"))) {
    const text = await readFile(join(HERE, "project", name), "utf8");
    const lines = text.split("\n");
    for (const [i, line] of lines.entries()) {
      if (!line.includes("@ts-expect-error")) continue;
      wrong.push(`${name}:${i + 2}`);
      lines[i] = "";
    }
    await writeFile(join(strict, name), lines.join("\n"));
  }
  assert.ok(wrong.length >= 20, `${wrong.length} wrong uses`);
  const { code, stdout } = await run(process.execPath, [TSC, "--project", strict, "--noEmit", "--pretty", "false", ...RESOLUTIONS.node], strict);
  assert.notEqual(code, 0);
  const refused = [...stdout.matchAll(/^([^\s(]+)\((\d+),\d+\): error TS/gm)].map(([, file, line]) => `${relative(strict, join(strict, file))}:${line}`);
  assert.deepEqual([...new Set(refused)].sort(), wrong.sort(), stdout);
});

/** They are JavaScript: what they leave open, such as whether there is a room, is not held against them. */
test("what its page to read shows compiles as it stands there", async () => {
  const examples = join(folder, "examples");
  await mkdir(examples);
  const blocks = [...(await readFile(join(installed, "README.md"), "utf8")).matchAll(/^```(jsx?)\n([^]*?)^```$/gm)];
  assert.deepEqual(blocks.map(([, kind]) => kind), ["js", "jsx", "js", "js"]);
  for (const [i, [, kind, text]] of blocks.entries()) await writeFile(join(examples, `${i}.${kind}`), text);
  const files = blocks.map(([, kind], i) => `${i}.${kind}`);
  const checked = ["--noEmit", "--ignoreConfig", "--allowJs", "--checkJs", "--strict", "false"];
  const platform = ["--target", "es2022", "--lib", "es2023,dom,dom.iterable", "--jsx", "react-jsx"];
  await succeed(process.execPath, [TSC, ...checked, ...platform, ...RESOLUTIONS.bundler, ...files], examples);
});

/** The modules that these import, these included, types that JSDoc imports as well. */
async function reachable(entries) {
  const found = new Set();
  const queue = entries.map((path) => relative(WEB, join(WEB, path)));
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    const text = await readFile(join(WEB, path), "utf8");
    for (const [, target] of text.matchAll(/\b(?:from\s*|import\s*\(?\s*)"(\.[^"]+)"/g)) queue.push(join(dirname(path), target));
  }
  return [...found].sort();
}

async function filesOf(directory) {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => relative(directory, join(entry.parentPath ?? entry.path, entry.name))).sort();
}

async function succeed(command, args, cwd) {
  const { code, stdout, stderr } = await run(command, args, cwd);
  assert.equal(code, 0, `${command} ${args.join(" ")}\n${stdout}${stderr}`);
  return { stdout };
}

/** Runs a program without what npm tells its scripts: it is about this folder, and not about `cwd`. */
function run(command, args, cwd) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd, env, timeout: RUN_MS, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: error?.code ?? 0, stdout, stderr });
    });
  });
}
