import { type Choose, GiB, type VolumeOptions } from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, SLOW, takeFirst, takeLast, V, withBed } from './bed.js'
import type { RuleId } from './rules.js'

interface Removal {
  readonly rule: RuleId
  readonly what?: string
  readonly version?: string
  readonly volume?: Partial<VolumeOptions>
  readonly before?: (bed: Bed) => unknown
  /** Which of r0 on node a, with the target, r1 on b and r2 on c goes. */
  readonly goes: string
  /** How many the choice is among; 0: none is left. */
  readonly among?: number
}

const tiered: Partial<VolumeOptions> = {
  topology: { pool_topology: { labelled: { inclusion: { tier: '' }, exclusion: {} } } },
}
const zoned: Partial<VolumeOptions> = {
  topology: { node_topology: { explicit: { allowed_nodes: ['a', 'c'], preferred_nodes: [] } } },
}
const cordonB = (bed: Bed) => bed.mayastor.cordonNode('b', 'x')

const removals: Removal[] = [
  {
    rule: '6.1 unhealthy',
    before: (bed) => {
      cordonB(bed)
      bed.mayastor.faultReplica('r2')
    },
    goes: 'r2',
  },
  { rule: '6.1 topology', what: 'pool', volume: tiered, before: unlabel('c-nvme'), goes: 'r2' },
  { rule: '6.1 topology', what: 'node', volume: zoned, before: (bed) => bed.mayastor.cordonNode('c', 'x'), goes: 'r1' },
  { rule: '6.1 topology', what: 'in 2.8', version: '2.8.0', volume: tiered, before: unlabel('b-nvme'), goes: 'r1' },
  { rule: '6.1 topology', what: 'in 2.7.3', version: '2.7.3', volume: tiered, before: unlabel('b-nvme'), goes: 'r1' },
  {
    rule: '6.1 topology',
    what: 'not in 2.7.2',
    version: '2.7.2',
    volume: tiered,
    before: unlabel('b-nvme'),
    goes: 'r2',
    among: 2,
  },
  { rule: '6.1 node cordon', before: cordonB, goes: 'r1' },
  {
    rule: '6.1 node cordon',
    what: 'outranks the next',
    before: (bed) => bed.mayastor.cordonNode('a', 'x'),
    goes: 'r0',
  },
  { rule: '6.1 node cordon', what: 'draining', before: (bed) => bed.mayastor.drainNode('b', 'x'), goes: 'r1' },
  { rule: '6.1 node cordon', what: 'not in 2.8', version: '2.8.0', before: cordonB, goes: 'r2', among: 2 },
  {
    rule: '6.1 node cordon',
    what: 'two of them',
    before: (bed) => {
      cordonB(bed)
      bed.mayastor.cordonNode('c', 'y')
    },
    goes: 'r2',
    among: 2,
  },
  { rule: '6.1 local', goes: 'r2', among: 2 },
  {
    rule: '6.1 local',
    what: 'goes by how it was last reached',
    before: (bed) => bed.mayastor.unpublish(V),
    goes: 'r2',
    among: 2,
  },
  {
    rule: '6.1 group',
    volume: { affinityGroup: 'g' },
    before: (bed) => bed.volume([], { uuid: 'other', affinityGroup: 'g', replicas: [{ pool: 'b-nvme' }] }),
    goes: 'r1',
  },
  { rule: '6.1 arbitrary', volume: { targetNode: 'd' }, goes: 'r2', among: 3 },
  {
    rule: '6.1 pool cordon',
    before: (bed) => bed.mayastor.cordonPool('b-nvme', { replicas: true }),
    goes: 'r2',
    among: 2,
  },
]

function unlabel(pool: string): (bed: Bed) => unknown {
  return (bed) => bed.mayastor.unlabelPool(pool, 'tier')
}

for (const { rule: id, what, version = '2.10.0', volume, before, goes, among } of removals) {
  rule(id, async (t) => {
    if (what !== undefined) t.comment(what)
    let ties = 0
    const choose: Choose = (kind, options) => {
      if (kind === 'removal') ties = options.length
      return takeLast(kind, options)
    }
    const bed = new Bed({ version, choose })
    bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { targetNode: 'a', ...volume })
    await withBed(bed, async () => {
      await before?.(bed)
      t.equal((await bed.setReplicas(2)).status, 200)
      t.notOk(bed.replicas().includes(goes))
      t.equal(bed.replicas().length, 2)
      t.equal(ties, among ?? 0)
    })
  })
}

