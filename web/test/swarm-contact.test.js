import assert from "node:assert/strict";
import { test } from "node:test";

import { Contact } from "../src/swarm/contact.js";
import { FakeRoom, meet, settled, without } from "./fake-links.js";

const LABEL = "switchboard.swarm";

/** A contact for one end of a link, and what came of it: a receiver for each channel, which keeps what it receives. */
function contact(link, nonce) {
  const talks = [];
  const made = new Contact(link, {
    nonce: nonce.padStart(16, "0"),
    isFirst: () => link.room.peerId < link.remoteId,
    talk: (channel) => {
      const talk = { channel, received: [], isOver: false, receive: (data) => talk.received.push(data), end: () => (talk.isOver = true) };
      talks.push(talk);
      return talk;
    },
  });
  const open = () => talks.filter(({ isOver }) => !isOver);
  return { contact: made, talks, open };
}

const pair = (options) => meet(new FakeRoom("a"), new FakeRoom("b"), options);

/** Whatever one side says over its channel, the other one hears, and there is no other channel. */
async function assertOneChannel(links, contacts) {
  await settled();
  const [mine, theirs] = contacts.map(({ open }) => open());
  assert.deepEqual([mine.length, theirs.length], [1, 1]);
  assert.equal(mine[0].channel.other, theirs[0].channel);
  for (const link of links) assert.equal(link.channels.filter(({ readyState }) => readyState === "open").length, 1);
  mine[0].channel.send("to b");
  theirs[0].channel.send("to a");
  await settled();
  assert.deepEqual([mine[0].received.at(-1), theirs[0].received.at(-1)], ["to a", "to b"]);
}

test("two that are there when the link connects open one channel, the one with the lower id does", async () => {
  const links = pair({ connected: false });
  const contacts = [contact(links[0], "2"), contact(links[1], "1")];
  for (const link of links) link.setState("connected");
  await assertOneChannel(links, contacts);
  assert.deepEqual(contacts.map(({ talks }) => talks.length), [1, 1]);
});

for (const [first, second] of [["1", "2"], ["2", "1"]]) {
  test(`two that both come later (nonces ${first} and ${second}) keep one of their two channels`, async () => {
    const links = pair();
    const contacts = [contact(links[0], first), contact(links[1], second)];
    await assertOneChannel(links, contacts);
    assert.equal(contacts[0].open()[0].channel.link.channels.indexOf(contacts[0].open()[0].channel) === 0, first === "1", "the one of the lower nonce");
  });
}

for (const late of [0, 1]) {
  test(`one that comes later, ${late === 0 ? "with the lower" : "with the higher"} id, finds the other`, async () => {
    const links = pair({ connected: false });
    const contacts = [];
    contacts[1 - late] = contact(links[1 - late], "1");
    for (const link of links) link.setState("connected");
    await settled();
    assert.equal(contacts[1 - late].talks.length, 0, "nobody has said hello");
    contacts[late] = contact(links[late], "2");
    await settled();
    assert.deepEqual(contacts.map(({ open }) => open().length), [1, 1]);
    assert.equal(contacts[0].open()[0].channel.other, contacts[1].open()[0].channel);
  });
}

test("a swarm that begins anew on the other side takes the place of the former one", async () => {
  const links = pair({ connected: false });
  const contacts = [contact(links[0], "2"), contact(links[1], "1")];
  for (const link of links) link.setState("connected");
  await settled();
  contacts[1].contact.close();
  contacts[1] = contact(links[1], "3");
  await assertOneChannel(links, contacts);
  assert.deepEqual(contacts[0].talks.map(({ isOver }) => isOver), [true, false]);
});

test("a link that finds another way keeps its channel", async () => {
  const links = pair({ connected: false });
  const contacts = [contact(links[0], "2"), contact(links[1], "1")];
  for (let round = 0; round < 3; round++) {
    for (const link of links) link.setState("connecting");
    for (const link of links) link.setState("connected");
    await assertOneChannel(links, contacts);
  }
  assert.deepEqual(contacts.map(({ talks }) => talks.length), [1, 1]);
});

