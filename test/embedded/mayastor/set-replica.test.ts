import type { MayastorOptions, VolumeOptions } from '../../../src/embedded/mayastor/index.js'
import { Bed, newVolume, rule, takeFirst, V, withBed } from './bed.js'
import type { RuleId } from './rules.js'

interface Refusal {
  readonly rule: RuleId
  readonly options?: Partial<MayastorOptions>
  readonly volume?: Partial<VolumeOptions>
  readonly before?: (bed: Bed) => unknown
  readonly count: number
  readonly status: number
  readonly kind: string
  readonly error: string
}

const single = { replicas: [{ uuid: 'r0', pool: 'a-nvme' }] }
const refusals: Refusal[] = [
  {
    rule: '4.1 locked',
    before: (bed) => bed.mayastor.occupy(V, 'Resize', 5_000),
    count: 3,
    status: 409,
    kind: 'Conflict',
    error: 'Conflict',
  },
  {
    rule: '4.1 not persisted',
    before: (bed) => bed.mayastor.faults.storeDirty(V),
    count: 3,
    status: 507,
    kind: 'FailedPersist',
    error: 'StoreDirty',
  },
  {
    rule: '4.1 not ready',
    before: (bed) => {
      bed.mayastor.setNodeOnline('a', false)
      return bed.pass(30_000)
    },
    count: 3,
    status: 503,
    kind: 'Unavailable',
    error: 'NotReady',
  },
  { rule: '4.1 n == num_replicas', count: 2, status: 412, kind: 'FailedPrecondition', error: 'ReplicaCountAchieved' },
  { rule: '4.1 n < 1', volume: single, count: 0, status: 412, kind: 'FailedPrecondition', error: 'LastReplica' },
  { rule: '4.1 by one', count: 4, status: 412, kind: 'FailedPrecondition', error: 'ReplicaChangeCount' },
  {
    rule: '4.1 increase not Online',
    before: (bed) => bed.setReplicas(3),
    count: 4,
    status: 412,
    kind: 'FailedPrecondition',
    error: 'ReplicaIncrease',
  },
  {
    rule: '4.1 group below 2',
    options: { version: '2.9.1' },
    volume: { affinityGroup: 'g' },
    count: 1,
    status: 412,
    kind: 'FailedPrecondition',
    error: 'RestrictedReplicaCount',
  },
  {
    rule: '4.1 snapshots',
    before: (bed) => {
      bed.mayastor.snapshot(V)
      bed.mayastor.setNodeVersion('b', '2.6.1')
    },
    count: 3,
    status: 412,
    kind: 'FailedPrecondition',
    error: 'UpgradeRequiredToRebuild',
  },
  {
    rule: '4.1 no pool',
    before: (bed) => bed.openOnly(),
    count: 3,
    status: 507,
    kind: 'ResourceExhausted',
    error: 'NotEnoughResources',
  },
  {
    rule: '4.1 rebuild limit',
    before: (bed) => {
      bed.mayastor.faults.rebuildLimit = 0
    },
    count: 3,
    status: 507,
    kind: 'ResourceExhausted',
    error: 'MaxRebuilds',
  },
]

for (const c of refusals) {
  rule(c.rule, async (t) => {
    const bed = new Bed(c.options)
    bed.volume(['a-nvme', 'b-nvme'], c.volume)
    await withBed(bed, async () => {
      await c.before?.(bed)
      const was = bed.count()
      const answer = await bed.setReplicas(c.count)
      t.match(answer, { status: c.status, body: { kind: c.kind } })
      t.match(answer.body.message, `SvcError :: ${c.error}: `)
      t.equal(bed.count(), was)
      t.not(bed.mayastor.truth.volumes.get(V)?.operation, 'SetReplica')
    })
  })
}

rule('4.1 unknown volume', async (t) => {
  await withBed(new Bed(), async (bed) => {
    t.match(await bed.setReplicas(2, 'nope'), { status: 404, body: { kind: 'NotFound' } })
  })
})

