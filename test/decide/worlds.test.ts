import fc from 'fast-check'
import t from 'tap'
import type { KubernetesObject } from '../../src/api/kubernetes.js'
import { TOPOLOGY_KEY } from '../../src/api/names.js'
import type { Migration, ReplicaTopologySpec, ReplicaTopologyStatus } from '../../src/api/replica-topology.js'
import type { StoragePolicySpec } from '../../src/api/storage-policy.js'
import { runPolicyHook } from '../../src/decide/hook.js'
import type { Signal } from '../../src/decide/iops.js'
import {
  ago,
  claim,
  ended,
  fakePrometheus,
  GIB,
  HOUR,
  MINUTE,
  migration,
  migrationStatus,
  NOW_MS,
  OPTIONS,
  POOL_KEY,
  type PoolSetup,
  policyRequest,
  pool,
  pvName,
  replica,
  reversedKeys,
  SECOND,
  type VolumeSetup,
} from '../builders.js'
import { type Answer, applied, ask, type RunSetup } from './run.js'

/** Random worlds: up to five nodes, eight volumes, everything that may be odd about one. */

type Iops = number | Partial<Record<Signal, number>>

interface RandomPool extends PoolSetup {
  readonly name: string
}

const nodes = [1, 2, 3, 4, 5]

const pools: fc.Arbitrary<RandomPool[]> = fc
  .record({
    count: fc.integer({ min: 2, max: 5 }),
    zones: fc.option(fc.array(fc.constantFrom('x', 'y', undefined), { minLength: 5, maxLength: 5 })),
    each: fc.array(
      fc.record({
        there: fc.boolean().map((no) => !no),
        /** Far from the limit on either side, so that usage may vary by a tenth. */
        used: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 100, max: 600 }) }, fc.constant(990)),
        state: fc.constantFrom('Online', 'Online', 'Online', 'Degraded', 'Unknown'),
        both: fc.integer({ max: 9, min: 0 }).map((n) => n === 0),
      }),
      { minLength: 10, maxLength: 10 },
    ),
  })
  .map(({ count, zones, each }) =>
    nodes.slice(0, count).flatMap((number, index) =>
      (['nvme', 'sata'] as const).flatMap((tier, side): RandomPool[] => {
        const { there = false, used, state, both } = each[2 * index + side] ?? {}
        const zone = zones?.[index]
        if (!there && number > 2) return []
        return [
          {
            name: `${tier}-${number}`,
            ...(used === undefined ? {} : { used }),
            ...(zone === undefined ? {} : { zone }),
            status: { pool_status: state },
            ...(both ? { labels: { tier: tier === 'nvme' ? 'sata' : 'nvme' } } : {}),
          },
        ]
      }),
    ),
  )

