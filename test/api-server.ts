import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { KubeConfig } from '@kubernetes/client-node'
import type { Test } from 'tap'
import { SimulatedClock } from '../src/embedded/clock.js'
import { ApiError, ObjectStore } from '../src/embedded/metacontroller/index.js'
import { NOW_MS } from './builders.js'

/** The HTTP side of a Kubernetes API server over an object store: what the operator and `explain` use of it. */

export interface Request {
  readonly method: string
  /** Without the query. */
  readonly path: string
  readonly verb: 'get' | 'list' | 'create' | 'update' | 'delete'
  /** Plural, such as `persistentvolumes`; empty for discovery. */
  readonly resource: string
  readonly namespace: string | undefined
  readonly name: string | undefined
}

export interface ApiServerOptions {
  /** Default: an empty one without any CRD. */
  readonly store?: ObjectStore
  /** Longest page of a list, whatever is asked for. Default 500. */
  readonly pageLimit?: number
  /** The bearer token that is accepted; undefined: none is asked for. */
  readonly token?: string
}

export interface ApiServer {
  readonly store: ObjectStore
  readonly url: string
  readonly requests: readonly Request[]
  /** Requests that are forbidden. */
  forbids: (request: Request) => boolean
  /** Answers in place of the server: an HTTP status, or `hang`. */
  instead: (request: Request) => number | 'hang' | undefined
  config(): KubeConfig
  /** As a kubeconfig file, with `namespace` in its only context. */
  kubeconfig(namespace?: string): string
}

const CODES = { NotFound: 404, AlreadyExists: 409, Conflict: 409, Invalid: 422, Unavailable: 503 } as const
const VERBS = { POST: 'create', PUT: 'update', DELETE: 'delete' } as const

export async function apiServer(t: Test, options: ApiServerOptions = {}): Promise<ApiServer> {
  const { pageLimit = 500, token } = options
  const store = options.store ?? new ObjectStore({ clock: new SimulatedClock(NOW_MS) })
  const requests: Request[] = []
  const server = createServer((request, response) => {
    answer(request, response).catch((error: Error) => status(response, 500, 'InternalError', error.message))
  })

  const answer = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(incoming.url ?? '', 'http://api')
    const route = routeOf(incoming.method ?? '', url.pathname)
    const { apiVersion, ...request } = route
    requests.push(request)
    if (token !== undefined && incoming.headers.authorization !== `Bearer ${token}`) {
      return status(response, 401, 'Unauthorized', 'Unauthorized')
    }
    const instead = self.instead(request)
    if (instead === 'hang') return
    if (instead !== undefined) return status(response, instead, 'InternalError', 'as the test wants it')
    if (url.pathname === '/apis' || url.pathname === '/apis/') return send(response, 200, groups(store))
    const served = servedBy(store, url.pathname)
    if (served !== undefined) return send(response, 200, served)
    const resource = store.resource(apiVersion, request.resource)
    if (resource === undefined) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found\n')
      return
    }
    const { namespace, name } = request
    if (self.forbids(request)) return forbidden(response, request, apiVersion)
    const { kind } = resource
    try {
      if (request.verb === 'list') {
        const all = store
          .list(apiVersion, kind)
          .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace)
        return send(response, 200, page(all, `${kind}List`, apiVersion, url.searchParams, pageLimit))
      }
      if (request.verb === 'create') return send(response, 201, store.create(await body(incoming), 'client'))
      const found = store.get({ apiVersion, kind, ...(namespace && { namespace }), name: name ?? '' })
      if (found === undefined) throw new ApiError('NotFound', `${request.resource} "${name}" not found`)
      if (request.verb === 'update') return send(response, 200, store.update(await body(incoming), 'client'))
      if (request.verb === 'delete') {
        store.delete(found, 'client')
        return send(response, 200, { kind: 'Status', status: 'Success' })
      }
      send(response, 200, found)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      status(response, CODES[error.reason], error.reason, error.message, { name, kind: request.resource })
    }
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const kubeconfig = (namespace?: string) =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'me', user: token === undefined ? {} : { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'me', ...(namespace && { namespace }) } }],
      'current-context': 'test',
    })
  const self: ApiServer = {
    store,
    url,
    requests,
    forbids: () => false,
    instead: () => undefined,
    config: () => {
      const config = new KubeConfig()
      config.loadFromString(kubeconfig())
      return config
    },
    kubeconfig,
  }
  return self
}

function routeOf(method: string, path: string): Request & { readonly apiVersion: string } {
  const [, group, version, namespace, resource = '', name] =
    /^\/(?:api|apis\/([^/]+))\/([^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?$/.exec(path) ?? []
  const verb = VERBS[method as keyof typeof VERBS] ?? (name === undefined ? 'list' : 'get')
  return { method, path, verb, resource, namespace, name, apiVersion: [group, version].filter(Boolean).join('/') }
}

function groups(store: ObjectStore): object {
  const versions = ['v1beta3', 'v1beta2', 'v1beta1']
    .filter((version) => store.resource(`openebs.io/${version}`, 'diskpools') !== undefined)
    .map((version) => ({ groupVersion: `openebs.io/${version}`, version }))
  const openebs = versions.length === 0 ? [] : [{ name: 'openebs.io', versions, preferredVersion: versions[0] }]
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: openebs }
}

/** The resources of a group version, as far as anybody asks for them: DiskPools. */
function servedBy(store: ObjectStore, path: string): object | undefined {
  const [, groupVersion = ''] = /^\/apis\/([^/]+\/[^/]+)\/?$/.exec(path) ?? []
  const pools = store.resource(groupVersion, 'diskpools')
  if (pools === undefined) return undefined
  const resources = [{ name: pools.resource, singularName: '', namespaced: true, kind: pools.kind, verbs: ['list'] }]
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources }
}

/** As the API server pages: an opaque token that says where to go on, and how many are left. */
function page(all: readonly object[], kind: string, apiVersion: string, query: URLSearchParams, most: number): object {
  const given = query.get('continue')
  const start = given === null || given === '' ? 0 : Number(Buffer.from(given, 'base64').toString())
  const limit = Math.min(most, Number(query.get('limit') ?? most) || most)
  const items = all.slice(start, start + limit)
  const left = all.length - start - items.length
  const next = Buffer.from(String(start + items.length)).toString('base64')
  const more = left > 0 ? { continue: next, remainingItemCount: left } : {}
  return { kind, apiVersion, metadata: { resourceVersion: '1', ...more }, items }
}

function forbidden(response: ServerResponse, { verb, resource, namespace, name }: Request, apiVersion: string): void {
  const group = apiVersion.includes('/') ? apiVersion.split('/')[0] : ''
  const where = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`
  const what = name === undefined ? resource : `${resource} "${name}"`
  const message = `${what} is forbidden: User "me" cannot ${verb} resource "${resource}" in API group "${group}" ${where}`
  status(response, 403, 'Forbidden', message, { name, group, kind: resource })
}

function status(response: ServerResponse, code: number, reason: string, message: string, details?: object): void {
  send(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, reason, details, code })
}

function send(response: ServerResponse, code: number, body: object): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

async function body(incoming: IncomingMessage): Promise<object> {
  let text = ''
  for await (const chunk of incoming) text += chunk
  return JSON.parse(text)
}