rule('4.1 locked', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.occupy(V, 'Resize', 700)
    const before = bed.clock.now()
    t.equal((await bed.setReplicas(3)).status, 200, 'less than a second is waited for')
    t.ok(bed.clock.now() - before >= 700)
    bed.mayastor.occupy(V, 'Resize', 900)
    const at = bed.clock.now()
    t.equal((await bed.setReplicas(2)).status, 409)
    t.equal(bed.clock.now() - at, 800, 'five tries, 200 ms apart')
  })
})

rule('4.1 group locked', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { affinityGroup: 'g' })
  bed.volume(['c-nvme', 'd-nvme'], { uuid: 'other', affinityGroup: 'g', replicas: [{ pool: 'c-nvme' }] })
  bed.mayastor.faults.onStep(({ volume }) => (volume === 'other' ? 3_000 : undefined))
  await withBed(bed, async () => {
    bed.mayastor.setReplicaCount('other', 2)
    t.match(await bed.setReplicas(3), { status: 409, body: { kind: 'Conflict' } })
    t.match((await bed.shown()).spec.operation, { operation: 'SetReplica' })
    t.notOk('result' in (await bed.shown()).spec.operation)
    t.match(await bed.setReplicas(3), { status: 507, body: { message: /StoreDirty/ } }, 'it is in the way now')
    await bed.pass(31_000)
    t.notOk('operation' in (await bed.shown()).spec)
    t.equal((await bed.setReplicas(3)).status, 200)
  })
})

rule('4.1 not persisted', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.faults.storeDown = true
    t.match(await bed.setReplicas(3), { status: 507, body: { kind: 'FailedPersist', message: /SvcError :: Store: / } })
    t.same(bed.replicas(), ['r0', 'r1'], 'what cannot be recorded does not begin')
    t.notOk('operation' in (await bed.shown()).spec)
    bed.mayastor.faults.storeDown = false
    t.equal((await bed.setReplicas(3)).status, 200)
  })
})

rule('4.1 pending', async (t) => {
  const bed = new Bed({ stepMs: 2_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    bed.mayastor.request({ kind: 'destroy', uuid: V })
    t.match(await bed.setReplicas(3), { status: 409, body: { kind: 'Conflict' } }, 'who deletes it holds it')
    bed.mayastor.faults.storeDown = true
    bed.mayastor.restartCore(0)
    await bed.pass(1)
    t.match(await bed.setReplicas(3), { status: 507, body: { message: /StoreDirty/ } })
    bed.mayastor.faults.storeDown = false
    await bed.pass(31_000)
    t.match(await bed.setReplicas(3), { status: 412, body: { message: /SvcError :: PendingDeletion: / } })
    await bed.pass(160_000)
    t.equal((await bed.get(`/volumes/${V}`)).status, 404, 'it is deleted in the end')
  })
})

rule('4.1 pending', async (t) => {
  const bed = new Bed({ stepMs: 2_000 })
  await withBed(bed, async () => {
    bed.mayastor.request({ kind: 'create', volume: newVolume })
    await bed.pass(1_000)
    t.match((await bed.shown()).spec, { status: 'Creating', operation: { operation: 'Create' } })
    t.equal((await bed.setReplicas(3)).status, 409)
    bed.mayastor.restartCore(0)
    await bed.pass(1)
    t.match((await bed.shown()).spec, { status: 'Deleting' }, 'half-made volumes are not finished')
    await bed.pass(200_000)
    t.equal((await bed.get(`/volumes/${V}`)).status, 404)
    t.equal(bed.mayastor.truth.replicas.size, 0)
  })
})

rule('4.1 increase not Online', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    t.equal((await bed.shown()).state.status, 'Degraded')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', 'r1'], 'the one that still rebuilds goes')
  })
})

rule('4.1 group below 2', async (t) => {
  for (const [other, status] of [
    ['c-nvme', 200],
    ['a-nvme', 200],
    ['b-nvme', 412],
  ] as const) {
    const bed = new Bed()
    bed.volume([], { uuid: 'other', replicas: [{ pool: other }], affinityGroup: 'g' })
    bed.volume(['a-nvme', 'b-nvme'], { affinityGroup: 'g' })
    bed.mayastor.cordonNode('a', 'x')
    await withBed(bed, async () => {
      const answer = await bed.setReplicas(1)
      t.equal(answer.status, status, other)
      if (status === 412) t.match(answer.body.message, /RestrictedReplicaCount/)
      t.equal(bed.replicas().length, status === 412 ? 2 : 1)
    })
  }
})

