import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { cordonNode, drainNode, labelPool, setPoolCordon, uncordonNode, unlabelPool } from './cordon.js'
import type { MayastorEvent } from './event.js'
import { type Failure, type FailureKind, failure, notFound, precondition, statusOf } from './failure.js'
import type { Call, CallFault } from './faults.js'
import { type Cluster, cordonBits, type Volume } from './model.js'
import { removeChild } from './nexus.js'
import type { Body, Operation, Operations } from './operations.js'
import { drainPool, releaseDrain } from './pool-drain.js'
import { destroyReplica } from './replicas.js'
import { setReplicaCount } from './set-replica.js'
import { isReportedOnline, reportedNexus } from './view.js'
import * as wire from './wire.js'

/** A mutating request as it arrived; `status` is there once it was answered. */
export interface Write {
  readonly at: number
  readonly method: string
  readonly path: string
  readonly body?: unknown
  status?: number
}

export interface Backend {
  readonly cluster: Cluster
  readonly operations: Operations
  readonly writes: Write[]
  /** False while the core agent restarts. */
  readonly isUp: () => boolean
}

/** The effect of a mutating request on the core, and the answer when it succeeded (undefined: 204, no body). */
interface Change {
  readonly operation: string
  readonly volume?: string
  readonly body: Body
  readonly answer: () => object | undefined
}

type Params = Record<string, string>
type Query = Record<string, string | undefined>

export function buildRest(backend: Backend): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true, exposeHeadRoutes: false, routerOptions: { maxParamLength: 2000 } })
  // The bodies of writes are optional, and a DELETE may have one.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    done(null, body === '' ? undefined : body)
  })
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).send())
  reads(app, backend)
  writes(app, backend)
  return app
}

function sendFailure(reply: FastifyReply, { kind, message, details }: Failure): FastifyReply {
  return reply.code(statusOf(kind)).send({ details, message, kind })
}

function reads(app: FastifyInstance, { cluster, isUp }: Backend): void {
  const { listing } = cluster
  const read = (path: string, answer: (params: Params, query: Query) => object | Failure) => {
    app.get(`/v0${path}`, async (request, reply) => {
      const result = isUp() ? answer(request.params as Params, request.query as Query) : unavailable
      return isFailure(result) ? sendFailure(reply, result) : reply.send(result)
    })
  }
  app.get('/v0/api/spec', async () => wire.apiSpecJson(cluster))

  read('/volumes', (_params, query) => {
    const max = wholeNumber(query['max_entries'])
    const from = wholeNumber(query['starting_token'] ?? '0')
    if (max === undefined || from === undefined) {
      return badRequest('Deserialize', 'Query deserialize error: missing or invalid field `max_entries`')
    }
    const id = query['volume_id']
    if (id !== undefined) {
      const volume = cluster.volumes.get(id)
      return { entries: volume === undefined ? [] : [wire.volumeJson(cluster, volume)] }
    }
    const to = max === 0 ? listing.length : from + max
    const page = listing.slice(from, to).flatMap((uuid) => cluster.volumes.get(uuid) ?? [])
    const entries = page.map((volume) => wire.volumeJson(cluster, volume))
    return to < listing.length ? { entries, next_token: to } : { entries }
  })
  read('/volumes/:id', ({ id = '' }) => {
    const volume = cluster.volumes.get(id)
    return volume === undefined ? notFound('Volume', id) : wire.volumeJson(cluster, volume)
  })
  read('/volumes/:id/rebuild-history', ({ id = '' }) => {
    const volume = cluster.volumes.get(id)
    if (volume === undefined) return notFound('Volume', id)
    if (volume.target === undefined) return precondition('VolumeNotPublished', `Volume '${id}' not published`)
    return wire.rebuildHistoryJson(volume) ?? notFound('RebuildHistory', id)
  })
  read('/pools', (_params, query) => {
    const id = query['volume_id']
    const pools = [...cluster.pools.values()]
    const wanted = id === undefined ? pools : pools.filter((p) => [...p.replicas].some((r) => r.owner?.uuid === id))
    return wanted.map((pool) => wire.poolJson(cluster, pool))
  })
  read('/pools/:id', ({ id = '' }) => {
    const pool = cluster.pools.get(id)
    return pool === undefined ? notFound('Pool', id) : wire.poolJson(cluster, pool)
  })
  if (cluster.atLeast(2, 13)) {
    read('/pools/:id/drain', ({ id = '' }) => {
      const pool = cluster.pools.get(id)
      return pool === undefined
        ? notFound('Pool', id)
        : (wire.poolDrainJson(cluster, pool) ?? notFound('PoolDrain', id))
    })
  }
  read('/nodes', () => [...cluster.nodes.values()].map(wire.nodeJson))
  read('/nodes/:id', ({ id = '' }) => {
    const node = cluster.nodes.get(id)
    return node === undefined ? notFound('Node', id) : wire.nodeJson(node)
  })
  read('/nexuses', () =>
    [...cluster.volumes.values()].flatMap((volume) => {
      const nexus = reportedNexus(cluster, volume)
      return nexus === undefined ? [] : [wire.nexusJson(cluster, volume, nexus)]
    }),
  )
  // Those the io-engines report; what is only recorded is under /specs.
  read('/replicas', () => [...cluster.replicas.values()].filter(isReportedOnline).map(wire.replicaJson))
  read('/replicas/:id', ({ id = '' }) => {
    const replica = cluster.replicas.get(id)
    return replica !== undefined && isReportedOnline(replica) ? wire.replicaJson(replica) : notFound('Replica', id)
  })
  read('/specs', () => ({
    nexuses: [],
    pools: [...cluster.pools.values()].map((pool) => wire.poolSpecJson(cluster, pool)),
    replicas: [...cluster.replicas.values()].map(wire.replicaSpecJson),
    volumes: [...cluster.volumes.values()].map((volume) => wire.volumeSpecJson(cluster, volume)),
  }))
}

