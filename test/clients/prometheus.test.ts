import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { ClientCredentials } from '../../src/clients/credentials.js'
import { type PrometheusOptions, prometheusClient, type QueryReport } from '../../src/clients/prometheus.js'
import { classify, iopsQueries, SIGNALS, type Signal, type SignalAnswer } from '../../src/decide/iops.js'
import { authority, type Leaf } from '../pki.js'

const AT_MS = 1_800_000_000_123
const QUERY = [{ signal: 'readRate', query: 'rate(x[5m])' }] as const

type Handler = (request: IncomingMessage, response: ServerResponse) => void

async function serve(t: Test, handler: Handler, tls?: Leaf): Promise<string> {
  const server =
    tls === undefined
      ? createServer(handler)
      : createTlsServer({ cert: tls.certificate, key: tls.key }, (request, response) => handler(request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http${tls === undefined ? '' : 's'}://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const json = (body: unknown, status = 200): Handler => {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
}
const text = (body: string, status = 200): Handler => {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'text/html' })
    response.end(body)
  }
}
const vector = (result: unknown, more: object = {}) => ({
  status: 'success',
  data: { resultType: 'vector', result },
  ...more,
})
const series = (pvName: string, value: unknown) => ({ metric: { pv_name: pvName }, value: [AT_MS / 1000, value] })

async function ask(options: PrometheusOptions): Promise<{ answer: unknown; report: QueryReport }> {
  const reports: QueryReport[] = []
  const client = prometheusClient({ ...options, onQuery: (report) => reports.push(report) })
  const answers = await client.signals(QUERY, AT_MS)
  return { answer: answers.get('readRate'), report: reports[0] as QueryReport }
}

const ok = (values: [string, number][], more: object = {}) => ({
  kind: 'ok',
  values: new Map(values),
  ambiguous: new Set(),
  unlabelled: 0,
  ...more,
})
const failed = (message: string) => ({ kind: 'failed', message })
const INVALID = failed('Prometheus answered with something that is not a query result.')
const PARTIAL = {
  kind: 'partial',
  message: 'Prometheus answered with a warning, so the answer may be partial.',
}
const REMARK = 'PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x" (1:6)'

