import { type Dispatcher, request } from 'undici'
import type { SimulatedClock } from '../clock.js'
import type { HookSpec } from './types.js'

const DEFAULT_TIMEOUT_MS = 10_000
const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
}
const RFC1123 = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} [A-Z]{3}$/

/** A call that did not bring an answer; `retryAfterMs` is set for 429, which asks for patience. */
export class HookError extends Error {
  readonly status: number
  readonly retryAfterMs: number | undefined

  constructor(message: string, status: number, retryAfterMs?: number, cause?: unknown) {
    super(message, { cause })
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

/** Posts one request and brings the answer; rejects when none comes. */
export type Post = (request: {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly signal: AbortSignal
}) => Promise<{ readonly status: number; readonly retryAfter: string | undefined; readonly text: string }>

export function postOver(dispatcher: Dispatcher): Post {
  return async ({ url, ...call }) => {
    const options = { method: 'POST', dispatcher, headersTimeout: 0, bodyTimeout: 0 } as const
    const response = await request(url, { ...options, ...call })
    const header = response.headers['retry-after']
    return {
      status: response.statusCode,
      retryAfter: header === undefined ? undefined : String(header),
      text: await response.body.text(),
    }
  }
}

/** One hook of one controller, called over HTTP. Its timeout runs on simulated time. */
export class Webhook {
  readonly strict: boolean
  readonly version: 'v1' | 'v2'
  readonly #clock: SimulatedClock
  readonly #post: Post
  readonly #url: string
  readonly #timeoutMs: number

  constructor(clock: SimulatedClock, post: Post, spec: HookSpec, baseUrl: string | undefined) {
    this.#clock = clock
    this.#post = post
    this.version = spec.version ?? 'v1'
    this.strict = (spec.webhook.responseUnMarshallMode ?? (this.version === 'v2' ? 'strict' : 'loose')) === 'strict'
    this.#url = webhookUrl(spec, baseUrl)
    const timeoutMs = durationMs(spec.webhook.timeout ?? '0s')
    this.#timeoutMs = timeoutMs > 0 ? timeoutMs : DEFAULT_TIMEOUT_MS
  }

  /** The body of a 200 answer; everything else throws a HookError. */
  async call(body: string, stopped: AbortSignal): Promise<string> {
    const abort = new AbortController()
    const giveUp = () => abort.abort()
    const cancel = this.#clock.after(this.#timeoutMs, giveUp)
    stopped.addEventListener('abort', giveUp)
    try {
      const { status, retryAfter, text } = await this.#post({
        url: this.#url,
        headers: { 'content-type': 'application/json', 'user-agent': 'Go-http-client/1.1' },
        body,
        signal: abort.signal,
      })
      if (status === 429) throw new HookError('too many requests', 429, this.#retryAfterMs(retryAfter ?? ''))
      if (status !== 200) throw new HookError(`unsupported status code: ${status} body: ${text}`, status)
      return text
    } catch (error) {
      if (error instanceof HookError) throw error
      const why = abort.signal.aborted
        ? stopped.aborted
          ? 'context canceled'
          : 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        : (error as Error).message
      throw new HookError(`http error: Post "${this.#url}": ${why}`, 0, undefined, error)
    } finally {
      cancel()
      stopped.removeEventListener('abort', giveUp)
    }
  }

  /** Whole seconds or an RFC 1123 date; anything else counts as 0, which asks again at once. */
  #retryAfterMs(header: string): number {
    if (/^[+-]?\d+$/.test(header)) return Number(header) * 1000
    return RFC1123.test(header) ? Math.ceil((Date.parse(header) - this.#clock.now()) / 1000) * 1000 : 0
  }
}

function webhookUrl(spec: HookSpec, baseUrl: string | undefined): string {
  const { url, service, path } = spec.webhook
  if (url === undefined && (service === undefined || path === undefined)) {
    throw new Error("invalid webhook config: must specify either a full 'url', or both 'service' and 'path'")
  }
  const full =
    url ?? `${service?.protocol ?? 'http'}://${service?.name}.${service?.namespace}:${service?.port ?? 80}${path}`
  if (baseUrl === undefined) return full
  const { pathname, search } = new URL(full)
  return new URL(`${pathname}${search}`, baseUrl).href
}

/** A Go duration such as `60s` or `1m30s`, in ms. */
export function durationMs(text: string): number {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) throw new Error(`invalid duration "${text}"`)
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (UNIT_MS[unit as string] as number)
  }
  return total
}
