import { existsSync } from 'node:fs'
import t from 'tap'
import type { Json, JsonObject } from '../../src/api/kubernetes.js'
import type { MayastorNode, MayastorVolume } from '../../src/api/mayastor.js'
import { type MayastorClient, MayastorError, mayastorClient } from '../../src/clients/mayastor.js'
import { manualClock } from '../manual-clock.js'
import {
  type Description,
  keysOf,
  matchPath,
  nameOf,
  type Place,
  type Request,
  readDescription,
  type Schema,
  valuesOf,
  withValue,
} from './openapi.js'

/*
 * What the client sends and reads, as it is seen to do it, against Mayastor's own description of its API.
 */

const SPEC = '../shared/specs/mayastor-rest-v2.7.1.yaml'
const skip = existsSync(SPEC) ? false : `${SPEC} is not here`

const SOON = Number.POSITIVE_INFINITY
const VOLUME = 'ec4e66fd-3b33-4439-b504-d49aba53da26'
/** Names that are another path when they are not encoded. */
const POOL = 'pool/1'
const NODE = 'node/1'
const LABEL = 'a/b=c?d'

type Method = Exclude<keyof MayastorClient, 'close'>
/** Methods whose answer is an object of the API. */
type Reader = Exclude<Method, 'capabilities'>

const METHODS: Readonly<Record<Method, (mayastor: MayastorClient) => Promise<unknown>>> = {
  volumes: (mayastor) => mayastor.volumes(),
  volume: (mayastor) => mayastor.volume(VOLUME),
  pools: (mayastor) => mayastor.pools(),
  nodes: (mayastor) => mayastor.nodes(),
  capabilities: (mayastor) => mayastor.capabilities(),
  setReplicaCount: (mayastor) => mayastor.setReplicaCount(VOLUME, 2, SOON),
  cordonPool: (mayastor) => mayastor.cordonPool(POOL, SOON),
  uncordonPool: (mayastor) => mayastor.uncordonPool(POOL, SOON),
  cordonNode: (mayastor) => mayastor.cordonNode(NODE, LABEL, SOON),
  uncordonNode: (mayastor) => mayastor.uncordonNode(NODE, LABEL, SOON),
}
const methods = Object.keys(METHODS) as Method[]

const BITS = ['replicas', 'snapshots', 'restores', 'import']

/** Routes that the description lacks: the version that each came with, its body's fields, all boolean, its answer. */
interface OtherRoute {
  readonly since: string
  readonly body?: readonly string[]
  readonly answer: Schema
}

const pool: Schema = { $ref: '#/components/schemas/Pool' }
const OTHER_ROUTES: Readonly<Record<string, OtherRoute>> = {
  // It serves the description, and is not part of it.
  'GET /api/spec': { since: '2.7', answer: {} },
  'PUT /pools/{pool_id}/cordon': { since: '2.10', body: BITS, answer: pool },
  'DELETE /pools/{pool_id}/cordon': { since: '2.10', body: BITS, answer: pool },
}

const STATES = 'Unknown | Online | Degraded | Faulted'
const LIFECYCLE = 'Creating | Created | Deleting | Deleted'
const OPERATIONS =
  'Create | Destroy | Share | Unshare | SetReplica | RemoveUnusedReplica | Publish | Republish | Unpublish | CreateSnapshot | DestroySnapshot | Resize | SetVolumeProperty'

/**
 * What is read of a volume, and what the description says it is. `!`: an answer without it is refused; `=`: the values
 * are not told apart.
 */
