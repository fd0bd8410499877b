import t from 'tap'
import type { Migration, ReplicaTopologySpec } from '../../src/api/replica-topology.js'
import {
  ago,
  claim,
  ended,
  HOUR,
  MINUTE,
  migration,
  migrationStatus,
  POOLS,
  policy,
  pool,
  replica,
  SECOND,
  type VolumeSetup,
} from '../builders.js'
import { type RunSetup, run, table } from './run.js'

/** Hot, on SATA, on nodes 1 and 2: wants to move to NVMe, and may. */
const HOT: VolumeSetup = { id: 'a', iops: 6000 }
/** Idle, on NVMe. */
const COLD: VolumeSetup = { id: 'a', iops: 0, replicas: ['nvme-1', 'nvme-2'] }
const hot = (extra: Partial<VolumeSetup>) => ({ volumes: [{ ...HOT, ...extra }] })
const targets = (spec: ReplicaTopologySpec) =>
  spec.migration?.replicas.map(({ replica, targetPool }) => `${replica}>${targetPool}`)
const reasons = (spec: ReplicaTopologySpec) => (spec.decision.holds ?? []).map(({ reason }) => reason)

table<RunSetup & { readonly decision: ReplicaTopologySpec['decision'] }>(
  'what the IOPS ask for',
  {
    'exactly the high watermark: stays': {
      ...hot({ iops: 5000 }),
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    },
    'just above it: NVMe': {
      ...hot({ iops: 5000.001 }),
      decision: { tier: 'NVMe', reason: 'Migrating', message: 'migration a-1 to NVMe' },
    },
    'exactly the low watermark: stays': {
      volumes: [{ ...COLD, iops: 500 }],
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    },
    'just below it: SATA': {
      volumes: [{ ...COLD, iops: 499.999 }],
      decision: { tier: 'SATA', reason: 'Migrating', message: 'migration a-1 to SATA' },
    },
    'reads and writes count together': {
      ...hot({
        iops: {
          ...{ readRate: 2500, writeRate: 2501, readSamples: 60, writeSamples: 60, readCoverage: 1, writeCoverage: 1 },
          ...{ readLast: 1.8e9, writeLast: 1.8e9 },
        },
      }),
      decision: { tier: 'NVMe', reason: 'Migrating', message: 'migration a-1 to NVMe' },
    },
    'the policy says where the watermarks are': {
      policy: { spec: { highWatermarkIOPS: 100, lowWatermarkIOPS: 10, samplingWindow: '5m' } },
      ...hot({ iops: 50 }),
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 10 and 100 over 5m' },
    },
    'hot and on NVMe already': {
      ...hot({ replicas: ['nvme-1', 'nvme-2'] }),
      decision: {
        tier: 'NVMe',
        reason: 'OnWantedTier',
        message: 'IOPS above 5000 over 1h; every replica is on NVMe',
      },
    },
    'idle and on SATA already': {
      ...hot({ iops: 0 }),
      decision: { tier: 'SATA', reason: 'OnWantedTier', message: 'IOPS below 500 over 1h; every replica is on SATA' },
    },
    'outside both tiers: never moved': {
      ...hot({ replicas: ['other-1', 'other-2'] }),
      pools: [...POOLS, pool('other-1'), pool('other-2')],
      decision: {
        tier: 'NVMe',
        reason: 'OutsideTiers',
        message: 'IOPS above 5000 over 1h; what is not on NVMe is outside both tiers',
      },
    },
    'partly outside, the rest where it belongs': {
      ...hot({ replicas: ['nvme-1', 'other-2'] }),
      pools: [...POOLS, pool('other-2')],
      decision: {
        tier: 'NVMe',
        reason: 'OutsideTiers',
        message: 'IOPS above 5000 over 1h; what is not on NVMe is outside both tiers',
      },
    },
    'on a pool nobody knows': {
      ...hot({ replicas: ['sata-9'] }),
      decision: {
        tier: 'NVMe',
        reason: 'OutsideTiers',
        message: 'IOPS above 5000 over 1h; what is not on NVMe is outside both tiers',
      },
    },
    'no child yet': {
      ...hot({ child: null }),
      decision: { reason: 'NotObserved', message: 'not observed in Mayastor yet' },
    },
    'a child never observed': {
      ...hot({ child: { status: null } }),
      decision: { reason: 'NotObserved', message: 'not observed in Mayastor yet' },
    },
    'observed without Mayastor': {
      ...hot({ child: { status: { volume: undefined } as never } }),
      decision: { reason: 'NotObserved', message: 'not observed in Mayastor yet' },
    },
    'a child being deleted': {
      ...hot({ child: { meta: { deletionTimestamp: ago(0) } } }),
      decision: { reason: 'NotObserved', message: 'its ReplicaTopology is being deleted and will be made anew' },
    },
    'gone from Mayastor': {
      ...hot({ child: { volume: { state: 'Gone', published: false } } }),
      decision: { reason: 'VolumeGone', message: 'Mayastor knows no volume a' },
    },
    'not published: no I/O to measure, though there are series': {
      ...hot({ child: { volume: { published: false } } }),
      decision: { reason: 'Unpublished', message: 'not published, so there is no I/O to measure' },
    },
    'as old as the window': {
      ...hot({ pv: { meta: { creationTimestamp: ago(HOUR) } } }),
      decision: { tier: 'NVMe', reason: 'Migrating', message: 'migration a-1 to NVMe' },
    },
    'a second younger than the window': {
      ...hot({ pv: { meta: { creationTimestamp: ago(HOUR - SECOND) } } }),
      decision: { reason: 'YoungerThanWindow', message: 'younger than the sampling window of 1h' },
    },
    'age unknown': {
      ...hot({ pv: { meta: { creationTimestamp: '?' } } }),
      decision: { reason: 'YoungerThanWindow', message: 'younger than the sampling window of 1h' },
    },
    'no series': {
      ...hot({ iops: {} }),
      decision: { reason: 'NoSeries', message: 'Prometheus has no series for the volume.' },
    },
    'one counter is not zero of the other': {
      ...hot({ iops: { readRate: 9000 } }),
      decision: {
        reason: 'OneCounterMissing',
        message: 'Prometheus has no series of the write counter of the volume.',
      },
    },
    'left on two tiers by an undone promotion: goes on, after its cooldown': {
      ...hot({
        iops: 1000,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 24 * HOUR, { phase: 'Aborted', reason: 'NoProgress' }) } },
      }),
      decision: { tier: 'NVMe', reason: 'Migrating', message: 'migration a-2 to NVMe' },
    },
    'left on two tiers by an undone demotion': {
      ...hot({
        iops: 1000,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 24 * HOUR, { phase: 'Failed', direction: 'Demote' }) } },
      }),
      decision: { tier: 'SATA', reason: 'Migrating', message: 'migration a-2 to SATA' },
    },
    'left on two tiers, still in its cooldown': {
      ...hot({
        iops: 1000,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 24 * HOUR - SECOND, { phase: 'Aborted', reason: 'Cancelled' }) } },
      }),
      decision: {
        tier: 'NVMe',
        reason: 'Cooldown',
        message: `left on two tiers by migration a-1; migration a-1 ended lately; next one not before ${ago(-SECOND)}`,
        holds: [{ reason: 'Cooldown', message: `migration a-1 ended lately; next one not before ${ago(-SECOND)}` }],
      },
    },
    'on two tiers for another reason: stays': {
      ...hot({ iops: 1000, replicas: ['nvme-3', 'sata-2'] }),
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    },
    'on two tiers after a migration that completed: stays': {
      ...hot({
        iops: 1000,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 99 * HOUR) } },
      }),
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    },
    'on two tiers after one that was declined: stays': {
      ...hot({
        iops: 1000,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 99 * HOUR, { phase: 'Aborted', started: false }) } },
      }),
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
    },
    'on two tiers, IOPS ask for the other': {
      ...hot({
        iops: 1,
        replicas: ['nvme-3', 'sata-2'],
        child: { status: { migration: ended('a', 24 * HOUR, { phase: 'Aborted' }) } },
      }),
      decision: { tier: 'SATA', reason: 'Migrating', message: 'migration a-2 to SATA' },
    },
  },
  ({ spec }, { decision }, t) => t.strictSame(spec('a').decision, decision),
)

