/** A file's pieces and who they came from, counted and put into no more cells than one can see. Pure. */

/** Cells in a map of pieces; of a large file several pieces share one. */
export const CELLS_MAX = 400;

/** @typedef {string | undefined} Piece undefined, `wanted`, or the id of the peer that it came from */

/**
 * How many pieces came from whom, whoever came first standing first.
 * @param {readonly Piece[]} pieces
 * @returns {Map<string, number>}
 */
export function countBySender(pieces) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const piece of pieces) if (isThere(piece)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return counts;
}

/**
 * The cells of the map, in the order of the file. A cell is `there` when all of its pieces are, and belongs to who sent most of them.
 * @param {readonly Piece[]} pieces
 * @param {number} [cellsMax]
 * @returns {{state: "missing" | "wanted" | "some" | "there", from: string | undefined}[]}
 */
export function cellsOf(pieces, cellsMax = CELLS_MAX) {
  const perCell = Math.max(1, Math.ceil(pieces.length / cellsMax));
  const cells = [];
  for (let at = 0; at < pieces.length; at += perCell) {
    const some = Array.from({ length: Math.min(perCell, pieces.length - at) }, (_, i) => pieces[at + i]);
    const counts = [...countBySender(some)].sort(([, a], [, b]) => b - a);
    const there = counts.reduce((sum, [, count]) => sum + count, 0);
    const state = there === some.length ? "there" : there > 0 ? "some" : some.includes("wanted") ? "wanted" : "missing";
    cells.push({ state: /** @type {"missing" | "wanted" | "some" | "there"} */ (state), from: counts[0]?.[0] });
  }
  return cells;
}

/** @param {Piece} piece @returns {piece is string} */
function isThere(piece) {
  return piece !== undefined && piece !== "wanted";
}
