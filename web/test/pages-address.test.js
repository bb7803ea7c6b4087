import assert from "node:assert/strict";
import { test } from "node:test";

import { invitation, ownAddress, pageAddress, readAddress, serverAddress, splitToken, withToken } from "../pages/address.js";

const HERE = "http://localhost:8080/call.html";

test("an address names the room in its hash, and what was chosen in its query", () => {
  const wish = readAddress("https://a.example/call?server=http://b.example:1/&door=websocket&name=Emma#room=a+room+%26+more");
  assert.deepEqual(wish, { server: "http://b.example:1", room: "a room & more", door: "websocket", name: "Emma" });
});

test("where nothing was chosen, it is the page's own server, any door, and no room", () => {
  assert.deepEqual(readAddress(HERE), { server: "http://localhost:8080", room: "", door: "auto", name: undefined });
  assert.equal(readAddress(`${HERE}?door=constructor`).door, "auto");
});

test("an invitation says where to come, and nothing of who sends it", () => {
  const href = `${HERE}?name=Emma&door=websocket&lang=es&picture=test#room=old`;
  assert.equal(invitation(href, { server: "http://localhost:8080", room: "köln #1" }), `${HERE}#room=k%C3%B6ln+%231`);
  assert.equal(readAddress(invitation(href, { server: "http://localhost:8080", room: "köln #1" })).room, "köln #1");
  assert.equal(invitation(href, { server: "http://other", room: "r" }), `${HERE}?server=http%3A%2F%2Fother#room=r`);
});

test("one's own address keeps the door, the language and the picture", () => {
  const wish = { server: "http://localhost:8080", room: "r", door: "websocket" };
  assert.equal(ownAddress(`${HERE}?lang=es&picture=test&other=1`, wish), `${HERE}?door=websocket&lang=es&picture=test#room=r`);
});

test("another page of the room is beside this one, however this one was asked for", () => {
  const wish = { server: "http://localhost:8080", room: "r", door: "auto" };
  for (const href of ["http://localhost:8080/call", "http://localhost:8080/call.html?x=1#room=old", "http://localhost:8080/"]) {
    assert.equal(pageAddress("stream", href, wish), "http://localhost:8080/stream.html#room=r");
    assert.equal(pageAddress("index", href, wish), "http://localhost:8080/#room=r");
  }
  assert.equal(pageAddress("stream", "http://host/path/call.html?lang=es", { ...wish, server: "http://host" }), "http://host/path/stream.html?lang=es#room=r");
});

test("a token stands in the hash alone, and in no address that is shown or sent on", () => {
  const href = `${HERE}?door=websocket&token=not-here#room=a+%26+b&token=eyJ.x-y_z.1`;
  assert.deepEqual(splitToken(href), { token: "eyJ.x-y_z.1", rest: `${HERE}?door=websocket&token=not-here#room=a+%26+b` });
  for (const without of [HERE, `${HERE}#room=r`, `${HERE}#room=r&token=`, `${HERE}?token=x`]) assert.equal(splitToken(without).token, undefined);
  const wish = readAddress(href);
  for (const made of [invitation(href, wish), ownAddress(href, wish), pageAddress("stream", href, wish)]) assert.ok(!made.includes("token"), made);
  const again = withToken(pageAddress("stream", href, wish), "eyJ.x-y_z.1");
  assert.deepEqual([splitToken(again).token, readAddress(again).room, new URL(again).search.includes("token")], ["eyJ.x-y_z.1", "a & b", false]);
});

test("a typed server loses what makes no difference", () => {
  assert.equal(serverAddress(" http://localhost:8080// "), "http://localhost:8080");
});
