/** The page that looks at a server from the browser: what works is told so, and what is broken is found, named, and the way out with it. */

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after });

/** Time for every step that may have to wait until its own is over. */
const ALL_MS = 60_000;
/** Nobody but this page comes in, and who leaves does so at once; a session that was lost may come back. */
const SERVES = { SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS: "60000" };
const RELAYS = {
  ...SERVES,
  SWITCHBOARD_TURN_ENABLED: "true",
  SWITCHBOARD_TURN_LISTEN: "127.0.0.1:0",
  SWITCHBOARD_TURN_ALLOW: "127.0.0.1",
  SWITCHBOARD_TURN_GRACE_MS: "0",
  SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0",
};
const DOORS = ["discovery", "clock", "websocket", "webtransport"];
const SESSIONS = ["forward", "resume"];

/** A page of the server, with nothing asked yet. `prepare` is run in it before anything else. */
async function opened(t, url, { context, query = "", prepare = () => {} } = {}) {
  const page = await browser.newPage(t, context);
  await page.addInitScript(prepare);
  await page.goto(`${url}/check${query}`);
  await page.waitForSelector('body[data-state="idle"]');
  return page;
}

/** Presses the button, and gives what was found when everything was looked at. */
async function checked(page) {
  await page.getByTestId("start").click();
  await page.waitForSelector('body[data-state="checked"]', { timeout: ALL_MS });
  return page.getByTestId("finding").evaluateAll((rows) =>
    rows.map((row) => {
      const [detail, advice] = [...row.querySelectorAll("td")].slice(1).map((cell) => cell.textContent);
      return { check: row.dataset.check, outcome: row.dataset.outcome, detail, advice };
    }),
  );
}

const outcomes = (found) => found.map(({ check, outcome }) => `${check} ${outcome}`);
const ok = (...checks) => checks.map((check) => `${check} ok`);

/** Exactly these fail; gives them. */
function failures(found, checks) {
  const failed = found.filter(({ outcome }) => outcome === "failed");
  assert.deepEqual(failed.map(({ check }) => check), checks, JSON.stringify(found, undefined, 1));
  return failed;
}

/** What the server counts. */
async function counted(server, line) {
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const metrics = await (await fetch(`${server.admin}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).text();
  const found = metrics.split("\n").filter((counter) => counter.startsWith(line));
  assert.ok(found.length > 0, `${line} is not counted`);
  return found.reduce((sum, counter) => sum + Number(counter.split(" ").at(-1)), 0);
}

/** Notes every connection that the page opens. */
function noteAll() {
  globalThis.opened = [];
  for (const name of ["RTCPeerConnection", "WebSocket", "WebTransport"]) {
    globalThis[name] = new Proxy(globalThis[name], {
      construct(target, values, self) {
        const made = Reflect.construct(target, values, self === globalThis[name] ? target : self);
        const note = { name, isOver: () => (made.connectionState ?? made.readyState) === (name === "WebSocket" ? 3 : "closed") };
        if (name === "WebTransport") {
          let over = false;
          made.closed.then(() => (over = true), () => (over = true));
          note.isOver = () => over;
        }
        globalThis.opened.push(note);
        return made;
      },
    });
  }
}

/** A proxy for TCP alone, as most are: its URL. */
async function tcpAlone(t, server) {
  const { hostname, port } = new URL(server.url);
  const sockets = new Set();
  const proxy = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => (client.destroy(), upstream.destroy(), sockets.delete(socket)));
    }
    client.pipe(upstream).pipe(client);
  });
  await within(new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve)), "a port for the proxy");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  return `http://127.0.0.1:${proxy.address().port}`;
}

/** A file that is gone with the test. */
async function file(t, content) {
  const directory = await mkdtemp(join(tmpdir(), "switchboard-check-"));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "content");
  await writeFile(path, content);
  return path;
}

test("what works is told so, by TURN as well, again when that is asked for, and nothing stays behind", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, RELAYS);
  const page = await opened(t, server.url, { prepare: noteAll, context: { permissions: ["clipboard-read", "clipboard-write"] } });
  assert.equal(await page.getByTestId("finding").count(), 0, "nothing is looked at by itself");
  for (let i = 0; i < 2; i++) {
    const found = await checked(page);
    assert.deepEqual(outcomes(found), ok(...DOORS, ...SESSIONS, "turn", "turn", "direct"), JSON.stringify(found));
    const [udp, tcp] = found.filter(({ check }) => check === "turn").map(({ detail }) => detail);
    assert.match(udp, /transport=udp: relays at 127\.0\.0\.1:\d+, there and back in/);
    assert.match(tcp, /transport=tcp: relays at 127\.0\.0\.1:\d+, there and back in/);
    assert.match(found.find(({ check }) => check === "forward").detail, /^2048 bytes from websocket to webtransport/);
    assert.match(found.find(({ check }) => check === "resume").detail, /^gone by websocket, back by webtransport/);
    assert.match(await page.getByTestId("verdict").innerText(), /works from here/);
  }

  await page.getByTestId("copy").click();
  await page.getByTestId("copy").getByText("Copied").waitFor();
  const report = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  assert.deepEqual([report.url, report.outcome, report.findings.length], [`${server.url}/`, "ok", 9]);
  assert.deepEqual(Object.keys(report.findings[0]), ["check", "outcome", "detail"]);

  await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.opened.filter(({ isOver }) => !isOver()).map(({ name }) => name)), []));
  assert.ok((await page.evaluate(() => globalThis.opened.length)) > 20, "they were noted");
  await eventually(async () => assert.equal(await counted(server, "switchboard_sessions{"), 0));
  await eventually(async () => assert.equal(await counted(server, "switchboard_turn_allocations{"), 0));
});

