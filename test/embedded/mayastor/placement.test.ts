import t from 'tap'
import {
  GiB,
  type MayastorOptions,
  type PoolOptions,
  type VolumeOptions,
} from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, takeFirst, takeLast, V, withBed } from './bed.js'
import type { RuleId } from './rules.js'

interface Placement {
  readonly rule: RuleId
  readonly what?: string
  readonly options?: Partial<MayastorOptions>
  readonly volume?: Partial<VolumeOptions>
  readonly pools?: readonly (Partial<PoolOptions> & { readonly id: string; readonly node: string })[]
  readonly before?: (bed: Bed) => unknown
  /** Where a third replica lands, with two on node a and b; undefined: 507. */
  readonly lands: string | undefined
}

/** The topology of a volume that wants these labels on its pools. */
const poolLabels = (inclusion: Record<string, string>): Partial<VolumeOptions> => ({
  topology: { pool_topology: { labelled: { inclusion, exclusion: {} } } },
})

const placements: Placement[] = [
  {
    rule: '5.1 node',
    what: 'cordoned',
    before: (bed) => {
      bed.mayastor.cordonNode('c', 'x')
      bed.openOnly('c-nvme', 'c-sata', 'd-sata')
    },
    lands: 'd-sata',
  },
  {
    rule: '5.1 node',
    what: 'draining',
    before: (bed) => {
      bed.mayastor.drainNode('c', 'x')
      bed.openOnly('c-nvme', 'd-sata')
    },
    lands: 'd-sata',
  },
  {
    rule: '5.1 node',
    what: 'known to be offline',
    before: (bed) => {
      bed.mayastor.setNodeOnline('c', false)
      bed.openOnly('c-nvme', 'd-sata')
      return bed.pass(30_000)
    },
    lands: 'd-sata',
  },
  {
    rule: '5.1 allowed nodes',
    volume: { topology: { node_topology: { explicit: { allowed_nodes: ['a', 'b', 'd'], preferred_nodes: [] } } } },
    before: (bed) => bed.openOnly('c-nvme', 'd-sata'),
    lands: 'd-sata',
  },
  { rule: '5.1 one per node', before: (bed) => bed.openOnly('a-sata', 'b-sata'), lands: undefined },
  {
    rule: '5.1 node labels',
    volume: { topology: { node_topology: { labelled: { inclusion: { zone: 'd' }, exclusion: {} } } } },
    before: (bed) => bed.openOnly('c-nvme', 'd-nvme'),
    lands: 'd-nvme',
  },
  {
    rule: '5.1 pool labels',
    what: 'the value',
    volume: poolLabels({ tier: 'gold' }),
    pools: [{ id: 'gold', node: 'c', labels: { tier: 'gold' } }],
    lands: 'gold',
  },
  {
    rule: '5.1 pool labels',
    what: 'the key only',
    volume: poolLabels({ only: '' }),
    pools: [{ id: 'any', node: 'd', labels: { only: 'whatever' } }],
    lands: 'any',
  },
  {
    rule: '5.1 not imported',
    before: (bed) => {
      bed.mayastor.setPoolImported('c-nvme', false)
      bed.openOnly('c-nvme', 'd-sata')
      return bed.pass(30_000)
    },
    lands: 'd-sata',
  },
  { rule: '5.1 pool cordon', before: (bed) => bed.openOnly('d-sata'), lands: 'd-sata' },
  {
    rule: '5.1 pool cordon',
    what: 'for snapshots and restores does not matter',
    before: (bed) => {
      bed.openOnly('d-sata')
      bed.mayastor.cordonPool('d-sata', { snapshots: true, restores: true, import: true })
    },
    lands: 'd-sata',
  },
  {
    rule: '5.1 pool cordon',
    what: 'not before 2.10',
    options: { version: '2.9.0' },
    before: (bed) => bed.openOnly(),
    lands: 'c-nvme',
  },
  {
    rule: '5.1 encryption',
    volume: { encrypted: true },
    pools: [{ id: 'secret', node: 'c', encrypted: true }],
    lands: 'secret',
  },
  {
    rule: '5.1 encryption',
    what: 'a plain volume keeps off',
    pools: [{ id: 'secret', node: 'c', encrypted: true }],
    before: (bed) => bed.openOnly('secret'),
    lands: undefined,
  },
  {
    rule: '5.1 encryption',
    what: 'is not looked at before 2.9',
    options: { version: '2.8.0' },
    volume: { encrypted: true },
    lands: 'c-nvme',
  },
  {
    rule: '5.1 cluster size',
    volume: { clusterSizeBytes: 1024 * 1024 },
    pools: [{ id: 'fine', node: 'c', clusterSizeBytes: 1024 * 1024 }],
    lands: 'fine',
  },
  {
    rule: '5.1 cluster size',
    what: 'is not looked at before 2.10',
    options: { version: '2.9.0' },
    volume: { clusterSizeBytes: 1024 * 1024 },
    lands: 'c-nvme',
  },
  {
    rule: '5.3 fixed',
    what: 'a pool that did not come from a DiskPool',
    pools: [{ id: 'raw', node: 'c', createdByOperator: false }],
    before: (bed) => bed.openOnly('raw'),
    lands: undefined,
  },
  { rule: '5.4 steering', before: (bed) => bed.openOnly('d-nvme'), lands: 'd-nvme' },
  { rule: '5.4 steering', what: 'with all cordoned', before: (bed) => bed.openOnly(), lands: undefined },
  { rule: '11 same node', before: (bed) => bed.openOnly('a-sata'), lands: undefined },
  { rule: '11 few nodes', before: (bed) => bed.openOnly('a-sata', 'b-sata', 'b-nvme'), lands: undefined },
  { rule: '11 equal', volume: { encrypted: true }, lands: undefined },
]

