// Parsing and printing a time is pure; only reading the clock is not.
// biome-ignore lint/style/noRestrictedGlobals: no clock is read here
const DateFormat = Date

/** Milliseconds since the epoch of an RFC 3339 time; undefined when it is none. */
export function parseTime(text: string): number | undefined {
  const ms = DateFormat.parse(text)
  return Number.isNaN(ms) ? undefined : ms
}

/** RFC 3339 in UTC, to the second, as Kubernetes writes times. */
export function formatTime(ms: number): string {
  return new DateFormat(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}
