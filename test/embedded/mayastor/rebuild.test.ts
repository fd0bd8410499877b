import { GiB } from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, SLOW, takeFirst, V, withBed } from './bed.js'

rule('7 synced', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const uuid = bed.added
    const shown = async () => (await bed.shown()).state.replica_topology[uuid]
    const seen = new Set<number>()
    for (let i = 0; i < 25; i++) {
      await bed.pass(10_000)
      t.equal((await shown())['child-status'], 'Degraded')
      seen.add((await shown())['rebuild-progress'])
    }
    t.ok(seen.size >= 8 && seen.size <= 11, `${seen.size} values in 250 s`)
    await bed.until('rebuild-completed')
    await bed.pass(31_000)
    const { state } = await bed.shown()
    t.equal(state.status, 'Online')
    t.equal(state.target.state, 'Online')
    t.equal(state.target.children.length, 3)
    t.match(state.replica_topology[uuid], { state: 'Online', 'child-status': 'Online' })
    t.notOk('rebuild-progress' in state.replica_topology[uuid])
  })
})

rule('7 window', async (t) => {
  const bed = new Bed({ healthyPersistDelayMs: 20_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    await bed.until('rebuild-completed')
    t.match(bed.replica(bed.added), { synced: true, healthyRecorded: false })
    bed.mayastor.cordonNode('b', 'x')
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r1'], 'until it is recorded, it goes first')
  })
  const slow = new Bed()
  slow.volume(['a-nvme', 'b-nvme'])
  slow.mayastor.faults.onStep(({ step }) => (step === 'record healthy' ? 45_000 : undefined))
  await withBed(slow, async () => {
    await slow.setReplicas(3)
    const done = await slow.until('rebuild-completed')
    t.equal(((await slow.until('healthy-recorded'))?.at ?? 0) - (done?.at ?? 0), 45_000, 'a schedule says when')
  })
})

rule('7 history', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    const path = `/volumes/${V}/rebuild-history`
    t.equal((await bed.get(path)).status, 404)
    await bed.setReplicas(3)
    await bed.until('rebuild-completed')
    t.match((await bed.get(path)).body, {
      targetUuid: bed.mayastor.truth.volumes.get(V)?.nexus?.uuid,
      records: [{ rebuildJobState: 'Completed', isPartial: false, blockSize: 512, blocksRemaining: 0 }],
    })
    bed.mayastor.moveTarget(V)
    t.equal((await bed.get(path)).status, 404)
    bed.mayastor.unpublish(V)
    t.equal((await bed.get(path)).status, 412)
  })
})

rule('7 new replica', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const { added } = bed
    bed.mayastor.write(V, 6 * GiB)
    const completed = await bed.until('rebuild-completed')
    const [started] = bed.seen('rebuild-started')
    t.match(started, { reason: 'full' })
    t.equal((completed?.at ?? 0) - (started?.at ?? 0), 500_000, 'of what was written when it began')
    t.equal(bed.replica(added)?.allocatedBytes, 6 * GiB, 'as thin as the others, and as full')
  })
})

rule('7 partial', async (t) => {
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
  const late = new Bed()
  late.volume(['a-nvme', 'b-nvme'])
  await withBed(late, async () => {
    late.mayastor.setNodeOnline('b', false)
    await late.pass(700_000)
    t.equal(late.replicas().length, 2)
    t.notOk(late.replicas().includes('r1'), 'not for longer than ten minutes')
    t.match((await late.shown()).state, { status: 'Online' })
  })
})

rule('7 partial', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.openOnly()
    bed.mayastor.faultReplica('r1', 'OutOfSpace')
    await bed.pass(29_000)
    t.match((await bed.shown()).state.replica_topology.r1, { 'child-status-reason': 'OutOfSpace' })
    await bed.until('rebuild-started')
    t.notOk('child-status-reason' in (await bed.shown()).state.replica_topology.r1)
    bed.mayastor.faultReplica('r1')
    await bed.pass(61_000)
    t.notOk(bed.replicas().includes('r1'), 'one that fails on the way back has no log any more')
  })
})

