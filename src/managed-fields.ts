const KEY = Buffer.from('"managedFields":[')
const [QUOTE, BACKSLASH, OPEN, CLOSE] = Buffer.from('"\\[]')

/**
 * The JSON text with every `managedFields` made an empty list, unread: nothing here needs them, and they are more than
 * a third of a sync request, so that parsing is done in two thirds of the time and memory. Works in place and returns
 * the part of `json` that is in use. Text it does not understand stays as it is, for the parser to judge.
 *
 * Quotes within a string are escaped, so what is searched for begins a string or is inside no string at all.
 */
export function withoutManagedFields(json: Buffer): Buffer {
  let written = 0
  let copied = 0
  for (let at = json.indexOf(KEY); at >= 0; ) {
    const start = at + KEY.length
    const end = json[at - 1] === BACKSLASH ? undefined : endOfArray(json, start)
    if (end !== undefined) {
      json.copyWithin(written, copied, start)
      written += start - copied
      copied = end
    }
    at = json.indexOf(KEY, end ?? start)
  }
  json.copyWithin(written, copied)
  return json.subarray(0, written + json.length - copied)
}

/** Index of the bracket that closes the array whose first element begins at `start`; undefined when none does. */
function endOfArray(json: Buffer, start: number): number | undefined {
  let depth = 1
  for (let i = start; i < json.length; i++) {
    const byte = json[i]
    if (byte === QUOTE) {
      for (i++; i < json.length && json[i] !== QUOTE; i++) if (json[i] === BACKSLASH) i++
    } else if (byte === OPEN) {
      depth++
    } else if (byte === CLOSE && --depth === 0) {
      return i
    }
  }
  return undefined
}
