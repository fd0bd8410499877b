import t from 'tap'
import { durationMs } from '../../../src/embedded/metacontroller/webhook.js'
import { type Answer, API, boxController, START, widget, widgetController, world } from './harness.js'

t.test('the request is what Metacontroller sends', async (t) => {
  const spec = boxController(['sync', 'customize'], {
    childResources: [
      { apiVersion: API, resource: 'widgets', updateStrategy: { method: 'InPlace' } },
      { apiVersion: 'v1', resource: 'configmaps' },
    ],
  })
  const w = await world(t.teardown, [spec], {
    '/box/customize': () => ({
      relatedResources: [
        { apiVersion: 'v1', resource: 'persistentvolumeclaims', namespace: 'one' },
        { apiVersion: 'v1', resource: 'persistentvolumeclaims', names: ['p'] },
        { apiVersion: 'storage.k8s.io/v1', resource: 'storageclasses' },
      ],
    }),
    '/box/sync': () => ({ status: {}, children: [widget('w')] }),
  })
  const box = w.box({ a: 1 })
  for (const [namespace, name] of [
    ['one', 'p'],
    ['one', 'q'],
    ['two', 'p'],
    ['two', 'q'],
  ]) {
    w.store.create({ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { namespace, name } })
  }
  w.mc.start()
  await w.pass(5000)
  t.strictSame(Object.keys(w.bodies('/box/customize')[0] ?? {}), ['controller', 'parent'])
  const first = w.bodies('/box/sync')[0]
  t.strictSame(Object.keys(first ?? {}), ['controller', 'parent', 'children', 'related', 'finalizing'])
  t.strictSame(first?.parent, box, 'as it is stored, managedFields and all')
  t.match(first?.controller, { kind: 'CompositeController', metadata: { name: 'boxes' }, spec: spec.spec })
  t.strictSame(first?.children, { 'Widget.test.example/v1': {}, 'ConfigMap.v1': {} })
  t.strictSame(
    Object.fromEntries(Object.entries(first?.related ?? {}).map(([kind, objects]) => [kind, Object.keys(objects)])),
    { 'PersistentVolumeClaim.v1': ['one/p', 'one/q', 'two/p'], 'StorageClass.storage.k8s.io/v1': [] },
    'rules of one kind are united, empty groups are there',
  )
  t.equal(first?.finalizing, false)
  t.strictSame(w.bodies('/box/sync').at(-1)?.children['Widget.test.example/v1']?.['w'], w.widget('w'))
  const call = w.mc.calls.find(({ hook }) => hook === 'sync')
  t.match(call, { controller: 'boxes', parent: 'b', status: 200 })
  t.ok((call?.requestBytes ?? 0) > 500)
})

t.test('onCall shows request and response', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], { '/box/sync': () => ({ body: 'not json' }) })
  const seen: unknown[] = []
  w.mc.onCall((exchange) => seen.push(exchange))
  w.box()
  w.mc.start()
  await w.pass(3)
  t.match(seen, [
    {
      controller: 'boxes',
      hook: 'sync',
      parent: 'b',
      request: { finalizing: false },
      response: 'not json',
      status: 200,
    },
  ])
})

