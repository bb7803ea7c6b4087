/** A page's script, with the libraries that it imports, as one text that a browser runs: libraries for node or for bundlers are not for pages as they are. */

import { fileURLToPath } from "node:url";

import { build } from "esbuild";

/**
 * @param {string} script an ES module that imports what is in node_modules here
 * @returns {Promise<string>} a classic script
 */
export async function bundle(script) {
  const { outputFiles } = await build({
    stdin: { contents: script, resolveDir: fileURLToPath(new URL(".", import.meta.url)) },
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    define: { global: "globalThis", "process.env.NODE_ENV": '"production"' },
    logLevel: "error",
  });
  return outputFiles[0].text;
}
