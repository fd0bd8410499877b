import { GROUP } from '../api/names.js'

/** Exit codes of `explain`; 0: it was explained. */
export const EXIT = {
  /** The cluster cannot be read. */
  failed: 1,
  /** The command line cannot be used. */
  usage: 2,
  /** There is nothing to explain: no such claim or volume, or none that the operator manages. */
  nothing: 3,
} as const

/** Why there is no explanation: a sentence, and what to do about it. */
export class ExplainError extends Error {
  override readonly name = 'ExplainError'
  readonly exitCode: number

  constructor(exitCode: number, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.exitCode = exitCode
  }
}

export const nothing = (message: string) => new ExplainError(EXIT.nothing, message)

export const forbidden = (message: string) => new ExplainError(EXIT.failed, message)

export const notServed = () =>
  new ExplainError(
    EXIT.failed,
    `the cluster knows no ${GROUP}: the operator's CustomResourceDefinitions are not installed (or in another cluster: see --context)`,
  )

export const unreachable = (server: string, cause: unknown) =>
  new ExplainError(EXIT.failed, `cannot read from the API server ${server}: ${wordsOf(cause)}`, { cause })

/** What the network said; libraries wrap it. */
function wordsOf(error: unknown): string {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    const { code, message } = inner as NodeJS.ErrnoException
    if (inner.name === 'TimeoutError') return 'no answer in time'
    if (inner.cause === undefined) return code === undefined ? message : `${message} (${code})`
  }
  return String(error)
}
