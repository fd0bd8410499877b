import { GiB } from '../../../src/embedded/mayastor/index.js'
import { Bed, rule, SLOW, V, withBed } from './bed.js'

const replicas = { replicas: true, snapshots: false, restores: false, import: false }
const none = { replicas: false, snapshots: false, restores: false, import: false }
const CORDON = '/pools/a-nvme/cordon'

async function cordonOf(bed: Bed): Promise<unknown> {
  return (await bed.get('/pools/a-nvme')).body.spec.cordonDrain?.cordoned
}

rule('2 staleness', async (t) => {
  const bed = new Bed({ choose: (what, options) => options[what === 'poll-phase' ? options.length - 1 : 0] as never })
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    bed.mayastor.setOtherBytes('c-nvme', GiB)
    await bed.pass(29_000)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Online')
    t.equal((await bed.shown()).state.status, 'Online')
    t.equal((await bed.get('/pools/c-nvme')).body.state.used, 0)
    bed.mayastor.labelPool('b-sata', 'mark', 'x')
    t.equal((await bed.get('/pools/b-sata')).body.spec.labels.mark, 'x', 'what is recorded shows at once')
    await bed.pass(1_000)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Offline')
    t.notOk('state' in (await bed.get('/pools/b-sata')).body)
    t.equal((await bed.get('/pools/c-nvme')).body.state.used, GiB)
    const { state } = await bed.shown()
    t.equal(state.status, 'Degraded')
    t.match(state.replica_topology.r1, { state: 'Unknown', 'child-status': 'Faulted' })
    bed.mayastor.setNodeOnline('b', true)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Online', 'a node that is back says so')
  })
})

rule('2 staleness', async (t) => {
  const phases: (readonly unknown[])[] = []
  const bed = new Bed({
    choose: (what, options) => {
      if (what === 'poll-phase') phases.push(options)
      return options[what === 'poll-phase' ? phases.length * 7 - 1 : 0] as never
    },
  })
  await withBed(bed, async () => {
    t.equal(phases.length, 4, 'each node has a phase of its own')
    for (const node of 'abcd') bed.mayastor.setPoolStatus(`${node}-nvme`, 'Degraded')
    const status = async (node: string) => (await bed.get(`/pools/${node}-nvme`)).body.state.status
    await bed.pass(14_000)
    t.same(await Promise.all([...'abcd'].map(status)), ['Degraded', 'Degraded', 'Online', 'Online'])
  })
})

rule('2 own results', async (t) => {
  const bed = new Bed(SLOW)
  bed.volume(['a-nvme', 'b-nvme'])
  bed.openOnly('c-nvme')
  await withBed(bed, async () => {
    const used = async () => (await bed.get('/pools/c-nvme')).body.state
    await bed.setReplicas(3)
    const { state } = await bed.shown()
    t.match(state.replica_topology[bed.added], { pool: 'c-nvme', state: 'Online', 'child-status': 'Degraded' })
    t.match(await used(), { committed: 10 * GiB })
    t.match((await bed.get(`/replicas/${bed.added}`)).body, { share: 'nvmf', uri: /^nvmf:/ })
    const spec = (await bed.get('/specs')).body.replicas.find(({ uuid }: { uuid: string }) => uuid === bed.added)
    t.match(spec.owners, { nexuses: [state.target.uuid], volume: V })
    await bed.setReplicas(2)
    t.equal(Object.keys((await bed.shown()).state.replica_topology).length, 2)
    t.match(await used(), { committed: 0 })
  })
})

rule('2 paging', async (t) => {
  const bed = new Bed()
  for (const uuid of ['v1', 'v2', 'v3', 'v4']) bed.volume([], { uuid, replicas: [{ pool: 'a-nvme' }] })
  await withBed(bed, async () => {
    t.match(await bed.get('/volumes'), { status: 400, body: { kind: 'Deserialize' } })
    const page = (await bed.get('/volumes?max_entries=3')).body
    t.equal(page.entries.length, 3)
    t.equal(page.next_token, 3)
    const rest = (await bed.get('/volumes?max_entries=3&starting_token=3')).body
    t.equal(rest.entries[0].spec.uuid, 'v4')
    t.notOk('next_token' in rest)
    t.equal((await bed.get('/volumes?max_entries=0')).body.entries.length, 4)
    t.same((await bed.get('/volumes?max_entries=0&volume_id=nope')).body, { entries: [] })
    bed.mayastor.destroyVolume('v1')
    const after = (await bed.get('/volumes?max_entries=0')).body.entries
    t.same(
      after.map((v: { spec: { uuid: string } }) => v.spec.uuid),
      ['v4', 'v2', 'v3'],
    )
  })
})

