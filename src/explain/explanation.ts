import { goesOn } from '../api/commands.js'
import type { JsonObject, KubernetesObject } from '../api/kubernetes.js'
import type { Tier } from '../api/names.js'
import type { DecisionReason } from '../api/reasons.js'
import type {
  Migration,
  MigrationStatus,
  ObservedReplica,
  ReplicaTopologySpec,
  ReplicaTopologyStatus,
} from '../api/replica-topology.js'
import type { Condition, Reason } from '../api/shared.js'

/** Why a volume is where it is, from its ReplicaTopology alone: what the operator wrote there, put into an order. */

/** The fields are those of `explain -o json`. */
export interface Explanation {
  /** Name of the persistent volume and of its ReplicaTopology. */
  readonly volume: string
  readonly volumeID: string
  readonly claim?: { readonly namespace: string; readonly name: string }
  readonly policy: string
  readonly where: {
    readonly tier: ReplicaTopologyStatus['tier']
    /** State of the volume in Mayastor; absent: not observed yet. */
    readonly state?: string
    readonly replicas: readonly ObservedReplica[]
  }
  readonly belongs: {
    /** Absent: where it is. */
    readonly tier?: Tier
    readonly reason: string
    readonly message: string
  }
  /** Everything that keeps it from moving now. */
  readonly holds: readonly Reason[]
  /** The running or last migration. */
  readonly migration?: MigrationStatus
  readonly next: {
    readonly what: string
    /** A time (RFC 3339) before which it does not happen, or words. */
    readonly when: string
  }
  /** What does not look right, one sentence each. */
  readonly warnings: readonly string[]
}

/** How a policy as a whole is doing. */
export interface PolicyState {
  readonly name: string
  readonly phase: string
  readonly ready: boolean
  /** Why it is not. */
  readonly reason?: string
  readonly message?: string
  /** Why nothing new of it starts until a person has looked, and how to resume it. */
  readonly stalled?: string
}

const ENDED: ReadonlySet<string> = new Set(['Completed', 'Aborted', 'Failed'])
/** A policy is decided anew this often at the least. */
const AGAIN = 'looked at again within 5 minutes'
const NOT_BEFORE = /not before (\d{4}-\d\d-\d\dT[\d:.]+Z)/

/** What a volume waits for that is not being moved. `{policy}` stands for the name of its policy. */
const NEXT: Readonly<Record<Exclude<DecisionReason, 'Migrating' | 'Held'>, string>> = {
  NotObserved: 'is read from Mayastor, then decided on',
  VolumeMissing: 'is forgotten when its persistent volume stays away for a minute',
  VolumeGone: 'stays as it is until its persistent volume is deleted or Mayastor knows it again',
  Unpublished: 'is decided on when a pod uses it',
  YoungerThanWindow: 'is decided on when it is older than the sampling window',
  NoSeries: "stays until Prometheus has series of it; see Mayastor's metrics exporter and who scrapes it",
  OneCounterMissing: 'stays until Prometheus has both counters of it',
  TooFewSamples: 'stays until its series cover the sampling window',
  StaleSample: 'stays until Prometheus has fresh samples of it',
  NotANumber: 'stays until Prometheus has numbers of it; see the queries of policy {policy}',
  PrometheusUnavailable: 'stays until Prometheus answers',
  PartialAnswer: 'stays until Prometheus answers without a warning',
  BetweenWatermarks: 'stays until its IOPS leave the band between the watermarks',
  OnWantedTier: 'stays until its IOPS ask for the other tier',
  OutsideTiers: 'stays: replicas outside both tiers are never moved',
  Preserved: 'keeps the extra replica until preservation mode ends or its IOPS ask for the other tier',
  Disabled: 'moves when policy {policy} is enabled',
  DryRun: 'moves when policy {policy} or the operator is no longer in dry run',
  MetricsIncomplete: 'moves when IOPS of enough volumes are known',
  BreakerOpen: 'moves when a person has looked and resumed policy {policy}; see its condition Stalled',
  PoolsUnavailable: 'moves when the DiskPools can be seen; see whether Mayastor is installed',
  HeldByOwner: 'moves when the label storage.billyronks.io/hold is taken off its claim',
  Cooldown: 'moves when its cooldown is over, if its IOPS still ask for it',
  BackOff: 'is tried again after a while',
  ClusterDegraded: 'moves when every node is online and no volume is short of replicas',
  VolumeNotHealthy: 'moves when it is Online with all its replicas synced',
  OperationRunning: 'moves when Mayastor is done with what it does to it',
  SelfHealOff: 'moves when self-healing is on for it',
  Snapshots: 'moves when its snapshots are deleted',
  AffinityGroup: 'stays: volumes of an affinity group are not moved',
  NodeCordoned: 'moves when its nodes are online and neither cordoned nor draining',
  MixedVersions: 'moves when all io-engines run the same version',
  MayastorTooOld: 'moves when Mayastor is upgraded to 2.10 or later',
  Encryption: 'moves when a pool of that tier matches its encryption',
  ClusterSize: 'moves when a pool of that tier matches its cluster size',
  PoolDrain: 'moves when Mayastor has drained the pool',
  SingleReplicaHold: 'moves when it has more replicas, or policy {policy} moves single ones',
  VolumeTopology: 'moves when a pool of that tier satisfies the topology it was created with',
  NoFittingPool: 'moves when a pool of that tier has room for it',
  NoFreeTargetNode: 'moves when another node has a fitting pool of that tier',
  ZonesWouldShrink: 'moves when a pool of that tier in another zone has room for it',
  WaitingForSlot: 'moves when one of the running migrations ends',
}

