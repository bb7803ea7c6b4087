/** One signal for two ways of giving up: the caller's own AbortSignal, and time. (AbortSignal.any is too young for some browsers.) */

/**
 * Runs `work` with a signal that aborts when `signal` does, or after `ms` with `error`; rejects with the reason of whichever came first,
 * even if `work` does not listen to it.
 * @template T
 * @param {{signal?: AbortSignal, ms: number, error: Error}} limits
 * @param {(signal: AbortSignal) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withDeadline({ signal, ms, error }, work) {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  const timer = setTimeout(() => controller.abort(error), ms);
  try {
    return await Promise.race([work(controller.signal), aborted(controller.signal)]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** @param {AbortSignal} signal @returns {Promise<never>} */
function aborted(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}
