import assert from "node:assert/strict";
import { test } from "node:test";

import { Outbox } from "../src/swarm/outbox.js";
import { decodeChunk } from "../src/swarm/wire.js";
import { FakeRoom, meet, noise, settled, until } from "./fake-links.js";

/** An outbox over one end of a channel, and what arrives at the other. */
async function outbox() {
  const [link, other] = meet(new FakeRoom("a"), new FakeRoom("b"));
  const channel = link.channel("test");
  await until(() => channel.readyState === "open", "an open channel");
  const lost = [];
  const arrived = [];
  other.channels[0].addEventListener("message", ({ data }) => arrived.push(typeof data === "string" ? JSON.parse(data) : decodeChunk(data)));
  return { link, channel, arrived, lost, outbox: new Outbox(channel, (reason) => lost.push(reason)) };
}

/** The piece that the chunks of a request make, which must come in order. */
function assembled(arrived, n) {
  const chunks = arrived.filter((message) => message.n === n && message.bytes);
  let offset = 0;
  for (const chunk of chunks) {
    assert.equal(chunk.offset, offset);
    offset += chunk.bytes.length;
  }
  return Buffer.concat(chunks.map(({ bytes }) => bytes));
}

test("requests are answered in their order: with pieces, with messages, or by a refusal", async () => {
  const { outbox: box, arrived } = await outbox();
  box.serve(1, async () => noise(40_000));
  box.serve(2, async () => undefined);
  box.serve(3, async () => Promise.reject(new Error("the file is gone")));
  box.serve(4, async () => ({ type: "hashes", n: 4 }));
  box.serve(5, async () => noise(10));
  assert.equal(box.jobs, 5);
  await until(() => assembled(arrived, 5).length === 10, "the last answer");
  assert.deepEqual(arrived.map(({ n }) => n), [1, 1, 1, 2, 3, 4, 5]);
  assert.deepEqual(arrived.filter(({ type }) => type), [{ type: "refuse", n: 2 }, { type: "refuse", n: 3 }, { type: "hashes", n: 4 }]);
  assert.deepEqual(assembled(arrived, 1), Buffer.from(noise(40_000)));
  assert.equal(box.jobs, 0);
});

test("the buffer is filled to a mark and no further, whatever there is to send", async () => {
  const { outbox: box, channel, arrived, link } = await outbox();
  link.isHeld = true;
  for (let n = 0; n < 4; n++) box.serve(n, async () => noise(2 ** 20, n));
  await settled();
  assert.equal(channel.sent.length, 16, "256 KiB");
  link.release();
  await until(() => assembled(arrived, 3).length === 2 ** 20, "all pieces");
  assert.ok(channel.bufferedAmountMax < (256 + 16) * 1024, `${channel.bufferedAmountMax}`);
  for (let n = 0; n < 4; n++) assert.deepEqual(assembled(arrived, n), Buffer.from(noise(2 ** 20, n)));
});

test("a message overtakes the pieces that are not in the buffer yet", async () => {
  const { outbox: box, arrived, link } = await outbox();
  link.isHeld = true;
  box.serve(0, async () => noise(2 ** 20));
  await settled();
  box.tell({ type: "withdraw" });
  link.release();
  await until(() => assembled(arrived, 0).length === 2 ** 20, "the piece");
  assert.equal(arrived.findIndex(({ type }) => type === "withdraw"), 16);
});

test("a request that is taken back is answered no further", async () => {
  const { outbox: box, arrived, link, channel } = await outbox();
  link.isHeld = true;
  box.serve(0, async () => noise(2 ** 20));
  box.serve(1, async () => noise(2 ** 20));
  box.serve(2, async () => noise(100));
  await settled();
  box.cancel(0);
  box.cancel(1);
  box.cancel(77);
  link.release();
  await until(() => assembled(arrived, 2).length === 100, "the last piece");
  assert.deepEqual([assembled(arrived, 0).length < 2 ** 18, assembled(arrived, 1).length], [true, 0]);
  assert.equal(channel.sent.length, 17);
});

test("a request can be taken back while its piece is read", async () => {
  const { outbox: box, arrived } = await outbox();
  let read;
  box.serve(0, () => new Promise((resolve) => (read = resolve)));
  await settled();
  box.cancel(0);
  box.serve(1, async () => noise(5));
  read(noise(10));
  await until(() => assembled(arrived, 1).length === 5, "the other piece");
  assert.equal(assembled(arrived, 0).length, 0);
});

test("pieces to tell of share messages while the channel is busy, and those of a file can be forgotten", async () => {
  const { outbox: box, arrived, link } = await outbox();
  link.isHeld = true;
  box.serve(0, async () => noise(2 ** 20));
  await settled();
  for (let piece = 0; piece < 600; piece++) box.tellOfPiece("film", piece);
  box.tellOfPiece("song", 1);
  box.tellOfPiece("text", 2);
  box.forget("song");
  link.release();
  await until(() => arrived.some(({ id }) => id === "text"), "the last news");
  const news = arrived.filter(({ type }) => type === "have");
  assert.deepEqual(news.map(({ id, pieces }) => [id, pieces.length]), [["film", 256], ["film", 256], ["film", 88], ["text", 1]]);
  assert.deepEqual(news.slice(0, 3).flatMap(({ pieces }) => pieces), Array.from({ length: 600 }, (_, piece) => piece));
});

test("a peer that does not read is given up", async () => {
  const { outbox: box, lost, link, channel } = await outbox();
  link.isHeld = true;
  box.serve(0, async () => noise(2 ** 20));
  await settled();
  for (let i = 0; i < 1024; i++) box.tell({ type: "withdraw" });
  assert.deepEqual(lost, []);
  box.tell({ type: "withdraw" });
  assert.deepEqual(lost, ["the peer does not read"]);
  link.release();
  await settled();
  assert.equal(channel.sent.length, 16, "and nothing more is written");
});

test("a channel that takes no more is given up", async () => {
  const { outbox: box, lost, channel } = await outbox();
  channel.send = () => {
    throw new DOMException("the buffer is full", "OperationError");
  };
  box.tell({ type: "withdraw" });
  box.tell({ type: "withdraw" });
  assert.equal(lost.length, 1);
});

test("after it is closed nothing goes out, not even what waited for the buffer", async () => {
  const { outbox: box, lost, link, channel } = await outbox();
  link.isHeld = true;
  box.serve(0, async () => noise(2 ** 20));
  await settled();
  box.close();
  link.release();
  await settled();
  assert.deepEqual([channel.sent.length, lost], [16, []]);
});
