import t, { type Test } from 'tap'
import { ABANDON_ANNOTATION, API_VERSION, RELEASE_ANNOTATION, RESUME_ANNOTATION } from '../../src/api/names.js'
import type { ReplicaTopologySpec, ReplicaTopologyStatus } from '../../src/api/replica-topology.js'
import type { StoragePolicySpec, StoragePolicyStatus } from '../../src/api/storage-policy.js'
import { LeaseError } from '../../src/clients/leases.js'
import { Checker } from '../../src/embedded/checker.js'
import { type ClusterOptions, EmbeddedCluster, GIB, type VolumeOptions } from '../../src/embedded/cluster.js'
import type { Outage } from '../../src/embedded/prometheus/server.js'

/** The whole loop: the real hook server between the stand-ins, on simulated time, where it says so over HTTP. */

t.setTimeout(280_000)
const MINUTE = 60_000
const HISTORY = 15 * MINUTE
const policy: Partial<StoragePolicySpec> = { samplingWindow: '10m', cooldownPeriod: '2h' }
const hot = () => ({ read: 5000, write: 3000 })
const cold = () => ({ read: 10, write: 5 })

interface Topology {
  readonly metadata: { readonly name: string }
  readonly spec: ReplicaTopologySpec
  readonly status: ReplicaTopologyStatus
}
interface Policy {
  readonly metadata: { readonly uid: string }
  readonly status: StoragePolicyStatus
}
interface Event {
  readonly involvedObject: {
    readonly kind: string
    readonly namespace?: string
    readonly name: string
    readonly uid?: string
  }
  readonly type: string
  readonly reason: string
  readonly message: string
}

