import { Agent, get, request as httpRequest } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { HookResponse } from '../src/api/metacontroller.js'
import { DECISION_REASONS } from '../src/api/reasons.js'
import type { CredentialSource } from '../src/clients/credentials.js'
import { systemClock } from '../src/clock.js'
import { createHealth, mayastorProblem, prometheusProblem, serveHealth, serveMetrics } from '../src/health.js'
import { HookError } from '../src/hook-error.js'
import { createMetrics, HOOKS } from '../src/metrics.js'
import { inlinePolicyHooks, type PolicyAnswer, workerPolicyHooks } from '../src/policy-pool.js'
import { buildHookServer, type HookServerDeps } from '../src/server.js'
import { customizeToWire, toWire, WireError } from '../src/wire.js'
import { NO_SUMMARY } from './builders.js'
import { manualClock } from './manual-clock.js'

const json = { 'content-type': 'application/json' }
const answer: HookResponse = { status: { phase: 'Active' }, children: [], resyncAfterSeconds: 60 }
const policyAnswer: PolicyAnswer = {
  body: new TextEncoder().encode(toWire(answer)),
  summary: NO_SUMMARY,
}
const parent = (uid: string) => JSON.stringify({ parent: { metadata: { uid } } })

function server(t: Test, changes: Partial<HookServerDeps> = {}) {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics({ version: '0' })
  const app = buildHookServer({
    log,
    clock: systemClock,
    metrics,
    policy: { sync: async () => policyAnswer, finalize: async () => policyAnswer },
    customize: async () => ({ relatedResources: [{ apiVersion: 'v1', resource: 'persistentvolumes' }] }),
    topology: { sync: async () => answer, finalize: async () => ({ ...answer, finalized: true }) },
    ...changes,
  })
  t.teardown(() => app.close())
  return { app, metrics, lines }
}

async function listen(app: FastifyInstance): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

/** A promise with its handles outside. */
function latch<T = void>() {
  let release = (_: T) => {}
  const promise = new Promise<T>((resolve) => {
    release = resolve
  })
  return { promise, release }
}

async function metric(metrics: ReturnType<typeof createMetrics>, line: string): Promise<number | undefined> {
  const text = await metrics.registry.metrics()
  const found = text.split('\n').find((one) => one.startsWith(`${line} `))
  return found === undefined ? undefined : Number(found.slice(line.length))
}

