/** Reads what `/metrics` says (the text format of Prometheus, version 0.0.4), and makes rates and percentiles of it. Pure: is told the time. */

/** @typedef {{labels: Record<string, string>, value: number}} Sample */

/** One reading of all metrics. */
export class Reading {
  /** @type {Map<string, Sample[]>} */
  #series = new Map();

  /** @param {string} text @param {number} atMs */
  constructor(text, atMs) {
    this.atMs = atMs;
    for (const line of text.split("\n")) {
      const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
      if (!match) continue;
      const [, name, labels = "", value] = match;
      const samples = this.#series.get(name) ?? [];
      samples.push({ labels: readLabels(labels), value: readNumber(value) });
      this.#series.set(name, samples);
    }
  }

  /** All samples of this name. @param {string} name @returns {readonly Sample[]} */
  samples(name) {
    return this.#series.get(name) ?? [];
  }

  /**
   * The sum of all samples that have these labels; undefined if there are none of that name.
   * @param {string} name
   * @param {Record<string, string>} [labels]
   * @returns {number | undefined}
   */
  sum(name, labels = {}) {
    const samples = this.#series.get(name);
    const meant = samples?.filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value));
    return meant?.reduce((sum, { value }) => sum + value, 0);
  }
}

/**
 * How much a counter grew in a second between two readings; undefined where it began anew, or was not there.
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @param {string} name
 * @returns {number | undefined}
 */
export function rate(before, now, name) {
  const from = before?.sum(name);
  const to = now.sum(name);
  if (!before || from === undefined || to === undefined || to < from || now.atMs <= before.atMs) return undefined;
  return ((to - from) * 1_000) / (now.atMs - before.atMs);
}

/**
 * The value below which this part of all that was observed between two readings lies, by the buckets of a histogram; undefined if nothing was.
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @param {string} name
 * @param {number} part from 0 to 1
 * @returns {number | undefined}
 */
export function percentile(before, now, name, part) {
  if (!before) return undefined;
  const buckets = now.samples(`${name}_bucket`).map(({ labels, value }) => {
    return { bound: readNumber(labels.le ?? ""), count: value - (before.sum(`${name}_bucket`, { le: labels.le ?? "" }) ?? 0) };
  });
  buckets.sort((a, b) => a.bound - b.bound);
  const all = buckets.at(-1)?.count ?? 0;
  if (!(all > 0)) return undefined;
  const wanted = all * part;
  let below = { bound: 0, count: 0 };
  for (const bucket of buckets) {
    if (bucket.count >= wanted && bucket.count > below.count) {
      // Nobody knows how far beyond the last bound.
      if (bucket.bound === Infinity) return below.bound;
      return below.bound + ((bucket.bound - below.bound) * (wanted - below.count)) / (bucket.count - below.count);
    }
    below = bucket;
  }
  return below.bound;
}

/** @param {string} text `a="b",c="d"`, with escapes in the values */
function readLabels(text) {
  /** @type {Record<string, string>} */
  const labels = {};
  for (const [, name, value] of text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name] = value.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
  }
  return labels;
}

/** @param {string} text */
function readNumber(text) {
  return text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text);
}
