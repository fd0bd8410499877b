import { type Static, Type } from 'typebox'
import { DURATION_MAX_LENGTH, DURATION_PATTERN } from './duration.js'
import { DIRECTIONS, MIGRATION_PHASES, TIERS } from './names.js'
import { Conditions, Count, ObservedGeneration, Reason, Timestamp } from './shared.js'

const name = (description: string) => Type.String({ minLength: 1, maxLength: 253, description })
const tier = (description: string) => Type.Enum([...TIERS], { type: 'string', description })
const duration = (description: string) =>
  Type.String({ pattern: DURATION_PATTERN, maxLength: DURATION_MAX_LENGTH, description })

/** Pools of one tier listed in a migration at most; more are never needed to place a handful of replicas. */
export const CANDIDATE_POOLS_LIMIT = 256

export const ReplicaMove = Type.Object({
  replica: name('Uuid of the replica to move.'),
  sourcePool: name('Pool it is on.'),
  targetPool: name('Pool it goes to.'),
})
export type ReplicaMove = Static<typeof ReplicaMove>

export const Migration = Type.Object(
  {
    id: name('Volume uuid and an ordinal; an id never starts twice.'),
    direction: Type.Enum([...DIRECTIONS], { type: 'string', description: 'Promote: to NVMe. Demote: to SATA.' }),
    replicas: Type.Array(ReplicaMove, { minItems: 1, maxItems: 64, description: 'In the order they are moved.' }),
    candidatePools: Type.Array(name('Pool name.'), {
      maxItems: CANDIDATE_POOLS_LIMIT,
      description: 'Usable pools of the wanted tier: where a replica may go when the order is computed anew.',
    }),
    timeout: duration('A move may go this long without progress.'),
    hardTimeout: Type.Optional(duration('A move may take this long in all.')),
    cooldown: duration('How long the end of this migration is remembered.'),
    maxConcurrentMigrations: Type.Integer({ minimum: 1, description: "The policy's limit when it was decided." }),
    resumed: Type.Optional(Timestamp('The trip of the breaker up to which a person has seen what failed.')),
  },
  {
    description:
      'A wanted migration. Repeated word for word until status reports that it ended; taking it away cancels it.',
  },
)
export type Migration = Static<typeof Migration>

export const ReplicaTopologySpec = Type.Object({
  volumeID: name('Uuid of the Mayastor volume.'),
  policy: name('The StoragePolicy that owns the volume.'),
  claimRef: Type.Optional(
    Type.Object({
      namespace: name('Namespace of the claim.'),
      name: name('Name of the claim.'),
      uid: Type.Optional(name('Uid of the claim; Events about the claim carry it.')),
    }),
  ),
  decision: Type.Object(
    {
      tier: Type.Optional(tier('Where the volume belongs; absent: where it is.')),
      reason: Type.String({ maxLength: 64, description: 'Why it is where it is; from the documented list.' }),
      message: Type.String({ maxLength: 1024 }),
      holds: Type.Optional(
        Type.Array(Reason, { maxItems: 32, description: 'Everything that keeps it from moving now.' }),
      ),
    },
    { description: 'What the policy decided for this volume.' },
  ),
  pools: Type.Array(Type.Object({ pool: name('Pool name.'), tier: tier('Its tier under the policy.') }), {
    maxItems: 64,
    description: 'Tier of each pool that holds a replica of the volume; pools outside both tiers are not listed.',
  }),
  missingSince: Type.Optional(Timestamp('When the persistent volume was first missing from a request.')),
  migration: Type.Optional(Migration),
})
export type ReplicaTopologySpec = Static<typeof ReplicaTopologySpec>

export const ObservedReplica = Type.Object({
  replica: name('Uuid.'),
  pool: Type.Optional(name('Pool it is on.')),
  node: Type.Optional(name('Node of the pool.')),
  zone: Type.Optional(name('Zone of the node, when it has one.')),
  state: Type.String({ maxLength: 32, description: 'Unknown, Online, Degraded or Faulted.' }),
  synced: Type.Boolean({ description: 'Online and a synced child of the target.' }),
  rebuildPercent: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 100, description: 'Rebuild progress, rounded down to steps of 10.' }),
  ),
})
export type ObservedReplica = Static<typeof ObservedReplica>