/** Looks again and again, so that how busy the machine is does not matter. The test's own timeout ends it. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await soon(5)
}

const soon = (ms = 20) => new Promise((resolve) => setTimeout(resolve, ms))

t.test('answers', async (t) => {
  const { app, metrics } = server(t)
  const expected: Record<(typeof HOOKS)[number], string> = {
    'storage-policy/sync': toWire(answer),
    'storage-policy/finalize': toWire(answer),
    'storage-policy/customize': '{"relatedResources":[{"apiVersion":"v1","resource":"persistentvolumes"}]}',
    'replica-topology/sync': toWire(answer),
    'replica-topology/finalize': toWire({ ...answer, finalized: true }),
  }
  for (const hook of HOOKS) {
    const response = await app.inject({ method: 'POST', url: `/hooks/${hook}`, headers: json, body: parent('a') })
    t.equal(response.statusCode, 200, hook)
    t.equal(response.body, expected[hook], hook)
    t.match(response.headers['content-type'], /^application\/json/)
    t.equal(await metric(metrics, `storage_operator_reconcile_total{hook="${hook}",outcome="success"}`), 1)
    t.equal(await metric(metrics, `storage_operator_hooks_in_flight{hook="${hook}"}`), 0)
    t.equal(await metric(metrics, `storage_operator_hook_duration_seconds_count{hook="${hook}"}`), 1)
  }
})

t.test('errors are short, constant and never 200', async (t) => {
  const failing = (error: unknown): Partial<HookServerDeps> => {
    const fail = async () => {
      throw error
    }
    return { policy: { sync: fail, finalize: fail }, customize: fail, topology: { sync: fail, finalize: fail } }
  }
  const bug = { ...answer, status: { iops: Number.NaN } } as unknown as HookResponse
  const cases: {
    name: string
    deps?: Partial<HookServerDeps>
    url?: string
    method?: 'GET' | 'POST' | 'PUT'
    headers?: Record<string, string>
    body?: string
    only?: string
    status: number
    error: string
  }[] = [
    { name: 'no body', body: '', status: 400, error: 'the request has no body' },
    { name: 'no body and no type', headers: {}, body: '', status: 400, error: 'the request has no body' },
    { name: 'not JSON', body: '{"a":', only: 'replica-topology/sync', status: 400, error: 'the body is not JSON' },
    { name: 'not JSON', body: '{"a":', only: 'storage-policy/customize', status: 400, error: 'the body is not JSON' },
    { name: 'null', body: 'null', only: 'replica-topology/sync', status: 400, error: 'the request has no body' },
    {
      name: 'no uid',
      body: '{"parent":{"metadata":{"uid":7}}}',
      only: 'replica-topology/sync',
      status: 400,
      error: 'the request has no parent.metadata.uid',
    },
    {
      name: 'another type',
      headers: { 'content-type': 'text/plain' },
      status: 415,
      error: 'the body must be application/json',
    },
    { name: 'bad input', deps: failing(new HookError(400, 'no parent')), status: 400, error: 'no parent' },
    {
      name: 'missing related key',
      deps: failing(new HookError(500, 'related has no PV')),
      status: 500,
      error: 'related has no PV',
    },
    { name: 'a bug', deps: failing(new TypeError('secret')), status: 500, error: 'internal error' },
    { name: 'no error at all', deps: failing('secret'), status: 500, error: 'internal error' },
    {
      name: 'a long message',
      deps: failing(new HookError(400, 'x'.repeat(999))),
      status: 400,
      error: 'x'.repeat(180),
    },
    {
      name: 'an answer with NaN',
      deps: { topology: { sync: async () => bug, finalize: async () => bug } },
      only: 'replica-topology/sync',
      status: 500,
      error: 'internal error',
    },
    { name: 'another route', url: '/', status: 404, error: 'not found' },
    { name: 'GET', url: '/hooks/storage-policy/sync', method: 'GET', status: 404, error: 'not found' },
    { name: 'PUT', url: '/hooks/replica-topology/sync', method: 'PUT', status: 404, error: 'not found' },
    { name: 'a slash too many', url: '/hooks/storage-policy/sync/', status: 404, error: 'not found' },
  ]
  for (const { name, deps, url, method = 'POST', headers = json, body = parent('a'), only, status, error } of cases) {
    const { app, metrics } = server(t, deps)
    const urls = url === undefined ? HOOKS.filter((hook) => only === undefined || hook === only) : [url]
    for (const one of urls) {
      const target = one.startsWith('/') ? one : `/hooks/${one}`
      const response = await app.inject({ method, url: target, headers, ...(body === '' ? {} : { body }) })
      t.equal(response.statusCode, status, `${name}: ${one}`)
      t.strictSame(response.json(), { error }, `${name}: ${one}`)
      t.ok(response.body.length <= 200, `${name}: at most 200 bytes`)
      if (one.startsWith('/')) continue
      const outcome = status >= 500 ? 'error' : 'bad_request'
      t.equal(await metric(metrics, `storage_operator_reconcile_total{hook="${one}",outcome="${outcome}"}`), 1)
    }
  }
})

t.test('JSON that is not what it seems is handed on as it is', async (t) => {
  const bodies: unknown[] = []
  const customize = async (body: unknown) => {
    bodies.push(body)
    return { relatedResources: [] }
  }
  const { app } = server(t, { customize })
  const sent = { parent: { spec: { a: '1', b: null, c: 'true', unknown: { deep: [1.5] } } } }
  await app.inject({
    method: 'POST',
    url: '/hooks/storage-policy/customize',
    headers: json,
    body: JSON.stringify(sent),
  })
  t.strictSame(bodies, [sent])
})

t.test('body limits', async (t) => {
  const lengths: number[] = []
  const sync = async (body: ArrayBuffer) => {
    lengths.push(body.byteLength)
    return policyAnswer
  }
  const limit = 8 * 1024 * 1024
  const { app } = server(t, { policyBodyLimit: limit, policy: { sync, finalize: sync } })
  const base = await listen(app)
  const send = (hook: string, bytes: number, chunked: boolean) =>
    new Promise<number>((resolve, reject) => {
      const headers = chunked ? json : { ...json, 'content-length': bytes }
      const request = httpRequest(`${base}/hooks/${hook}`, { method: 'POST', headers, agent: false }, (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
      request.on('error', reject)
      const padding = parent('a').padEnd(bytes)
      request.write(padding.slice(0, 10))
      request.end(padding.slice(10))
    })
  for (const chunked of [false, true]) {
    const how = chunked ? 'chunked' : 'with its length'
    lengths.length = 0
    t.equal(await send('storage-policy/sync', limit, chunked), 200, `policy, the limit, ${how}`)
    t.equal(await send('storage-policy/finalize', 3 * 1024 * 1024 + 1, chunked), 200, `policy, odd, ${how}`)
    t.strictSame(lengths, [limit, 3 * 1024 * 1024 + 1], 'exactly the bytes that were sent')
    t.equal(await send('replica-topology/sync', 4 * 1024 * 1024, chunked), 200, `topology, the limit, ${how}`)
    for (const [hook, bytes] of [
      ['storage-policy/sync', limit + 1],
      ['storage-policy/finalize', limit + 1],
      ['storage-policy/customize', 4 * 1024 * 1024 + 1],
      ['replica-topology/sync', 4 * 1024 * 1024 + 1],
    ] as const) {
      // The connection may be cut while we still send.
      const status = await send(hook, bytes, chunked).catch((error: NodeJS.ErrnoException) => error.code)
      t.match(String(status), /^(413|EPIPE|ECONNRESET)$/, `${hook}, one more, ${how}`)
    }
  }
})

t.test('one call for a parent at a time', async (t) => {
  const gate = latch()
  let calls = 0
  const work = async () => {
    calls++
    await gate.promise
    return answer
  }
  const { app, metrics } = server(t, { topology: { sync: work, finalize: work } })
  const call = (hook: string, uid: string) =>
    app.inject({ method: 'POST', url: `/hooks/replica-topology/${hook}`, headers: json, body: parent(uid) })
  const first = call('sync', 'a')
  const other = call('sync', 'b')
  await soon()
  for (const hook of ['sync', 'finalize']) {
    const second = await call(hook, 'a')
    t.equal(second.statusCode, 429)
    t.equal(second.headers['retry-after'], '1')
    t.equal(
      await metric(metrics, `storage_operator_reconcile_total{hook="replica-topology/${hook}",outcome="busy"}`),
      1,
    )
  }
  t.equal(calls, 2, 'the work was not repeated')
  gate.release()
  t.equal((await first).statusCode, 200)
  t.equal((await other).statusCode, 200)
  t.equal((await call('sync', 'a')).statusCode, 200, 'free again')
})

t.test('deadlines', async (t) => {
  // A deadline alone does not keep a process alive.
  const busy = setInterval(() => {}, 1_000)
  t.teardown(() => clearInterval(busy))
  const gate = latch()
  const signals: AbortSignal[] = []
  const slow = async (_: unknown, signal: AbortSignal) => {
    signals.push(signal)
    await gate.promise
    return answer
  }
  const slowPolicy = async (_: unknown, signal: AbortSignal) => {
    signals.push(signal)
    await gate.promise
    return policyAnswer
  }
  const { app } = server(t, {
    topology: { sync: slow, finalize: slow },
    policy: { sync: slowPolicy, finalize: slowPolicy },
    topologyDeadlineMs: 30,
    policyDeadlineMs: 30,
  })
  const call = (hook: string) => app.inject({ method: 'POST', url: `/hooks/${hook}`, headers: json, body: parent('a') })
  for (const hook of ['storage-policy/sync', 'replica-topology/sync']) {
    const response = await call(hook)
    t.equal(response.statusCode, 504, hook)
    t.strictSame(response.json(), { error: 'the call took too long' })
  }
  t.strictSame(
    signals.map(({ aborted }) => aborted),
    [true, true],
    'the work was told',
  )
  t.equal((await call('replica-topology/sync')).statusCode, 429, 'work that goes on still counts as running')
  gate.release()
  await soon()
  t.equal((await call('replica-topology/sync')).statusCode, 200)
})

t.test('work ends when the caller goes away', async (t) => {
  const aborted = latch()
  const started = latch()
  const sync = (_: unknown, signal: AbortSignal) =>
    new Promise<HookResponse>((_, reject) => {
      signal.addEventListener('abort', () => {
        aborted.release()
        reject(new Error('aborted'))
      })
      started.release()
    })
  const { app, metrics, lines } = server(t, { topology: { sync, finalize: sync } })
  const base = await listen(app)
  const request = httpRequest(`${base}/hooks/replica-topology/sync`, { method: 'POST', headers: json, agent: false })
  request.on('error', () => {})
  request.end(parent('a'))
  await started.promise
  request.destroy()
  await aborted.promise
  await soon()
  const line = 'storage_operator_reconcile_total{hook="replica-topology/sync",outcome="aborted"}'
  t.equal(await metric(metrics, line), 1)
  t.notOk(
    lines.some(({ level }) => Number(level) >= 40),
    'nothing to warn about',
  )
})

t.test('shutdown: what runs is finished, nothing new starts', async (t) => {
  const gate = latch()
  const started = latch()
  let calls = 0
  const sync = async () => {
    calls++
    started.release()
    await gate.promise
    return answer
  }
  const { app } = server(t, { topology: { sync, finalize: sync } })
  const base = await listen(app)
  const running = fetch(`${base}/hooks/replica-topology/sync`, { method: 'POST', headers: json, body: parent('a') })
  await started.promise

  // A call whose first bytes come before the server begins to close, and the others after.
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(base).port) })
  t.teardown(() => socket.destroy())
  const received = latch<string>()
  let text = ''
  socket.setEncoding('utf8')
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('close', () => received.release(text))
  socket.write('POST /hooks/replica-topology/sync HTTP/1.1\r\nHost: operator\r\n')
  await soon()
  const closed = app.close()
  await soon()
  socket.write(`Content-Type: application/json\r\nContent-Length: ${parent('b').length}\r\n\r\n${parent('b')}`)
  const refused = await received.promise
  t.match(refused, /^HTTP\/1\.1 503 /)
  t.match(refused, /retry-after: 1\r\n/i)
  t.match(refused, /connection: close\r\n/i)
  t.match(refused, '{"error":"the operator is shutting down"}')

  await t.rejects(fetch(`${base}/hooks/replica-topology/sync`, { method: 'POST' }), 'no new connection')
  gate.release()
  const response = await running
  t.equal(response.status, 200)
  t.equal(response.headers.get('connection'), 'close', 'connections are not kept')
  await closed
  t.equal(calls, 1)
})

t.test('what a policy decided is shown', async (t) => {
  const changes = Array.from({ length: 250 }, (_, i) => ({
    volume: `pv-${i}`,
    reason: 'DryRun',
    tier: 'NVMe',
    message: 'm',
  }))
  const summary = {
    policy: 'gold',
    volumesByTier: { NVMe: 3, Mixed: 1 },
    reasons: { DryRun: 4 },
    iops: { known: 3, unknown: { NoSeries: 2 } },
    breakerOpen: true,
    changes,
  }
  const answered = async () => ({ ...policyAnswer, summary })
  const { clock, pass } = manualClock()
  const { app, metrics, lines } = server(t, { clock, policy: { sync: answered, finalize: answered } })
  const call = (hook: string) =>
    app.inject({ method: 'POST', url: `/hooks/storage-policy/${hook}`, headers: json, body: '{}' })
  await call('sync')
  const changed = () => lines.filter(({ msg }) => msg === 'decision changed')
  await until(() => changed().length === 250)
  t.equal(changed().length, 250, 'one line a change')
  t.match(changed()[249], { policy: 'gold', volume: 'pv-249', reason: 'DryRun', tier: 'NVMe', message: 'm' })
  const byReason = 'storage_operator_volumes_by_reason{policy="gold",reason='
  t.equal(await metric(metrics, `${byReason}"DryRun"}`), 4)
  for (const reason of Object.keys(DECISION_REASONS)) {
    if (reason !== 'DryRun') t.equal(await metric(metrics, `${byReason}"${reason}"}`), 0, reason)
  }
  t.equal(await metric(metrics, 'storage_operator_volumes_by_tier{policy="gold",tier="NVMe"}'), 3)
  t.equal(await metric(metrics, 'storage_operator_volumes_by_tier{policy="gold",tier="SATA"}'), 0)
  t.equal(await metric(metrics, 'storage_operator_volumes_by_tier{policy="gold",tier="Mixed"}'), 1)
  t.equal(await metric(metrics, 'storage_operator_iops_known_volumes{policy="gold"}'), 3)
  t.equal(await metric(metrics, 'storage_operator_iops_unknown_volumes{policy="gold",reason="NoSeries"}'), 2)
  t.equal(await metric(metrics, 'storage_operator_iops_unknown_volumes{policy="gold",reason="StaleSample"}'), 0)
  t.equal(await metric(metrics, 'storage_operator_breaker_open{policy="gold"}'), 1)
  const decisions = 'storage_operator_decisions_total{policy="gold",reason='
  t.equal(await metric(metrics, `${decisions}"DryRun"}`), 250)
  t.equal(await metric(metrics, `${decisions}"Held"}`), 0)

  const ofPolicy = async () => (await metrics.registry.metrics()).split('\n').filter((line) => line.includes('"gold"'))
  await pass(11 * 60_000 - 1)
  await call('sync')
  await until(() => changed().length === 500)
  await pass(11 * 60_000 - 1)
  t.equal(await metric(metrics, `${byReason}"DryRun"}`), 4, 'synced every now and then')
  await pass(1)
  const onlyCounted = async () =>
    (await ofPolicy()).every((line) => line.startsWith('storage_operator_decisions_total'))
  await until(onlyCounted)
  t.ok(await onlyCounted(), 'not synced here for long, so somewhere else: only what was counted is still shown')
  t.equal(await metric(metrics, `${decisions}"DryRun"}`), 500)
  await call('sync')
  t.equal(await metric(metrics, `${byReason}"DryRun"}`), 4, 'and back')
  await call('finalize')
  await until(async () => (await ofPolicy()).length === 0)
  t.strictSame(await ofPolicy(), [], 'a policy that is deleted is forgotten')
  await pass(60 * 60_000)
})

t.test('what a call is logged with names the request', async (t) => {
  const changes = [{ volume: 'pv-1', reason: 'DryRun', message: 'm' }]
  const summary = { ...policyAnswer.summary, changes }
  const { app, lines } = server(t, {
    policy: { sync: async () => ({ ...policyAnswer, summary }), finalize: async () => policyAnswer },
    topology: {
      sync: async (_body, _signal, log) => {
        log.info('step')
        return answer
      },
      finalize: async () => answer,
    },
  })
  for (const hook of ['storage-policy/sync', 'replica-topology/sync', 'storage-policy/sync']) {
    await app.inject({ method: 'POST', url: `/hooks/${hook}`, headers: json, body: parent('a') })
  }
  const ids = (msg: string) => lines.filter((line) => line['msg'] === msg).map(({ reqId }) => reqId)
  await until(() => ids('decision changed').length === 2 && ids('hook call ended').length === 3)
  const [decided, , again] = ids('hook call ended')
  t.match(decided, /^[0-9a-f-]{36}$/)
  t.strictSame(ids('decision changed'), [decided, again], 'each decision')
  t.strictSame(ids('step'), [ids('hook call ended')[1]], 'and each step')
  t.equal(new Set(ids('hook call ended')).size, 3)
})

t.test('the wire guard', async (t) => {
  t.equal(toWire(answer), '{"status":{"phase":"Active"},"children":[],"resyncAfterSeconds":60}')
  t.equal(
    toWire({ ...answer, finalized: false }),
    '{"status":{"phase":"Active"},"children":[],"resyncAfterSeconds":60,"finalized":false}',
  )
  const bad: Record<string, [unknown, RegExp]> = {
    null: [null, /the answer is no object/],
    'a list': [[], /the answer is no object/],
    empty: [{}, /status is no object/],
    'no status': [{ ...answer, status: undefined }, /status is no object/],
    'null status': [{ ...answer, status: null }, /status is no object/],
    'no children': [{ ...answer, children: undefined }, /children is no list/],
    'null child': [{ ...answer, children: [{}, null] }, /children\/1 is no object/],
    'a hole': [{ ...answer, children: new Array(1) }, /children\/0 is no object/],
    'child that is text': [{ ...answer, children: ['a'] }, /children\/0 is no object/],
    'no resync': [{ ...answer, resyncAfterSeconds: undefined }, /resyncAfterSeconds/],
    'resync 0': [{ ...answer, resyncAfterSeconds: 0 }, /resyncAfterSeconds is 0/],
    'resync below 0': [{ ...answer, resyncAfterSeconds: -1 }, /resyncAfterSeconds/],
    'resync NaN': [{ ...answer, resyncAfterSeconds: Number.NaN }, /resyncAfterSeconds is NaN/],
    'resync for ever': [{ ...answer, resyncAfterSeconds: Number.POSITIVE_INFINITY }, /resyncAfterSeconds/],
    'resync as text': [{ ...answer, resyncAfterSeconds: '60' }, /resyncAfterSeconds/],
    'finalized as text': [{ ...answer, finalized: 'true' }, /finalized/],
    'an unknown field': [{ ...answer, error: 'x' }, /unknown field error/],
    'deep null': [{ ...answer, children: [{ spec: { a: [1, { b: null }] } }] }, /children\/0\/spec\/a\/1\/b is not/],
    'deep undefined': [{ ...answer, status: { a: { b: undefined } } }, /status\/a\/b is not plain JSON/],
    'deep NaN': [{ ...answer, status: { n: [Number.NaN] } }, /status\/n\/0 is not/],
    'deep Infinity': [{ ...answer, status: { n: -Infinity } }, /status\/n is not/],
    'a bigint': [{ ...answer, status: { n: 1n } }, /status\/n is not/],
    'a function': [{ ...answer, status: { f: () => 1 } }, /status\/f is not/],
  }
  for (const [name, [value, message]] of Object.entries(bad)) {
    t.throws(() => toWire(value as HookResponse), { name: 'WireError', message }, name)
  }
  t.throws(() => customizeToWire({ relatedResources: [null] } as never), WireError)
  t.throws(() => customizeToWire({} as never), WireError)
  const rule = { apiVersion: 'v1', resource: 'x', labelSelector: undefined }
  t.throws(() => customizeToWire({ relatedResources: [rule] } as never), WireError)

  const child = (i: number) => ({
    apiVersion: 'v1',
    kind: 'ReplicaTopology',
    metadata: { name: `pvc-${i}`, labels: { a: 'b' } },
    spec: { volumeID: `${i}`, decision: { tier: 'NVMe', reason: 'Cooldown', message: 'x' }, pools: [{ pool: 'p' }] },
  })
  const large = { ...answer, children: Array.from({ length: 10_000 }, (_, i) => child(i)) }
  const startMs = performance.now()
  toWire(large)
  t.comment(`10,000 children: ${Math.round(performance.now() - startMs)} ms`)
})

t.test('policy hooks on the same thread', async (t) => {
  const seen: unknown[] = []
  const hooks = inlinePolicyHooks({
    run: async (hook, body, { now }) => {
      seen.push([hook, body, now])
      return { response: answer, summary: policyAnswer.summary }
    },
    prometheus: { signals: async () => new Map() },
    clock: { ...systemClock, now: () => 7 },
    options: { dryRun: false, preservationMode: false, maxConcurrentMigrations: 2, migrationTimeoutMinutes: 30 },
  })
  const { signal } = new AbortController()
  const bytes = (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer
  const { body } = await hooks.sync(bytes('{"a":"ä"}'), signal)
  t.equal(new TextDecoder().decode(body), toWire(answer))
  await hooks.finalize(bytes('1'), signal)
  t.strictSame(seen, [
    ['sync', { a: 'ä' }, 7],
    ['finalize', 1, 7],
  ])
  await t.rejects(hooks.sync(bytes('{'), signal), { statusCode: 400, message: 'the body is not JSON' })
  await hooks.close()
})

/** A worker that does what its request says, in place of deciding. */
const WORKER = `
import { threadId } from 'node:worker_threads'
const summary = { policy: 'p', volumesByTier: {}, reasons: {}, iops: { known: 0, unknown: {} }, breakerOpen: false, changes: [] }
const hoard = []
export async function sync({ body, credentials }) {
  const request = JSON.parse(Buffer.from(body).toString('utf8'))
  if (request.crash) process.exit(3)
  if (request.bug) throw new TypeError('a bug')
  if (request.hang) await new Promise((resolve) => setTimeout(resolve, 60_000))
  while (request.hoard) hoard.push(new Array(1_000_000).fill(hoard.length))
  const queries = [{ signal: 'readIOPS', outcome: 'ok', seconds: 0.1 }]
  if (request.refuse) return { kind: 'refused', statusCode: 422, message: 'refused', queries }
  const until = Date.now() + (request.busyMs ?? 0)
  while (Date.now() < until);
  const said = request.credentials ? JSON.stringify(credentials) : String(threadId)
  return { kind: 'answer', body: new TextEncoder().encode(said), summary, queries }
}
export const finalize = sync
`

