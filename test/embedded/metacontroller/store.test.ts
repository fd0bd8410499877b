import t, { type Test } from 'tap'
import { SimulatedClock } from '../../../src/embedded/clock.js'
import {
  ApiError,
  type KubeObject,
  ObjectStore,
  refOf,
  type WatchEvent,
} from '../../../src/embedded/metacontroller/index.js'
import { START } from './harness.js'

const API = 'test.example/v1'
const thing = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: API,
  kind: 'Thing',
  metadata: { name: 'a', ...metadata },
  spec,
})
const reason = (reason: string) => (error: unknown) => error instanceof ApiError && error.reason === reason

function setup(schema?: object): { clock: SimulatedClock; store: ObjectStore } {
  const clock = new SimulatedClock(START)
  const crd = {
    spec: {
      group: 'test.example',
      scope: 'Cluster',
      names: { kind: 'Thing', plural: 'things' },
      versions: [
        {
          name: 'v1',
          served: true,
          subresources: { status: {} },
          ...(schema === undefined ? {} : { schema: { openAPIV3Schema: schema } }),
        },
        { name: 'v0', served: false },
      ],
    },
  }
  return { clock, store: new ObjectStore({ clock, schemas: [crd] }) }
}

function refusal(t: Test, fn: () => unknown, expected: string): void {
  try {
    fn()
    t.fail('not refused')
  } catch (error) {
    t.ok(reason(expected)(error), `${(error as Error).message}`)
  }
}

t.test('metadata the server keeps', async (t) => {
  const { clock, store } = setup()
  const a = store.create(thing({ x: 1 }))
  t.match(a.metadata, {
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
    uid: /^[0-9a-f-]{36}$/,
    resourceVersion: '1',
  })
  t.match(a.metadata.managedFields, [
    { manager: 'kubectl', operation: 'Update', fieldsV1: { 'f:spec': { 'f:x': {} } } },
  ])
  t.ok(Object.isFrozen(a) && Object.isFrozen(a.spec))
  await clock.run(START + 60_000)
  const labelled = store.patchMetadata(a, { labels: { k: 'v' } })
  t.equal(labelled.metadata.generation, 1, 'labels are no generation')
  const changed = store.patch(a, { spec: { x: 2 } }, 'someone')
  t.equal(changed.metadata.generation, 2)
  t.equal(changed.metadata.uid, a.metadata.uid)
  t.equal(changed.metadata.creationTimestamp, a.metadata.creationTimestamp)
  t.strictSame(
    changed.metadata.managedFields?.map((entry) => [entry['manager'], entry['time']]),
    [
      ['kubectl', '2026-01-01T00:01:00Z'],
      ['someone', '2026-01-01T00:01:00Z'],
    ],
  )
  t.equal(store.update(changed), changed, 'an equal PUT changes nothing')
  t.equal(store.writes.length, 3)
  t.strictSame(store.writes[2], { at: START + 60_000, verb: 'update', kind: 'Thing', name: 'a', by: 'someone' })
  const pv = store.create({ apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: 'pv' }, spec: {} })
  t.notOk('generation' in pv.metadata, 'built-in kinds count none')
  t.strictSame(refOf(pv), { apiVersion: 'v1', kind: 'PersistentVolume', name: 'pv' })
})

t.test('same seed, same uids', async (t) => {
  const clock = new SimulatedClock(START)
  const uid = (seed?: number) =>
    new ObjectStore({ clock, ...(seed === undefined ? {} : { seed }) }).create(thing()).metadata.uid
  t.equal(uid(), uid(1))
  t.not(uid(1), uid(2))
  const store = new ObjectStore({ clock })
  store.create(thing({}, { name: 'before' }))
  const first = store.create(thing())
  t.equal(first.metadata.uid, uid(1), 'whatever else was created')
  store.delete(first)
  t.not(store.create(thing()).metadata.uid, first.metadata.uid, 'a successor is another object')
})

