import { type Choose, GiB } from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, SLOW, START, takeFirst, takeLast, V, withBed } from './bed.js'

/** A synced child that faults comes back by itself; one that faults again on its way is given up. */
async function loseForGood(bed: Bed, replica: string): Promise<void> {
  bed.mayastor.faultReplica(replica)
  await bed.until('rebuild-started')
  bed.mayastor.faultReplica(replica)
  await bed.until('replica-disowned')
}

rule('2 rounds', async (t) => {
  const rounds = new Set<number>()
  const choose: Choose = (what, options) => {
    if (what === 'reconcile-volume') rounds.add(bed.clock.now() - START)
    return takeFirst(what, options)
  }
  const bed = new Bed({ ...SLOW, choose })
  const volumes = ['v1', 'v2']
  for (const uuid of volumes) bed.volume([], { uuid, replicas: [{ pool: 'a-nvme' }], selfHeal: false })
  await withBed(bed, async () => {
    for (const uuid of volumes) {
      await bed.setReplicas(2, uuid)
      bed.mayastor.faultReplica(bed.replicas(uuid)[1] as string)
    }
    bed.openOnly()
    await bed.pass(65_000)
    rounds.clear()
    await bed.pass(90_000)
    t.equal(rounds.size, 3)
    for (const uuid of volumes) bed.mayastor.setSelfHeal(uuid, true)
    await bed.pass(90_000)
    rounds.clear()
    await bed.pass(90_000)
    t.equal(rounds.size, 9, 'there is work when replicas are missing')
  })
  const told = new Bed({ stepMs: 1 })
  told.volume(['a-nvme', 'b-nvme'], { targetNode: 'd' })
  await withBed(told, async () => {
    await told.pass(31_000)
    told.mayastor.setNodeOnline('b', false)
    await told.pass(5_000)
    told.mayastor.setNodeOnline('b', true)
    await told.pass(50)
    t.match(told.seen('rebuild-started'), [{ replica: 'r1', reason: 'partial' }], 'at once when a node is back')
  })
})

rule('6.4 Online', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { published: false, allocatedBytes: 0 })
  await withBed(bed, async () => {
    bed.mayastor.faults.destroyFails(() => true, 1)
    await bed.setReplicas(2)
    t.equal(bed.mayastor.truth.volumes.get(V)?.replicas.size, 2)
    t.equal(bed.count(), 3)
    t.equal((await bed.shown()).state.status, 'Degraded')
    await bed.pass(31_000)
    t.equal(bed.mayastor.truth.volumes.get(V)?.replicas.size, 3)
    t.equal((await bed.shown()).state.status, 'Online')
  })
  const attached = new Bed()
  attached.volume(['a-nvme', 'b-nvme'])
  await withBed(attached, async () => {
    attached.mayastor.faultReplica('r1')
    await attached.pass(1)
    t.equal((await attached.shown()).state.status, 'Online', 'what nobody has heard of yet')
    t.same(attached.seen('child-removed'), [])
  })
})

rule('6.4 Degraded', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.attachFails(V, 1)
  await withBed(bed, async () => {
    bed.openOnly()
    await loseForGood(bed, 'r1')
    await bed.pass(61_000)
    t.same(bed.replicas(), ['r0'], 'given up although there is nothing to replace it')
    bed.mayastor.uncordonPool('d-sata', { replicas: true })
    await bed.pass(11_000)
    t.same(bed.placement(), ['a-nvme', 'd-sata'])
    t.same(bed.seen('child-added'), [])
    await bed.until('child-added')
    await bed.pass(91_000)
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

rule('6.4 Faulted', async (t) => {
  const bed = new Bed()
  bed.volume(['b-nvme', 'c-nvme'], { targetNode: 'a' })
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    bed.mayastor.setNodeOnline('c', false)
    await bed.pass(900_000)
    t.equal((await bed.shown()).state.status, 'Faulted')
    t.same(bed.replicas(), ['r0', 'r1'])
    bed.mayastor.setNodeOnline('c', true)
    await bed.pass(61_000)
    t.equal(bed.mayastor.truth.volumes.get(V)?.nexus?.state, 'Online', 'the target is made again when one is back')
  })
})

rule('6.4 Faulted', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'], { targetNode: 'c' })
  await withBed(bed, async () => {
    bed.openOnly()
    await loseForGood(bed, 'r1')
    bed.mayastor.setNodeOnline('a', false)
    await bed.pass(31_000)
    bed.mayastor.uncordonPool('d-nvme', { replicas: true })
    await bed.pass(120_000)
    t.equal((await bed.shown()).state.status, 'Faulted')
    t.same(bed.replicas(), ['r0'], 'no replica is made for what nobody could copy from')
  })
})

