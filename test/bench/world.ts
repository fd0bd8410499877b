import type { JsonObject, KubernetesObject } from '../../src/api/kubernetes.js'
import {
  API_VERSION,
  DEFAULT_DISKPOOL_API_VERSION,
  HOLD_LABEL,
  MAYASTOR_CSI_DRIVER,
  POLICY_KEY,
  PV_KEY,
  PVC_KEY,
  TOPOLOGY_KEY,
} from '../../src/api/names.js'
import type { Migration, MigrationStatus, ObservedReplica } from '../../src/api/replica-topology.js'
import { formatTime } from '../../src/api/time.js'
import { SIGNALS, type Signal } from '../../src/decide/iops.js'

/** A cluster of `count` volumes as Metacontroller, Mayastor and Prometheus tell of it: the same for the same count. */

export const GIB = 2 ** 30
const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const POLICY = 'tiering'
const POLICY_UID = '5f0c1f5e-6a3b-4a57-9f3c-3d5f3a0d9b11'
const REPLICAS = 2
const VOLUMES_PER_NODE = 100
const ZONES = 3
/** Migrations that run; the policy's limit leaves one slot free. */
const RUNNING = 4

export interface BenchPool {
  readonly name: string
  readonly node: string
  readonly zone: string
  readonly tier: 'nvme' | 'sata'
  readonly capacityBytes: number
}

export interface BenchVolume {
  readonly id: string
  readonly index: number
  readonly sizeBytes: number
  readonly pools: readonly BenchPool[]
  readonly readIops: number
  readonly writeIops: number
  readonly running: boolean
}

export interface World {
  readonly nodes: readonly { readonly name: string; readonly zone: string }[]
  readonly pools: readonly BenchPool[]
  readonly volumes: readonly BenchVolume[]
}

export function world(count: number): World {
  const nodes = Array.from({ length: Math.max(6, Math.ceil(count / VOLUMES_PER_NODE)) }, (_, i) => ({
    name: `worker-${i}.storage.example.internal`,
    zone: `zone-${i % ZONES}`,
  }))
  const pools = nodes.flatMap(({ name: node, zone }, i): BenchPool[] => [
    { name: `nvme-worker-${i}`, node, zone, tier: 'nvme', capacityBytes: 16_384 * GIB },
    { name: `sata-worker-${i}`, node, zone, tier: 'sata', capacityBytes: 65_536 * GIB },
  ])
  const volumes = Array.from({ length: count }, (_, i): BenchVolume => {
    const tier = i % 3 === 0 ? 'nvme' : 'sata'
    const first = i % nodes.length
    const pair = Array.from({ length: REPLICAS }, (_, r) => pools[2 * ((first + r) % nodes.length)] as BenchPool)
    const own = tier === 'nvme' ? pair : pair.map((pool) => pools[pools.indexOf(pool) + 1] as BenchPool)
    const total = iops(i)
    return {
      id: uuid(1, i),
      index: i,
      sizeBytes: (10 + (i % 90)) * GIB,
      pools: own,
      readIops: total * 0.7,
      writeIops: total * 0.3,
      // Cold volumes on NVMe that go down.
      running: i % 30 === 3 && i < 30 * RUNNING,
    }
  })
  return { nodes, pools, volumes }
}

/** A tenth above the high watermark, three tenths below the low one, the others between; on either tier. */
function iops(i: number): number {
  const jitter = (i * 7919) % 400
  const kind = i % 10
  return kind === 7 ? 6_000 + jitter : kind < 4 ? 20 + jitter : 1_000 + jitter
}

const uuid = (kind: number, i: number): string =>
  `${(0x9e37_79b1 * (i + 1) + kind).toString(16).padStart(8, '0').slice(-8)}-${(i % 65_521).toString(16).padStart(4, '0')}-4${kind
    .toString(16)
    .padStart(3, '0')}-8${(i % 4_093).toString(16).padStart(3, '0')}-${i.toString(16).padStart(12, '0')}`

export const pvName = (id: string): string => `pvc-${id}`
export const replicaId = ({ index }: BenchVolume, r: number): string => uuid(2 + r, index)