t.test('status is a world of its own', async (t) => {
  const { store } = setup()
  const a = store.create({ ...thing({ x: 1 }), status: { s: 1 } })
  t.equal(a.status, undefined, 'create drops it')
  const withStatus = store.replaceStatus({ ...a, status: { s: 2 }, spec: { x: 9 } }, 'someone')
  t.strictSame([withStatus.spec, withStatus.status, withStatus.metadata.generation], [{ x: 1 }, { s: 2 }, 1])
  const updated = store.update({ ...withStatus, spec: { x: 3 }, status: { s: 3 } })
  t.strictSame([updated.spec, updated.status], [{ x: 3 }, { s: 2 }])
  t.notOk('status' in store.replaceStatus({ ...thing() }), 'and can be taken away')
  t.strictSame(
    store.seed({ ...thing({}, { name: 'b', uid: 'u-1', creationTimestamp: '2020-01-01T00:00:00Z' }), status: { s: 1 } })
      .metadata.uid,
    'u-1',
  )
  const kept = store.get({ apiVersion: API, kind: 'Thing', name: 'b' })
  t.match(kept, { status: { s: 1 }, metadata: { creationTimestamp: '2020-01-01T00:00:00Z' } })
  const map = store.create({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'm', namespace: 'n' },
    status: 'kept',
  })
  t.equal(store.update({ ...map, status: 'new' }).status as unknown, 'new', 'kinds without the subresource')
})

t.test('refusals', async (t) => {
  const { store } = setup()
  const a = store.create(thing())
  store.patch(a, { spec: { x: 1 } })
  const cases: [string, () => unknown, string][] = [
    ['a second of that name', () => store.create(thing()), 'AlreadyExists'],
    ['an old resourceVersion', () => store.update({ ...a, spec: { x: 5 } }), 'Conflict'],
    ['another uid', () => store.update(thing({}, { uid: 'other' })), 'Conflict'],
    ['update of nothing', () => store.update(thing({}, { name: 'z' })), 'NotFound'],
    ['patch of nothing', () => store.patch({ apiVersion: API, kind: 'Thing', name: 'z' }, {}), 'NotFound'],
    ['delete of nothing', () => store.delete({ apiVersion: API, kind: 'Thing', name: 'z' }), 'NotFound'],
    ['delete of another uid', () => store.delete(a, 'x', { uid: 'other' }), 'Conflict'],
    ['no kind', () => store.create({ apiVersion: API }), 'Invalid'],
    ['no name', () => store.create({ apiVersion: API, kind: 'Thing', metadata: {} }), 'Invalid'],
    ['no namespace', () => store.create({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } }), 'Invalid'],
    ['label value', () => store.create(thing({}, { name: 'b', labels: { a: 'not ok' } })), 'Invalid'],
    ['label key', () => store.create(thing({}, { name: 'b', labels: { 'a/b/c': 'x' } })), 'Invalid'],
    ['annotation not a string', () => store.create(thing({}, { name: 'b', annotations: { a: 1 } })), 'Invalid'],
    [
      'annotations too large',
      () => store.create(thing({}, { name: 'b', annotations: { a: 'x'.repeat(300_000) } })),
      'Invalid',
    ],
    [
      'two controllers',
      () => store.create(thing({}, { name: 'b', ownerReferences: [{ controller: true }, { controller: true }] })),
      'Invalid',
    ],
  ]
  for (const [name, fn, expected] of cases) await t.test(name, async (t) => refusal(t, fn, expected))
  await t.test('a finalizer for the dying', async (t) => {
    store.patchMetadata(a, { finalizers: ['x.example/y'] })
    store.delete(a)
    store.delete(a)
    refusal(t, () => store.patchMetadata(a, { finalizers: ['x.example/y', 'x.example/z'] }), 'Invalid')
    store.patchMetadata(a, { finalizers: [] })
    t.equal(store.get(a), undefined)
  })
  t.throws(() => new ObjectStore({ clock: new SimulatedClock(0), schemas: [{}] }), /not a CustomResourceDefinition/)
})