/** `topology` is a ReplicaTopology as the API server has it. */
export function explain(topology: KubernetesObject): Explanation {
  const { name = '', deletionTimestamp } = topology.metadata ?? {}
  // Written by the operator and checked by the API server.
  const spec = topology.spec as unknown as ReplicaTopologySpec
  const status = topology.status as unknown as Partial<ReplicaTopologyStatus> | undefined
  const { decision, claimRef } = spec
  const { holds = [], ...belongs } = decision
  const state = status?.volume?.state
  return {
    volume: name,
    volumeID: spec.volumeID,
    ...(claimRef === undefined ? {} : { claim: { namespace: claimRef.namespace, name: claimRef.name } }),
    policy: spec.policy,
    where: { tier: status?.tier ?? 'Unknown', ...(state && { state }), replicas: status?.replicas ?? [] },
    belongs,
    holds,
    ...(status?.migration === undefined ? {} : { migration: status.migration }),
    next: next(name, spec, status, deletionTimestamp !== undefined),
    warnings: (status?.conditions ?? []).filter(isWrong).map(({ message }) => message),
  }
}

/** A StoragePolicy as the API server has it. */
export function policyState(policy: KubernetesObject): PolicyState {
  const status = (policy.status ?? {}) as { phase?: string; conditions?: readonly Condition[] }
  const name = policy.metadata?.name ?? ''
  const [ready, stalled] = ['Ready', 'Stalled'].map((wanted) => status.conditions?.find(({ type }) => type === wanted))
  if (ready === undefined) {
    const message = 'nothing has been decided yet: is Metacontroller running, and does it reach the operator?'
    return { name, phase: status.phase ?? 'Pending', ready: false, reason: 'NoStatus', message }
  }
  const { reason, message } = ready
  const why = stalled?.status === 'True' ? { stalled: stalled.message } : {}
  const state = { name, phase: status.phase ?? 'Pending', ready: ready.status === 'True', ...why }
  return state.ready ? state : { ...state, reason, message }
}

/** The storage class a policy manages. */
export const classOf = ({ spec }: KubernetesObject): string =>
  String((spec as JsonObject | undefined)?.['storageClassName'] ?? 'mayastor')

function next(
  name: string,
  { decision, policy, migration: wanted }: ReplicaTopologySpec,
  status: Partial<ReplicaTopologyStatus> | undefined,
  deleting: boolean,
): Explanation['next'] {
  if (deleting) {
    return { what: 'is let go once what runs is finished or undone', when: 'at the next step' }
  }
  const last = status?.migration
  if (last !== undefined && !ENDED.has(last.phase)) return running(name, last, wanted)
  if (wanted !== undefined && wanted.id !== last?.id) {
    return { what: `migration ${wanted.id} begins: its preconditions are checked, then it needs a slot`, when: SOON }
  }
  if (status?.volume === undefined) return { what: NEXT.NotObserved, when: 'within seconds' }
  const what = NEXT[decision.reason as keyof typeof NEXT] ?? 'moves when what holds it is over'
  const when = [decision, ...(decision.holds ?? [])].map(({ message }) => NOT_BEFORE.exec(message)?.[1]).find(Boolean)
  return { what: what.replaceAll('{policy}', policy), when: when ?? AGAIN }
}

const SOON = 'with the next step, within a minute'

/** What comes after the phase a migration is in. */
function running(
  name: string,
  { id, phase, message, current, replicasMoved, replicasTotal, holdId }: MigrationStatus,
  wanted: Migration | undefined,
): Explanation['next'] {
  const { targetPool = 'its target', sourcePool = 'its source', rebuildPercent } = current ?? {}
  const more = replicasTotal - replicasMoved - 1
  const then = more > 0 ? `, then ${more} more` : ''
  const withdrawn = wanted?.id === id ? '' : 'withdrawn; '
  switch (phase) {
    case 'Analyzing':
      return { what: `${withdrawn}${message}`, when: SOON }
    case 'ScalingUp':
      return { what: `${withdrawn}a replica is added on ${targetPool}: ${message}`, when: SOON }
    case 'WaitingSync': {
      const done = rebuildPercent === undefined ? '' : ` (${rebuildPercent} %)`
      const what = `the replica on ${targetPool} is rebuilt${done}, then the one on ${sourcePool} goes${then}`
      return { what: `${withdrawn}${what}`, when: 'when the rebuild is done' }
    }
    case 'ScalingDown':
      return { what: `${withdrawn}${message}${then}`, when: SOON }
    case 'Held': {
      const when = holdId === undefined ? 'when that is over' : 'when a person has looked and released it'
      return { what: `${withdrawn}${message}; ${goesOn(name, holdId)}`, when }
    }
    default:
      return { what: message, when: SOON }
  }
}

/** Conditions of a ReplicaTopology that say something is not as it should be; what is Held has its own words. */
const isWrong = ({ type, status }: Condition): boolean =>
  type !== 'Held' && (type === 'Observed' ? status !== 'True' : status === 'True')
