/** The client alone, without a page of ours: it finds a door, stays connected, and keeps its lines. */

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { after, test } from "node:test";

import { QUICK, eventually, startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after });

/** A page that has imported the client, and nothing else. */
async function blank(t, server) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(async (base) => Object.assign(globalThis, await import(`${base}/client.js`), { base }), server.url);
  return page;
}

/** A page with a client in a room; `client`, `room` and what they tell are global in it. */
async function inRoom(t, server, options = {}) {
  const page = await blank(t, server);
  await page.evaluate(async (options) => {
    globalThis.client = await globalThis.connect(globalThis.base, { room: "calls", ...options });
    globalThis.room = globalThis.client.room;
    globalThis.heard = [];
    globalThis.states = [];
    globalThis.client.addEventListener("state", ({ detail }) => globalThis.states.push(detail));
    globalThis.room.addEventListener("message", ({ detail }) => globalThis.heard.push(detail.payload));
    const listen = (link) => link.addEventListener("message", ({ detail }) => globalThis.heard.push(detail));
    globalThis.room.links.forEach(listen);
    globalThis.room.addEventListener("link", ({ detail }) => listen(detail));
  }, options);
  return page;
}

const links = (page) => page.evaluate(() => [...globalThis.room.links.values()].map(({ state }) => state));

test("a mesh of four, on both doors: everybody has a line to everybody", async (t) => {
  const server = await startServer(t);
  const pages = [];
  for (const transport of ["webtransport", "websocket", "webtransport", "websocket"]) pages.push(await inRoom(t, server, { transport, mesh: true }));
  for (const page of pages) await eventually(async () => assert.deepEqual(await links(page), ["connected", "connected", "connected"]));
  for (const [i, page] of pages.entries()) await page.evaluate((i) => globalThis.room.links.forEach((link) => link.send(`from ${i}`)), i);
  for (const [i, page] of pages.entries()) {
    const expected = [0, 1, 2, 3].filter((j) => j !== i).map((j) => `from ${j}`);
    await eventually(async () => assert.deepEqual((await page.evaluate(() => globalThis.heard)).sort(), expected));
  }
  const stats = await pages[0].evaluate(() => [...globalThis.room.links.values()][0].stats());
  assert.equal(stats.localCandidate, "host");
  assert.ok(stats.bytesSent > 0 && stats.bytesReceived > 0 && stats.protocol === "udp", JSON.stringify(stats));

  await pages[3].evaluate(() => globalThis.room.leave());
  for (const page of pages.slice(0, 3)) await eventually(async () => assert.deepEqual(await links(page), ["connected", "connected"]));
});

test("fifty times both offer at once, and fifty times there is one line", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_RATES: "off" });
  const page = await blank(t, server);
  const offers = await within(
    page.evaluate(async () => {
      const offers = [];
      const clients = await Promise.all(["webtransport", "websocket"].map((transport) => globalThis.connect(globalThis.base, { transport })));
      for (let round = 0; round < 50; round++) {
        const rooms = await Promise.all(clients.map((client) => client.join(`glare ${round}`)));
        for (const room of rooms) if (room.peers.length === 0) await new Promise((resolve) => room.addEventListener("peer-joined", resolve, { once: true }));
        let sent = 0;
        const count = ({ detail }) => void (sent += detail.type === "offer");
        for (const client of clients) client.addEventListener("sent", count);
        // In one page, in one turn: neither can have heard of the other's.
        const links = rooms.map((room, i) => room.connect(clients[1 - i].peerId));
        for (const [i, link] of links.entries()) {
          if (link.state !== "connected") await new Promise((resolve) => link.addEventListener("state", resolve, { once: true }));
          const heard = new Promise((resolve) => links[1 - i].addEventListener("message", ({ detail }) => resolve(detail), { once: true }));
          while (!link.send(`round ${round}`)) await new Promise((resolve) => link.addEventListener("state", resolve, { once: true }));
          if ((await heard) !== `round ${round}`) throw new Error("another message");
        }
        for (const client of clients) client.removeEventListener("sent", count);
        offers.push(sent);
        await Promise.all(rooms.map((room) => room.leave()));
      }
      clients.forEach((client) => client.close());
      return offers;
    }),
    "fifty lines",
    90_000,
  );
  assert.equal(offers.length, 50);
  assert.ok(offers.every((sent) => sent === 2), `the offers met: ${offers}`);
});

