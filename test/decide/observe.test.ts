import t from 'tap'
import type { KubernetesObject } from '../../src/api/kubernetes.js'
import type { HookRequest } from '../../src/api/metacontroller.js'
import { TOPOLOGY_KEY } from '../../src/api/names.js'
import { observe, owner, readChildren } from '../../src/decide/observe.js'
import { type Policy, readPolicy } from '../../src/decide/policy.js'
import {
  ago,
  claim,
  ended,
  GIB,
  HOUR,
  migration,
  migrationStatus,
  NOW_MS,
  OPTIONS,
  policy,
  policyRequest,
  pool,
  pvName,
  type RequestSetup,
  topology,
} from '../builders.js'

const POLICY = readPolicy(policy(), OPTIONS) as Policy
const look = (setup: RequestSetup) => observe(policyRequest(setup) as HookRequest, POLICY)
const csi = (extra: object) => ({
  spec: { csi: { driver: 'io.openebs.csi-mayastor', volumeHandle: 'a', ...extra } as never },
})

t.test('persistent volumes', async (t) => {
  const none = { volumes: [], missing: [], unreadable: [] }
  const broken = { ...none, problems: ['no volume id in spec.csi.volumeHandle: pvc-a'] }
  const cases: readonly { name: string; setup: RequestSetup; wanted: object }[] = [
    {
      name: 'a Mayastor volume',
      setup: { volumes: [{ id: 'a' }] },
      wanted: {
        volumes: [
          {
            name: 'pvc-a',
            volumeID: 'a',
            claim: { namespace: 'apps', name: 'claim-a' },
            createdAt: NOW_MS - 1000 * HOUR,
            heldByOwner: false,
            child: { name: 'pvc-a' },
          },
        ],
        problems: [],
      },
    },
    {
      name: 'without a child yet',
      setup: { volumes: [{ id: 'a', child: null }] },
      wanted: { volumes: [{ name: 'pvc-a', child: undefined }], missing: [] },
    },
    {
      name: 'of another class: outside, its child goes',
      setup: { volumes: [{ id: 'a', pv: { spec: { storageClassName: 'other' } } }] },
      wanted: { ...none, problems: [] },
    },
    {
      name: 'of no class',
      setup: { volumes: [{ id: 'a', pv: { spec: { storageClassName: undefined } as never } }] },
      wanted: { ...none, problems: [] },
    },
    {
      name: 'without CSI: outside, and said',
      setup: { volumes: [{ id: 'a', pv: { spec: { csi: undefined } as never } }] },
      wanted: { ...none, problems: ['not Mayastor volumes, though of class mayastor: pvc-a'] },
    },
    {
      name: 'of another driver',
      setup: { volumes: [{ id: 'a', pv: csi({ driver: 'ebs.csi.aws.com' }) }] },
      wanted: { ...none, problems: ['not Mayastor volumes, though of class mayastor: pvc-a'] },
    },
    {
      name: 'many of another driver: one sentence',
      setup: { volumes: ['a', 'b', 'c', 'd', 'e'].map((id) => ({ id, pv: csi({ driver: 'x' }), child: null })) },
      wanted: { ...none, problems: ['not Mayastor volumes, though of class mayastor: pvc-a, pvc-b, pvc-c and 2 more'] },
    },
    {
      name: 'no handle: the child stays',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: undefined }) }] },
      wanted: { ...broken, unreadable: [{ name: 'pvc-a' }] },
    },
    {
      name: 'no handle and no child',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: '' }), child: null }] },
      wanted: broken,
    },
    {
      name: 'a handle of another kind',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: 7 }) }] },
      wanted: { ...broken, unreadable: [{ name: 'pvc-a' }] },
    },
    {
      name: 'a handle as long as is read',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: 'x'.repeat(100) }), child: null }] },
      wanted: { volumes: [{ volumeID: 'x'.repeat(100) }], problems: [] },
    },
    {
      name: 'a handle longer than that',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: 'x'.repeat(101) }) }] },
      wanted: { ...broken, unreadable: [{ name: 'pvc-a' }] },
    },
    {
      name: 'made anew with another handle: the old child goes first',
      setup: { volumes: [{ id: 'a', pv: csi({ volumeHandle: 'b' }) }] },
      wanted: { ...none, problems: [] },
    },
    {
      name: 'missing',
      setup: { volumes: [{ id: 'a', pv: null }] },
      wanted: { volumes: [], missing: [{ name: 'pvc-a' }], unreadable: [], problems: [] },
    },
    {
      name: 'a claim without a uid',
      setup: { volumes: [{ id: 'a', pv: { spec: { claimRef: { namespace: 'apps', name: 'claim-a' } } } }] },
      wanted: { volumes: [{ claim: { namespace: 'apps', name: 'claim-a', uid: undefined } }] },
    },
    {
      name: 'no claim',
      setup: { volumes: [{ id: 'a', pv: { spec: { claimRef: null } } }] },
      wanted: { volumes: [{ claim: undefined, heldByOwner: false }] },
    },
    {
      name: 'half a claim',
      setup: { volumes: [{ id: 'a', pv: { spec: { claimRef: { name: 'claim-a' } } } }] },
      wanted: { volumes: [{ claim: undefined }] },
    },
    {
      name: 'age unknown',
      setup: { volumes: [{ id: 'a', pv: { meta: { creationTimestamp: 'yesterday' } } }] },
      wanted: { volumes: [{ createdAt: undefined }] },
    },
    {
      name: 'ordered by name',
      setup: { volumes: ['c', 'a', 'b'].map((id) => ({ id })) },
      wanted: { volumes: [{ name: 'pvc-a' }, { name: 'pvc-b' }, { name: 'pvc-c' }] },
    },
  ]
  for (const { name, setup, wanted } of cases) {
    const world = look(setup)
    t.match(world, wanted, name)
    // A match takes a longer list as well.
    for (const [key, list] of Object.entries(wanted))
      t.equal(world[key as 'volumes'].length, list.length, `${name}: ${key}`)
  }
  t.strictSame(
    look({}),
    {
      volumes: [],
      pools: look({}).pools,
      missing: [],
      unreadable: [],
      problems: [],
      activeElsewhere: 0,
      before: undefined,
    },
    'nothing at all',
  )
})

