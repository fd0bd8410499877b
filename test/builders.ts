import type { Json, JsonObject, KubernetesObject, ObjectMeta } from '../src/api/kubernetes.js'
import {
  API_VERSION,
  DEFAULT_DISKPOOL_API_VERSION,
  HOLD_LABEL,
  MAYASTOR_CSI_DRIVER,
  POLICY_KEY,
  PV_KEY,
  PVC_KEY,
  TOPOLOGY_KEY,
} from '../src/api/names.js'
import type {
  Migration,
  MigrationStatus,
  ObservedReplica,
  ObservedVolume,
  ReplicaTopologySpec,
  ReplicaTopologyStatus,
} from '../src/api/replica-topology.js'
import { formatTime } from '../src/api/time.js'
import type { PrometheusClient, QueryAnswer } from '../src/clients/prometheus.js'
import type { PolicySummary } from '../src/decide/hook.js'
import type { Signal } from '../src/decide/iops.js'
import type { PolicyOptions } from '../src/decide/policy.js'

/** Objects as Metacontroller sends them. Each builder has defaults in which all is well; a test gives what differs. */

/** What a policy hook's answer says of itself when there is nothing to say. */
export const NO_SUMMARY: PolicySummary = {
  policy: 'gold',
  volumesByTier: {},
  reasons: {},
  iops: { known: 0, unknown: {} },
  breakerOpen: false,
  changes: [],
}

export const NOW_MS = 1_800_000_000_000
export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const GIB = 2 ** 30
export const POOL_KEY = `DiskPool.${DEFAULT_DISKPOOL_API_VERSION}`

/** RFC 3339, `ms` before NOW_MS. */
export const ago = (ms: number): string => formatTime(NOW_MS - ms)

export const OPTIONS: PolicyOptions = {
  dryRun: false,
  preservationMode: false,
  maxConcurrentMigrations: 5,
  migrationTimeoutMinutes: 30,
}

type Objects = Record<string, KubernetesObject>
interface Meta extends ObjectMeta {
  readonly [key: string]: unknown
}

/** An object with the metadata nobody asked for but every real one has. */
function object(apiVersion: string, kind: string, name: string, meta: Meta, rest: object): KubernetesObject {
  const noise = {
    manager: 'kubectl',
    operation: 'Update',
    apiVersion,
    time: ago(HOUR),
    fieldsType: 'FieldsV1',
    fieldsV1: { 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } }, 'f:spec': {} },
  }
  const metadata = {
    name,
    uid: `uid-${kind}-${name}`,
    generation: 1,
    resourceVersion: '4711',
    creationTimestamp: ago(1000 * HOUR),
    managedFields: [noise],
    ...meta,
  }
  // As it comes off the wire: nothing undefined, nothing shared.
  return JSON.parse(JSON.stringify({ apiVersion, kind, metadata, ...rest }))
}

export const NVME = { matchLabels: { tier: 'nvme' } }
export const SATA = { matchLabels: { tier: 'sata' } }

export interface PolicySetup {
  readonly name?: string
  readonly meta?: Meta
  readonly spec?: JsonObject
  readonly status?: JsonObject
}

export function policy({ name = 'tiering', meta = {}, spec, status }: PolicySetup = {}): KubernetesObject {
  const finalizers = ['metacontroller.io/compositecontroller-storage-policy']
  return object(
    API_VERSION,
    'StoragePolicy',
    name,
    { finalizers, ...meta },
    {
      spec: { nvmePoolSelector: NVME, sataPoolSelector: SATA, ...spec },
      ...(status === undefined ? {} : { status }),
    },
  )
}

export interface PoolSetup {
  /** Default: `n` and what follows the dash of the name; `nvme-1` is on `n1`. */
  readonly node?: string
  readonly labels?: Readonly<Record<string, string>>
  /** spec.topology.labelled; default: the tier, what precedes the dash of the name. */
  readonly labelled?: Readonly<Record<string, string>>
  readonly zone?: string
  /** In GiB. */
  readonly capacity?: number
  readonly used?: number
  readonly status?: JsonObject
}

export function pool(name: string, setup: PoolSetup = {}): KubernetesObject {
  const [tier = '', number = ''] = name.split('-')
  const { node = `n${number}`, labels = {}, labelled = { tier }, zone, capacity = 1000, used = 200, status } = setup
  const zoned = zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }
  return object(
    DEFAULT_DISKPOOL_API_VERSION,
    'DiskPool',
    name,
    { namespace: 'openebs', labels },
    {
      spec: { node, disks: [`/dev/disk/by-id/${name}`], topology: { labelled: { ...labelled, ...zoned } } },
      status: {
        cr_state: 'Created',
        pool_status: 'Online',
        capacity: capacity * GIB,
        used: used * GIB,
        available: (capacity - used) * GIB,
        encrypted: false,
        ...status,
      },
    },
  )
}

