import t from 'tap'
import type { KubeObject } from '../../../src/embedded/metacontroller/index.js'
import { API, boxController, START, widget, widgetController, world } from './harness.js'

const quiet = () => ({ status: {}, children: [] })

t.test('ignoreStatusChanges: what wakes a parent', async (t) => {
  const cases: { name: string; change: (box: KubeObject) => object; ignored: boolean }[] = [
    { name: 'spec', change: (box) => ({ ...box, spec: { changed: 1 } }), ignored: false },
    { name: 'label', change: (box) => ({ ...box, metadata: { ...box.metadata, labels: { a: 'b' } } }), ignored: false },
    {
      name: 'annotation',
      change: (box) => ({ ...box, metadata: { ...box.metadata, annotations: { a: 'b' } } }),
      ignored: false,
    },
    {
      name: 'finalizer',
      change: (box) => ({ ...box, metadata: { ...box.metadata, finalizers: ['x.example/y'] } }),
      ignored: true,
    },
    { name: 'status', change: (box) => ({ ...box, status: { seen: 'other', observedGeneration: 1 } }), ignored: true },
  ]
  for (const ignoreStatusChanges of [true, false]) {
    for (const { name, change, ignored } of cases) {
      await t.test(`${name}, ${ignoreStatusChanges}`, async (t) => {
        const spec = boxController(['sync'], {
          parentResource: { apiVersion: API, resource: 'boxes', ignoreStatusChanges },
        })
        const w = await world(t.teardown, [spec], { '/box/sync': quiet })
        const box = w.box()
        w.mc.start()
        await w.pass(1000)
        const calls = w.mc.calls.length
        const changed = change(w.store.get(box) as KubeObject)
        if (name === 'status') w.store.replaceStatus(changed)
        else w.store.update(changed)
        await w.pass(1000)
        t.equal(w.mc.calls.length > calls, !(ignored && ignoreStatusChanges))
        if (name === 'status' && !ignoreStatusChanges) t.strictSame(w.store.get(box)?.status, { observedGeneration: 1 })
      })
    }
  }
})

t.test('a status-only change of a child wakes its owner, and nobody else', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': ({ parent }) => ({ status: {}, children: [widget(`of-${parent.metadata.name}`)] }),
  })
  w.box({}, 'b1')
  w.box({}, 'b2')
  w.mc.start()
  await w.pass(1000)
  const calls = w.mc.calls.length
  w.store.replaceStatus({ ...w.widget('of-b1'), status: { seen: 'x' } })
  await w.pass(1000)
  t.strictSame(
    w.mc.calls.slice(calls).map(({ parent }) => parent),
    ['b1'],
  )
  t.strictSame(w.bodies('/box/sync').at(-1)?.children['Widget.test.example/v1']?.['of-b1']?.status, { seen: 'x' })
  t.strictSame(w.widget('of-b1')?.status, { seen: 'x' }, 'a parent never writes the status of its child')
})

