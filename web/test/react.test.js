import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Activity, StrictMode, createElement, useEffect } from "react";
import renderer, { act } from "react-test-renderer";

import { useRoom } from "../react.js";
import { WELCOME, within } from "./fake-server.js";

// Else it says that whole applications had better be tested in a browser. This one is, in tests/browser.
globalThis.IS_REACT_NATIVE_TEST_ENVIRONMENT = true;

const URL = "http://h";

/** A connection to a server that lets everybody in, if the room is not full. */
class Socket {
  /** @type {Socket[]} */
  static all = [];
  /** Who is in a room before us. */
  static peers = [];
  /** Rooms that nobody may enter. */
  static full = new Set();
  heard = [];
  closed = false;

  constructor(url) {
    this.url = url;
    Socket.all.push(this);
    queueMicrotask(() => this.onopen());
  }

  send(text) {
    const message = JSON.parse(text);
    this.heard.push(message);
    const { type, id, room } = message;
    if (type === "hello") this.say({ ...WELCOME, peerId: `me-${Socket.all.indexOf(this)}` });
    else if (type === "join" && Socket.full.has(room)) this.say({ type: "error", id, code: "room-full", message: "the room is full", retryable: true });
    else if (type === "join") this.say({ type: "joined", room, peerId: "me", peers: Socket.peers }, { type: "ack", id });
    else if (type === "leave") this.say({ type: "left", room, reason: "left" }, { type: "ack", id });
    else if (type === "metadata" && message.metadata === "refused") this.say({ type: "error", id, code: "metadata-too-large", message: "too large", retryable: false });
    else if (id !== undefined) this.say({ type: "ack", id });
  }

  say(...messages) {
    setImmediate(() => {
      for (const message of messages) if (!this.closed) this.onmessage({ data: JSON.stringify(message) });
    });
  }

  close() {
    this.closed = true;
  }

  /** Behind what was said before. */
  end(code) {
    setImmediate(() => {
      this.closed = true;
      this.onclose({ code, reason: "" });
    });
  }

  of(type) {
    return this.heard.filter((message) => message.type === type);
  }
}

const open = () => Socket.all.filter(({ closed }) => !closed);

beforeEach(() => {
  Socket.all = [];
  Socket.peers = [{ peerId: "a", metadata: { name: "A" } }, { peerId: "b" }];
  Socket.full = new Set(["full"]);
  globalThis.fetch = async (_, { signal }) => {
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
    return Response.json({ transports: [{ type: "websocket", url: "ws://h/ws" }] });
  };
  globalThis.WebSocket = Socket;
});

/**
 * Renders a component that uses the hook with these arguments. `views` are those that it showed, the same one again if it was rendered for
 * another reason.
 */
function mount(t, args, around = ["div", null]) {
  const views = [];
  let wake = () => {};
  function Component({ args }) {
    const view = useRoom(...args);
    useEffect(() => {
      views.push(view);
      wake();
    });
    return null;
  }
  let child = createElement(Component, { args });
  const root = renderer.create(createElement(...around, child));
  t.after(() => root.unmount());
  const until = (what, check) =>
    within(
      (async () => {
        while (views.length === 0 || !check(views.at(-1))) await new Promise((resolve) => (wake = resolve));
        return views.at(-1);
      })(),
      what,
    );
  return {
    views,
    until,
    in: (state) => until(state, (view) => view.state === state),
    /** Renders again; settles when that is done. */
    render: async (...args) => {
      const before = views.length;
      child = createElement(Component, { args });
      root.update(createElement(...around, child));
      return until("another render", () => views.length > before);
    },
    /** Puts something else around the component, which is no reason to render it. */
    surround: (...other) => root.update(createElement(...(around = other), child)),
    unmount: () => root.unmount(),
  };
}

