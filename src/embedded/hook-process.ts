import type { FastifyInstance } from 'fastify'
import type { BaseLogger } from 'pino'
import { announcer } from '../announcer.js'
import type { DiskPoolVersion } from '../clients/diskpool-version.js'
import type { EventWriter } from '../clients/events.js'
import type { LeaseStore } from '../clients/leases.js'
import { type MayastorClient, mayastorClient, type Transport } from '../clients/mayastor.js'
import { type PrometheusClient, prometheusClient, readAnswer } from '../clients/prometheus.js'
import type { Clock } from '../clock.js'
import { customizePolicy, runPolicyHook } from '../decide/hook.js'
import type { PolicyOptions } from '../decide/policy.js'
import type { Metrics } from '../metrics.js'
import { inlinePolicyHooks } from '../policy-pool.js'
import { buildHookServer, type HookServerDeps } from '../server.js'
import { type TopologyHooks, topologyHooks } from '../step/drive.js'
import type { Network, SimulatedClock } from './clock.js'
import type { SimulatedMayastor } from './mayastor/index.js'
import type { Post } from './metacontroller/index.js'
import type { EmbeddedPrometheus } from './prometheus/server.js'

/** A request that leaves a process, for whoever wants to look at it or come between. */
export interface EdgeCall {
  readonly process: HookProcess
  readonly to: 'mayastor' | 'leases' | 'prometheus'
  /** `PUT /v0/pools/p/cordon`, the verb and name of a Lease, or the name of a query's signal. */
  readonly what: string
  /** What a Lease is to hold. */
  readonly data?: string
}

/** Sends the request, or does something else in its place. */
export type Edge = <T>(call: EdgeCall, send: () => Promise<T>) => Promise<T>

export interface ProcessOptions {
  /** Names it in the Leases. */
  readonly name: string
  readonly clock: SimulatedClock
  /** How far its wall clock is ahead, ms. Default 0. */
  readonly skewMs?: number
  readonly network: Network
  readonly mayastor: SimulatedMayastor
  readonly mayastorUrl: string
  readonly prometheus: EmbeddedPrometheus
  readonly prometheusUrl: string
  readonly leases: LeaseStore
  readonly events: EventWriter
  /** Which version of the DiskPool resource there is. */
  readonly diskPools: Pick<DiskPoolVersion, 'current'>
  readonly metrics: Metrics
  readonly log: HookServerDeps['log'] & BaseLogger
  readonly options: PolicyOptions
  readonly edge?: Edge
}

/**
 * One process of the operator in the embedded cluster: the real hook server and loop, with a clock, connections and
 * memory of its own, which can be held up or die between any two things it does to the outside.
 */
export class HookProcess {
  readonly name: string
  readonly #options: ProcessOptions
  readonly #clock: ProcessClock
  readonly #mayastor: MayastorClient
  readonly #topology: TopologyHooks
  readonly #server: FastifyInstance
  readonly #death = new AbortController()
  #resumed: Promise<void> | undefined
  #resume = () => {}

