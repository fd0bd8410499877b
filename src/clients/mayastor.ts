import type { Agent, Dispatcher } from 'undici'
import type { Json, JsonObject } from '../api/kubernetes.js'
import type {
  Capabilities,
  MayastorNode,
  MayastorPool,
  MayastorReplica,
  MayastorVolume,
  PoolCordon,
  Target,
  VolumeTopology,
} from '../api/mayastor.js'
import type { Clock } from '../clock.js'
import { authorizationOf, type CredentialSource, connections, noCredentials } from './credentials.js'

/**
 * What a failed call means for the one who sent it. `unsent`: it came too late and was not sent. `refused`: Mayastor
 * answered that it did not and will not do it. `unknown`: it may have been done, or may still be under way. `invalid`:
 * an answer that cannot be read.
 */
export type FailureKind = 'unsent' | 'refused' | 'unknown' | 'invalid'

/** A call to Mayastor that did not succeed. `message` says what was called and what came back. */
export class MayastorError extends Error {
  override readonly name = 'MayastorError'
  readonly failure: FailureKind
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined
  /** Mayastor's error kind, such as `FailedPrecondition`. */
  readonly kind: string | undefined
  readonly details: string | undefined

  constructor(
    message: string,
    fields: { failure: FailureKind; status?: number; kind?: string; details?: string; cause?: unknown },
  ) {
    super(message, 'cause' in fields ? { cause: fields.cause } : undefined)
    this.failure = fields.failure
    this.status = fields.status
    this.kind = fields.kind
    this.details = fields.details
  }
}

/** A call, when it is over: for metrics. */
export interface CallReport {
  readonly method: string
  /** Route with its parameters left out. */
  readonly route: string
  readonly outcome: 'ok' | FailureKind
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined
  readonly seconds: number
}

export interface MayastorOptions {
  /** `http://host:port`, with a path prefix if there is one. */
  readonly url: string
  readonly clock: Clock
  /** Default: none are shown, and the system's CAs are trusted. */
  readonly credentials?: CredentialSource
  /** For each call, in ms. Above Mayastor's own 5 s, so that its answer is usually seen. Default 6,000. */
  readonly timeoutMs?: number
  readonly onCall?: (report: CallReport) => void
  /** Carries the requests. Default: a pool of connections. */
  readonly transport?: Transport
}

/** Carries one request and brings its answer, whatever its status; rejects when none comes. */
export interface Transport {
  send(request: TransportRequest): Promise<{ readonly status: number; readonly text: string }>
  close(): Promise<void>
}

export interface TransportRequest {
  readonly method: Dispatcher.HttpMethod
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  readonly signal: AbortSignal
}

/**
 * The part of Mayastor's REST API that moves replicas. Reads are fresh, but for capabilities; nothing is retried. Every
 * call throws MayastorError when it does not succeed; writes that find things as wanted already say so through kind and
 * status. A write is sent by `sendBefore`, on the clock's monotonic scale, or not at all.
 */
export interface MayastorClient {
  /** All of them, each once; one that is created or deleted meanwhile may be missing. */
  volumes(): Promise<readonly MayastorVolume[]>
  /** Undefined: no such volume. */
  volume(uuid: string): Promise<MayastorVolume | undefined>
  pools(): Promise<readonly MayastorPool[]>
  nodes(): Promise<readonly MayastorNode[]>
  capabilities(): Promise<Capabilities>
  setReplicaCount(volume: string, count: number, sendBefore: number): Promise<void>
  /** Sets the `replicas` bit only. */
  cordonPool(pool: string, sendBefore: number): Promise<void>
  /** Clears the `replicas` bit only. */
  uncordonPool(pool: string, sendBefore: number): Promise<void>
  cordonNode(node: string, label: string, sendBefore: number): Promise<void>
  uncordonNode(node: string, label: string, sendBefore: number): Promise<void>
  close(): Promise<void>
}

const DEFAULT_TIMEOUT_MS = 6_000
/** The API description is large and changes only with an upgrade: asked for again after this long. */
const CAPABILITIES_MS = 60_000
/**
 * Volumes asked for at once: a page is parsed in milliseconds, while 10,000 in one answer keep the process busy for a
 * fifth of a second. A volume deleted meanwhile may make Mayastor repeat or skip another.
 */
const PAGE = 500
const REPLICAS_BIT = { replicas: true, snapshots: false, restores: false, import: false }

