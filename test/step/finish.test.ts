import t from 'tap'
import type { MayastorReplica, MayastorVolume } from '../../src/api/mayastor.js'
import type { Journal } from '../../src/step/journal.js'
import { nextStep } from '../../src/step/next-step.js'
import type { View } from '../../src/step/preconditions.js'
import {
  cordoned,
  ID,
  journal,
  NOW,
  node,
  pool,
  rebuilding,
  replica,
  situation,
  type ViewChanges,
  VOLUME,
  view,
} from './builders.js'

/** `a` was to go from node-1, `b` to stay on node-2; `new` was added on node-3. */
const move = { ...journal().move, added: 'new' }
const old = replica('a', 'sata-1')
const other = replica('b', 'sata-2')
const added = replica('new', 'nvme-3')
/** The count is as wanted again; whether we asked for that differs. */
const unread: Partial<Journal> = {
  phase: 'ScalingDown',
  move,
  victim: 'a',
  queue: [],
  replicasTotal: 1,
  removalSentAt: NOW,
  confirmedCount: 2,
}
const removed: Partial<Journal> = { ...unread, reading: { at: NOW, nexus: 'nexus-1' } }
const { removalSentAt: _, ...unsent } = removed
const { confirmedCount: __, ...unconfirmed } = removed
const undo = { phase: 'Aborted', reason: 'NoProgress', message: 'no progress' } as const

interface Case {
  readonly name: string
  readonly replicas: readonly MayastorReplica[]
  /** Default: a removal was sent, after a reading. */
  readonly journal?: Partial<Journal>
  readonly volume?: Partial<MayastorVolume>
  readonly view?: Omit<ViewChanges, 'volume'>
  readonly want: string
  readonly message?: RegExp
}

/** How it ends, if it does now. */
function endOf(c: Case): NonNullable<Journal['end']> | undefined {
  const volume = { replicas: c.replicas, numReplicas: 2, ...c.volume }
  const step = nextStep(
    situation({
      journal: journal(c.journal ?? removed),
      view: view({ ...c.view, volume }),
    }),
  )
  return step.kind === 'note' ? step.journal.end : undefined
}

function play(cases: readonly Case[]): void {
  for (const c of cases) {
    t.test(c.name, async (t) => {
      const end = endOf(c)
      t.equal(end && `${end.phase} ${end.reason}`, c.want)
      if (c.message !== undefined) t.match(end?.message, c.message)
    })
  }
}

const as = (name: string, want: string, others: Omit<Case, 'name' | 'want'>): Case => ({ name, want, ...others })
const WRONG = 'Failed WrongRemoval'
const LOST = 'Failed OtherReplicaLost'
const otherWent = { replicas: [old, added] }
const addedWent = { replicas: [old, other] }

play([
  as('the one asked for went', 'Completed AllReplicasMoved', { replicas: [other, added] }),

  as('another went, and nothing explains it', WRONG, { ...otherWent, message: /another replica than the one asked/ }),
  as('the added one went, and nothing explains it', WRONG, addedWent),
  as('another went in place of the added one', WRONG, { ...otherWent, journal: { ...removed, victim: 'new', undo } }),
  as('a label of ours on its node explains nothing', WRONG, {
    ...otherWent,
    view: { nodes: [node('node-2', { cordonLabels: ['tier-move-other-1'] })] },
  }),
  as('a cordon of its pool explains nothing', WRONG, { ...otherWent, view: { pools: [cordoned('sata-2')] } }),
  as('neither does the node of one that stayed', WRONG, {
    ...otherWent,
    view: { nodes: [node('node-1', { cordonLabels: ['maintenance'] }), node('node-3', { online: false })] },
  }),
  as('nor the pool of one that stayed', WRONG, {
    ...otherWent,
    view: { pools: [pool('sata-1', { status: 'Degraded' }), pool('nvme-3', { status: 'Unknown' })] },
  }),

  as('its node was cordoned', LOST, {
    ...otherWent,
    view: { nodes: [node('node-2', { cordonLabels: ['maintenance'] })] },
    message: /left in its place: node node-2 is cordoned, draining or offline/,
  }),
  as('its node is drained', LOST, {
    ...otherWent,
    view: { nodes: [node('node-2', { drainLabels: ['upgrade'] })] },
    message: /node node-2/,
  }),
  as('its node is offline', LOST, {
    ...otherWent,
    view: { nodes: [node('node-2', { online: false })] },
    message: /node node-2/,
  }),
  as('its pool is not Online', LOST, {
    ...otherWent,
    view: { pools: [pool('sata-2', { status: 'Faulted' })] },
    message: /pool sata-2 is not Online/,
  }),
  as('the node of the added one was cordoned', LOST, {
    ...addedWent,
    view: { nodes: [node('node-3', { cordonLabels: ['maintenance'] })] },
    message: /node node-3/,
  }),
  as('the pool of the added one is not Online', LOST, {
    ...addedWent,
    view: { pools: [pool('nvme-3', { status: 'Unknown' })] },
    message: /pool nvme-3 is not Online/,
  }),
  as('the target has moved since the reading', LOST, {
    ...otherWent,
    journal: { ...removed, reading: { at: NOW, nexus: 'nexus-0' } },
    message: /the target of the volume has moved/,
  }),
  as('the target is gone', LOST, { ...otherWent, volume: { target: undefined }, message: /the target .* has moved/ }),
  as('without a reading the target explains nothing', WRONG, {
    ...addedWent,
    journal: unread,
  }),
  as('one that is left is not synced', LOST, {
    replicas: [old, rebuilding('new', 'nvme-3')],
    message: /replica new is not synced/,
  }),
])

