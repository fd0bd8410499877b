import { type Choose, GiB, type MayastorOptions } from '../../../src/embedded/mayastor/index.js'
import { type Answer, Bed, rule, SLOW, takeFirst, takeLast, V, withBed } from './bed.js'

// The way a client moves r0 from a-nvme to c-sata: the other pools are closed, a replica is added, a-nvme's node is
// cordoned, a replica leaves. Each step is looked at with whoever decides ties against it.

const TARGET = 'c-sata'
const FENCE = ['c-nvme', 'd-nvme', 'd-sata']
const LABEL = '/nodes/a/cordon/tier-move-1'
const replicas = { replicas: true, snapshots: false, restores: false, import: false }

function cordon(bed: Bed, method: 'PUT' | 'DELETE', pool: string): Promise<Answer> {
  return bed.done(method, `/pools/${pool}/cordon`, replicas)
}

async function fence(bed: Bed, method: 'PUT' | 'DELETE'): Promise<number[]> {
  const answers: number[] = []
  for (const pool of FENCE) answers.push((await cordon(bed, method, pool)).status)
  return answers
}

async function grow(bed: Bed): Promise<Answer> {
  await fence(bed, 'PUT')
  const answer = await bed.setReplicas(3)
  await fence(bed, 'DELETE')
  return answer
}

async function growAndSync(bed: Bed): Promise<void> {
  await grow(bed)
  await bed.until('healthy-recorded')
  await bed.pass(31_000)
}

/** The same test under either way of deciding ties. */
async function withTies(
  body: (bed: Bed, choose: Choose) => Promise<unknown>,
  options: Partial<MayastorOptions> = {},
  targetNode = 'a',
): Promise<void> {
  for (const choose of [takeFirst, takeLast]) {
    const bed = new Bed({ ...options, choose })
    bed.volume(['a-nvme', 'b-nvme'], { targetNode })
    await withBed(bed, () => body(bed, choose))
  }
}

rule('13.2 0', (t) =>
  withTies(async (bed) => {
    t.ok((await bed.get('/api/spec')).body.paths['/pools/{pool_id}/cordon'])
    t.match((await bed.get('/nodes')).body[0], { spec: { version: '2.10.0' }, state: { status: 'Online' } })
    const pool = (await bed.get('/pools')).body.find(({ id }: { id: string }) => id === TARGET)
    t.match(pool, {
      spec: { node: 'c', labels: { tier: 'sata' }, clusterSize: 4 * 1024 * 1024 },
      state: { status: 'Online', capacity: 100 * GiB, used: 0, committed: 0, encrypted: false },
    })
    t.notOk('cordonDrain' in pool.spec)
    const { spec, state } = await bed.shown()
    t.notOk('operation' in spec)
    t.match(spec, { policy: { self_heal: true }, num_snapshots: 0, encrypted: false, target: { node: 'a' } })
    t.equal(state.status, 'Online')
    const children = Object.values<{ 'child-status': string }>(state.replica_topology)
    t.same(
      children.map((child) => child['child-status']),
      ['Online', 'Online'],
    )
  }),
)

rule('13.2 1', (t) =>
  withTies(async (bed) => {
    bed.mayastor.cordonPool('d-nvme', { replicas: true })
    t.same(await fence(bed, 'PUT'), [200, 422, 200])
  }),
)

rule('13.2 2', (t) =>
  withTies(async (bed) => {
    const before = await bed.shown()
    await fence(bed, 'PUT')
    const pools: { spec: { id: string; node: string; cordonDrain?: { cordoned?: { replicas: boolean } } } }[] = (
      await bed.get('/pools')
    ).body
    const open = pools.filter(({ spec }) => 'cd'.includes(spec.node) && !spec.cordonDrain?.cordoned?.replicas)
    t.same(
      open.map(({ spec }) => spec.id),
      [TARGET],
    )
    t.same(await bed.shown(), before)
  }),
)

rule('13.2 3', (t) =>
  withTies(async (bed) => {
    await fence(bed, 'PUT')
    const { status, body } = await bed.setReplicas(3)
    t.equal(status, 200)
    t.match(body.spec, { num_replicas: 3 })
    t.same(Object.keys(body.state.replica_topology), ['r0', 'r1', bed.added])
    t.match(body.state.replica_topology[bed.added], { node: 'c', pool: TARGET, 'child-status': 'Degraded' })
    t.match(await bed.setReplicas(3), { status: 412, body: { message: /ReplicaCountAchieved/ } })
  }),
)

rule('13.2 4', (t) =>
  withTies(async (bed) => {
    await fence(bed, 'PUT')
    await bed.setReplicas(3)
    bed.mayastor.uncordonPool('c-nvme', { replicas: true })
    t.same(await fence(bed, 'DELETE'), [422, 200, 200])
    t.notOk((await bed.get('/pools')).body.some(({ spec }: { spec: object }) => 'cordonDrain' in spec))
  }),
)

rule('13.2 5', (t) =>
  withTies(async (bed) => {
    for (const pool of ['c-nvme', TARGET, 'd-nvme']) await cordon(bed, 'PUT', pool)
    await bed.setReplicas(3)
    t.match(bed.placement(), ['a-nvme', 'b-nvme', 'd-sata'])
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', 'r1'], 'unhealthy, so it goes first')
  }, SLOW),
)