t.test('listing and scope', async (t) => {
  const { store } = setup()
  for (const [namespace, name] of [
    ['b', 'a'],
    ['a', 'b'],
    ['a', 'a'],
  ]) {
    store.create({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace, name } })
  }
  t.strictSame(
    store.list<KubeObject>('v1', 'Pod').map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
    ['a/a', 'a/b', 'b/a'],
  )
  t.strictSame(store.list('v1', 'Nothing'), [])
  t.equal(store.create(thing({}, { namespace: 'x' })).metadata.namespace, undefined, 'cluster-scoped kinds have none')
  const plurals = [
    ['Policy', 'policies'],
    ['Box', 'boxes'],
    ['Gateway', 'gateways'],
    ['DiskPool', 'diskpools'],
  ]
  for (const [kind, plural] of plurals) {
    store.create({ apiVersion: 'x.example/v1', kind, metadata: { name: 'n' } })
    t.equal(store.resource('x.example/v1', plural as string)?.kind, kind)
  }
  t.equal(store.resource('test.example/v0', 'things'), undefined, 'a version not served')
  store.uninstall('x.example/v1', 'nothing')
})

t.test('watch', async (t) => {
  const { store } = setup()
  const events: WatchEvent[] = []
  const stop = store.watch((event) => events.push(event))
  const a = store.create(thing())
  store.patch(a, { spec: { x: 1 } })
  store.delete(a)
  stop()
  store.create(thing())
  t.strictSame(
    events.map(({ type }) => type),
    ['ADDED', 'MODIFIED', 'DELETED'],
  )
  t.strictSame(events[1]?.type === 'MODIFIED' && events[1].old, a)
})

t.test('the garbage collector', async (t) => {
  const owned = (name: string, owners: KubeObject[], block = true) =>
    thing(
      {},
      {
        name,
        ownerReferences: owners.map(({ metadata }) => ({
          apiVersion: API,
          kind: 'Thing',
          name: metadata.name,
          uid: metadata.uid,
          blockOwnerDeletion: block,
        })),
      },
    )
  const names = (store: ObjectStore) => store.list<KubeObject>(API, 'Thing').map(({ metadata }) => metadata.name)

  await t.test('takes what has no owner left, down the tree', async (t) => {
    const { clock, store } = setup()
    const a = store.create(thing())
    const b = store.create(thing({}, { name: 'b' }))
    const child = store.create(owned('child', [a]))
    store.create(owned('grandchild', [child]))
    store.create(owned('shared', [a, b]))
    store.delete(a)
    t.notOk(store.idle())
    await clock.run(START + 1)
    t.ok(store.idle())
    t.strictSame(names(store), ['b', 'shared'])
    t.equal(
      store.get<KubeObject>({ apiVersion: API, kind: 'Thing', name: 'shared' })?.metadata.ownerReferences?.length,
      1,
    )
    store.create(owned('late', [a]))
    await clock.run(START + 2)
    t.strictSame(names(store), ['b', 'shared'], 'an owner that is gone is no owner')
  })
  await t.test('in the foreground the owner goes last', async (t) => {
    const { clock, store } = setup()
    const a = store.create(thing())
    const child = store.create(owned('child', [a]))
    store.create(owned('free', [a], false))
    store.patchMetadata(child, { finalizers: ['x.example/y'] })
    store.delete(a, 'kubectl', { propagation: 'Foreground' })
    await clock.run(START + 1)
    t.strictSame(names(store), ['a', 'child'])
    store.patchMetadata(child, { finalizers: [] })
    await clock.run(START + 2)
    t.strictSame(names(store), [])
  })
})