function workerHooks(t: Test, options: { maxHeapMb?: number; credentials?: CredentialSource } = {}) {
  const dir = t.testdir({ 'worker.mjs': WORKER })
  const queries: unknown[] = []
  const errors: unknown[] = []
  const hooks = workerPolicyHooks({
    workerData: {
      prometheusUrl: 'http://127.0.0.1:1',
      options: { dryRun: false, preservationMode: false, maxConcurrentMigrations: 2, migrationTimeoutMinutes: 30 },
    },
    onQuery: (report) => queries.push(report),
    onError: (error) => errors.push(error),
    file: pathToFileURL(`${dir}/worker.mjs`),
    ...options,
  })
  t.teardown(() => hooks.close())
  const call = (app: FastifyInstance, request: object) =>
    app.inject({ method: 'POST', url: '/hooks/storage-policy/sync', headers: json, body: JSON.stringify(request) })
  return { hooks, call, queries, errors }
}

t.test('policy hooks in a worker thread', async (t) => {
  const { hooks, call, queries } = workerHooks(t)
  await hooks.warmUp()
  const { app } = server(t, { policy: hooks })
  const first = await call(app, {})
  t.equal(first.statusCode, 200)
  t.strictSame(queries, [{ signal: 'readIOPS', outcome: 'ok', seconds: 0.1 }], 'queries are reported')
  t.equal((await call(app, {})).body, first.body, 'the same thread')

  const refused = await call(app, { refuse: true })
  t.equal(refused.statusCode, 422, 'the status survives the way between the threads')
  t.strictSame(refused.json(), { error: 'refused' })
  t.equal((await call(app, { bug: true })).statusCode, 500)

  const crashed = await call(app, { crash: true })
  t.equal(crashed.statusCode, 500, 'a crash fails its call')
  t.strictSame(crashed.json(), { error: 'internal error' })
  const after = await call(app, {})
  t.equal(after.statusCode, 200, 'and no other')
  t.not(after.body, first.body, 'a new thread')

  const { app: impatient, lines } = server(t, { policy: hooks, policyDeadlineMs: 500 })
  t.equal((await call(impatient, { hang: true })).statusCode, 504, 'what hangs is given up')
  t.equal((await call(app, {})).statusCode, 200, 'and does not keep the next call waiting')
  t.ok(
    lines.some(({ level, msg }) => level === 50 && msg === 'hook call failed'),
    'failures are logged',
  )
})

