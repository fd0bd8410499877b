import { resumeCommand } from '../api/commands.js'
import type { JsonObject, KubernetesObject } from '../api/kubernetes.js'
import type { HookResponse } from '../api/metacontroller.js'
import { API_VERSION } from '../api/names.js'
import type { ReplicaTopologySpec, ReplicaTopologyStatus } from '../api/replica-topology.js'
import type { StoragePolicyStatus } from '../api/storage-policy.js'
import { formatTime, parseTime } from '../api/time.js'
import type { Trip } from '../plan/breaker.js'
import { spread } from '../spread.js'
import { conditions, type NewCondition } from './conditions.js'
import { type Decision, type Decisions, everyChild, holdsSlot } from './decide.js'
import { tierOf } from './demand.js'
import { history, openBefore } from './history.js'
import type { Child, World } from './observe.js'
import type { Policy } from './policy.js'

/** Longest decision message the schema takes. */
const MESSAGE_LIMIT = 1024
/** A child whose persistent volume is missing stays this long before it goes: one request may be stale. */
const MISSING_GRACE_MS = 60_000

/** Seconds until the next sync: soon while children are to appear or to go, or something runs, waits or is unknown. */
const RESYNC = { changing: 20, busy: 60, rest: 240 } as const

/** The answer to a sync: status from what was observed, children from scratch with only our fields. */
export function render(
  parent: KubernetesObject,
  world: World,
  { decisions, metrics, trip }: Decisions,
  now: number,
  policy: Policy,
): HookResponse {
  const children = decisions.map((decision) => child(decision.volume.name, topologySpec(decision, world, policy)))
  const kept = world.missing.map((missing) => keepMissing(missing, now)).filter((spec) => spec !== undefined)
  children.push(...kept, ...world.unreadable.map((unreadable) => child(unreadable.name, copySpec(unreadable))))
  const all = everyChild(world)
  const appearing = decisions.filter(({ volume }) => volume.child === undefined).length
  const problems = [
    ...world.problems,
    ...(kept.length > 0 ? [`persistent volumes not seen lately: ${kept.length}`] : []),
  ]
  const wanted: NewCondition[] = [
    ready(world, policy),
    {
      type: 'MetricsAvailable',
      ...metricsSentence(decisions, metrics),
    },
  ]
  if (problems.length > 0) {
    wanted.push({ type: 'Degraded', status: 'True', reason: 'UnreadableObjects', message: problems.join('; ') })
  }
  if (trip !== undefined) {
    const how = `look at it, then resume: ${resumeCommand(policy.name, trip.trip)}`
    wanted.push({ type: 'Stalled', status: 'True', reason: trip.reason, message: `${trip.message}; ${how}` })
  }
  if (appearing > 0) {
    const message = 'some ReplicaTopologies are not there yet; where this lasts, another object holds the name'
    wanted.push({ type: 'Progressing', status: 'True', reason: 'ChildrenMissing', message })
  }
  const active = all.filter(holdsSlot).length
  const volumes = decisions.map(({ volume, reason }) => ({
    tier: tierOf(volume.child?.status?.replicas ?? [], world.pools),
    reason,
  }))
  const passing = decisions.some(({ holds, reason }) => holds.length > 0 || reason === 'YoungerThanWindow')
  const busy = active > 0 || passing || metrics.unknown > 0 || kept.length > 0 || world.pools === undefined
  return {
    status: policyStatus(parent, policyPhase(policy, all), volumes, all, wanted, now, trip),
    children,
    resyncAfterSeconds: spread(appearing > 0 ? RESYNC.changing : busy ? RESYNC.busy : RESYNC.rest, policy.uid),
  }
}

/** The answer where a policy cannot be acted on: every child stays as it was observed, and the reason is in status. */
export function renderRefusal(
  parent: KubernetesObject,
  children: readonly Child[],
  condition: NewCondition,
  now: number,
): HookResponse {
  return {
    status: policyStatus(parent, 'Error', asObserved(children), children, [condition], now, openBefore(parent.status)),
    children: children.map((observed) => child(observed.name, copySpec(observed))),
    resyncAfterSeconds: spread(RESYNC.rest, parent.metadata?.uid ?? ''),
  }
}

/** The answer where another policy owns the volumes, and while a policy is being finalized: no children. */
export function renderNothing(
  parent: KubernetesObject,
  phase: StoragePolicyStatus['phase'],
  children: readonly Child[],
  condition: NewCondition,
  now: number,
): HookResponse {
  const seconds = children.length > 0 ? RESYNC.changing : RESYNC.rest
  return {
    status: policyStatus(parent, phase, asObserved(children), children, [condition], now, openBefore(parent.status)),
    children: [],
    resyncAfterSeconds: spread(seconds, parent.metadata?.uid ?? ''),
  }
}

function asObserved(children: readonly Child[]): Parameters<typeof policyStatus>[2] {
  return children.map(({ spec, status }) => ({ tier: status?.tier ?? 'Unknown', reason: spec.decision.reason }))
}

