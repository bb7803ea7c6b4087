/** Swarms in which everything goes wrong that can, again and again, and the files arrive all the same. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { corrupt, meet, settled, until, untilLater } from "./fake-links.js";
import { PIECE_BYTES, REQUEST_MS, cachesOf, film, hashOf, person, sha256 } from "./fake-swarm.js";

const ROUNDS = 40;

for (let seed = 1; seed <= 8; seed++) {
  test(`six peers, two files, lines that break, stall and come back, and one who corrupts; seed ${seed}`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let state = seed;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    t.mock.method(Math, "random", random);
    const caches = cachesOf(t);
    const people = ["ann", "bob", "cid", "dan", "eve", "fay"].map((name, i) => person(t, name, { cacheBytesMax: (i % 2 ? 6 : 100) * PIECE_BYTES }));
    const [ann, bob] = people;
    const lines = new Map();
    const join = (one, other) => {
      const pair = [one.name, other.name].join();
      if (lines.get(pair)?.some(({ state }) => state !== "closed")) return;
      const ends = meet(one.room, other.room);
      for (const end of ends) {
        end.batch = 2;
        if (end.room === bob.room) end.outgoing = corrupt;
      }
      lines.set(pair, ends);
    };
    const pairs = people.flatMap((one, i) => people.slice(i + 1).map((other) => [one, other]));
    const ids = [];
    for (const file of [film(seed), film(seed + 100)]) ids.push((await ann.swarm.share(file)).id);

    const hashes = [];
    const downloads = people.slice(1).flatMap(({ swarm }, i) =>
      ids.map((id, j) => {
        const download = swarm.fetch(id);
        const at = hashes.push(undefined) - 1;
        const whole = (i + j) % 2 ? hashOf(download) : streamed(download);
        whole.then((hash) => (hashes[at] = hash), (error) => (hashes[at] = error));
        return download;
      }),
    );

    for (let round = 0; round < ROUNDS; round++) {
      for (const [one, other] of pairs) {
        const ends = lines.get([one.name, other.name].join());
        const dice = random();
        if (dice < 0.3) join(one, other);
        else if (ends && dice < 0.4) ends[0].close();
        else if (ends && dice < 0.5) ends[dice < 0.45 ? 0 : 1].isHeld = true;
        else if (ends && dice < 0.7) for (const end of ends) end.release();
      }
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (random() < 0.3) t.mock.timers.tick(REQUEST_MS);
    }
    // From here on it is calm.
    for (const [one, other] of pairs) join(one, other);
    for (const ends of lines.values()) for (const end of ends) if (end.state !== "closed") end.release();
    await untilLater(t.mock.timers, REQUEST_MS / 4, () => !hashes.includes(undefined), "every file at everybody");
    assert.deepEqual(hashes, people.slice(1).flatMap(() => ids), "and they are what was shared");
    const fromBob = people.slice(2).flatMap(({ swarm }) => ids.flatMap((id) => swarm.fetch(id).pieces)).filter((from) => from === "bob");
    assert.deepEqual(fromBob, []);

    for (const { swarm } of people) for (const id of ids) swarm.withdraw(id);
    await settled();
    assert.ok(downloads.every(({ state }) => state === "failed"));
    assert.deepEqual([...caches].map(({ bytes }) => bytes), [...caches].map(() => 0), "nothing is kept or reserved of what was given up");
    await until(() => people.every(({ swarm }) => swarm.shares.size === 0), "nothing is announced any more");
  });
}

async function streamed(download) {
  const chunks = [];
  for await (const chunk of download.stream()) chunks.push(chunk);
  return sha256(Buffer.concat(chunks));
}