const unavailable: Failure = failure('Unavailable', 'Unavailable', 'The core agent is not available')

/** The REST server's own refusal. */
function badRequest(kind: FailureKind, message: string): Failure {
  return { kind, message, details: '' }
}

function isFailure(result: object): result is Failure {
  return 'kind' in result && 'details' in result
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
}

function writes(app: FastifyInstance, backend: Backend): void {
  const { cluster, operations } = backend
  const write = (
    method: 'PUT' | 'DELETE',
    path: string,
    change: (params: Params, body: unknown, query: Query) => Change | Failure,
  ) => {
    app.route({
      method,
      url: `/v0${path}`,
      handler: (request, reply) => serveWrite(backend, request, reply, change),
    })
  }

  write('PUT', '/volumes/:volume/replica_count/:count', ({ volume = '', count = '' }) => {
    const wanted = wholeNumber(count)
    if (wanted === undefined || wanted > 255) {
      return badRequest('InvalidArgument', `Path deserialize error: can not parse '${count}' to a u8`)
    }
    return {
      operation: 'SetReplica',
      volume,
      body: (operation) => setReplicaCount(cluster, operations, operation, volume, wanted),
      answer: () => wire.volumeJson(cluster, cluster.volumes.get(volume) as Volume),
    }
  })

  for (const method of ['PUT', 'DELETE'] as const) {
    write(method, '/nodes/:node/cordon/:label', ({ node: id = '', label = '' }) => {
      const node = cluster.nodes.get(id)
      if (node === undefined) return notFound('Node', id)
      return oneStep(
        'cordon',
        () => (method === 'PUT' ? cordonNode(cluster, id, label) : uncordonNode(cluster, id, label)),
        () => wire.nodeJson(node),
      )
    })
    if (!cluster.atLeast(2, 10)) continue
    write(method, '/pools/:pool/cordon', ({ pool: id = '' }, body) => {
      const pool = cluster.pools.get(id)
      if (pool === undefined) return notFound('Pool', id)
      if (typeof body !== 'object' || body === null) {
        return badRequest('Deserialize', 'Json deserialize error: a cordon needs a body')
      }
      const flags = body as Record<string, unknown>
      const bits = cordonBits.filter((bit) => flags[bit] === true)
      const releases = method === 'DELETE' && flags['drain'] === true && cluster.atLeast(2, 13)
      return oneStep(
        'cordon',
        () => (releases ? releaseDrain(cluster, pool) : setPoolCordon(cluster, pool, bits, method === 'PUT')),
        () => wire.poolJson(cluster, pool),
      )
    })
  }
  write('PUT', '/nodes/:node/drain/:label', ({ node: id = '', label = '' }) => {
    const node = cluster.nodes.get(id)
    if (node === undefined) return notFound('Node', id)
    return oneStep(
      'drain',
      () => drainNode(cluster, id, label),
      () => wire.nodeJson(node),
    )
  })

  if (cluster.atLeast(2, 13)) {
    write('PUT', '/pools/:pool/drain', ({ pool: id = '' }, body) => {
      const pool = cluster.pools.get(id)
      if (pool === undefined) return notFound('Pool', id)
      const acceptsLoss = (body as { acceptSnapshotLoss?: unknown } | undefined)?.acceptSnapshotLoss === true
      return oneStep(
        'drain',
        () => drainPool(cluster, pool, acceptsLoss),
        () => wire.poolJson(cluster, pool),
      )
    })
  }

  if (cluster.atLeast(2, 7, 1)) {
    write('PUT', '/pools/:pool/label/:assignment', ({ pool: id = '', assignment = '' }, _body, query) => {
      const pool = cluster.pools.get(id)
      if (pool === undefined) return notFound('Pool', id)
      const [key = '', ...rest] = assignment.split('=')
      const set = () => labelPool(cluster, pool, key, rest.join('='), query['overwrite'] === 'true')
      return oneStep('label', set, () => wire.poolJson(cluster, pool))
    })
    write('DELETE', '/pools/:pool/label/:key', ({ pool: id = '', key = '' }) => {
      const pool = cluster.pools.get(id)
      if (pool === undefined) return notFound('Pool', id)
      return oneStep(
        'label',
        () => unlabelPool(cluster, pool, key),
        () => wire.poolJson(cluster, pool),
      )
    })
  }

  // What nobody owns any more may be deleted by hand.
  const deleteReplica = ({ replica: id = '' }: Params): Change | Failure => {
    const replica = cluster.replicas.get(id)
    if (replica === undefined) return notFound('Replica', id)
    if (replica.owner !== undefined) return inUse('Replica', id)
    return oneStep(
      'destroy replica',
      () => destroyReplica(cluster, replica, 'person'),
      () => undefined,
    )
  }
  write('DELETE', '/pools/:pool/replicas/:replica', deleteReplica)
  write('DELETE', '/nodes/:node/pools/:pool/replicas/:replica', deleteReplica)
  write('DELETE', '/nexuses/:nexus', ({ nexus: id = '' }) =>
    volumeOfNexus(cluster, id) === undefined ? notFound('Nexus', id) : inUse('Nexus', id),
  )
  // Allowed although a volume owns the nexus, and it forgets to clear the nexus from the replica's owners.
  write('DELETE', '/nexuses/:nexus/children/*', ({ nexus: id = '', '*': uri = '' }, _body, query) => {
    const volume = volumeOfNexus(cluster, id)
    const uuid = query['uuid'] ?? /[?&]uuid=([^&]+)/.exec(uri)?.[1]
    const child = volume?.nexus?.children.find((c) => c.replica.uuid === uuid)
    if (volume === undefined || child === undefined) return notFound('Child', uri)
    return oneStep(
      'remove child',
      () => removeChild(cluster, volume, child.replica, 'person', true),
      () => undefined,
    )
  })
}

