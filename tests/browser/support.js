/**
 * What every browser test needs: a server of its own on a free port, Chromium, pages, and a deadline for each wait. Whatever is started here
 * ends with the test that started it.
 *
 * `SWITCHBOARD_BIN` names the server's binary (the debug build by default), `CHROMIUM` the browser's.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

export const WAIT_MS = 15_000;

/** Settings of a server that soon notices who is gone. */
export const QUICK = { SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS: "1000", SWITCHBOARD_TIMEOUTS_SILENCE_MS: "6000", SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS: "7000" };

// The server refuses what begins like its settings and is none.
const { SWITCHBOARD_BIN, ...ENVIRONMENT } = process.env;
export const BINARY = SWITCHBOARD_BIN ?? fileURLToPath(new URL("../../target/debug/switchboard", import.meta.url));
const WEB = fileURLToPath(new URL("../../web/", import.meta.url));

const CHROMIUM_ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Two pages on a machine without a network find each other by loopback, and by address: there may be no mDNS.
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

/** A camera that shows a moving picture, and a microphone that beeps; and whether whoever is asked for them says yes or no. */
export const DEVICES = "--use-fake-device-for-media-stream";
export const ALLOWED = "--use-fake-ui-for-media-stream";
export const REFUSED = "--deny-permission-prompts";

/** Should the tests themselves end early, their servers do not outlive them. */
const servers = new Set();
process.once("exit", () => servers.forEach((server) => server.kill("SIGKILL")));

/**
 * Starts a server. `env` holds its settings; without a port it takes a free one. `admin` is where its administration is, if the settings say so,
 * and `adminToken` the file with the token of that.
 * @param {import("node:test").TestContext} t
 * @param {Record<string, string>} [env]
 * @param {string | number} [port]
 */