rule('4.1 snapshots', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { snapshots: 1 })
  await withBed(bed, async () => t.equal((await bed.setReplicas(3)).status, 200))
})

rule('4.1 no pool', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly()
  await withBed(bed, async () => {
    t.match((await bed.setReplicas(3)).body, { details: 'Not enough suitable pools available, 0/1' })
  })
})

rule('4.1 rebuild limit', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.rebuildLimit = 0
  await withBed(bed, async () => {
    t.match((await bed.setReplicas(3)).body.message, /Maximum number of rebuilds/)
    t.equal(bed.replicas().length, 3, 'made, and not attached')
    await bed.pass(31_000)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

rule('4.1 order', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'], { snapshots: 1 })
  await withBed(bed, async () => {
    const answers = async (count: number, error: string) =>
      t.match((await bed.setReplicas(count)).body.message, `SvcError :: ${error}: `, `${count}: ${error}`)
    bed.mayastor.occupy(V, 'Resize', 5_000)
    bed.mayastor.faults.storeDirty(V)
    await answers(3, 'Conflict')
    await bed.pass(5_000)
    bed.mayastor.setNodeOnline('a', false)
    await bed.pass(30_000)
    await answers(3, 'StoreDirty')
    bed.mayastor.faults.clear()
    await answers(3, 'NotReady')
    bed.mayastor.setNodeOnline('a', true)
    await bed.pass(30_000)
    await answers(3, 'ReplicaCountAchieved')
    await answers(0, 'LastReplica')
    bed.mayastor.setNodeVersion('b', '2.6.0')
    bed.mayastor.faultReplica('r1')
    await bed.pass(30_000)
    await answers(5, 'ReplicaChangeCount')
    await answers(4, 'ReplicaIncrease')
  })
})

rule('4.2 answer', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const { status, body } = await bed.setReplicas(3)
    t.equal(status, 200)
    t.equal(body.spec.num_replicas, 3)
    t.equal(Object.keys(body.state.replica_topology).length, 3)
    t.match(body.state.replica_topology[bed.added], { 'child-status': 'Degraded', 'rebuild-progress': 0 })
    const after = await bed.setReplicas(2)
    t.same(Object.keys(after.body.state.replica_topology).sort(), ['r0', 'r1'])
  })
})

rule('4.2 step 1', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const operation = bed.mayastor.setReplicaCount(V, 3)
    t.match((await bed.shown()).spec.operation, { operation: 'SetReplica' })
    t.notOk('result' in (await bed.shown()).spec.operation)
    await bed.ended(operation)
    t.notOk('operation' in (await bed.shown()).spec)
  })
})

rule('4.2 step 2', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  for (const pool of ['c-nvme', 'd-nvme', 'd-sata']) bed.mayastor.faults.createFails(pool)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    t.equal(bed.placement()[2], 'c-sata')
  })
})

rule('4.2 step 2', async (t) => {
  const bed = new Bed({ stepMs: 1_000, choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.createFails('c-nvme')
  await withBed(bed, async () => {
    const operation = bed.mayastor.setReplicaCount(V, 3)
    bed.mayastor.cordonPool('c-sata', { replicas: true })
    await bed.ended(operation)
    t.equal(bed.placement()[2], 'c-sata', 'a pool cordoned meanwhile is used')
  })
  const other = new Bed({ stepMs: 1_000, choose: takeFirst })
  other.volume(['a-nvme', 'b-nvme'])
  other.mayastor.faults.createFails('c-nvme')
  await withBed(other, async () => {
    const operation = other.mayastor.setReplicaCount(V, 3)
    other.mayastor.cordonNode('c', 'x')
    await other.ended(operation)
    t.equal(other.placement()[2], 'd-nvme', 'on a node cordoned meanwhile nothing is made')
  })
})

rule('4.2 step 3', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const [attached] = bed.seen('child-added')
    const [started] = bed.seen('rebuild-started')
    t.match(started, { replica: bed.added, at: attached?.at, reason: 'full' })
  })
})

