import { type Static, Type } from 'typebox'
import { DURATION_MAX, DURATION_MAX_LENGTH, DURATION_PATTERN } from './duration.js'
import { DIRECTIONS } from './names.js'
import { Conditions, Count, ObservedGeneration, Timestamp } from './shared.js'

const duration = (description: string, options: { default?: string } = {}) =>
  Type.String({
    description: `${description} Hours, minutes, seconds, in this order: 24h, 1h30m, 45s.`,
    pattern: DURATION_PATTERN,
    minLength: 2,
    maxLength: DURATION_MAX_LENGTH,
    'x-kubernetes-validations': [
      { rule: "self.matches('[1-9]')", message: 'must be a duration above zero, such as 30m or 1h30m' },
      { rule: `duration(self) <= duration('${DURATION_MAX}')`, message: `must be at most a year, ${DURATION_MAX}` },
    ],
    ...options,
  })

const LabelValue = Type.String({ maxLength: 63 })
const LabelKey = { minLength: 1, maxLength: 317 }

const MatchExpression = Type.Object(
  {
    key: Type.String({ ...LabelKey, description: 'Label key.' }),
    operator: Type.Enum(['In', 'NotIn', 'Exists', 'DoesNotExist'], { type: 'string' }),
    values: Type.Optional(Type.Array(LabelValue, { maxItems: 64, description: 'For In and NotIn; empty otherwise.' })),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        message: 'values must be given for In and NotIn, and only for them',
        fieldPath: '.values',
      },
    ],
  },
)

const poolSelector = (tier: string) =>
  Type.Object(
    {
      matchLabels: Type.Optional(
        Type.Object(
          {},
          {
            additionalProperties: LabelValue,
            maxProperties: 32,
            description: 'Labels a pool must carry with exactly these values.',
          },
        ),
      ),
      matchExpressions: Type.Optional(
        Type.Array(MatchExpression, { maxItems: 32, description: 'Requirements a pool must all satisfy.' }),
      ),
    },
    {
      description: `DiskPools of the ${tier} tier, by metadata.labels and spec.topology.labelled together. Needs at least one matchLabels, In or Exists: a selector of negations alone would take every pool.`,
      'x-kubernetes-validations': [
        {
          rule: "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && self.matchExpressions.exists(e, e.operator == 'In' || e.operator == 'Exists'))",
          message: 'needs at least one matchLabels entry, or one matchExpressions entry with operator In or Exists',
        },
        {
          rule: '!has(self.matchLabels) || self.matchLabels.all(key, size(key) > 0 && size(key) <= 317)',
          message: 'label keys must have 1 to 317 characters',
          fieldPath: '.matchLabels',
        },
      ],
    },
  )

const query = (what: string) =>
  Type.String({
    minLength: 1,
    maxLength: 4096,
    description: `PromQL for ${what}, one series per volume labelled pv_name. $window stands for the sampling window.`,
  })

