import t from 'tap'
import {
  GiB,
  type MayastorOptions,
  type PoolOptions,
  type VolumeOptions,
} from '../../../src/embedded/mayastor/index.js'
import { Bed, V, withBed } from './bed.js'

interface Refusal {
  readonly name: string
  readonly options?: Partial<MayastorOptions>
  readonly volume?: Partial<VolumeOptions>
  readonly before?: (bed: Bed) => unknown
  readonly count: number
  readonly status: number
  readonly error: string
}

const refusals: Refusal[] = [
  { name: 'repeat of what is done', count: 2, status: 412, error: 'ReplicaCountAchieved' },
  { name: 'none', volume: { replicas: [{ pool: 'a-nvme' }] }, count: 0, status: 412, error: 'LastReplica' },
  { name: 'two at a time', count: 4, status: 412, error: 'ReplicaChangeCount' },
  {
    name: 'increase of a degraded volume',
    before: (bed) => bed.setReplicas(3),
    count: 4,
    status: 412,
    error: 'ReplicaIncrease',
  },
  {
    name: 'another operation for more than a second',
    before: (bed) => bed.mayastor.occupy(V, 'Resize', 5_000),
    count: 3,
    status: 409,
    error: 'Conflict',
  },
  {
    name: 'a store that is behind',
    before: (bed) => bed.mayastor.faults.storeDirty(V),
    count: 3,
    status: 507,
    error: 'StoreDirty',
  },
  {
    name: 'a target nobody hears of',
    before: (bed) => {
      bed.mayastor.setNodeOnline('a', false)
      return bed.pass(30_000)
    },
    count: 3,
    status: 503,
    error: 'NotReady',
  },
  {
    name: 'snapshots on io-engines that cannot rebuild them',
    before: (bed) => {
      bed.mayastor.snapshot(V)
      bed.mayastor.setNodeVersion('b', '2.6.1')
    },
    count: 3,
    status: 412,
    error: 'UpgradeRequiredToRebuild',
  },
  {
    name: 'a member of an affinity group down to one before 2.10',
    options: { version: '2.9.1' },
    volume: { affinityGroup: 'g' },
    count: 1,
    status: 412,
    error: 'RestrictedReplicaCount',
  },
  {
    name: 'rebuild limit',
    before: (bed) => {
      bed.mayastor.faults.rebuildLimit = 0
    },
    count: 3,
    status: 507,
    error: 'MaxRebuilds',
  },
]

t.test('preconditions of replica_count', async (t) => {
  for (const { name, options, volume, before, count, status, error } of refusals) {
    const bed = new Bed(options)
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      await before?.(bed)
      const was = bed.count()
      const answer = await bed.setReplicas(count)
      t.equal(answer.status, status, name)
      t.match(answer.body.message, `SvcError :: ${error}`, name)
      t.equal(bed.count(), was, name)
      t.equal(bed.mayastor.truth.volumes.get(V)?.operation === 'SetReplica', false, name)
    })
  }
  await withBed(new Bed(), async (bed) => t.equal((await bed.setReplicas(2, 'nope')).status, 404))
})

t.test('decrease does not need the volume to be Online', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const answer = await bed.setReplicas(2)
    t.equal(answer.status, 200)
    t.same(bed.replicas(), ['r0', 'r1'], 'the one that still rebuilds goes')
  })
})

t.test('the answer of an increase shows the new replica, rebuilding', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const { status, body } = await bed.setReplicas(3)
    t.equal(status, 200)
    t.equal(body.spec.num_replicas, 3)
    t.equal(Object.keys(body.state.replica_topology).length, 3)
    t.equal(body.state.status, 'Degraded')
    const added = bed.replicas().find((r) => !['r0', 'r1'].includes(r)) ?? ''
    t.match(body.state.replica_topology[added], { 'child-status': 'Degraded', 'rebuild-progress': 0 })
  })
})

