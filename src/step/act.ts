import type { MayastorVolume } from '../api/mayastor.js'
import { LeaseError, type LeaseRecord, type LeaseStore, type StoredLease } from '../clients/leases.js'
import { type MayastorClient, MayastorError } from '../clients/mayastor.js'
import type { Clock } from '../clock.js'
import { ordinalOf } from '../plan/migration-id.js'
import {
  decodeFence,
  decodeJournal,
  encode,
  FENCE_NAME,
  type Fence,
  isActive,
  isJournalName,
  type Journal,
  journalName,
  type MayastorCall,
  UnreadableRecord,
} from './journal.js'
import { nextStep } from './next-step.js'
import type { View } from './preconditions.js'
import { leavePair } from './preserved.js'
import type { Sightings } from './sightings.js'
import { type Report, type Situation, SOON, type Step } from './step.js'

/** The thin shell of the step machine: reads afresh, asks for the next step, swaps the record, sends the call. */

/** No write is sent later than this after the read it rests on, and so after the swap that announced it. */
const MAX_WINDOW_MS = 5_000
/** A journal that is being driven is renewed at least this often: a sign of life for the loop of every server. */
const HEARTBEAT_MS = 20_000
/** Seconds until the next sync after a call that failed. */
const AFTER_FAILURE = 5
/** Steps in one sync at most; a bracket that needs more goes on in the next. */
const STEP_LIMIT = 400

export interface ActDeps {
  readonly mayastor: MayastorClient
  readonly leases: LeaseStore
  readonly clock: Clock
  /** Names this process in the Leases, for people. */
  readonly identity: string
  /** What this process has seen of unresolved calls and of readings. */
  readonly sightings: Sightings
  readonly observer: Observer
}

/** Told what this process did: for metrics and logs. */
export interface Observer {
  /** A call was sent this long after the read it rests on. */
  sent(call: MayastorCall, secondsSinceRead: number, failure: MayastorError | undefined): void
  /** A migration ended, and this process wrote it down. `volume`: as it was read before. */
  ended(journal: Journal, volume: MayastorVolume | undefined): void
  /** A move waits for the fence; said again each time it looks. */
  fenceAwaited(volume: string): void
  fenceTaken(volume: string): void
  /** `openedAt` in milliseconds since the epoch. */
  fenceReleased(openedAt: number): void
}

/** What one drive is about; the rest is read. */
export type Assignment = Pick<
  Situation,
  | 'volumeID'
  | 'migration'
  | 'known'
  | 'finalizing'
  | 'release'
  | 'bracketOnly'
  | 'topology'
  | 'policy'
  | 'preservationMode'
  | 'dryRun'
  | 'clusterLimit'
  | 'totals'
> & {
  /** The server's loop ends the move: nobody has driven it for long. */
  readonly abandoned: boolean
}

export interface Outcome {
  readonly view: View
  readonly journal: Journal | undefined
  readonly fence: Fence
  readonly report: Report | undefined
  /** Until the next look; undefined: at rest. */
  readonly seconds: number | undefined
  /** A call to Mayastor that did not succeed, for the log. */
  readonly failure: MayastorError | undefined
}

type Records = { readonly journal: StoredLease | undefined; readonly fence: StoredLease | undefined }

/**
 * Takes the move of one volume forward by one step: bookkeeping as far as it goes, and calls to Mayastor of one kind
 * only. Stops after `budgetMs` (monotonic) or when `signal` aborts, always between two calls. Throws MayastorError or
 * LeaseError when something cannot be read or a record cannot be written; nothing was sent then.
 */
