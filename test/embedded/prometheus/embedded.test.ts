import t from 'tap'
import { parseQuery } from '../../../src/embedded/prometheus/query.js'
import { Samples } from '../../../src/embedded/prometheus/samples.js'
import { EmbeddedPrometheus, type Outage } from '../../../src/embedded/prometheus/server.js'

const START_MS = 1_800_000_000_000
const MINUTE_MS = 60_000

const counter = (pvName: string, value: number, node = 'node-1') => ({
  name: 'volume_num_read_ops',
  labels: { pv_name: pvName, node },
  value,
})

t.test('grammar', async (t) => {
  const range = { kind: 'range', function: 'rate', metric: 'm', rangeMs: 5_400_000 }
  const accepted: Record<string, object> = {
    m: { kind: 'instant', metric: 'm', offsetMs: 0 },
    'a:b_c9 offset 1d2h3m4s5ms': { kind: 'instant', metric: 'a:b_c9', offsetMs: 93_784_005 },
    'timestamp(m)': { kind: 'timestamp', metric: 'm' },
    ' rate ( m [ 1h30m ] ) ': range,
    'count_over_time(m[5m])': { kind: 'range', function: 'count_over_time', metric: 'm', rangeMs: 300_000 },
    'sum by(a)(max by (a,b) (rate(m[1h30m])))': {
      kind: 'aggregate',
      operator: 'sum',
      by: ['a'],
      of: { kind: 'aggregate', operator: 'max', by: ['a', 'b'], of: range },
    },
  }
  for (const [query, expected] of Object.entries(accepted)) t.strictSame(parseQuery(query), expected, query)
  const refused = [
    '',
    ' ',
    '1',
    'm{node="x"}',
    'm + m',
    'm m',
    'm offset',
    'm offset 5',
    'm offset 0s',
    'm offset 1m1h',
    'm[5m]',
    'rate(m)',
    'rate(m[5m]',
    'rate(m[5m]) offset 5m',
    'rate(rate(m[5m]))',
    'irate(m[5m])',
    'timestamp(m offset 5m)',
    'timestamp(rate(m[5m]))',
    'avg by (a) (m)',
    'sum(m)',
    'sum by () (m)',
    'sum by (a,) (m)',
    'sum without (a) (m)',
    'sum by (a) (m',
    'sum by (a) (by)',
  ]
  for (const query of refused) t.throws(() => parseQuery(query), `refused: ${query}`)
})