test("in Spanish, with quiet connections, on the smallest phone", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, { ...SERVES, SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS: "1000" });
  const page = await opened(t, server.url, { context: { locale: "es-MX", viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true } });
  assert.equal(await page.locator("h1").innerText(), "Revisión");
  await page.getByTestId("long").check();
  const found = await checked(page);
  assert.deepEqual(outcomes(found), [...ok(...DOORS, ...SESSIONS), "turn skipped", ...ok("direct", "idle", "idle")], JSON.stringify(found));
  const { detail, advice } = found.find(({ check }) => check === "turn");
  assert.match(detail, /ningún servidor STUN o TURN/);
  assert.match(advice, /--turn/);
  assert.deepEqual(found.filter(({ check }) => check === "idle").map(({ detail }) => detail.replace(/\d+ s/, "3 s")), [
    "websocket: 3 s en silencio, y ahí sigue",
    "webtransport: 3 s en silencio, y ahí sigue",
  ]);
  assert.match(await page.getByTestId("verdict").innerText(), /funciona desde aquí/);
  // A key that is in no table stands for itself, and would be seen.
  assert.doesNotMatch(await page.innerText("body"), /\bcheck\.[a-z-]+/);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
});

test("where UDP does not pass, WebTransport alone fails, and the rest goes by WebSocket", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, SERVES);
  const url = await tcpAlone(t, server);
  const found = await checked(await opened(t, url));
  const [{ advice }] = failures(found, ["webtransport"]);
  assert.match(advice, new RegExp(`open UDP port ${new URL(url).port} `));
  assert.match(found.find(({ check }) => check === "forward").detail, /from websocket to websocket/);
  assert.ok(found.some(({ check, outcome }) => check === "resume" && outcome === "ok"), JSON.stringify(found));
});

test("a server that forgets who loses a connection is told from one that remembers", { timeout: 60_000 }, async (t) => {
  const server = await startServer(t, { SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS: "0" });
  const [{ detail, advice }] = failures(await checked(await opened(t, server.url)), ["resume"]);
  assert.match(detail, /does not know the session/);
  assert.match(advice, /timeouts\.resume_window_ms/);
});

test("a browser, a page or a server without WebTransport is no failure", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, SERVES);
  const without = await opened(t, server.url, { prepare: () => Reflect.deleteProperty(globalThis, "WebTransport") });
  const off = await opened(t, server.url);
  await off.route("**/.well-known/switchboard", async (route) => {
    const response = await route.fetch();
    const document = await response.json();
    const transports = document.transports.filter(({ type }) => type !== "webtransport");
    await route.fulfill({ response, json: { ...document, transports } });
  });
  const insecure = await opened(t, server.url, {
    prepare: () => {
      Reflect.deleteProperty(globalThis, "WebTransport");
      Object.defineProperty(globalThis, "isSecureContext", { value: false });
      Object.defineProperty(navigator, "clipboard", { value: undefined });
    },
  });
  for (const [page, detail] of [[without, /^this browser does not have it/], [off, /^the server does not offer it/], [insecure, /secure pages alone/]]) {
    const found = await checked(page);
    assert.deepEqual(outcomes(found), [...ok(...DOORS.slice(0, 3)), "webtransport skipped", ...ok(...SESSIONS), "turn skipped", "direct ok"]);
    assert.match(found[3].detail, detail);
  }
  // Nor does an insecure page have a clipboard.
  await insecure.getByTestId("copy").click();
  await insecure.getByTestId("json").waitFor();
  assert.equal(JSON.parse(await insecure.getByTestId("json").inputValue()).findings.length, 8);
});