t.test('related objects', async (t) => {
  const pv = (name: string, tier: string, namespace?: string) => ({
    apiVersion: 'v1',
    kind: namespace === undefined ? 'PersistentVolume' : 'PersistentVolumeClaim',
    metadata: { name, labels: { tier }, ...(namespace === undefined ? {} : { namespace }) },
  })
  const cases: { name: string; rule: object; selected: string[] }[] = [
    { name: 'everything', rule: { resource: 'persistentvolumes' }, selected: ['a', 'b', 'c'] },
    { name: 'empty selector', rule: { resource: 'persistentvolumes', labelSelector: {} }, selected: ['a', 'b', 'c'] },
    { name: 'null selector', rule: { resource: 'persistentvolumes', labelSelector: null }, selected: ['a', 'b', 'c'] },
    {
      name: 'matchLabels',
      rule: { resource: 'persistentvolumes', labelSelector: { matchLabels: { tier: 'hot' } } },
      selected: ['a'],
    },
    { name: 'names', rule: { resource: 'persistentvolumes', names: ['b', 'z'] }, selected: ['b'] },
    ...[
      { operator: 'In', values: ['hot', 'cold'], selected: ['a', 'b'] },
      { operator: 'NotIn', values: ['hot'], selected: ['b', 'c'] },
      { operator: 'Exists', selected: ['a', 'b', 'c'] },
      { operator: 'DoesNotExist', selected: [] },
    ].map(({ selected, ...expression }) => ({
      name: expression.operator,
      rule: { resource: 'persistentvolumes', labelSelector: { matchExpressions: [{ key: 'tier', ...expression }] } },
      selected,
    })),
    {
      name: 'namespace and labels',
      rule: { resource: 'persistentvolumeclaims', namespace: 'n1', labelSelector: { matchLabels: { tier: 'hot' } } },
      selected: ['n1/a'],
    },
    {
      name: 'namespaceSelector',
      rule: { resource: 'persistentvolumeclaims', namespaceSelector: { matchLabels: { team: 'x' } } },
      selected: ['n2/b'],
    },
  ]
  for (const { name, rule, selected } of cases) {
    await t.test(name, async (t) => {
      const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
        '/box/customize': () => ({ relatedResources: [{ apiVersion: 'v1', ...rule }] }),
        '/box/sync': quiet,
      })
      w.store.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'n1' } })
      w.store.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'n2', labels: { team: 'x' } } })
      const objects = [
        pv('a', 'hot'),
        pv('b', 'cold'),
        pv('c', 'other'),
        pv('a', 'hot', 'n1'),
        pv('b', 'hot', 'n2'),
      ].map((object) => w.store.create(object))
      w.box()
      w.mc.start()
      await w.pass(1000)
      const related = Object.values(w.bodies('/box/sync')[0]?.related ?? {})
      t.strictSame(
        related.map((group) => Object.keys(group)),
        [selected],
      )
      t.equal(w.bodies('/box/customize').length, 1, 'rules are remembered')
      t.strictSame(w.mc.errors, [], 'an informer that has yet to list is no event')
      for (const object of objects) {
        const before = w.bodies('/box/sync').length
        w.store.patchMetadata(object, { annotations: { touched: 'yes' } })
        await w.pass(1000)
        const { namespace, name: own } = object.metadata
        const wakes =
          object.kind ===
            ('namespaceSelector' in rule || 'namespace' in rule ? 'PersistentVolumeClaim' : 'PersistentVolume') &&
          selected.includes(namespace === undefined ? own : `${namespace}/${own}`)
        t.equal(w.bodies('/box/sync').length - before, wakes ? 1 : 0, `${object.kind} ${namespace ?? ''} ${own}`)
      }
    })
  }
})

t.test('an object that leaves a selection wakes once more', async (t) => {
  const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
    '/box/customize': () => ({
      relatedResources: [{ apiVersion: 'v1', resource: 'nodes', labelSelector: { matchLabels: { in: 'yes' } } }],
    }),
    '/box/sync': quiet,
  })
  w.box()
  w.mc.start()
  await w.pass(1000)
  const steps: [string, () => unknown, number][] = [
    [
      'comes',
      () => w.store.create({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', labels: { in: 'yes' } } }),
      1,
    ],
    ['leaves', () => w.store.patchMetadata({ apiVersion: 'v1', kind: 'Node', name: 'n' }, { labels: null }), 1],
    [
      'changes outside',
      () => w.store.patchMetadata({ apiVersion: 'v1', kind: 'Node', name: 'n' }, { labels: { a: 'b' } }),
      0,
    ],
    ['goes outside', () => w.store.delete({ apiVersion: 'v1', kind: 'Node', name: 'n' }), 0],
  ]
  for (const [name, step, wakes] of steps) {
    const before = w.bodies('/box/sync').length
    step()
    await w.pass(1000)
    t.equal(w.bodies('/box/sync').length - before, wakes, name)
  }
})