t.test('what Prometheus may answer', async (t) => {
  const error = (errorType: string, message: string) => ({ status: 'error', errorType, error: message })
  const cases: readonly { name: string; handler: Handler; answer: object; report: object }[] = [
    {
      name: 'values',
      handler: json(vector([series('pvc-1', '12.5'), series('pvc-2', '0'), series('pvc-3', '1e-7')])),
      answer: ok([
        ['pvc-1', 12.5],
        ['pvc-2', 0],
        ['pvc-3', 1e-7],
      ]),
      report: { signal: 'readRate', outcome: 'ok' },
    },
    {
      name: 'NaN and infinities',
      handler: json(vector([series('pvc-1', 'NaN'), series('pvc-2', '+Inf'), series('pvc-3', '-Inf')])),
      answer: ok([
        ['pvc-1', Number.NaN],
        ['pvc-2', Number.NaN],
        ['pvc-3', Number.NaN],
      ]),
      report: { outcome: 'ok' },
    },
    { name: 'nothing', handler: json(vector([])), answer: ok([]), report: { outcome: 'ok' } },
    {
      name: 'duplicates and series without the label',
      handler: json(vector([series('pvc-1', '1'), series('pvc-1', '2'), { metric: {}, value: [1, '3'] }])),
      answer: ok([['pvc-1', 2]], { ambiguous: new Set(['pvc-1']), unlabelled: 1 }),
      report: { outcome: 'ok' },
    },
    {
      name: 'a warning',
      handler: json(vector([series('pvc-1', '1')], { warnings: [REMARK, 'store 10.0.0.1:1234 is unavailable'] })),
      answer: PARTIAL,
      report: { outcome: 'warning', detail: 'store 10.0.0.1:1234 is unavailable' },
    },
    {
      name: 'a remark among the warnings',
      handler: json(vector([series('pvc-1', '1')], { warnings: [REMARK] })),
      answer: ok([['pvc-1', 1]]),
      report: { outcome: 'ok' },
    },
    {
      name: 'a remark among the infos',
      handler: json(vector([series('pvc-1', '1')], { infos: [REMARK] })),
      answer: ok([['pvc-1', 1]]),
      report: { outcome: 'ok' },
    },
    {
      name: '503 as text',
      handler: text('Service Unavailable', 503),
      answer: failed('Prometheus answered HTTP 503.'),
      report: { outcome: 'http_error' },
    },
    {
      name: '503 as JSON',
      handler: json(error('unavailable', 'TSDB not ready'), 503),
      answer: failed('Prometheus answered HTTP 503.'),
      report: { outcome: 'http_error', detail: 'TSDB not ready' },
    },
    {
      name: '400',
      handler: json(error('bad_data', '1:6: parse error'), 400),
      answer: failed('Prometheus answered HTTP 400 to the query for readRate.'),
      report: { outcome: 'http_error', detail: '1:6: parse error' },
    },
    {
      name: '422',
      handler: json(error('execution', 'too many samples'), 422),
      answer: failed('Prometheus answered HTTP 422 to the query for readRate.'),
      report: { outcome: 'http_error', detail: 'too many samples' },
    },
    {
      name: '401',
      handler: text('', 401),
      answer: failed('Prometheus answered HTTP 401.'),
      report: { outcome: 'http_error', status: 401 },
    },
    { name: '204', handler: text('', 204), answer: failed('Prometheus answered HTTP 204.'), report: {} },
    { name: 'an error with status 200', handler: json(error('internal', 'x')), answer: INVALID, report: {} },
    { name: 'a login page', handler: text('<html></html>'), answer: INVALID, report: { outcome: 'invalid' } },
    { name: 'nothing at all', handler: text(''), answer: INVALID, report: {} },
    { name: 'JSON cut off', handler: text('{"status":"success","data":{"resultTy'), answer: INVALID, report: {} },
    { name: 'null', handler: json(null), answer: INVALID, report: {} },
    { name: 'no data', handler: json({ status: 'success' }), answer: INVALID, report: {} },
    { name: 'no result', handler: json(vector(undefined)), answer: INVALID, report: {} },
    { name: 'null result', handler: json(vector(null)), answer: INVALID, report: {} },
    { name: 'a number as value', handler: json(vector([series('pvc-1', 1)])), answer: INVALID, report: {} },
    { name: 'an empty value', handler: json(vector([series('pvc-1', '')])), answer: INVALID, report: {} },
    { name: 'no value', handler: json(vector([{ metric: { pv_name: 'x' } }])), answer: INVALID, report: {} },
    { name: 'null series', handler: json(vector([null])), answer: INVALID, report: {} },
    {
      name: 'a scalar',
      handler: json({ status: 'success', data: { resultType: 'scalar', result: [1, '1'] } }),
      answer: failed('The query for readRate returned something else than one series per volume.'),
      report: { outcome: 'invalid' },
    },
    {
      name: 'a matrix',
      handler: json({ status: 'success', data: { resultType: 'matrix', result: [] } }),
      answer: failed('The query for readRate returned something else than one series per volume.'),
      report: { outcome: 'invalid' },
    },
    {
      name: 'a connection closed before the answer',
      handler: (request) => request.socket.destroy(),
      answer: failed('Prometheus could not be reached.'),
      report: { outcome: 'unreachable' },
    },
    {
      name: 'a connection closed in the answer',
      handler: (request, response) => {
        response.writeHead(200, { 'content-length': 1000 })
        response.write('{"status":"succ', () => request.socket.destroy())
      },
      answer: failed('Prometheus could not be reached.'),
      report: { outcome: 'unreachable' },
    },
    {
      name: 'an answer that is far too long',
      handler: (_request, response) => {
        const chunk = Buffer.alloc(1024 * 1024, ' ')
        const more = () => {
          while (!response.destroyed && response.write(chunk));
          if (!response.destroyed) response.once('drain', more)
        }
        more()
      },
      answer: failed('The answer of Prometheus was too long.'),
      report: { outcome: 'invalid' },
    },
  ]
  for (const c of cases) {
    const url = await serve(t, c.handler)
    const { answer, report } = await ask({ url })
    t.strictSame(answer, c.answer, c.name)
    t.match(report, c.report, `${c.name}: report`)
    t.ok(report.seconds >= 0 && report.seconds < 5, `${c.name}: seconds`)
  }
})