/** The sync request, v2; `nowMs` is when it is going to be sent. */
export function syncRequest({ pools, volumes }: World, nowMs: number): JsonObject {
  const ago = (ms: number) => formatTime(nowMs - ms)
  const byName = (objects: readonly KubernetesObject[]) =>
    Object.fromEntries(
      objects.map((one) => {
        const { namespace, name = '' } = one.metadata ?? {}
        return [namespace === undefined ? name : `${namespace}/${name}`, one]
      }),
    )
  const policy = storagePolicy(ago)
  return {
    controller: compositeController(ago),
    parent: policy,
    children: { [TOPOLOGY_KEY]: byName(volumes.map((volume) => topology(volume, ago))) },
    related: {
      [PV_KEY]: byName(volumes.map((volume) => persistentVolume(volume, ago))),
      [PVC_KEY]: byName(volumes.filter(({ index }) => index % 5 === 1).map((volume) => claim(volume, ago))),
      [POLICY_KEY]: byName([policy]),
      [`DiskPool.${DEFAULT_DISKPOOL_API_VERSION}`]: byName(pools.map((pool) => diskPool(pool, ago))),
    },
    finalizing: false,
  } as unknown as JsonObject
}

/** The sync request of one volume's ReplicaTopology. */
export function topologyRequest(volume: BenchVolume, nowMs: number): JsonObject {
  const ago = (ms: number) => formatTime(nowMs - ms)
  const parent = topology(volume, ago)
  return {
    controller: compositeController(ago),
    parent,
    children: {},
    related: {},
    finalizing: false,
  } as unknown as JsonObject
}

export function customizeRequest(nowMs: number): JsonObject {
  const ago = (ms: number) => formatTime(nowMs - ms)
  return { controller: compositeController(ago), parent: storagePolicy(ago) } as unknown as JsonObject
}

/** The bytes Prometheus answers each query with: two labels' worth of series, as its own aggregations leave them. */
export function prometheusAnswers({ volumes }: World, nowMs: number): Record<Signal, Buffer> {
  const at = nowMs / 1000
  const value = (signal: Signal, { readIops, writeIops }: BenchVolume): number => {
    switch (signal) {
      case 'readRate':
        return readIops
      case 'writeRate':
        return writeIops
      case 'readSamples':
      case 'writeSamples':
        return 120
      case 'readLast':
      case 'writeLast':
        return at - 15
      case 'readCoverage':
      case 'writeCoverage':
        return 1
    }
  }
  const answer = (signal: Signal) => {
    // One in two hundred has no series at all.
    const seen = volumes.filter(({ index }) => index % 200 !== 11)
    const result = seen.map((volume) => ({
      metric: { pv_name: pvName(volume.id) },
      value: [at, String(value(signal, volume))],
    }))
    return Buffer.from(JSON.stringify({ status: 'success', data: { resultType: 'vector', result } }))
  }
  return Object.fromEntries(SIGNALS.map((signal) => [signal, answer(signal)])) as Record<Signal, Buffer>
}

type Ago = (ms: number) => string

function storagePolicy(ago: Ago): KubernetesObject {
  return {
    apiVersion: API_VERSION,
    kind: 'StoragePolicy',
    metadata: {
      name: POLICY,
      uid: POLICY_UID,
      generation: 3,
      resourceVersion: '8123911',
      creationTimestamp: ago(90 * DAY_MS),
      finalizers: ['metacontroller.io/compositecontroller-storage-policy'],
      managedFields: [
        managed('kubectl-client-side-apply', API_VERSION, ago(9 * DAY_MS), {
          'f:spec': fields('cooldownPeriod', 'highWatermarkIOPS', 'lowWatermarkIOPS', 'samplingWindow'),
        }),
      ],
    },
    spec: {
      highWatermarkIOPS: 5000,
      lowWatermarkIOPS: 500,
      samplingWindow: '1h',
      cooldownPeriod: '24h',
      storageClassName: 'mayastor',
      maxConcurrentMigrations: RUNNING + 1,
      nvmePoolSelector: { matchLabels: { tier: 'nvme' } },
      sataPoolSelector: { matchLabels: { tier: 'sata' } },
    },
    status: { observedGeneration: 3, phase: 'Active', conditions: [] },
  } as unknown as KubernetesObject
}

function compositeController(ago: Ago): KubernetesObject {
  const hook = (name: string) => ({ version: 'v2', webhook: { url: `http://hooks/${name}`, timeout: '60s' } })
  return {
    apiVersion: 'metacontroller.k8s.io/v1alpha1',
    kind: 'CompositeController',
    metadata: { name: 'storage-policy', uid: uuid(9, 1), generation: 1, creationTimestamp: ago(90 * DAY_MS) },
    spec: {
      generateSelector: true,
      parentResource: { apiVersion: API_VERSION, resource: 'storagepolicies' },
      hooks: { sync: hook('sync'), customize: hook('customize'), finalize: hook('finalize') },
    },
  } as unknown as KubernetesObject
}