rule('13.2 5', (t) =>
  withTies(async (bed) => {
    for (const pool of ['c-nvme', 'd-nvme']) await cordon(bed, 'PUT', pool)
    bed.mayastor.setOtherBytes('d-sata', GiB)
    await bed.pass(30_000)
    bed.mayastor.faults.createFails(TARGET)
    await bed.setReplicas(3)
    t.match(bed.placement(), ['a-nvme', 'b-nvme', 'd-sata'], 'it was tried on the pool that was wanted')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.equal(bed.replicas().length, 3, 'what could not be created leaves first')
    await bed.pass(61_000)
    t.same(bed.replicas(), ['r0', 'r1'], 'and then the wrong one')
  }, SLOW),
)

rule('13.2 6', (t) =>
  withTies(async (bed) => {
    await grow(bed)
    const { added } = bed
    const shown = async () => (await bed.shown()).state.replica_topology[added]
    const progress: number[] = []
    for (let reading = await shown(); reading['child-status'] === 'Degraded'; reading = await shown()) {
      progress.push(reading['rebuild-progress'])
      await bed.pass(30_000)
    }
    t.ok(progress.length >= 16 && progress.length <= 19, `${progress}`)
    t.same(
      progress,
      progress.toSorted((a, b) => a - b),
    )
    await bed.pass(30_000)
    t.match(await shown(), { state: 'Online', 'child-status': 'Online' })
    t.match((await bed.get(`/volumes/${V}/rebuild-history`)).body.records, [{ rebuildJobState: 'Completed' }])
    t.match(bed.replica(added), { synced: true, healthyRecorded: true })
  }, SLOW),
)

rule('13.2 7', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    bed.events.length = 0
    await bed.pass(4 * 3_600_000)
    t.same(bed.events, [], 'nobody does anything')
    t.match((await bed.shown()).state, { status: 'Online', target: { rebuilds: 0 } })
    t.equal(bed.replicas().length, 3)
  }),
)

rule('13.2 8', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    t.match(await bed.done('PUT', LABEL), {
      status: 200,
      body: { spec: { cordondrainstate: { cordonedstate: { cordonlabels: ['tier-move-1'] } } } },
    })
    t.match(await bed.done('PUT', LABEL), { status: 412, body: { kind: 'FailedPrecondition' } })
    await bed.pass(61_000)
    t.same(bed.placement(), ['a-nvme', 'b-nvme', TARGET], 'what is there stays')
  }),
)

rule('13.2 9', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    const { added } = bed
    await bed.done('PUT', LABEL)
    const { status, body } = await bed.setReplicas(2)
    t.equal(status, 200)
    t.match(body.spec, { num_replicas: 2 })
    t.same(Object.keys(body.state.replica_topology), ['r1', added])
    t.notOk(bed.replica('r0'))
    t.match(await bed.setReplicas(2), { status: 412, body: { message: /ReplicaCountAchieved/ } })
  }),
)

rule('13.2 10', (t) =>
  withTies(async (bed) => {
    await bed.done('PUT', LABEL)
    t.equal((await bed.done('DELETE', LABEL)).status, 200)
    t.match(await bed.done('DELETE', LABEL), { status: 412, body: { kind: 'FailedPrecondition' } })
    t.notOk('cordondrainstate' in (await bed.get('/nodes/a')).body.spec)
  }),
)

rule('13.2 11', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    const { added } = bed
    await bed.done('PUT', LABEL)
    await bed.setReplicas(2)
    await bed.done('DELETE', LABEL)
    for (let reading = 0; reading < 2; reading++) {
      const { spec, state } = await bed.shown()
      t.notOk('operation' in spec)
      t.equal(state.status, 'Online')
      t.same(Object.keys(state.replica_topology), ['r1', added])
      await bed.pass(30_000)
    }
    t.equal(bed.replica(added)?.pool.id, TARGET)
    t.ok(bed.replicas().every((uuid) => bed.replica(uuid)?.synced))
  }),
)

rule('13.2 races', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    const { added } = bed
    await bed.done('PUT', LABEL)
    bed.mayastor.faultReplica('r1')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', added], 'the one that failed goes instead of the victim')
    t.ok(bed.replicas().every((uuid) => bed.replica(uuid)?.synced))
  }),
)

rule('13.2 races', (t) =>
  withTies(
    async (bed, choose) => {
      await growAndSync(bed)
      const { added } = bed
      await bed.done('PUT', LABEL)
      bed.mayastor.cordonNode('b', 'admin')
      await bed.setReplicas(2)
      const stays = choose === takeFirst ? 'r1' : 'r0'
      t.same(bed.replicas(), [stays, added], 'somebody else’s cordon counts as much')
    },
    {},
    'd',
  ),
)

rule('13.5 fence', (t) =>
  withTies(async (bed, choose) => {
    await fence(bed, 'PUT')
    await fence(bed, 'DELETE')
    await bed.setReplicas(3)
    t.equal(bed.replica(bed.added)?.pool.id, choose === takeFirst ? 'c-nvme' : 'd-sata', 'any pool is as good again')
  }),
)

rule('13.5 grow', (t) =>
  withTies(async (bed) => {
    await grow(bed)
    const { added } = bed
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', 'r1'])
    t.notOk(bed.replica(added))
  }),
)

rule('13.5 grown', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    await bed.done('PUT', '/nodes/c/cordon/tier-move-1')
    t.equal((await bed.setReplicas(2)).status, 200)
    t.same(bed.replicas(), ['r0', 'r1'])
    await bed.done('DELETE', '/nodes/c/cordon/tier-move-1')
    await bed.pass(61_000)
    t.equal((await bed.shown()).state.status, 'Online')
  }),
)

rule('13.5 shrink', (t) =>
  withTies(async (bed) => {
    await growAndSync(bed)
    const before = await bed.shown()
    await bed.done('PUT', LABEL)
    await bed.done('DELETE', LABEL)
    await bed.pass(61_000)
    t.same(await bed.shown(), before)
  }),
)