test("the server is killed and comes back in a call: pictures go on, and so does everything else", async (t) => {
  const server = await startServer(t, QUICK);
  const pages = [];
  for (const transport of ["webtransport", "websocket"]) {
    const page = await inRoom(t, server, { transport, mesh: true });
    pages.push(page);
    await page.evaluate(() => {
      // A picture that moves, in place of a camera.
      const canvas = document.body.appendChild(document.createElement("canvas"));
      const context = canvas.getContext("2d");
      setInterval(() => {
        context.fillStyle = `hsl(${performance.now() / 10} 80% 50%)`;
        context.fillRect(0, 0, canvas.width, canvas.height);
      }, 40);
      const stream = canvas.captureStream(25);
      globalThis.show = () => globalThis.room.links.forEach((link) => link.addTrack(stream.getVideoTracks()[0].clone(), stream));
      globalThis.videos = [];
      globalThis.ids = [];
      globalThis.take = (link) => {
        link.addEventListener("renamed", ({ detail }) => globalThis.ids.push(detail));
        link.addEventListener("track", ({ detail }) => {
          const video = document.body.appendChild(document.createElement("video"));
          Object.assign(video, { muted: true, autoplay: true, srcObject: new MediaStream([detail.track]) });
          globalThis.videos.push(video);
        });
      };
      globalThis.room.links.forEach(globalThis.take);
      globalThis.room.addEventListener("link", ({ detail }) => globalThis.take(detail));
    });
  }
  for (const page of pages) await eventually(async () => assert.deepEqual(await links(page), ["connected"]));
  for (const page of pages) await page.evaluate(() => globalThis.show());
  const frames = (page, video = 0) => page.evaluate((video) => globalThis.videos[video]?.getVideoPlaybackQuality().totalVideoFrames ?? 0, video);
  const moving = async (page, video = 0) => {
    const seen = await frames(page, video);
    await eventually(async () => assert.ok((await frames(page, video)) > seen + 10, "the picture stands still"));
  };
  for (const page of pages) await moving(page);
  const before = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.client.peerId)));

  await server.kill();
  for (const page of pages) await eventually(async () => assert.equal(await page.evaluate(() => globalThis.client.state), "reconnecting"));
  for (const page of pages) await moving(page);
  await startServer(t, QUICK, new URL(server.url).port);
  for (const page of pages) {
    await eventually(async () => assert.equal(await page.evaluate(() => globalThis.client.state), "connected"), 60_000);
    await moving(page);
  }
  const ids = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.client.peerId)));
  assert.ok(ids.every((id) => !before.includes(id)), "a new session has a new id");
  for (const [i, page] of pages.entries()) {
    await eventually(async () => {
      const [peers, lines, renamed] = await page.evaluate(() => [globalThis.room.peers.map(({ peerId }) => peerId), [...globalThis.room.links.keys()], globalThis.ids]);
      assert.deepEqual([peers, lines, renamed], [[ids[1 - i]], [ids[1 - i]], [ids[1 - i]]]);
    });
  }
  // The same line can be negotiated anew, by the new server.
  await pages[0].evaluate(() => globalThis.show());
  await eventually(async () => assert.equal(await pages[1].evaluate(() => globalThis.videos.length), 2));
  await moving(pages[1], 1);
  for (const page of pages) assert.deepEqual(await links(page), ["connected"]);
});

/** Two clients of one page with a line between them, the polite one first, in `two`; `tracks` makes new ones, and `seen` counts those that have arrived at each. */
async function lined(t, server, options = {}) {
  const page = await blank(t, server);
  await page.evaluate(async (options) => {
    globalThis.tracks = (kinds) =>
      [...kinds].map((kind) => {
        if (kind === "a") return new AudioContext().createMediaStreamDestination().stream.getTracks()[0];
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        return canvas.captureStream(5).getTracks()[0];
      });
    globalThis.meet = async (room) => {
      const { connect } = globalThis;
      const clients = [await connect(globalThis.base, { room, ...options }), await connect(globalThis.base, { room, ...options })];
      while (clients[0].room.peers.length === 0) await new Promise((resolve) => clients[0].room.addEventListener("peer-joined", resolve, { once: true }));
      clients.sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
      globalThis.two = clients;
      globalThis.seen = [0, 0];
      globalThis.links = clients.map((client, i) => client.room.connect(clients[1 - i].peerId));
      globalThis.links.forEach((link, i) => link.addEventListener("track", () => globalThis.seen[i]++));
    };
  }, options);
  return page;
}