for (const { rule: id, what, options, volume, pools = [], before, lands } of placements) {
  rule(id, async (t) => {
    if (what !== undefined) t.comment(what)
    const bed = new Bed({ choose: takeFirst, ...options })
    for (const pool of pools) bed.mayastor.addPool({ capacityBytes: 100 * GiB, ...pool })
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      await before?.(bed)
      const { status, body } = await bed.setReplicas(3)
      t.equal(bed.placement()[2], lands)
      t.equal(status, lands === undefined ? 507 : 200)
      if (lands === undefined) t.match(body, { kind: 'ResourceExhausted', details: /Not enough suitable pools/ })
    })
  })
}

rule('5.1 pool status', async (t) => {
  for (const [status, lands] of [
    ['Faulted', 'd-sata'],
    ['Unknown', 'd-sata'],
    ['Offline', 'd-sata'],
    ['Suspected', 'd-sata'],
    ['Online', 'c-nvme'],
  ] as const) {
    const bed = new Bed({ version: '2.11.0', choose: takeFirst })
    bed.volume(['a-nvme', 'b-nvme'])
    bed.openOnly('c-nvme', 'd-sata')
    bed.mayastor.setPoolStatus('c-nvme', status)
    await withBed(bed, async () => {
      await bed.pass(30_000)
      await bed.setReplicas(3)
      t.equal(bed.placement()[2], lands, status)
    })
  }
  const only = new Bed({ version: '2.11.0' })
  only.volume(['a-nvme', 'b-nvme'])
  only.openOnly('c-nvme')
  only.mayastor.setPoolStatus('c-nvme', 'Suspected')
  await withBed(only, async () => {
    await only.pass(30_000)
    t.equal((await only.setReplicas(3)).status, 200, 'a suspected pool is better than none')
  })
})

rule('5.1 node spread', async (t) => {
  for (const [version, lands] of [
    ['2.10.0', 'p-d'],
    ['2.9.0', 'p-c'],
  ] as const) {
    const bed = new Bed({ version, choose: takeFirst }, '')
    for (const [id, rack] of Object.entries({ a: '1', b: '2', c: '1', d: '3' })) {
      bed.mayastor.addNode({ id, labels: { rack } })
      bed.mayastor.addPool({ id: `p-${id}`, node: id, capacityBytes: 100 * GiB })
    }
    bed.volume(['p-a', 'p-b'], {
      topology: { node_topology: { labelled: { inclusion: {}, exclusion: { rack: '' } } } },
    })
    await withBed(bed, async () => {
      await bed.setReplicas(3)
      t.same(bed.placement(), ['p-a', 'p-b', lands], version)
    })
  }
})

