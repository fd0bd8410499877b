import { type Child, type Cluster, MiB, type Nexus, type Rebuild, type RebuildRecord } from './model.js'

/** A child that was synced before only needs what was written while it was away. */
const PARTIAL_SHARE = 0.05
const CHECKPOINTS = 10

/**
 * Starts copying from one of the nexus's synced children, a local one if there is, to `child`; false if there is none
 * to copy from. `ended` is called once: when the copy is complete, or when the pool of a thin replica runs full.
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
  const source = cluster.best(
    'rebuild-source',
    nexus.children.filter((other) => other.state === 'Online'),
    (other) => (other.replica.node === nexus.node ? 0 : 1),
  )
  if (source === undefined) return false
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
    cancelTimer = cluster.after(at - clock.now(), () => {
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
  replica.writtenBytes = Math.min(replica.sizeBytes, Math.max(replica.writtenBytes, copiedBytes(rebuild, state)))
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

/** What the copy wrote; what the application wrote meanwhile went to the child too. */
function copiedBytes({ partial, source, rebuiltBytes }: Rebuild, state: RebuildRecord['state']): number {
  if (state !== 'Completed') return partial ? 0 : rebuiltBytes()
  return partial ? source.replica.writtenBytes : source.replica.dataBytes
}

/** As far as the core knows. */
export function reportedRebuilds(cluster: Cluster): number {
  let count = 0
  for (const node of cluster.nodes.values()) {
    for (const nexus of node.reportedNexuses.values()) {
      for (const child of nexus.children) if (child.progressPercent !== undefined) count++
    }
  }
  return count
}
