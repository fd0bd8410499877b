import type { MigrationStatus } from '../api/replica-topology.js'
import type { Reason } from '../api/shared.js'
import { formatTime, parseTime } from '../api/time.js'
import { doubled, waitAfter } from '../plan/back-off.js'
import type { Trip } from '../plan/breaker.js'
import type { Demand } from './demand.js'
import type { Child, Volume, World } from './observe.js'
import type { Policy, PolicyOptions } from './policy.js'

type MoveDemand = Extract<Demand, { kind: 'move' }>

/** What every gate sees. */
export interface GateInput {
  readonly volume: Volume
  readonly want: MoveDemand
  readonly policy: Policy
  readonly options: PolicyOptions
  readonly pools: World['pools']
  /** Set when too many volumes have unknown IOPS. */
  readonly metricsIncomplete: string | undefined
  /** Set while a person has to look at what failed before anything new starts. */
  readonly trip: Trip | undefined
  readonly now: number
}

type Gate = (input: GateInput) => Reason | readonly Reason[] | undefined

const MINUTE_MS = 60_000
/** Wait after a migration that was declined, doubled each time in a row. */
const DECLINED_BACKOFF_MS = MINUTE_MS
const DECLINED_BACKOFF_LIMIT_MS = 15 * MINUTE_MS
/** How long a pool that refused a volume is avoided for it, doubled each time in a row. */
const REFUSED_BACKOFF_MS = 10 * MINUTE_MS
const REFUSED_BACKOFF_LIMIT_MS = 24 * 60 * MINUTE_MS

/** Ends that say something about the target pool rather than about the volume. */
const POOL_REFUSALS: ReadonlySet<string> = new Set([
  'NoFittingPool',
  'GrowRefused',
  'WrongPool',
  'TargetFilling',
  'TargetLost',
  'NoProgress',
  'ZonesWouldShrink',
])

/** Everything that may hold back a volume that wants to move, but for room and slots. In order of precedence. */
const GATES: readonly Gate[] = [
  ({ policy }) => (policy.spec.enabled ? undefined : { reason: 'Disabled', message: 'the policy is disabled' }),
  ({ policy, options }) => {
    if (options.dryRun) return { reason: 'DryRun', message: 'the operator runs with --dry-run' }
    return policy.spec.dryRun ? { reason: 'DryRun', message: 'the policy is in dry run' } : undefined
  },
  ({ metricsIncomplete }) =>
    metricsIncomplete === undefined ? undefined : { reason: 'MetricsIncomplete', message: metricsIncomplete },
  ({ trip }) => (trip === undefined ? undefined : { reason: 'BreakerOpen', message: trip.message }),
  ({ pools }) =>
    pools === undefined ? { reason: 'PoolsUnavailable', message: 'the DiskPools cannot be seen' } : undefined,
  ({ volume }) =>
    volume.child?.underWay === undefined
      ? undefined
      : {
          reason: 'Migrating',
          message: `migration ${volume.child.underWay.id} was withdrawn and is coming to its end`,
        },
  ({ volume }) =>
    volume.heldByOwner
      ? { reason: 'HeldByOwner', message: `claim ${volume.claim?.namespace}/${volume.claim?.name} asks to stay` }
      : undefined,
  ({ volume, want }) =>
    volume.child?.last?.reason === 'Preserved' && volume.child.last.direction === want.direction
      ? { reason: 'Preserved', message: 'preservation mode keeps the extra replica' }
      : undefined,
  cooldown,
  backOff,
  ({ volume }) => volume.child?.status?.refusals,
  ({ want, policy }) =>
    want.observed.numReplicas === 1 && policy.spec.singleReplicaVolumes === 'Hold'
      ? { reason: 'SingleReplicaHold', message: 'the policy holds volumes with a single replica' }
      : undefined,
]

/** Every reason that holds the volume now; empty: it may move. */
export function holds(input: GateInput): readonly Reason[] {
  return GATES.flatMap((gate) => gate(input) ?? [])
}

/** The pool that refused the volume lately, as long as it is avoided. */
export function avoidedPool(child: Child | undefined, now: number): string | undefined {
  const last = child?.last
  if (last?.current === undefined || !POOL_REFUSALS.has(last.reason)) return undefined
  const wait = doubled(REFUSED_BACKOFF_MS, last.attempts ?? 1, REFUSED_BACKOFF_LIMIT_MS)
  return until(last, wait, now) === undefined ? undefined : last.current.targetPool
}

function cooldown({ volume, policy, now }: GateInput): Reason | undefined {
  const last = volume.child?.last
  if (last === undefined || !last.started) return undefined
  const end = until(last, waitAfter(policy.cooldownMs, last.failures ?? 0), now)
  return end === undefined
    ? undefined
    : { reason: 'Cooldown', message: `migration ${last.id} ended lately; next one not before ${end}` }
}

function backOff({ volume, now }: GateInput): Reason | undefined {
  const last = volume.child?.last
  if (last === undefined || last.started) return undefined
  if (last.reason === 'NoSlot') {
    // Nothing is wrong with the volume: it queues, and asks again as soon as that is worth a try.
    return until(last, DECLINED_BACKOFF_MS, now) === undefined
      ? undefined
      : { reason: 'WaitingForSlot', message: 'as many migrations as allowed are running' }
  }
  const end = until(last, doubled(DECLINED_BACKOFF_MS, last.attempts ?? 1, DECLINED_BACKOFF_LIMIT_MS), now)
  return end === undefined
    ? undefined
    : { reason: 'BackOff', message: `declined (${last.reason}); next attempt not before ${end}` }
}

/** When the wait after the end of a migration is over, for people; undefined when it is. */
function until({ endedAt }: MigrationStatus, waitMs: number, now: number): string | undefined {
  const ms = endedAt === undefined ? undefined : parseTime(endedAt)
  return ms !== undefined && now < ms + waitMs ? formatTime(ms + waitMs) : undefined
}
