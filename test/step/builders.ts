import type { MayastorNode, MayastorPool, MayastorReplica, MayastorVolume } from '../../src/api/mayastor.js'
import type { Migration } from '../../src/api/replica-topology.js'
import type { Journal } from '../../src/step/journal.js'
import type { View } from '../../src/step/preconditions.js'
import type { Situation } from '../../src/step/step.js'

/** A volume with two replicas on SATA, four nodes with a pool of each tier, and a wish to move both to NVMe. */

export const NOW = Date.UTC(2026, 0, 1)
export const VOLUME = '11111111-1111-4111-8111-111111111111'
export const ID = `${VOLUME}-1`
const GIB = 1024 ** 3

export function replica(uuid: string, pool: string, changes: Partial<MayastorReplica> = {}): MayastorReplica {
  return {
    uuid,
    pool,
    node: `node-${pool.slice(-1)}`,
    state: 'Online',
    childState: 'Online',
    childReason: undefined,
    rebuildPercent: undefined,
    allocatedBytes: 5 * GIB,
    synced: true,
    ...changes,
  }
}

export const rebuilding = (uuid: string, pool: string, rebuildPercent = 40): MayastorReplica =>
  replica(uuid, pool, { childState: 'Degraded', rebuildPercent, synced: false })

export function volume(changes: Partial<MayastorVolume> = {}): MayastorVolume {
  const replicas = changes.replicas ?? [replica('a', 'sata-1'), replica('b', 'sata-2')]
  return {
    uuid: VOLUME,
    sizeBytes: 10 * GIB,
    numReplicas: replicas.length,
    lifecycle: 'Created',
    operation: undefined,
    published: true,
    selfHeal: true,
    thin: true,
    snapshots: 0,
    affinityGroup: undefined,
    encrypted: undefined,
    clusterSize: undefined,
    topology: { poolLabels: {}, allowedNodes: undefined, nodeInclusion: {}, nodeExclusion: {} },
    state: replicas.every((entry) => entry.synced) ? 'Online' : 'Degraded',
    target: { node: 'node-1', nexus: 'nexus-1', state: 'Online', children: replicas.length },
    ...changes,
    replicas,
  }
}

export function pool(id: string, changes: Partial<MayastorPool> = {}): MayastorPool {
  return {
    id,
    node: `node-${id.slice(-1)}`,
    status: 'Online',
    capacityBytes: 100 * GIB,
    usedBytes: 20 * GIB,
    committedBytes: 20 * GIB,
    labels: {},
    cordon: { replicas: false, snapshots: false, restores: false, import: false },
    draining: false,
    encrypted: undefined,
    clusterSize: undefined,
    ...changes,
  }
}

export const cordoned = (id: string): MayastorPool =>
  pool(id, { cordon: { replicas: true, snapshots: false, restores: false, import: false } })

export function node(id: string, changes: Partial<MayastorNode> = {}): MayastorNode {
  return { id, online: true, version: '2.10.0', labels: {}, cordonLabels: [], drainLabels: [], ...changes }
}

export interface ViewChanges {
  /** `gone`: Mayastor knows no such volume. */
  readonly volume?: Partial<MayastorVolume> | 'gone'
  readonly pools?: readonly MayastorPool[]
  readonly nodes?: readonly MayastorNode[]
  readonly poolCordon?: boolean
}

export function view(changes: ViewChanges = {}): View {
  const pools = [1, 2, 3, 4].flatMap((index) => [pool(`sata-${index}`), pool(`nvme-${index}`)])
  const nodes = [1, 2, 3, 4].map((index) => node(`node-${index}`))
  return {
    volume: changes.volume === 'gone' ? undefined : volume(changes.volume),
    pools: new Map([...pools, ...(changes.pools ?? [])].map((entry) => [entry.id, entry])),
    nodes: new Map([...nodes, ...(changes.nodes ?? [])].map((entry) => [entry.id, entry])),
    capabilities: { poolCordon: changes.poolCordon ?? true },
  }
}

export const migration: Migration = {
  id: ID,
  direction: 'Promote',
  replicas: [
    { replica: 'a', sourcePool: 'sata-1', targetPool: 'nvme-3' },
    { replica: 'b', sourcePool: 'sata-2', targetPool: 'nvme-4' },
  ],
  candidatePools: ['nvme-1', 'nvme-2', 'nvme-3', 'nvme-4'],
  timeout: '30m',
  cooldown: '24h',
  maxConcurrentMigrations: 2,
}

export function journal(changes: Partial<Journal> = {}): Journal {
  return {
    volume: VOLUME,
    topology: `pvc-${VOLUME}`,
    policy: 'default',
    id: ID,
    direction: 'Promote',
    phase: 'ScalingUp',
    count: 2,
    snapshots: 0,
    baseline: [
      { replica: 'a', pool: 'sata-1', node: 'node-1' },
      { replica: 'b', pool: 'sata-2', node: 'node-2' },
    ],
    move: {
      replica: 'a',
      sourcePool: 'sata-1',
      targetPool: 'nvme-3',
      sourceNode: 'node-1',
      targetNode: 'node-3',
      startedAt: NOW,
    },
    queue: [{ replica: 'b', sourcePool: 'sata-2', targetPool: 'nvme-4' }],
    candidatePools: migration.candidatePools,
    replicasMoved: 0,
    replicasTotal: 2,
    timeoutMs: 30 * 60_000,
    cooldownMs: 24 * 3_600_000,
    promisedBytes: 9 * GIB,
    startedAt: NOW,
    progress: { percent: 0, at: NOW },
    attempts: 1,
    totals: { succeeded: 0, failed: 0, aborted: 0 },
    ...changes,
  }
}

export function situation(changes: Partial<Situation> = {}): Situation {
  return {
    now: NOW,
    volumeID: VOLUME,
    migration,
    known: false,
    cancel: undefined,
    finalizing: false,
    bracketOnly: false,
    topology: `pvc-${VOLUME}`,
    policy: 'default',
    preservationMode: false,
    dryRun: false,
    journal: undefined,
    fence: {},
    callAgeMs: 0,
    readingAgeMs: 0,
    release: undefined,
    view: view(),
    journals: [],
    unreadable: [],
    volumes: [],
    clusterLimit: 2,
    totals: { succeeded: 0, failed: 0, aborted: 0 },
    ...changes,
  }
}
