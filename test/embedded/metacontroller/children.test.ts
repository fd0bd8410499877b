import t from 'tap'
import { type KubeObject, LAST_APPLIED } from '../../../src/embedded/metacontroller/index.js'
import { API, boxController, widget, world } from './harness.js'

const BY = 'metacontroller/boxes'

t.test('children are created, updated, left alone and deleted as the answer changes', async (t) => {
  let children: object[] = [widget('w1'), widget('w2')]
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: { seen: 'x' }, children }),
  })
  const box = w.box()
  w.mc.start()
  t.notOk(w.mc.idle())
  await w.pass(1000)
  t.ok(w.mc.idle())
  const w1 = w.widget('w1')
  t.strictSame(w1?.spec, { size: 1, mode: 'plain' }, 'created, with the defaults of its schema')
  t.equal(w1?.metadata.labels?.['controller-uid'], box.metadata.uid)
  t.strictSame(w1?.metadata.ownerReferences, [
    { apiVersion: API, kind: 'Box', name: 'b', uid: box.metadata.uid, controller: true, blockOwnerDeletion: true },
  ])
  t.strictSame(JSON.parse(w1?.metadata.annotations?.[LAST_APPLIED] ?? ''), {
    apiVersion: API,
    kind: 'Widget',
    metadata: { name: 'w1', labels: { 'controller-uid': box.metadata.uid } },
    spec: { size: 1 },
  })
  t.equal(w1?.metadata.generation, 1)
  t.ok(w1?.metadata.managedFields?.length, 'bodies are as heavy as real ones')
  t.strictSame(w.newWrites(), [
    'kubectl: create Box b',
    `${BY}: create Widget w1`,
    `${BY}: create Widget w2`,
    `${BY}: status Box b`,
  ])

  const syncs = w.bodies('/box/sync').length
  w.store.patchMetadata(box, { labels: { touched: 'yes' } })
  w.newWrites()
  await w.pass(1000)
  t.equal(w.bodies('/box/sync').length, syncs + 1)
  t.strictSame(w.newWrites(), [], 'an equal answer writes nothing')

  children = [widget('w2', { size: 7 })]
  w.store.patchMetadata(box, { labels: { touched: 'again' } })
  w.newWrites()
  await w.pass(1000)
  t.strictSame(w.newWrites(), [`${BY}: delete Widget w1`, `${BY}: update Widget w2`])
  t.equal(w.widget('w2')?.metadata.generation, 2)
  t.strictSame(w.mc.violations, [])
  t.strictSame(w.mc.errors, [])
})

t.test('the merge keeps what others set, takes back what we stop saying, and reverts drift', async (t) => {
  let spec: object = { size: 1, note: 'ours', tags: { ours: '1' } }
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: {}, children: [widget('w', spec, { labels: { ours: 'yes' } })] }),
  })
  w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.patch(w.widget('w') as KubeObject, {
    metadata: { labels: { theirs: 'yes' }, finalizers: ['someone.example/else'] },
    spec: { size: 99, mode: 'fancy', tags: { theirs: '2' } },
  })
  await w.pass(1000)
  t.strictSame(w.widget('w')?.spec, { size: 1, note: 'ours', mode: 'fancy', tags: { ours: '1', theirs: '2' } })

  spec = { size: 1, tags: {} }
  w.store.patchMetadata(w.widget('w') as KubeObject, { labels: { nudge: '1' } })
  await w.pass(1000)
  const merged = w.widget('w')
  t.strictSame(merged?.spec, { size: 1, mode: 'fancy', tags: { theirs: '2' } })
  t.match(merged?.metadata.labels, { ours: 'yes', theirs: 'yes', nudge: '1' })
  t.strictSame(merged?.metadata.finalizers, ['someone.example/else'])
  t.strictSame(w.mc.violations, [])
})

