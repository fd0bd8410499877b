import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Static, TSchema } from 'typebox'
import Value from 'typebox/value'
import type { JsonObject, KubernetesObject } from '../src/api/kubernetes.js'
import type { HookRequest, HookResponse } from '../src/api/metacontroller.js'
import { DEFAULT_DISKPOOL_API_VERSION, DISKPOOL_KEY_PREFIX, POLICY_KEY, TOPOLOGY_KEY } from '../src/api/names.js'
import { type MigrationStatus, ReplicaTopologySpec, ReplicaTopologyStatus } from '../src/api/replica-topology.js'
import { StoragePolicyStatus } from '../src/api/storage-policy.js'
import { decodeCustomize, decodeSync } from '../src/embedded/metacontroller/decode.js'
import { type Playground, startPlayground } from '../src/embedded/playground.js'
import { HOOKS } from '../src/metrics.js'

/**
 * Replays hooks/*\/examples in the order of their numbers against the playground, as hooks/README.md does with curl.
 * UPDATE_GOLDEN=1 writes the answers anew, and what each request carries of the answers before it.
 */

const update = process.env['UPDATE_GOLDEN'] === '1'
const root = process.cwd()
const LINE_WIDTH = 120

type Draft<T> = { -readonly [K in keyof T]: T[K] }
type Parent = Draft<KubernetesObject> & { readonly metadata: { readonly name: string; readonly uid: string } }
type Request = HookRequest & { readonly parent: Parent }

interface Example {
  /** Path without `.request.json`. */
  readonly path: string
  readonly controller: string
  /** Path of the route. */
  readonly route: string
  readonly customize: boolean
  /** Of the answer. */
  readonly code: number
  readonly requestFile: string
}

const examples = ['storage-policy', 'replica-topology']
  .flatMap((controller) => {
    const folder = `hooks/${controller}/examples`
    return readdirSync(join(root, folder)).flatMap((file): Example[] => {
      const [, base = '', hook, code = '200'] =
        /^(\d\d-(sync|customize|finalize)[a-z0-9-]*(?:\.(\d{3}))?)\.request\.(?:json|txt)$/.exec(file) ?? []
      if (hook === undefined) return []
      return [
        {
          path: `${folder}/${base}`,
          controller,
          route: `/hooks/${controller}/${hook}`,
          customize: hook === 'customize',
          code: Number(code),
          requestFile: `${folder}/${file}`,
        },
      ]
    })
  })
  .sort((a, b) => (numberOf(a) < numberOf(b) ? -1 : 1))

function numberOf({ path }: Example): string {
  return /\/(\d\d)-/.exec(path)?.[1] ?? ''
}

async function play(t: Test): Promise<Playground> {
  const playground = await startPlayground({ port: 0 })
  t.teardown(() => playground.stop())
  return playground
}

async function post(url: string, body: string): Promise<{ code: number; text: string }> {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return { code: answer.status, text: await answer.text() }
}

/** What Metacontroller and the API server would know by now: the newest answers, by name of the object. */
class Memory {
  readonly #policyStatus = new Map<string, JsonObject>()
  readonly #topologySpec = new Map<string, JsonObject>()
  readonly #topologyStatus = new Map<string, JsonObject>()
  readonly #playground: Playground
  /** Where volumes that no example is about are observed. */
  readonly #elsewhere: Playground

  constructor(playground: Playground, elsewhere: Playground) {
    this.#playground = playground
    this.#elsewhere = elsewhere
  }

