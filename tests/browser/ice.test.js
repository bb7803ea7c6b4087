/**
 * A call in a room for relays alone, by way of coturn, with what the server tells of it: nobody shows an address of its own, and the credentials that
 * the server renews are those that count. Needs coturn, which `tests/run` installs.
 */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { startCoturn } from "./coturn.js";
import { eventually, serveElsewhere, startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after });

/** So long credentials are good here; clients get new ones each five seconds. */
const TTL_MS = 10_000;
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

test("a page of another origin has ICE servers by HTTP, and a relay with them", async (t) => {
  const coturn = await startCoturn(t);
  const settings = { SWITCHBOARD_ICE_TURN_URLS: coturn.url, SWITCHBOARD_ICE_TURN_SECRET_FILES: coturn.secretFile };
  const server = await startServer(t, settings);
  const page = await browser.newPage(t);
  await page.goto(`${await serveElsewhere(t)}/style.css`);
  const gather = async (base) => {
    // The header is one that a browser asks about before.
    const answer = await fetch(`${base}/ice`, { headers: { Authorization: "Bearer whatever" } });
    const { iceServers, ttl } = await answer.json();
    const connection = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
    const found = new Promise((resolve) => (connection.onicecandidate = ({ candidate }) => resolve(candidate?.type)));
    connection.createDataChannel("");
    await connection.setLocalDescription();
    const type = await found;
    connection.close();
    return { type, ttl };
  };
  const { type, ttl } = await within(page.evaluate(gather, server.url), "a candidate");
  assert.equal(type, "relay", coturn.log());
  assert.ok(ttl > 86_000 && ttl <= 86_400, `${ttl}`);
});
