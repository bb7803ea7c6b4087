/**
 * A call in a room for relays alone, by way of coturn, with what the server tells of it: nobody shows an address of its own, and the credentials that
 * the server renews are those that count. Needs coturn, which `tests/run` installs.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after });

/** So long credentials are good here; clients get new ones each five seconds. */
const TTL_MS = 10_000;
const ATTEMPTS = 8;

/** A TURN server on a free port of this machine, and the file with the secret that it knows. */
async function startCoturn(t) {
  const directory = await mkdtemp(join(tmpdir(), "switchboard-turn-"));
  t.after(() => rm(directory, { recursive: true }));
  const secret = randomBytes(16).toString("hex");
  const secretFile = join(directory, "secret");
  await writeFile(secretFile, secret);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = await freePort();
    const place = ["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", String(port), "--allow-loopback-peers"];
    const auth = ["--use-auth-secret", "--static-auth-secret", secret, "--realm", "example.org", "--userdb", "users.sqlite"];
    const quiet = ["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--pidfile", "pid"];
    const child = spawn("turnserver", [...quiet, ...place, ...auth], { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (log += chunk));
    const exit = new Promise((resolve) => child.once("exit", resolve));
    const failed = new Promise((_, reject) => child.once("error", reject));
    const listens = eventually(() => Promise.race([reaches(port), failed]));
    const isThere = await Promise.race([listens.then(() => true), exit.then(() => false)]);
    // Somebody may have taken the port.
    if (!isThere) continue;
    t.after(async () => {
      child.kill("SIGKILL");
      await within(exit, "the end of coturn");
    });
    return { url: `turn:127.0.0.1:${port}`, secretFile, log: () => log };
  }
  throw new Error("coturn does not start");
}

function freePort() {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

function reaches(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => (socket.destroy(), resolve()));
    socket.once("error", reject);
  });
}

/** A page that has imported the client and is in a room, with a line to everybody. What comes is taken down. */
async function inRoom(t, server, room, transport) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(
    async ({ base, room, transport }) => {
      const { connect } = await import(`${base}/client.js`);
      const told = { candidates: [], lists: 0, messages: [], states: [] };
      const entered = await connect(base, { room, transport, mesh: true });
      entered.addEventListener("ice-candidate", ({ detail: { payload } }) => payload.candidate && told.candidates.push(payload.candidate));
      entered.addEventListener("ice-servers", () => told.lists++);
      entered.room.addEventListener("link", ({ detail: link }) => {
        globalThis.link = link;
        link.addEventListener("message", ({ detail }) => told.messages.push(detail));
        link.addEventListener("state", () => told.states.push(link.state));
      });
      Object.assign(globalThis, { told });
    },
    { base: server.url, room, transport },
  );
  return page;
}

const told = (page) => page.evaluate(() => globalThis.told);
const say = (page, text) => page.evaluate((text) => globalThis.link.send(text), text);
const way = (page) => page.evaluate(async () => {
  const { localCandidate, remoteCandidate } = await globalThis.link.stats();
  return [localCandidate, remoteCandidate];
});

/** Both say a word and hear the other's. */
async function talk(pages, word) {
  await eventually(async () => {
    for (const page of pages) assert.ok(await page.evaluate(() => globalThis.link?.state === "connected"));
  });
  for (const page of pages) assert.ok(await say(page, word));
  await eventually(async () => {
    for (const page of pages) assert.ok((await told(page)).messages.includes(word));
  });
}

test("a call goes by the relay alone, and on when the credentials that it began with are over", { timeout: 120_000 }, async (t) => {
  const coturn = await startCoturn(t);
  const server = await startServer(t, {
    SWITCHBOARD_ICE_TURN_URLS: coturn.url,
    SWITCHBOARD_ICE_TURN_SECRET_FILES: coturn.secretFile,
    SWITCHBOARD_ICE_TURN_TTL_MS: String(TTL_MS),
    SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter",
  });
  const pages = [await inRoom(t, server, "shelter", "webtransport"), await inRoom(t, server, "shelter", "websocket")];
  await talk(pages, "one");
  for (const page of pages) {
    await eventually(async () => assert.deepEqual(await way(page), ["relay", "relay"], coturn.log()));
    const { candidates } = await told(page);
    assert.ok(candidates.length > 0 && candidates.every((candidate) => candidate.includes(" typ relay")), `${candidates}`);
  }
  // Three lists later those of the beginning are over.
  const listed = async () => {
    for (const page of pages) assert.ok((await told(page)).lists >= 3);
  };
  await eventually(listed, 3 * TTL_MS);
  await talk(pages, "two");
  const before = await Promise.all(pages.map(async (page) => (await told(page)).candidates.length));
  await pages[0].evaluate(() => globalThis.link.restart());
  // Both look for a way anew, and coturn gives relays to none whose credentials are over.
  await eventually(async () => {
    for (const [index, page] of pages.entries()) assert.ok((await told(page)).candidates.length > before[index], coturn.log());
  });
  await talk(pages, "three");
  for (const page of pages) {
    const { states, candidates } = await told(page);
    assert.deepEqual(states, ["connected"], "it was never lost");
    assert.ok(candidates.every((candidate) => candidate.includes(" typ relay")), `${candidates}`);
    await eventually(async () => assert.deepEqual(await way(page), ["relay", "relay"]));
  }
});

test("in another room of the same server a line is direct where that is possible", async (t) => {
  const coturn = await startCoturn(t);
  const settings = { SWITCHBOARD_ICE_TURN_URLS: coturn.url, SWITCHBOARD_ICE_TURN_SECRET_FILES: coturn.secretFile, SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter" };
  const server = await startServer(t, settings);
  const pages = [await inRoom(t, server, "lobby", "websocket"), await inRoom(t, server, "lobby", "webtransport")];
  await talk(pages, "one");
  await eventually(async () => assert.ok((await way(pages[0])).every((type) => ["host", "prflx"].includes(type))));
});
