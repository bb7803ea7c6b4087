import assert from "node:assert/strict";
import { test } from "node:test";

import { TABLES } from "../pages/i18n.js";
import { ME, OTHERS, SERVER, Story, lanesOf, lineOpened, note, readCandidate, readDescription } from "../pages/steps.js";

const SDP = [
  "v=0",
  "o=- 1 2 IN IP4 127.0.0.1",
  "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
  "a=candidate:1 1 udp 2122 192.0.2.1 5000 typ host",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "",
].join("\r\n");
const CANDIDATE = "candidate:842163049 1 udp 1677729535 198.51.100.7 46154 typ srflx raddr 10.0.0.1 rport 5000 generation 0";

test("who says what to whom", () => {
  const story = new Story();
  const ends = (step) => [step.from, step.to, step.type];
  assert.deepEqual(ends(story.sent({ type: "join", room: "r" })), [ME, SERVER, "join"]);
  assert.deepEqual(ends(story.received({ type: "joined", peers: [] })), [SERVER, ME, "joined"]);
  assert.deepEqual(ends(story.sent({ type: "offer", to: "p", payload: { sdp: SDP } })), [ME, "p", "offer"]);
  assert.deepEqual(ends(story.received({ type: "answer", from: "p", payload: { sdp: SDP } })), ["p", ME, "answer"]);
  assert.deepEqual(ends(story.sent({ type: "message", payload: 1 })), [ME, SERVER, "message"]);
});

test("a second offer to the same peer is a renegotiation, until that has left", () => {
  const story = new Story();
  const offer = () => story.sent({ type: "offer", to: "p", payload: { sdp: SDP } }).about;
  assert.equal(offer(), "explain.offer-sent");
  assert.equal(offer(), "explain.offer-sent", "nobody has answered yet");
  story.received({ type: "answer", from: "p", payload: { sdp: SDP } });
  assert.equal(offer(), "explain.offer-again-sent");
  assert.equal(story.received({ type: "offer", from: "q", payload: { sdp: SDP } }).about, "explain.offer-received");
  story.received({ type: "peer-left", peerId: "p", reason: "left" });
  assert.equal(offer(), "explain.offer-sent");
});

test("what matters of a description stands in its sentence", () => {
  const { kinds, content } = new Story().sent({ type: "offer", to: "p", payload: { sdp: SDP } });
  assert.deepEqual(kinds, ["application", "video"]);
  assert.equal(content, SDP);
  assert.deepEqual(readDescription(SDP), { kinds: ["application", "video"], candidates: 1 });
  for (const sdp of [undefined, 7, {}, ""]) assert.deepEqual(readDescription(sdp), { kinds: [], candidates: 0 });
});

test("a candidate is explained by its kind", () => {
  assert.deepEqual(readCandidate(CANDIDATE), { type: "srflx", protocol: "UDP", address: "198.51.100.7", port: "46154" });
  for (const line of [undefined, null, "", 7, "candidate:", "candidate:1 1 udp 1 host 5 typ <b>"]) assert.equal(readCandidate(line), undefined);
  const story = new Story();
  const about = (payload) => story.received({ type: "ice-candidate", from: "p", payload }).about;
  assert.equal(about({ candidate: CANDIDATE }), "explain.candidate-srflx");
  assert.equal(about({ candidate: CANDIDATE }), "explain.candidate-more", "once is enough");
  assert.equal(about({ candidate: "" }), "explain.candidate-end");
  assert.equal(about(null), "explain.candidate-end");
  assert.equal(about({ candidate: "", secret: "x" }), "explain.proof");
});

test("what whoever runs the server says comes from the server, and a token is not shown", () => {
  const story = new Story();
  const { from, to, content } = story.received({ type: "message", from: "0".repeat(32), room: "r", payload: 1 });
  assert.deepEqual([from, to, content.payload], [SERVER, ME, 1]);
  assert.equal(story.renewed().content, undefined);
  assert.deepEqual(story.received({ type: "goodbye", code: "token-expired", closesInMs: 29_800 }).values, { code: "token-expired", seconds: 30 });
});

test("heartbeats are left out", () => {
  const story = new Story();
  assert.equal(story.sent({ type: "ping", received: 1 }), undefined);
  assert.equal(story.received({ type: "pong", received: 1 }), undefined);
});

test("every step has a sentence", () => {
  const story = new Story();
  const from = "p";
  const steps = [
    ...["hello", "join", "leave", "metadata", "new-in-a-later-version"].map((type) => story.sent({ type })),
    ...["message", "ice-candidate", "offer", "answer", "offer"].map((type) => story.sent({ type, to: from })),
    ...["welcome", "joined", "peer-joined", "peer-updated", "peer-left", "left", "error", "goodbye", "ice-servers", "later"].map((type) => story.received({ type })),
    ...["offer", "answer", "offer", "ice-candidate", "message"].map((type) => story.received({ type, from: "q" })),
    ...["host", "srflx", "prflx", "relay", "host"].map((type) => {
      return story.received({ type: "ice-candidate", from, payload: { candidate: CANDIDATE.replace("srflx", type) } });
    }),
    story.received({ type: "welcome", resumed: true }),
    story.renewed(),
    story.received({ type: "left", reason: "removed" }),
    story.received({ type: "message", from: "0".repeat(32) }),
    story.received({ type: "goodbye", code: "token-expired", closesInMs: 30_000 }),
    story.received({ type: "joined", peers: [{}] }),
    story.received({ type: "ice-candidate", from, payload: { secret: "x" } }),
    ...["ice-checking", "ice-connected", "ice-disconnected", "ice-failed", "ice-closed", "line-closed", "line-failed"].map((state) => note(state, from)),
    note("reconnecting"),
    lineOpened(from),
  ];
  for (const { about, type } of steps) assert.ok(Object.hasOwn(TABLES.en, about), `${type}: ${about}`);
  // And every sentence has a step.
  const told = new Set(steps.map(({ about }) => about));
  assert.deepEqual(Object.keys(TABLES.en).filter((key) => key.startsWith("explain.") && !told.has(key)), []);
});

test("lanes stand in the order in which they are needed, and past the bound peers share one", () => {
  const to = (peerId) => new Story().sent({ type: "offer", to: peerId });
  const few = lanesOf([to("b"), to("a"), to("b")], 4);
  assert.deepEqual(few.lanes, [ME, SERVER, "b", "a"]);
  assert.equal(few.laneOf("a"), 3);
  const many = lanesOf(["a", "b", "c"].map(to), 2);
  assert.deepEqual(many.lanes, [ME, SERVER, "a", OTHERS]);
  assert.deepEqual(["a", "b", "c"].map(many.laneOf), [2, 3, 3]);
  assert.deepEqual(lanesOf([], 4).lanes, [ME, SERVER]);
});
