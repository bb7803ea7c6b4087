import assert from "node:assert/strict";
import { test } from "node:test";

import { Senders } from "../pages/senders.js";

/** A link that notes what is done to it. */
function fakeLink() {
  const done = [];
  const addTrack = (track, stream) => {
    done.push(["add", track, stream]);
    return { replaceTrack: async (other) => void done.push(["replace", track, other]) };
  };
  return { isOver: false, addTrack, done };
}

test("who comes later gets what there is, and is given it once", async () => {
  const senders = new Senders("stream");
  await senders.set("video", "picture");
  const link = fakeLink();
  senders.add(link);
  senders.add(link);
  assert.deepEqual(link.done, [["add", "picture", "stream"]]);
});

test("a track is exchanged without a new negotiation, and taken away", async () => {
  const senders = new Senders("stream");
  const link = fakeLink();
  senders.add(link);
  assert.deepEqual(link.done, []);
  await senders.set("video", "camera");
  await senders.set("video", "screen");
  await senders.set("video", undefined);
  await senders.set("audio", "voice");
  assert.deepEqual(link.done, [["add", "camera", "stream"], ["replace", "camera", "screen"], ["replace", "camera", null], ["add", "voice", "stream"]]);
  const later = fakeLink();
  senders.add(later);
  assert.deepEqual(later.done, [["add", "voice", "stream"]], "what was taken away is given to nobody");
});

test("nothing is added where there is nothing, and nobody is given anything who has left", async () => {
  const senders = new Senders("stream");
  const [gone, closed, broken, there] = [fakeLink(), fakeLink(), fakeLink(), fakeLink()];
  for (const link of [gone, closed, broken, there]) senders.add(link);
  await senders.set("video", undefined);
  senders.remove(gone);
  closed.isOver = true;
  broken.addTrack = () => {
    throw new Error("closed under our hands");
  };
  await senders.set("video", "picture");
  assert.deepEqual([gone, closed, there].map(({ done }) => done.length), [0, 0, 1]);
});