play([
  as('somebody lowered the count before a removal was sent, and the old one went', 'Completed AllReplicasMoved', {
    replicas: [other, added],
    journal: unsent,
  }),
  as('and another went', 'Failed CountChanged', { ...otherWent, journal: unsent }),
  as('and the added one went', 'Aborted CountChanged', {
    ...addedWent,
    journal: unsent,
  }),
  as('and the added one went, which was to go', 'Aborted NoProgress', {
    ...addedWent,
    journal: { ...unsent, victim: 'new', undo },
  }),
  as('somebody set a lower count still, and the added one is there', 'Failed CountChanged', {
    replicas: [old],
    volume: { numReplicas: 1 },
    journal: { ...unconfirmed, move: { ...move, added: 'a' } },
    message: /changed to 1 by somebody else/,
  }),
  as('and it is not', 'Aborted CountChanged', {
    replicas: [other],
    volume: { numReplicas: 1 },
    journal: unconfirmed,
  }),
  as('while it is rebuilt: the one that was left is the added one', 'Completed AllReplicasMoved', {
    replicas: [added],
    volume: { numReplicas: 1 },
    journal: { ...unsent, phase: 'WaitingSync', confirmedCount: 3 },
  }),
])

const MINUTE = 60_000
const still: Partial<Journal> = { phase: 'WaitingSync', move, progress: { percent: 40, at: NOW }, cordoned: [] }
/** State of its pool, and what is said of it. */
const pools = { Online: 'NoProgress', Degraded: 'TargetLost', Faulted: 'TargetLost', Unknown: 'TargetLost' } as const

t.test('a rebuild that stood still for the timeout is undone, and it is said when its pool is away', async (t) => {
  const replicas = [old, other, rebuilding('new', 'nvme-3')]
  const volume = { replicas, numReplicas: 3 }
  const check = (name: string, reason: string, now: View) => {
    const at = (ms: number) => nextStep(situation({ now: NOW + ms, journal: journal(still), view: now }))
    t.match(at(30 * MINUTE), { kind: 'wait', report: { reason: 'Rebuilding' } }, `${name}: not before`)
    const undone = { phase: 'ScalingDown', victim: 'new', undo: { phase: 'Aborted', reason } }
    t.match(at(30 * MINUTE + 1), { kind: 'note', journal: undone }, name)
  }
  for (const [status, reason] of Object.entries(pools)) {
    check(status, reason, view({ volume, pools: [pool('nvme-3', { status })] }))
  }
  const all = view({ volume })
  check('not listed', 'TargetLost', { ...all, pools: new Map([...all.pools].filter(([id]) => id !== 'nvme-3')) })
})

t.test('the bracket is closed before a wrong removal ends the move', async (t) => {
  const label = { node: 'node-1', label: `tier-move-${ID}` }
  const marked = { nodes: [node('node-1', { cordonLabels: [label.label] })] }
  const step = nextStep(
    situation({
      journal: journal(removed),
      fence: { volume: VOLUME, openedAt: NOW, intent: { pools: [], label } },
      view: view({ ...marked, volume: { replicas: otherWent.replicas, numReplicas: 2 } }),
    }),
  )
  t.match(step, { kind: 'call', call: { op: 'uncordonNode', ...label } })
})
