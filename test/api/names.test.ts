import t from 'tap'
import {
  ABANDON_ANNOTATION,
  API_VERSION,
  DIRECTIONS,
  HOLD_LABEL,
  MIGRATION_PHASES,
  NODE_LABEL_PREFIX,
  TIERS,
  ZONE_LABEL,
} from '../../src/api/names.js'
import { DECISION_REASONS, MIGRATION_REASONS } from '../../src/api/reasons.js'

t.test('reasons are CamelCase, fit the schema and are explained in a sentence', async (t) => {
  for (const [list, reasons] of Object.entries({ DECISION_REASONS, MIGRATION_REASONS }))
    for (const [reason, sentence] of Object.entries(reasons)) {
      t.match(reason, /^[A-Z][A-Za-z]*$/, `${list}.${reason}`)
      t.ok(reason.length <= 64, `${list}.${reason} fits maxLength`)
      t.match(sentence, /^[A-Z][^\n]*\.$/, `${list}.${reason} is explained`)
      t.ok(sentence.length <= 1024, `${list}.${reason} fits a message`)
    }
})

t.test('each reason is counted: the list of reasons in a policy status has room for all', async (t) => {
  t.ok(Object.keys(DECISION_REASONS).length <= 128)
})

t.test('enumerations are CamelCase or an acronym', async (t) => {
  for (const name of [...TIERS, ...DIRECTIONS, ...MIGRATION_PHASES]) t.match(name, /^[A-Z][A-Za-z]*$/)
})

t.test('label and annotation keys are valid', async (t) => {
  for (const key of [HOLD_LABEL, ABANDON_ANNOTATION, ZONE_LABEL])
    t.match(key, /^[a-z0-9.-]{1,253}\/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/, key)
})

t.test('a node label names its migration within 63 characters and without a slash', async (t) => {
  const longest = `${NODE_LABEL_PREFIX}0b6c1f0e-4b60-4d1e-9a52-1d1a1f2d7c11-999999999`
  t.match(longest, /^[A-Za-z0-9][-A-Za-z0-9_.]{0,61}[A-Za-z0-9]$/)
})

t.test('the API version is the published one', async (t) => t.equal(API_VERSION, 'storage.billyronks.io/v1'))
