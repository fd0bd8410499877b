import t from 'tap'
import type { JsonObject } from '../../src/api/kubernetes.js'
import { RESUME_ANNOTATION } from '../../src/api/names.js'
import { formatTime } from '../../src/api/time.js'
import { conditions } from '../../src/decide/conditions.js'
import {
  ago,
  ended,
  HOUR,
  MINUTE,
  migration,
  migrationStatus,
  NOW_MS,
  POOLS,
  pool,
  pvName,
  SECOND,
  type VolumeSetup,
} from '../builders.js'
import { type RunSetup, run, table } from './run.js'

t.test('conditions keep the time of their last transition', async (t) => {
  const wanted = { type: 'Ready', status: 'True' as const, reason: 'R', message: 'm' }
  const before = (...items: unknown[]) => ({ conditions: items }) as unknown as JsonObject
  const old = { ...wanted, lastTransitionTime: ago(HOUR) }
  const cases: readonly [string, JsonObject | undefined, string][] = [
    ['no status yet', undefined, ago(0)],
    ['no conditions yet', {}, ago(0)],
    ['no list', { conditions: 'x' }, ago(0)],
    ['the same', before(old), ago(HOUR)],
    ['another reason and message', before({ ...old, reason: 'S', message: 'n' }), ago(HOUR)],
    ['another status', before({ ...old, status: 'False' }), ago(0)],
    ['unknown before', before({ ...old, status: 'Unknown' }), ago(0)],
    ['another type', before({ ...old, type: 'Degraded' }), ago(0)],
    ['of several the same type', before({ ...old, type: 'A', lastTransitionTime: ago(2 * HOUR) }, old), ago(HOUR)],
    ['no time', before({ ...old, lastTransitionTime: undefined }), ago(0)],
    ['a time of another kind', before({ ...old, lastTransitionTime: 5 }), ago(0)],
    ['an entry that is none', before(null, 'x', [], old), ago(HOUR)],
  ]
  for (const [name, status, time] of cases) {
    t.strictSame(conditions([wanted], status, NOW_MS), [{ ...wanted, lastTransitionTime: time }], name)
  }
  const [long] = conditions([{ ...wanted, message: 'x'.repeat(5000) }], undefined, NOW_MS)
  t.equal(long?.message.length, 4096, 'no longer than the schema takes')
})

/** Between the watermarks, at rest. */
const CALM: VolumeSetup = { id: 'a', iops: 1000, child: { spec: { pools: [{ pool: 'sata-1', tier: 'SATA' }] } } }
const missing = (spec: object = {}, extra: Partial<VolumeSetup> = {}): RunSetup => ({
  volumes: [
    { id: 'a', pv: null, child: { spec } },
    { id: 'b', iops: 1000 },
    ...(extra.id ? [extra as VolumeSetup] : []),
  ],
})
const since = (ms: number) => ({ missingSince: ago(ms) })

table<RunSetup & { readonly kept: false | string }>(
  'a child whose persistent volume is missing',
  {
    'for the first time: kept, and noted': { ...missing(), kept: ago(0) },
    'noted a moment ago': { ...missing(since(SECOND)), kept: ago(SECOND) },
    'noted almost a minute ago': { ...missing(since(59 * SECOND)), kept: ago(59 * SECOND) },
    'noted a minute ago: dropped': { ...missing(since(MINUTE)), kept: false },
    'noted long ago': { ...missing(since(HOUR)), kept: false },
    'noted in the future, by another clock': { ...missing(since(-HOUR)), kept: ago(-HOUR) },
    'noted with a time that is none': { ...missing({ missingSince: 'x' }), kept: ago(0) },
    'gone from Mayastor: dropped at once': {
      volumes: [{ id: 'a', pv: null, child: { volume: { state: 'Gone', published: false } } }],
      kept: false,
    },
    'never observed: kept': { volumes: [{ id: 'a', pv: null, child: { status: null } }], kept: ago(0) },
  },
  ({ children, request, status, response }, { kept }, t) => {
    const spec = children.get('pvc-a')
    t.equal(spec?.missingSince, kept || undefined)
    const observed = request.children['ReplicaTopology.storage.billyronks.io/v1']?.['pvc-a']?.spec ?? {}
    if (kept !== false) {
      t.strictSame(spec, {
        ...observed,
        decision: { reason: 'VolumeMissing', message: 'its persistent volume was not in the last request' },
        missingSince: kept,
      })
    }
    t.equal(
      status.conditions.some(({ message }) => message === 'persistent volumes not seen lately: 1'),
      kept !== false,
    )
    if (kept !== false) t.ok(response.resyncAfterSeconds <= 75, 'looked at again soon')
  },
)

