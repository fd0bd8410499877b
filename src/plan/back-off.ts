/** How long a volume waits after a migration, by how the last ones ended. */

/** A volume whose migrations keep failing waits at most this long, or its cooldown if that is longer. */
const LONGEST_WAIT_MS = 7 * 24 * 3_600_000

/** The cooldown, doubled for each failure in a row but the first. */
export function waitAfter(cooldownMs: number, failures: number): number {
  return doubled(cooldownMs, failures, Math.max(cooldownMs, LONGEST_WAIT_MS))
}

/** `baseMs`, doubled for each time but the first, up to `limitMs`. */
export function doubled(baseMs: number, times: number, limitMs: number): number {
  return Math.min(limitMs, baseMs * 2 ** Math.max(0, times - 1))
}