const wanted: fc.Arbitrary<Iops> = fc.oneof(
  { weight: 4, arbitrary: fc.double({ min: 5000.01, max: 99_999, noNaN: true }) },
  { weight: 4, arbitrary: fc.double({ min: 0, max: 499.99, noNaN: true }) },
  { weight: 2, arbitrary: fc.double({ min: 500, max: 5000, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom<Iops>({}, { readRate: 3 }) },
)

const phases = ['Analyzing', 'ScalingUp', 'WaitingSync', 'ScalingDown', 'Held'] as const
const ends = ['Completed', 'Aborted', 'Failed'] as const

type History = (id: string) => { spec?: Partial<ReplicaTopologySpec>; status?: Partial<ReplicaTopologyStatus> }

const pastOrRunning: fc.Arbitrary<History> = fc.oneof(
  { weight: 12, arbitrary: fc.constant<History>(() => ({})) },
  {
    weight: 2,
    arbitrary: fc
      .record({
        phase: fc.constantFrom(...phases),
        direction: fc.constantFrom('Promote', 'Demote'),
        spec: fc.boolean(),
      })
      .map(
        ({ phase, direction, spec }): History =>
          (id) => ({
            ...(spec ? { spec: { migration: migration(id, { direction }) } } : {}),
            status: { migration: migrationStatus(id, { phase, direction, started: phase !== 'Analyzing' }) },
          }),
      ),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({
        phase: fc.constantFrom(...ends),
        reason: fc.constantFrom('AllReplicasMoved', 'NoProgress', 'GrowRefused', 'NoSlot'),
        started: fc.boolean(),
        minutes: fc.integer({ min: 0, max: 60 * 30 }),
        attempts: fc.integer({ min: 0, max: 5 }),
        spec: fc.boolean(),
      })
      .map(
        ({ minutes, spec, ...extra }): History =>
          (id) => ({
            ...(spec ? { spec: { migration: migration(id) } } : {}),
            status: { migration: ended(id, minutes * MINUTE, extra) },
          }),
      ),
  },
)

const pv: fc.Arbitrary<{ readonly pv?: Exclude<VolumeSetup['pv'], undefined>; readonly remade?: true }> = fc.oneof(
  { weight: 30, arbitrary: fc.constant({}) },
  fc.constant({ pv: null }),
  fc.constant({ pv: { spec: { storageClassName: 'other' } } }),
  fc.constant({ pv: { spec: { csi: { driver: 'other', volumeHandle: 'x' } } } }),
  fc.constant({ pv: { spec: { csi: { driver: 'io.openebs.csi-mayastor' } } } }),
  fc.constant({ pv: { meta: { creationTimestamp: ago(MINUTE) } } }),
  fc.constant({
    pv: { spec: { csi: { driver: 'io.openebs.csi-mayastor', volumeHandle: 'anew' } } },
    remade: true as const,
  }),
)

const volume = fc.record({
  iops: wanted,
  places: fc.uniqueArray(fc.constantFrom(...nodes), { minLength: 1, maxLength: 3 }),
  tiers: fc.array(fc.constantFrom('nvme', 'sata'), { minLength: 3, maxLength: 3 }),
  zones: fc.boolean(),
  size: fc.integer({ min: 1, max: 10 }),
  thin: fc.boolean(),
  past: pastOrRunning,
  pv,
  child: fc.constantFrom(
    'there',
    'there',
    'there',
    'there',
    'there',
    'there',
    'there',
    'none',
    'unseen',
    'deleting',
    'gone',
  ),
  published: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
  refused: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  missingFor: fc.option(fc.constantFrom(0, 30 * SECOND, 59 * SECOND, 60 * SECOND, HOUR)),
})

interface World {
  readonly setup: RunSetup
  readonly iops: Readonly<Record<string, Iops>>
  readonly remade: ReadonlySet<string>
}

const worlds: fc.Arbitrary<World> = fc
  .record({
    pools,
    noPools: fc.integer({ min: 0, max: 19 }).map((n) => n === 0),
    volumes: fc.array(volume, { maxLength: 8 }),
    limit: fc.integer({ min: 1, max: 4 }),
    clusterLimit: fc.integer({ min: 1, max: 4 }),
    enabled: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
    dryRun: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    maxUnknownPercent: fc.constantFrom(0, 20, 100, 100, 100, 100),
    single: fc.constantFrom('Move', 'Move', 'Hold'),
    held: fc.integer({ min: 0, max: 20 }),
    failing: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  })
  .map((random): World => {
    const all = random.volumes.map((one, index): VolumeSetup => {
      const id = `v${index}`
      const { spec = {}, status = {} } = one.past(id)
      const zoneOf = new Map(random.pools.map(({ name, zone }) => [name.slice(-1), zone]))
      const replicas = one.places.map((number, place) => {
        const zone = one.zones ? zoneOf.get(String(number)) : undefined
        return replica(id, `${one.tiers[place]}-${number}`, zone === undefined ? {} : { zone })
      })
      const gone = one.child === 'gone'
      const since = one.missingFor === null ? {} : { missingSince: ago(one.missingFor) }
      return {
        id,
        replicas: gone ? [] : replicas,
        ...('pv' in one.pv ? { pv: one.pv.pv } : {}),
        child:
          one.child === 'none' && one.pv.pv !== null
            ? null
            : {
                meta: one.child === 'deleting' ? { deletionTimestamp: ago(MINUTE) } : {},
                spec: { ...spec, ...since },
                status:
                  one.child === 'unseen'
                    ? null
                    : { ...status, refusals: one.refused ? [{ reason: 'Snapshots', message: 'has snapshots' }] : [] },
                volume: {
                  sizeBytes: one.size * GIB,
                  thin: one.thin,
                  published: one.published && !gone,
                  ...(gone ? { state: 'Gone' } : {}),
                },
              },
      }
    })
    return {
      setup: {
        policy: {
          spec: {
            maxConcurrentMigrations: random.limit,
            enabled: random.enabled,
            dryRun: random.dryRun,
            maxUnknownPercent: random.maxUnknownPercent,
            singleReplicaVolumes: random.single,
          },
        },
        options: { maxConcurrentMigrations: random.clusterLimit },
        volumes: all,
        pools: random.noPools ? null : random.pools.map(({ name, ...setup }) => pool(name, setup)),
        claims: [claim('apps', `claim-v${random.held}`, 'true')],
        ...(random.failing
          ? { failures: { readRate: { kind: 'failed' as const, message: 'Prometheus is away.' } } }
          : {}),
      },
      iops: Object.fromEntries(random.volumes.map(({ iops }, index) => [pvName(`v${index}`), iops])),
      remade: new Set(random.volumes.flatMap((one, index) => (one.pv.remade ? [pvName(`v${index}`)] : []))),
    }
  })

const decideOn = ({ setup, iops }: World) => ask(policyRequest(setup), iops, setup)
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, entry) =>
    typeof entry === 'object' && entry !== null && !Array.isArray(entry)
      ? Object.fromEntries(Object.entries(entry).sort(([a], [b]) => (a < b ? -1 : 1)))
      : entry,
  )
