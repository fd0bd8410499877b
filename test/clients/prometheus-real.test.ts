import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { prometheusClient } from '../../src/clients/prometheus.js'
import { type CustomQueries, classify, type Iops, iopsQueries } from '../../src/decide/iops.js'
import { havePrometheus, startPrometheus } from '../prometheus-server.js'

/** Seconds after the first scrape of both exporters. The window is the last 15 of them; scrapes are a second apart. */
const WINDOW_S = 15
const ASK_AT_S = 20
const RESET_AT_S = 10
const MOVE_AT_S = 11
const YOUNG_FROM_S = 13
const NEWBORN_FROM_S = 17.5
const STOP_AT_S = 15

/** A volume as the exporters show it; `count` is asked for seconds since the beginning, undefined is no series. */
interface Volume {
  readonly name: string
  readonly read: (s: number) => number | undefined
  readonly write: (s: number) => number | undefined
  /** Which of the two exporters shows it. Default 1. */
  readonly node?: (s: number) => 1 | 2
  /** IOPS read and written with a relative tolerance, or the reason why they are unknown. */
  readonly expected: readonly [number, number, number] | string
}

const steady = (perSecond: number) => (s: number) => perSecond * s
const since = (from: number, perSecond: number) => (s: number) => (s < from ? undefined : perSecond * (s - from))

const volumes: readonly Volume[] = [
  { name: 'pvc-healthy', read: steady(4000), write: steady(1500), expected: [4000, 1500, 0.03] },
  { name: 'pvc-slow', read: steady(30), write: steady(3), expected: [30, 3, 0.03] },
  { name: 'pvc-idle', read: () => 7, write: () => 0, expected: [0, 0, 0] },
  {
    // What was counted between the last scrape before the reset and the reset is lost: a second's worth at most.
    name: 'pvc-reset',
    read: (s) => 900 * (s < RESET_AT_S ? s + 1000 : s - RESET_AT_S),
    write: (s) => 90 * (s < RESET_AT_S ? s + 1000 : s - RESET_AT_S),
    expected: [900, 90, 0.12],
  },
  {
    name: 'pvc-moved',
    read: (s) => 600 * (s < MOVE_AT_S ? s + 50 : s - MOVE_AT_S),
    write: (s) => 200 * (s < MOVE_AT_S ? s + 50 : s - MOVE_AT_S),
    node: (s) => (s < MOVE_AT_S ? 1 : 2),
    expected: [600, 200, 0.15],
  },
  { name: 'pvc-reads-only', read: steady(100), write: () => undefined, expected: 'OneCounterMissing' },
  { name: 'pvc-writes-only', read: () => undefined, write: steady(100), expected: 'OneCounterMissing' },
  {
    name: 'pvc-young',
    read: since(YOUNG_FROM_S, 500),
    write: since(YOUNG_FROM_S, 500),
    expected: 'TooFewSamples',
  },
  {
    name: 'pvc-newborn',
    read: since(NEWBORN_FROM_S, 500),
    write: since(NEWBORN_FROM_S, 500),
    expected: 'TooFewSamples',
  },
  {
    name: 'pvc-stopped',
    read: (s) => (s < STOP_AT_S ? 500 * s : undefined),
    write: (s) => (s < STOP_AT_S ? 500 * s : undefined),
    expected: 'StaleSample',
  },
  { name: 'pvc-nan', read: () => Number.NaN, write: steady(10), expected: 'NotANumber' },
  { name: 'pvc-absent', read: () => undefined, write: () => undefined, expected: 'NoSeries' },
]

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

// The 25 s this takes are too close to tap's own limit of 30.
t.setTimeout(120_000)

