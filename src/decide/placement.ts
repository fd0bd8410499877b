import { TIERS, type Tier } from '../api/names.js'
import { CANDIDATE_POOLS_LIMIT, type ObservedVolume } from '../api/replica-topology.js'
import type { Reason } from '../api/shared.js'
import { type Move, planMoves } from '../plan/moves.js'
import { fits, neededBytes, type VolumeSize } from '../plan/pool-fit.js'
import type { Demand } from './demand.js'
import type { Child, Pool, Volume, World } from './observe.js'

type MoveDemand = Extract<Demand, { kind: 'move' }>

/** What replicas are placed on. Written by `promise` alone. */
export interface Ground {
  /** Usable pools of each tier, the one with most room left first. */
  readonly pools: Readonly<Record<Tier, Pool[]>>
  /** Bytes promised to moves that run or were just decided, by pool. */
  readonly promised: Map<string, number>
  /** Zone of each node, as far as it is known. */
  readonly zones: ReadonlyMap<string, string>
}

export type Placement =
  | { readonly kind: 'moves'; readonly moves: readonly Move[]; readonly candidates: readonly string[] }
  | { readonly kind: 'none'; readonly hold: Reason }

/**
 * Ordered moves of the volume's replicas to pools that take them, emptiest pool first. `avoid` names a pool that
 * refused the volume lately.
 */
export function place(volume: Volume, want: MoveDemand, ground: Ground, avoid: string | undefined): Placement {
  const back = wayBack(volume.child)
  if (back !== undefined) return back
  const { observed, tier } = want
  const size = volumeSize(observed)
  let pools: readonly Pool[] = ground.pools[tier]
  const narrow = (reason: string, message: string, keep: (pool: Pool) => boolean): Placement | undefined => {
    pools = pools.filter(keep)
    return pools.length === 0 ? { kind: 'none', hold: { reason, message } } : undefined
  }
  const refused =
    narrow('NoFittingPool', `no ${tier} pool is Online`, () => true) ??
    narrow(
      'VolumeTopology',
      `no ${tier} pool satisfies the topology the volume was created with`,
      topologyOf(observed),
    ) ??
    narrow('Encryption', `no ${tier} pool matches the encryption of the volume`, (pool) =>
      observed.encrypted === undefined ? true : pool.encrypted === observed.encrypted,
    ) ??
    narrow('NoFittingPool', `no ${tier} pool has room for the volume beside its reserve`, (pool) =>
      fits(size, {
        capacityBytes: pool.capacityBytes,
        freeBytes: pool.freeBytes,
        promisedBytes: ground.promised.get(pool.name) ?? 0,
      }),
    ) ??
    narrow('BackOff', `pool ${avoid} refused the volume lately and there is no other`, (pool) => pool.name !== avoid)
  if (refused !== undefined) return refused
  const replicas = (volume.child?.status?.replicas ?? []).map(({ replica, pool = '', node = '', zone }) => ({
    replica,
    pool,
    node,
    zone: zone ?? ground.zones.get(node),
  }))
  const moving = new Set(want.replicas.map((replica) => replica.replica))
  const zoned = replicas.some((replica) => replica.zone !== undefined)
  const plan = planMoves(
    replicas.filter((replica) => !moving.has(replica.replica)),
    replicas.filter((replica) => moving.has(replica.replica)),
    pools.map((pool) => ({
      pool: pool.name,
      node: pool.node,
      // A node nobody has seen yet counts as a zone of its own: stepping sees the nodes and has the last word.
      zone: ground.zones.get(pool.node) ?? (zoned ? `unknown:${pool.node}` : undefined),
    })),
  )
  if (plan.kind === 'none') return { kind: 'none', hold: { reason: plan.reason, message: plan.message } }
  const candidates = pools.slice(0, CANDIDATE_POOLS_LIMIT).map((pool) => pool.name)
  return { kind: 'moves', moves: plan.moves, candidates: candidates.sort() }
}

/** The pools, and what the migrations of `children` that run may still need on them. */
export function survey(pools: ReadonlyMap<string, Pool>, world: World, children: readonly Child[]): Ground {
  const usable = [...pools.values()].filter((pool) => pool.usable)
  const ground: Ground = {
    pools: { NVMe: usable.filter((pool) => pool.tier === 'NVMe'), SATA: usable.filter((pool) => pool.tier === 'SATA') },
    promised: new Map(),
    zones: nodeZones(world),
  }
  for (const { running, underWay, status } of children) {
    const moves = running?.replicas ?? (underWay?.current === undefined ? [] : [underWay.current])
    if (status?.volume !== undefined) reserve(ground, moves, status.volume)
  }
  sortByRoom(ground)
  return ground
}

/** Sets room aside for a migration that was just decided. */
export function promise(ground: Ground, moves: readonly Pick<Move, 'targetPool'>[], observed: ObservedVolume): void {
  reserve(ground, moves, observed)
  sortByRoom(ground)
}

function reserve({ promised }: Ground, moves: readonly Pick<Move, 'targetPool'>[], observed: ObservedVolume): void {
  const bytes = neededBytes(volumeSize(observed))
  for (const { targetPool } of moves) promised.set(targetPool, (promised.get(targetPool) ?? 0) + bytes)
}

function sortByRoom({ pools, promised }: Ground): void {
  const left = (pool: Pool) => pool.freeBytes - (promised.get(pool.name) ?? 0)
  for (const tier of TIERS) pools[tier].sort((a, b) => left(b) - left(a) || (a.name < b.name ? -1 : 1))
}

/** The way back from a pair that preservation mode kept: the added replica returns to where the old one still is. */
function wayBack(child: Child | undefined): Placement | undefined {
  const last = child?.last
  if (last?.reason !== 'Preserved' || last.current?.addedReplica === undefined) return undefined
  const { addedReplica: replica, sourcePool, targetPool } = last.current
  return {
    kind: 'moves',
    moves: [{ replica, sourcePool: targetPool, targetPool: sourcePool }],
    candidates: [sourcePool],
  }
}

function volumeSize({ sizeBytes, thin, allocatedPercent }: ObservedVolume): VolumeSize {
  return { sizeBytes, thin, allocatedBytes: (sizeBytes * allocatedPercent) / 100 }
}

/** Zone of each node, from what stepping saw of any volume and from the labels of pools. */
function nodeZones(world: World): ReadonlyMap<string, string> {
  const zones = new Map<string, string>()
  for (const pool of world.pools?.values() ?? []) if (pool.zone !== undefined) zones.set(pool.node, pool.zone)
  for (const { child } of world.volumes) {
    for (const { node, zone } of child?.status?.replicas ?? []) if (node && zone) zones.set(node, zone)
  }
  return zones
}

/** Whether a pool satisfies the topology the volume was created with. */
function topologyOf({ eligibleNodes, poolLabels }: ObservedVolume): (pool: Pool) => boolean {
  const nodes = eligibleNodes === undefined ? undefined : new Set(eligibleNodes)
  const wanted = Object.entries((poolLabels ?? {}) as Record<string, string>)
  return (pool) =>
    (nodes === undefined || nodes.has(pool.node)) &&
    wanted.every(([key, value]) => {
      // Mayastor puts this one on every pool made from a DiskPool; the resource itself does not carry it.
      if (key === 'openebs.io/created-by') return value === '' || value === 'operator-diskpool'
      const values = pool.labels.get(key)
      return value === '' ? values !== undefined : values?.has(value) === true
    })
}
