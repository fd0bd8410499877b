import t from 'tap'
import type { KubeObject } from '../../../src/embedded/metacontroller/index.js'
import { API, boxController, widget, widgetController, world } from './harness.js'

const FINALIZER = 'metacontroller.io/compositecontroller-boxes'

t.test(
  'the finalizer comes before the first hook, finalize instead of sync, and the object goes when it says so',
  async (t) => {
    let finalized = false
    const w = await world(t.teardown, [boxController(['sync', 'finalize'])], {
      '/box/sync': () => ({ status: {}, children: [widget('w1'), widget('w2')] }),
      '/box/finalize': () => ({
        status: { going: true },
        children: finalized ? [] : [widget('w1')],
        finalized,
        resyncAfterSeconds: 5,
      }),
    })
    const box = w.box()
    w.mc.start()
    await w.pass(1000)
    t.strictSame(w.bodies('/box/sync')[0]?.parent.metadata.finalizers, [FINALIZER])
    w.store.delete(box)
    await w.pass(1000)
    const request = w.bodies('/box/finalize')[0]
    t.equal(request?.finalizing, true)
    t.equal(request?.parent.metadata.generation, 2)
    t.strictSame(Object.keys(request?.children['Widget.test.example/v1'] ?? {}), ['w1', 'w2'])
    t.ok(w.widget('w1'), 'still wanted')
    t.equal(w.widget('w2'), undefined)
    t.strictSame(w.store.get(box)?.status, { going: true, observedGeneration: 2 })
    t.ok(w.store.get(box)?.metadata.deletionTimestamp)
    finalized = true
    w.newWrites()
    await w.pass(5000)
    t.equal(w.store.get(box), undefined)
    t.equal(w.widget('w1'), undefined, 'left to the garbage collector')
    t.strictSame(w.newWrites(), [
      'metacontroller/boxes: update Box b',
      'metacontroller/boxes: delete Box b',
      'garbage-collector: delete Widget w1',
    ])
    t.strictSame(w.mc.violations, [])
    t.strictSame(w.mc.errors, [])
  },
)

