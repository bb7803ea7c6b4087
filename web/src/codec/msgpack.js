/**
 * Messages as MessagePack: what the WebTransport door speaks. The whole of the specification is read; what is written is the part
 * that JavaScript values need, each in its shortest spelling.
 *
 * | JavaScript | MessagePack |
 * |---|---|
 * | null, undefined | nil; a key whose value is undefined is left out, as in JSON |
 * | a number that is a safe integer | int. Any other number, and -0, is float 64 |
 * | BigInt, from -2^63 to 2^64 - 1 | int |
 * | string, boolean, Array | str, bool, array |
 * | Uint8Array, ArrayBuffer, any other view | bin |
 * | Map, any other object | map; the keys of an object are str, those of a Map are what they are |
 *
 * Reading, an int is a number where that is exact and a BigInt beyond (2^53 - 1 either way); a map is a plain object, and a key that
 * is no string becomes its JSON text; bin is a Uint8Array of its own; an extension, timestamps included, is `{ext, data}`, and is
 * never written.
 */

/** The WebSocket subprotocol that asks for this codec. */
export const subprotocol = "switchboard.msgpack";

/** Deeper than any server lets a message nest (`limits.nesting`, at most 100, and the message around it). */
const NESTING_MAX = 128;

const UTF8 = new TextEncoder();
// A byte order mark is a character like any other here: it has to survive the way.
const FROM_UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * @param {unknown} value
 * @returns {Uint8Array}
 */
export function encode(value) {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.finish();
}

/**
 * The one value in `bytes`. Throws when they end too early, go on after it, or nest too deep. Lengths in the headers are never believed
 * before the bytes are there.
 * @param {Uint8Array | string} bytes
 * @returns {any}
 */
export function decode(bytes) {
  if (typeof bytes === "string") throw new TypeError("a text frame on a MessagePack connection");
  const reader = new Reader(bytes);
  const value = reader.value(0);
  reader.finish();
  return value;
}

/** What writes an unsigned integer of 8, 16 and 32 bits. */
const SETTERS = /** @type {const} */ (["setUint8", "setUint16", "setUint32"]);

/** How often 8 bits have to be doubled to hold a number. @param {number} value */
function stepFor(value) {
  return value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000 ? 2 : 3;
}

class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  finish() {
    return this.#bytes.slice(0, this.#length);
  }

  /** @param {unknown} value @param {number} depth @returns {void} */
  value(value, depth) {
    if (depth > NESTING_MAX) throw new RangeError(`nests more than ${NESTING_MAX} deep`);
    switch (typeof value) {
      case "undefined":
        return this.#u8(0xc0);
      case "boolean":
        return this.#u8(value ? 0xc3 : 0xc2);
      case "number":
        return Number.isSafeInteger(value) && !Object.is(value, -0) ? this.#integer(value) : this.#float(value);
      case "bigint":
        return this.#bigInteger(value);
      case "string":
        return this.#string(value);
      case "object":
        return this.#object(value, depth);
      default:
        throw new TypeError(`a ${typeof value} has no MessagePack form`);
    }
  }

  /** @param {any} value @param {number} depth @returns {void} */
  #object(value, depth) {
    if (value === null) return this.#u8(0xc0);
    if (value instanceof ArrayBuffer) return this.#binary(new Uint8Array(value));
    if (ArrayBuffer.isView(value)) return this.#binary(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    if (Array.isArray(value)) {
      this.#header(value.length, 0x90, 15, 0xdb, 1);
      for (const item of value) this.value(item, depth + 1);
      return;
    }
    // Objects that say how they look in JSON, as RTCSessionDescription and RTCIceCandidate do, look the same here.
    if (typeof value.toJSON === "function") return this.value(value.toJSON(), depth + 1);
    const entries = value instanceof Map ? [...value] : Object.entries(value).filter(([, item]) => item !== undefined);
    this.#header(entries.length, 0x80, 15, 0xdd, 1);
    for (const [key, item] of entries) {
      this.value(key, depth + 1);
      this.value(item, depth + 1);
    }
  }

  /** @param {number} value */
  #integer(value) {
    if (value < 0x80 && value >= -0x20) return this.#u8(value & 0xff);
    // A sign takes a bit. The bits themselves are the same, with or without one.
    const step = value < 0 ? stepFor(2 * (-1 - value)) : stepFor(value);
    this.#sized((value < 0 ? 0xd0 : 0xcc) + step, step, value);
  }

  /** @param {bigint} value */
  #bigInteger(value) {
    if (Number.isSafeInteger(Number(value))) return this.#integer(Number(value));
    if (BigInt.asUintN(64, value) === value) return this.#sized(0xcf, 3, value);
    if (BigInt.asIntN(64, value) === value) return this.#sized(0xd3, 3, value);
    throw new RangeError(`${value} does not fit in 64 bits`);
  }

  /** @param {number} value */
  #float(value) {
    this.#u8(0xcb);
    this.#room(8);
    this.#view.setFloat64(this.#length, value);
    this.#length += 8;
  }

  /** @param {string} value */
  #string(value) {
    const bytes = UTF8.encode(value);
    this.#header(bytes.length, 0xa0, 31, 0xd9);
    this.#raw(bytes);
  }

  /** @param {Uint8Array} bytes */
  #binary(bytes) {
    this.#header(bytes.length, 0, -1, 0xc4);
    this.#raw(bytes);
  }

  /**
   * A length: inside the marker where it fits, else behind one of the markers for 8 (not every type has it), 16 and 32 bits.
   * @param {number} length
   * @param {number} fixed
   * @param {number} fixedMax
   * @param {number} marker that for 8 bits, or the one before that for 16
   * @param {number} [least] 1 where there is none for 8
   */
  #header(length, fixed, fixedMax, marker, least = 0) {
    const step = Math.max(stepFor(length), least);
    if (length <= fixedMax) this.#u8(fixed | length);
    else this.#sized(marker + step, step, length);
  }

  /** @param {number} byte */
  #u8(byte) {
    this.#room(1);
    this.#bytes[this.#length++] = byte;
  }

  /** A marker, and the lowest 8, 16, 32 or 64 bits of an integer. @param {number} marker @param {number} step @param {number | bigint} value */
  #sized(marker, step, value) {
    const size = 1 << step;
    this.#u8(marker);
    this.#room(size);
    if (step > 2) this.#view.setBigUint64(this.#length, BigInt(value));
    else this.#view[SETTERS[step]](this.#length, Number(value));
    this.#length += size;
  }

  /** @param {Uint8Array} bytes */
  #raw(bytes) {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** @param {number} more */
  #room(more) {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

