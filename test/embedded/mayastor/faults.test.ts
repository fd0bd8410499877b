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