/** Lets everything run that has been set going. */
async function settled() {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function eventually(what, check) {
  await within((async () => {
    while (!check()) await new Promise((resolve) => setImmediate(resolve));
  })(), what);
}

test("a component connects, sees who is there, and leaves when it is unmounted", async (t) => {
  const component = mount(t, [URL, "r", { metadata: { name: "me" } }]);
  const connected = await component.in("connected");
  assert.deepEqual(component.views.map(({ state }) => state), ["connecting", "connected"]);
  assert.deepEqual([component.views[0].peers, component.views[0].room, component.views[0].error], [[], undefined, undefined]);
  assert.deepEqual(connected.peers.map(({ peerId }) => peerId), ["a", "b"]);
  assert.equal(connected.room.name, "r");
  assert.equal(connected.client.room, connected.room);
  const [socket] = Socket.all;
  assert.deepEqual(socket.of("join").map(({ metadata }) => metadata), [{ name: "me" }]);
  component.unmount();
  await eventually("the connection is closed", () => socket.closed);
  await settled();
  assert.equal(Socket.all.length, 1);
  assert.equal(connected.client.state, "closed");
});

test("in StrictMode there is one connection in the end, and one join", async (t) => {
  const component = mount(t, [URL, "r"], [StrictMode, null]);
  await component.in("connected");
  await settled();
  assert.deepEqual([...new Set(component.views.map(({ state }) => state))], ["connecting", "connected"], "the first mount is forgotten");
  assert.equal(open().length, 1);
  assert.equal(Socket.all.flatMap((socket) => socket.of("join")).length, 1);
  component.unmount();
  await eventually("nothing is connected", () => open().length === 0);
});

test("a component that goes while it connects leaves nothing behind, whenever that is", async (t) => {
  // At once, and not when React finds the time.
  const unmount = (component) => {
    globalThis.IS_REACT_ACT_ENVIRONMENT = true;
    act(() => component.unmount());
    globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  };
  const component = mount(t, [URL, "r"]);
  await component.in("connecting");
  unmount(component);
  await settled();
  assert.deepEqual(open(), []);

  const { say } = Socket.prototype;
  t.after(() => (Socket.prototype.say = say));
  for (let turns = 0; turns < 20; turns++) {
    const component = mount(t, [URL, "r"]);
    // So many microtasks after the last that the server has to say.
    const gone = new Promise((resolve) => {
      Socket.prototype.say = function (...messages) {
        if (messages.at(-1).type !== "ack") return say.apply(this, messages);
        setImmediate(async () => {
          for (const message of messages) this.onmessage({ data: JSON.stringify(message) });
          for (let turn = 0; turn < turns; turn++) await undefined;
          unmount(component);
          resolve();
        });
      };
    });
    await within(gone, "an answer to join");
    Socket.prototype.say = say;
    await settled();
    assert.deepEqual(open(), [], `after ${turns} microtasks`);
  }
});

test("a component that is hidden leaves, and comes back when it is shown", async (t) => {
  const component = mount(t, [URL, "r"], [Activity, { mode: "visible" }]);
  const before = await component.in("connected");
  // This never has an answer, and its end is nothing to be shown.
  Socket.all[0].send = () => {};
  await component.render(URL, "r", { metadata: "new" });
  component.surround(Activity, { mode: "hidden" });
  await eventually("the connection is closed", () => open().length === 0);
  await settled();
  assert.equal(Socket.all.length, 1);
  const shown = component.views.length;
  component.surround(Activity, { mode: "visible" });
  const after = await component.until("another connection", ({ state, client }) => state === "connected" && client !== before.client);
  assert.ok(component.views.slice(shown).some(({ state }) => state === "connecting"), "what is over is not shown until then");
  assert.ok(component.views.every(({ error }) => error === undefined));
  assert.equal(after.client.state, "connected");
  assert.equal(open().length, 1);
});

test("options written inline, and other functions, change nothing: not the connection, and not what is returned", async (t) => {
  const metadata = () => ({ name: "me", tags: [1, { deep: true }] });
  const args = () => [URL, "r", { metadata: metadata(), mesh: false, token: () => "t", onMessage: () => {}, timeoutMs: undefined }];
  const component = mount(t, args());
  const before = await component.in("connected");
  for (let i = 0; i < 3; i++) assert.equal(await component.render(...args()), before);
  assert.equal(await component.render(new globalThis.URL(URL).origin, ...args().slice(1)), before);
  await settled();
  assert.equal(Socket.all.length, 1);
  assert.deepEqual(Socket.all[0].of("metadata"), []);
});

for (const [what, args] of [
  ["url", ["http://other", "r", {}]],
  ["room", [URL, "other", {}]],
  ["option", [URL, "r", { transport: "websocket" }]],
]) {
  test(`another ${what} is another connection`, async (t) => {
    const component = mount(t, [URL, "r", {}]);
    const before = await component.in("connected");
    const between = await component.render(...args);
    assert.deepEqual([between.state, between.peers, between.room], ["connecting", [], undefined]);
    const after = await component.in("connected");
    assert.notEqual(after.client, before.client);
    assert.equal(before.client.state, "closed");
    assert.equal(open().length, 1);
    assert.deepEqual(open()[0].of("join").map(({ room }) => room), [args[1]]);
    assert.equal(before.send("too late"), false);
  });
}

test("without a url or a room nothing is connected until there is one", async (t) => {
  const component = mount(t, [URL, undefined]);
  assert.equal((await component.in("closed")).error, undefined);
  await component.render(null, "r");
  await settled();
  assert.deepEqual(Socket.all, []);
  await component.render(URL, "r");
  await component.in("connected");
  await component.render(URL, null);
  assert.equal((await component.in("closed")).error, undefined);
  await eventually("the connection is closed", () => open().length === 0);
});

test("who comes, changes and goes is seen, and the others stay the same objects", async (t) => {
  const component = mount(t, [URL, "r"]);
  const before = await component.in("connected");
  Socket.all[0].say({ type: "peer-updated", room: "r", peerId: "b", metadata: 2 });
  const updated = await component.until("b has changed", ({ peers }) => peers[1].metadata === 2);
  assert.equal(updated.peers[0], before.peers[0]);
  assert.notEqual(updated.peers, before.peers);
  assert.equal(updated.send, before.send);
  Socket.all[0].say({ type: "peer-joined", room: "r", peerId: "c" }, { type: "peer-left", room: "r", peerId: "b", reason: "left" });
  const left = await component.until("b is gone", ({ peers }) => peers.every(({ peerId }) => peerId !== "b"));
  assert.deepEqual(left.peers.map(({ peerId }) => peerId), ["a", "c"]);
  assert.equal(left.peers[0], before.peers[0]);
  const renders = component.views.length;
  Socket.all[0].say({ type: "peer-updated", room: "r", peerId: "a", metadata: { name: "A" } });
  await settled();
  assert.equal(component.views.length, renders, "what is as it was is no reason to render");
});

test("messages go to the function of the latest render, and the other way by send", async (t) => {
  const heard = [];
  const listener = (name) => ({ onMessage: ({ from, payload }) => heard.push([name, from, payload]) });
  const component = mount(t, [URL, "r", listener("first")]);
  const first = component.views[0] ?? (await component.in("connecting"));
  assert.equal(first.send("too soon"), false);
  const { send } = await component.in("connected");
  const [socket] = Socket.all;
  socket.say({ type: "message", room: "r", from: "a", payload: 1 });
  await eventually("a message", () => heard.length === 1);
  await component.render(URL, "r", listener("second"));
  socket.say({ type: "message", room: "r", from: "b", payload: { two: 2 } });
  await eventually("another message", () => heard.length === 2);
  assert.deepEqual(heard, [["first", "a", 1], ["second", "b", { two: 2 }]]);
  assert.equal(send("all"), true);
  assert.equal(send("one", "a"), true);
  await eventually("both are said", () => socket.of("message").length === 2);
  assert.deepEqual(socket.of("message").map(({ to, payload }) => [to, payload]), [[undefined, "all"], ["a", "one"]]);
});

test("other metadata are told over the same connection, and a refusal is shown", async (t) => {
  const component = mount(t, [URL, "r", { metadata: { name: "first" } }]);
  await component.in("connecting");
  // Connecting is under way: these come behind it.
  await component.render(URL, "r", { metadata: { name: "second" } });
  const connected = await component.in("connected");
  const [socket] = Socket.all;
  const told = () => socket.of("metadata").map(({ metadata }) => metadata);
  await eventually("the second name is told", () => told().length === 1);
  await component.render(URL, "r", { metadata: "refused" });
  const { error, state } = await component.until("the refusal", ({ error }) => error);
  assert.deepEqual([error.code, state], ["metadata-too-large", "connected"]);
  await component.render(URL, "r", { metadata: { name: "third" } });
  await component.until("no error any more", ({ error }) => !error);
  for (const list of [{}, [], { length: 0 }, ["a"], ["a", undefined]]) await component.render(URL, "r", { metadata: { list } });
  await component.render(URL, "r", {});
  await eventually("all are told", () => told().length === 9);
  const expected = [{ list: {} }, { list: [] }, { list: { length: 0 } }, { list: ["a"] }, { list: ["a", null] }, undefined];
  assert.deepEqual(told(), [{ name: "second" }, "refused", { name: "third" }, ...expected]);
  assert.equal(Socket.all.length, 1);
  assert.equal(component.views.at(-1).client, connected.client);
});

test("a room that is full is an error, until there is another room", async (t) => {
  const component = mount(t, [URL, "full", { retries: 0 }]);
  const { error, room } = await component.in("closed");
  assert.deepEqual([error.code, room], ["room-full", undefined]);
  await eventually("the connection is closed", () => open().length === 0);
  await component.render(URL, "r", { retries: 0 });
  assert.equal((await component.in("connected")).error, undefined);
});

test("a connection that is lost comes back by itself, and what happened meanwhile is seen", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const component = mount(t, [URL, "r", { token: () => "first" }]);
  const before = await component.in("connected");
  await component.render(URL, "r", { token: async () => "second" });
  Socket.peers = [{ peerId: "a", metadata: { name: "A" } }, { peerId: "b", metadata: "new" }];
  Socket.all[0].end(1006);
  const lost = await component.in("reconnecting");
  assert.deepEqual([lost.error.code, lost.room], ["connection-lost", before.room]);
  await component.in("connected");
  const back = await component.until("b is seen", ({ peers }) => peers[1]?.metadata === "new");
  assert.equal(back.error, undefined);
  assert.equal(back.peers[0], before.peers[0]);
  assert.equal(open().length, 1);
  assert.deepEqual(Socket.all.map((socket) => socket.of("hello")[0].token), ["first", "second"]);
});

