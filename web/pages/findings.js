/**
 * What was found at a server: one line for each thing that was looked at, as `switchboard check` tells it. Pure: knows no element, and sentences only by
 * their keys.
 */

/**
 * @typedef {"ok" | "warning" | "failed" | "skipped"} Outcome
 * @typedef {import("./i18n.js").Values} Values
 * @typedef {[key: string, values?: Values]} Said a sentence in no language yet
 *
 * @typedef {object} Finding
 * @property {string} check what was looked at, by the name that the command has for it
 * @property {Outcome} outcome
 * @property {Said} detail
 * @property {Said} [advice] what to change
 */

/** @param {string} check @param {Said} detail @returns {Finding} it works */
export const ok = (check, detail) => ({ check, outcome: "ok", detail });

/** @param {string} check @param {Said} detail @param {Said} advice @returns {Finding} it works, but somebody should look at it */
export const warning = (check, detail, advice) => ({ check, outcome: "warning", detail, advice });

/** @param {string} check @param {Said} detail @param {Said} advice @returns {Finding} it does not work */
export const failed = (check, detail, advice) => ({ check, outcome: "failed", detail, advice });

/** @param {string} check @param {Said} detail @param {Said} [advice] @returns {Finding} there is nothing to look at */
export const nothing = (check, detail, advice) => ({ check, outcome: "skipped", detail, ...(advice && { advice }) });

/** @param {string} check @param {string} wanting @returns {Finding} it could not be looked at, for want of another */
export const skipped = (check, wanting) => nothing(check, ["check.needs", { wanting }]);

/** The worst that was found; `failed` where nothing was. @param {readonly Finding[]} findings @returns {Outcome} */
export function outcomeOf(findings) {
  const has = (/** @type {Outcome} */ outcome) => findings.some((finding) => finding.outcome === outcome);
  if (has("failed") || findings.length === 0) return "failed";
  return has("warning") ? "warning" : "ok";
}

/**
 * The object that `switchboard check --json` prints.
 * @param {string} url
 * @param {readonly Finding[]} findings
 * @param {(...said: Said) => string} say
 */
export function reportOf(url, findings, say) {
  return {
    url: new URL(url).href,
    outcome: outcomeOf(findings),
    findings: findings.map(({ check, outcome, detail, advice }) => ({ check, outcome, detail: say(...detail), ...(advice && { advice: say(...advice) }) })),
  };
}

/** A time as people read it. @param {number} ms */
export function millis(ms) {
  return `${ms.toFixed(1)} ms`;
}
