import t from 'tap'
import type { Fence, Journal } from '../../src/step/journal.js'
import { nextStep } from '../../src/step/next-step.js'
import type { Situation, Step } from '../../src/step/step.js'
import {
  cordoned,
  ID,
  journal,
  migration,
  NOW,
  node,
  pool,
  rebuilding,
  replica,
  situation,
  VOLUME,
  view,
  volume,
} from './builders.js'

const MINUTE = 60_000
const mine: Fence = { volume: VOLUME, openedAt: NOW }
const label = { node: 'node-1', label: `tier-move-${ID}` }
const others = ['sata-3', 'sata-4', 'nvme-4']
const intent = { pools: others.map((name) => ({ pool: name, otherBits: '' })) }
const fenced: Fence = { ...mine, intent }
/** All of these were cordoned by this move. */
const cordoning = { cordoned: others }
const grown = [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('new', 'nvme-3')]
const growing = [replica('a', 'sata-1'), replica('b', 'sata-2'), rebuilding('new', 'nvme-3')]
const move = { ...journal().move, added: 'new' }
const waiting = journal({ phase: 'WaitingSync', move, ...cordoning })
/** Raised, and what was added has gone before it was seen. */
const unseen = journal({ phase: 'WaitingSync' })
const confirmed = { reading: { at: NOW, nexus: 'nexus-1' } }
const shrinking = journal({ phase: 'ScalingDown', move, victim: 'a', ...confirmed })
const held = { id: ID, reason: 'ReplacedTooOften', message: 'four times', at: NOW, forPerson: true }
const resting = {
  rest: { since: NOW, reason: 'Resting' },
  held: { ...held, reason: 'Resting', forPerson: false },
  holds: 1,
}
const sent = { ...shrinking, removalSentAt: NOW }
const confirmedDown = { ...sent, confirmedCount: 2 }
const undoing = journal({
  phase: 'ScalingDown',
  move,
  victim: 'new',
  undo: { phase: 'Aborted', reason: 'NoProgress', message: 'no progress' },
})
const over = journal({
  phase: 'Ended',
  end: { phase: 'Completed', reason: 'AllReplicasMoved', message: '', at: NOW + 999, started: true },
  cooldownFrom: NOW + 999,
})
const failed = [1, 2, 3].map((second) =>
  journal({
    volume: `v${second}`,
    id: `v${second}-1`,
    phase: 'Ended',
    end: { phase: 'Aborted', reason: 'NoProgress', message: '', at: NOW + second * 1000, started: true },
  }),
)
const marked = { nodes: [node('node-1', { cordonLabels: [label.label] })] }
const labelled: Fence = { ...mine, intent: { pools: [], label } }

/** What a step amounts to, in one line: its kind, and the part of it that matters. */
function brief(step: Step): string {
  switch (step.kind) {
    case 'wait':
      return `wait ${step.report.reason}`
    case 'note':
      return `note ${describe(step.journal)}`
    case 'call':
      return `call ${Object.values(step.call).join(' ')}`
    case 'intend': {
      const { pools = [], label } = step.fence.intent ?? {}
      const names = pools.map((entry) => (entry.otherBits === '' ? entry.pool : `${entry.pool}(${entry.otherBits})`))
      return `intend ${[...names, label?.node].filter(Boolean).join(' ')}`
    }
    default:
      return step.kind
  }
}

function describe({ phase, end, held, rest, victim, undo, move, count }: Journal): string {
  if (held !== undefined) return `held ${held.reason}`
  if (rest !== undefined) return `rests ${rest.reason}`
  if (end !== undefined) return `${end.phase} ${end.reason}${end.started ? '' : ' (declined)'}`
  const detail = phase === 'ScalingDown' ? (victim ?? 'count only') : (move.added ?? move.targetPool)
  return [phase, detail, undo?.reason, count === 2 ? undefined : `of ${count}`].filter(Boolean).join(' ')
}

interface Case {
  readonly name: string
  readonly at: Partial<Situation>
  readonly want: string
}