export async function act(
  deps: ActDeps,
  assignment: Assignment,
  budgetMs: number,
  signal: AbortSignal,
): Promise<Outcome> {
  const { clock } = deps
  const startedAt = clock.monotonic()
  let sent: MayastorCall['op'] | undefined
  /** What the last step that was taken was about. */
  let done: Report | undefined
  for (let steps = 0; ; steps++) {
    const { situation, records, readAt } = await readSituation(deps, assignment)
    const step = nextStep(situation)
    const outcome = outcomeOf(situation)
    if (step.kind === 'rest') {
      await renew(deps, situation.journal, records.journal)
      return outcome
    }
    if (step.kind === 'wait') {
      if (step.report.reason === 'WaitingForFence') deps.observer.fenceAwaited(situation.volumeID)
      await renew(deps, situation.journal, records.journal)
      return { ...outcome, report: step.report, seconds: step.seconds }
    }
    const pending = { ...outcome, report: done, seconds: SOON }
    const over = steps >= STEP_LIMIT || clock.monotonic() - startedAt > budgetMs || signal.aborted
    if (over || (step.kind === 'call' && sent !== undefined && sent !== step.call.op)) return pending
    if (step.kind !== 'call') {
      if (!(await write(deps, situation, records, step))) return pending
      done = 'report' in step ? step.report : done
      continue
    }
    const failure = await send(deps, situation, records, step, readAt)
    sent = step.call.op
    done = step.report
    if (failure !== undefined || step.call.op === 'setReplicaCount') {
      return { ...pending, report: done, seconds: failure === undefined ? SOON : AFTER_FAILURE, failure }
    }
  }
}

function outcomeOf({ view, journal, fence }: Situation): Outcome {
  return { view, journal, fence, report: undefined, seconds: undefined, failure: undefined }
}

async function readSituation(
  deps: ActDeps,
  { abandoned, ...assignment }: Assignment,
): Promise<{ situation: Situation; records: Records; readAt: number }> {
  const { mayastor, leases, clock, sightings } = deps
  const { volumeID, migration } = assignment
  const readAt = clock.monotonic()
  const [journalLease, fenceLease] = await Promise.all([leases.get(journalName(volumeID)), leases.get(FENCE_NAME)])
  const journal = journalLease === undefined ? undefined : readable(journalLease, decodeJournal)
  const fence = fenceLease === undefined ? {} : readable(fenceLease, decodeFence)
  const own = isActive(journal) ? journal : fence.volume === volumeID ? fence : undefined
  const age = (what: string, of: object | undefined) =>
    sightings.age(`${what} ${volumeID}`, of === undefined ? undefined : JSON.stringify(of))
  // Whether the fence may be taken is decided from everything.
  const opens = isActive(journal) ? journal?.phase !== 'WaitingSync' : migration !== undefined
  const begins = opens && (fence.volume !== volumeID || !isActive(journal))
  const reading = Promise.all([
    mayastor.volume(volumeID),
    readSurroundings(mayastor),
    begins ? readJournals(leases) : NO_JOURNALS,
    begins ? mayastor.volumes() : [],
  ])
  const [volume, surroundings, { journals, unreadable }, volumes] = await reading.catch(async (error: unknown) => {
    if (error instanceof MayastorError) await keepAlive(deps, assignment, journal, journalLease)
    throw error
  })
  return {
    readAt,
    records: { journal: journalLease, fence: fenceLease },
    situation: {
      ...assignment,
      now: clock.now(),
      cancel: cancelOf(assignment, journal, abandoned),
      journal,
      fence,
      callAgeMs: age('call', own?.call),
      readingAgeMs: age('reading', journal?.reading),
      view: { ...surroundings, volume },
      journals,
      unreadable,
      volumes,
    },
  }
}

/**
 * Driven as far as that goes: an outage of Mayastor does not make a move that is wanted an abandoned one. That a pair is
 * kept no longer is written down, since the ReplicaTopology may not wait for Mayastor.
 */
async function keepAlive(
  deps: ActDeps,
  { finalizing, migration }: Pick<Assignment, 'finalizing' | 'migration'>,
  journal: Journal | undefined,
  stored: StoredLease | undefined,
): Promise<void> {
  if (finalizing && journal?.phase === 'Preserved')
    await swapJournal(deps, leavePair(journal, deps.clock.now()), stored)
  else if (finalizing || (migration !== undefined && migration.id === journal?.id)) await renew(deps, journal, stored)
}