t.test('customize is asked again after 20 minutes and for each generation', async (t) => {
  const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
    '/box/customize': () => ({ relatedResources: null }),
    '/box/sync': quiet,
  })
  const box = w.box()
  const asked = () => w.bodies('/box/customize').length
  const wake = async (label: string) => {
    w.store.patchMetadata(box, { labels: { label } })
    await w.pass(1000)
  }
  w.mc.start()
  await w.pass(1000)
  await wake('a')
  t.equal(asked(), 1)
  w.store.patch(box, { spec: { changed: 1 } })
  await w.pass(1000)
  t.equal(asked(), 2)
  await w.pass(20 * 60_000)
  await wake('b')
  t.equal(asked(), 3)
  t.strictSame(w.bodies('/box/sync').at(-1)?.related, {})
})

t.test('a related event asks customize where its rules have expired, and waits for it', async (t) => {
  let fails = false
  const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
    '/box/customize': async (_body, gone) => {
      if (fails) return { status: 500, body: '' }
      await w.clock.sleep(2000, gone)
      return { relatedResources: [{ apiVersion: 'v1', resource: 'nodes' }] }
    },
    '/box/sync': quiet,
  })
  w.box()
  w.mc.start()
  await w.pass(25 * 60_000)
  const calls = w.mc.calls.length
  for (const name of ['n1', 'n2']) w.store.create({ apiVersion: 'v1', kind: 'Node', metadata: { name } })
  t.notOk(w.mc.idle())
  await w.pass(10_000)
  t.strictSame(
    w.mc.calls.slice(calls).map(({ hook, at }) => `${hook} ${at - START}`),
    ['customize 1500000', 'sync 1502000'],
  )
  t.ok(w.mc.idle())
  await w.pass(21 * 60_000)
  fails = true
  const before = w.bodies('/box/sync').length
  w.store.create({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n3' } })
  await w.pass(10_000)
  t.equal(w.bodies('/box/sync').length, before, 'the event is lost')
})

t.test('answers to customize', async (t) => {
  const nodes = { apiVersion: 'v1', resource: 'nodes' }
  const cases: { name: string; body: unknown; error: RegExp }[] = [
    { name: 'bare array', body: [nodes], error: /the body is not an object/ },
    { name: 'not an array', body: { relatedResources: {} }, error: /relatedResources is not an array/ },
    { name: 'unknown field', body: { related: [] }, error: /unknown field "related"/ },
    { name: 'null rule', body: { relatedResources: [null] }, error: /crashes Metacontroller/ },
    { name: 'rule a string', body: { relatedResources: ['nodes'] }, error: /relatedResources\[0\] is not an object/ },
    {
      name: 'kind in a rule',
      body: { relatedResources: [{ ...nodes, kind: 'Node' }] },
      error: /unknown field "relatedResources\[0\]\.kind"/,
    },
    { name: 'name a number', body: { relatedResources: [{ ...nodes, names: [1] }] }, error: /names is not strings/ },
    {
      name: 'resource a number',
      body: { relatedResources: [{ ...nodes, resource: 1 }] },
      error: /resource is not a string/,
    },
    {
      name: 'selector a string',
      body: { relatedResources: [{ ...nodes, labelSelector: 'a=b' }] },
      error: /labelSelector is not an object/,
    },
    {
      name: 'label a number',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchLabels: { a: 1 } } }] },
      error: /matchLabels is not strings/,
    },
    {
      name: 'matchLabels an array',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchLabels: [] } }] },
      error: /matchLabels is not an object/,
    },
    {
      name: 'matchExpressions an object',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchExpressions: {} } }] },
      error: /matchExpressions is not an array/,
    },
    {
      name: 'expression a string',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchExpressions: ['a'] } }] },
      error: /matchExpressions\[0\] is not an object/,
    },
    {
      name: 'unknown operator',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }] },
      error: /not a valid label selector operator/,
    },
    {
      name: 'In nothing',
      body: { relatedResources: [{ ...nodes, labelSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }] },
      error: /operator In on a with 0 values/,
    },
    {
      name: 'names and selector',
      body: { relatedResources: [{ ...nodes, names: ['a'], labelSelector: {} }] },
      error: /both names and labelSelector/,
    },
    {
      name: 'namespace and its selector',
      body: { relatedResources: [{ ...nodes, namespace: 'a', namespaceSelector: {} }] },
      error: /both namespace and namespaceSelector/,
    },
    {
      name: 'namespaceSelector of a cluster kind',
      body: { relatedResources: [{ ...nodes, namespaceSelector: {} }] },
      error: /only supported for namespaced/,
    },
    {
      name: 'kind not served',
      body: { relatedResources: [{ apiVersion: 'openebs.io/v1beta3', resource: 'diskpools' }] },
      error: /discovery: can't find resource diskpools/,
    },
  ]
  for (const { name, body, error } of cases) {
    await t.test(name, async (t) => {
      const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
        '/box/customize': () => ({ body }),
        '/box/sync': quiet,
      })
      const box = w.box()
      w.mc.start()
      await w.pass(50)
      t.match(w.mc.errors[0]?.message, error)
      t.strictSame(w.bodies('/box/sync'), [], 'no sync, no status, nothing')
      t.equal(w.store.get(box)?.status, undefined)
      w.store.create({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } })
      await w.pass(50)
    })
  }
})

