import type { ExplainIo } from './command.js'

/** The streams of this process. Whoever reads from us may stop early, as `head` does. */
export function processIo(): ExplainIo {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
  return {
    env: process.env,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  }
}
