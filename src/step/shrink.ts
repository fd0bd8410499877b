import type { MayastorNode, MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import { confirmation, SNAPSHOTS_CHANGED, undo, unread } from './await-sync.js'
import { call, closeBracket, labelOf, openBracket, RESOLVE_MS } from './bracket.js'
import { countChanged, finishMove } from './finish.js'
import type { Journal } from './journal.js'
import { misplaced, poolDrain, type View, zoneCount } from './preconditions.js'
import { adopt, find, strangers, without } from './replicas.js'
import { note, reportOf, rest, type Situation, type Step, wait } from './step.js'

/** Mayastor removes a surplus within an idle reconcile; what it left for so long it may never remove. */
const SURPLUS_MS = 2 * RESOLVE_MS

/** ScalingDown: the node of the replica that is to go is marked, and the count is lowered. */
export function scalingDown(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, fence, view } = s
  const { count, victim } = journal
  const leaving = find(volume, victim)
  if (volume.numReplicas === count) return lowered(journal, volume, s)
  const wasLowered = journal.confirmedCount === count
  if (wasLowered || volume.numReplicas !== count + 1) return countChanged(journal, volume, s)
  if (journal.refused !== undefined) return afterRefusal(journal, leaving, s)
  if (strangers(journal, volume).length > 0) {
    const message = 'replicas are missing; Mayastor is replacing them'
    return adopt(journal, volume, s) ?? closeBracket(s) ?? rest(journal, 'ReplicasMissing', message)
  }
  const added = find(volume, journal.move.added)
  const isSent = journal.removalSentAt !== undefined
  if (journal.undo === undefined && leaving !== undefined) {
    if (added !== undefined && !isSent && volume.snapshots !== journal.snapshots) {
      return undo(journal, added, 'SnapshotsChanged', SNAPSHOTS_CHANGED)
    }
    // Even after a removal was sent: one that stays may have been replaced by one in another zone.
    if (
      added !== undefined &&
      zoneCount(without(volume, leaving.uuid), view) < zonesBefore(journal, volume, added, view)
    ) {
      return undo(journal, added, 'ZonesWouldShrink', 'the replicas would be spread over fewer zones')
    }
    if (!isSent && (added === undefined || isUnconfirmed(journal, volume))) {
      const { victim: _, ...back } = unread(journal, now)
      return note({ ...back, phase: 'WaitingSync' })
    }
  }
  const isConfirmedAnew = journal.undo !== undefined || isSent
  if (isConfirmedAnew && leaving !== undefined && volume.published) {
    // Replicas were replaced since, or the target has moved; an undo has had no reading at all.
    // Who marked the node had it confirmed.
    const isMarked = fence.volume === s.volumeID && fence.intent?.label !== undefined
    const step = confirmation(journal, volume, isMarked ? { ...s, readingAgeMs: Number.POSITIVE_INFINITY } : s)
    if (step !== undefined) return closeBracket(s) ?? step
  }
  const [refusal] = shrinkRefusals(journal, volume, view)
  if (refusal !== undefined) return closeBracket(s) ?? rest(journal, refusal.reason, refusal.message)
  // With nothing to remove there is nothing to mark, and whatever Mayastor has to heal is not in the way.
  if (leaving !== undefined && fence.volume !== s.volumeID) return openBracket(journal, s)
  const doing = journal.undo === undefined ? 'Shrinking' : 'Undoing'
  if (leaving?.node !== undefined) {
    const marked = { node: leaving.node, label: labelOf(journal) }
    const set = fence.intent?.label
    if (set !== undefined && set.node !== marked.node) return closeBracket(s) ?? openBracket(journal, s)
    if (set === undefined) {
      const intent = { pools: fence.intent?.pools ?? [], label: marked }
      const report = reportOf(journal, doing, `cordoning ${marked.node}`)
      return { kind: 'intend', fence: { ...fence, intent }, report }
    }
    if (view.nodes.get(marked.node)?.cordonLabels.includes(marked.label) !== true) {
      return call(journal, s, { op: 'cordonNode', ...marked }, doing, `cordoning node ${marked.node}`)
    }
  }
  const from = leaving?.pool === undefined ? '' : ` from ${leaving.pool}`
  const message = `removing the ${journal.undo === undefined ? 'old' : 'added'} replica${from}`
  return call({ ...journal, removalSentAt: now }, s, { op: 'setReplicaCount', count }, doing, message)
}

/** The count is as wanted. The mark stays until the replica has gone, but not for ever: others wait for the fence. */
function lowered(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  if (journal.confirmedCount !== journal.count) return note({ ...journal, confirmedCount: journal.count })
  if (volume.replicas.length <= journal.count) return closeBracket(s) ?? finishMove(journal, volume, s)
  const { fence, now } = s
  const message = 'the count is lowered; Mayastor has yet to remove the surplus replica'
  if (fence.volume === s.volumeID && now - (journal.removalSentAt ?? fence.openedAt ?? 0) < SURPLUS_MS) {
    return wait(journal, 'Shrinking', message, 5)
  }
  return closeBracket(s) ?? rest(journal, 'SurplusRemains', message)
}

