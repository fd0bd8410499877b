import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'
import type { Clock } from './clock.js'
import type { Address } from './config.js'

export const DEPENDENCIES = ['prometheus', 'mayastor', 'kubernetes'] as const
export type Dependency = (typeof DEPENDENCIES)[number]

/** `starting` until the hooks are served, `stopping` from the first signal on. */
export type Phase = 'starting' | 'ready' | 'stopping'

/** What /readyz tells. Nothing is probed for it: callers report how their own calls went. */
export interface Health {
  phase(): Phase
  enter(phase: Phase): void
  /** A call to a dependency got an answer, or did not. */
  observe(dependency: Dependency, reachable: boolean): void
  /** `reachable` undefined: not asked yet. `ageSeconds`: since it was last asked. */
  dependencies(): Record<Dependency, { reachable?: boolean; ageSeconds?: number }>
}

export function createHealth(clock: Clock): Health {
  let phase: Phase = 'starting'
  const seen = new Map<Dependency, { reachable: boolean; at: number }>()
  const state = (dependency: Dependency) => {
    const last = seen.get(dependency)
    if (last === undefined) return {}
    return { reachable: last.reachable, ageSeconds: Math.floor((clock.monotonic() - last.at) / 1000) }
  }
  return {
    phase: () => phase,
    enter: (next) => {
      phase = next
    },
    observe: (dependency, reachable) => {
      seen.set(dependency, { reachable, at: clock.monotonic() })
    },
    dependencies: () => ({
      prometheus: state('prometheus'),
      mayastor: state('mayastor'),
      kubernetes: state('kubernetes'),
    }),
  }
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
