import { readFileSync } from 'node:fs'
import t from 'tap'
import { MUTANTS } from './mutants.js'
import { edited } from './mutate-hooks.js'
import { CELLS, isImpossible } from './scenario.js'
import { playSeed } from './worker.js'

/** A few of the runs of `npm run test:faults`, always the same. */

const WITH_FAULTS = 40
const WITHOUT = 8

t.setTimeout(280_000)

t.test('random faults break no rule, and everything comes to rest', async (t) => {
  for (let seed = 0; seed < WITH_FAULTS; seed++) {
    const { violations } = await playSeed(seed, false, false)
    t.strictSame(violations, [], `seed ${seed}`)
  }
})

t.test('without faults every migration is completed, and what can move does', async (t) => {
  for (let seed = 0; seed < WITHOUT; seed++) {
    const { violations, migrations, idle } = await playSeed(seed, true, false)
    t.strictSame(violations, [], `seed ${seed}`)
    t.strictSame(idle, [])
    t.strictSame(
      migrations.filter(({ started, phase }) => started && phase !== 'Completed'),
      [],
    )
  }
})

t.test('the same seed gives the same run', async (t) => {
  const play = async () => {
    const { ms: _, ...answer } = await playSeed(7, false, false)
    return answer
  }
  t.strictSame(await play(), await play())
})

t.test('the table has a cell for every place and fault, and each defect a name', async (t) => {
  t.equal(new Set(CELLS.map(({ row, kind }) => `${row} ${kind}`)).size, CELLS.length)
  t.notOk(CELLS.some(isImpossible), 'but for those that the protocol has no room for')
  t.equal(new Set(MUTANTS.map(({ name }) => name)).size, 13)
})

t.test('each defect can be made in the modules as they are', async (t) => {
  for (const { name, edits } of MUTANTS) {
    for (const file of new Set(edits.map((edit) => edit.file))) {
      const source = readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8')
      const own = edits.filter((edit) => edit.file === file)
      t.doesNotThrow(() => own.reduce(edited, source), `${name}, in ${file}`)
    }
  }
})