export async function startServer(t, env = {}, port = 0) {
  const directory = await mkdtemp(join(tmpdir(), "switchboard-"));
  const adminToken = join(directory, "admin-token");
  const child = spawn(BINARY, ["--listen", `127.0.0.1:${port}`, "--cert-dir", directory], {
    env: { ...ENVIRONMENT, SWITCHBOARD_ADMIN_TOKEN_FILE: adminToken, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  const exit = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const end = async (signal) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return within(exit, `the server's end after ${signal}`);
  };
  servers.add(child);
  t.after(async () => {
    await end("SIGTERM").catch(() => end("SIGKILL"));
    servers.delete(child);
    await rm(directory, { recursive: true });
  });
  const failed = new Promise((_, reject) => {
    child.once("error", (error) => reject(new Error(`${BINARY} does not start: ${error.message}`)));
    child.once("exit", (code) => reject(new Error(`the server ended with ${code} before it was open:\n${log}`)));
  });
  failed.catch(() => {});
  const urls = within(Promise.race([firstUrls(child.stdout, env.SWITCHBOARD_ADMIN_LISTEN ? 2 : 1), failed]), "the server's address on its standard output");
  const [url, admin] = await urls;
  return { url, admin, adminToken, terminate: () => end("SIGTERM"), kill: () => end("SIGKILL"), log: () => log };
}

async function firstUrls(stdout, count) {
  const urls = [];
  for await (const line of createInterface({ input: stdout })) {
    const [url] = /https?:\/\/[^\s]+/.exec(line) ?? [];
    if (url) urls.push(url.replace(/\/$/, ""));
    // The reader stays, so that the server can go on to print.
    if (urls.length === count) return urls;
  }
  throw new Error("the server printed no address");
}

/**
 * Starts Chromium with a new profile. `kill` ends it as a crash does: without a word to anybody.
 * @param {{after: (end: () => Promise<void>) => void}} t a test, or, with `after` of the runner, a whole file
 * @param {string[]} [args] more switches
 */
export async function startBrowser(t, args = []) {
  const host = await chromium.launchServer({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [...CHROMIUM_ARGS, ...args],
    timeout: WAIT_MS,
  });
  const browser = await chromium.connect(host.wsEndpoint(), { timeout: WAIT_MS });
  t.after(() => within(host.close(), "the browser's end"));
  return { newPage: (t, options) => newPage(t, browser, options), kill: () => within(host.kill(), "the browser's death") };
}

/** A page in a context of its own, as a second person would have; a mistake in its script fails the test. `options`: of the context. */
async function newPage(t, browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 720 }, locale: "en-US", ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const mistakes = [];
  page.on("pageerror", (error) => mistakes.push(String(error)));
  t.after(async () => {
    if (browser.isConnected()) await within(context.close(), "the page's end").catch(() => {});
    assert.deepEqual(mistakes, [], "errors in the page");
  });
  return page;
}

/**
 * Opens a page of a server in a room, and waits until it is in.
 * @param {{page?: string, door?: string, room?: string, name?: string, from?: string, query?: Record<string, string>, context?: object}} [options]
 * `from`: the page's origin, if it is not the server's; `query`: more for the address; `context`: what is special about the browser
 */
export async function visit(t, browser, server, options = {}) {
  const page = await browser.newPage(t, options.context);
  await page.goto(address(server, options));
  await inState(page, "inside");
  return page;
}

export function address(server, { page = "phrases", door = "auto", room = "kitchen", name = "Emma", from = server.url, query = {} } = {}) {
  const search = new URLSearchParams({ door, name, ...query });
  if (from !== server.url) search.set("server", server.url);
  return `${from}/${page}.html?${search}#${new URLSearchParams({ room })}`;
}

/** Waits until the page is `idle`, `connecting`, `inside` or `lost`. */
export async function inState(page, state) {
  await page.waitForSelector(`body[data-state="${state}"]`).catch(async (error) => {
    throw new Error(`${error.message}\nthe page says: ${await page.innerText("body").catch(() => "nothing")}`);
  });
}

/** What the page shows as the others in the room: `{name, door, line}`, sorted by name. */
export async function others(page) {
  const rows = await page.getByTestId("peer").evaluateAll((items) =>
    items.map((item) => ({ name: item.querySelector(".name").textContent, door: item.dataset.door, line: item.dataset.line })),
  );
  return rows.sort((a, b) => a.name.localeCompare(b.name));
}

/** Waits until the others in the room are exactly these, all connected. */
export async function connectedTo(page, expected) {
  const rows = expected.map(({ name, door }) => ({ name, door, line: "connected" })).sort((a, b) => a.name.localeCompare(b.name));
  await eventually(async () => assert.deepEqual(await others(page), rows)).catch(async (error) => {
    error.message += `\nthe page says: ${await page.innerText("main")}`;
    throw error;
  });
}

/** Writes in the chat. */
export async function say(page, text) {
  await page.getByTestId("text").fill(text);
  await page.getByTestId("say").click();
}

/** Waits until the last line of the chat is this one. */
export async function hears(page, name, text) {
  await eventually(async () => {
    const line = page.getByTestId("line").last();
    assert.deepEqual([await line.locator("b").innerText({ timeout: 1_000 }), await line.locator("span").innerText({ timeout: 1_000 })], [name, text]);
  });
}

/** Waits until so many pictures have come into a video from when this is asked. */
export const pictures = (page, selector, count = 3) =>
  within(
    page.evaluate(
      async ({ selector, count }) => {
        while (!document.querySelector(selector)) await new Promise((resolve) => requestAnimationFrame(resolve));
        const video = document.querySelector(selector);
        for (let i = 0; i < count; i++) await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
        return { width: video.videoWidth, height: video.videoHeight };
      },
      { selector, count },
    ),
    `${count} pictures in ${selector}`,
  );

/** Presses the button that saves, and gives what was saved. */
export async function save(page) {
  const started = page.waitForEvent("download");
  await page.getByTestId("save").click();
  const download = await started;
  return { name: download.suggestedFilename(), bytes: await buffer(await download.createReadStream()) };
}

/** Tries until it does not throw; at the deadline, throws what it threw last. */
export async function eventually(check, ms = WAIT_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() >= deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** The promise, or a rejection that says what did not come in time. */
export async function within(promise, what, ms = WAIT_MS) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Serves `web/` from another origin than the server's; gives that origin. */
export async function serveElsewhere(t) {
  const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };
  const site = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const path = join(WEB, pathname === "/" ? "index.html" : pathname);
    try {
      const content = await readFile(path);
      response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await within(new Promise((resolve) => site.listen(0, "127.0.0.1", resolve)), "a port to serve the page from");
  t.after(() => {
    site.closeAllConnections();
    site.close();
  });
  return `http://127.0.0.1:${site.address().port}`;
}