const fail = (message: string): never => {
  throw new Error(message)
}

type Observed = KubernetesObject & {
  readonly spec: ReplicaTopologySpec
  readonly status?: ReplicaTopologyStatus
}
const observedIn = ({ request }: Answer) =>
  Object.entries((request.children[TOPOLOGY_KEY] ?? {}) as unknown as Record<string, Observed>)

const hasEnded = (status: ReplicaTopologyStatus | undefined, id: string | undefined) =>
  status?.migration?.id === id && (ends as readonly string[]).includes(status?.migration?.phase ?? '')

/** Migrations in the answer that were not in the request. */
function started(answer: Answer): { name: string; observed: Observed; migration: Migration }[] {
  return observedIn(answer).flatMap(([name, observed]) => {
    const migration = answer.children.get(name)?.migration
    const before = observed.spec.migration
    return migration === undefined || migration.id === before?.id ? [] : [{ name, observed, migration }]
  })
}

t.test('random worlds', async (t) => {
  const seen = { started: 0, repeated: 0, dropped: 0, withdrawn: 0 }

  const check = async (world: World) => {
    const answer = await decideOn(world)
    const { request } = answer
    const { spec: policySpec } = request.parent as unknown as { spec: StoragePolicySpec }
    const stopped = policySpec.enabled === false || policySpec.dryRun === true
    const pvs = request.related['PersistentVolume.v1'] ?? {}

    for (const [name, { spec, status }] of observedIn(answer)) {
      const found = answer.children.get(name)
      const pv = pvs[name]?.spec as { storageClassName?: string; csi?: Record<string, string> } | undefined
      if (found === undefined) {
        seen.dropped++
        const outside =
          pv !== undefined && (pv.storageClassName !== 'mayastor' || pv.csi?.['driver'] !== 'io.openebs.csi-mayastor')
        const remade = pv?.csi?.['volumeHandle'] !== undefined && pv.csi['volumeHandle'] !== spec.volumeID
        const long = spec.missingSince !== undefined && Date.parse(spec.missingSince) <= NOW_MS - MINUTE
        const gone = status?.volume?.state === 'Gone'
        if (!outside && !remade && !(pv === undefined && (gone || long))) fail(`${name} was dropped`)
        continue
      }
      const running = spec.migration !== undefined && !hasEnded(status, spec.migration.id)
      const decided = pv?.csi?.['volumeHandle'] !== undefined
      if (running && (!stopped || !decided)) {
        seen.repeated++
        if (canonical(found.migration) !== canonical(spec.migration)) fail(`${name} was not repeated`)
      }
      if (running && stopped && decided) {
        seen.withdrawn++
        if (found.migration !== undefined) fail(`${name} was not withdrawn`)
      }
      if (!running && found.migration?.id === spec.migration?.id && found.migration)
        fail(`${name} asks for what has ended`)
    }

    const begun = started(answer)
    seen.started += begun.length
    const inUse = observedIn(answer).filter(([name, { spec, status }]) => {
      if (!answer.children.has(name) && pvs[name] !== undefined) return false
      const wanted = spec.migration !== undefined && !hasEnded(status, spec.migration.id)
      const last = status?.migration
      const ending = last?.started === true && !(ends as readonly string[]).includes(last.phase)
      return (wanted && !stopped ? true : ending || wanted) && last?.phase !== 'Held'
    })
    const limit = Math.min(policySpec.maxConcurrentMigrations, world.setup.options?.maxConcurrentMigrations ?? 0)
    if (begun.length > Math.max(0, limit - inUse.length))
      fail(`${begun.length} started, ${inUse.length} run, ${limit} may`)
    if (begun.length > 0 && (stopped || world.setup.failures !== undefined)) fail('something started that must not')

    const poolOf = new Map(Object.values(request.related[POOL_KEY] ?? {}).map((entry) => [entry.metadata?.name, entry]))
    const room = new Map<string, number>()
    for (const { name, observed, migration } of begun) {
      const iops = world.iops[name]
      if (typeof iops !== 'number') return fail(`${name} started with unknown IOPS`)
      const tier = migration.direction === 'Promote' ? 'nvme' : 'sata'
      const known = observed.status?.migration
      if (iops <= 5000 && iops >= 500 && !(known?.started && known.phase !== 'Completed')) fail(`${name} is in between`)
      if (iops > 5000 && tier !== 'nvme') fail(`${name} is hot and was demoted`)
      if (iops < 500 && tier !== 'sata') fail(`${name} is idle and was promoted`)
      if (observed.metadata?.deletionTimestamp !== undefined) fail(`${name} is being deleted`)
      if (!observed.status?.volume?.published) fail(`${name} is not published`)
      if ((observed.status?.refusals ?? []).length > 0) fail(`${name} was refused by stepping`)
      if (known?.started && (known.endedAt === undefined || Date.parse(known.endedAt) > NOW_MS - 24 * HOUR)) {
        fail(`${name} is in its cooldown, or still moving`)
      }
      let nodes = (observed.status?.replicas ?? []).map(({ replica, node }) => ({ replica, node }))
      for (const { replica, sourcePool, targetPool } of migration.replicas) {
        const source = poolOf.get(sourcePool)
        const target = poolOf.get(targetPool)
        const labels = [
          target?.metadata?.labels?.['tier'],
          (target?.spec as never as PoolSpec)?.topology.labelled['tier'],
        ]
        if (target?.status?.['pool_status'] !== 'Online') fail(`${targetPool} is not usable`)
        if (labels.some((label) => label !== undefined && label !== tier)) fail(`${targetPool} is not ${tier}`)
        if (source === undefined || sourcePool.startsWith(tier)) fail(`${sourcePool} is on the wanted tier`)
        const node = target?.spec?.['node'] as string
        if (nodes.some((other) => other.node === node)) fail(`${targetPool} is on a node with a replica`)
        nodes = [...nodes.filter((other) => other.replica !== replica), { replica: `${replica}'`, node }]
        room.set(
          targetPool,
          (room.get(targetPool) ?? 0) +
            (observed.status?.volume?.thin ? 0 : 1) * (observed.status?.volume?.sizeBytes ?? 0),
        )
      }
      if (migration.candidatePools.some((candidate) => !poolOf.has(candidate))) fail('a candidate nobody knows')
      if (migration.id !== `${observed.spec.volumeID}-${known === undefined ? 1 : 2}`) fail(`id ${migration.id}`)
    }
    for (const [name, bytes] of room) {
      const { available, capacity } = (poolOf.get(name)?.status ?? {}) as { available: number; capacity: number }
      if (!(available - bytes >= 0.1 * capacity)) fail(`${name} would lose its reserve`)
    }
    // Nobody waits for a slot while there is one.
    const waits = [...answer.children.values()].some(({ decision }) => decision.reason === 'WaitingForSlot')
    if (waits && begun.length + inUse.length < limit) fail('somebody waits for a slot that is free')
  }
  await t.resolves(fc.assert(fc.asyncProperty(worlds, check), { numRuns: 800 }), 'every rule holds')
  t.comment(seen)
  for (const [what, count] of Object.entries(seen)) t.ok(count > 10, `${what}: seen ${count} times`)
})

