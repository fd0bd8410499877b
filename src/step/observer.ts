import type { BaseLogger } from 'pino'
import type { Clock } from '../clock.js'
import type { Metrics } from '../metrics.js'
import type { Observer } from './act.js'

/** Shows what this process did, as metrics and in the log. */

/** The log of one hook call, or of the whole process. */
export type CallLog = Pick<BaseLogger, 'info' | 'warn'>

export type ObserverMetrics = Pick<
  Metrics,
  | 'migrationsTotal'
  | 'migrationSeconds'
  | 'migrationBytes'
  | 'stepsTotal'
  | 'readToWriteSeconds'
  | 'fenceWaitSeconds'
  | 'fenceHeldSeconds'
>

export interface ObserverDeps {
  readonly clock: Clock
  readonly metrics: ObserverMetrics
}

/** A move that waits looks every few seconds: after this much silence, what it waited before is another story. */
const WAIT_SILENCE_MS = 60_000

/** An observer for each log: they differ in the request they name, and share what was seen. */
export function observers({ clock, metrics }: ObserverDeps): (log: CallLog) => Observer {
  /** By volume; milliseconds of the monotonic clock. */
  const waits = new Map<string, { readonly since: number; readonly seen: number }>()
  const waitOf = (volume: string) => {
    const wait = waits.get(volume)
    return wait !== undefined && clock.monotonic() - wait.seen <= WAIT_SILENCE_MS ? wait : undefined
  }
  return (log) => ({
    sent: ({ op }, seconds, failure) => {
      metrics.stepsTotal.inc({ step: op, outcome: failure?.failure ?? 'ok' })
      metrics.readToWriteSeconds.observe(seconds)
    },
    ended: ({ volume, id, direction, replicasMoved, startedAt, end }, observed) => {
      const phase = end?.phase ?? 'Failed'
      const status = phase === 'Completed' ? 'success' : phase === 'Aborted' ? 'aborted' : 'failed'
      const replicaBytes = Math.max(0, ...(observed?.replicas ?? []).map(({ allocatedBytes }) => allocatedBytes))
      metrics.migrationsTotal.inc({ status })
      metrics.migrationSeconds.observe({ direction, status }, Math.max(0, (end?.at ?? clock.now()) - startedAt) / 1000)
      metrics.migrationBytes.inc({ direction }, replicasMoved * replicaBytes)
      log.info({ volume, id, direction, replicasMoved, ...end }, 'migration ended')
    },
    fenceAwaited: (volume) => {
      const now = clock.monotonic()
      waits.set(volume, { since: waitOf(volume)?.since ?? now, seen: now })
    },
    fenceTaken: (volume) => {
      const now = clock.monotonic()
      metrics.fenceWaitSeconds.observe((now - (waitOf(volume)?.since ?? now)) / 1000)
      waits.delete(volume)
    },
    fenceReleased: (openedAt) => metrics.fenceHeldSeconds.observe(Math.max(0, clock.now() - openedAt) / 1000),
  })
}
