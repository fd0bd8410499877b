import t from 'tap'
import { API_VERSION } from '../../src/api/names.js'
import { GIB } from '../../src/embedded/cluster.js'
import { INTERFERENCES, type Outcome, STAGES, type Stage } from '../../src/plan/outcomes.js'
import { scenario } from './builders.js'
import type { Moment, Place } from './rows.js'
import { FaultRun, type Strike } from './run.js'

/** What comes between a migration and its end, at every stage of it: the end is the one that the table says. */

type Interfere = (run: FaultRun, volume: string, stage: Stage) => void

/** Long enough for a move to be Held, and to go on afterwards. Seconds, as all times here. */
const LONG = 4000
/** Longer than Mayastor waits for a replica to come back, and not long enough for a move to be Held. */
const WHILE = 1500
/** Less than the migration timeout. */
const SHORT = 120

/** The pool of NVMe that has no replica of the volume when its migration begins. */
function targetOf(run: FaultRun, volume: string): string {
  const { pools, volumes } = run.cluster.mayastor.truth
  const taken = [...(volumes.get(volume)?.replicas ?? [])].map(({ pool }) => pool.id)
  const target = run.places.journal(volume)?.move.targetPool
  return target ?? [...pools.keys()].find((pool) => pool.startsWith('nvme') && !taken.includes(pool)) ?? ''
}

/** The replica that there was on the tier when the migration began. */
function originalOn(run: FaultRun, volume: string, tier: string) {
  const added = run.places.journal(volume)?.move.added
  const replicas = [...(run.cluster.mayastor.truth.volumes.get(volume)?.replicas ?? [])]
  return replicas.find(({ uuid, pool }) => uuid !== added && pool.id.startsWith(tier))
}

/** One of the replicas there were when the migration began is lost for good, and made anew where it was. */
function loseReplica(run: FaultRun, volume: string, tier: string): void {
  const replica = originalOn(run, volume, tier)
  if (replica === undefined) return
  // A rebuild that reads from it is lost with it, and its replica is to come back where it was.
  cordonAllBut(run, (pool) => pool === replica.pool.id || pool === targetOf(run, volume))
  run.cluster.mayastor.faultReplica(replica.uuid, undefined, false)
}

/** People keep new replicas from all pools but these, for so long. */
function cordonAllBut(run: FaultRun, keep: (pool: string) => boolean, seconds = LONG): void {
  for (const pool of run.cluster.mayastor.truth.pools.keys()) {
    if (!keep(pool)) run.cordonPoolFor(pool, { replicas: true, restores: true }, seconds)
  }
}

/** The target pool is the only one that Mayastor could have used for a while. */
function loseOnlyTarget(run: FaultRun, volume: string, stage: Stage, lose: (pool: string) => void): void {
  if (stage !== 'adding') cordonAllBut(run, () => false, WHILE)
  lose(targetOf(run, volume))
}

/** A node of the volume that keeps its replica, whatever comes of the move. */
function otherNode(run: FaultRun, volume: string): string {
  return originalOn(run, volume, 'nvme')?.node.id ?? ''
}

function after(run: FaultRun, seconds: number, act: () => unknown): void {
  run.cluster.clock.after(seconds * 1000, act)
}

const TOPOLOGY_DELETED = 'the ReplicaTopology is deleted, and made anew by its policy'
const TARGET_FAULTED = 'the target pool is Faulted, and what is on it is lost or stands still'
/** Nothing is rebuilt: the rebuild is too slow from the beginning. */
const STANDS_STILL: ReadonlySet<string> = new Set(['no progress for the migration timeout', TARGET_FAULTED])

