import t from 'tap'
import { classify, iopsQueries, SIGNALS, type Signal, type SignalAnswer } from '../../src/decide/iops.js'

const NOW_MS = 1_800_000_000_000
const NOW_S = NOW_MS / 1000
const VOLUME = 'pvc-1'
const OTHER = 'pvc-2'

const QUERIES = iopsQueries('1h')
const RATES = { readIOPS: 'r[$window]', writeIOPS: 'w[$window]' }

t.test('queries', async (t) => {
  t.strictSame(iopsQueries('1h30m'), [
    { signal: 'readRate', query: 'sum by (pv_name) (max by (pv_name, node) (rate(volume_num_read_ops[1h30m])))' },
    {
      signal: 'readSamples',
      query: 'sum by (pv_name) (max by (pv_name, node) (count_over_time(volume_num_read_ops[1h30m])))',
    },
    { signal: 'readLast', query: 'max by (pv_name) (timestamp(volume_num_read_ops))' },
    { signal: 'readCoverage', query: 'count by (pv_name) (volume_num_read_ops offset 1h30m)' },
    { signal: 'writeRate', query: 'sum by (pv_name) (max by (pv_name, node) (rate(volume_num_write_ops[1h30m])))' },
    {
      signal: 'writeSamples',
      query: 'sum by (pv_name) (max by (pv_name, node) (count_over_time(volume_num_write_ops[1h30m])))',
    },
    { signal: 'writeLast', query: 'max by (pv_name) (timestamp(volume_num_write_ops))' },
    { signal: 'writeCoverage', query: 'count by (pv_name) (volume_num_write_ops offset 1h30m)' },
  ])
  t.strictSame(QUERIES.map(({ signal }) => signal).sort(), [...SIGNALS].sort(), 'every signal has a query')

  t.strictSame(iopsQueries('5m', RATES), [
    { signal: 'readRate', query: 'r[5m]' },
    { signal: 'writeRate', query: 'w[5m]' },
  ])
  t.strictSame(
    iopsQueries('5m', {
      readIOPS: 'a[$window] + b[$window]',
      writeIOPS: 'no window, $1 $& $$',
      readSamples: 'c[$window]',
      writeSamples: 'd',
    }),
    [
      { signal: 'readRate', query: 'a[5m] + b[5m]' },
      { signal: 'writeRate', query: 'no window, $1 $& $$' },
      { signal: 'readSamples', query: 'c[5m]' },
      { signal: 'writeSamples', query: 'd' },
    ],
  )
  for (const window of ['', '0s', '0h1h', '1m1h', '1d', '1h]', '5', '1.5h', ' 1h']) {
    t.throws(() => iopsQueries(window), RangeError, `window "${window}"`)
  }
})

type Values = Partial<Record<Signal, number | undefined>>

const HEALTHY: Values = {
  readRate: 120.5,
  writeRate: 30,
  readSamples: 60,
  writeSamples: 60,
  readLast: NOW_S - 10,
  writeLast: NOW_S - 10,
  readCoverage: 1,
  writeCoverage: 1,
}
const NONE: Values = Object.fromEntries(SIGNALS.map((signal) => [signal, undefined]))

const ok = (values: ReadonlyMap<string, number>, ambiguous: string[] = [], unlabelled = 0): SignalAnswer => ({
  kind: 'ok',
  values,
  ambiguous: new Set(ambiguous),
  unlabelled,
})

/** Answers in which the volume has `values`, and another volume all is well with is there too. */
const answers = (values: Values): Map<Signal, SignalAnswer> =>
  new Map(
    SIGNALS.map((signal) => {
      const found = new Map([[OTHER, HEALTHY[signal] ?? Number.NaN]])
      const value = values[signal]
      if (value !== undefined) found.set(VOLUME, value)
      return [signal, ok(found)]
    }),
  )

