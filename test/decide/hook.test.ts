import t from 'tap'
import { PV_KEY, PVC_KEY, TOPOLOGY_KEY } from '../../src/api/names.js'
import type { QueryAnswer } from '../../src/clients/prometheus.js'
import { customizePolicy, runPolicyHook } from '../../src/decide/hook.js'
import { HookError } from '../../src/hook-error.js'
import { customizeToWire, toWire } from '../../src/wire.js'
import {
  ago,
  claim,
  ended,
  fakePrometheus,
  HOUR,
  MINUTE,
  migration,
  migrationStatus,
  NOW_MS,
  OPTIONS,
  policy,
  policyRequest,
  pvName,
  type RequestSetup,
  reversedKeys,
  type VolumeSetup,
} from '../builders.js'
import { answerOf, ask, run } from './run.js'

const call = (hook: 'sync' | 'finalize', body: unknown) =>
  runPolicyHook(hook, body, { prometheus: fakePrometheus({}), now: NOW_MS, options: OPTIONS })

t.test('requests that cannot be answered', async (t) => {
  const good = policyRequest({ volumes: [{ id: 'a' }] })
  const { [TOPOLOGY_KEY]: _, ...noChildren } = good.children
  const without = (key: string) => Object.fromEntries(Object.entries(good.related).filter(([other]) => other !== key))
  const cases: readonly { name: string; body: unknown; code: number; message: RegExp; finalize?: false }[] = [
    { name: 'nothing', body: undefined, code: 400, message: /body is not a JSON object/ },
    { name: 'null', body: null, code: 400, message: /body is not a JSON object/ },
    { name: 'a list', body: [], code: 400, message: /body is not a JSON object/ },
    { name: 'text', body: '{}', code: 400, message: /body is not a JSON object/ },
    { name: 'an empty object', body: {}, code: 400, message: /no parent/ },
    { name: 'a parent that is a list', body: { ...good, parent: [] }, code: 400, message: /no parent/ },
    { name: 'a parent without metadata', body: { ...good, parent: {} }, code: 400, message: /no metadata.name/ },
    {
      name: 'a number for a name',
      body: { ...good, parent: { metadata: { name: 5 } } },
      code: 400,
      message: /metadata.name/,
    },
    { name: 'metadata null', body: { ...good, parent: { metadata: null } }, code: 400, message: /metadata.name/ },
    {
      name: 'a spec that is a list',
      body: { ...good, parent: { ...good.parent, spec: [] } },
      code: 400,
      message: /spec that is not/,
    },
    {
      name: 'a spec that is null',
      body: { ...good, parent: { ...good.parent, spec: null } },
      code: 400,
      message: /spec that is not/,
    },
    {
      name: 'no children',
      body: { ...good, children: undefined },
      code: 400,
      message: /children has no ReplicaTopology/,
    },
    {
      name: 'children of another kind only',
      body: { ...good, children: noChildren },
      code: 400,
      message: /children has no/,
    },
    {
      name: 'children null',
      body: { ...good, children: { [TOPOLOGY_KEY]: null } },
      code: 400,
      message: /children has no/,
    },
    { name: 'no related', body: { ...good, related: undefined }, code: 400, message: /no related/ },
    { name: 'related is a list', body: { ...good, related: [] }, code: 400, message: /no related/ },
    ...Object.keys(good.related)
      .filter((key) => !key.startsWith('DiskPool'))
      .map((key) => ({
        name: `related without ${key}: a cache that is not there yet is no reason to delete`,
        body: { ...good, related: without(key) },
        code: 500,
        message: new RegExp(`related has no ${key}`),
        finalize: false as const,
      })),
    {
      name: 'related null of a kind',
      body: { ...good, related: { ...good.related, [PVC_KEY]: null } },
      code: 500,
      message: /related has no PersistentVolumeClaim/,
      finalize: false,
    },
  ]
  for (const { name, body, code, message, finalize } of cases) {
    for (const hook of ['sync', 'finalize'] as const) {
      if (hook === 'finalize' && finalize === false) {
        await t.resolves(call(hook, body), `${name}: no matter for finalize`)
        continue
      }
      const error: unknown = await call(hook, body).then(
        () => undefined,
        (thrown) => thrown,
      )
      if (!(error instanceof HookError)) t.fail(`${name}: no HookError`, { found: error })
      else t.match([error.statusCode, error.message], [code, message], `${hook}, ${name}`)
    }
  }
})

