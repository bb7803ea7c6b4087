/** The public names of the browser client, and nothing else. */

export { connect } from "./src/connect.js";
export { CLOSE_CODES, ERROR_CODES, LOCAL_CODES } from "./src/codes.js";
export { discover } from "./src/discovery.js";
export { PeerLink } from "./src/peer.js";
export { Room } from "./src/room.js";
export { SignalingClient } from "./src/signaling.js";

/**
 * @typedef {import("./src/connect.js").ConnectOptions} ConnectOptions
 * @typedef {import("./src/peer.js").LinkState} LinkState
 * @typedef {import("./src/peer.js").LinkStats} LinkStats
 * @typedef {import("./src/room.js").Peer} Peer
 * @typedef {import("./src/room.js").RoomMessage} RoomMessage
 * @typedef {import("./src/room.js").RoomOptions} RoomOptions
 * @typedef {import("./src/signaling.js").Cause} Cause
 * @typedef {import("./src/signaling.js").ClientState} ClientState
 * @typedef {import("./src/signaling.js").Signal} Signal
 * @typedef {import("./src/signaling.js").StateDetail} StateDetail
 */
