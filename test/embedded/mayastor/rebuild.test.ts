import t from 'tap'
import { GiB } from '../../../src/embedded/mayastor/index.js'
import { Bed, V, withBed } from './bed.js'

/** 5 GiB take 500 s. */
const SLOW = { rebuildBytesPerSecond: (10 * GiB) / 1_000 }

const added = (bed: Bed) => bed.replicas().find((uuid) => !/^r\d$/.test(uuid)) ?? ''

t.test('progress is seen in jumps, the end late, and the healthy flag later still', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const uuid = added(bed)
    const progress = async () => (await bed.shown()).state.replica_topology[uuid]['rebuild-progress']
    const seen = new Set<number>()
    for (let i = 0; i < 25; i++) {
      await bed.pass(10_000)
      seen.add(await progress())
    }
    t.ok(seen.size >= 8 && seen.size <= 11, `${seen.size} values in 250 s`)
    const ended = () => bed.events.find((e) => e.kind === 'rebuild-completed')
    while (ended() === undefined) await bed.pass(500)
    const replica = bed.mayastor.truth.replicas.get(uuid)
    t.match(replica, { synced: true })
    t.equal(replica?.healthyRecorded, false, 'etcd does not know yet')
    await bed.pass(2_500)
    t.equal(replica?.healthyRecorded, true)
    await bed.pass(30_000)
    const { state } = await bed.shown()
    t.equal(state.status, 'Online')
    t.match(state.replica_topology[uuid], { 'child-status': 'Online' })
    t.notOk('rebuild-progress' in state.replica_topology[uuid])
  })
})

t.test('a replica whose flag is not persisted yet is removed first', async (t) => {
  const bed = new Bed({ healthyPersistDelayMs: 20_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    bed.mayastor.cordonNode('b', 'x')
    await bed.pass(27_000)
    t.ok(bed.mayastor.truth.replicas.get(added(bed))?.synced)
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

t.test('a moved target starts the rebuild again from nothing, with a new nexus and no history', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const uuid = added(bed)
    await bed.pass(250_000)
    const nexus = (await bed.shown()).state.target.uuid
    bed.mayastor.moveTarget(V, 'b')
    t.equal(bed.mayastor.truth.replicas.get(uuid)?.rebuild, undefined)
    t.not((await bed.shown()).state.target.uuid, nexus)
    await bed.pass(60_000)
    const rebuilt = bed.mayastor.truth.replicas.get(uuid)?.rebuiltBytes ?? 0
    t.ok(rebuilt > 0 && rebuilt < GiB, 'it was attached again and began at 0')
    t.equal((await bed.get(`/volumes/${V}/rebuild-history`)).status, 404)
    t.ok(bed.mayastor.truth.replicas.get('r0')?.synced)
  })
})

t.test('after an unclean loss of the target the nexus is built from one healthy replica', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { targetNode: 'd' })
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('d', false)
    bed.mayastor.moveTarget(V, 'a')
    const { replicas } = bed.mayastor.truth
    t.same(
      ['r0', 'r1', 'r2'].map((uuid) => replicas.get(uuid)?.synced),
      [true, false, false],
    )
    await bed.pass(40_000)
    t.match((await bed.shown()).state, { status: 'Degraded', target: { rebuilds: 2 } })
  })
})

t.test('the last healthy child cannot be lost on paper: the volume is Faulted and stays recorded', async (t) => {
  const bed = new Bed()
  bed.volume(['b-nvme'], { targetNode: 'a' })
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(30_000)
    t.equal((await bed.shown()).state.status, 'Faulted')
    t.match(bed.mayastor.truth.replicas.get('r0'), { synced: true, healthyRecorded: true })
    bed.mayastor.setNodeOnline('b', true)
    await bed.pass(30_000)
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

t.test('a synced child that comes back in time is rebuilt partially', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(120_000)
    t.same(bed.replicas(), ['r0', 'r1'], 'it is waited for')
    bed.mayastor.setNodeOnline('b', true)
    await bed.pass(60_000)
    t.match((await bed.get(`/volumes/${V}/rebuild-history`)).body.records, [{ isPartial: true }])
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

t.test('one that stays away longer is replaced by a new replica anywhere', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(700_000)
    t.equal(bed.replicas().length, 2)
    t.notOk(bed.replicas().includes('r1'))
    t.match((await bed.shown()).state, { status: 'Online' })
  })
})

t.test('a replica that fails while it rebuilds is replaced at once, with a new uuid', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const first = added(bed)
    await bed.pass(30_000)
    bed.mayastor.faultReplica(first)
    await bed.pass(90_000)
    t.equal(bed.replicas().length, 3)
    t.not(added(bed), first)
  })
})

t.test('nothing is healed without self_heal', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { selfHeal: false })
  await withBed(bed, async () => {
    bed.mayastor.faultReplica('r1')
    await bed.pass(900_000)
    t.same(bed.replicas(), ['r0', 'r1'])
    t.match((await bed.shown()).state.replica_topology.r1, { 'child-status': 'Faulted' })
  })
})

t.test('hot-spare does not use cordoned pools', async (t) => {
  const bed = new Bed({}, 'abc')
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.cordonPool('c-nvme', { replicas: true })
    bed.mayastor.cordonPool('b-nvme', { replicas: true })
    bed.mayastor.cordonNode('c', 'x')
    bed.mayastor.faultReplica('r1', 'OutOfSpace')
    await bed.pass(90_000)
    t.same(bed.placement(), ['a-nvme', 'b-sata'])
  })
})

t.test('a thin replica grows while it rebuilds, until its pool is full', async (t) => {
  const bed = new Bed({ ...SLOW, choose: (_what, options) => options[0] as (typeof options)[0] }, 'ab')
  bed.volume(['a-nvme'], { selfHeal: false })
  bed.mayastor.cordonPool('b-sata', { replicas: true })
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    const uuid = added(bed)
    await bed.pass(200_000)
    t.equal((await bed.shown()).state.replica_topology[uuid].usage.allocated > GiB, true)
    bed.mayastor.setOtherBytes('b-nvme', 98 * GiB)
    await bed.pass(120_000)
    t.match((await bed.shown()).state.replica_topology[uuid], {
      'child-status': 'Faulted',
      'child-status-reason': 'OutOfSpace',
    })
  })
})

t.test('a drain moves the targets away and then shows as drained', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.done('PUT', '/nodes/a/drain/maintenance')
    t.ok((await bed.get('/nodes/a')).body.spec.cordondrainstate.drainingstate)
    await bed.pass(40_000)
    t.same((await bed.get('/nodes/a')).body.spec.cordondrainstate.drainedstate.drainlabels, ['maintenance'])
    t.not((await bed.shown()).spec.target.node, 'a')
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

t.test('snapshots stay on the old pool', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { snapshots: 1 })
  await withBed(bed, async () => {
    bed.mayastor.cordonNode('c', 'x')
    await bed.setReplicas(2)
    t.same(bed.placement(), ['a-nvme', 'b-nvme'])
    t.equal(bed.mayastor.truth.pools.get('c-nvme')?.allocatedBytes, 5 * GiB)
  })
})