t.test(
  'arrays of objects with a common name merge by it: order and foreign entries stay, duplicates collapse',
  async (t) => {
    let steps: object[] = [{ name: 'a' }, { name: 'b' }]
    const w = await world(t.teardown, [boxController(['sync'])], {
      '/box/sync': () => ({ status: {}, children: [widget('w', { steps })] }),
    })
    const box = w.box()
    w.mc.start()
    const apply = async (next: object[]) => {
      steps = next
      w.store.patchMetadata(box, { labels: { at: String(w.clock.now()) } })
      await w.pass(1000)
      return w.widget('w')?.spec?.['steps']
    }
    await w.pass(1000)
    t.strictSame(
      await apply([{ name: 'b' }, { name: 'a' }]),
      [{ name: 'a' }, { name: 'b' }],
      're-ordering is not applied',
    )
    w.store.patch(w.widget('w') as KubeObject, { spec: { steps: [{ name: 'a' }, { name: 'b' }, { name: 'x' }] } })
    await w.pass(1000)
    t.strictSame(w.widget('w')?.spec?.['steps'], [{ name: 'a' }, { name: 'b' }, { name: 'x' }], 'a foreign entry stays')
    t.strictSame(await apply([{ name: 'b' }, { name: 'c', pool: 'p' }]), [
      { name: 'b' },
      { name: 'x' },
      { name: 'c', pool: 'p' },
    ])
    t.strictSame(
      await apply([{ name: 'b', pool: 'p1' }, { name: 'b', pool: 'p2' }, { name: 'c' }]),
      [{ name: 'b', pool: 'p2' }, { name: 'x' }, { name: 'c' }],
      'duplicates collapse',
    )
    t.strictSame(await apply([{ pool: 'p' }]), [{ pool: 'p' }], 'without a common key the array is replaced')
  },
)

t.test('an update happens as the strategy says', async (t) => {
  const cases = [
    { method: undefined, expected: 1, verbs: [] },
    { method: 'OnDelete', expected: 1, verbs: [] },
    { method: 'InPlace', expected: 2, verbs: ['update'] },
    { method: 'Recreate', expected: 2, verbs: ['delete', 'create'] },
  ]
  for (const { method, expected, verbs } of cases) {
    await t.test(method ?? 'none given', async (t) => {
      let size = 1
      const rule = { apiVersion: API, resource: 'widgets' }
      const childResources = [method === undefined ? rule : { ...rule, updateStrategy: { method } }]
      const w = await world(t.teardown, [boxController(['sync'], { childResources })], {
        '/box/sync': () => ({ status: {}, children: [widget('w', { size })] }),
      })
      const box = w.box()
      w.mc.start()
      await w.pass(1000)
      size = 2
      w.store.patchMetadata(box, { labels: { go: 'on' } })
      w.newWrites()
      await w.pass(1000)
      t.equal(w.widget('w')?.spec?.['size'], expected)
      t.strictSame(
        w.newWrites(),
        verbs.map((verb) => `${BY}: ${verb} Widget w`),
      )
    })
  }
  const childResources = [{ apiVersion: API, resource: 'widgets', updateStrategy: { method: 'RollingInPlace' } }]
  const w = await world(t.teardown, [boxController(['sync'], { childResources })], {})
  t.throws(() => w.mc.start(), /not modelled/)
})

t.test('a name somebody else has: no error, no write, nothing of theirs is touched', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({ status: { seen: 'x' }, children: [widget('w', { size: 5 })] }),
  })
  const theirs = w.store.create({
    ...widget('w', { size: 1 }),
    metadata: {
      name: 'w',
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Node', name: 'n', uid: w.store.create(node()).metadata.uid, controller: true },
      ],
    },
  })
  w.box()
  w.mc.start()
  await w.pass(60_000)
  t.strictSame(w.widget('w'), theirs)
  t.equal(w.mc.calls.length, 1)
  t.strictSame(w.mc.errors, [])
  t.strictSame(w.bodies('/box/sync')[0]?.children, { 'Widget.test.example/v1': {} }, 'not ours, so not shown')
})