export function mayastorClient(options: MayastorOptions): MayastorClient {
  const base = options.url.replace(/\/+$/, '')
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const transport = options.transport ?? pooledTransport(options.credentials ?? noCredentials)
  const { clock } = options
  let capabilities: { readonly at: number; readonly value: Capabilities } | undefined

  async function call(
    method: Dispatcher.HttpMethod,
    route: string,
    parameters: readonly (string | number)[] = [],
    { body, sendBefore = Number.POSITIVE_INFINITY }: { body?: JsonObject; sendBefore?: number } = {},
  ): Promise<Json> {
    let index = 0
    const path = route.replace(/\{\w+\}/g, () => encodeURIComponent(String(parameters[index++])))
    const what = `${method} ${path}`
    const abort = new AbortController()
    const cancel = clock.after(timeoutMs, () => abort.abort())
    const startedAt = clock.monotonic()
    let outcome: CallReport['outcome'] = 'unknown'
    let status: number | undefined
    try {
      // The last thing before it leaves: this process may have been held up between any two lines above.
      if (startedAt > sendBefore) throw new MayastorError(`${what}: too late to be sent`, { failure: 'unsent' })
      const answer = await transport.send({
        method,
        url: `${base}/v0${path}`,
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: abort.signal,
      })
      status = answer.status
      const { text } = answer
      if (status >= 200 && status < 300) {
        outcome = 'ok'
        return text === '' ? null : (JSON.parse(text) as Json)
      }
      throw refusal(what, status, text)
    } catch (error) {
      const failure =
        error instanceof MayastorError
          ? error
          : error instanceof SyntaxError
            ? new MayastorError(`${what}: the answer is not JSON`, { failure: 'invalid', cause: error })
            : new MayastorError(
                abort.signal.aborted ? `${what}: no answer within ${timeoutMs} ms` : `${what}: no connection`,
                { failure: 'unknown', cause: error },
              )
      outcome = failure.failure
      throw failure
    } finally {
      cancel()
      options.onCall?.({ method, route, outcome, status, seconds: (clock.monotonic() - startedAt) / 1000 })
    }
  }

  const write = async (...parameters: Parameters<typeof call>): Promise<void> => {
    await call(...parameters)
  }

  return {
    volumes: async () => {
      const unique = new Map<string, MayastorVolume>()
      for (let token = 0; ; ) {
        const page = fields(await call('GET', '/volumes?max_entries={n}&starting_token={t}', [PAGE, token]), 'volumes')
        for (const entry of items(page['entries'], 'volumes.entries')) {
          const volume = readVolume(entry)
          unique.set(volume.uuid, volume)
        }
        const next = maybeNumber(page['next_token'])
        if (next === undefined || next <= token) return [...unique.values()]
        token = next
      }
    },
    volume: async (uuid) => {
      try {
        return readVolume(await call('GET', '/volumes/{id}', [uuid]))
      } catch (error) {
        if (error instanceof MayastorError && error.status === 404) return undefined
        throw error
      }
    },
    pools: async () => {
      const pools = items(await call('GET', '/pools'), 'pools').map(readPool)
      return [...new Map(pools.map((pool) => [pool.id, pool])).values()]
    },
    nodes: async () => {
      const nodes = items(await call('GET', '/nodes'), 'nodes').map(readNode)
      return [...new Map(nodes.map((node) => [node.id, node])).values()]
    },
    capabilities: async () => {
      const now = options.clock.monotonic()
      if (capabilities === undefined || now - capabilities.at > CAPABILITIES_MS) {
        const paths = fields(fields(await call('GET', '/api/spec'), 'api spec')['paths'], 'paths')
        const poolCordon = Object.keys(paths).some((path) => path.endsWith('/pools/{pool_id}/cordon'))
        capabilities = { at: now, value: { poolCordon } }
      }
      return capabilities.value
    },
    setReplicaCount: (volume, count, sendBefore) =>
      write('PUT', '/volumes/{id}/replica_count/{n}', [volume, count], { sendBefore }),
    cordonPool: (pool, sendBefore) => write('PUT', '/pools/{id}/cordon', [pool], { body: REPLICAS_BIT, sendBefore }),
    uncordonPool: (pool, sendBefore) =>
      write('DELETE', '/pools/{id}/cordon', [pool], { body: REPLICAS_BIT, sendBefore }),
    cordonNode: (node, label, sendBefore) => write('PUT', '/nodes/{id}/cordon/{label}', [node, label], { sendBefore }),
    uncordonNode: (node, label, sendBefore) =>
      write('DELETE', '/nodes/{id}/cordon/{label}', [node, label], { sendBefore }),
    close: () => transport.close(),
  }
}