t.test('nobody listens', async (t) => {
  const { answer, report } = await ask({ url: 'http://127.0.0.1:9' })
  t.strictSame(answer, failed('Prometheus could not be reached.'))
  t.equal(report.outcome, 'unreachable')
  t.ok(report.detail, 'what the network said is in the report')
  t.strictSame((await ask({ url: 'not an address' })).answer, failed('Prometheus could not be reached.'))
})

t.test('a Prometheus that does not answer in time', async (t) => {
  const timers: NodeJS.Timeout[] = []
  t.teardown(() => timers.forEach(clearInterval))
  const cases: Record<string, Handler> = {
    'no answer': () => {},
    'an answer that never ends': (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      timers.push(setInterval(() => response.write(' '), 20))
    },
  }
  for (const [name, handler] of Object.entries(cases)) {
    const url = await serve(t, handler)
    const { answer, report } = await ask({ url, timeoutMs: 200 })
    t.strictSame(answer, failed('Prometheus did not answer in time.'), name)
    t.equal(report.outcome, 'timeout', name)
    t.ok(report.seconds >= 0.19 && report.seconds < 2, `${name}: after ${report.seconds} s`)
  }
})

t.test('what is asked', async (t) => {
  const asked: { path: string; query: string | null; time: string | null }[] = []
  const queries = iopsQueries('1h')
  /** Nothing is answered before so many have asked. */
  let together = queries.length
  const waiting: (() => void)[] = []
  const url = await serve(t, (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://x')
    asked.push({ path: pathname, query: searchParams.get('query'), time: searchParams.get('time') })
    waiting.push(() => json(vector([]))(request, response))
    if (waiting.length === together) for (const answer of waiting.splice(0)) answer()
  })
  for (const prefix of ['', '/', '/prefix', '/prefix/']) {
    asked.length = 0
    const answers = await prometheusClient({ url: url + prefix }).signals(queries, AT_MS)
    t.strictSame(
      [...answers.keys()],
      queries.map(({ signal }) => signal),
      'every signal is answered',
    )
    const path = `${prefix.replace(/\/$/, '')}/api/v1/query`
    t.strictSame(
      asked.map((one) => JSON.stringify(one)).sort(),
      queries.map(({ query }) => JSON.stringify({ path, query, time: '1800000000.123' })).sort(),
      `prefix "${prefix}"`,
    )
    t.ok(
      [...answers.values()].every(({ kind }) => kind === 'ok'),
      'all at once: none waits for the answer to another',
    )
  }
  together = 1

  const proxies = ['http_proxy', 'HTTP_PROXY']
  const before = proxies.map((name) => process.env[name])
  t.teardown(() => {
    proxies.forEach((name, index) => {
      if (before[index] === undefined) delete process.env[name]
      else process.env[name] = before[index]
    })
  })
  for (const name of proxies) process.env[name] = 'http://127.0.0.1:9'
  t.match((await ask({ url })).answer, { kind: 'ok' }, 'no proxy is used')
})

