import { pino } from 'pino'
import t from 'tap'
import { memoryLeases } from '../../src/clients/leases.js'
import type { MayastorClient } from '../../src/clients/mayastor.js'
import { createMetrics } from '../../src/metrics.js'
import { decodeJournal, encode, type Journal, journalName } from '../../src/step/journal.js'
import { moveLoop } from '../../src/step/loop.js'
import { sightings } from '../../src/step/sightings.js'
import { manualClock } from '../manual-clock.js'
import { journal, replica, VOLUME, view } from './builders.js'

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

t.test('a pair of preservation mode that nobody asks for is taken to its end after a day', async (t) => {
  const { clock, pass } = manualClock()
  const leases = memoryLeases()
  const move = { ...journal().move, added: 'new' }
  const data = encode(journal({ phase: 'Preserved', move, ...{ reading: { at: 0, nexus: 'nexus-1' } } }))
  await leases.create({ name: journalName(VOLUME), holder: 'test', renewedAt: 0, data })
  const replicas = [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('new', 'nvme-3')]
  const { volume, pools, nodes, capabilities } = view({ volume: { replicas } })
  const mayastor = {
    volume: async () => volume,
    volumes: async () => [],
    pools: async () => [...pools.values()],
    nodes: async () => [...nodes.values()],
    capabilities: async () => capabilities,
  } as unknown as MayastorClient
  const act = { mayastor, leases, clock, identity: 'test', sightings: sightings(clock), observer: unused }
  const options = { dryRun: false, preservationMode: true, maxConcurrentMigrations: 2, migrationTimeoutMinutes: 30 }
  const metrics = createMetrics({ version: 'test' })
  const log = pino({ enabled: false })
  const loop = moveLoop({ act, clock, log, metrics, options, task: (work) => work() })
  const phase = async () => decodeJournal((await leases.get(journalName(VOLUME)))?.data ?? '').phase
  loop.start()
  await pass(0)
  for (let hours = 0; hours < 23; hours++) await pass(3_600_000)
  t.equal(await phase(), 'Preserved')
  for (const ms of [3_600_000, 10_000, 10_000]) await pass(ms)
  t.equal(await phase(), 'WaitingSync')
  await loop.stop()
})