export const StoragePolicySpec = Type.Object(
  {
    highWatermarkIOPS: Type.Integer({
      default: 5000,
      minimum: 1,
      maximum: 1_000_000_000,
      description: 'Above this many IOPS (reads and writes together) a volume belongs on NVMe.',
    }),
    lowWatermarkIOPS: Type.Integer({
      default: 500,
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Below this many IOPS a volume belongs on SATA. Between the two it stays where it is.',
    }),
    samplingWindow: duration('IOPS are averaged over this window.', { default: '1h' }),
    cooldownPeriod: duration('No second migration of a volume within this time.', { default: '24h' }),
    storageClassName: Type.String({
      default: 'mayastor',
      minLength: 1,
      maxLength: 253,
      description: 'Persistent volumes of this storage class are managed by the policy.',
    }),
    nvmePoolSelector: poolSelector('NVMe'),
    sataPoolSelector: poolSelector('SATA'),
    maxConcurrentMigrations: Type.Integer({
      default: 2,
      minimum: 1,
      maximum: 1000,
      description: 'At most this many migrations of this policy at once; the server option caps the whole cluster.',
    }),
    migrationTimeout: Type.Optional(
      duration(
        "A replica's move may go this long without progress, then it is undone and the old replica stays. Default: the server's --migration-timeout-minutes.",
      ),
    ),
    migrationHardTimeout: Type.Optional(
      duration("A replica's move may take this long in all, progress or not. Default: no limit."),
    ),
    enabled: Type.Boolean({
      default: true,
      description: 'false: nothing new starts; what runs is finished or undone, whichever is safe sooner.',
    }),
    dryRun: Type.Boolean({
      default: false,
      description: 'true: decide and report, start nothing; what runs ends as with enabled: false.',
    }),
    maxUnknownPercent: Type.Integer({
      default: 20,
      minimum: 0,
      maximum: 100,
      description:
        'When IOPS are unknown for more than this share of the volumes that should have series, nothing new starts.',
    }),
    singleReplicaVolumes: Type.Enum(['Move', 'Hold'], {
      type: 'string',
      default: 'Move',
      description:
        'Whether volumes with one replica are moved. Their target stays on the old node until the next publish.',
    }),
    queries: Type.Optional(
      Type.Object(
        {
          readIOPS: query('read operations per second'),
          writeIOPS: query('write operations per second'),
          readSamples: Type.Optional(query('the number of read samples in the window')),
          writeSamples: Type.Optional(query('the number of write samples in the window')),
        },
        { description: "Replaces the queries over Mayastor's own metrics, for other exporters." },
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: 'self.lowWatermarkIOPS < self.highWatermarkIOPS',
        message: 'must be below highWatermarkIOPS',
        fieldPath: '.lowWatermarkIOPS',
      },
    ],
  },
)
export type StoragePolicySpec = Static<typeof StoragePolicySpec>

export const POLICY_PHASES = ['Pending', 'Active', 'Disabled', 'Error'] as const
/** Migrations kept in a policy's history, newest first. */
export const HISTORY_LIMIT = 20

export const StoragePolicyStatus = Type.Object({
  observedGeneration: ObservedGeneration,
  phase: Type.Enum([...POLICY_PHASES], {
    type: 'string',
    description: 'Pending: no volume observed yet. Active, Disabled. Error: see the condition Ready.',
  }),
  volumes: Type.Object(
    {
      total: Count('Mayastor volumes of the policy.'),
      nvme: Count('Volumes with every replica on NVMe.'),
      sata: Count('Volumes with every replica on SATA.'),
      mixed: Count('Volumes with replicas on both tiers.'),
      other: Count('Volumes not observed yet, or with a replica outside both tiers.'),
    },
    { description: 'Volumes by tier.' },
  ),
  reasons: Type.Array(
    Type.Object({
      reason: Type.String({ maxLength: 64, description: 'A decision reason.' }),
      volumes: Count('Volumes with this reason.'),
    }),
    { maxItems: 128, description: 'Volumes by decision reason, ordered by reason.' },
  ),
  migrations: Type.Object({
    active: Count('Migrations that hold a slot now.'),
    succeeded: Count('Migrations completed.'),
    failed: Count('Migrations failed.'),
    aborted: Count('Migrations undone.'),
  }),
  history: Type.Array(
    Type.Object({
      volume: Type.String({ maxLength: 253, description: 'Name of the persistent volume.' }),
      id: Type.String({ maxLength: 128 }),
      direction: Type.Enum([...DIRECTIONS], { type: 'string' }),
      result: Type.String({ maxLength: 32 }),
      reason: Type.String({ maxLength: 64 }),
      startedAt: Timestamp('When its journal was created.'),
      endedAt: Timestamp('When it ended.'),
    }),
    { maxItems: HISTORY_LIMIT, description: 'The newest migrations that ended, newest first.' },
  ),
  breaker: Type.Optional(
    Type.Object(
      {
        trip: Timestamp('When it tripped: what the annotation storage.billyronks.io/resume has to say.'),
        reason: Type.String({ maxLength: 64, description: 'RepeatedFailures or WrongRemoval.' }),
        message: Type.String({ maxLength: 1024 }),
      },
      { description: 'While it is here nothing new starts; what runs may still become safer.' },
    ),
  ),
  conditions: Conditions,
})
export type StoragePolicyStatus = Static<typeof StoragePolicyStatus>
