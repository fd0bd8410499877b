import type { BaseLogger } from 'pino'
import type { NewEvent } from './api/kubernetes.js'
import type { EventWriter } from './clients/events.js'
import type { Metrics } from './metrics.js'

/** Writes Kubernetes Events beside the hooks: nothing waits for one, and one that cannot be written is not tried again. */
export interface Announcer {
  announce(events: readonly NewEvent[]): void
  /** Settles when everything announced so far is written or given up. */
  idle(): Promise<void>
}

export interface AnnouncerDeps {
  readonly writer: EventWriter
  readonly log: BaseLogger
  readonly metrics: Pick<Metrics, 'eventsTotal'>
  /** Runs what nobody waits for; simulated time has to know of it. Default: just runs it. */
  readonly task?: (work: () => Promise<void>) => Promise<void>
}

/** Events under way at once; beyond that they are dropped: there is no use in a queue of old news. */
const PENDING_LIMIT = 64

export function announcer({ writer, log, metrics, task = (work) => work() }: AnnouncerDeps): Announcer {
  const pending = new Set<Promise<void>>()
  const write = async (event: NewEvent): Promise<void> => {
    const { type, reason, regarding } = event
    const { outcome, detail } = await writer.write(event)
    metrics.eventsTotal.inc({ type, reason, outcome })
    if (detail === undefined) return
    const { kind, namespace, name } = regarding
    log.warn({ kind, namespace, name, reason, outcome, detail }, 'event not written')
  }
  return {
    announce: (events) => {
      for (const event of events) {
        if (pending.size >= PENDING_LIMIT) {
          metrics.eventsTotal.inc({ type: event.type, reason: event.reason, outcome: 'dropped' })
          continue
        }
        const written = task(() => write(event)).finally(() => pending.delete(written))
        pending.add(written)
      }
    },
    idle: async () => {
      while (pending.size > 0) await Promise.all(pending)
    },
  }
}