rule('6.4 one at a time', async (t) => {
  const bed = new Bed({ ...SLOW, stepMs: 1 }, 'abcdef')
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    bed.openOnly()
    await loseForGood(bed, 'r1')
    await loseForGood(bed, 'r2')
    t.same(bed.replicas(), ['r0'])
    for (const pool of ['d-nvme', 'e-nvme']) bed.mayastor.uncordonPool(pool, { replicas: true })
    await bed.pass(61_000)
    const [first = 0, second = 0] = bed.seen('replica-created').map(({ at }) => at)
    t.ok(second - first >= 10_000)
  })
})

rule('6.4 self_heal', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
  await withBed(bed, async () => {
    bed.mayastor.faultReplica('r1')
    await bed.pass(900_000)
    t.same(bed.replicas(), ['r0', 'r1'])
    t.same(bed.seen('rebuild-started'), [])
    t.equal(await bed.ask({ kind: 'set-property', uuid: V, selfHeal: true }), undefined)
    t.match(bed.seen('self-heal'), [{ volume: V, reason: 'on' }])
    await bed.pass(90_000)
    t.equal((await bed.shown()).state.status, 'Online')
    t.equal(await bed.ask({ kind: 'set-property', uuid: V, selfHeal: false }), undefined)
    bed.mayastor.setNodeOnline('a', false)
    await bed.pass(5_000)
    bed.mayastor.setNodeOnline('a', true)
    await bed.pass(90_000)
    t.equal(bed.mayastor.truth.volumes.get(V)?.nexus, undefined, 'a lost target is not made again either')
    const refused = await bed.ask({ kind: 'set-property', uuid: V, selfHeal: true })
    t.match(refused, { kind: 'Unavailable' }, 'and then it is too late to want that')
  })
})

rule('6.4 out of space', async (t) => {
  const bed = new Bed({ ...SLOW, choose: takeLast })
  bed.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
  bed.volume([], {
    uuid: 'small',
    selfHeal: false,
    sizeBytes: 10 * GiB,
    allocatedBytes: GiB,
    replicas: [
      { uuid: 's0', pool: 'a-nvme' },
      { uuid: 's1', pool: 'b-nvme' },
    ],
  })
  bed.openOnly('b-sata')
  const steps: string[] = []
  bed.mayastor.faults.onStep(({ step }) => {
    steps.push(step)
    return undefined
  })
  await withBed(bed, async () => {
    bed.mayastor.faultReplica('r1', 'OutOfSpace')
    bed.mayastor.faultReplica('s1', 'OutOfSpace')
    const moved = await bed.until('replica-moved')
    t.same(steps, ['create replica', 'attach replica', 'remove child', 'destroy replica'])
    t.match(bed.seen('removal-chosen'), [{ replica: 'r1', node: 'b', by: 'out-of-space' }])
    t.match(moved, { replica: 'r1', pool: 'b-nvme', by: 'out-of-space', reason: bed.added }, 'the largest')
    t.same(bed.placement(), ['a-nvme', 'b-sata'], 'within its node')
    t.match(bed.replica(bed.added), { synced: false }, 'before the new one is rebuilt')
    t.notOk('operation' in (await bed.shown()).spec)
  })
})

rule('6.4 out of space', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
  bed.openOnly()
  await withBed(bed, async () => {
    bed.mayastor.faultReplica('r1', 'OutOfSpace')
    await bed.pass(120_000)
    t.same(bed.replicas(), ['r0', 'r1'], 'cordoned pools take nothing')
  })
  const stuck = new Bed()
  stuck.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
  stuck.openOnly('b-sata')
  await withBed(stuck, async () => {
    stuck.mayastor.faults.attachFails(V)
    stuck.mayastor.faultReplica('r1', 'OutOfSpace')
    await stuck.pass(31_000)
    t.same(stuck.placement(), ['a-nvme', 'b-nvme', 'b-sata'], 'where it cannot be attached both stay, on one node')
  })
  const unsafe = new Bed({ healthyPersistDelayMs: 300_000 })
  unsafe.volume(['a-nvme'], { selfHeal: false, targetNode: 'd' })
  await withBed(unsafe, async () => {
    await unsafe.setReplicas(2)
    await unsafe.until('rebuild-completed')
    unsafe.mayastor.faultReplica('r0', 'OutOfSpace')
    await unsafe.pass(61_000)
    t.ok(unsafe.replicas().includes('r0'), 'what alone is recorded as healthy stays')
    t.ok(unsafe.seen('replica-created').some(({ by }) => by === 'out-of-space'))
  })
})