test("a room that cannot be entered again is an error, and its connection is not kept", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const component = mount(t, [URL, "r"]);
  await component.in("connected");
  Socket.full.add("r");
  Socket.all[0].end(1006);
  await component.in("closed");
  await eventually("the connection is closed", () => open().length === 0);
  await settled();
  const { error, peers } = component.views.at(-1);
  assert.deepEqual([error.code, peers], ["room-full", []]);
});

test("who has left stays out, even if the connection is lost in that moment", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const component = mount(t, [URL, "r"]);
  const { room } = await component.in("connected");
  const [socket] = Socket.all;
  socket.send = (text) => JSON.parse(text).type === "ping" || Socket.prototype.send.call(socket, text);
  const leaving = room.leave();
  await component.in("closed");
  socket.end(1006);
  await eventually("it comes back", () => Socket.all.length === 2);
  await eventually("to be closed", () => open().length === 0);
  await settled();
  await within(leaving, "an answer to leave");
  assert.deepEqual(component.views.map(({ state }) => state), ["connecting", "connected", "closed"]);
});

test("a server that wants us no more is an error, and so is nothing that this side did", async (t) => {
  const component = mount(t, [URL, "r"]);
  const { client } = await component.in("connected");
  Socket.all[0].say({ type: "goodbye", code: "too-large", reason: "too large", reconnect: false, reconnectAfterMs: 0 });
  Socket.all[0].end(4200);
  const { error } = await component.in("closed");
  assert.deepEqual([error.code, error.message], ["too-large", "too large"]);
  assert.equal(client.state, "closed");

  const other = mount(t, [URL, "r"]);
  const connected = await other.in("connected");
  await connected.room.leave();
  const left = await other.in("closed");
  assert.deepEqual([left.error, left.peers, left.send("gone")], [undefined, [], false]);
  await eventually("nothing is connected", () => open().length === 0);
});
