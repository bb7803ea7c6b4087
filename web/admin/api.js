/** Asks the administration, with the token. */

/** The server said no, or there is none: `code` is the problem's, `unreachable` without an answer. */
export class Refused extends Error {
  /** @param {string} code @param {string} detail */
  constructor(code, detail) {
    super(detail);
    this.code = code;
  }
}

/** How long an answer may take. */
const ANSWER_MS = 10_000;

export class Api {
  #token;

  /** @param {string} token */
  constructor(token) {
    this.#token = token;
  }

  /** What is at a path, as JSON. @param {string} path */
  async get(path) {
    return (await this.#ask("GET", path)).json();
  }

  /** What is at a path, as text. @param {string} path */
  async text(path) {
    return (await this.#ask("GET", path)).text();
  }

  /** Ends what is at a path. @param {string} path */
  async remove(path) {
    await this.#ask("DELETE", path);
  }

  /**
   * Server-sent events, as long as there are any. `EventSource` would not say who asks.
   * @param {string} path
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<{event: string, data: any}>}
   */
  async *events(path, signal) {
    const answer = await this.#ask("GET", path, signal);
    if (!answer.body) return;
    let text = "";
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
        if (event) yield { event, data: JSON.parse(data) };
      }
    }
  }

  /** @param {string} method @param {string} path @param {AbortSignal} [signal] */
  async #ask(method, path, signal = AbortSignal.timeout(ANSWER_MS)) {
    const headers = { authorization: `Bearer ${this.#token}` };
    const answer = await fetch(path, { method, headers, signal, cache: "no-store" }).catch((error) => {
      throw new Refused("unreachable", String(error));
    });
    if (answer.ok) return answer;
    const { code = "unreachable", detail = answer.statusText } = await answer.json().catch(() => ({}));
    throw new Refused(code, detail);
  }
}

/** The path of a room. @param {string} id */
export const roomPath = (id) => `v1/rooms/${encodeURIComponent(id)}`;
/** The path of a peer. @param {string} id */
export const peerPath = (id) => `v1/peers/${encodeURIComponent(id)}`;