const lineStates = (page) => page.evaluate(() => globalThis.links.map(({ state, connection }) => [state, connection.signalingState]).flat());
const SETTLED = ["connected", "stable", "connected", "stable"];

/** Chromium cannot take back an offer of tracks: both sides had one that was never answered, on this line and for good. */
test("both add tracks at the same moment, and all of them arrive", async (t) => {
  const server = await startServer(t);
  const page = await lined(t, server);
  for (const [polite, impolite] of [["av", "v"], ["v", "av"], ["v", "a"], ["av", "av"]]) {
    for (const isNew of [false, true]) {
      const name = `${polite} and ${impolite} on ${isNew ? "a new line" : "an old one"}`;
      await page.evaluate((name) => globalThis.meet(name), name);
      if (!isNew) await eventually(async () => assert.deepEqual(await lineStates(page), SETTLED));
      await page.evaluate((all) => globalThis.links.forEach((link, i) => globalThis.tracks(all[i]).forEach((track) => link.addTrack(track))), [polite, impolite]);
      await eventually(async () => {
        assert.deepEqual(await page.evaluate(() => globalThis.seen), [impolite.length, polite.length], name);
        assert.deepEqual(await lineStates(page), SETTLED, name);
      });
      await page.evaluate(() => globalThis.two.forEach((client) => client.close()));
    }
  }
});

/** Its offer went to an id that the peer had no more, and the line could never be negotiated again. */
test("tracks that are added while the server is away arrive when it is back", async (t) => {
  for (const adding of [[0], [1], [0, 1]]) {
    const server = await startServer(t, QUICK);
    const page = await lined(t, server, { transport: "websocket" });
    await page.evaluate(() => globalThis.meet("away"));
    await eventually(async () => assert.deepEqual(await lineStates(page), SETTLED));
    await server.kill();
    await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.two.map(({ state }) => state)), ["reconnecting", "reconnecting"]));
    await page.evaluate((adding) => adding.forEach((i) => globalThis.links[i].addTrack(globalThis.tracks("v")[0])), adding);
    await startServer(t, QUICK, new URL(server.url).port);
    const expected = [0, 1].map((i) => Number(adding.includes(1 - i)));
    await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.seen), expected, `added by ${adding}`), 60_000);
    await eventually(async () => assert.deepEqual(await lineStates(page), SETTLED));
  }
});

test("a connection that breaks again and again loses nothing, and the others do not notice", async (t) => {
  const server = await startServer(t);
  const proxy = await fragile(t, new URL(server.url).port);
  const witness = await inRoom(t, server, { transport: "websocket" });
  await witness.evaluate(() => {
    globalThis.gone = [];
    for (const type of ["peer-left", "peer-joined"]) globalThis.room.addEventListener(type, () => globalThis.gone.push(type));
  });
  const page = await inRoom(t, { url: proxy.url }, { transport: "websocket" });
  const peerId = await page.evaluate(() => globalThis.client.peerId);
  for (let time = 0; time < 5; time++) {
    for (const [from, name] of [[page, "there"], [witness, "back"]]) {
      await from.evaluate(([name, time]) => {
        for (let n = 0; n < 20; n++) globalThis.room.send(`${name} ${20 * time + n}`);
      }, [name, time]);
    }
    proxy.cut();
    await eventually(async () => assert.equal(await page.evaluate(() => globalThis.states.filter(({ state }) => state === "connected").length), time + 1));
  }
  for (const [at, name] of [[witness, "there"], [page, "back"]]) {
    const all = Array.from({ length: 100 }, (_, n) => `${name} ${n}`);
    await eventually(async () => assert.deepEqual(await at.evaluate(() => globalThis.heard), all));
  }
  assert.ok(await page.evaluate(() => globalThis.states.filter(({ state }) => state === "connected").every(({ resumed }) => resumed)));
  assert.equal(await page.evaluate(() => globalThis.client.peerId), peerId);
  assert.deepEqual(await witness.evaluate(() => globalThis.gone), ["peer-joined"]);
});