function cancelOf(
  { bracketOnly, finalizing, migration }: Omit<Assignment, 'abandoned'>,
  journal: Journal | undefined,
  abandoned: boolean,
): Situation['cancel'] {
  if (bracketOnly) return undefined
  if (abandoned) return 'Abandoned'
  const late = migration !== undefined && journal !== undefined && ordinalOf(migration.id) < ordinalOf(journal.id)
  return finalizing || (migration?.id !== journal?.id && !late) ? 'Cancelled' : undefined
}

/** What every volume shares, as Mayastor says now. */
export async function readSurroundings(mayastor: MayastorClient): Promise<Omit<View, 'volume'>> {
  const [pools, nodes, capabilities] = await Promise.all([mayastor.pools(), mayastor.nodes(), mayastor.capabilities()])
  return {
    pools: new Map(pools.map((pool) => [pool.id, pool])),
    nodes: new Map(nodes.map((node) => [node.id, node])),
    capabilities,
  }
}

export interface Journals {
  readonly journals: readonly Journal[]
  /** Names of Leases that should be journals and cannot be read. */
  readonly unreadable: readonly string[]
}

const NO_JOURNALS: Journals = { journals: [], unreadable: [] }

/** Every journal of the operator, live. One that cannot be read does not stand in the way of the others. */
export async function readJournals(leases: LeaseStore): Promise<Journals> {
  const journals: Journal[] = []
  const unreadable: string[] = []
  for (const { name, data } of (await leases.list()).filter((lease) => isJournalName(lease.name))) {
    try {
      journals.push(decodeJournal(data))
    } catch (error) {
      if (!(error instanceof UnreadableRecord)) throw error
      unreadable.push(name)
    }
  }
  return { journals, unreadable }
}

/** Throws LeaseError where the record cannot be read. */
function readable<T>(lease: StoredLease, decode: (data: string) => T): T {
  try {
    return decode(lease.data)
  } catch (cause) {
    if (!(cause instanceof UnreadableRecord)) throw cause
    throw new LeaseError(`lease ${lease.name}: ${cause.message}`, { cause })
  }
}

/** Swaps the record a step without a call is about; false when somebody else was first. */
async function write(
  deps: ActDeps,
  situation: Situation,
  records: Records,
  step: Exclude<Step, { kind: 'rest' | 'wait' | 'call' }>,
): Promise<boolean> {
  switch (step.kind) {
    case 'note': {
      if ((await swapJournal(deps, step.journal, records.journal)) === 'conflict') return false
      if (isActive(situation.journal) && !isActive(step.journal)) {
        deps.observer.ended(step.journal, situation.view.volume)
      }
      return true
    }
    case 'takeFence':
    case 'intend':
      if ((await swap(deps, FENCE_NAME, encode(step.fence), records.fence)) === 'conflict') return false
      if (step.kind === 'takeFence') deps.observer.fenceTaken(situation.volumeID)
      return true
    case 'releaseFence':
      if (situation.fence.volume !== situation.volumeID) return false
      // Whoever is about to announce a call of this bracket loses that swap: nothing can come after the release.
      if (situation.journal !== undefined && isActive(situation.journal)) {
        const { cordoned: _, ...journal } = situation.journal
        if ((await swapJournal(deps, journal, records.journal)) === 'conflict') return false
      }
      if ((await swap(deps, FENCE_NAME, encode({}), records.fence)) === 'conflict') return false
      if (situation.fence.openedAt !== undefined) deps.observer.fenceReleased(situation.fence.openedAt)
      return true
  }
}

/**
 * Announces the call in the journal (in the fence, where there is none any more), sends it, and writes down a definite
 * answer. An answer that is not definite leaves the announcement: from then on the call counts as sent.
 */