rule('7 rebuild fails', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const first = bed.added
    await bed.pass(250_000 - (bed.clock.now() - (bed.seen('rebuild-started')[0]?.at ?? 0)))
    bed.mayastor.faultReplica(first)
    t.equal(bed.replica(first)?.allocatedBytes, 2.5 * GiB, 'what was copied stays')
    const { records } = (await bed.get(`/volumes/${V}/rebuild-history`)).body
    t.match(records, [{ rebuildJobState: 'Failed', blocksRecovered: 2.5 * 2 ** 21, blocksRemaining: 2.5 * 2 ** 21 }])
    await bed.pass(90_000)
    t.equal(bed.replicas().length, 3)
    t.not(bed.added, first)
  })
})

rule('7 limit', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  bed.volume([], { uuid: 'other', replicas: [{ pool: 'c-nvme' }, { pool: 'd-nvme' }] })
  bed.mayastor.faults.rebuildLimit = 1
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    t.match(await bed.setReplicas(3, 'other'), {
      status: 507,
      body: { kind: 'ResourceExhausted', message: /MaxRebuilds/ },
    })
    await bed.pass(35_000)
    bed.mayastor.moveTarget(V, 'b')
    await bed.pass(5_000)
    t.equal((await bed.shown()).state.target.rebuilds, 1, 'hot-spare is limited by it as well')
  })
})

rule('7 target moves', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const uuid = bed.added
    await bed.pass(250_000)
    const nexus = (await bed.shown()).state.target.uuid
    bed.mayastor.moveTarget(V, 'b')
    t.equal(bed.replica(uuid)?.rebuild, undefined)
    t.match(
      bed.mayastor.truth.volumes.get(V)?.nexus?.children.map((child) => child.replica.uuid),
      ['r1', 'r0'],
    )
    t.not((await bed.shown()).state.target.uuid, nexus)
    await bed.pass(60_000)
    const rebuilt = bed.replica(uuid)?.rebuiltBytes ?? 0
    t.ok(rebuilt > 0 && rebuilt < GiB, 'it was attached again and began at 0')
    t.ok(bed.replica('r0')?.synced)
  })
  const lost = new Bed(SLOW)
  lost.volume(['a-nvme', 'b-nvme', 'c-nvme'], { targetNode: 'd' })
  await withBed(lost, async () => {
    lost.mayastor.setNodeOnline('d', false)
    lost.mayastor.moveTarget(V, 'a')
    t.same(
      ['r0', 'r1', 'r2'].map((uuid) => lost.replica(uuid)?.synced),
      [true, false, false],
      'from one, a local one if there is',
    )
    await lost.pass(40_000)
    t.match((await lost.shown()).state, { status: 'Degraded', target: { rebuilds: 2 } })
    t.same(lost.replicas(), ['r0', 'r1', 'r2'], 'the others are attached again')
  })
})

rule('7 target moves', async (t) => {
  const bed = new Bed({}, 'abc')
  bed.volume(['a-nvme', 'b-nvme'])
  // The node of a replica is lost after the old target was shut down, which nobody knows yet when the new one is made.
  bed.mayastor.faults.onStep(({ step }) => {
    if (step === 'create target') bed.mayastor.setNodeOnline('b', false)
    return undefined
  })
  await withBed(bed, async () => {
    const failed = await bed.ask({ kind: 'republish', uuid: V, node: 'c' })
    t.match(failed, { details: /failed to open child/ }, 'all of them have to open')
    t.match(await bed.shown(), { spec: { target: { node: 'a' } }, state: { status: 'Unknown' } })
    bed.mayastor.faults.clear()
    await bed.pass(60_000)
    t.equal(bed.mayastor.truth.volumes.get(V)?.nexus, undefined, 'what was shut down is not made again by itself')
    t.equal(bed.mayastor.moveTarget(V, 'c'), undefined)
    t.equal(bed.mayastor.truth.volumes.get(V)?.nexus?.children.length, 1)
  })
})

