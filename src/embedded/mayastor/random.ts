/** Decides a tie: which of several equally good candidates Mayastor happens to take. */
export type Choose = <T>(what: string, options: readonly T[]) => T

/** A small seeded generator (mulberry32): the same seed gives the same cluster, uuids and ties. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 up to but not including `bound`. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * bound)
  }

  uuid(): string {
    const word = () => this.below(0x100000000).toString(16).padStart(8, '0')
    const hex = word() + word() + word() + word()
    const variant = '89ab'[this.below(4)]
    return [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `4${hex.slice(13, 16)}`,
      `${variant}${hex.slice(17, 20)}`,
      hex.slice(20),
    ].join('-')
  }

  readonly choose: Choose = (_what, options) => {
    const option = options[this.below(options.length)]
    if (option === undefined) throw new Error('choose needs at least one option')
    return option
  }
}
