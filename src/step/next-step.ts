import type { MayastorNode, MayastorPool, MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import { NODE_LABEL_PREFIX } from '../api/names.js'
import type { MigrationReason } from '../api/reasons.js'
import { ordinalOf } from '../plan/migration-id.js'
import { begin, nextMove, replanned } from './admission.js'
import { isActive, type Journal, type MayastorCall } from './journal.js'
import { clusterRefusal, isFilling, poolRefusal, type Refusal, type View, volumeRefusals } from './preconditions.js'
import { end, reportOf, type Situation, type Step, takeFence, wait } from './step.js'

const SECOND_MS = 1000
/** After this long without an operation running, a call whose answer was lost is over: one idle reconcile and more. */
const RESOLVE_MS = 60 * SECOND_MS
/** Between the two readings that show a replica synced: Mayastor's state may be 30 s old. */
const CONFIRM_MS = 30 * SECOND_MS
/** Times Mayastor may replace the added replica before the move is given up. */
const MAX_ADOPTIONS = 3
const CANCELS = { Cancelled: 'withdrawn', Abandoned: 'driven by nobody' } as const
/** Seconds until the next look at what only time changes: a rebuild, a resting move. */
const WATCH = 15

/**
 * The protocol of one move, as a function of what was read: first what is unresolved is resolved, then the bracket
 * that is no longer needed is closed, then the phase goes on.
 */
export function nextStep(s: Situation): Step {
  const { journal } = s
  if (journal === undefined || !isActive(journal)) {
    const step = begin(s)
    return step.kind === 'rest' || step.kind === 'wait' ? (closeBracket(s) ?? step) : step
  }
  if (journal.call !== undefined) return resolve(journal, journal.call, s)
  const { volume } = s.view
  if (volume === undefined) {
    return closeBracket(s) ?? end(journal, s.now, 'Failed', 'VolumeGone', 'Mayastor knows no such volume')
  }
  if (s.bracketOnly && !isOutcomeDue(journal, volume)) {
    return closeBracket(s) ?? wait(journal, 'Resting', 'nobody drives this move at present', WATCH)
  }
  switch (journal.phase) {
    case 'ScalingUp':
      return scalingUp(journal, volume, s)
    case 'WaitingSync':
      return closeBracket(s) ?? waitingSync(journal, volume, s)
    case 'ScalingDown':
      return scalingDown(journal, volume, s)
    case 'Preserved':
      return closeBracket(s) ?? preserved(journal, volume, s)
    case 'Ended':
      return { kind: 'rest' }
  }
}

/** Whether a change of the count was asked for, and what came of it is still to be written down. */
function isOutcomeDue(journal: Journal, volume: MayastorVolume): boolean {
  if (journal.phase === 'ScalingUp') return isGrown(journal, volume)
  return journal.phase === 'ScalingDown' && journal.removalSentAt !== undefined
}

/** The count is one more because we asked for it. */
function isGrown({ growSentAt, count }: Journal, { numReplicas }: MayastorVolume): boolean {
  return growSentAt !== undefined && numReplicas === count + 1
}

/** A call without an answer is over when its effect shows, or 60 s after it was sent, and no operation runs. */
function resolve(journal: Journal, call: NonNullable<Journal['call']>, { view, now }: Situation): Step {
  const busy = view.volume?.operation !== undefined
  const visible = isVisible(call, view)
  if (!busy && (visible || now - call.sentAt >= RESOLVE_MS)) {
    const { call: _, ...resolved } = journal
    const lost = call.op === 'setReplicaCount' && !visible
    return { kind: 'note', journal: lost ? { ...resolved, refused: 'the call had no effect' } : resolved }
  }
  return wait(journal, 'Unresolved', `the outcome of ${call.op} is not known yet`, 2)
}

function isVisible(call: MayastorCall, { volume, pools, nodes }: View): boolean {
  switch (call.op) {
    case 'setReplicaCount':
      return volume?.numReplicas === call.count
    case 'cordonPool':
      return pools.get(call.pool)?.cordon.replicas === true
    case 'uncordonPool':
      return pools.get(call.pool)?.cordon.replicas === false
    case 'cordonNode':
      return nodes.get(call.node)?.cordonLabels.includes(call.label) === true
    case 'uncordonNode':
      return nodes.get(call.node)?.cordonLabels.includes(call.label) === false
  }
}

function scalingUp(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, view, fence } = s
  const { move, count } = journal
  const added = newcomers(journal, volume)
  if (isGrown(journal, volume)) {
    const { refused: _, growSentAt: __, ...grown } = journal
    const uuid = added.length === 1 ? added[0]?.uuid : undefined
    return {
      kind: 'note',
      journal: {
        ...grown,
        phase: 'WaitingSync',
        move: uuid === undefined ? move : { ...move, added: uuid },
        progress: { percent: 0, at: now },
      },
    }
  }
  if (volume.numReplicas !== count) return countChanged(journal, volume, s)
  if (volume.replicas.length > count) {
    // The call is resolved: cordons are not needed while Mayastor tidies up.
    return closeBracket(s) ?? wait(journal, 'Growing', 'attaching the replica failed; Mayastor removes it again', 5)
  }
  const stop = (reason: MigrationReason, message: string) =>
    closeBracket(s) ?? end(journal, now, 'Aborted', reason, message)
  if (journal.refused !== undefined) return stop('GrowRefused', journal.refused)
  if (s.cancel) return stop(s.cancel, `${CANCELS[s.cancel]} before the replica was added`)
  if (missing(journal, volume).length > 0) {
    return stop('PlacementChanged', 'the replicas are not those the move began with')
  }
  const rest = (message: string) => {
    if (now - journal.progress.at > journal.timeoutMs) return stop('PlacementChanged', message)
    return closeBracket(s) ?? wait(journal, 'Resting', message, WATCH)
  }
  const refusal = growRefusal(journal, volume, s)
  if (refusal !== undefined) return rest(refusal.message)
  if (fence.volume === undefined) {
    const planned = replanned(journal, volume, s)
    if (typeof planned === 'string') return rest(planned)
    return planned === journal ? openBracket(journal, s) : { kind: 'note', journal: planned }
  }
  if (fence.volume !== s.volumeID) return takeFence(journal, s)

  const holding = new Set(volume.replicas.map((replica) => replica.node))
  const others = [...view.pools.values()].filter((pool) => pool.id !== move.targetPool && !holding.has(pool.node))
  const open = others.filter((pool) => !pool.cordon.replicas)
  const intent = fence.intent ?? { pools: [] }
  const listed = new Set(intent.pools.map((entry) => entry.pool))
  const unlisted = open.filter((pool) => !listed.has(pool.id))
  if (unlisted.length > 0) {
    const pools = [...intent.pools, ...unlisted.map((pool) => ({ pool: pool.id, otherBits: otherBits(pool) }))]
    const report = reportOf(journal, 'Cordoning', 'cordoning every other pool')
    return { kind: 'intend', fence: { ...fence, intent: { ...intent, pools } }, report }
  }
  const [next] = open
  return next === undefined
    ? call(
        { ...journal, growSentAt: now },
        now,
        { op: 'setReplicaCount', count: count + 1 },
        'Growing',
        `adding a replica on ${move.targetPool}`,
      )
    : call(journal, now, { op: 'cordonPool', pool: next.id }, 'Cordoning', `cordoning pool ${next.id}`)
}