function diskPool({ name, node, zone, tier, capacityBytes }: BenchPool, ago: Ago): KubernetesObject {
  return {
    apiVersion: DEFAULT_DISKPOOL_API_VERSION,
    kind: 'DiskPool',
    metadata: {
      name,
      namespace: 'openebs',
      uid: uuid(8, name.length + capacityBytes / GIB),
      generation: 1,
      resourceVersion: '7011223',
      creationTimestamp: ago(90 * DAY_MS),
      finalizers: ['openebs.io/diskpool-protection'],
      managedFields: [
        managed('kubectl-create', DEFAULT_DISKPOOL_API_VERSION, ago(90 * DAY_MS), {
          'f:spec': { '.': {}, ...fields('disks', 'node', 'topology') },
        }),
        managed('openebs-diskpool-operator', DEFAULT_DISKPOOL_API_VERSION, ago(MINUTE_MS), {
          'f:status': { '.': {}, ...fields('available', 'capacity', 'cr_state', 'pool_status', 'used', 'encrypted') },
        }),
      ],
    },
    spec: {
      node,
      disks: [`aio:///dev/disk/by-id/${name}`],
      topology: { labelled: { tier, 'topology.kubernetes.io/zone': zone } },
    },
    status: {
      cr_state: 'Created',
      pool_status: 'Online',
      capacity: capacityBytes,
      used: capacityBytes / 4,
      available: (3 * capacityBytes) / 4,
      encrypted: false,
      max_growable_size: 4 * capacityBytes,
      disk_capacity: capacityBytes,
    },
  } as unknown as KubernetesObject
}

const namespaceOf = ({ index }: BenchVolume) => `team-${index % 40}`
const claimName = ({ index }: BenchVolume) => `data-postgres-${Math.floor(index / 40)}-0`

function persistentVolume(volume: BenchVolume, ago: Ago): KubernetesObject {
  const { id, index, sizeBytes, pools } = volume
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: pvName(id),
      uid: uuid(4, index),
      resourceVersion: String(1_000_000 + index),
      creationTimestamp: ago(30 * DAY_MS + index * 1000),
      annotations: {
        'pv.kubernetes.io/provisioned-by': MAYASTOR_CSI_DRIVER,
        'volume.kubernetes.io/provisioner-deletion-secret-name': '',
        'volume.kubernetes.io/provisioner-deletion-secret-namespace': '',
      },
      finalizers: ['external-provisioner.volume.kubernetes.io/finalizer', 'kubernetes.io/pv-protection'],
      managedFields: [
        managed('csi-provisioner', 'v1', ago(30 * DAY_MS), {
          'f:metadata': {
            'f:annotations': {
              '.': {},
              ...fields(
                'pv.kubernetes.io/provisioned-by',
                'volume.kubernetes.io/provisioner-deletion-secret-name',
                'volume.kubernetes.io/provisioner-deletion-secret-namespace',
              ),
            },
          },
          'f:spec': {
            'f:accessModes': {},
            'f:capacity': { '.': {}, 'f:storage': {} },
            'f:claimRef': { '.': {}, ...fields('apiVersion', 'kind', 'name', 'namespace', 'resourceVersion', 'uid') },
            'f:csi': {
              '.': {},
              'f:driver': {},
              'f:fsType': {},
              'f:volumeAttributes': {
                '.': {},
                ...fields('protocol', 'repl', 'storage.kubernetes.io/csiProvisionerIdentity', 'thin'),
              },
              'f:volumeHandle': {},
            },
            'f:nodeAffinity': { '.': {}, 'f:required': {} },
            ...fields('persistentVolumeReclaimPolicy', 'storageClassName', 'volumeMode'),
          },
        }),
        { ...managed('kube-controller-manager', 'v1', ago(30 * DAY_MS), { 'f:status': fields('phase') }), subresource },
      ],
    },
    spec: {
      capacity: { storage: `${sizeBytes / GIB}Gi` },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Delete',
      storageClassName: 'mayastor',
      volumeMode: 'Filesystem',
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace: namespaceOf(volume),
        name: claimName(volume),
        uid: uuid(5, index),
        resourceVersion: String(900_000 + index),
      },
      csi: {
        driver: MAYASTOR_CSI_DRIVER,
        fsType: 'xfs',
        volumeHandle: id,
        volumeAttributes: {
          protocol: 'nvmf',
          repl: String(pools.length),
          thin: 'true',
          'storage.kubernetes.io/csiProvisionerIdentity': '1717171717171-8081-io.openebs.csi-mayastor',
        },
      },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'openebs.io/engine', operator: 'In', values: ['mayastor'] }] },
          ],
        },
      },
    },
    status: { phase: 'Bound', lastPhaseTransitionTime: ago(30 * DAY_MS) },
  } as unknown as KubernetesObject
}