/** One set of connections for all calls, opened with the first of them: the library takes its time to load. */
function pooledTransport(credentials: CredentialSource): Transport {
  const connect = async () => {
    const { Agent, request } = await import('undici')
    const pool = { connections: 16, pipelining: 1, keepAliveTimeout: 30_000 }
    const open = (ca: string | undefined) => new Agent({ ...pool, ...(ca === undefined ? {} : { connect: { ca } }) })
    return { agents: connections(open, (agent: Agent) => agent.close()), request }
  }
  let undici: ReturnType<typeof connect> | undefined
  return {
    send: async ({ method, url, headers, body, signal }) => {
      undici ??= connect()
      const { agents, request } = await undici
      const shown = credentials()
      const response = await request(url, {
        method,
        dispatcher: agents.trusting(shown.authorities),
        signal,
        headers: { ...authorizationOf(shown), ...headers },
        body: body ?? null,
      })
      return { status: response.statusCode, text: await response.body.text() }
    },
    close: async () => {
      if (undici !== undefined) await (await undici).agents.close()
    },
  }
}

/** No pool, no room, or too many rebuilds: the operation has ended without effect. */
const EXHAUSTED: ReadonlySet<string | undefined> = new Set(['ResourceExhausted', 'CapacityLimitExceeded'])

/** 4xx is Mayastor's word that it did nothing, but for 408; anything else may have been done, or be under way. */
function refusal(what: string, status: number, text: string): MayastorError {
  let body: JsonObject = {}
  try {
    body = fields(JSON.parse(text) as Json, 'error')
  } catch {
    // Not Mayastor's own error (a proxy's, say): the status alone has to do.
  }
  const kind = typeof body['kind'] === 'string' ? body['kind'] : undefined
  const details = typeof body['details'] === 'string' ? body['details'] : undefined
  const refused = status >= 400 && status < 500 ? status !== 408 : status === 507 && EXHAUSTED.has(kind)
  const failure = refused ? 'refused' : 'unknown'
  return new MayastorError(`${what}: HTTP ${status}${kind === undefined ? '' : ` ${kind}`}`, {
    failure,
    status,
    ...(kind === undefined ? {} : { kind }),
    ...(details === undefined ? {} : { details }),
  })
}

function readVolume(value: Json | undefined): MayastorVolume {
  const volume = fields(value, 'volume')
  const spec = fields(volume['spec'], 'volume.spec')
  const state = fields(volume['state'], 'volume.state')
  const uuid = string(spec['uuid'], 'volume.spec.uuid')
  const operation = optional(spec['operation'])
  const encrypted = spec['encrypted'] ?? spec['encryption']
  const target = readTarget(optional(state['target']))
  const replicas = Object.entries(optional(state['replica_topology']) ?? {}).map(([id, replica]) =>
    readReplica(id, fields(replica, `replica ${id} of volume ${uuid}`), target),
  )
  return {
    uuid,
    sizeBytes: number(spec['size'], 'volume.spec.size'),
    numReplicas: number(spec['num_replicas'], 'volume.spec.num_replicas'),
    lifecycle: string(spec['status'], 'volume.spec.status'),
    operation:
      operation === undefined || typeof operation['result'] === 'boolean'
        ? undefined
        : string(operation['operation'], 'volume.spec.operation.operation'),
    published: maybeString(optional(spec['target'])?.['protocol']) !== undefined,
    selfHeal: optional(spec['policy'])?.['self_heal'] === true,
    thin: spec['thin'] === true || spec['as_thin'] === true,
    snapshots: maybeNumber(spec['num_snapshots']) ?? 0,
    affinityGroup: maybeString(optional(spec['affinity_group'])?.['id']),
    encrypted: typeof encrypted === 'boolean' ? encrypted : undefined,
    clusterSize: maybeNumber(spec['cluster_size']),
    topology: readTopology(optional(spec['topology'])),
    state: string(state['status'], 'volume.state.status'),
    target,
    replicas: replicas.sort((a, b) => (a.uuid < b.uuid ? -1 : 1)),
  }
}

function readTarget(target: JsonObject | undefined): Target | undefined {
  if (target === undefined) return undefined
  return {
    node: string(target['node'], 'target.node'),
    nexus: string(target['uuid'], 'target.uuid'),
    state: string(target['state'], 'target.state'),
    children: items(target['children'], 'target.children').length,
  }
}