/** Why no replica may be added now, though it may be later. */
function growRefusal(journal: Journal, volume: MayastorVolume, s: Situation): Refusal | undefined {
  const [refusal] = volumeRefusals(s.view)
  if (refusal !== undefined) return refusal
  // Before the fence is taken the target may still change.
  if (s.fence.volume !== s.volumeID) return undefined
  const pool = s.view.pools.get(journal.move.targetPool)
  if (pool !== undefined && volume.replicas.some((replica) => replica.node === pool.node)) {
    return { reason: 'NoFreeTargetNode', message: `node ${pool.node} holds a replica of the volume` }
  }
  if (pool?.cordon.replicas) return { reason: 'NoFittingPool', message: `pool ${pool.id} is cordoned` }
  return poolRefusal(volume, pool, s.view, 0)
}

function waitingSync(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now } = s
  const { move } = journal
  if (volume.numReplicas !== journal.count + 1) return countChanged(journal, volume, s)
  const added = volume.replicas.find((replica) => replica.uuid === move.added)
  const strangers = newcomers(journal, volume).filter((replica) => replica.uuid !== move.added)
  if (added === undefined) {
    const [replacement, ...more] = strangers
    if (replacement === undefined || more.length > 0) {
      return undo(journal, undefined, 'TargetLost', 'the added replica is gone')
    }
    const adoptions = (journal.adoptions ?? 0) + 1
    if (adoptions > MAX_ADOPTIONS) {
      return undo(journal, replacement, 'TargetLost', 'Mayastor replaced the added replica time and again')
    }
    return {
      kind: 'note',
      journal: { ...restart(journal, now), adoptions, move: { ...move, added: replacement.uuid } },
    }
  }
  if (added.pool !== undefined && added.pool !== move.targetPool) {
    return undo(journal, added, 'WrongPool', `Mayastor placed the replica on ${added.pool}`)
  }
  const lost = missing(journal, volume)
  if (lost.length === 1 && lost[0]?.replica === move.replica && strangers.length === 0) {
    // The old replica left by itself: once the others are synced only the count is left to lower.
    const { victim: _, ...rest } = journal
    return { kind: 'note', journal: { ...rest, phase: 'ScalingDown' } }
  }
  if (lost.length > 0) return adopt(journal, lost, strangers)
  if (!volume.published) return pause(journal, now, 'the volume is not published, so nothing is rebuilt')
  if (journal.pausedAt !== undefined) return resume(journal, journal.pausedAt, now)
  if (added.synced) return confirmSync(journal, volume, s)
  if (journal.reading !== undefined) {
    const { reading: _, ...unread } = journal
    return { kind: 'note', journal: unread }
  }
  const trouble = rebuildTrouble(journal, added, s)
  if (trouble !== undefined) return undo(journal, added, trouble.reason, trouble.message)
  const percent = added.rebuildPercent ?? 0
  if (percent > journal.progress.percent)
    return { kind: 'note', journal: { ...journal, progress: { percent, at: now } } }
  return wait(journal, 'Rebuilding', `the replica on ${move.targetPool} is being rebuilt`, WATCH)
}

