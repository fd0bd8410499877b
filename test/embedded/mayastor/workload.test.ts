import { type EventKind, GiB, type Request, type VolumeOptions } from '../../../src/embedded/mayastor/index.js'
import { Bed, newVolume, rule, SLOW, takeFirst, takeLast, V, withBed } from './bed.js'

interface Change {
  readonly request: Request
  /** As in `spec.operation`. */
  readonly operation: string
  readonly event: EventKind
  readonly volume?: Partial<VolumeOptions>
}

const changes: Change[] = [
  { request: { kind: 'destroy', uuid: V }, operation: 'Destroy', event: 'volume-destroyed' },
  {
    request: { kind: 'publish', uuid: V, node: 'c' },
    operation: 'Publish',
    event: 'volume-published',
    volume: { published: false },
  },
  { request: { kind: 'unpublish', uuid: V }, operation: 'Unpublish', event: 'volume-unpublished' },
  { request: { kind: 'republish', uuid: V, node: 'c' }, operation: 'Republish', event: 'volume-published' },
  { request: { kind: 'create-snapshot', uuid: V }, operation: 'CreateSnapshot', event: 'snapshot-taken' },
  {
    request: { kind: 'destroy-snapshot', uuid: V },
    operation: 'DestroySnapshot',
    event: 'snapshot-destroyed',
    volume: { snapshots: 1 },
  },
  { request: { kind: 'resize', uuid: V, sizeBytes: 12 * GiB }, operation: 'Resize', event: 'volume-resized' },
  { request: { kind: 'set-property', uuid: V, selfHeal: false }, operation: 'SetVolumeProperty', event: 'self-heal' },
]

for (const { request, operation, event, volume } of changes) {
  rule('11 workload', async (t) => {
    const bed = new Bed({ stepMs: 2_000 })
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      bed.events.length = 0
      const asked = bed.mayastor.request(request)
      t.equal((await bed.shown()).spec.operation.operation, operation)
      t.match(await bed.setReplicas(3), { status: 409, body: { kind: 'Conflict' } }, `${operation} holds the volume`)
      t.equal(await bed.ended(asked), undefined)
      t.match(bed.seen(event), [{ volume: V, by: 'person' }])
      if (operation !== 'Destroy') t.notOk('operation' in (await bed.shown()).spec)
      t.match(bed.seen('operation-started'), [{ reason: operation }])
    })
  })

  rule('11 workload', async (t) => {
    const bed = new Bed({ stepMs: 2_000 })
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      bed.mayastor.setReplicaCount(V, 3)
      t.match(await bed.ask(request), { kind: 'Conflict' }, `${operation} is kept out by a change of the count`)
    })
  })

  rule('11 workload', async (t) => {
    const bed = new Bed({ stepMs: 2_000 })
    bed.volume(['a-nvme', 'b-nvme'], volume)
    await withBed(bed, async () => {
      bed.events.length = 0
      const asked = bed.mayastor.request(request)
      await bed.pass(1_000)
      bed.mayastor.restartCore(0)
      t.match(asked, { done: true, failure: { kind: 'Unavailable' } })
      t.match(bed.seen('operation-dropped'), [{ volume: V, reason: new RegExp(`^${operation} at `) }])
      await bed.pass(400_000)
      if (operation === 'Destroy') {
        t.notOk(bed.mayastor.truth.volumes.has(V), 'what is being deleted is deleted in the end')
        return
      }
      t.match(bed.seen('operation-ended'), [{ by: 'core', reason: `${operation} failed` }])
      t.equal(await bed.ended(bed.mayastor.setReplicaCount(V, 3)), undefined, `${operation} is forgotten`)
    })
  })
}