t.test('over HTTP', async (t) => {
  const prometheus = new EmbeddedPrometheus({ clock: { now: () => START_MS + 10 * MINUTE_MS } })
  for (let minute = 0; minute <= 10; minute++) {
    const series = ['pvc-2', 'pvc-1', 'pvc-3'].map((name) => counter(name, 600 * minute))
    prometheus.scrape(START_MS + minute * MINUTE_MS, series)
  }
  const url = await prometheus.start()
  t.teardown(() => prometheus.stop())
  await t.rejects(prometheus.start(), /already started/)

  const query = 'sum by (pv_name) (rate(volume_num_read_ops[5m]))'
  const get = async (params: Record<string, string>) => {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams(params)}`)
    return { status: response.status, body: await response.json() }
  }
  const result = (atMs: number, value: string, names = ['pvc-1', 'pvc-2', 'pvc-3']) => ({
    status: 200,
    body: {
      status: 'success',
      data: {
        resultType: 'vector',
        result: names.map((name) => ({ metric: { pv_name: name }, value: [atMs / 1000, value] })),
      },
    },
  })
  const nowMs = START_MS + 10 * MINUTE_MS
  t.strictSame(await get({ query }), result(nowMs, '10'), 'sorted by name, at the clock')
  const atMs = START_MS + 9 * MINUTE_MS
  t.strictSame(await get({ query, time: `${atMs / 1000}` }), result(atMs, '10'), 'at a time')
  t.strictSame(await get({ query, time: new Date(atMs).toISOString() }), result(atMs, '10'), 'at an RFC 3339 time')
  const post = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query }) })
  t.strictSame(await post.json(), result(nowMs, '10').body, 'POST')
  const empty = await fetch(`${url}/api/v1/query`, { method: 'POST' })
  t.equal(empty.status, 400, 'POST without a body')

  for (const params of [{}, { query: 'up{}' }, { query, time: 'yesterday' }, { query, time: '2026-99-99T' }]) {
    t.match(await get(params), { status: 400, body: { status: 'error', errorType: 'bad_data', error: String } })
  }
  t.equal((await fetch(`${url}/api/v1/query_range?query=up`)).status, 404, 'nothing else is served')

  const outages: Record<Exclude<Outage, 'down' | '503'>, object> = {
    empty: result(nowMs, '', []),
    nan: result(nowMs, 'NaN'),
    half: result(nowMs, '10', ['pvc-1', 'pvc-3']),
    warning: { body: { ...result(nowMs, '10').body, warnings: [String] } },
  }
  for (const [outage, expected] of Object.entries(outages)) {
    prometheus.outage = outage as Outage
    t.match(await get({ query }), expected, outage)
    if (outage === 'empty') t.strictSame((await get({ query })).body, result(nowMs, '', []).body)
  }
  const before = prometheus.queries
  prometheus.outage = '503'
  const refused = await fetch(`${url}/api/v1/query?query=up`)
  t.equal(refused.status, 503)
  t.equal(await refused.text(), 'Service Unavailable')
  prometheus.outage = 'down'
  await t.rejects(get({ query }), 'connection closed')
  prometheus.outage = undefined
  t.strictSame(await get({ query }), result(nowMs, '10'), 'and up again')
  t.equal(prometheus.queries, before + 3, 'requests are counted')

  prometheus.scrape(START_MS + 11 * MINUTE_MS, [
    counter('pvc-1', Number.POSITIVE_INFINITY),
    counter('pvc-2', Number.NEGATIVE_INFINITY),
  ])
  const { body } = await get({ query: 'volume_num_read_ops', time: `${START_MS / 1000 + 660}` })
  const values = (body as { data: { result: { metric: object; value: [number, string] }[] } }).data.result
  t.strictSame(
    values.map(({ metric, value }) => ({ ...metric, value: value[1] })),
    [
      { __name__: 'volume_num_read_ops', pv_name: 'pvc-1', node: 'node-1', value: '+Inf' },
      { __name__: 'volume_num_read_ops', pv_name: 'pvc-2', node: 'node-1', value: '-Inf' },
    ],
    'infinities, and the series that ended is gone at once',
  )
  await prometheus.stop()
  await t.rejects(get({ query }), 'stopped')
  await prometheus.stop()
})

t.test('samples', async (t) => {
  const retentionMs = 60 * MINUTE_MS
  const samples = new Samples(retentionMs)
  samples.scrape(START_MS, [counter('pvc-once', 1)])
  let most = 0
  for (let minute = 1; minute <= 2000; minute++) {
    samples.scrape(START_MS + minute * MINUTE_MS, [counter('pvc-1', 60 * minute)])
    most = Math.max(most, samples.size)
  }
  t.ok(most <= 61 + 256 + 2, `at most ${most} samples are held`)
  const nowMs = START_MS + 2000 * MINUTE_MS
  const rate = (window: string, atMs = nowMs) =>
    samples.evaluate(parseQuery(`rate(volume_num_read_ops[${window}])`), atMs)
  t.match(rate('1h'), [{ value: 1 }], 'the last hour is there')
  t.equal(samples.evaluate(parseQuery('volume_num_read_ops offset 61m'), nowMs).length, 0, 'what is older is not')
  samples.scrape(nowMs + 2 * retentionMs, [])
  t.ok(samples.size > 0, 'of a series that ended the marker remains')
  samples.scrape(nowMs + 4 * retentionMs, [])
  t.equal(samples.size, 0, 'and goes in its turn')

  t.throws(() => samples.scrape(nowMs, []), RangeError, 'time goes forward')
  const later = nowMs + 5 * retentionMs
  t.throws(() => samples.scrape(later, [counter('pvc-1', Number.NaN)]), RangeError, 'NaN')
  t.throws(() => samples.scrape(later + 1, [counter('pvc-1', 1), counter('pvc-1', 1)]), RangeError, 'a series twice')
})