class Reader {
  #bytes;
  #view;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  finish() {
    if (this.#at < this.#bytes.length) throw new RangeError(`${this.#bytes.length - this.#at} bytes too many`);
  }

  /** @param {number} depth @returns {any} */
  value(depth) {
    if (depth > NESTING_MAX) throw new RangeError(`nests more than ${NESTING_MAX} deep`);
    const marker = this.#uint(1);
    if (marker < 0x80) return marker;
    if (marker < 0x90) return this.#map(marker & 0x0f, depth);
    if (marker < 0xa0) return this.#array(marker & 0x0f, depth);
    if (marker < 0xc0) return this.#string(marker & 0x1f);
    if (marker >= 0xe0) return marker - 0x100;
    switch (marker) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.#binary(this.#uint(1 << (marker - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return this.#extension(this.#uint(1 << (marker - 0xc7)));
      case 0xca: return this.#view.getFloat32(this.#take(4));
      case 0xcb: return this.#view.getFloat64(this.#take(8));
      case 0xcc: case 0xcd: case 0xce: return this.#uint(1 << (marker - 0xcc));
      case 0xcf: return exact(this.#view.getBigUint64(this.#take(8)));
      case 0xd0: return this.#view.getInt8(this.#take(1));
      case 0xd1: return this.#view.getInt16(this.#take(2));
      case 0xd2: return this.#view.getInt32(this.#take(4));
      case 0xd3: return exact(this.#view.getBigInt64(this.#take(8)));
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return this.#extension(1 << (marker - 0xd4));
      case 0xd9: case 0xda: case 0xdb: return this.#string(this.#uint(1 << (marker - 0xd9)));
      case 0xdc: case 0xdd: return this.#array(this.#uint(2 << (marker - 0xdc)), depth);
      case 0xde: case 0xdf: return this.#map(this.#uint(2 << (marker - 0xde)), depth);
      default: throw new RangeError("0xc1 begins no value");
    }
  }

  /** @param {number} length @param {number} depth */
  #array(length, depth) {
    const array = [];
    for (let i = 0; i < length; i++) array.push(this.value(depth + 1));
    return array;
  }

  /** @param {number} length @param {number} depth */
  #map(length, depth) {
    /** @type {Record<string, unknown>} */
    const map = {};
    for (let i = 0; i < length; i++) {
      const key = this.value(depth + 1);
      const name = typeof key === "string" ? key : keyText(key);
      const value = this.value(depth + 1);
      // Assigning to `__proto__` would change what the object is instead of what is in it.
      if (name === "__proto__") Object.defineProperty(map, name, { value, writable: true, enumerable: true, configurable: true });
      else map[name] = value;
    }
    return map;
  }

  /** @param {number} length */
  #string(length) {
    const start = this.#take(length);
    return FROM_UTF8.decode(this.#bytes.subarray(start, start + length));
  }

  /** @param {number} length */
  #binary(length) {
    const start = this.#take(length);
    return this.#bytes.slice(start, start + length);
  }

  /** @param {number} length */
  #extension(length) {
    const ext = this.#view.getInt8(this.#take(1));
    return { ext, data: this.#binary(length) };
  }

  /** @param {number} size */
  #uint(size) {
    const at = this.#take(size);
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** Where the next `size` bytes begin, once it is sure that they are there. @param {number} size */
  #take(size) {
    if (this.#at + size > this.#bytes.length) throw new RangeError("ends too early");
    const start = this.#at;
    this.#at += size;
    return start;
  }
}

/** @param {bigint} bigint */
function exact(bigint) {
  const number = Number(bigint);
  return Number.isSafeInteger(number) ? number : bigint;
}

/** @param {unknown} key */
function keyText(key) {
  return JSON.stringify(key, (_, value) => (typeof value === "bigint" ? String(value) : value));
}
