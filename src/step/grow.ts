import type { MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import { replanned } from './admission.js'
import { call, closeBracket, openBracket, otherBits, poolsToCordon, takeFence } from './bracket.js'
import { countChanged, finishMove } from './finish.js'
import type { Journal } from './journal.js'
import { misplaced, poolRefusal, type Refusal, volumeRefusals } from './preconditions.js'
import { find, missing, newcomers, without } from './replicas.js'
import { CANCELS, end, note, reportOf, rest, type Situation, type Step, WATCH, wait } from './step.js'

/** Longest wait, before anything was touched, for what stands in the way to go; the migration ends then. */
const LONGEST_WAIT_MS = 3_600_000

/** ScalingUp: every other pool is cordoned while the replica is added, and uncordoned when the outcome is known. */
export function scalingUp(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  const { now, view, fence } = s
  const { move, count } = journal
  if (isGrown(journal, volume)) return grown(journal, volume, now)
  const wasGrown = journal.confirmedCount === count + 1
  if (wasGrown || volume.numReplicas !== count) return countChanged(journal, volume, s)
  const sent = journal.growSentAt !== undefined
  const came = newcomers(journal, volume).find(({ pool }) => sent && pool === move.targetPool)
  if (volume.replicas.length > count) {
    if (came !== undefined && move.added === undefined) {
      return note({ ...journal, move: { ...move, added: came.uuid } })
    }
    // The call is resolved: cordons are not needed while Mayastor tidies up.
    const message = 'attaching the replica failed; Mayastor removes it again'
    return closeBracket(s) ?? rest(journal, 'Growing', message)
  }
  const stop = (reason: MigrationReason, message: string) =>
    closeBracket(s) ?? end(journal, now, 'Aborted', reason, message)
  if (journal.refused !== undefined) {
    if (came === undefined) return stop('GrowRefused', journal.refused)
    return closeBracket(s) ?? keptInstead({ ...journal, move: { ...move, added: came.uuid } }, volume, s)
  }
  if (s.cancel) return stop(s.cancel, `${CANCELS[s.cancel]} before the replica was added`)
  if (missing(journal, volume).length > 0) {
    return stop('PlacementChanged', 'the replicas are not those the move began with')
  }
  const wayOff = ({ reason, message }: { readonly reason: MigrationReason; readonly message: string }) => {
    if (now - journal.progress.at > Math.min(journal.timeoutMs, LONGEST_WAIT_MS)) return stop(reason, message)
    return closeBracket(s) ?? wait(journal, reason, message, WATCH)
  }
  const refusal = growRefusal(journal, volume, s)
  if (refusal !== undefined) return wayOff(refusal)
  if (fence.volume === undefined) {
    const planned = replanned(journal, volume, s)
    if ('reason' in planned) return wayOff(planned)
    if (planned !== journal) return note(planned)
    const opening = openBracket(journal, s)
    return opening.kind === 'wait' ? wayOff(opening.report) : opening
  }
  if (fence.volume !== s.volumeID) return takeFence(journal, s)

  const open = poolsToCordon(move.targetPool, new Set(volume.replicas.map(({ node }) => node)), view)
  const intent = fence.intent ?? { pools: [] }
  // What somebody has cordoned in another way before its turn is not cordoned by them meanwhile.
  const listed = new Map(intent.pools.map((entry) => [entry.pool, entry.otherBits]))
  const unlisted = open.filter((pool) => listed.get(pool.id) !== otherBits(pool))
  if (unlisted.length > 0) {
    for (const pool of unlisted) listed.set(pool.id, otherBits(pool))
    const pools = Array.from(listed, ([pool, bits]) => ({ pool, otherBits: bits }))
    const report = reportOf(journal, 'Cordoning', 'cordoning every other pool')
    return { kind: 'intend', fence: { ...fence, intent: { ...intent, pools } }, report }
  }
  const [next] = open
  if (next !== undefined) {
    const cordoned = [...(journal.cordoned ?? []), next.id]
    return call(
      { ...journal, cordoned },
      s,
      { op: 'cordonPool', pool: next.id },
      'Cordoning',
      `cordoning pool ${next.id}`,
    )
  }
  const request = { op: 'setReplicaCount', count: count + 1 } as const
  return call({ ...journal, growSentAt: now }, s, request, 'Growing', `adding a replica on ${move.targetPool}`)
}

/** The count is one more because we asked for it. */
export function isGrown({ growSentAt, refused, count }: Journal, { numReplicas }: MayastorVolume): boolean {
  return growSentAt !== undefined && refused === undefined && numReplicas === count + 1
}

function grown(journal: Journal, volume: MayastorVolume, now: number): Step {
  const { growSentAt: _, ...rest } = journal
  const { move } = journal
  const all = newcomers(journal, volume)
  // With more than one, Mayastor has replaced another replica meanwhile: ours is the one where it was meant to go.
  const [added, ...more] = all.length > 1 ? all.filter(({ pool }) => pool === move.targetPool) : all
  return note({
    ...rest,
    phase: 'WaitingSync',
    move: added === undefined || more.length > 0 ? move : { ...move, added: added.uuid },
    progress: { percent: 0, at: now },
  })
}

/** The call failed, yet the replica it made is there: Mayastor removed another one as the surplus. */
function keptInstead(journal: Journal, volume: MayastorVolume, s: Situation): Step {
  if (find(volume, journal.move.replica) === undefined) return finishMove(journal, volume, s)
  const message = `Mayastor kept the replica on ${journal.move.targetPool} and removed another one`
  return end(journal, s.now, 'Failed', 'PlacementChanged', message)
}

/** Why no replica may be added now, though it may be later. */
function growRefusal(journal: Journal, volume: MayastorVolume, s: Situation): Refusal | undefined {
  const [refusal = misplaced(volume, without(volume, journal.move.replica), s.view)] = volumeRefusals(s.view)
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