test("a door whose URL no browser can open fails for that, and the rest goes by the other", { timeout: 60_000 }, async (t) => {
  const server = await startServer(t, SERVES);
  const page = await opened(t, server.url);
  await page.route("**/.well-known/switchboard", async (route) => {
    const response = await route.fetch();
    const document = await response.json();
    const transports = document.transports.map((entry) => (entry.type === "webtransport" ? { ...entry, url: "https://127.0.0.1:99999/wt" } : entry));
    await route.fulfill({ response, json: { ...document, transports } });
  });
  const [{ detail, advice }] = failures(await checked(page), ["webtransport"]);
  assert.match(detail, /names it as https:\/\/127\.0\.0\.1:99999\/wt/);
  assert.match(advice, /X-Forwarded-Proto/);
});

/** Either left the page in the midst of it for ever, with nothing to press but "Stop". */
test("a list that is none fails, and a mistake of the page ends it with a word", { timeout: 60_000 }, async (t) => {
  const server = await startServer(t, SERVES);
  const listless = await opened(t, server.url, {
    prepare: () => {
      // Connections take a set for a list, and so the line of this page to itself works.
      const { parse } = JSON;
      JSON.parse = (...values) => {
        const read = parse(...values);
        return read?.type === "welcome" ? { ...read, iceServers: new Set() } : read;
      };
    },
  });
  const [{ detail, advice }] = failures(await checked(listless), ["turn"]);
  assert.match(detail, /no list of STUN and TURN servers/);
  assert.match(advice, /urls/);

  const broken = await opened(t, server.url, {
    prepare: () =>
      Object.defineProperty(globalThis, "WebTransport", {
        get() {
          throw new Error("a mistake");
        },
      }),
  });
  assert.deepEqual(outcomes(await checked(broken)), ok(...DOORS.slice(0, 3)));
  assert.match(await broken.getByTestId("verdict").innerText(), /mistake of this page: a mistake/);
  assert.equal(await broken.getByTestId("verdict").getAttribute("data-outcome"), "failed");
  assert.ok(await broken.getByTestId("start").isVisible());
  assert.equal(await broken.getByTestId("copy").isVisible(), false, "half of it would look like the whole");
});

test("a TURN server with another secret, and one that is not there, fail each for its own reason", { timeout: 180_000 }, async (t) => {
  const relaying = await startServer(t, RELAYS);
  const { iceServers } = await (await fetch(`${relaying.url}/ice`)).json();
  const there = iceServers.flatMap(({ urls }) => urls);
  assert.equal(there.length, 2, "by UDP and by TCP");
  const answering = there[0].replace(/^turn:([^?]+).*/, "stun:$1");
  const nobody = createServer();
  await within(new Promise((resolve) => nobody.listen(0, "127.0.0.1", resolve)), "a port");
  const { port } = nobody.address();
  await within(new Promise((resolve) => nobody.close(resolve)), "a port where nobody listens");
  const server = await startServer(t, {
    ...SERVES,
    SWITCHBOARD_ICE_SERVERS: `stun:127.0.0.1:${port},${answering}`,
    SWITCHBOARD_ICE_TURN_URLS: [...there, `turn:127.0.0.1:${port}?transport=udp`, `turn:127.0.0.1:${port}?transport=tcp`].join(),
    SWITCHBOARD_ICE_TURN_SECRET_FILES: await file(t, "another secret than theirs, and as long"),
  });
  const found = await checked(await opened(t, server.url));
  const failed = failures(found, ["stun", "turn", "turn", "turn", "turn"]);
  const about = (url) => failed.find(({ detail }) => detail.startsWith(`${url}: `));
  for (const url of there) {
    assert.match(about(url).detail, /refused with 401/);
    assert.match(about(url).advice, /do both know the same secret/);
  }
  for (const [url, transport] of [[`stun:127.0.0.1:${port}`, "UDP"], [`turn:127.0.0.1:${port}?transport=udp`, "UDP"], [`turn:127.0.0.1:${port}?transport=tcp`, "TCP"]]) {
    assert.ok(about(url).advice.startsWith(`open ${transport} port ${port} `), JSON.stringify(failed));
  }
  assert.match(found.find(({ check, outcome }) => check === "stun" && outcome === "ok").detail, /^stun:127\.0\.0\.1:\d+: sees this browser /);
  assert.ok(found.some(({ check, outcome }) => check === "direct" && outcome === "ok"), "two peers of one page need none of them");
});

test("a relay that passes nothing on is something to look at on an inner network", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, { ...RELAYS, SWITCHBOARD_TURN_DENY: "127.0.0.0/8" });
  const page = await opened(t, server.url);
  const found = await checked(page);
  assert.deepEqual(outcomes(found), [...ok(...DOORS, ...SESSIONS), "turn warning", "turn warning", "direct ok"], JSON.stringify(found));
  const { detail, advice } = found.find(({ check }) => check === "turn");
  assert.match(detail, /relays at 127\.0\.0\.1:\d+, an address of an inner network/);
  assert.match(advice, /name it in turn\.allow/);
  assert.match(await page.getByTestId("verdict").innerText(), /works from here, with 2 things to look at/);
});