t.test('claims that ask to stay', async (t) => {
  const held = (...claims: KubernetesObject[]) => look({ volumes: [{ id: 'a' }], claims }).volumes[0]?.heldByOwner
  t.equal(held(claim('apps', 'claim-a', 'true')), true)
  t.equal(held(claim('apps', 'claim-a', '')), true, 'any value')
  t.equal(held(claim('apps', 'claim-a', 'false')), false, 'but false')
  t.equal(held(claim('other', 'claim-a', 'true')), false, 'of another namespace')
  t.equal(held(claim('apps', 'claim-b', 'true')), false, 'another claim')
  t.equal(held(), false)
  const unlabelled = claim('apps', 'claim-a', 'true')
  t.equal(held({ ...unlabelled, metadata: { ...unlabelled.metadata, labels: {} } }), false, 'without the label')
})

t.test('pools', async (t) => {
  const seen = (name: string, setup?: Parameters<typeof pool>[1]) =>
    look({ pools: [pool(name, setup)] }).pools?.get(name)
  const cases: readonly [string, ReturnType<typeof seen>, object][] = [
    [
      'NVMe',
      seen('nvme-1'),
      { node: 'n1', tier: 'NVMe', usable: true, capacityBytes: 1000 * GIB, freeBytes: 800 * GIB, encrypted: false },
    ],
    ['SATA', seen('sata-2', { zone: 'b' }), { node: 'n2', tier: 'SATA', zone: 'b' }],
    ['by metadata.labels alone', seen('x-1', { labels: { tier: 'nvme' }, labelled: {} }), { tier: 'NVMe' }],
    ['neither', seen('x-1'), { tier: undefined, usable: true }],
    ['in both by the union of labels', seen('nvme-1', { labels: { tier: 'sata' } }), { tier: undefined }],
    ['labels of another kind', seen('nvme-1', { labels: { a: 5 } as never }), { tier: 'NVMe' }],
    ['without status', seen('nvme-1', { status: null as never }), { tier: 'NVMe', usable: true }],
    ['encrypted', seen('nvme-1', { status: { encrypted: true } }), { encrypted: true }],
    ['encryption unknown', seen('nvme-1', { status: { encrypted: 'yes' } }), { encrypted: false }],
    ['Offline', seen('nvme-1', { status: { pool_status: 'Unknown' } }), { usable: false }],
    ['no pool_status', seen('nvme-1', { status: { pool_status: null } }), { usable: false }],
    ['no capacity', seen('nvme-1', { status: { capacity: null } }), { usable: false, capacityBytes: 0 }],
    [
      'available missing: what is not used',
      seen('nvme-1', { status: { available: null } }),
      { freeBytes: 800 * GIB, usable: true },
    ],
    [
      'neither available nor used',
      seen('nvme-1', { status: { available: null, used: null } }),
      { freeBytes: 0, usable: false },
    ],
    ['a quantity for a number', seen('nvme-1', { status: { capacity: '10Gi' } }), { usable: false }],
  ]
  for (const [name, found, wanted] of cases) t.match(found, wanted, name)

  const { status: _, ...fresh } = pool('nvme-1')
  t.match(
    look({ pools: [fresh] }).pools?.get('nvme-1'),
    { tier: 'NVMe', usable: false, freeBytes: 0 },
    'no status at all',
  )
  t.equal(look({ pools: null }).pools, undefined, 'no DiskPools in the request')
  t.equal(look({ pools: [] }).pools?.size, 0, 'none in the cluster')
  const nodeless = pool('nvme-1')
  const blind = look({ pools: [{ ...nodeless, spec: { disks: [] } }] })
  t.strictSame([...(blind.pools ?? []), ...blind.problems], ['DiskPool nvme-1 has no spec.node'])
  t.match(
    look({ pools: ['nvme-1', 'nvme-2', 'nvme-3', 'nvme-4'].map((name) => pool(name, { labels: { tier: 'sata' } })) })
      .problems,
    ['DiskPools matched by both selectors, so of neither tier: nvme-1, nvme-2, nvme-3 and 1 more'],
  )

  const twoVersions = policyRequest({ pools: [] })
  const entries = Object.entries({
    ...twoVersions.related,
    'DiskPool.openebs.io/v1beta2': { old: pool('nvme-1') },
  })
  for (const related of [entries, [...entries].reverse()]) {
    const world = observe({ ...twoVersions, related: Object.fromEntries(related) } as HookRequest, POLICY)
    t.strictSame([...(world.pools ?? [])].length, 1, 'of two versions the same one is read, in whatever order')
  }
})