const VOLUME_FIELDS: Readonly<Record<string, string>> = {
  'spec.uuid': 'string!',
  'spec.size': 'integer!',
  'spec.num_replicas': 'integer!',
  'spec.status': `${LIFECYCLE}!`,
  'spec.operation.operation': `${OPERATIONS}!`,
  'spec.operation.result': 'false = true',
  'spec.target.protocol': 'nvmf = iscsi',
  'spec.policy.self_heal': 'boolean',
  'spec.thin': 'boolean',
  'spec.as_thin': 'boolean',
  'spec.num_snapshots': 'integer',
  'spec.affinity_group.id': 'string',
  'spec.topology.node_topology.explicit.allowed_nodes[]': 'string',
  'spec.topology.node_topology.labelled.inclusion.*': 'string',
  'spec.topology.node_topology.labelled.exclusion.*': 'string',
  'spec.topology.pool_topology.labelled.inclusion.*': 'string',
  'state.status': 'Unknown | Online | Degraded | Faulted | Shutdown!',
  'state.target.node': 'string!',
  'state.target.uuid': 'string!',
  'state.target.state': 'Unknown | Online | Degraded | Faulted | ShuttingDown | Shutdown!',
  'state.target.children': 'array!',
  'state.replica_topology.*.state': `${STATES}!`,
  'state.replica_topology.*.pool': 'string',
  'state.replica_topology.*.node': 'string',
  'state.replica_topology.*.child-status': STATES,
  'state.replica_topology.*.child-status-reason': 'OutOfSpace',
  'state.replica_topology.*.rebuild-progress': 'integer',
  'state.replica_topology.*.usage.allocated': 'integer',
}

/** What each method reads of the answer to its route. */
const FIELDS: Readonly<Record<Reader, Readonly<Record<string, string>>>> = {
  volumes: { ...below('entries[]', VOLUME_FIELDS), next_token: 'integer' },
  volume: VOLUME_FIELDS,
  pools: below('[]', {
    id: 'string!',
    'spec.node': 'string!',
    'spec.labels.*': 'string',
    'state.node': 'string!',
    'state.status': STATES,
    'state.capacity': 'integer',
    'state.used': 'integer',
    'state.committed': 'integer',
  }),
  nodes: below('[]', {
    id: 'string!',
    'spec.version': 'string',
    'spec.labels.*': 'string',
    'spec.cordondrainstate.cordonedstate.cordonlabels[]': 'string',
    'spec.cordondrainstate.drainingstate.cordonlabels[]': 'string',
    'spec.cordondrainstate.drainingstate.drainlabels[]': 'string',
    'spec.cordondrainstate.drainedstate.cordonlabels[]': 'string',
    'spec.cordondrainstate.drainedstate.drainlabels[]': 'string',
    'state.status': 'Unknown = Offline | Online',
    'state.version': 'string',
  }),
  // Only whether it is an error counts.
  setReplicaCount: {},
  cordonPool: {},
  uncordonPool: {},
  cordonNode: {},
  uncordonNode: {},
}

const KINDS = [
  ...['Timeout', 'Deserialize', 'Internal', 'InvalidArgument', 'DeadlineExceeded', 'NotFound', 'AlreadyExists'],
  ...['PermissionDenied', 'ResourceExhausted', 'FailedPrecondition', 'NotShared', 'NotPublished', 'AlreadyPublished'],
  ...['AlreadyShared', 'Aborted', 'OutOfRange', 'Unimplemented', 'Unavailable', 'Unauthenticated', 'Unauthorized'],
  ...['Conflict', 'FailedPersist', 'Deleting', 'InUse', 'CapacityLimitExceeded', 'NotAcceptable'],
]
/** What every method reads of an error. */
const ERROR_FIELDS = { kind: KINDS.join(' | '), details: 'string' }

/** A field that the description lacks, the version that it came with, and two values that are not the same. */
interface OtherField {
  readonly since: string
  readonly values: readonly [Json, Json]
}

const flag = (since: string): OtherField => ({ since, values: [false, true] })
const count = (since: string): OtherField => ({ since, values: [1, 2] })