const acts: Readonly<Record<string, Interfere>> = {
  'no progress for the migration timeout': (run, _, stage) => {
    if (stage === 'adding') run.cluster.mayastor.setNodeOnline('node-5', false)
  },
  'the policy is disabled': (run, volume) => run.editPolicy(volume, { enabled: false }, LONG),
  'it goes to dry run': (run, volume) => run.editPolicy(volume, { dryRun: true }, LONG),
  // For good: one that is made anew later begins a migration with the same id.
  'it is deleted': (run) => {
    run.cluster.store.delete({ apiVersion: API_VERSION, kind: 'StoragePolicy', name: 'default' })
  },
  [TOPOLOGY_DELETED]: (run, volume) => run.deleteTopology(volume),
  'the policy is edited': (run, volume) => run.editThresholds(volume, 0, LONG),
  'IOPS turn': (run, volume) => run.turnLoad(volume),
  'the status of the ReplicaTopology is lost': (run, volume) => run.loseStatus(volume),
  'the added replica is lost, and Mayastor makes another on the target pool': (run, volume) => {
    cordonAllBut(run, (pool) => pool === targetOf(run, volume))
    run.faultReplica(volume, 'added', 0, 'for good')
  },
  'the added replica is lost, and Mayastor makes another on some other pool': (run, volume) => {
    cordonAllBut(run, (pool) => pool !== targetOf(run, volume))
    run.faultReplica(volume, 'added', 0, 'for good')
  },
  'the whole target pool is lost, and it does': (run, volume) => {
    const pool = targetOf(run, volume)
    cordonAllBut(run, (other) => other !== pool)
    run.cluster.mayastor.setPoolStatus(pool, 'Faulted')
    run.faultReplica(volume, 'added', 0, 'for good')
  },
  'the target pool is exported, and Mayastor has no other for the replica yet': (run, volume, stage) =>
    loseOnlyTarget(run, volume, stage, (pool) => run.cluster.mayastor.setPoolImported(pool, false)),
  [TARGET_FAULTED]: (run, volume, stage) =>
    loseOnlyTarget(run, volume, stage, (pool) => {
      run.cluster.mayastor.setPoolStatus(pool, 'Faulted')
      // While it is rebuilt it stands still: the rebuild is too slow from the beginning.
      if (stage !== 'rebuilding') run.faultReplica(volume, 'added', 0, 'for good')
    }),
  // What is lost while it is rebuilt does not come back: Mayastor has no log of what it misses.
  'the target pool is away for less than the migration timeout, and back with what was on it': (run, volume, stage) => {
    const { mayastor } = run.cluster
    const pool = targetOf(run, volume)
    if (stage === 'rebuilding') mayastor.setPoolStatus(pool, 'Faulted')
    else mayastor.setPoolImported(pool, false)
    after(run, SHORT, () => {
      mayastor.setPoolStatus(pool, 'Online')
      mayastor.setPoolImported(pool, true)
    })
  },
  'Mayastor replaces more than three replicas of the volume during the move': (run, volume) => {
    cordonAllBut(run, (pool) => pool === targetOf(run, volume))
    const again = () => {
      if (run.places.journal(volume)?.held !== undefined) return
      run.faultReplica(volume, 'added', 0, 'for good')
      after(run, 20, again)
    }
    again()
  },
  'the only pool it could go to is filling up': (run, volume) => {
    const pool = run.cluster.mayastor.truth.pools.get(targetOf(run, volume))
    if (pool !== undefined) run.cluster.mayastor.setOtherBytes(pool.id, pool.freeBytes - GIB)
  },
  'the source is lost': (run, volume) => loseReplica(run, volume, 'sata'),
  'another original replica is lost and replaced': (run, volume) => loseReplica(run, volume, 'nvme'),
  'the volume is unpublished': (run, volume) => run.unpublish(volume, LONG),
  'the volume is resized': (run, volume) => run.resize(volume),
  'a snapshot is taken (which Mayastor refuses while it rebuilds)': (run, volume) => run.snapshot(volume),
  'the volume is deleted': (run, volume) => run.deleteVolume(volume),
  'a person raises the count (which Mayastor refuses while it rebuilds)': (run, volume) => run.scale(volume, +1),
  'a person lowers the count': (run, volume) => run.scale(volume, -1),
  'another node of the volume is cordoned': (run, volume) => run.cordonNodeFor(otherNode(run, volume), LONG),
  'it is drained': (run, volume) => {
    const node = otherNode(run, volume)
    run.checker.person(() => run.cluster.mayastor.drainNode(node, 'upgrade'))
    after(run, LONG, () => run.checker.person(() => run.cluster.mayastor.uncordonNode(node, 'upgrade')))
  },
}