t.test('answers to sync', async (t) => {
  const kept = ['w']
  const gone: string[] = []
  const cases: { name: string; answer: Answer; children: string[]; error?: RegExp; violation?: RegExp }[] = [
    { name: 'children missing', answer: { body: { status: {} } }, children: gone, violation: /children is missing/ },
    {
      name: 'children null',
      answer: { body: { status: {}, children: null } },
      children: gone,
      violation: /children is missing or null/,
    },
    { name: 'children empty', answer: { body: { status: {}, children: [] } }, children: gone },
    { name: 'body null', answer: { body: 'null' }, children: gone, violation: /the body is null/ },
    { name: 'body {}', answer: { body: {} }, children: gone, violation: /status is missing/ },
    {
      name: 'child null',
      answer: { body: { status: {}, children: [null] } },
      children: kept,
      error: /crash/,
      violation: /crashes Metacontroller/,
    },
    {
      name: 'child without kind',
      answer: { body: { children: [{ apiVersion: API }] } },
      children: kept,
      error: /'Kind' is missing/,
    },
    {
      name: 'child not an object',
      answer: { body: { children: [1] } },
      children: kept,
      error: /children\[0\] is not an object/,
    },
    {
      name: 'unknown field',
      answer: { body: { children: [], labels: {} } },
      children: kept,
      error: /unknown field "labels"/,
      violation: /unknown field/,
    },
    { name: 'an error with 200', answer: { body: { error: 'no' } }, children: kept, error: /unknown field "error"/ },
    { name: 'body an array', answer: { body: [] }, children: kept, error: /the body is not an object \(array\)/ },
    { name: 'body empty', answer: { body: '' }, children: kept, error: /can't unmarshal/ },
    { name: 'status a string', answer: { body: { status: 'x' } }, children: kept, error: /status is not an object/ },
    {
      name: 'children an object',
      answer: { body: { children: {} } },
      children: kept,
      error: /children is not an array/,
    },
    {
      name: 'resyncAfterSeconds a string',
      answer: { body: { resyncAfterSeconds: '3' } },
      children: kept,
      error: /not a number/,
    },
    { name: 'finalized a string', answer: { body: { finalized: 'true' } }, children: kept, error: /not a boolean/ },
    {
      name: 'status with null',
      answer: { body: { status: { seen: null }, children: [] } },
      children: gone,
      violation: /status\.seen is null/,
    },
    {
      name: '500',
      answer: { status: 500, body: 'down' },
      children: kept,
      error: /unsupported status code: 500 body: down/,
    },
    { name: '204', answer: { status: 204, body: '' }, children: kept, error: /204/ },
  ]
  for (const { name, answer, children, error, violation } of cases) {
    await t.test(name, async (t) => {
      let current: Answer = { body: { status: { seen: 'before' }, children: [widget('w')] } }
      const w = await world(t.teardown, [boxController(['sync'])], { '/box/sync': () => current })
      const box = w.box()
      w.mc.start()
      await w.pass(1000)
      current = answer
      w.store.patchMetadata(box, { labels: { go: '1' } })
      await w.pass(3)
      t.strictSame(
        w.store.list(API, 'Widget').map((object) => (object as { metadata: { name: string } }).metadata.name),
        children,
      )
      if (error === undefined) {
        t.strictSame(w.mc.errors, [])
        t.notMatch(w.store.get(box)?.status, { seen: 'before' }, 'status replaced')
        t.equal(w.store.get(box)?.status?.['observedGeneration'], 1)
      } else {
        t.match(w.mc.errors[0]?.message, error)
        t.match(w.mc.calls.at(-1)?.error, error)
        t.match(w.store.get(box)?.status, { seen: 'before' }, 'nothing changed')
      }
      if (violation !== undefined) t.match(w.mc.violations.join('\n'), violation)
    })
  }
})

t.test('loose mode, which v1 has by default, reads an error with 200 as "delete everything"', async (t) => {
  let body: object = { status: {}, children: [widget('w')] }
  const spec = boxController([])
  const hooks = { sync: { webhook: { service: { name: 'hooks', namespace: 'ns', port: 8082 }, path: '/box/sync' } } }
  const w = await world(t.teardown, [{ ...spec, spec: { ...spec.spec, hooks } }], { '/box/sync': () => ({ body }) })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  body = { error: 'no' }
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(1000)
  t.equal(w.widget('w'), undefined)
  t.strictSame(w.mc.errors, [])
})

t.test('status', async (t) => {
  let status: object = { seen: 'x', observedGeneration: 77 }
  const w = await world(t.teardown, [widgetController(['sync'])], { '/widget/sync': () => ({ status, children: [] }) })
  const parent = w.store.create(widget('w'))
  w.mc.start()
  await w.pass(1000)
  t.strictSame(w.widget('w')?.status, { seen: 'x', observedGeneration: 1 }, 'our observedGeneration is overwritten')
  t.equal(w.widget('w')?.metadata.generation, 1)

  status = {}
  w.store.patch(parent, { spec: { size: 2 } })
  await w.pass(1000)
  t.strictSame(w.widget('w')?.status, { observedGeneration: 2 }, 'replaced as a whole')

  status = { seen: 5 }
  w.store.patch(parent, { spec: { size: 3 } })
  await w.pass(1000)
  t.match(w.mc.errors.at(-1)?.message, /can't update status .*status\.seen: Invalid value: 5/)

  status = { dropped: 1 }
  w.store.patch(parent, { spec: { size: 4 } })
  await w.pass(120_000)
  w.newWrites()
  w.store.patchMetadata(parent, { labels: { go: '1' } })
  await w.pass(1000)
  t.equal(w.newWrites().length, 1, 'only the label')
  t.match(w.mc.violations, [/drops or rewrites part of the status/])
})

t.test('a hook that fails is retried with exponential back-off, and forgiven after a success', async (t) => {
  let status = 500
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status, body: { status: {}, children: [] } }),
  })
  const box = w.box()
  w.mc.start()
  const times = () => w.mc.calls.map(({ at }) => at - START)
  await w.pass(700)
  t.strictSame(times(), [0, 5, 15, 35, 75, 155, 315, 635])
  t.notOk(w.mc.idle(), 'a retry is pending')
  t.equal(w.mc.errors.length, 8)
  await w.pass(3 * 3_600_000)
  const gaps = times().map((at, index, all) => at - (all[index - 1] ?? 0))
  t.ok(
    gaps.every((gap) => gap <= 1_000_000),
    'at most 1000 s',
  )
  t.ok(times().length < 45, 'grown to that')
  status = 200
  await w.pass(1_000_000)
  t.ok(w.mc.idle())
  status = 500
  const before = w.mc.calls.length
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(3)
  await w.pass(5)
  t.equal(w.mc.calls.length, before + 2, 'starts over at 5 ms')
})