rule('7 unpublished', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { published: false })
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    await bed.pass(900_000)
    t.same(bed.seen('rebuild-started'), [])
    t.match(bed.replica(bed.added), { synced: false })
    bed.mayastor.publish(V, 'a')
    await bed.until('rebuild-completed')
    t.match(bed.replica(bed.added), { synced: true })
  })
})

rule('7 pause', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const { paths } = (await bed.get('/api/spec')).body
    t.same(
      Object.keys(paths).filter((path) => /rebuild/.test(path)),
      ['/volumes/{volume_id}/rebuild-history'],
    )
    await bed.setReplicas(2)
    t.match(bed.seen('rebuild-failed'), [{ reason: 'Stopped' }])
  })
})

rule('7 source', async (t) => {
  const bed = new Bed({ ...SLOW, choose: takeFirst })
  bed.volume(['b-nvme', 'a-nvme', 'c-nvme'], { targetNode: 'a' })
  await withBed(bed, async () => {
    await bed.setReplicas(4)
    t.equal(bed.replica(bed.added)?.rebuild?.source.replica.uuid, 'r1', 'the local one')
    await bed.pass(100_000)
    const target = (await bed.shown()).state.target
    const local = target.children.find(({ uri }: { uri: string }) => uri.startsWith('bdev'))
    await bed.done('DELETE', `/nexuses/${target.uuid}/children/${encodeURIComponent(local.uri)}`)
    t.equal(bed.replica(bed.added)?.rebuild?.source.replica.uuid, 'r0')
    t.ok((bed.replica(bed.added)?.rebuiltBytes ?? 0) < GiB / 10, 'from the beginning')
  })
})

rule('11 N+1', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    t.equal((await bed.shown()).state.status, 'Degraded')
    await bed.pass(400_000)
    t.equal((await bed.shown()).state.status, 'Degraded')
    t.match(await bed.setReplicas(4), { status: 412, body: { message: /ReplicaIncrease/ } })
  })
})

rule('11 snapshots', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { snapshots: 1 })
  await withBed(bed, async () => {
    bed.mayastor.cordonNode('c', 'x')
    await bed.setReplicas(2)
    t.equal(bed.mayastor.truth.pools.get('c-nvme')?.allocatedBytes, 5 * GiB, 'it stays where it was')
    bed.mayastor.uncordonNode('c', 'x')
    bed.openOnly('d-nvme')
    await bed.setReplicas(3)
    t.match(await bed.ask({ kind: 'create-snapshot', uuid: V }), { message: /InsufficientHealthyReplicas/ })
    await bed.until('healthy-recorded')
    t.equal(await bed.ask({ kind: 'create-snapshot', uuid: V, snapshot: 'two' }), undefined)
    t.equal((await bed.shown()).spec.num_snapshots, 2)
    t.equal(await bed.ask({ kind: 'destroy-snapshot', uuid: V }), undefined)
    t.match(bed.seen('snapshot-destroyed'), [{ volume: V }])
    t.equal(bed.mayastor.truth.pools.get('c-nvme')?.allocatedBytes, 0)
    t.equal(bed.mayastor.truth.volumes.get(V)?.snapshots, 1)
  })
})

rule('11 thin', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { snapshots: 1 })
  await withBed(bed, async () => {
    bed.mayastor.write(V, 2 * GiB)
    await bed.setReplicas(3)
    await bed.until('rebuild-completed')
    const added = bed.replica(bed.added)
    t.match(added, { snapshotBytes: 0, writtenBytes: 7 * GiB }, 'what is read is copied, not the snapshots')
    t.match(bed.replica('r0'), { snapshotBytes: 5 * GiB, writtenBytes: 2 * GiB })
  })
  const thick = new Bed()
  thick.volume(['a-nvme', 'b-nvme'], { thin: false })
  await withBed(thick, async () => {
    t.notOk('as_thin' in (await thick.shown()).spec)
    thick.mayastor.snapshot(V)
    t.match((await thick.shown()).spec, { thin: false, as_thin: true })
    await thick.setReplicas(3)
    t.equal(thick.replica(thick.added)?.thin, true)
  })
})