/** Three nodes with a pool of each tier. */
export const POOLS: readonly KubernetesObject[] = ['nvme-1', 'nvme-2', 'nvme-3', 'sata-1', 'sata-2', 'sata-3'].map(
  (name) => pool(name),
)

export function replica(volume: string, poolName: string, extra: Partial<ObservedReplica> = {}): ObservedReplica {
  const [, number = ''] = poolName.split('-')
  return {
    replica: `${volume}@${poolName}`,
    pool: poolName,
    node: `n${number}`,
    state: 'Online',
    synced: true,
    ...extra,
  }
}

export interface VolumeSetup {
  readonly id: string
  /** Pools of its replicas, or the replicas. */
  readonly replicas?: readonly (string | ObservedReplica)[]
  readonly pv?: { readonly meta?: Meta; readonly spec?: JsonObject } | null
  /** null: no child yet. */
  readonly child?: ChildSetup | null
  /** What Prometheus says; absent: no series. */
  readonly iops?: number | Partial<Record<Signal, number>>
}

export interface ChildSetup {
  readonly meta?: Meta
  readonly spec?: Partial<ReplicaTopologySpec>
  /** null: never observed. */
  readonly status?: Partial<ReplicaTopologyStatus> | null
  readonly volume?: Partial<ObservedVolume>
}

export const pvName = (id: string): string => `pvc-${id}`

