import fc from 'fast-check'
import t from 'tap'
import type { JsonObject } from '../../src/api/kubernetes.js'
import { RESUME_ANNOTATION } from '../../src/api/names.js'
import { readPolicy } from '../../src/decide/policy.js'
import { type LabelRequirement, type LabelSelector, matches, selectsSomething } from '../../src/decide/selector.js'
import { NVME, OPTIONS, policy, SATA } from '../builders.js'

const read = (spec: JsonObject) => readPolicy(policy({ spec }), OPTIONS)

t.test('defaults', async (t) => {
  const parent = policy({ name: 'p', meta: { uid: 'u' } })
  const before = JSON.stringify(parent)
  t.strictSame(readPolicy(parent, { ...OPTIONS, migrationTimeoutMinutes: 45 }), {
    name: 'p',
    uid: 'u',
    spec: {
      nvmePoolSelector: NVME,
      sataPoolSelector: SATA,
      highWatermarkIOPS: 5000,
      lowWatermarkIOPS: 500,
      samplingWindow: '1h',
      cooldownPeriod: '24h',
      storageClassName: 'mayastor',
      maxConcurrentMigrations: 2,
      enabled: true,
      dryRun: false,
      maxUnknownPercent: 20,
      singleReplicaVolumes: 'Move',
    },
    windowMs: 3_600_000,
    cooldownMs: 86_400_000,
    migrationTimeout: '45m',
    resumed: undefined,
    nvmeSelector: NVME,
    sataSelector: SATA,
  })
  t.equal(JSON.stringify(parent), before, 'the request is not changed')
  t.match(read({ migrationTimeout: '2h', migrationHardTimeout: '9h' }), {
    migrationTimeout: '2h',
    spec: { migrationHardTimeout: '9h' },
  })
  t.match(read({ samplingWindow: '1h30m5s', cooldownPeriod: '45s' }), { windowMs: 5_405_000, cooldownMs: 45_000 })
  t.match(readPolicy({ spec: policy().spec ?? {} }, OPTIONS), { name: '', uid: '' }, 'without metadata')
})

t.test('the trip a person has seen, as it is written in times', async (t) => {
  const rows: [string | undefined, string | undefined][] = [
    [undefined, undefined],
    ['2026-01-01T10:00:00Z', '2026-01-01T10:00:00Z'],
    ['2026-01-01T12:00:00+02:00', '2026-01-01T10:00:00Z'],
    ['the one of yesterday', undefined],
    ['', undefined],
  ]
  for (const [text, resumed] of rows) {
    const annotations: Record<string, string> = text === undefined ? {} : { [RESUME_ANNOTATION]: text }
    t.match(readPolicy(policy({ meta: { annotations } }), OPTIONS), { resumed }, text ?? 'none')
  }
})