rule('11 workload', async (t) => {
  const bed = new Bed()
  await withBed(bed, async () => {
    const { steps, name } = { steps: new Set<string>(), name: 'Create' }
    bed.mayastor.faults.onStep(({ operation, step }) => {
      if (operation === name) steps.add(step)
      return undefined
    })
    const asked = bed.mayastor.request({ kind: 'create', volume: newVolume })
    t.match((await bed.shown()).spec, { status: 'Creating', operation: { operation: name } })
    t.match((await bed.get('/volumes?max_entries=0')).body.entries, [{ spec: { uuid: V } }], 'listed at once')
    t.equal(await bed.ended(asked), undefined)
    t.same([...steps], ['create replica', 'commit'])
    t.match((await bed.shown()).spec, { status: 'Created', num_replicas: 2 })
    t.equal(new Set(bed.placement().map((pool) => pool[0])).size, 2)
    t.match(await bed.ask({ kind: 'create', volume: newVolume }), { kind: 'AlreadyExists' })
    bed.mayastor.faults.onStep(() => 700)
    bed.mayastor.request({ kind: 'destroy', uuid: V })
    t.match((await bed.shown()).spec, { status: 'Deleting', operation: { operation: 'Destroy' } })
    t.match(await bed.ask({ kind: 'create', volume: newVolume }), { kind: 'Conflict' })
    bed.mayastor.restartCore(0)
    await bed.pass(1)
    t.match(await bed.ask({ kind: 'create', volume: newVolume }), { kind: 'Deleting' })
  })
})

rule('11 workload', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  await withBed(bed, async () => {
    bed.mayastor.faults.createFails('a-nvme')
    t.equal(await bed.ask({ kind: 'create', volume: newVolume }), undefined)
    t.notOk(bed.placement().includes('a-nvme'), 'the next pool is tried')
    t.equal(bed.placement().length, 2)
  })
  const failing = new Bed({ choose: takeFirst })
  await withBed(failing, async () => {
    failing.mayastor.faults.createFails((pool) => !pool.startsWith('a'))
    t.match(await failing.ask({ kind: 'create', volume: newVolume }), { message: /ReplicaCreateNumber/ })
    t.notOk(failing.mayastor.truth.volumes.has(V))
    t.equal(failing.seen('replica-destroyed').length, 1, 'what was made is taken away')
    failing.openOnly('a-nvme')
    t.match(await failing.ask({ kind: 'create', volume: newVolume }), {
      kind: 'ResourceExhausted',
      details: 'Not enough suitable pools available, 1/2',
    })
  })
})

rule('11 workload', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    t.match(await bed.ask({ kind: 'publish', uuid: V }), { kind: 'AlreadyPublished' })
    t.match(await bed.ask({ kind: 'destroy', uuid: 'nope' }), { kind: 'NotFound' })
    const { target } = (await bed.shown()).state
    bed.mayastor.setNodeOnline('a', false)
    t.match(await bed.ask({ kind: 'unpublish', uuid: V }), { kind: 'Timeout' }, 'nobody knows yet that it is gone')
    await bed.pass(31_000)
    t.match(await bed.ask({ kind: 'unpublish', uuid: V }), { message: /NodeNotOnline/ })
    t.match(await bed.ask({ kind: 'republish', uuid: V, node: 'a' }), { message: /NodeNotOnline/ })
    t.equal(await bed.ask({ kind: 'republish', uuid: V }), undefined)
    t.notMatch((await bed.shown()).state.target, { node: 'a' })
    t.not((await bed.shown()).state.target.uuid, target.uuid)
    t.equal(await bed.ask({ kind: 'unpublish', uuid: V }), undefined)
    t.notOk('target' in (await bed.shown()).spec)
    t.match(await bed.ask({ kind: 'unpublish', uuid: V }), { kind: 'NotPublished' })
    t.match(await bed.ask({ kind: 'republish', uuid: V }), { kind: 'NotPublished' })
    bed.mayastor.setNodeOnline('b', false)
    await bed.pass(31_000)
    t.match(await bed.ask({ kind: 'publish', uuid: V }), { message: /NoOnlineReplicas/ })
    bed.mayastor.setNodeOnline('b', true)
    for (const node of 'bcd') bed.mayastor.cordonNode(node, 'x')
    t.match(await bed.ask({ kind: 'publish', uuid: V }), { kind: 'ResourceExhausted' })
    t.equal(await bed.ask({ kind: 'publish', uuid: V, node: 'd' }), undefined, 'who names a node gets it')
  })
})