t.test('one volume', async (t) => {
  const few = (side: string) => ({
    reason: 'TooFewSamples',
    message: `The ${side} counter has fewer than 4 samples in the window.`,
  })
  const uncovered = (side: string) => ({
    reason: 'TooFewSamples',
    message: `The ${side} counter has no sample at the beginning of the window.`,
  })
  const stale = (side: string) => ({
    reason: 'StaleSample',
    message: `The last sample of the ${side} counter is older than 5 minutes.`,
  })
  const odd = (signal: string) => ({
    reason: 'NotANumber',
    message: `The query for ${signal} returned a value that is not a number of zero or more.`,
  })
  const missing = (side: string) => ({
    reason: 'OneCounterMissing',
    message: `Prometheus has no series of the ${side} counter of the volume.`,
  })
  const noReads = { readRate: undefined, readSamples: undefined, readLast: undefined, readCoverage: undefined }
  const noWrites = { writeRate: undefined, writeSamples: undefined, writeLast: undefined, writeCoverage: undefined }
  const known = (readIops: number, writeIops: number) => ({ readIops, writeIops, iops: readIops + writeIops })

  const cases: readonly { name: string; values: Values; expected: object }[] = [
    { name: 'healthy', values: {}, expected: known(120.5, 30) },
    { name: 'idle: zero is a measurement', values: { readRate: 0, writeRate: 0 }, expected: known(0, 0) },
    { name: 'minus zero', values: { readRate: -0 }, expected: { kind: 'known', iops: 30 } },
    { name: 'exactly enough samples', values: { readSamples: 4, writeSamples: 4 }, expected: known(120.5, 30) },
    { name: 'one sample too few, reads', values: { readSamples: 3 }, expected: few('read') },
    { name: 'one sample too few, writes', values: { writeSamples: 3 }, expected: few('write') },
    { name: 'no sample count', values: { writeSamples: undefined }, expected: few('write') },
    { name: 'reads not covered', values: { readCoverage: undefined }, expected: uncovered('read') },
    { name: 'writes not covered', values: { writeCoverage: undefined }, expected: uncovered('write') },
    {
      name: 'no rate: a node each for the samples',
      values: { writeRate: undefined },
      expected: {
        reason: 'TooFewSamples',
        message: 'The write counter has too few samples in the window for a rate.',
      },
    },
    {
      name: 'no rate of the reads either',
      values: { readRate: undefined, writeRate: undefined },
      expected: { reason: 'TooFewSamples', message: 'The read counter has too few samples in the window for a rate.' },
    },
    { name: 'last sample as old as allowed', values: { readLast: NOW_S - 300 }, expected: known(120.5, 30) },
    { name: 'last read too old', values: { readLast: NOW_S - 300.001 }, expected: stale('read') },
    { name: 'last write too old', values: { writeLast: NOW_S - 301 }, expected: stale('write') },
    { name: 'series ended', values: { readLast: undefined, writeLast: undefined }, expected: stale('read') },
    { name: 'rate NaN', values: { readRate: Number.NaN }, expected: odd('readRate') },
    { name: 'rate infinite', values: { writeRate: Number.POSITIVE_INFINITY }, expected: odd('writeRate') },
    { name: 'rate negative', values: { writeRate: -0.1 }, expected: odd('writeRate') },
    { name: 'sample count NaN', values: { readSamples: Number.NaN }, expected: odd('readSamples') },
    { name: 'time NaN', values: { readLast: Number.NaN }, expected: odd('readLast') },
    {
      name: 'all NaN',
      values: Object.fromEntries(SIGNALS.map((signal) => [signal, Number.NaN])),
      expected: { reason: 'NotANumber' },
    },
    { name: 'no series', values: NONE, expected: { reason: 'NoSeries', message: /has no series for the volume/ } },
    {
      name: 'gone before the window',
      values: { ...NONE, readCoverage: 1, writeCoverage: 1 },
      expected: { reason: 'NoSeries' },
    },
    { name: 'first sample just taken', values: { ...NONE, readLast: NOW_S, writeLast: NOW_S }, expected: few('read') },
    { name: 'no reads', values: noReads, expected: missing('read') },
    { name: 'no writes', values: noWrites, expected: missing('write') },
    { name: 'writes ended before the window', values: { ...noWrites, writeCoverage: 1 }, expected: missing('write') },
    { name: 'zero without a series', values: { ...noWrites, readRate: 0 }, expected: missing('write') },
  ]
  for (const c of cases) {
    const iopsOf = classify(QUERIES, answers({ ...HEALTHY, ...c.values }), NOW_MS)
    t.match(iopsOf(VOLUME), c.expected, c.name)
    t.match(iopsOf(OTHER), known(120.5, 30), `${c.name}: the other volume is not concerned`)
    t.match(iopsOf('pvc-3'), { reason: 'NoSeries' }, `${c.name}: a volume nobody knows`)
  }
})