t.test('an orphan that carries our label is adopted; a child that loses it is let go', async (t) => {
  let children: object[] = [widget('w')]
  const w = await world(t.teardown, [boxController(['sync'])], { '/box/sync': () => ({ status: {}, children }) })
  const box = w.box()
  w.store.create(widget('w', { size: 1, note: 'kept' }, { labels: { 'controller-uid': box.metadata.uid } }))
  const stranger = w.store.create(widget('s'))
  w.mc.start()
  await w.pass(1000)
  t.equal(w.widget('w')?.metadata.ownerReferences?.[0]?.uid, box.metadata.uid)
  t.equal(w.widget('w')?.spec?.['note'], 'kept')
  t.strictSame(w.widget('s'), stranger, 'an orphan without the label is nobody’s')

  children = []
  w.store.patchMetadata(w.widget('w') as KubeObject, { labels: { 'controller-uid': null } })
  await w.pass(1000)
  t.strictSame(w.widget('w')?.metadata.ownerReferences, undefined, 'released, not deleted')
  t.strictSame(w.mc.errors, [])
})

t.test(
  'a child with a finalizer of its own stays visible until that is gone, then is made anew if wanted',
  async (t) => {
    let children: object[] = [widget('w')]
    const w = await world(t.teardown, [boxController(['sync'])], { '/box/sync': () => ({ status: {}, children }) })
    const box = w.box()
    w.mc.start()
    await w.pass(1000)
    const first = w.store.patchMetadata(w.widget('w') as KubeObject, { finalizers: ['someone.example/else'] })
    children = []
    w.store.patchMetadata(box, { labels: { go: '1' } })
    await w.pass(1000)
    t.ok(w.widget('w')?.metadata.deletionTimestamp)
    t.equal(w.widget('w')?.metadata.generation, 2, 'deletion counts as a generation')
    t.ok(w.bodies('/box/sync').at(-1)?.children['Widget.test.example/v1']?.['w']?.metadata.deletionTimestamp)

    children = [widget('w', { size: 3 })]
    w.store.patchMetadata(box, { labels: { go: '2' } })
    w.newWrites()
    await w.pass(1000)
    t.strictSame(w.newWrites(), [], 'a terminating child is neither updated nor recreated')
    w.store.patchMetadata(w.widget('w') as KubeObject, { finalizers: [] })
    await w.pass(1000)
    t.strictSame(w.newWrites().slice(-1), [`${BY}: create Widget w`], 'its delete event brings it back')
    t.not(w.widget('w')?.metadata.uid, first.metadata.uid)
    t.equal(w.widget('w')?.spec?.['size'], 3)
  },
)

t.test('adoption looks at the parent and the child as they are now', async (t) => {
  const w = await world(
    t.teardown,
    [boxController(['sync'])],
    { '/box/sync': () => ({ status: {}, children: [] }) },
    { staleness: () => 5000 },
  )
  const dying = w.store.create({
    apiVersion: API,
    kind: 'Box',
    metadata: { name: 'dying', finalizers: ['x.example/y'] },
  })
  const gone = w.box({}, 'gone')
  const fine = w.box({}, 'fine')
  for (const { metadata } of [dying, gone, fine]) {
    w.store.create(widget(`of-${metadata.name}`, {}, { labels: { 'controller-uid': metadata.uid } }))
  }
  w.mc.start()
  w.store.delete(dying)
  w.store.delete(gone)
  w.store.delete(w.widget('of-fine') as KubeObject)
  await w.pass(3)
  t.match(
    w.mc.errors.map(({ message }) => message).sort(),
    [/dying has just been deleted/, /original Box gone is gone/],
    'a child that is gone by now is no error',
  )
})

