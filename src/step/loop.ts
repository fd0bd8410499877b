import type { BaseLogger } from 'pino'
import type { StoredLease } from '../clients/leases.js'
import type { Clock } from '../clock.js'
import type { PolicyOptions } from '../decide/policy.js'
import type { Metrics } from '../metrics.js'
import { type ActDeps, act } from './act.js'
import { decodeFence, decodeJournal, FENCE_NAME, isActive, isJournalName, type Journal } from './journal.js'

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
  readonly metrics: Pick<Metrics, 'activeMigrations' | 'extraReplicas' | 'fenceOpenSeconds'>
  readonly options: PolicyOptions
  readonly task: <T>(work: () => Promise<T>) => Promise<T>
}

const PERIOD_MS = 10_000
/** Silence, on our own clock, after which a bracket counts as abandoned: two heartbeats and more. */
const BRACKET_SILENCE_MS = 45_000
/** Silence after which a move counts as abandoned and is finished or undone, whichever is safe sooner. */
const MOVE_SILENCE_MS = 600_000
/** Tombstones stay for the cooldown, and at least this long. */
const TOMBSTONE_MS = 3_600_000
const BUDGET_MS = 5_000

export function moveLoop({ act: deps, clock, log, metrics, options, task }: LoopDeps): MoveLoop {
  const lastChange = new Map<string, { readonly renewedAt: number; readonly since: number }>()
  const stopping = new AbortController()
  let turn: Promise<void> = Promise.resolve()
  let cancel = () => {}

  /** How long the lease has stood still, by our own monotonic clock. */
  const silence = (lease: StoredLease): number => {
    const now = clock.monotonic()
    const seen = lastChange.get(lease.name)
    if (seen === undefined || seen.renewedAt !== lease.renewedAt) {
      lastChange.set(lease.name, { renewedAt: lease.renewedAt, since: now })
      return 0
    }
    return now - seen.since
  }

  const drive = async (act_: ActDeps, volume: string, journal: Journal | undefined, bracketOnly: boolean) => {
    log.info({ volume, id: journal?.id, bracketOnly }, 'nobody drives this move; cleaning up')
    const assignment = {
      volumeID: volume,
      migration: undefined,
      finalizing: false,
      bracketOnly,
      topology: journal?.topology ?? '',
      policy: journal?.policy ?? '',
      preservationMode: options.preservationMode,
      dryRun: options.dryRun,
      clusterLimit: options.maxConcurrentMigrations,
      totals: { succeeded: 0, failed: 0, aborted: 0 },
    }
    await act(act_, assignment, BUDGET_MS, stopping.signal)
  }

  const look = async (deps: ActDeps) => {
    const leases = await deps.leases.list()
    const known = new Set(leases.map((lease) => lease.name))
    for (const name of lastChange.keys()) if (!known.has(name)) lastChange.delete(name)
    const fenceLease = leases.find((lease) => lease.name === FENCE_NAME)
    const fence = fenceLease === undefined ? {} : decodeFence(fenceLease.data)
    const fenceSilence = fenceLease === undefined ? 0 : silence(fenceLease)
    let active = 0
    let extra = 0
    let holder: { readonly journal: Journal | undefined; readonly silence: number } | undefined
    const abandoned: { readonly journal: Journal; readonly bracketOnly: boolean }[] = []
    for (const lease of leases.filter(({ name }) => isJournalName(name))) {
      const journal = decodeJournal(lease.data)
      const silent = silence(lease)
      if (fence.volume === journal.volume) holder = { journal, silence: silent }
      if (!isActive(journal)) {
        const kept = Math.max(journal.cooldownMs, TOMBSTONE_MS)
        if (clock.now() - (journal.end?.at ?? 0) > kept) await deps.leases.remove(lease.name, lease.version)
        continue
      }
      if (journal.phase !== 'ScalingUp') extra++
      if (journal.phase === 'Preserved') continue
      active++
      if (silent >= MOVE_SILENCE_MS) abandoned.push({ journal, bracketOnly: false })
      else if (silent >= BRACKET_SILENCE_MS && journal.call !== undefined) {
        abandoned.push({ journal, bracketOnly: true })
      }
    }
    metrics.activeMigrations.set(active)
    metrics.extraReplicas.set(extra)
    metrics.fenceOpenSeconds.set(fence.openedAt === undefined ? 0 : (clock.now() - fence.openedAt) / 1000)
    const held = fence.volume
    const quiet = Math.min(fenceSilence, isActive(holder?.journal) ? (holder?.silence ?? 0) : fenceSilence)
    if (held !== undefined && quiet >= BRACKET_SILENCE_MS) {
      if (!abandoned.some(({ journal }) => journal.volume === held)) await drive(deps, held, holder?.journal, true)
    }
    for (const { journal, bracketOnly } of abandoned) await drive(deps, journal.volume, journal, bracketOnly)
  }

  const run = async (deps: ActDeps) => {
    try {
      await look(deps)
    } catch (err) {
      log.warn({ err: (err as Error).message }, 'the loop could not look after abandoned moves')
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