async function send(
  deps: ActDeps,
  { fence, volumeID, journal: before }: Situation,
  records: Records,
  { journal, call }: Extract<Step, { kind: 'call' }>,
  readAt: number,
): Promise<MayastorError | undefined> {
  const { clock } = deps
  const swapped =
    journal === undefined
      ? await swap(deps, FENCE_NAME, encode({ ...fence, call: { ...call, sentAt: clock.now() } }), records.fence)
      : await swapJournal(deps, journal, records.journal)
  if (swapped === 'conflict') return undefined
  const window = clock.monotonic() - readAt
  const failure = await request(deps.mayastor, volumeID, call, readAt + MAX_WINDOW_MS).then(
    () => undefined,
    (error: unknown) => {
      if (error instanceof MayastorError) return error
      throw error
    },
  )
  if (failure?.failure === 'unsent') {
    // What was true before the announcement is true again.
    if (journal === undefined) await swap(deps, FENCE_NAME, encode(fence), swapped)
    else if (before !== undefined) await swapJournal(deps, before, swapped)
    return undefined
  }
  deps.observer.sent(call, window / 1000, failure)
  if (failure !== undefined && failure.failure !== 'refused') return failure
  if (journal === undefined) {
    await swap(deps, FENCE_NAME, encode(fence), swapped)
    return failure
  }
  if (failure !== undefined && call.op === 'cordonPool' && isAlreadySo(call, failure)) {
    await swap(deps, FENCE_NAME, encode(disown(fence, call.pool)), records.fence)
  }
  const { call: _, ...answered } = journal
  const refused = failure !== undefined && !isAlreadySo(call, failure)
  const closes = call.op === 'uncordonPool' || call.op === 'uncordonNode'
  const confirmed = call.op === 'setReplicaCount' && !refused ? { confirmedCount: call.count } : {}
  // Whoever cordons the pool from now on does it for themselves.
  const opened = call.op === 'uncordonPool' && !refused ? { cordoned: without(answered.cordoned, call.pool) } : {}
  const told = refused && !closes ? { refused: failure?.message ?? '', refusedAt: clock.now() } : confirmed
  await swapJournal(deps, { ...answered, ...told, ...opened }, swapped)
  return refused ? failure : undefined
}

const without = (pools: readonly string[] | undefined, pool: string) => pools?.filter((one) => one !== pool) ?? []

function request(mayastor: MayastorClient, volume: string, call: MayastorCall, sendBefore: number): Promise<void> {
  switch (call.op) {
    case 'setReplicaCount':
      return mayastor.setReplicaCount(volume, call.count, sendBefore)
    case 'cordonPool':
      return mayastor.cordonPool(call.pool, sendBefore)
    case 'uncordonPool':
      return mayastor.uncordonPool(call.pool, sendBefore)
    case 'cordonNode':
      return mayastor.cordonNode(call.node, call.label, sendBefore)
    case 'uncordonNode':
      return mayastor.uncordonNode(call.node, call.label, sendBefore)
  }
}

/** Somebody else cordoned the pool between our read and our call: it is theirs. */
function disown(fence: Fence, pool: string): Fence {
  const { pools = [], ...intent } = fence.intent ?? {}
  return { ...fence, intent: { ...intent, pools: pools.filter((entry) => entry.pool !== pool) } }
}

/**
 * "It is so already": 422 for pool bits, 412 for node labels. The next read decides. A count that is so already is so
 * because somebody else set it, and counts as a refusal.
 */
function isAlreadySo({ op }: MayastorCall, { status, kind }: MayastorError): boolean {
  if (op === 'setReplicaCount') return false
  return kind === 'AlreadyExists' || (status === 412 && (op === 'cordonNode' || op === 'uncordonNode'))
}

/** Renews the journal of a move that only waits, so that nobody takes it for abandoned. */
async function renew(deps: ActDeps, journal: Journal | undefined, stored: StoredLease | undefined): Promise<void> {
  if (journal === undefined || !isActive(journal) || stored === undefined) return
  // A writer whose clock is ahead of ours must not keep us silent.
  if (Math.abs(deps.clock.now() - stored.renewedAt) >= HEARTBEAT_MS) await swapJournal(deps, journal, stored)
}

function swapJournal(deps: ActDeps, journal: Journal, stored: StoredLease | undefined) {
  return swap(deps, journalName(journal.volume), encode(journal), stored)
}

async function swap(
  { leases, clock, identity }: ActDeps,
  name: string,
  data: string,
  stored: StoredLease | undefined,
): Promise<StoredLease | 'conflict'> {
  const record: LeaseRecord = { name, holder: identity, renewedAt: clock.now(), data }
  return stored === undefined ? leases.create(record) : leases.replace(record, stored.version)
}