const subresource = 'status'

function claim(volume: BenchVolume, ago: Ago): KubernetesObject {
  const { id, index, sizeBytes } = volume
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: claimName(volume),
      namespace: namespaceOf(volume),
      uid: uuid(5, index),
      resourceVersion: String(900_000 + index),
      creationTimestamp: ago(30 * DAY_MS),
      labels: { app: 'postgres', [HOLD_LABEL]: index % 2 === 1 ? 'true' : 'false' },
      annotations: {
        'pv.kubernetes.io/bind-completed': 'yes',
        'volume.kubernetes.io/storage-provisioner': MAYASTOR_CSI_DRIVER,
      },
      finalizers: ['kubernetes.io/pvc-protection'],
      managedFields: [
        managed('kube-controller-manager', 'v1', ago(30 * DAY_MS), {
          'f:metadata': { 'f:annotations': { '.': {}, ...fields('pv.kubernetes.io/bind-completed') } },
          'f:spec': { ...fields('accessModes', 'resources', 'storageClassName', 'volumeMode', 'volumeName') },
        }),
      ],
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: `${sizeBytes / GIB}Gi` } },
      storageClassName: 'mayastor',
      volumeMode: 'Filesystem',
      volumeName: pvName(id),
    },
    status: { phase: 'Bound', accessModes: ['ReadWriteOnce'], capacity: { storage: `${sizeBytes / GIB}Gi` } },
  } as unknown as KubernetesObject
}

