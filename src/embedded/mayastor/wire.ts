import type { Cluster, CordonBits, Node, Pool, PoolDrain, Replica, ReportedNexus, Volume } from './model.js'
import { isReportedOnline, reportedNexus, volumeStatus } from './view.js'

// The objects of the REST API exactly as they are spelled on the wire: snake, camel and kebab case mixed. Specs are
// always fresh, states are what the core last heard.

const BLOCK_BYTES = 512

export function volumeJson(cluster: Cluster, volume: Volume): object {
  const nexus = reportedNexus(cluster, volume)
  return {
    spec: volumeSpecJson(cluster, volume),
    state: {
      uuid: volume.uuid,
      size: volume.sizeBytes,
      status: volumeStatus(cluster, volume),
      ...(nexus === undefined ? {} : { target: nexusJson(cluster, volume, nexus) }),
      replica_topology: Object.fromEntries([...volume.replicas].map((r) => [r.uuid, topologyJson(r, nexus)])),
      usage: volumeUsageJson(volume),
      ...(cluster.atLeast(2, 9) ? { health: healthJson(volume) } : {}),
    },
  }
}

export function volumeSpecJson(cluster: Cluster, volume: Volume): object {
  const hasTopology = volume.topology.node_topology !== undefined || volume.topology.pool_topology !== undefined
  return {
    uuid: volume.uuid,
    size: volume.sizeBytes,
    num_replicas: volume.numReplicas,
    status: volume.life,
    ...(volume.operation === undefined ? {} : { operation: operationJson(volume) }),
    ...(volume.target === undefined ? {} : { target: { node: volume.target.node, protocol: 'nvmf' } }),
    policy: { self_heal: volume.selfHeal },
    ...(hasTopology ? { topology: volume.topology } : {}),
    thin: volume.thin,
    ...(volume.asThin === volume.thin ? {} : { as_thin: true }),
    ...(volume.affinityGroup === undefined ? {} : { affinity_group: { id: volume.affinityGroup } }),
    num_snapshots: volume.snapshots,
    ...(cluster.atLeast(2, 9) ? { encrypted: volume.encrypted } : {}),
    ...(cluster.atLeast(2, 10) ? { cluster_size: volume.clusterSizeBytes } : {}),
  }
}

function operationJson({ operation, outcome }: Volume): object {
  return { operation, ...(outcome === undefined ? {} : { result: outcome }) }
}

/** Since 2.9: what etcd says of the replicas, and whether they are heard of. */
function healthJson(volume: Volume): object {
  const healthy = [...volume.replicas].filter((replica) => replica.healthyRecorded)
  const isClean = volume.nexusInfo?.cleanShutdown ?? true
  const clean = isClean ? healthy : healthy.slice(0, 1)
  return {
    cleanShutdown: isClean,
    healthyReplicas: healthy.length,
    cleanReplicas: clean.length,
    onlineHealthyReplicas: healthy.filter(isReportedOnline).length,
    onlineCleanReplicas: clean.filter(isReportedOnline).length,
  }
}

function topologyJson(replica: Replica, nexus: ReportedNexus | undefined): object {
  const place = { node: replica.node.id, pool: replica.pool.id }
  const reported = replica.node.reportedReplicas.get(replica.uuid)
  const child = nexus?.children.find((c) => c.replica === replica)
  return {
    ...place,
    state: isReportedOnline(replica) ? 'Online' : 'Unknown',
    ...(child === undefined ? {} : { 'child-status': child.state }),
    ...(child?.reason === undefined ? {} : { 'child-status-reason': child.reason }),
    ...(child?.progressPercent === undefined ? {} : { 'rebuild-progress': child.progressPercent }),
    ...(reported === undefined
      ? {}
      : {
          usage: {
            capacity: replica.sizeBytes,
            allocated: reported.allocatedBytes,
            allocated_snapshots: reported.snapshotBytes,
            allocated_all_snapshots: reported.snapshotBytes,
          },
        }),
  }
}