rule('11 workload', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  for (const uuid of ['v1', 'v2', 'v3']) {
    bed.volume([], { uuid, replicas: [{ pool: 'a-nvme' }, { pool: 'b-nvme' }], published: false })
  }
  bed.volume(['c-nvme'], { published: false })
  await withBed(bed, async () => {
    const published = async (uuid: string) => {
      t.equal(await bed.ask({ kind: 'publish', uuid }), undefined)
      return bed.mayastor.truth.volumes.get(uuid)?.target?.node
    }
    t.same([await published('v1'), await published('v2'), await published('v3')], ['a', 'b', 'c'], 'where few are')
    t.equal(await published(V), 'c', 'a single replica has its target beside it')
  })
})

rule('11 workload', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    for (const storeDown of [true, false]) {
      bed.mayastor.faults.storeDown = storeDown
      const failed = await bed.ask({ kind: 'unpublish', uuid: V })
      t.equal(failed?.kind, storeDown ? 'FailedPersist' : undefined)
    }
    const asked = bed.mayastor.request({ kind: 'publish', uuid: V, node: 'c' })
    bed.mayastor.faults.storeDown = true
    t.match(await bed.ended(asked), { kind: 'FailedPersist' }, 'its end is not recorded')
    t.match((await bed.shown()).spec, { operation: { operation: 'Publish', result: true } })
    t.notOk('target' in (await bed.shown()).spec)
    bed.mayastor.faults.storeDown = false
    await bed.pass(31_000)
    t.match((await bed.shown()).spec, { target: { node: 'c' } })
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

rule('11 resize', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const resize = (sizeBytes: number) => bed.mayastor.request({ kind: 'resize', uuid: V, sizeBytes })
    t.match(await bed.ended(resize(10 * GiB)), { kind: 'NotAcceptable' })
    const resized = resize(20 * GiB)
    t.equal((await bed.shown()).spec.operation.operation, 'Resize')
    t.equal((await bed.setReplicas(3)).status, 409)
    await bed.pass(1_000)
    t.equal((await bed.shown()).spec.size, 10 * GiB, 'replica by replica, the volume last')
    t.equal(await bed.ended(resized), undefined)
    t.equal((await bed.shown()).spec.size, 20 * GiB)
    t.match([bed.replica('r0')?.sizeBytes, bed.replica('r1')?.sizeBytes], [20 * GiB, 20 * GiB])
    bed.mayastor.faults.onStep(({ step }) => {
      if (step === 'resize target') bed.mayastor.setNodeOnline('b', false)
      return undefined
    })
    t.equal(await bed.ended(resize(21 * GiB)), undefined)
    await bed.pass(31_000)
    t.match(await bed.ended(resize(22 * GiB)), { kind: 'ResourceExhausted' }, 'all replicas have to be there')
  })
  const half = new Bed({ stepMs: 1_000, choose: takeLast })
  half.volume(['a-nvme', 'b-nvme'])
  await withBed(half, async () => {
    const resized = half.mayastor.request({ kind: 'resize', uuid: V, sizeBytes: 20 * GiB })
    await half.pass(1_500)
    half.mayastor.setNodeOnline('b', false)
    t.match(await half.ended(resized), { kind: 'Timeout' })
    t.same([half.replica('r0')?.sizeBytes, half.replica('r1')?.sizeBytes], [20 * GiB, 10 * GiB], 'half done')
    t.equal((await half.shown()).spec.size, 10 * GiB)
  })
})

rule('11 groups', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'], { affinityGroup: 'g' })
  bed.volume([], { uuid: 'other', affinityGroup: 'g', replicas: [{ pool: 'c-nvme' }], published: false })
  bed.volume([], { uuid: 'alone', replicas: [{ pool: 'c-nvme' }], published: false })
  await withBed(bed, async () => {
    const ours = bed.mayastor.setReplicaCount(V, 3)
    t.match(await bed.ask({ kind: 'publish', uuid: 'other' }), { kind: 'Conflict' }, 'a target is placed by the group')
    t.equal(await bed.ended(ours), undefined)
    const publish = bed.mayastor.request({ kind: 'publish', uuid: 'other' })
    t.equal((await bed.setReplicas(2)).status, 409)
    t.equal(await bed.ended(publish), undefined)
    const destroyed = bed.mayastor.setReplicaCount('alone', 2)
    t.equal(await bed.ask({ kind: 'create-snapshot', uuid: 'other' }), undefined, 'snapshots need no such lock')
    await bed.ended(destroyed)
  })
})

