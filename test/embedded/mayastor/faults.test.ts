import t from 'tap'
import type { CallFault } from '../../../src/embedded/mayastor/index.js'
import { Bed, V, withBed } from './bed.js'

const unavailable = { status: 503, kind: 'Unavailable', details: 'injected' }
const PUT = `/volumes/${V}/replica_count/3`

t.test('faults of a call: what the caller sees, and what happened', async (t) => {
  const cases: { name: string; fault: CallFault; status: number | 'lost'; count: number }[] = [
    { name: 'error before the effect', fault: { when: 'before', answer: unavailable }, status: 503, count: 2 },
    { name: 'lost before the effect', fault: { when: 'before', drop: true }, status: 'lost', count: 2 },
    { name: 'late', fault: { when: 'before', delayMs: 2_000 }, status: 200, count: 3 },
    { name: 'too late', fault: { when: 'before', delayMs: 8_000 }, status: 408, count: 3 },
    { name: 'error while it goes on', fault: { when: 'during', answer: unavailable }, status: 503, count: 3 },
    { name: 'error after the effect', fault: { when: 'after', answer: unavailable }, status: 503, count: 3 },
    { name: 'lost after the effect', fault: { when: 'after', drop: true }, status: 'lost', count: 3 },
    { name: 'no fault', fault: { when: 'after' }, status: 200, count: 3 },
  ]
  for (const { name, fault, status, count } of cases) {
    const bed = new Bed()
    bed.volume(['a-nvme', 'b-nvme'])
    bed.mayastor.faults.onCall((call) => (call.volume === V && call.count === 1 ? fault : undefined))
    await withBed(bed, async () => {
      const seen = await bed.done('PUT', PUT)
      t.equal(seen.status, status === 'lost' ? 0 : status, name)
      await bed.pass(10_000)
      t.equal(bed.count(), count, name)
      t.equal(bed.mayastor.writes[0]?.status, status === 'lost' ? undefined : status, name)
    })
  }
})

t.test('a caller that gives up does not stop the operation', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const answer = bed.clock.task(() => {
      const signal = new AbortController()
      bed.clock.after(300, () => signal.abort())
      return bed.abortable('PUT', PUT, signal.signal)
    })
    await bed.pass(5_000)
    t.equal(await answer, 'aborted')
    t.equal(bed.count(), 3)
    t.ok(bed.events.some((e) => e.kind === 'rest-lost'))
  })
})

t.test('a core that dies mid-way leaves what was done, and forgets the operation', async (t) => {
  const bed = new Bed({ stepMs: 1_000 })
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const answer = bed.call('PUT', PUT)
    bed.clock.after(1_500, () => bed.mayastor.restartCore())
    await bed.pass(2_000)
    t.equal((await answer).status, 503)
    t.equal((await bed.get('/nodes')).status, 503)
    t.equal(bed.replicas().length, 3, 'the replica was created but not attached')
    await bed.pass(2_000)
    t.not((await bed.shown()).spec.operation?.operation, 'SetReplica')
    t.equal(bed.count(), 2)
    await bed.pass(60_000)
    t.same(bed.replicas(), ['r0', 'r1'])
  })
})

t.test('a rebuild that cannot start closes the child as faulted, and hot-spare replaces it', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  bed.mayastor.faults.rebuildStartFails(V, 1)
  await withBed(bed, async () => {
    t.equal((await bed.setReplicas(3)).status, 200)
    const first = bed.replicas()[2]
    await bed.pass(120_000)
    t.equal(bed.replicas().length, 3)
    t.not(bed.replicas()[2], first)
    t.equal((await bed.shown()).state.status, 'Online')
  })
})

t.test('the same seed gives the same run', async (t) => {
  const run = async (seed: number) => {
    const bed = new Bed({ seed })
    bed.volume(['a-nvme', 'b-nvme'], { replicas: 2 })
    await withBed(bed, async () => {
      await bed.setReplicas(3)
      await bed.pass(100_000)
      await bed.setReplicas(2)
    })
    return JSON.stringify(bed.events)
  }
  t.equal(await run(7), await run(7))
  t.not(await run(7), await run(8))
})

t.test('a person and the operator at the same volume', async (t) => {
  const bed = new Bed()
  bed.volume(['a-nvme', 'b-nvme'])
  await withBed(bed, async () => {
    const person = bed.mayastor.setReplicaCount(V, 3)
    const answer = await bed.setReplicas(3)
    t.equal(person.failure, undefined)
    t.match(answer.body.message, /ReplicaCountAchieved/, 'the lock was waited for')
  })
})