t.test('schemas', async (t) => {
  const schema = {
    type: 'object',
    required: ['spec', 'metadata'],
    properties: {
      metadata: { type: 'object' },
      spec: {
        type: 'object',
        required: ['must'],
        properties: {
          must: { type: 'string', minLength: 1, maxLength: 3 },
          duration: { type: 'string', pattern: '^[0-9]+h$' },
          count: { type: 'integer', minimum: 1, maximum: 5 },
          share: { type: 'number', minimum: 0, exclusiveMinimum: true, maximum: 1, exclusiveMaximum: true },
          mode: { type: 'string', enum: ['A', 'B'], default: 'A' },
          on: { type: 'boolean' },
          either: { 'x-kubernetes-int-or-string': true },
          maybe: { type: 'string', nullable: true },
          list: {
            type: 'array',
            minItems: 1,
            maxItems: 2,
            items: { type: 'object', properties: { k: { type: 'string' }, d: { type: 'integer', default: 7 } } },
            'x-kubernetes-list-type': 'map',
            'x-kubernetes-list-map-keys': ['k'],
          },
          set: { type: 'array', items: { type: 'string' }, 'x-kubernetes-list-type': 'set' },
          plain: { type: 'array' },
          map: { type: 'object', minProperties: 1, maxProperties: 1, additionalProperties: { type: 'integer' } },
          open: { type: 'object', additionalProperties: true },
          free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
          closed: { type: 'object' },
        },
      },
    },
  }
  const accepted: [string, object, object][] = [
    ['defaults', {}, { mode: 'A' }],
    ['defaults inside items', { list: [{ k: 'x' }] }, { mode: 'A', list: [{ k: 'x', d: 7 }] }],
    ['unknown fields are dropped', { nope: 1, closed: { x: 1 } }, { mode: 'A', closed: {} }],
    [
      'unknown fields are kept where the schema says so',
      { free: { x: 1 }, open: { y: 2 } },
      { mode: 'A', free: { x: 1 }, open: { y: 2 } },
    ],
    ['null is not set, and so defaulted', { mode: null, on: null }, { mode: 'A' }],
    ['null where it may be', { maybe: null }, { mode: 'A', maybe: null }],
    [
      'bounds',
      { count: 5, share: 0.5, either: 'x', plain: [1], set: ['a', 'b'], map: { a: 1 } },
      { mode: 'A', count: 5, share: 0.5, either: 'x', plain: [1], set: ['a', 'b'], map: { a: 1 } },
    ],
  ]
  for (const [name, spec, expected] of accepted) {
    await t.test(name, async (t) => {
      t.strictSame(setup(schema).store.create(thing({ must: 'x', ...spec })).spec, { must: 'x', ...expected })
    })
  }
  const refused: [string, object, RegExp][] = [
    ['required', { must: undefined }, /spec\.must: Required value/],
    ['minLength', { must: '' }, /spec\.must in body should be at least 1 chars/],
    ['maxLength', { must: 'four' }, /spec\.must in body may not be more than 3/],
    ['pattern', { duration: '1 hour' }, /spec\.duration: Invalid value: "1 hour": spec\.duration in body should match/],
    ['minimum', { count: 0 }, /spec\.count in body should be greater than or equal to 1/],
    ['maximum', { count: 6 }, /spec\.count in body should be less than or equal to 5/],
    ['exclusive minimum', { share: 0 }, /should be greater than 0/],
    ['exclusive maximum', { share: 1 }, /should be less than 1/],
    ['integer', { count: 1.5 }, /spec\.count in body must be of type integer/],
    ['boolean', { on: 'true' }, /must be of type boolean/],
    ['object', { map: [] }, /must be of type object/],
    ['array', { list: {} }, /must be of type array/],
    ['int or string', { either: true }, /must be an integer or a string/],
    ['enum', { mode: 'C' }, /spec\.mode: Unsupported value: "C": supported values: "A", "B"/],
    ['minItems', { list: [] }, /should have at least 1 items/],
    ['maxItems', { list: [{ k: '1' }, { k: '2' }, { k: '3' }] }, /should have at most 2 items/],
    ['null item', { list: [null] }, /spec\.list\[0\] in body must be of type object/],
    ['map key twice', { list: [{ k: '1' }, { k: '1' }] }, /spec\.list\[1\]: Duplicate value/],
    ['set item twice', { set: ['a', 'a'] }, /spec\.set\[1\]: Duplicate value/],
    ['minProperties', { map: {} }, /should have at least 1 properties/],
    ['maxProperties', { map: { a: 1, b: 2 } }, /should have at most 1 properties/],
    ['value of a map', { map: { a: 'x' } }, /spec\.map\.a in body must be of type integer/],
  ]
  for (const [name, spec, expected] of refused) {
    await t.test(name, async (t) => {
      t.throws(() => setup(schema).store.create(thing({ must: 'x', ...spec })), expected)
    })
  }
  t.throws(
    () => setup(schema).store.create({ apiVersion: API, kind: 'Thing', metadata: { name: 'a' } }),
    /spec: Required value/,
  )
})
