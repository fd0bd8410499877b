import { isTrouble } from './outcomes.js'

/**
 * When migrations of a policy go wrong time and again, or Mayastor once removes another replica than the one asked for,
 * nothing new starts until a person has looked. A function of how the migrations of its volumes last ended.
 */

/** How the last migration of one volume ended. */
export interface LastEnd {
  readonly id: string
  readonly reason: string
  /** RFC 3339, to the second. */
  readonly endedAt: string
}

export interface Trip {
  /** When the migration ended that tripped it: what a person names to resume. */
  readonly trip: string
  readonly reason: 'WrongRemoval' | 'RepeatedFailures'
  readonly message: string
}

/** Migrations in a row that failed, before nothing new starts. */
const FAILURES = 3

/** `resumed`: the trip that a person has seen; what ended until then is forgotten. */
export function breaker(ends: readonly LastEnd[], resumed: string | undefined): Trip | undefined {
  const later = ends
    .filter(({ endedAt }) => resumed === undefined || endedAt > resumed)
    .sort((a, b) => (a.endedAt === b.endedAt ? (a.id < b.id ? -1 : 1) : a.endedAt < b.endedAt ? -1 : 1))
  let failures = 0
  for (const { id, reason, endedAt: trip } of later) {
    if (reason === 'WrongRemoval') {
      const message = `migration ${id}: Mayastor removed another replica than the one asked for`
      return { trip, reason, message }
    }
    if (reason === 'AllReplicasMoved') failures = 0
    else if (isTrouble(reason)) failures++
    if (failures === FAILURES) {
      const message = `${FAILURES} migrations in a row failed, the last of them ${id} (${reason})`
      return { trip, reason: 'RepeatedFailures', message }
    }
  }
  return undefined
}
