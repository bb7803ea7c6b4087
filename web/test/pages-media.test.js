import assert from "node:assert/strict";
import { test } from "node:test";

import { askForDevices, lackOf } from "../pages/media.js";

const named = (name) => Object.assign(new Error(name), { name });
const BOTH = { audio: true, video: true };

/** Devices that have what is given, and note what they were asked for. */
function devices({ audio, video, error }) {
  const asked = [];
  const getUserMedia = async (wanted) => {
    asked.push(Object.keys(wanted).filter((kind) => wanted[kind]).join("+"));
    if (error) throw error;
    if ((wanted.audio && !audio) || (wanted.video && !video)) throw named("NotFoundError");
    return { getAudioTracks: () => (wanted.audio ? [audio] : []), getVideoTracks: () => (wanted.video ? [video] : []) };
  };
  return { getUserMedia, asked };
}

test("camera and microphone are asked for together", async () => {
  const fake = devices({ audio: "a", video: "v" });
  assert.deepEqual(await askForDevices(BOTH, fake), { audio: "a", video: "v" });
  assert.deepEqual(fake.asked, ["audio+video"]);
});

test("where one is missing, the other is asked for alone", async () => {
  const fake = devices({ audio: "a" });
  assert.deepEqual(await askForDevices(BOTH, fake), { audio: "a", video: undefined, lack: "missing" });
  assert.deepEqual(fake.asked, ["audio+video", "audio", "video"]);
  assert.deepEqual(await askForDevices(BOTH, devices({})), { audio: undefined, video: undefined, lack: "missing" });
});

test("who says no is not asked again", async () => {
  const fake = devices({ error: named("NotAllowedError") });
  assert.deepEqual(await askForDevices(BOTH, fake), { lack: "refused" });
  assert.deepEqual(fake.asked, ["audio+video"]);
});

test("who wants neither is given neither, and told of no lack", async () => {
  const fake = devices({ error: named("TypeError") });
  assert.deepEqual(await askForDevices({ audio: false, video: false }, fake), {});
  assert.deepEqual(fake.asked, []);
});

test("a page that is not secure has no devices", async () => {
  assert.deepEqual(await askForDevices(BOTH, undefined), { lack: "unavailable" });
});

test("each error means one of four things", () => {
  const meanings = {
    refused: ["NotAllowedError", "SecurityError"],
    missing: ["NotFoundError", "OverconstrainedError"],
    busy: ["NotReadableError", "AbortError"],
    unavailable: ["TypeError"],
  };
  for (const [lack, names] of Object.entries(meanings)) for (const name of names) assert.equal(lackOf(named(name)), lack);
  assert.equal(lackOf(undefined), "busy");
});
