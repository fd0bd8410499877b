import t from 'tap'
import { migrationStatus } from '../../src/step/status.js'
import { ID, journal, NOW } from './builders.js'

t.test('only a migration that waits for a person says what releases it', async (t) => {
  const held = (forPerson: boolean) => {
    const record = { id: `${ID}/2`, reason: 'ReplicasMissing', message: 'two are missing', at: NOW, forPerson }
    return migrationStatus(journal({ phase: 'WaitingSync', held: record }), undefined, undefined)
  }
  const said = { phase: 'Held', reason: 'ReplicasMissing', message: 'two are missing' }
  t.match(held(true), { ...said, holdId: `${ID}/2` })
  t.match(held(false), { ...said, holdId: undefined })
  t.equal(migrationStatus(journal(), undefined, undefined)?.holdId, undefined)
})
