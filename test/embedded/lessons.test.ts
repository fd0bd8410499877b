import t, { type Test } from 'tap'
import { API_VERSION } from '../../src/api/names.js'
import type { ReplicaTopologySpec, ReplicaTopologyStatus } from '../../src/api/replica-topology.js'
import { Checker } from '../../src/embedded/checker.js'
import { type ClusterOptions, EmbeddedCluster, GIB, type VolumeOptions } from '../../src/embedded/cluster.js'

/** Each way in which the earlier attempt at this operator failed, as a test of its own. */

const MINUTE = 60_000
const uuid = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`
const hot = () => ({ read: 5000, write: 3000 })
const cold = () => ({ read: 10, write: 5 })

async function world(t: Test, options: ClusterOptions = {}) {
  const c = new EmbeddedCluster({ network: 'memory', ...options })
  t.teardown(() => c.stop())
  for (let i = 1; i <= 6; i++) {
    c.addNode(`node-${i}`)
    c.addPool({ name: `nvme-${i}`, node: `node-${i}`, capacityBytes: 200 * GIB, labels: { tier: 'nvme' } })
    c.addPool({ name: `sata-${i}`, node: `node-${i}`, capacityBytes: 400 * GIB, labels: { tier: 'sata' } })
  }
  const checker = new Checker(c.mayastor, {
    maxMoving: 2,
    cooldownMs: 60 * MINUTE,
    tierOf: (pool) => pool.split('-')[0],
  })
  const topology = (index: number) =>
    c.store.get<{ readonly spec: ReplicaTopologySpec; readonly status: ReplicaTopologyStatus }>({
      apiVersion: API_VERSION,
      kind: 'ReplicaTopology',
      name: `pvc-${uuid(index)}`,
    })
  return {
    c,
    checker,
    topology,
    add: (index: number, volume: Partial<VolumeOptions> & Pick<VolumeOptions, 'pools' | 'load'>) =>
      c.addVolume({ uuid: uuid(index), sizeBytes: 10 * GIB, storageClass: 'mayastor', ...volume }),
    pools: (index: number) =>
      [...(c.mayastor.truth.volumes.get(uuid(index))?.replicas ?? [])].map(({ pool }) => pool.id).sort(),
    begin: async () => {
      c.addPolicy('default', { samplingWindow: '10m', cooldownPeriod: '1h', migrationTimeout: '5m' })
      await c.start(15 * MINUTE)
      c.startMetacontroller()
    },
    phase: (index: number) => topology(index)?.status?.migration?.phase,
    safe: (t: Test) => {
      checker.atRest(c.clock.now())
      t.strictSame(checker.violations, [], 'no rule was broken')
    },
  }
}

t.test('a restart in the middle of a migration forgets nothing', async (t) => {
  const w = await world(t, { mayastor: { rebuildBytesPerSecond: GIB / 32 } })
  w.add(1, { pools: ['sata-1', 'sata-2'], load: hot })
  await w.begin()
  for (const phase of ['ScalingUp', 'WaitingSync', 'ScalingDown']) {
    await w.c.run(30 * MINUTE, () => w.phase(1) === phase)
    t.equal(w.phase(1), phase)
    await w.c.stopServer()
    await w.c.run(MINUTE)
    await w.c.startServer()
  }
  await w.c.run(60 * MINUTE, () => w.phase(1) === 'Completed')
  t.match(w.topology(1)?.status.migration, { id: `${uuid(1)}-1`, phase: 'Completed', replicasMoved: 2 })
  w.safe(t)
})

t.test('a timeout leaves no extra replica', async (t) => {
  const w = await world(t, { mayastor: { rebuildBytesPerSecond: 1 } })
  w.add(1, { pools: ['sata-1', 'sata-2'], load: hot })
  await w.begin()
  await w.c.run(30 * MINUTE, () => w.phase(1) === 'Aborted')
  t.match(w.topology(1)?.status.migration, { phase: 'Aborted', reason: 'NoProgress' })
  t.strictSame(w.pools(1), ['sata-1', 'sata-2'])
  w.safe(t)
})

t.test('preservation mode adds one replica, however often it is asked', async (t) => {
  const w = await world(t, { options: { preservationMode: true } })
  w.add(1, { pools: ['sata-1', 'sata-2'], load: hot })
  await w.begin()
  await w.c.run(6 * 60 * MINUTE)
  t.match(w.pools(1), [/^nvme/, 'sata-1', 'sata-2'])
  t.equal(w.c.mayastor.writes.filter(({ path }) => path.includes('replica_count')).length, 1)
})

t.test('every replica of a volume is moved', async (t) => {
  const w = await world(t)
  w.add(1, { pools: ['sata-1', 'sata-2', 'sata-3'], load: hot })
  await w.begin()
  await w.c.run(60 * MINUTE, () => w.phase(1) === 'Completed')
  t.match(w.pools(1), [/^nvme/, /^nvme/, /^nvme/])
  w.safe(t)
})

t.test('a replica that is on the wanted tier already is not mistaken for the new one', async (t) => {
  const w = await world(t)
  w.add(1, { pools: ['nvme-1', 'sata-2'], load: hot })
  await w.begin()
  const before = [...(w.c.mayastor.truth.volumes.get(uuid(1))?.replicas ?? [])].map((replica) => replica.uuid)
  await w.c.run(60 * MINUTE, () => w.phase(1) === 'Completed')
  const after = [...(w.c.mayastor.truth.volumes.get(uuid(1))?.replicas ?? [])].map((replica) => replica.uuid)
  t.match(w.topology(1)?.status.migration, { replicasMoved: 1, replicasTotal: 1 })
  t.ok(after.includes(before[0] ?? ''), 'the replica on nvme-1 is the one it was')
  t.notOk(after.includes(before[1] ?? ''), 'the one on sata-2 has gone')
  t.match(w.pools(1), ['nvme-1', /^nvme/])
  w.safe(t)
})

t.test('an unpublished volume is never migrated', async (t) => {
  const w = await world(t)
  w.add(1, { pools: ['sata-1', 'sata-2'], load: hot, published: false })
  w.add(2, { pools: ['nvme-1', 'nvme-2'], load: cold, published: false })
  await w.begin()
  await w.c.run(3 * 60 * MINUTE)
  t.strictSame(w.c.mayastor.writes, [])
  t.match(w.topology(1)?.spec.decision, { reason: 'Unpublished' })
  t.match(w.topology(2)?.spec.decision, { reason: 'Unpublished' })
})

t.test('two policies never fight over one volume', async (t) => {
  const w = await world(t)
  w.add(1, { pools: ['sata-1', 'sata-2'], load: () => ({ read: 800, write: 200 }) })
  // Of one class, and of opposite opinions: 1,000 IOPS are above the one's high and below the other's low watermark.
  w.c.addPolicy('a-promoter', { samplingWindow: '10m', highWatermarkIOPS: 600, lowWatermarkIOPS: 10 })
  w.c.addPolicy('b-demoter', { samplingWindow: '10m', highWatermarkIOPS: 9000, lowWatermarkIOPS: 5000 })
  await w.c.start(15 * MINUTE)
  w.c.startMetacontroller()
  await w.c.run(6 * 60 * MINUTE)
  t.match(w.pools(1), [/^nvme/, /^nvme/], 'it is where the older one, by name, wants it')
  t.equal(w.c.mayastor.writes.filter(({ path }) => path.includes('replica_count')).length, 4, 'moved once')
  t.match(w.topology(1)?.spec, { policy: 'a-promoter' })
  const rival = w.c.store.get<{ status: { conditions: object[] } }>({
    apiVersion: API_VERSION,
    kind: 'StoragePolicy',
    name: 'b-demoter',
  })
  t.match(rival?.status.conditions, [{ type: 'Ready', status: 'False', reason: 'Conflict' }])
  w.safe(t)
})

t.test('an outage of metrics demotes nothing', async (t) => {
  for (const outage of ['down', '503', 'empty', 'nan', 'half', 'warning'] as const) {
    const w = await world(t)
    for (let i = 1; i <= 4; i++) w.add(i, { pools: [`nvme-${i}`], load: hot })
    await w.begin()
    w.c.prometheus.outage = outage
    await w.c.run(90 * MINUTE)
    t.strictSame(w.c.mayastor.writes, [], outage)
  }
})