/** As Thanos and Mimir are often served: TLS of a private authority, a path prefix, a token, a tenant. */
t.test('behind TLS, a token, a path prefix and a tenant', async (t) => {
  const ca = await authority()
  const other = await authority('another')
  let accepted = 'one'
  const seen: unknown[] = []
  const handler: Handler = (request, response) => {
    const { authorization, 'x-scope-orgid': tenant } = request.headers
    seen.push({ authorization, tenant, path: request.url?.split('?')[0] })
    if (authorization !== `Bearer ${accepted}`) return text('', 401)(request, response)
    json(vector([series('pvc-1', '1')]))(request, response)
  }
  const url = await serve(t, handler, await ca.issue())
  const header = { name: 'X-Scope-OrgID', value: 'storage' }
  const shown: ClientCredentials = { token: 'one', authorities: ca.certificate }
  const refused = failed('Prometheus answered HTTP 401.')
  const distrusted = failed('Prometheus could not be reached.')
  const cases: Record<string, [ClientCredentials, object]> = {
    right: [shown, { kind: 'ok' }],
    'several authorities': [{ ...shown, authorities: `${other.certificate}\n${ca.certificate}` }, { kind: 'ok' }],
    'a wrong token': [{ ...shown, token: 'two' }, refused],
    'no token': [{ authorities: ca.certificate }, refused],
    "the system's authorities": [{ token: 'one' }, distrusted],
    'another authority': [{ ...shown, authorities: other.certificate }, distrusted],
  }
  for (const [name, [credentials, expected]] of Object.entries(cases)) {
    const { answer, report } = await ask({ url: `${url}/prometheus`, credentials: () => credentials, header })
    t.match(answer, expected, name)
    t.notMatch(JSON.stringify(report), credentials.token ?? 'Bearer', `${name}: no token in the report`)
  }
  t.strictSame(seen[0], { authorization: 'Bearer one', tenant: 'storage', path: '/prometheus/api/v1/query' })
  t.equal(seen.length, 4, 'a server that is not trusted is not told the token')

  let now = shown
  const client = prometheusClient({ url, credentials: () => now })
  const kind = async () => (await client.signals(QUERY, AT_MS)).get('readRate')?.kind
  t.equal(await kind(), 'ok')
  accepted = 'two'
  t.equal(await kind(), 'failed')
  now = { ...shown, token: 'two' }
  t.equal(await kind(), 'ok', 'a token that was replaced')
  now = { token: 'two', authorities: other.certificate }
  t.equal(await kind(), 'failed', 'an authority that was replaced, though the connection was open')
  now = { token: 'two', authorities: ca.certificate }
  t.equal(await kind(), 'ok')

  const expired = await serve(t, handler, await ca.issue({ hours: [-2, -1] }))
  t.strictSame((await ask({ url: expired, credentials: () => now })).answer, distrusted, 'a certificate that expired')
})

t.test('a redirect is not followed', async (t) => {
  const asked: unknown[] = []
  const target = await serve(t, (request, response) => {
    asked.push(request.headers)
    json(vector([]))(request, response)
  })
  const url = await serve(t, (request, response) => {
    response.writeHead(307, { location: `${target}${request.url}` }).end()
  })
  const { answer } = await ask({ url, credentials: () => ({ token: 'secret' }) })
  t.strictSame(answer, failed('Prometheus answered HTTP 307.'))
  t.strictSame(asked, [])
})

t.test('one query fails, the others do not', async (t) => {
  const url = await serve(t, (request, response) => {
    const query = new URL(request.url ?? '', 'http://x').searchParams.get('query')
    if (query === 'b') json({}, 500)(request, response)
    else json(vector([series('pvc-1', '1')]))(request, response)
  })
  const answers = await prometheusClient({ url }).signals(
    ['a', 'b', 'c'].map((query) => ({ signal: query, query })),
    AT_MS,
  )
  t.strictSame(
    [...answers.values()].map(({ kind }) => kind),
    ['ok', 'failed', 'ok'],
  )
  t.strictSame(await prometheusClient({ url }).signals([], AT_MS), new Map(), 'no queries')
})

t.test('10,000 volumes', async (t) => {
  const names = Array.from({ length: 10_000 }, (_, index) => {
    return `pvc-00000000-0000-4000-8000-${String(index).padStart(12, '0')}`
  })
  const rates = JSON.stringify(vector(names.map((name, index) => series(name, `${index}.125`))))
  const counts = JSON.stringify(vector(names.map((name) => series(name, '240'))))
  const lasts = JSON.stringify(vector(names.map((name) => series(name, `${AT_MS / 1000}`))))
  const url = await serve(t, (request, response) => {
    const query = new URL(request.url ?? '', 'http://x').searchParams.get('query') ?? ''
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(query.includes('rate(') ? rates : query.includes('timestamp') ? lasts : counts)
  })
  const queries = iopsQueries('1h')
  const client = prometheusClient({ url })
  await client.signals(queries, AT_MS)
  const before = process.cpuUsage()
  const answers: ReadonlyMap<Signal, SignalAnswer> = await client.signals(queries, AT_MS)
  const iopsOf = classify(queries, answers, AT_MS)
  const all = names.map((name) => iopsOf(name))
  const { user, system } = process.cpuUsage(before)
  t.comment(`${SIGNALS.length} signals of ${names.length} volumes: ${Math.round((user + system) / 1000)} ms CPU`)
  t.equal(all.filter(({ kind }) => kind === 'known').length, names.length)
  t.match(all[42], { readIops: 42.125, writeIops: 42.125, iops: 84.25 })
  t.ok(user + system < 2_000_000, 'cheap, by a wide margin for slow machines')
})