t.test('children', async (t) => {
  const read = (child: NonNullable<RequestSetup['volumes']>[number]['child']) =>
    readChildren({ [pvName('a')]: topology({ id: 'a', ...(child ? { child } : {}) }) }).get('pvc-a')
  const one = migration('a')
  const two = migration('a', { id: 'a-2' })
  const running = migrationStatus('a')
  const over = ended('a', HOUR)
  const analyzing = migrationStatus('a', { phase: 'Analyzing', started: false })
  const cases: readonly [string, ReturnType<typeof read>, object][] = [
    ['at rest', read({}), { running: undefined, underWay: undefined, last: undefined, deleting: false }],
    ['wanted, not begun', read({ spec: { migration: one } }), { running: one, underWay: undefined, last: undefined }],
    [
      'running',
      read({ spec: { migration: one }, status: { migration: running } }),
      { running: one, underWay: running },
    ],
    ['ended', read({ spec: { migration: one }, status: { migration: over } }), { running: undefined, last: over }],
    [
      'ended and withdrawn',
      read({ status: { migration: over } }),
      { running: undefined, underWay: undefined, last: over },
    ],
    [
      'the next one wanted',
      read({ spec: { migration: two }, status: { migration: over } }),
      { running: two, underWay: undefined, last: over },
    ],
    ['withdrawn while it runs', read({ status: { migration: running } }), { running: undefined, underWay: running }],
    [
      'another one wanted while it runs',
      read({ spec: { migration: two }, status: { migration: running } }),
      { running: two, underWay: running, last: undefined },
    ],
    [
      'withdrawn before it began',
      read({ status: { migration: analyzing } }),
      { running: undefined, underWay: undefined },
    ],
    [
      'held',
      read({ spec: { migration: one }, status: { migration: migrationStatus('a', { phase: 'Held' }) } }),
      { running: one, underWay: { phase: 'Held' }, last: undefined },
    ],
    ['being deleted', read({ meta: { deletionTimestamp: ago(0) } }), { deleting: true }],
    ['never observed', read({ status: null }), { status: undefined, last: undefined }],
  ]
  for (const [name, found, wanted] of cases) t.match(found, wanted, name)
  for (const phase of ['Completed', 'Aborted', 'Failed'] as const) {
    t.equal(read({ status: { migration: ended('a', 0, { phase }) } })?.last?.phase, phase)
  }
  t.strictSame([...readChildren({ b: topology({ id: 'b' }), a: topology({ id: 'a' }) }).keys()], ['pvc-a', 'pvc-b'])
})

