import fc from 'fast-check'
import t from 'tap'
import { SimulatedClock } from '../../../src/embedded/clock.js'
import { type Choose, GiB, type MayastorOptions, type Request } from '../../../src/embedded/mayastor/index.js'
import { Bed, newVolume, START, takeFirst, takeLast, withBed } from './bed.js'
import { Invariants } from './invariants.js'

const nodes = 'abcde'
const anyNode = fc.constantFrom(...nodes)
const someNode = fc.option(anyNode, { nil: undefined })
const anyPool = fc.constantFrom(...[...nodes].flatMap((node) => [`${node}-nvme`, `${node}-sata`]))
const uuid = fc.constantFrom('v1', 'v2', 'v3', 'v4', 'v5')

/** Something that happens, in words a counterexample can be read in. */
class Happening {
  readonly what: string
  readonly to: (bed: Bed) => unknown

  constructor(what: string, to: (bed: Bed) => unknown) {
    this.what = what
    this.to = to
  }

  [fc.toStringMethod](): string {
    return this.what
  }
}

function kind<K extends Request['kind']>(name: K): fc.Arbitrary<K> {
  return fc.constant(name)
}

const requests: fc.Arbitrary<Request> = fc.oneof(
  fc.record({ kind: kind('create'), volume: fc.constant({ ...newVolume, uuid: 'v5' }) }),
  fc.record({ kind: kind('destroy'), uuid }),
  fc.record({ kind: kind('publish'), uuid, node: someNode }),
  fc.record({ kind: kind('unpublish'), uuid }),
  fc.record({ kind: kind('republish'), uuid, node: someNode }),
  fc.record({ kind: kind('create-snapshot'), uuid }),
  fc.record({ kind: kind('destroy-snapshot'), uuid }),
  fc.record({ kind: kind('resize'), uuid, sizeBytes: fc.integer({ min: 10, max: 20 }).map((n) => n * GiB) }),
  fc.record({ kind: kind('set-property'), uuid, selfHeal: fc.boolean() }),
)

const requested = requests.map(
  (request) => new Happening(JSON.stringify(request), ({ mayastor }) => mayastor.request(request)),
)

const counted = fc
  .tuple(uuid, fc.constantFrom(-1, 1))
  .map(
    ([volume, by]) =>
      new Happening(`${by} replica of ${volume}`, (bed) =>
        bed.mayastor.setReplicaCount(volume, (bed.count(volume) ?? 1) + by),
      ),
  )

const written = fc.tuple(uuid, fc.integer({ min: 1, max: 20 })).map(
  ([volume, size]) =>
    new Happening(`${volume} holds ${size} GiB`, (bed) => {
      if (bed.count(volume) !== undefined) bed.mayastor.write(volume, size * GiB)
    }),
)

const faulted = fc.tuple(fc.nat(20), fc.constantFrom('OutOfSpace', undefined)).map(
  ([index, reason]) =>
    new Happening(`replica ${index} fails ${reason ?? ''}`, ({ mayastor }) => {
      const replicas = [...mayastor.truth.replicas.keys()]
      mayastor.faultReplica(replicas[index % Math.max(1, replicas.length)] ?? '', reason)
    }),
)

const childTaken = fc.tuple(uuid, fc.nat(3)).map(
  ([volume, index]) =>
    new Happening(`child ${index} of ${volume} is removed by hand`, async (bed) => {
      const target = (await bed.shown(volume)).state?.target
      const child = target?.children[index]
      if (child === undefined) return
      await bed.done('DELETE', `/nexuses/${target.uuid}/children/${encodeURIComponent(child.uri)}`)
    }),
)

const toNodes: Record<string, (bed: Bed, node: string) => unknown> = {
  lost: ({ mayastor }, node) => mayastor.setNodeOnline(node, false),
  cordoned: ({ mayastor }, node) => mayastor.cordonNode(node, 'x'),
  drained: ({ mayastor }, node) => mayastor.drainNode(node, 'x'),
  uncordoned: ({ mayastor }, node) => mayastor.uncordonNode(node, 'x'),
  old: ({ mayastor }, node) => mayastor.setNodeVersion(node, '2.6.1'),
  new: ({ mayastor }, node) => mayastor.setNodeVersion(node, '2.12.0'),
}

