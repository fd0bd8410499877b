import { ZONE_LABEL } from '../api/names.js'
import type { StoragePolicySpec } from '../api/storage-policy.js'
import { GIB, type Load, type PoolOptions, type VolumeOptions } from './cluster.js'
import { Random } from './mayastor/random.js'

/**
 * What the demo starts with: twelve nodes in three zones, NVMe scarce and full of idle data, busy volumes on SATA, and
 * volumes that have a reason to stay where they are.
 */

export const POLICY = 'tiering'
export const STORAGE_CLASS = 'mayastor'
export const MAX_CONCURRENT_MIGRATIONS = 4
/** Gathered before the operator starts: the sampling window, and a little more. */
export const HISTORY_MS = 15 * 60_000
export const WINDOW_MS = 10 * 60_000
export const COOLDOWN_MS = 60 * 60_000

export const POLICY_SPEC: Partial<StoragePolicySpec> = {
  highWatermarkIOPS: 5000,
  lowWatermarkIOPS: 500,
  samplingWindow: '10m',
  cooldownPeriod: '1h',
  storageClassName: STORAGE_CLASS,
  maxConcurrentMigrations: MAX_CONCURRENT_MIGRATIONS,
  migrationTimeout: '15m',
}

export type PoolTier = 'NVMe' | 'SATA'

export interface DemoPool extends PoolOptions {
  readonly tier: PoolTier
  readonly zone: string
}

export interface DemoVolume extends VolumeOptions {
  /** What people call it. */
  readonly name: string
  /** Simulated minutes after the operator started; undefined: it was there before. */
  readonly arrivesMinute?: number
}

export interface DemoNode {
  readonly id: string
  readonly labels: Record<string, string>
}

export interface Scenario {
  readonly nodes: readonly DemoNode[]
  readonly pools: readonly DemoPool[]
  readonly volumes: readonly DemoVolume[]
  /** No load changes, and nothing arrives, after this many minutes. */
  readonly lastChangeMinute: number
}

const ZONES = ['a', 'b', 'c'] as const
const NVME_BYTES = 216 * GIB
const SATA_BYTES = 480 * GIB
/** Pools of a zone's four nodes. */
const NODE_POOLS: readonly (readonly PoolTier[])[] = [['NVMe', 'SATA'], ['NVMe', 'SATA'], ['SATA'], ['SATA']]

/** Share of the operations that read. */
const READ_SHARE = 0.7
/** How far a load wanders from its mean, to either side. */
const JITTER = 0.06
const JITTER_MS = 30_000

/** Operations per second at a minute after the operator started; undefined: the exporter does not know the volume. */
type Shape = (minute: number) => number | undefined

const steady =
  (iops: number): Shape =>
  () =>
    iops
const silent: Shape = () => 0
const withoutMetrics: Shape = () => undefined
const bursts =
  (base: number, peak: number, everyMinutes: number, forMinutes: number): Shape =>
  (minute) =>
    ((minute % everyMinutes) + everyMinutes) % everyMinutes < forMinutes ? peak : base
const from =
  (atMinute: number, after: number, before: number): Shape =>
  (minute) =>
    minute < atMinute ? before : after

const BATCH_STARTS_MINUTE = 30
const SALE_ENDS_MINUTE = 35
const TENANT_ARRIVES_MINUTE = 20

interface Row {
  readonly name: string
  /** Where it starts. Mixed: one replica on NVMe, the others on SATA. */
  readonly on: PoolTier | 'Mixed'
  readonly replicas: number
  readonly gib: number
  readonly shape: Shape
  readonly but?: Partial<Pick<DemoVolume, 'published' | 'snapshots' | 'heldByOwner' | 'ageMs' | 'arrivesMinute'>>
}

