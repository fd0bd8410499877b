import type { MayastorOptions, VolumeOptions } from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, SLOW, takeFirst, V, withBed } from './bed.js'

const DRAIN = '/pools/a-nvme/drain'
const CORDON = '/pools/a-nvme/cordon'

/** A volume on a-nvme and b-nvme, in the first version that drains pools. */
function drainable(options: Partial<MayastorOptions> = {}, volume: Partial<VolumeOptions> = {}): Bed {
  const bed = new Bed({ version: '2.13.0', choose: takeFirst, ...options })
  bed.volume(['a-nvme', 'b-nvme'], volume)
  return bed
}

/** The words of the pool's drain so far. */
function phases(bed: Bed, pool = 'a-nvme'): unknown[] {
  return bed.seen('pool-drain').flatMap((event) => (event.pool === pool ? event.reason : []))
}

rule('11 pool drain', async (t) => {
  const bed = drainable(SLOW)
  await withBed(bed, async () => {
    t.match(await bed.done('PUT', DRAIN), {
      status: 200,
      body: { spec: { cordonDrain: { drain: {} } }, meta: { drain: { phase: 'Queued' } } },
    })
    await bed.until('rebuild-started')
    t.match((await bed.shown()).spec, { num_replicas: 2 }, 'the count stays')
    t.equal((await bed.shown()).state.status, 'Degraded', 'until the spare is rebuilt')
    const { added } = bed
    t.match((await bed.get(DRAIN)).body, {
      phase: 'Draining',
      statistics: { current: { replicaCount: 1 } },
      movingReplicas: [{ volume: V, movingReplica: 'r0', spareReplica: { replicaId: added } }],
    })
    t.same((await bed.get('/pools/a-nvme')).body.meta.drain, { phase: 'Draining', movingReplicas: ['r0'] })
    const moved = await bed.until('replica-moved')
    t.match(moved, { volume: V, replica: 'r0', pool: 'a-nvme', by: 'pool-drain', reason: added })
    t.ok(bed.seen('healthy-recorded').some(({ replica }) => replica === added))
    await bed.pass(61_000)
    t.same(bed.replicas(), ['r1', added])
    t.equal(bed.replica(added)?.node.id, 'c', 'on a node of its own')
    t.equal((await bed.shown()).state.status, 'Online')
    t.same(phases(bed), ['Queued', 'Draining', 'Drained'])
    t.same(bed.seen('replica-count'), [])
    t.equal((await bed.done('DELETE', CORDON, { drain: true })).status, 200)
    t.notOk('cordonDrain' in (await bed.get('/pools/a-nvme')).body.spec)
    t.match(await bed.done('DELETE', CORDON, { drain: true }), { status: 422, body: { kind: 'AlreadyExists' } })
    t.equal((await bed.get(DRAIN)).status, 404)
  })
})

rule('11 pool drain', async (t) => {
  for (const [version, there] of [
    ['2.12.1', false],
    ['2.13.0', true],
  ] as const) {
    await withBed(drainable({ version }), async (bed) => {
      t.equal('/pools/{pool_id}/drain' in (await bed.get('/api/spec')).body.paths, there, version)
      t.equal((await bed.done('PUT', DRAIN)).status, there ? 200 : 404, version)
      const released = await bed.done('DELETE', CORDON, { drain: true })
      t.equal(released.status, there ? 200 : 422, version)
    })
  }
})

rule('11 pool drain', async (t) => {
  const bed = drainable(SLOW)
  await withBed(bed, async () => {
    bed.mayastor.drainPool('a-nvme')
    await bed.until('rebuild-started')
    const { added } = bed
    t.match(await bed.done('PUT', DRAIN), { status: 412 }, 'what drains is not drained again')
    await bed.done('DELETE', CORDON, { drain: true })
    t.equal(phases(bed).at(-1), 'Cancelled')
    await bed.until('pool-drain')
    t.equal(phases(bed).at(-1), 'released')
    t.same(bed.replicas(), ['r0', 'r1'], 'what was under way is undone')
    t.notOk(bed.replica(added))
    await bed.pass(31_000)
    t.equal((await bed.shown()).state.status, 'Online')
    t.equal((await bed.setReplicas(3)).status, 200, 'and counts may be changed again')
  })
})

rule('11 pool drain', async (t) => {
  const bed = new Bed({ version: '2.13.0', choose: takeFirst, ...SLOW })
  for (const uuid of ['v1', 'v2', 'v3']) {
    const replicas = ['a-nvme', 'b-nvme'].map((pool) => ({ pool }))
    bed.volume([], { uuid, replicas, selfHeal: false })
  }
  bed.openOnly('c-nvme', 'c-sata')
  await withBed(bed, async () => {
    bed.mayastor.drainPool('a-nvme')
    bed.mayastor.drainPool('b-nvme')
    await bed.pass(61_000)
    t.same(phases(bed), ['Queued', 'Draining'])
    t.same(phases(bed, 'b-nvme'), ['Queued'], 'one pool at a time')
    t.equal(bed.seen('rebuild-started').length, 2, 'two replicas at a time, also where nothing heals itself')
    t.ok(bed.seen('replica-created').every(({ pool }) => pool?.startsWith('c')))
    await bed.pass(2_400_000)
    t.same(phases(bed), ['Queued', 'Draining', 'Drained'])
    t.same(phases(bed, 'b-nvme'), ['Queued', 'Draining'], 'which cannot go on: no node is left')
    t.same(
      ['v1', 'v2', 'v3'].map((uuid) => bed.placement(uuid).length),
      [2, 2, 2],
    )
    for (const pool of ['a-nvme', 'b-nvme']) t.notOk(bed.seen('replica-created').some((event) => event.pool === pool))
  })
})

