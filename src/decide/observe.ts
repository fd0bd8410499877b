import type { JsonObject, KubernetesObject } from '../api/kubernetes.js'
import type { HookRequest, ObjectsByName } from '../api/metacontroller.js'
import {
  DISKPOOL_KEY_PREFIX,
  HOLD_LABEL,
  MAYASTOR_CSI_DRIVER,
  type MIGRATION_PHASES,
  POLICY_KEY,
  PV_KEY,
  PVC_KEY,
  type Tier,
  TOPOLOGY_KEY,
  ZONE_LABEL,
} from '../api/names.js'
import type { Migration, MigrationStatus, ReplicaTopologySpec, ReplicaTopologyStatus } from '../api/replica-topology.js'
import { ordinalOf } from '../plan/migration-id.js'
import { finite, object, text, time } from './json.js'
import type { Policy } from './policy.js'
import { matches } from './selector.js'

/**
 * What one request says about the world, read once and never changed. Lists are ordered by name. A child in none of
 * them goes: its PV is outside the policy, or was made anew for another volume.
 */
export interface World {
  readonly volumes: readonly Volume[]
  /** Undefined: the DiskPools could not be seen. */
  readonly pools: ReadonlyMap<string, Pool> | undefined
  /** Children whose persistent volume is not in the request. */
  readonly missing: readonly Child[]
  /** Children whose persistent volume is there but cannot be read; they stay as they are. */
  readonly unreadable: readonly Child[]
  /** Migrations of other policies that hold a slot of the cluster, by their status. */
  readonly activeElsewhere: number
  /** The status of the policy as it was answered last. */
  readonly before: JsonObject | undefined
  /** What could not be read or does not fit, one sentence each, for people. */
  readonly problems: readonly string[]
}

export interface Volume {
  /** Name of the persistent volume and of the child. */
  readonly name: string
  readonly volumeID: string
  readonly claim: { readonly namespace: string; readonly name: string; readonly uid?: string } | undefined
  /** Milliseconds since the epoch; undefined when unknown. */
  readonly createdAt: number | undefined
  readonly heldByOwner: boolean
  readonly child: Child | undefined
}

export interface Child {
  readonly name: string
  readonly spec: ReplicaTopologySpec
  readonly status: ReplicaTopologyStatus | undefined
  readonly deleting: boolean
  /** The migration in spec that status does not report as ended. */
  readonly running: Migration | undefined
  /** What status reports as running. Where spec does not ask for it any longer it is being finished or undone. */
  readonly underWay: MigrationStatus | undefined
  /** The newest migration status knows of, once it has ended. */
  readonly last: MigrationStatus | undefined
}

export interface Pool {
  readonly name: string
  readonly node: string
  readonly zone: string | undefined
  /** Undefined: outside both tiers, or matched by both. */
  readonly tier: Tier | undefined
  readonly usable: boolean
  readonly capacityBytes: number
  readonly freeBytes: number
  readonly encrypted: boolean
  readonly labels: ReadonlyMap<string, ReadonlySet<string>>
}

/** Longest volume id that is read; Mayastor's are uuids, and ids of migrations made from it have to fit the schema. */
const VOLUME_ID_LIMIT = 100

const ENDED: ReadonlySet<string> = new Set([
  'Completed',
  'Aborted',
  'Failed',
] satisfies (typeof MIGRATION_PHASES)[number][])

/** Reads persistent volumes, pools, claims and children of one policy. Unreadable objects become problems. */
export function observe(request: HookRequest, policy: Policy): World {
  const children = readChildren(request.children[TOPOLOGY_KEY] ?? {})
  const held = heldClaims(request.related[PVC_KEY] ?? {})
  const problems: string[] = []
  const volumes: Volume[] = []
  const outside = new Set<string>()
  const broken = new Set<string>()
  const foreign: string[] = []
  for (const [key, pv] of sorted(request.related[PV_KEY] ?? {})) {
    const name = pv.metadata?.name ?? key
    if (pv.spec?.['storageClassName'] !== policy.spec.storageClassName) {
      outside.add(name)
      continue
    }
    const csi = object(pv.spec['csi'])
    if (csi?.['driver'] !== MAYASTOR_CSI_DRIVER) {
      outside.add(name)
      foreign.push(name)
      continue
    }
    const volumeID = text(csi['volumeHandle'])
    if (volumeID === undefined || volumeID === '' || volumeID.length > VOLUME_ID_LIMIT) {
      broken.add(name)
      continue
    }
    const known = children.get(name)
    if (known !== undefined && known.spec.volumeID !== volumeID) {
      // Made anew under its old name: the child of the volume that is gone goes first.
      outside.add(name)
      continue
    }
    const ref = object(pv.spec['claimRef'])
    const namespace = text(ref?.['namespace'])
    const claimName = text(ref?.['name'])
    const uid = text(ref?.['uid'])
    const claim = namespace && claimName ? { namespace, name: claimName, ...(uid && { uid }) } : undefined
    volumes.push({
      name,
      volumeID,
      claim,
      createdAt: time(pv.metadata?.creationTimestamp),
      heldByOwner: claim !== undefined && held.has(`${claim.namespace}/${claim.name}`),
      child: known,
    })
  }
  if (broken.size > 0) problems.push(`no volume id in spec.csi.volumeHandle: ${some([...broken])}`)
  if (foreign.length > 0) {
    problems.push(`not Mayastor volumes, though of class ${policy.spec.storageClassName}: ${some(foreign)}`)
  }
  const present = new Set(volumes.map((volume) => volume.name))
  const absent = [...children.values()].filter((child) => !present.has(child.name))
  const { pools, problems: poolProblems } = readPools(request.related, policy)
  return {
    volumes,
    pools,
    missing: absent.filter((child) => !outside.has(child.name) && !broken.has(child.name)),
    unreadable: absent.filter((child) => broken.has(child.name)),
    activeElsewhere: activeElsewhere(request),
    before: object(request.parent.status),
    problems: [...problems, ...poolProblems],
  }
}

