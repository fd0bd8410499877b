import { type Child, type Cluster, MiB, type Nexus, type RebuildRecord } from './model.js'

/** A child that was synced before only needs what was written while it was away. */
const PARTIAL_SHARE = 0.05
const CHECKPOINTS = 10

/**
 * Starts copying from one of the nexus's synced children to `child`; false if there is none to copy from.
 * `ended` is called once: when the copy is complete, or when the pool of a thin replica runs full on the way.
 */
export function startRebuild(
  cluster: Cluster,
  nexus: Nexus,
  child: Child,
  partial: boolean,
  ended: (outcome: 'completed' | 'out-of-space') => void,
): boolean {
  const { clock } = cluster
  const { replica } = child
  const sources = nexus.children.filter((other) => other.state === 'Online')
  if (sources.length === 0) return false
  const source = cluster.choose('rebuild-source', sources)
  const dataBytes = source.replica.dataBytes
  const totalBytes = partial ? Math.min(dataBytes, Math.max(MiB, Math.floor(dataBytes * PARTIAL_SHARE))) : dataBytes
  const startedAt = clock.now()
  const durationMs = Math.ceil((totalBytes / cluster.settings.rebuildBytesPerSecond) * 1000)
  const rebuiltBytes = () =>
    durationMs === 0
      ? totalBytes
      : Math.min(totalBytes, Math.floor((totalBytes * (clock.now() - startedAt)) / durationMs))

  let cancelTimer = () => {}
  const schedule = (checkpoint: number): void => {
    const at = startedAt + Math.round((durationMs * checkpoint) / CHECKPOINTS)
    cancelTimer = clock.after(at - clock.now(), () => {
      if (replica.thin && replica.pool.freeBytes < 0) ended('out-of-space')
      else if (checkpoint < CHECKPOINTS) schedule(checkpoint + 1)
      else ended('completed')
    })
  }
  replica.rebuild = { source, startedAt, totalBytes, partial, rebuiltBytes, cancel: () => cancelTimer() }
  schedule(1)
  cluster.emit('rebuild-started', {
    volume: nexus.volume.uuid,
    replica: replica.uuid,
    node: nexus.node.id,
    by: 'io-engine',
    reason: partial ? 'partial' : 'full',
  })
  return true
}

/** Ends a running rebuild, and leaves its record in the nexus's history. What was copied stays allocated. */
export function endRebuild(cluster: Cluster, nexus: Nexus, child: Child, state: RebuildRecord['state']): void {
  const { replica } = child
  const { rebuild } = replica
  if (rebuild === undefined) return
  rebuild.cancel()
  const rebuiltBytes = state === 'Completed' ? rebuild.totalBytes : rebuild.rebuiltBytes()
  replica.rebuild = undefined
  const copied = rebuild.partial ? 0 : rebuiltBytes
  replica.writtenBytes = Math.min(replica.sizeBytes, Math.max(replica.writtenBytes, copied))
  nexus.history.push({
    child: replica,
    source: rebuild.source.replica,
    state,
    totalBytes: rebuild.totalBytes,
    rebuiltBytes,
    partial: rebuild.partial,
    startedAt: rebuild.startedAt,
    endedAt: cluster.clock.now(),
  })
  cluster.emit(state === 'Completed' ? 'rebuild-completed' : 'rebuild-failed', {
    volume: nexus.volume.uuid,
    replica: replica.uuid,
    by: 'io-engine',
    ...(state === 'Completed' ? {} : { reason: state }),
  })
}

export function runningRebuilds(cluster: Cluster): number {
  let count = 0
  for (const replica of cluster.replicas.values()) if (replica.rebuild !== undefined) count++
  return count
}