  constructor(options: ProcessOptions) {
    const { name, clock, skewMs = 0, network, mayastorUrl, prometheusUrl, leases, events, metrics, log } = options
    this.name = name
    this.#options = options
    this.#clock = new ProcessClock(clock, skewMs, () => this.#hold())
    const own = this.#clock
    this.#mayastor = mayastorClient({
      url: mayastorUrl,
      clock: network === 'loopback' ? clock.forCallers() : own,
      ...(network === 'loopback' ? {} : { transport: this.#transport() }),
    })
    this.#topology = topologyHooks({
      mayastor: this.#mayastor,
      leases: this.#leases(leases),
      clock: own,
      log,
      metrics,
      options: options.options,
      identity: name,
      events: announcer({ writer: events, log, metrics, task: (work) => clock.task(work) }),
      task: (work) => clock.task(work),
    })
    const prometheus =
      network === 'loopback'
        ? prometheusClient({ url: prometheusUrl, clock: clock.forCallers() })
        : this.#prometheus(options.prometheus)
    this.#server = buildHookServer({
      log,
      clock: own,
      metrics,
      policy: inlinePolicyHooks({ run: runPolicyHook, prometheus, clock: own, options: options.options }),
      customize: async (body) => customizePolicy(body, await options.diskPools.current()),
      topology: this.#topology,
    })
  }

  get alive(): boolean {
    return !this.#death.signal.aborted
  }

  get paused(): boolean {
    return this.#resumed !== undefined
  }

  /** Milliseconds since the epoch by its own clock. */
  get now(): number {
    return this.#clock.now()
  }

  /** Serves the hooks, over sockets on `port` (0: any), and starts the loop; the answer is the base URL. */
  async start(port: number): Promise<string> {
    const url =
      this.#options.network === 'memory'
        ? await this.#server.ready().then(() => 'http://operator')
        : await this.#server.listen({ host: '127.0.0.1', port })
    this.#topology.loop.start()
    return url
  }

  /** Stops as on SIGTERM: calls under way finish, which takes simulated time. */
  async stop(): Promise<void> {
    await Promise.all([this.#topology.loop.stop(), this.#server.close()])
    await this.#mayastor.close()
  }

  /** Dies as on SIGKILL: nothing of it happens any more, and whoever waits for it sees the connection break. */
  kill(): void {
    this.#death.abort(new Error('socket hang up'))
    this.#resume()
  }

  /** Is held up, as by SIGSTOP or a machine without time for it: neither timers nor answers reach it meanwhile. */
  pause(ms: number): void {
    if (this.#resumed !== undefined) return
    this.#resumed = new Promise((resolve) => {
      this.#resume = () => {
        this.#resumed = undefined
        resolve()
      }
    })
    this.#options.clock.after(ms, () => this.#resume())
  }

  /** Takes one hook call, without a socket. */
  readonly handle: Post = async ({ url, headers, body, signal }) => {
    const gone = AbortSignal.any([signal, this.#death.signal])
    gone.throwIfAborted()
    const answered = (async () => {
      await this.#hold()
      const response = await this.#server.inject({ method: 'POST', url, headers, payload: body, signal: gone })
      await this.#hold()
      const retryAfter = response.headers['retry-after']
      return {
        status: response.statusCode,
        retryAfter: retryAfter === undefined ? undefined : String(retryAfter),
        text: response.payload,
      }
    })()
    return until(gone, answered)
  }

  /** Passes while the process runs, waits while it is held up, and never comes back once it is dead. */
  async #hold(): Promise<void> {
    while (this.#resumed !== undefined && this.alive) await this.#resumed
    if (!this.alive) await new Promise<never>(() => {})
  }

  async #cross<T>(call: Omit<EdgeCall, 'process'>, send: () => Promise<T>): Promise<T> {
    const edge: Edge = this.#options.edge ?? ((_, pass) => pass())
    await this.#hold()
    const [answer] = await Promise.allSettled([edge({ ...call, process: this }, send)])
    await this.#hold()
    if (answer.status === 'rejected') throw answer.reason
    return answer.value
  }

  #transport(): Transport {
    const { mayastor } = this.#options
    return {
      send: ({ method, url, body, signal }) => {
        const path = new URL(url).href.slice(new URL(url).origin.length)
        const send = () => mayastor.inject({ method, path, body })
        return until(signal, this.#cross({ to: 'mayastor', what: `${method} ${path}` }, send))
      },
      close: async () => {},
    }
  }

  #leases(store: LeaseStore): LeaseStore {
    const cross = <T>(verb: keyof LeaseStore, name: string, data: string | undefined, send: () => Promise<T>) =>
      this.#cross({ to: 'leases', what: `${verb} ${name}`, ...(data === undefined ? {} : { data }) }, send)
    return {
      get: (name) => cross('get', name, undefined, () => store.get(name)),
      list: () => cross('list', '', undefined, () => store.list()),
      create: (lease) => cross('create', lease.name, lease.data, () => store.create(lease)),
      replace: (lease, version) => cross('replace', lease.name, lease.data, () => store.replace(lease, version)),
      remove: (name, version) => cross('remove', name, undefined, () => store.remove(name, version)),
    }
  }

  #prometheus(prometheus: EmbeddedPrometheus): PrometheusClient {
    return {
      signals: async (queries, atMs) => {
        const answers = queries.map(async ({ signal, query }) => {
          const ask = async () => {
            if (prometheus.outage === 'down') return { kind: 'failed', message: 'no connection' } as const
            if (prometheus.outage === '503') return readAnswer(signal, 503, undefined).answer
            const { status, body } = prometheus.answer(new URLSearchParams({ query, time: String(atMs / 1000) }))
            return readAnswer(signal, status, body).answer
          }
          return [signal, await this.#cross({ to: 'prometheus', what: signal }, ask)] as const
        })
        return new Map(await Promise.all(answers))
      },
    }
  }
}

/** The answer, unless the signal comes first. */
function until<T>(signal: AbortSignal, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** Simulated time as one process sees it: a wall clock of its own, and timers that do not run while it is held up. */
class ProcessClock implements Clock {
  readonly #clock: SimulatedClock
  readonly #skewMs: number
  readonly #hold: () => Promise<void>
  readonly #startedAt: number

  constructor(clock: SimulatedClock, skewMs: number, hold: () => Promise<void>) {
    this.#clock = clock
    this.#skewMs = skewMs
    this.#hold = hold
    this.#startedAt = clock.monotonic()
  }

  now(): number {
    return this.#clock.now() + this.#skewMs
  }

  monotonic(): number {
    return this.#clock.monotonic() - this.#startedAt
  }

  after(delayMs: number, fn: () => void): () => void {
    let cancelled = false
    const cancel = this.#clock.after(delayMs, () => {
      void this.#hold().then(() => {
        if (!cancelled) fn()
      })
    })
    return () => {
      cancelled = true
      cancel()
    }
  }
}