rule('6.4 missing children', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('a', false)
    await bed.pass(3_000)
    bed.mayastor.setNodeOnline('a', true)
    await bed.until('nexus-created')
    t.match(bed.seen('nexus-created').at(-1), { node: 'a', reason: 'from 1 replicas' }, 'it was lost uncleanly')
    const target = (await bed.shown()).state.target
    t.equal(target.children.length, 1)
    await bed.pass(120_000)
    t.notOk(bed.replicas().includes('r1') || bed.replicas().includes('r2'), 'the others are replaced')
    t.equal(bed.replicas().length, 3)
    t.equal((await bed.shown()).state.target.uuid, target.uuid, 'the nexus has the uuid it had')
  })
})

rule('6.4 too many children', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const operation = bed.mayastor.setReplicaCount(V, 3)
    while (operation.step !== 'commit') await bed.pass(100)
    bed.mayastor.restartCore(0)
    await bed.pass(1)
    t.equal((await bed.shown()).state.status, 'Degraded')
    const { added } = bed
    t.match(await bed.until('child-removed'), { replica: added, by: 'hot-spare' })
    t.ok(bed.replicas().includes(added))
    t.match(await bed.until('replica-destroyed'), { replica: added })
  })
})

rule('6.4 unused', async (t) => {
  const bed = new Bed({ stepMs: 1 })
  bed.volume(['a-nvme', 'b-nvme'], { published: false })
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(31_000)
    bed.mayastor.publish(V, 'a')
    t.match(await bed.until('replica-disowned'), { replica: 'r1', by: 'garbage' })
    await bed.pass(61_000)
    t.equal(bed.replicas().length, 2, 'and another one is made')
  })
})

rule('6.4 left behind', async (t) => {
  const bed = new Bed({ ...SLOW, choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('a', false)
    await bed.pass(31_000)
    t.equal(await bed.ask({ kind: 'republish', uuid: V, node: 'd' }), undefined)
    t.equal(bed.mayastor.truth.volumes.get(V)?.nexus?.children.length, 1)
    t.equal(bed.mayastor.truth.volumes.get(V)?.abandoned.length, 1)
    await bed.pass(200_000)
    t.notOk(bed.mayastor.truth.volumes.get(V)?.replicas.has(bed.replica('r0') as never), 'its local replica is let go')
    bed.mayastor.setNodeOnline('a', true)
    t.equal(bed.mayastor.truth.volumes.get(V)?.abandoned.length, 0)
    await bed.pass(200_000)
    t.notOk(bed.replica('r0'), 'and collected when its node is back')
  })
})

rule('5.5 effect', async (t) => {
  const bed = new Bed({}, 'abc')
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.openOnly('b-sata')
    bed.mayastor.faultReplica('r1')
    await bed.until('healthy-recorded')
    t.same(bed.placement(), ['a-nvme', 'b-nvme'], 'what is there comes back, on a cordoned pool too')
    bed.mayastor.cordonNode('c', 'x')
    bed.mayastor.faultReplica('r1', 'OutOfSpace')
    await bed.pass(90_000)
    t.same(bed.placement(), ['a-nvme', 'b-sata'])
  })
})

rule('11 target full', async (t) => {
  for (const [choose, reason] of [
    [takeFirst, 'OutOfSpace'],
    [takeLast, undefined],
  ] as const) {
    const bed = new Bed({ ...SLOW, choose })
    bed.volume(['a-nvme', 'b-nvme'])
    bed.openOnly('c-nvme')
    await withBed(bed, async () => {
      await bed.setReplicas(3)
      const first = bed.added
      for (const pool of ['c-sata', 'd-sata']) bed.mayastor.uncordonPool(pool, { replicas: true })
      bed.mayastor.setOtherBytes('c-nvme', 99 * GiB)
      const fault = await bed.until('child-faulted')
      t.match(fault, { replica: first })
      t.equal(fault?.reason, reason)
      await bed.pass(61_000)
      t.notOk(bed.replicas().includes(first))
      t.match(bed.placement(), ['a-nvme', 'b-nvme', /^[cd]-sata$/])
    })
  }
})
