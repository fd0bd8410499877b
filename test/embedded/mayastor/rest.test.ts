import t from 'tap'
import { Bed, V, withBed } from './bed.js'

t.test('a volume is spelled as on the wire', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'], { snapshots: 1, affinityGroup: 'ns/db' })
  await withBed(bed, async () => {
    const { spec, state } = await bed.shown()
    t.match(spec, {
      uuid: V,
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
    t.equal(state.target.children[0].uri, 'bdev:///r0?uuid=r0')
    t.equal(state.target.children[1].uri, 'nvmf://10.1.0.2:8420/nqn.2019-05.io.openebs:r1?uuid=r1')
    t.equal((await bed.get('/volumes/nope')).status, 404)
    t.same(Object.keys((await bed.get('/volumes/nope')).body).sort(), ['details', 'kind', 'message'])
  })
})

t.test('volumes are listed in pages, and a delete moves the last one', async (t) => {
  const bed = new Bed()
  for (const uuid of ['v1', 'v2', 'v3', 'v4']) bed.volume(['a-nvme'], { uuid, replicas: [{ pool: 'a-nvme' }] })
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

t.test('state is a cache of up to 30 s, spec is fresh', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    bed.mayastor.setNodeOnline('b', false)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Online')
    t.equal((await bed.shown()).state.status, 'Online')
    await bed.pass(30_000)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Offline')
    t.notOk('state' in (await bed.get('/pools/b-sata')).body)
    const { state } = await bed.shown()
    t.equal(state.status, 'Degraded')
    t.match(state.replica_topology.r1, { state: 'Unknown', 'child-status': 'Faulted' })
    bed.mayastor.setNodeOnline('b', true)
    t.equal((await bed.get('/nodes/b')).body.state.status, 'Online')
  })
})

t.test('rebuild history: 412 without target, 404 without records', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata'])
  await withBed(bed, async () => {
    const path = `/volumes/${V}/rebuild-history`
    t.equal((await bed.get(path)).status, 404)
    await bed.setReplicas(3)
    await bed.pass(60_000)
    t.match((await bed.get(path)).body, {
      targetUuid: bed.mayastor.truth.volumes.get(V)?.nexus?.uuid,
      records: [{ rebuildJobState: 'Completed', isPartial: false, blockSize: 512, blocksRemaining: 0 }],
    })
    bed.mayastor.unpublish(V)
    t.equal((await bed.get(path)).status, 412)
  })
})

t.test('node cordons are labels: 412 for a second PUT and for an absent one', async (t) => {
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
    await bed.done('DELETE', '/nodes/a/cordon/admin')
    t.equal(await state(), undefined)
    t.equal((await bed.done('PUT', '/nodes/nope/cordon/x')).status, 404)
  })
})

t.test('pool cordons are bits without an owner: 422 when there is nothing to change', async (t) => {
  await withBed(new Bed(), async (bed) => {
    const path = '/pools/a-nvme/cordon'
    const replicas = { replicas: true, snapshots: false, restores: false, import: false }
    t.match((await bed.done('PUT', path, replicas)).body, { spec: { cordonDrain: { cordoned: replicas } } })
    t.match(await bed.done('PUT', path, replicas), { status: 422, body: { kind: 'AlreadyExists' } })
    t.equal((await bed.done('PUT', path, { ...replicas, restores: true })).status, 200)
    const cleared = await bed.done('DELETE', path, replicas)
    t.match(cleared.body.spec.cordonDrain, { cordoned: { replicas: false, restores: true } })
    t.equal((await bed.done('DELETE', path, replicas)).status, 422)
    t.equal((await bed.done('PUT', path)).status, 400)
    t.same((await bed.done('DELETE', path, { restores: true })).body.spec.cordonDrain, undefined)
  })
})

t.test('the pool cordon exists, and is described, since 2.10', async (t) => {
  for (const [version, there] of [
    ['2.9.0', false],
    ['2.10.0', true],
  ] as const) {
    await withBed(new Bed({ version }), async (bed) => {
      const { body } = await bed.get('/api/spec')
      t.equal('/pools/{pool_id}/cordon' in body.paths, there, version)
      const { status } = await bed.done('PUT', '/pools/a-nvme/cordon', { replicas: true })
      t.equal(status, there ? 200 : 404, version)
    })
  }
})

t.test('pool labels', async (t) => {
  await withBed(new Bed(), async (bed) => {
    t.equal((await bed.done('PUT', '/pools/a-nvme/label/mark=1')).body.spec.labels.mark, '1')
    t.equal((await bed.done('PUT', '/pools/a-nvme/label/mark=2')).status, 412)
    t.equal((await bed.done('PUT', '/pools/a-nvme/label/mark=2?overwrite=true')).body.spec.labels.mark, '2')
    t.notOk('mark' in (await bed.done('DELETE', '/pools/a-nvme/label/mark')).body.spec.labels)
    t.equal((await bed.done('DELETE', '/pools/a-nvme/label/openebs.io%2Fcreated-by')).status, 412)
  })
})

t.test('what a volume owns cannot be deleted by hand, except a nexus child', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-sata', 'c-sata'])
  await withBed(bed, async () => {
    const nexus = (await bed.shown()).state.target
    t.match(await bed.done('DELETE', '/pools/b-sata/replicas/r1'), { status: 409, body: { kind: 'InUse' } })
    t.equal((await bed.done('DELETE', '/nodes/b/pools/b-sata/replicas/r1')).status, 409)
    t.equal((await bed.done('DELETE', `/nexuses/${nexus.uuid}`)).status, 409)
    const child = encodeURIComponent(nexus.children[1].uri)
    t.equal((await bed.done('DELETE', `/nexuses/${nexus.uuid}/children/${child}`)).status, 204)
    // The trap: its replica is now the first to go, but cannot be destroyed, and the count stays.
    t.match(await bed.setReplicas(2), { status: 409, body: { kind: 'InUse' } })
    t.same(bed.replicas(), ['r0', 'r2'])
    t.equal(bed.count(), 3)
    t.ok(bed.mayastor.truth.replicas.has('r1'), 'the orphan lingers')
  })
})