const ROWS: readonly Row[] = [
  // Busy, and on the slow tier. Some find room at once, the larger ones only when idle data has left NVMe.
  { name: 'orders-db', on: 'SATA', replicas: 3, gib: 20, shape: steady(14_000) },
  { name: 'payments-db', on: 'SATA', replicas: 3, gib: 24, shape: steady(11_500) },
  { name: 'session-cache', on: 'SATA', replicas: 2, gib: 16, shape: steady(17_000) },
  { name: 'search-index', on: 'SATA', replicas: 2, gib: 48, shape: steady(9_200) },
  { name: 'kafka-0', on: 'SATA', replicas: 3, gib: 40, shape: steady(7_800) },
  { name: 'kafka-1', on: 'SATA', replicas: 2, gib: 40, shape: steady(7_400) },
  { name: 'ml-features', on: 'SATA', replicas: 1, gib: 56, shape: steady(8_300) },
  { name: 'telemetry', on: 'SATA', replicas: 2, gib: 64, shape: steady(6_300) },
  { name: 'graph-db', on: 'Mixed', replicas: 2, gib: 24, shape: steady(6_900) },
  // Busy, and where they belong.
  { name: 'auth-db', on: 'NVMe', replicas: 3, gib: 20, shape: steady(9_600) },
  { name: 'catalog-db', on: 'NVMe', replicas: 2, gib: 24, shape: steady(7_100) },
  { name: 'ledger-cache', on: 'NVMe', replicas: 2, gib: 16, shape: steady(6_000) },
  // Idle, and on the fast tier.
  { name: 'archive-2023', on: 'NVMe', replicas: 2, gib: 96, shape: steady(3) },
  { name: 'archive-2024', on: 'NVMe', replicas: 2, gib: 96, shape: steady(12) },
  { name: 'old-warehouse', on: 'NVMe', replicas: 2, gib: 80, shape: steady(40) },
  { name: 'wiki', on: 'NVMe', replicas: 2, gib: 40, shape: steady(90) },
  { name: 'legacy-crm', on: 'NVMe', replicas: 2, gib: 64, shape: steady(25) },
  { name: 'staging-db', on: 'NVMe', replicas: 2, gib: 48, shape: steady(120) },
  { name: 'test-fixtures', on: 'NVMe', replicas: 1, gib: 64, shape: steady(8) },
  { name: 'mail-history', on: 'NVMe', replicas: 2, gib: 64, shape: steady(60) },
  { name: 'backup-stage', on: 'NVMe', replicas: 2, gib: 64, shape: steady(5) },
  { name: 'quarantine', on: 'NVMe', replicas: 2, gib: 48, shape: silent },
  { name: 'old-photos', on: 'NVMe', replicas: 1, gib: 80, shape: silent },
  // Idle, and where they belong.
  { name: 'photo-originals', on: 'SATA', replicas: 2, gib: 80, shape: steady(210) },
  { name: 'docs', on: 'SATA', replicas: 2, gib: 24, shape: steady(70) },
  { name: 'video-master', on: 'SATA', replicas: 3, gib: 96, shape: steady(30) },
  { name: 'audit-2020', on: 'SATA', replicas: 2, gib: 48, shape: silent },
  // Between the watermarks, some only on average.
  { name: 'crm-db', on: 'SATA', replicas: 3, gib: 24, shape: steady(2_500) },
  { name: 'blog-db', on: 'SATA', replicas: 2, gib: 16, shape: steady(1_400) },
  { name: 'feed-ingest', on: 'SATA', replicas: 2, gib: 32, shape: bursts(2_800, 8_500, 5, 1) },
  { name: 'ci-cache', on: 'NVMe', replicas: 2, gib: 24, shape: bursts(2_500, 9_000, 8, 2) },
  { name: 'cron-jobs', on: 'NVMe', replicas: 2, gib: 32, shape: bursts(150, 3_200, 6, 2) },
  // Changing their minds.
  { name: 'batch-etl', on: 'SATA', replicas: 2, gib: 32, shape: from(BATCH_STARTS_MINUTE, 9_000, 60) },
  { name: 'flash-sale', on: 'SATA', replicas: 2, gib: 24, shape: from(SALE_ENDS_MINUTE, 40, 12_500) },
  {
    name: 'new-tenant',
    on: 'SATA',
    replicas: 2,
    gib: 20,
    shape: steady(8_800),
    but: { ageMs: 0, arrivesMinute: TENANT_ARRIVES_MINUTE },
  },
  // With a reason to stay.
  { name: 'invoices-db', on: 'SATA', replicas: 2, gib: 32, shape: steady(6_600), but: { snapshots: 2 } },
  { name: 'data-lake', on: 'SATA', replicas: 1, gib: 400, shape: steady(5_900) },
  { name: 'compliance-log', on: 'NVMe', replicas: 2, gib: 48, shape: steady(35), but: { heldByOwner: true } },
  { name: 'import-scratch', on: 'SATA', replicas: 1, gib: 64, shape: silent, but: { published: false } },
  { name: 'vm-template', on: 'NVMe', replicas: 1, gib: 32, shape: silent, but: { published: false } },
  { name: 'sensor-feed', on: 'SATA', replicas: 2, gib: 48, shape: withoutMetrics },
  { name: 'vendor-db', on: 'NVMe', replicas: 2, gib: 32, shape: withoutMetrics },
]