const OTHER_VOLUME_FIELDS: Readonly<Record<string, OtherField>> = {
  // How it is spelled is not confirmed: both.
  'spec.encrypted': flag('2.9'),
  'spec.encryption': flag('2.9'),
  'spec.cluster_size': count('2.10'),
}
const OTHER_FIELDS: Readonly<Partial<Record<Method, Readonly<Record<string, OtherField>>>>> = {
  volumes: below('entries[]', OTHER_VOLUME_FIELDS),
  volume: OTHER_VOLUME_FIELDS,
  pools: below('[]', {
    'spec.encrypted': flag('2.9'),
    'state.encrypted': flag('2.9'),
    'spec.clusterSize': count('2.10'),
    'state.clusterSize': count('2.10'),
    'state.cluster_size': count('2.10'),
    ...Object.fromEntries(
      ['spec.cordonDrain', 'spec.cordon_drain'].flatMap((name) => [
        ...BITS.map((bit) => [`${name}.cordoned.${bit}`, flag('2.10')] as const),
        ...['userCordon', 'user_cordon'].flatMap((user) =>
          BITS.map((bit) => [`${name}.drain.${user}.${bit}`, flag('unreleased')] as const),
        ),
      ]),
    ),
  }),
  nodes: below('[]', {
    // Both kinds of labels are asked for whatever the state.
    'spec.cordondrainstate.cordonedstate.drainlabels[]': { since: 'never', values: ['a', 'b'] },
  }),
}

function below<T>(name: string, fields: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(fields).map(([field, value]) => [`${name}.${field}`, value]))
}

interface Talk {
  readonly requests: readonly Request[]
  /** Places of the answer that the client asked for, there or not. */
  readonly reads: ReadonlySet<string>
  /** What the method came to: its result, or why it failed. */
  readonly outcome: unknown
}

/** Lets a new client do one thing, and gives it the same answer to whatever it sends. */
async function talk(method: Method, body: Json, status = 200): Promise<Talk> {
  const requests: Request[] = []
  const reads = new Set<string>()
  const text = JSON.stringify(body)
  const mayastor = mayastorClient({
    url: 'http://mayastor',
    clock: manualClock().clock,
    transport: {
      send: async ({ method, url, body }) => {
        requests.push({ method, path: url.replace('http://mayastor/v0', ''), body })
        return { status, text }
      },
      close: async () => {},
    },
  })
  // What is asked of the answer shows on nothing but the parsed answer.
  const { parse } = JSON
  JSON.parse = (source, reviver) => (source === text ? watched(parse(source), reads) : parse(source, reviver))
  try {
    return { requests, reads, outcome: { result: await METHODS[method](mayastor) } }
  } catch (error) {
    if (!(error instanceof MayastorError)) throw error
    const { failure, kind, details } = error
    return { requests, reads, outcome: { failure, kind, details } }
  } finally {
    JSON.parse = parse
  }
}

/** What is asked of a parsed answer, by name, in `reads`. */
function watched(value: unknown, reads: Set<string>, keys: readonly string[] = []): unknown {
  if (typeof value !== 'object' || value === null) return value
  return new Proxy(value, {
    get: (target, key) => {
      const found: unknown = Reflect.get(target, key)
      // What the language asks for: methods of lists, whether it is a promise.
      if (typeof key === 'symbol' || typeof found === 'function' || key === 'length' || key === 'then') return found
      reads.add(nameOf([...keys, key]))
      return watched(found, reads, [...keys, key])
    },
  })
}

/** The names that no other name is below. */
function leaves(names: Iterable<string>): readonly string[] {
  const all = [...new Set(names)]
  const isAbove = (name: string) => (other: string) => other.startsWith(`${name}.`) || other.startsWith(`${name}[`)
  return all.filter((name) => !all.some(isAbove(name))).sort()
}

const isRefused = ({ outcome }: Talk): boolean => (outcome as { failure?: string }).failure === 'invalid'

/** A property that may be missing; entries of maps and items of lists are not properties. */
const isOptional = ({ name, required }: Place): boolean => !required && !/(\*|\[\])$/.test(name)

/** What a talk came to, to be compared. */
const effect = ({ requests, outcome }: Talk): string => JSON.stringify([requests, outcome])

type Ask = (body: Json) => Promise<Talk>