t.test('retries of many parents share a bucket', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], { '/box/sync': () => ({ status: 500, body: '' }) })
  for (let i = 0; i < 130; i++) w.box({}, `b${i}`)
  w.mc.start()
  await w.pass(6)
  const seconds = w.mc.calls.filter(({ at }) => at > START).length
  t.equal(seconds, 100, 'a burst of 100, the rest 10 a second')
})

t.test('429', async (t) => {
  const date = new Date(START + 7000).toUTCString()
  const cases = [
    { name: 'seconds', headers: { 'retry-after': '3' }, next: 3000 },
    { name: 'date', headers: { 'retry-after': date }, next: 7000 },
    { name: 'fraction', headers: { 'retry-after': '2.5' }, next: 1 },
    { name: 'nothing', headers: {}, next: 1 },
  ]
  for (const { name, headers, next } of cases) {
    await t.test(name, async (t) => {
      let calls = 0
      const w = await world(t.teardown, [boxController(['sync'])], {
        '/box/sync': () =>
          calls++ === 0
            ? { status: 429, headers: headers as Record<string, string>, body: '' }
            : { status: {}, children: [] },
      })
      w.box()
      w.mc.start()
      await w.pass(100)
      t.equal(w.mc.idle(), next === 1)
      await w.pass(10_000)
      t.equal((w.mc.calls[1]?.at ?? 0) - START, next)
      t.strictSame(w.mc.errors, [], 'no event')
      t.equal(w.mc.violations.length, next === 1 ? 1 : 0)
    })
  }
})

