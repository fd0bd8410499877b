import { parseDuration } from '../api/duration.js'
import type { MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import type { Migration } from '../api/replica-topology.js'
import { formatTime } from '../api/time.js'
import { waitAfter } from '../plan/back-off.js'
import { breaker, type LastEnd } from '../plan/breaker.js'
import { ordinalOf } from '../plan/migration-id.js'
import { type Move, type MovePlan, planMoves } from '../plan/moves.js'
import { neededBytes } from '../plan/pool-fit.js'
import { takeFence } from './bracket.js'
import { holdsSlot, isActive, type Journal } from './journal.js'
import {
  candidate,
  clusterRefusal,
  misplaced,
  placed,
  poolRefusal,
  sizeOf,
  volumeRefusals,
  zoneCount,
} from './preconditions.js'
import { without } from './replicas.js'
import { end, note, type Situation, type Step } from './step.js'

/**
 * How a migration begins, and how it goes on to its next replica: every precondition by name, a slot against a live
 * list of journals under the fence, and an order of moves computed from what is there now.
 */

/** The first steps of a wanted migration: declined, waiting for the fence, or admitted with a journal. */
export function begin(s: Situation): Step {
  const { journal, migration, view, now } = s
  if (migration === undefined || s.finalizing) return { kind: 'rest' }
  if (journal !== undefined && ordinalOf(migration.id) <= ordinalOf(journal.id)) return { kind: 'rest' }
  const { volume } = view
  if (journal === undefined && s.known) {
    return decline(migration, s, 'JournalLost', 'the journal of the migration is gone; look at the replicas by hand')
  }
  const refusal = refuse(migration, s)
  if (refusal !== undefined || volume === undefined) {
    return decline(migration, s, refusal?.reason ?? 'VolumeGone', refusal?.message ?? 'Mayastor knows no such volume')
  }
  if (s.fence.volume !== s.volumeID) return takeFence(undefined, s)
  const waiting = migration.replicas.filter((move) => volume.replicas.some((replica) => replica.uuid === move.replica))
  if (waiting.length === 0) return decline(migration, s, 'PlacementChanged', 'none of the replicas to move is there')
  const plan = replan(waiting, migration.candidatePools, volume, s)
  if (plan.kind === 'none') return decline(migration, s, plan.reason, plan.message)
  const [first, ...queue] = plan.moves
  if (first === undefined) return { kind: 'rest' }
  const bad = misplaced(volume, without(volume, first.replica), view)
  if (bad !== undefined) return decline(migration, s, bad.reason, bad.message)
  const zones = zoneCount(volume.replicas, view)
  const replicasTotal = plan.moves.length
  return note({ ...record(migration, s), ...onReplica(first, queue, volume, s), replicasTotal, zones, startedAt: now })
}

/** Turns to the next replica of a running migration; where it goes is planned anew before the fence is taken. */
export function nextMove(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const [first, ...queue] = journal.queue.filter(({ replica }) => volume.replicas.some(({ uuid }) => uuid === replica))
  if (first === undefined) return allMoved(journal, s.now)
  const { victim: _, reading: __, undo: ___, removalSentAt: ____, confirmedCount: _____, ...others } = journal
  const { growSentAt: ______, refused: _______, adoptions: ________, leftCordoned: _________, ...rest } = others
  return { kind: 'note', journal: { ...rest, ...onReplica(first, queue, volume, s) } }
}

/** Nothing is left to move. */
export function allMoved(journal: Journal, now: number): Step {
  const { replicasMoved, replicasTotal } = journal
  const message = `moved ${replicasMoved} of ${replicasTotal}`
  return replicasMoved < replicasTotal
    ? end(journal, now, 'Aborted', 'PlacementChanged', `${message}; what was still to move has been replaced meanwhile`)
    : end(journal, now, 'Completed', 'AllReplicasMoved', message)
}

/** The journal with the order computed from what is there now; the very same where nothing changes. */
export function replanned(
  journal: Journal,
  volume: MayastorVolume,
  s: Situation,
): Journal | Extract<MovePlan, { kind: 'none' }> {
  const { move, queue, progress } = journal
  const plan = replan([move, ...queue], journal.candidatePools, volume, s, journal.zones)
  if (plan.kind === 'none') return plan
  const [first, ...others] = plan.moves
  if (first === undefined || (first.replica === move.replica && first.targetPool === move.targetPool)) return journal
  const planned = onReplica(first, others, volume, s)
  return { ...journal, ...planned, move: { ...planned.move, startedAt: move.startedAt }, progress }
}

/** Bytes that running moves of other volumes may still need on each pool, beside what they have allocated there. */
function promises({ journals, volumes, volumeID }: Situation): ReadonlyMap<string, number> {
  const sizes = new Map(volumes.flatMap(({ replicas }) => replicas.map((entry) => [entry.uuid, entry.allocatedBytes])))
  const promised = new Map<string, number>()
  const promise = (pool: string, bytes: number) => promised.set(pool, (promised.get(pool) ?? 0) + bytes)
  for (const journal of journals) {
    if (!isActive(journal) || journal.volume === volumeID) continue
    const { move, queue, promisedBytes } = journal
    for (const pool of new Set(queue.map((entry) => entry.targetPool))) promise(pool, promisedBytes)
    promise(move.targetPool, Math.max(0, promisedBytes - (sizes.get(move.added ?? '') ?? 0)))
  }
  return promised
}

function refuse(
  migration: Migration,
  s: Situation,
): { readonly reason: MigrationReason; readonly message: string } | undefined {
  const { view, journals, volumes } = s
  if (s.dryRun) return { reason: 'DryRun', message: 'the operator runs with --dry-run' }
  const [refusal] = volumeRefusals(view)
  if (refusal !== undefined) return refusal
  const { cooldownFrom } = s.journal ?? {}
  const waitMs = waitAfter(parseDuration(migration.cooldown) ?? 0, s.journal?.failures ?? 0)
  // Deciding knows the end to the second, from status.
  const endedAt = cooldownFrom === undefined ? undefined : Math.floor(cooldownFrom / 1000) * 1000
  if (endedAt !== undefined && s.now < endedAt + waitMs) {
    return { reason: 'Cooldown', message: 'the volume was migrated recently' }
  }
  const ends = journals.filter(({ policy }) => policy === s.policy).flatMap(lastEnd)
  const trip = breaker(ends, migration.resumed)
  if (trip !== undefined) return { reason: 'BreakerOpen', message: trip.message }
  const [unreadable] = s.unreadable
  if (unreadable !== undefined) {
    const message = `the Lease ${unreadable} cannot be read: it may stand for a migration that another version runs`
    return { reason: 'UnreadableJournal', message }
  }
  const running = journals.filter(holdsSlot)
  const cluster = clusterRefusal(view, volumes, journals)
  if (cluster !== undefined) return cluster
  if (running.length >= s.clusterLimit) {
    return { reason: 'NoSlot', message: `${s.clusterLimit} migrations are running in the cluster` }
  }
  const limit = migration.maxConcurrentMigrations
  return running.filter((journal) => journal.policy === s.policy).length >= limit
    ? { reason: 'NoSlot', message: `${limit} migrations of policy ${s.policy} are running` }
    : undefined
}

function lastEnd({ id, end }: Journal): LastEnd[] {
  return end === undefined ? [] : [{ id, reason: end.reason, endedAt: formatTime(end.at) }]
}

/**
 * Direct moves to pools that take the volume now: those asked for first, then the emptiest. A zone that an earlier move
 * of the migration has won may be given up again: `zones` is what it began with.
 */
function replan(
  waiting: readonly Move[],
  candidatePools: readonly string[],
  volume: MayastorVolume,
  s: Situation,
  zones?: number,
): MovePlan {
  const { view } = s
  const promised = promises(s)
  const wanted = [...new Set(waiting.map((move) => move.targetPool))]
  const free = (pool: string) => {
    const known = view.pools.get(pool)
    return known === undefined ? 0 : known.capacityBytes - known.usedBytes - (promised.get(pool) ?? 0)
  }
  const others = candidatePools
    .filter((pool) => !wanted.includes(pool))
    .sort((a, b) => free(b) - free(a) || (a < b ? -1 : 1))
  let firstRefusal: { readonly reason: MigrationReason; readonly message: string } | undefined
  const candidates = [...wanted, ...others].flatMap((id) => {
    const pool = view.pools.get(id)
    const refusal = pool?.cordon.replicas
      ? { reason: 'NoFittingPool' as const, message: `pool ${id} is cordoned` }
      : poolRefusal(volume, pool, view, promised.get(id) ?? 0)
    firstRefusal ??= refusal
    return pool === undefined || refusal !== undefined ? [] : [candidate(volume, pool, view)]
  })
  const moving = new Set(waiting.map((move) => move.replica))
  const replicas = volume.replicas.map((replica) => placed(volume, replica, view))
  const plan = planMoves(
    replicas.filter((replica) => !moving.has(replica.replica)),
    replicas.filter((replica) => moving.has(replica.replica)),
    candidates,
    zones,
  )
  if (plan.kind === 'order' || firstRefusal === undefined || candidates.length > 0) return plan
  return { kind: 'none', reason: 'NoFittingPool', message: firstRefusal.message }
}

/** What the journal says of the replica it turns to. */
function onReplica(
  first: Move,
  queue: readonly Move[],
  volume: MayastorVolume,
  { view, now }: Situation,
): Pick<Journal, 'phase' | 'count' | 'snapshots' | 'baseline' | 'move' | 'queue' | 'progress' | 'promisedBytes'> {
  const source = volume.replicas.find((replica) => replica.uuid === first.replica)
  return {
    phase: 'ScalingUp',
    count: volume.numReplicas,
    snapshots: volume.snapshots,
    baseline: volume.replicas.map((replica) => placed(volume, replica, view)),
    move: {
      ...first,
      sourceNode: source?.node ?? '',
      targetNode: view.pools.get(first.targetPool)?.node ?? '',
      startedAt: now,
    },
    queue,
    progress: { percent: 0, at: now },
    promisedBytes: neededBytes(sizeOf(volume)),
  }
}

type Constant = Omit<
  Journal,
  'phase' | 'count' | 'snapshots' | 'baseline' | 'move' | 'queue' | 'progress' | 'promisedBytes' | 'startedAt'
>

/** What stays the same through a whole migration. */
function record(migration: Migration, s: Situation): Constant {
  const hardTimeoutMs = migration.hardTimeout === undefined ? undefined : parseDuration(migration.hardTimeout)
  return {
    volume: s.volumeID,
    topology: s.topology,
    policy: s.policy,
    id: migration.id,
    direction: migration.direction,
    candidatePools: migration.candidatePools,
    replicasMoved: 0,
    replicasTotal: migration.replicas.length,
    timeoutMs: parseDuration(migration.timeout) ?? 0,
    ...(hardTimeoutMs === undefined ? {} : { hardTimeoutMs }),
    cooldownMs: parseDuration(migration.cooldown) ?? 0,
    attempts: (s.journal?.attempts ?? 0) + 1,
    failures: s.journal?.failures ?? 0,
    ...(s.journal?.cooldownFrom === undefined ? {} : { cooldownFrom: s.journal.cooldownFrom }),
    totals: s.journal?.totals ?? s.totals,
  }
}

/** Ends a migration of which nothing was begun: a tombstone, and no cooldown. */
function decline(migration: Migration, s: Situation, reason: MigrationReason, message: string): Step {
  const { now } = s
  const [first] = migration.replicas
  const move = { replica: '', sourcePool: '', targetPool: '', ...first, sourceNode: '', targetNode: '', startedAt: now }
  return {
    kind: 'note',
    journal: {
      ...record(migration, s),
      // Nothing was wrong with the volume: the next attempt need not wait longer than this one.
      ...(reason === 'NoSlot' ? { attempts: s.journal?.attempts ?? 0 } : {}),
      phase: 'Ended',
      count: s.view.volume?.numReplicas ?? 0,
      snapshots: 0,
      baseline: [],
      move,
      queue: [],
      progress: { percent: 0, at: now },
      promisedBytes: 0,
      startedAt: now,
      end: { phase: 'Aborted', reason, message, at: now, started: false },
    },
  }
}