rule('2.1 errors', async (t) => {
  await withBed(new Bed(), async (bed) => {
    const { status, body } = await bed.get('/volumes/nope')
    t.equal(status, 404)
    t.same(Object.keys(body).sort(), ['details', 'kind', 'message'])
    t.match(body, { kind: 'NotFound', message: /^SvcError :: VolumeNotFound: /, details: '' })
    t.equal((await bed.done('PUT', `/volumes/${V}/replica_count/300`)).status, 400)
    t.equal((await bed.get('/nothing')).status, 404)
    bed.mayastor.restartCore()
    t.match(await bed.get('/volumes?max_entries=0'), { status: 503, body: { kind: 'Unavailable' } })
    t.match(await bed.done('PUT', CORDON, replicas), { status: 503, body: { kind: 'Unavailable' } })
  })
})

rule('3 spelling', async (t) => {
  const bed = new Bed({ version: '2.10.0' })
  bed.volume(['a-nvme', 'b-sata'], { snapshots: 1, affinityGroup: 'ns/db' })
  await withBed(bed, async () => {
    const { spec, state } = await bed.shown()
    t.match(spec, {
      uuid: V,
      size: 10 * GiB,
      num_replicas: 2,
      num_snapshots: 1,
      status: 'Created',
      target: { node: 'a', protocol: 'nvmf' },
      policy: { self_heal: true },
      thin: true,
      affinity_group: { id: 'ns/db' },
      topology: { pool_topology: { labelled: { inclusion: { 'openebs.io/created-by': 'operator-diskpool' } } } },
    })
    t.notOk('operation' in spec)
    t.equal(state.status, 'Online')
    t.match(state.replica_topology.r1, { node: 'b', pool: 'b-sata', state: 'Online', 'child-status': 'Online' })
    t.notOk('rebuild-progress' in state.replica_topology.r1)
    t.match(state.usage, { allocated: 5 * GiB, allocated_replica: 0, total_allocated_snapshots: 10 * GiB })
    t.match(state.target, { node: 'a', state: 'Online', rebuilds: 0, protocol: 'nvmf', deviceUri: /^nvmf:/ })
    t.equal(state.target.children[0].uri, 'bdev:///r0?uuid=r0')
    t.equal(state.target.children[1].uri, 'nvmf://10.1.0.2:8420/nqn.2019-05.io.openebs:r1?uuid=r1')
    t.match(await bed.get('/pools/a-nvme'), {
      body: {
        id: 'a-nvme',
        spec: { node: 'a', labels: { tier: 'nvme' }, status: 'Created' },
        state: { node: 'a', capacity: 100 * GiB, used: 5 * GiB, committed: 10 * GiB, status: 'Online' },
      },
    })
    t.match((await bed.get('/nodes/a')).body, {
      spec: { id: 'a', grpcEndpoint: /10124$/, version: '2.10.0' },
      state: { id: 'a', status: 'Online', version: '2.10.0' },
    })
    const seen = (await bed.get('/replicas')).body.find(({ uuid }: { uuid: string }) => uuid === 'r1')
    t.match(seen, { node: 'b', pool: 'b-sata', share: 'nvmf', kind: 'Regular', space: { allocated_bytes: 0 } })
    const recorded = (await bed.get('/specs')).body.replicas[0]
    t.match(recorded, { uuid: 'r0', status: 'Created', owners: { nexuses: [state.target.uuid], volume: V } })
  })
})

rule('5.5 calls', async (t) => {
  await withBed(new Bed(), async (bed) => {
    for (const method of ['PUT', 'DELETE']) {
      t.match(await bed.done(method, CORDON), { status: 400, body: { kind: 'Deserialize' } }, 'without a body')
      t.equal((await bed.done(method, '/pools/nope/cordon', replicas)).status, 404)
    }
  })
})

rule('5.5 body', async (t) => {
  await withBed(new Bed(), async (bed) => {
    await bed.done('PUT', CORDON, replicas)
    await bed.done('PUT', CORDON, { ...none, restores: true, import: true })
    t.same(await cordonOf(bed), { replicas: true, snapshots: false, restores: true, import: true })
    await bed.done('DELETE', CORDON, { ...none, import: true })
    t.same(await cordonOf(bed), { replicas: true, snapshots: false, restores: true, import: false })
    await bed.done('DELETE', CORDON, { replicas: true, restores: true })
    t.equal(await cordonOf(bed), undefined)
  })
})

rule('5.5 reply', async (t) => {
  await withBed(new Bed(), async (bed) => {
    t.match(await bed.done('PUT', CORDON, replicas), {
      status: 200,
      body: { id: 'a-nvme', spec: { cordonDrain: { cordoned: replicas } }, state: { status: 'Online' } },
    })
    t.match(await bed.done('DELETE', CORDON, replicas), { status: 200, body: { id: 'a-nvme' } })
  })
})

rule('5.5 nothing to set', async (t) => {
  await withBed(new Bed(), async (bed) => {
    await bed.done('PUT', CORDON, replicas)
    t.match(await bed.done('PUT', CORDON, replicas), { status: 422, body: { kind: 'AlreadyExists' } })
    t.equal((await bed.done('PUT', CORDON, none)).status, 422)
    t.equal((await bed.done('PUT', CORDON, { ...replicas, restores: true })).status, 200, 'one bit is new')
  })
})