t.test('volumes measured by a real Prometheus', async (t) => {
  if (!havePrometheus(t)) return
  let startMs = Date.now()
  const scraped = new Set<number>()
  const exporter = async (node: 1 | 2): Promise<number> => {
    const server = createServer((_request, response) => {
      scraped.add(node)
      const s = (Date.now() - startMs) / 1000
      const lines = (['read', 'write'] as const).flatMap((side) => [
        `# TYPE volume_num_${side}_ops gauge`,
        ...volumes.flatMap((volume) => {
          const count = (volume.node?.(s) ?? 1) === node ? volume[side](s) : undefined
          return count === undefined
            ? []
            : [`volume_num_${side}_ops{node="node-${node}",pv_name="${volume.name}"} ${count}`]
        }),
      ])
      response.setHeader('content-type', 'text/plain; version=0.0.4')
      response.end(`${lines.join('\n')}\n`)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    return (server.address() as AddressInfo).port
  }
  const targets = [await exporter(1), await exporter(2)].map((port) => `127.0.0.1:${port}`)
  const job = (name: string) => ({ job_name: name, static_configs: [{ targets }] })
  // Both exporters are scraped by two jobs, so every series is there twice. JSON is YAML.
  const url = await startPrometheus(
    t,
    JSON.stringify({ global: { scrape_interval: '1s' }, scrape_configs: [job('mayastor'), job('mayastor-again')] }),
  )
  // Prometheus takes five seconds to find even static targets.
  while (scraped.size < targets.length) await pause(50)
  startMs = Date.now()
  await pause(ASK_AT_S * 1000)

  const client = prometheusClient({ url, timeoutMs: 5000 })
  const nowMs = Date.now()
  const ask = async (custom?: CustomQueries): Promise<(pvName: string) => Iops> => {
    const queries = iopsQueries(`${WINDOW_S}s`, custom)
    return classify(queries, await client.signals(queries, nowMs), nowMs)
  }

  const iopsOf = await ask()
  for (const { name, expected } of volumes) {
    const iops = iopsOf(name)
    if (typeof expected === 'string') {
      t.match(iops, { kind: 'unknown', reason: expected }, name)
      continue
    }
    const [read, write, tolerance] = expected
    if (iops.kind === 'unknown') {
      t.fail(`${name}: ${iops.reason}: ${iops.message}`)
      continue
    }
    t.ok(Math.abs(iops.readIops - read) <= read * tolerance, `${name} reads ${iops.readIops}, about ${read}`)
    t.ok(Math.abs(iops.writeIops - write) <= write * tolerance, `${name} writes ${iops.writeIops}, about ${write}`)
    t.equal(iops.iops, iops.readIops + iops.writeIops, `${name} in all`)
  }

  const perVolume = (side: string) => `sum by (pv_name) (rate(volume_num_${side}_ops{job="mayastor"}[$window]))`
  const custom = { readIOPS: perVolume('read'), writeIOPS: perVolume('write') }
  const cases: readonly { name: string; custom: CustomQueries; volume: string; expected: object }[] = [
    { name: 'custom rates', custom, volume: 'pvc-healthy', expected: { kind: 'known' } },
    { name: 'custom rates, other volume', custom, volume: 'pvc-reads-only', expected: { reason: 'OneCounterMissing' } },
    {
      name: 'custom samples',
      custom: { ...custom, readSamples: 'max by (pv_name) (count_over_time(volume_num_read_ops[$window])) - 14' },
      volume: 'pvc-healthy',
      expected: { reason: 'TooFewSamples' },
    },
    {
      name: 'several series of a volume',
      custom: { ...custom, readIOPS: 'rate(volume_num_read_ops[$window])' },
      volume: 'pvc-healthy',
      expected: { reason: 'NotANumber', message: 'The query for readRate returned several series for the volume.' },
    },
    {
      name: 'no label pv_name',
      custom: { readIOPS: 'sum(rate(volume_num_read_ops[$window]))', writeIOPS: 'sum(volume_num_write_ops)' },
      volume: 'pvc-healthy',
      expected: { reason: 'NoSeries', message: 'The query returned no series labelled pv_name.' },
    },
    {
      name: 'a scalar',
      custom: { ...custom, writeIOPS: '1' },
      volume: 'pvc-healthy',
      expected: {
        reason: 'PrometheusUnavailable',
        message: 'The query for writeRate returned something else than one series per volume.',
      },
    },
    {
      name: 'not PromQL',
      custom: { ...custom, writeIOPS: 'rate(' },
      volume: 'pvc-healthy',
      expected: {
        reason: 'PrometheusUnavailable',
        message: 'Prometheus answered HTTP 400 to the query for writeRate.',
      },
    },
  ]
  for (const c of cases) t.match((await ask(c.custom))(c.volume), c.expected, c.name)
})