t.test('bad fields are named with their value', async (t) => {
  const malformed = 'must match pattern "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"'
  const range = 'must be above zero and at most a year'
  const cases: readonly { name: string; spec: JsonObject; problems: readonly string[] }[] = [
    {
      name: 'text for a number',
      spec: { highWatermarkIOPS: '5000' },
      problems: ['spec.highWatermarkIOPS is "5000": must be integer'],
    },
    { name: 'null', spec: { lowWatermarkIOPS: null }, problems: ['spec.lowWatermarkIOPS is null: must be integer'] },
    {
      name: 'a broken number',
      spec: { highWatermarkIOPS: 600.5 },
      problems: ['spec.highWatermarkIOPS is 600.5: must be integer'],
    },
    {
      name: 'below the range',
      spec: { lowWatermarkIOPS: -1 },
      problems: ['spec.lowWatermarkIOPS is -1: must be >= 0'],
    },
    {
      name: 'no slot',
      spec: { maxConcurrentMigrations: 0 },
      problems: ['spec.maxConcurrentMigrations is 0: must be >= 1'],
    },
    {
      name: 'above 100 %',
      spec: { maxUnknownPercent: 101 },
      problems: ['spec.maxUnknownPercent is 101: must be <= 100'],
    },
    { name: 'text for a flag', spec: { enabled: 'no' }, problems: ['spec.enabled is "no": must be boolean'] },
    { name: 'a flag', spec: { dryRun: 1 }, problems: ['spec.dryRun is 1: must be boolean'] },
    {
      name: 'no such word',
      spec: { singleReplicaVolumes: 'move' },
      problems: ['spec.singleReplicaVolumes is "move": must be equal to one of the allowed values'],
    },
    {
      name: 'empty',
      spec: { storageClassName: '' },
      problems: ['spec.storageClassName is "": must not have fewer than 1 characters'],
    },
    { name: 'days', spec: { samplingWindow: '30d' }, problems: [`spec.samplingWindow is "30d": ${malformed}`] },
    { name: 'zero', spec: { samplingWindow: '0s' }, problems: [`spec.samplingWindow is "0s": ${range}`] },
    {
      name: 'just above a year',
      spec: { cooldownPeriod: '8760h1s' },
      problems: [`spec.cooldownPeriod is "8760h1s": ${range}`],
    },
    { name: 'no timeout', spec: { migrationTimeout: '0h0m' }, problems: [`spec.migrationTimeout is "0h0m": ${range}`] },
    {
      name: 'no hard timeout',
      spec: { migrationHardTimeout: '0m' },
      problems: [`spec.migrationHardTimeout is "0m": ${range}`],
    },
    {
      name: 'watermarks equal',
      spec: { lowWatermarkIOPS: 5000 },
      problems: ['spec.lowWatermarkIOPS is 5000: must be below highWatermarkIOPS, 5000'],
    },
    {
      name: 'watermarks crossed',
      spec: { highWatermarkIOPS: 10, lowWatermarkIOPS: 11 },
      problems: ['spec.lowWatermarkIOPS is 11: must be below highWatermarkIOPS, 10'],
    },
    {
      name: 'selectors missing: a sentence each',
      spec: { nvmePoolSelector: undefined, sataPoolSelector: undefined },
      problems: ['spec.nvmePoolSelector is missing', 'spec.sataPoolSelector is missing'],
    },
    {
      name: 'a list for a selector',
      spec: { sataPoolSelector: [] },
      problems: ['spec.sataPoolSelector is []: must be object'],
    },
    {
      name: 'an empty selector',
      spec: { sataPoolSelector: {} },
      problems: ['spec.sataPoolSelector selects by negations only: needs a matchLabels, In or Exists'],
    },
    {
      name: 'negations only',
      spec: { nvmePoolSelector: { matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] } },
      problems: ['spec.nvmePoolSelector selects by negations only: needs a matchLabels, In or Exists'],
    },
    {
      name: 'values missing and superfluous',
      spec: {
        nvmePoolSelector: {
          matchExpressions: [
            { key: 'a', operator: 'In' },
            { key: 'b', operator: 'NotIn', values: [] },
            { key: 'c', operator: 'Exists', values: ['x'] },
            { key: 'd', operator: 'DoesNotExist', values: ['x'] },
          ],
        },
      },
      problems: [
        'spec.nvmePoolSelector: a In needs values',
        'spec.nvmePoolSelector: b NotIn needs values',
        'spec.nvmePoolSelector: c Exists takes no values',
        'spec.nvmePoolSelector: d DoesNotExist takes no values',
      ],
    },
    {
      name: 'no such operator',
      spec: { nvmePoolSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } },
      problems: [
        'spec.nvmePoolSelector.matchExpressions.0.operator is "Is": must be equal to one of the allowed values',
      ],
    },
    {
      name: 'a label key with slashes and tildes',
      spec: { nvmePoolSelector: { matchLabels: { 'openebs.io/tier~1': 5 } } },
      problems: ['spec.nvmePoolSelector.matchLabels.openebs.io/tier~1 is 5: must be string'],
    },
    {
      name: 'a long value is cut',
      spec: { nvmePoolSelector: { matchLabels: { a: 'x'.repeat(64) } } },
      problems: [`spec.nvmePoolSelector.matchLabels.a is "${'x'.repeat(60)}...: must not have more than 63 characters`],
    },
    {
      name: 'half of the queries',
      spec: { queries: { readIOPS: '' } },
      problems: [
        'spec.queries.writeIOPS is missing',
        'spec.queries.readIOPS is "": must not have fewer than 1 characters',
      ],
    },
    {
      name: 'several fields',
      spec: { samplingWindow: '0s', cooldownPeriod: '9999h', lowWatermarkIOPS: 6000 },
      problems: [
        `spec.samplingWindow is "0s": ${range}`,
        `spec.cooldownPeriod is "9999h": ${range}`,
        'spec.lowWatermarkIOPS is 6000: must be below highWatermarkIOPS, 5000',
      ],
    },
  ]
  for (const { name, spec, problems } of cases) t.strictSame(read(spec), { problems }, name)

  const boundaries: readonly JsonObject[] = [
    { highWatermarkIOPS: 1, lowWatermarkIOPS: 0 },
    { highWatermarkIOPS: 1_000_000_000, lowWatermarkIOPS: 999_999_999 },
    { maxUnknownPercent: 0 },
    { maxUnknownPercent: 100 },
    { maxConcurrentMigrations: 1000 },
    { cooldownPeriod: '8760h', samplingWindow: '1s' },
    { someday: 'a field of a newer version' },
  ]
  for (const spec of boundaries) t.match(read(spec), { spec }, `${JSON.stringify(spec)} is good`)
  t.match(
    readPolicy({ metadata: { name: 'p' } }, OPTIONS),
    { problems: [/nvmePoolSelector is missing/, /sata/] },
    'no spec',
  )
})