t.test('customize', async (t) => {
  const rules = (version: string | undefined) => customizePolicy({ controller: {}, parent: policy() }, version)
  t.strictSame(JSON.parse(customizeToWire(rules('openebs.io/v1beta3'))), {
    relatedResources: [
      { apiVersion: 'v1', resource: 'persistentvolumes' },
      {
        apiVersion: 'v1',
        resource: 'persistentvolumeclaims',
        labelSelector: { matchExpressions: [{ key: 'storage.billyronks.io/hold', operator: 'Exists' }] },
      },
      { apiVersion: 'storage.billyronks.io/v1', resource: 'storagepolicies' },
      { apiVersion: 'openebs.io/v1beta3', resource: 'diskpools' },
    ],
  })
  t.strictSame(
    rules(undefined).relatedResources.map(({ resource }) => resource),
    ['persistentvolumes', 'persistentvolumeclaims', 'storagepolicies'],
    'a kind the cluster does not serve would keep the policy from being synced',
  )
  const deleted = { parent: policy({ meta: { deletionTimestamp: ago(0) } }) }
  t.strictSame(
    customizePolicy(deleted, 'openebs.io/v1beta3'),
    { relatedResources: [] },
    'one that is being deleted goes whatever the cluster serves',
  )
  for (const body of [undefined, null, [], {}, { parent: null }])
    t.throws(() => customizePolicy(body, undefined), HookError)
})

const RUNNING: VolumeSetup = {
  id: 'r',
  iops: 0,
  child: { spec: { migration: migration('r') }, status: { migration: migrationStatus('r') } },
}
const HOT: readonly VolumeSetup[] = ['a', 'b', 'c', 'd'].map((id) => ({ id, iops: 9000, replicas: ['sata-1'] }))

t.test('what Prometheus does not say starts nothing', async (t) => {
  const failed = (message: string): QueryAnswer => ({ kind: 'failed', message })
  const nan = {
    readRate: Number.NaN,
    writeRate: 1,
    readSamples: 60,
    writeSamples: 60,
    readLast: 1.8e9,
    writeLast: 1.8e9,
  }
  const covered = { ...nan, readCoverage: 1, writeCoverage: 1 }
  const half = HOT.map((volume, n) => (n % 2 === 0 ? volume : { ...volume, iops: {} }))
  const cases: readonly {
    name: string
    failures?: Parameters<typeof fakePrometheus>[1]
    volumes?: readonly VolumeSetup[]
    reasons: readonly string[]
    condition: string
  }[] = [
    {
      name: 'down',
      failures: { all: failed('Prometheus could not be reached.') },
      reasons: Array(4).fill('PrometheusUnavailable'),
      condition: 'PrometheusUnavailable',
    },
    {
      name: 'HTTP 503',
      failures: { all: failed('Prometheus answered HTTP 503.') },
      reasons: Array(4).fill('PrometheusUnavailable'),
      condition: 'PrometheusUnavailable',
    },
    {
      name: 'one query of eight failed',
      failures: { writeCoverage: failed('Prometheus did not answer in time.') },
      reasons: Array(4).fill('PrometheusUnavailable'),
      condition: 'PrometheusUnavailable',
    },
    {
      name: 'a partial answer',
      failures: { readRate: { kind: 'partial', message: 'Prometheus answered with a warning.' } },
      reasons: Array(4).fill('PartialAnswer'),
      condition: 'PartialAnswer',
    },
    {
      name: 'an empty answer',
      volumes: HOT.map((volume) => ({ ...volume, iops: {} })),
      reasons: Array(4).fill('NoSeries'),
      condition: 'NoSeries',
    },
    {
      name: 'NaN',
      volumes: HOT.map((volume) => ({ ...volume, iops: covered })),
      reasons: Array(4).fill('NotANumber'),
      condition: 'NotANumber',
    },
    {
      name: 'half of the volumes',
      volumes: half,
      reasons: ['MetricsIncomplete', 'NoSeries', 'MetricsIncomplete', 'NoSeries'],
      condition: 'NoSeries',
    },
    {
      name: 'one counter of each',
      volumes: HOT.map((volume) => ({ ...volume, iops: { readRate: 0, readSamples: 60, readLast: 1.8e9 } })),
      reasons: Array(4).fill('OneCounterMissing'),
      condition: 'OneCounterMissing',
    },
  ]
  for (const { name, failures, volumes = HOT, reasons, condition } of cases) {
    const answer = await run({ volumes: [...volumes, RUNNING], ...(failures ? { failures } : {}) })
    const specs = HOT.map(({ id }) => answer.spec(id))
    t.strictSame(
      specs.map(({ decision }) => decision.reason),
      reasons,
      `${name}: each volume says so`,
    )
    t.ok(
      specs.every(({ migration }) => migration === undefined),
      `${name}: nothing starts`,
    )
    t.strictSame(answer.spec('r').migration, migration('r'), `${name}: what runs is repeated`)
    t.equal(answer.conditions[1], `MetricsAvailable=False ${condition}`)
  }
})

