import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { type Rule, type RuleId, rules } from './rules.js'

const TESTS = 'test/embedded/mayastor'
const SHEET = '../shared/facts/mayastor.md'
/** Sections of the sheet that say what Mayastor does, rather than what to make of it. */
const SECTIONS = /^(4|5|6|7|11|13)(\.|$)/

const all = Object.entries(rules) as [RuleId, Rule][]

/** `4.1` of `4.1 locked`. */
function sectionOf(id: string): string {
  return id.slice(0, id.indexOf(' '))
}

/** The names that tests carry, in the source of the tests. */
function tested(): Set<string> {
  const names = new Set<string>()
  for (const file of readdirSync(TESTS).filter((name) => name.endsWith('.test.ts'))) {
    const source = readFileSync(`${TESTS}/${file}`, 'utf8')
    for (const [, name = ''] of source.matchAll(/\brule(?:\(|: )'([^']+)'/g)) names.add(name)
  }
  return names
}

t.test('every rule has a test, unless it says why it needs none', async (t) => {
  const names = tested()
  t.same(
    all.filter(([id, rule]) => rule.none === undefined && !names.has(id)).map(([id]) => id),
    [],
    'rules without a test',
  )
  t.same(
    all.filter(([id, rule]) => rule.none !== undefined && names.has(id)).map(([id]) => id),
    [],
    'rules with a test that say they need none',
  )
  t.same(
    [...names].filter((name) => !(name in rules)),
    [],
    'tests of rules nobody knows',
  )
})

/** Section and first cell of every row of the sheet's tables. */
function rowsOfSheet(): string[] {
  const rows: string[] = []
  let section = ''
  let isBody = false
  for (const line of readFileSync(SHEET, 'utf8').split('\n')) {
    section = /^#+ (\d+(?:\.\d+)?)/.exec(line)?.[1] ?? section
    if (!line.startsWith('|')) isBody = false
    else if (/^\|[-| ]+$/.test(line)) isBody = true
    else if (isBody && SECTIONS.test(section)) rows.push(`${section} ${line.split(' | ')[0]?.slice(2)}`)
  }
  return rows.sort()
}

t.test(
  `every row of the tables in ${SHEET} is claimed by a rule`,
  { skip: existsSync(SHEET) ? false : `${SHEET} is not here` },
  async (t) => {
    const claimed = all
      .filter(([id]) => SECTIONS.test(sectionOf(id)))
      .flatMap(([id, { rows = [] }]) => rows.map((row) => `${sectionOf(id)} ${row}`))
    const rows = rowsOfSheet()
    t.ok(rows.length > 90, `${rows.length} rows`)
    t.same(claimed.sort(), rows)
  },
)
