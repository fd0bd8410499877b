import fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { parseQuery, QueryError } from './query.js'
import { type Element, Samples, type ScrapedSeries, sortElements } from './samples.js'

const HOUR_MS = 3_600_000

/**
 * Ways for Prometheus to be out of order.
 * - `down`: connections are closed without an answer.
 * - `503`: every request is answered 503, as by a proxy before a Prometheus that is not there.
 * - `empty`: success without any series, as from a Prometheus that scrapes something else.
 * - `nan`: every value is NaN.
 * - `half`: of the volumes, in the order of their names, every second one is missing.
 * - `warning`: complete answers with a warning, as Thanos gives when one of its stores does not answer.
 */
export const OUTAGES = ['down', '503', 'empty', 'nan', 'half', 'warning'] as const
export type Outage = (typeof OUTAGES)[number]

export interface EmbeddedPrometheusOptions {
  /** Where `time` comes from when a query has none. */
  readonly clock: { now(): number }
  /** Samples are kept this long, in ms. Default 6 h. */
  readonly retentionMs?: number
}

/** Unix seconds with an optional fraction, or RFC 3339; in ms. */
function parseTime(text: string): number {
  if (/^-?[0-9]+(\.[0-9]+)?$/.test(text)) return Math.round(Number(text) * 1000)
  const ms = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms)) throw new QueryError(`cannot parse "${text}" to a valid timestamp`)
  return ms
}

function formatValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

function half(elements: readonly Element[]): Element[] {
  const volumes = [...new Set(elements.map(({ labels }) => labels['pv_name'] ?? ''))].sort()
  const kept = new Set(volumes.filter((_, index) => index % 2 === 0))
  return elements.filter(({ labels }) => kept.has(labels['pv_name'] ?? ''))
}

/**
 * A Prometheus in this process: raw samples from `scrape`, and instant queries over HTTP (GET and POST
 * /api/v1/query) on a loopback port. It evaluates the forms of query storage tiering asks, as Prometheus 2.42 does,
 * and answers 400 to all others.
 */
export class EmbeddedPrometheus {
  /** The fault shown to those who ask; scraping goes on meanwhile. */
  outage: Outage | undefined
  readonly #clock: { now(): number }
  readonly #samples: Samples
  #server: FastifyInstance | undefined
  #queries = 0

  constructor(options: EmbeddedPrometheusOptions) {
    this.#clock = options.clock
    this.#samples = new Samples(options.retentionMs ?? 6 * HOUR_MS)
  }

  /** Requests that came in, those during an outage included. */
  get queries(): number {
    return this.#queries
  }

  /**
   * Adds one whole scrape of all targets at `atMs`, later than the one before. A series that was in the one before and
   * is not in this one gets a staleness marker, as when a target stops exporting it.
   */
  scrape(atMs: number, series: Iterable<ScrapedSeries>): void {
    this.#samples.scrape(atMs, series)
  }

  /** Listens on a free loopback port and returns the base address. */
  async start(): Promise<string> {
    if (this.#server !== undefined) throw new Error('already started')
    const server = fastify({ forceCloseConnections: true })
    this.#server = server
    const type = 'application/x-www-form-urlencoded'
    server.addContentTypeParser<string>(type, { parseAs: 'string' }, (_request, body, done) => {
      done(null, new URLSearchParams(body))
    })
    server.addHook('onRequest', async (request, reply) => {
      this.#queries++
      if (this.outage === 'down') {
        reply.hijack()
        request.raw.socket.destroy()
      } else if (this.outage === '503') {
        await reply.code(503).type('text/plain').send('Service Unavailable')
      }
    })
    const send = (reply: FastifyReply, params: URLSearchParams) => {
      const { status, body } = this.answer(params)
      return reply.code(status).send(body)
    }
    server.get('/api/v1/query', (request, reply) => send(reply, new URL(request.url, 'http://localhost').searchParams))
    server.post<{ Body: URLSearchParams | undefined }>('/api/v1/query', (request, reply) =>
      send(reply, request.body ?? new URLSearchParams()),
    )
    return server.listen({ host: '127.0.0.1', port: 0 })
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.close()
  }

  /** What /api/v1/query answers, but for outages that never get this far. */
  answer(params: URLSearchParams): { readonly status: number; readonly body: object } {
    let atMs: number
    let elements: Element[]
    try {
      const time = params.get('time')
      atMs = time === null ? this.#clock.now() : parseTime(time)
      elements = sortElements(this.#samples.evaluate(parseQuery(params.get('query') ?? ''), atMs))
    } catch (error) {
      if (!(error instanceof QueryError)) throw error
      return { status: 400, body: { status: 'error', errorType: 'bad_data', error: error.message } }
    }
    if (this.outage === 'empty') elements = []
    if (this.outage === 'half') elements = half(elements)
    const value = this.outage === 'nan' ? () => 'NaN' : formatValue
    const result = elements.map((element) => ({
      metric: element.labels,
      value: [atMs / 1000, value(element.value)],
    }))
    const warnings = ['fetch series: receive series from a store: unavailable']
    return {
      status: 200,
      body: {
        status: 'success',
        data: { resultType: 'vector', result },
        ...(this.outage === 'warning' && { warnings }),
      },
    }
  }
}