interface PoolSpec {
  readonly topology: { readonly labelled: Readonly<Record<string, string>> }
}

t.test('neither the order of keys nor asking again changes the answer', async (t) => {
  const check = async (world: World) => {
    const { setup } = world
    const first = await decideOn(world)
    const again = await decideOn(world)
    if (again.bytes !== first.bytes) fail('other bytes for the same request')
    const iops = Object.fromEntries(Object.entries(world.iops).reverse())
    const reversed = await ask(reversedKeys(first.request), iops, setup)
    if (canonical(reversed.response) !== canonical(first.response)) fail('depends on the order of keys')
    if (canonical(reversed.summary.changes) !== canonical(first.summary.changes)) fail('summary depends on it')

    const second = await ask(applied(first), world.iops, setup)
    for (const [name, spec] of second.children) {
      const before = first.children.get(name)
      if (before === undefined && world.remade.has(name)) continue
      if (canonical(spec) !== canonical(before)) fail(`${name} changed from ${canonical(before)} to ${canonical(spec)}`)
    }
    if ([...first.children.keys()].some((name) => !second.children.has(name))) fail('children went')
    const third = await ask(applied(second), world.iops, setup)
    const fourth = await ask(applied(third), world.iops, setup)
    if (fourth.bytes !== third.bytes) fail('no fixpoint')
    if (world.remade.size === 0 && third.bytes !== second.bytes) fail('no fixpoint after the first answer was applied')
  }
  await t.resolves(fc.assert(fc.asyncProperty(worlds, check), { numRuns: 150 }))
})

