import t, { type Test } from 'tap'
import { API_VERSION, MAYASTOR_CSI_DRIVER } from '../../src/api/names.js'
import type { ReplicaTopologySpec, ReplicaTopologyStatus } from '../../src/api/replica-topology.js'
import type { StoragePolicyStatus } from '../../src/api/storage-policy.js'
import { type ClusterOptions, EmbeddedCluster, GIB, type VolumeOptions } from '../../src/embedded/cluster.js'

/** Clusters as they are: Mayastor of another version, in another place, not installed yet or not any more. */

t.setTimeout(120_000)
const MINUTE = 60_000
const uuid = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`
const hot = () => ({ read: 9_000, write: 0 })

interface Topology {
  readonly spec: ReplicaTopologySpec
  readonly status?: ReplicaTopologyStatus
}

async function cluster(t: Test, options: ClusterOptions = {}) {
  const c = new EmbeddedCluster(options)
  t.teardown(() => c.stop())
  for (let i = 1; i <= 4; i++) {
    c.addNode(`node-${i}`)
    c.addPool({ name: `nvme-${i}`, node: `node-${i}`, capacityBytes: 200 * GIB, labels: { tier: 'nvme' } })
    c.addPool({ name: `sata-${i}`, node: `node-${i}`, capacityBytes: 400 * GIB, labels: { tier: 'sata' } })
  }
  const ref = { apiVersion: API_VERSION, kind: 'StoragePolicy', name: 'default' }
  const status = () => c.store.get<{ status?: StoragePolicyStatus }>(ref)?.status
  return {
    c,
    addVolume: (index: number, volume: Partial<VolumeOptions> = {}) =>
      c.addVolume({
        uuid: uuid(index),
        sizeBytes: 10 * GIB,
        storageClass: 'mayastor',
        pools: [`sata-${index}`],
        load: hot,
        ...volume,
      }),
    begin: async () => {
      c.addPolicy('default', { samplingWindow: '10m' })
      await c.start(15 * MINUTE)
      c.startMetacontroller()
    },
    /** Reason of the condition Ready, `Deciding` when all is well. */
    ready: () => status()?.conditions.find(({ type }) => type === 'Ready')?.reason,
    deletePolicy: () => c.store.delete(ref),
    policies: () => c.store.list(API_VERSION, 'StoragePolicy').length,
    topologies: () => c.store.list<Topology>(API_VERSION, 'ReplicaTopology'),
    pools: (index: number) =>
      [...(c.mayastor.truth.volumes.get(uuid(index))?.replicas ?? [])].map((replica) => replica.pool.id),
    settled: () =>
      c.store
        .list<Topology>(API_VERSION, 'ReplicaTopology')
        .every(({ spec }) => spec.decision.reason === 'OnWantedTier'),
  }
}

for (const apiVersion of ['openebs.io/v1beta2', 'openebs.io/v1beta3']) {
  t.test(`DiskPools of ${apiVersion}, in a namespace of their own`, async (t) => {
    const w = await cluster(t, { diskPoolApiVersion: apiVersion, diskPoolNamespace: 'storage-team' })
    w.addVolume(1)
    await w.begin()
    await w.c.run(40 * MINUTE, () => w.pools(1)[0]?.startsWith('nvme') === true && w.settled())
    t.match(w.pools(1), [/^nvme/])
    t.equal(w.ready(), 'Deciding')
  })
}

t.test('Mayastor is installed after the policy', async (t) => {
  const w = await cluster(t)
  w.c.removeDiskPools()
  w.addVolume(1)
  await w.begin()
  await w.c.run(10 * MINUTE)
  t.equal(w.ready(), 'PoolsUnavailable', 'the policy says so')
  t.match(w.topologies(), [{ spec: { decision: { reason: 'PoolsUnavailable' } }, status: { tier: 'Unknown' } }])
  w.c.serveDiskPools('openebs.io/v1beta3')
  await w.c.run(20 * MINUTE, () => w.ready() === 'Deciding')
  t.equal(w.ready(), 'Deciding', 'and recovers by itself within 20 minutes')
  await w.c.run(30 * MINUTE, () => w.settled())
  t.match(w.pools(1), [/^nvme/])
})

t.test('Mayastor is upgraded, and serves its DiskPools in another version only', async (t) => {
  const w = await cluster(t, { diskPoolApiVersion: 'openebs.io/v1beta2' })
  w.addVolume(1, { load: () => (w.c.clock.now() < changes ? { read: 1_000, write: 0 } : hot()) })
  let changes = Number.POSITIVE_INFINITY
  await w.begin()
  await w.c.run(10 * MINUTE)
  t.equal(w.ready(), 'Deciding')
  w.c.serveDiskPools('openebs.io/v1beta3')
  changes = w.c.clock.now()
  await w.c.run(60 * MINUTE, () => w.pools(1)[0]?.startsWith('nvme') === true)
  t.match(w.pools(1), [/^nvme/], 'what is hot since then has moved')
})

t.test('Mayastor is uninstalled', async (t) => {
  const w = await cluster(t)
  w.addVolume(1)
  await w.begin()
  await w.c.run(40 * MINUTE, () => w.pools(1)[0]?.startsWith('nvme') === true && w.settled())
  const children = w.topologies().length
  w.c.removeDiskPools()
  await w.c.run(30 * MINUTE, () => w.ready() === 'PoolsUnavailable')
  t.equal(w.ready(), 'PoolsUnavailable', 'the policy says so')
  t.equal(w.topologies().length, children, 'and forgets nothing')
  w.c.serveDiskPools('openebs.io/v1beta3')
  await w.c.run(22 * MINUTE, () => w.ready() === 'Deciding')
  t.equal(w.ready(), 'Deciding', 'and is back when they are')
})

/** Whatever Metacontroller has cached, and whatever it cannot find. */
const stages: Record<string, (w: Awaited<ReturnType<typeof cluster>>) => Promise<void>> = {
  'before Mayastor is installed': async (w) => {
    w.c.removeDiskPools()
    await w.begin()
    await w.c.run(5 * MINUTE)
  },
  'a moment after Mayastor was uninstalled': async (w) => {
    await w.begin()
    await w.c.run(15 * MINUTE)
    w.c.removeDiskPools()
    await w.c.run(1_000)
  },
  'some time after it': async (w) => {
    await w.begin()
    await w.c.run(15 * MINUTE)
    w.c.removeDiskPools()
    await w.c.run(8 * MINUTE)
  },
  'while Mayastor is being upgraded': async (w) => {
    await w.begin()
    await w.c.run(15 * MINUTE)
    w.c.serveDiskPools('openebs.io/v1beta2')
    await w.c.run(10_000)
  },
}
for (const [name, stage] of Object.entries(stages)) {
  t.test(`a policy is deleted ${name}`, async (t) => {
    const w = await cluster(t)
    w.addVolume(1)
    w.addVolume(2, { pools: ['nvme-2'] })
    await stage(w)
    t.ok(w.topologies().length > 0)
    w.deletePolicy()
    await w.c.run(5 * MINUTE, () => w.policies() === 0)
    t.equal(w.policies(), 0, 'it goes')
    t.strictSame(w.topologies(), [], 'and so do its children')
    t.equal(w.c.mayastor.truth.volumes.size, 2, 'and no volume')
  })
}

t.test('volumes of every kind beside each other', async (t) => {
  const w = await cluster(t)
  w.addVolume(1)
  // A claim was deleted, its volume retained: Released, and used by nobody.
  w.addVolume(2, { published: false })
  const pv = (name: string, rest: object) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name },
    ...rest,
  })
  const csi = (driver: string, volumeHandle: string) => ({ csi: { driver, volumeHandle } })
  w.c.store.replaceStatus({ ...pv(`pvc-${uuid(2)}`, {}), status: { phase: 'Released' } })
  w.c.store.seed(pv('other-driver', { spec: { storageClassName: 'mayastor', ...csi('ebs.csi.aws.com', 'vol-1') } }))
  w.c.store.seed(pv('no-driver', { spec: { storageClassName: 'mayastor', nfs: { server: 'a', path: '/' } } }))
  w.c.store.seed(pv('other-class', { spec: { storageClassName: 'fast', ...csi(MAYASTOR_CSI_DRIVER, uuid(8)) } }))
  w.c.store.seed(pv('no-class', { spec: csi(MAYASTOR_CSI_DRIVER, uuid(9)) }))
  w.c.store.seed(pv('never-claimed', { spec: { storageClassName: 'mayastor', ...csi(MAYASTOR_CSI_DRIVER, uuid(7)) } }))
  await w.begin()
  await w.c.run(60 * MINUTE, () => w.pools(1)[0]?.startsWith('nvme') === true)
  t.match(w.pools(1), [/^nvme/], 'the one that is hot moves')
  t.strictSame(w.pools(2), ['sata-2'], 'the one nobody uses stays')
  const reasons = Object.fromEntries(
    w.c.store
      .list<Topology & { metadata: { name: string } }>(API_VERSION, 'ReplicaTopology')
      .map(({ metadata, spec }) => [metadata.name, spec.decision.reason]),
  )
  t.strictSame(Object.keys(reasons).sort(), ['never-claimed', `pvc-${uuid(1)}`, `pvc-${uuid(2)}`])
  t.match(reasons, { 'never-claimed': 'VolumeGone', [`pvc-${uuid(2)}`]: 'Unpublished' })
})