const LabelMap = (description: string) =>
  Type.Object({}, { additionalProperties: Type.String({ maxLength: 253 }), maxProperties: 64, description })

export const ObservedVolume = Type.Object({
  state: Type.String({ maxLength: 32, description: 'Online, Degraded, Faulted, Unknown, or Gone.' }),
  published: Type.Boolean(),
  targetNode: Type.Optional(name('Node of the target (nexus).')),
  numReplicas: Count('Replica count Mayastor keeps.'),
  sizeBytes: Count('Size in bytes.'),
  thin: Type.Boolean(),
  allocatedPercent: Type.Integer({
    minimum: 0,
    maximum: 100,
    description: 'Largest share of the size that a replica has allocated, rounded up to steps of 10.',
  }),
  snapshots: Count('Number of snapshots.'),
  selfHeal: Type.Boolean(),
  affinityGroup: Type.Optional(name('Affinity group.')),
  encrypted: Type.Optional(Type.Boolean()),
  poolLabels: Type.Optional(
    LabelMap('Labels a pool needs to hold a replica, from the storage class; an empty value: the key must exist.'),
  ),
  eligibleNodes: Type.Optional(
    Type.Array(name('Node.'), {
      maxItems: 1024,
      description: 'Nodes that may hold a replica, when the storage class restricts them; sorted.',
    }),
  ),
})
export type ObservedVolume = Static<typeof ObservedVolume>

export const MigrationStatus = Type.Object({
  id: name('Id of the running or last migration.'),
  direction: Type.Enum([...DIRECTIONS], { type: 'string' }),
  phase: Type.Enum([...MIGRATION_PHASES], { type: 'string' }),
  reason: Type.String({ maxLength: 64 }),
  message: Type.String({ maxLength: 1024 }),
  started: Type.Boolean({ description: 'false: it was declined before anything was touched; no cooldown follows.' }),
  replicasMoved: Count('Replicas that arrived.'),
  replicasTotal: Count('Replicas to move.'),
  current: Type.Optional(
    Type.Object({
      replica: name('Uuid of the replica being moved.'),
      sourcePool: name('Pool it is on.'),
      targetPool: name('Pool it goes to.'),
      addedReplica: Type.Optional(name('Uuid of the replica added in its place.')),
      rebuildPercent: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })),
    }),
  ),
  startedAt: Type.Optional(Timestamp('When its journal was created.')),
  endedAt: Type.Optional(Timestamp('When it ended.')),
  attempts: Type.Optional(Count('Attempts in a row that did not complete, this one included.')),
  failures: Type.Optional(Count('Of those, the ones that failed: the next one waits longer for each.')),
  holdId: Type.Optional(
    name('While it waits for a person: what the annotation storage.billyronks.io/release has to say.'),
  ),
})
export type MigrationStatus = Static<typeof MigrationStatus>

export const ReplicaTopologyStatus = Type.Object({
  observedGeneration: ObservedGeneration,
  tier: Type.Enum([...TIERS, 'Mixed', 'Unknown'], {
    type: 'string',
    description: 'The tier the observed replicas amount to. Unknown: not observed, or a replica outside both tiers.',
  }),
  volume: Type.Optional(ObservedVolume),
  replicas: Type.Array(ObservedReplica, { maxItems: 64, description: 'Ordered by uuid.' }),
  refusals: Type.Array(Reason, { maxItems: 32, description: 'What would refuse a move of the volume now.' }),
  migration: Type.Optional(MigrationStatus),
  totals: Type.Object({
    succeeded: Count('Migrations completed.'),
    failed: Count('Migrations failed.'),
    aborted: Count('Migrations undone.'),
  }),
  conditions: Conditions,
})
export type ReplicaTopologyStatus = Static<typeof ReplicaTopologyStatus>