t.test('the worker has the credentials of the moment', async (t) => {
  let token = 'one'
  const { hooks, call } = workerHooks(t, { credentials: () => ({ token, authorities: 'pem' }) })
  const { app } = server(t, { policy: hooks })
  t.strictSame((await call(app, { credentials: true })).json(), { token: 'one', authorities: 'pem' })
  token = 'two'
  t.strictSame((await call(app, { credentials: true })).json(), { token: 'two', authorities: 'pem' })
})

t.test('a worker out of memory fails its call only', async (t) => {
  const { hooks, call } = workerHooks(t, { maxHeapMb: 64 })
  const { app } = server(t, { policy: hooks })
  t.equal((await call(app, { hoard: true })).statusCode, 500)
  t.equal((await call(app, {})).statusCode, 200)
})

t.test('other hooks answer while a policy of 10,000 volumes is decided', async (t) => {
  const { hooks } = workerHooks(t)
  await hooks.warmUp()
  const { app } = server(t, { policy: hooks })
  const base = await listen(app)
  const volume = {
    metadata: { name: 'pvc', managedFields: ['x'.repeat(3_000)] },
    spec: { a: [1, 2, 3], b: { c: 'd' } },
  }
  const volumes = Array.from({ length: 24_000 }, () => volume)
  const body = Buffer.from(JSON.stringify({ busyMs: 1_000, volumes }))
  let running = true
  const startMs = performance.now()
  const large = fetch(`${base}/hooks/storage-policy/sync`, { method: 'POST', headers: json, body }).then((response) => {
    running = false
    return response.status
  })
  const waits: number[] = []
  while (running) {
    const before = performance.now()
    const hook = waits.length % 2 === 0 ? 'storage-policy/customize' : 'replica-topology/sync'
    const options = { method: 'POST', headers: json, body: parent('a') }
    t.equal((await fetch(`${base}/hooks/${hook}`, options)).status, 200)
    waits.push(performance.now() - before)
    await soon(10)
  }
  t.equal(await large, 200)
  waits.sort((a, b) => a - b)
  t.comment(
    `${Math.round(body.length / 1e6)} MB took ${Math.round(performance.now() - startMs)} ms; ` +
      `of ${waits.length} calls meanwhile the slowest took ${Math.round(waits.at(-1) ?? 0)} ms`,
  )
  t.ok(waits.length > 10, 'many calls were answered meanwhile')
})