const cases: Record<string, readonly Case[]> = {
  beginning: [
    { name: 'nothing wanted', at: { migration: undefined }, want: 'rest' },
    { name: 'wanted: takes the fence first', at: {}, want: 'takeFence' },
    { name: 'the fence is another move’s', at: { fence: { volume: 'other' } }, want: 'wait WaitingForFence' },
    { name: 'fence taken: admitted', at: { fence: mine }, want: 'note ScalingUp nvme-3' },
    { name: 'finalizing', at: { finalizing: true, migration: undefined }, want: 'rest' },
    { name: 'its tombstone is there', at: { journal: journal({ phase: 'Ended' }) }, want: 'rest' },
    {
      name: 'a late request for an earlier id',
      at: { journal: journal({ phase: 'Ended', id: `${VOLUME}-7` }) },
      want: 'rest',
    },
    {
      name: 'the next id within the cooldown of one that moved data',
      at: { now: NOW + 24 * 3_600_000 - 1, journal: over, migration: { ...migration, id: `${VOLUME}-2` } },
      want: 'note Aborted Cooldown (declined)',
    },
    {
      name: 'and after it, to the second',
      at: { now: NOW + 24 * 3_600_000, journal: over, migration: { ...migration, id: `${VOLUME}-2` } },
      want: 'takeFence',
    },
    {
      name: 'the next id after a tombstone',
      at: { journal: journal({ phase: 'Ended' }), migration: { ...migration, id: `${VOLUME}-2` } },
      want: 'takeFence',
    },
    {
      name: 'rests with the fence in hand: gives it back',
      at: { migration: undefined, fence: mine },
      want: 'releaseFence',
    },
    { name: 'dry run', at: { dryRun: true }, want: 'note Aborted DryRun (declined)' },
    {
      name: 'no pool cordon',
      at: { view: view({ poolCordon: false }) },
      want: 'note Aborted MayastorTooOld (declined)',
    },
    {
      name: 'an io-engine older than the pool cordon',
      at: { view: view({ nodes: [1, 2, 3, 4].map((i) => node(`node-${i}`, { version: 'v2.9.3' })) }) },
      want: 'note Aborted MayastorTooOld (declined)',
    },
    {
      name: 'one that stays is where the topology of the volume would not have it',
      at: {
        fence: mine,
        view: view({
          volume: { topology: { ...volume().topology, poolLabels: { disk: 'fast' } } },
          pools: [pool('sata-1', { labels: { disk: 'fast' } }), pool('nvme-3', { labels: { disk: 'fast' } })],
        }),
        migration: { ...migration, replicas: migration.replicas.slice(0, 1) },
      },
      want: 'note Aborted VolumeTopology (declined)',
    },
    {
      name: 'the one that goes is: all the better',
      at: {
        fence: mine,
        view: view({
          volume: { topology: { ...volume().topology, poolLabels: { disk: 'fast' } } },
          pools: [pool('sata-2', { labels: { disk: 'fast' } }), pool('nvme-3', { labels: { disk: 'fast' } })],
        }),
        migration: { ...migration, replicas: migration.replicas.slice(0, 1) },
      },
      want: 'note ScalingUp nvme-3',
    },
    {
      name: 'three of the policy’s volumes failed in a row',
      at: { journals: failed },
      want: 'note Aborted BreakerOpen (declined)',
    },
    {
      name: 'which a person has seen',
      at: { journals: failed, migration: { ...migration, resumed: '2026-01-01T00:00:03Z' } },
      want: 'takeFence',
    },
    {
      name: 'a volume whose migrations failed waits longer each time',
      at: {
        now: NOW + 47 * 3_600_000,
        journal: { ...over, failures: 2 },
        migration: { ...migration, id: `${VOLUME}-2` },
      },
      want: 'note Aborted Cooldown (declined)',
    },
    { name: 'volume gone', at: { view: view({ volume: 'gone' }) }, want: 'note Aborted VolumeGone (declined)' },
    {
      name: 'mixed versions',
      at: { view: view({ nodes: [node('node-4', { version: '2.11.0' })] }) },
      want: 'note Aborted MixedVersions (declined)',
    },
    {
      name: 'unpublished',
      at: { view: view({ volume: { published: false } }) },
      want: 'note Aborted Unpublished (declined)',
    },
    {
      name: 'a replica is not synced',
      at: { view: view({ volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2')] } }) },
      want: 'note Aborted VolumeNotHealthy (declined)',
    },
    {
      name: 'fewer replicas than the count',
      at: { view: view({ volume: { replicas: [replica('a', 'sata-1')], numReplicas: 2 } }) },
      want: 'note Aborted VolumeNotHealthy (declined)',
    },
    {
      name: 'an operation runs',
      at: { view: view({ volume: { operation: 'Resize' } }) },
      want: 'note Aborted OperationRunning (declined)',
    },
    {
      name: 'self-heal off',
      at: { view: view({ volume: { selfHeal: false } }) },
      want: 'note Aborted SelfHealOff (declined)',
    },
    { name: 'snapshots', at: { view: view({ volume: { snapshots: 1 } }) }, want: 'note Aborted Snapshots (declined)' },
    {
      name: 'affinity group',
      at: { view: view({ volume: { affinityGroup: 'ns/set' } }) },
      want: 'note Aborted AffinityGroup (declined)',
    },
    {
      name: 'a node of the volume is cordoned',
      at: { view: view({ nodes: [node('node-2', { cordonLabels: ['maintenance'] })] }) },
      want: 'note Aborted NodeCordoned (declined)',
    },
    {
      name: 'a node of the volume carries a label of ours',
      at: { view: view({ nodes: [node('node-2', { cordonLabels: ['tier-move-x'] })] }) },
      want: 'takeFence',
    },
    {
      name: 'a pool of the volume is draining',
      at: { view: view({ pools: [pool('sata-1', { draining: true })] }) },
      want: 'note Aborted PoolDrain (declined)',
    },
    {
      name: 'a node elsewhere is offline',
      at: { view: view({ nodes: [node('node-4', { online: false })] }) },
      want: 'note Aborted ClusterDegraded (declined)',
    },
    {
      name: 'another volume is short of replicas',
      at: { volumes: [volume({ uuid: 'other', replicas: [replica('x', 'sata-3')], numReplicas: 2 })] },
      want: 'note Aborted ClusterDegraded (declined)',
    },
    {
      name: 'another volume has the replica too few that we are adding',
      at: {
        volumes: [volume({ uuid: 'other', replicas: [replica('x', 'sata-3')], numReplicas: 2 })],
        journals: [journal({ volume: 'other', policy: 'another', count: 1 })],
      },
      want: 'takeFence',
    },
    {
      name: 'the cluster’s slots are taken',
      at: { journals: [journal({ volume: 'x', policy: 'p' }), journal({ volume: 'y', policy: 'q' })] },
      want: 'note Aborted NoSlot (declined)',
    },
    {
      name: 'the policy’s slots are taken',
      at: { clusterLimit: 9, journals: [journal({ volume: 'x' }), journal({ volume: 'y' })] },
      want: 'note Aborted NoSlot (declined)',
    },
    {
      name: 'a journal cannot be read',
      at: { unreadable: ['move-x'] },
      want: 'note Aborted UnreadableJournal (declined)',
    },
    {
      name: 'a preserved pair and a tombstone hold no slot',
      at: { journals: [journal({ volume: 'x', phase: 'Preserved' }), journal({ volume: 'y', phase: 'Ended' })] },
      want: 'takeFence',
    },
    {
      name: 'the target is cordoned: another candidate is taken',
      at: { fence: mine, view: view({ pools: [cordoned('nvme-3')] }) },
      want: 'note ScalingUp nvme-4',
    },
    {
      name: 'replicas are to be spread over racks: a node in a rack of its own is taken',
      at: {
        fence: mine,
        view: view({
          volume: { topology: { ...volume().topology, nodeExclusion: { rack: '' } } },
          nodes: ['x', 'y', 'y', 'z'].map((rack, index) => node(`node-${index + 1}`, { labels: { rack } })),
        }),
      },
      want: 'note ScalingUp nvme-4',
    },
    {
      name: 'no candidate has room',
      at: {
        fence: mine,
        view: view({ pools: [1, 2, 3, 4].map((i) => pool(`nvme-${i}`, { usedBytes: 85 * 1024 ** 3 })) }),
      },
      want: 'note Aborted NoFittingPool (declined)',
    },
    {
      name: 'what another move has allocated already is not taken off twice',
      at: {
        fence: mine,
        clusterLimit: 9,
        volumes: [volume({ uuid: 'x', replicas: [replica('x-new', 'nvme-3', { allocatedBytes: 40 * 1024 ** 3 })] })],
        journals: [
          journal({
            volume: 'x',
            policy: 'p',
            count: 1,
            queue: [],
            move: { ...move, added: 'x-new' },
            promisedBytes: 65 * 1024 ** 3,
          }),
        ],
      },
      want: 'note ScalingUp nvme-3',
    },
    {
      name: 'what other moves were promised is taken off',
      at: {
        fence: mine,
        clusterLimit: 9,
        journals: [journal({ volume: 'x', policy: 'p', queue: [], promisedBytes: 65 * 1024 ** 3 })],
      },
      want: 'note ScalingUp nvme-4',
    },
    {
      name: 'a declined one in between does not end the cooldown',
      at: {
        now: NOW + 1000,
        journal: { ...over, end: { phase: 'Aborted', reason: 'NoSlot', message: '', at: NOW + 1000, started: false } },
        migration: { ...migration, id: `${VOLUME}-3` },
      },
      want: 'note Aborted Cooldown (declined)',
    },
    {
      name: 'it had begun, and its journal is gone',
      at: { known: true },
      want: 'note Aborted JournalLost (declined)',
    },
  ],
  ScalingUp: [
    { name: 'the fence was lost', at: { journal: journal() }, want: 'takeFence' },
    {
      name: 'writes what it will cordon first',
      at: { journal: journal(), fence: mine },
      want: 'intend sata-3 sata-4 nvme-4',
    },
    { name: 'cordons the first', at: { journal: journal(), fence: fenced }, want: 'call cordonPool sata-3' },
    {
      name: 'cordons the next',
      at: { journal: journal(), fence: fenced, view: view({ pools: [cordoned('sata-3')] }) },
      want: 'call cordonPool sata-4',
    },
    {
      name: 'a pool that appeared while the fence is up',
      at: {
        journal: journal(),
        fence: fenced,
        view: view({ pools: [...others.map(cordoned), pool('sata-5')], nodes: [node('node-5')] }),
      },
      want: 'intend sata-3 sata-4 nvme-4 sata-5',
    },
    {
      name: 'a pool that somebody cordoned in another way before its turn',
      at: {
        journal: journal(),
        fence: fenced,
        view: view({
          pools: [pool('sata-4', { cordon: { replicas: false, snapshots: true, restores: false, import: false } })],
        }),
      },
      want: 'intend sata-3 sata-4(snapshots) nvme-4',
    },
    {
      name: 'all others are cordoned: adds the replica',
      at: { journal: journal(), fence: fenced, view: view({ pools: others.map(cordoned) }) },
      want: 'call setReplicaCount 3',
    },
    {
      name: 'an unresolved call: only reads',
      at: {
        callAgeMs: 59_999,
        journal: journal({ growSentAt: NOW, call: { op: 'setReplicaCount', count: 3, sentAt: NOW } }),
        fence: fenced,
      },
      want: 'wait Unresolved',
    },
    {
      name: 'an unresolved call while the operation runs, however long',
      at: {
        callAgeMs: 10 * MINUTE,
        journal: journal({ growSentAt: NOW, call: { op: 'setReplicaCount', count: 3, sentAt: NOW } }),
        fence: fenced,
        view: view({ volume: { operation: 'SetReplica' } }),
      },
      want: 'wait Unresolved',
    },
    {
      name: 'an unresolved call whose effect shows: somebody else may have done it',
      at: {
        callAgeMs: 59_999,
        journal: journal({ growSentAt: NOW, call: { op: 'setReplicaCount', count: 3, sentAt: NOW } }),
        fence: fenced,
        view: view({ volume: { replicas: growing } }),
      },
      want: 'wait Unresolved',
    },
    {
      name: 'a call that is over, and had its effect',
      at: {
        callAgeMs: 60_000,
        journal: journal({ growSentAt: NOW, call: { op: 'setReplicaCount', count: 3, sentAt: NOW } }),
        fence: fenced,
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note ScalingUp nvme-3',
    },
    {
      name: 'a person lowered the count at once after it was raised',
      at: { journal: journal({ growSentAt: NOW, confirmedCount: 3 }) },
      want: 'note Aborted CountChanged (declined)',
    },
    {
      name: 'the replica is there',
      at: { journal: journal({ growSentAt: NOW }), fence: fenced, view: view({ volume: { replicas: growing } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'refused: uncordons before it ends',
      at: {
        journal: journal({ ...cordoning, refused: 'no' }),
        fence: fenced,
        view: view({ pools: others.map(cordoned) }),
      },
      want: 'call uncordonPool sata-3',
    },
    {
      name: 'refused and clean: gives the fence back',
      at: { journal: journal({ refused: 'no' }), fence: fenced },
      want: 'releaseFence',
    },
    {
      name: 'refused, clean and released: ends',
      at: { journal: journal({ refused: 'no' }) },
      want: 'note Aborted GrowRefused (declined)',
    },
    {
      name: 'cancelled before the replica was added',
      at: { journal: journal(), cancel: 'Cancelled' },
      want: 'note Aborted Cancelled (declined)',
    },
    {
      name: 'somebody else raised the count',
      at: { journal: journal(), view: view({ volume: { replicas: growing } }) },
      want: 'note Aborted CountChanged (declined)',
    },
    {
      name: 'attaching failed: Mayastor removes the surplus',
      at: {
        journal: journal({ growSentAt: NOW, move }),
        view: view({ volume: { replicas: growing, numReplicas: 2 } }),
      },
      want: 'note rests Growing',
    },
    {
      name: 'attaching failed, and the replica is there: it counts as added',
      at: { journal: journal({ growSentAt: NOW }), view: view({ volume: { replicas: growing, numReplicas: 2 } }) },
      want: 'note ScalingUp new',
    },
    {
      name: 'attaching failed, and Mayastor removed the replica again',
      at: { journal: journal({ growSentAt: NOW, refused: 'no', move }) },
      want: 'note Aborted GrowRefused',
    },
    {
      name: 'attaching failed, and Mayastor removed another replica instead',
      at: {
        journal: journal({ growSentAt: NOW, refused: 'no' }),
        view: view({ volume: { replicas: growing.filter(({ uuid }) => uuid !== 'b') } }),
      },
      want: 'note Failed PlacementChanged',
    },
    {
      name: 'attaching failed, and Mayastor removed the one that was to go',
      at: {
        journal: journal({ growSentAt: NOW, refused: 'no', queue: [], replicasTotal: 1 }),
        view: view({ volume: { replicas: growing.slice(1) } }),
      },
      want: 'note Completed AllReplicasMoved',
    },
    {
      name: 'the target does not fit any more: another candidate is taken',
      at: { journal: journal(), view: view({ pools: [pool('nvme-3', { usedBytes: 95 * 1024 ** 3 })] }) },
      want: 'note ScalingUp nvme-4',
    },
    {
      name: 'no candidate fits: rests',
      at: {
        journal: journal(),
        view: view({ pools: [1, 2, 3, 4].map((i) => pool(`nvme-${i}`, { usedBytes: 95 * 1024 ** 3 })) }),
      },
      want: 'wait NoFittingPool',
    },
    {
      name: 'the target does not fit any more once the fence is taken: the bracket closes',
      at: { journal: journal(), fence: mine, view: view({ pools: [pool('nvme-3', { usedBytes: 95 * 1024 ** 3 })] }) },
      want: 'releaseFence',
    },
    {
      name: 'the volume is not healthy any more: the bracket closes',
      at: { journal: journal(), fence: mine, view: view({ volume: { state: 'Degraded' } }) },
      want: 'releaseFence',
    },
    {
      name: 'and the move rests',
      at: { journal: journal(), view: view({ volume: { state: 'Degraded' } }) },
      want: 'wait VolumeNotHealthy',
    },
    {
      name: 'for as long as the timeout',
      at: { now: NOW + 31 * MINUTE, journal: journal(), view: view({ volume: { state: 'Degraded' } }) },
      want: 'note Aborted VolumeNotHealthy (declined)',
    },
    {
      name: 'the volume is gone',
      at: { journal: journal(), view: view({ volume: 'gone' }) },
      want: 'note Aborted VolumeGone (declined)',
    },
    {
      name: 'a replica was replaced before ours was added: the bracket closes',
      at: {
        journal: journal(cordoning),
        fence: fenced,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b2', 'nvme-2')] },
          pools: others.map(cordoned),
        }),
      },
      want: 'call uncordonPool sata-3',
    },
    {
      name: 'and the move ends',
      at: {
        journal: journal(),
        view: view({ volume: { replicas: [replica('a', 'sata-1'), replica('b2', 'nvme-2')] } }),
      },
      want: 'note Aborted PlacementChanged (declined)',
    },
    {
      name: 'attaching failed: the cordons go meanwhile',
      at: {
        journal: journal({ ...cordoning, growSentAt: NOW, move }),
        fence: fenced,
        view: view({ volume: { replicas: growing, numReplicas: 2 }, pools: others.map(cordoned) }),
      },
      want: 'call uncordonPool sata-3',
    },
    {
      name: 'a person raised the count after we did: theirs is the wanted one',
      at: {
        journal: journal({ growSentAt: NOW }),
        view: view({ volume: { replicas: [...grown, replica('p', 'sata-4')] } }),
      },
      want: 'note Aborted CountChanged (declined)',
    },
  ],
  'closing the bracket': [
    {
      name: 'uncordons what we set, before anything else',
      at: {
        journal: waiting,
        fence: fenced,
        view: view({ volume: { replicas: growing }, pools: others.map(cordoned) }),
      },
      want: 'call uncordonPool sata-3',
    },
    {
      name: 'leaves a pool whose turn had not come, for somebody else cordoned it',
      at: {
        journal: { ...waiting, cordoned: ['sata-3'] },
        fence: fenced,
        view: view({ volume: { replicas: growing }, pools: [cordoned('nvme-4')] }),
      },
      want: 'releaseFence',
    },
    {
      name: 'leaves a pool that somebody else cordoned meanwhile',
      at: {
        journal: waiting,
        fence: fenced,
        view: view({
          volume: { replicas: growing },
          pools: [pool('sata-3', { cordon: { replicas: true, snapshots: false, restores: true, import: false } })],
        }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'which is written down, for people, before the fence is given back',
      at: {
        journal: { ...waiting, leftCordoned: ['sata-3'] },
        fence: fenced,
        view: view({
          volume: { replicas: growing },
          pools: [pool('sata-3', { cordon: { replicas: true, snapshots: false, restores: true, import: false } })],
        }),
      },
      want: 'releaseFence',
    },
    {
      name: 'leaves a pool that was cordoned before',
      at: {
        journal: waiting,
        fence: { ...mine, intent: { pools: [] } },
        view: view({ volume: { replicas: growing }, pools: [cordoned('sata-3')] }),
      },
      want: 'releaseFence',
    },
    {
      name: 'a bit that was set before and is gone now is no cordon of somebody else',
      at: {
        journal: waiting,
        fence: { ...mine, intent: { pools: [{ pool: 'sata-3', otherBits: 'restores' }] } },
        view: view({ volume: { replicas: growing }, pools: [cordoned('sata-3')] }),
      },
      want: 'call uncordonPool sata-3',
    },
  ],
  WaitingSync: [
    {
      name: 'rebuilding',
      at: {
        journal: { ...waiting, progress: { percent: 40, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'wait Rebuilding',
    },
    {
      name: 'progress is written down',
      at: { journal: waiting, view: view({ volume: { replicas: growing } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'no progress for just the timeout',
      at: {
        now: NOW + 30 * MINUTE,
        journal: { ...waiting, progress: { percent: 40, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'wait Rebuilding',
    },
    {
      name: 'nobody looked for longer, and it went on meanwhile',
      at: {
        now: NOW + 31 * MINUTE,
        journal: { ...waiting, progress: { percent: 39, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'no progress for longer: undone',
      at: {
        now: NOW + 30 * MINUTE + 1,
        journal: { ...waiting, progress: { percent: 40, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note ScalingDown new NoProgress',
    },
    {
      name: 'hard timeout',
      at: {
        now: NOW + 11 * MINUTE,
        journal: { ...waiting, hardTimeoutMs: 10 * MINUTE, progress: { percent: 40, at: NOW + 10 * MINUTE } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note ScalingDown new HardTimeout',
    },
    {
      name: 'cancelled: undone',
      at: { journal: waiting, cancel: 'Cancelled', view: view({ volume: { replicas: growing } }) },
      want: 'note ScalingDown new Cancelled',
    },
    {
      name: 'the target pool fills up',
      at: {
        journal: waiting,
        view: view({ volume: { replicas: growing }, pools: [pool('nvme-3', { usedBytes: 96 * 1024 ** 3 })] }),
      },
      want: 'note ScalingDown new TargetFilling',
    },
    {
      name: 'on the wrong pool, though synced',
      at: {
        journal: waiting,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('new', 'sata-4')] },
        }),
      },
      want: 'note ScalingDown new WrongPool',
    },
    {
      name: 'the added replica is gone',
      at: { journal: waiting, view: view({ volume: { replicas: grown.slice(0, 2), numReplicas: 3 } }) },
      want: 'note ScalingDown count only TargetLost',
    },
    {
      name: 'Mayastor replaced the added replica',
      at: {
        journal: waiting,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b', 'sata-2'), rebuilding('newer', 'nvme-3')] },
        }),
      },
      want: 'note WaitingSync newer',
    },
    {
      name: 'Mayastor replaced an original',
      at: {
        journal: waiting,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b2', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'the source left by itself',
      at: { journal: waiting, view: view({ volume: { replicas: grown.slice(1), numReplicas: 3 } }) },
      want: 'note ScalingDown a',
    },
    {
      name: 'the added replica was never seen, and is gone',
      at: { journal: unseen, view: view({ volume: { replicas: grown.slice(0, 2), numReplicas: 3 } }) },
      want: 'note ScalingDown count only TargetLost',
    },
    {
      name: 'the added replica was never seen, and Mayastor made another',
      at: { journal: unseen, view: view({ volume: { replicas: [...grown.slice(0, 2), rebuilding('y', 'sata-4')] } }) },
      want: 'note WaitingSync y',
    },
    {
      name: 'a rebuild that began again after it was seen synced has the whole timeout',
      at: {
        now: NOW + 31 * MINUTE,
        journal: { ...waiting, ...confirmed, progress: { percent: 100, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'a pair that is kept no longer',
      at: {
        readingAgeMs: 30_000,
        preservationMode: true,
        journal: { ...waiting, ...confirmed, pairOver: true },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'unpublished: the clock stops',
      at: { journal: waiting, view: view({ volume: { replicas: growing, published: false } }) },
      want: 'note rests Unpublished',
    },
    {
      name: 'and stays stopped',
      at: {
        now: NOW + 59 * MINUTE,
        journal: { ...waiting, rest: { since: NOW, reason: 'Resting' } },
        view: view({ volume: { replicas: growing, published: false } }),
      },
      want: 'wait Unpublished',
    },
    {
      name: 'after an hour it is Held, and gives its slot away',
      at: {
        now: NOW + 60 * MINUTE,
        journal: { ...waiting, rest: { since: NOW, reason: 'Resting' } },
        view: view({ volume: { replicas: growing, published: false } }),
      },
      want: 'note held Unpublished',
    },
    {
      name: 'and goes on by itself when it is published again',
      at: {
        now: NOW + 90 * MINUTE,
        journal: { ...waiting, ...resting, progress: { percent: 40, at: NOW } },
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'first reading',
      at: { journal: waiting, view: view({ volume: { replicas: grown } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'too early for the second',
      at: { readingAgeMs: 29_999, journal: { ...waiting, ...confirmed }, view: view({ volume: { replicas: grown } }) },
      want: 'wait ConfirmingSync',
    },
    {
      name: 'second reading',
      at: { readingAgeMs: 30_000, journal: { ...waiting, ...confirmed }, view: view({ volume: { replicas: grown } }) },
      want: 'note ScalingDown a',
    },
    {
      name: 'synced and cancelled: finished, not undone',
      at: {
        readingAgeMs: 30_000,
        cancel: 'Cancelled',
        journal: { ...waiting, ...confirmed },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'synced, but the timeout passed: finished, not undone',
      at: {
        now: NOW + 60 * MINUTE,
        readingAgeMs: 30_000,
        journal: { ...waiting, ...confirmed },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'preservation mode keeps the pair',
      at: {
        readingAgeMs: 30_000,
        preservationMode: true,
        journal: { ...waiting, ...confirmed },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note Preserved new',
    },
    {
      name: 'a person lowered the count and the added one went',
      at: { journal: waiting, view: view() },
      want: 'note Aborted CountChanged',
    },
    {
      name: 'a person lowered the count and the source went',
      at: {
        journal: { ...waiting, queue: [], replicasTotal: 1 },
        view: view({ volume: { replicas: [replica('b', 'sata-2'), replica('new', 'nvme-3')] } }),
      },
      want: 'note Completed AllReplicasMoved',
    },
    {
      name: 'a person raised the count: theirs is the wanted one, and nothing is lowered',
      at: { journal: waiting, view: view({ volume: { replicas: [...growing, rebuilding('more', 'sata-4')] } }) },
      want: 'note Failed CountChanged',
    },
    {
      name: 'preservation mode keeps the pair when cancelled, too',
      at: {
        readingAgeMs: 30_000,
        preservationMode: true,
        cancel: 'Cancelled',
        journal: { ...waiting, ...confirmed },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note Preserved new',
    },
    {
      name: 'Mayastor replaces the added replica time and again',
      at: {
        journal: { ...waiting, adoptions: 3 },
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b', 'sata-2'), rebuilding('newer', 'nvme-3')] },
        }),
      },
      want: 'note held ReplacedTooOften',
    },
    {
      name: 'until a person releases it',
      at: { now: NOW + 24 * 60 * MINUTE, journal: { ...waiting, held }, view: view({ volume: { replicas: growing } }) },
      want: 'wait ReplacedTooOften',
    },
    {
      name: 'by naming it',
      at: { release: ID, journal: { ...waiting, held, adoptions: 4 }, view: view({ volume: { replicas: growing } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'not by naming another',
      at: { release: `${VOLUME}-7`, journal: { ...waiting, held }, view: view({ volume: { replicas: growing } }) },
      want: 'wait ReplacedTooOften',
    },
    {
      name: 'or by withdrawing it',
      at: { cancel: 'Cancelled', journal: { ...waiting, held }, view: view({ volume: { replicas: growing } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'or by setting the count',
      at: { journal: { ...waiting, held }, view: view() },
      want: 'note WaitingSync new',
    },
    {
      name: 'a snapshot was taken: undone, synced or not',
      at: { journal: waiting, view: view({ volume: { replicas: growing, snapshots: 1 } }) },
      want: 'note ScalingDown new SnapshotsChanged',
    },
    {
      name: 'synced, but another one that stays is not: no reading',
      at: {
        journal: waiting,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'note rests ReplicasNotSynced',
    },
  ],
  ScalingDown: [
    {
      name: 'takes the fence',
      at: { journal: shrinking, view: view({ volume: { replicas: grown } }) },
      want: 'takeFence',
    },
    {
      name: 'writes its label down',
      at: { journal: shrinking, fence: mine, view: view({ volume: { replicas: grown } }) },
      want: 'intend node-1',
    },
    {
      name: 'labels the node',
      at: { journal: shrinking, fence: labelled, view: view({ volume: { replicas: grown } }) },
      want: `call cordonNode node-1 ${label.label}`,
    },
    {
      name: 'lowers the count',
      at: { journal: shrinking, fence: labelled, view: view({ volume: { replicas: grown }, ...marked }) },
      want: 'call setReplicaCount 2',
    },
    {
      name: 'one that stays is not synced',
      at: {
        journal: shrinking,
        fence: labelled,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'after the removal was sent it waits here',
      at: {
        journal: sent,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'and closes the bracket',
      at: {
        journal: { ...sent, reading: undefined } as never,
        fence: mine,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'releaseFence',
    },
    {
      name: 'another node was cordoned meanwhile',
      at: {
        journal: shrinking,
        view: view({ volume: { replicas: grown }, nodes: [node('node-2', { cordonLabels: ['maintenance'] })] }),
      },
      want: 'note rests NodeCordoned',
    },
    {
      name: 'the source’s node is offline',
      at: {
        journal: shrinking,
        view: view({ volume: { replicas: grown }, nodes: [node('node-1', { online: false })] }),
      },
      want: 'note rests NodeCordoned',
    },
    {
      name: 'Mayastor drains a pool of the volume',
      at: {
        journal: shrinking,
        view: view({ volume: { replicas: grown }, pools: [pool('sata-2', { draining: true })] }),
      },
      want: 'note rests PoolDrain',
    },
    {
      name: 'unpublished',
      at: { journal: shrinking, view: view({ volume: { replicas: grown, published: false } }) },
      want: 'note rests Unpublished',
    },
    {
      name: 'a snapshot was taken',
      at: { journal: shrinking, view: view({ volume: { replicas: grown, snapshots: 1 } }) },
      want: 'note ScalingDown new SnapshotsChanged',
    },
    {
      name: 'a snapshot was taken after the removal was sent: no way back',
      at: {
        readingAgeMs: 30_000,
        journal: sent,
        fence: labelled,
        view: view({ volume: { replicas: grown, snapshots: 1 }, ...marked }),
      },
      want: 'call setReplicaCount 2',
    },
    {
      name: 'cancelled after it was sent: goes on',
      at: {
        readingAgeMs: 30_000,
        journal: sent,
        cancel: 'Cancelled',
        fence: labelled,
        view: view({ volume: { replicas: grown }, ...marked }),
      },
      want: 'call setReplicaCount 2',
    },
    {
      name: 'the victim is gone, the count is not lowered: at once again, without a label',
      at: { journal: sent, fence: mine, view: view({ volume: { replicas: grown.slice(1), numReplicas: 3 } }) },
      want: 'call setReplicaCount 2',
    },
    {
      name: 'whoever has the fence, and though a node is offline',
      at: {
        journal: shrinking,
        fence: { volume: 'other', openedAt: NOW },
        view: view({
          volume: { replicas: grown.slice(1), numReplicas: 3 },
          nodes: [node('node-1', { online: false })],
        }),
      },
      want: 'call setReplicaCount 2',
    },
    {
      name: 'Mayastor filled the gap: the filling is the surplus',
      at: { journal: sent, view: view({ volume: { replicas: [...grown.slice(1), rebuilding('filler', 'sata-4')] } }) },
      want: 'note ScalingDown filler',
    },
    {
      name: 'the count shows as lowered: that is written down, so that a person’s change is known as such',
      at: { journal: sent, fence: labelled, view: view({ volume: { replicas: grown, numReplicas: 2 }, ...marked }) },
      want: 'note ScalingDown a',
    },
    {
      name: 'a person raised the count after it was lowered: this replica is moved, and theirs is the wanted count',
      at: {
        journal: confirmedDown,
        view: view({ volume: { replicas: [...grown.slice(1), rebuilding('more', 'sata-4')] } }),
      },
      want: 'note ScalingUp nvme-4 of 3',
    },
    {
      name: 'the count is lowered, the surplus is still there: the label stays',
      at: {
        journal: confirmedDown,
        fence: labelled,
        view: view({ volume: { replicas: grown, numReplicas: 2 }, ...marked }),
      },
      want: 'wait Shrinking',
    },
    {
      name: 'but not for ever, though the count was lowered by somebody else',
      at: {
        now: NOW + 3 * MINUTE,
        journal: { ...shrinking, confirmedCount: 2 },
        fence: labelled,
        view: view({ volume: { replicas: grown, numReplicas: 2 }, ...marked }),
      },
      want: `call uncordonNode node-1 ${label.label}`,
    },
    {
      name: 'done: the label goes first',
      at: { journal: confirmedDown, fence: labelled, view: view({ volume: { replicas: grown.slice(1) }, ...marked }) },
      want: `call uncordonNode node-1 ${label.label}`,
    },
    {
      name: 'then the fence',
      at: { journal: confirmedDown, fence: labelled, view: view({ volume: { replicas: grown.slice(1) } }) },
      want: 'releaseFence',
    },
    {
      name: 'then the next replica',
      at: { journal: confirmedDown, view: view({ volume: { replicas: grown.slice(1) } }) },
      want: 'note ScalingUp nvme-4',
    },
    {
      name: 'or the end',
      at: {
        journal: { ...confirmedDown, queue: [], replicasTotal: 1 },
        view: view({ volume: { replicas: grown.slice(1) } }),
      },
      want: 'note Completed AllReplicasMoved',
    },
    {
      name: 'or the end, with one that was still to move replaced meanwhile',
      at: {
        journal: confirmedDown,
        view: view({ volume: { replicas: [replica('b2', 'sata-4'), replica('new', 'nvme-3')] } }),
      },
      want: 'note Aborted PlacementChanged',
    },
    {
      name: 'or the end, on another pool than was wanted',
      at: {
        journal: confirmedDown,
        view: view({ volume: { replicas: [replica('b', 'sata-2'), replica('new', 'sata-3')] } }),
      },
      want: 'note Failed WrongPool',
    },
    {
      name: 'cancelled: what is moved stays moved',
      at: { journal: confirmedDown, cancel: 'Cancelled', view: view({ volume: { replicas: grown.slice(1) } }) },
      want: 'note Aborted Cancelled',
    },
    {
      name: 'the wrong one went',
      at: {
        journal: confirmedDown,
        view: view({ volume: { replicas: [replica('a', 'sata-1'), replica('new', 'nvme-3')] } }),
      },
      want: 'note Failed WrongRemoval',
    },
    {
      name: 'refused: the bracket closes before another try',
      at: { journal: { ...sent, refused: 'no' }, fence: mine, view: view({ volume: { replicas: grown } }) },
      want: 'releaseFence',
    },
    {
      name: 'undo: what stays is read once',
      at: { journal: undoing, view: view({ volume: { replicas: growing } }) },
      want: 'note ScalingDown new NoProgress',
    },
    {
      name: 'and is read again later',
      at: { journal: { ...undoing, ...confirmed }, view: view({ volume: { replicas: growing } }) },
      want: 'wait ConfirmingSync',
    },
    {
      name: 'undo labels the added replica’s node',
      at: {
        journal: { ...undoing, ...confirmed },
        readingAgeMs: 30_000,
        fence: mine,
        view: view({ volume: { replicas: growing } }),
      },
      want: 'intend node-3',
    },
    {
      name: 'undone',
      at: { journal: { ...undoing, confirmedCount: 2 }, view: view() },
      want: 'note Aborted NoProgress',
    },
    {
      name: 'of a replica that was never seen: a replica was added, and the cooldown counts',
      at: { journal: { ...undoing, move: unseen.move, confirmedCount: 2 }, view: view() },
      want: 'note Aborted NoProgress',
    },
    {
      name: 'and one that Mayastor made in its place is what has to go',
      at: {
        journal: { ...undoing, move: unseen.move, victim: undefined } as never,
        view: view({ volume: { replicas: [...grown.slice(0, 2), rebuilding('y', 'sata-4')] } }),
      },
      want: 'note ScalingDown y NoProgress',
    },
    {
      name: 'undo is not sent while an original is not synced',
      at: {
        journal: undoing,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), rebuilding('b', 'sata-2'), rebuilding('new', 'nvme-3')] },
        }),
      },
      want: 'note rests ReplicasNotSynced',
    },
    {
      name: 'the added replica was replaced: the new one takes its place, and has to be confirmed',
      at: {
        journal: shrinking,
        view: view({ volume: { replicas: [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('f', 'sata-4')] } }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'after the removal was sent it is confirmed here, since there is no way back',
      at: { journal: { ...sent, reading: { at: NOW, nexus: 'old' } }, view: view({ volume: { replicas: grown } }) },
      want: 'note ScalingDown a',
    },
    {
      name: 'and waits for the second reading',
      at: { readingAgeMs: 1000, journal: sent, view: view({ volume: { replicas: grown } }) },
      want: 'wait ConfirmingSync',
    },
    {
      name: 'two replicas were replaced at once, the added one among them: each takes a place',
      at: {
        journal: shrinking,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b2', 'sata-4'), rebuilding('new2', 'nvme-3')] },
        }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'the added replica is being rebuilt again: back to waiting',
      at: { journal: shrinking, view: view({ volume: { replicas: growing } }) },
      want: 'note WaitingSync new',
    },
    {
      name: 'the target moved since the readings: confirmed anew',
      at: {
        journal: { ...shrinking, reading: { at: NOW, nexus: 'old' } },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'which one is the surplus is not known: nothing is removed',
      at: {
        journal: {
          ...sent,
          baseline: [...sent.baseline, { replica: 'c', pool: 'sata-4', node: 'node-4' }],
          victim: 'gone',
        },
        view: view({ volume: { replicas: [...grown.slice(0, 2), replica('c', 'sata-4')] } }),
      },
      want: 'note rests SurplusUnknown',
    },
    {
      name: 'a label of another move is on a node that stays',
      at: {
        journal: shrinking,
        fence: mine,
        view: view({ volume: { replicas: grown }, nodes: [node('node-2', { cordonLabels: ['tier-move-other-1'] })] }),
      },
      want: 'releaseFence',
    },
    {
      name: 'a node that stays is offline, whatever the old state says',
      at: {
        journal: shrinking,
        view: view({ volume: { replicas: grown }, nodes: [node('node-2', { online: false })] }),
      },
      want: 'note rests NodeCordoned',
    },
    {
      name: 'refused a moment ago: not again at once',
      at: {
        now: NOW + 1000,
        journal: { ...sent, refused: 'no', refusedAt: NOW },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note rests RemovalRefused',
    },
    {
      name: 'refused a minute ago: again',
      at: {
        now: NOW + 60_000,
        journal: { ...sent, refused: 'no', refusedAt: NOW },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note ScalingDown a',
    },
    {
      name: 'a person lowered the count and another replica went',
      at: {
        journal: { ...shrinking, confirmedCount: 2 },
        view: view({ volume: { replicas: [replica('a', 'sata-1'), replica('new', 'nvme-3')] } }),
      },
      want: 'note Failed CountChanged',
    },
  ],
  Preserved: [
    {
      name: 'rests',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        migration: undefined,
        cancel: 'Cancelled',
        view: view({ volume: { replicas: grown } }),
      },
      want: 'rest',
    },
    {
      name: 'leaving the mode completes the move',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        migration: undefined,
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'a move that nobody drives is completed',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        migration: undefined,
        cancel: 'Abandoned',
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'finalizing completes it too',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        finalizing: true,
        migration: undefined,
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'the reverse move removes the added replica',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        migration: { ...migration, id: `${VOLUME}-2`, direction: 'Demote' },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'note ScalingDown new AllReplicasMoved',
    },
    {
      name: 'Mayastor replaced the added replica: the pair stays a pair',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        migration: undefined,
        view: view({
          volume: { replicas: [replica('a', 'sata-1'), replica('b', 'sata-2'), rebuilding('new2', 'nvme-4')] },
        }),
      },
      want: 'note Preserved new2',
    },
    {
      name: 'Mayastor replaced the old replica: likewise',
      at: {
        journal: { ...waiting, phase: 'Preserved' },
        preservationMode: true,
        migration: undefined,
        view: view({
          volume: { replicas: [replica('a2', 'sata-4'), replica('b', 'sata-2'), replica('new', 'nvme-3')] },
        }),
      },
      want: 'note Preserved new',
    },
    {
      name: 'a late request for an earlier id',
      at: {
        journal: { ...waiting, id: `${VOLUME}-5`, phase: 'Preserved' },
        preservationMode: true,
        migration: { ...migration, id: `${VOLUME}-4`, direction: 'Demote' },
        view: view({ volume: { replicas: grown } }),
      },
      want: 'rest',
    },
  ],
  'nobody drives the move': [
    {
      name: 'before the replica was added: the bracket closes',
      at: {
        bracketOnly: true,
        journal: journal(cordoning),
        fence: fenced,
        view: view({ pools: [cordoned('sata-3')] }),
      },
      want: 'call uncordonPool sata-3',
    },
    { name: 'and nothing more', at: { bracketOnly: true, journal: journal() }, want: 'wait Resting' },
    {
      name: 'after it was added: that is written down',
      at: {
        bracketOnly: true,
        journal: journal({ growSentAt: NOW }),
        fence: fenced,
        view: view({ volume: { replicas: growing } }),
      },
      want: 'note WaitingSync new',
    },
    {
      name: 'a rebuild is left alone',
      at: { bracketOnly: true, journal: waiting, view: view({ volume: { replicas: growing } }) },
      want: 'wait Resting',
    },
    {
      name: 'a removal that was sent is finished',
      at: {
        bracketOnly: true,
        journal: { ...confirmedDown, queue: [], replicasTotal: 1 },
        view: view({ volume: { replicas: grown.slice(1) } }),
      },
      want: 'note Completed AllReplicasMoved',
    },
  ],
}

for (const [phase, rows] of Object.entries(cases)) {
  t.test(phase, async (t) => {
    for (const { name, at, want } of rows) t.equal(brief(nextStep(situation(at))), want, name)
  })
}

t.test('a refusal is not forgotten while the bracket closes', async (t) => {
  const at = {
    journal: journal({ ...cordoning, refused: 'no' }),
    fence: fenced,
    view: view({ pools: others.map(cordoned) }),
  }
  t.match(nextStep(situation(at)), { kind: 'call', journal: { refused: 'no', call: { op: 'uncordonPool' } } })
})

t.test('a stopped clock is not counted', async (t) => {
  const paused = { ...waiting, rest: { since: NOW + MINUTE, reason: 'Resting' }, progress: { percent: 40, at: NOW } }
  const step = nextStep(
    situation({ now: NOW + 61 * MINUTE, journal: paused, view: view({ volume: { replicas: growing } }) }),
  )
  t.match(step, { kind: 'note', journal: { rest: undefined, progress: { at: NOW + 60 * MINUTE } } })
})

t.test('a target that moved needs two new readings', async (t) => {
  const target = { node: 'node-2', nexus: 'nexus-2', state: 'Online', children: 3 }
  const at = {
    now: NOW + MINUTE,
    journal: { ...waiting, ...confirmed },
    view: view({ volume: { replicas: grown, target } }),
  }
  t.match(nextStep(situation(at)), { kind: 'note', journal: { reading: { at: NOW + MINUTE, nexus: 'nexus-2' } } })
})

t.test('ends are counted once, and a completed migration forgets failed attempts', async (t) => {
  const step = nextStep(
    situation({
      journal: { ...confirmedDown, queue: [], replicasTotal: 1, attempts: 3 },
      view: view({ volume: { replicas: grown.slice(1) } }),
    }),
  )
  t.match(step, { journal: { attempts: 0, totals: { succeeded: 1, failed: 0, aborted: 0 }, replicasMoved: 1 } })
})

t.test('a removal that was sent binds no longer once what was to go is replaced', async (t) => {
  const replicas = [replica('b', 'sata-2'), replica('new', 'nvme-3'), replica('c', 'sata-1')]
  const step = nextStep(situation({ journal: sent, view: view({ volume: { replicas } }) }))
  t.match(step, { journal: { phase: 'ScalingDown', victim: 'c', adoptions: 1 } })
  t.notOk(step.kind === 'note' && step.journal.removalSentAt)
  const others = [replica('a', 'sata-1'), replica('new', 'nvme-3'), replica('c', 'sata-2')]
  const other = nextStep(situation({ journal: sent, view: view({ volume: { replicas: others } }) }))
  t.match(other, { journal: { phase: 'ScalingDown', victim: 'a', removalSentAt: NOW } }, 'another replica: it does')
})

t.test(
  'an undo whose replica was gone takes what Mayastor made for it, and of several the one that can be spared',
  async (t) => {
    const { victim: _, ...gone } = undoing
    const replicas = [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('c', 'sata-4')]
    const step = nextStep(situation({ journal: gone, view: view({ volume: { replicas, numReplicas: 3 } }) }))
    t.match(step, { journal: { victim: 'c', move: { added: 'c' } } })
    const zone = (name: string, of: string) => node(name, { labels: { 'topology.kubernetes.io/zone': of } })
    const nodes = [zone('node-1', 'x'), zone('node-2', 'y'), zone('node-3', 'z'), zone('node-4', 'x')]
    for (const names of [
      ['p', 'q'],
      ['q', 'p'],
    ]) {
      const [first = '', second = ''] = names
      const made = [replica('a', 'sata-1'), replica(first, 'sata-3'), replica(second, 'sata-4')]
      const other = nextStep(situation({ journal: waiting, view: view({ volume: { replicas: made }, nodes }) }))
      t.match(other, { journal: { move: { added: second } } }, 'node-4 is in a zone with node-1')
    }
  },
)

t.test('what Mayastor made in place of a source that left by itself is what has to go', async (t) => {
  const left = nextStep(
    situation({ journal: waiting, view: view({ volume: { replicas: grown.slice(1), numReplicas: 3 } }) }),
  )
  const filled = view({ volume: { replicas: [...grown.slice(1), rebuilding('y', 'sata-4')] } })
  const step = left.kind === 'note' ? nextStep(situation({ journal: left.journal, view: filled })) : left
  t.match(step, { journal: { phase: 'ScalingDown', victim: 'y', move: { replica: 'y', added: 'new' } } })
})

t.test('a replica that waits for its turn and is replaced is not forgotten', async (t) => {
  const replaced = (pool: string) => {
    const replicas = [replica('a', 'sata-1'), rebuilding('b2', pool), replica('new', 'nvme-3')]
    return nextStep(situation({ journal: waiting, view: view({ volume: { replicas } }) }))
  }
  const entry = { replica: 'b2', sourcePool: 'sata-4', targetPool: 'nvme-4' }
  t.match(replaced('sata-4'), { journal: { queue: [entry], replicasTotal: 2 } })
  const there = replaced('nvme-4')
  t.match(there, { journal: { replicasTotal: 1 } }, 'it is where it should go')
  t.strictSame(there.kind === 'note' && there.journal.queue, [])
})

t.test('the readings of a pair are as old as the pair: it is read anew before a replica of it goes', async (t) => {
  const pair = { ...waiting, ...confirmed, phase: 'Preserved' as const }
  const later = { now: NOW + 100 * 24 * 60 * MINUTE, readingAgeMs: 100 * 24 * 60 * MINUTE }
  const grownView = view({ volume: { replicas: grown } })
  const over = nextStep(situation({ ...later, journal: pair, migration: undefined, view: grownView }))
  const back = { ...migration, id: `${VOLUME}-2`, direction: 'Demote' as const }
  const reverse = nextStep(
    situation({ ...later, journal: pair, preservationMode: true, migration: back, view: grownView }),
  )
  for (const step of [over, reverse]) {
    t.ok(step.kind === 'note')
    t.notOk(step.kind === 'note' && step.journal.reading)
    t.match(step, { journal: { move: { startedAt: step === over ? later.now : NOW } } })
  }
})

t.test('tries of a removal do not make its rest count twice', async (t) => {
  const rest = { since: NOW, reason: 'Resting' }
  const at = { now: NOW + 10 * MINUTE, readingAgeMs: 30_000, journal: { ...sent, rest }, fence: labelled }
  const step = nextStep(situation({ ...at, view: view({ volume: { replicas: grown }, ...marked }) }))
  t.match(step, { kind: 'call', journal: { rest, move: { startedAt: NOW }, progress: sent.progress } })
})

t.test('a zone that an earlier move has won may be given up again', async (t) => {
  const zone = (name: string, of: string) => node(name, { labels: { 'topology.kubernetes.io/zone': of } })
  const nodes = [zone('node-1', 'x'), zone('node-2', 'y'), zone('node-3', 'z'), zone('node-4', 'x')]
  const replicas = [replica('new', 'nvme-3'), replica('b', 'sata-1'), replica('c', 'sata-2')]
  const queue = [{ replica: 'c', sourcePool: 'sata-2', targetPool: 'nvme-1' }]
  const at = (zones: number) => ({
    journal: journal({
      count: 3,
      zones,
      replicasMoved: 1,
      baseline: replicas.map(({ uuid, pool = '', node = '' }) => ({ replica: uuid, pool, node })),
      move: { ...journal().move, replica: 'b', sourcePool: 'sata-1', targetPool: 'nvme-4' },
      queue,
    }),
    view: view({ volume: { replicas }, nodes }),
  })
  t.match(nextStep(situation(at(2))), { kind: 'takeFence' }, 'it began with two')
  t.match(nextStep(situation(at(3))), { report: { reason: 'ZonesWouldShrink' } }, 'it began with three')
})

t.test('a removal that was sent binds no longer where it would lose a zone', async (t) => {
  const zone = (name: string, of: string) => node(name, { labels: { 'topology.kubernetes.io/zone': of } })
  const nodes = [zone('node-1', 'x'), zone('node-2', 'y'), zone('node-3', 'z'), zone('node-4', 'z')]
  const baseline = [
    { replica: 'a', pool: 'sata-1', node: 'node-1' },
    { replica: 'b2', pool: 'sata-4', node: 'node-4' },
  ]
  const replicas = [replica('a', 'sata-1'), replica('b2', 'sata-4'), replica('new', 'nvme-3')]
  const at = { journal: { ...sent, zones: 2, baseline }, view: view({ volume: { replicas }, nodes }) }
  t.equal(brief(nextStep(situation(at))), 'note ScalingDown new ZonesWouldShrink')
})
