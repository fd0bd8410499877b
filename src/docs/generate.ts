import { readFileSync, writeFileSync } from 'node:fs'
import { parse } from 'yaml'
import { referencePage } from './reference.js'

// `npm run generate`: npm starts it in the root of the repository, which the paths are relative to.
const rule = parse(readFileSync('manifests/components/monitoring/prometheusrule.yaml', 'utf8'))
const path = 'docs/reference.md'
writeFileSync(path, await referencePage(rule.spec))
process.stdout.write(`${path}\n`)
