/**
 * In which order, and where to, the replicas of one volume move. Mayastor never puts two replicas of a volume on one
 * node, and a move is add-then-remove, so each replica goes to a node that holds none at that moment; a node just
 * vacated may be used by the next one.
 */

export interface PlacedReplica {
  readonly replica: string
  readonly pool: string
  readonly node: string
  /** Failure domain of the node; undefined where nodes carry no zone. */
  readonly zone?: string | undefined
  /** Value of the label that the volume's replicas must differ in; undefined where the volume asks for none. */
  readonly spread?: string | undefined
}

/** A pool that would accept a replica of the volume. */
export type CandidatePool = Omit<PlacedReplica, 'replica'>

export interface Move {
  readonly replica: string
  readonly sourcePool: string
  readonly targetPool: string
}

export type MovePlan =
  | { readonly kind: 'order'; readonly moves: readonly Move[] }
  | {
      readonly kind: 'none'
      readonly reason: 'NoFittingPool' | 'NoFreeTargetNode' | 'ZonesWouldShrink'
      readonly message: string
    }

/** Placements looked at before giving up; far above what five replicas on a few zones need. */
const SEARCH_LIMIT = 50_000

/**
 * Finds an order of direct moves for `moving`, given the replicas that stay and the candidate pools, best first.
 * Between any two moves the number of distinct zones is at least what it is now, or `before` if that is less, and spread
 * values stay distinct.
 */
export function planMoves(
  staying: readonly PlacedReplica[],
  moving: readonly PlacedReplica[],
  candidates: readonly CandidatePool[],
  before = Number.POSITIVE_INFINITY,
): MovePlan {
  if (candidates.length === 0) return none('NoFittingPool', 'no fitting pool of the wanted tier')
  const kept = new Set(staying.map((replica) => replica.node))
  const sources = new Set(moving.map((replica) => replica.node))
  const open = candidates.filter((pool) => !kept.has(pool.node))
  if (new Set(open.map((pool) => pool.node)).size < moving.length || open.every((pool) => sources.has(pool.node))) {
    return none('NoFreeTargetNode', 'too few nodes without a replica of the volume have a fitting pool')
  }
  const targets = shortlist(open, moving.length, sources)
  const zones = Math.min(before, zoneCount([...staying, ...moving]))
  const found = search(staying, moving, targets, zones)
  if (found !== undefined) return { kind: 'order', moves: found }
  return zones > 1 && search(staying, moving, targets, 0) !== undefined
    ? none('ZonesWouldShrink', 'every order of moves would leave the replicas on fewer zones')
    : none('NoFreeTargetNode', 'no order of moves keeps to one replica per node and to the spread of the volume')
}

function none(reason: 'NoFittingPool' | 'NoFreeTargetNode' | 'ZonesWouldShrink', message: string): MovePlan {
  return { kind: 'none', reason, message }
}

/**
 * Free nodes before nodes that must first be vacated. Pools alike in zone and spread are interchangeable: of each kind
 * the best of a node is kept, and of free nodes no more than there are replicas to move.
 */
function shortlist(
  targets: readonly CandidatePool[],
  perKind: number,
  sources: ReadonlySet<string>,
): readonly CandidatePool[] {
  const nodesOfKind = new Map<string, Set<string>>()
  const best = targets.filter(({ node, zone, spread }) => {
    const kind = `${sources.has(node)}\n${zone ?? '\t'}\n${spread ?? '\t'}`
    const nodes = nodesOfKind.get(kind) ?? new Set()
    if (nodes.has(node) || (nodes.size >= perKind && !sources.has(node))) return false
    nodesOfKind.set(kind, nodes.add(node))
    return true
  })
  return [...best.filter((pool) => !sources.has(pool.node)), ...best.filter((pool) => sources.has(pool.node))]
}

function search(
  staying: readonly PlacedReplica[],
  moving: readonly PlacedReplica[],
  targets: readonly CandidatePool[],
  minimumZones: number,
): Move[] | undefined {
  const vacatable = new Set(targets.map((pool) => pool.node))
  // Replicas whose node another one will need go first; the caller's order decides the rest.
  const first = [
    ...moving.filter((replica) => vacatable.has(replica.node)),
    ...moving.filter((replica) => !vacatable.has(replica.node)),
  ]
  const seen = new Set<string>()
  const visit = (waiting: readonly PlacedReplica[], arrived: readonly PlacedReplica[]): Move[] | undefined => {
    if (waiting.length === 0) return []
    const pools = arrived.map((replica) => replica.pool).sort()
    const key = `${waiting.map((replica) => replica.replica).join()}|${pools.join()}`
    if (seen.has(key) || seen.size >= SEARCH_LIMIT) return undefined
    seen.add(key)
    const present = [...staying, ...arrived, ...waiting]
    for (const replica of waiting) {
      const others = waiting.filter((other) => other !== replica)
      for (const pool of targets) {
        if (present.some((other) => other.node === pool.node)) continue
        if (pool.spread !== undefined && present.some((other) => other.spread === pool.spread)) continue
        const landed = [...arrived, { ...pool, replica: replica.replica }]
        if (zoneCount([...staying, ...landed, ...others]) < minimumZones) continue
        const rest = visit(others, landed)
        if (rest !== undefined) {
          return [{ replica: replica.replica, sourcePool: replica.pool, targetPool: pool.pool }, ...rest]
        }
      }
    }
    return undefined
  }
  return visit(first, [])
}

/** Distinct zones; one at least, since a replica whose zone nobody knows is somewhere as well. */
function zoneCount(replicas: readonly { readonly zone?: string | undefined }[]): number {
  return Math.max(1, new Set(replicas.map((replica) => replica.zone).filter((zone) => zone !== undefined)).size)
}