function isAt(stage: Stage, way: string, run: FaultRun, { volume, row }: Place, moment: Moment | undefined): boolean {
  if (moment !== 'call') return false
  // Before there is a journal an object that is made anew makes no difference.
  if (stage === 'adding' && way === TOPOLOGY_DELETED) return row === 'fenced'
  const reading = run.places.journal(volume)?.reading !== undefined
  switch (stage) {
    case 'adding':
      return row === 'check'
    case 'rebuilding':
      return row === 'rebuild' && !reading
    case 'synced':
      return row === 'rebuild' && reading
    case 'removing':
      return row === 'shrink'
  }
}

/** How a migration of one replica ends that has this outcome. */
const ends: Readonly<Partial<Record<Outcome, string>>> = {
  'goes on': 'Completed AllReplicasMoved',
  forward: 'Completed AllReplicasMoved',
  follows: 'Completed AllReplicasMoved',
  rests: 'Completed AllReplicasMoved',
}

const AS_IT_FALLS = ['Completed AllReplicasMoved', 'Aborted CountChanged', 'Failed CountChanged']

/** The volume has a replica on NVMe and one on SATA; of NVMe there is one more pool. */
const NODES = [
  { nvme: 200, sata: 0 },
  { nvme: 0, sata: 400 },
  { nvme: 200, sata: 0 },
  { nvme: 0, sata: 400 },
  { nvme: 0, sata: 400 },
]

function play(way: string, stage: Stage, changes: Parameters<typeof scenario>[0] = {}) {
  let done = false
  const onPlace = (run: FaultRun, place: Place, moment: Moment | undefined, about: Omit<Strike, 'volume'>) => {
    if (done || !isAt(stage, way, run, place, moment)) return
    done = true
    // The removal was sent, and is not known to have had an effect.
    if (stage === 'removing') about.request.set({ kind: 'lost' })
    acts[way]?.(run, place.volume, stage)
    // Until Mayastor has heard of it.
    if (stage === 'adding') about.process.pause(45_000)
  }
  const volume = { replicas: 2, on: 'mixed' } as const
  const rebuildMiBPerSecond = stage === 'rebuilding' && STANDS_STILL.has(way) ? 0.001 : 60
  const run = new FaultRun(scenario({ volume, nodes: NODES, rebuildMiBPerSecond, ...changes }), onPlace)
  return { run, result: run.play(), isDone: () => done }
}

for (const { ways, outcomes } of INTERFERENCES) {
  for (const way of ways) {
    for (const stage of STAGES) {
      const outcome = outcomes[stage]
      if (outcome === undefined) continue
      t.test(`${way}, ${stage}: ${outcome}`, async (t) => {
        const { run, result, isDone } = play(way, stage)
        const { violations, migrations, wereHeld } = await result
        t.ok(isDone(), 'it came between')
        t.strictSame(violations, [], 'no rule was broken')
        t.equal(wereHeld.length > 0, outcome === 'rests' || outcome === 'is Held', 'Held while it waits')
        const [first] = migrations
        const end = first === undefined ? 'is Held' : `${first.phase} ${first.reason}`
        const fallen = AS_IT_FALLS.includes(end) ? 'as it falls' : end
        t.equal(outcome === 'as it falls' ? fallen : end, ends[outcome] ?? outcome)
        if (way === TOPOLOGY_DELETED) {
          const found = run.cluster.store.list(API_VERSION, 'ReplicaTopology')
          t.strictSame(
            found.map(({ metadata }) => metadata?.deletionTimestamp),
            [undefined],
            'it is there again',
          )
        }
      })
    }
  }
}

t.test('every way of every interference of the table is tried', async (t) => {
  t.strictSame(Object.keys(acts).sort(), INTERFERENCES.flatMap(({ ways }) => ways).sort())
})

t.test('in preservation mode what would be completed keeps the pair instead', async (t) => {
  for (const way of ['the policy is edited', 'the policy is disabled']) {
    const { run, result } = play(way, 'synced', { preservation: true })
    const { violations, migrations } = await result
    t.strictSame(violations, [], 'no rule was broken')
    t.strictSame([migrations, run.places.journals.map(({ phase }) => phase)], [[], ['Preserved']], way)
  }
})
