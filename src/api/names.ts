/** Names of the published API: group, version, kinds, routes, labels and annotations. */
export const GROUP = 'storage.billyronks.io'
export const VERSION = 'v1'
export const API_VERSION = `${GROUP}/${VERSION}`
export const NAMESPACE = 'smart-storage-system'

/** CSI driver name of Mayastor; PVs of other drivers are not ours. */
export const MAYASTOR_CSI_DRIVER = 'io.openebs.csi-mayastor'
export const DISKPOOL_GROUP = 'openebs.io'
export const DEFAULT_DISKPOOL_API_VERSION = 'openebs.io/v1beta3'

/** A PVC with this label (any value but "false") keeps its volume where it is. */
export const HOLD_LABEL = `${GROUP}/hold`
/** "true" on a ReplicaTopology being deleted: let go without waiting for Mayastor. */
export const ABANDON_ANNOTATION = `${GROUP}/abandon`
/** On a ReplicaTopology whose migration waits for a person: `status.migration.holdId`, to let it go on. */
export const RELEASE_ANNOTATION = `${GROUP}/release`
/** On a StoragePolicy: `status.breaker.trip`, to let new migrations start again. */
export const RESUME_ANNOTATION = `${GROUP}/resume`
/** Pool and node label that names the failure domain. */
export const ZONE_LABEL = 'topology.kubernetes.io/zone'
/**
 * Prefix of the cordon labels we put on nodes; what follows is the migration id. No slash: Mayastor before 2.12.1 cannot
 * delete such a label.
 */
export const NODE_LABEL_PREFIX = 'tier-move-'

/** Keys of `children` and `related` in Metacontroller's requests, by kind, group and version. */
export const PV_KEY = 'PersistentVolume.v1'
export const PVC_KEY = 'PersistentVolumeClaim.v1'
export const POLICY_KEY = `StoragePolicy.${API_VERSION}`
export const TOPOLOGY_KEY = `ReplicaTopology.${API_VERSION}`
export const DISKPOOL_KEY_PREFIX = `DiskPool.${DISKPOOL_GROUP}/`

export const TIERS = ['NVMe', 'SATA'] as const
export type Tier = (typeof TIERS)[number]

export const DIRECTIONS = ['Promote', 'Demote'] as const
export type Direction = (typeof DIRECTIONS)[number]

export const MIGRATION_PHASES = [
  'Analyzing',
  'ScalingUp',
  'WaitingSync',
  'ScalingDown',
  'Completed',
  'Aborted',
  'Failed',
  'Held',
] as const
export type MigrationPhase = (typeof MIGRATION_PHASES)[number]
