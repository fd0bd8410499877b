import t from 'tap'
import type { MayastorPool, MayastorVolume } from '../../src/api/mayastor.js'
import { POOL_CHECKS, poolRefusal, VOLUME_CHECKS, volumeRefusals } from '../../src/step/preconditions.js'
import { node, pool, rebuilding, replica, type ViewChanges, view, volume } from './builders.js'

/** Every precondition by its name, and what it says to whom it refuses. */

interface Case {
  readonly volume?: Partial<MayastorVolume>
  readonly view?: Omit<ViewChanges, 'volume'>
  /** `Reason: message`; undefined: it passes. */
  readonly want: string | undefined
}

const GIB = 1024 ** 3
const node2 = 'node node-2 is cordoned, draining or offline'
const ours = 'tier-move-11111111-1111-4111-8111-111111111111-1'
const nodes = (version: string) => [1, 2, 3, 4].map((index) => node(`node-${index}`, { version }))
const old = 'MayastorTooOld: node node-1 runs v2.9.3; 2.10 or newer is needed'
const { target = undefined } = volume()
const topology = volume().topology

const volumeCases: Readonly<Record<string, readonly Case[]>> = {
  'Mayastor can place and remove a chosen replica': [
    { view: { nodes: nodes('2.10.0') }, want: undefined },
    { view: { nodes: nodes('v2.11.0') }, want: undefined },
    { view: { nodes: nodes('3.0.0') }, want: undefined },
    { view: { nodes: nodes('v2.9.3') }, want: old },
    {
      view: { poolCordon: false },
      want: 'MayastorTooOld: Mayastor serves no pool cordon; 2.10 or newer is needed to place a replica',
    },
  ],
  'no upgrade is under way': [
    {
      view: { nodes: [node('node-4', { version: '2.11.0' })] },
      want: 'MixedVersions: io-engine versions 2.10.0, 2.11.0: an upgrade is under way',
    },
    {
      view: { nodes: [node('node-4', { version: undefined })] },
      want: 'MixedVersions: io-engine versions 2.10.0, unknown: an upgrade is under way',
    },
  ],
  'the volume is published': [
    { volume: { published: false }, want: 'Unpublished: a replica is only rebuilt while published' },
  ],
  'the volume is Online, with every replica synced and in the target': [
    { volume: { state: 'Degraded' }, want: 'VolumeNotHealthy: the volume is Degraded' },
    {
      volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2')], state: 'Online' },
      want: 'VolumeNotHealthy: replica b is not synced',
    },
    {
      volume: { numReplicas: 3 },
      want: 'VolumeNotHealthy: not every one of 3 replicas is there and in the target',
    },
    ...[undefined, { ...target, state: 'Degraded' }, { ...target, children: 1 }].map((other) => ({
      volume: { target: other as MayastorVolume['target'] },
      want: 'VolumeNotHealthy: not every one of 2 replicas is there and in the target',
    })),
  ],
  'no operation runs': [
    { volume: { operation: 'Resize' }, want: 'OperationRunning: Mayastor is at work on the volume: Resize' },
    { volume: { lifecycle: 'Deleting' }, want: 'OperationRunning: Mayastor is at work on the volume: Deleting' },
  ],
  'self-healing is on': [{ volume: { selfHeal: false }, want: 'SelfHealOff: self-healing is off for the volume' }],
  'no snapshots': [
    { volume: { snapshots: 1 }, want: 'Snapshots: snapshots live on the old pool and would stay there' },
  ],
  'in no affinity group': [
    { volume: { affinityGroup: 'default/set' }, want: 'AffinityGroup: member of affinity group default/set' },
  ],
  'no node of the volume is cordoned, draining or offline': [
    { view: { nodes: [node('node-2', { cordonLabels: ['maintenance'] })] }, want: `NodeCordoned: ${node2}` },
    { view: { nodes: [node('node-2', { drainLabels: ['upgrade'] })] }, want: `NodeCordoned: ${node2}` },
    { view: { nodes: [node('node-2', { online: false })] }, want: `NodeCordoned: ${node2}` },
    { view: { nodes: [node('node-2', { cordonLabels: [ours] })] }, want: undefined },
    { view: { nodes: [node('node-3', { cordonLabels: ['maintenance'] })] }, want: undefined },
  ],
  'Mayastor drains no pool of the volume': [
    { view: { pools: [pool('sata-2', { draining: true })] }, want: 'PoolDrain: Mayastor is draining pool sata-2' },
    { view: { pools: [pool('nvme-3', { draining: true })] }, want: undefined },
  ],
}

