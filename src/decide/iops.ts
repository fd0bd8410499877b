import { parseDuration } from '../api/duration.js'
import type { IopsUnknown } from '../api/reasons.js'

/**
 * From Prometheus's answers to each volume's IOPS, or the reason why they are not known. Unknown is never zero: what
 * is missing or odd has a typed reason, and a volume with one is left where it is.
 */

/**
 * Samples a counter needs in the window (Prometheus's rate() makes do with 2). Of n evenly spaced samples rate()
 * extrapolates about 1/n of the window; with 4 at least three quarters were measured, an error far smaller than the
 * distance between the watermarks. There is no share of the best-covered volume beside it: exporters may be scraped at
 * different intervals, and a gap in scraping does not distort the rate of a counter that goes on counting.
 */
export const MIN_SAMPLES = 4

/**
 * The last sample may be this old. It is Prometheus's default lookback (--query.lookback-delta=5m), after which an
 * instant query no longer sees a series; checked here as well because a server may be set to look back further.
 */
export const MAX_SAMPLE_AGE_MS = 5 * 60_000

const COUNTERS = { read: 'volume_num_read_ops', write: 'volume_num_write_ops' } as const
const SIDES = ['read', 'write'] as const

/**
 * What is asked of Prometheus, one query each. Rate: operations per second over the window. Samples: how many the
 * window holds. Last: when the newest was taken, unix seconds. Coverage: present when there was one at the window's
 * beginning.
 */
export const SIGNALS = [
  'readRate',
  'writeRate',
  'readSamples',
  'writeSamples',
  'readLast',
  'writeLast',
  'readCoverage',
  'writeCoverage',
] as const
export type Signal = (typeof SIGNALS)[number]

export interface IopsQuery {
  readonly signal: Signal
  /** PromQL of an instant query with one series per volume, labelled `pv_name`. */
  readonly query: string
}

/** A policy's own queries, PromQL in which `$window` stands for the sampling window. */
export interface CustomQueries {
  readonly readIOPS: string
  readonly writeIOPS: string
  readonly readSamples?: string
  readonly writeSamples?: string
}

/** Prometheus's answer to one query. */
export type SignalAnswer =
  | {
      readonly kind: 'ok'
      /** By `pv_name`; NaN where Prometheus sent NaN or an infinity. */
      readonly values: ReadonlyMap<string, number>
      /** Volumes for which the query returned more than one series. */
      readonly ambiguous: ReadonlySet<string>
      /** Series of the answer without the label `pv_name`. */
      readonly unlabelled: number
    }
  | { readonly kind: 'failed' | 'partial'; readonly message: string }

export type Iops =
  | { readonly kind: 'known'; readonly readIops: number; readonly writeIops: number; readonly iops: number }
  /** `message` holds names and limits, never measurements, so that it stays the same while nothing changes. */
  | { readonly kind: 'unknown'; readonly reason: IopsUnknown; readonly message: string }

/**
 * The queries for a sampling window such as `1h`: eight over Mayastor's counters, whatever the number of volumes, or
 * a policy's own. With its own rates only its own sample queries are used, since last sample and coverage of Mayastor's
 * metrics say nothing about another exporter's; what `rate()` then does with a short history is the policy's business.
 *
 * `max by (pv_name, node)` removes the duplicates of an exporter scraped twice or of a pair of Prometheis; the sum over
 * nodes adds what a volume did before and after its target moved within the window.
 */
export function iopsQueries(window: string, custom?: CustomQueries): readonly IopsQuery[] {
  if (parseDuration(window) === undefined) throw new RangeError(`not a duration: ${window}`)
  if (custom !== undefined) {
    const fill = (query: string) => query.replaceAll('$window', window)
    const queries: IopsQuery[] = [
      { signal: 'readRate', query: fill(custom.readIOPS) },
      { signal: 'writeRate', query: fill(custom.writeIOPS) },
    ]
    if (custom.readSamples !== undefined) queries.push({ signal: 'readSamples', query: fill(custom.readSamples) })
    if (custom.writeSamples !== undefined) queries.push({ signal: 'writeSamples', query: fill(custom.writeSamples) })
    return queries
  }
  return SIDES.flatMap((side) => {
    const counter = COUNTERS[side]
    return [
      { signal: `${side}Rate`, query: `sum by (pv_name) (max by (pv_name, node) (rate(${counter}[${window}])))` },
      {
        signal: `${side}Samples`,
        query: `sum by (pv_name) (max by (pv_name, node) (count_over_time(${counter}[${window}])))`,
      },
      { signal: `${side}Last`, query: `max by (pv_name) (timestamp(${counter}))` },
      { signal: `${side}Coverage`, query: `count by (pv_name) (${counter} offset ${window})` },
    ] as const
  })
}

