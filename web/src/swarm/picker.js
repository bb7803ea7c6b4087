/** Which piece to ask for next. A rule without state: whoever downloads knows what is missing, and counts who has what. */

/**
 * The eligible piece that the fewest peers have, so that none is lost when a peer leaves; among equals any, so that those who fetch at the
 * same time have different ones to give each other. Undefined where none is eligible.
 * @param {object} options
 * @param {number} options.from the first piece to look at
 * @param {number} options.to the first not to
 * @param {(piece: number) => boolean} options.isEligible
 * @param {ArrayLike<number>} options.holders how many have each piece
 * @param {() => number} [options.random] below 1
 * @returns {number | undefined}
 */
export function rarest({ from, to, isEligible, holders, random = Math.random }) {
  let best;
  let equals = 0;
  for (let piece = from; piece < to; piece++) {
    if (best !== undefined && holders[piece] > holders[best]) continue;
    if (!isEligible(piece)) continue;
    equals = best !== undefined && holders[piece] === holders[best] ? equals + 1 : 1;
    // The k-th of equals replaces the one before it once in k times: each has the same chance in the end.
    if (random() * equals < 1) best = piece;
  }
  return best;
}
