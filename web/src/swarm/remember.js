/** A memory that does not grow without bound: the oldest is forgotten. */

/** @template T @param {Set<T>} set @param {T} value @param {number} max */
export function remember(set, value, max) {
  set.delete(value);
  set.add(value);
  for (const oldest of set) {
    if (set.size <= max) break;
    set.delete(oldest);
  }
}