const fullSamples = (api: Description, schema: Schema) => api.turns.map((turn) => api.sample(schema, turn))

/** Answers that the description allows: with everything, with one thing left out, and with all left out that may be. */
function allowed(api: Description, schema: Schema): readonly Json[] {
  return api.turns.flatMap((turn) => {
    const full = api.sample(schema, turn)
    const optional = api.places(schema, full).filter(({ required }) => !required)
    return [full, api.sample(schema, turn, 'minimal'), ...optional.map(({ keys }) => withValue(full, keys, undefined))]
  })
}

/** What is read of answers, as a table: the described fields and what they are, and the names of the others. */
async function readOf(api: Description, schema: Schema, ask: Ask, others: Readonly<Record<string, OtherField>> = {}) {
  const samples = allowed(api, schema)
  const places = new Map<string, Place>()
  const reads = new Set<string>()
  const note = async (answer: Json) => {
    for (const read of (await ask(answer)).reads) reads.add(read)
  }
  for (const sample of samples) {
    for (const place of api.places(schema, sample)) places.set(place.name, place)
    await note(sample)
  }
  // What is asked for in place of what is never missing.
  for (const sample of fullSamples(api, schema)) {
    for (const { keys } of api.places(schema, sample)) await note(withValue(sample, keys, undefined))
  }
  for (const [name, { values }] of Object.entries(others)) {
    await note(withValue(api.sample(schema, 0), keysOf(name), values[0]))
  }
  const found = leaves(reads)
  const fields: Record<string, string> = {}
  for (const place of found.flatMap((name) => places.get(name) ?? [])) {
    const having = samples.filter((sample) => api.places(schema, sample).some(({ name }) => name === place.name))
    fields[place.name] = await meaningOf(place, having, ask)
  }
  return { fields, others: found.filter((name) => !places.has(name)) }
}

/** What a field is to the client, judged by what becomes of other values and of its absence. */
async function meaningOf({ keys, schema }: Place, samples: readonly Json[], ask: Ask): Promise<string> {
  const all = valuesOf(schema)
  let groups: readonly (readonly Json[])[] = []
  let refused = false
  let matters = false
  for (const sample of samples) {
    const without = await ask(withValue(sample, keys, undefined))
    refused ||= isRefused(without)
    if (matters && groups.length === all.length) continue
    const effects = new Map<string, readonly Json[]>()
    for (const value of all) {
      const found = effect(await ask(withValue(sample, keys, value)))
      effects.set(found, [...(effects.get(found) ?? []), value])
    }
    matters ||= new Set([effect(without), ...effects.keys()]).size > 1
    if (effects.size > groups.length) groups = [...effects.values()]
  }
  if (!matters) return 'read in vain'
  const told = schema.enum?.join(' | ') ?? schema.type ?? 'anything'
  const type = groups.length === all.length ? told : groups.map((group) => group.join(' = ')).join(' | ')
  return refused ? `${type}!` : type
}