t.test('unpublished: created but not rebuilt, and the first to be removed again', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.unpublish(V)
    t.equal((await bed.setReplicas(3)).status, 200)
    await bed.pass(120_000)
    const added = [...(bed.mayastor.truth.volumes.get(V)?.replicas ?? [])][2]
    t.match(added, { synced: false, healthyRecorded: false })
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

interface Placement {
  readonly name: string
  readonly options?: Partial<MayastorOptions>
  readonly volume?: Partial<VolumeOptions>
  readonly pools?: readonly (Partial<PoolOptions> & { readonly id: string; readonly node: string })[]
  readonly before?: (bed: Bed) => void
  /** Where it lands; none: 507. */
  readonly lands: string | undefined
}

const everywhere = ['c-nvme', 'c-sata', 'd-nvme']
const placements: Placement[] = [
  {
    name: 'never on a node that has a replica',
    before: (bed) => {
      for (const pool of ['c-nvme', 'c-sata', 'd-nvme', 'd-sata']) bed.mayastor.cordonPool(pool, { replicas: true })
    },
    lands: undefined,
  },
  {
    name: 'not on cordoned pools (2.10)',
    before: (bed) => {
      for (const pool of everywhere) bed.mayastor.cordonPool(pool, { replicas: true })
    },
    lands: 'd-sata',
  },
  {
    name: 'a cordon for snapshots does not matter',
    before: (bed) => {
      for (const pool of everywhere) bed.mayastor.cordonPool(pool, { replicas: true })
      bed.mayastor.cordonPool('d-sata', { snapshots: true, restores: true })
    },
    lands: 'd-sata',
  },
  {
    name: 'not on a cordoned node',
    before: (bed) => {
      bed.mayastor.cordonNode('c', 'x')
      bed.mayastor.cordonPool('d-nvme', { replicas: true })
    },
    lands: 'd-sata',
  },
  {
    name: 'not on a draining node',
    before: (bed) => {
      bed.mayastor.drainNode('c', 'x')
      bed.mayastor.setPoolStatus('d-nvme', 'Faulted')
      bed.mayastor.setNodeOnline('d', false)
      bed.mayastor.setNodeOnline('d', true)
    },
    lands: 'd-sata',
  },
  {
    name: 'only on pools with the labels the volume was created with',
    volume: { topology: { pool_topology: { labelled: { inclusion: { tier: 'gold' }, exclusion: {} } } } },
    pools: [{ id: 'gold', node: 'c', labels: { tier: 'gold' } }],
    lands: 'gold',
  },
  {
    name: 'an empty value asks for the key only',
    volume: { topology: { pool_topology: { labelled: { inclusion: { only: '' }, exclusion: {} } } } },
    pools: [{ id: 'any', node: 'd', labels: { only: 'whatever' } }],
    lands: 'any',
  },
  {
    name: 'not on pools that did not come from a DiskPool',
    before: (bed) => {
      for (const pool of [...everywhere, 'd-sata']) bed.mayastor.cordonPool(pool, { replicas: true })
    },
    pools: [{ id: 'raw', node: 'c', createdByOperator: false }],
    lands: undefined,
  },
  {
    name: 'only on allowed nodes',
    volume: {
      topology: { node_topology: { explicit: { allowed_nodes: ['a', 'b', 'd'], preferred_nodes: [] } } },
    },
    before: (bed) => {
      bed.mayastor.cordonPool('d-nvme', { replicas: true })
    },
    lands: 'd-sata',
  },
  {
    name: 'only on nodes with the wanted label',
    volume: { topology: { node_topology: { labelled: { inclusion: { zone: 'd' }, exclusion: {} } } } },
    before: (bed) => {
      bed.mayastor.cordonPool('d-sata', { replicas: true })
    },
    lands: 'd-nvme',
  },
  {
    name: 'encryption must be equal',
    volume: { encrypted: true },
    pools: [{ id: 'secret', node: 'c', encrypted: true }],
    lands: 'secret',
  },
  {
    name: 'cluster size must be equal',
    volume: { clusterSizeBytes: 1024 * 1024 },
    pools: [{ id: 'fine', node: 'c', clusterSizeBytes: 1024 * 1024 }],
    lands: 'fine',
  },
]

const spacePools = (c: Partial<PoolOptions>, count: number) =>
  Array.from({ length: count }, (_, i) => ({ id: `p${i}`, node: 'abcd'[i] ?? 'd', capacityBytes: 100 * GiB, ...c }))

t.test('where an added replica lands', async (t) => {
  for (const { name, options, volume, pools = [], before, lands } of placements) {
    const bed = new Bed(options)
    for (const pool of pools) bed.mayastor.addPool({ capacityBytes: 100 * GiB, ...pool })
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      before?.(bed)
      const { status, body } = await bed.setReplicas(3)
      t.equal(bed.placement()[2], lands, name)
      t.equal(status, lands === undefined ? 507 : 200, name)
      if (lands === undefined) t.match(body, { kind: 'ResourceExhausted', details: /Not enough suitable pools/ }, name)
    })
  }
})

