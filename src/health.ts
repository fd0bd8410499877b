import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'
import { formatTime } from './api/time.js'
import type { CallReport } from './clients/mayastor.js'
import type { QueryReport } from './clients/prometheus.js'
import type { Clock } from './clock.js'
import type { Address } from './config.js'

export const DEPENDENCIES = ['prometheus', 'mayastor', 'kubernetes'] as const
export type Dependency = (typeof DEPENDENCIES)[number]

/** `starting` until the hooks are served, `stopping` from the first signal on. */
export type Phase = 'starting' | 'ready' | 'stopping'

/** What /readyz tells of a dependency. */
export interface DependencyState {
  /** Undefined: not asked yet. */
  readonly reachable?: boolean
  /** Why it is not, in a few words. */
  readonly why?: string
  /** When it was first found to be so, after it had been reachable or had not been asked. */
  readonly since?: string
  /** Since it was last asked. */
  readonly ageSeconds?: number
}

/** Nothing is probed for it: callers report how their own calls went. */
export interface Health {
  phase(): Phase
  enter(phase: Phase): void
  /** A call got an answer that can be used, or a `problem` came in its place. */
  observe(dependency: Dependency, problem: string | undefined): void
  dependencies(): Record<Dependency, DependencyState>
}

interface Seen {
  readonly problem: string | undefined
  /** Milliseconds since the epoch; where there is a problem. */
  readonly since: number
  /** By the monotonic clock. */
  readonly at: number
}

export function createHealth(clock: Clock): Health {
  let phase: Phase = 'starting'
  const seen = new Map<Dependency, Seen>()
  const state = (dependency: Dependency): DependencyState => {
    const last = seen.get(dependency)
    if (last === undefined) return {}
    const ageSeconds = Math.floor((clock.monotonic() - last.at) / 1000)
    if (last.problem === undefined) return { reachable: true, ageSeconds }
    return { reachable: false, why: last.problem, since: formatTime(last.since), ageSeconds }
  }
  return {
    phase: () => phase,
    enter: (next) => {
      phase = next
    },
    observe: (dependency, problem) => {
      const before = seen.get(dependency)
      const since = before?.problem === undefined ? clock.now() : before.since
      seen.set(dependency, { problem, since, at: clock.monotonic() })
    },
    dependencies: () => ({
      prometheus: state('prometheus'),
      mayastor: state('mayastor'),
      kubernetes: state('kubernetes'),
    }),
  }
}

/** What a query says about Prometheus itself: a query that it refuses (400, 422) is the fault of the query. */
export function prometheusProblem({ outcome, status }: Pick<QueryReport, 'outcome' | 'status'>): string | undefined {
  switch (outcome) {
    case 'ok':
    case 'warning':
      return undefined
    case 'http_error':
      return status === 400 || status === 422 ? undefined : `HTTP ${status}`
    case 'timeout':
      return 'no answer in time'
    case 'unreachable':
      return 'no connection'
    case 'invalid':
      return 'what answers is not Prometheus'
  }
}

/** What a call says about Mayastor itself: most refusals are about what was asked for. */
export function mayastorProblem({ outcome, status }: Pick<CallReport, 'outcome' | 'status'>): string | undefined {
  if (outcome === 'invalid') return 'what answers is not Mayastor'
  if (outcome === 'unknown' || status === 401 || status === 403) {
    return status === undefined ? 'no answer' : `HTTP ${status}`
  }
  return undefined
}

/** A server that listens. */
export interface Listening {
  readonly address: Address
  /** Stops listening and cuts the connections that are still open. */
  close(): Promise<void>
}

/**
 * /healthz: 200 as long as the process can answer. /readyz: 200 while hooks are served, whatever the dependencies do:
 * without them the hooks still answer, and taking the operator out of service would not bring them back.
 * Rejects when it cannot listen.
 */
export function serveHealth(address: Address, health: Health): Promise<Listening> {
  return serve(address, {
    '/healthz': async (response) => send(response, 200, 'text/plain; charset=utf-8', 'ok\n'),
    '/readyz': async (response) => {
      const status = health.phase()
      const body = JSON.stringify({ status, dependencies: health.dependencies() })
      send(response, status === 'ready' ? 200 : 503, 'application/json', `${body}\n`)
    },
  })
}

/** /metrics in Prometheus' text format. Rejects when it cannot listen. */
export function serveMetrics(address: Address, registry: Registry): Promise<Listening> {
  return serve(address, {
    '/metrics': async (response) => send(response, 200, registry.contentType, await registry.metrics()),
  })
}

type Route = (response: ServerResponse) => Promise<void>

function serve(address: Address, routes: Readonly<Record<string, Route>>): Promise<Listening> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?', 1)[0] as string
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined
    if (route === undefined) return send(response, 404, 'text/plain; charset=utf-8', 'not found\n')
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD')
      return send(response, 405, 'text/plain; charset=utf-8', 'method not allowed\n')
    }
    route(response).catch(() => send(response, 500, 'text/plain; charset=utf-8', 'internal error\n'))
  })
  return listen(server, address)
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) })
  response.end(body)
}

function listen(server: Server, { host, port }: Address): Promise<Listening> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.removeListener('error', reject)
      resolve({
        address: { host, port: (server.address() as AddressInfo).port },
        close: () =>
          new Promise<void>((closed) => {
            server.close(() => closed())
            server.closeAllConnections()
          }),
      })
    })
  })
}
