import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { CONDITIONS } from '../../src/api/conditions.js'
import { type AlertGroups, referencePage } from '../../src/docs/reference.js'
import { safetyPage } from '../../src/docs/safety.js'
import { INTERFERENCES } from '../../src/plan/outcomes.js'

const read = (path: string) => readFileSync(join(process.cwd(), path), 'utf8')
const pages = [
  'README.md',
  'hooks/README.md',
  ...readdirSync(join(process.cwd(), 'docs')).map((file) => `docs/${file}`),
]

t.test('the committed reference is what the source says', async (t) => {
  const { spec } = parse(read('manifests/components/monitoring/prometheusrule.yaml')) as { spec: AlertGroups }
  t.ok(read('docs/reference.md') === (await referencePage(spec)), 'docs/reference.md is stale: run `npm run generate`')
})

t.test('the fault table of the committed page is that of the source', async (t) => {
  const page = read('docs/safety.md')
  t.ok(page === safetyPage(page), 'docs/safety.md is stale: run `npm run generate`')
  for (const { ways } of INTERFERENCES) t.match(page, `\n| ${ways.join('; ')} | `)
  t.ok(safetyPage(page.replace('| goes on |', '| goes off |')) === page, 'what is stale is made anew')
  t.throws(() => safetyPage('# Safety\n'), /no place for the fault table/)
})

t.test('every condition of the source is in the list, and no other', async (t) => {
  const source = ['src/decide', 'src/step'].flatMap((folder) =>
    readdirSync(join(process.cwd(), folder)).map((file) => read(`${folder}/${file}`)),
  )
  const types = new Set<string>()
  const reasons = new Set<string>()
  for (const text of source) {
    for (const [, type = '', rest = ''] of text.matchAll(/type: '([A-Z]\w+)',([^}]*)/g)) {
      types.add(type)
      for (const [, reason = ''] of rest.matchAll(/reason: '(\w+)'/g)) reasons.add(reason)
    }
    // Of MetricsAvailable and Observed, whose reasons are chosen apart from their types.
    for (const [, reason = ''] of text.matchAll(/status: '(?:True|Unknown)', reason: '(\w+)'/g)) reasons.add(reason)
    for (const [, one = '', other = ''] of text.matchAll(/const reason = \S.* \? '(\w+)' : '(\w+)'/g)) {
      reasons.add(one).add(other)
    }
  }
  // Of Stalled.
  for (const [, reason = ''] of read('src/plan/breaker.ts').matchAll(/ reason: '(\w+)'/g)) reasons.add(reason)
  const listed = Object.values(CONDITIONS).flatMap((conditions) => Object.entries(conditions))
  t.strictSame([...types].sort(), listed.map(([type]) => type).sort())
  t.strictSame([...reasons].sort(), listed.flatMap(([, { reasons }]) => Object.keys(reasons)).sort())
})

t.test('links lead somewhere', async (t) => {
  for (const page of pages) {
    const text = read(page).replace(/^```[\s\S]*?^```/gm, '')
    for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^https?:/.test(target)) continue
      const path = join(page, '..', target)
      t.doesNotThrow(() => readdirOrRead(path), `${page}: ${target}`)
    }
    for (const [, file = '', anchor = ''] of text.matchAll(/\]\(([^)#\s]*)#([^)]+)\)/g)) {
      const path = file === '' ? page : join(page, '..', file)
      t.ok(anchors(read(path)).includes(anchor), `${page}: ${file}#${anchor}`)
    }
  }
})

t.test('files and folders that the pages name are there', async (t) => {
  for (const page of pages) {
    for (const [, path = ''] of read(page).matchAll(/(?<![\w./-])((?:manifests|src|test|hooks)\/[\w./-]*[\w/])/g)) {
      if (!path.includes('your-')) t.doesNotThrow(() => readdirOrRead(path), `${page}: ${path}`)
    }
  }
})

function readdirOrRead(path: string): void {
  try {
    readdirSync(join(process.cwd(), path))
  } catch {
    read(path)
  }
}

/** As forges make them of headings. */
const anchors = (text: string) =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  )