/** Why a rebuild that has not finished is to be undone. */
function rebuildTrouble(
  journal: Journal,
  added: MayastorReplica,
  { now, view, cancel }: Situation,
): { reason: MigrationReason; message: string } | undefined {
  const { move, timeoutMs, hardTimeoutMs, progress } = journal
  if (cancel) return { reason: cancel, message: `${CANCELS[cancel]} while the replica was being rebuilt` }
  const pool = view.pools.get(move.targetPool)
  if (added.childReason === 'OutOfSpace' || (pool !== undefined && isFilling(pool))) {
    return { reason: 'TargetFilling', message: `pool ${move.targetPool} ran below half of its reserve` }
  }
  if (now - progress.at > timeoutMs) {
    return { reason: 'NoProgress', message: `no progress for ${timeoutMs / 60_000} minutes` }
  }
  if (hardTimeoutMs !== undefined && now - move.startedAt > hardTimeoutMs) {
    return { reason: 'HardTimeout', message: `the move took longer than ${hardTimeoutMs / 60_000} minutes` }
  }
  return undefined
}

/** Synced in two readings of the same target, at least 30 s apart. */
function confirmSync(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, preservationMode } = s
  const nexus = volume.target?.nexus ?? ''
  const { reading, move } = journal
  if (reading === undefined || reading.nexus !== nexus) {
    return { kind: 'note', journal: { ...journal, progress: { percent: 100, at: now }, reading: { at: now, nexus } } }
  }
  const left = reading.at + CONFIRM_MS - now
  if (left > 0) {
    const message = 'the added replica is synced; a second reading will confirm it'
    return wait(journal, 'ConfirmingSync', message, Math.ceil(left / SECOND_MS))
  }
  if (preservationMode && !s.finalizing) {
    const replicasTotal = journal.replicasMoved + 1
    return { kind: 'note', journal: { ...journal, phase: 'Preserved', queue: [], replicasTotal } }
  }
  return { kind: 'note', journal: { ...journal, phase: 'ScalingDown', victim: move.replica } }
}

