import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { KINDS } from './kinds.js'
import { MUTANTS } from './mutants.js'
import { ROWS } from './rows.js'
import { CELLS, isImpossible } from './scenario.js'
import { type Answer, cellsOf } from './worker.js'

/**
 * `npm run test:faults`: thousands of random runs, the table of what they struck at, and the deliberate defects that
 * they have to find.
 *
 *   --runs N      runs with faults (2,000)      --seed N     the first seed (0)
 *   --no-mutants  leave the defects out         --mutant S   only this defect
 */

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '0' },
    mutants: { type: 'boolean', default: true },
    mutant: { type: 'string' },
  },
  allowNegative: true,
})
const RUNS = Number(values.runs)
const FIRST = Number(values.seed)
/** Of ten runs with faults one more is without any. */
const CALM_SHARE = 10
/** What stands before a broken rule. */
const TIME = /^\S+Z /
/** From so many runs on no place may be left out; each is tried so many times more. */
const FULL = 2000
const MORE_TRIES = 10
/** Seeds within which each defect has to be found. */
const MUTANT_SEEDS = 500

const out = (line: string) => process.stdout.write(`${line}\n`)
const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url))
const MUTATE = new URL('./mutate.js', import.meta.url).href

interface Job {
  readonly seed: number
  readonly calm: boolean
}

/** Plays all jobs, a process a core; `onAnswer` says whether to go on. */
async function play(jobs: Iterable<Job>, mutant: string | undefined, onAnswer: (answer: Answer) => boolean) {
  const queue = jobs[Symbol.iterator]()
  let over = false
  const work = async () => {
    const env = mutant === undefined ? process.env : { ...process.env, MUTANT: mutant }
    const execArgv = ['--enable-source-maps', ...(mutant === undefined ? [] : ['--import', MUTATE])]
    const child = fork(WORKER, { env, execArgv })
    try {
      for (let next = queue.next(); !next.done && !over; next = queue.next()) {
        const job = next.value
        const answer = await new Promise<Answer>((resolve, reject) => {
          child.once('message', resolve)
          child.once('exit', (code) => reject(new Error(`the process of seed ${job.seed} ended with ${code}`)))
          child.send({ ...job, shrink: mutant === undefined })
        })
        child.removeAllListeners('exit')
        if (!over && !onAnswer(answer)) over = true
      }
    } finally {
      child.removeAllListeners('exit')
      child.kill()
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
}

function* seeds(count: number): Generator<Job> {
  for (let index = 0; index < count; index++) {
    yield { seed: FIRST + index, calm: false }
    if (index % CALM_SHARE === 0) yield { seed: FIRST + index, calm: true }
  }
}

const problems: string[] = []
const hits = new Map<string, number>()
const ends = new Map<string, number>()
let [started, completed, played, calm] = [0, 0, 0, 0]

/** More seeds for the places where something has not struck yet. */
function* aimed(): Generator<Job> {
  for (let seed = FIRST + RUNS; seed < FIRST + RUNS + MORE_TRIES * CELLS.length; seed++) {
    if (cellsOf(seed).some(({ row, kind }) => !hits.has(`${row} ${kind}`))) yield { seed, calm: false }
  }
}

const endOf = ({ phase, reason }: Answer['migrations'][number]) => `${phase} ${reason}`

/** What is wrong with a run: a broken rule, or without faults a migration that was not completed or not begun. */
function wrongs({ calm, violations, migrations, idle }: Answer): readonly string[] {
  const undone = migrations.filter((one) => calm && one.started && one.phase !== 'Completed')
  return [...violations.slice(0, 1), ...undone.map((one) => `${one.id} ended ${endOf(one)}`), ...idle]
}

function count(answer: Answer): boolean {
  const { calm: without, seed, violations, counterexample, migrations } = answer
  played++
  for (const [key, times] of answer.hits) hits.set(key, (hits.get(key) ?? 0) + times)
  if (without) calm++
  for (const migration of migrations.filter((one) => one.started)) {
    ends.set(endOf(migration), (ends.get(endOf(migration)) ?? 0) + 1)
    if (without) continue
    started++
    if (migration.phase === 'Completed') completed++
  }
  for (const what of wrongs(answer)) problems.push(`seed ${seed}${without ? ', without faults' : ''}: ${what}`)
  if (violations.length > 0) {
    out(`\nseed ${seed}${without ? ' (without faults)' : ''} broke a rule:\n  ${violations.join('\n  ')}`)
    if (counterexample !== undefined) out(`as small as it got: ${JSON.stringify(counterexample)}\n`)
  }
  if (played % 100 === 0) out(`${played} runs, ${problems.length} problems`)
  return problems.length < 20
}

function table(): void {
  const width = Math.max(...KINDS.map((kind) => kind.length))
  out(`\n${'fault'.padEnd(width)} ${ROWS.map((row) => row.padStart(8)).join('')}`)
  for (const kind of KINDS) {
    const cells = ROWS.map((row) => ({
      row,
      isOut: isImpossible({ row, kind }),
      times: hits.get(`${row} ${kind}`) ?? 0,
    }))
    const shown = cells.map(({ isOut, times }) => (isOut && times === 0 ? '-' : String(times)).padStart(8))
    out(`${kind.padEnd(width)} ${shown.join('')}`)
    for (const { row, isOut, times } of cells) {
      if (isOut && times > 0) problems.push(`struck where it cannot: ${kind}, ${row}`)
      if (!isOut && times === 0 && RUNS >= FULL) problems.push(`nothing struck at: ${kind}, ${row}`)
    }
  }
}

const startedAt = performance.now()
if (values.mutant === undefined) {
  out(`${RUNS} random runs from seed ${FIRST}`)
  await play(seeds(RUNS), undefined, count)
  if (RUNS >= FULL && problems.length === 0) await play(aimed(), undefined, count)
  table()
  out(`\n${played} runs, ${calm} of them without faults`)
  for (const [end, times] of [...ends].sort(([, a], [, b]) => b - a)) out(`${String(times).padStart(6)}  ${end}`)
  out(`with faults ${completed} of ${started} migrations that began were completed`)
  if (completed * 2 < started) problems.push('with faults less than half of what began was completed')
}

if (values.mutants) {
  out('')
  for (const { name } of MUTANTS.filter((mutant) => values.mutant === undefined || mutant.name === values.mutant)) {
    let found: string | undefined
    let tried = 0
    await play(seeds(MUTANT_SEEDS), name, (answer) => {
      tried++
      const [wrong] = wrongs(answer)
      if (wrong !== undefined)
        found = `${wrong.replace(TIME, '')} (seed ${answer.seed}${answer.calm ? ', without faults' : ''})`
      return found === undefined
    })
    out(
      `${found === undefined ? 'NOT FOUND' : `found in ${tried} runs`}: ${name}${found === undefined ? '' : ` — ${found}`}`,
    )
    if (found === undefined) problems.push(`defect not found: ${name}`)
  }
}

out(`\n${Math.round((performance.now() - startedAt) / 1000)} s`)
for (const problem of problems) out(`PROBLEM ${problem}`)
process.exit(problems.length === 0 ? 0 : 1)