rule('6.1 topology', async (t) => {
  const bed = new Bed({ choose: takeFirst }, '')
  for (const [id, rack] of Object.entries({ a: '1', b: '2', c: '2' })) {
    bed.mayastor.addNode({ id, labels: { rack } })
    bed.mayastor.addPool({ id: `p-${id}`, node: id, capacityBytes: 100 * GiB })
  }
  bed.volume(['p-a', 'p-b', 'p-c'], {
    topology: { node_topology: { labelled: { inclusion: {}, exclusion: { rack: '' } } } },
  })
  bed.mayastor.cordonNode('a', 'x')
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r2'], 'two that share a value to be spread over go before what is cordoned')
  })
})

rule('6.1 child', async (t) => {
  for (const [version, stays] of [
    ['2.10.0', 'r1'],
    ['2.8.0', 'unused'],
  ] as const) {
    const bed = new Bed({ version })
    bed.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
    bed.mayastor.faults.attachFails(V)
    await withBed(bed, async () => {
      await bed.setReplicas(3)
      const unused = bed.added
      bed.mayastor.faultReplica('r1')
      await bed.pass(31_000)
      await bed.setReplicas(1)
      t.same(bed.replicas(), ['r0', stays === 'r1' ? 'r1' : unused], version)
    })
  }
})

rule('6.1 child', async (t) => {
  const bed = new Bed({ ...SLOW, choose: takeLast })
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { selfHeal: false })
  await withBed(bed, async () => {
    await bed.setReplicas(4)
    const rebuilding = bed.added
    bed.mayastor.faultReplica('r1')
    await bed.pass(31_000)
    await bed.setReplicas(3)
    t.same(bed.replicas(), ['r0', 'r2', rebuilding], 'faulted before degraded')
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r2'], 'degraded before online')
  })
})

rule('6.1 progress', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    const nexus = (await bed.shown()).state.target
    const remove = async (n: number) => {
      const child = encodeURIComponent((await bed.shown()).state.target.children[n].uri)
      await bed.done('DELETE', `/nexuses/${nexus.uuid}/children/${child}`)
    }
    await remove(2)
    await bed.until('child-added')
    await bed.pass(60_000)
    await remove(1)
    await bed.until('child-added')
    await bed.pass(60_000)
    t.ok((bed.replica('r1')?.rebuiltBytes ?? 0) < (bed.replica('r2')?.rebuiltBytes ?? 0))
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r2'])
  })
})

rule('6.2 unhealthy', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  bed.mayastor.faults.destroyFails(() => true, 1)
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    const [, other = ''] = [...(bed.mayastor.truth.volumes.get(V)?.replicas ?? [])].map(({ uuid }) => uuid)
    bed.mayastor.faultReplica(other)
    await bed.setReplicas(2)
    t.equal(bed.mayastor.truth.volumes.get(V)?.replicas.size, 1, 'although none was too many')
  })
})

rule('6.2 healthy', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { published: false })
  await withBed(bed, async () => {
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

rule('6.2 last', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.faultReplica('r1')
    const target = (await bed.shown()).state.target
    const child = encodeURIComponent(target.children[0].uri)
    t.match(await bed.done('DELETE', `/nexuses/${target.uuid}/children/${child}`), {
      status: 412,
      body: { details: /last healthy child/ },
    })
    t.equal(bed.replica('r0')?.synced, true)
  })
  const surplus = new Bed({ choose: takeFirst })
  surplus.volume(['a-nvme', 'b-nvme'], { published: false })
  await withBed(surplus, async () => {
    surplus.mayastor.setNodeOnline('b', false)
    surplus.mayastor.publish(V, 'a')
    await surplus.pass(31_000)
    surplus.mayastor.publish(V, 'a')
    surplus.mayastor.unpublish(V)
    surplus.mayastor.setNodeOnline('b', true)
    surplus.mayastor.setNodeOnline('a', false)
    await surplus.pass(31_000)
    await surplus.setReplicas(1)
    await surplus.pass(200_000)
    t.ok(surplus.replicas().includes('r0'), 'the only one recorded as healthy stays')
  })
})

rule('6.2 replica route', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    t.match(await bed.done('DELETE', '/pools/b-sata/replicas/r1'), { status: 409, body: { kind: 'InUse' } })
    t.equal((await bed.done('DELETE', '/nodes/b/pools/b-sata/replicas/r1')).status, 409)
    bed.mayastor.faults.destroyFails('r1', 1)
    bed.mayastor.cordonNode('b', 'x')
    await bed.setReplicas(1)
    t.equal((await bed.done('DELETE', '/pools/b-sata/replicas/r1')).status, 204, 'what nobody owns may be deleted')
  })
})