function inUse(what: string, id: string): Failure {
  return failure('InUse', 'InUse', `${what} Resource id ${id} is still in use`, `id: ${id}`)
}

function volumeOfNexus(cluster: Cluster, nexus: string): Volume | undefined {
  return [...cluster.volumes.values()].find((volume) => volume.target?.nexus === nexus)
}

/** A change that happens at one instant, a step's time after it was asked for. */
function oneStep(operation: string, apply: () => Failure | undefined, answer: () => object | undefined): Change {
  return {
    operation,
    answer,
    *body() {
      yield { step: operation }
      return apply()
    },
  }
}

/**
 * Serves one mutating request. Its effect belongs to the core and goes on in simulated time whatever becomes of the
 * caller; the handler only waits for it, for as long as the REST server's own timeout lets it.
 */
async function serveWrite(
  { cluster, operations, writes: log, isUp }: Backend,
  request: FastifyRequest,
  reply: FastifyReply,
  toChange: (params: Params, body: unknown, query: Query) => Change | Failure,
): Promise<unknown> {
  const { clock, faults, settings } = cluster
  const path = request.url.split('?')[0] ?? request.url
  const body = parseBody(request.body)
  const entry: Write = { at: clock.now(), method: request.method, path, ...(body === undefined ? {} : { body }) }
  log.push(entry)
  const params = request.params as Params
  const about = {
    by: 'person',
    method: request.method,
    path,
    ...(params['volume'] === undefined ? {} : { volume: params['volume'] }),
    ...(body === undefined ? {} : { body }),
  } satisfies Omit<MayastorEvent, 'at' | 'kind'>
  cluster.emit('rest-received', about)

  const closed = new AbortController()
  reply.raw.on('close', () => closed.abort())
  const call: Call = { method: request.method, path, volume: params['volume'], body, count: log.length }
  const fault = faults.ofCall(call)

  const lose = (): unknown => {
    cluster.emit('rest-lost', about)
    reply.hijack()
    request.raw.socket.destroy()
    return reply
  }
  const answer = (status: number, content: object | undefined): unknown => {
    if (closed.signal.aborted) return lose()
    entry.status = status
    cluster.emit('rest-answered', { ...about, status })
    return reply.code(status).send(content)
  }
  const fail = ({ kind, message, details }: Failure) => answer(statusOf(kind), { details, message, kind })
  /** Puts a fault's answer in place of the real one; undefined when the fault leaves the answer alone. */
  const fake = ({ answer: instead, drop }: CallFault): (() => unknown) | undefined => {
    if (drop) return lose
    if (instead === undefined) return undefined
    const { status, kind, details } = instead
    return () => answer(status, { details, message: details, kind })
  }
  const delay = async (ms = 0): Promise<void> => {
    if (ms > 0) await clock.sleep(ms, closed.signal)
  }

  if (fault?.when === 'before') {
    const instead = fake(fault)
    if (instead !== undefined) {
      await delay(fault.delayMs)
      return instead()
    }
  }
  const begun: { refused?: Failure; change?: Change; operation?: Operation } = {}
  const begin = () => {
    const change = isUp() ? toChange(params, body, request.query as Query) : unavailable
    if ('kind' in change) {
      begun.refused = change
      return
    }
    const by = change.volume === undefined ? 'person' : 'set-replica'
    begun.change = change
    begun.operation = operations.start(change.operation, change.volume, by, change.body)
  }
  const heldUpMs = fault?.when === 'before' ? (fault.delayMs ?? 0) : 0
  if (heldUpMs > 0) cluster.after(heldUpMs, begin)
  else begin()
  if (begun.refused !== undefined) return fail(begun.refused)

  if (fault?.when === 'during') {
    await delay(fault.delayMs)
    const instead = fake(fault)
    if (instead !== undefined) return instead()
  }
  const deadline = entry.at + settings.restTimeoutMs
  await delay(Math.min(heldUpMs, settings.restTimeoutMs))
  while (begun.operation?.done === false && clock.now() < deadline && !closed.signal.aborted) {
    await untilStep(begun.operation, deadline - clock.now())
  }
  async function untilStep(running: Operation, ms: number): Promise<void> {
    const stepped = new AbortController()
    const unwatch = running.watch(() => stepped.abort())
    await clock.sleep(ms, AbortSignal.any([closed.signal, stepped.signal]))
    unwatch()
    // A turn of the event loop between two sleeps: simulated time must not wait for this task while it sleeps on.
    await new Promise((resolve) => setImmediate(resolve))
  }

  if (closed.signal.aborted) return lose()
  if (begun.refused !== undefined) return fail(begun.refused)
  const { change, operation } = begun
  if (change === undefined || operation === undefined || !operation.done) {
    return fail(badRequest('Timeout', `Request timed out after ${settings.restTimeoutMs} ms`))
  }
  if (fault?.when === 'after') {
    await delay(fault.delayMs)
    const instead = fake(fault)
    if (instead !== undefined) return instead()
  }
  if (operation.failure !== undefined) return fail(operation.failure)
  const content = change.answer()
  return answer(content === undefined ? 204 : 200, content)
}

function parseBody(body: unknown): unknown {
  if (typeof body !== 'string') return undefined
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}
