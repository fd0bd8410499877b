import t from 'tap'
import { iopsQueries } from '../../../src/decide/iops.js'
import type { ScrapedSeries } from '../../../src/embedded/prometheus/samples.js'
import { EmbeddedPrometheus } from '../../../src/embedded/prometheus/server.js'
import { havePrometheus, remoteWrite, startPrometheus, type WrittenSeries } from '../../prometheus-server.js'

/** In the past, as a receiver of remote writes demands. */
const START_MS = 1_700_000_000_000
const MINUTE_MS = 60_000
const SPAN_MS = 150 * MINUTE_MS
const VOLUMES = 15
const WINDOWS = ['45s', '17m', '1h30m']
const COUNTERS = ['volume_num_read_ops', 'volume_num_write_ops']

const seed = Number(process.env['PROMETHEUS_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 32))

/** mulberry32: small, and the same for the same seed everywhere. */
function generator(start: number): () => number {
  let state = start >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Answer {
  status: string
  data: { result: { metric: Record<string, string>; value: [number, string] }[] }
}

async function ask(url: string, query: string, atMs: number): Promise<Map<string, number>> {
  const params = new URLSearchParams({ query, time: String(atMs / 1000) })
  const response = await fetch(`${url}/api/v1/query?${params}`)
  const { data } = (await response.json()) as Answer
  return new Map(
    data.result.map(({ metric, value }) => [JSON.stringify(Object.entries(metric).sort()), Number(value[1])]),
  )
}

/** A difference in words, or undefined when both are the same within 1e-9. */
function difference(real: Map<string, number>, ours: Map<string, number>): string | undefined {
  for (const [key, value] of real) {
    const other = ours.get(key)
    if (other === undefined) return `${key} is missing, should be ${value}`
    if (Math.abs(other - value) > 1e-9 * Math.max(1e-300, Math.abs(value))) return `${key} is ${other}, not ${value}`
  }
  for (const [key, value] of ours) if (!real.has(key)) return `${key} is ${value}, should not be there`
  return undefined
}

interface Run {
  /** Scrape times, ms, ascending. */
  readonly times: readonly number[]
  /** What each of them read. */
  readonly scrapes: readonly (readonly ScrapedSeries[])[]
}

/** Scrapes with jitter and gaps, of counters that reset, move between nodes, come, go, pause and are scraped twice. */
function makeRun(random: () => number, name: string, intervalMs: number): Run {
  const chance = (probability: number) => random() < probability
  const times: number[] = []
  let at = START_MS + Math.floor(random() * intervalMs)
  while (at < START_MS + SPAN_MS) {
    times.push(at)
    const jitterMs = chance(0.5) ? 0 : Math.floor((random() - 0.5) * 0.3 * intervalMs)
    const gapMs = chance(0.02) ? Math.floor(random() * 12 * MINUTE_MS) : 0
    at += intervalMs + jitterMs + gapMs
  }
  const scrapes = times.map((): ScrapedSeries[] => [])
  for (let volume = 0; volume < VOLUMES; volume++) {
    const steadiness = chance(0.3) ? 0 : 0.03
    const instances = chance(0.3) ? ['a', 'b'] : ['a']
    const scale = 10 ** Math.floor(random() * 6)
    let counts = COUNTERS.map(() => (chance(0.3) ? 0 : Math.floor(random() * 1e6)))
    let node = 1
    let published = chance(0.9)
    scrapes.forEach((scraped) => {
      if (chance(steadiness)) published = !published
      if (chance(steadiness)) {
        node = 1 + Math.floor(random() * 3)
        counts = counts.map(() => 0)
      }
      if (chance(steadiness)) counts = counts.map(() => Math.floor(random() * scale))
      counts = counts.map((count) => count + Math.floor(random() * scale))
      if (!published) return
      COUNTERS.forEach((counter, index) => {
        for (const instance of instances) {
          if (chance(steadiness / 3)) continue
          scraped.push({
            name: counter,
            labels: { pv_name: `pvc-${name}-${volume}`, node: `node-${node}`, instance },
            value: counts[index] as number,
          })
        }
      })
    })
  }
  return { times, scrapes }
}

/** What remote write needs: the samples of each series between two times, ended by markers as scraping does. */
function written(run: Run, fromMs: number, toMs: number): WrittenSeries[] {
  const series = new Map<string, { labels: Record<string, string>; samples: [number, number | undefined][] }>()
  let before = new Map<string, Record<string, string>>()
  run.times.forEach((timeMs, index) => {
    const now = new Map<string, Record<string, string>>()
    const add = (key: string, labels: Record<string, string>, value: number | undefined) => {
      if (timeMs < fromMs || timeMs >= toMs) return
      const entry = series.get(key) ?? { labels, samples: [] }
      series.set(key, entry)
      entry.samples.push([timeMs, value])
    }
    for (const { name, labels, value } of run.scrapes[index] ?? []) {
      const all = { __name__: name, ...labels }
      const key = JSON.stringify(all)
      now.set(key, all)
      add(key, all, value)
    }
    for (const [key, labels] of before) if (!now.has(key)) add(key, labels, undefined)
    before = now
  })
  return [...series.values()]
}

// Seconds are enough, but not on a machine that is busy with the other tests.
t.setTimeout(120_000)

t.test('the embedded Prometheus answers as a real one does', async (t) => {
  if (!havePrometheus(t)) return
  t.comment(`PROMETHEUS_TEST_SEED=${seed}`)
  const random = generator(seed)
  const runs = [15_000, 30_000, 97_000].map((intervalMs, index) => makeRun(random, `r${index}`, intervalMs))

  const real = await startPrometheus(t, 'scrape_configs: []\n', ['--web.enable-remote-write-receiver'])
  const stepMs = 20 * MINUTE_MS
  for (let fromMs = START_MS; fromMs < START_MS + 2 * SPAN_MS; fromMs += stepMs) {
    const series = runs.flatMap((run) => written(run, fromMs, fromMs + stepMs))
    if (series.length > 0) await remoteWrite(real, series)
  }
  const embedded = await Promise.all(
    runs.map(async (run) => {
      const prometheus = new EmbeddedPrometheus({ clock: { now: () => 0 } })
      run.times.forEach((timeMs, index) => {
        prometheus.scrape(timeMs, run.scrapes[index] ?? [])
      })
      const url = await prometheus.start()
      t.teardown(() => prometheus.stop())
      return url
    }),
  )

  const instants = Array.from({ length: 6 }, () => START_MS + Math.floor(random() * (SPAN_MS + 10 * MINUTE_MS)))
  for (const { times } of runs) {
    // At a scrape, and just where its sample is about to leave the lookback and the windows.
    const at = times[Math.floor(random() * times.length)] as number
    const last = times.at(-1) as number
    instants.push(at, at + 45_000, at + 60 * MINUTE_MS, last + 5 * MINUTE_MS - 1, last + 5 * MINUTE_MS)
    instants.push(last + 5 * MINUTE_MS + 1, last + 17 * MINUTE_MS)
  }
  const raw = COUNTERS.flatMap((counter) => [counter, `timestamp(${counter})`, `rate(${counter}[17m])`])
  const asked = WINDOWS.flatMap((window) => iopsQueries(window).map(({ query }) => query))
  const queries = [...new Set([...asked, ...raw])]
  const differences: string[] = []
  let compared = 0
  for (const atMs of instants) {
    for (const query of queries) {
      const [expected, ...answers] = await Promise.all([
        ask(real, query, atMs),
        ...embedded.map((url) => ask(url, query, atMs)),
      ])
      // The runs share no volume, so their answers together are the answer.
      const ours = new Map(answers.flatMap((answer) => [...answer]))
      compared += expected.size
      const found = difference(expected, ours)
      if (found !== undefined) differences.push(`${query} at ${atMs}: ${found}`)
    }
  }
  t.comment(`${compared} values compared`)
  t.strictSame(differences.slice(0, 10), [], `${differences.length} differences`)
  t.ok(compared > 10_000, 'there was something to compare')
})
