import { type Failure, failure, notFound, precondition } from './failure.js'
import { type Cluster, CREATED_BY, type cordonBits, type Pool } from './model.js'

// The marks people put on nodes and pools.

export function cordonNode(cluster: Cluster, id: string, label: string): Failure | undefined {
  const node = cluster.nodes.get(id)
  if (node === undefined) return notFound('Node', id)
  if (node.cordonLabels.has(label) || node.drainLabels.has(label)) return hasLabel(id, label)
  node.cordonLabels.add(label)
  cluster.emit('node-cordon', { node: id, reason: label })
  return undefined
}

export function uncordonNode(cluster: Cluster, id: string, label: string): Failure | undefined {
  const node = cluster.nodes.get(id)
  if (node === undefined) return notFound('Node', id)
  if (!node.cordonLabels.delete(label) && !node.drainLabels.delete(label)) {
    return precondition('UncordonLabel', `Node ${id} does not have a cordon label '${label}'`)
  }
  if (node.drainLabels.size === 0) node.drained = false
  cluster.emit('node-uncordon', { node: id, reason: label })
  return undefined
}

export function drainNode(cluster: Cluster, id: string, label: string): Failure | undefined {
  const node = cluster.nodes.get(id)
  if (node === undefined) return notFound('Node', id)
  if (node.cordonLabels.has(label) || node.drainLabels.has(label)) return hasLabel(id, label)
  node.drainLabels.add(label)
  node.drained = false
  cluster.emit('node-cordon', { node: id, reason: `drain ${label}` })
  cluster.onTrigger()
  return undefined
}

function hasLabel(node: string, label: string): Failure {
  return precondition('CordonLabel', `Node ${node} already has cordon label '${label}'`)
}

/** Bits without an owner or a count: setting one that is set, or clearing one that is clear, is nobody's in particular. */
export function setPoolCordon(
  cluster: Cluster,
  pool: Pool,
  bits: readonly (typeof cordonBits)[number][],
  value: boolean,
): Failure | undefined {
  const changed = bits.filter((bit) => pool.cordon[bit] !== value)
  if (changed.length === 0) {
    return failure(
      'AlreadyExists',
      'PoolCordon',
      `Pool '${pool.id}' is already ${value ? 'cordoned' : 'uncordoned'} so`,
    )
  }
  for (const bit of changed) pool.cordon[bit] = value
  cluster.emit(value ? 'pool-cordon' : 'pool-uncordon', { pool: pool.id, reason: changed.join(',') })
  return undefined
}

export function labelPool(
  cluster: Cluster,
  pool: Pool,
  key: string,
  value: string,
  overwrite: boolean,
): Failure | undefined {
  if (pool.labels.has(key) && !overwrite) {
    const kind = pool.labels.get(key) === value ? 'AlreadyExists' : 'FailedPrecondition'
    return failure(kind, 'LabelsExists', `Pool '${pool.id}' is already labelled with '${key}'`)
  }
  pool.labels.set(key, value)
  cluster.emit('pool-label', { pool: pool.id, reason: `${key}=${value}` })
  return undefined
}

export function unlabelPool(cluster: Cluster, pool: Pool, key: string): Failure | undefined {
  if (key === CREATED_BY || !pool.labels.delete(key)) {
    return precondition('LabelNotFound', `Label '${key}' cannot be removed from pool '${pool.id}'`)
  }
  cluster.emit('pool-label', { pool: pool.id, reason: `no ${key}` })
  return undefined
}