function volumeUsageJson(volume: Volume): object {
  const reported = [...volume.replicas].flatMap((r) => r.node.reportedReplicas.get(r.uuid) ?? [])
  const own = reported.map((r) => r.allocatedBytes)
  const snapshots = reported.map((r) => r.snapshotBytes)
  const all = reported.map((r) => r.allocatedBytes + r.snapshotBytes)
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  return {
    capacity: volume.sizeBytes,
    allocated: Math.max(0, ...all),
    allocated_replica: Math.max(0, ...own),
    allocated_snapshots: Math.max(0, ...snapshots),
    allocated_all_snapshots: Math.max(0, ...snapshots),
    total_allocated: sum(all),
    total_allocated_replicas: sum(own),
    total_allocated_snapshots: sum(snapshots),
  }
}

export function nexusJson(cluster: Cluster, volume: Volume, nexus: ReportedNexus): object {
  const address = cluster.nodes.get(nexus.node)?.address
  return {
    node: nexus.node,
    uuid: nexus.uuid,
    size: volume.sizeBytes,
    state: nexus.state,
    children: nexus.children.map((child) => ({
      uri: childUri(child.replica, nexus.node),
      state: child.state,
      ...(child.progressPercent === undefined ? {} : { rebuildProgress: child.progressPercent }),
      ...(child.reason === undefined ? {} : { state_reason: child.reason }),
    })),
    deviceUri: `nvmf://${address}:8420/nqn.2019-05.io.openebs:${volume.uuid}`,
    rebuilds: nexus.children.filter((child) => child.progressPercent !== undefined).length,
    protocol: 'nvmf',
  }
}

/** How a nexus on `node` reaches a replica: over NVMe-oF, or as a local device. */
export function childUri(replica: Replica, node: string): string {
  return replica.node.id === node
    ? `bdev:///${replica.uuid}?uuid=${replica.uuid}`
    : `nvmf://${replica.node.address}:8420/nqn.2019-05.io.openebs:${replica.uuid}?uuid=${replica.uuid}`
}

/** Of the nexus that runs now; undefined if it has no records. */
export function rebuildHistoryJson(volume: Volume): object | undefined {
  const { nexus } = volume
  if (nexus === undefined || nexus.history.length === 0) return undefined
  const blocks = (bytes: number) => Math.ceil(bytes / BLOCK_BYTES)
  return {
    targetUuid: nexus.uuid,
    records: nexus.history.map((record) => ({
      childUri: childUri(record.child, nexus.node.id),
      srcUri: childUri(record.source, nexus.node.id),
      rebuildJobState: record.state,
      blocksTotal: blocks(record.totalBytes),
      blocksRecovered: blocks(record.rebuiltBytes),
      blocksTransferred: blocks(record.rebuiltBytes),
      blocksRemaining: blocks(record.totalBytes) - blocks(record.rebuiltBytes),
      blockSize: BLOCK_BYTES,
      isPartial: record.partial,
      startTime: new Date(record.startedAt).toISOString(),
      endTime: new Date(record.endedAt).toISOString(),
    })),
  }
}

export function poolJson(cluster: Cluster, pool: Pool): object {
  const reported = pool.node.reportedPools.get(pool.id)
  return {
    id: pool.id,
    spec: poolSpecJson(cluster, pool),
    ...(reported === undefined
      ? {}
      : {
          state: {
            id: pool.id,
            node: pool.node.id,
            disks: pool.disks,
            capacity: reported.capacityBytes,
            used: reported.usedBytes,
            committed: reported.committedBytes,
            status: reported.status,
            ...(cluster.atLeast(2, 9) ? { encrypted: pool.encrypted } : {}),
          },
        }),
    ...(pool.drain === undefined ? {} : { meta: { drain: drainRecordJson(pool.drain) } }),
  }
}