function scalingDown(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, fence, view } = s
  const { count, victim } = journal
  const leaving = volume.replicas.find((replica) => replica.uuid === victim)
  if (volume.numReplicas === count) {
    if (volume.replicas.length > count) {
      return wait(journal, 'Shrinking', 'the count is lowered; Mayastor has yet to remove the surplus replica', 5)
    }
    return closeBracket(s) ?? finishMove(journal, volume, s)
  }
  if (volume.numReplicas !== count + 1) return countChanged(journal, volume, s)
  if (journal.refused !== undefined) {
    const { refused, refusedAt = 0, ...again } = journal
    const closing = closeBracket(s)
    if (closing !== undefined) return closing
    // With the victim gone the count is lowered at once, before Mayastor fills the gap; else there is time.
    const early = leaving !== undefined && now - refusedAt < RESOLVE_MS
    return early ? wait(journal, 'Resting', `Mayastor refused: ${refused}`, WATCH) : { kind: 'note', journal: again }
  }
  const strangers = newcomers(journal, volume).filter((replica) => replica.uuid !== journal.move.added)
  const [surplus] = strangers
  if (surplus !== undefined && leaving === undefined) {
    // What was to go is gone, and Mayastor has filled the gap: the filling is the surplus now.
    return { kind: 'note', journal: { ...journal, victim: surplus.uuid } }
  }
  const lost = missing(journal, volume)
  if (surplus !== undefined && lost.length > 0) {
    const step = adopt(journal, lost, strangers)
    return step.kind === 'wait' ? (closeBracket(s) ?? step) : step
  }
  const added = volume.replicas.find((replica) => replica.uuid === journal.move.added)
  const reversible = journal.undo === undefined && journal.removalSentAt === undefined && added !== undefined
  if (reversible && volume.snapshots !== journal.snapshots) {
    return undo(journal, added, 'SnapshotsChanged', 'a snapshot was taken or removed since the migration began')
  }
  if (isUnconfirmed(journal, volume, leaving, added)) {
    const { victim: _, ...back } = journal
    return { kind: 'note', journal: { ...restart(back, now), phase: 'WaitingSync' } }
  }
  const refusal = shrinkRefusal(journal, volume, leaving, s)
  if (refusal !== undefined) return closeBracket(s) ?? wait(journal, refusal.reason, refusal.message, WATCH)
  if (fence.volume !== s.volumeID) return openBracket(journal, s)
  const doing = journal.undo === undefined ? 'Shrinking' : 'Undoing'
  if (leaving?.node !== undefined) {
    const marked = { node: leaving.node, label: `${NODE_LABEL_PREFIX}${journal.id}` }
    const set = fence.intent?.label
    if (set !== undefined && set.node !== marked.node) return closeBracket(s) ?? openBracket(journal, s)
    if (set === undefined) {
      const intent = { pools: fence.intent?.pools ?? [], label: marked }
      return {
        kind: 'intend',
        fence: { ...fence, intent },
        report: reportOf(journal, doing, `cordoning ${marked.node}`),
      }
    }
    if (view.nodes.get(marked.node)?.cordonLabels.includes(marked.label) !== true) {
      return call(journal, now, { op: 'cordonNode', ...marked }, doing, `cordoning node ${marked.node}`)
    }
  }
  const from = leaving?.pool === undefined ? '' : ` from ${leaving.pool}`
  return call(
    { ...journal, removalSentAt: now },
    now,
    { op: 'setReplicaCount', count },
    doing,
    `removing the ${journal.undo === undefined ? 'old' : 'added'} replica${from}`,
  )
}

