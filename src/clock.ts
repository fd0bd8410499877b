/**
 * Time as the operator sees it. Everything that reads the time or waits takes a Clock, so that the same code runs
 * against the machine's clock in a cluster and against simulated time in the embedded one.
 */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. For timestamps people read and for comparing with those of others. */
  now(): number
  /** Milliseconds that never go backwards; only differences mean something. For deadlines and expiry. */
  monotonic(): number
  /** Calls `fn` once after `delayMs`; the returned function cancels it. Does not keep the process alive. */
  after(delayMs: number, fn: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, fn) => {
    const timer = setTimeout(fn, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
