/**
 * Frames on a byte stream, which WebTransport has none of: 4 bytes of length, big-endian, then that many bytes. The mirror of
 * `src/protocol/framing.rs`. Nothing here touches a stream.
 */

const HEADER_BYTES = 4;

/** The longest frame we take. The longest that a server sends is the list of a full room, 1 MiB unless its operator raised that. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;

/**
 * The bytes to write for one frame.
 * @param {Uint8Array} frame
 * @returns {Uint8Array}
 */
export function encodeFrame(frame) {
  const bytes = new Uint8Array(HEADER_BYTES + frame.length);
  new DataView(bytes.buffer).setUint32(0, frame.length);
  bytes.set(frame, HEADER_BYTES);
  return bytes;
}

/** Cuts a stream that arrives in chunks of any size back into frames. */
export class FrameDecoder {
  /** @type {Uint8Array[]} what has arrived of the next frame, header included */
  #chunks = [];
  #length = 0;
  #bytesMax;

  /** @param {number} [bytesMax] the longest frame to accept */
  constructor(bytesMax = FRAME_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /**
   * Takes the next chunk and returns the frames that it completes, each a copy of its own. Throws a RangeError when a header
   * announces too long a frame; then the stream is of no more use.
   * @param {Uint8Array} chunk
   * @returns {Uint8Array[]}
   */
  push(chunk) {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const frames = [];
    while (this.#length >= HEADER_BYTES) {
      // A long frame comes in many chunks; they are joined once, when the last has arrived.
      const announced = this.#announced();
      if (announced > this.#bytesMax) throw new RangeError(`a frame of ${announced} bytes, more than ${this.#bytesMax}`);
      const end = HEADER_BYTES + announced;
      if (this.#length < end) break;
      const joined = this.#join();
      frames.push(joined.slice(HEADER_BYTES, end));
      this.#chunks = [joined.subarray(end)];
      this.#length -= end;
    }
    return frames;
  }

  #announced() {
    if (this.#chunks[0].length < HEADER_BYTES) this.#chunks = [this.#join()];
    const first = this.#chunks[0];
    return new DataView(first.buffer, first.byteOffset).getUint32(0);
  }

  #join() {
    if (this.#chunks.length === 1) return this.#chunks[0];
    const joined = new Uint8Array(this.#length);
    let offset = 0;
    for (const chunk of this.#chunks) {
      joined.set(chunk, offset);
      offset += chunk.length;
    }
    return joined;
  }
}