t.test('finalize lets the children go, and then the policy', async (t) => {
  const answer = async (setup: RequestSetup) => {
    const request = policyRequest({ ...setup, finalizing: true })
    return answerOf(request, await call('finalize', request))
  }
  const busy = await answer({ volumes: [{ id: 'a' }, RUNNING] })
  t.strictSame([busy.response.children, busy.response.finalized], [[], false])
  t.strictSame(busy.conditions, ['Ready=False Deleting'])
  t.equal(busy.status.migrations.active, 1)
  t.ok(busy.response.resyncAfterSeconds <= 25, 'looked at again soon')
  const status = { ...busy.response.status, observedGeneration: 1 }
  const again = await answer({ volumes: [{ id: 'a' }, RUNNING], policy: { status } })
  t.equal(again.bytes, busy.bytes, 'the same again, though it has a status now')
  const done = await answer({ policy: { status } })
  t.strictSame([done.response.children, done.response.finalized], [[], true])
  t.equal(
    (await answer({ policy: { spec: { samplingWindow: 'x' } } })).response.finalized,
    true,
    'an invalid one as well',
  )
  const terminating = await answer({ volumes: [{ id: 'a', child: { meta: { deletionTimestamp: ago(MINUTE) } } }] })
  t.equal(terminating.response.finalized, false, 'a child being deleted is still there')
})

t.test('a policy that does not own its storage class', async (t) => {
  const older = policy({ name: 'older', meta: { creationTimestamp: ago(2000 * HOUR) } })
  const first = await run({ volumes: [{ id: 'a' }, { id: 'b', child: null }], otherPolicies: [older] })
  t.strictSame(first.response.children, [], 'never lists a child of the other')
  t.strictSame(first.conditions, ['Ready=False Conflict'])
  t.equal(first.status.conditions[0]?.message, 'storage class mayastor belongs to the older policy older')
  t.equal(first.status.phase, 'Error')
  t.notOk('finalized' in first.response)
  t.ok(first.response.resyncAfterSeconds <= 25, 'soon, while children go')
  const later = await run({ volumes: [{ id: 'a', child: null }], otherPolicies: [older] })
  t.ok(later.response.resyncAfterSeconds >= 240, 'rarely, when none is left: the other policy wakes us')
})