function policyStatus(
  parent: KubernetesObject,
  phase: StoragePolicyStatus['phase'],
  volumes: readonly { readonly tier: ReplicaTopologyStatus['tier']; readonly reason: string }[],
  children: readonly Child[],
  wanted: readonly NewCondition[],
  now: number,
  trip: Trip | undefined,
): JsonObject {
  const tiers = { NVMe: 0, SATA: 0, Mixed: 0, Unknown: 0 }
  const reasons = new Map<string, number>()
  for (const { tier, reason } of volumes) {
    tiers[tier]++
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
  }
  const totals = { succeeded: 0, failed: 0, aborted: 0 }
  for (const { status } of children) {
    totals.succeeded += status?.totals?.succeeded ?? 0
    totals.failed += status?.totals?.failed ?? 0
    totals.aborted += status?.totals?.aborted ?? 0
  }
  const status: StoragePolicyStatus = {
    phase,
    volumes: {
      total: volumes.length,
      nvme: tiers.NVMe,
      sata: tiers.SATA,
      mixed: tiers.Mixed,
      other: tiers.Unknown,
    },
    reasons: [...reasons]
      .map(([reason, volumes]) => ({ reason, volumes }))
      .sort((a, b) => (a.reason < b.reason ? -1 : 1)),
    migrations: { active: children.filter(holdsSlot).length, ...totals },
    history: history(parent.status, children),
    ...(trip === undefined ? {} : { breaker: { ...trip } }),
    conditions: conditions(wanted, parent.status, now),
  }
  return status as unknown as JsonObject
}

function ready(world: World, policy: Policy): NewCondition {
  if (world.pools === undefined) {
    const message = 'no DiskPools in the request: is OpenEBS Mayastor installed? Looked for again within 20 minutes'
    return { type: 'Ready', status: 'False', reason: 'PoolsUnavailable', message }
  }
  const tiers = new Set([...world.pools.values()].map((pool) => pool.tier))
  for (const [tier, field] of [
    ['NVMe', 'nvmePoolSelector'],
    ['SATA', 'sataPoolSelector'],
  ] as const) {
    if (!tiers.has(tier)) {
      const message = `spec.${field} matches no DiskPool`
      return { type: 'Ready', status: 'False', reason: 'NoPools', message }
    }
  }
  const message = `managing the volumes of storage class ${policy.spec.storageClassName}`
  return { type: 'Ready', status: 'True', reason: 'Deciding', message }
}

function policyPhase(policy: Policy, children: readonly Child[]): StoragePolicyStatus['phase'] {
  if (!policy.spec.enabled) return 'Disabled'
  return children.some((observed) => observed.status?.volume !== undefined) ? 'Active' : 'Pending'
}

function metricsSentence(
  decisions: readonly Decision[],
  { expected, unknown, incomplete }: Decisions['metrics'],
): Omit<NewCondition, 'type'> {
  if (incomplete !== undefined) return { status: 'False', reason: unknownReason(decisions), message: incomplete }
  if (expected === 0) {
    const message = 'no volume should have series: none is published and older than the sampling window'
    return { status: 'Unknown', reason: 'NothingToMeasure', message }
  }
  if (unknown === 0) {
    const message = 'IOPS are known of every published volume that is older than the sampling window'
    return { status: 'True', reason: 'AllKnown', message }
  }
  return {
    status: 'True',
    reason: unknownReason(decisions),
    message: 'IOPS of some published volumes are unknown; those stay where they are',
  }
}

/** The commonest reason among the volumes whose IOPS are unknown; ties by name. */
function unknownReason(decisions: readonly Decision[]): string {
  const counts = new Map<string, number>()
  for (const { unknownIops } of decisions) {
    if (unknownIops !== undefined) counts.set(unknownIops, (counts.get(unknownIops) ?? 0) + 1)
  }
  const [commonest] = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
  return commonest?.[0] ?? 'Unknown'
}

function topologySpec(decision: Decision, world: World, policy: Policy): ReplicaTopologySpec {
  const { volume, tier, reason, message, holds, migration } = decision
  const used = new Set((volume.child?.status?.replicas ?? []).flatMap(({ pool }) => pool ?? []))
  for (const move of migration?.replicas ?? []) used.add(move.targetPool)
  const pools = [...used].sort().flatMap((pool) => {
    const known = world.pools?.get(pool)?.tier
    return known === undefined ? [] : [{ pool, tier: known }]
  })
  return {
    volumeID: volume.volumeID,
    policy: policy.name,
    ...(volume.claim === undefined ? {} : { claimRef: volume.claim }),
    decision: {
      ...(tier === undefined ? {} : { tier }),
      reason,
      message: message.slice(0, MESSAGE_LIMIT),
      ...(holds.length === 0 ? {} : { holds: holds.map(({ reason, message }) => ({ reason, message })) }),
    },
    // Without a view of the pools what was known of them stays.
    pools: world.pools === undefined ? (volume.child?.spec.pools ?? []) : pools,
    ...(migration === undefined ? {} : { migration }),
  }
}

function keepMissing(missing: Child, now: number): JsonObject | undefined {
  if (missing.status?.volume?.state === 'Gone') return undefined
  const since = missing.spec.missingSince
  const sinceMs = since === undefined ? undefined : parseTime(since)
  if (sinceMs !== undefined && now - sinceMs >= MISSING_GRACE_MS) return undefined
  return child(missing.name, {
    ...copySpec(missing),
    decision: { reason: 'VolumeMissing', message: 'its persistent volume was not in the last request' },
    missingSince: sinceMs === undefined || since === undefined ? formatTime(now) : since,
  })
}

/** The fields of a spec that are ours, as observed, but for a migration that has ended and a past absence. */
function copySpec({ spec, running }: Child): ReplicaTopologySpec {
  const { volumeID, policy, claimRef, decision, pools } = spec
  return {
    volumeID,
    policy,
    ...(claimRef === undefined ? {} : { claimRef }),
    decision,
    pools,
    ...(running === undefined ? {} : { migration: running }),
  }
}

function child(name: string, spec: ReplicaTopologySpec): JsonObject {
  return { apiVersion: API_VERSION, kind: 'ReplicaTopology', metadata: { name }, spec: spec as unknown as JsonObject }
}
