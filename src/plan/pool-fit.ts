/** Room on a pool for one more replica. */

/** Share of a pool's capacity that stays free after a move, for growth of what is there already. */
export const RESERVE_RATIO = 0.1
/** Below half the reserve a running rebuild is undone before the pool is full. */
export const UNDO_RATIO = RESERVE_RATIO / 2
/** Mayastor's default for thin replicas: what is allocated plus this share of the size must be free. */
const THIN_HEADROOM_RATIO = 0.4
/** Mayastor's default pool commitment: provisioned bytes of thin replicas over capacity. */
const COMMITMENT_RATIO = 2.5

export interface VolumeSize {
  readonly sizeBytes: number
  readonly thin: boolean
  /** Most that any replica has allocated; only matters for thin volumes. */
  readonly allocatedBytes: number
}

export interface PoolRoom {
  readonly capacityBytes: number
  readonly freeBytes: number
  /** Bytes promised to moves that run. */
  readonly promisedBytes: number
  /** Provisioned bytes of all replicas, where Mayastor reports them. */
  readonly committedBytes?: number | undefined
}

/** Bytes a new replica may need: the full size when thick, what is allocated plus 40 % of the size when thin. */
export function neededBytes(volume: VolumeSize): number {
  if (!volume.thin) return volume.sizeBytes
  return Math.min(volume.sizeBytes, Math.ceil(volume.allocatedBytes + THIN_HEADROOM_RATIO * volume.sizeBytes))
}

/** Whether the replica fits beside what was promised, leaving the reserve and Mayastor's commitment limit intact. */
export function fits(volume: VolumeSize, pool: PoolRoom): boolean {
  const left = pool.freeBytes - pool.promisedBytes - neededBytes(volume)
  if (left < RESERVE_RATIO * pool.capacityBytes) return false
  if (pool.capacityBytes <= volume.sizeBytes) return false
  if (!volume.thin || pool.committedBytes === undefined) return true
  return pool.committedBytes + pool.promisedBytes + volume.sizeBytes < COMMITMENT_RATIO * pool.capacityBytes
}