test("when the channel closes, or the link, the talk is over", async () => {
  for (const end of [([link]) => link.channels[0].close(), ([link]) => link.close(), (_, [{ contact }]) => contact.close()]) {
    const links = pair({ connected: false });
    const contacts = [contact(links[0], "2"), contact(links[1], "1")];
    for (const link of links) link.setState("connected");
    await settled();
    end(links, contacts);
    await settled();
    assert.deepEqual(contacts.map(({ open, contact }) => [open().length, contact.receiver]), [[0, undefined], [0, undefined]]);
  }
});

test("a channel that is found closed while the talk begins is the end of it", async () => {
  const links = pair({ connected: false });
  let ends = 0;
  const made = new Contact(links[1], {
    nonce: "1".padStart(16, "0"),
    isFirst: () => false,
    talk: () => {
      made.close();
      return { receive: () => assert.fail("nothing is received"), end: () => ends++ };
    },
  });
  contact(links[0], "2");
  for (const link of links) link.setState("connected");
  await settled();
  assert.deepEqual([ends, made.receiver], [1, undefined]);
});

test("channels that are for something else are left alone", async () => {
  const links = pair({ connected: false });
  const { talks } = contact(links[1], "1");
  links[0].channel("chat");
  await settled();
  assert.equal(links[1].channels[0].readyState, "open");
  assert.equal(talks.length, 0);
});

for (const [what, data] of [
  ["a piece of data", new Uint8Array(20)],
  ["no JSON", "hello"],
  ["another message", JSON.stringify({ type: "cancel", n: 1 })],
  ["one of a later version", JSON.stringify({ type: "gossip" })],
]) {
  test(`who says ${what} before hello is not heard again`, async () => {
    const links = pair({ connected: false });
    const { talks } = contact(links[1], "1");
    for (let round = 0; round < 2; round++) {
      const channel = links[0].channel(LABEL);
      await settled();
      if (round === 0) {
        assert.equal(channel.readyState, "open");
        channel.send(data);
        await settled();
        assert.equal(channel.readyState, "closed");
      } else assert.equal(links[1].channels[1].sent.length, 0, "no hello for a second try");
    }
    assert.equal(talks.length, 0);
  });
}

test("another version of the language is not talked to", async () => {
  const links = pair({ connected: false });
  const { talks } = contact(links[1], "1");
  const channel = links[0].channel(LABEL);
  await settled();
  channel.send(JSON.stringify({ type: "hello", version: 2, nonce: "0".repeat(16) }));
  await settled();
  assert.deepEqual([talks.length, channel.readyState], [0, "closed"]);
});

test("a peer may open a few channels, and no more", async () => {
  const links = pair({ connected: false });
  contact(links[1], "1");
  links[0].outgoing = without("hello");
  for (let i = 0; i < 10; i++) links[0].channel(LABEL);
  await settled();
  assert.equal(links[1].channels.filter(({ readyState }) => readyState === "open").length, 4);
});

/** Chromium delivers a first message while it still calls the channel `connecting`: about once in twenty pages, two people never found each other's files. */
test("what is said before the channel is called open is heard when it is", async () => {
  const link = Object.assign(new EventTarget(), { state: "connecting", remoteId: "b", room: { peerId: "c" } });
  const side = contact(link, "1");
  const sent = [];
  const channel = Object.assign(new EventTarget(), {
    label: LABEL,
    readyState: "connecting",
    send(data) {
      if (this.readyState !== "open") throw new Error("not open");
      sent.push(JSON.parse(data).type);
    },
    close() {},
  });
  const hear = (data) => channel.dispatchEvent(Object.assign(new Event("message"), { data }));
  link.dispatchEvent(new CustomEvent("channel", { detail: channel }));
  hear(JSON.stringify({ type: "hello", version: 1, nonce: "2".padStart(16, "0") }));
  hear("and more");
  assert.deepEqual([side.talks.length, sent], [0, []]);
  channel.readyState = "open";
  channel.dispatchEvent(new Event("open"));
  assert.deepEqual([side.talks.length, side.talks[0].received, sent], [1, ["and more"], ["hello"]]);
});
