/** Messages as JSON text: what the WebSocket door speaks unless a subprotocol says otherwise. */

/**
 * @param {object} message
 * @returns {string}
 */
export function encode(message) {
  return JSON.stringify(message);
}

/**
 * The message in a frame. Throws when it is not text, or not JSON.
 * @param {string | Uint8Array} frame
 * @returns {any}
 */
export function decode(frame) {
  if (typeof frame !== "string") throw new TypeError("a binary frame on a JSON connection");
  return JSON.parse(frame);
}
