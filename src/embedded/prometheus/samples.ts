import type { Expression } from './query.js'

/** How far an instant query looks back for a sample: Prometheus's default, --query.lookback-delta=5m. */
const LOOKBACK_MS = 5 * 60_000

/** Dropped samples stay in the arrays until there are this many of them: dropping one by one would cost O(n) each. */
const DROP_AT_ONCE = 256

export type Labels = Readonly<Record<string, string>>

/** One series as a scrape reads it, without the labels of the target. */
export interface ScrapedSeries {
  readonly name: string
  readonly labels: Labels
  /** Any number but NaN, which stands for the end of a series in here. */
  readonly value: number
}

/** One element of an instant vector; `labels` includes `__name__` where PromQL keeps the name. */
export interface Element {
  readonly labels: Labels
  readonly value: number
}

interface Series {
  readonly key: string
  readonly labels: Labels
  /** Ascending, ms; the first `dropped` are beyond retention. */
  readonly times: number[]
  /** Parallel to `times`; NaN is a staleness marker, as it is (with particular bits) in Prometheus. */
  readonly values: number[]
  dropped: number
}

const keyOf = (labels: Labels): string =>
  JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))

/** Index of the first of `times` that is above `limit`. */
function firstAfter(times: readonly number[], limit: number): number {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((times[middle] as number) > limit) high = middle
    else low = middle + 1
  }
  return low
}

/**
 * Prometheus's extrapolated rate, per second (promql/functions.go, extrapolatedRate, as of 2.42): the increase with
 * counter resets undone, stretched to the window's ends when the outer samples are close to them, otherwise by half
 * an average interval, and never below zero at the beginning.
 */
function rate(times: readonly number[], values: readonly number[], startMs: number, endMs: number): number | undefined {
  const first = values[0]
  const last = values.at(-1)
  if (values.length < 2 || first === undefined || last === undefined) return undefined
  let increase = last - first
  let previous = first
  for (const value of values) {
    if (value < previous) increase += previous
    previous = value
  }
  const firstMs = times[0] as number
  const lastMs = times.at(-1) as number
  const sampled = (lastMs - firstMs) / 1000
  const interval = sampled / (values.length - 1)
  let toStart = (firstMs - startMs) / 1000
  const toEnd = (endMs - lastMs) / 1000
  if (increase > 0 && first >= 0) toStart = Math.min(toStart, sampled * (first / increase))
  const threshold = interval * 1.1
  const covered = sampled + (toStart < threshold ? toStart : interval / 2) + (toEnd < threshold ? toEnd : interval / 2)
  return (increase * (covered / sampled)) / ((endMs - startMs) / 1000)
}

/** Raw samples of scraped series, and the evaluation of queries on them with the semantics of Prometheus 2.42. */
export class Samples {
  readonly #retentionMs: number
  readonly #series = new Map<string, Map<string, Series>>()
  #current = new Set<Series>()
  #lastMs = Number.NEGATIVE_INFINITY

  constructor(retentionMs: number) {
    this.#retentionMs = retentionMs
  }