const backOff = (attempts: number, ms: number, reason = 'ClusterDegraded') => ({
  child: { status: { migration: ended('a', ms, { phase: 'Aborted' as const, started: false, reason, attempts }) } },
})
const refusal = (reason: string) => ({ reason, message: `because of ${reason}` })

table<RunSetup & { readonly holds: readonly string[] }>(
  'gates',
  {
    'nothing in the way': { ...hot({}), holds: [] },
    'policy disabled': { policy: { spec: { enabled: false } }, ...hot({}), holds: ['Disabled'] },
    'policy in dry run': { policy: { spec: { dryRun: true } }, ...hot({}), holds: ['DryRun'] },
    'operator in dry run': { options: { dryRun: true }, ...hot({}), holds: ['DryRun'] },
    'no view of the pools': { pools: null, ...hot({}), holds: ['PoolsUnavailable'] },
    'claim asks to stay': { claims: [claim('apps', 'claim-a', 'true')], ...hot({}), holds: ['HeldByOwner'] },
    'cooldown, a second left': {
      ...hot({ child: { status: { migration: ended('a', 24 * HOUR - SECOND) } } }),
      holds: ['Cooldown'],
    },
    'cooldown over': { ...hot({ child: { status: { migration: ended('a', 24 * HOUR) } } }), holds: [] },
    'cooldown as the policy says now': {
      policy: { spec: { cooldownPeriod: '48h' } },
      ...hot({ child: { status: { migration: ended('a', 24 * HOUR) } } }),
      holds: ['Cooldown'],
    },
    'cooldown after a failure as well': {
      ...hot({ child: { status: { migration: ended('a', HOUR, { phase: 'Failed', reason: 'OtherReplicaLost' }) } } }),
      holds: ['Cooldown'],
    },
    'cooldown after a second failure in a row: twice as long': {
      ...hot({
        child: { status: { migration: ended('a', 48 * HOUR - SECOND, { reason: 'NoProgress', failures: 2 }) } },
      }),
      holds: ['Cooldown'],
    },
    'two cooldowns after it': {
      ...hot({ child: { status: { migration: ended('a', 48 * HOUR, { reason: 'NoProgress', failures: 2 }) } } }),
      holds: [],
    },
    'a removal that hit the wrong replica': {
      ...hot({ child: { status: { migration: ended('a', HOUR, { phase: 'Failed', reason: 'WrongRemoval' }) } } }),
      holds: ['BreakerOpen', 'Cooldown'],
    },
    'declined: no cooldown, a minute of back-off': { ...hot(backOff(1, MINUTE - SECOND)), holds: ['BackOff'] },
    'declined a minute ago': { ...hot(backOff(1, MINUTE)), holds: [] },
    'declined, attempts unknown': {
      ...hot({
        child: { status: { migration: { ...ended('a', MINUTE - SECOND, { started: false }), attempts: 0 } } },
      }),
      holds: ['BackOff'],
    },
    'declined twice: two minutes': { ...hot(backOff(2, 2 * MINUTE - SECOND)), holds: ['BackOff'] },
    'declined twice, two minutes ago': { ...hot(backOff(2, 2 * MINUTE)), holds: [] },
    'declined four times: eight minutes': { ...hot(backOff(4, 8 * MINUTE - SECOND)), holds: ['BackOff'] },
    'declined four times, eight minutes ago': { ...hot(backOff(4, 8 * MINUTE)), holds: [] },
    'declined time and again: a quarter of an hour at most': {
      ...hot(backOff(2000, 15 * MINUTE - SECOND)),
      holds: ['BackOff'],
    },
    'declined time and again, a quarter of an hour ago': { ...hot(backOff(2000, 15 * MINUTE)), holds: [] },
    'no slot was free: queues': { ...hot(backOff(1, MINUTE - SECOND, 'NoSlot')), holds: ['WaitingForSlot'] },
    'no slot was free time and again: a minute all the same': { ...hot(backOff(9, MINUTE, 'NoSlot')), holds: [] },
    'what stepping refuses, in its order': {
      ...hot({ child: { status: { refusals: [refusal('Snapshots'), refusal('NodeCordoned')] } } }),
      holds: ['Snapshots', 'NodeCordoned'],
    },
    'withdrawn and still running': {
      ...hot({ child: { status: { migration: migrationStatus('a') } } }),
      holds: ['Migrating'],
    },
    'withdrawn before it began': {
      ...hot({ child: { status: { migration: migrationStatus('a', { phase: 'Analyzing', started: false }) } } }),
      holds: [],
    },
    'a single replica, the policy holds it': {
      policy: { spec: { singleReplicaVolumes: 'Hold' } },
      ...hot({ replicas: ['sata-1'] }),
      holds: ['SingleReplicaHold'],
    },
    'a single replica, the policy moves it': { ...hot({ replicas: ['sata-1'] }), holds: [] },
    'two replicas are not held with the single ones': {
      policy: { spec: { singleReplicaVolumes: 'Hold' } },
      ...hot({}),
      holds: [],
    },
    'all of them, in order of precedence': {
      policy: { spec: { enabled: false, dryRun: true, singleReplicaVolumes: 'Hold' } },
      claims: [claim('apps', 'claim-a', 'true')],
      volumes: [
        {
          ...HOT,
          replicas: ['sata-1'],
          child: { status: { migration: ended('a', HOUR), refusals: [refusal('AffinityGroup')] } },
        },
        { id: 'unknown' },
      ],
      pools: POOLS.map((other) => pool(other.metadata?.name ?? '', { used: 950 })),
      holds: [
        ...['Disabled', 'DryRun', 'MetricsIncomplete', 'HeldByOwner', 'Cooldown', 'AffinityGroup'],
        ...['SingleReplicaHold', 'NoFittingPool'],
      ],
    },
    'placement is looked at in dry run as well': {
      policy: { spec: { dryRun: true } },
      pools: POOLS.slice(0, 2).concat(POOLS.slice(3)),
      ...hot({}),
      holds: ['DryRun', 'NoFreeTargetNode'],
    },
  },
  ({ spec }, { holds }, t) => {
    const { decision, migration } = spec('a')
    t.strictSame(reasons(spec('a')), holds)
    t.equal(decision.tier, 'NVMe')
    t.equal(decision.reason, holds[0] ?? 'Migrating')
    t.equal(migration === undefined, holds.length > 0, 'starts when nothing holds it')
    const [first] = decision.holds ?? []
    if (first !== undefined) t.equal(decision.message, `IOPS above 5000 over 1h; ${first.message}`)
  },
)