t.test('a webhook times out on simulated time', async (t) => {
  const cases = [
    { timeout: '30s', works: 29_000, status: 200 },
    { timeout: '30s', works: 31_000, status: 0 },
    { timeout: '0s', works: 11_000, status: 0 },
  ]
  for (const { timeout, works, status } of cases) {
    await t.test(`timeout ${timeout}, work ${works} ms`, async (t) => {
      const w = await world(t.teardown, [boxController(['sync'], {}, timeout)], {
        '/box/sync': async (_body, gone) => {
          await w.clock.sleep(works, gone)
          return { status: {}, children: [] }
        },
      })
      w.box()
      w.mc.start()
      const began = Date.now()
      await w.pass(31_000)
      t.equal(w.mc.calls[0]?.status, status)
      if (status === 0) t.match(w.mc.calls[0]?.error, /deadline exceeded/)
      t.ok(Date.now() - began < 5000, 'in no time')
    })
  }
})

t.test('nobody at the other end, and a stop in the middle of a call', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': async (_body, gone) => {
      await w.clock.sleep(5000, gone)
      return { status: {}, children: [widget('w')] }
    },
  })
  w.box()
  w.mc.start()
  t.throws(() => w.mc.start(), /already started/)
  await w.pass(1000)
  w.newWrites()
  const again = await w.restart()
  t.match(w.mc.calls, [{ status: 0, error: /context canceled/ }])
  t.strictSame(w.newWrites(), [])
  await w.pass(6000)
  t.equal(again.calls[0]?.status, 200)
  t.ok(w.widget('w'), 'the next process finds everything it needs in the store')
  await w.mc.stop()

  const dead = await world(t.teardown, [boxController(['sync'])], {}, { baseUrl: 'http://127.0.0.1:1' })
  dead.box()
  dead.mc.start()
  await dead.pass(3)
  t.match(dead.mc.errors[0]?.message, /http error/)
})

t.test('workers bound the calls in flight, and a parent is never called twice at once', async (t) => {
  let inFlight = 0
  let most = 0
  const w = await world(
    t.teardown,
    [boxController(['sync'])],
    {
      '/box/sync': async (body, gone) => {
        inFlight++
        most = Math.max(most, inFlight)
        w.store.patchMetadata(body.parent, { labels: { seen: 'yes' } })
        await w.clock.sleep(100, gone)
        inFlight--
        return { status: {}, children: [] }
      },
    },
    { workers: 2 },
  )
  for (const name of ['b1', 'b2', 'b3']) w.box({}, name)
  w.mc.start()
  await w.pass(2000)
  t.equal(most, 2)
  t.strictSame(
    w.mc.calls.map(({ parent, at }) => `${parent} ${at - START}`),
    ['b1 0', 'b2 0', 'b3 100', 'b1 100', 'b2 200', 'b3 200'],
    'what came in meanwhile is done afterwards',
  )
})

t.test('idle ends a run', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w')], resyncAfterSeconds: 300 }),
  })
  w.box()
  t.ok(w.mc.idle(), 'before it starts')
  w.mc.start()
  await w.clock.run(START + 100_000, () => w.mc.idle())
  t.ok(w.clock.now() < START + 1000)
  t.ok(w.widget('w'), 'a resync to come is no work')
})

t.test('controllers that cannot start', async (t) => {
  const cases = [
    {
      name: 'unknown parent',
      spec: { parentResource: { apiVersion: API, resource: 'nothings' } },
      error: /can't find resource nothings/,
    },
    {
      name: 'built-in parent',
      spec: { parentResource: { apiVersion: 'v1', resource: 'nodes' } },
      error: /not a custom resource/,
    },
    { name: 'unknown child', spec: { childResources: [{ apiVersion: API, resource: 'nothings' }] }, error: /nothings/ },
    { name: 'no url', spec: { hooks: { sync: { webhook: {} } } }, error: /invalid webhook config/ },
    {
      name: 'bad timeout',
      spec: { hooks: { sync: { webhook: { url: 'http://x/', timeout: '5 minutes' } } } },
      error: /invalid duration/,
    },
  ]
  for (const { name, spec, error } of cases) {
    await t.test(name, async (t) => {
      const w = await world(t.teardown, [boxController(['sync'], spec)], {})
      t.throws(() => w.mc.start(), error)
    })
  }
  t.equal(durationMs('1m30s'), 90_000)
  t.equal(durationMs('1.5h'), 5_400_000)
})
