import type { Clock } from '../clock.js'

/**
 * How long this process has known of something as it is, by its own monotonic clock. What others wrote carries their
 * wall clocks, which may be minutes off: they are for people, and nothing is decided by them.
 */
export interface Sightings {
  /** Milliseconds since `key` was first seen as `what`; 0 the first time. Undefined: there is nothing to know of. */
  age(key: string, what: string | undefined): number
  /** Forgets every key but these. */
  keep(keys: ReadonlySet<string>): void
  /** Forgets everything: what was not looked at for a while is not held against anybody. */
  clear(): void
}

export function sightings(clock: Clock): Sightings {
  const seen = new Map<string, { readonly what: string; readonly since: number }>()
  return {
    age: (key, what) => {
      if (what === undefined) {
        seen.delete(key)
        return 0
      }
      const known = seen.get(key)
      const now = clock.monotonic()
      if (known?.what === what) return now - known.since
      seen.set(key, { what, since: now })
      return 0
    },
    keep: (keys) => {
      for (const key of seen.keys()) if (!keys.has(key)) seen.delete(key)
    },
    clear: () => seen.clear(),
  }
}