rule('5.5 nothing to clear', async (t) => {
  await withBed(new Bed(), async (bed) => {
    t.match(await bed.done('DELETE', CORDON, replicas), { status: 422, body: { kind: 'AlreadyExists' } })
    await bed.done('PUT', CORDON, { ...none, restores: true })
    t.equal((await bed.done('DELETE', CORDON, replicas)).status, 422)
    t.equal((await bed.done('DELETE', CORDON, { replicas: true, restores: true })).status, 200)
  })
})

rule('5.5 ownership', async (t) => {
  await withBed(new Bed(), async (bed) => {
    bed.mayastor.cordonPool('a-nvme', { replicas: true })
    await bed.done('PUT', CORDON, replicas)
    t.equal((await bed.done('DELETE', CORDON, replicas)).status, 200)
    t.equal(await cordonOf(bed), undefined, 'the other one’s cordon is gone, too')
  })
})

rule('5.5 persistence', async (t) => {
  await withBed(new Bed(), async (bed) => {
    await bed.done('PUT', CORDON, replicas)
    bed.mayastor.restartCore()
    await bed.pass(3_000)
    t.same(await cordonOf(bed), replicas)
  })
})

rule('5.5 preconditions', async (t) => {
  await withBed(new Bed(), async (bed) => {
    bed.mayastor.setNodeOnline('a', false)
    bed.mayastor.setPoolImported('b-nvme', false)
    await bed.pass(30_000)
    t.equal((await bed.done('PUT', CORDON, replicas)).status, 200)
    t.equal((await bed.done('PUT', '/pools/b-nvme/cordon', replicas)).status, 200)
  })
})

rule('5.5 since', async (t) => {
  for (const [version, there] of [
    ['2.9.0', false],
    ['2.10.0', true],
  ] as const) {
    await withBed(new Bed({ version }), async (bed) => {
      const { body } = await bed.get('/api/spec')
      t.equal('/pools/{pool_id}/cordon' in body.paths, there, version)
      t.equal('PoolCordon' in body.components.schemas, there, version)
      t.equal((await bed.done('PUT', CORDON, replicas)).status, there ? 200 : 404, version)
    })
  }
})

rule('5.5 labels', async (t) => {
  await withBed(new Bed(), async (bed) => {
    const path = '/pools/a-nvme/label'
    t.equal((await bed.done('PUT', `${path}/mark=1`)).body.spec.labels.mark, '1')
    t.match(await bed.done('PUT', `${path}/mark=1`), { status: 422, body: { kind: 'AlreadyExists' } })
    t.match(await bed.done('PUT', `${path}/mark=2`), { status: 412, body: { kind: 'FailedPrecondition' } })
    t.equal((await bed.done('PUT', `${path}/mark=2?overwrite=true`)).body.spec.labels.mark, '2')
    t.notOk('mark' in (await bed.done('DELETE', `${path}/mark`)).body.spec.labels)
    t.equal((await bed.done('DELETE', `${path}/mark`)).status, 412)
    t.equal((await bed.done('DELETE', `${path}/openebs.io%2Fcreated-by`)).status, 412)
  })
  await withBed(new Bed({ version: '2.7.0' }), async (bed) => {
    t.equal((await bed.done('PUT', '/pools/a-nvme/label/mark=1')).status, 404)
  })
})

rule('5.6 node cordon', async (t) => {
  await withBed(new Bed(), async (bed) => {
    const path = '/nodes/a/cordon/tier-move-1'
    const state = async () => (await bed.get('/nodes/a')).body.spec.cordondrainstate
    t.equal((await bed.done('PUT', path)).status, 200)
    t.match(await bed.done('PUT', path), { status: 412, body: { kind: 'FailedPrecondition' } })
    await bed.done('PUT', '/nodes/a/cordon/admin')
    t.same(await state(), { cordonedstate: { cordonlabels: ['tier-move-1', 'admin'] } })
    t.equal((await bed.done('DELETE', path)).status, 200)
    t.equal((await bed.done('DELETE', path)).status, 412)
    t.same(await state(), { cordonedstate: { cordonlabels: ['admin'] } })
    t.ok(bed.mayastor.truth.nodes.get('a')?.cordoned)
    await bed.done('DELETE', '/nodes/a/cordon/admin')
    t.equal(await state(), undefined)
    t.equal((await bed.done('PUT', '/nodes/nope/cordon/x')).status, 404)
  })
})

rule('5.6 node cordon', async (t) => {
  const bed = new Bed({ choose: (_what, options) => options[0] as never }, 'abc')
  bed.volume(['a-nvme', 'c-nvme'], { published: false })
  bed.mayastor.cordonNode('b', 'x')
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 507, 'nothing new goes there')
    bed.mayastor.cordonNode('a', 'x')
    t.equal(await bed.ask({ kind: 'publish', uuid: V }), undefined)
    t.equal((await bed.shown()).spec.target.node, 'c', 'and no target by itself')
  })
})
