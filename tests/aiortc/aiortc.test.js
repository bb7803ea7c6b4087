/** A client in Python, by `aiortc` and WebSocket, and the browser client in Chromium: whoever offers, with relays alone, and when both offer at once. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { eventually, startBrowser, startServer, within } from "../browser/support.js";

const { PYTHON = "python3" } = process.env;
const GUEST = fileURLToPath(new URL("guest.py", import.meta.url));

const TEXTS = ["Hello, Chromium ☎", ""];
/** More than one packet, and none. */
const BYTES = [Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251)), Buffer.alloc(0)];

const browser = await startBrowser({ after });

/** Should the tests themselves end early, the Python programs do not outlive them. */
const guests = new Set();
process.once("exit", () => guests.forEach((guest) => guest.kill("SIGKILL")));

/** The Python program in a room. `heard` is what it told, `say` gives it a command. */
async function startGuest(t, server, room = "calls") {
  // What is on this machine is not behind a proxy.
  const child = spawn(PYTHON, [GUEST, server.url, room], { env: { ...process.env, no_proxy: "*" }, stdio: ["pipe", "pipe", "pipe"] });
  const heard = [];
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  child.stdin.on("error", () => {});
  createInterface({ input: child.stdout }).on("line", (line) => heard.push(JSON.parse(line)));
  const exit = new Promise((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
  const ended = () => within(exit, "the end of the Python program");
  child.once("error", (error) => (log += error));
  guests.add(child);
  t.after(async () => {
    child.stdin.end();
    await ended().catch(() => (child.kill("SIGKILL"), ended()));
    guests.delete(child);
  });
  const say = (command) => child.stdin.write(`${JSON.stringify(command)}\n`);
  /** Waits until it has told of this event, so many times; gives all of them. */
  const told = (event, count = 1) =>
    eventually(() => {
      const events = heard.filter((told) => told.event === event);
      assert.ok(events.length >= count, `${event} of Python: ${JSON.stringify(heard)}\n${log}`);
      return events;
    });
  const [{ peerId, peers }] = await told("joined");
  return { peerId, peers, heard, say, told, ended, log: () => log };
}

/**
 * A page with the browser client in a room. It holds back the other's candidates until it has one of its own, because Chromium looks for no more of
 * them once it is connected; and keeps what signals it has received, and what became of candidates.
 * @param {"lower" | "higher"} [order] which peer id it is to have, beside that of the Python program
 */
async function inRoom(t, server, { room = "calls", than, order } = {}) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(
    async ({ base, room, than, order }) => {
      const found = new WeakMap();
      const Everywhere = globalThis.RTCPeerConnection;
      const candidates = [];
      globalThis.RTCPeerConnection = class extends Everywhere {
        constructor(configuration) {
          super(configuration);
          found.set(this, new Promise((resolve) => this.addEventListener("icecandidate", resolve, { once: true })));
        }
        async addIceCandidate(candidate) {
          await found.get(this);
          await super.addIceCandidate(candidate).then(
            () => candidates.push({ candidate: candidate?.candidate, taken: true }),
            () => candidates.push({ candidate: candidate?.candidate, taken: false }),
          );
        }
      };
      const { connect } = await import(`${base}/client.js`);
      let client;
      do {
        client?.close();
        client = await connect(base, { transport: "websocket" });
      } while (order && client.peerId < than !== (order === "lower"));
      const [sent, signals, left, states, heard] = [[], [], [], [], []];
      client.addEventListener("sent", ({ detail }) => detail.to && sent.push(detail));
      for (const type of ["offer", "answer", "ice-candidate"]) client.addEventListener(type, ({ detail }) => signals.push(detail));
      const entered = await client.join(room);
      entered.addEventListener("peer-left", ({ detail }) => left.push(detail.reason));
      entered.addEventListener("link", ({ detail: link }) => {
        globalThis.link = link;
        link.addEventListener("state", () => states.push(link.state));
        link.addEventListener("message", ({ detail }) => {
          const isText = typeof detail === "string";
          heard.push(isText ? { text: detail } : { base64: btoa(Array.from(new Uint8Array(detail), (byte) => String.fromCharCode(byte)).join("")) });
        });
      });
      Object.assign(globalThis, { client, room: entered, sent, signals, left, states, heard, candidates });
    },
    { base: server.url, room, than, order },
  );
  return page;
}

const connected = (page) => eventually(async () => assert.ok(await page.evaluate(() => globalThis.link?.state === "connected"), "Chromium is connected"), 30_000);

/** Texts and bytes, both ways; they arrive as they were sent, and in that order. */
async function talk(guest, page) {
  await guest.told("open");
  await connected(page);
  const expected = [...TEXTS.map((text) => ({ text })), ...BYTES.map((bytes) => ({ base64: bytes.toString("base64") }))];
  for (const message of expected) guest.say(message);
  await page.evaluate((messages) => {
    for (const { text, base64 } of messages) globalThis.link.send(text ?? Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
  }, expected);
  await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.heard), expected));
  const heard = await guest.told("message", expected.length);
  assert.deepEqual(heard, expected.map((message) => ({ event: "message", ...message })));
}