/** As stepping has left it; the observed decision is an earlier one, so that every volume is a change to be logged. */
function topology(volume: BenchVolume, ago: Ago): KubernetesObject {
  const { id, index, pools, sizeBytes, running } = volume
  const [first] = pools
  const replicas = pools
    .map(
      ({ name: pool, node, zone }, r): ObservedReplica => ({
        replica: replicaId(volume, r),
        pool,
        node,
        zone,
        state: 'Online',
        synced: true,
      }),
    )
    .sort((a, b) => (a.replica < b.replica ? -1 : 1))
  const [source] = replicas
  const migration: Migration | undefined = running
    ? {
        id: `${id}-2`,
        direction: 'Demote',
        replicas: [{ replica: source?.replica ?? '', sourcePool: source?.pool ?? '', targetPool: 'sata-worker-5' }],
        candidatePools: ['sata-worker-5'],
        timeout: '30m',
        cooldown: '24h',
        maxConcurrentMigrations: RUNNING + 1,
      }
    : undefined
  const spec = {
    volumeID: id,
    policy: POLICY,
    claimRef: { namespace: namespaceOf(volume), name: claimName(volume), uid: uuid(5, volume.index) },
    decision: { reason: 'NotObserved', message: 'not observed in Mayastor yet' },
    pools: pools.map(({ name: pool, tier }) => ({ pool, tier: tier === 'nvme' ? 'NVMe' : 'SATA' })),
    ...(migration === undefined ? {} : { migration }),
  }
  return {
    apiVersion: API_VERSION,
    kind: 'ReplicaTopology',
    metadata: {
      name: pvName(id),
      uid: uuid(6, index),
      generation: 4,
      resourceVersion: String(2_000_000 + index),
      creationTimestamp: ago(29 * DAY_MS),
      labels: { 'controller-uid': POLICY_UID },
      annotations: {
        'metacontroller.k8s.io/last-applied-configuration': JSON.stringify({
          apiVersion: API_VERSION,
          kind: 'ReplicaTopology',
          metadata: { labels: { 'controller-uid': POLICY_UID }, name: pvName(id) },
          spec,
        }),
      },
      finalizers: ['metacontroller.io/compositecontroller-replica-topology'],
      ownerReferences: [
        {
          apiVersion: API_VERSION,
          blockOwnerDeletion: true,
          controller: true,
          kind: 'StoragePolicy',
          name: POLICY,
          uid: POLICY_UID,
        },
      ],
      managedFields: [
        managed('metacontroller', API_VERSION, ago(2 * DAY_MS), {
          'f:metadata': {
            'f:annotations': { '.': {}, ...fields('metacontroller.k8s.io/last-applied-configuration') },
            'f:finalizers': { '.': {}, 'v:"metacontroller.io/compositecontroller-replica-topology"': {} },
            'f:labels': { '.': {}, 'f:controller-uid': {} },
            'f:ownerReferences': { '.': {}, [`k:{"uid":"${POLICY_UID}"}`]: {} },
          },
          'f:spec': {
            '.': {},
            'f:claimRef': { '.': {}, ...fields('name', 'namespace', 'uid') },
            'f:decision': { '.': {}, ...fields('message', 'reason') },
            ...fields('policy', 'pools', 'volumeID'),
          },
        }),
        {
          ...managed('metacontroller', API_VERSION, ago(MINUTE_MS), {
            'f:status': {
              '.': {},
              'f:totals': { '.': {}, ...fields('aborted', 'failed', 'succeeded') },
              'f:volume': {
                '.': {},
                ...fields('allocatedPercent', 'encrypted', 'numReplicas', 'poolLabels', 'published', 'selfHeal'),
                ...fields('sizeBytes', 'snapshots', 'state', 'targetNode', 'thin'),
              },
              ...fields('conditions', 'migration', 'observedGeneration', 'refusals', 'replicas', 'tier'),
            },
          }),
          subresource,
        },
      ],
    },
    spec,
    status: {
      observedGeneration: 4,
      tier: first?.tier === 'nvme' ? 'NVMe' : 'SATA',
      volume: {
        state: 'Online',
        published: index % 50 !== 17,
        targetNode: first?.node,
        numReplicas: pools.length,
        sizeBytes,
        thin: true,
        allocatedPercent: 50,
        snapshots: index % 25 === 3 ? 2 : 0,
        selfHeal: true,
        encrypted: false,
        poolLabels: { 'openebs.io/created-by': 'operator-diskpool' },
      },
      replicas,
      refusals: index % 25 === 3 ? [{ reason: 'Snapshots', message: 'the volume has snapshots' }] : [],
      ...lastMigration(volume, migration, ago),
      totals: { succeeded: index % 4 === 0 ? 1 : 0, failed: 0, aborted: 0 },
      conditions: [
        {
          type: 'Observed',
          status: 'True',
          reason: 'Observed',
          message: 'read from Mayastor',
          lastTransitionTime: ago(29 * DAY_MS),
        },
      ],
    },
  } as unknown as KubernetesObject
}

/** A quarter of the volumes has migrated: half of those within their cooldown. */
function lastMigration({ id, index, running, pools }: BenchVolume, migration: Migration | undefined, ago: Ago) {
  if (!running && index % 4 !== 0) return {}
  const startedMs = running ? 5 * MINUTE_MS : ((index % 8) / 4 + 0.5) * DAY_MS
  const current = migration?.replicas[0] ?? {
    replica: uuid(7, index),
    sourcePool: 'nvme-worker-3',
    targetPool: pools[0]?.name ?? '',
  }
  const status: MigrationStatus = {
    id: running ? `${id}-2` : `${id}-1`,
    direction: 'Demote',
    phase: running ? 'WaitingSync' : 'Completed',
    reason: running ? 'Rebuilding' : 'AllReplicasMoved',
    message: running ? 'the added replica is being rebuilt' : 'every replica is where it belongs',
    started: true,
    replicasMoved: running ? 0 : 1,
    replicasTotal: 1,
    current,
    startedAt: ago(startedMs),
    ...(running ? {} : { endedAt: ago(startedMs - 10 * MINUTE_MS) }),
    attempts: 0,
  }
  return { migration: status }
}

const fields = (...names: readonly string[]) => Object.fromEntries(names.map((name) => [`f:${name}`, {}]))

function managed(manager: string, apiVersion: string, time: string, fieldsV1: object): JsonObject {
  return { apiVersion, fieldsType: 'FieldsV1', fieldsV1: fieldsV1 as JsonObject, manager, operation: 'Update', time }
}
