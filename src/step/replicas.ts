import type { MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import type { Journal } from './journal.js'
import { note, type Step } from './step.js'

/** Which of the volume's replicas are which, by uuid and by the journal alone. */

/** Replicas that the journal does not know from before the current move. */
export function newcomers(journal: Journal, volume: MayastorVolume): readonly MayastorReplica[] {
  const known = new Set(journal.baseline.map((entry) => entry.replica))
  return volume.replicas.filter((replica) => !known.has(replica.uuid))
}

/** Newcomers other than the one we added. */
export function strangers(journal: Journal, volume: MayastorVolume): readonly MayastorReplica[] {
  return newcomers(journal, volume).filter((replica) => replica.uuid !== journal.move.added)
}

/** Replicas from before the current move that are not there any more. */
export function missing(journal: Journal, volume: MayastorVolume): Journal['baseline'] {
  const there = new Set(volume.replicas.map((replica) => replica.uuid))
  return journal.baseline.filter((entry) => !there.has(entry.replica))
}

export function find(volume: MayastorVolume, uuid: string | undefined): MayastorReplica | undefined {
  return volume.replicas.find((replica) => replica.uuid === uuid)
}

/** Times Mayastor may replace replicas during a move before a person has to look. */
const MAX_ADOPTIONS = 3

/**
 * Mayastor replaced a replica, the one we added or one from before, by a new one: that takes its place in the journal.
 * When it happens time and again the migration is Held. Undefined: it is not one for one, and not over yet.
 */
export function adopt(journal: Journal, volume: MayastorVolume, now: number): Step | undefined {
  const { move } = journal
  const lostAdded = move.added !== undefined && find(volume, move.added) === undefined
  const lost = [...missing(journal, volume).map((entry) => entry.replica), ...(lostAdded ? [move.added] : [])]
  const [gone, ...moreGone] = lost
  const [replacement, ...moreNew] = strangers(journal, volume)
  if (gone === undefined || replacement === undefined || moreGone.length > 0 || moreNew.length > 0) return undefined
  const { uuid: replica, pool = '', node = '' } = replacement
  const adoptions = (journal.adoptions ?? 0) + 1
  const { reading: _, ...rest } = journal
  const adopted: Journal = {
    ...rest,
    adoptions,
    baseline: journal.baseline.map((entry) => (entry.replica === gone ? { replica, pool, node } : entry)),
    move: {
      ...move,
      ...(move.replica === gone ? { replica } : {}),
      ...(move.added === gone ? { added: replica } : {}),
    },
    ...(move.added === gone ? { progress: { percent: 0, at: now } } : {}),
  }
  if (adoptions <= MAX_ADOPTIONS) return note(adopted)
  const message = `Mayastor replaced replicas of the volume ${adoptions} times during this move`
  return hold(adopted, 'ReplacedTooOften', message, now, true)
}

/** The migration waits for a person, or for what its message names; its slot is free. */
export function hold(
  journal: Journal,
  reason: Required<Journal>['held']['reason'],
  message: string,
  at: number,
  forPerson: boolean,
): Step {
  const holds = (journal.holds ?? 0) + 1
  const id = holds === 1 ? journal.id : `${journal.id}/${holds}`
  return note({ ...journal, holds, held: { id, reason, message, at, forPerson } })
}