t.test('the last-applied annotation: never taken from an answer, and an error when it cannot be read', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({
      status: {},
      children: [widget('w', { size: 1 }, { annotations: { [LAST_APPLIED]: '{}', a: 'b' } })],
    }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(1000)
  const applied = JSON.parse(w.widget('w')?.metadata.annotations?.[LAST_APPLIED] ?? '') as KubeObject
  t.strictSame(applied.metadata.annotations, { a: 'b' })
  w.store.patchMetadata(w.widget('w') as KubeObject, { annotations: { [LAST_APPLIED]: '{' } })
  await w.pass(3)
  t.match(w.mc.errors[0]?.message, /can't unmarshal "metacontroller\.k8s\.io\/last-applied-configuration"/)
})

t.test('a delete never hits a successor of the same name', async (t) => {
  let children: object[] = [widget('w')]
  const lag: Record<string, number> = {}
  const w = await world(
    t.teardown,
    [boxController(['sync'])],
    { '/box/sync': () => ({ status: {}, children }) },
    { staleness: (_kind, name) => lag[name] ?? 0 },
  )
  const box = w.box()
  w.mc.start()
  await w.pass(1000)
  lag['w'] = 5000
  w.store.delete(w.widget('w') as KubeObject)
  const successor = w.store.create(widget('w'))
  children = []
  w.store.patchMetadata(box, { labels: { go: '1' } })
  await w.pass(3)
  t.match(w.mc.errors[0]?.message, /can't delete Widget w: Precondition failed/)
  await w.pass(60_000)
  t.strictSame(w.widget('w'), successor)
})

t.test('errors on one child keep neither the others nor the status', async (t) => {
  const w = await world(t.teardown, [boxController(['sync'])], {
    '/box/sync': () => ({
      status: { seen: 'x' },
      children: [
        widget('bad', { size: 'five' }),
        widget('Upper'),
        widget('w'),
        widget('echo', {}, { resourceVersion: '7' }),
      ],
    }),
  })
  const box = w.box()
  w.mc.start()
  await w.pass(3)
  t.ok(w.widget('w'))
  t.equal(w.store.get(box)?.status?.['seen'], 'x')
  const message = w.mc.errors[0]?.message ?? ''
  t.match(message, /spec\.size: Invalid value: "five": spec\.size in body must be of type integer/)
  t.match(message, /metadata\.name: Invalid value: "Upper"/)
  t.match(message, /resourceVersion should not be set/)
})

t.test('children that cannot be applied are said to be so', async (t) => {
  const cases = [
    {
      name: 'foreign label',
      child: widget('w', {}, { labels: { 'controller-uid': 'x' } }),
      error: /don't match parent selector/,
    },
    { name: 'label not a string', child: widget('w', {}, { labels: { a: 1 } }), error: /invalid labels/ },
    {
      name: 'unknown kind',
      child: { apiVersion: 'a/v1', kind: 'Z', metadata: { name: 'z' } },
      error: /can't find kind Z/,
    },
    { name: 'no name', child: { apiVersion: API, kind: 'Widget' }, error: /metadata\.name: Required value/ },
  ]
  for (const { name, child, error } of cases) {
    await t.test(name, async (t) => {
      const w = await world(t.teardown, [boxController(['sync'])], {
        '/box/sync': () => ({ status: {}, children: [child] }),
      })
      w.box()
      w.mc.start()
      await w.pass(3)
      t.match(w.mc.errors[0]?.message, error)
    })
  }
})

t.test('what is accepted and never meant is named', async (t) => {
  const cases = [
    { name: 'null in a child', child: widget('w', { note: null }), violation: /children\[0\]\.spec\.note is null/ },
    {
      name: 'field the schema drops',
      child: widget('w', { nope: 1 }),
      violation: /one PUT per sync that changes nothing/,
    },
    {
      name: 'kind nobody watches',
      child: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } },
      violation: /not in childResources/,
    },
  ]
  for (const { name, child, violation } of cases) {
    await t.test(name, async (t) => {
      const w = await world(t.teardown, [boxController(['sync'])], {
        '/box/sync': () => ({ status: {}, children: [child] }),
      })
      const box = w.box()
      w.mc.start()
      await w.pass(1000)
      w.store.patchMetadata(box, { labels: { go: '1' } })
      await w.pass(1000)
      t.match(w.mc.violations, [violation])
    })
  }
  await t.test('a name twice', async (t) => {
    const w = await world(t.teardown, [boxController(['sync'])], {
      '/box/sync': () => ({ status: {}, children: [widget('w', { size: 1 }), widget('w', { size: 2 })] }),
    })
    w.box()
    w.mc.start()
    await w.pass(1000)
    t.equal(w.widget('w')?.spec?.['size'], 2)
    t.match(w.mc.violations, [/listed twice/])
  })
})

function node(): object {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } }
}
