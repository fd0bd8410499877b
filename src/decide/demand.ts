import type { Direction, Tier } from '../api/names.js'
import type { DecisionReason } from '../api/reasons.js'
import type { ObservedReplica, ObservedVolume } from '../api/replica-topology.js'
import type { Iops } from './iops.js'
import type { Pool, Volume, World } from './observe.js'
import type { Policy } from './policy.js'

/** What the measured IOPS ask for, before anything that may hold a volume back. */
export type Demand =
  | { readonly kind: 'none'; readonly reason: DecisionReason; readonly message: string; readonly tier?: Tier }
  | {
      readonly kind: 'move'
      readonly tier: Tier
      readonly direction: Direction
      /** Replicas on a pool of the other tier, by uuid. */
      readonly replicas: readonly ObservedReplica[]
      /** The volume as stepping observed it. */
      readonly observed: ObservedVolume
      /** Higher goes first: the IOPS for a promotion, below zero for a demotion. */
      readonly urgency: number
      readonly message: string
    }

/**
 * Strictly above the high watermark: NVMe. Strictly below the low one: SATA. Otherwise a volume stays, except that
 * one left on two tiers by a migration that was undone still wants the tier it was moving to. Unknown is not zero.
 */
export function demand(volume: Volume, iops: Iops, now: number, policy: Policy, pools: World['pools']): Demand {
  const status = volume.child?.status
  const observed = status?.volume
  if (status === undefined || observed === undefined) {
    return { kind: 'none', reason: 'NotObserved', message: 'not observed in Mayastor yet' }
  }
  if (volume.child?.deleting) {
    return {
      kind: 'none',
      reason: 'NotObserved',
      message: 'its ReplicaTopology is being deleted and will be made anew',
    }
  }
  const unknown = unknownIops(volume, observed, iops, now, policy)
  if (unknown !== undefined) return unknown
  const { spec } = policy
  const total = iops.kind === 'known' ? iops.iops : Number.NaN
  const over = `over ${spec.samplingWindow}`
  if (total > spec.highWatermarkIOPS) {
    return towards('NVMe', total, `IOPS above ${spec.highWatermarkIOPS} ${over}`, status.replicas, observed, pools)
  }
  if (total < spec.lowWatermarkIOPS) {
    return towards('SATA', -total, `IOPS below ${spec.lowWatermarkIOPS} ${over}`, status.replicas, observed, pools)
  }
  const between = `IOPS between ${spec.lowWatermarkIOPS} and ${spec.highWatermarkIOPS} ${over}`
  const last = volume.child?.last
  if (tierOf(status.replicas, pools) === 'Mixed' && last?.started && last.phase !== 'Completed') {
    const tier = last.direction === 'Promote' ? 'NVMe' : 'SATA'
    const urgency = tier === 'NVMe' ? total : -total
    return towards(tier, urgency, `left on two tiers by migration ${last.id}`, status.replicas, observed, pools)
  }
  return { kind: 'none', reason: 'BetweenWatermarks', message: between }
}

/** Whether Prometheus ought to have series for the volume: published, and older than the sampling window. */
export function shouldHaveSeries(volume: Volume, now: number, policy: Policy): boolean {
  return volume.child?.status?.volume?.published === true && !isYoung(volume, now, policy)
}

/** The tier that replicas amount to. Unknown: none observed, or one outside both tiers. */
export function tierOf(
  replicas: readonly { readonly pool?: string }[],
  pools: ReadonlyMap<string, { readonly tier?: Pool['tier'] }> | undefined,
): Tier | 'Mixed' | 'Unknown' {
  const tiers = new Set(replicas.map(({ pool }) => (pool === undefined ? undefined : pools?.get(pool)?.tier)))
  const [first] = tiers
  if (first === undefined || tiers.has(undefined)) return 'Unknown'
  return tiers.size === 1 ? first : 'Mixed'
}

function unknownIops(
  volume: Volume,
  observed: ObservedVolume,
  iops: Iops,
  now: number,
  policy: Policy,
): Demand | undefined {
  if (observed.state === 'Gone') {
    return { kind: 'none', reason: 'VolumeGone', message: `Mayastor knows no volume ${volume.volumeID}` }
  }
  if (!observed.published) {
    return { kind: 'none', reason: 'Unpublished', message: 'not published, so there is no I/O to measure' }
  }
  if (isYoung(volume, now, policy)) {
    const message = `younger than the sampling window of ${policy.spec.samplingWindow}`
    return { kind: 'none', reason: 'YoungerThanWindow', message }
  }
  return iops.kind === 'unknown' ? { kind: 'none', reason: iops.reason, message: iops.message } : undefined
}

function isYoung(volume: Volume, now: number, policy: Policy): boolean {
  return volume.createdAt === undefined || now - volume.createdAt < policy.windowMs
}

function towards(
  tier: Tier,
  urgency: number,
  message: string,
  replicas: readonly ObservedReplica[],
  observed: ObservedVolume,
  pools: World['pools'],
): Demand {
  const other = tier === 'NVMe' ? 'SATA' : 'NVMe'
  const wrong = replicas.filter(({ pool }) => pool !== undefined && pools?.get(pool)?.tier === other)
  if (wrong.length > 0 || pools === undefined) {
    const direction = tier === 'NVMe' ? 'Promote' : 'Demote'
    return { kind: 'move', tier, direction, replicas: wrong, observed, urgency, message }
  }
  if (tierOf(replicas, pools) === tier) {
    return { kind: 'none', tier, reason: 'OnWantedTier', message: `${message}; every replica is on ${tier}` }
  }
  return {
    kind: 'none',
    tier,
    reason: 'OutsideTiers',
    message: `${message}; what is not on ${tier} is outside both tiers`,
  }
}