rule('4.2 step 4', async (t) => {
  const bed = new Bed({ stepMs: 500 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    const order = bed.events.map(({ kind }) => kind).filter((kind) => kind !== 'operation-started')
    t.same(order.slice(-5), ['child-added', 'rebuild-started', 'replica-count', 'operation-ended', 'rest-answered'])
    t.ok(bed.replica(bed.added)?.rebuild)
  })
})

rule('4.2 create fails', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.createFails(() => true)
  await withBed(bed, async () => {
    t.match(await bed.setReplicas(3), { status: 500, body: { message: 'SvcError::GrpcRequestError' } })
    t.equal(bed.count(), 2)
    t.same(bed.replicas(), ['r0', 'r1'])
    t.notOk('operation' in (await bed.shown()).spec)
  })
})

rule('4.2 phantom', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly('c-nvme')
  bed.mayastor.faults.createFails('c-nvme', 1)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 500)
    const { r0, r1, ...others } = (await bed.shown()).state.replica_topology
    t.match(Object.values(others), [{ node: 'c', pool: 'c-nvme', state: 'Unknown' }])
    t.match(await bed.setReplicas(3), { status: 507 }, 'its node counts as used')
    await bed.pass(31_000)
    t.same(Object.keys((await bed.shown()).state.replica_topology).sort(), ['r0', 'r1'])
    t.equal((await bed.setReplicas(3)).status, 200)
  })
})

rule('4.2 attach fails', async (t) => {
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
    t.ok(bed.events.some(({ kind, reason }) => kind === 'operation-started' && reason === 'RemoveUnusedReplica'))
  })
  for (const comesBack of [false, true]) {
    const lost = new Bed()
    lost.volume(['a-nvme', 'b-nvme'])
    lost.mayastor.faults.onStep(({ step }) => {
      if (step !== 'attach replica') return undefined
      lost.mayastor.setNodeOnline('a', false)
      lost.mayastor.setNodeOnline('a', comesBack)
      return undefined
    })
    await withBed(lost, async () => {
      t.match((await lost.setReplicas(3)).body, { kind: comesBack ? 'NotFound' : 'Timeout' })
      t.equal(lost.count(), 2)
    })
  }
})

rule('4.2 rebuild start fails', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.rebuildStartFails(V, 1)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    const first = bed.added
    t.match((await bed.shown()).state.replica_topology[first], { 'child-status': 'Faulted' })
    await bed.pass(120_000)
    t.equal(bed.replicas().length, 3)
    t.notOk(bed.replicas().includes(first))
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

rule('4.2 REST timeout', async (t) => {
  const bed = new Bed({ stepMs: 3_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    t.match(await bed.setReplicas(3), { status: 408, body: { kind: 'Timeout' } })
    t.equal(bed.clock.now() - (bed.mayastor.writes[0]?.at ?? 0), 5_000)
    t.match((await bed.shown()).spec, { num_replicas: 2, operation: { operation: 'SetReplica' } })
    t.match(await bed.setReplicas(3), { status: 409 })
    await bed.pass(10_000)
    t.equal((await bed.shown()).spec.num_replicas, 3)
    t.notOk('operation' in (await bed.shown()).spec)
    t.match((await bed.setReplicas(3)).body.message, /ReplicaCountAchieved/)
  })
})

/** Runs `change` with etcd gone from when the operation is under way until its answer. */
async function unrecorded(bed: Bed, change: () => Promise<unknown>): Promise<void> {
  bed.mayastor.faults.onStep(({ step }) => {
    if (step === 'commit') bed.mayastor.faults.storeDown = true
    return undefined
  })
  await change()
}

rule('4.2 unrecorded end', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await unrecorded(bed, async () => {
      t.match(await bed.setReplicas(3), {
        status: 507,
        body: { kind: 'FailedPersist', message: /SvcError :: Store: / },
      })
    })
    t.match((await bed.shown()).spec, { num_replicas: 2, operation: { operation: 'SetReplica', result: true } })
    t.equal(bed.replicas().length, 3, 'the change was made')
    await bed.pass(60_000)
    t.match(await bed.setReplicas(3), { status: 507, body: { message: /StoreDirty/ } }, 'for as long as etcd is away')
    bed.mayastor.faults.clear()
    await bed.pass(31_000)
    t.equal((await bed.shown()).spec.num_replicas, 3)
    t.match(await bed.setReplicas(3), { status: 412 })
  })
})

