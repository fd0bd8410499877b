/**
 * Why a volume is where it is. The closed list behind `spec.decision.reason`, the policy's counts by reason, log
 * fields and metric labels. Each entry says what it means in one sentence; the order is the order of precedence.
 */
export const DECISION_REASONS = {
  // nothing to decide from
  NotObserved: 'The volume has not been observed in Mayastor yet.',
  VolumeMissing: 'The persistent volume was not in the last request; its child is kept until that is confirmed.',
  VolumeGone: 'Mayastor does not know the volume.',
  // IOPS unknown
  Unpublished: 'The volume is not published, so it has no I/O to measure.',
  YoungerThanWindow: 'The volume is younger than the sampling window.',
  NoSeries: 'Prometheus has no series for the volume.',
  OneCounterMissing: 'Prometheus has only one of the read and write counters of the volume.',
  TooFewSamples: 'The series of the volume do not cover the sampling window.',
  StaleSample: 'The last sample of the volume is too old.',
  NotANumber: 'Prometheus answered with something that is not a number.',
  PrometheusUnavailable: 'Prometheus could not be asked.',
  PartialAnswer: 'Prometheus answered with a warning, so the answer may be partial.',
  // settled
  BetweenWatermarks: 'IOPS are between the watermarks; the volume stays where it is.',
  OnWantedTier: 'Every replica is on the wanted tier already.',
  OutsideTiers: 'No replica is on a pool of the other tier; replicas outside both tiers are never moved.',
  // moving
  Migrating: 'A migration is running.',
  Held: 'A migration waits for a person, or for what has stood in its way for an hour.',
  Preserved: 'Preservation mode: the volume keeps its extra replica.',
  // wanted, but not now
  Disabled: 'The policy is disabled.',
  DryRun: 'Dry run: reported, not started.',
  MetricsIncomplete: 'Too many volumes have unknown IOPS; nothing new starts.',
  PoolsUnavailable: 'The DiskPools cannot be seen.',
  HeldByOwner: 'The label storage.billyronks.io/hold on the claim keeps the volume where it is.',
  BreakerOpen: 'Migrations of the policy failed in a row, or one removed the wrong replica; a person has to resume it.',
  Cooldown: 'The volume was migrated recently.',
  BackOff: 'The last attempt did not succeed; the next one waits.',
  ClusterDegraded: 'A node is offline, or a volume is short of replicas; no move begins.',
  VolumeNotHealthy: 'The volume is not Online with all its replicas synced.',
  OperationRunning: 'Mayastor is working on the volume.',
  SelfHealOff: 'Self-healing is off for the volume.',
  Snapshots: 'The volume has snapshots, which would stay behind.',
  AffinityGroup: 'The volume is in an affinity group.',
  NodeCordoned: 'A node of the volume is cordoned, draining or offline.',
  MixedVersions: 'The io-engine nodes run different versions.',
  MayastorTooOld: 'Mayastor is older than 2.10 and has no pool cordon.',
  Encryption: 'No pool of the wanted tier matches the encryption of the volume.',
  ClusterSize: 'No pool of the wanted tier matches the cluster size of the volume.',
  PoolDrain: 'Mayastor is draining a pool of the volume.',
  SingleReplicaHold: 'The policy holds volumes with a single replica.',
  VolumeTopology: 'No pool of the wanted tier satisfies the topology the volume was created with.',
  NoFittingPool: 'No pool of the wanted tier has room for the volume beside its reserve.',
  NoFreeTargetNode: 'No order of moves exists: the free nodes have no fitting pool of the wanted tier.',
  ZonesWouldShrink: 'The replicas would be spread over fewer zones.',
  WaitingForSlot: 'As many migrations as allowed are running.',
} as const
export type DecisionReason = keyof typeof DECISION_REASONS

/** Those of them that say why the IOPS of a volume that should have series are not known. */
export const IOPS_UNKNOWN = [
  'NoSeries',
  'OneCounterMissing',
  'TooFewSamples',
  'StaleSample',
  'NotANumber',
  'PrometheusUnavailable',
  'PartialAnswer',
] as const satisfies readonly DecisionReason[]
export type IopsUnknown = (typeof IOPS_UNKNOWN)[number]