  /** The request with everything in it that comes from the answers before, or from the cluster. */
  async carry({ controller, customize }: Example, given: Request): Promise<Request> {
    const request = structuredClone(given)
    const { parent } = request
    if (customize) return request
    if (controller === 'replica-topology') {
      this.#carryTopology(parent)
      return request
    }
    put(parent, 'status', this.#policyStatus.get(parent.metadata.name))
    for (const child of Object.values(request.children[TOPOLOGY_KEY] ?? {}) as Parent[]) {
      await this.#observe(child)
      this.#carryTopology(child)
    }
    for (const [key, objects] of Object.entries(request.related) as [string, Record<string, Parent>][]) {
      for (const object of Object.values(objects)) {
        if (key === POLICY_KEY) put(object, 'status', this.#policyStatus.get(object.metadata.name))
        if (key.startsWith(DISKPOOL_KEY_PREFIX)) put(object, 'status', this.#poolStatus(object.metadata.name))
      }
    }
    return request
  }

  learn({ controller, customize }: Example, { parent }: Request, response: HookResponse): void {
    if (customize) return
    const status = sorted({ ...response.status, observedGeneration: parent.metadata['generation'] })
    const { name } = parent.metadata
    if (controller === 'replica-topology') {
      this.#topologyStatus.set(name, status)
      return
    }
    this.#policyStatus.set(name, status)
    for (const child of response.children as unknown as readonly Parent[]) {
      this.#topologySpec.set(child.metadata.name, sorted(child.spec ?? {}))
    }
  }

  #carryTopology(topology: Parent): void {
    put(topology, 'spec', this.#topologySpec.get(topology.metadata.name))
    put(topology, 'status', this.#topologyStatus.get(topology.metadata.name))
  }

  /** A volume without a migration is observed again when its spec has changed. */
  async #observe({ metadata }: Parent): Promise<void> {
    const { name, generation } = metadata
    const spec = this.#topologySpec.get(name)
    const before = this.#topologyStatus.get(name)
    if (spec?.['migration'] !== undefined || before?.['migration'] !== undefined) return
    if (before?.['observedGeneration'] === generation) return
    const parent = { metadata, spec, ...(before === undefined ? {} : { status: before }) }
    const body = JSON.stringify({ parent, children: {}, related: {}, finalizing: false })
    const { text } = await post(`${this.#elsewhere.url}/hooks/replica-topology/sync`, body)
    this.#topologyStatus.set(name, sorted({ ...JSON.parse(text).status, observedGeneration: generation }))
  }

  #poolStatus(name: string): JsonObject | undefined {
    const ref = { apiVersion: DEFAULT_DISKPOOL_API_VERSION, kind: 'DiskPool', namespace: 'openebs', name }
    return sorted(this.#playground.cluster.store.get(ref)?.['status'])
  }
}

function put<K extends 'spec' | 'status'>(object: Parent, key: K, value: JsonObject | undefined): void {
  if (value === undefined) delete object[key]
  else object[key] = value
}

/** With the keys in order, as the API server gives objects back. */
function sorted<T>(value: T): T {
  if (Array.isArray(value)) return value.map(sorted) as T
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)])) as T
}

/** As Biome formats JSON: lists of plain values on one line where they fit. */
function pretty(value: unknown, indent = '', before = 0): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const inner = `${indent}  `
  if (Array.isArray(value)) {
    const line = `[${value.map((item) => JSON.stringify(item)).join(', ')}]`
    const plain = value.every((item) => typeof item !== 'object' || item === null)
    if (plain && indent.length + before + line.length < LINE_WIDTH) return line
    return `[\n${value.map((item) => inner + pretty(item, inner)).join(',\n')}\n${indent}]`
  }
  const entries = Object.entries(value)
  if (entries.length === 0) return '{}'
  const lines = entries.map(([key, item]) => {
    const name = `${JSON.stringify(key)}: `
    return inner + name + pretty(item, inner, name.length)
  })
  return `{\n${lines.join(',\n')}\n${indent}}`
}

function save(file: string, value: unknown): void {
  writeFileSync(join(root, file), `${pretty(value)}\n`)
}

function load(file: string): string {
  return readFileSync(join(root, file), 'utf8')
}

/** Valid, and without a field the CRD would drop. */
function conforms<T extends TSchema>(t: Test, schema: T, value: unknown, what: string): value is Static<T> {
  t.strictSame(Value.Errors(schema, value), [], `${what} is valid`)
  return t.strictSame(Value.Clean(schema, structuredClone(value)), value, `${what} has no field of its own`)
}