const uuid = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`

/** `nodes` nodes in three zones with a pool of each tier; a checker watches from the beginning. */
async function world(
  t: Test,
  options: ClusterOptions & { readonly nodes?: number; readonly maxMoving?: number; readonly cooldownMs?: number } = {},
) {
  const { nodes = 6, maxMoving = 2, cooldownMs = 2 * 60 * MINUTE, ...cluster } = options
  const c = new EmbeddedCluster({ network: 'memory', ...cluster })
  for (let i = 1; i <= nodes; i++) {
    c.addNode(`node-${i}`, { 'topology.kubernetes.io/zone': `zone-${i % 3}` })
    c.addPool({ name: `nvme-${i}`, node: `node-${i}`, capacityBytes: 200 * GIB, labels: { tier: 'nvme' } })
    c.addPool({ name: `sata-${i}`, node: `node-${i}`, capacityBytes: 400 * GIB, labels: { tier: 'sata' } })
  }
  const tierOf = (pool: string) => pool.split('-')[0]
  const checker = new Checker(c.mayastor, { maxMoving, cooldownMs, tierOf })
  t.teardown(() => c.stop())
  return {
    c,
    checker,
    addVolume: (index: number, volume: Partial<VolumeOptions> & Pick<VolumeOptions, 'pools' | 'load'>) =>
      c.addVolume({ uuid: uuid(index), sizeBytes: 10 * GIB, storageClass: 'mayastor', ...volume }),
    topology: (index: number) =>
      c.store.get<Topology>({ apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${uuid(index)}` }),
    topologies: () => c.store.list(API_VERSION, 'ReplicaTopology') as unknown as Topology[],
    policy: (name = 'default') => c.store.get<Policy>({ apiVersion: API_VERSION, kind: 'StoragePolicy', name }),
    events: () => c.store.list('v1', 'Event') as unknown as Event[],
    poolsOf: (index: number) =>
      [...(c.mayastor.truth.volumes.get(uuid(index))?.replicas ?? [])].map((replica) => replica.pool.id).sort(),
    phaseOf: (index: number) =>
      c.store.get<Topology>({ apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${uuid(index)}` })?.status
        ?.migration?.phase,
    begin: async () => {
      await c.start(HISTORY)
      c.startMetacontroller()
    },
    safe: (t: Test) => {
      t.strictSame(checker.violations, [], 'no rule was broken')
      t.strictSame(c.metacontroller.violations, [], "Metacontroller's contract was kept")
    },
  }
}

type World = Awaited<ReturnType<typeof world>>

/** Writes so far: Metacontroller's, Events, and those to Mayastor. */
const writes = ({ c }: World) =>
  c.store.writes.filter(({ by }) => by.startsWith('metacontroller') || by === 'smart-storage-operator').length +
  c.mayastor.writes.length

/** One hot volume of two replicas on SATA, with a migration that is being rebuilt. */
async function rebuilding(t: Test, options: ClusterOptions = {}) {
  const w = await world(t, { mayastor: { rebuildBytesPerSecond: GIB / 64 }, ...options })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', policy)
  await w.begin()
  await w.c.run(10 * MINUTE, () => w.phaseOf(1) === 'WaitingSync')
  t.equal(w.phaseOf(1), 'WaitingSync', 'a replica is being rebuilt')
  await w.c.run(MINUTE)
  return w
}

/** Nothing runs and nothing waits. */
const settled = (w: World) =>
  w.topologies().length > 0 &&
  w
    .topologies()
    .every(({ spec, status }) => spec.decision.reason === 'OnWantedTier' && status.tier === spec.decision.tier)

const edit = (w: World, spec: Record<string, unknown>, name = 'default') =>
  w.c.store.patch({ apiVersion: API_VERSION, kind: 'StoragePolicy', name }, { spec })

t.test('forty volumes, two policies, limits of 2: caps are kept and everything arrives', async (t) => {
  const w = await world(t, { nodes: 9 })
  for (let i = 1; i <= 40; i++) {
    const from = i % 2 === 0 ? 'nvme' : 'sata'
    const pools = Array.from({ length: 1 + (i % 3) }, (_, k) => `${from}-${1 + ((i + k) % 9)}`)
    const storageClass = i % 5 < 2 ? 'fast' : 'mayastor'
    w.addVolume(i, { pools, storageClass, sizeBytes: 5 * GIB, load: i % 2 === 0 ? cold : hot })
  }
  w.c.addPolicy('default', policy)
  w.c.addPolicy('fast', { ...policy, storageClassName: 'fast' })
  await w.begin()
  await w.c.run(6 * 60 * MINUTE, () => {
    const list = w.topologies()
    return list.length === 40 && list.every(({ spec }) => spec.decision.reason === 'OnWantedTier')
  })
  for (let i = 1; i <= 40; i++) {
    const wanted = i % 2 === 0 ? 'sata' : 'nvme'
    t.ok(
      w.poolsOf(i).every((pool) => pool.startsWith(wanted)),
      `volume ${i} is on ${wanted}: ${w.poolsOf(i)}`,
    )
    t.equal(w.poolsOf(i).length, 1 + (i % 3), 'with as many replicas as before')
  }
  t.equal(w.checker.mostMoving, 2, 'the cluster’s limit was used, and never exceeded')
  t.match(w.policy()?.status.migrations, { active: 0, failed: 0, aborted: 0 })
  const metrics = await w.c.metrics.registry.metrics()
  const value = (series: string) => Number(new RegExp(`^storage_operator_${series} (.*)$`, 'm').exec(metrics)?.[1])
  // The odd volumes, which go up, have 39 replicas, the others 41; of each half of 5 GiB is allocated.
  t.equal(value('migration_bytes_total\\{direction="Promote"\\}'), 39 * 2.5 * GIB)
  t.equal(value('migration_bytes_total\\{direction="Demote"\\}'), 41 * 2.5 * GIB)
  t.equal(value('migration_duration_seconds_count\\{direction="Promote",status="success"\\}'), 20)
  t.equal(value('fence_held_seconds_count'), value('fence_wait_seconds_count'), 'every fence taken was released')
  t.ok(value('fence_held_seconds_count') >= 2 * 80, 'twice for every replica')
  t.ok(value('fence_wait_seconds_sum') > 0, 'with two at a time, one waits now and then')
  const told = w.events().map(({ reason, involvedObject: { kind } }) => `${reason} ${kind}`)
  for (const reason of ['MigrationStarted', 'MigrationCompleted']) {
    for (const kind of ['StoragePolicy', 'PersistentVolumeClaim']) {
      t.equal(told.filter((one) => one === `${reason} ${kind}`).length, 40, `${reason} once for each ${kind}`)
    }
  }
  t.equal(told.length, 160, 'and nothing else')
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test(
  'a settled cluster, its IOPS and pools fluctuating by a tenth inside their bands: nothing is written',
  async (t) => {
    const w = await world(t)
    const { c } = w
    /** Another tenth up or down at every scrape and every report of a pool. */
    const tenth = () => 1 + 0.1 * Math.sin(c.clock.now() / 7_000)
    const around =
      (read: number, write: number): VolumeOptions['load'] =>
      () => ({ read: read * tenth(), write: write * tenth() })
    w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: around(6000, 300) })
    w.addVolume(2, { pools: ['sata-3'], load: around(1000, 200) })
    w.addVolume(3, { pools: ['sata-4'], load: around(10, 5), heldByOwner: true })
    w.addVolume(4, { pools: ['nvme-5', 'nvme-6'], load: around(10, 5), snapshots: 1 })
    w.addVolume(5, { pools: ['nvme-5'], load: () => undefined })
    w.addVolume(6, { pools: ['nvme-5'], load: around(10, 5), published: false })
    c.addPolicy('default', policy)
    const pools = [...c.mayastor.truth.pools.values()] as { otherBytes: number }[]
    const fluctuate = () => {
      for (const pool of pools) pool.otherBytes = 100 * GIB * tenth()
      c.clock.after(10_000, fluctuate)
    }
    fluctuate()
    await w.begin()
    await c.run(30 * MINUTE)
    t.strictSame(
      w.poolsOf(1).map((pool) => pool.slice(0, 4)),
      ['nvme', 'nvme'],
    )
    const seen: string[] = []
    for (const operation of ['create', 'replace', 'remove'] as const) {
      const write = c.leases[operation] as (...given: never[]) => unknown
      Object.assign(c.leases, {
        [operation]: (...given: never[]) => {
          seen.push(`Lease ${operation}`)
          return write(...given)
        },
      })
    }
    const [kubernetes, mayastor, calls] = [
      c.store.writes.length,
      c.mayastor.writes.length,
      c.metacontroller.calls.length,
    ]
    await c.run(10 * MINUTE)
    for (const { by, verb, kind, name } of c.store.writes.slice(kubernetes)) seen.push(`${kind} ${name} ${verb} ${by}`)
    const ofMayastor = seen.filter((write) => write.startsWith('DiskPool '))
    t.ok(ofMayastor.length > 100, "pools did fluctuate, which Mayastor's own operator reports")
    t.ok(c.metacontroller.calls.length > calls + 15, `hooks were called ${c.metacontroller.calls.length - calls} times`)
    t.strictSame(
      seen.filter((write) => !ofMayastor.includes(write)),
      [],
      'no write to Kubernetes: no child, no status, no Event, no Lease',
    )
    t.equal(c.mayastor.writes.length, mayastor, 'and none to Mayastor')
    w.safe(t)
  },
)

t.test('the same request at the same time gives the same bytes and no write', async (t) => {
  const w = await world(t, { network: 'loopback' })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.addVolume(2, { pools: ['nvme-1'], load: cold })
  w.c.addPolicy('default', policy)
  await w.c.start(HISTORY)
  const requests = new Map<string, unknown>()
  w.c.startMetacontroller()
  w.c.metacontroller.onCall(({ controller, hook, request }) => requests.set(`${controller}/${hook}`, request))
  await w.c.run(40 * MINUTE)
  await w.c.metacontroller.stop()
  const before = writes(w)
  const send = async (path: string, request: unknown) => {
    const response = await fetch(`${w.c.hookUrl}/hooks/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
    })
    return { status: response.status, text: await response.text() }
  }
  for (const [path, request] of requests) {
    const first = await send(path, request)
    t.equal(first.status, 200, path)
    t.strictSame(await send(path, request), first)
    t.notMatch(first.text, /null|NaN/)
  }
  t.equal(writes(w), before)
})

