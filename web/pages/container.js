/**
 * Looks into the beginning of a video file: which codecs are in it, in the words that Media Source wants, and whether it can be played before it is
 * whole. Knows WebM (RFC 9559, an EBML file, RFC 8794) and fragmented MP4 (ISO/IEC 14496-12). Pure: bytes in, a type out.
 */

/** What Media Source needs stands within so many bytes, or the file is not made for it. */
export const HEAD_BYTES_MAX = 1024 * 1024;

/**
 * The type of a file that can be played while it arrives, `video/webm; codecs="vp8, opus"`; `undefined` for one that cannot; `null` when more bytes
 * are needed to tell.
 * @param {Uint8Array} head
 * @returns {string | undefined | null}
 */
export function streamableType(head) {
  try {
    if (head.length < 12) return more(head);
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    if (view.getUint32(0) === EBML) return webmType(head);
    if (fourCharacters(view, 4) === "ftyp") return mp4Type(view);
    return undefined;
  } catch (error) {
    // Something stands half beyond the end.
    if (error instanceof RangeError) return more(head);
    throw error;
  }
}

/** @param {Uint8Array} head */
function more(head) {
  return head.length >= HEAD_BYTES_MAX ? undefined : null;
}

// ---- WebM

const EBML = 0x1a45dfa3;
const DOC_TYPE = 0x4282;
const SEGMENT = 0x18538067;
const TRACKS = 0x1654ae6b;
const CLUSTER = 0x1f43b675;
const TRACK_ENTRY = 0xae;
const CODEC_ID = 0x86;
const CODEC_PRIVATE = 0x63a2;

/** @param {Uint8Array} bytes */
function webmType(bytes) {
  const [header] = elements(bytes, 0, bytes.length);
  const docType = [...elements(bytes, header.start, header.end)].find(({ id }) => id === DOC_TYPE);
  if (!docType || latin(bytes, docType) !== "webm") return undefined;
  for (const segment of elements(bytes, header.end, bytes.length)) {
    if (segment.id !== SEGMENT) continue;
    for (const part of elements(bytes, segment.start, Math.min(segment.end, bytes.length))) {
      if (part.id === CLUSTER) return undefined;
      if (part.id !== TRACKS) continue;
      if (part.end > bytes.length) return more(bytes);
      const tracks = [...elements(bytes, part.start, part.end)].filter(({ id }) => id === TRACK_ENTRY);
      return typed("video/webm", tracks.map((track) => webmCodec(bytes, track)));
    }
  }
  return more(bytes);
}

/** @param {Uint8Array} bytes @param {Element} track */
function webmCodec(bytes, track) {
  const parts = [...elements(bytes, track.start, track.end)];
  const codec = parts.find(({ id }) => id === CODEC_ID);
  const secret = parts.find(({ id }) => id === CODEC_PRIVATE);
  switch (codec && latin(bytes, codec)) {
    case "V_VP8":
      return "vp8";
    case "V_VP9":
      return "vp9";
    case "V_AV1":
      return secret && av1(bytes.subarray(secret.start, secret.end));
    case "A_OPUS":
      return "opus";
    case "A_VORBIS":
      return "vorbis";
    default:
      return undefined;
  }
}

/**
 * @typedef {{id: number, start: number, end: number}} Element where its content stands; of an element of unknown size the end is far away
 */

/**
 * The elements that stand between two places, one behind the other. What stands half beyond the end is a RangeError.
 * @param {Uint8Array} bytes
 * @param {number} from
 * @param {number} to
 * @returns {Generator<Element>}
 */
function* elements(bytes, from, to) {
  for (let at = from; at < to; ) {
    const id = number(bytes, at, { keepMarker: true });
    const size = number(bytes, at + id.length, { keepMarker: false });
    const start = at + id.length + size.length;
    const end = size.value === 2 ** (7 * size.length) - 1 ? Number.MAX_SAFE_INTEGER : start + size.value;
    yield { id: id.value, start, end };
    at = end;
  }
}

/** A number whose first byte says how long it is. @param {Uint8Array} bytes @param {number} at @param {{keepMarker: boolean}} how */
function number(bytes, at, { keepMarker }) {
  if (at >= bytes.length) throw new RangeError("beyond the end");
  const length = Math.clz32(bytes[at]) - 23;
  if (length > 8 || at + length > bytes.length) throw new RangeError("beyond the end");
  let value = keepMarker ? bytes[at] : bytes[at] & (0xff >> length);
  for (let i = 1; i < length; i++) value = value * 256 + bytes[at + i];
  return { value, length };
}

/** @param {Uint8Array} bytes @param {Element} element */
function latin(bytes, { start, end }) {
  if (end > bytes.length) throw new RangeError("beyond the end");
  return String.fromCharCode(...bytes.subarray(start, Math.min(end, start + 64))).replace(/\0+$/, "");
}

// ---- MP4

/** Where the boxes begin that stand in a sample entry, behind its own fields. */
const VISUAL_ENTRY_BYTES = 78;
const AUDIO_ENTRY_BYTES = 28;

