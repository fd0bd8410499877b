import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { DIRECTIONS, TIERS } from './api/names.js'
import { DECISION_REASONS, EVENT_REASONS, IOPS_UNKNOWN } from './api/reasons.js'
import type { PolicySummary } from './decide/hook.js'

const PREFIX = 'storage_operator_'

export const HOOKS = [
  'storage-policy/sync',
  'storage-policy/customize',
  'storage-policy/finalize',
  'replica-topology/sync',
  'replica-topology/finalize',
] as const
export type HookName = (typeof HOOKS)[number]

/** How a hook call ended: 200; 4xx; 401; 429; 5xx; the caller went away first. */
export const HOOK_OUTCOMES = ['success', 'bad_request', 'unauthorized', 'busy', 'error', 'aborted'] as const
export type HookOutcome = (typeof HOOK_OUTCOMES)[number]

/** How an Event ended: written; there already; refused; no answer; too many at once. */
export const EVENT_OUTCOMES = ['created', 'exists', 'refused', 'failed', 'dropped'] as const

/** What comes from files; the option of each is `--<name>-file`. */
export const CREDENTIALS = [
  'hook-tls-cert',
  'hook-client-ca',
  'hook-token',
  'prometheus-token',
  'prometheus-ca',
  'mayastor-token',
  'mayastor-ca',
] as const
export type CredentialName = (typeof CREDENTIALS)[number]

export const MIGRATION_RESULTS = ['success', 'failed', 'aborted'] as const

export type Metrics = ReturnType<typeof createMetrics>

