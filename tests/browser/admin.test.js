/** The page of whoever runs the server. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";

import { eventually, inState, startBrowser, startServer, visit, within } from "./support.js";

const browser = await startBrowser({ after });

test("with its token it shows rooms and peers as they come, sends one away after a question, and shows nothing without", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0" });
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const asked = [];
  const page = await browser.newPage(t);
  page.on("request", (request) => asked.push(new URL(request.url()).origin));
  const refused = [];
  page.on("console", (message) => message.text().includes("Content Security Policy") && refused.push(message.text()));
  await page.goto(server.admin);
  await inState(page, "outside");
  assert.equal(await page.getByTestId("rooms").isVisible(), false);
  await page.getByTestId("token").fill("not-the-token-of-this-server");
  await page.getByTestId("enter").click();
  await page.getByText("This is not the token of this server.").waitFor();
  await inState(page, "outside");
  await page.getByTestId("token").fill(token);
  await page.getByTestId("enter").click();
  await inState(page, "inside");
  await page.getByTestId("no-room").getByText("There are no rooms.").waitFor();
  await page.getByTestId("no-peer").waitFor();
  assert.ok((await page.getByTestId("plots").locator("svg").count()) >= 10);

  const emma = await visit(t, browser, server, { page: "inspect", room: "kitchen", door: "websocket" });
  const room = page.locator('[data-testid="room"][data-key="kitchen"]');
  await room.waitFor();
  assert.match(await room.innerText(), /kitchen\s+all\s+1/);
  await eventually(async () => assert.equal(await page.getByTestId("peer").count(), 1));
  assert.match(await page.getByTestId("peer").innerText(), /kitchen[\s\S]*websocket[\s\S]*native[\s\S]*127\.0\.0\.1/);

  await room.getByTestId("watch").click();
  await eventually(async () => assert.equal(await page.getByTestId("member").count(), 1));
  const liam = await visit(t, browser, server, { page: "inspect", room: "kitchen", name: "Liam", door: "webtransport" });
  await eventually(async () => assert.equal(await page.getByTestId("member").count(), 2));
  await page.getByTestId("events").getByText(/came in/).waitFor();
  await liam.close();
  await page.getByTestId("events").getByText(/is gone/).waitFor();

  // A tab keeps the token for itself: it is there again behind a reload, and not in the address.
  await page.reload();
  await inState(page, "inside");
  await room.waitFor();
  assert.equal(page.url(), `${server.admin}/`);

  const row = page.getByTestId("peer").first();
  await row.getByTestId("kick").click();
  await page.getByTestId("no").click();
  assert.equal(await page.getByTestId("question").isVisible(), false);
  await inState(emma, "inside");
  await row.getByTestId("kick").click();
  await page.getByTestId("yes").click();
  await emma.locator('[data-testid="step"][data-type="goodbye"]').waitFor();
  assert.match(await emma.locator('[data-testid="notice"], #notice').first().innerText(), /has ended this session/);
  await page.getByTestId("no-room").waitFor();

  // It is told when the server is gone, and comes back to it by itself.
  await server.kill();
  await page.getByText("The server does not answer.").waitFor();
  await page.getByTestId("forget").click();
  await inState(page, "outside");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.deepEqual([...new Set(asked)], [server.admin], "nothing is asked of anybody else");
  assert.deepEqual(refused, []);
});

test("a room is closed after a question, in Spanish as well, and whoever was there hears it", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0" });
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const page = await browser.newPage(t, { locale: "es-ES" });
  await page.goto(server.admin);
  await page.getByTestId("token").fill(token);
  await page.getByTestId("enter").click();
  await page.getByTestId("no-room").getByText("No hay salas.").waitFor();
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws`);
  t.after(() => socket.close());
  const left = new Promise((resolve) => {
    socket.onmessage = ({ data }) => JSON.parse(data).type === "left" && resolve(JSON.parse(data));
  });
  socket.onopen = () => socket.send(JSON.stringify({ type: "join", room: "<b>&\u202e/" }));
  await page.getByTestId("room").getByTestId("close").click();
  await page.getByTestId("question").getByText("¿Cerrar la sala").waitFor();
  await page.getByTestId("yes").click();
  assert.deepEqual(await within(left, "left"), { type: "left", room: "<b>&\u202e/", reason: "removed" });
  await page.getByTestId("no-room").waitFor();
});