rule('4.2 unrecorded end', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await unrecorded(bed, () => bed.setReplicas(3))
    bed.mayastor.restartCore()
    bed.mayastor.faults.clear()
    await bed.pass(60_000)
    t.equal((await bed.shown()).spec.num_replicas, 2, 'a core that starts knows only that it began')
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

rule('4.2 core dies', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const answer = bed.call('PUT', `/volumes/${V}/replica_count/3`)
    bed.clock.after(1_500, () => bed.mayastor.restartCore())
    await bed.pass(2_000)
    t.equal((await answer).status, 503)
    t.equal((await bed.get('/nodes')).status, 503)
    t.equal(bed.replicas().length, 3, 'the replica was created but not attached')
    await bed.pass(2_000)
    t.not((await bed.shown()).spec.operation?.operation, 'SetReplica')
    t.equal(bed.count(), 2)
    await bed.pass(60_000)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

rule('4.2 core dies', async (t) => {
  for (const [step, gone] of [
    ['disown replica', false],
    ['destroy replica', true],
    ['commit', true],
  ] as const) {
    const bed = new Bed({ stepMs: 1_000 })
    bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
    bed.mayastor.cordonNode('c', 'x')
    await withBed(bed, async () => {
      const operation = bed.mayastor.setReplicaCount(V, 2)
      while (operation.step !== step) await bed.pass(100)
      bed.mayastor.restartCore(0)
      t.equal(bed.count(), 3)
      t.equal(bed.mayastor.truth.volumes.get(V)?.replicas.size, gone ? 2 : 3, step)
      await bed.pass(400_000)
      t.equal(bed.replicas().length, 3, 'it is made good')
      t.equal(bed.replicas().includes('r2'), !gone, step)
      t.equal(bed.replica('r2') === undefined, gone, 'nothing is left over')
      t.equal((await bed.shown()).state.status, 'Online')
    })
  }
})

rule('4.2 destroy fails', async (t) => {
  for (const [why, before, status] of [
    ['its io-engine errs', (bed: Bed) => bed.mayastor.faults.destroyFails('r2', 1), 500],
    ['its node is gone', (bed: Bed) => bed.mayastor.setNodeOnline('c', false), 408],
    [
      'its node is known to be gone',
      async (bed: Bed) => {
        bed.mayastor.setNodeOnline('c', false)
        await bed.pass(29_000)
      },
      412,
    ],
  ] as const) {
    const bed = new Bed()
    bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
    bed.mayastor.cordonNode('c', 'x')
    await withBed(bed, async () => {
      await bed.pass(1_500)
      await before(bed)
      t.equal((await bed.setReplicas(2)).status, status, why)
      t.equal(bed.count(), 3)
      t.equal(bed.mayastor.truth.volumes.get(V)?.replicas.size, 2)
      await bed.pass(40_000)
      t.equal(bed.replicas().length, 3, 'hot-spare made another')
      t.notOk(bed.replicas().includes('r2'))
      bed.mayastor.setNodeOnline('c', true)
      await bed.pass(300_000)
      t.notOk(bed.replica('r2'), 'the leftover is cleared')
    })
  }
})

rule('4.2 destroy fails, cure', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme', 'c-nvme'])
  bed.mayastor.faults.destroyFails(() => true)
  await withBed(bed, async () => {
    await bed.setReplicas(2)
    const left = bed.mayastor.truth.volumes.get(V)?.replicas
    t.equal(left?.size, 2)
    t.equal((await bed.setReplicas(2)).status, 200)
    t.equal(left?.size, 2)
    t.equal(bed.count(), 2)
  })
})

rule('4.2 unpublished', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'], { published: false })
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    await bed.pass(120_000)
    t.match(bed.replica(bed.added), { synced: false, healthyRecorded: false, rebuild: undefined })
    t.equal((await bed.shown()).state.status, 'Degraded')
    await bed.setReplicas(2)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})