t.test('a kind that comes to be served is found by the next attempt', async (t) => {
  const w = await world(t.teardown, [boxController(['sync', 'customize'])], {
    '/box/customize': () => ({ relatedResources: [{ apiVersion: 'openebs.io/v1beta3', resource: 'diskpools' }] }),
    '/box/sync': quiet,
  })
  w.box()
  w.mc.start()
  await w.pass(1000)
  t.strictSame(w.bodies('/box/sync'), [])
  w.store.install({
    spec: {
      group: 'openebs.io',
      scope: 'Namespaced',
      names: { kind: 'DiskPool', plural: 'diskpools' },
      versions: [{ name: 'v1beta3', served: true, subresources: { status: {} } }],
    },
  })
  await w.pass(5000)
  t.strictSame(w.bodies('/box/sync')[0]?.related, { 'DiskPool.openebs.io/v1beta3': {} })
  w.store.seed({
    apiVersion: 'openebs.io/v1beta3',
    kind: 'DiskPool',
    metadata: { name: 'p', namespace: 'mayastor' },
    status: { pool_status: 'Online' },
  })
  await w.pass(1000)
  t.match(w.bodies('/box/sync').at(-1)?.related, {
    'DiskPool.openebs.io/v1beta3': { 'mayastor/p': { status: { pool_status: 'Online' } } },
  })
  w.store.uninstall('openebs.io/v1beta3', 'diskpools')
  await w.pass(10)
  t.match(w.mc.errors.at(-1)?.message, /can't find resource diskpools/)
})

t.test('resyncAfterSeconds: fractions count, the earliest pending one wins', async (t) => {
  const answers = [60, 300, 0.5, 0, -1]
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: {}, children: [], resyncAfterSeconds: answers.shift() ?? null }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(10_000)
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(15 * 60_000)
  t.strictSame(
    w.mc.calls.map(({ at }) => (at - START) / 1000),
    [0, 10, 60, 60.5],
    'not postponed to 310',
  )
})

t.test('a shorter resyncAfterSeconds replaces a longer one that is pending', async (t) => {
  const answers = [300, 60]
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: {}, children: [], resyncAfterSeconds: answers.shift() ?? 0 }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(10_000)
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(15 * 60_000)
  t.strictSame(
    w.mc.calls.map(({ at }) => (at - START) / 1000),
    [0, 10, 70],
  )
})

t.test('resyncPeriodSeconds and the flush of the caches wake every parent, ignoreStatusChanges or not', async (t) => {
  const spec = { resyncPeriodSeconds: 600 }
  const w = await world(
    t.teardown,
    [boxController(['sync'], spec), widgetController(['sync'], { resyncPeriodSeconds: 7200 })],
    {
      '/box/sync': quiet,
      '/widget/sync': quiet,
    },
  )
  w.box({}, 'b1')
  w.box({}, 'b2')
  w.store.create(widget('w'))
  w.mc.start()
  await w.pass(31 * 60_000)
  const times = (name: string) =>
    w.mc.calls.filter(({ parent }) => parent === name).map(({ at }) => (at - START) / 1000)
  t.match(times('b1'), [0, 600, 1200, 1800])
  t.match(times('b2'), [0, 600, 1200, 1800])
  t.strictSame(times('w'), [0, 1800], 'a period longer than the flush has no effect')
})

