import t, { type Test } from 'tap'
import { Checker } from '../../src/embedded/checker.js'
import { SimulatedClock } from '../../src/embedded/clock.js'
import { GiB, SimulatedMayastor } from '../../src/embedded/mayastor/index.js'

const VOLUME = '00000000-0000-4000-8000-000000000001'

/** A volume that is to be spread over racks, and one pool it could go to, under a Mayastor that does not see to that. */
async function raised(t: Test, rack: string) {
  const clock = new SimulatedClock(0, 'memory')
  const mayastor = new SimulatedMayastor({ clock, version: '2.9.0' })
  t.teardown(() => mayastor.stop())
  for (const [index, label] of ['a', rack].entries()) {
    mayastor.addNode({ id: `node-${index}`, labels: { rack: label } })
    mayastor.addPool({ id: `pool-${index}`, node: `node-${index}`, capacityBytes: 100 * GiB })
  }
  mayastor.createVolume({
    uuid: VOLUME,
    sizeBytes: GiB,
    replicas: [{ pool: 'pool-0' }],
    topology: { node_topology: { labelled: { inclusion: {}, exclusion: { rack: '' } } } },
  })
  const checker = new Checker(mayastor, { maxMoving: 1, cooldownMs: 0, tierOf: () => undefined })
  const answered = mayastor.inject({ method: 'PUT', path: `/v0/volumes/${VOLUME}/replica_count/2`, body: undefined })
  await clock.run(clock.now() + 10_000)
  await answered
  return checker.violations.map(({ rule }) => rule)
}

t.test('a replica beside another one of the same rack breaks the topology of the volume', async (t) => {
  t.strictSame(await raised(t, 'a'), ['the topology of the volume holds'])
})

t.test('one in another rack does not', async (t) => {
  t.strictSame(await raised(t, 'b'), [])
})
