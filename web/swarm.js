/** The public names of the swarm, a module of its own: pages that share no files need not load it. */

export { SWARM_CODES } from "./src/swarm/codes.js";
export { Download } from "./src/swarm/download.js";
export { Swarm } from "./src/swarm/swarm.js";

/**
 * @typedef {import("./src/swarm/manifest.js").Share} Share
 * @typedef {import("./src/swarm/download.js").State} DownloadState
 * @typedef {import("./src/swarm/download.js").Progress} Progress
 * @typedef {import("./src/swarm/swarm.js").SwarmOptions} SwarmOptions
 */