t.test('answers that concern all volumes', async (t) => {
  const failed: SignalAnswer = { kind: 'failed', message: 'Prometheus answered HTTP 503.' }
  const partial: SignalAnswer = { kind: 'partial', message: 'Prometheus answered with a warning.' }
  for (const signal of SIGNALS) {
    const one = classify(QUERIES, answers(HEALTHY).set(signal, failed), NOW_MS)
    const unavailable = { kind: 'unknown', reason: 'PrometheusUnavailable', message: 'Prometheus answered HTTP 503.' }
    for (const name of [VOLUME, OTHER, 'pvc-3']) t.strictSame(one(name), unavailable, `${signal} failed`)
    const two = classify(QUERIES, answers(HEALTHY).set(signal, partial), NOW_MS)
    const incomplete = { kind: 'unknown', reason: 'PartialAnswer', message: 'Prometheus answered with a warning.' }
    for (const name of [VOLUME, OTHER, 'pvc-3']) t.strictSame(two(name), incomplete, `${signal} is partial`)
  }
  const both = answers(HEALTHY).set('readRate', partial).set('writeCoverage', failed)
  t.match(classify(QUERIES, both, NOW_MS)(VOLUME), { reason: 'PrometheusUnavailable' }, 'failed before partial')
  t.throws(() => classify(QUERIES, new Map(), NOW_MS), /no answer to the query for readRate/, 'an answer forgotten')
})

t.test('custom queries', async (t) => {
  const values = (value: number) => new Map([[VOLUME, value]])
  const rates = new Map<Signal, SignalAnswer>([
    ['readRate', ok(values(5))],
    ['writeRate', ok(values(6))],
  ])
  const known = { kind: 'known', readIops: 5, writeIops: 6, iops: 11 }
  t.strictSame(classify(iopsQueries('1h', RATES), rates, NOW_MS)(VOLUME), known, 'rates alone')

  const oneSide = new Map(rates).set('writeRate', ok(new Map()))
  t.match(classify(iopsQueries('1h', RATES), oneSide, NOW_MS)(VOLUME), { reason: 'OneCounterMissing' })

  const reads = iopsQueries('1h', { ...RATES, readSamples: 's' })
  t.strictSame(classify(reads, new Map(rates).set('readSamples', ok(values(4))), NOW_MS)(VOLUME), known)
  t.match(classify(reads, new Map(rates).set('readSamples', ok(values(3))), NOW_MS)(VOLUME), {
    reason: 'TooFewSamples',
  })
  t.match(classify(reads, new Map(rates).set('readSamples', ok(new Map())), NOW_MS)(VOLUME), {
    reason: 'TooFewSamples',
  })

  const twice = new Map(rates).set('writeRate', ok(values(6), [VOLUME]))
  t.strictSame(
    classify(iopsQueries('1h', RATES), twice, NOW_MS)(VOLUME),
    {
      kind: 'unknown',
      reason: 'NotANumber',
      message: 'The query for writeRate returned several series for the volume.',
    },
    'several series of one volume',
  )

  const labelless = new Map(rates).set('readRate', ok(new Map(), [], 1)).set('writeRate', ok(new Map(), [], 1))
  t.strictSame(
    classify(iopsQueries('1h', RATES), labelless, NOW_MS)(VOLUME),
    { kind: 'unknown', reason: 'NoSeries', message: 'The query returned no series labelled pv_name.' },
    'no label at all',
  )
  const some = new Map(rates).set('readRate', ok(values(5), [], 3))
  t.strictSame(classify(iopsQueries('1h', RATES), some, NOW_MS)(VOLUME), known, 'series without a label are ignored')
})