test("a server that wants a token says so, and takes one from the field or from a link, for its rooms", { timeout: 120_000 }, async (t) => {
  const secret = randomBytes(32);
  const keys = await file(t, JSON.stringify({ kty: "oct", kid: "test", alg: "HS256", k: secret.toString("base64url") }));
  const server = await startServer(t, { ...SERVES, SWITCHBOARD_AUTH_KEYS: keys });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", kid: "test" })}.${part({ sub: "emma", rooms: ["lobby"], exp: Math.floor(Date.now() / 1_000) + 3_600 })}`;
  const token = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;

  const page = await opened(t, server.url);
  const refused = await checked(page);
  for (const { advice } of failures(refused, ["websocket", "webtransport"])) assert.match(advice, /wants a token/);
  assert.deepEqual(outcomes(refused).slice(4), ["forward", "resume", "turn", "direct"].map((check) => `${check} skipped`));

  await page.getByTestId("token").fill(token);
  const elsewhere = await checked(page);
  for (const { advice } of failures(elsewhere, ["forward", "resume", "direct"])) assert.match(advice, /not for this room/);
  await page.getByTestId("room").fill("lobby");
  const expected = [...ok(...DOORS, ...SESSIONS), "turn skipped", "direct ok"];
  assert.deepEqual(outcomes(await checked(page)), expected);
  // This token is for one server.
  await page.getByTestId("server").fill("http://127.0.0.1:1");
  await page.getByTestId("server").blur();
  assert.equal(await page.getByTestId("token").inputValue(), "");

  const linked = await opened(t, server.url, { query: `#room=lobby&token=${token}` });
  assert.equal(new URL(linked.url()).hash, "#room=lobby");
  assert.deepEqual(outcomes(await checked(linked)), expected);
});

test("where nobody answers the first step says so, and the rest was not looked at", { timeout: 60_000 }, async (t) => {
  const server = await startServer(t);
  const page = await opened(t, server.url);
  await page.getByTestId("server").fill(`${server.url}/elsewhere`);
  const [{ detail, advice }] = failures(await checked(page), ["discovery"]);
  assert.match(detail, /status 404/);
  assert.match(advice, /does a proxy pass on every path/);
  await page.getByTestId("server").fill(server.url);
  await server.kill();
  const found = await checked(page);
  assert.match(failures(found, ["discovery"])[0].advice, /is the server running/);
  assert.deepEqual(outcomes(found).slice(1), ["clock", ...DOORS.slice(2), ...SESSIONS, "turn", "direct"].map((check) => `${check} skipped`));
});

test("by the keyboard alone it is begun, stopped and begun again, and what stops it leaves nothing open", { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, { ...SERVES, SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0" });
  const page = await opened(t, server.url);
  const focused = () => page.evaluate(() => document.activeElement.id);
  await page.getByTestId("long").focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "start");
  await page.keyboard.press("Enter");
  // With the server's own heartbeat that takes more than a minute.
  await page.getByTestId("verdict").getByText("Looking at idle").waitFor();
  await eventually(async () => assert.ok((await counted(server, "switchboard_sessions{")) > 0));
  assert.equal(await focused(), "stop");
  await page.keyboard.press("Enter");
  await page.waitForSelector('body[data-state="checked"]');
  assert.match(await page.getByTestId("verdict").innerText(), /^Stopped/);
  assert.equal(await focused(), "start");
  await eventually(async () => assert.equal(await counted(server, "switchboard_sessions{"), 0));
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector('body[data-state="checked"] #verdict[data-outcome="ok"]', { timeout: ALL_MS });
  for (const name of ["Check", "Outcome", "Detail", "What to do"]) await page.getByRole("columnheader", { name, exact: true }).waitFor();
  await page.getByRole("rowheader", { name: "websocket" }).waitFor();
});

test("the first page leads to it, and it to the others", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/#room=cellar`);
  await page.getByTestId("way-check").click();
  await page.waitForSelector('body[data-page="check"][data-state="idle"]');
  assert.equal(await page.locator("nav [aria-current]").innerText(), "Check");
  assert.equal(await page.getByTestId("room").inputValue(), "", "who is in that room is left alone");
  await page.getByRole("navigation").getByText("Inspect").click();
  await page.waitForSelector('body[data-page="inspect"][data-state="inside"]');
  assert.match(await page.getByTestId("status").innerText(), /“cellar”/);
  await page.getByRole("navigation").getByText("Check").waitFor();
});