t.test('the client and the description of Mayastor 2.7.1', { skip }, async (t) => {
  const api = readDescription(SPEC)

  function otherRoute({ method, path }: Request) {
    return Object.entries(OTHER_ROUTES).find(([name]) => {
      const [verb, template = ''] = name.split(' ')
      return verb === method && matchPath(template, path) !== undefined
    })
  }

  /** The schema of what is answered to a method. */
  async function answerTo(method: Method): Promise<Schema> {
    const [request] = (await talk(method, null)).requests
    const schema = request && (api.route(request)?.answers.get('200') ?? otherRoute(request)?.[1].answer)
    if (schema === undefined) throw new Error(`${method} sends ${JSON.stringify(request)}, which has no answer`)
    return schema
  }

  const readers: { method: Reader; schema: Schema; ask: Ask; others: Readonly<Record<string, OtherField>> }[] = []
  for (const method of methods) {
    if (method === 'capabilities') continue
    const ask: Ask = (body) => talk(method, body)
    readers.push({ method, schema: await answerTo(method), ask, others: OTHER_FIELDS[method] ?? {} })
  }

  t.strictSame(
    api.impossible,
    ['VolumeSpec.num_paths', 'VolumeSpec.protocol', 'RegisterAppNode.id'],
    'what it requires and does not have, and is not asked for',
  )

  t.test('every request is one that Mayastor takes', async (t) => {
    const others = new Set<string>()
    for (const method of methods) {
      const { requests } = await talk(method, api.sample(await answerTo(method), 0))
      t.equal(requests.length, method === 'volumes' ? 2 : 1, `${method} was sent`)
      for (const request of requests) {
        const described = api.route(request)
        if (described !== undefined) {
          t.strictSame(described.problems, [], `${method}: ${described.name}`)
          continue
        }
        const other = otherRoute(request)
        if (other === undefined) return t.fail(`${method}: ${request.method} ${request.path} is not listed`)
        const [name, { since, body }] = other
        others.add(name)
        const sent = request.body === undefined ? undefined : (JSON.parse(request.body) as JsonObject)
        t.strictSame(sent && Object.keys(sent), body, `${method}: ${name} (${since})`)
        t.ok(Object.values(sent ?? {}).every((value) => typeof value === 'boolean'))
      }
    }
    t.strictSame([...others].sort(), Object.keys(OTHER_ROUTES).sort(), 'those that are not described')
  })

  t.test('a request that Mayastor does not take is found', async (t) => {
    const problems = (method: string, path: string, body?: string) => api.route({ method, path, body })?.problems
    t.equal(problems('POST', '/volumes'), undefined)
    t.equal(problems('GET', '/volume'), undefined)
    t.strictSame(problems('GET', '/volumes?max=5'), ['max is not described', 'max_entries is missing'])
    t.strictSame(problems('GET', '/volumes?max_entries=all'), ['max_entries: data must be integer'])
    t.strictSame(problems('GET', '/pools', '{}'), ['a body too many or too few'])
    t.strictSame(problems('PUT', `/volumes/${VOLUME}/size`), ['a body too many or too few'])
  })

  for (const { method, schema, ask, others } of readers) {
    t.test(`what ${method} reads of its answer`, async (t) => {
      const read = await readOf(api, schema, ask, others)
      t.strictSame(read.fields, FIELDS[method])
      t.strictSame(read.others, Object.keys(others).sort(), 'what is not described')
    })

    t.test(`${method} reads whatever the description allows`, async (t) => {
      const samples = allowed(api, schema)
      t.ok(samples.length > api.turns.length * 2)
      t.strictSame(
        samples.map((sample) => api.refusal(schema, sample)).filter((refusal) => refusal !== undefined),
        [],
      )
      for (const sample of samples) {
        const { outcome } = await ask(sample)
        t.ok(Object.hasOwn(outcome as object, 'result'), JSON.stringify(outcome))
      }
    })

    t.test(`${method} reads null as nothing`, async (t) => {
      for (const sample of fullSamples(api, schema)) {
        for (const { keys, name } of api.places(schema, sample).filter(isOptional)) {
          const absent = await ask(withValue(sample, keys, undefined))
          t.equal(effect(await ask(withValue(sample, keys, null))), effect(absent), name)
        }
      }
    })

    t.test(`${method} takes words that it does not know`, async (t) => {
      const sample = api.sample(schema, 0)
      const words = api.places(schema, sample).filter(({ schema }) => schema.enum !== undefined)
      t.ok(words.length > 0)
      for (const { keys, name } of words) t.notOk(isRefused(await ask(withValue(sample, keys, 'Later'))), name)
    })

    t.test(`${method} lets later versions say more`, async (t) => {
      for (const sample of fullSamples(api, schema)) {
        const expected = effect(await ask(sample))
        const objects = api
          .places(schema, sample)
          .filter(({ schema }) => schema.type === 'object' && typeof schema.additionalProperties !== 'object')
        t.ok(objects.length > 0)
        for (const { keys, name } of objects) {
          for (const later of [true, 7, 'a', ['a'], { status: 'Later' }]) {
            t.equal(effect(await ask(withValue(sample, [...keys, 'later'], later))), expected, name)
          }
        }
      }
    })

    for (const [name, { since, values }] of Object.entries(others)) {
      t.test(`${method} reads ${name} (${since})`, async (t) => {
        const base = api.sample(schema, 0)
        const [one, other] = values.map((value) => withValue(base, keysOf(name), value))
        if (one === undefined || other === undefined) return t.fail('two values')
        const talks = [await ask(one), await ask(other)]
        t.notOk(talks.some(isRefused))
        t.equal(new Set(talks.map(effect)).size, 2)
      })
    }
  }

  t.test('what the words of the description mean to the client', async (t) => {
    /** The words of a field, and one that no version has. */
    const words = (schema: Schema, name: string) => {
      const place = api.places(schema, api.sample(schema, 0)).find((place) => place.name === name)
      return [...(place?.schema.enum ?? []), 'Later']
    }

    const volume = await answerTo('volume')
    const replica = 'state.replica_topology.*'
    const whole = withValue(api.sample(volume, 0), keysOf(`${replica}.rebuild-progress`), undefined)
    const synced: string[] = []
    for (const state of words(volume, `${replica}.state`)) {
      for (const child of words(volume, `${replica}.child-status`)) {
        const body = withValue(
          withValue(whole, keysOf(`${replica}.state`), state),
          keysOf(`${replica}.child-status`),
          child,
        )
        const { result } = (await talk('volume', body)).outcome as { result: MayastorVolume }
        if (result.replicas.some((replica) => replica.synced)) synced.push(`${state}, ${child}`)
      }
    }
    t.strictSame(synced, ['Online, Online'], 'a replica that is synced')

    const nodes = await answerTo('nodes')
    const online: string[] = []
    for (const status of words(nodes, '[].state.status')) {
      const body = withValue(api.sample(nodes, 0), keysOf('[].state.status'), status)
      const { result } = (await talk('nodes', body)).outcome as { result: readonly MayastorNode[] }
      if (result.some((node) => node.online)) online.push(status)
    }
    t.strictSame(online, ['Online'], 'a node that is online')
  })

  t.test('what is read of an error', async (t) => {
    const schemas = new Map<string, Schema>()
    for (const method of methods) {
      const [request] = (await talk(method, null)).requests
      for (const [status, schema] of (request && api.route(request)?.answers) ?? []) {
        if (status !== '200') schemas.set(JSON.stringify(schema), schema)
      }
    }
    const [schema, ...more] = schemas.values()
    if (schema === undefined) return t.fail('no errors are described')
    t.strictSame(more, [], 'there is one for all routes')
    for (const status of [412, 507]) {
      const ask: Ask = (body) => talk('pools', body, status)
      t.strictSame(await readOf(api, schema, ask), { fields: ERROR_FIELDS, others: [] })
    }
    const refused: string[] = []
    for (const kind of [...KINDS, 'Later']) {
      const { outcome } = await talk('pools', withValue(api.sample(schema, 0), ['kind'], kind), 507)
      t.match(outcome, { kind })
      if ((outcome as { failure: string }).failure === 'refused') refused.push(kind)
    }
    t.strictSame(refused, ['ResourceExhausted', 'CapacityLimitExceeded'], 'kinds of a 507 that end an operation')
  })

  t.test('what Mayastor can do shows in its description', async (t) => {
    const paths = Object.fromEntries(api.templates.map((template) => [template, {}]))
    t.strictSame((await talk('capabilities', { paths })).outcome, { result: { poolCordon: false } })
    const later = { paths: { ...paths, '/pools/{pool_id}/cordon': {} } }
    const { outcome, reads } = await talk('capabilities', later)
    t.strictSame(outcome, { result: { poolCordon: true } })
    t.strictSame(leaves(reads), ['paths'])
  })
})