const toPools: Record<string, (bed: Bed, pool: string) => unknown> = {
  cordoned: ({ mayastor }, pool) => mayastor.cordonPool(pool, { replicas: true }),
  uncordoned: ({ mayastor }, pool) => mayastor.uncordonPool(pool, { replicas: true }),
  lost: ({ mayastor }, pool) => mayastor.setPoolImported(pool, false),
  degraded: ({ mayastor }, pool) => mayastor.setPoolStatus(pool, 'Degraded'),
  full: ({ mayastor }, pool) => mayastor.setOtherBytes(pool, 99 * GiB),
  drained: ({ mayastor }, pool) => mayastor.drainPool(pool, true),
  released: ({ mayastor }, pool) => mayastor.releasePoolDrain(pool),
  'unable to take replicas': ({ mayastor }, pool) => mayastor.faults.createFails(pool, 2),
}

const toVolumes: Record<string, (bed: Bed, volume: string) => unknown> = {
  'cannot attach': ({ mayastor: { faults } }, volume) => faults.attachFails(volume, 1),
  'cannot rebuild': ({ mayastor: { faults } }, volume) => faults.rebuildStartFails(volume, 1),
  'is dirty': ({ mayastor: { faults } }, volume) => faults.storeDirty(volume, 2),
  'is not recorded': ({ mayastor: { faults } }, volume) => faults.persistFails(volume, 1),
}

const toAll: Record<string, (bed: Bed) => unknown> = {
  'etcd is gone': ({ mayastor: { faults } }) => {
    faults.storeDown = true
  },
  'one rebuild at a time': ({ mayastor: { faults } }) => {
    faults.rebuildLimit = 1
  },
  'a replica cannot be destroyed': ({ mayastor: { faults } }) => faults.destroyFails(() => true, 1),
  'steps take longer': ({ mayastor: { faults } }) => faults.onStep(({ step }) => (step.length % 3) * 1_500),
  'all faults end': ({ mayastor: { faults } }) => faults.clear(),
  'all nodes are back': ({ mayastor }) => {
    for (const node of nodes) mayastor.setNodeOnline(node, true)
  },
  'all pools are well': ({ mayastor }) => {
    for (const { id } of mayastor.truth.pools.values()) {
      mayastor.setPoolImported(id, true)
      mayastor.setPoolStatus(id, 'Online')
      mayastor.setOtherBytes(id, 0)
      mayastor.uncordonPool(id, { replicas: true })
    }
  },
  'the core restarts at once': ({ mayastor }) => mayastor.restartCore(0),
  'the core restarts': ({ mayastor }) => mayastor.restartCore(),
}

function oneOf(
  what: string,
  to: Record<string, (bed: Bed, id: string) => unknown>,
  id: fc.Arbitrary<string>,
): fc.Arbitrary<Happening> {
  return fc
    .tuple(fc.constantFrom(...Object.entries(to)), id)
    .map(([[how, act], which]) => new Happening(`${what} ${which} ${how}`.trim(), (bed) => act(bed, which)))
}

const happenings = fc.oneof(
  { weight: 4, arbitrary: counted },
  { weight: 5, arbitrary: requested },
  { weight: 3, arbitrary: oneOf('node', toNodes, anyNode) },
  { weight: 3, arbitrary: oneOf('pool', toPools, anyPool) },
  { weight: 3, arbitrary: faulted },
  { weight: 2, arbitrary: oneOf('volume', toVolumes, uuid) },
  { weight: 4, arbitrary: oneOf('', toAll, fc.constant('')) },
  { weight: 1, arbitrary: childTaken },
  { weight: 1, arbitrary: written },
)