const outages: [Outage, string][] = [
  ['down', 'PrometheusUnavailable'],
  ['503', 'PrometheusUnavailable'],
  ['empty', 'NoSeries'],
  ['nan', 'NotANumber'],
  ['half', 'NoSeries'],
  ['warning', 'PartialAnswer'],
]
for (const [outage, reason] of outages) {
  t.test(`Prometheus out of order: ${outage}`, async (t) => {
    const w = await world(t, { mayastor: { rebuildBytesPerSecond: GIB / 64 } })
    for (let i = 1; i <= 6; i++) {
      w.addVolume(i, { pools: [`nvme-${i}`], load: i < 4 ? cold : hot })
    }
    w.addVolume(7, { pools: ['sata-1', 'sata-2'], load: hot })
    w.c.addPolicy('default', { ...policy, maxConcurrentMigrations: 1 })
    await w.begin()
    await w.c.run(10 * MINUTE, () => w.phaseOf(7) === 'WaitingSync')
    t.equal(w.phaseOf(7), 'WaitingSync', 'the hottest one runs')
    w.c.prometheus.outage = outage
    await w.c.run(60 * MINUTE)
    t.equal(w.phaseOf(7), 'Completed', 'what runs goes on')
    t.strictSame(
      w.poolsOf(7).map((pool) => pool.slice(0, 4)),
      ['nvme', 'nvme'],
    )
    const moved = w.topologies().filter(({ status }) => status.migration !== undefined)
    t.equal(moved.length, 1, 'nothing new starts')
    const reasons = w.topologies().map(({ spec }) => spec.decision.reason)
    t.ok(reasons.includes(reason), `each volume says why: ${reasons}`)
    if (outage === 'half') t.ok(reasons.includes('MetricsIncomplete'), 'those that are known wait for the others')
    const conditions = w.policy()?.status.conditions ?? []
    t.match(
      conditions.find(({ type }) => type === 'MetricsAvailable'),
      { status: 'False', reason },
    )
    w.c.prometheus.outage = undefined
    await w.c.run(180 * MINUTE, () => [1, 2, 3].every((i) => w.poolsOf(i)[0]?.startsWith('sata')))
    t.match(
      w.policy()?.status.conditions.find(({ type }) => type === 'MetricsAvailable'),
      { status: 'True' },
    )
    for (const i of [1, 2, 3]) t.match(w.poolsOf(i), [/^sata/], 'and afterwards the rest moves')
    w.safe(t)
  })
}

