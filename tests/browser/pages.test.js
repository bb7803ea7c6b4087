/** What the pages have in common: the way from one to another, languages, the keyboard, small screens, a full room. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { ALLOWED, DEVICES, address, eventually, hears, inState, say, startBrowser, startServer, visit } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);
const PAGES = ["call", "phrases", "stream", "inspect"];

test("the first page leads to the four, in the room that its address names", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/#room=cellar`);
  for (const name of PAGES) {
    await page.getByTestId(`way-${name}`).click();
    await inState(page, "inside");
    assert.match(await page.getByTestId("status").innerText(), /“cellar”/);
    assert.equal(await page.locator("nav [aria-current]").innerText(), { call: "Call", phrases: "Phrases", stream: "Stream", inspect: "Inspect" }[name]);
    // And from each to the others, and back.
    await page.getByRole("navigation").getByText("Start").click();
    await page.getByTestId("way-call").waitFor();
    assert.equal(new URL(page.url()).hash, "#room=cellar");
  }
});

test("a page is found without its .html", async (t) => {
  const server = await startServer(t);
  for (const name of PAGES) {
    const page = await browser.newPage(t);
    const answer = await page.goto(`${server.url}/${name}#room=attic`);
    assert.equal(answer.status(), 200);
    await inState(page, "inside");
  }
});

test("a room that is full says so on every page, and takes one in when somebody has left", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_LIMITS_PEERS_PER_ROOM_MAX: "2" });
  for (const name of PAGES) {
    await visit(t, browser, server, { page: "inspect", room: name });
    const guest = await visit(t, browser, server, { page: "inspect", room: name });
    const page = await browser.newPage(t);
    await page.goto(address(server, { page: name, room: name, query: { picture: "test" } }));
    await page.waitForSelector('#notice[data-code="room-full"]:not([hidden])');
    assert.match(await page.getByTestId("notice-text").innerText(), /full/);
    await guest.getByTestId("leave").click();
    await eventually(async () => {
      await page.getByTestId("reconnect").click({ timeout: 1_000 }).catch(() => {});
      assert.equal(await page.evaluate(() => document.body.dataset.state), "inside");
    });
  }
});

test("the pages speak the browser's language, or the one in the address", async (t) => {
  const server = await startServer(t);
  const titles = { index: "Switchboard", call: "Llamada", phrases: "Frases", stream: "Vídeo", inspect: "Inspección" };
  for (const name of ["index", ...PAGES]) {
    const page = await browser.newPage(t, { locale: "es-MX" });
    await page.goto(`${server.url}/${name}.html?picture=test#room=cocina`);
    assert.equal(await page.evaluate(() => document.documentElement.lang), "es");
    assert.equal(await page.locator("h1").innerText(), titles[name]);
    if (name !== "index") {
      await inState(page, "inside");
      assert.match(await page.getByTestId("status").innerText(), /^En «cocina» por WebTransport$/);
      assert.equal(await page.getByTestId("leave").innerText(), "Salir");
    }
    // A key that is in no table stands for itself, and would be seen.
    assert.doesNotMatch(await page.innerText("body"), /\b[a-z]+\.[a-z]+(-[a-z]+)*\b(?<!switchboard\.\w+)/);
    await page.goto(`${server.url}/${name}.html?lang=en&picture=test#room=kitchen`);
    assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
  }
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/#room=kitchen`);
  await page.getByTestId("language").click();
  await page.getByText("Abre una de estas páginas").waitFor();
  await page.getByTestId("way-phrases").click();
  await inState(page, "inside");
  assert.equal(await page.getByTestId("leave").innerText(), "Salir", "the choice goes along");
});

/** What has the focus: its id or test id, and whether that can be seen. */
const focused = (page) =>
  page.evaluate(() => {
    const { activeElement: element } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const id = element === document.body ? "body" : element.dataset.testid || element.id || element.textContent.trim();
    return { id, seen: outlineStyle !== "none" && outlineWidth !== "0px" };
  });

test("the keyboard alone enters a room, reaches everything there, and is caught nowhere", async (t) => {
  const server = await startServer(t);
  const wanted = {
    call: ["copy", "leave", "mute", "camera", "screen", "second"],
    phrases: ["copy", "leave", "second", "log"],
    stream: ["copy", "leave", "second", "file", "film"],
    inspect: ["copy", "leave", "second", "candidates", "clear"],
  };
  for (const name of PAGES) {
    const page = await browser.newPage(t);
    await page.goto(`${server.url}/${name}.html`);
    assert.equal((await focused(page)).id, "room", "one can type at once");
    await page.keyboard.type(`keys of ${name}`);
    await page.keyboard.press("Tab");
    assert.equal((await focused(page)).id, "name");
    await page.keyboard.press("Enter");
    await inState(page, "inside");
    assert.equal((await focused(page)).id, "status", "reading goes on where it is said that one is in");
    const reached = [];
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      const { id, seen } = await focused(page);
      if (id === "body" || reached.includes(id)) break;
      assert.equal(seen, true, `the focus on ${id} of ${name} cannot be seen`);
      reached.push(id);
    }
    for (const id of wanted[name]) assert.ok(reached.includes(id), `${id} of ${name} is not among ${reached}`);
    await page.getByTestId("leave").focus();
    await page.keyboard.press("Enter");
    await inState(page, "idle");
    assert.equal((await focused(page)).id, "room");
  }
});

test("on the smallest phone nothing has to be scrolled sideways", async (t) => {
  const server = await startServer(t);
  const context = { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true };
  const fits = async (page, what) => {
    const { scrollWidth, clientWidth } = await page.evaluate(() => document.documentElement);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 320, `${what}: ${wide} wide (${scrollWidth}, ${clientWidth})`);
  };
  for (const name of ["index", ...PAGES]) {
    for (const locale of ["en-US", "es-ES"]) {
      const page = await browser.newPage(t, { ...context, locale });
      await page.goto(`${server.url}/${name}.html`);
      await page.locator("h1").waitFor();
      await fits(page, `${name}, ${locale}`);
      if (name === "index") continue;
      // The longest names that there can be.
      await page.getByTestId("name").fill("W".repeat(40));
      await page.getByTestId("room").fill(`${"m".repeat(100)}${name}`);
      await page.getByTestId("enter").click();
      await inState(page, "inside");
      await fits(page, `${name}, ${locale}, alone inside`);
    }
  }
  for (const name of PAGES) {
    const pages = [];
    for (const letter of ["W", "i"]) pages.push(await visit(t, browser, server, { page: name, name: letter.repeat(40), context }));
    await eventually(async () => assert.equal(await pages[0].locator('[data-testid="peer"][data-line="connected"]').count(), 1));
    if (name === "phrases") await say(pages[1], "m".repeat(300));
    if (name === "phrases") await hears(pages[0], "i".repeat(40), "m".repeat(300));
    if (name === "call") await pages[0].locator("#panel summary").click();
    if (name === "call") await pages[0].getByTestId("statistics-row").waitFor();
    for (const page of pages) await fits(page, `${name}, two inside`);
    for (const page of pages) await page.close();
  }
});