function readReplica(uuid: string, replica: JsonObject, target: Target | undefined): MayastorReplica {
  const state = string(replica['state'], `replica ${uuid} state`)
  const childState = maybeString(replica['child-status'])
  const rebuildPercent = maybeNumber(replica['rebuild-progress'])
  return {
    uuid,
    pool: maybeString(replica['pool']),
    node: maybeString(replica['node']),
    state,
    childState,
    childReason: maybeString(replica['child-status-reason']),
    rebuildPercent,
    allocatedBytes: maybeNumber(optional(replica['usage'])?.['allocated']) ?? 0,
    synced: target !== undefined && state === 'Online' && childState === 'Online' && rebuildPercent === undefined,
  }
}

function readTopology(topology: JsonObject | undefined): VolumeTopology {
  const node = optional(topology?.['node_topology'])
  const pool = optional(topology?.['pool_topology'])
  const allowed = optional(node?.['explicit'])?.['allowed_nodes']
  const labelled = optional(node?.['labelled'])
  return {
    poolLabels: labels(optional(pool?.['labelled'])?.['inclusion']),
    allowedNodes: Array.isArray(allowed) && allowed.length > 0 ? allowed.map(String) : undefined,
    nodeInclusion: labels(labelled?.['inclusion']),
    nodeExclusion: labels(labelled?.['exclusion']),
  }
}

function readPool(value: Json): MayastorPool {
  const pool = fields(value, 'pool')
  const id = string(pool['id'], 'pool.id')
  const spec = optional(pool['spec']) ?? {}
  const state = optional(pool['state']) ?? {}
  const cordonDrain = optional(spec['cordonDrain']) ?? optional(spec['cordon_drain']) ?? {}
  // While Mayastor drains a pool it keeps a cordon of somebody else inside the drain.
  const drain = optional(cordonDrain['drain'])
  const cordoned =
    optional(cordonDrain['cordoned']) ?? optional(drain?.['userCordon']) ?? optional(drain?.['user_cordon'])
  const encrypted = state['encrypted'] ?? spec['encrypted']
  return {
    id,
    node: string(spec['node'] ?? state['node'], `pool ${id} node`),
    status: maybeString(state['status']) ?? 'Unknown',
    capacityBytes: maybeNumber(state['capacity']) ?? 0,
    usedBytes: maybeNumber(state['used']) ?? 0,
    committedBytes: maybeNumber(state['committed']),
    labels: labels(spec['labels']),
    cordon: readCordon(cordoned ?? {}),
    draining: Object.keys(cordonDrain).some((key) => key !== 'cordoned' && cordonDrain[key] !== null),
    encrypted: typeof encrypted === 'boolean' ? encrypted : undefined,
    clusterSize: maybeNumber(state['clusterSize'] ?? state['cluster_size'] ?? spec['clusterSize']),
  }
}

function readCordon(bits: JsonObject): PoolCordon {
  const bit = (name: keyof PoolCordon) => bits[name] === true
  return { replicas: bit('replicas'), snapshots: bit('snapshots'), restores: bit('restores'), import: bit('import') }
}

function readNode(value: Json): MayastorNode {
  const node = fields(value, 'node')
  const id = string(node['id'], 'node.id')
  const spec = optional(node['spec']) ?? {}
  const state = optional(node['state']) ?? {}
  const cordons = Object.values(optional(spec['cordondrainstate']) ?? {}).map((entry) => optional(entry) ?? {})
  const named = (field: string) =>
    cordons.flatMap((entry) => (Array.isArray(entry[field]) ? (entry[field] as Json[]).map(String) : []))
  return {
    id,
    online: state['status'] === 'Online',
    version: maybeString(state['version'] ?? spec['version']),
    labels: labels(spec['labels']),
    cordonLabels: named('cordonlabels'),
    drainLabels: named('drainlabels'),
  }
}

function invalid(where: string, expected: string, value: Json | undefined): MayastorError {
  return new MayastorError(`Mayastor answered without ${where}: expected ${expected}, got ${JSON.stringify(value)}`, {
    failure: 'invalid',
  })
}

function fields(value: Json | undefined, where: string): JsonObject {
  const found = optional(value)
  if (found === undefined) throw invalid(where, 'an object', value)
  return found
}

function optional(value: Json | undefined): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined
}

function items(value: Json | undefined, where: string): readonly Json[] {
  if (!Array.isArray(value)) throw invalid(where, 'a list', value)
  return value
}

function string(value: Json | undefined, where: string): string {
  if (typeof value !== 'string' || value === '') throw invalid(where, 'a text', value)
  return value
}

function number(value: Json | undefined, where: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw invalid(where, 'a number', value)
  return value
}

const maybeString = (value: Json | undefined): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined

const maybeNumber = (value: Json | undefined): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined

function labels(value: Json | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(optional(value) ?? {}).map(([key, label]) => [key, String(label)]))
}
