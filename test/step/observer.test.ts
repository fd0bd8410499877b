import { pino } from 'pino'
import t from 'tap'
import { createMetrics } from '../../src/metrics.js'
import type { Journal } from '../../src/step/journal.js'
import { observers } from '../../src/step/observer.js'
import { manualClock } from '../manual-clock.js'
import { journal, volume } from './builders.js'

function observed() {
  const { clock, pass } = manualClock()
  const metrics = createMetrics({ version: '0' })
  const told = observers({ clock, metrics })(pino({ level: 'silent' }))
  /** Value of a series, by its name without the prefix. */
  const value = async (series: string) => {
    const lines = (await metrics.registry.metrics()).split('\n')
    const line = lines.find((one) => one.startsWith(`storage_operator_${series} `))
    return line === undefined ? undefined : Number(line.split(' ').at(-1))
  }
  return { told, pass, value, clock }
}

t.test('how long moves wait for the fence, and hold it', async (t) => {
  const { told, pass, value, clock } = observed()
  told.fenceTaken('a')
  t.equal(await value('fence_wait_seconds_sum'), 0, 'the fence was free')
  for (let look = 0; look < 10; look++) {
    told.fenceAwaited('b')
    await pass(3_000)
  }
  told.fenceTaken('b')
  t.equal(await value('fence_wait_seconds_sum'), 30)
  told.fenceAwaited('c')
  await pass(3_600_000)
  told.fenceAwaited('c')
  await pass(5_000)
  told.fenceTaken('c')
  t.equal(await value('fence_wait_seconds_sum'), 35, 'a move that did not look for long did not wait')
  t.equal(await value('fence_wait_seconds_count'), 3)
  told.fenceReleased(clock.now() - 12_000)
  told.fenceReleased(clock.now() + 1_000)
  t.equal(await value('fence_held_seconds_sum'), 12, 'a clock of another server that is ahead counts as none')
  t.equal(await value('fence_held_seconds_count'), 2)
})

t.test('migrations that end', async (t) => {
  const { told, value } = observed()
  const end = (phase: 'Completed' | 'Aborted' | 'Failed', at: number) => ({
    phase,
    reason: 'x',
    message: 'x',
    at,
    started: true,
  })
  const one: Journal = { ...journal(), direction: 'Promote', startedAt: 1_000, replicasMoved: 2 }
  const allocated = volume().replicas.map((replica, index) => ({ ...replica, allocatedBytes: 100 * index }))
  told.ended({ ...one, end: end('Completed', 61_000) }, { ...volume(), replicas: allocated })
  told.ended({ ...one, direction: 'Demote', replicasMoved: 0, end: end('Aborted', 31_000) }, undefined)
  told.ended({ ...one, direction: 'Demote', replicasMoved: 1, end: end('Failed', 0) }, undefined)
  for (const [series, expected] of Object.entries({
    'migrations_total{status="success"}': 1,
    'migrations_total{status="aborted"}': 1,
    'migrations_total{status="failed"}': 1,
    'migration_duration_seconds_sum{direction="Promote",status="success"}': 60,
    'migration_duration_seconds_sum{direction="Demote",status="aborted"}': 30,
    'migration_duration_seconds_sum{direction="Demote",status="failed"}': 0,
    'migration_duration_seconds_count{direction="Promote",status="failed"}': 0,
    'migration_bytes_total{direction="Promote"}': 2 * 100 * (allocated.length - 1),
    'migration_bytes_total{direction="Demote"}': 0,
  })) {
    t.equal(await value(series), expected, series)
  }
})