export function persistentVolume({ id, pv }: Pick<VolumeSetup, 'id' | 'pv'>): KubernetesObject {
  const csi = {
    driver: MAYASTOR_CSI_DRIVER,
    volumeHandle: id,
    fsType: 'ext4',
    volumeAttributes: { protocol: 'nvmf', repl: '2', 'storage.kubernetes.io/csiProvisionerIdentity': '1-1-io' },
  }
  return object('v1', 'PersistentVolume', pvName(id), pv?.meta ?? {}, {
    spec: {
      storageClassName: 'mayastor',
      capacity: { storage: '10Gi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Delete',
      claimRef: { kind: 'PersistentVolumeClaim', namespace: 'apps', name: `claim-${id}`, uid: `uid-claim-${id}` },
      csi,
      ...pv?.spec,
    },
    status: { phase: 'Bound' },
  })
}

export function claim(namespace: string, name: string, hold: string): KubernetesObject {
  return object('v1', 'PersistentVolumeClaim', name, { namespace, labels: { [HOLD_LABEL]: hold } }, { spec: {} })
}

export const observedVolume = (extra: Partial<ObservedVolume> = {}): ObservedVolume => ({
  state: 'Online',
  published: true,
  targetNode: 'n1',
  numReplicas: 2,
  sizeBytes: 10 * GIB,
  thin: false,
  allocatedPercent: 100,
  snapshots: 0,
  selfHeal: true,
  ...extra,
})

/** A ReplicaTopology: spec of an earlier decision, status of an earlier observation, and what Metacontroller adds. */
export function topology({ id, replicas = ['sata-1', 'sata-2'], child }: VolumeSetup): KubernetesObject {
  const observed = replicas.map((entry) => (typeof entry === 'string' ? replica(id, entry) : entry))
  const spec: ReplicaTopologySpec = {
    volumeID: id,
    policy: 'tiering',
    claimRef: { namespace: 'apps', name: `claim-${id}`, uid: `uid-claim-${id}` },
    decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    pools: [],
    ...child?.spec,
  }
  const status: ReplicaTopologyStatus = {
    observedGeneration: 1,
    tier: 'Unknown',
    volume: observedVolume({ numReplicas: observed.length, ...child?.volume }),
    replicas: observed,
    refusals: [],
    totals: { succeeded: 0, failed: 0, aborted: 0 },
    conditions: [],
    ...child?.status,
  }
  return object(
    API_VERSION,
    'ReplicaTopology',
    pvName(id),
    {
      labels: { 'controller-uid': 'uid-StoragePolicy-tiering' },
      annotations: { 'metacontroller.k8s.io/last-applied-configuration': JSON.stringify({ spec }) },
      finalizers: ['metacontroller.io/compositecontroller-replica-topology'],
      ownerReferences: [
        {
          apiVersion: API_VERSION,
          kind: 'StoragePolicy',
          name: 'tiering',
          uid: 'uid-StoragePolicy-tiering',
          controller: true,
        },
      ],
      ...child?.meta,
    },
    child?.status === null ? { spec } : { spec, status },
  )
}

export const migration = (volume: string, extra: Partial<Migration> = {}): Migration => ({
  id: `${volume}-1`,
  direction: 'Promote',
  replicas: [{ replica: `${volume}@sata-1`, sourcePool: 'sata-1', targetPool: 'nvme-3' }],
  candidatePools: ['nvme-1', 'nvme-2', 'nvme-3'],
  timeout: '30m',
  cooldown: '24h',
  maxConcurrentMigrations: 2,
  ...extra,
})

export const migrationStatus = (volume: string, extra: Partial<MigrationStatus> = {}): MigrationStatus => ({
  id: `${volume}-1`,
  direction: 'Promote',
  phase: 'WaitingSync',
  reason: 'Rebuilding',
  message: 'the added replica is being rebuilt',
  started: true,
  replicasMoved: 0,
  replicasTotal: 1,
  current: { replica: `${volume}@sata-1`, sourcePool: 'sata-1', targetPool: 'nvme-3' },
  startedAt: ago(30 * HOUR),
  attempts: 1,
  ...extra,
})

/** A migration that ended `ms` ago. */
export const ended = (volume: string, ms: number, extra: Partial<MigrationStatus> = {}): MigrationStatus =>
  migrationStatus(volume, { phase: 'Completed', reason: 'AllReplicasMoved', endedAt: ago(ms), ...extra })

export interface RequestSetup {
  readonly policy?: PolicySetup
  readonly volumes?: readonly VolumeSetup[]
  /** null: the request has no DiskPools. */
  readonly pools?: readonly KubernetesObject[] | null
  readonly claims?: readonly KubernetesObject[]
  readonly otherPolicies?: readonly KubernetesObject[]
  readonly finalizing?: boolean
}

const byKey = (objects: readonly KubernetesObject[]): Objects =>
  Object.fromEntries(
    objects.map((entry) => {
      const { namespace, name = '' } = entry.metadata ?? {}
      return [namespace === undefined ? name : `${namespace}/${name}`, entry]
    }),
  )

/** A storage-policy sync or finalize request in Metacontroller's v2 form. */
export function policyRequest(setup: RequestSetup = {}) {
  const { volumes = [], pools = POOLS, claims = [], otherPolicies = [], finalizing = false } = setup
  const parent = policy(setup.policy)
  return {
    controller: { kind: 'CompositeController', metadata: { name: 'storage-policy' } } as JsonObject,
    parent,
    children: { [TOPOLOGY_KEY]: byKey(volumes.filter((volume) => volume.child !== null).map(topology)) },
    related: {
      [PV_KEY]: byKey(volumes.filter((volume) => volume.pv !== null).map(persistentVolume)),
      [PVC_KEY]: byKey(claims),
      [POLICY_KEY]: byKey([parent, ...otherPolicies]),
      ...(pools === null ? {} : { [POOL_KEY]: byKey(pools) }),
    } as Record<string, Objects>,
    finalizing,
  }
}

export interface FakePrometheus extends PrometheusClient {
  /** How often it was asked. */
  readonly asked: () => number
}

/** Answers from `iops` by pv_name; a number is a healthy volume's total. `failures` answer for a signal, or for all. */
export function fakePrometheus(
  iops: Readonly<Record<string, number | Partial<Record<Signal, number>>>>,
  failures: Readonly<Partial<Record<Signal | 'all', QueryAnswer>>> = {},
): FakePrometheus {
  let asked = 0
  const signalsOf = (entry: number | Partial<Record<Signal, number>>, atMs: number): Partial<Record<Signal, number>> =>
    typeof entry !== 'number'
      ? entry
      : {
          readRate: entry,
          writeRate: 0,
          readSamples: 60,
          writeSamples: 60,
          readLast: atMs / 1000,
          writeLast: atMs / 1000,
          readCoverage: 1,
          writeCoverage: 1,
        }
  return {
    asked: () => asked,
    async signals(queries, atMs) {
      asked++
      return new Map(
        queries.map(({ signal }): [typeof signal, QueryAnswer] => {
          const failure = failures[signal as Signal] ?? failures.all
          if (failure !== undefined) return [signal, failure]
          const values = Object.entries(iops).flatMap(([name, entry]): [string, number][] => {
            const value = signalsOf(entry, atMs)[signal as Signal]
            return value === undefined ? [] : [[name, value]]
          })
          return [signal, { kind: 'ok', values: new Map(values), ambiguous: new Set(), unlabelled: 0 }]
        }),
      )
    },
  }
}

/** The same JSON with the keys of every object in another order. */
export function reversedKeys<T>(value: T): T {
  if (Array.isArray(value)) return value.map(reversedKeys) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value as Record<string, Json>)
      .reverse()
      .map(([key, entry]) => [key, reversedKeys(entry)]),
  ) as T
}