const nvme = (...setups: (Parameters<typeof pool>[1] & { name: string })[]) => [
  ...POOLS.slice(3),
  ...setups.map(({ name, ...setup }) => pool(name, setup)),
]
const labels = (poolLabels: Record<string, string>) => ({ child: { volume: { poolLabels } } })
const refusedBy = (targetPool: string, ms: number, extra: Parameters<typeof ended>[2] = {}) => ({
  child: {
    status: {
      migration: ended('a', ms, {
        phase: 'Aborted' as const,
        started: false,
        reason: 'GrowRefused',
        current: { replica: 'a@sata-1', sourcePool: 'sata-1', targetPool },
        ...extra,
      }),
    },
  },
})
const ONE: Partial<VolumeSetup> = { replicas: ['sata-1'] }

table<RunSetup & { readonly moves: readonly string[] | string }>(
  'placement',
  {
    'the free node first, then the one vacated': { ...hot({}), moves: ['a@sata-1>nvme-3', 'a@sata-2>nvme-1'] },
    'the emptiest pool': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-2', used: 201 }, { name: 'nvme-3', used: 200 }),
      moves: ['a@sata-1>nvme-3'],
    },
    'equally empty: by name': { ...hot(ONE), moves: ['a@sata-1>nvme-2'] },
    'the way down': { volumes: [COLD], moves: ['a@nvme-1>sata-3', 'a@nvme-2>sata-1'] },
    'a replica that stays keeps its node': {
      ...hot({ replicas: ['nvme-3', 'sata-1'] }),
      moves: ['a@sata-1>nvme-2'],
    },
    'room: exactly the reserve is left': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-3', used: 890 }),
      moves: ['a@sata-1>nvme-3'],
    },
    'room: the reserve would be touched': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-3', used: 890.001 }),
      moves: 'NoFittingPool',
    },
    'room: thin needs what is allocated and 40 %': {
      ...hot({ ...ONE, child: { volume: { thin: true, allocatedPercent: 20 } } }),
      pools: nvme({ name: 'nvme-3', used: 894 }),
      moves: ['a@sata-1>nvme-3'],
    },
    'room: thin, a little less': {
      ...hot({ ...ONE, child: { volume: { thin: true, allocatedPercent: 20 } } }),
      pools: nvme({ name: 'nvme-3', used: 894.001 }),
      moves: 'NoFittingPool',
    },
    'no pool of the tier is Online': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-2', status: { pool_status: 'Degraded' } }),
      moves: 'NoFittingPool',
    },
    'a pool that is not Online is passed over': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-2', used: 0, status: { pool_status: 'Unknown' } }, { name: 'nvme-3' }),
      moves: ['a@sata-1>nvme-3'],
    },
    'a pool of both tiers is no target': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-2', labels: { tier: 'sata' } }, { name: 'nvme-3', used: 500 }),
      moves: ['a@sata-1>nvme-3'],
    },
    'its topology: a label': {
      ...hot({ ...ONE, ...labels({ rack: 'x' }) }),
      pools: nvme({ name: 'nvme-2', labels: { rack: 'y' } }, { name: 'nvme-3', used: 500, labels: { rack: 'x' } }),
      moves: ['a@sata-1>nvme-3'],
    },
    'its topology: the key alone': {
      ...hot({ ...ONE, ...labels({ rack: '' }) }),
      pools: nvme({ name: 'nvme-2' }, { name: 'nvme-3', used: 500, labels: { rack: 'x' } }),
      moves: ['a@sata-1>nvme-3'],
    },
    'its topology: no pool has it': { ...hot({ ...ONE, ...labels({ rack: 'x' }) }), moves: 'VolumeTopology' },
    'its topology pins the tier it is on': { ...hot({ ...ONE, ...labels({ tier: 'sata' }) }), moves: 'VolumeTopology' },
    'its topology: made from DiskPools, as all are': {
      ...hot({ ...ONE, ...labels({ 'openebs.io/created-by': 'operator-diskpool' }) }),
      moves: ['a@sata-1>nvme-2'],
    },
    'its topology: made by anybody': {
      ...hot({ ...ONE, ...labels({ 'openebs.io/created-by': '' }) }),
      moves: ['a@sata-1>nvme-2'],
    },
    'its topology: made by somebody else': {
      ...hot({ ...ONE, ...labels({ 'openebs.io/created-by': 'me' }) }),
      moves: 'VolumeTopology',
    },
    'its topology: nodes': {
      ...hot({ ...ONE, child: { volume: { eligibleNodes: ['n1', 'n3'] } } }),
      moves: ['a@sata-1>nvme-3'],
    },
    'its topology: no node': { ...hot({ ...ONE, child: { volume: { eligibleNodes: [] } } }), moves: 'VolumeTopology' },
    'encrypted: only to an encrypted pool': {
      ...hot({ ...ONE, child: { volume: { encrypted: true } } }),
      pools: nvme({ name: 'nvme-2' }, { name: 'nvme-3', used: 500, status: { encrypted: true } }),
      moves: ['a@sata-1>nvme-3'],
    },
    'plain: only to a plain pool': {
      ...hot({ ...ONE, child: { volume: { encrypted: false } } }),
      pools: nvme({ name: 'nvme-2', status: { encrypted: true } }, { name: 'nvme-3', used: 500 }),
      moves: ['a@sata-1>nvme-3'],
    },
    'encrypted, and no pool is': { ...hot({ ...ONE, child: { volume: { encrypted: true } } }), moves: 'Encryption' },
    'an older Mayastor says nothing of encryption': {
      ...hot(ONE),
      pools: nvme({ name: 'nvme-2', status: { encrypted: true } }),
      moves: ['a@sata-1>nvme-2'],
    },
    'a pool that refused it is avoided': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 10 * MINUTE - SECOND) }),
      moves: ['a@sata-1>nvme-3'],
    },
    'for ten minutes': { ...hot({ ...ONE, ...refusedBy('nvme-2', 10 * MINUTE) }), moves: ['a@sata-1>nvme-2'] },
    'after the second refusal for twenty': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 20 * MINUTE - SECOND, { attempts: 2 }) }),
      moves: ['a@sata-1>nvme-3'],
    },
    'twenty are over': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 20 * MINUTE, { attempts: 2 }) }),
      moves: ['a@sata-1>nvme-2'],
    },
    'for a day at most': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 24 * HOUR - SECOND, { attempts: 40 }) }),
      moves: ['a@sata-1>nvme-3'],
    },
    'a day is over': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 24 * HOUR, { attempts: 40 }) }),
      moves: ['a@sata-1>nvme-2'],
    },
    'there is no other pool': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 2 * MINUTE) }),
      pools: nvme({ name: 'nvme-2' }),
      moves: 'BackOff',
    },
    'it ended for another reason: not the fault of the pool': {
      ...hot({ ...ONE, ...refusedBy('nvme-2', 2 * MINUTE, { reason: 'NoSlot' }) }),
      moves: ['a@sata-1>nvme-2'],
    },
    'no node is free': {
      ...hot({}),
      pools: nvme({ name: 'nvme-1' }, { name: 'nvme-2' }),
      moves: 'NoFreeTargetNode',
    },
    'only the node of a replica that stays': {
      ...hot({ replicas: ['nvme-3', 'sata-1'] }),
      pools: nvme({ name: 'nvme-3' }),
      moves: 'NoFreeTargetNode',
    },
    'zones: of the replicas as stepping saw them': {
      ...hot({ replicas: [replica('a', 'nvme-3', { zone: 'x' }), replica('a', 'sata-1', { zone: 'y' })] }),
      pools: nvme({ name: 'nvme-2', zone: 'x' }, { name: 'nvme-3' }, { name: 'nvme-4', used: 500, zone: 'y' }),
      moves: ['a@sata-1>nvme-4'],
    },
    'zones: fewer in the end': {
      ...hot({ replicas: [replica('a', 'nvme-3', { zone: 'x' }), replica('a', 'sata-1', { zone: 'y' })] }),
      pools: nvme({ name: 'nvme-2', zone: 'x' }),
      moves: 'ZonesWouldShrink',
    },
    'zones: from the labels of pools alone': {
      ...hot({ replicas: ['nvme-3', 'sata-1'] }),
      pools: [
        ...[pool('sata-1', { zone: 'y' }), pool('nvme-3', { zone: 'x' })],
        ...[pool('nvme-2', { zone: 'x' }), pool('nvme-4', { used: 500, zone: 'y' })],
      ],
      moves: ['a@sata-1>nvme-4'],
    },
    'zones: a node nobody has seen is one of its own until stepping sees it': {
      ...hot({ replicas: [replica('a', 'nvme-3', { zone: 'x' }), replica('a', 'sata-1', { zone: 'y' })] }),
      pools: nvme({ name: 'nvme-2' }),
      moves: ['a@sata-1>nvme-2'],
    },
    'zones: what another volume showed of a node counts': {
      volumes: [
        { ...HOT, replicas: [replica('a', 'nvme-3', { zone: 'x' }), replica('a', 'sata-1', { zone: 'y' })] },
        { id: 'b', iops: 0, replicas: [replica('b', 'sata-2', { zone: 'x' })] },
      ],
      pools: nvme({ name: 'nvme-2' }),
      moves: 'ZonesWouldShrink',
    },
  },
  ({ spec }, { moves }, t) => {
    if (typeof moves === 'string') t.strictSame(reasons(spec('a')), [moves])
    else t.strictSame(targets(spec('a')), moves)
  },
)

