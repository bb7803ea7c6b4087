/** The public names of the browser client, and nothing else. */

export { connect } from "./src/connect.js";
export { CLOSE_CODES, ERROR_CODES, LOCAL_CODES } from "./src/codes.js";
export { discover } from "./src/discovery.js";
export { PeerLink } from "./src/peer.js";
export { Room } from "./src/room.js";
export { SignalingClient } from "./src/signaling.js";