rule('11 foreign', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const person = bed.mayastor.setReplicaCount(V, 3)
    const answer = await bed.setReplicas(3)
    t.equal(person.failure, undefined)
    t.match(answer.body.message, /ReplicaCountAchieved/, 'the lock was waited for')
    t.match(bed.seen('replica-count'), [{ from: 2, to: 3, by: 'person' }])
    const ours = bed.call('PUT', `/volumes/${V}/replica_count/2`)
    await bed.pass(500)
    const theirs = bed.mayastor.setReplicaCount(V, 2)
    t.match(await bed.ended(theirs), { message: /ReplicaCountAchieved/ })
    await bed.pass(1)
    t.equal((await ours).status, 200)
    t.equal(bed.replicas().length, 2)
  })
})

rule('11 node drain', async (t) => {
  const bed = new Bed({ choose: takeFirst })
  bed.volume(['a-nvme', 'b-nvme'])
  bed.volume([], { uuid: 'single', replicas: [{ pool: 'a-nvme' }] })
  await withBed(bed, async () => {
    const state = async () => (await bed.get('/nodes/a')).body.spec.cordondrainstate
    t.equal((await bed.done('PUT', '/nodes/a/drain/upgrade')).status, 200)
    t.equal((await bed.done('PUT', '/nodes/a/drain/upgrade')).status, 412)
    t.match(await bed.until('node-drained'), { node: 'a' })
    t.same(await state(), { drainedstate: { cordonlabels: [], drainlabels: ['upgrade'] } })
    t.not((await bed.shown()).spec.target.node, 'a')
    t.equal((await bed.shown('single')).spec.target.node, 'a', 'a target beside its only replica stays')
    t.same(bed.placement(), ['a-nvme', 'b-nvme'], 'replicas stay')
    t.ok(bed.mayastor.truth.nodes.get('a')?.cordoned)
    t.equal((await bed.done('DELETE', '/nodes/a/cordon/upgrade')).status, 200)
    t.equal(await state(), undefined)
  })
})

rule('11 node drain', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    await bed.setReplicas(3)
    bed.mayastor.occupy(V, 'Resize', 45_000)
    bed.mayastor.drainNode('a', 'upgrade')
    await bed.pass(40_000)
    t.match((await bed.get('/nodes/a')).body.spec.cordondrainstate, { drainingstate: { drainlabels: ['upgrade'] } })
    t.equal((await bed.shown()).spec.target.node, 'a', 'what somebody holds is left for the next round')
    t.ok(await bed.until('node-drained'))
    t.match(bed.seen('rebuild-failed'), [{ reason: 'Stopped' }], 'a rebuild does not survive it')
    bed.mayastor.uncordonNode('a', 'upgrade')
    await bed.until('rebuild-completed')
    await bed.pass(31_000)
    bed.mayastor.drainNode('b', 'upgrade')
    await bed.setReplicas(2)
    t.notOk(bed.replicas().includes('r1'), 'what is on a draining node goes first')
  })
})

rule('11 upgrade', async (t) => {
  await withBed(new Bed({ version: '2.10.0' }), async (bed) => {
    bed.mayastor.setNodeVersion('b', '2.11.0')
    t.match(bed.seen('node-version'), [{ node: 'b', reason: '2.11.0' }])
    const versions = (await bed.get('/nodes')).body.map((node: { spec: { version: string } }) => node.spec.version)
    t.same(versions, ['2.10.0', '2.11.0', '2.10.0', '2.10.0'])
    bed.mayastor.addNode({ id: 'e', version: '2.9.0' })
    t.match((await bed.get('/nodes/e')).body, { spec: { version: '2.9.0' }, state: { version: '2.9.0' } })
  })
})