/** Reads the children as they were observed, by name. */
export function readChildren(objects: ObjectsByName): ReadonlyMap<string, Child> {
  const children = new Map<string, Child>()
  for (const [key, child] of sorted(objects)) {
    const name = child.metadata?.name ?? key
    // Written by ourselves and checked by the API server against the schemas these types come from.
    const spec = (child.spec ?? {}) as unknown as ReplicaTopologySpec
    const status = object(child.status) as unknown as ReplicaTopologyStatus | undefined
    const migration = status?.migration
    const ended = migration !== undefined && ENDED.has(migration.phase)
    // A later one than is asked for: the request is from before that, and is not taken up again.
    const over = ended && ordinalOf(migration.id) >= ordinalOf(spec.migration?.id ?? '')
    children.set(name, {
      name,
      spec,
      status,
      deleting: child.metadata?.deletionTimestamp !== undefined,
      running: over ? undefined : spec.migration,
      underWay: migration?.started && !ended ? migration : undefined,
      last: ended ? migration : undefined,
    })
  }
  return children
}

/**
 * The policy that owns the volumes of a storage class: the oldest (creationTimestamp, then name) of those that name
 * it, even while it is disabled, in dry run or being deleted.
 */
export function owner(request: HookRequest, policy: Policy): string {
  const rivals = sorted(request.related[POLICY_KEY] ?? {})
    .map(([, other]) => other)
    .filter((other) => (text(other.spec?.['storageClassName']) ?? 'mayastor') === policy.spec.storageClassName)
    .map((other) => ({ name: other.metadata?.name ?? '', at: time(other.metadata?.creationTimestamp) ?? Infinity }))
  const own = { name: policy.name, at: time(request.parent.metadata?.creationTimestamp) ?? Infinity }
  const all = [...rivals.filter((rival) => rival.name !== own.name), own]
  return all.reduce((a, b) => (b.at < a.at || (b.at === a.at && b.name < a.name) ? b : a)).name
}

function activeElsewhere({ parent, related }: HookRequest): number {
  return sorted(related[POLICY_KEY] ?? {})
    .filter(([, other]) => other.metadata?.name !== parent.metadata?.name)
    .reduce((sum, [, other]) => sum + (finite(object(other.status?.['migrations'])?.['active']) ?? 0), 0)
}

function readPools(related: HookRequest['related'], policy: Policy): { pools: World['pools']; problems: string[] } {
  const [key] = Object.keys(related)
    .filter((candidate) => candidate.startsWith(DISKPOOL_KEY_PREFIX))
    .sort()
  if (key === undefined) return { pools: undefined, problems: [] }
  const pools = new Map<string, Pool>()
  const problems: string[] = []
  const both: string[] = []
  for (const [poolKey, pool] of sorted(related[key] ?? {})) {
    const name = pool.metadata?.name ?? poolKey
    const node = text(pool.spec?.['node'])
    if (node === undefined) {
      problems.push(`DiskPool ${name} has no spec.node`)
      continue
    }
    const labels = poolLabels(pool)
    const nvme = matches(policy.nvmeSelector, labels)
    const sata = matches(policy.sataSelector, labels)
    if (nvme && sata) both.push(name)
    const status: JsonObject = pool.status ?? {}
    const capacityBytes = finite(status['capacity'])
    const freeBytes =
      finite(status['available']) ?? (capacityBytes ?? Number.NaN) - (finite(status['used']) ?? Number.NaN)
    pools.set(name, {
      name,
      node,
      zone: labels.get(ZONE_LABEL)?.values().next().value,
      tier: nvme === sata ? undefined : nvme ? 'NVMe' : 'SATA',
      usable: status['pool_status'] === 'Online' && capacityBytes !== undefined && Number.isFinite(freeBytes),
      capacityBytes: capacityBytes ?? 0,
      freeBytes: Number.isFinite(freeBytes) ? freeBytes : 0,
      encrypted: status['encrypted'] === true,
      labels,
    })
  }
  if (both.length > 0) problems.push(`DiskPools matched by both selectors, so of neither tier: ${some(both)}`)
  return { pools, problems }
}

/** Union of metadata.labels and spec.topology.labelled. */
function poolLabels(pool: KubernetesObject): Map<string, Set<string>> {
  const labels = new Map<string, Set<string>>()
  for (const source of [pool.metadata?.labels, object(object(pool.spec?.['topology'])?.['labelled'])]) {
    for (const [key, value] of Object.entries(source ?? {})) {
      if (typeof value !== 'string') continue
      const values = labels.get(key) ?? new Set()
      labels.set(key, values.add(value))
    }
  }
  return labels
}

function heldClaims(claims: ObjectsByName): ReadonlySet<string> {
  const held = new Set<string>()
  for (const [, claim] of sorted(claims)) {
    const value = claim.metadata?.labels?.[HOLD_LABEL]
    if (value !== undefined && value !== 'false') held.add(`${claim.metadata?.namespace}/${claim.metadata?.name}`)
  }
  return held
}

function sorted(objects: ObjectsByName): [string, KubernetesObject][] {
  return Object.entries(objects)
    .filter(([, value]) => object(value) !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
}

/** At most three names, so that a sentence stays one. */
function some(names: readonly string[]): string {
  const more = names.length - 3
  return names.slice(0, 3).join(', ') + (more > 0 ? ` and ${more} more` : '')
}