interface PoolCase extends Case {
  readonly pool?: Partial<MayastorPool>
  readonly promisedBytes?: number
}

const node3 = 'node node-3 of pool nvme-3 is cordoned, draining or offline'
const elsewhere = 'VolumeTopology: pool nvme-3 does not satisfy the topology the volume was created with'
const encryption = 'Encryption: pool nvme-3 differs from the volume in encryption'
const full = 'NoFittingPool: pool nvme-3 has no room for the volume beside its 10 % reserve'
/** What the volume needs there, and the reserve. */
const NEEDED = 9 * GIB + 10 * GIB

const poolCases: Readonly<Record<string, readonly PoolCase[]>> = {
  'the pool is Online': [
    { pool: { status: 'Faulted' }, want: 'NoFittingPool: pool nvme-3 is Faulted' },
    { pool: { status: 'Unknown' }, want: 'NoFittingPool: pool nvme-3 is Unknown' },
  ],
  'Mayastor does not drain it': [{ pool: { draining: true }, want: 'PoolDrain: Mayastor is draining pool nvme-3' }],
  'its node is not cordoned, draining or offline': [
    { view: { nodes: [node('node-3', { cordonLabels: ['maintenance'] })] }, want: `NodeCordoned: ${node3}` },
    { view: { nodes: [node('node-3', { drainLabels: ['upgrade'] })] }, want: `NodeCordoned: ${node3}` },
    { view: { nodes: [node('node-3', { online: false })] }, want: `NodeCordoned: ${node3}` },
    {
      pool: { node: 'node-9' },
      want: 'NodeCordoned: node node-9 of pool nvme-3 is cordoned, draining or offline',
    },
    { view: { nodes: [node('node-3', { cordonLabels: [ours] })] }, want: undefined },
  ],
  'the topology of the volume allows it': [
    { volume: { topology: { ...topology, poolLabels: { disk: 'fast' } } }, want: elsewhere },
    {
      volume: { topology: { ...topology, poolLabels: { disk: 'fast' } } },
      pool: { labels: { disk: 'fast' } },
      want: undefined,
    },
    { volume: { topology: { ...topology, poolLabels: { disk: '' } } }, want: elsewhere },
    {
      volume: { topology: { ...topology, poolLabels: { disk: '' } } },
      pool: { labels: { disk: 'slow' } },
      want: undefined,
    },
    { volume: { topology: { ...topology, allowedNodes: ['node-1', 'node-2'] } }, want: elsewhere },
    { volume: { topology: { ...topology, allowedNodes: ['node-3'] } }, want: undefined },
    { volume: { topology: { ...topology, nodeInclusion: { rack: 'r1' } } }, want: elsewhere },
    {
      volume: { topology: { ...topology, nodeExclusion: { rack: 'r1' } } },
      view: { nodes: [node('node-3', { labels: { rack: 'r1' } })] },
      want: elsewhere,
    },
  ],
  'it is encrypted as the volume is': [
    { volume: { encrypted: true }, pool: { encrypted: false }, want: encryption },
    { volume: { encrypted: false }, pool: { encrypted: true }, want: encryption },
    { volume: { encrypted: true }, pool: { encrypted: true }, want: undefined },
    { volume: { encrypted: true }, want: undefined },
    { pool: { encrypted: true }, want: undefined },
  ],
  'it has the cluster size of the volume': [
    {
      volume: { clusterSize: 4 },
      pool: { clusterSize: 8 },
      want: 'ClusterSize: pool nvme-3 has another cluster size than the volume',
    },
    { volume: { clusterSize: 4 }, pool: { clusterSize: 4 }, want: undefined },
    { volume: { clusterSize: 4 }, want: undefined },
  ],
  'it has room for the volume beside its reserve': [
    { pool: { usedBytes: 100 * GIB - NEEDED }, want: undefined },
    { pool: { usedBytes: 100 * GIB - NEEDED + 1 }, want: full },
    { pool: { usedBytes: 100 * GIB - NEEDED - 1 }, promisedBytes: 2, want: full },
    { pool: { committedBytes: 240 * GIB - 1 }, want: undefined },
    { pool: { committedBytes: 240 * GIB }, want: full },
  ],
}

