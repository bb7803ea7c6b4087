import assert from "node:assert/strict";
import { test } from "node:test";

import { Reader } from "../pages/speech.js";

class Utterance extends EventTarget {
  constructor(text) {
    super();
    this.text = text;
  }
}

/** A voice that says nothing until it is told to. */
function voice() {
  const spoken = [];
  const synthesis = { speaking: false, pending: false, cancelled: 0, cancel: () => synthesis.cancelled++ };
  synthesis.speak = (utterance) => {
    spoken.push(utterance);
    synthesis.speaking = true;
  };
  return { synthesis, spoken, Utterance };
}

test("a phrase is read in the language that it was written in", () => {
  const { spoken, ...options } = voice();
  const reader = new Reader(options);
  reader.read("hola", "es");
  reader.read("hello");
  assert.deepEqual(spoken.map(({ text, lang }) => [text, lang]), [["hola", "es"], ["hello", undefined]]);
});

test("who writes faster than can be read is not read late", () => {
  const { spoken, ...options } = voice();
  const reader = new Reader(options);
  for (let i = 0; i < 20; i++) reader.read(`${i}`);
  assert.equal(spoken.length, 5);
  spoken[0].dispatchEvent(new Event("end"));
  reader.read("again");
  assert.equal(spoken.at(-1).text, "again");
});

test("a browser without a voice, which never ends, holds up nothing", () => {
  const { spoken, ...options } = voice();
  const reader = new Reader(options);
  for (let i = 0; i < 5; i++) reader.read(`${i}`);
  options.synthesis.speaking = false;
  reader.read("after");
  assert.equal(spoken.at(-1).text, "after");
});

test("it can be switched off, and falls silent", () => {
  const { spoken, ...options } = voice();
  const reader = new Reader(options);
  reader.on = false;
  reader.read("nothing");
  reader.stop();
  assert.equal(spoken.length, 0);
  assert.equal(options.synthesis.cancelled, 1);
});

test("a browser that wants the page to be touched first says so", () => {
  const { spoken, ...options } = voice();
  let blocked = 0;
  const reader = new Reader({ ...options, blocked: () => blocked++ });
  reader.read("hello");
  spoken[0].dispatchEvent(Object.assign(new Event("error"), { error: "not-allowed" }));
  reader.read("hello");
  spoken[1].dispatchEvent(Object.assign(new Event("error"), { error: "interrupted" }));
  assert.equal(blocked, 1);
});

test("where there is no speech at all, nothing happens", () => {
  const reader = new Reader({ synthesis: undefined, Utterance: undefined });
  assert.equal(reader.available, false);
  reader.read("hello");
  reader.stop();
});
