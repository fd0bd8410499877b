import type { BaseLogger } from 'pino'
import type { StoredLease } from '../clients/leases.js'
import type { Clock } from '../clock.js'
import type { PolicyOptions } from '../decide/policy.js'
import type { Metrics } from '../metrics.js'
import { waitAfter } from '../plan/back-off.js'
import { type ActDeps, type Assignment, act } from './act.js'
import {
  decodeFence,
  decodeJournal,
  FENCE_NAME,
  holdsSlot,
  isActive,
  isJournalName,
  type Journal,
  journalName,
  UnreadableRecord,
} from './journal.js'
import { sightings } from './sightings.js'
import { SOON } from './step.js'

/**
 * The server's own loop: closes brackets and ends moves that nobody drives (Metacontroller is down, a server died, the
 * ReplicaTopology is gone). Every server runs one; compare-and-swap keeps them out of each other's way.
 */
export interface MoveLoop {
  start(): void
  /** Settles when the turn that runs is over. */
  stop(): Promise<void>
}

export interface LoopDeps {
  /** Undefined: no access to Leases, so there is nothing to look after. */
  readonly act: ActDeps | undefined
  readonly clock: Clock
  readonly log: BaseLogger
  readonly metrics: Pick<Metrics, 'activeMigrations' | 'heldMigrations' | 'extraReplicas' | 'fenceOpenSeconds'>
  readonly options: PolicyOptions
  readonly task: <T>(work: () => Promise<T>) => Promise<T>
}

const PERIOD_MS = 10_000
/** Silence, on our own clock, after which a bracket counts as abandoned: two heartbeats and more. */
const BRACKET_SILENCE_MS = 45_000
/**
 * Silence after which a move counts as abandoned and is finished or undone, whichever is safe sooner. Longer than
 * Metacontroller's longest back-off, 1000 s, and a resync at rest together.
 */
const MOVE_SILENCE_MS = 1_800_000
/** Silence after which nobody is taken to want a pair any more that preservation mode kept. */
const PAIR_SILENCE_MS = 86_400_000
/** Tombstones stay until the volume may be migrated again, and at least this long. */
const TOMBSTONE_MS = 3_600_000
const BUDGET_MS = 5_000
/** Turns for one bracket: enough for some hundred pools. */
const TURNS_LIMIT = 24