/** Every metric of the operator, in a registry of its own. `runtime`: with those of the process and of Node.js. */
export function createMetrics({ version, runtime = false }: { version: string; runtime?: boolean }) {
  const registry = new Registry()
  const registers = [registry]
  if (runtime) collectDefaultMetrics({ register: registry })

  const metrics = {
    registry,

    reconcileTotal: new Counter({
      name: `${PREFIX}reconcile_total`,
      help: 'Hook calls answered, by hook and outcome (success, bad_request, unauthorized, busy, error, aborted).',
      labelNames: ['hook', 'outcome'] as const,
      registers,
    }),
    hookSeconds: new Histogram({
      name: `${PREFIX}hook_duration_seconds`,
      help: 'Time from the last byte of a request head to the end of the answer, by hook.',
      labelNames: ['hook'] as const,
      buckets: [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    }),
    hooksInFlight: new Gauge({
      name: `${PREFIX}hooks_in_flight`,
      help: 'Hook calls being answered now, by hook.',
      labelNames: ['hook'] as const,
      registers,
    }),

    migrationsTotal: new Counter({
      name: `${PREFIX}migrations_total`,
      help: 'Migrations that ended, by status: success, failed, or aborted (undone).',
      labelNames: ['status'] as const,
      registers,
    }),
    migrationSeconds: new Histogram({
      name: `${PREFIX}migration_duration_seconds`,
      help: 'Time from the journal of a migration to its end, by direction and status.',
      labelNames: ['direction', 'status'] as const,
      buckets: [60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400],
      registers,
    }),
    migrationBytes: new Counter({
      name: `${PREFIX}migration_bytes_total`,
      help: 'Bytes allocated by replicas that arrived where they were to go, when their migration ended, by direction.',
      labelNames: ['direction'] as const,
      registers,
    }),
    activeMigrations: new Gauge({
      name: `${PREFIX}active_migrations`,
      help: 'Migrations that hold a slot now, in the whole cluster: not those that are or were Held, nor preserved ones.',
      registers,
    }),
    heldMigrations: new Gauge({
      name: `${PREFIX}held_migrations`,
      help: 'Migrations that are Held now, in the whole cluster: for a person, or for a cause that has lasted an hour.',
      registers,
    }),
    extraReplicas: new Gauge({
      name: `${PREFIX}extra_replicas`,
      help: 'Replicas beyond the wanted count that exist because of the operator, by its journals.',
      registers,
    }),
    fenceOpenSeconds: new Gauge({
      name: `${PREFIX}fence_open_seconds`,
      help: 'How long the fence around a change of placement has been open; 0 when it is closed.',
      registers,
    }),
    fenceWaitSeconds: new Histogram({
      name: `${PREFIX}fence_wait_seconds`,
      help: 'How long moves waited for the fence, as far as this server saw them wait.',
      buckets: [0.1, 1, 5, 15, 30, 60, 120, 300, 900, 3600],
      registers,
    }),
    fenceHeldSeconds: new Histogram({
      name: `${PREFIX}fence_held_seconds`,
      help: 'How long the fence around a change of placement was open, when it was closed.',
      buckets: [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300],
      registers,
    }),
    readToWriteSeconds: new Histogram({
      name: `${PREFIX}read_to_write_seconds`,
      help: 'Time from the last fresh read of a volume to the write that relied on it; never above 5.',
      buckets: [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5],
      registers,
    }),
    stepsTotal: new Counter({
      name: `${PREFIX}steps_total`,
      help: 'Steps of migrations, by step and outcome.',
      labelNames: ['step', 'outcome'] as const,
      registers,
    }),

    volumesByReason: new Gauge({
      name: `${PREFIX}volumes_by_reason`,
      help: 'Volumes of a policy by the reason of their last decision.',
      labelNames: ['policy', 'reason'] as const,
      registers,
    }),
    volumesByTier: new Gauge({
      name: `${PREFIX}volumes_by_tier`,
      help: 'Volumes of a policy by the tier their replicas are on.',
      labelNames: ['policy', 'tier'] as const,
      registers,
    }),

    decisionsTotal: new Counter({
      name: `${PREFIX}decisions_total`,
      help: 'Decisions that changed, by policy and the new reason.',
      labelNames: ['policy', 'reason'] as const,
      registers,
    }),
    iopsKnown: new Gauge({
      name: `${PREFIX}iops_known_volumes`,
      help: 'Volumes with known IOPS among those that should have series: published, and older than the sampling window.',
      labelNames: ['policy'] as const,
      registers,
    }),
    iopsUnknown: new Gauge({
      name: `${PREFIX}iops_unknown_volumes`,
      help: 'Volumes with unknown IOPS among those that should have series, by policy and reason.',
      labelNames: ['policy', 'reason'] as const,
      registers,
    }),

    breakerOpen: new Gauge({
      name: `${PREFIX}breaker_open`,
      help: '1 while nothing new starts because migrations of the policy failed, by policy.',
      labelNames: ['policy'] as const,
      registers,
    }),

    prometheusSeconds: new Histogram({
      name: `${PREFIX}prometheus_query_duration_seconds`,
      help: 'Queries to Prometheus, by signal and outcome.',
      labelNames: ['signal', 'outcome'] as const,
      buckets: [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    mayastorSeconds: new Histogram({
      name: `${PREFIX}mayastor_request_duration_seconds`,
      help: "Requests to Mayastor's REST API, by method and outcome.",
      labelNames: ['method', 'outcome'] as const,
      buckets: [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    leaseSeconds: new Histogram({
      name: `${PREFIX}lease_request_duration_seconds`,
      help: 'Requests for Leases (the journal and the fence) to the Kubernetes API, by operation and outcome.',
      labelNames: ['operation', 'outcome'] as const,
      buckets: [0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5],
      registers,
    }),

    eventsTotal: new Counter({
      name: `${PREFIX}events_total`,
      help: 'Kubernetes Events, by type, reason and outcome (created, exists, refused, failed, dropped).',
      labelNames: ['type', 'reason', 'outcome'] as const,
      registers,
    }),

    credentialStale: new Gauge({
      name: `${PREFIX}credential_stale`,
      help: '1 while the newest files of a credential cannot be used and the ones before stay in use, by credential.',
      labelNames: ['credential'] as const,
      registers,
    }),
    certificateExpiry: new Gauge({
      name: `${PREFIX}certificate_expiry_timestamp_seconds`,
      help: 'When the first certificate of a credential expires, by credential.',
      labelNames: ['credential'] as const,
      registers,
    }),

    buildInfo: new Gauge({
      name: `${PREFIX}build_info`,
      help: 'Always 1; the label is the version of the operator.',
      labelNames: ['version'] as const,
      registers,
    }),
  }

  metrics.buildInfo.set({ version }, 1)
  for (const status of MIGRATION_RESULTS) {
    metrics.migrationsTotal.inc({ status }, 0)
    for (const direction of DIRECTIONS) metrics.migrationSeconds.zero({ direction, status })
  }
  for (const [reason, { type }] of Object.entries(EVENT_REASONS)) {
    for (const outcome of EVENT_OUTCOMES) metrics.eventsTotal.inc({ type, reason, outcome }, 0)
  }
  for (const direction of DIRECTIONS) metrics.migrationBytes.inc({ direction }, 0)
  for (const hook of HOOKS) {
    metrics.hooksInFlight.set({ hook }, 0)
    metrics.hookSeconds.zero({ hook })
    for (const outcome of HOOK_OUTCOMES) metrics.reconcileTotal.inc({ hook, outcome }, 0)
  }
  return metrics
}

/** Shows what a sync of a policy decided; reasons and tiers it does not mention are 0. */
export function recordPolicy(metrics: Metrics, summary: PolicySummary): void {
  const { policy, volumesByTier, reasons, iops, breakerOpen, changes } = summary
  for (const [reason, volumes] of Object.entries({ ...NO_REASONS, ...reasons })) {
    metrics.volumesByReason.set({ policy, reason }, volumes)
    metrics.decisionsTotal.inc({ policy, reason }, 0)
  }
  for (const [tier, volumes] of Object.entries({ ...NO_TIERS, ...volumesByTier })) {
    metrics.volumesByTier.set({ policy, tier }, volumes)
  }
  for (const [reason, volumes] of Object.entries({ ...NO_UNKNOWN, ...iops.unknown })) {
    metrics.iopsUnknown.set({ policy, reason }, volumes)
  }
  metrics.iopsKnown.set({ policy }, iops.known)
  metrics.breakerOpen.set({ policy }, Number(breakerOpen))
  for (const { reason } of changes) metrics.decisionsTotal.inc({ policy, reason })
}

/** Takes a policy out of the gauges by policy: another server answers for it. What was counted here stays. */
export async function forgetNumbers(metrics: Metrics, policy: string): Promise<void> {
  const { volumesByReason, volumesByTier, iopsKnown, iopsUnknown, breakerOpen } = metrics
  for (const gauge of [volumesByReason, volumesByTier, iopsKnown, iopsUnknown, breakerOpen]) {
    await removePolicy(gauge, policy)
  }
}

/** Takes a policy that is being deleted out of everything by policy. */
export async function forgetPolicy(metrics: Metrics, policy: string): Promise<void> {
  await forgetNumbers(metrics, policy)
  await removePolicy(metrics.decisionsTotal, policy)
}

async function removePolicy(metric: Gauge<'policy'> | Counter<'policy'>, policy: string): Promise<void> {
  for (const { labels } of (await metric.get()).values) if (labels.policy === policy) metric.remove(labels)
}

const zeros = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 0]))
const NO_REASONS = zeros(Object.keys(DECISION_REASONS))
const NO_TIERS = zeros(TIERS)
const NO_UNKNOWN = zeros(IOPS_UNKNOWN)
