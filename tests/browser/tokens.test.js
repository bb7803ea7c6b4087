/** A server that wants to know who comes in: tokens that run out, who is shown to the others, and what the pages say to whom is not let in. */

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { address, connectedTo, eventually, inState, startBrowser, startServer } from "./support.js";

const browser = await startBrowser({ after });
const DOORS = ["webtransport", "websocket"];

/** A server with a key, and what makes tokens with it: `claims`, good for so many seconds. */
async function closedServer(t) {
  const directory = await mkdtemp(join(tmpdir(), "switchboard-key-"));
  t.after(() => rm(directory, { recursive: true }));
  const secret = randomBytes(32);
  const keys = join(directory, "key.json");
  await writeFile(keys, JSON.stringify({ kty: "oct", kid: "test", alg: "HS256", k: secret.toString("base64url") }));
  const server = await startServer(t, { SWITCHBOARD_AUTH_KEYS: keys, SWITCHBOARD_AUTH_LEEWAY_MS: "0" });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const mint = (sub, seconds, rooms = ["*"]) => {
    const signed = `${part({ alg: "HS256", kid: "test" })}.${part({ sub, rooms, exp: Math.floor(Date.now() / 1_000) + seconds })}`;
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  };
  return { server, mint };
}

/**
 * A page that has imported the client and is in the room `desk`; `client`, `room` and what they tell are global in it. `give` is asked for a token each
 * time, with how often it was before; a string is the only one.
 */
async function inRoom(t, server, transport, give) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  let asked = 0;
  await page.exposeFunction("give", () => (typeof give === "function" ? give(asked++) : give));
  const [token, isFunction] = typeof give === "function" ? [undefined, true] : [give, false];
  await page.evaluate(
    async ({ base, transport, token, isFunction }) => {
      const { connect } = await import(`${base}/client.js`);
      const client = await connect(base, { room: "desk", transport, token: isFunction ? () => globalThis.give() : token });
      const heard = [];
      for (const type of ["goodbye", "error", "state", "close", "left"]) {
        client.addEventListener(type, ({ detail: { code, state, cause, reason, closesInMs } }) => heard.push([type, code ?? cause?.code ?? state ?? reason, closesInMs !== undefined]));
      }
      client.addEventListener("message", ({ detail }) => heard.push(["message", detail.payload]));
      Object.assign(globalThis, { client, room: client.room, heard });
    },
    { base: server.url, transport, token, isFunction },
  );
  return { page, asked: () => asked };
}

const heard = (page) => page.evaluate(() => globalThis.heard);
/** The same without the announcements: the first one of a token of some seconds comes with the welcome, before a page can listen. */
const story = async (page) => (await heard(page)).filter(([, , isAhead]) => !isAhead).map(([type, what]) => `${type} ${what}`);
const whoIs = (page) => page.evaluate(() => ({ peerId: globalThis.client.peerId, state: globalThis.client.state }));
const users = (page) => page.evaluate(() => globalThis.room.peers.map(({ user }) => user));

for (const transport of DOORS) {
  test(`a token of some seconds is renewed in the session, and the others see who it is, over ${transport}`, async (t) => {
    const { server, mint } = await closedServer(t);
    const { page: other } = await inRoom(t, server, "websocket", mint("stella", 600));
    const { page, asked } = await inRoom(t, server, transport, () => mint("emma", 4));
    const end = Date.now() + 4_000;
    const before = await whoIs(page);
    assert.equal(before.state, "connected");
    await eventually(async () => assert.deepEqual(await users(other), ["emma"]));
    assert.deepEqual(await users(page), ["stella"]);
    await eventually(() => assert.ok(asked() > 4 && Date.now() > end, `asked ${asked()} times`));
    assert.ok(asked() < 30, `asked ${asked()} times: not without end`);
    assert.deepEqual(await whoIs(page), before);
    await page.evaluate(() => globalThis.room.send("still here"));
    await eventually(async () => assert.deepEqual((await heard(other)).at(-1), ["message", "still here"]));
    assert.deepEqual([...new Set((await heard(page)).map(String))], ["goodbye,token-expired,true"], "its end was announced, and nothing else happened");
    assert.deepEqual(await users(other), ["emma"]);
  });

  test(`a token that cannot be renewed ends the session, over ${transport}`, async (t) => {
    const { server, mint } = await closedServer(t);
    const { page: other } = await inRoom(t, server, "websocket", mint("stella", 600));
    const { page } = await inRoom(t, server, transport, mint("emma", 3));
    await eventually(async () => assert.deepEqual(await users(other), ["emma"]));
    await eventually(async () => assert.deepEqual(await story(page), ["goodbye token-expired", "state token-expired", "close token-expired"]));
    await eventually(async () => assert.deepEqual(await users(other), []));
  });

  test(`who has a new token only when the old one has run out comes back with it, over ${transport}`, async (t) => {
    const { server, mint } = await closedServer(t);
    const [first, second] = [mint("emma", 3), mint("emma", 600)];
    const end = JSON.parse(Buffer.from(first.split(".")[1], "base64url")).exp * 1_000;
    const { page } = await inRoom(t, server, transport, () => (Date.now() < end ? first : second));
    const before = await whoIs(page);
    await eventually(async () => assert.deepEqual(await story(page), ["goodbye token-expired", "state token-expired", "state connected"]));
    assert.notEqual((await whoIs(page)).peerId, before.peerId, "that session is over");
    await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.client.rooms), ["desk"]));
  });

  test(`a new token that is not for the room sends its client out of it, over ${transport}`, async (t) => {
    const { server, mint } = await closedServer(t);
    const { page } = await inRoom(t, server, transport, (asked) => (asked === 0 ? mint("emma", 4) : mint("emma", 600, ["kitchen"])));
    await eventually(async () => assert.deepEqual(await story(page), ["left removed"]));
    const join = (room) => page.evaluate((room) => globalThis.client.join(room).then(({ name }) => name, ({ code }) => code), room);
    assert.deepEqual([await join("desk"), await join("kitchen")], ["forbidden", "kitchen"]);
  });
}