t.test('what a call says about who was called', async (t) => {
  const queries: [Parameters<typeof prometheusProblem>[0], string | undefined][] = [
    [{ outcome: 'ok' }, undefined],
    [{ outcome: 'warning' }, undefined],
    [{ outcome: 'http_error', status: 400 }, undefined],
    [{ outcome: 'http_error', status: 422 }, undefined],
    [{ outcome: 'http_error', status: 401 }, 'HTTP 401'],
    [{ outcome: 'http_error', status: 503 }, 'HTTP 503'],
    [{ outcome: 'timeout' }, 'no answer in time'],
    [{ outcome: 'unreachable' }, 'no connection'],
    [{ outcome: 'invalid' }, 'what answers is not Prometheus'],
  ]
  for (const [report, problem] of queries) t.equal(prometheusProblem(report), problem, JSON.stringify(report))
  const calls: [Parameters<typeof mayastorProblem>[0], string | undefined][] = [
    [{ outcome: 'ok', status: 200 }, undefined],
    [{ outcome: 'refused', status: 404 }, undefined],
    [{ outcome: 'refused', status: 412 }, undefined],
    [{ outcome: 'refused', status: 401 }, 'HTTP 401'],
    [{ outcome: 'refused', status: 403 }, 'HTTP 403'],
    [{ outcome: 'unknown', status: 503 }, 'HTTP 503'],
    [{ outcome: 'unknown', status: undefined }, 'no answer'],
    [{ outcome: 'invalid', status: 200 }, 'what answers is not Mayastor'],
  ]
  for (const [report, problem] of calls) t.equal(mayastorProblem(report), problem, JSON.stringify(report))
})