t.test('whatever is in the spec, reading it names problems or succeeds', async (t) => {
  const anything = fc.dictionary(
    fc.constantFrom(
      'highWatermarkIOPS',
      'samplingWindow',
      'nvmePoolSelector',
      'sataPoolSelector',
      'queries',
      'enabled',
      'singleReplicaVolumes',
    ),
    fc.oneof(fc.jsonValue(), fc.record({ matchLabels: fc.jsonValue(), matchExpressions: fc.jsonValue() })),
  )
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(anything, (spec) => {
        const result = readPolicy(policy({ spec: spec as JsonObject }), OPTIONS)
        if ('problems' in result)
          return result.problems.length > 0 && result.problems.every((text) => text.length < 500)
        return result.windowMs > 0
      }),
      { numRuns: 500 },
    ),
  )
})

const labels = (of: Record<string, readonly string[]>) =>
  new Map(Object.entries(of).map(([key, values]) => [key, new Set(values)]))

t.test('selectors', async (t) => {
  const pool = labels({ tier: ['nvme'], zone: ['a', 'b'], empty: [''] })
  const expression = (key: string, operator: LabelRequirement['operator'], ...values: string[]): LabelSelector => ({
    matchExpressions: [{ key, operator, ...(values.length === 0 ? {} : { values }) }],
  })
  const cases: readonly [string, LabelSelector, boolean][] = [
    ['nothing asked', {}, true],
    ['a label', { matchLabels: { tier: 'nvme' } }, true],
    ['another value', { matchLabels: { tier: 'NVMe' } }, false],
    ['another key', { matchLabels: { media: 'nvme' } }, false],
    ['every label', { matchLabels: { tier: 'nvme', zone: 'c' } }, false],
    ['either of two values', { matchLabels: { tier: 'nvme', zone: 'b' } }, true],
    ['an empty value', { matchLabels: { empty: '' } }, true],
    ['no empty value', { matchLabels: { tier: '' } }, false],
    ['In', expression('tier', 'In', 'ssd', 'nvme'), true],
    ['In, none of them', expression('tier', 'In', 'ssd'), false],
    ['In, no such label', expression('media', 'In', 'nvme'), false],
    ['In, the second value', expression('zone', 'In', 'b'), true],
    ['NotIn', expression('tier', 'NotIn', 'ssd'), true],
    ['NotIn, one of them', expression('tier', 'NotIn', 'ssd', 'nvme'), false],
    ['NotIn, no such label', expression('media', 'NotIn', 'nvme'), true],
    ['NotIn, one of two values', expression('zone', 'NotIn', 'b'), false],
    ['Exists', expression('tier', 'Exists'), true],
    ['Exists, no such label', expression('media', 'Exists'), false],
    ['DoesNotExist', expression('media', 'DoesNotExist'), true],
    ['DoesNotExist, but it does', expression('tier', 'DoesNotExist'), false],
    ['labels and expressions', { matchLabels: { tier: 'nvme' }, ...expression('zone', 'NotIn', 'a') }, false],
    ['expressions all hold', { matchLabels: { tier: 'nvme' }, ...expression('zone', 'In', 'a') }, true],
  ]
  for (const [name, selector, wanted] of cases) t.equal(matches(selector, pool), wanted, name)

  const something: readonly [LabelSelector, boolean][] = [
    [{}, false],
    [{ matchLabels: {} }, false],
    [{ matchLabels: { a: 'b' } }, true],
    [expression('a', 'In', 'b'), true],
    [expression('a', 'Exists'), true],
    [expression('a', 'NotIn', 'b'), false],
    [expression('a', 'DoesNotExist'), false],
    [{ matchExpressions: [] }, false],
  ]
  for (const [selector, wanted] of something) t.equal(selectsSomething(selector), wanted, JSON.stringify(selector))
})
