import fc from 'fast-check'
import { KINDS } from './kinds.js'
import { FaultRun, type Result } from './run.js'
import { CELLS, type Cell, type Scenario, scenarios } from './scenario.js'

/**
 * Plays the seeds it is told, one a line on stdin, and answers a line of JSON for each. `calm` before a seed: without
 * faults. A failure is made as small as fast-check can within its time.
 */

/** Coprime to the number of cells, so that neighbouring seeds strike at different places. */
const STRIDE = 257
const SHRINK_MS = 60_000

export interface Answer {
  readonly seed: number
  readonly calm: boolean
  readonly violations: readonly string[]
  readonly counterexample?: unknown
  readonly hits: readonly (readonly [string, number])[]
  readonly migrations: Result['migrations']
  readonly idle: Result['idle']
  readonly ms: number
}

/** The second place of a seed is some rows after the first, and of another kind. */
const OFFSET = 2 * KINDS.length + 31

/** What strikes first in the run of a seed, and where. */
export function cellsOf(seed: number): readonly Cell[] {
  return [seed * STRIDE, seed * STRIDE + OFFSET].map((index) => CELLS[index % CELLS.length] as Cell)
}

/** The scenario of a seed. */
export function arbitraryOf(seed: number, calm: boolean): fc.Arbitrary<Scenario> {
  return scenarios(calm ? [] : cellsOf(seed))
}

export async function playSeed(seed: number, calm: boolean, shrink: boolean): Promise<Answer> {
  const startedAt = performance.now()
  let first: Result | undefined
  const property = fc.asyncProperty(arbitraryOf(seed, calm), async (scenario) => {
    const result = await new FaultRun(scenario).play()
    first ??= result
    return result.violations.length === 0
  })
  const details = await fc.check(property, {
    seed,
    numRuns: 1,
    unbiased: true,
    endOnFailure: !shrink,
    interruptAfterTimeLimit: SHRINK_MS,
  } as fc.Parameters<[Scenario]>)
  if (first === undefined) throw details.errorInstance ?? new Error(`seed ${seed} was not played`)
  return {
    seed,
    calm,
    violations: first.violations.map(({ at, rule, what }) => `${new Date(at).toISOString()} ${rule}: ${what}`),
    ...(details.failed && details.counterexample !== null ? { counterexample: details.counterexample[0] } : {}),
    hits: [...first.hits],
    migrations: first.migrations,
    idle: first.idle,
    ms: performance.now() - startedAt,
  }
}

if (process.send !== undefined) {
  process.on('message', ({ seed, calm, shrink }: { seed: number; calm: boolean; shrink: boolean }) => {
    playSeed(seed, calm, shrink).then(
      (answer) => process.send?.(answer),
      (error: unknown) => {
        process.send?.({
          seed,
          calm,
          violations: [`the run itself failed: ${(error as Error).stack}`],
          hits: [],
          migrations: [],
          idle: [],
          ms: 0,
        })
      },
    )
  })
}