t.test('pool cordons and node spread do not bind before 2.10', async (t) => {
  const bed = new Bed({ version: '2.9.0' }, 'abc')
  bed.volume(['a-nvme', 'b-nvme'], {
    topology: { node_topology: { labelled: { inclusion: {}, exclusion: { rack: '' } } } },
  })
  bed.mayastor.cordonPool('c-nvme', { replicas: true })
  bed.mayastor.cordonPool('c-sata', { replicas: true })
  await withBed(bed, async () => t.equal((await bed.setReplicas(3)).status, 200))
})

t.test('node spread binds since 2.10', async (t) => {
  const bed = new Bed({}, '')
  for (const [id, rack] of Object.entries({ a: '1', b: '2', c: '1', d: '3' })) {
    bed.mayastor.addNode({ id, labels: { rack } })
    bed.mayastor.addPool({ id: `p-${id}`, node: id, capacityBytes: 100 * GiB })
  }
  bed.volume(['p-a', 'p-b'], {
    topology: { node_topology: { labelled: { inclusion: {}, exclusion: { rack: '' } } } },
  })
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    t.same(bed.placement(), ['p-a', 'p-b', 'p-d'])
  })
})

t.test('space', async (t) => {
  const cases = [
    { name: 'capacity must exceed the size', pool: { capacityBytes: 10 * GiB }, fits: false },
    { name: 'thick: free equal to the size is not enough', thin: false, pool: { otherBytes: 90 * GiB }, fits: false },
    { name: 'thick: a byte more is', thin: false, pool: { otherBytes: 90 * GiB - 1 }, fits: true },
    { name: 'thin: allocated + 40 % is not enough', pool: { otherBytes: 91 * GiB }, fits: false },
    { name: 'thin: a byte more is', pool: { otherBytes: 91 * GiB - 1 }, fits: true },
    { name: 'thin: never asks for more than the size', written: 9, pool: { otherBytes: 90 * GiB - 1 }, fits: true },
  ]
  for (const { name, thin = true, written = 5, pool, fits } of cases) {
    const bed = new Bed({}, '')
    for (const id of 'ab') bed.mayastor.addNode({ id })
    for (const [i, p] of spacePools({}, 1).entries()) bed.mayastor.addPool({ ...p, node: 'ab'[i] ?? 'a' })
    bed.mayastor.addPool({ id: 'target', node: 'b', capacityBytes: 100 * GiB, ...pool })
    bed.volume(['p0'], { thin, allocatedBytes: written * GiB })
    await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, fits ? 200 : 507, name))
  }
})

t.test('thin: a pool promises at most 250 % of its capacity', async (t) => {
  const bed = new Bed({}, 'ab')
  bed.mayastor.cordonPool('b-sata', { replicas: true })
  for (let i = 0; i < 24; i++) {
    bed.volume([], { uuid: `v${i}`, sizeBytes: 10 * GiB, allocatedBytes: 0, replicas: [{ pool: 'b-nvme' }] })
  }
  bed.volume(['a-nvme'])
  await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, 507))
})

