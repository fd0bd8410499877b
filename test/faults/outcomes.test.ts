import t from 'tap'
import { GIB } from '../../src/embedded/cluster.js'
import { INTERFERENCES, type Outcome, STAGES, type Stage } from '../../src/plan/outcomes.js'
import { scenario } from './builders.js'
import type { Moment, Place } from './rows.js'
import { FaultRun, type Strike } from './run.js'

/** What comes between a migration and its end, at every stage of it: the end is the one that the table says. */

type Interfere = (run: FaultRun, volume: string, stage: Stage) => void
type What = (typeof INTERFERENCES)[number]['what']

/** Long enough for a move to be Held, and to go on afterwards. */
const LONG = 4000

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

/** People keep new replicas from all pools but these, until the faults stop. */
function cordonAllBut(run: FaultRun, keep: (pool: string) => boolean): void {
  for (const pool of run.cluster.mayastor.truth.pools.keys()) {
    if (!keep(pool)) run.cordonPoolFor(pool, { replicas: true, restores: true }, LONG)
  }
}

const acts: Readonly<Record<string, Interfere>> = {
  // While it is rebuilt nothing has to be done: the rebuild is too slow from the beginning.
  'no progress for the migration timeout': (run, _, stage) => {
    if (stage === 'adding') run.cluster.mayastor.setNodeOnline('node-5', false)
  },
  'the policy is disabled, goes to dry run, or is deleted; the ReplicaTopology is deleted': (run, volume) =>
    run.editPolicy(volume, { enabled: false }, LONG),
  'the policy is edited, or IOPS turn': (run, volume) => {
    run.editThresholds(volume, 0, LONG)
    run.turnLoad(volume)
  },
  'the status of the ReplicaTopology is lost': (run, volume) => run.loseStatus(volume),
  'the added replica is lost, and Mayastor makes another on the target pool': (run, volume) => {
    cordonAllBut(run, (pool) => pool === targetOf(run, volume))
    run.faultReplica(volume, 'added', 0, 'for good')
  },
  'the added replica is lost, and Mayastor makes another on some other pool': (run, volume) => {
    cordonAllBut(run, (pool) => pool !== targetOf(run, volume))
    run.faultReplica(volume, 'added', 0, 'for good')
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
  'another node of the volume is cordoned or drained': (run, volume) =>
    run.cordonNodeFor(originalOn(run, volume, 'nvme')?.node.id ?? '', LONG),
}

function isAt(stage: Stage, run: FaultRun, { volume, row }: Place, moment: Moment | undefined): boolean {
  if (moment !== 'call') return false
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

for (const { what, outcomes } of INTERFERENCES) {
  for (const stage of STAGES) {
    const outcome = outcomes[stage]
    if (outcome === undefined) continue
    t.test(`${what}, ${stage}: ${outcome}`, async (t) => {
      let done = false
      const onPlace = (run: FaultRun, place: Place, moment: Moment | undefined, about: Omit<Strike, 'volume'>) => {
        if (done || !isAt(stage, run, place, moment)) return
        done = true
        // The removal was sent, and is not known to have had an effect.
        if (stage === 'removing') about.request.set({ kind: 'lost' })
        acts[what]?.(run, place.volume, stage)
        // Until Mayastor has heard of it.
        if (stage === 'adding') about.process.pause(45_000)
      }
      const volume = { replicas: 2, on: 'mixed' } as const
      const isStuck = what.startsWith('no progress') && stage === 'rebuilding'
      const run = new FaultRun(scenario({ volume, nodes: NODES, rebuildMiBPerSecond: isStuck ? 0.001 : 60 }), onPlace)
      const { violations, migrations, wereHeld } = await run.play()
      t.ok(done, 'it came between')
      t.strictSame(violations, [], 'no rule was broken')
      const [first] = migrations
      const end = `${first?.phase} ${first?.reason}`
      const fallen = AS_IT_FALLS.includes(end) ? 'as it falls' : end
      t.equal(outcome === 'as it falls' ? fallen : end, ends[outcome] ?? outcome)
      t.equal(wereHeld.length > 0, outcome === 'rests', 'Held while it waits')
    })
  }
}

t.test('every interference of the table is tried', async (t) => {
  t.strictSame(Object.keys(acts).sort(), INTERFERENCES.map(({ what }): What => what).sort())
})