t.test('a rebuild without progress is undone, and the old replica stays', async (t) => {
  const w = await world(t, { mayastor: { rebuildBytesPerSecond: 1 }, options: { migrationTimeoutMinutes: 5 } })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', policy)
  await w.begin()
  await w.c.run(20 * MINUTE)
  t.match(w.topology(1)?.status.migration, { phase: 'Aborted', reason: 'NoProgress', started: true })
  t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'])
  t.match(w.topology(1)?.spec.decision, { reason: 'Cooldown', tier: 'NVMe' })
  t.equal(w.policy()?.status.migrations.aborted, 1)
  const claim = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'default', name: `data-${uuid(1)}` }
  const { metadata } = w.c.store.get<{ metadata: { uid: string } }>(claim) ?? {}
  const ended = w.events().filter(({ reason }) => reason === 'MigrationAborted')
  t.match(
    ended.map(({ involvedObject }) => involvedObject).sort((a, b) => (a.kind < b.kind ? -1 : 1)),
    [
      { ...claim, uid: metadata?.uid },
      { kind: 'StoragePolicy', name: 'default', uid: w.policy()?.metadata.uid },
    ],
    'on both objects, with the uids that kubectl describe looks for',
  )
  t.match(ended[0], { type: 'Warning', message: /^migration \S+-1 of default\/data-\S+ to NVMe aborted: / })
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test(
  'Mayastor refuses everything while a ReplicaTopology is deleted: after an hour it is let go, and said so',
  async (t) => {
    const w = await rebuilding(t, { mayastor: { rebuildBytesPerSecond: 1024 } })
    w.c.mayastor.faults.onCall(() => ({ when: 'before', drop: true }))
    w.c.store.delete({ apiVersion: API_VERSION, kind: 'StoragePolicy', name: 'default' })
    await w.c.run(55 * MINUTE)
    t.equal(w.topologies().length, 1)
    t.strictSame(
      w.events().filter(({ reason }) => reason === 'LetGo'),
      [],
    )
    await w.c.run(10 * MINUTE)
    t.strictSame(w.topologies(), [])
    t.strictSame(
      w
        .events()
        .filter(({ reason }) => reason === 'LetGo')
        .map(({ involvedObject: { kind } }) => kind)
        .sort(),
      ['PersistentVolumeClaim', 'StoragePolicy'],
    )
    w.c.mayastor.faults.clear()
    await w.c.run(60 * MINUTE)
    t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'], 'and the loop cleans up when it can')
  },
)

const cancels: Record<string, (w: World) => void> = {
  'the policy is disabled': (w) => edit(w, { enabled: false }),
  'the policy goes to dry run': (w) => edit(w, { dryRun: true }),
  'the policy is deleted': (w) => w.c.store.delete({ apiVersion: API_VERSION, kind: 'StoragePolicy', name: 'default' }),
}
for (const [name, cancel] of Object.entries(cancels)) {
  t.test(`${name} while a replica is being rebuilt`, async (t) => {
    const w = await rebuilding(t)
    cancel(w)
    await w.c.run(15 * MINUTE)
    t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'], 'undone')
    if (name === 'the policy is deleted') {
      t.strictSame(w.c.store.list(API_VERSION, 'StoragePolicy'), [], 'the policy is gone')
      t.strictSame(w.topologies(), [], 'and its children')
    } else {
      t.match(w.topology(1)?.status.migration, { phase: 'Aborted', reason: 'Cancelled' })
    }
    w.checker.atRest(w.c.clock.now())
    w.safe(t)
  })

  t.test(`${name} when the replica is synced already`, async (t) => {
    const w = await rebuilding(t)
    await w.c.run(60 * MINUTE, () => w.topology(1)?.status.migration?.reason === 'ConfirmingSync')
    cancel(w)
    await w.c.run(15 * MINUTE)
    t.match(w.poolsOf(1), [/^nvme/, /^sata/], 'this replica is finished, the next one is not begun')
    w.checker.atRest(w.c.clock.now())
    w.safe(t)
  })
}

t.test('a ReplicaTopology deleted mid-way is finalized clean and made anew', async (t) => {
  const w = await rebuilding(t)
  const old = w.topology(1)
  w.c.store.delete({ apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${uuid(1)}` })
  await w.c.run(3 * MINUTE)
  t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'], 'undone')
  t.ok(w.topology(1) !== undefined && w.topology(1) !== old, 'there is a new one')
  await w.c.run(6 * 60 * MINUTE, () => w.phaseOf(1) === 'Completed')
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/], 'which gets its volume where it belongs')
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test('calls that time out while Mayastor goes on', async (t) => {
  const w = await world(t)
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', policy)
  w.c.mayastor.faults.onCall(({ path, count }) =>
    path.includes('replica_count') || count % 5 === 0 ? { when: 'during', delayMs: 7_000, drop: true } : undefined,
  )
  w.c.mayastor.faults.onStep(({ operation }) => (operation === 'SetReplica' ? 8_000 : undefined))
  await w.begin()
  await w.c.run(120 * MINUTE, () => settled(w))
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/])
  t.match(w.topology(1)?.status.migration, { phase: 'Completed' })
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test('Mayastor refuses to add a replica: nothing is left behind and the volume waits', async (t) => {
  const w = await world(t)
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', policy)
  w.c.mayastor.faults.createFails((pool) => pool.startsWith('nvme'))
  await w.begin()
  await w.c.run(5 * MINUTE, () => w.topology(1)?.spec.decision.reason === 'BackOff')
  t.match(w.topology(1)?.status.migration, { phase: 'Aborted', reason: 'GrowRefused', started: false })
  t.equal(w.topology(1)?.spec.decision.reason, 'BackOff')
  w.c.mayastor.faults.clear()
  await w.c.run(60 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/], 'and goes when it may')
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

const cordons = (w: World) =>
  [...w.c.mayastor.truth.pools.values()].filter((pool) => pool.cordon.replicas).length +
  [...w.c.mayastor.truth.nodes.values()].filter((node) => node.cordonLabels.size > 0).length

const isOurs = (label: string) => label.startsWith('tier-move-')

/** Inside the bracket around the target, and inside the one around the replica that goes. */
const brackets: Record<string, (w: World) => boolean> = {
  'pools are cordoned': (w) => cordons(w) > 3,
  'a node is cordoned': (w) =>
    [...w.c.mayastor.truth.nodes.values()].some(({ cordonLabels }) => [...cordonLabels].some(isOurs)),
}
for (const [inside, isInside] of Object.entries(brackets)) {
  for (const who of ['Metacontroller', 'the server', 'every ReplicaTopology'] as const) {
    t.test(`${who} goes while ${inside}: within two minutes nothing is`, async (t) => {
      const w = await world(t)
      w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
      w.c.addPolicy('default', policy)
      w.c.mayastor.cordonNode('node-6', 'maintenance')
      w.c.mayastor.cordonPool('sata-6', { replicas: true })
      await w.begin()
      await w.c.run(10 * MINUTE, () => isInside(w))
      t.ok(isInside(w), inside)
      await w.c.metacontroller.stop()
      if (who === 'every ReplicaTopology') {
        // Their finalizers taken away by hand.
        const kind = { apiVersion: API_VERSION, kind: 'ReplicaTopology', name: `pvc-${uuid(1)}` }
        w.c.store.patchMetadata(kind, { finalizers: [] })
        w.c.store.delete(kind)
        t.strictSame(w.topologies(), [])
      }
      if (who === 'the server') {
        await w.c.stopServer()
        await w.c.run(10 * MINUTE)
        t.ok(isInside(w), 'nobody is there to uncordon')
        await w.c.startServer()
      }
      await w.c.run(2 * MINUTE)
      t.equal(cordons(w), 2, 'only what other people cordoned is left')
      t.ok(w.c.mayastor.truth.nodes.get('node-6')?.cordonLabels.has('maintenance'))
      t.ok(w.c.mayastor.truth.pools.get('sata-6')?.cordon.replicas)
      t.match(await w.c.leases.get('fence'), { data: '{"format":1}' }, 'the fence is free')
      w.c.startMetacontroller()
      await w.c.run(240 * MINUTE, () => settled(w))
      t.match(w.poolsOf(1), [/^nvme/, /^nvme/], 'and the move goes on when it is back')
      const lasting = w.checker.violations.filter(({ rule }) => who !== 'the server' || !rule.includes('two minutes'))
      t.strictSame(lasting, [])
    })
  }
}

t.test('a bracket around many pools is closed in one go', async (t) => {
  const w = await world(t, { nodes: 40 })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', policy)
  await w.begin()
  await w.c.run(10 * MINUTE, () => cordons(w) > 70)
  t.ok(cordons(w) > 70, 'pools are cordoned')
  await w.c.metacontroller.stop()
  await w.c.run(2 * MINUTE)
  t.equal(cordons(w), 0)
  t.strictSame(w.checker.violations, [])
})

t.test('what runs while the API server is away is not taken for abandoned', async (t) => {
  const w = await rebuilding(t)
  const { get, list } = w.c.leases
  const away = async () => {
    throw new LeaseError('no connection')
  }
  await w.c.metacontroller.stop()
  Object.assign(w.c.leases, { get: away, list: away })
  await w.c.run(45 * MINUTE)
  Object.assign(w.c.leases, { get, list })
  await w.c.run(MINUTE)
  w.c.startMetacontroller()
  await w.c.run(60 * MINUTE, () => w.phaseOf(1) === 'Completed')
  t.match(w.topology(1)?.status.migration, { phase: 'Completed', replicasMoved: 2 })
  w.safe(t)
})

t.test('what nobody drives for long is ended: undone, and said so', async (t) => {
  const w = await rebuilding(t, {
    mayastor: { rebuildBytesPerSecond: 1024 },
    options: { migrationTimeoutMinutes: 600 },
  })
  await w.c.metacontroller.stop()
  await w.c.run(40 * MINUTE)
  t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'])
  w.c.startMetacontroller()
  await w.c.run(MINUTE)
  t.match(w.topology(1)?.status.migration, { phase: 'Aborted', reason: 'Abandoned' })
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test('a journal that cannot be read holds back new moves and nothing else', async (t) => {
  const w = await rebuilding(t)
  w.addVolume(2, { pools: ['sata-3'], load: hot })
  const lease = { name: 'move-from-a-later-version', holder: 'x', renewedAt: 0, data: '{"format":2}' }
  const stored = await w.c.leases.create(lease)
  await w.c.run(60 * MINUTE)
  t.match(w.topology(1)?.status.migration, { phase: 'Completed' }, 'what runs goes on')
  t.match(w.topology(2)?.status, { volume: { state: 'Online' }, migration: { reason: 'UnreadableJournal' } })
  if (stored !== 'conflict') await w.c.leases.remove(stored.name, stored.version)
  await w.c.run(60 * MINUTE)
  t.match(w.poolsOf(2), [/^nvme/], 'and the rest follows when it is gone')
  w.safe(t)
})

t.test('preservation mode', async (t) => {
  let load = hot
  const w = await world(t, { options: { preservationMode: true }, cooldownMs: 60 * MINUTE })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: () => load() })
  w.c.addPolicy('default', { ...policy, cooldownPeriod: '1h' })
  await w.begin()
  await w.c.run(50 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, 'sata-1', 'sata-2'], 'one replica is added, none removed')
  t.match(w.topology(1)?.status.migration, { phase: 'Completed', reason: 'Preserved' })
  await w.c.run(20 * MINUTE)
  const before = writes(w)
  await w.c.run(30 * MINUTE)
  t.equal(writes(w), before, 'and it stays at that, after the cooldown too')
  load = cold
  await w.c.run(120 * MINUTE, () => settled(w))
  t.strictSame(w.poolsOf(1), ['sata-1', 'sata-2'], 'the reverse move removes the added replica')
  load = hot
  await w.c.run(90 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, 'sata-1', 'sata-2'])
  await w.c.stopServer()
  await w.c.startServer({ preservationMode: false })
  await w.c.run(180 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/], 'leaving the mode completes the move, and the policy goes on')
  w.checker.atRest(w.c.clock.now())
  t.strictSame(w.checker.violations, [])
})

t.test('stale caches do not disturb', async (t) => {
  let turn = 0
  const w = await world(t, { staleness: () => [0, 500, 3_000, 15_000][turn++ % 4] ?? 0 })
  w.addVolume(1, { pools: ['sata-1', 'sata-2', 'sata-3'], load: hot })
  w.addVolume(2, { pools: ['nvme-1', 'nvme-2'], load: cold })
  w.c.addPolicy('default', policy)
  await w.begin()
  await w.c.run(120 * MINUTE, () => settled(w))
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/, /^nvme/])
  t.match(w.poolsOf(2), [/^sata/, /^sata/])
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

/** The annotation on the object, as a person writes it with kubectl. */
const annotate = (w: World, kind: 'StoragePolicy' | 'ReplicaTopology', name: string, key: string, value: string) =>
  w.c.store.patchMetadata({ apiVersion: API_VERSION, kind, name }, { annotations: { [key]: value } })

t.test('a migration that is Held for a person goes on when the hold is named', async (t) => {
  const w = await rebuilding(t, { mayastor: { rebuildBytesPerSecond: GIB / 256 } })
  const addedReplica = () => w.topology(1)?.status.migration?.current?.addedReplica
  const target = w.topology(1)?.status.migration?.current?.targetPool ?? ''
  for (const pool of w.c.mayastor.truth.pools.keys()) {
    if (pool !== target) w.c.mayastor.cordonPool(pool, { replicas: true, restores: true })
  }
  for (let times = 0; times < 4; times++) {
    const added = addedReplica()
    w.c.mayastor.faultReplica(added ?? '', undefined, false)
    await w.c.run(5 * MINUTE, () => addedReplica() !== added)
  }
  for (const pool of w.c.mayastor.truth.pools.keys()) {
    if (pool !== target) w.c.mayastor.uncordonPool(pool, { replicas: true, restores: true })
  }
  await w.c.run(30 * MINUTE)
  const { holdId } = w.topology(1)?.status.migration ?? {}
  t.match(w.topology(1)?.status.migration, { phase: 'Held', reason: 'ReplacedTooOften', holdId: String })
  t.equal(w.policy()?.status.migrations.active, 0, 'it has no slot')
  annotate(w, 'ReplicaTopology', `pvc-${uuid(1)}`, RELEASE_ANNOTATION, `${holdId}/7`)
  await w.c.run(10 * MINUTE)
  t.equal(w.phaseOf(1), 'Held', 'another hold was named')
  annotate(w, 'ReplicaTopology', `pvc-${uuid(1)}`, RELEASE_ANNOTATION, holdId ?? '')
  await w.c.run(120 * MINUTE, () => w.phaseOf(1) === 'Completed')
  t.match(w.poolsOf(1), [/^nvme/, /^nvme/])
  w.safe(t)
})

t.test('a policy that was stopped by failures goes on when the trip is named', async (t) => {
  const w = await world(t, { options: { maxConcurrentMigrations: 3 }, maxMoving: 3 })
  for (const index of [1, 2, 3]) w.addVolume(index, { pools: [`sata-${index}`, `sata-${index + 1}`], load: hot })
  w.c.addPolicy('default', { ...policy, maxConcurrentMigrations: 3 })
  w.c.mayastor.faults.createFails((pool) => pool.startsWith('nvme'))
  await w.begin()
  await w.c.run(20 * MINUTE, () => w.policy()?.status?.breaker !== undefined)
  const trip = w.policy()?.status.breaker?.trip ?? ''
  t.match(w.policy()?.status.breaker, { reason: 'RepeatedFailures', trip: String })
  w.c.mayastor.faults.clear()
  await w.c.run(60 * MINUTE)
  t.ok(
    [1, 2, 3].every((index) => w.poolsOf(index).every((pool) => pool.startsWith('sata'))),
    'nothing starts',
  )
  annotate(w, 'StoragePolicy', 'default', RESUME_ANNOTATION, trip)
  await w.c.run(120 * MINUTE, () => settled(w))
  t.ok(
    [1, 2, 3].every((index) => w.poolsOf(index).every((pool) => pool.startsWith('nvme'))),
    'and then all of them',
  )
  t.equal(w.policy()?.status.breaker, undefined)
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})

t.test('a pair of preservation mode whose ReplicaTopology is let go is taken to its end', async (t) => {
  const w = await world(t, { options: { preservationMode: true }, cooldownMs: 60 * MINUTE })
  w.addVolume(1, { pools: ['sata-1', 'sata-2'], load: hot })
  w.c.addPolicy('default', { ...policy, cooldownPeriod: '1h' })
  await w.begin()
  await w.c.run(50 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, 'sata-1', 'sata-2'])
  w.c.mayastor.faults.onCall(() => ({ when: 'before', drop: true }))
  w.c.store.delete({ apiVersion: API_VERSION, kind: 'StoragePolicy', name: 'default' })
  await w.c.run(2 * MINUTE)
  t.equal(w.topologies().length, 1, 'Mayastor is away, so it waits')
  annotate(w, 'ReplicaTopology', `pvc-${uuid(1)}`, ABANDON_ANNOTATION, 'true')
  await w.c.run(5 * MINUTE)
  t.strictSame(w.topologies(), [], 'until a person says that it need not')
  w.c.mayastor.faults.clear()
  await w.c.run(60 * MINUTE)
  t.match(w.poolsOf(1), [/^nvme/, /^sata/], 'and the loop finishes the move, in preservation mode, too')
  w.checker.atRest(w.c.clock.now())
  w.safe(t)
})