export function moveLoop({ act: deps, clock, log, metrics, options, task }: LoopDeps): MoveLoop {
  const seen = sightings(clock)
  const stopping = new AbortController()
  let turn: Promise<void> = Promise.resolve()
  let cancel = () => {}

  /** When we last wrote the leases of moves that nobody else drives. */
  const driven = new Map<string, number>()

  /** How long the lease has stood still, but for what we write into it ourselves for want of anybody else. */
  const silence = ({ name, renewedAt }: StoredLease): number =>
    driven.get(name) === renewedAt ? Number.POSITIVE_INFINITY : seen.age(name, String(renewedAt))

  const assignment = (volume: string, journal: Journal | undefined, bracketOnly: boolean): Assignment => ({
    volumeID: volume,
    migration: undefined,
    known: false,
    finalizing: false,
    release: undefined,
    bracketOnly,
    abandoned: !bracketOnly,
    topology: journal?.topology ?? '',
    policy: journal?.policy ?? '',
    preservationMode: options.preservationMode,
    dryRun: options.dryRun,
    clusterLimit: options.maxConcurrentMigrations,
    totals: { succeeded: 0, failed: 0, aborted: 0 },
  })

  const drive = async (deps: ActDeps, volume: string, journal: Journal | undefined, bracketOnly: boolean) => {
    const name = journalName(volume)
    if (!driven.has(name)) log.info({ volume, id: journal?.id, bracketOnly }, 'nobody drives this move; cleaning up')
    try {
      // What is written here ends the silence: a bracket that takes longer is closed without waiting for it again.
      for (let turns = 0; turns < TURNS_LIMIT && !stopping.signal.aborted; turns++) {
        const work = assignment(volume, journal, bracketOnly)
        const { fence, seconds, failure } = await act(deps, work, BUDGET_MS, stopping.signal)
        if (fence.volume !== volume || seconds !== SOON || failure !== undefined) break
      }
      const lease = bracketOnly ? undefined : await deps.leases.get(name)
      if (lease !== undefined) driven.set(name, lease.renewedAt)
    } catch (error) {
      log.warn({ volume, cause: (error as Error).message }, 'the move could not be cleaned up')
    }
  }

  /** Lists the leases; what was silent while nobody could write is not held against it. */
  const list = async (deps: ActDeps): Promise<readonly StoredLease[]> => {
    try {
      return await deps.leases.list()
    } catch (error) {
      seen.clear()
      throw error
    }
  }

  const read = <T>(lease: StoredLease, decode: (data: string) => T): T | undefined => {
    try {
      return decode(lease.data)
    } catch (error) {
      if (!(error instanceof UnreadableRecord)) throw error
      log.error({ lease: lease.name, cause: error.message }, 'a lease cannot be read; no move begins while it is there')
      return undefined
    }
  }

  const look = async (deps: ActDeps) => {
    const leases = await list(deps)
    seen.keep(new Set(leases.map((lease) => lease.name)))
    for (const [name, at] of driven) if (!leases.some((l) => l.name === name && l.renewedAt === at)) driven.delete(name)
    const fenceLease = leases.find((lease) => lease.name === FENCE_NAME)
    const fence = (fenceLease && read(fenceLease, decodeFence)) ?? {}
    const fenceSilence = fenceLease === undefined ? 0 : silence(fenceLease)
    let active = 0
    let held = 0
    let extra = 0
    let holder: { readonly journal: Journal; readonly silence: number } | undefined
    const quiet: { readonly journal: Journal; readonly bracketOnly: boolean }[] = []
    for (const lease of leases.filter(({ name }) => isJournalName(name))) {
      const journal = read(lease, decodeJournal)
      if (journal === undefined) continue
      const silent = silence(lease)
      if (fence.volume === journal.volume) holder = { journal, silence: silent }
      if (!isActive(journal)) {
        const kept = Math.max(waitAfter(journal.cooldownMs, journal.failures ?? 0), TOMBSTONE_MS)
        if (clock.now() - (journal.end?.at ?? 0) > kept) await deps.leases.remove(lease.name, lease.version)
        continue
      }
      if (holdsSlot(journal)) active++
      if (journal.held !== undefined) held++
      if (journal.phase !== 'ScalingUp') extra++
      const limit = journal.phase === 'Preserved' ? PAIR_SILENCE_MS : MOVE_SILENCE_MS
      if (silent >= limit) quiet.push({ journal, bracketOnly: false })
      else if (silent >= BRACKET_SILENCE_MS && journal.call !== undefined) quiet.push({ journal, bracketOnly: true })
    }
    metrics.activeMigrations.set(active)
    metrics.heldMigrations.set(held)
    metrics.extraReplicas.set(extra)
    metrics.fenceOpenSeconds.set(fence.openedAt === undefined ? 0 : (clock.now() - fence.openedAt) / 1000)
    const fenced = fence.volume
    const fencedSilence = isActive(holder?.journal) ? Math.min(fenceSilence, holder?.silence ?? 0) : fenceSilence
    if (fenced !== undefined && fencedSilence >= BRACKET_SILENCE_MS) await drive(deps, fenced, holder?.journal, true)
    for (const { journal, bracketOnly } of quiet) {
      if (journal.volume !== fenced || !bracketOnly) await drive(deps, journal.volume, journal, bracketOnly)
    }
  }

  const run = async (deps: ActDeps) => {
    try {
      await look(deps)
    } catch (error) {
      log.warn({ cause: (error as Error).message }, 'the loop could not look after abandoned moves')
    }
    if (!stopping.signal.aborted) cancel = clock.after(PERIOD_MS, () => begin(deps))
  }

  const begin = (deps: ActDeps) => {
    turn = task(() => run(deps))
  }

  return {
    start: () => {
      if (deps !== undefined) begin(deps)
    },
    stop: async () => {
      stopping.abort()
      cancel()
      await turn
    },
  }
}
