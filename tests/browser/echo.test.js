/** `switchboard echo`, called by Chromium: what goes through its channels comes back, directly and through the server's own relays. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { ALLOWED, BINARY, DEVICES, eventually, startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);

/** An echo in the room `cave`. When this settles, it is in. */
async function startEcho(t, server, args = []) {
  const child = spawn(BINARY, ["echo", "cave", "--url", server.url, "--log", "info,switchboard=debug", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  const exit = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await within(exit, "the echo's end");
  });
  const lines = createInterface({ input: child.stdout });
  const inside = new Promise((resolve, reject) => {
    lines.once("line", resolve);
    lines.once("close", () => reject(new Error(`the echo ended:\n${log}`)));
  });
  assert.match(await within(inside, "the echo in its room"), /^The echo is in room "cave"/);
  return { interrupt: () => (child.kill("SIGINT"), within(exit, "the echo's end after ctrl-c")), log: () => log };
}

/** A page that is in the room by hand, without our client, and calls whoever is there: `call()` gives an open channel. */
async function caller(t, server) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(async (base) => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/ws`);
    const heard = [];
    const waiting = [];
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (globalThis.onSignal?.(message)) return;
      heard.push(message);
      waiting.splice(0).forEach((look) => look());
    };
    const hear = (type) =>
      new Promise((resolve) => {
        const look = () => {
          const at = heard.findIndex((message) => message.type === type);
          if (at < 0) waiting.push(look);
          else resolve(heard.splice(at, 1)[0]);
        };
        look();
      });
    await new Promise((resolve) => (socket.onopen = resolve));
    const say = (message) => socket.send(JSON.stringify(message));
    say({ type: "join", room: "cave" });
    const { iceServers } = await hear("welcome");
    const { peers } = await hear("joined");
    const echo = peers.find(({ metadata }) => metadata?.name === "echo").peerId;

    globalThis.say = (message) => say({ to: echo, ...message });
    globalThis.call = async (options = {}, prepare = () => {}) => {
      const connection = new RTCPeerConnection({ iceServers, ...options });
      connection.onicecandidate = ({ candidate }) => candidate && say({ type: "ice-candidate", to: echo, payload: candidate });
      const channel = connection.createDataChannel("anything", { ordered: true });
      channel.binaryType = "arraybuffer";
      const opened = new Promise((resolve) => (channel.onopen = resolve));
      await prepare(connection);
      const answered = new Promise((resolve) => {
        globalThis.onSignal = ({ type, payload }) => {
          if (type === "answer") connection.setRemoteDescription(payload).then(resolve);
          else if (type === "ice-candidate") answered.then(() => connection.addIceCandidate(payload));
          return type === "answer" || type === "ice-candidate";
        };
      });
      await connection.setLocalDescription();
      say({ type: "offer", to: echo, payload: connection.localDescription });
      await Promise.all([answered, opened]);
      Object.assign(globalThis, { connection, channel });
    };
    /** Sends it, and gives what comes back. */
    globalThis.back = (data) =>
      new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(data);
        channel.send(data);
      });
    globalThis.bytesBack = async (length) => {
      const bytes = crypto.getRandomValues(new Uint8Array(length));
      const returned = new Uint8Array(await globalThis.back(bytes));
      return returned.length === length && returned.every((byte, at) => byte === bytes[at]);
    };
  }, server.url);
  return page;
}

/** Text and 64 KiB go there and come back. */
async function isEchoed(page, text) {
  assert.equal(await within(page.evaluate((text) => globalThis.back(text), text), "the text back"), text);
  assert.ok(await within(page.evaluate(() => globalThis.bytesBack(65_536)), "the bytes back"));
}

const call = (page, options) => within(page.evaluate((options) => globalThis.call(options), options), "a channel to the echo");

test("text and bytes come back, to two pages at once, and a bad offer harms nobody", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t);
  const echo = await startEcho(t, server);
  const pages = [await caller(t, server), await caller(t, server)];
  const stranger = await caller(t, server);
  await Promise.all(pages.map((page) => call(page)));
  await Promise.all(pages.map((page, at) => isEchoed(page, `Grüße von ${at}`)));
  for (const payload of [null, { type: "offer", sdp: "v=0\r\n" }, { type: "offer", sdp: "x".repeat(30_000) }, { sdp: 7 }]) {
    await stranger.evaluate((payload) => globalThis.say({ type: "offer", payload }), payload);
  }
  await eventually(() => assert.match(echo.log(), /an offer is not taken/));
  await Promise.all(pages.map((page) => isEchoed(page, "still there")));
  // A new connection of the same page takes the place of the one before, and so does who was a stranger.
  await call(pages[0]);
  await call(stranger);
  await Promise.all([...pages, stranger].map((page) => isEchoed(page, "once more")));

  assert.deepEqual(await echo.interrupt(), { code: 0, signal: null });
  await eventually(async () => {
    for (const page of pages) assert.equal(await page.evaluate(() => globalThis.channel.readyState), "closed");
  });
});

test("by a relay alone it is reached as well, and answers by its own", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t, {
    SWITCHBOARD_TURN_ENABLED: "true",
    SWITCHBOARD_TURN_LISTEN: "127.0.0.1:0",
    SWITCHBOARD_TURN_ALLOW: "127.0.0.1",
    SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "cave",
  });
  await startEcho(t, server);
  const page = await caller(t, server);
  await call(page, { iceTransportPolicy: "relay" });
  await isEchoed(page, "by relays");
  const kinds = await page.evaluate(async () => {
    const report = await globalThis.connection.getStats();
    const transport = [...report.values()].find(({ type }) => type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    return [pair.localCandidateId, pair.remoteCandidateId].map((id) => report.get(id).candidateType);
  });
  assert.equal(kinds[0], "relay");
  assert.ok(["relay", "prflx"].includes(kinds[1]), kinds[1]);
});

test("our own client has a line to it, and pictures come back", { timeout: 90_000 }, async (t) => {
  const server = await startServer(t);
  await startEcho(t, server);
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  const heard = page.evaluate(async (base) => {
    const { connect } = await import(`${base}/client.js`);
    const { room } = await connect(base, { room: "cave", mesh: true });
    return new Promise((resolve) => {
      room.addEventListener("link", ({ detail: link }) => {
        link.addEventListener("message", ({ detail }) => resolve(detail));
        link.addEventListener("state", () => link.state === "connected" && link.send("Hello"));
      });
    });
  }, server.url);
  assert.equal(await within(heard, "what was said back"), "Hello");

  const camera = await caller(t, server);
  const shown = camera.evaluate(async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
    await globalThis.call({}, (connection) => stream.getTracks().forEach((track) => connection.addTrack(track, stream)));
    for (;;) {
      const report = [...(await globalThis.connection.getStats()).values()];
      const frames = report.find(({ type, kind }) => type === "inbound-rtp" && kind === "video")?.framesDecoded ?? 0;
      const samples = report.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio")?.packetsReceived ?? 0;
      if (frames >= 5 && samples >= 5) return true;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
  assert.ok(await within(shown, "pictures and sound back"));
});
