import fc from 'fast-check'
import t from 'tap'
import { withoutManagedFields } from '../src/managed-fields.js'

const read = (text: string) => withoutManagedFields(Buffer.from(text)).toString('utf8')

/** The same value with every list named managedFields empty. */
const emptied = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, entry) => (key === 'managedFields' && Array.isArray(entry) ? [] : entry)) ?? 'null',
  )

t.test('what stays, to the byte', async (t) => {
  const cases: Record<string, [string, string]> = {
    'nothing to leave out': ['{"a":[1,"ü",null]}', '{"a":[1,"ü",null]}'],
    'first, between and last': [
      '[{"managedFields":[{"a":1}],"b":2},{"a":1,"managedFields":[[2]],"c":3},{"a":1,"managedFields":["x"]}]',
      '[{"managedFields":[],"b":2},{"a":1,"managedFields":[],"c":3},{"a":1,"managedFields":[]}]',
    ],
    'twice in one object': [
      '{"managedFields":[1],"managedFields":[2],"a":3}',
      '{"managedFields":[],"managedFields":[],"a":3}',
    ],
    'one within another': ['{"managedFields":[{"managedFields":[1]}]}', '{"managedFields":[]}'],
    'brackets and quotes in strings': [
      '{"managedFields":[{"k:{\\"a\\":\\"]\\\\\\"}":"]["}],"b":"]"}',
      '{"managedFields":[],"b":"]"}',
    ],
    'not a list': ['{"managedFields":{"a":[1]}}', '{"managedFields":{"a":[1]}}'],
    'text that looks like it': [
      '{"a":"{\\"managedFields\\":[1]}","b\\"managedFields":[2]}',
      '{"a":"{\\"managedFields\\":[1]}","b\\"managedFields":[2]}',
    ],
    'cut short': ['{"managedFields":[1,{"a":"', '{"managedFields":[1,{"a":"'],
    empty: ['', ''],
  }
  for (const [name, [given, wanted]] of Object.entries(cases)) t.equal(read(given), wanted, name)
})

t.test('any JSON reads as the same value with the lists empty', async (t) => {
  const key = fc.oneof(fc.constantFrom('managedFields', '"managedFields', 'managedFields":[', '\\'), fc.string())
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.oneof(key, fc.integer(), fc.boolean(), fc.constant(null)),
      fc.array(tie('value')),
      fc.dictionary(key, tie('value')),
    ),
  }))
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(value, (one) => {
        t.strictSame(JSON.parse(read(JSON.stringify(one))), emptied(one))
      }),
    ),
  )
})
