import t from 'tap'
import { scenario } from './builders.js'
import { MOMENTS, READING_ROWS, ROWS } from './rows.js'
import { FaultRun } from './run.js'

/** The process dies in every row of the protocol, at every moment of it; another takes over and the move is finished. */

const READING = ['call', 'answered'] as const

for (const row of ROWS) {
  for (const moment of READING_ROWS.has(row) ? READING : MOMENTS) {
    t.test(`killed in row ${row}, ${moment}`, async (t) => {
      const fault = { kind: 'killed', row, moment, skip: 0, afterSeconds: 0, forSeconds: 20, pick: 0 } as const
      const result = await new FaultRun(scenario({ faults: [fault] })).play()
      t.strictSame([...result.hits], [[`${row} killed`, 1]], 'it died there')
      t.strictSame(result.violations, [], 'no rule was broken')
      const [first] = result.migrations.filter(({ started }) => started)
      t.match(first, { phase: 'Completed', reason: 'AllReplicasMoved' }, 'and the migration was completed')
    })
  }
}