function drainRecordJson({ phase, moves }: PoolDrain): object {
  return { phase, movingReplicas: [...moves].flatMap(({ moving }) => moving?.uuid ?? []) }
}

/** The whole picture of one pool's drain; undefined when it is not drained. */
export function poolDrainJson(cluster: Cluster, pool: Pool): object | undefined {
  const { drain } = pool
  if (drain === undefined) return undefined
  const snapshots = [...cluster.volumes.values()].flatMap((volume) => volume.snapshotList)
  return {
    spec: drainSpecJson(pool, drain),
    phase: drain.phase,
    statistics: {
      current: {
        replicaCount: pool.replicas.size,
        snapshotCount: snapshots.filter(({ parts }) => parts.some((part) => part.pool === pool)).length,
        used: pool.node.reportedPools.get(pool.id)?.usedBytes ?? 0,
      },
    },
    movingReplicas: [...drain.moves].map(({ volume, moving, spare, unwind }) => ({
      volume: volume.uuid,
      ...(moving === undefined ? {} : { movingReplica: moving.uuid }),
      spareReplica: spare === undefined ? {} : { replicaId: spare.uuid },
      ...(unwind === undefined ? {} : { unwind }),
    })),
  }
}

function drainSpecJson({ cordon }: Pool, { requestedAt, acceptSnapshotLoss }: PoolDrain): object {
  return {
    requestTimestamp: new Date(requestedAt).toISOString(),
    policy: { snapshotPolicy: acceptSnapshotLoss ? 'AcceptLoss' : 'Ignore', unsafeEvict: false },
    ...(isCordoned(cordon) ? { userCordon: { ...cordon } } : {}),
  }
}

function isCordoned(cordon: CordonBits): boolean {
  return Object.values(cordon).some(Boolean)
}

function cordonDrainJson(pool: Pool): object | undefined {
  if (pool.drain !== undefined) return { drain: drainSpecJson(pool, pool.drain) }
  return isCordoned(pool.cordon) ? { cordoned: { ...pool.cordon } } : undefined
}

export function poolSpecJson(cluster: Cluster, pool: Pool): object {
  const cordonDrain = cordonDrainJson(pool)
  return {
    id: pool.id,
    node: pool.node.id,
    disks: pool.disks,
    labels: Object.fromEntries(pool.labels),
    status: 'Created',
    ...(cordonDrain === undefined ? {} : { cordonDrain }),
    ...(cluster.atLeast(2, 10) ? { clusterSize: pool.clusterSizeBytes } : {}),
  }
}

export function nodeJson(node: Node): object {
  const identity = { id: node.id, grpcEndpoint: `${node.address}:10124` }
  const nqn = `nqn.2019-05.io.openebs:node-name:${node.id}`
  return {
    id: node.id,
    spec: {
      ...identity,
      labels: Object.fromEntries(node.labels),
      ...cordonJson(node),
      node_nqn: nqn,
      version: node.version,
    },
    state: { ...identity, status: node.reportedStatus, node_nqn: nqn, version: node.version },
  }
}

function cordonJson(node: Node): object {
  const cordonlabels = [...node.cordonLabels]
  const drainlabels = [...node.drainLabels]
  if (drainlabels.length > 0) {
    const state = { cordonlabels, drainlabels }
    return { cordondrainstate: node.drained ? { drainedstate: state } : { drainingstate: state } }
  }
  return cordonlabels.length > 0 ? { cordondrainstate: { cordonedstate: { cordonlabels } } } : {}
}

