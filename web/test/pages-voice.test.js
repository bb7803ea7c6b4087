import assert from "node:assert/strict";
import { test } from "node:test";

import { VOICE_BYTES_MAX, extensionOf, readHeader, receiveVoice, recordingType, sendVoice } from "../pages/voice.js";

const TYPE = "audio/webm;codecs=opus";

/** One end of a data channel: what is sent arrives at the other end a task later, and fills a buffer until then. */
class FakeChannel extends EventTarget {
  readyState = "connecting";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  bufferedMost = 0;
  sent = [];

  static pair() {
    const [a, b] = [new FakeChannel(), new FakeChannel()];
    [a.other, b.other] = [b, a];
    return [a, b];
  }

  open() {
    this.readyState = "open";
    this.dispatchEvent(new Event("open"));
  }

  send(data) {
    if (this.readyState !== "open") throw new DOMException("not open", "InvalidStateError");
    const length = data.byteLength ?? data.length;
    this.sent.push(data);
    this.bufferedAmount += length;
    this.bufferedMost = Math.max(this.bufferedMost, this.bufferedAmount);
    setImmediate(() => {
      const before = this.bufferedAmount;
      this.bufferedAmount -= length;
      if (before > this.bufferedAmountLowThreshold && this.bufferedAmount <= this.bufferedAmountLowThreshold) this.dispatchEvent(new Event("bufferedamountlow"));
      this.other.dispatchEvent(new MessageEvent("message", { data }));
    });
  }

  close() {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    setImmediate(() => this.other.close());
    this.dispatchEvent(new Event("close"));
  }
}

const voice = (size) => ({ blob: new Blob([Uint8Array.from({ length: size }, (_, i) => i % 251)], { type: TYPE }), seconds: 3.5 });

test("a voice message arrives as it was, and the sender hears of it", async () => {
  const [a, b] = FakeChannel.pair();
  const received = receiveVoice(b);
  const sent = sendVoice(a, voice(100_000));
  b.open();
  a.open();
  const { blob, seconds } = await received;
  await sent;
  assert.deepEqual(Buffer.from(await blob.arrayBuffer()), Buffer.from(await voice(100_000).blob.arrayBuffer()));
  assert.deepEqual([blob.type, seconds], [TYPE, 3.5]);
  assert.equal(a.readyState, "closed");
});

test("a large one does not fill the channel's buffer", async () => {
  const [a, b] = FakeChannel.pair();
  b.open();
  a.open();
  const received = receiveVoice(b);
  await Promise.all([sendVoice(a, voice(4_000_000)), received]);
  assert.equal((await received).blob.size, 4_000_000);
  assert.ok(a.bufferedMost < 300_000, `${a.bufferedMost} bytes`);
});

test("what is no voice message is refused before anything is kept", async () => {
  const headers = [{ size: 1, type: "text/html" }, { size: VOICE_BYTES_MAX + 1, type: TYPE }].map((header) => JSON.stringify(header));
  for (const header of ["", "{", "null", "7", ...headers, new ArrayBuffer(8)]) {
    const [a, b] = FakeChannel.pair();
    b.open();
    a.open();
    const received = receiveVoice(b);
    a.send(header);
    await assert.rejects(received, { code: "refused" });
    assert.equal(b.readyState, "closed");
  }
});

test("who sends more than announced, or text for bytes, is refused", async () => {
  for (const surplus of [new ArrayBuffer(11), "0123456789"]) {
    const [a, b] = FakeChannel.pair();
    b.open();
    a.open();
    const received = receiveVoice(b);
    a.send(JSON.stringify({ size: 10, type: TYPE, seconds: 1 }));
    a.send(surplus);
    await assert.rejects(received, { code: "refused" });
  }
});

test("who sends it in crumbs, of which there is no end, is refused", async () => {
  for (const length of [0, 1, 16 * 1024 - 1]) {
    const [a, b] = FakeChannel.pair();
    b.open();
    a.open();
    const received = receiveVoice(b);
    a.send(JSON.stringify({ size: 20_000, type: TYPE, seconds: 1 }));
    a.send(new ArrayBuffer(length));
    await assert.rejects(received, { code: "refused" });
  }
});

test("a line that breaks on the way is an error on both sides", async () => {
  for (const breaking of [0, 1]) {
    const ends = FakeChannel.pair();
    ends.forEach((end) => end.open());
    const received = receiveVoice(ends[1]);
    ends[0].addEventListener("bufferedamountlow", () => ends[breaking].close(), { once: true });
    const sent = sendVoice(ends[0], voice(4_000_000));
    await Promise.all([assert.rejects(received, { code: "lost" }), assert.rejects(sent, { code: "lost" })]);
  }
});

test("who never takes it, or never sends it, is not waited for for ever", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const [a, b] = FakeChannel.pair();
  const sent = sendVoice(a, voice(10));
  const received = receiveVoice(b);
  t.mock.timers.tick(20_000);
  await Promise.all([assert.rejects(sent, { code: "lost" }), assert.rejects(received, { code: "lost" })]);
});

test("a header says how long and which kind, and nothing but sound is taken", () => {
  const header = (fields) => readHeader(JSON.stringify({ size: 10, type: TYPE, seconds: 2, ...fields }));
  assert.deepEqual(header({}), { size: 10, type: TYPE, seconds: 2 });
  assert.deepEqual(header({ type: "audio/mp4" }), { size: 10, type: "audio/mp4", seconds: 2 });
  for (const seconds of [-1, "2", 1e9, null]) assert.equal(header({ seconds }).seconds, 0);
  for (const type of ["text/html", "audio/webm, text/html", "image/svg+xml", "audio/x\r\n", 7, ""]) assert.equal(header({ type }), undefined, String(type));
  for (const size of [0, -1, 1.5, "10", VOICE_BYTES_MAX + 1, null]) assert.equal(header({ size }), undefined, String(size));
});

test("a file is named after what is in it", () => {
  assert.deepEqual([TYPE, "audio/mp4", "audio/ogg", "audio/new"].map(extensionOf), [".webm", ".m4a", ".ogg", ".audio"]);
});

test("of what a recorder makes the best is taken", () => {
  assert.equal(recordingType({ isTypeSupported: () => true }), TYPE);
  assert.equal(recordingType({ isTypeSupported: (type) => type === "audio/mp4" }), "audio/mp4");
  assert.equal(recordingType({ isTypeSupported: () => false }), undefined);
  assert.equal(recordingType(undefined), undefined);
});