t.test('health and metrics servers', async (t) => {
  let monotonic = 0
  const at = Date.UTC(2026, 0, 1)
  const health = createHealth({ ...systemClock, now: () => at + monotonic, monotonic: () => monotonic })
  const metrics = createMetrics({ version: '1.2.3', runtime: true })
  const address = { host: '127.0.0.1', port: 0 }
  const healthServer = await serveHealth(address, health)
  const metricsServer = await serveMetrics(address, metrics.registry)
  t.teardown(() => Promise.all([healthServer.close(), metricsServer.close()]))
  const ask = (port: number, path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method })
  const { port } = healthServer.address

  t.equal((await ask(port, '/readyz')).status, 503, 'before listening')
  t.equal((await ask(port, '/healthz')).status, 200)
  health.enter('ready')
  let ready = await ask(port, '/readyz?verbose')
  t.equal(ready.status, 200)
  t.strictSame(await ready.json(), { status: 'ready', dependencies: { prometheus: {}, mayastor: {}, kubernetes: {} } })
  health.observe('mayastor', undefined)
  monotonic = 3_500
  health.observe('prometheus', 'no connection')
  monotonic = 5_000
  health.observe('prometheus', 'HTTP 401')
  health.observe('kubernetes', 'list leases: HTTP 403')
  health.observe('kubernetes', undefined)
  monotonic = 7_200
  ready = await ask(port, '/readyz')
  t.equal(ready.status, 200, 'whatever the dependencies do')
  t.strictSame((await ready.json()) as object, {
    status: 'ready',
    dependencies: {
      prometheus: { reachable: false, why: 'HTTP 401', since: '2026-01-01T00:00:03Z', ageSeconds: 2 },
      mayastor: { reachable: true, ageSeconds: 7 },
      kubernetes: { reachable: true, ageSeconds: 2 },
    },
  })
  health.observe('prometheus', undefined)
  monotonic = 60_000
  health.observe('prometheus', 'no connection')
  t.match(health.dependencies().prometheus, { since: '2026-01-01T00:01:00Z' }, 'since the last time it was reachable')
  health.enter('stopping')
  t.equal((await ask(port, '/readyz')).status, 503)
  t.equal((await ask(port, '/healthz')).status, 200)
  t.equal((await ask(port, '/metrics')).status, 404)
  t.equal((await ask(port, '/readyz', 'POST')).status, 405)
  t.equal((await ask(port, '/constructor')).status, 404)
  t.equal((await ask(port, '/healthz', 'HEAD')).status, 200)

  const scraped = await ask(metricsServer.address.port, '/metrics')
  t.match(scraped.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  const text = await scraped.text()
  for (const line of [
    'storage_operator_migrations_total{status="success"} 0',
    'storage_operator_migrations_total{status="failed"} 0',
    'storage_operator_migrations_total{status="aborted"} 0',
    'storage_operator_active_migrations 0',
    'storage_operator_held_migrations 0',
    'storage_operator_reconcile_total{hook="storage-policy/sync",outcome="success"} 0',
    'storage_operator_build_info{version="1.2.3"} 1',
  ]) {
    t.ok(text.split('\n').includes(line), line)
  }
  t.match(text, 'process_cpu_seconds_total')
  await t.rejects(serveHealth({ host: '127.0.0.1', port }, health), { code: 'EADDRINUSE' })

  await new Promise((resolve) =>
    get(`http://127.0.0.1:${port}/healthz`, { agent: new Agent({ keepAlive: true }) }, resolve),
  )
  await healthServer.close()
  t.pass('open connections do not delay closing')
})