t.test('a status that differs on every call is a hot loop', async (t) => {
  let count = 0
  const spec = boxController(['sync'], { parentResource: { apiVersion: API, resource: 'boxes' } })
  const w = await world(t.teardown, [spec], { '/box/sync': () => ({ status: { count: count++ }, children: [] }) })
  w.box()
  w.mc.start()
  await w.pass(150)
  t.match(w.mc.violations, [/hot loop/])
  t.ok(count <= 151, 'time passes all the same')
})

t.test('caches that lag: objects show up late, per object and in order', async (t) => {
  const lag: Record<string, number> = { w1: 500, b: 50 }
  const w = await world(
    t.teardown,
    [boxController(['sync'])],
    {
      '/box/sync': ({ parent }) => ({
        status: {},
        children: [widget('w1', { size: parent.spec?.['size'] }), widget('w2')],
      }),
    },
    { staleness: (_kind, name) => lag[name] ?? 0 },
  )
  w.mc.start()
  const box = w.box({ size: 1 })
  await w.pass(49)
  t.equal(w.mc.calls.length, 0, 'not seen yet')
  await w.pass(100)
  t.ok(w.widget('w1'))
  const shown = () => Object.keys(w.bodies('/box/sync').at(-1)?.children['Widget.test.example/v1'] ?? {})
  t.strictSame(shown(), ['w2'], 'its own child is missing from the next sync, and creating it again is no error')
  await w.pass(500)
  t.strictSame(shown(), ['w1', 'w2'])
  w.store.patch(w.widget('w1') as KubeObject, { spec: { note: 'changed behind its back' } })
  w.store.patch(box, { spec: { size: 2 } })
  await w.pass(100)
  t.equal(w.widget('w1')?.spec?.['size'], 1, 'an update from a stale read is refused and swallowed')
  await w.pass(2000)
  t.equal(w.widget('w1')?.spec?.['size'], 2)
  t.strictSame(w.mc.errors, [])
  t.strictSame(w.mc.violations, [])
})

t.test('a child of one controller that is the parent of another', async (t) => {
  const w = await world(t.teardown, [boxController(['sync']), widgetController(['sync'])], {
    '/box/sync': ({ children }) => ({
      status: {
        ready: Object.values(children['Widget.test.example/v1'] ?? {}).every(({ status }) => status !== undefined),
      },
      children: [widget('w')],
    }),
    '/widget/sync': ({ parent }) => ({ status: { seen: `size ${parent.spec?.['size']}` }, children: [] }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  t.match(w.widget('w')?.status, { seen: 'size 1', observedGeneration: 1 })
  t.match(w.store.get(box)?.status, { ready: true })
  t.strictSame(w.bodies('/widget/sync')[0]?.children, {})
  t.strictSame(w.mc.violations, [])
  w.newWrites()
  await w.pass(60 * 60_000)
  t.strictSame(w.newWrites(), [], 'settled')
})

t.test('a selector of the parent itself, where none is generated', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'], { generateSelector: false })], {
    '/box/sync': () => ({ status: {}, children: [widget('w', {}, { labels: { app: 'x' } })] }),
  })
  const none = w.box({}, 'none')
  w.mc.start()
  await w.pass(3)
  t.match(w.mc.errors, [{ parent: 'none', message: /\.spec\.selector must have/ }])
  w.store.delete(none)
  const box = w.box({ selector: { matchLabels: { app: 'x' } } })
  await w.pass(1000)
  t.equal(w.widget('w')?.metadata.labels?.['controller-uid'], undefined)
  t.equal(w.widget('w')?.metadata.ownerReferences?.[0]?.uid, box.metadata.uid)
  const calls = w.mc.calls.length
  w.store.create(widget('orphan', {}, { labels: { app: 'x' } }))
  await w.pass(1000)
  t.ok(w.mc.calls.length > calls, 'an orphan that matches wakes the parent')
  t.equal(w.widget('orphan'), undefined, 'adopted, and then deleted as not wanted')
})