rule('11 pool drain', async (t) => {
  for (const acceptSnapshotLoss of [false, true]) {
    const bed = drainable({}, { snapshots: 1 })
    await withBed(bed, async () => {
      bed.mayastor.cordonPool('a-nvme', { replicas: true })
      await bed.done('PUT', DRAIN, { acceptSnapshotLoss })
      t.match((await bed.get('/pools/a-nvme')).body.spec.cordonDrain.drain, {
        policy: { snapshotPolicy: acceptSnapshotLoss ? 'AcceptLoss' : 'Ignore' },
        userCordon: { replicas: true },
      })
      t.match((await bed.get(DRAIN)).body.statistics.current, { replicaCount: 1, snapshotCount: 1 })
      await bed.pass(240_000)
      t.equal(phases(bed).at(-1), acceptSnapshotLoss ? 'Drained' : 'PartiallyDrained')
      t.equal(bed.mayastor.truth.pools.get('a-nvme')?.allocatedBytes === 0, acceptSnapshotLoss)
      t.equal((await bed.shown()).spec.num_snapshots, 1, 'it is still on the other pool')
    })
  }
})

rule('11 pool drain', async (t) => {
  const bed = drainable(SLOW)
  await withBed(bed, async () => {
    bed.openOnly('c-nvme', 'd-nvme')
    bed.mayastor.drainPool('a-nvme')
    await bed.until('rebuild-started')
    const first = bed.added
    t.equal(bed.replica(first)?.pool.id, 'c-nvme')
    bed.mayastor.setNodeOnline('c', false)
    bed.mayastor.cordonNode('c', 'x')
    await bed.until('rebuild-started')
    t.match(bed.placement(), ['a-nvme', 'b-nvme', 'd-nvme'], 'a spare that is lost is made again')
    await bed.until('replica-moved')
    t.same(bed.placement(), ['b-nvme', 'd-nvme'])
  })
})

rule('11 pool drain', async (t) => {
  const bed = drainable({ ...SLOW, maxPoolDrains: 2 })
  await withBed(bed, async () => {
    bed.openOnly('c-nvme', 'd-nvme')
    bed.mayastor.drainPool('a-nvme')
    await bed.until('rebuild-started')
    const first = bed.added
    bed.mayastor.drainPool('c-nvme')
    await bed.until('replica-moved')
    t.notOk(bed.replica(first), 'a spare on a pool that is drained itself gives way')
    t.same(bed.placement(), ['b-nvme', 'd-nvme'])
  })
})

rule('11 pool drain', async (t) => {
  const bed = drainable(SLOW)
  await withBed(bed, async () => {
    bed.mayastor.drainPool('a-nvme')
    await bed.until('rebuild-started')
    bed.mayastor.destroyVolume(V)
    await bed.pass(61_000)
    t.same(phases(bed), ['Queued', 'Draining', 'Drained'], 'a volume that goes takes its move along')
  })
})

rule('4.1 pool drain', async (t) => {
  const bed = drainable(SLOW, { replicas: ['a-nvme', 'b-nvme', 'c-nvme'].map((pool, i) => ({ uuid: `r${i}`, pool })) })
  await withBed(bed, async () => {
    const moving = { status: 412, body: { message: /SvcError :: ReplicaMoveInProgress: / } }
    const degraded = { status: 412, body: { message: /SvcError :: ReplicaIncrease: / } }
    bed.openOnly()
    bed.mayastor.drainPool('a-nvme')
    await bed.pass(31_000)
    t.match(await bed.setReplicas(4), degraded, 'the spare is still missing')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.notOk(bed.replicas().includes('r0'), 'what was to move leaves instead')
    t.equal(bed.replicas().length, 2)
    await bed.pass(31_000)
    t.same(phases(bed), ['Queued', 'Draining', 'Drained'])
    for (const pool of ['c-nvme', 'd-nvme']) bed.mayastor.uncordonPool(pool, { replicas: true })
    bed.mayastor.drainPool('b-nvme')
    await bed.until('rebuild-started')
    t.match(await bed.setReplicas(1), moving, 'the spare is being rebuilt')
    t.match(await bed.setReplicas(3), degraded)
    await bed.until('healthy-recorded')
    while ((await bed.shown()).state.status !== 'Online') await bed.pass(1_000)
    t.match(await bed.setReplicas(3), moving, 'the spare is rebuilt, and the other one still there')
    await bed.until('replica-moved')
    await bed.pass(31_000)
    t.equal((await bed.setReplicas(1)).status, 200, 'afterwards it is as ever')
  })
})