/** What came from Python: one description, which names no candidate; then each candidate alone; then their end. All of it is taken. */
async function trickledFromPython(page, description) {
  await eventually(async () => assert.equal((await page.evaluate(() => globalThis.signals.at(-1).payload)).candidate, "", "the end of candidates"));
  const signals = await page.evaluate(() => globalThis.signals);
  const [{ type, payload }, ...candidates] = signals;
  assert.equal(type, description);
  assert.doesNotMatch(payload.sdp, /a=candidate|a=end-of-candidates/);
  const named = candidates.slice(0, -1).map(({ payload }) => payload.candidate);
  assert.ok(named.length > 0);
  for (const candidate of named) assert.match(candidate, /^candidate:\S+ 1 udp \d+ \S+ \d+ typ (host|srflx|relay)/);
  await eventually(async () => {
    assert.deepEqual(await page.evaluate(() => globalThis.candidates), [...named, ""].map((candidate) => ({ candidate, taken: true })));
  });
  return named;
}

/** What came to Python: every candidate of Chromium's, and, said here because the browser client says none, their end. Gives Chromium's. */
async function trickledToPython(guest, page, end) {
  const taken = async () => {
    const count = guest.heard.filter(({ event }) => event === "candidates").length;
    guest.say({ candidates: true });
    return (await guest.told("candidates", count + 1)).at(-1);
  };
  const said = await eventually(async () => {
    assert.equal(await page.evaluate(() => globalThis.link.connection.iceGatheringState), "complete");
    return page.evaluate(() => globalThis.sent.map(({ payload }) => payload.candidate).filter(Boolean));
  });
  assert.ok(said.length > 0);
  const types = said.map((candidate) => / typ (\w+)/.exec(candidate)[1]);
  await eventually(async () => {
    const now = await taken();
    // Python may meet Chromium at addresses that nobody told it.
    assert.deepEqual(now.types.filter((type) => type !== "prflx").sort(), types.sort());
    assert.equal(now.ended, false);
  });
  await page.evaluate(([to, end]) => globalThis.client.send("ice-candidate", { room: globalThis.room.name, to, payload: end }), [guest.peerId, end]);
  await eventually(async () => assert.equal((await taken()).ended, true, "the end of candidates"));
  return said;
}

test("Chromium offers to Python: candidates trickle both ways, and texts and bytes arrive", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t);
  const guest = await startGuest(t, server);
  const page = await inRoom(t, server);
  await page.evaluate((peerId) => {
    // As where a line begins with pictures: words between browser clients, which must not be taken for the end of candidates.
    globalThis.client.addEventListener("sent", ({ detail }) => {
      if (detail.type === "offer") globalThis.client.send("ice-candidate", { room: "calls", to: peerId, payload: { candidate: "", turn: "ask" } });
    });
    globalThis.room.connect(peerId);
  }, guest.peerId);
  await talk(guest, page);
  assert.equal((await guest.told("called"))[0].peerId, await page.evaluate(() => globalThis.client.peerId));
  await trickledFromPython(page, "answer");
  await trickledToPython(guest, page, { candidate: "", sdpMid: "0", sdpMLineIndex: 0 });
  await page.evaluate(() => globalThis.link.close());
  await guest.told("close");
});

test("Python offers to Chromium: candidates trickle both ways, and texts and bytes arrive", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t);
  const page = await inRoom(t, server);
  const guest = await startGuest(t, server);
  assert.deepEqual(guest.peers, [await page.evaluate(() => globalThis.client.peerId)]);
  guest.say({ call: guest.peers[0] });
  await talk(guest, page);
  await trickledFromPython(page, "offer");
  await trickledToPython(guest, page, null);
  await page.evaluate(() => globalThis.client.close());
  await guest.told("close");
  assert.equal((await guest.told("peer-left"))[0].reason, "disconnected");
});