t.test('every example is one of a pair, and numbered', async (t) => {
  t.ok(examples.length > 30, 'there are examples')
  t.strictSame(
    examples.map(numberOf),
    examples.map((_, index) => String(index + 1).padStart(2, '0')),
  )
  const known = new Set(
    examples.flatMap(({ path, requestFile }) => [requestFile, `${path}.response.json`, `${path}.prometheus.json`]),
  )
  for (const controller of ['storage-policy', 'replica-topology']) {
    const folder = `hooks/${controller}/examples`
    const stray = readdirSync(join(root, folder)).filter((file) => !known.has(`${folder}/${file}`))
    if (update) for (const file of stray) rmSync(join(root, folder, file))
    else t.strictSame(stray, [], `nothing else is in ${folder}`)
  }
})

t.test('replayed in order, every request gets its recorded answer', async (t) => {
  const playground = await play(t)
  const memory = new Memory(playground, await play(t))
  for (const example of examples) {
    const { path, route, code, customize, requestFile, controller } = example
    await t.test(path, async (t) => {
      const told = `${path}.prometheus.json`
      if (existsSync(join(root, told))) {
        t.equal((await post(`${playground.url}/playground/prometheus`, load(told))).code, 200)
      }
      let body = load(requestFile)
      let request: Request | undefined
      if (code === 200) {
        const given = JSON.parse(body)
        request = await memory.carry(example, given)
        if (update) save(requestFile, request)
        else t.strictSame(given, request, 'the request carries what was answered before')
        body = load(requestFile)
      }
      const answer = await post(`${playground.url}${route}`, body)
      t.equal(answer.code, code)
      const response = JSON.parse(answer.text)
      if (update) save(`${path}.response.json`, response)
      t.equal(
        answer.text,
        JSON.stringify(JSON.parse(load(`${path}.response.json`))),
        'the recorded answer, to the byte',
      )
      if (request === undefined) {
        t.strictSame(Object.keys(response), ['error'])
        return
      }
      const surprise = (what: string) => t.fail(what)
      if (customize) {
        t.doesNotThrow(() => decodeCustomize(answer.text, true, surprise))
        return
      }
      t.doesNotThrow(() => decodeSync(answer.text, true, surprise))
      const policy = controller === 'storage-policy'
      conforms(t, policy ? StoragePolicyStatus : ReplicaTopologyStatus, response.status, 'status')
      for (const child of response.children) conforms(t, ReplicaTopologySpec, child.spec, child.metadata.name)
      memory.learn(example, request, response)
    })
  }
})

t.test('the same call again and again walks a migration to its end, one step a call', async (t) => {
  const { url, cluster } = await play(t)
  const first = examples.find(({ path }) => path.includes('-sync-scaling-up-'))
  const body = load(first?.requestFile ?? '')
  const phases: string[] = []
  let migration: MigrationStatus | undefined
  let calls = 0
  do {
    const { text } = await post(`${url}/hooks/replica-topology/sync`, body)
    migration = JSON.parse(text).status.migration
    if (migration !== undefined && migration.phase !== phases.at(-1)) phases.push(migration.phase)
  } while (migration?.phase !== 'Completed' && ++calls < 40)
  t.strictSame(phases, [
    'ScalingUp',
    'WaitingSync',
    'ScalingDown',
    'ScalingUp',
    'WaitingSync',
    'ScalingDown',
    'Completed',
  ])
  const writes = (await (await fetch(`${url}/playground/writes`)).json()) as { path: string; status: number }[]
  t.strictSame(
    writes.filter(({ path }) => path.includes('/replica_count/')).map(({ path }) => path.slice(-1)),
    ['3', '2', '3', '2'],
  )
  const after = cluster.mayastor.writes.length
  const end = cluster.clock.now()
  await post(`${url}/hooks/replica-topology/sync`, body)
  t.ok(cluster.clock.now() >= end + 300_000, 'and then it rests')
  t.equal(cluster.mayastor.writes.length, after)
})

