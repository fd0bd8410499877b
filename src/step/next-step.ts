import type { MayastorVolume } from '../api/mayastor.js'
import type { MigrationReason } from '../api/reasons.js'
import { begin } from './admission.js'
import { waitingSync } from './await-sync.js'
import { closeBracket, resolve, sweepLabel } from './bracket.js'
import { isGrown, scalingUp } from './grow.js'
import { type ActiveJournal, isActive, type Journal } from './journal.js'
import { preserved } from './preserved.js'
import { hold } from './replicas.js'
import { scalingDown } from './shrink.js'
import { end, note, reportOf, type Situation, type Step, WATCH, wait } from './step.js'

/** A move that waits this long for something outside it is Held: its slot is free, and people are told. */
const REST_LIMIT_MS = 3_600_000

/**
 * The protocol of one move, as a function of what was read: first what is unresolved is resolved, then the bracket
 * that is no longer needed is closed, then the phase goes on.
 */
export function nextStep(s: Situation): Step {
  const { journal } = s
  if (!isActive(journal)) {
    if (s.fence.volume === s.volumeID && s.fence.call !== undefined) return closeBracket(s) ?? { kind: 'rest' }
    const step = begin(s)
    return step.kind === 'rest' || step.kind === 'wait' ? (closeBracket(s) ?? sweepLabel(s) ?? step) : step
  }
  if (journal.call !== undefined) return resolve(journal, journal.call, s)
  const swept = sweepLabel(s)
  if (swept !== undefined) return swept
  const { volume } = s.view
  if (volume === undefined) {
    return closeBracket(s) ?? end(journal, s.now, 'Aborted', 'VolumeGone', 'Mayastor knows no such volume')
  }
  if (s.bracketOnly && !isOutcomeDue(journal, volume)) {
    return closeBracket(s) ?? wait(journal, 'Resting', 'nobody drives this move at present', WATCH)
  }
  return released(journal, volume, s) ?? atRest(journal, volume, s)
}

function advance(journal: ActiveJournal, volume: MayastorVolume, s: Situation): Step {
  switch (journal.phase) {
    case 'ScalingUp':
      return scalingUp(journal, volume, s)
    case 'WaitingSync':
      return closeBracket(s) ?? waitingSync(journal, volume, s)
    case 'ScalingDown':
      return scalingDown(journal, volume, s)
    case 'Preserved':
      return closeBracket(s) ?? preserved(journal, volume, s)
  }
}

/** Whether a change of the count was asked for, and what came of it is still to be written down. */
function isOutcomeDue(journal: Journal, volume: MayastorVolume): boolean {
  if (journal.phase === 'ScalingUp') return isGrown(journal, volume)
  return journal.phase === 'ScalingDown' && journal.removalSentAt !== undefined
}

/**
 * What becomes of a Held migration before anything else: a person releases it, by naming it, by withdrawing it or by
 * setting the count; else one that waits for a person waits on. Undefined: it goes on as any other.
 */
function released(journal: Journal, volume: MayastorVolume, s: Situation): Step | undefined {
  const { held } = journal
  if (held === undefined) return undefined
  const byPerson = s.cancel !== undefined || volume.numReplicas !== journal.count + 1
  if (s.release === held.id || (held.forPerson && byPerson)) {
    const { rest: _, held: __, adoptions: ___, ...again } = journal
    return note(again)
  }
  if (!held.forPerson) return undefined
  return closeBracket(s) ?? wait(journal, held.reason as MigrationReason, held.message, WATCH)
}

/** A move that waits for something outside it rests, its clocks standing still, and is Held when that takes long. */
function atRest(journal: ActiveJournal, volume: MayastorVolume, s: Situation): Step {
  const { now } = s
  const { rest, held } = journal
  const awake = rest === undefined ? journal : resumed(journal, rest.since, now)
  const step = advance(awake, volume, s)
  if (step.kind === 'wait' && step.rests) {
    const { reason, message } = step.report
    if (rest === undefined) return note({ ...journal, rest: { since: now, reason } })
    if (held === undefined && now - rest.since >= REST_LIMIT_MS) return hold(journal, reason, message, now, false)
    return { ...step, report: reportOf(journal, reason, message) }
  }
  if (rest === undefined) return step
  if (step.kind === 'wait') return note(awake)
  const { phase, progress, move } = journal
  if (phase !== 'ScalingDown' || !('journal' in step) || step.journal?.phase !== phase) return step
  // Between two tries of a removal it rests on, and the time of rest is yet to be taken out of its clocks.
  const still = { rest, progress, ...(held === undefined ? {} : { held }) }
  const since = { ...step.journal.move, startedAt: move.startedAt }
  return { ...step, journal: { ...step.journal, ...still, move: since } } as Step
}

/** The journal with the time of rest taken out of its clocks. */
function resumed({ rest: _, held: __, ...journal }: ActiveJournal, since: number, now: number): ActiveJournal {
  const rested = Math.max(0, now - since)
  const progress = { ...journal.progress, at: journal.progress.at + rested }
  const move = { ...journal.move, startedAt: journal.move.startedAt + rested }
  return { ...journal, progress, move }
}
