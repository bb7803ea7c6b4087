/** A TURN server of others, Debian's coturn, which `tests/run` installs: on this machine alone, and no longer than the test that starts it. */

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { eventually, within } from "./support.js";

/** How often other ports are tried, should somebody have taken one before coturn did. */
const ATTEMPTS = 8;

/**
 * Starts it on a free port: its URL, the file with the secret that it knows, and what it has logged.
 * @param {import("node:test").TestContext} t
 */
export async function startCoturn(t) {
  const directory = await mkdtemp(join(tmpdir(), "switchboard-turn-"));
  let end = async () => {};
  t.after(async () => {
    await end();
    await rm(directory, { recursive: true });
  });
  const secret = randomBytes(16).toString("hex");
  const secretFile = join(directory, "secret");
  await writeFile(secretFile, secret);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = await freePort();
    const place = ["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", String(port), "--allow-loopback-peers"];
    const auth = ["--use-auth-secret", "--static-auth-secret", secret, "--realm", "example.org", "--userdb", "users.sqlite"];
    const quiet = ["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--pidfile", "pid"];
    const child = spawn("turnserver", [...quiet, ...place, ...auth], { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (log += chunk));
    const exit = new Promise((resolve) => child.once("exit", resolve));
    const failed = new Promise((_, reject) => child.once("error", reject));
    failed.catch(() => {});
    const listens = eventually(() => Promise.race([reaches(port), failed]));
    const isThere = await Promise.race([listens.then(() => true), exit.then(() => false)]);
    if (!isThere) continue;
    // Should the tests themselves end early, it does not outlive them.
    process.once("exit", () => child.kill("SIGKILL"));
    end = () => {
      child.kill("SIGKILL");
      return within(exit, "the end of coturn");
    };
    return { url: `turn:127.0.0.1:${port}`, secretFile, log: () => log };
  }
  throw new Error("coturn does not start");
}

function freePort() {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

function reaches(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => (socket.destroy(), resolve()));
    socket.once("error", reject);
  });
}