/** Whether what two readings confirmed no longer holds, before the removal was sent: then it is confirmed anew. */
function isUnconfirmed(
  { undo, removalSentAt, reading }: Journal,
  { published, target }: MayastorVolume,
  leaving: MayastorReplica | undefined,
  added: MayastorReplica | undefined,
): boolean {
  if (undo !== undefined || removalSentAt !== undefined || leaving === undefined || !published) return false
  const targetMoved = reading !== undefined && target !== undefined && reading.nexus !== target.nexus
  return added?.synced !== true || targetMoved
}

/** Why the count may not be lowered now; every reason is one that passes, and the move rests until then. */
function shrinkRefusal(
  journal: Journal,
  volume: MayastorVolume,
  leaving: MayastorReplica | undefined,
  { view }: Situation,
): { reason: MigrationReason; message: string } | undefined {
  if (!volume.published) return { reason: 'Resting', message: 'the volume is not published' }
  if (volume.operation !== undefined) return { reason: 'Resting', message: `Mayastor is at work: ${volume.operation}` }
  const stay = volume.replicas.filter((replica) => replica !== leaving)
  if (leaving === undefined && volume.replicas.length > journal.count) {
    return { reason: 'Resting', message: 'it is not known which replica is the surplus' }
  }
  const unsynced = stay.find((replica) => !replica.synced)
  if (stay.length < journal.count || unsynced !== undefined) {
    const which = unsynced === undefined ? `only ${stay.length} would stay` : `replica ${unsynced.uuid} is not synced`
    return { reason: 'ReplicasNotSynced', message: which }
  }
  if (leaving !== undefined && view.nodes.get(leaving.node ?? '')?.online !== true) {
    return { reason: 'Resting', message: `node ${leaving.node} of the replica to remove is offline` }
  }
  const closed = stay.find((replica) => !isUnmarked(view.nodes.get(replica.node ?? ''), journal))
  if (leaving !== undefined && closed !== undefined) {
    const message = `node ${closed.node} of a replica that stays is cordoned, draining or offline`
    return { reason: 'Resting', message }
  }
  return undefined
}

/** Online and without any mark but that of this move: Mayastor prefers to remove replicas from marked nodes. */
function isUnmarked(node: MayastorNode | undefined, { id }: Journal): boolean {
  const own = `${NODE_LABEL_PREFIX}${id}`
  return node?.online === true && node.drainLabels.length === 0 && node.cordonLabels.every((label) => label === own)
}

/** The count is as wanted again: what is there decides how the move of this replica ended. */
function finishMove(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, cancel } = s
  const has = (uuid: string | undefined) => volume.replicas.some((replica) => replica.uuid === uuid)
  const { undo, move } = journal
  if (has(move.added) && !has(move.replica)) {
    const moved = { ...journal, replicasMoved: journal.replicasMoved + 1 }
    if (journal.queue.length === 0) {
      return end(moved, now, 'Completed', 'AllReplicasMoved', `moved ${moved.replicasMoved} of ${moved.replicasTotal}`)
    }
    if (undo !== undefined || cancel) {
      const reason = (undo?.reason ?? cancel ?? 'Cancelled') as MigrationReason
      return end(moved, now, 'Aborted', reason, 'replicas already moved stay moved')
    }
    return nextMove(moved, volume, s)
  }
  if (!has(move.added) && undo !== undefined) {
    return end(journal, now, undo.phase, undo.reason as MigrationReason, undo.message)
  }
  return journal.removalSentAt === undefined
    ? end(journal, now, 'Failed', 'CountChanged', 'the replica count was lowered by somebody else')
    : end(journal, now, 'Failed', 'WrongRemoval', 'Mayastor removed another replica than the one asked for')
}

