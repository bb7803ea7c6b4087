/**
 * From messages, as they pass, to the steps of a story: who says what to whom, and which sentence explains it. Pure: knows neither the page nor a
 * language, only the keys of the sentences.
 */

/** The lanes that are always there; every other lane is a peer's id. */
export const ME = "me";
export const SERVER = "server";

/** Of this id is no peer: in its name speaks whoever runs the server. */
const OPERATOR = "0".repeat(32);

/** Answers to each other and nothing else; they would bury the rest. */
const HEARTBEATS = new Set(["ping", "pong"]);
const SIGNALS = new Set(["offer", "answer", "ice-candidate"]);

/**
 * @typedef {object} Step
 * @property {"message" | "note" | "line"} kind `note`: something that happens here; `line`: the direct line is there
 * @property {string} from a lane
 * @property {string} to a lane
 * @property {string} type the message's, as on the wire; of a note the state's name
 * @property {string} about the key of the sentence that explains it
 * @property {Record<string, string | number>} values for that sentence
 * @property {string[]} [kinds] of a description: what is to be exchanged, `application`, `audio`, `video`
 * @property {unknown} [content] what is in the message, for whoever wants to see it
 */

/** Tells the story of one client in one room: remembers whose offers were answered before, and what it has explained. */
export class Story {
  /** Kinds of candidates that were explained. @type {Set<string>} */
  #explained = new Set();
  /** Peers with whom a negotiation has been finished. @type {Set<string>} */
  #negotiated = new Set();

  /** A message that this client sends. @param {any} message @returns {Step | undefined} */
  sent(message) {
    const { type, to } = message;
    if (HEARTBEATS.has(type)) return undefined;
    const [about, values] = this.#explain(message, "sent", to);
    return { kind: "message", from: ME, to: to ?? SERVER, type, about, values, kinds: kindsOf(message), content: contentOf(message) };
  }

  /** The greeting once more, with a token that is newer. @returns {Step} */
  renewed() {
    return { kind: "message", from: ME, to: SERVER, type: "hello", about: "explain.hello-again", values: {} };
  }

  /** A message that came. @param {any} message @returns {Step | undefined} */
  received(message) {
    const { type, from } = message;
    if (HEARTBEATS.has(type)) return undefined;
    const [about, values] = this.#explain(message, "received", from);
    if (type === "peer-left") this.#negotiated.delete(message.peerId);
    const lane = from === undefined || from === OPERATOR ? SERVER : from;
    return { kind: "message", from: lane, to: ME, type, about, values, kinds: kindsOf(message), content: contentOf(message) };
  }

  /**
   * @param {any} message
   * @param {"sent" | "received"} direction
   * @param {string | undefined} peerId at the other end of a signal
   * @returns {[string, Record<string, string | number>]}
   */
  #explain(message, direction, peerId) {
    const { type, payload } = message;
    switch (type) {
      case "offer":
      case "answer": {
        const again = peerId !== undefined && this.#negotiated.has(peerId);
        if (type === "answer" && peerId) this.#negotiated.add(peerId);
        return [`explain.${type}-${again && type === "offer" ? "again-" : ""}${direction}`, {}];
      }
      case "ice-candidate": {
        if (typeof payload?.secret === "string") return ["explain.proof", {}];
        const candidate = readCandidate(payload?.candidate);
        if (!candidate) return ["explain.candidate-end", {}];
        if (this.#explained.has(candidate.type)) return ["explain.candidate-more", { ...candidate }];
        this.#explained.add(candidate.type);
        return [`explain.candidate-${candidate.type}`, { ...candidate }];
      }
      case "joined":
        return [message.peers?.length > 0 ? "explain.joined" : "explain.joined-alone", { count: message.peers?.length ?? 0 }];
      case "welcome":
        return [message.resumed ? "explain.welcome-resumed" : "explain.welcome", {}];
      case "message":
        return [`explain.message-${peerId === OPERATOR ? "of-server" : direction}`, {}];
      case "peer-left":
        return ["explain.peer-left", { reason: String(message.reason ?? "") }];
      case "goodbye":
        if (message.closesInMs !== undefined) return ["explain.goodbye-ahead", { code: String(message.code), seconds: Math.round(message.closesInMs / 1_000) }];
        return ["explain.goodbye", { code: String(message.code ?? "") }];
      case "error":
        return ["explain.error", { code: String(message.code ?? "") }];
      case "left":
        return [message.reason === "removed" ? "explain.left-removed" : "explain.left", {}];
      default:
        return [EXPLAINED.has(type) ? `explain.${type}` : "explain.other", {}];
    }
  }
}

const EXPLAINED = new Set(["hello", "ice-servers", "join", "leave", "metadata", "peer-joined", "peer-updated"]);

/** What happens here, with a peer or, without one, with the server. @param {string} state @param {string} [peerId] @returns {Step} */
export function note(state, peerId) {
  return { kind: "note", from: ME, to: peerId ?? SERVER, type: state, about: `explain.note-${state}`, values: {} };
}

/** The direct line to a peer is there. @param {string} peerId @returns {Step} */
export function lineOpened(peerId) {
  return { kind: "line", from: ME, to: peerId, type: "line", about: "explain.line", values: {} };
}

/**
 * The lanes of a diagram, in the order in which they are first needed. Past the bound, the last one stands for all further peers.
 * @param {readonly Step[]} steps
 * @param {number} peersMax
 * @returns {{lanes: string[], laneOf: (id: string) => number}}
 */
export function lanesOf(steps, peersMax) {
  const lanes = [ME, SERVER];
  let crowded = false;
  for (const { from, to } of steps) {
    for (const id of [from, to]) {
      if (lanes.includes(id)) continue;
      if (lanes.length < 2 + peersMax) lanes.push(id);
      else crowded = true;
    }
  }
  if (crowded) lanes[lanes.length - 1] = OTHERS;
  return { lanes, laneOf: (id) => (lanes.includes(id) ? lanes.indexOf(id) : lanes.length - 1) };
}

/** The lane of all who have none of their own. */
export const OTHERS = "others";

/**
 * What stands in a candidate's line (RFC 8839 §5.1); undefined for one that cannot be read, or an empty one.
 * @param {unknown} line
 * @returns {{type: string, protocol: string, address: string, port: string} | undefined}
 */
export function readCandidate(line) {
  const found = /^(?:a=)?candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) typ (host|srflx|prflx|relay)\b/i.exec(typeof line === "string" ? line : "");
  if (!found) return undefined;
  const [, protocol, address, port, type] = found;
  return { type: type.toLowerCase(), protocol: protocol.toUpperCase(), address, port };
}

/**
 * What stands in a description (RFC 8866): the kinds of media, and how many candidates came with it.
 * @param {unknown} sdp
 * @returns {{kinds: string[], candidates: number}}
 */
export function readDescription(sdp) {
  const lines = (typeof sdp === "string" ? sdp : "").split(/\r?\n/);
  const kinds = lines.flatMap((line) => /^m=(\w+)/.exec(line)?.[1] ?? []);
  return { kinds: [...new Set(kinds)], candidates: lines.filter((line) => line.startsWith("a=candidate:")).length };
}

/** @param {any} message */
function kindsOf({ type, payload }) {
  return type === "offer" || type === "answer" ? readDescription(payload?.sdp).kinds : undefined;
}

/** Signals are shown by what the other peer gets of them. @param {any} message */
function contentOf({ type, ...rest }) {
  if (!SIGNALS.has(type)) return rest;
  return rest.payload?.sdp ?? rest.payload?.candidate ?? rest.payload;
}