rule('6.2 nexus route', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    const { uuid } = (await bed.shown()).state.target
    t.match(await bed.done('DELETE', `/nexuses/${uuid}`), { status: 409, body: { kind: 'InUse' } })
    t.equal((await bed.done('DELETE', '/nexuses/nope')).status, 404)
  })
})

/** Takes r1 out of the target by hand. */
async function removeByHand(bed: Bed): Promise<number> {
  const { uuid, children } = (await bed.shown()).state.target
  return (await bed.done('DELETE', `/nexuses/${uuid}/children/${encodeURIComponent(children[1].uri)}`)).status
}

async function withoutR1(options: ConstructorParameters<typeof Bed>[0], work: (bed: Bed) => Promise<unknown>) {
  const bed = new Bed({ ...SLOW, ...options })
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    await removeByHand(bed)
    await work(bed)
  })
}

rule('6.3 child route', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    t.equal(await removeByHand(bed), 204)
    t.equal((await bed.shown()).state.target.children.length, 2)
    t.match(bed.replica('r1'), { healthyRecorded: false, synced: false })
  })
})

rule('6.3 trap', async (t) => {
  await withoutR1({}, async (bed) => {
    t.match(await bed.setReplicas(2), { status: 409, body: { kind: 'InUse' } })
    t.same(bed.replicas(), ['r0', 'r2'])
    t.equal(bed.count(), 3)
    t.ok(bed.replica('r1'), 'the orphan lingers')
    await bed.pass(400_000)
    t.equal(bed.replicas().length, 3, 'another one is made')
    t.ok(bed.replica('r1'), 'for as long as the nexus is there')
    bed.mayastor.unpublish(V)
    await bed.pass(400_000)
    t.notOk(bed.replica('r1'))
  })
})

rule('6.3 re-attach', async (t) => {
  await withoutR1({}, async (bed) => {
    await bed.until('child-added')
    t.ok(bed.replicas().includes('r1'))
    t.match(bed.seen('rebuild-started').at(-1), { replica: 'r1', reason: 'full' })
  })
  await withoutR1({}, async (bed) => {
    bed.mayastor.setOtherBytes('b-nvme', 95 * GiB)
    await bed.pass(90_000)
    t.notOk(bed.replicas().includes('r1'))
    t.equal(bed.replicas().length, 3)
  })
})

rule('6.3 then decrease', async (t) => {
  await withoutR1({}, async (bed) => {
    await bed.until('child-added')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', 'r2'])
    t.notOk(bed.replica('r1'), 'cleanly')
  })
})

rule('6.3 rebuilt', async (t) => {
  await withoutR1({ choose: takeLast }, async (bed) => {
    await bed.until('healthy-recorded')
    await bed.pass(31_000)
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

rule('6.3 garbage', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    await removeByHand(bed)
    bed.mayastor.setSelfHeal(V, false)
    await bed.pass(400_000)
    t.ok(bed.replica('r1'), 'what a volume owns is not garbage')
    bed.mayastor.faults.destroyFails('r2', 1)
    bed.mayastor.cordonNode('c', 'x')
    bed.mayastor.setSelfHeal(V, true)
    await bed.until('healthy-recorded')
    await bed.pass(31_000)
    await bed.setReplicas(2)
    const at = bed.clock.now()
    t.ok(bed.replica('r2'))
    t.match(await bed.until('replica-destroyed'), { replica: 'r2', by: 'garbage' })
    t.ok(bed.clock.now() - at <= 5 * 30_000 + 1_000)
  })
})

rule('13.4 two replicas', async (t) => {
  const bed = new Bed({ version: '2.7.1', choose: takeLast })
  bed.volume(['b-nvme'], { targetNode: 'a' })
  bed.mayastor.cordonNode('c', 'x')
  bed.mayastor.cordonNode('d', 'x')
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    await bed.until('healthy-recorded')
    await bed.pass(31_000)
    await bed.setReplicas(1)
    t.match(bed.placement(), [/^a-/])
  })
})

rule('13.4 topology', async (t) => {
  const bed = new Bed({ version: '2.8.0', choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], tiered)
  bed.mayastor.unlabelPool('c-nvme', 'tier')
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    t.same(bed.placement(), ['a-nvme', 'b-nvme'])
  })
})

rule('13.4 child', async (t) => {
  await withoutR1({ version: '2.7.1' }, async (bed) => {
    await bed.until('child-added')
    const children = (await bed.shown()).state.target.children
    t.match(children.at(-1), { state: 'Degraded', rebuildProgress: 0 })
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r2'])
  })
})
