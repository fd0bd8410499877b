import { Agent } from 'node:https'
import type { PrometheusDriver } from 'prometheus-query'
import { type Clock, systemClock } from '../clock.js'
import { authorizationOf, type CredentialSource, connections, noCredentials } from './credentials.js'

/** Prometheus's HTTP API, as far as deciding needs it: instant queries with one series per volume. */

/** Time for a query from connecting to the last byte, in ms. */
export const DEFAULT_TIMEOUT_MS = 10_000

/** Connections nobody uses are closed after this time, as those of Node's own agent are. */
const IDLE_MS = 5_000

/** Longest answer read, in bytes: 10,000 volumes need about 1.5 MB. Keeps a mistaken query from filling the memory. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

/**
 * Prometheus 2.48 and later remark on every rate() over a metric whose name does not end in `_total`, which is all of
 * Mayastor's. Prometheus 3 puts such remarks into `infos`; older ones and Thanos put them among the warnings. They say
 * nothing about completeness.
 */
const REMARK = 'PromQL info:'

export type QueryAnswer =
  | {
      readonly kind: 'ok'
      /** By `pv_name`; NaN where Prometheus sent NaN or an infinity. */
      readonly values: ReadonlyMap<string, number>
      /** Volumes for which the query returned more than one series. */
      readonly ambiguous: ReadonlySet<string>
      /** Series of the answer without the label `pv_name`. */
      readonly unlabelled: number
    }
  /** `message` is constant for each cause, so that it can stand in a status. */
  | { readonly kind: 'failed' | 'partial'; readonly message: string }

export const QUERY_OUTCOMES = ['ok', 'warning', 'http_error', 'timeout', 'unreachable', 'invalid'] as const
export type QueryOutcome = (typeof QUERY_OUTCOMES)[number]

/** One query, when it is over: for metrics and logs. */
export interface QueryReport {
  readonly signal: string
  readonly outcome: QueryOutcome
  /** HTTP status, where that is the failure. */
  readonly status?: number
  readonly seconds: number
  /** What Prometheus or the network said, in its own words. Absent when all went well. */
  readonly detail?: string
}

export interface PrometheusOptions {
  /** Base address, with a path prefix if there is one: `http://prometheus.monitoring:9090/prefix`. */
  readonly url: string
  /** Default: none are shown, and the system's CAs are trusted. */
  readonly credentials?: CredentialSource
  /** One more header, such as the one that names a tenant. */
  readonly header?: { readonly name: string; readonly value: string }
  /** For each query, from connecting to the last byte, in ms. Default 10,000. */
  readonly timeoutMs?: number
  readonly onQuery?: (report: QueryReport) => void
  readonly clock?: Clock
}

export interface PrometheusClient {
  /**
   * Asks all queries at once, evaluated at `atMs` (milliseconds since the epoch, above zero). Every query has an
   * answer in the result: what Prometheus or the network does is never an exception.
   */
  signals<S extends string>(
    queries: readonly { readonly signal: S; readonly query: string }[],
    atMs: number,
  ): Promise<ReadonlyMap<S, QueryAnswer>>
}

interface Reading {
  readonly outcome: QueryOutcome
  readonly status?: number
  readonly answer: QueryAnswer
  readonly detail?: string
}

const failed = (outcome: QueryOutcome, message: string, detail?: string): Reading => ({
  outcome,
  answer: { kind: 'failed', message },
  ...(detail !== undefined && { detail }),
})

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

function readVector(series: readonly unknown[]): QueryAnswer | undefined {
  const values = new Map<string, number>()
  const ambiguous = new Set<string>()
  let unlabelled = 0
  for (const one of series) {
    if (!isObject(one) || !isObject(one['metric']) || !Array.isArray(one['value'])) return undefined
    const text: unknown = one['value'][1]
    if (typeof text !== 'string' || text === '') return undefined
    const pvName = one['metric']['pv_name']
    if (typeof pvName !== 'string') {
      unlabelled++
      continue
    }
    if (values.has(pvName)) ambiguous.add(pvName)
    // "NaN", "+Inf" and "-Inf" all become NaN: none of them is a measurement.
    values.set(pvName, Number(text))
  }
  return { kind: 'ok', values, ambiguous, unlabelled }
}

