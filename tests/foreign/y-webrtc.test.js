/** Documents of Yjs find each other by `y-webrtc`, whose signaling server is this one, and are the same document from there on. */

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "../browser/support.js";
import { bundle } from "./bundle.js";

/** What an application of Yjs does; the only line about the server is that of `signaling`. */
const APPLICATION = `
  import { WebrtcProvider } from "y-webrtc";
  import * as Y from "yjs";

  window.open = (room, signaling, password) => {
    const doc = new Y.Doc();
    const provider = new WebrtcProvider(room, doc, {
      signaling: [signaling],
      password,
      filterBcConns: false,
      peerOpts: { config: { iceServers: [] } },
    });
    const map = doc.getMap("notes");
    return { doc, provider, map, write: (key, value) => map.set(key, value), read: () => map.toJSON() };
  };
`;

let browser, script;
before(async (t) => {
  browser = await startBrowser(t);
  script = await bundle(APPLICATION);
});

/** A page of the application, in a browser context of its own, and all frames of its sockets. */
async function visitor(t, server) {
  const page = await browser.newPage(t);
  const sent = [];
  const heard = [];
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => sent.push(JSON.parse(payload)));
    socket.on("framereceived", ({ payload }) => heard.push(JSON.parse(payload)));
  });
  await page.goto(`${server.url}/healthz`);
  await page.addScriptTag({ content: script });
  return { page, sent, heard };
}

/** Enters a room, and is in it. */
async function enter(visitor, server, room, password = null) {
  const before = visitor.heard.length;
  await visitor.page.evaluate(([...args]) => void (window.note = window.open(...args)), [room, server.url.replace("http", "ws") + "/y", password]);
  await announced(visitor, room, before);
}

/**
 * Waits until the server has told of a room once more, after `before` frames. Nobody may follow sooner: of two who come in the same instant
 * each calls the other, and the library, on its own server as well, then stays alone now and then.
 */
async function announced({ heard }, room, before) {
  await eventually(() => assert.ok(heard.slice(before).some(({ type, topic }) => type === "publish" && topic === room)));
}

const write = ({ page }, key, value) => page.evaluate(([key, value]) => void window.note.write(key, value), [key, value]);
const read = ({ page }) => page.evaluate(() => window.note.read());

for (const password of [null, "a secret of the two"]) {
  test(`a document syncs both ways, ${password ? "with a password" : "without a password"}`, async (t) => {
    const server = await startServer(t);
    const [anna, bert] = await Promise.all([visitor(t, server), visitor(t, server)]);
    await enter(anna, server, "kitchen", password);
    await write(anna, "milk", 2);
    await enter(bert, server, "kitchen", password);
    await eventually(async () => assert.deepEqual(await read(bert), { milk: 2 }));
    await write(bert, "bread", { rye: true });
    await eventually(async () => assert.deepEqual(await read(anna), { milk: 2, bread: { rye: true } }));

    const published = [...anna.heard, ...bert.heard].filter(({ type }) => type === "publish");
    assert.ok(published.every(({ topic, clients }) => topic === "kitchen" && [1, 2].includes(clients)), JSON.stringify(published));
    assert.ok(published.some(({ clients }) => clients === 2));
    assert.ok(published.every(({ data }) => (typeof data === "string") === (password !== null)), "only with a password the data cannot be read");
    assert.deepEqual([...anna.heard, ...bert.heard].filter(({ type }) => type === "error"), []);
  });
}

test("a page is in several rooms over one socket, and leaves one of them", async (t) => {
  const server = await startServer(t);
  const [anna, bert] = await Promise.all([visitor(t, server), visitor(t, server)]);
  for (const one of [anna, bert]) {
    await enter(one, server, "attic");
    await one.page.evaluate(() => void (window.attic = window.note));
    await enter(one, server, "cellar");
  }
  await write(anna, "wine", 6);
  await anna.page.evaluate(() => window.attic.write("trunk", 1));
  await eventually(async () => assert.deepEqual(await read(bert), { wine: 6 }));
  await eventually(async () => assert.deepEqual(await bert.page.evaluate(() => window.attic.read()), { trunk: 1 }));

  await bert.page.evaluate(() => void window.attic.provider.destroy());
  await eventually(() => assert.ok(bert.sent.some(({ type, topics }) => type === "unsubscribe" && topics[0] === "attic")));
  await write(bert, "wine", 5);
  await eventually(async () => assert.deepEqual(await read(anna), { wine: 5 }));
  assert.deepEqual([...anna.heard, ...bert.heard].filter(({ type }) => type === "error"), []);
});

test("who comes back after the server was gone meets the others again", async (t) => {
  const server = await startServer(t);
  const [anna, bert] = await Promise.all([visitor(t, server), visitor(t, server)]);
  await enter(anna, server, "kitchen");
  const before = anna.heard.length;
  await within(server.kill(), "the server's death");
  const again = await startServer(t, {}, new URL(server.url).port);
  await announced(anna, "kitchen", before);
  await enter(bert, again, "kitchen");
  await write(bert, "soup", "hot");
  await eventually(async () => assert.deepEqual(await read(anna), { soup: "hot" }));
});
