import assert from "node:assert/strict";
import { test } from "node:test";

import { keepToken, openWithToken, takeToken, tokenFor } from "../pages/token.js";

/** A tab at this address, as far as tokens go. */
function tab(t, href, storage = new Map()) {
  const opened = [];
  const location = { href };
  const fakes = {
    location,
    history: { replaceState: (_, __, to) => (location.href = String(to)) },
    sessionStorage: { getItem: (key) => storage.get(key) ?? null, setItem: (key, value) => void storage.set(key, value) },
    open: (...all) => opened.push(all.map(String)),
  };
  for (const [name, value] of Object.entries(fakes)) Object.defineProperty(globalThis, name, { value, configurable: true });
  t.after(() => Object.keys(fakes).forEach((name) => Reflect.deleteProperty(globalThis, name)));
  return { location, opened };
}

const HERE = "http://localhost:8080/call.html";

test("a token is taken out of the address, and kept for the server of the link", (t) => {
  const { location } = tab(t, `${HERE}#room=r&token=secret`);
  assert.equal(takeToken(), true);
  assert.equal(location.href, `${HERE}#room=r`);
  assert.equal(tokenFor("http://localhost:8080"), "secret");
  assert.equal(takeToken(), false, "it is gone");
  assert.equal(tokenFor("http://localhost:8080"), "secret");
});

/** A link to one's own page with somebody else's server in it must not bring that server what this tab has kept. */
test("another server is not told the token", (t) => {
  const { location } = tab(t, `${HERE}#room=r&token=secret`);
  takeToken();
  location.href = `${HERE}?server=https://elsewhere.example#room=r`;
  assert.equal(takeToken(), false);
  assert.equal(tokenFor("https://elsewhere.example"), undefined);
  location.href = `${HERE}?server=https://elsewhere.example/#room=r&token=other`;
  takeToken();
  assert.deepEqual(["https://elsewhere.example", "http://localhost:8080"].map(tokenFor), ["other", "secret"]);
});

test("a second page is opened with the token, if there is one, and by no link that shows it", (t) => {
  const { location, opened } = tab(t, `${HERE}#room=r&token=secret`);
  const wish = { server: "http://localhost:8080", room: "r", door: "websocket" };
  assert.equal(openWithToken("call", wish), false);
  takeToken();
  assert.equal(openWithToken("call", wish), true);
  assert.deepEqual(opened, [[`${HERE}?door=websocket#room=r&token=secret`, "_blank", "noopener"]]);
  assert.equal(location.href, `${HERE}#room=r`);
});

test("one that is typed is kept like one of a link, and taken away again", (t) => {
  tab(t, HERE);
  keepToken("http://localhost:8080", "typed");
  assert.equal(tokenFor("http://localhost:8080"), "typed");
  assert.equal(tokenFor("https://elsewhere.example"), undefined);
  keepToken("http://localhost:8080", "");
  assert.equal(tokenFor("http://localhost:8080"), undefined);
});
