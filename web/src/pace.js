/** Keeps a client below the rates of its server (protocol.md, "Rates"), so that little is refused for having come too soon: joins share a rate with others. */

/** The server's clock and ours differ, and messages bunch up on the way. */
const SHARE = 0.9;

export class Pace {
  #buckets;
  #now;

  /**
   * @param {{messagesPerSecond?: number, bytesPerSecond?: number, joinsPerSecond?: number}} limits those of `welcome`; what is missing is not bounded
   * @param {() => number} [now] in milliseconds
   */
  constructor({ messagesPerSecond = Infinity, bytesPerSecond = Infinity, joinsPerSecond = Infinity }, now = () => performance.now()) {
    const at = now();
    // Twice a second's worth at once, as the server has it.
    const bucket = (/** @type {number} */ rate) => ({ rate: rate * SHARE, left: 2 * rate * SHARE, at });
    this.#buckets = [bucket(messagesPerSecond), bucket(bytesPerSecond), bucket(joinsPerSecond)];
    this.#now = now;
  }

  /**
   * Takes what a message of so many bytes costs, if it may go now.
   * @param {number} bytes
   * @param {boolean} [isJoin]
   * @returns {number} 0, or how many milliseconds to wait before asking again
   */
  take(bytes, isJoin = false) {
    const now = this.#now();
    const costs = [1, bytes, Number(isJoin)];
    let waitMs = 0;
    for (const [i, bucket] of this.#buckets.entries()) {
      if (bucket.rate === Infinity) continue;
      const most = 2 * bucket.rate;
      // A message larger than the bucket goes when that is full.
      const cost = Math.min(costs[i], most);
      bucket.left = Math.min(most, bucket.left + ((now - bucket.at) * bucket.rate) / 1_000);
      bucket.at = now;
      if (cost > 0) waitMs = Math.max(waitMs, Math.ceil(((cost - bucket.left) / bucket.rate) * 1_000));
    }
    if (waitMs > 0) return waitMs;
    for (const [i, bucket] of this.#buckets.entries()) bucket.left -= costs[i];
    return 0;
  }
}