/** Opens a page of the server with a token in its link. */
async function visit(t, server, options, token) {
  const page = await browser.newPage(t);
  await page.goto(address(server, options) + (token === undefined ? "" : `&token=${token}`));
  return page;
}

const notice = (page) => page.getByTestId("notice").evaluate((element) => [element.hidden ? "" : element.dataset.code, element.innerText.trim()]);

test("a page takes its token out of the link, shows who the others are, and gives the token to a second page of its own", async (t) => {
  const { server, mint } = await closedServer(t);
  const emma = await visit(t, server, { name: "Emma", door: "websocket" }, mint("emma@example.org", 600));
  await inState(emma, "inside");
  assert.ok(!emma.url().includes("token"), emma.url());
  const links = await emma.evaluate(() => [...document.links].map(({ href }) => href));
  assert.deepEqual(links.filter((href) => href.includes("token")), []);
  const stella = await visit(t, server, { name: "Stella" }, mint("stella@example.org", 600));
  await inState(stella, "inside");
  await connectedTo(emma, [{ name: "Stella", door: "webtransport" }]);
  await connectedTo(stella, [{ name: "Emma", door: "websocket" }]);
  const shown = (page) => page.getByTestId("peer").getByTestId("user").allInnerTexts();
  assert.deepEqual([await shown(emma), await shown(stella)], [["stella@example.org"], ["emma@example.org"]]);

  // The tab keeps it, and so does what it opens.
  await emma.reload();
  await inState(emma, "inside");
  await stella.close();
  await emma.getByTestId("second").waitFor();
  const popup = emma.waitForEvent("popup");
  await emma.getByTestId("second").click();
  const second = await popup;
  await inState(second, "inside");
  assert.ok(!second.url().includes("token"), second.url());
  assert.deepEqual(await shown(second), ["emma@example.org"]);
});

test("pages say in words why somebody is not let in", async (t) => {
  const { server, mint } = await closedServer(t);
  for (const [code, sentence, token] of [
    ["unauthorized", /lets nobody in without permission/, undefined],
    ["unauthorized", /lets nobody in without permission/, mint("emma", -60)],
    ["forbidden", /do not have permission to enter this room/, mint("emma", 600, ["elsewhere"])],
  ]) {
    const page = await visit(t, server, {}, token);
    await eventually(async () => assert.equal((await notice(page))[0], code));
    assert.match((await notice(page))[1], sentence);
    await inState(page, "idle");
    await page.close();
  }
});

test("a page whose token runs out says so, and goes on with the next link", async (t) => {
  const { server, mint } = await closedServer(t);
  const page = await visit(t, server, {}, mint("emma", 3));
  await inState(page, "inside");
  await inState(page, "lost");
  const [code, sentence] = await notice(page);
  assert.equal(code, "token-expired");
  assert.match(sentence, /has run out\. Ask for a new link/);
  // In the same tab, and for the same room: nothing but the hash is another.
  await page.evaluate((token) => (location.hash = `room=kitchen&token=${token}`), mint("emma", 600));
  await inState(page, "inside");
  assert.ok(!page.url().includes("token"), page.url());
  assert.equal((await notice(page))[0], "");
});