t.test('an invalid policy keeps its children', async (t) => {
  const over: VolumeSetup = {
    id: 'o',
    child: { spec: { migration: migration('o') }, status: { tier: 'SATA', migration: ended('o', HOUR) } },
  }
  const missing: VolumeSetup = { id: 'm', pv: null, child: { spec: { missingSince: ago(HOUR) } } }
  const invalid = { policy: { spec: { samplingWindow: '0s', lowWatermarkIOPS: 9000 } } }
  const answer = await run({ ...invalid, volumes: [{ id: 'a' }, RUNNING, over, missing] })
  t.strictSame([...answer.children.keys()].sort(), ['a', 'm', 'o', 'r'].map(pvName))
  for (const id of ['a', 'r']) {
    const observed = answer.request.children[TOPOLOGY_KEY]?.[pvName(id)]?.spec
    t.strictSame(answer.spec(id), observed, `${id} as it was observed`)
  }
  t.equal(answer.spec('o').migration, undefined, 'but for a migration that has ended')
  t.strictSame(answer.conditions, ['Ready=False InvalidSpec'])
  t.equal(
    answer.status.conditions[0]?.message,
    'spec.samplingWindow is "0s": must be above zero and at most a year; spec.lowWatermarkIOPS is 9000: must be below highWatermarkIOPS, 5000',
  )
  t.equal(answer.status.phase, 'Error')
  t.strictSame(
    answer.status.volumes,
    { total: 4, nvme: 0, sata: 1, mixed: 0, other: 3 },
    'counted as they were observed',
  )
  t.strictSame(answer.status.reasons, [{ reason: 'BetweenWatermarks', volumes: 4 }])
  t.equal(answer.status.migrations.active, 1)
  t.ok(answer.response.resyncAfterSeconds >= 240)

  const older = policy({ name: 'older', meta: { creationTimestamp: ago(2000 * HOUR) } })
  const both = await run({ ...invalid, volumes: [{ id: 'a' }], otherPolicies: [older] })
  t.equal(both.children.size, 1, 'whose they are is not decided by a spec that cannot be read')
  const blind = policyRequest({ ...invalid, volumes: [{ id: 'a' }] })
  t.equal((await ask({ ...blind, related: {} }, {})).children.size, 1, 'nor by caches that are not there yet')
})

t.test('the same is answered with the same bytes', async (t) => {
  const setup = {
    volumes: [...HOT, RUNNING, { id: 'x', child: null }, { id: 'm', pv: null }],
    claims: [claim('apps', 'claim-c', 'true')],
  }
  const [one, two] = [await run(setup), await run(setup)]
  t.equal(one.bytes, two.bytes)
  const reversed = await ask(
    reversedKeys(policyRequest(setup)),
    Object.fromEntries([RUNNING, ...HOT].map(({ id, iops = 0 }) => [pvName(id), iops])),
  )
  t.strictSame(JSON.parse(reversed.bytes), JSON.parse(one.bytes))
  const order = (bytes: string) => JSON.parse(bytes).children.map(({ metadata }: { metadata: object }) => metadata)
  t.strictSame(order(reversed.bytes), order(one.bytes), 'in the same order')
})

t.test('what a sync decided, for logs and metrics', async (t) => {
  const { summary } = await run({
    volumes: [
      { id: 'a', iops: 6000.5 },
      { id: 'b', iops: 1000 },
      { id: 'c', iops: 10 },
      { id: 'd', iops: 700, replicas: ['nvme-1'] },
      { id: 'e', iops: {} },
    ],
  })
  t.equal(summary.policy, 'tiering')
  t.strictSame(summary.volumesByTier, { NVMe: 1, SATA: 4, Mixed: 0, Unknown: 0 })
  t.strictSame(summary.reasons, { Migrating: 1, BetweenWatermarks: 2, OnWantedTier: 1, NoSeries: 1 })
  t.strictSame(summary.iops, { known: 4, unknown: { NoSeries: 1 } })
  t.strictSame(
    summary.changes,
    [
      { volume: 'pvc-a', reason: 'Migrating', tier: 'NVMe', message: 'migration a-1 to NVMe', iops: 6000.5 },
      {
        volume: 'pvc-c',
        reason: 'OnWantedTier',
        tier: 'SATA',
        message: 'IOPS below 500 over 1h; every replica is on SATA',
        iops: 10,
      },
      { volume: 'pvc-e', reason: 'NoSeries', message: 'Prometheus has no series for the volume.' },
    ],
    'those whose decision is another than before',
  )
  const empty = {
    policy: 'tiering',
    volumesByTier: {},
    reasons: {},
    iops: { known: 0, unknown: {} },
    breakerOpen: false,
    changes: [],
  }
  t.strictSame((await run({ policy: { spec: { enabled: 'x' } }, volumes: [{ id: 'a' }] })).summary, empty)
})

t.test('no volumes: Prometheus is not asked', async (t) => {
  const prometheus = fakePrometheus({})
  const request = policyRequest({ volumes: [{ id: 'a', pv: null }] })
  t.ok(toWire((await runPolicyHook('sync', request, { prometheus, now: NOW_MS, options: OPTIONS })).response))
  t.equal(prometheus.asked(), 0)
  t.equal(Object.keys(request.related[PV_KEY] ?? {}).length, 0)
})