const many = (...volumes: (Partial<VolumeSetup> & { id: string })[]) => ({
  volumes: volumes.map((volume): VolumeSetup => ({ ...HOT, replicas: ['sata-1'], ...volume })),
})
const runningOn = (id: string, pool: string): Partial<VolumeSetup> & { id: string } => ({
  id,
  iops: 1000,
  child: {
    spec: {
      migration: migration(id, { replicas: [{ replica: `${id}@sata-1`, sourcePool: 'sata-1', targetPool: pool }] }),
    },
    status: { migration: migrationStatus(id) },
  },
})
const withPhase = (id: string, phase: 'Held' | 'WaitingSync'): Partial<VolumeSetup> & { id: string } => ({
  ...runningOn(id, 'nvme-3'),
  child: {
    spec: { migration: migration(id) },
    status: { migration: migrationStatus(id, { phase, message: 'a person decides' }) },
  },
})

const busy = (active: number) => ({ migrations: { active } })

table<RunSetup & { readonly started: readonly string[]; readonly waiting?: Readonly<Record<string, string>> }>(
  'slots, order and promises',
  {
    'hottest first': {
      ...many({ id: 'a', iops: 6000 }, { id: 'b', iops: 8000 }, { id: 'c', iops: 7000 }),
      started: ['b', 'c'],
      waiting: { a: 'WaitingForSlot' },
    },
    'coldest first': {
      ...many(
        { id: 'a', iops: 400, replicas: ['nvme-1'] },
        { id: 'b', iops: 20, replicas: ['nvme-1'] },
        { id: 'c', iops: 30, replicas: ['nvme-1'] },
      ),
      started: ['b', 'c'],
      waiting: { a: 'WaitingForSlot' },
    },
    'ties by name': {
      ...many({ id: 'c' }, { id: 'a' }, { id: 'b' }),
      started: ['a', 'b'],
      waiting: { c: 'WaitingForSlot' },
    },
    'promotions before demotions': {
      policy: { spec: { maxConcurrentMigrations: 1 } },
      ...many({ id: 'a', iops: 0, replicas: ['nvme-1'] }, { id: 'b', iops: 5001 }),
      started: ['b'],
      waiting: { a: 'WaitingForSlot' },
    },
    "the policy's limit": {
      policy: { spec: { maxConcurrentMigrations: 3 } },
      ...many({ id: 'a' }, { id: 'b' }, { id: 'c' }, { id: 'd' }),
      started: ['a', 'b', 'c'],
      waiting: { d: 'WaitingForSlot' },
    },
    "the cluster's limit": {
      policy: { spec: { maxConcurrentMigrations: 3 } },
      options: { maxConcurrentMigrations: 1 },
      ...many({ id: 'a' }, { id: 'b' }),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'what runs for other policies takes slots of the cluster': {
      options: { maxConcurrentMigrations: 2 },
      otherPolicies: [policy({ name: 'z', spec: { storageClassName: 'x' }, status: busy(1) })],
      ...many({ id: 'a' }, { id: 'b' }),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'and may leave none': {
      options: { maxConcurrentMigrations: 2 },
      otherPolicies: [policy({ name: 'z', spec: { storageClassName: 'x' }, status: busy(2) })],
      ...many({ id: 'a' }),
      started: [],
      waiting: { a: 'WaitingForSlot' },
    },
    'what runs takes its slot': {
      ...many(runningOn('r', 'nvme-3'), { id: 'a' }, { id: 'b' }),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'also while its volume is missing': {
      ...many({ ...runningOn('r', 'nvme-3'), pv: null }, { id: 'a' }, { id: 'b' }),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'also while its volume cannot be read': {
      ...many(
        { ...runningOn('r', 'nvme-3'), pv: { spec: { csi: { driver: 'io.openebs.csi-mayastor' } } } },
        { id: 'a' },
        { id: 'b' },
      ),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'also while it comes to its end after it was withdrawn': {
      ...many(
        { id: 'r', iops: 1000, child: { status: { migration: migrationStatus('r') } } },
        { id: 'a' },
        { id: 'b' },
      ),
      started: ['a'],
      waiting: { b: 'WaitingForSlot' },
    },
    'more run than may': {
      policy: { spec: { maxConcurrentMigrations: 1 } },
      ...many(runningOn('r', 'nvme-3'), runningOn('s', 'nvme-3'), { id: 'a' }),
      started: [],
      waiting: { a: 'WaitingForSlot' },
    },
    'a held one takes none': {
      ...many(withPhase('r', 'Held'), { id: 'a' }, { id: 'b' }),
      started: ['a', 'b'],
    },
    'what is held back leaves the slot to the next': {
      policy: { spec: { maxConcurrentMigrations: 1 } },
      ...many({ id: 'a', iops: 9000, child: { status: { refusals: [refusal('Snapshots')] } } }, { id: 'b' }),
      started: ['b'],
      waiting: { a: 'Snapshots' },
    },
    'what fits nowhere leaves the slot to the next': {
      policy: { spec: { maxConcurrentMigrations: 1 } },
      ...many({ id: 'a', iops: 9000, child: { volume: { sizeBytes: 2 ** 42 } } }, { id: 'b' }),
      started: ['b'],
      waiting: { a: 'NoFittingPool' },
    },
    'the second finds what the first leaves': {
      pools: nvme({ name: 'nvme-3', used: 889 }),
      ...many({ id: 'a' }, { id: 'b' }),
      started: ['a'],
      waiting: { b: 'NoFittingPool' },
    },
    'just enough for two': {
      pools: nvme({ name: 'nvme-3', used: 880 }),
      ...many({ id: 'a' }, { id: 'b' }),
      started: ['a', 'b'],
    },
    'what was promised to one that runs is not given away': {
      pools: nvme({ name: 'nvme-3', used: 889 }),
      ...many(runningOn('r', 'nvme-3'), { id: 'a' }),
      started: [],
      waiting: { a: 'NoFittingPool' },
    },
    'nor what was promised to one that has not begun': {
      pools: nvme({ name: 'nvme-3', used: 889 }),
      ...many({ id: 'r', iops: 1000, child: { spec: { migration: migration('r') } } }, { id: 'a' }),
      started: [],
      waiting: { a: 'NoFittingPool' },
    },
    'nor to one that was withdrawn and may be finished': {
      pools: nvme({ name: 'nvme-3', used: 889 }),
      ...many({ id: 'r', iops: 1000, child: { status: { migration: migrationStatus('r') } } }, { id: 'a' }),
      started: [],
      waiting: { a: 'NoFittingPool' },
    },
    'the emptiest after what was promised': {
      pools: nvme({ name: 'nvme-2', used: 205 }, { name: 'nvme-3', used: 200 }),
      ...many({ id: 'a', iops: 9000 }, { id: 'b' }),
      started: ['a', 'b'],
    },
    'nobody is told of slots who is held for another reason': {
      policy: { spec: { maxConcurrentMigrations: 1 } },
      ...many({ id: 'a', iops: 9000 }, { id: 'b', child: { volume: { eligibleNodes: [] } } }),
      started: ['a'],
      waiting: { b: 'VolumeTopology' },
    },
  },
  ({ spec, children, request }, { started, waiting = {} }, t) => {
    const before = request.children['ReplicaTopology.storage.billyronks.io/v1'] ?? {}
    const fresh = [...children].filter(([name, { migration }]) => migration && !before[name]?.spec?.['migration'])
    t.strictSame(
      fresh.map(([name]) => name.slice('pvc-'.length)),
      started,
    )
    for (const [id, reason] of Object.entries(waiting)) t.equal(spec(id).decision.reason, reason, id)
  },
)

t.test('the emptiest after what was promised takes the next', async (t) => {
  const { spec } = await run({
    pools: nvme({ name: 'nvme-2', used: 205 }, { name: 'nvme-3', used: 200 }),
    ...many({ id: 'a', iops: 9000 }, { id: 'b' }),
  })
  t.strictSame([targets(spec('a')), targets(spec('b'))], [['a@sata-1>nvme-3'], ['b@sata-1>nvme-2']])
})

t.test('a new migration, field by field', async (t) => {
  const full = await run({
    policy: { spec: { migrationTimeout: '1h', migrationHardTimeout: '6h', cooldownPeriod: '12h' } },
    ...hot({}),
  })
  t.strictSame(full.spec('a'), {
    volumeID: 'a',
    policy: 'tiering',
    claimRef: { namespace: 'apps', name: 'claim-a', uid: 'uid-claim-a' },
    decision: { tier: 'NVMe', reason: 'Migrating', message: 'migration a-1 to NVMe' },
    pools: [
      { pool: 'nvme-1', tier: 'NVMe' },
      { pool: 'nvme-3', tier: 'NVMe' },
      { pool: 'sata-1', tier: 'SATA' },
      { pool: 'sata-2', tier: 'SATA' },
    ],
    migration: {
      id: 'a-1',
      direction: 'Promote',
      replicas: [
        { replica: 'a@sata-1', sourcePool: 'sata-1', targetPool: 'nvme-3' },
        { replica: 'a@sata-2', sourcePool: 'sata-2', targetPool: 'nvme-1' },
      ],
      candidatePools: ['nvme-1', 'nvme-2', 'nvme-3'],
      timeout: '1h',
      hardTimeout: '6h',
      cooldown: '12h',
      maxConcurrentMigrations: 2,
    },
  })
  const plain = (await run({ options: { migrationTimeoutMinutes: 7 }, ...hot({}) })).spec('a').migration
  t.equal(plain?.timeout, '7m', "the option's where the policy has none")
  t.notOk('hardTimeout' in (plain ?? {}))

  const tier = Array.from({ length: 300 }, (_, n) => pool(`nvme-${n}`, { used: n === 299 ? 0 : 500 }))
  const { migration: big } = (await run({ ...hot(ONE), pools: [...POOLS.slice(3), ...tier] })).spec('a')
  t.equal(big?.candidatePools.length, 256, 'no more candidates than the schema takes')
  t.ok(big?.candidatePools.includes('nvme-299'), 'the emptiest are among them')
})

t.test('ids', async (t) => {
  const next = async (previous: string | undefined) =>
    (
      await run(
        hot({
          child: { status: previous === undefined ? {} : { migration: ended('a', 99 * HOUR, { id: previous }) } },
        }),
      )
    ).spec('a').migration?.id
  t.equal(await next(undefined), 'a-1')
  t.equal(await next('a-1'), 'a-2')
  t.equal(await next('a-41'), 'a-42')
  t.equal(await next('b-7'), 'a-1', 'of another volume')
  t.equal(await next('a-x'), 'a-1', 'of another form')
  t.equal(await next('a-99999999999999999999'), 'a-1', 'beyond numbers')
})

t.test('a running migration is repeated word for word, whatever changes', async (t) => {
  const odd: Migration = {
    ...migration('a', {
      id: 'a-7',
      direction: 'Demote',
      timeout: '99m',
      hardTimeout: '5h',
      maxConcurrentMigrations: 9,
    }),
    replicas: [
      { replica: 'who', sourcePool: 'where', targetPool: 'nowhere' },
      { replica: 'a@sata-2', sourcePool: 'sata-2', targetPool: 'nvme-1' },
    ],
    candidatePools: ['nowhere'],
  }
  const child = { spec: { migration: odd }, status: { migration: migrationStatus('a', { id: 'a-7' }) } }
  const decision = { tier: 'SATA', reason: 'Migrating', message: 'migration a-7 to SATA' }
  const cases: Readonly<Record<string, RunSetup>> = {
    'IOPS ask for the other tier': hot({ child, iops: 90_000 }),
    'IOPS are between': hot({ child, iops: 1000 }),
    'IOPS unknown': hot({ child, iops: {} }),
    'Prometheus away': { ...hot({ child }), failures: { all: { kind: 'failed', message: 'away' } } },
    'no view of the pools': { ...hot({ child }), pools: null },
    'no pools': { ...hot({ child }), pools: [] },
    'pools full': { ...hot({ child }), pools: POOLS.map((p) => pool(p.metadata?.name ?? '', { used: 999 })) },
    'other selectors': {
      ...hot({ child }),
      policy: {
        spec: { nvmePoolSelector: { matchLabels: { tier: 'sata' } }, sataPoolSelector: { matchLabels: { tier: 'x' } } },
      },
    },
    'other watermarks, times and limits': {
      ...hot({ child }),
      policy: { spec: { highWatermarkIOPS: 2, lowWatermarkIOPS: 1, migrationTimeout: '1s', cooldownPeriod: '1s' } },
    },
    'claim asks to stay': { ...hot({ child }), claims: [claim('apps', 'claim-a', 'true')] },
    'stepping refuses': hot({ child: { ...child, status: { ...child.status, refusals: [refusal('Snapshots')] } } }),
    'replicas are elsewhere': hot({ child, replicas: ['sata-3'] }),
    unpublished: hot({ child: { ...child, volume: { published: false } } }),
    'gone from Mayastor': hot({ child: { ...child, volume: { state: 'Gone', published: false } } }),
    'never observed': hot({ child: { ...child, status: null } }),
    'status speaks of the one before': hot({
      child: { ...child, status: { migration: ended('a', HOUR, { id: 'a-6' }) } },
    }),
    'status speaks of another that runs': hot({
      child: { ...child, status: { migration: migrationStatus('a', { id: 'a-6' }) } },
    }),
    'a child being deleted': hot({ child: { ...child, meta: { deletionTimestamp: ago(0) } } }),
    'preservation mode': { ...hot({ child }), options: { preservationMode: true } },
  }
  for (const [name, setup] of Object.entries(cases)) {
    const { spec } = await run(setup)
    t.strictSame(spec('a').migration, odd, name)
    t.strictSame(spec('a').decision, decision, name)
  }
  const held = await run(
    hot({
      child: {
        ...child,
        status: { migration: migrationStatus('a', { id: 'a-7', phase: 'Held', message: 'look at it' }) },
      },
    }),
  )
  t.strictSame(held.spec('a').migration, odd)
  t.strictSame(held.spec('a').decision, { tier: 'SATA', reason: 'Held', message: 'look at it' })
  for (const phase of ['Completed', 'Aborted', 'Failed'] as const) {
    const over = await run(hot({ child: { ...child, status: { migration: ended('a', 0, { id: 'a-7', phase }) } } }))
    t.equal(over.spec('a').migration, undefined, `${phase}: not asked for any longer`)
    t.equal(over.spec('a').decision.reason, 'Cooldown')
  }
})

t.test('a running migration is withdrawn where nothing may run', async (t) => {
  const child = { spec: { migration: migration('a') }, status: { migration: migrationStatus('a') } }
  const cases: Readonly<Record<string, RunSetup>> = {
    Disabled: { policy: { spec: { enabled: false } } },
    DryRun: { policy: { spec: { dryRun: true } } },
    'DryRun ': { options: { dryRun: true } },
  }
  for (const [reason, setup] of Object.entries(cases)) {
    const answer = await run({ ...setup, ...hot({ child }) })
    t.equal(answer.spec('a').migration, undefined, reason)
    t.equal(answer.spec('a').decision.reason, reason.trim())
    t.equal(answer.status.migrations.active, 1, 'it runs until status says otherwise')
  }
  const again = await run(hot({ child: { status: child.status } }))
  t.strictSame(reasons(again.spec('a')), ['Migrating'], 'allowed again: not before the one withdrawn has ended')
  const later = await run(
    hot({ child: { status: { migration: ended('a', MINUTE, { phase: 'Aborted', reason: 'Cancelled' }) } } }),
  )
  t.strictSame(reasons(later.spec('a')), ['Cooldown'], 'and then not within its cooldown')
})

t.test('too many unknown', async (t) => {
  const worlds = (known: number, unknown: number, extra: readonly VolumeSetup[] = []): RunSetup => ({
    policy: { spec: { maxConcurrentMigrations: 1000 } },
    options: { maxConcurrentMigrations: 1000 },
    volumes: [
      ...Array.from({ length: known }, (_, n): VolumeSetup => ({ id: `k${n}`, iops: 6000, replicas: ['sata-1'] })),
      ...Array.from({ length: unknown }, (_, n): VolumeSetup => ({ id: `u${n}` })),
      ...extra,
    ],
  })
  const unpublished: VolumeSetup = { id: 'x', child: { volume: { published: false } } }
  const young: VolumeSetup = { id: 'y', pv: { meta: { creationTimestamp: ago(MINUTE) } } }
  const fresh: VolumeSetup = { id: 'z', child: null }
  const cases: readonly { name: string; setup: RunSetup; starts: boolean }[] = [
    { name: 'none', setup: worlds(4, 0), starts: true },
    { name: 'exactly 20 %', setup: worlds(4, 1), starts: true },
    { name: 'exactly 20 % of many', setup: worlds(80, 20), starts: true },
    { name: 'one more than 20 %', setup: worlds(79, 21), starts: false },
    { name: 'a quarter', setup: worlds(3, 1), starts: false },
    { name: 'those without I/O do not count', setup: worlds(4, 1, [unpublished, young, fresh]), starts: true },
    { name: 'nor do they dilute', setup: worlds(3, 1, [unpublished, young, fresh]), starts: false },
    {
      name: 'the policy tolerates more',
      setup: { ...worlds(1, 1), policy: { spec: { maxUnknownPercent: 50 } } },
      starts: true,
    },
    {
      name: 'the policy tolerates none',
      setup: { ...worlds(99, 1), policy: { spec: { maxUnknownPercent: 0 } } },
      starts: false,
    },
    {
      name: 'the policy tolerates all',
      setup: { ...worlds(1, 9), policy: { spec: { maxUnknownPercent: 100 } } },
      starts: true,
    },
  ]
  for (const { name, setup, starts } of cases) {
    const { spec, conditions } = await run(setup)
    t.equal(spec('k0').migration !== undefined, starts, name)
    t.equal(spec('k0').decision.reason, starts ? 'Migrating' : 'MetricsIncomplete', name)
    const unknown = (setup.volumes ?? []).some(({ id }) => id.startsWith('u'))
    const condition = `MetricsAvailable=${starts ? 'True' : 'False'} ${unknown ? 'NoSeries' : 'AllKnown'}`
    t.equal(conditions[1], condition, `${name}: ${condition}`)
  }
})

t.test('preservation', async (t) => {
  const preserved = (iops: number, ms: number, extra: Parameters<typeof ended>[2] = {}): VolumeSetup => ({
    id: 'a',
    iops,
    replicas: ['sata-1', replica('a', 'nvme-3', { replica: 'added' }), 'sata-2'],
    child: {
      status: {
        migration: ended('a', ms, {
          reason: 'Preserved',
          current: { replica: 'a@sata-1', sourcePool: 'sata-1', targetPool: 'nvme-3', addedReplica: 'added' },
          ...extra,
        }),
      },
    },
  })
  const look = async (volume: VolumeSetup, setup: RunSetup = {}) =>
    (await run({ ...setup, volumes: [volume] })).spec('a')
  const same = await look(preserved(9000, 99 * HOUR))
  t.strictSame([same.decision.reason, reasons(same), same.migration], ['Preserved', ['Preserved'], undefined])
  t.equal((await look(preserved(1000, 99 * HOUR))).decision.reason, 'BetweenWatermarks')

  const back = await look(preserved(0, 24 * HOUR), { options: { preservationMode: true } })
  t.match(back.migration, { id: 'a-2', direction: 'Demote', candidatePools: ['sata-1'] })
  t.strictSame(
    back.migration?.replicas,
    [{ replica: 'added', sourcePool: 'nvme-3', targetPool: 'sata-1' }],
    'the reverse',
  )
  t.equal((await look(preserved(0, 24 * HOUR - SECOND))).decision.reason, 'Cooldown', 'not within the cooldown')

  const pools = [...POOLS, pool('sata-4')]
  const current = { replica: 'a@sata-1', sourcePool: 'sata-1', targetPool: 'nvme-3' }
  const noPair = await look(preserved(0, 99 * HOUR, { current }), { pools })
  t.strictSame(targets(noPair), ['added>sata-4'], 'the added replica is not known: a move like any other')
  const over = await look(preserved(0, 99 * HOUR, { reason: 'AllReplicasMoved' }), { pools })
  t.strictSame(targets(over), ['added>sata-4'], 'the mode was left')
})