/** A person's count wins; what is there then decides. */
function countChanged(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { numReplicas, replicas } = volume
  if (numReplicas > journal.count + 1) {
    const { move, growSentAt } = journal
    const strangers = newcomers(journal, volume)
    const ours = growSentAt === undefined ? undefined : strangers.find(({ pool }) => pool === move.targetPool)?.uuid
    const own = move.added ?? ours
    const baseline = [
      ...journal.baseline,
      ...strangers
        .filter((replica) => replica.uuid !== own)
        .map(({ uuid: replica, pool = '', node = '' }) => ({ replica, pool, node })),
    ]
    const grown = own === undefined ? move : { ...move, added: own }
    return { kind: 'note', journal: { ...journal, move: grown, count: numReplicas - 1, baseline } }
  }
  if (replicas.length > numReplicas) {
    return wait(journal, 'CountChanged', 'somebody lowered the replica count; Mayastor is removing the surplus', WATCH)
  }
  const closing = closeBracket(s)
  if (closing !== undefined) return closing
  const message = `the replica count was changed to ${numReplicas} by somebody else`
  const has = (uuid: string | undefined) => replicas.some((replica) => replica.uuid === uuid)
  const { added, replica: source } = journal.move
  if (has(added) && !has(source)) return finishMove({ ...journal, count: numReplicas }, volume, s)
  return end(journal, s.now, has(added) ? 'Failed' : 'Aborted', 'CountChanged', message)
}

function preserved(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { migration, now, preservationMode } = s
  const { move, count, direction } = journal
  const has = (uuid: string | undefined) => volume.replicas.some((replica) => replica.uuid === uuid)
  if (volume.numReplicas > count + 1) return countChanged(journal, volume, s)
  if (volume.numReplicas <= count) return end(journal, now, 'Completed', 'CountChanged', 'the extra replica is gone')
  const strangers = newcomers(journal, volume).filter((replica) => replica.uuid !== move.added)
  const lost = missing(journal, volume)
  const [replacement, ...more] = strangers
  if (!has(move.added) && replacement !== undefined && more.length === 0 && lost.length === 0) {
    return { kind: 'note', journal: { ...journal, move: { ...move, added: replacement.uuid } } }
  }
  if (has(move.added) && lost.length > 0 && replacement !== undefined) return adopt(journal, lost, strangers)
  const later = migration !== undefined && ordinalOf(migration.id) > ordinalOf(journal.id)
  if (later && migration.direction !== direction) {
    const back = { ...journal, id: migration.id, direction: migration.direction, startedAt: now }
    const message = 'the extra replica was removed'
    return {
      kind: 'note',
      journal: {
        ...back,
        phase: 'ScalingDown',
        ...(move.added === undefined ? {} : { victim: move.added }),
        undo: { phase: 'Completed', reason: 'AllReplicasMoved', message },
      },
    }
  }
  if (!preservationMode || s.finalizing) {
    // Where either half is gone only the count is left to lower.
    const whole = has(move.added) && has(move.replica)
    return { kind: 'note', journal: { ...journal, phase: 'ScalingDown', ...(whole ? { victim: move.replica } : {}) } }
  }
  return { kind: 'rest' }
}

/** The next thing to clear of what this bracket set, then the fence itself; undefined: the fence is not ours. */
function closeBracket(s: Situation): Step | undefined {
  const { fence, view, journal, now } = s
  if (fence.volume !== s.volumeID) return undefined
  const intent = fence.intent ?? { pools: [] }
  for (const { pool: id, otherBits: before } of intent.pools) {
    const pool = view.pools.get(id)
    // A bit we did not set means that somebody else cordoned the pool meanwhile: it is theirs now.
    if (!pool?.cordon.replicas || hasNewBit(pool, before)) continue
    return call(journal, now, { op: 'uncordonPool', pool: id }, 'Uncordoning', `uncordoning pool ${id}`)
  }
  const { label } = intent
  if (label !== undefined && view.nodes.get(label.node)?.cordonLabels.includes(label.label)) {
    return call(journal, now, { op: 'uncordonNode', ...label }, 'Uncordoning', `uncordoning node ${label.node}`)
  }
  return { kind: 'releaseFence' }
}

