/** The page that shows how a line is negotiated. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { ALLOWED, DEVICES, eventually, inState, startBrowser, startServer, visit } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);

/** The steps of the diagram: `type` and who says it to whom. */
const steps = (page) =>
  page.getByTestId("step").evaluateAll((items) => items.map(({ dataset: { type, kind, from, to } }) => ({ type, kind, from, to })));

test("the diagram shows how two browsers negotiate, from the greeting to the direct line, with a sentence for each step", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "inspect", name: "Emma", door: "websocket" });
  assert.deepEqual((await steps(emma)).map(({ type }) => type), ["hello", "welcome", "join", "joined"]);
  assert.match(await emma.getByTestId("empty").innerText(), /takes two/);
  const popup = emma.waitForEvent("popup");
  await emma.getByTestId("second").click();
  const second = await popup;
  await inState(second, "inside");
  for (const page of [emma, second]) {
    await page.waitForSelector('[data-testid="step"][data-kind="line"]');
    const other = await page.getByTestId("peer").getAttribute("data-peer-id");
    const said = (await steps(page)).filter(({ type }) => ["offer", "answer", "line"].includes(type));
    const offers = said.filter(({ type }) => type === "offer");
    const answers = said.filter(({ type }) => type === "answer");
    assert.ok(offers.length >= 1 && answers.length >= 1, JSON.stringify(said));
    assert.deepEqual([offers.at(-1).from, offers.at(-1).to].sort(), [other, "me"].sort());
    assert.deepEqual([answers.at(-1).from, answers.at(-1).to], [offers.at(-1).to, offers.at(-1).from], "the answer goes the other way");
    assert.ok((await steps(page)).some(({ type }) => type === "ice-candidate"));
    // Drawn as well as told: an arrow from lane to lane, and a sentence with each.
    const rows = page.getByTestId("step");
    for (const row of await rows.all()) {
      assert.ok((await row.locator(".told p").innerText()).length > 40);
      assert.equal(await row.locator("svg .arrow, svg .dot").count(), 1);
    }
    assert.deepEqual((await page.getByTestId("lanes").locator("span").allInnerTexts()).slice(0, 2), ["You", "Server"]);
    const offer = page.locator('[data-type="offer"]').first();
    await offer.locator("summary").click();
    // What can have the focus has a name, and a role that names are for.
    const content = offer.getByRole("group", { name: /^What is in message \d+, offer$/ });
    assert.match(await content.innerText(), /^v=0[\s\S]*m=application/);
  }

  const before = (await steps(emma)).filter(({ type }) => type === "offer").length;
  await emma.getByTestId("picture").click();
  await eventually(async () => assert.equal((await steps(emma)).filter(({ type }) => type === "offer").length, before + 1));
  await emma.locator('[data-type="offer"]').last().getByText(/renegotiation/).waitFor();
  assert.match(await emma.locator('[data-type="offer"]').last().locator(".told p").innerText(), /data channels, pictures/);

  await emma.getByTestId("candidates").uncheck();
  assert.equal(await emma.locator('[data-type="ice-candidate"]').first().isVisible(), false);
  await emma.getByTestId("clear").click();
  assert.equal(await emma.getByTestId("step").count(), 0);
  await second.close();
  await emma.locator('[data-type="peer-left"]').waitFor();
});

test("the diagram tells of a lost server, and of the greeting when it is back", async (t) => {
  const server = await startServer(t);
  const page = await visit(t, browser, server, { page: "inspect" });
  await server.kill();
  await page.locator('[data-type="reconnecting"]').first().waitFor();
  await startServer(t, {}, new URL(server.url).port);
  await inState(page, "inside");
  await eventually(async () => assert.equal((await steps(page)).filter(({ type }) => type === "welcome").length, 2));
});
