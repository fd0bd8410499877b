import type { Clock } from '../../clock.js'

/** Timers that can be called off together. */
export class Timers {
  readonly #clock: Clock
  readonly #pending = new Set<() => void>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get pending(): number {
    return this.#pending.size
  }

  after(delayMs: number, fn: () => void): () => void {
    const stop = this.#clock.after(delayMs, () => {
      this.#pending.delete(cancel)
      fn()
    })
    const cancel = () => {
      this.#pending.delete(cancel)
      stop()
    }
    this.#pending.add(cancel)
    return cancel
  }

  clear(): void {
    for (const cancel of [...this.#pending]) cancel()
  }
}