/** @param {DataView} view */
function mp4Type(view) {
  for (const box of boxes(view, 0, view.byteLength)) {
    // The samples come first: the file has to be whole before anything of it can be played.
    if (box.type === "mdat" || box.type === "moof") return undefined;
    if (box.type !== "moov") continue;
    if (box.end > view.byteLength) return view.byteLength >= HEAD_BYTES_MAX ? undefined : null;
    // Only what says that fragments follow is made for this.
    if (!child(view, box, "mvex")) return undefined;
    const tracks = [...boxes(view, box.start, box.end)].filter(({ type }) => type === "trak");
    return typed("video/mp4", tracks.map((track) => mp4Codec(view, track)));
  }
  return view.byteLength >= HEAD_BYTES_MAX ? undefined : null;
}

/** @param {DataView} view @param {Box} track */
function mp4Codec(view, track) {
  /** @type {Box | undefined} */
  let box = track;
  for (const type of ["mdia", "minf", "stbl", "stsd"]) box = box && child(view, box, type);
  if (!box) return undefined;
  const [entry] = boxes(view, box.start + 8, box.end);
  if (!entry) return undefined;
  const inside = (/** @type {number} */ skip, /** @type {string} */ type) => {
    const found = [...boxes(view, entry.start + skip, entry.end)].find((part) => part.type === type);
    return found && new Uint8Array(view.buffer, view.byteOffset + found.start, found.end - found.start);
  };
  switch (entry.type) {
    case "avc1":
    case "avc3":
      return avc(entry.type, inside(VISUAL_ENTRY_BYTES, "avcC"));
    case "vp09":
      return vp9(inside(VISUAL_ENTRY_BYTES, "vpcC"));
    case "av01": {
      const configuration = inside(VISUAL_ENTRY_BYTES, "av1C");
      return configuration && av1(configuration);
    }
    case "mp4a":
      return aac(inside(AUDIO_ENTRY_BYTES, "esds"));
    case "Opus":
      return "opus";
    case "fLaC":
      return "flac";
    default:
      return undefined;
  }
}

/** @typedef {{type: string, start: number, end: number}} Box */

/**
 * @param {DataView} view
 * @param {number} from
 * @param {number} to
 * @returns {Generator<Box>}
 */
function* boxes(view, from, to) {
  for (let at = from; at + 8 <= to; ) {
    let size = view.getUint32(at);
    let header = 8;
    if (size === 1) {
      size = Number(view.getBigUint64(at + 8));
      header = 16;
    }
    if (size === 0) size = Number.MAX_SAFE_INTEGER - at;
    // A box smaller than its own header is no box, and would be read for ever.
    if (size < header) return;
    yield { type: fourCharacters(view, at + 4), start: at + header, end: at + size };
    at += size;
  }
}

/** @param {DataView} view @param {Box} parent @param {string} type */
function child(view, parent, type) {
  return [...boxes(view, parent.start, parent.end)].find((box) => box.type === type);
}

/** @param {DataView} view @param {number} at */
function fourCharacters(view, at) {
  return String.fromCharCode(view.getUint8(at), view.getUint8(at + 1), view.getUint8(at + 2), view.getUint8(at + 3));
}

// ---- how codecs are called

const hex = (/** @type {number} */ byte) => byte.toString(16).padStart(2, "0");
const two = (/** @type {number} */ value) => String(value).padStart(2, "0");

/** RFC 6381: profile, constraints and level as they stand in the configuration. @param {string} entry @param {Uint8Array | undefined} avcC */
function avc(entry, avcC) {
  return avcC && avcC.length >= 4 ? `${entry}.${hex(avcC[1])}${hex(avcC[2])}${hex(avcC[3])}` : undefined;
}

/** @param {Uint8Array | undefined} vpcC behind version and flags: profile, level, bit depth */
function vp9(vpcC) {
  return vpcC && vpcC.length >= 7 ? `vp09.${two(vpcC[4])}.${two(vpcC[5])}.${two(vpcC[6] >> 4)}` : undefined;
}

/** @param {Uint8Array} av1C */
function av1(av1C) {
  if (av1C.length < 4) return undefined;
  const [, profileAndLevel, flags] = av1C;
  const depth = flags & 0x40 ? (flags & 0x20 ? 12 : 10) : 8;
  return `av01.${profileAndLevel >> 5}.${two(profileAndLevel & 0x1f)}${flags & 0x80 ? "H" : "M"}.${two(depth)}`;
}

/** @param {Uint8Array | undefined} esds version and flags, then descriptors within descriptors (ISO/IEC 14496-1) */
function aac(esds) {
  if (!esds) return undefined;
  let object;
  for (let at = 4; at < esds.length; ) {
    const tag = esds[at++];
    while (esds[at] & 0x80) at++;
    at++;
    if (tag === 0x05) return object === 0x40 ? `mp4a.40.${esds[at] >> 3}` : undefined;
    if (tag === 0x04) object = esds[at];
    else if (tag !== 0x03) break;
    at += tag === 0x04 ? 13 : 3;
  }
  return object === undefined ? undefined : `mp4a.${hex(object)}`;
}

/** @param {string} type @param {(string | undefined)[]} codecs undefined for one that has no name here: then the browser is not asked */
function typed(type, codecs) {
  if (codecs.length === 0 || codecs.includes(undefined)) return undefined;
  return `${type}; codecs="${codecs.join(", ")}"`;
}
