/** Who we are: a token is said when a connection is opened, and another one before it runs out. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { SignalingClient } from "../src/signaling.js";
import { FakeServer, once, within } from "./fake-server.js";

const WINDOW = { resumeWindowMs: 30_000, resumeToken: "first" };
const EXPIRED = { type: "goodbye", code: "token-expired", reason: "the token has run out", reconnect: false, reconnectAfterMs: 0 };

// Nobody waits for chance here: every attempt but those that are told to wait begins at once.
beforeEach((t) => t.mock.method(Math, "random", () => 0));

/** A client that gives these tokens, one after another (the last one for ever), and has been connected for an hour. */
async function connected(t, tokens, options = {}, welcome = {}) {
  const clock = { now: 0, asked: 0 };
  t.mock.method(performance, "now", () => clock.now);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const answers = [...tokens];
  const token = async () => {
    clock.asked++;
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const server = new FakeServer();
  const client = new SignalingClient(server.dial, { token, ...options });
  t.after(() => client.close());
  const heard = [];
  for (const type of ["goodbye", "error", "sent", "state", "close"]) {
    client.addEventListener(type, ({ detail }) => type !== "sent" || detail.type !== "ping" ? heard.push([type, detail]) : undefined);
  }
  await server.admit(client, { ...WINDOW, heartbeatMs: 1e9, ...welcome });
  clock.now = 3_600_000;
  const pass = async (ms) => {
    await settled();
    clock.now += ms;
    t.mock.timers.tick(ms);
    await settled();
  };
  /** A stretch of time in which timers run as they would. */
  const live = async (ms) => {
    for (let passed = 0; passed < ms; passed += 100) await pass(100);
  };
  const codes = (type) => heard.filter(([name]) => name === type).map(([, detail]) => detail.code ?? detail.cause?.code ?? detail.state);
  return { server, client, clock, pass, live, heard, codes };
}

const announced = (closesInMs) => ({ ...EXPIRED, closesInMs });

test("a token that is about to run out is followed by another, in the same session, and nobody waits for a timer", async (t) => {
  const { server, client, heard, clock } = await connected(t, ["one", "two"]);
  server.say(announced(30_000));
  assert.deepEqual(await server.heard("hello"), { type: "hello", token: "two" });
  assert.deepEqual([client.state, server.closed, clock.asked], ["connected", false, 2]);
  assert.deepEqual(heard, [
    ["state", { state: "connected", resumed: false }],
    ["goodbye", announced(30_000)],
    // Whoever shows what is said shows no token.
    ["sent", { type: "hello" }],
  ]);
});

/** The `goodbye` that is the last message is not counted: with this one that was, a client asked for one message too many when it came back. */
test("an announcement is a message as any other, and counts", async (t) => {
  const { server, client } = await connected(t, ["one", "two", "three"]);
  server.say(announced(30_000));
  await server.heard("hello");
  server.end(1006);
  await settled();
  t.mock.timers.tick(0);
  const { token, resume } = await server.admitAgain({ ...WINDOW, resumed: true, received: 2 });
  assert.deepEqual([token, resume], ["three", { token: "first", received: 2 }], "welcome, and the announcement");
  assert.equal(client.state, "connected");
});

test("a token that is no function is not said again, and the application hears of its end", async (t) => {
  for (const token of ["fixed", undefined]) {
    const server = new FakeServer();
    const client = new SignalingClient(server.dial, { token });
    t.after(() => client.close());
    await server.admit(client);
    const goodbye = once(client, "goodbye");
    server.say(announced(30_000));
    assert.equal((await goodbye).detail.closesInMs, 30_000);
    client.send("message", { payload: "still here" });
    assert.equal((await server.heard("message")).payload, "still here");
    const closed = once(client, "close");
    server.say(EXPIRED);
    server.end(4203);
    assert.equal((await closed).detail.code, "token-expired");
    assert.equal(server.dialled, 1, "it would be told the same again");
  }
});

test("only the end of a token is put off by another one", async (t) => {
  const { server, client, clock } = await connected(t, ["one", "two"]);
  const goodbye = once(client, "goodbye");
  server.say({ ...announced(30_000), code: "draining" });
  await goodbye;
  await settled();
  assert.deepEqual([clock.asked, client.state], [1, "connected"]);
});

/** Each token of a few seconds is announced to be over as soon as it is said: one asked for at once asked without end. */
test("who gives tokens of a few seconds is asked when half of the time is over", async (t) => {
  const { server, pass, clock } = await connected(t, ["one", "two", "three", "four"]);
  server.say(announced(4_000));
  assert.equal((await server.heard("hello")).token, "two");
  for (const [i, token] of ["three", "four"].entries()) {
    server.say(announced(4_000));
    await settled();
    await pass(1_999);
    assert.equal(clock.asked, i + 2);
    await pass(1);
    assert.equal((await server.heard("hello")).token, token);
  }
});

test("of several announcements each counts, and only the latest waits", async (t) => {
  const { server, pass, live, clock } = await connected(t, ["one", "two", "three", "four"]);
  server.say(announced(30_000), announced(30_000), announced(20_000));
  assert.equal((await server.heard("hello")).token, "two");
  await pass(9_999);
  assert.equal(clock.asked, 2);
  await pass(1);
  assert.equal((await server.heard("hello")).token, "three");
  await live(30_000);
  assert.equal(clock.asked, 3);
});

test("who fails to give a token is asked again while there is time, and the application is told", async (t) => {
  const away = new Error("away");
  const { server, client, pass, clock, codes } = await connected(t, ["one", away, away, "four"]);
  server.say(announced(30_000));
  await settled();
  assert.deepEqual([clock.asked, codes("error"), client.state], [2, ["no-token"], "connected"]);
  await pass(15_000);
  assert.deepEqual([clock.asked, codes("error")], [3, ["no-token", "no-token"]]);
  await pass(7_500);
  assert.equal((await server.heard("hello")).token, "four");
});

test("who has none for good is not asked again", async (t) => {
  const { server, client, pass, live, clock, heard } = await connected(t, ["one", Object.assign(new Error("signed out"), { reconnect: false })]);
  server.say(announced(30_000));
  await live(29_900);
  assert.equal(clock.asked, 2);
  const [, error] = heard.find(([type]) => type === "error");
  assert.deepEqual(error, { type: "error", code: "no-token", message: "no token: signed out", retryable: false });
  server.say(EXPIRED);
  server.end(4203);
  await pass(0);
  assert.deepEqual([client.state, clock.asked], ["closed", 3]);
});

test("who gives the same token again is asked for a newer one, so often and no more", async (t) => {
  const { server, client, live, clock, codes } = await connected(t, ["one"]);
  server.say(announced(30_000));
  await live(30_000);
  assert.equal(clock.asked, 6, "at the beginning, and whenever half of what is left is over, as long as that is a second");
  client.send("message", { payload: "no hello came before" });
  await server.heard("message");
  assert.deepEqual(codes("error"), []);
});

test("a new token that the server does not take is an error, the session goes on, and nobody insists", async (t) => {
  const { server, client, live, clock } = await connected(t, ["one", "of somebody else"]);
  server.say(announced(30_000));
  await server.heard("hello");
  const error = once(client, "error");
  server.say({ type: "error", code: "unauthorized", message: "the token is not good", retryable: false });
  assert.equal((await error).detail.code, "unauthorized");
  await live(29_000);
  assert.deepEqual([client.state, clock.asked], ["connected", 2]);
});

for (const never of [new Promise(() => {}), undefined]) {
  test(`a session whose token ${never ? "function never answers" : "was not renewed"} ends with it, and another one begins with a new token`, async (t) => {
    const { server, client, pass, codes } = await connected(t, ["one", never ?? "one", "three"]);
    const joining = client.join("r");
    const { id } = await server.heard("join");
    server.say({ type: "joined", room: "r", peerId: "me", peers: [] }, { type: "ack", id });
    await within(joining, "joined");
    server.say(announced(500 + 29_500 * Number(never !== undefined)));
    await pass(30_000);
    server.say(EXPIRED);
    server.end(4203);
    await pass(0);
    const { token, resume } = await server.admitAgain({ ...WINDOW, peerId: "me again" });
    assert.deepEqual([token, resume], [never ? "three" : "one", undefined]);
    assert.equal((await server.heard("join")).room, "r");
    assert.deepEqual([client.state, codes("close")], ["connected", []]);
  });
}

test("it also comes back where only the close code said that the token ran out", async (t) => {
  const { server, client, pass } = await connected(t, ["one", "two"]);
  server.end(4203);
  await pass(0);
  assert.equal((await server.admitAgain(WINDOW)).token, "two");
  assert.equal(client.state, "connected");
});

test("who comes back with a token that is no better does not come back again", async (t) => {
  for (const [code, number] of [["unauthorized", 4202], ["token-expired", 4203]]) {
    await t.test(code, async (t) => {
      const { server, client, pass } = await connected(t, ["one", "two"]);
      server.say(EXPIRED);
      server.end(4203);
      await pass(0);
      assert.equal((await server.heard("hello")).token, "two");
      server.say({ ...EXPIRED, code });
      server.end(number);
      await pass(100_000);
      assert.deepEqual([client.state, server.dialled], ["closed", 2]);
    });
  }
});

test("who is not to come back does not, whatever tokens there are", async (t) => {
  for (const [code, number] of [["removed", 4204], ["unauthorized", 4202]]) {
    await t.test(code, async (t) => {
      const { server, client, pass, codes } = await connected(t, ["one", "two"]);
      server.say({ ...EXPIRED, code });
      server.end(number);
      await pass(100_000);
      assert.deepEqual([client.state, server.dialled, codes("close")], ["closed", 1, [code]]);
    });
  }
});

test("who wants no coming back does not get one for a token", async (t) => {
  const { server, client, pass } = await connected(t, ["one", "two"], { reconnect: false });
  server.say(EXPIRED);
  server.end(4203);
  await pass(100_000);
  assert.deepEqual([client.state, server.dialled], ["closed", 1]);
});

for (const how of ["comes", "fails to come"]) {
  test(`a token that ${how} when the connection is another is nothing to that`, async (t) => {
    let settle;
    const late = new Promise((resolve, reject) => (settle = how === "comes" ? () => resolve("late") : () => reject(new Error("late"))));
    const { server, client, pass, codes } = await connected(t, ["one", late, "three"]);
    server.say(announced(30_000));
    await settled();
    server.end(1006);
    await pass(0);
    assert.equal((await server.admitAgain({ ...WINDOW, resumed: true, received: 1 })).token, "three");
    await server.heard("ping");
    settle();
    await settled();
    client.send("message", { payload: "what comes next" });
    await server.heard("message");
    assert.deepEqual(codes("error"), []);
  });
}

test("who waits to ask for a token asks no more when one was said over another connection", async (t) => {
  const { server, pass, live, clock } = await connected(t, ["one", "two", "three"]);
  server.say(announced(30_000), announced(30_000));
  assert.equal((await server.heard("hello")).token, "two");
  server.end(1006);
  await pass(0);
  assert.equal((await server.admitAgain({ ...WINDOW, resumed: true, received: 1, heartbeatMs: 1e9 })).token, "three");
  await live(30_000);
  assert.equal(clock.asked, 3);
});

test("nor is one asked for while there is no connection, or when the client is closed", async (t) => {
  const { server, client, pass, clock } = await connected(t, ["one", new Error("away")]);
  server.say(announced(30_000));
  await settled();
  server.unreachable = true;
  server.end(1006);
  await pass(29_000);
  assert.equal(clock.asked, 2, "nobody is there to hear it");
  client.close();
  await pass(60_000);
  assert.equal(clock.asked, 2);
});

test("an announcement that waits for its turn when the connection is lost asks for nothing", async (t) => {
  const { server, client, clock } = await connected(t, ["one", "two"]);
  const asking = client.request("message", { payload: 1 });
  const { id } = await server.heard("message");
  server.unreachable = true;
  server.say({ type: "ack", id }, announced(30_000));
  server.sayFrame("no message");
  await within(asking, "carried out");
  await settled();
  assert.deepEqual([client.state, clock.asked], ["reconnecting", 1]);
});

test("a token that was lost with the connection is said again only where no newer one was", async (t) => {
  const { server, pass } = await connected(t, ["one", "two", "three"]);
  server.say(announced(30_000));
  assert.equal((await server.heard("hello")).token, "two");
  server.end(1006);
  await pass(0);
  // It has the first greeting alone.
  assert.equal((await server.admitAgain({ ...WINDOW, resumed: true, received: 1 })).token, "three");
  assert.deepEqual(await server.heard("hello"), { type: "hello", token: "three" }, "in its place, for messages are counted");
  await server.heard("ping");
});

test("in a new session, nothing of the old one's tokens is said", async (t) => {
  const { server, client, pass } = await connected(t, ["one", "two", "three"], {}, { limits: { messagesPerSecond: 1 } });
  client.request("message", { payload: "it costs what there is" }).catch(() => {});
  await server.heard("message");
  server.say(announced(30_000));
  await settled();
  server.end(1006);
  await pass(0);
  assert.equal((await server.admitAgain({ ...WINDOW, resumed: false })).token, "three");
  client.send("message", { payload: "first" });
  await server.heard("message");
});

test("a new token does not wait behind what waits", async (t) => {
  const { server, client, pass } = await connected(t, ["one", "two"], {}, { limits: { messagesPerSecond: 0.5 } });
  for (let n = 0; n < 10; n++) client.send("message", { payload: n });
  await server.heard("message");
  server.say(announced(30_000));
  await pass(3_000);
  assert.equal((await server.heard("hello")).token, "two");
});

/** Lets everything run that waits for no timer. */
async function settled() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
