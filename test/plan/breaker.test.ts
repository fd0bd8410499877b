import fc from 'fast-check'
import t from 'tap'
import { doubled, waitAfter } from '../../src/plan/back-off.js'
import { breaker, type LastEnd } from '../../src/plan/breaker.js'

const at = (second: number) => `2026-01-01T00:00:${String(second).padStart(2, '0')}Z`
const end = (second: number, reason: string, id = `v${second}-1`): LastEnd => ({ id, reason, endedAt: at(second) })
const failures = [end(1, 'NoProgress'), end(2, 'TargetLost'), end(3, 'GrowRefused')]

t.test('what trips it', async (t) => {
  const rows: { name: string; ends: readonly LastEnd[]; resumed?: string; trip?: string; reason?: string }[] = [
    { name: 'nothing ended', ends: [] },
    { name: 'two failures', ends: failures.slice(0, 2) },
    { name: 'three in a row', ends: failures, trip: at(3), reason: 'RepeatedFailures' },
    { name: 'in whatever order they are listed', ends: failures.toReversed(), trip: at(3), reason: 'RepeatedFailures' },
    {
      name: 'one that was completed between them',
      ends: [...failures.slice(0, 2), end(2, 'AllReplicasMoved', 'w'), end(3, 'NoProgress')],
    },
    {
      name: 'ends that are nobody’s fault count for nothing',
      ends: [...failures.slice(0, 2), end(3, 'Cancelled'), end(4, 'CountChanged'), end(5, 'Snapshots')],
    },
    {
      name: 'and do not break the row',
      ends: [...failures.slice(0, 2), end(3, 'Cancelled'), end(4, 'WrongPool')],
      trip: at(4),
      reason: 'RepeatedFailures',
    },
    { name: 'a wrong removal, at once', ends: [end(1, 'WrongRemoval')], trip: at(1), reason: 'WrongRemoval' },
    { name: 'one that is explained is a failure as any other', ends: [end(1, 'OtherReplicaLost')] },
    {
      name: 'what is completed afterwards does not close it',
      ends: [...failures, end(4, 'AllReplicasMoved')],
      trip: at(3),
      reason: 'RepeatedFailures',
    },
    {
      name: 'what fails afterwards does not change what a person has to name',
      ends: [...failures, end(4, 'NoProgress')],
      trip: at(3),
      reason: 'RepeatedFailures',
    },
    { name: 'seen by a person', ends: failures, resumed: at(3) },
    { name: 'seen, and failed again since', ends: [...failures, end(4, 'NoProgress')], resumed: at(3) },
    { name: 'an earlier trip was seen', ends: failures, resumed: at(0), trip: at(3), reason: 'RepeatedFailures' },
  ]
  for (const { name, ends, resumed, trip, reason } of rows) {
    const found = breaker(ends, resumed)
    t.strictSame([found?.trip, found?.reason], [trip, reason], name)
  }
  t.match(breaker(failures, undefined)?.message, /3 migrations in a row failed, the last of them v3-1 \(GrowRefused\)/)
})

t.test('properties', async (t) => {
  const reasons = ['AllReplicasMoved', 'NoProgress', 'WrongRemoval', 'Cancelled', 'TargetLost']
  const ends = fc.uniqueArray(fc.record({ second: fc.nat(59), reason: fc.constantFrom(...reasons) }), {
    selector: ({ second }) => second,
  })
  const made = ends.map((list) => list.map(({ second, reason }) => end(second, reason)))
  t.doesNotThrow(
    () =>
      fc.assert(
        fc.property(made, (list) => {
          const trip = breaker(list, undefined)
          if (trip === undefined) return true
          const next = breaker(list, trip.trip)
          return next === undefined || next.trip > trip.trip
        }),
      ),
    'naming a trip closes it',
  )
  t.doesNotThrow(
    () =>
      fc.assert(
        fc.property(made, fc.array(fc.nat(59)), (list, later) => {
          const trip = breaker(list, undefined)
          if (trip === undefined) return true
          const more = later.map((second) => end(second, 'AllReplicasMoved', `later-${second}`))
          const since = more.filter(({ endedAt }) => endedAt > trip.trip)
          return breaker([...list, ...since], undefined)?.trip === trip.trip
        }),
      ),
    'what ends later does not',
  )
})

t.test('waits', async (t) => {
  const HOUR = 3_600_000
  const rows: [number, number, number][] = [
    [24 * HOUR, 0, 24 * HOUR],
    [24 * HOUR, 1, 24 * HOUR],
    [24 * HOUR, 2, 48 * HOUR],
    [24 * HOUR, 3, 96 * HOUR],
    [24 * HOUR, 9, 168 * HOUR],
    [1000 * HOUR, 5, 1000 * HOUR],
    [HOUR, 2000, 168 * HOUR],
  ]
  for (const [cooldown, failures, wait] of rows) t.equal(waitAfter(cooldown, failures), wait, `${failures} failures`)
  t.equal(doubled(10, 0, 100), 10)
  t.equal(doubled(10, 4, 100), 80)
  t.equal(doubled(10, 5, 100), 100)
})