t.test('children that stay although nothing can be decided', async (t) => {
  const one = migration('a')
  const noHandle = { spec: { csi: { driver: 'io.openebs.csi-mayastor' } } }
  const unreadable = (child: VolumeSetup['child']) => run({ volumes: [{ id: 'a', pv: noHandle, child: child ?? {} }] })
  const running = await unreadable({
    spec: { migration: one, ...since(HOUR) },
    status: { migration: migrationStatus('a') },
  })
  t.strictSame(
    running.spec('a'),
    {
      volumeID: 'a',
      policy: 'tiering',
      claimRef: { namespace: 'apps', name: 'claim-a', uid: 'uid-claim-a' },
      decision: { reason: 'BetweenWatermarks', message: 'IOPS between 500 and 5000 over 1h' },
      pools: [],
      migration: one,
    },
    'as it was, the persistent volume no longer missing',
  )
  t.strictSame(running.conditions, [
    'Ready=True Deciding',
    'MetricsAvailable=Unknown NothingToMeasure',
    'Degraded=True UnreadableObjects',
  ])
  t.equal(running.status.migrations.active, 1)
  const over = await unreadable({ spec: { migration: one }, status: { migration: ended('a', HOUR) } })
  t.equal(over.spec('a').migration, undefined, 'a migration that has ended is not asked for again')
  const bare = await unreadable({ spec: { claimRef: undefined as never } })
  t.notOk('claimRef' in bare.spec('a'))

  const back = await run({ volumes: [{ ...CALM, child: { spec: since(30 * SECOND) } }] })
  t.notOk('missingSince' in back.spec('a'), 'seen again: the note goes')
})

t.test('children that go', async (t) => {
  const gone = async (volume: Partial<VolumeSetup>) => (await run({ volumes: [{ id: 'a', ...volume }] })).children.size
  t.equal(await gone({ pv: { spec: { storageClassName: 'other' } } }), 0, 'outside the policy')
  t.equal(await gone({ pv: { spec: { csi: { driver: 'x', volumeHandle: 'a' } } } }), 0, 'of another driver')
  const csi = { driver: 'io.openebs.csi-mayastor', volumeHandle: 'b' }
  t.equal(await gone({ pv: { spec: { csi } } }), 0, 'made anew for another volume')
  t.equal(await gone({ pv: { spec: { csi } }, child: null }), 1, 'and then the new one comes')
  t.equal(await gone({ child: { volume: { state: 'Gone', published: false } } }), 1, 'Gone, but the PV is there: stays')
})

t.test('what a child says of pools', async (t) => {
  const pools = async (setup: RunSetup) => (await run(setup)).spec('a').pools
  t.strictSame(await pools({ volumes: [CALM] }), [
    { pool: 'sata-1', tier: 'SATA' },
    { pool: 'sata-2', tier: 'SATA' },
  ])
  t.strictSame(await pools({ volumes: [{ ...CALM, replicas: ['other-1', 'sata-2'] }] }), [
    { pool: 'sata-2', tier: 'SATA' },
  ])
  t.strictSame(await pools({ volumes: [CALM], pools: null }), [{ pool: 'sata-1', tier: 'SATA' }], 'unseen: as it was')
  t.strictSame(await pools({ volumes: [{ ...CALM, child: null }], pools: null }), [])
  t.strictSame(
    await pools({ volumes: [{ ...CALM, child: { spec: { migration: migration('a') } } }] }),
    [
      { pool: 'nvme-3', tier: 'NVMe' },
      { pool: 'sata-1', tier: 'SATA' },
      { pool: 'sata-2', tier: 'SATA' },
    ],
    'targets of a migration as well',
  )
})