/** Forwards TCP to the server until it is told to cut. */
async function fragile(t, port) {
  const sockets = new Set();
  const proxy = createServer((client) => {
    const upstream = connect(Number(port), "127.0.0.1");
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      sockets.add(from);
      from.on("data", (chunk) => to.write(chunk));
      from.on("error", () => {});
      from.on("close", () => (sockets.delete(from), to.destroy()));
    }
  });
  const cut = () => sockets.forEach((socket) => socket.resetAndDestroy());
  await within(new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve)), "a port for the proxy");
  t.after(() => (cut(), proxy.close()));
  return { url: `http://127.0.0.1:${proxy.address().port}`, cut };
}

/** What a page takes for the server's discovery, with one door moved to where nobody answers. */
async function divert(page, type, url) {
  await page.route("**/.well-known/switchboard", async (route) => {
    const document = await (await route.fetch()).json();
    for (const entry of document.transports) if (entry.type === type) entry.url = url;
    await route.fulfill({ json: document });
  });
}

/** Counts the WebTransport sessions that a page begins. */
const countSessions = (page) =>
  page.evaluate(() => {
    globalThis.sessions = 0;
    const Original = globalThis.WebTransport;
    globalThis.WebTransport = class extends Original {
      constructor(...args) {
        globalThis.sessions++;
        super(...args);
      }
    };
  });

test("where UDP is swallowed it is in within two seconds, and knows better the next time", async (t) => {
  const server = await startServer(t);
  const hole = createSocket("udp4");
  await within(new Promise((resolve) => hole.bind(0, "127.0.0.1", resolve)), "a port that swallows UDP");
  t.after(() => hole.close());
  const page = await blank(t, server);
  await divert(page, "webtransport", `https://127.0.0.1:${hole.address().port}/wt`);
  await countSessions(page);
  const come = () =>
    page.evaluate(async () => {
      const begin = performance.now();
      const client = await globalThis.connect(globalThis.base);
      const outcome = { transport: client.transport, ms: performance.now() - begin, sessions: globalThis.sessions };
      client.close();
      return outcome;
    });
  const first = await come();
  assert.deepEqual([first.transport, first.sessions], ["websocket", 1]);
  assert.ok(first.ms < 2_000, `${first.ms} ms`);
  const second = await come();
  assert.deepEqual([second.transport, second.sessions], ["websocket", 1], "it was not tried again");
});

test("where WebSockets are swallowed it is in all the same, even if one was remembered", async (t) => {
  const server = await startServer(t);
  const hole = createServer(() => {});
  await within(new Promise((resolve) => hole.listen(0, "127.0.0.1", resolve)), "a port that swallows TCP");
  t.after(() => hole.close());
  const page = await blank(t, server);
  await divert(page, "websocket", `ws://127.0.0.1:${hole.address().port}/ws`);
  for (const remembered of [false, true]) {
    const transport = await page.evaluate(async (remembered) => {
      const entry = JSON.stringify({ type: "websocket", until: Date.now() + 60_000 });
      if (remembered) localStorage.setItem(`switchboard.door ${new URL(globalThis.base).host}`, entry);
      const client = await globalThis.connect(globalThis.base);
      const { transport } = client;
      client.close();
      return transport;
    }, remembered);
    assert.equal(transport, "webtransport");
  }
});

test("the lines of JavaScript in the README open a data channel", async (t) => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const [, code] = /```js\n([\s\S]*?)```/.exec(readme) ?? [];
  assert.ok(code, "there are some");
  const server = await startServer(t);
  const pages = [];
  for (let i = 0; i < 2; i++) {
    const page = await browser.newPage(t);
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    await page.goto(`${server.url}/healthz`);
    await page.addScriptTag({ type: "module", content: code.replaceAll("http://localhost:8080", server.url) });
    pages.push(said);
  }
  for (const said of pages) await eventually(async () => assert.ok(said.some((text) => text.includes("Hello")), said.join("\n")));
});