/** Zones the replicas were in when the migration began, or would be in now without it. */
function zonesBefore({ zones }: Journal, volume: MayastorVolume, added: MayastorReplica, view: View): number {
  return Math.min(zones ?? 1, zoneCount(without(volume, added.uuid), view))
}

function afterRefusal(journal: Journal, leaving: MayastorReplica | undefined, s: Situation): Step {
  const { refused, refusedAt = 0, ...again } = journal
  const closing = closeBracket(s)
  if (closing !== undefined) return closing
  // With the victim gone the count is lowered at once, before Mayastor fills the gap; else there is time.
  const early = leaving !== undefined && s.now - refusedAt < RESOLVE_MS
  return early ? rest(journal, 'RemovalRefused', `the count could not be lowered: ${refused}`) : note(again)
}

/** Whether what two readings confirmed no longer holds: then it is confirmed anew. */
function isUnconfirmed({ reading, victim }: Journal, volume: MayastorVolume): boolean {
  if (!volume.published) return false
  if (reading === undefined || reading.nexus !== volume.target?.nexus) return true
  return without(volume, victim).some(({ synced }) => !synced)
}

/** What a removal is decided from: `leaving` undefined: it has left already, and only the count is to be lowered. */
interface Removal {
  readonly journal: Journal
  readonly volume: MayastorVolume
  readonly leaving: MayastorReplica | undefined
  readonly stay: readonly MayastorReplica[]
  readonly view: View
}

interface Refusal {
  readonly reason: MigrationReason
  readonly message: string
}

interface Check {
  readonly name: string
  readonly refuses: (removal: Removal) => Refusal | undefined
}

/** What has to be true, freshly read, before the count is lowered. All of it passes; the move rests until then. */
export const SHRINK_CHECKS: readonly Check[] = [
  {
    name: 'the volume is published',
    refuses: ({ volume }) =>
      volume.published ? undefined : { reason: 'Unpublished', message: 'the volume is not published' },
  },
  {
    name: 'no operation runs',
    refuses: ({ volume: { operation, lifecycle } }) =>
      operation === undefined && lifecycle === 'Created'
        ? undefined
        : { reason: 'OperationRunning', message: `Mayastor is at work: ${operation ?? lifecycle}` },
  },
  {
    name: 'it is known which replica is the surplus',
    refuses: ({ journal, volume, leaving }) =>
      leaving === undefined && volume.replicas.length > journal.count
        ? { reason: 'SurplusUnknown', message: 'it is not known which replica is the surplus' }
        : undefined,
  },
  {
    name: 'as many stay as are wanted, and all of them are synced',
    refuses: ({ journal, stay }) => {
      const unsynced = stay.find((replica) => !replica.synced)
      if (unsynced !== undefined) {
        return { reason: 'ReplicasNotSynced', message: `replica ${unsynced.uuid} is not synced` }
      }
      return stay.length < journal.count
        ? { reason: 'ReplicasNotSynced', message: `only ${stay.length} would stay` }
        : undefined
    },
  },
  {
    name: 'the node of the replica that goes is online',
    refuses: ({ leaving, view }) =>
      leaving === undefined || view.nodes.get(leaving.node ?? '')?.online === true
        ? undefined
        : { reason: 'NodeCordoned', message: `node ${leaving.node} of the replica to remove is offline` },
  },
  {
    name: 'no node of a replica that stays is marked or offline',
    refuses: ({ journal, leaving, stay, view }) => {
      const closed = stay.find((replica) => !isUnmarked(view.nodes.get(replica.node ?? ''), journal))
      return leaving === undefined || closed === undefined
        ? undefined
        : { reason: 'NodeCordoned', message: `node ${closed.node} is cordoned, draining or offline` }
    },
  },
  {
    name: 'Mayastor drains no pool of the volume',
    refuses: ({ leaving, volume, view }) => (leaving === undefined ? undefined : poolDrain(volume, view)),
  },
  {
    name: 'every replica that stays is where the topology of the volume wants it',
    refuses: ({ leaving, stay, volume, view }) => (leaving === undefined ? undefined : misplaced(volume, stay, view)),
  },
]

/** Why the count may not be lowered now; empty: nothing stands in the way. */
export function shrinkRefusals(journal: Journal, volume: MayastorVolume, view: View): readonly Refusal[] {
  const leaving = find(volume, journal.victim)
  const removal = { journal, volume, leaving, stay: without(volume, journal.victim), view }
  return SHRINK_CHECKS.flatMap(({ refuses }) => refuses(removal) ?? [])
}

/** Online and without any mark but that of this move: Mayastor prefers to remove replicas from marked nodes. */
function isUnmarked(node: MayastorNode | undefined, journal: Journal): boolean {
  const own = labelOf(journal)
  return node?.online === true && node.drainLabels.length === 0 && node.cordonLabels.every((label) => label === own)
}
