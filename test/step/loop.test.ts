import { pino } from 'pino'
import t from 'tap'
import { memoryLeases } from '../../src/clients/leases.js'
import { createMetrics } from '../../src/metrics.js'
import { encode, type Journal, journalName } from '../../src/step/journal.js'
import { moveLoop } from '../../src/step/loop.js'
import { sightings } from '../../src/step/sightings.js'
import { manualClock } from '../manual-clock.js'
import { journal } from './builders.js'

const held = { id: 'x', reason: 'Unpublished', message: 'the volume is not published', at: 0, forPerson: false }
const unused = new Proxy({} as never, {
  get: (_, name) => {
    throw new Error(`${String(name)} is not to be used`)
  },
})

t.test('what the loop shows of the journals', async (t) => {
  const { clock, pass } = manualClock()
  const metrics = createMetrics({ version: 'test' })
  const leases = memoryLeases()
  const write = async (volume: string, changes: Partial<Journal>) => {
    const record = journal({ volume, id: `${volume}-1`, ...changes })
    await leases.create({ name: journalName(volume), holder: 'test', renewedAt: 0, data: encode(record) })
  }
  const act = { mayastor: unused, leases, clock, identity: 'test', sightings: sightings(clock), observer: unused }
  const options = { dryRun: false, preservationMode: false, maxConcurrentMigrations: 2, migrationTimeoutMinutes: 30 }
  const shown = async () => {
    const log = pino({ enabled: false })
    const loop = moveLoop({ act, clock, log, metrics, options, task: (work) => work() })
    loop.start()
    await pass(0)
    await loop.stop()
    const value = async (name: 'activeMigrations' | 'heldMigrations' | 'extraReplicas') =>
      (await metrics[name].get()).values[0]?.value
    return [await value('activeMigrations'), await value('heldMigrations'), await value('extraReplicas')]
  }
  t.strictSame(await shown(), [0, 0, 0])
  await write('a', { phase: 'ScalingUp' })
  await write('b', { phase: 'WaitingSync' })
  await write('c', { phase: 'WaitingSync', held, holds: 1 })
  await write('d', { phase: 'ScalingDown', held: { ...held, forPerson: true }, holds: 2 })
  await write('e', { phase: 'ScalingDown', holds: 1 })
  await write('f', { phase: 'Preserved' })
  await write('g', {
    phase: 'Ended',
    held,
    end: { phase: 'Aborted', reason: 'VolumeGone', message: 'm', at: 0, started: true },
  })
  t.strictSame(await shown(), [2, 2, 5], 'what was Held once has no slot; what has ended counts no more')
})
