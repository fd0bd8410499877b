import { readFileSync } from 'node:fs'
import { median } from './numbers.js'

/** What JSON.parse and JSON.stringify take for the bytes of a file, in a process that does nothing else. */

const [file = '', runs = ''] = process.argv.slice(2)
const bytes = readFileSync(file)

function once(): { parseMs: number; stringifyMs: number } {
  const text = bytes.toString('utf8')
  const startMs = performance.now()
  const value: unknown = JSON.parse(text)
  const parsedMs = performance.now()
  const { length } = JSON.stringify(value)
  if (length === 0) throw new Error('nothing came back')
  return { parseMs: parsedMs - startMs, stringifyMs: performance.now() - parsedMs }
}

once()
const times = Array.from({ length: Number(runs) }, once)
process.send?.({
  parseMs: median(times.map(({ parseMs }) => parseMs)),
  stringifyMs: median(times.map(({ stringifyMs }) => stringifyMs)),
})
