import type { Tier } from '../api/names.js'
import type { DecisionReason } from '../api/reasons.js'
import type { Migration } from '../api/replica-topology.js'
import type { Reason } from '../api/shared.js'
import { breaker, type Trip } from '../plan/breaker.js'
import { nextMigrationId } from '../plan/migration-id.js'
import { type Demand, demand, shouldHaveSeries } from './demand.js'
import { avoidedPool, holds } from './gates.js'
import { ends, openBefore } from './history.js'
import type { Iops } from './iops.js'
import type { Child, Volume, World } from './observe.js'
import { type Placement, place, promise, survey } from './placement.js'
import type { Policy, PolicyOptions } from './policy.js'

/** Where one volume belongs, why it is where it is, and the migration it has or gets. */
export interface Decision {
  readonly volume: Volume
  readonly tier?: Tier
  readonly reason: DecisionReason
  readonly message: string
  readonly holds: readonly Reason[]
  readonly migration?: Migration
  /** Why the IOPS of a volume that should have series are unknown. */
  readonly unknownIops?: DecisionReason
}

export interface Decisions {
  /** In the order of the world's volumes. */
  readonly decisions: readonly Decision[]
  readonly metrics: MetricsState
  /** Why nothing new starts until a person has looked. */
  readonly trip: Trip | undefined
}

/** How much of the IOPS is known. */
export interface MetricsState {
  readonly expected: number
  readonly unknown: number
  /** One sentence when nothing new may start because of it. */
  readonly incomplete: string | undefined
}

type MoveDemand = Extract<Demand, { kind: 'move' }>

/** A volume that wants to move, and what holds it back already. */
interface Wanting {
  readonly volume: Volume
  readonly want: MoveDemand
  readonly reasons: readonly Reason[]
}

/**
 * Decides for every volume of a policy: running migrations are repeated word for word, then demand, gates, placement
 * and the policy's limit say which new ones start. `iopsOf` answers by pv_name, `now` is in milliseconds.
 */
export function decide(
  world: World,
  iopsOf: (pvName: string) => Iops,
  now: number,
  policy: Policy,
  options: PolicyOptions,
): Decisions {
  const wants = new Map<Volume, Demand>()
  const unknown = new Map<Volume, DecisionReason>()
  let expected = 0
  for (const volume of world.volumes) {
    const iops = iopsOf(`pvc-${volume.volumeID}`)
    wants.set(volume, demand(volume, iops, now, policy, world.pools))
    if (!shouldHaveSeries(volume, now, policy)) continue
    expected++
    if (iops.kind === 'unknown') unknown.set(volume, iops.reason)
  }
  const metrics = metricsState(expected, unknown.size, policy)
  const { resumed } = policy
  const trip = openBefore(world.before, resumed) ?? breaker(ends(world.before, everyChild(world)), resumed)
  const stopped = !policy.spec.enabled || policy.spec.dryRun || options.dryRun
  const settled = new Map<Volume, Decision>()
  const wanting: Wanting[] = []
  for (const volume of world.volumes) {
    const want = wants.get(volume) as Demand
    const running = stopped ? undefined : volume.child?.running
    if (running !== undefined) {
      settled.set(volume, whileRunning(volume, running))
    } else if (want.kind === 'none') {
      settled.set(volume, { volume, holds: [], ...want })
    } else {
      const common = { policy, options, pools: world.pools, metricsIncomplete: metrics.incomplete, trip, now }
      const input = { volume, want, ...common }
      wanting.push({ volume, want, reasons: holds(input) })
    }
  }
  for (const decision of assign(wanting, world, now, policy, options)) settled.set(decision.volume, decision)
  const decisions = world.volumes.map((volume): Decision => {
    const decision = settled.get(volume) as Decision
    const unknownIops = unknown.get(volume)
    return unknownIops === undefined ? decision : { ...decision, unknownIops }
  })
  return { decisions, metrics, trip }
}

/** Every child of the policy, whatever is known of its volume. */
export function everyChild(world: World): readonly Child[] {
  return [...world.volumes.flatMap(({ child }) => child ?? []), ...world.missing, ...world.unreadable]
}