interface Space {
  readonly rule: RuleId
  readonly what: string
  readonly thin?: boolean
  readonly writtenGiB?: number
  readonly pool: Partial<PoolOptions>
  readonly fits: boolean
}

/** A volume of 10 GiB on one pool, and one other pool. */
const spaces: Space[] = [
  { rule: '5.1 capacity', what: 'the size itself', pool: { capacityBytes: 10 * GiB }, fits: false },
  { rule: '5.1 thick', what: 'free is the size', thin: false, pool: { otherBytes: 90 * GiB }, fits: false },
  { rule: '5.1 thick', what: 'a byte more', thin: false, pool: { otherBytes: 90 * GiB - 1 }, fits: true },
  { rule: '5.1 thin', what: 'allocated and 40 %', pool: { otherBytes: 91 * GiB }, fits: false },
  { rule: '5.1 thin', what: 'a byte more', pool: { otherBytes: 91 * GiB - 1 }, fits: true },
  { rule: '5.1 thin', what: 'never more than the size', writtenGiB: 9, pool: { otherBytes: 90 * GiB - 1 }, fits: true },
]

for (const { rule: id, what, thin = true, writtenGiB = 5, pool, fits } of spaces) {
  rule(id, async (t) => {
    const bed = new Bed({}, '')
    for (const node of 'ab') bed.mayastor.addNode({ id: node })
    bed.mayastor.addPool({ id: 'p0', node: 'a', capacityBytes: 100 * GiB })
    bed.mayastor.addPool({ id: 'target', node: 'b', capacityBytes: 100 * GiB, ...pool })
    bed.volume(['p0'], { thin, allocatedBytes: writtenGiB * GiB })
    await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, fits ? 200 : 507, what))
  })
}

rule('5.1 thin', async (t) => {
  const bed = new Bed({}, 'ab')
  bed.mayastor.addPool({ id: 'tiny', node: 'b', capacityBytes: 20 * GiB, otherBytes: 20 * GiB - 16 * 1024 * 1024 })
  bed.openOnly('tiny')
  bed.volume(['a-nvme'], { sizeBytes: 16 * 1024 * 1024, allocatedBytes: 0 })
  await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, 507, '16 MiB are not more than 16 MiB'))
})

rule('5.1 commitment', async (t) => {
  for (const [promised, status] of [
    [24, 507],
    [23, 200],
  ] as const) {
    const bed = new Bed({}, 'ab')
    bed.openOnly('b-nvme')
    for (let i = 0; i < promised; i++) {
      bed.volume([], { uuid: `v${i}`, sizeBytes: 10 * GiB, allocatedBytes: 0, replicas: [{ pool: 'b-nvme' }] })
    }
    bed.volume(['a-nvme'])
    await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, status, `${promised}`))
  }
})

rule('5.1 group', async (t) => {
  for (const [version, otherPools, status] of [
    ['2.8.0', ['b-nvme'], 507],
    ['2.8.0', ['b-nvme', 'a-sata'], 507],
    ['2.9.0', ['b-nvme'], 200],
  ] as const) {
    const bed = new Bed({ version }, 'ab')
    bed.volume([], { uuid: 'other', replicas: otherPools.map((pool) => ({ pool })), affinityGroup: 'g' })
    bed.volume(['a-nvme'], { affinityGroup: 'g' })
    await withBed(bed, async () => t.equal((await bed.setReplicas(2)).status, status, `${version} ${otherPools}`))
  }
  const fresh = new Bed({}, 'ab')
  fresh.volume([], { uuid: 'other', replicas: [{ pool: 'a-nvme' }], affinityGroup: 'g' })
  fresh.mayastor.createVolume({ uuid: V, sizeBytes: GiB, replicas: 1, affinityGroup: 'g' })
  t.match(fresh.placement(), [/^b-/], 'a first replica keeps off')
  await fresh.mayastor.stop()
})

