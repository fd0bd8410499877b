import t from 'tap'
import type { PoolCordon } from '../../src/api/mayastor.js'
import { type LeaseStore, memoryLeases } from '../../src/clients/leases.js'
import { type MayastorClient, MayastorError } from '../../src/clients/mayastor.js'
import type { Clock } from '../../src/clock.js'
import { type Assignment, act } from '../../src/step/act.js'
import { decodeFence, decodeJournal, encode, type Fence, type Journal, journalName } from '../../src/step/journal.js'
import type { View } from '../../src/step/preconditions.js'
import { sightings } from '../../src/step/sightings.js'
import { cordoned, journal, migration, NOW, replica, VOLUME, view } from './builders.js'

/** The shell against Leases in memory and a Mayastor that does what it is told at once. */

const others = ['sata-3', 'sata-4', 'nvme-4']
const fenced: Fence = {
  volume: VOLUME,
  openedAt: NOW,
  intent: { pools: others.map((pool) => ({ pool, otherBits: '' })) },
}
const grown = [replica('a', 'sata-1'), replica('b', 'sata-2'), replica('new', 'nvme-3')]
const shrinking = journal({ phase: 'ScalingDown', victim: 'a', move: { ...journal().move, added: 'new' } })

interface Setup {
  /** `away`: cannot be reached. */
  readonly mayastor?: 'away'
  readonly view?: View
  readonly journal?: Journal
  readonly fence?: Fence
  readonly refuses?: (call: string) => boolean
}

async function bed(setup: Setup = {}) {
  const world = { pools: new Map(setup.view?.pools ?? view().pools), ...{ readMs: 0, elapsedMs: 0 } }
  const base = setup.view ?? view()
  const sent: string[] = []
  const clock: Clock = { now: () => NOW + world.elapsedMs, monotonic: () => world.elapsedMs, after: () => () => {} }
  const call = async (what: string, sendBefore: number) => {
    if (world.elapsedMs > sendBefore) throw new MayastorError(what, { failure: 'unsent' })
    sent.push(what)
    if (setup.refuses?.(what)) throw new MayastorError(what, { failure: 'refused', status: 409, kind: 'Conflict' })
  }
  const cordon = (id: string, replicas: boolean) => {
    const found = world.pools.get(id)
    if (found !== undefined) world.pools.set(id, { ...found, cordon: { ...found.cordon, replicas } as PoolCordon })
  }
  const mayastor: MayastorClient = {
    volume: async () => {
      world.elapsedMs += world.readMs
      if (setup.mayastor === 'away') throw new MayastorError('away', { failure: 'unsent' })
      return base.volume
    },
    volumes: async () => (base.volume === undefined ? [] : [base.volume]),
    pools: async () => [...world.pools.values()],
    nodes: async () => [...base.nodes.values()],
    capabilities: async () => base.capabilities,
    setReplicaCount: (_, count, by) => call(`setReplicaCount ${count}`, by),
    cordonPool: (pool, by) => call(`cordonPool ${pool}`, by).then(() => cordon(pool, true)),
    uncordonPool: (pool, by) => call(`uncordonPool ${pool}`, by).then(() => cordon(pool, false)),
    cordonNode: (node, _, by) => call(`cordonNode ${node}`, by),
    uncordonNode: (node, _, by) => call(`uncordonNode ${node}`, by),
    close: async () => {},
  }
  const leases = memoryLeases()
  const stored = { holder: 'test', renewedAt: NOW }
  await leases.create({ ...stored, name: journalName(VOLUME), data: encode(setup.journal ?? journal()) })
  await leases.create({ ...stored, name: 'fence', data: encode(setup.fence ?? fenced) })
  const assignment: Assignment = {
    volumeID: VOLUME,
    migration,
    known: false,
    finalizing: false,
    release: undefined,
    bracketOnly: false,
    abandoned: false,
    topology: 'x',
    policy: 'default',
    preservationMode: false,
    dryRun: false,
    clusterLimit: 2,
    totals: { succeeded: 0, failed: 0, aborted: 0 },
  }
  const known = sightings(clock)
  const nothing = () => {}
  const observer = {
    sent: nothing,
    ended: nothing,
    fenceAwaited: nothing,
    fenceTaken: nothing,
    fenceReleased: nothing,
  }
  const drive = (changes: Partial<Assignment> = {}, store: LeaseStore = leases) =>
    act(
      { mayastor, leases: store, clock, identity: 'test', sightings: known, observer },
      { ...assignment, ...changes },
      7_500,
      new AbortController().signal,
    )
  return {
    world,
    sent,
    leases,
    drive,
    cordonedPools: () => [...world.pools.values()].filter((pool) => pool.cordon.replicas).map((pool) => pool.id),
    journal: async () => decodeJournal((await leases.get(journalName(VOLUME)))?.data ?? ''),
    fence: async () => decodeFence((await leases.get('fence'))?.data ?? ''),
    /** Drives for `seconds`, as often as each answer asks for. */
    driveFor: async (seconds: number) => {
      for (const end = world.elapsedMs + seconds * 1000; world.elapsedMs < end; ) {
        world.elapsedMs += ((await drive()).seconds ?? 300) * 1000
      }
    },
  }
}

