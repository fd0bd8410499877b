import { Compile } from 'typebox/compile'
import type { JsonObject } from '../api/kubernetes.js'
import { HISTORY_LIMIT, StoragePolicyStatus } from '../api/storage-policy.js'
import type { LastEnd, Trip } from '../plan/breaker.js'
import type { Child } from './observe.js'

/**
 * What a policy remembers in its own status. A child only knows its newest migration, and takes that with it when it
 * goes: what failed before would be forgotten, and an open breaker would close by itself.
 */

export type History = StoragePolicyStatus['history']

const histories = Compile(StoragePolicyStatus.properties.history)
const trips = Compile(StoragePolicyStatus.properties.breaker)

/** The newest migrations that ended, newest first. One that was declined is not among them: many are while a node is offline. */
export function history(status: JsonObject | undefined, children: readonly Child[]): History {
  const ended = children.flatMap(({ name: volume, last }): History => {
    if (!last?.started || last.startedAt === undefined || last.endedAt === undefined) return []
    const { id, direction, phase: result, reason, startedAt, endedAt } = last
    return [{ volume, id, direction, result, reason, startedAt, endedAt }]
  })
  const before = status?.['history']
  const ids = new Set(ended.map(({ id }) => id))
  return [...ended, ...(histories.Check(before) ? before.filter(({ id }) => !ids.has(id)) : [])]
    .sort((a, b) => (a.endedAt === b.endedAt ? (a.volume < b.volume ? -1 : 1) : a.endedAt < b.endedAt ? 1 : -1))
    .slice(0, HISTORY_LIMIT)
}

/** How migrations ended, the declined ones included. */
export function ends(status: JsonObject | undefined, children: readonly Child[]): readonly LastEnd[] {
  const last = children.flatMap(({ last }) =>
    last?.endedAt === undefined ? [] : [{ id: last.id, reason: last.reason, endedAt: last.endedAt }],
  )
  const ids = new Set(last.map(({ id }) => id))
  return [...last, ...history(status, children).filter(({ id }) => !ids.has(id))]
}

/** The breaker that was open before, unless a person has seen its trip. */
export function openBefore(status: JsonObject | undefined, resumed?: string): Trip | undefined {
  const before = status?.['breaker']
  if (!trips.Check(before) || before === undefined) return undefined
  return resumed === undefined || before.trip > resumed ? (before as Trip) : undefined
}