  /** Adds one scrape of everything: what was there in the last one and is not in this one ends here. */
  scrape(atMs: number, scraped: Iterable<ScrapedSeries>): void {
    if (!(atMs > this.#lastMs)) throw new RangeError(`scrape at ${atMs} is not after the last one at ${this.#lastMs}`)
    this.#lastMs = atMs
    const current = new Set<Series>()
    for (const { name, labels, value } of scraped) {
      if (Number.isNaN(value)) throw new RangeError(`${name}: NaN is not a sample`)
      const series = this.#find(name, labels)
      if (current.has(series)) throw new RangeError(`${name}${series.key} is twice in one scrape`)
      this.#append(series, atMs, value)
      current.add(series)
    }
    for (const series of this.#current) if (!current.has(series)) this.#append(series, atMs, Number.NaN)
    this.#current = current
    this.#forget(atMs - this.#retentionMs)
  }

  evaluate(expression: Expression, atMs: number): Element[] {
    switch (expression.kind) {
      case 'aggregate':
        return this.#aggregate(expression, atMs)
      case 'range':
        return this.#range(expression, atMs)
      case 'timestamp':
        return this.#instant(expression.metric, atMs).map(({ series, timeMs }) => ({
          labels: series.labels,
          value: timeMs / 1000,
        }))
      case 'instant':
        return this.#instant(expression.metric, atMs - expression.offsetMs).map(({ series, value }) => ({
          labels: { __name__: expression.metric, ...series.labels },
          value,
        }))
      default: {
        const never: never = expression
        return never
      }
    }
  }

  /** Samples held, for tests of retention. */
  get size(): number {
    let size = 0
    for (const byKey of this.#series.values()) for (const { times } of byKey.values()) size += times.length
    return size
  }

  #find(name: string, labels: Labels): Series {
    let byKey = this.#series.get(name)
    if (byKey === undefined) {
      byKey = new Map()
      this.#series.set(name, byKey)
    }
    const key = keyOf(labels)
    let series = byKey.get(key)
    if (series === undefined) {
      series = { key, labels: { ...labels }, times: [], values: [], dropped: 0 }
      byKey.set(key, series)
    }
    return series
  }

  #append(series: Series, atMs: number, value: number): void {
    series.times.push(atMs)
    series.values.push(value)
  }

  #forget(beforeMs: number): void {
    for (const [name, byKey] of this.#series) {
      for (const [key, series] of byKey) {
        const { times, values } = series
        while (series.dropped < times.length && (times[series.dropped] as number) < beforeMs) series.dropped++
        if (series.dropped === times.length) {
          byKey.delete(key)
          this.#current.delete(series)
        } else if (series.dropped >= DROP_AT_ONCE) {
          times.splice(0, series.dropped)
          values.splice(0, series.dropped)
          series.dropped = 0
        }
      }
      if (byKey.size === 0) this.#series.delete(name)
    }
  }

  #all(metric: string): Iterable<Series> {
    return this.#series.get(metric)?.values() ?? []
  }

  #instant(metric: string, atMs: number): { series: Series; timeMs: number; value: number }[] {
    const found: { series: Series; timeMs: number; value: number }[] = []
    for (const series of this.#all(metric)) {
      const index = firstAfter(series.times, atMs) - 1
      if (index < series.dropped) continue
      const timeMs = series.times[index] as number
      const value = series.values[index] as number
      if (timeMs < atMs - LOOKBACK_MS || Number.isNaN(value)) continue
      found.push({ series, timeMs, value })
    }
    return found
  }

  #range(expression: Extract<Expression, { kind: 'range' }>, atMs: number): Element[] {
    const elements: Element[] = []
    const startMs = atMs - expression.rangeMs
    for (const series of this.#all(expression.metric)) {
      const times: number[] = []
      const values: number[] = []
      const end = firstAfter(series.times, atMs)
      // The sample at the window's beginning belongs to it (until Prometheus 3).
      for (let index = Math.max(series.dropped, firstAfter(series.times, startMs - 1)); index < end; index++) {
        const value = series.values[index] as number
        if (Number.isNaN(value)) continue
        times.push(series.times[index] as number)
        values.push(value)
      }
      if (values.length === 0) continue
      const value = expression.function === 'rate' ? rate(times, values, startMs, atMs) : values.length
      if (value !== undefined) elements.push({ labels: series.labels, value })
    }
    return elements
  }

  #aggregate(expression: Extract<Expression, { kind: 'aggregate' }>, atMs: number): Element[] {
    const { operator, by, of } = expression
    const groups = new Map<string, { labels: Labels; value: number }>()
    for (const { labels, value } of this.evaluate(of, atMs)) {
      const key = by.map((label) => labels[label] ?? '').join('\0')
      const group = groups.get(key)
      if (group === undefined) {
        // A label without a value is no label.
        const kept = by.filter((label) => (labels[label] ?? '') !== '').map((label) => [label, labels[label] as string])
        groups.set(key, { labels: Object.fromEntries(kept), value: operator === 'count' ? 1 : value })
      } else if (operator === 'count') group.value++
      else if (operator === 'sum') group.value += value
      else group.value = Math.max(group.value, value)
    }
    return [...groups.values()]
  }
}

/** A total order of elements by their labels, so that equal questions have equal answers. */
export function sortElements(elements: readonly Element[]): Element[] {
  return elements
    .map((element) => ({ element, key: keyOf(element.labels) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ element }) => element)
}
