import assert from "node:assert/strict";
import { test } from "node:test";

import { PieceCache, cacheStorage, memory } from "../src/swarm/cache.js";
import { noise, settled } from "./fake-links.js";

/** A cache of 100 bytes, and what it dropped. */
function small(shelf = memory()) {
  const cache = new PieceCache(shelf, 100);
  const dropped = [];
  const put = async (key, bytes, { force = false } = {}) => {
    if (!cache.reserve(bytes, { force })) return false;
    await cache.put(key, noise(bytes), () => dropped.push(key));
    return true;
  };
  return { cache, dropped, put };
}

test("what was put is there", async () => {
  const { cache, put } = small();
  await put("a", 40);
  assert.deepEqual(await cache.get("a"), noise(40));
  assert.equal(await cache.get("b"), undefined);
  assert.equal(cache.bytes, 40);
});

test("pinned pieces stay, and there is no room beyond the bound", async () => {
  const { cache, dropped, put } = small();
  assert.equal(await put("a", 60), true);
  assert.equal(await put("b", 41), false);
  assert.equal(await put("b", 40), true);
  assert.deepEqual([cache.bytes, dropped], [100, []]);
});

test("room that is reserved counts, until it is given back", () => {
  const { cache } = small();
  assert.equal(cache.reserve(60), true);
  assert.equal(cache.reserve(60), false);
  cache.unreserve(60);
  assert.equal(cache.reserve(60), true);
});

test("others make room, those first that nobody asked for the longest time", async () => {
  const { cache, dropped, put } = small();
  for (const key of ["a", "b", "c"]) {
    await put(key, 30);
    cache.unpin(key);
  }
  await cache.get("a");
  await put("d", 30);
  assert.deepEqual(dropped, ["b"]);
  assert.equal(await cache.get("b"), undefined);
  cache.pin("c");
  await put("e", 30);
  assert.deepEqual(dropped, ["b", "a"]);
  assert.equal(cache.bytes, 90);
});

test("a piece that a reader waits for comes in even so", async () => {
  const { cache, put } = small();
  await put("a", 90);
  assert.equal(await put("b", 50), false);
  assert.equal(await put("b", 50, { force: true }), true);
  assert.equal(cache.bytes, 140);
  cache.unpin("a");
  assert.equal(await put("c", 40), true);
  assert.equal(cache.bytes, 90);
});

test("a piece that is put twice counts once, and one that is deleted no more", async () => {
  const { cache, dropped, put } = small();
  await put("a", 30);
  await put("a", 40);
  assert.equal(cache.bytes, 40);
  cache.delete("a");
  cache.delete("a");
  assert.deepEqual([cache.bytes, dropped, await cache.get("a")], [0, [], undefined]);
});

test("when the browser takes no more, that is told, and the room is given back", async () => {
  const { cache, put } = small({ ...memory(), put: () => Promise.reject(new DOMException("full", "QuotaExceededError")) });
  await assert.rejects(put("a", 30), ({ code, cause }) => code === "storage" && cause.name === "QuotaExceededError");
  assert.equal(cache.bytes, 0);
});

/** As much of Cache Storage and Web Locks as is used. Each page has its own `locks`; a page that ends loses what it holds. */
function browser() {
  const stored = new Map();
  const held = new Map();
  const caches = {
    keys: async () => [...stored.keys()],
    delete: async (name) => stored.delete(name),
    open: async (name) => {
      if (!stored.has(name)) stored.set(name, new Map());
      const cache = stored.get(name);
      return {
        put: async (address, response) => void cache.set(address, new Uint8Array(await response.arrayBuffer())),
        match: async (address) => cache.has(address) ? new Response(cache.get(address)) : undefined,
        delete: async (address) => cache.delete(address),
      };
    },
  };
  const page = () => {
    const mine = new Set();
    const request = async (name, ...rest) => {
      const callback = rest.pop();
      if (held.has(name)) {
        assert.deepEqual(rest, [{ ifAvailable: true }], "names are unlike each other");
        return callback(null);
      }
      held.set(name, mine);
      mine.add(name);
      try {
        return await callback({ name });
      } finally {
        if (mine.delete(name)) held.delete(name);
      }
    };
    const crash = () => {
      for (const name of mine) held.delete(name);
      mine.clear();
    };
    return { platform: { caches, locks: { request } }, crash };
  };
  return { stored, held, page };
}

test("in Cache Storage, pieces are in a cache of the swarm's own, which ends with it", async () => {
  const { stored, held, page } = browser();
  const { cache, put } = small(cacheStorage("one", page().platform));
  await put("a piece", 40);
  assert.deepEqual(await cache.get("a piece"), noise(40));
  assert.deepEqual([...stored.keys()], ["switchboard.swarm.one"]);
  cache.delete("a piece");
  await settled();
  assert.equal(stored.get("switchboard.swarm.one").size, 0);
  cache.close();
  await settled();
  assert.deepEqual([stored.size, held.size], [0, 0]);
});

test("what a page left behind that crashed, the next one clears away, and nothing else", async () => {
  const { stored, page } = browser();
  await page().platform.caches.open("the page's own");
  const [crashing, running] = [page(), page()];
  await small(cacheStorage("crashing", crashing.platform)).put("a", 10);
  await small(cacheStorage("running", running.platform)).put("a", 10);
  crashing.crash();
  await small(cacheStorage("new", page().platform)).put("a", 10);
  assert.deepEqual([...stored.keys()].sort(), ["switchboard.swarm.new", "switchboard.swarm.running", "the page's own"]);
});

test("where there is no Cache Storage, that is told at once", () => {
  assert.throws(() => cacheStorage("one", { caches: undefined, locks: undefined }), { code: "unsupported" });
});