t.test('what is measured changes no byte while nothing crosses a limit', async (t) => {
  const noise = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 20, maxLength: 20 })
  /** Another value on the same side of both watermarks. */
  const within = (iops: Iops, at: number): Iops => {
    if (typeof iops !== 'number') return iops
    if (iops > 5000) return 5000.01 + at * 1e6
    return iops < 500 ? at * 499.99 : 500 + at * 4500
  }
  const check = async ([world, random]: [World, number[]]) => {
    // Settled: whoever may start has started.
    const settled = await ask(applied(await decideOn(world)), world.iops, world.setup)
    const calm = await ask(applied(settled), world.iops, world.setup)
    const pools = Object.entries(calm.request.related[POOL_KEY] ?? {}).map(([name, pool], index): [string, object] => {
      const { used, capacity } = pool.status as unknown as { used: number; capacity: number }
      const at = random[index] ?? 0
      const now = used > 0.9 * capacity ? used * (0.95 + 0.05 * at) : used * (0.9 + 0.2 * at)
      return [name, { ...pool, status: { ...pool.status, used: now, available: capacity - now } }]
    })
    const related = {
      ...calm.request.related,
      ...(world.setup.pools === null ? {} : { [POOL_KEY]: Object.fromEntries(pools) }),
    }
    const iops = Object.fromEntries(
      Object.entries(world.iops).map(([name, value], index) => [name, within(value, random[19 - index] ?? 0)]),
    )
    const moved = await ask({ ...calm.request, related } as typeof calm.request, iops, world.setup)
    if (moved.bytes !== calm.bytes) fail(`from ${calm.bytes} to ${moved.bytes}`)
  }
  await t.resolves(fc.assert(fc.asyncProperty(fc.tuple(worlds, noise), check), { numRuns: 150 }))
})

t.test('ten thousand volumes that all want to move are decided in time', async (t) => {
  const many = Array.from({ length: 100 }, (_, n) => [pool(`nvme-${n}`, { used: 100 + n }), pool(`sata-${n}`)]).flat()
  const volumes = Array.from({ length: 10_000 }, (_, n): VolumeSetup => {
    const at = n % 97
    return { id: `v${n}`, replicas: [`sata-${at}`, `sata-${at + 1}`, `sata-${at + 2}`] }
  })
  const prometheus = fakePrometheus(Object.fromEntries(volumes.map(({ id }, n) => [pvName(id), 5001 + n])))
  const request = policyRequest({ volumes, pools: many, policy: { spec: { maxConcurrentMigrations: 100 } } })
  const options = { ...OPTIONS, maxConcurrentMigrations: 100 }
  const begin = process.hrtime.bigint()
  const { response } = await runPolicyHook('sync', request, { prometheus, now: NOW_MS, options })
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9
  t.comment(`${seconds.toFixed(2)} s`)
  t.equal(response.children.length, 10_000)
  t.ok(seconds < 20, 'volumes times pools, no worse')
})