t.test('a release of the fence and the announcement of a cordon: one of them loses', async (t) => {
  for (const [name, changes] of [
    ['the loop closes the bracket', { bracketOnly: true, migration: undefined }],
    ['the migration is withdrawn', { migration: undefined }],
  ] as const) {
    const b = await bed()
    let resume = () => {}
    const paused = new Promise<void>((resolve) => {
      resume = resolve
    })
    let first = true
    const slow: LeaseStore = {
      ...b.leases,
      replace: async (lease, version) => {
        if (first && lease.name !== 'fence') {
          first = false
          await paused
        }
        return b.leases.replace(lease, version)
      },
    }
    const late = b.drive({}, slow)
    await new Promise((resolve) => setTimeout(resolve, 5))
    await b.drive(changes)
    resume()
    await late
    const recorded = (await b.fence()).intent?.pools.map(({ pool }) => pool) ?? []
    const forgotten = b.cordonedPools().filter((pool) => !recorded.includes(pool))
    t.strictSame(forgotten, [], `${name}: whatever is cordoned is written down`)
  }
})

t.test('a refused cordon ends the move instead of being asked for again and again', async (t) => {
  const b = await bed({
    journal: journal({ cordoned: ['sata-3'] }),
    view: view({ pools: [cordoned('sata-3')] }),
    refuses: (call) => call.startsWith('cordonPool'),
  })
  await b.driveFor(60)
  t.strictSame(b.sent, ['cordonPool sata-4', 'uncordonPool sata-3'])
  t.match(await b.journal(), { phase: 'Ended', end: { phase: 'Aborted', reason: 'GrowRefused' } })
  t.strictSame(await b.fence(), {})
})

t.test('a refused removal is asked for once a minute', async (t) => {
  const b = await bed({
    journal: shrinking,
    fence: {},
    view: view({ volume: { replicas: grown } }),
    refuses: (call) => call.startsWith('cordonNode') || call.startsWith('setReplicaCount'),
  })
  await b.driveFor(300)
  t.ok(b.sent.length <= 6, `${b.sent}`)
})

t.test('what was not sent because the reads took too long is not waited for', async (t) => {
  const b = await bed({ view: view({ pools: others.map(cordoned) }) })
  b.world.readMs = 5_200
  await b.drive()
  t.strictSame(b.sent, [])
  t.equal((await b.journal()).call, undefined)
  b.world.readMs = 0
  await b.drive()
  t.strictSame(b.sent, ['setReplicaCount 3'])
})

t.test('a pair of preservation mode is known to be wanted as long as somebody asks', async (t) => {
  const pair = journal({ phase: 'Preserved', move: { ...journal().move, added: 'new' } })
  const b = await bed({ journal: pair, fence: {}, view: view({ volume: { replicas: grown } }) })
  b.world.elapsedMs = 300_000
  t.equal((await b.drive({ preservationMode: true, migration: undefined })).seconds, undefined)
  t.equal((await b.leases.get(journalName(VOLUME)))?.renewedAt, NOW + 300_000)
  t.equal((await b.journal()).phase, 'Preserved')
})

t.test('that a pair is kept no longer is written down, though Mayastor is away', async (t) => {
  const pair = journal({ phase: 'Preserved', move: { ...journal().move, added: 'new' } })
  const b = await bed({ journal: pair, fence: {}, mayastor: 'away' })
  await t.rejects(b.drive({ preservationMode: true, finalizing: true, migration: undefined }), MayastorError)
  t.match(await b.journal(), { phase: 'WaitingSync', pairOver: true })
})

t.test('a pool that was uncordoned is not uncordoned again', async (t) => {
  const move = { ...journal().move, added: 'new' }
  const b = await bed({
    journal: journal({ phase: 'WaitingSync', move, cordoned: others }),
    view: view({ volume: { replicas: grown }, pools: others.map(cordoned) }),
    // Somebody cordons the first for themselves while the second is uncordoned.
    refuses: (call) => {
      const first = b.world.pools.get('sata-3')
      if (call === 'uncordonPool sata-4' && first !== undefined) b.world.pools.set('sata-3', cordoned('sata-3'))
      return false
    },
  })
  await b.driveFor(5)
  t.strictSame(
    b.sent.filter((call) => call.includes('Pool')),
    ['uncordonPool sata-3', 'uncordonPool sata-4', 'uncordonPool nvme-4'],
  )
  t.strictSame(b.cordonedPools(), ['sata-3'])
  t.strictSame(await b.fence(), {})
})
