import type { JsonObject } from '../api/kubernetes.js'
import type { Condition } from '../api/shared.js'
import { formatTime } from '../api/time.js'
import { list, object } from './json.js'

/** Longest message the schema takes. */
const MESSAGE_LIMIT = 4096

export type NewCondition = Omit<Condition, 'lastTransitionTime'>

/**
 * Conditions for a status: a condition whose `status` did not change keeps its transition time, so that the same
 * state gives the same bytes whenever it is computed.
 */
export function conditions(
  wanted: readonly NewCondition[],
  previousStatus: JsonObject | undefined,
  now: number,
): Condition[] {
  const previous = new Map<unknown, JsonObject>()
  for (const item of list(previousStatus?.['conditions'])) {
    const condition = object(item)
    if (condition !== undefined) previous.set(condition['type'], condition)
  }
  return wanted.map((condition) => {
    const before = previous.get(condition.type)
    const since = before?.['status'] === condition.status ? before['lastTransitionTime'] : undefined
    return {
      ...condition,
      message: condition.message.slice(0, MESSAGE_LIMIT),
      lastTransitionTime: typeof since === 'string' ? since : formatTime(now),
    }
  })
}