table<
  RunSetup & { readonly wanted: readonly string[]; readonly phase?: string; readonly resync: readonly [number, number] }
>(
  'conditions, phase and resync of a policy',
  {
    'at rest': {
      volumes: [CALM],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown'],
      resync: [240, 300],
    },
    'no volumes': {
      wanted: ['Ready=True Deciding', 'MetricsAvailable=Unknown NothingToMeasure'],
      phase: 'Pending',
      resync: [240, 300],
    },
    'a child to appear': {
      volumes: [CALM, { id: 'b', child: null }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown', 'Progressing=True ChildrenMissing'],
      resync: [20, 25],
    },
    'not observed yet': {
      volumes: [{ id: 'a', child: { status: null } }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=Unknown NothingToMeasure'],
      phase: 'Pending',
      resync: [240, 300],
    },
    'something runs': {
      volumes: [{ ...CALM, child: { spec: { migration: migration('a') } } }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown'],
      resync: [60, 75],
    },
    'something waits': {
      volumes: [{ ...CALM, iops: 9000, child: { status: { migration: ended('a', HOUR) } } }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown'],
      resync: [60, 75],
    },
    'some unknown': {
      volumes: [CALM, ...['b', 'c', 'd', 'e'].map((id) => ({ ...CALM, id })), { id: 'f' }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True NoSeries'],
      resync: [60, 75],
    },
    'the commonest of several reasons': {
      volumes: [CALM, { id: 'x', iops: { readRate: 1 } }, { id: 'y', iops: { readRate: 1 } }, { id: 'z' }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=False OneCounterMissing'],
      resync: [60, 75],
    },
    'two reasons equally common: by name': {
      volumes: [CALM, { id: 'x', iops: { readRate: 1 } }, { id: 'z' }],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=False NoSeries'],
      resync: [60, 75],
    },
    disabled: {
      policy: { spec: { enabled: false } },
      volumes: [CALM],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown'],
      phase: 'Disabled',
      resync: [240, 300],
    },
    'no view of the pools': {
      volumes: [CALM],
      pools: null,
      wanted: ['Ready=False PoolsUnavailable', 'MetricsAvailable=True AllKnown'],
      resync: [60, 75],
    },
    'no NVMe pool': {
      volumes: [CALM],
      pools: POOLS.slice(3),
      wanted: ['Ready=False NoPools', 'MetricsAvailable=True AllKnown'],
      resync: [240, 300],
    },
    'no SATA pool': {
      volumes: [CALM],
      pools: POOLS.slice(0, 3),
      wanted: ['Ready=False NoPools', 'MetricsAvailable=True AllKnown'],
      resync: [240, 300],
    },
    'a pool of both tiers': {
      volumes: [CALM],
      pools: [...POOLS, pool('nvme-9', { labels: { tier: 'sata' } })],
      wanted: ['Ready=True Deciding', 'MetricsAvailable=True AllKnown', 'Degraded=True UnreadableObjects'],
      resync: [240, 300],
    },
  },
  ({ conditions, status, response }, { wanted, phase = 'Active', resync: [least, most] }, t) => {
    t.strictSame(conditions, wanted)
    t.equal(status.phase, phase)
    t.ok(
      response.resyncAfterSeconds >= least && response.resyncAfterSeconds <= most,
      `${response.resyncAfterSeconds} s`,
    )
  },
)

t.test('a field that selects nothing is named', async (t) => {
  const { status } = await run({ pools: POOLS.slice(3) })
  t.equal(status.conditions[0]?.message, 'spec.nvmePoolSelector matches no DiskPool')
  t.equal(
    (await run({ pools: POOLS.slice(0, 3) })).status.conditions[0]?.message,
    'spec.sataPoolSelector matches no DiskPool',
  )
})

t.test('counts', async (t) => {
  const totals = (succeeded: number, failed: number, aborted: number) => ({ succeeded, failed, aborted })
  const { status } = await run({
    volumes: [
      { ...CALM, child: { status: { totals: totals(1, 2, 3) } } },
      { id: 'b', iops: 6000, replicas: ['nvme-1'], child: { status: { totals: totals(10, 0, 1) } } },
      { id: 'c', iops: 1000, replicas: ['nvme-1', 'sata-2'] },
      { id: 'd', iops: 1000, replicas: ['other-1'] },
      { id: 'i', iops: 1000, replicas: ['nvme-1', 'other-2'] },
      { id: 'e', child: null },
      { id: 'f', pv: null, child: { status: { totals: totals(100, 0, 0) } } },
      { id: 'g', iops: 1000, child: { spec: { migration: migration('g') } } },
      {
        id: 'h',
        child: { spec: { migration: migration('h') }, status: { migration: migrationStatus('h', { phase: 'Held' }) } },
        iops: 1,
      },
    ],
  })
  t.strictSame(status.volumes, { total: 8, nvme: 1, sata: 3, mixed: 1, other: 3 })
  t.strictSame(status.reasons, [
    { reason: 'BetweenWatermarks', volumes: 4 },
    { reason: 'Held', volumes: 1 },
    { reason: 'Migrating', volumes: 1 },
    { reason: 'NotObserved', volumes: 1 },
    { reason: 'OnWantedTier', volumes: 1 },
  ])
  t.strictSame(status.migrations, { active: 1, succeeded: 111, failed: 2, aborted: 4 })
})

t.test('history', async (t) => {
  const withLast = (id: string, ms: number, extra: Parameters<typeof ended>[2] = {}): VolumeSetup => ({
    ...CALM,
    id,
    child: { status: { migration: ended(id, ms, extra) } },
  })
  const { status } = await run({
    volumes: [
      withLast('a', 3 * HOUR),
      withLast('b', HOUR, { phase: 'Aborted', reason: 'NoProgress', direction: 'Demote' }),
      withLast('d', 2 * HOUR),
      withLast('c', 2 * HOUR),
      withLast('declined', MINUTE, { phase: 'Aborted', started: false, reason: 'NoSlot' }),
      { ...CALM, id: 'running', child: { status: { migration: migrationStatus('running') } } },
      { ...CALM, id: 'never' },
      { ...withLast('missing', 4 * HOUR), pv: null },
    ],
  })
  t.strictSame(
    status.history.map(({ volume }) => volume),
    ['b', 'c', 'd', 'a', 'missing'].map(pvName),
    'newest first, ties by name; what was declined or runs is not history',
  )
  t.strictSame(status.history[0], {
    volume: 'pvc-b',
    id: 'b-1',
    direction: 'Demote',
    result: 'Aborted',
    reason: 'NoProgress',
    startedAt: ago(30 * HOUR),
    endedAt: ago(HOUR),
  })
  const half = await run({
    volumes: [
      withLast('a', HOUR, { startedAt: undefined as never }),
      withLast('b', HOUR, { endedAt: undefined as never }),
    ],
  })
  t.strictSame(half.status.history, [], 'without its times it has no place')

  const many = await run({ volumes: Array.from({ length: 25 }, (_, n) => withLast(`v${n}`, n * MINUTE)) })
  t.strictSame(
    many.status.history.map(({ volume }) => volume),
    Array.from({ length: 20 }, (_, n) => pvName(`v${n}`)),
    'the newest 20',
  )
})

t.test('long texts are cut to what the schema takes', async (t) => {
  const refusals = [{ reason: 'Snapshots', message: 'x'.repeat(1024) }]
  const { spec } = await run({ volumes: [{ ...CALM, iops: 9000, child: { status: { refusals } } }] })
  t.equal(spec('a').decision.message.length, 1024)
  const pools = Array.from({ length: 400 }, (_, n) => ({ ...pool(`nvme-${n}`), spec: { disks: ['x'] } }))
  const { status } = await run({ pools: [...POOLS, ...pools] })
  t.equal(status.conditions.find(({ type }) => type === 'Degraded')?.message.length, 4096)
})

t.test('transition times survive in status', async (t) => {
  const first = await run({ volumes: [CALM] })
  const later = await run({
    volumes: [CALM],
    policy: { status: first.response.status },
    now: NOW_MS + HOUR,
    failures: { all: { kind: 'failed', message: 'Prometheus could not be reached.' } },
  })
  t.strictSame(
    later.status.conditions.map(({ type, status, lastTransitionTime }) => [type, status, lastTransitionTime]),
    [
      ['Ready', 'True', ago(0)],
      ['MetricsAvailable', 'False', formatTime(NOW_MS + HOUR)],
    ],
  )
})

t.test('a breaker that is open says how to close it, and closes when that is done', async (t) => {
  const failed = (id: string, hours: number): VolumeSetup => ({
    id,
    iops: 9000,
    replicas: ['sata-1', 'sata-2'],
    child: { status: { migration: ended(id, hours * HOUR, { phase: 'Aborted', reason: 'NoProgress' }) } },
  })
  const volumes = [failed('a', 3), failed('b', 2), failed('c', 1)]
  const wanting: VolumeSetup = { id: 'd', iops: 9000, replicas: ['sata-3', 'sata-4'], child: {} }
  const trip = ago(HOUR)
  const open = await run({ volumes: [...volumes, wanting], pools: POOLS })
  t.match(open.status.breaker, { trip, reason: 'RepeatedFailures' })
  t.equal(open.summary.breakerOpen, true)
  const stalled = open.status.conditions.find(({ type }) => type === 'Stalled')
  t.match(stalled, { status: 'True', reason: 'RepeatedFailures' })
  t.match(stalled?.message, `annotate sp tiering ${RESUME_ANNOTATION}=${trip} --overwrite`)
  t.match(open.spec('d').decision.holds, [{ reason: 'BreakerOpen' }])
  const annotations = { [RESUME_ANNOTATION]: trip }
  const closed = await run({ volumes: [...volumes, wanting], pools: POOLS, policy: { meta: { annotations } } })
  t.equal(closed.status.breaker, undefined)
  t.equal(closed.summary.breakerOpen, false)
  t.notOk(closed.status.conditions.some(({ type }) => type === 'Stalled'))
  t.match(closed.spec('d'), { migration: { resumed: trip } })
})

t.test('what failed is remembered, whatever becomes of the volumes', async (t) => {
  const failed = (id: string, hours: number, extra: Parameters<typeof ended>[2] = {}): VolumeSetup => ({
    ...CALM,
    id,
    child: { status: { migration: ended(id, hours * HOUR, { phase: 'Aborted', reason: 'NoProgress', ...extra }) } },
  })
  const three = await run({ volumes: [failed('a', 3), failed('b', 2), failed('c', 1)] })
  const status = three.status as unknown as JsonObject
  const trip = ago(HOUR)
  const gone = await run({ volumes: [CALM], policy: { status } })
  t.match(gone.status.breaker, { trip, reason: 'RepeatedFailures' }, 'all three volumes are deleted: it stays open')
  t.equal(gone.status.history.length, 3)
  const annotations = { [RESUME_ANNOTATION]: trip }
  t.equal((await run({ volumes: [CALM], policy: { status, meta: { annotations } } })).status.breaker, undefined)
  const refused = await run({ volumes: [CALM], policy: { status, spec: { cooldownPeriod: 'soon' } } })
  t.match(refused.status.breaker, { trip }, 'nor does a policy that cannot be read close it')

  const again = (n: number) => failed('a', 6 - n, { id: `a-${n}` })
  let last: JsonObject | undefined
  for (const n of [1, 2, 3]) {
    const { status } = await run({ volumes: [again(n)], policy: last === undefined ? {} : { status: last } })
    t.equal(status.breaker?.trip, n < 3 ? undefined : ago(3 * HOUR), `one volume fails for the ${n}. time`)
    last = status as unknown as JsonObject
  }
  const declined = failed('b', 1, { reason: 'Snapshots', started: false })
  const two = await run({ volumes: [failed('a', 4), failed('b', 3, { id: 'b-0' })] })
  const third = {
    volumes: [failed('a', 4), declined, failed('c', 2)],
    policy: { status: two.status as unknown as JsonObject },
  }
  t.match((await run(third)).status.breaker, { trip: ago(2 * HOUR) }, 'what was declined since hides no failure')
  for (const bad of [{ history: 'x', breaker: 7 }, { history: [{ id: 1 }], breaker: { trip: 1 } }, 'x']) {
    const { status } = await run({ volumes: [CALM], policy: { status: bad as unknown as JsonObject } })
    t.strictSame([status.history, status.breaker], [[], undefined], 'what it cannot read it does without')
  }
})