t.test('single replicas of an affinity group keep apart', async (t) => {
  for (const [version, status] of [
    ['2.8.0', 507],
    ['2.9.0', 200],
  ] as const) {
    const bed = new Bed({ version }, 'ab')
    bed.volume([], { uuid: 'other', replicas: [{ pool: 'b-nvme' }], affinityGroup: 'g' })
    bed.volume(['a-nvme'], { affinityGroup: 'g' })
    await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, status, version))
  }
})

t.test('since 2.10 a member may shrink to one unless that shares a node with another single one', async (t) => {
  for (const [other, status] of [
    ['c-nvme', 200],
    ['a-nvme', 412],
  ] as const) {
    const bed = new Bed()
    bed.volume([], { uuid: 'other', replicas: [{ pool: other }], affinityGroup: 'g' })
    bed.volume(['a-nvme', 'b-nvme'], { affinityGroup: 'g' })
    await withBed(bed, async () => t.equal((await bed.setReplicas(1)).status, status, other))
  }
})

t.test('when creation fails on the best pool the next is silently tried', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  for (const pool of ['c-nvme', 'd-nvme', 'd-sata']) bed.mayastor.faults.createFails(pool)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    t.equal(bed.placement()[2], 'c-sata')
    await bed.setReplicas(2)
    await bed.pass(200_000)
    bed.mayastor.faults.createFails('c-sata')
    t.equal((await bed.setReplicas(3)).status, 500, 'all fail')
    t.equal(bed.count(), 2)
  })
})

t.test('when attach fails the replica stays owned for a while and is removed as surplus', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.attachFails(V)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 500)
    t.equal(bed.count(), 2)
    t.equal(bed.replicas().length, 3)
    await bed.pass(35_000)
    t.same(bed.replicas(), ['r0', 'r1'])
    t.equal(bed.mayastor.truth.replicas.size, 2)
  })
})

t.test('when destroy fails the victim is gone but the count stays, and a new replica appears', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  bed.mayastor.cordonNode('c', 'x')
  bed.mayastor.faults.destroyFails('r2', 1)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(2)).status, 500)
    t.equal(bed.count(), 3)
    t.same(bed.replicas(), ['r0', 'r1'])
    const cured = bed.count()
    t.equal(cured, 3)
    await bed.pass(40_000)
    t.equal(bed.replicas().length, 3, 'hot-spare made another')
    t.notOk(bed.replicas().includes('r2'))
    await bed.pass(300_000)
    t.notOk(bed.mayastor.truth.replicas.has('r2'), 'the leftover is cleared')
  })
})

t.test('repeating the decrease at once after a failed destroy only lowers the count', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  bed.mayastor.faults.destroyFails(() => true)
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    const [left] = [bed.replicas()]
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), left)
    t.equal(bed.count(), 2)
  })
})

interface Removal {
  readonly name: string
  readonly version?: string
  readonly before?: (bed: Bed) => unknown
  readonly volume?: Partial<VolumeOptions>
  readonly goes: string
  /** What the tie breaker picks among. */
  readonly among?: number
}