for (const order of ["lower", "higher"]) {
  test(`both offer at once, and the ${order} peer id is Chromium's: there is one line`, { timeout: 90_000 }, async (t) => {
    const server = await startServer(t);
    const guest = await startGuest(t, server);
    const page = await inRoom(t, server, { than: guest.peerId, order });
    await page.evaluate((peerId) => {
      // Its offer is not made before Python's is there, and so both are under way.
      const meeting = new Promise((resolve) => globalThis.client.addEventListener("offer", resolve, { once: true }));
      const { setLocalDescription } = RTCPeerConnection.prototype;
      RTCPeerConnection.prototype.setLocalDescription = async function (...description) {
        await meeting;
        return setLocalDescription.apply(this, description);
      };
      globalThis.room.connect(peerId);
    }, guest.peerId);
    guest.say({ call: await page.evaluate(() => globalThis.client.peerId) });
    await talk(guest, page);
    const [sent, received] = await page.evaluate(() => [globalThis.sent, globalThis.signals].map((signals) => signals.map(({ type }) => type)));
    const count = (types, type) => types.filter((other) => other === type).length;
    assert.deepEqual([count(sent, "offer"), count(received, "offer")], [1, 1], "the offers met");
    assert.deepEqual([count(sent, "answer"), count(received, "answer")], order === "lower" ? [1, 0] : [0, 1]);
    assert.deepEqual(guest.heard.filter(({ event }) => event === "close"), []);
  });
}

/** What a listener raised ended the task that reads: the client heard nothing any more, and kept its connection. */
test("a listener in Python that raises is logged, and the client goes on", { timeout: 60_000 }, async (t) => {
  const server = await startServer(t);
  const guest = await startGuest(t, server);
  const page = await inRoom(t, server);
  for (const [i, payload] of ["one", "two"].entries()) {
    await page.evaluate((payload) => globalThis.client.send("message", { room: "calls", payload }), payload);
    assert.equal((await guest.told("said", i + 1))[i].payload, payload);
  }
  await eventually(() => assert.equal(guest.log().match(/ValueError: a mistake of the listener/g)?.length, 2, guest.log()));
});

test("a line in Python ends when its peer signals faster than it can take", { timeout: 30_000 }, async () => {
  const child = spawn(PYTHON, [fileURLToPath(new URL("flood.py", import.meta.url))], { stdio: ["ignore", "ignore", "pipe"] });
  guests.add(child);
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  const code = await within(new Promise((resolve) => child.once("close", resolve)), "the end of the Python program").finally(() => child.kill("SIGKILL"));
  guests.delete(child);
  assert.equal(code, 0, log);
});

test("two in Python", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t);
  const guests = [await startGuest(t, server), await startGuest(t, server)];
  guests[1].say({ call: guests[0].peerId });
  for (const guest of guests) await guest.told("open");
  for (const [i, guest] of guests.entries()) guest.say({ text: `from ${i}` });
  for (const [i, guest] of guests.entries()) assert.equal((await guest.told("message"))[0].text, `from ${1 - i}`);
  guests[0].say({ close: true });
  await guests[1].told("close");
  assert.equal((await guests[1].told("peer-left"))[0].reason, "disconnected");
  for (const guest of guests) assert.equal(guest.log(), "");
});

/** How many relays clients have there, by whichever way. */
async function relays(server) {
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const metrics = await (await fetch(`${server.admin}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).text();
  const counts = [...metrics.matchAll(/^switchboard_turn_allocations{.*} (\d+)$/gm)].map(([, count]) => Number(count));
  assert.ok(counts.length > 0);
  return counts.reduce((sum, count) => sum + count);
}

test("by relays of the server alone, and Chromium sees when Python goes", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t, {
    SWITCHBOARD_TURN_ENABLED: "true",
    SWITCHBOARD_TURN_LISTEN: "127.0.0.1:0",
    SWITCHBOARD_TURN_ALLOW: "127.0.0.1",
    SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter",
    // An address of the other family, as servers name that listen on both.
    SWITCHBOARD_ICE_SERVERS: "stun:[::1]:9",
    SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0",
  });
  const page = await inRoom(t, server, { room: "shelter" });
  const guest = await startGuest(t, server, "shelter");
  guest.say({ call: guest.peers[0] });
  await talk(guest, page);
  for (const candidate of await trickledFromPython(page, "offer")) assert.match(candidate, / typ relay raddr 0\.0\.0\.0 /);
  for (const candidate of await trickledToPython(guest, page, null)) assert.match(candidate, / typ relay /);
  await eventually(async () => {
    const { localCandidate, remoteCandidate } = await page.evaluate(() => globalThis.link.stats());
    assert.deepEqual([localCandidate, remoteCandidate], ["relay", "relay"]);
  });
  assert.ok((await relays(server)) >= 2);

  guest.say({ close: true });
  assert.deepEqual(await guest.ended(), { code: 0, signal: null }, guest.log());
  await eventually(async () => {
    assert.deepEqual(await page.evaluate(() => [globalThis.states.at(-1), globalThis.left]), ["closed", ["disconnected"]]);
  });
  assert.equal(guest.log(), "");
  await eventually(async () => assert.equal(await relays(server), 0));
});