const spoken = (refusal: { reason: string; message: string } | undefined) =>
  refusal && `${refusal.reason}: ${refusal.message}`

t.test('every named check has a case that it refuses, and no case lacks its check', async (t) => {
  for (const [checks, cases] of [
    [VOLUME_CHECKS, volumeCases],
    [POOL_CHECKS, poolCases],
  ] as const) {
    t.strictSame(
      Object.keys(cases),
      checks.map(({ name }) => name),
    )
    for (const [name, all] of Object.entries(cases))
      t.ok(
        all.some(({ want }) => want !== undefined),
        name,
      )
  }
})

for (const { name, refuses } of VOLUME_CHECKS) {
  t.test(`volume: ${name}`, async (t) => {
    t.equal(refuses(volume(), view()), undefined, 'passes by itself')
    for (const c of volumeCases[name] ?? []) {
      const now = view({ ...c.view, ...(c.volume === undefined ? {} : { volume: c.volume }) })
      t.equal(spoken(refuses(now.volume ?? volume(), now)), c.want)
      if (c.want !== undefined) t.ok(volumeRefusals(now).map(spoken).includes(c.want), 'and so does the list')
    }
  })
}

for (const { name, refuses } of POOL_CHECKS) {
  t.test(`pool: ${name}`, async (t) => {
    for (const c of [{ want: undefined }, ...(poolCases[name] ?? [])] as readonly PoolCase[]) {
      const [to, from] = [pool('nvme-3', c.pool), volume(c.volume)]
      const now = view({ ...c.view, pools: [to] })
      const { promisedBytes = 0 } = c
      t.equal(spoken(refuses({ volume: from, pool: to, node: now.nodes.get(to.node), promisedBytes })), c.want)
      t.equal(spoken(poolRefusal(from, to, now, promisedBytes)), c.want, 'and nothing else refuses it')
    }
  })
}

t.test('a volume that is gone, and a pool that is', async (t) => {
  t.strictSame(volumeRefusals(view({ volume: 'gone' })).map(spoken), ['VolumeGone: Mayastor knows no such volume'])
  t.equal(spoken(poolRefusal(volume(), undefined, view(), 0)), 'NoFittingPool: Mayastor knows no such pool')
})

t.test('of a pool with several faults the first of the list is told', async (t) => {
  const bad = pool('nvme-3', { status: 'Faulted', draining: true, usedBytes: 100 * GIB })
  t.equal(spoken(poolRefusal(volume(), bad, view(), 0)), 'NoFittingPool: pool nvme-3 is Faulted')
})

t.test('of a volume with several faults all are told, in the order of the list', async (t) => {
  const now = view({ volume: { published: false, snapshots: 1, selfHeal: false } })
  t.strictSame(
    volumeRefusals(now).map(({ reason }) => reason),
    ['Unpublished', 'SelfHealOff', 'Snapshots'],
  )
})
