/** The page for phrases: written, read aloud, and spoken. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { ALLOWED, DEVICES, REFUSED, address, connectedTo, eventually, hears, inState, save, say, startBrowser, startServer, visit, within } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);
/** Here whoever is asked for the camera says no. */
const refusing = await startBrowser({ after }, [DEVICES, REFUSED]);

/** Notes what would be read aloud. */
function voice() {
  globalThis.spoken = [];
  const speak = ({ text, lang }) => globalThis.spoken.push([text, lang]);
  Object.defineProperty(globalThis, "speechSynthesis", { value: { speaking: false, pending: false, speak, cancel: () => {} } });
}

async function listener(t, server, options) {
  const page = await browser.newPage(t, options.context);
  await page.addInitScript(voice);
  await page.goto(address(server, { page: "phrases", ...options }));
  await inState(page, "inside");
  return page;
}

test("a phrase that one writes is read by all, and read aloud in its language, as text and nothing else", async (t) => {
  const server = await startServer(t);
  const people = [
    { name: "Emma", door: "webtransport" },
    { name: "Tívadar <i>", door: "websocket", context: { locale: "es-AR" } },
    { name: "Grace", door: "websocket" },
  ];
  const pages = [];
  for (const person of people) pages.push(await listener(t, server, person));
  for (const [i, page] of pages.entries()) await connectedTo(page, people.filter((_, j) => j !== i).map(({ name, door }) => ({ name, door })));
  const phrase = '¿Quién <img src="x" onerror="alert(1)"> llama?';
  await say(pages[1], phrase);
  await hears(pages[1], "Tú", phrase);
  for (const page of [pages[0], pages[2]]) {
    await hears(page, "Tívadar <i>", phrase);
    assert.equal(await page.getByTestId("line").last().locator("span").getAttribute("lang"), "es", "and so is it by a screen reader");
    await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.spoken), [[phrase, "es"]]));
  }
  assert.deepEqual(await pages[1].evaluate(() => globalThis.spoken), [], "nobody is read his own phrase");

  await pages[2].getByTestId("aloud").uncheck();
  await say(pages[0], "Who was that?");
  await hears(pages[2], "Emma", "Who was that?");
  await hears(pages[1], "Emma", "Who was that?");
  await eventually(async () => assert.equal((await pages[1].evaluate(() => globalThis.spoken)).length, 1));
  assert.equal((await pages[2].evaluate(() => globalThis.spoken)).length, 1);
});

test("a voice message goes from one to the other, can be played there, and saved as it was sent", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { name: "Emma", door: "webtransport" });
  const stella = await visit(t, browser, server, { name: "Stella", door: "websocket" });
  await connectedTo(emma, [{ name: "Stella", door: "websocket" }]);
  assert.equal(await emma.getByTestId("record").isDisabled(), false, "there is somebody to hear it");
  await emma.getByTestId("record").click();
  await emma.getByTestId("recorded").getByText("0:01").waitFor();
  await emma.getByTestId("record").click();
  await emma.getByText("reached 1 of 1").waitFor();

  // What comes last in one's own line is what it reached.
  const [label, below] = await emma.evaluate(() => {
    const log = document.querySelector("#log");
    return [log.querySelector("audio").ariaLabel, log.scrollHeight - log.scrollTop - log.clientHeight];
  });
  assert.deepEqual([label, below < 2], ["Your voice message", true], `${below} px below`);

  const line = stella.getByTestId("line");
  assert.equal(await line.locator("b").innerText(), "Emma");
  const played = await within(
    stella.getByTestId("voice").evaluate(async (audio) => {
      audio.muted = true;
      await audio.play();
      while (audio.currentTime === 0) await new Promise((resolve) => audio.addEventListener("timeupdate", resolve, { once: true }));
      return audio.currentTime;
    }),
    "some sound",
  );
  assert.ok(played > 0);
  const saved = [await save(emma), await save(stella)];
  assert.match(saved[1].name, /^voice message of Emma\.webm$/);
  assert.ok(saved[0].bytes.length > 1_000);
  assert.deepEqual(saved[0].bytes, saved[1].bytes);

  await emma.getByTestId("record").click();
  await emma.getByTestId("discard").click();
  await emma.getByTestId("discard").waitFor({ state: "hidden" });
  await say(emma, "That was all.");
  await hears(stella, "Emma", "That was all.");
  assert.equal(await stella.getByTestId("voice").count(), 1, "what was discarded was not sent");
});

test("who says no to the microphone can still write", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, refusing, server, { name: "Emma" });
  const stella = await visit(t, browser, server, { name: "Stella" });
  await emma.locator('[data-line="connected"]').waitFor();
  await emma.getByTestId("record").click();
  await emma.waitForSelector('#hint[data-code="refused"]:not([hidden])');
  assert.match(await emma.getByTestId("hint-text").innerText(), /not allowed.*still write/s);
  await say(emma, "I write.");
  await hears(stella, "Emma", "I write.");
});

test("where the browser cannot record, the page says so beside the button", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  await page.addInitScript(() => delete globalThis.MediaRecorder);
  await page.goto(address(server));
  await inState(page, "inside");
  const why = page.getByTestId("record-why");
  assert.equal(await why.innerText(), "This browser cannot record.");
  assert.equal(await page.getByTestId("record").getAttribute("aria-describedby"), await why.getAttribute("id"));
});
