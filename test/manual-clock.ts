import type { Clock } from '../src/clock.js'

/** A clock that stands still until told otherwise. */
export function manualClock() {
  let now = 0
  let timers: { at: number; fn: () => void }[] = []
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after: (delayMs, fn) => {
      const timer = { at: now + delayMs, fn }
      timers.push(timer)
      return () => {
        timers = timers.filter((one) => one !== timer)
      }
    },
  }
  const pass = async (ms: number) => {
    now += ms
    const due = timers.filter(({ at }) => at <= now)
    timers = timers.filter(({ at }) => at > now)
    for (const { fn } of due) fn()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { clock, pass, timers: () => timers.length }
}