/** Whether the child's migration holds one of the policy's slots. One that is Held holds none. */
export function holdsSlot({ running, underWay, status }: Child): boolean {
  return (running ?? underWay) !== undefined && status?.migration?.phase !== 'Held'
}

/** Gives the free slots to the volumes that want to move: hottest promotion first, then coldest demotion, then name. */
function* assign(
  wanting: readonly Wanting[],
  world: World,
  now: number,
  policy: Policy,
  options: PolicyOptions,
): Generator<Decision> {
  const children = everyChild(world)
  const own = children.filter(holdsSlot).length
  const { maxConcurrentMigrations: limit } = policy.spec
  // The cluster's limit binds when a migration is admitted; what is known of the others only spares the attempt.
  let slots = Math.min(limit, options.maxConcurrentMigrations - world.activeElsewhere) - own
  const ground = world.pools === undefined ? undefined : survey(world.pools, world, children)
  const placementOf = ({ volume, want }: Wanting): Placement | undefined =>
    ground === undefined ? undefined : place(volume, want, ground, avoidedPool(volume.child, now))
  const ranked = [...wanting].sort(
    (a, b) => b.want.urgency - a.want.urgency || (a.volume.name < b.volume.name ? -1 : 1),
  )
  const waiting = new Set(ranked)
  for (const candidate of ranked) {
    if (slots <= 0) break
    const { volume, want, reasons } = candidate
    const placement = reasons.length === 0 ? placementOf(candidate) : undefined
    if (ground === undefined || placement?.kind !== 'moves') continue
    slots--
    promise(ground, placement.moves, want.observed)
    waiting.delete(candidate)
    yield whileRunning(volume, newMigration(volume, want, placement, policy))
  }
  // What holds the others is said only now, beside everything that was promised: asked again, it is the same.
  for (const candidate of waiting) {
    const placement = placementOf(candidate)
    const hold = placement?.kind === 'none' ? [placement.hold] : []
    const [first = { reason: 'WaitingForSlot', message: 'as many migrations as allowed are running' }, ...more] = [
      ...candidate.reasons,
      ...hold,
    ]
    yield held(candidate, first, more)
  }
}

function newMigration(
  volume: Volume,
  { direction }: MoveDemand,
  { moves, candidates }: Extract<Placement, { kind: 'moves' }>,
  { spec, migrationTimeout, resumed }: Policy,
): Migration {
  return {
    id: nextMigrationId(volume.volumeID, volume.child?.status?.migration?.id),
    direction,
    replicas: [...moves],
    candidatePools: [...candidates],
    timeout: migrationTimeout,
    ...(spec.migrationHardTimeout === undefined ? {} : { hardTimeout: spec.migrationHardTimeout }),
    cooldown: spec.cooldownPeriod,
    maxConcurrentMigrations: spec.maxConcurrentMigrations,
    ...(resumed === undefined ? {} : { resumed }),
  }
}

/** Says the same whatever the IOPS are by now: a running migration does not depend on them. */
function whileRunning(volume: Volume, migration: Migration): Decision {
  const tier = migration.direction === 'Promote' ? 'NVMe' : 'SATA'
  const last = volume.child?.status?.migration
  const onHold = last?.id === migration.id && last.phase === 'Held'
  return {
    volume,
    tier,
    reason: onHold ? 'Held' : 'Migrating',
    message: onHold ? last.message : `migration ${migration.id} to ${tier}`,
    holds: [],
    migration,
  }
}

function held({ volume, want }: Wanting, first: Reason, more: readonly Reason[]): Decision {
  return {
    volume,
    tier: want.tier,
    // Refusals that stepping reports are of the same list.
    reason: first.reason as DecisionReason,
    message: `${want.message}; ${first.message}`,
    holds: [first, ...more],
  }
}

function metricsState(expected: number, unknown: number, policy: Policy): MetricsState {
  const { maxUnknownPercent } = policy.spec
  const incomplete =
    unknown * 100 > maxUnknownPercent * expected
      ? `IOPS are unknown for more than ${maxUnknownPercent} % of the volumes; nothing new starts`
      : undefined
  return { expected, unknown, incomplete }
}