/** What an answer of `/api/v1/query` says; `status` and parsed `body` of HTTP. */
export function readAnswer(signal: string, status: number, body: unknown): Reading {
  const said = isObject(body) ? body : {}
  if (status !== 200) {
    const detail = typeof said['error'] === 'string' ? said['error'] : undefined
    // These two are about the query itself; which of them is refused does not change from one time to the next.
    const query = status === 400 || status === 422 ? ` to the query for ${signal}` : ''
    return { ...failed('http_error', `Prometheus answered HTTP ${status}${query}.`, detail), status }
  }
  const data = said['data']
  if (said['status'] !== 'success' || !isObject(data) || !Array.isArray(data['result'])) {
    return failed('invalid', 'Prometheus answered with something that is not a query result.')
  }
  if (data['resultType'] !== 'vector') {
    return failed('invalid', `The query for ${signal} returned something else than one series per volume.`)
  }
  const warnings = Array.isArray(said['warnings']) ? said['warnings'].map(String) : []
  const warning = warnings.find((text) => !text.startsWith(REMARK))
  if (warning !== undefined) {
    const message = 'Prometheus answered with a warning, so the answer may be partial.'
    return { outcome: 'warning', answer: { kind: 'partial', message }, detail: warning }
  }
  const answer = readVector(data['result'])
  if (answer === undefined) return failed('invalid', 'Prometheus answered with something that is not a query result.')
  return { outcome: 'ok', answer }
}

export function prometheusClient(options: PrometheusOptions): PrometheusClient {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const clock = options.clock ?? systemClock
  const { credentials = noCredentials, header } = options
  const agents = connections(
    (ca) => (ca === undefined ? undefined : new Agent({ keepAlive: true, timeout: IDLE_MS, ca })),
    // A query may still be under way; what is idle closes by itself.
    async () => {},
  )

  /**
   * The library builds the request; the answer is read before it gets to it and handed through as a scalar, which it
   * returns untouched. Left alone it looks for warnings where there are none (beside the body instead of in it), loses
   * the status of an error page, takes a "status": "error" for a bug of its own, measures idle time only, and wraps
   * each series in five objects, which for 10,000 volumes doubles the CPU time of an answer (measured).
   */
  const connect = async (signal: string, abort: AbortSignal): Promise<PrometheusDriver> => {
    // 70 ms to load, so only when there is something to ask.
    const { PrometheusDriver } = await import('prometheus-query')
    return new PrometheusDriver({
      endpoint: options.url,
      timeout: timeoutMs,
      requestInterceptor: {
        onFulfilled: (config) => {
          config.signal = abort
          config.maxContentLength = MAX_ANSWER_BYTES
          config.validateStatus = () => true
          // As the operator's other clients do: HTTP_PROXY and the like have no say in where a cluster's services are.
          config.proxy = false
          // Where credentials are shown is not for an answer to decide.
          config.maxRedirects = 0
          const shown = credentials()
          const agent = agents.trusting(shown.authorities)
          if (agent !== undefined) config.httpsAgent = agent
          config.headers.set(authorizationOf(shown))
          if (header !== undefined) config.headers.set(header.name, header.value)
          return config
        },
      },
      responseInterceptor: {
        onFulfilled: (response) => {
          const result = readAnswer(signal, response.status, response.data)
          response.data = { status: 'success', data: { resultType: 'scalar', result } }
          return response
        },
      },
    })
  }

  const ask = async (signal: string, query: string, atMs: number): Promise<Reading> => {
    const abort = new AbortController()
    const driver = await connect(signal, abort.signal)
    const cancel = clock.after(timeoutMs, () => abort.abort())
    try {
      const { result } = await driver.instantQuery(query, atMs)
      return result as unknown as Reading
    } catch (error) {
      const detail = isObject(error) && typeof error['error'] === 'string' ? error['error'] : String(error)
      const late = abort.signal.aborted || (isObject(error) && error['errorType'] === 'timeout_error')
      if (late) return failed('timeout', 'Prometheus did not answer in time.', detail)
      // Axios has a code of its own for this, but uses it for broken connections as well.
      if (detail.startsWith('maxContentLength'))
        return failed('invalid', 'The answer of Prometheus was too long.', detail)
      return failed('unreachable', 'Prometheus could not be reached.', detail)
    } finally {
      cancel()
    }
  }

  return {
    async signals(queries, atMs) {
      const answers = await Promise.all(
        queries.map(async ({ signal, query }) => {
          const startMs = clock.monotonic()
          const { answer, ...how } = await ask(signal, query, atMs)
          const seconds = (clock.monotonic() - startMs) / 1000
          options.onQuery?.({ signal, seconds, ...how })
          return [signal, answer] as const
        }),
      )
      return new Map(answers)
    },
  }
}
