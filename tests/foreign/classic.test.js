/** The two clients that WebSocket tutorials teach, as a page's script writes them: each opens a data channel through this server. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { startBrowser, startServer, within } from "../browser/support.js";

/** By rooms: who comes announces a hash, and calls those that are there. */
function byRooms({ url, hash, peerId }) {
  const socket = new WebSocket(url);
  const connections = new Map();
  window.heard = [];
  const say = (message) => socket.send(JSON.stringify(message));
  const connection = (id) => {
    if (connections.has(id)) return connections.get(id);
    const pc = new RTCPeerConnection();
    connections.set(id, pc);
    pc.onicecandidate = ({ candidate }) => candidate && say({ type: "ice-candidate", targetPeer: id, candidate });
    pc.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => (window.heard.push(data), channel.send(`${data}, and good day`)));
    return pc;
  };
  socket.onopen = () => say({ type: "announce", hash, peerId });
  socket.onmessage = async ({ data }) => {
    const message = JSON.parse(data);
    const pc = message.fromPeer && connection(message.fromPeer);
    switch (message.type) {
      case "peer-list":
        for (const id of message.peers) {
          const caller = connection(id);
          const channel = caller.createDataChannel("chat");
          channel.onopen = () => channel.send("good morning");
          channel.onmessage = ({ data }) => window.heard.push(data);
          await caller.setLocalDescription(await caller.createOffer());
          say({ type: "offer", targetPeer: id, offer: caller.localDescription });
        }
        break;
      case "offer":
        await pc.setRemoteDescription(message.offer);
        await pc.setLocalDescription(await pc.createAnswer());
        say({ type: "answer", targetPeer: message.fromPeer, answer: pc.localDescription });
        break;
      case "answer":
        await pc.setRemoteDescription(message.answer);
        break;
      case "ice-candidate":
        await pc.addIceCandidate(message.candidate);
        break;
      case "peer-left":
        window.left = message.peerId;
        break;
    }
  };
}

/** By the lobby: whatever one says the other hears. The caller says hello until somebody answers. */
function byLobby({ url, calls }) {
  const socket = new WebSocket(url);
  const pc = new RTCPeerConnection();
  window.heard = [];
  const use = (channel) => {
    channel.onopen = () => channel.send(calls ? "from the caller" : "from the called");
    channel.onmessage = ({ data }) => window.heard.push(data);
  };
  const say = (message) => socket.send(JSON.stringify(message));
  pc.onicecandidate = ({ candidate }) => candidate && say({ candidate });
  pc.ondatachannel = ({ channel }) => use(channel);
  socket.onopen = () => {
    if (!calls) say("ready");
  };
  socket.onmessage = async ({ data }) => {
    const message = JSON.parse(data);
    if (message === "ready" && calls && !pc.localDescription) {
      use(pc.createDataChannel("chat"));
      await pc.setLocalDescription();
      say({ description: pc.localDescription });
    } else if (message.description) {
      await pc.setRemoteDescription(message.description);
      if (message.description.type === "offer") {
        await pc.setLocalDescription();
        say({ description: pc.localDescription });
      }
    } else if (message.candidate) {
      await pc.addIceCandidate(message.candidate);
    }
  };
  return new Promise((resolve) => socket.addEventListener("open", resolve));
}

async function twoPages(t) {
  const { url } = await startServer(t);
  const browser = await startBrowser(t);
  const pages = [await browser.newPage(t), await browser.newPage(t)];
  for (const page of pages) await page.goto(`${url}/healthz`);
  return { url: `${url.replace("http", "ws")}/`, pages };
}

const heard = (page) => page.waitForFunction(() => window.heard.length > 0 && window.heard).then((handle) => handle.jsonValue());

test("the tutorial with rooms opens a data channel, and hears who leaves", async (t) => {
  const { url, pages } = await twoPages(t);
  const [anna, bert] = pages;
  const opened = anna.waitForEvent("websocket").then((socket) => socket.waitForEvent("framereceived"));
  await anna.evaluate(byRooms, { url, hash: "#room", peerId: "anna" });
  await within(opened, "the list of peers");
  await bert.evaluate(byRooms, { url, hash: "#room", peerId: "bert" });
  assert.deepEqual([await heard(anna), await heard(bert)], [["good morning"], ["good morning, and good day"]]);
  await bert.close();
  assert.equal(await anna.waitForFunction(() => window.left).then((handle) => handle.jsonValue()), "bert");
});

test("the tutorial with one lobby for all opens a data channel", async (t) => {
  const { url, pages } = await twoPages(t);
  const [caller, called] = pages;
  await caller.evaluate(byLobby, { url, calls: true });
  await called.evaluate(byLobby, { url, calls: false });
  assert.deepEqual([await heard(caller), await heard(called)], [["from the called"], ["from the caller"]]);
});