/** Takes the fence, unless Mayastor has something to heal that it would be in the way of. */
function openBracket(journal: Journal, s: Situation): Step {
  const refusal = clusterRefusal(s.view, s.volumes, s.journals)
  return refusal === undefined ? takeFence(journal, s) : wait(journal, 'ClusterDegraded', refusal.message, WATCH)
}

/** Mayastor replaced a replica of ours by a new one: the new one takes its place in the journal. */
function adopt(journal: Journal, lost: readonly { replica: string }[], strangers: readonly MayastorReplica[]): Step {
  const [gone, ...moreGone] = lost
  const [replacement, ...moreNew] = strangers
  if (gone === undefined || replacement === undefined || moreGone.length > 0 || moreNew.length > 0) {
    return wait(journal, 'Resting', 'replicas are missing; Mayastor is replacing them', WATCH)
  }
  const { uuid: replica, pool = '', node = '' } = replacement
  const baseline = journal.baseline.map((entry) => (entry.replica === gone.replica ? { replica, pool, node } : entry))
  const move = journal.move.replica === gone.replica ? { ...journal.move, replica } : journal.move
  return { kind: 'note', journal: { ...journal, baseline, move } }
}

function undo(journal: Journal, added: MayastorReplica | undefined, reason: MigrationReason, message: string): Step {
  const { victim: _, reading: __, ...rest } = journal
  const victim = added === undefined ? {} : { victim: added.uuid }
  return {
    kind: 'note',
    journal: { ...rest, ...victim, phase: 'ScalingDown', undo: { phase: 'Aborted', reason, message } },
  }
}

function pause(journal: Journal, now: number, message: string): Step {
  if (journal.pausedAt === undefined) return { kind: 'note', journal: { ...journal, pausedAt: now } }
  return wait(journal, 'Resting', message, 2 * WATCH)
}

function resume({ pausedAt: _, ...journal }: Journal, pausedAt: number, now: number): Step {
  const paused = now - pausedAt
  const progress = { ...journal.progress, at: journal.progress.at + paused }
  const move = { ...journal.move, startedAt: journal.move.startedAt + paused }
  return { kind: 'note', journal: { ...journal, progress, move } }
}

function restart(journal: Journal, now: number): Journal {
  const { reading: _, ...rest } = journal
  return { ...rest, progress: { percent: 0, at: now } }
}

function call(
  journal: Journal | undefined,
  now: number,
  request: MayastorCall,
  reason: MigrationReason,
  message: string,
): Step {
  const report = reportOf(journal, reason, message)
  if (journal === undefined || !isActive(journal)) return { kind: 'call', journal: undefined, call: request, report }
  return { kind: 'call', journal: { ...journal, call: { ...request, sentAt: now } }, call: request, report }
}

/** Replicas of the volume that the journal does not know from before the current move. */
function newcomers(journal: Journal, volume: MayastorVolume): readonly MayastorReplica[] {
  const known = new Set(journal.baseline.map((entry) => entry.replica))
  return volume.replicas.filter((replica) => !known.has(replica.uuid))
}

function missing(journal: Journal, volume: MayastorVolume) {
  const there = new Set(volume.replicas.map((replica) => replica.uuid))
  return journal.baseline.filter((entry) => !there.has(entry.replica))
}

function hasNewBit(pool: MayastorPool, before: string): boolean {
  const had = new Set(before.split(','))
  return otherBits(pool)
    .split(',')
    .some((bit) => bit !== '' && !had.has(bit))
}

function otherBits(pool: MayastorPool): string {
  const { snapshots, restores, import: imports } = pool.cordon
  return [snapshots && 'snapshots', restores && 'restores', imports && 'import'].filter(Boolean).join()
}