const schedules = fc.record({
  version: fc.constantFrom('2.7.0', '2.8.0', '2.9.0', '2.10.0', '2.13.0'),
  seed: fc.nat(),
  ties: fc.constantFrom('seed', 'first', 'last'),
  slow: fc.boolean(),
  // Now and then it is long enough for what was begun to end.
  events: fc.array(fc.tuple(happenings, fc.oneof(fc.nat(1_000), fc.nat(15_000), fc.nat(120_000))), {
    minLength: 1,
    maxLength: 40,
    size: 'max',
  }),
})
type Schedule = typeof schedules extends fc.Arbitrary<infer T> ? T : never

const choosers: Record<string, { readonly choose?: Choose }> = {
  seed: {},
  first: { choose: takeFirst },
  last: { choose: takeLast },
}

function makeBed({ version, seed, ties, slow }: Schedule, more: Partial<MayastorOptions> = {}): Bed {
  const rebuildBytesPerSecond = (slow ? 0.02 : 0.2) * GiB
  const bed = new Bed({ version, seed, rebuildBytesPerSecond, ...choosers[ties], ...more }, nodes)
  const on = (...places: string[]) => places.map((pool) => ({ pool }))
  const size = { sizeBytes: 10 * GiB, allocatedBytes: 3 * GiB }
  bed.volume([], { ...size, uuid: 'v1', replicas: on('a-nvme', 'b-nvme') })
  bed.volume([], { ...size, uuid: 'v2', replicas: on('b-nvme', 'c-sata', 'd-nvme'), affinityGroup: 'g' })
  bed.volume([], { ...size, uuid: 'v3', replicas: on('c-nvme', 'd-sata'), affinityGroup: 'g', published: false })
  bed.volume([], { uuid: 'v4', sizeBytes: 10 * GiB, allocatedBytes: 0, replicas: on('e-nvme'), published: false })
  return bed
}

async function play(bed: Bed, { events }: Schedule, look: () => unknown = () => {}): Promise<void> {
  for (const [{ to }, ms] of events) {
    await to(bed)
    await bed.pass(ms)
    await look()
  }
}

t.test('whatever happens, the simulated Mayastor keeps its own rules', async (t) => {
  const holds = (schedule: Schedule) => {
    const bed = makeBed(schedule)
    const invariants = new Invariants(bed.mayastor)
    return withBed(bed, () =>
      play(bed, schedule, async () => {
        invariants.look()
        const { status, body } = await bed.get('/volumes?max_entries=0')
        if (status === 200) invariants.compare(body.entries)
      }),
    )
  }
  await t.resolves(fc.assert(fc.asyncProperty(schedules, holds), { numRuns: 150 }))
})

t.test('the same seed and schedule give the same run', async (t) => {
  const run = async (schedule: Schedule) => {
    const bed = makeBed(schedule)
    await withBed(bed, () => play(bed, schedule))
    return JSON.stringify(bed.events)
  }
  const same = async (schedule: Schedule) => {
    const first = await run(schedule)
    return first === (await run(schedule))
  }
  await t.resolves(fc.assert(fc.asyncProperty(schedules, same), { numRuns: 30 }))
})

/** Knows which of its timers are left. */
class CountingClock extends SimulatedClock {
  readonly left = new Set<symbol>()

  override after(delayMs: number, fn: () => void): () => void {
    const timer = Symbol()
    this.left.add(timer)
    const cancel = super.after(delayMs, () => {
      this.left.delete(timer)
      fn()
    })
    return () => {
      this.left.delete(timer)
      cancel()
    }
  }
}

t.test('nothing is left behind when it is stopped', async (t) => {
  const nothing = async (schedule: Schedule) => {
    const clock = new CountingClock(START)
    const bed = makeBed(schedule, { clock })
    await withBed(bed, async () => {
      await play(bed, schedule)
      bed.mayastor.setReplicaCount('v1', 3)
      if (clock.left.size === 0) throw new Error('it has timers while it runs')
    })
    return clock.left.size === 0
  }
  await t.resolves(fc.assert(fc.asyncProperty(schedules, nothing), { numRuns: 30 }))
})
