import assert from "node:assert/strict";
import { test } from "node:test";

import { HEAD_BYTES_MAX, streamableType } from "../pages/container.js";

const join = (...parts) => Uint8Array.from(parts.flatMap((part) => [...(typeof part === "string" ? Buffer.from(part, "latin1") : part)]));

// ---- WebM

const UNKNOWN_SIZE = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const element = (id, ...content) => {
  const bytes = join(...content);
  return join(id, [0x10 | (bytes.length >> 24), (bytes.length >> 16) & 0xff, (bytes.length >> 8) & 0xff, bytes.length & 0xff], bytes);
};
const ebml = (docType) => element([0x1a, 0x45, 0xdf, 0xa3], element([0x42, 0x82], docType));
const track = (codec, ...more) => element([0xae], element([0xd7], [1]), element([0x86], codec), ...more);
const tracks = (...all) => element([0x16, 0x54, 0xae, 0x6b], ...all);
const cluster = element([0x1f, 0x43, 0xb6, 0x75], [0xe7, 0x81, 0]);
const info = element([0x15, 0x49, 0xa9, 0x66], element([0x4d, 0x80], "test"));
const webm = (...parts) => join(ebml("webm"), [0x18, 0x53, 0x80, 0x67], UNKNOWN_SIZE, ...parts);

test("a WebM file as browsers record it, without sizes, tells its codecs", () => {
  assert.equal(streamableType(webm(info, tracks(track("V_VP8"), track("A_OPUS")), cluster)), 'video/webm; codecs="vp8, opus"');
  assert.equal(streamableType(webm(tracks(track("V_VP9\0"), track("A_VORBIS")))), 'video/webm; codecs="vp9, vorbis"');
  const av1 = element([0x63, 0xa2], [0x81, 0x08, 0x4c, 0x00]);
  assert.equal(streamableType(webm(tracks(track("V_AV1", av1)))), 'video/webm; codecs="av01.0.08M.10"');
});

test("a WebM file whose segment has a size is read as well", () => {
  const segment = element([0x18, 0x53, 0x80, 0x67], info, tracks(track("V_VP8")), cluster);
  assert.equal(streamableType(join(ebml("webm"), segment)), 'video/webm; codecs="vp8"');
});

test("before its tracks are there, more is needed, wherever it breaks off", () => {
  const file = webm(info, tracks(track("V_VP8"), track("A_OPUS")));
  for (let length = 0; length < file.length; length++) assert.equal(streamableType(file.subarray(0, length)), null, `${length} bytes`);
  assert.notEqual(streamableType(file), null);
});

test("what cannot be streamed is said to be so", () => {
  assert.equal(streamableType(webm(tracks(track("V_MPEG4/ISO/AVC")), cluster)), undefined, "a codec that WebM does not have");
  assert.equal(streamableType(webm(cluster, tracks(track("V_VP8")))), undefined, "tracks behind the pictures");
  assert.equal(streamableType(join(ebml("matroska"), [0x18, 0x53, 0x80, 0x67], UNKNOWN_SIZE, tracks(track("V_VP8")))), undefined);
  assert.equal(streamableType(join("<!doctype html><p>no video")), undefined);
  assert.equal(streamableType(new Uint8Array(20)), undefined);
});

// ---- MP4

const box = (type, ...content) => {
  const bytes = join(...content);
  const size = bytes.length + 8;
  return join([size >> 24, (size >> 16) & 0xff, (size >> 8) & 0xff, size & 0xff], type, bytes);
};
const zeros = (length) => new Uint8Array(length);
const sampleEntry = (type, own, ...parts) => box(type, zeros(own), ...parts);
const trak = (entry) => box("trak", box("tkhd", zeros(84)), box("mdia", box("minf", box("stbl", box("stsd", zeros(4), [0, 0, 0, 1], entry)))));
const mp4 = (...parts) => join(box("ftyp", "isom", zeros(4), "iso5"), ...parts);
const mvex = box("mvex", box("trex", zeros(24)));
const avc1 = sampleEntry("avc1", 78, box("avcC", [1, 0x64, 0x00, 0x1f, 0xff]));
const esds = box("esds", zeros(4), [3, 25, 0, 1, 0], [4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [5, 2, 0x11, 0x90]);
const mp4a = sampleEntry("mp4a", 28, esds);

test("a fragmented MP4 file tells its codecs", () => {
  assert.equal(streamableType(mp4(box("moov", box("mvhd", zeros(100)), trak(avc1), trak(mp4a), mvex))), 'video/mp4; codecs="avc1.64001f, mp4a.40.2"');
  const vp09 = sampleEntry("vp09", 78, box("vpcC", zeros(4), [0, 10, 0x82]));
  assert.equal(streamableType(mp4(box("moov", trak(vp09), trak(sampleEntry("Opus", 28)), mvex))), 'video/mp4; codecs="vp09.00.10.08, opus"');
  const av01 = sampleEntry("av01", 78, box("av1C", [0x81, 0x08, 0x80, 0]));
  assert.equal(streamableType(mp4(box("moov", trak(av01), mvex))), 'video/mp4; codecs="av01.0.08H.08"');
});

test("an MP4 file that is not fragmented has to be whole", () => {
  assert.equal(streamableType(mp4(box("moov", trak(avc1)))), undefined);
  assert.equal(streamableType(mp4(box("mdat", zeros(20)), box("moov", trak(avc1), mvex))), undefined);
  assert.equal(streamableType(mp4(box("moov", trak(sampleEntry("hvc1", 78)), mvex))), undefined);
});

test("before the head of an MP4 file is there, more is needed", () => {
  const file = mp4(box("moov", trak(avc1), mvex));
  for (let length = 0; length < file.length; length++) assert.equal(streamableType(file.subarray(0, length)), null, `${length} bytes`);
});

test("it ends, whatever a stranger wrote", () => {
  assert.equal(streamableType(join(webm(), zeros(HEAD_BYTES_MAX))), undefined);
  assert.equal(streamableType(join(box("ftyp", "isom"), [0, 0, 0, 1], "free", zeros(8))), null, "a box smaller than its own head");
  let seed = 7;
  const random = () => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff) >> 16;
  const files = [webm(info, tracks(track("V_AV1", element([0x63, 0xa2], [1, 2, 3, 4])), track("A_OPUS")), cluster), mp4(box("moov", trak(avc1), trak(mp4a), mvex))];
  for (let round = 0; round < 20_000; round++) {
    const file = files[round % 2].slice();
    for (let i = 0; i < 4; i++) file[random() % file.length] = random();
    assert.ok(["string", "undefined", "object"].includes(typeof streamableType(file)));
  }
});
