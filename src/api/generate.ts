import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { crdFiles } from './crd.js'

// `npm run generate`: npm starts it in the root of the repository, which the paths are relative to.
for (const { path, text } of crdFiles()) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  process.stdout.write(`${path}\n`)
}
