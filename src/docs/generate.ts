import { readFileSync, writeFileSync } from 'node:fs'
import { parse } from 'yaml'
import { referencePage } from './reference.js'
import { safetyPage } from './safety.js'

// `npm run generate`: npm starts it in the root of the repository, which the paths are relative to.
const rule = parse(readFileSync('manifests/components/monitoring/prometheusrule.yaml', 'utf8'))
const pages = {
  'docs/reference.md': await referencePage(rule.spec),
  'docs/safety.md': safetyPage(readFileSync('docs/safety.md', 'utf8')),
}
for (const [path, text] of Object.entries(pages)) {
  writeFileSync(path, text)
  process.stdout.write(`${path}\n`)
}
