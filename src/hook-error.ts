/** Longest error text sent to a caller: Metacontroller copies the whole body of a failed hook into an Event. */
export const ERROR_MESSAGE_LIMIT = 200

/**
 * A hook call that cannot be answered: 4xx when the request is to blame, 5xx when we are. Metacontroller changes
 * nothing and retries. `message` is one short sentence, the same for every occurrence of a cause, without secrets.
 */
export class HookError extends Error {
  override readonly name = 'HookError'
  /** HTTP status, 400 to 599. */
  readonly statusCode: number
  /** Whole seconds of a Retry-After header; required with 429, which Metacontroller otherwise retries at once. */
  readonly retryAfterSeconds: number | undefined

  constructor(statusCode: number, message: string, options: { cause?: unknown; retryAfterSeconds?: number } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.statusCode = statusCode
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}