t.test('a parent whose children another controller finalizes', async (t) => {
  let allowed = false
  const w = await world(t.teardown, [boxController(['sync', 'finalize']), widgetController(['sync', 'finalize'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w')] }),
    '/box/finalize': ({ children }) => ({
      status: {},
      children: [],
      finalized: Object.keys(children['Widget.test.example/v1'] ?? {}).length === 0,
    }),
    '/widget/sync': () => ({ status: {}, children: [] }),
    '/widget/finalize': () => ({ status: {}, children: [], finalized: allowed, resyncAfterSeconds: 30 }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.delete(box)
  await w.pass(10_000)
  t.ok(w.store.get(box))
  t.ok(w.widget('w')?.metadata.deletionTimestamp)
  allowed = true
  await w.pass(60_000)
  t.equal(w.widget('w'), undefined)
  t.equal(w.store.get(box), undefined)
  t.strictSame(w.mc.violations, [])
})

t.test('a failing finalize keeps the parent, for as long as it takes', async (t) => {
  let status = 500
  const w = await world(t.teardown, [boxController(['sync', 'finalize'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w')] }),
    '/box/finalize': () => ({ status, body: { status: {}, children: [], finalized: true } }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.delete(box)
  await w.pass(3_600_000)
  t.ok(w.store.get(box))
  t.ok(w.widget('w'))
  status = 200
  await w.pass(1_000_000)
  t.equal(w.store.get(box), undefined)
})

t.test('finalizers of others: called again until they are gone, without touching children', async (t) => {
  const w = await world(t.teardown, [boxController(['sync', 'finalize'])], {
    '/box/sync': () => ({ status: {}, children: [] }),
    '/box/finalize': () => ({ status: {}, children: [widget('w')], finalized: true }),
  })
  const box = w.store.create({ apiVersion: API, kind: 'Box', metadata: { name: 'b', finalizers: ['x.example/y'] } })
  w.mc.start()
  await w.pass(1000)
  w.store.delete(box)
  await w.pass(1000)
  t.strictSame(w.store.get(box)?.metadata.finalizers, ['x.example/y'])
  t.ok(w.bodies('/box/finalize').length >= 2)
  t.equal(w.widget('w'), undefined)
})

t.test(
  'without a finalize hook: an old finalizer is taken off, and sync of a deleting parent leaves children alone',
  async (t) => {
    const w = await world(t.teardown, [boxController(['sync'])], {
      '/box/sync': ({ parent }) => ({
        status: {},
        children: parent.metadata.deletionTimestamp === undefined ? [widget('w')] : [],
      }),
    })
    const box = w.store.create({
      apiVersion: API,
      kind: 'Box',
      metadata: { name: 'b', finalizers: [FINALIZER, 'x.example/y'] },
    })
    w.mc.start()
    await w.pass(1000)
    t.strictSame(w.store.get(box)?.metadata.finalizers, ['x.example/y'])
    w.store.delete(box)
    await w.pass(1000)
    t.ok(w.widget('w'))
    w.store.patchMetadata(box, { finalizers: [] })
    await w.pass(1000)
    t.equal(w.widget('w'), undefined, 'the garbage collector took it')
  },
)

t.test('finalized from sync takes the finalizer away', async (t) => {
  const answers = [{ finalized: true }]
  const w = await world(t.teardown, [boxController(['sync', 'finalize'])], {
    '/box/sync': () => ({ status: {}, children: [], ...answers.shift() }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  t.notOk(w.store.get(box)?.metadata.finalizers)
  t.match(w.mc.violations, [/finalized: true from the sync hook/])
})

t.test('a controller name too long for a finalizer fails every sync', async (t) => {
  const spec = boxController(['sync', 'finalize'])
  const w = await world(t.teardown, [{ ...spec, metadata: { name: 'x'.repeat(44) } }], {})
  w.box()
  w.mc.start()
  await w.pass(3)
  t.match(w.mc.errors[0]?.message, /metadata\.finalizers: Invalid value/)
  t.strictSame(w.mc.calls, [])
})

t.test('a parent that stops matching labelSelector is finalized while it lives on', async (t) => {
  const parentResource = { apiVersion: API, resource: 'boxes', labelSelector: { matchLabels: { on: 'yes' } } }
  const w = await world(t.teardown, [boxController(['sync', 'finalize'], { parentResource })], {
    '/box/sync': () => ({ status: {}, children: [widget('w')] }),
    '/box/finalize': ({ children }) => ({
      status: {},
      children: [],
      finalized: Object.values(children)[0]?.['w'] === undefined,
    }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  t.strictSame(w.mc.calls, [], 'none of its business')
  w.store.patchMetadata(box, { labels: { on: 'yes' } })
  await w.pass(1000)
  t.ok(w.widget('w'))
  w.store.patchMetadata(box, { labels: { on: 'no' } })
  await w.pass(1000)
  t.equal(w.widget('w'), undefined)
  t.notOk(w.store.get(box)?.metadata.finalizers)
  t.notOk(w.store.get(box)?.metadata.deletionTimestamp)
})

t.test('foreground deletion leaves the children to the garbage collector', async (t) => {
  const w = await world(t.teardown, [boxController(['sync', 'finalize'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w')] }),
    '/box/finalize': () => ({ status: {}, children: [widget('w'), widget('more')], finalized: true }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.delete(box, 'kubectl', { propagation: 'Foreground' })
  await w.pass(1000)
  t.equal(w.store.get(box), undefined)
  t.equal(w.widget('w'), undefined)
  t.equal(w.widget('more'), undefined)
})

t.test('deletion with orphaning keeps the children, and a recreated parent cannot have them', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w', { size: 2 })] }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.delete(box, 'kubectl', { propagation: 'Orphan' })
  await w.pass(1000)
  t.equal(w.store.get(box), undefined)
  t.notOk(w.widget('w')?.metadata.ownerReferences)
  const orphan = w.widget('w') as KubeObject
  w.box()
  await w.pass(1000)
  t.strictSame(w.widget('w'), orphan)
  t.strictSame(w.mc.errors, [])
})

t.test('a parent that went behind a lagging cache', async (t) => {
  const w = await world(
    t.teardown,
    [boxController(['sync', 'finalize'])],
    { '/box/sync': () => ({ status: {}, children: [] }) },
    { staleness: () => 5000 },
  )
  const box = w.box()
  w.mc.start()
  w.store.delete(box)
  await w.pass(3)
  t.match(w.mc.errors[0]?.message, /can't add finalizer for Box b: not found/)
  await w.pass(10_000)
  t.ok(w.mc.idle(), 'and is forgotten once the cache knows')
  t.strictSame(w.mc.calls, [])
})
