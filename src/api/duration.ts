import parse from 'parse-duration'

/** What a duration field may hold; anchored, so that it serves JSON Schema and RegExp alike. */
export const DURATION_PATTERN = '^([0-9]+h)?([0-9]+m)?([0-9]+s)?$'
/** Longest text accepted; keeps the pattern cheap. */
export const DURATION_MAX_LENGTH = 12
/** Longest duration accepted, a year: far beyond any use, and never a date that cannot be written. */
export const DURATION_MAX = '8760h'

const pattern = new RegExp(DURATION_PATTERN)
const MAX_MS = parse(DURATION_MAX) ?? 0

/** Milliseconds of a duration such as `1h30m`; undefined when it is malformed, empty, zero, or above a year. */
export function parseDuration(text: string): number | undefined {
  if (text.length === 0 || text.length > DURATION_MAX_LENGTH || !pattern.test(text)) return undefined
  const ms = parse(text)
  return ms !== null && ms > 0 && ms <= MAX_MS ? ms : undefined
}