export function replicaJson(replica: Replica): object {
  const reported = replica.node.reportedReplicas.get(replica.uuid)
  const cluster = replica.pool.clusterSizeBytes
  return {
    uuid: replica.uuid,
    node: replica.node.id,
    pool: replica.pool.id,
    poolUuid: replica.pool.uuid,
    size: replica.sizeBytes,
    thin: replica.thin,
    share: replica.shared ? 'nvmf' : 'none',
    state: 'Online',
    uri: childUri(replica, replica.shared ? '' : replica.node.id),
    kind: 'Regular',
    ...(reported === undefined
      ? {}
      : {
          space: {
            capacity_bytes: replica.sizeBytes,
            allocated_bytes: reported.allocatedBytes,
            allocated_bytes_snapshots: reported.snapshotBytes,
            allocated_bytes_all_snapshots: reported.snapshotBytes,
            cluster_size: cluster,
            clusters: Math.ceil(replica.sizeBytes / cluster),
            allocated_clusters: Math.ceil(reported.allocatedBytes / cluster),
          },
        }),
  }
}

export function replicaSpecJson(replica: Replica): object {
  return {
    uuid: replica.uuid,
    pool: replica.pool.id,
    poolUuid: replica.pool.uuid,
    size: replica.sizeBytes,
    thin: replica.thin,
    share: replica.shared ? 'nvmf' : 'none',
    managed: true,
    status: replica.life,
    owners: {
      nexuses: replica.nexusOwner === undefined ? [] : [replica.nexusOwner],
      ...(replica.owner === undefined ? {} : { volume: replica.owner.uuid }),
    },
  }
}

/** The server's description of itself: the place where a client finds out what this version can do. */
export function apiSpecJson(cluster: Cluster): object {
  const answers = { responses: { 200: { description: 'OK' } } }
  const get = { get: answers }
  const cordon = { put: answers, delete: answers }
  const flag = { type: 'boolean' }
  return {
    openapi: '3.0.3',
    info: { title: 'IoEngine RESTful API', version: 'v0' },
    servers: [{ url: '/v0' }],
    paths: {
      '/nodes': get,
      '/nodes/{id}': get,
      '/nodes/{id}/cordon/{label}': cordon,
      '/nodes/{id}/drain/{label}': { put: answers },
      '/pools': get,
      '/pools/{pool_id}': get,
      ...(cluster.atLeast(2, 7, 1)
        ? {
            '/pools/{pool_id}/label/{key}={value}': { put: answers },
            '/pools/{id}/label/{key}': { delete: answers },
          }
        : {}),
      ...(cluster.atLeast(2, 10) ? { '/pools/{pool_id}/cordon': cordon } : {}),
      ...(cluster.atLeast(2, 13) ? { '/pools/{pool_id}/drain': { put: answers, get: answers } } : {}),
      '/pools/{pool_id}/replicas/{replica_id}': { delete: answers },
      '/nexuses/{nexus_id}': { delete: answers },
      '/nexuses/{nexus_id}/children/{child_id}': { delete: answers },
      '/replicas': get,
      '/replicas/{id}': get,
      '/specs': get,
      '/volumes': get,
      '/volumes/{volume_id}': get,
      '/volumes/{volume_id}/rebuild-history': get,
      '/volumes/{volume_id}/replica_count/{replica_count}': { put: answers },
    },
    components: {
      schemas: {
        ...(cluster.atLeast(2, 10)
          ? {
              PoolCordon: {
                type: 'object',
                properties: { replicas: flag, snapshots: flag, restores: flag, import: flag },
              },
            }
          : {}),
        PoolSpec: {
          type: 'object',
          properties: {
            disks: {},
            id: {},
            labels: {},
            node: {},
            status: {},
            ...(cluster.atLeast(2, 10) ? { cordonDrain: {}, clusterSize: {} } : {}),
          },
        },
        VolumeSpec: {
          type: 'object',
          properties: {
            uuid: {},
            size: {},
            num_replicas: {},
            num_snapshots: {},
            ...(cluster.atLeast(2, 9) ? { encrypted: {} } : {}),
            ...(cluster.atLeast(2, 10) ? { cluster_size: {} } : {}),
          },
        },
      },
    },
  }
}