/** The same seed gives the same cluster. `startMs`: when the operator starts, milliseconds since the epoch. */
export function buildScenario(seed: number, startMs: number): Scenario {
  const random = new Random(seed)
  const pools = buildPools()
  const place = placer(pools, random)
  const volumes = ROWS.map(({ name, on, replicas, gib, shape, but }): DemoVolume => {
    const tiers = Array.from({ length: replicas }, (_, i) => (on === 'Mixed' ? (i === 0 ? 'NVMe' : 'SATA') : on))
    const sizeBytes = gib * GIB
    return {
      name,
      uuid: random.uuid(),
      sizeBytes,
      pools: place(tiers, sizeBytes),
      storageClass: STORAGE_CLASS,
      load: load(shape, startMs, random.below(2 ** 32)),
      ...but,
    }
  })
  const nodes = new Map(pools.map(({ node, zone }) => [node, { id: node, labels: { [ZONE_LABEL]: zone } }]))
  return {
    nodes: [...nodes.values()],
    pools,
    volumes,
    lastChangeMinute: Math.max(BATCH_STARTS_MINUTE, SALE_ENDS_MINUTE, TENANT_ARRIVES_MINUTE),
  }
}

function buildPools(): DemoPool[] {
  return ZONES.flatMap((zone) =>
    NODE_POOLS.flatMap((tiers, index) =>
      tiers.map((tier) => ({
        name: `${tier.toLowerCase()}-${zone}${index + 1}`,
        node: `node-${zone}${index + 1}`,
        tier,
        capacityBytes: tier === 'NVMe' ? NVME_BYTES : SATA_BYTES,
        zone: `zone-${zone}`,
        labels: { tier: tier.toLowerCase() },
      })),
    ),
  )
}

/** Puts each replica on another node, in as many zones as there are replicas, on the emptiest pool; ties by chance. */
function placer(pools: readonly DemoPool[], random: Random) {
  const promised = new Map<string, number>()
  return (tiers: readonly PoolTier[], sizeBytes: number): string[] => {
    const taken: DemoPool[] = []
    for (const tier of tiers) {
      const zones = new Set(taken.map((pool) => pool.zone))
      const free = pools.filter(
        (pool) =>
          pool.tier === tier &&
          !taken.some(({ node }) => node === pool.node) &&
          (zones.size === ZONES.length || !zones.has(pool.zone)),
      )
      const least = Math.min(...free.map((pool) => promised.get(pool.name) ?? 0))
      const pool = random.choose(
        'pool',
        free.filter((candidate) => (promised.get(candidate.name) ?? 0) === least),
      )
      promised.set(pool.name, least + sizeBytes)
      taken.push(pool)
    }
    return taken.map((pool) => pool.name)
  }
}

/** The same seed and time give the same load, however often it is asked for. */
function load(shape: Shape, startMs: number, seed: number): Load {
  return (atMs) => {
    const mean = shape((atMs - startMs) / 60_000)
    if (mean === undefined) return undefined
    const noise = new Random(seed + Math.floor(atMs / JITTER_MS)).below(2001) / 1000 - 1
    const iops = mean * (1 + JITTER * noise)
    return { read: READ_SHARE * iops, write: (1 - READ_SHARE) * iops }
  }
}