const unknown = (reason: IopsUnknown, message: string): Iops => ({ kind: 'unknown', reason, message })

type Answered = Extract<SignalAnswer, { kind: 'ok' }>

/**
 * Reads the answers to `queries`, asked at `nowMs` (milliseconds since the epoch), and returns what is known of each
 * volume. When any query failed, or came with a warning, nothing is known of any volume.
 *
 * Several series for one volume are `NotANumber`: their sum would count a duplicate twice, their maximum would lose a
 * node, and the other volumes of the answer are not concerned.
 */
export function classify(
  queries: readonly IopsQuery[],
  answers: ReadonlyMap<Signal, SignalAnswer>,
  nowMs: number,
): (pvName: string) => Iops {
  const answered = new Map<Signal, Answered>()
  let partial: Iops | undefined
  for (const { signal } of queries) {
    const answer = answers.get(signal)
    if (answer === undefined) throw new Error(`no answer to the query for ${signal}`)
    switch (answer.kind) {
      case 'ok':
        answered.set(signal, answer)
        break
      case 'partial':
        partial ??= unknown('PartialAnswer', answer.message)
        break
      case 'failed': {
        const result = unknown('PrometheusUnavailable', answer.message)
        return () => result
      }
      default: {
        const never: never = answer
        return never
      }
    }
  }
  if (partial !== undefined) {
    const result = partial
    return () => result
  }

  const labelless = SIDES.some((side) => {
    const rate = answered.get(`${side}Rate`)
    return rate !== undefined && rate.values.size === 0 && rate.unlabelled > 0
  })
  const noSeries = unknown(
    'NoSeries',
    labelless ? 'The query returned no series labelled pv_name.' : 'Prometheus has no series for the volume.',
  )
  const oldestMs = nowMs - MAX_SAMPLE_AGE_MS

  const values = (signal: Signal) => answered.get(signal)?.values
  const counters = SIDES.map((side) => ({
    side,
    rate: values(`${side}Rate`),
    samples: values(`${side}Samples`),
    last: values(`${side}Last`),
    coverage: values(`${side}Coverage`),
  }))
  type Counter = (typeof counters)[number]
  const [read, write] = counters as [Counter, Counter]
  const seen = ({ rate, samples, last }: Counter, pvName: string) =>
    rate?.has(pvName) || samples?.has(pvName) || last?.has(pvName)

  const tooFew = ({ side, samples, coverage }: Counter, pvName: string): Iops | undefined => {
    if (samples !== undefined && (samples.get(pvName) ?? 0) < MIN_SAMPLES) {
      return unknown('TooFewSamples', `The ${side} counter has fewer than ${MIN_SAMPLES} samples in the window.`)
    }
    if (coverage !== undefined && !coverage.has(pvName)) {
      return unknown('TooFewSamples', `The ${side} counter has no sample at the beginning of the window.`)
    }
    return undefined
  }

  const stale = ({ side, last }: Counter, pvName: string): Iops | undefined => {
    if (last === undefined) return undefined
    const seconds = last.get(pvName)
    if (seconds !== undefined && !(seconds * 1000 < oldestMs)) return undefined
    return unknown(
      'StaleSample',
      `The last sample of the ${side} counter is older than ${MAX_SAMPLE_AGE_MS / 60_000} minutes.`,
    )
  }

  const odd = (pvName: string): Iops | undefined => {
    for (const [signal, answer] of answered) {
      if (answer.ambiguous.has(pvName)) {
        return unknown('NotANumber', `The query for ${signal} returned several series for the volume.`)
      }
      const number = answer.values.get(pvName)
      if (number !== undefined && !(number >= 0 && number < Number.POSITIVE_INFINITY)) {
        return unknown('NotANumber', `The query for ${signal} returned a value that is not a number of zero or more.`)
      }
    }
    return undefined
  }

  return (pvName) => {
    const sides = counters.filter((counter) => seen(counter, pvName))
    if (sides.length === 0) return noSeries
    if (sides.length === 1) {
      const missing = sides[0] === read ? write : read
      return unknown('OneCounterMissing', `Prometheus has no series of the ${missing.side} counter of the volume.`)
    }
    const problem =
      tooFew(read, pvName) ?? tooFew(write, pvName) ?? stale(read, pvName) ?? stale(write, pvName) ?? odd(pvName)
    if (problem !== undefined) return problem
    const readIops = read.rate?.get(pvName)
    const writeIops = write.rate?.get(pvName)
    if (readIops === undefined || writeIops === undefined) {
      // Enough samples in all, but no two of one node.
      const { side } = readIops === undefined ? read : write
      return unknown('TooFewSamples', `The ${side} counter has too few samples in the window for a rate.`)
    }
    return { kind: 'known', readIops, writeIops, iops: readIops + writeIops }
  }
}