const removals: Removal[] = [
  { name: 'equals: an arbitrary one, the local one stays', goes: 'r2', among: 2 },
  { name: 'node cordon decides among equals', before: (bed) => bed.mayastor.cordonNode('b', 'x'), goes: 'r1' },
  { name: 'node cordon outranks locality', before: (bed) => bed.mayastor.cordonNode('a', 'x'), goes: 'r0' },
  { name: 'draining counts as cordoned', before: (bed) => bed.mayastor.drainNode('b', 'x'), goes: 'r1' },
  {
    name: 'a pool cordon does not',
    before: (bed) => bed.mayastor.cordonPool('b-nvme', { replicas: true }),
    goes: 'r2',
    among: 2,
  },
  {
    name: 'before 2.9 a node cordon does not',
    version: '2.8.0',
    before: (bed) => bed.mayastor.cordonNode('b', 'x'),
    goes: 'r2',
    among: 2,
  },
  {
    name: 'unhealthy goes before cordoned',
    before: (bed) => {
      bed.mayastor.cordonNode('b', 'x')
      bed.mayastor.faultReplica('r2')
    },
    goes: 'r2',
  },
  {
    name: 'a pool the topology does not allow goes before cordoned',
    before: (bed) => {
      bed.mayastor.cordonNode('b', 'x')
      bed.mayastor.unlabelPool('c-nvme', 'tier')
    },
    volume: { topology: { pool_topology: { labelled: { inclusion: { tier: '' }, exclusion: {} } } } },
    goes: 'r2',
  },
  {
    name: 'topology decides in 2.8',
    version: '2.8.0',
    before: (bed) => bed.mayastor.unlabelPool('b-nvme', 'tier'),
    volume: { topology: { pool_topology: { labelled: { inclusion: { tier: '' }, exclusion: {} } } } },
    goes: 'r1',
  },
  {
    name: 'topology is ignored in 2.7.0',
    version: '2.7.0',
    before: (bed) => bed.mayastor.unlabelPool('b-nvme', 'tier'),
    volume: { topology: { pool_topology: { labelled: { inclusion: { tier: '' }, exclusion: {} } } } },
    goes: 'r2',
    among: 2,
  },
]

t.test('which replica a decrease removes', async (t) => {
  for (const { name, version = '2.10.0', before, volume, goes, among } of removals) {
    let ties = 0
    const choose = <T>(what: string, options: readonly T[]): T => {
      if (what === 'removal') ties = options.length
      return options[options.length - 1] as T
    }
    const bed = new Bed({ version, choose })
    bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { targetNode: 'a', ...volume })
    await withBed(bed, async () => {
      await before?.(bed)
      t.equal((await bed.setReplicas(2)).status, 200, name)
      t.notOk(bed.replicas().includes(goes), name)
      t.equal(bed.replicas().length, 2, name)
      t.equal(ties, among ?? 0, name)
    })
  }
})

t.test('a healthy replica only goes if more than n are healthy and online; the count is lowered anyway', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.unpublish(V)
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(30_000)
    t.equal((await bed.setReplicas(2)).status, 200)
    t.equal(bed.count(), 2)
    t.equal(bed.replicas().length, 3)
    bed.mayastor.cordonNode('c', 'x')
    bed.mayastor.setNodeOnline('b', true)
    await bed.pass(40_000)
    t.same(bed.replicas(), ['r0', 'r1'], 'the rest is done later, in the same order')
  })
})

t.test('an unhealthy replica goes without a guard, even when none is too many', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  bed.mayastor.faults.destroyFails(() => true, 1)
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    const [, other = ''] = bed.replicas()
    bed.mayastor.faultReplica(other)
    await bed.setReplicas(2)
    t.equal(bed.replicas().length, 1)
  })
})

t.test('a slow operation goes on after 408, and shows', async (t) => {
  const bed = new Bed({ stepMs: 3_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const answer = await bed.setReplicas(3)
    t.match(answer, { status: 408, body: { kind: 'Timeout' } })
    t.equal(bed.clock.now() - (bed.mayastor.writes[0]?.at ?? 0), 5_000)
    t.match((await bed.shown()).spec, { num_replicas: 2, operation: { operation: 'SetReplica' } })
    t.match(await bed.setReplicas(3), { status: 409 })
    await bed.pass(10_000)
    t.equal((await bed.shown()).spec.num_replicas, 3)
    t.notOk('operation' in (await bed.shown()).spec)
    t.match((await bed.setReplicas(3)).body.message, /ReplicaCountAchieved/)
  })
})
