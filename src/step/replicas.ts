import type { MayastorReplica, MayastorVolume } from '../api/mayastor.js'
import type { Move } from '../plan/moves.js'
import type { Journal } from './journal.js'
import { zoneCount } from './preconditions.js'
import { note, type Situation, type Step } from './step.js'

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

/** The replicas but the one of that uuid. */
export function without({ replicas }: MayastorVolume, uuid: string | undefined): readonly MayastorReplica[] {
  return replicas.filter((replica) => replica.uuid !== uuid)
}

/** Times Mayastor may replace replicas during a move before a person has to look. */
const MAX_ADOPTIONS = 3

/**
 * Mayastor replaced replicas, the one we added or ones from before, by new ones: those take their places in the journal
 * of a move whose count was raised. When it happens time and again the migration is Held. Undefined: nothing was
 * replaced, or not all of it yet.
 */
export function adopt(journal: Journal, volume: MayastorVolume, { now, view }: Situation): Step | undefined {
  const { move } = journal
  // Lost, or gone before it was seen.
  const lostAdded = find(volume, move.added) === undefined
  const lost = missing(journal, volume)
  const left = [...strangers(journal, volume)]
  if (left.length === 0 || left.length !== lost.length + Number(lostAdded)) return undefined
  const take = (fits: (replica: MayastorReplica) => boolean) => {
    const index = left.findIndex(fits)
    return index < 0 ? undefined : left.splice(index, 1)[0]
  }
  const onTarget = lostAdded ? take(({ pool }) => pool === move.targetPool) : undefined
  const backOn = lost.map(({ pool }) => take((other) => other.pool === pool))
  // Of the others it is the one that can be spared: it may have to go again.
  const zonesWithout = ({ uuid }: MayastorReplica) => zoneCount(without(volume, uuid), view)
  const spare = left.toSorted((a, b) => zonesWithout(b) - zonesWithout(a))[0]
  const added = lostAdded ? (onTarget ?? take((replica) => replica === spare)) : undefined
  const places = new Map(lost.map(({ replica }, index) => [replica, backOn[index] ?? take(() => true)]))
  const adoptions = (journal.adoptions ?? 0) + lost.length + Number(lostAdded)
  // Where the one that was to go is gone, what fills the gap is the surplus now, and its removal was never asked for.
  const goes = journal.victim ?? (journal.undo === undefined ? undefined : move.added)
  const surplus = goes === move.added ? added : places.get(goes ?? '')
  const { reading, removalSentAt, ...rest } = journal
  // One that is where it should go already need not move.
  const queue = journal.queue.filter(({ replica }) => !journal.candidatePools.includes(places.get(replica)?.pool ?? ''))
  const renamed = (entry: Move): Move => {
    const { uuid: replica, pool: sourcePool = '' } = places.get(entry.replica) ?? { uuid: undefined }
    return replica === undefined ? entry : { ...entry, replica, sourcePool }
  }
  const adopted: Journal = {
    ...rest,
    adoptions,
    ...(surplus === undefined ? {} : { victim: surplus.uuid }),
    ...(surplus !== undefined || removalSentAt === undefined ? {} : { removalSentAt }),
    baseline: journal.baseline.map((entry) => {
      const { uuid: replica, pool = '', node = '' } = places.get(entry.replica) ?? { uuid: undefined }
      return replica === undefined ? entry : { replica, pool, node }
    }),
    queue: queue.map(renamed),
    replicasTotal: journal.replicasTotal - (journal.queue.length - queue.length),
    move: {
      ...move,
      replica: places.get(move.replica)?.uuid ?? move.replica,
      ...(added === undefined ? {} : { added: added.uuid }),
    },
    ...(added === undefined && reading === undefined ? {} : { progress: { percent: 0, at: now } }),
  }
  if (adoptions <= MAX_ADOPTIONS) return note(adopted)
  const message = `Mayastor replaced ${adoptions} replicas of the volume during this move`
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