/**
 * How a migration ended, or why it waits. Behind `status.migration.reason`, history, logs and metrics.
 * Preconditions that decline a migration use the decision reasons above.
 */
export const MIGRATION_REASONS = {
  AllReplicasMoved: 'Every listed replica is on its target pool.',
  Started: 'The migration holds a slot.',
  WaitingForFence: 'Another move is changing placement; this one is next.',
  NoSlot: 'As many migrations as allowed are running.',
  NoJournal: 'The operator has no access to Leases; it recommends and never moves.',
  Cordoning: 'Every other pool is being cordoned, so that the replica lands on the target.',
  Growing: 'The replica is being added.',
  Unresolved: 'The outcome of a call to Mayastor is not known yet; only reads until it is.',
  Uncordoning: 'Cordons of this move are being removed.',
  Rebuilding: 'The added replica is being rebuilt.',
  ConfirmingSync: 'The added replica is synced; a second reading will confirm it.',
  Shrinking: 'The old replica is being removed.',
  Undoing: 'The added replica is being removed again.',
  Resting: 'Nobody drives the move at present; only its bracket is looked after.',
  ReplicasMissing: 'A replica is missing, and Mayastor is replacing it.',
  SurplusUnknown: 'There is a replica too many, and it is not known which.',
  RemovalRefused: 'Mayastor refused to lower the count; it is asked again every minute.',
  ReplicasNotSynced: 'A replica that stays is not synced; nothing is removed until it is.',
  SnapshotsChanged: 'A snapshot was taken or removed since the migration began.',
  PlacementChanged: 'The volume is not as it was checked; the replica was not added.',
  GrowRefused: 'Mayastor refused to add the replica.',
  WrongPool: 'Mayastor placed the replica on another pool.',
  TargetLost: 'The added replica or its pool is gone.',
  TargetFilling: 'The target pool ran below half of its reserve.',
  NoProgress: 'The rebuild made no progress for the migration timeout.',
  HardTimeout: 'The move took longer than the hard timeout.',
  Cancelled: 'The migration was withdrawn: the policy or the volume no longer wants it.',
  Abandoned: 'Nobody drove the migration for half an hour, so the server ended it.',
  WrongRemoval: 'Mayastor removed another replica than the one asked for, and nothing explains it.',
  OtherReplicaLost: 'Another replica left in its place; a fault, a cordon or a target that moved explains it.',
  SurplusRemains: 'The count is lowered, and Mayastor does not remove the surplus replica.',
  ReplacedTooOften: 'Mayastor replaced replicas of the volume time and again; a person has to release the migration.',
  CountChanged: 'Somebody else changed the replica count.',
  MayastorUnavailable: 'Mayastor cannot be reached.',
  UnreadableJournal: 'A journal cannot be read; no move begins until it can, or its Lease is deleted.',
  JournalLost: 'The journal of the migration is gone; what it had begun is for a person to look at.',
} as const
export type MigrationReason = keyof typeof MIGRATION_REASONS | DecisionReason

/** Kubernetes Events, on the StoragePolicy and on the claim: by reason, the type and when it is written. */
export const EVENT_REASONS = {
  MigrationStarted: { type: 'Normal', when: 'The migration has its slot and a journal.' },
  MigrationCompleted: { type: 'Normal', when: 'Every listed replica is on its target pool, or the old one is kept.' },
  MigrationAborted: { type: 'Warning', when: 'The migration was undone; the volume is on the replicas it had.' },
  MigrationFailed: { type: 'Warning', when: 'The migration ended in another way than it was meant to.' },
  MigrationHeld: { type: 'Warning', when: 'It waits for a person, or for what has stood in its way for an hour.' },
  LetGo: { type: 'Warning', when: 'A ReplicaTopology was let go before Mayastor was as it was found.' },
} as const
export type EventReason = keyof typeof EVENT_REASONS