t.test('the owner of a storage class', async (t) => {
  const at = (name: string, hours: number, extra: Parameters<typeof policy>[0] = {}) =>
    policy({ name, ...extra, meta: { creationTimestamp: ago(hours * HOUR), ...extra.meta } })
  const own = { name: 'm', meta: { creationTimestamp: ago(10 * HOUR) } }
  const cases: readonly { name: string; others: KubernetesObject[]; owner: string }[] = [
    { name: 'alone', others: [], owner: 'm' },
    { name: 'older than the others', others: [at('a', 9), at('z', 9.9)], owner: 'm' },
    { name: 'an older one', others: [at('z', 11)], owner: 'z' },
    { name: 'the oldest of three', others: [at('z', 11), at('y', 12)], owner: 'y' },
    { name: 'equally old: by name', others: [at('a', 10)], owner: 'a' },
    { name: 'equally old: the other comes later', others: [at('n', 10)], owner: 'm' },
    { name: 'older, of another class', others: [at('a', 11, { spec: { storageClassName: 'x' } })], owner: 'm' },
    { name: 'older and disabled', others: [at('a', 11, { spec: { enabled: false } })], owner: 'a' },
    { name: 'older and in dry run', others: [at('a', 11, { spec: { dryRun: true } })], owner: 'a' },
    { name: 'older and being deleted', others: [at('a', 11, { meta: { deletionTimestamp: ago(0) } })], owner: 'a' },
    { name: 'older, class spelt out', others: [at('a', 11, { spec: { storageClassName: 'mayastor' } })], owner: 'a' },
    { name: 'age unknown', others: [at('a', 11, { meta: { creationTimestamp: '?' } })], owner: 'm' },
  ]
  for (const { name, others, owner: wanted } of cases) {
    const request = policyRequest({ policy: own, otherPolicies: others }) as HookRequest
    t.equal(owner(request, { ...POLICY, name: 'm' }), wanted, name)
    const reversed = policyRequest({ policy: own, otherPolicies: [...others].reverse() }) as HookRequest
    t.equal(
      owner({ ...reversed, related: { ...reversed.related } }, { ...POLICY, name: 'm' }),
      wanted,
      `${name}, reversed`,
    )
  }
  const alone = policyRequest({ policy: own }) as HookRequest
  t.equal(owner({ ...alone, related: {} }, { ...POLICY, name: 'm' }), 'm', 'not yet in its own list')
})

t.test('entries that are no objects are left out', async (t) => {
  const request = policyRequest({ volumes: [{ id: 'a' }] })
  const odd = {
    ...request,
    children: { [TOPOLOGY_KEY]: { ...request.children[TOPOLOGY_KEY], x: null } },
    related: Object.fromEntries(
      Object.entries(request.related).map(([key, objects]) => [key, { ...objects, x: null }]),
    ),
  } as unknown as HookRequest
  const { volumes, missing, problems } = observe(odd, POLICY)
  t.strictSame([volumes.map(({ name }) => name), missing, problems], [['pvc-a'], [], []])
  t.equal(owner(odd, POLICY), 'tiering')
})