rule('5.1 known state', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly('c-nvme', 'd-sata')
  await withBed(bed, async () => {
    await bed.pass(100)
    bed.mayastor.setOtherBytes('c-nvme', 100 * GiB)
    bed.mayastor.setNodeOnline('d', false)
    const answer = await bed.setReplicas(3)
    t.equal(answer.status, 200)
    t.equal(bed.placement()[2], 'c-nvme', 'that it is full nobody has heard yet')
  })
  const gone = new Bed()
  gone.volume(['a-nvme', 'b-nvme'])
  gone.openOnly('c-nvme')
  await withBed(gone, async () => {
    await gone.pass(100)
    gone.mayastor.setNodeOnline('c', false)
    const answer = await gone.setReplicas(3)
    t.match(answer, { status: 408, body: { message: /GrpcConnectTimeout/ } }, 'that its node is gone is found out')
  })
})

rule('5.2 sort', async (t) => {
  const cases: [string, (bed: Bed) => unknown, string][] = [
    ['free space', (bed) => bed.mayastor.setOtherBytes('c-nvme', 60 * GiB), 'd-nvme'],
    [
      'replicas',
      (bed) => bed.volume([], { uuid: 'x', allocatedBytes: 0, sizeBytes: GiB, replicas: [{ pool: 'c-nvme' }] }),
      'd-nvme',
    ],
    ['nothing, and the choice', () => undefined, 'c-nvme'],
  ]
  for (const [what, before, lands] of cases) {
    const bed = new Bed({ choose: takeFirst })
    bed.volume(['a-nvme', 'b-nvme'])
    bed.openOnly('c-nvme', 'd-nvme')
    before(bed)
    await withBed(bed, async () => {
      await bed.pass(30_000)
      await bed.setReplicas(3)
      t.equal(bed.placement()[2], lands, what)
    })
  }
  const other = new Bed({ choose: takeLast })
  other.volume(['a-nvme', 'b-nvme'])
  other.openOnly('c-nvme', 'd-nvme')
  await withBed(other, async () => {
    await other.setReplicas(3)
    t.equal(other.placement()[2], 'd-nvme', 'the other choice')
  })
})

rule('5.2 status', async (t) => {
  for (const [version, lands] of [
    ['2.10.0', 'd-sata'],
    ['2.11.0', 'c-nvme'],
  ] as const) {
    const bed = new Bed({ version, choose: takeFirst })
    bed.volume(['a-nvme', 'b-nvme'])
    bed.openOnly('c-nvme', 'd-sata')
    bed.mayastor.setPoolStatus('d-sata', 'Degraded')
    await withBed(bed, async () => {
      await bed.pass(30_000)
      await bed.setReplicas(3)
      t.equal(bed.placement()[2], lands, version)
    })
  }
})

rule('5.3 fixed', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], poolLabels({ tier: 'nvme' }))
  bed.openOnly('c-sata', 'd-sata')
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 507)
    const { topology } = (await bed.shown()).spec
    t.same(topology.pool_topology.labelled.inclusion, { tier: 'nvme' })
  })
})

rule('11 appearing', async (t) => {
  const bed = new Bed({}, 'ab')
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly()
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 507)
    bed.mayastor.addNode({ id: 'new' })
    bed.mayastor.addPool({ id: 'new-nvme', node: 'new', capacityBytes: 100 * GiB })
    t.notOk('cordonDrain' in (await bed.get('/pools/new-nvme')).body.spec)
    t.equal((await bed.setReplicas(3)).status, 200)
    t.equal(bed.placement()[2], 'new-nvme')
    t.match(bed.seen('node-added').at(-1), { node: 'new' })
    t.match(bed.seen('pool-added').at(-1), { node: 'new', pool: 'new-nvme' })
  })
})

t.test('a cordon for replicas binds nothing else', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly()
  await withBed(bed, async () => {
    t.equal(await bed.ask({ kind: 'create-snapshot', uuid: V }), undefined)
    t.equal(await bed.ask({ kind: 'resize', uuid: V, sizeBytes: 11 * GiB }), undefined)
  })
})