t.test('the Prometheus stand-in is broken and mended on request', async (t) => {
  const { url, prometheusUrl } = await play(t)
  const tell = (outage: string) => post(`${url}/playground/prometheus`, JSON.stringify({ outage }))
  const status = async () => (await fetch(`${prometheusUrl}/api/v1/query?query=up`)).status
  t.equal(await status(), 200)
  t.strictSame(await tell('503'), { code: 200, text: '{"outage":"503"}' })
  t.equal(await status(), 503)
  t.strictSame(await tell('none'), { code: 200, text: '{"outage":"none"}' })
  t.equal(await status(), 200)
  t.equal((await tell('slow')).code, 400)
})

t.test('what the README names is there', async (t) => {
  const { url, mayastorUrl } = await play(t)
  const readme = load('hooks/README.md')
  const routes = new Map(examples.map(({ requestFile, route }) => [requestFile, route]))
  const mentioned = [...readme.matchAll(/hooks\/[a-z-]+\/examples\/[\w.-]*\w/g)].map(([file]) => file)
  t.ok(mentioned.length > 10)
  for (const file of mentioned) t.ok(existsSync(join(root, file)), file)

  const ranges = /(hooks\/[a-z-]+)\/examples\/\{(\d\d)\.\.(\d\d)\}-([a-z]+)-\*/g
  for (const [range, controller, from = '', to = '', hook] of readme.matchAll(ranges)) {
    const inside = examples.filter((example) => numberOf(example) >= from && numberOf(example) <= to)
    t.equal(inside.length, Number(to) - Number(from) + 1, range)
    t.ok(
      inside.every(({ route }) => route === `/${controller}/${hook}`),
      `${range} is all of one hook`,
    )
  }
  for (const [command, file = '', path = ''] of readme.matchAll(/curl .*-d @(hooks\S+) \S*?:8082(\/\S+)/g)) {
    const expected = file.endsWith('.prometheus.json') ? '/playground/prometheus' : routes.get(file)
    t.equal(path, expected, command)
  }
  const paths = new Set([...readme.matchAll(/:8082(\/[\w/-]+)/g)].map(([, path = '']) => path))
  for (const path of paths) {
    if (path.startsWith('/hooks/')) {
      t.ok(
        HOOKS.some((hook) => path === `/hooks/${hook}`),
        path,
      )
      continue
    }
    const codes = await Promise.all([fetch(`${url}${path}`), fetch(`${url}${path}`, { method: 'POST' })])
    t.ok(
      codes.some(({ status }) => status !== 404),
      path,
    )
  }
  for (const [path] of readme.matchAll(/\/v0\/[\w?=]+/g))
    t.equal((await fetch(`${mayastorUrl}${path}`)).status, 200, path)
})

t.test('the command line', async (t) => {
  const program = fileURLToPath(new URL('../src/embedded/playground.js', import.meta.url))
  const run = async (args: readonly string[], onOutput?: (text: string, stop: () => void) => void) => {
    const child = spawn(process.execPath, [program, ...args])
    let out = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        out += chunk
        onOutput?.(out, () => child.kill('SIGINT'))
      })
    }
    const [code] = await once(child, 'close')
    return { code, out }
  }
  t.match(await run(['--help']), { code: 0, out: 'npm run playground' })
  t.match(await run(['--port', 'x']), { code: 2, out: 'a port' })
  let asked = false
  const served = await run(['--port', '0'], async (out, stop) => {
    const url = /(http:\S+)\/hooks\//.exec(out)?.[1]
    if (url === undefined || !out.includes('examples') || asked) return
    asked = true
    await post(`${url}/hooks/storage-policy/sync`, '{}')
    stop()
  })
  t.match(served, { code: 0, out: 'hook call failed' })
  t.match(served, { out: /Mayastor +http:/ })
  t.match(served, { out: /Prometheus +http:/ })
  const { url } = await play(t)
  const taken = await run(['--port', new URL(url).port])
  t.match(taken, { code: 1, out: 'is in use' })
})
