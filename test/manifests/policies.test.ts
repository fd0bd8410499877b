import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { readPolicy } from '../../src/decide/policy.js'
import { admit } from './admission.js'
import { MANIFESTS, type Manifest, parseObjects } from './render.js'

// The committed CRDs judge; nothing that they were generated from does.
const crd = (plural: string): Manifest =>
  parse(readFileSync(join(MANIFESTS, `crds/${plural}.storage.billyronks.io.yaml`), 'utf8'), { version: '1.1' })
const policies = crd('storagepolicies')
const topologies = crd('replicatopologies')

const examples = (folder: string) =>
  readdirSync(join(MANIFESTS, folder))
    .filter((file) => file.endsWith('.yaml'))
    .sort()
    .map((file) => ({ file, text: readFileSync(join(MANIFESTS, folder, file), 'utf8') }))

t.test('every example policy is accepted', async (t) => {
  for (const { file, text } of examples('examples')) {
    const [policy, ...more] = parseObjects(text)
    t.strictSame(more, [], file)
    const { problems, object } = admit(policies, policy)
    t.strictSame(problems, [], file)
    const options = { dryRun: false, preservationMode: false, maxConcurrentMigrations: 2, migrationTimeoutMinutes: 30 }
    t.notOk('problems' in readPolicy(object, options), `the operator takes ${file}`)
  }
})

t.test('the examples go from careful to aggressive', async (t) => {
  const names = examples('examples').filter(({ file }) => /^\d/.test(file))
  const specs = names.map(({ text }) => admit(policies, parse(text)).object.spec)
  t.equal(specs[0].dryRun, true, 'the first moves nothing')
  const moving = specs.slice(1)
  for (const [index, spec] of moving.slice(1).entries()) {
    t.ok(spec.maxConcurrentMigrations > moving[index].maxConcurrentMigrations, `${names[index + 2]?.file}`)
    t.ok(spec.highWatermarkIOPS < moving[index].highWatermarkIOPS, `${names[index + 2]?.file}`)
  }
  const { nvmePoolSelector, sataPoolSelector } = specs[0]
  const defaults = admit(policies, { spec: { nvmePoolSelector, sataPoolSelector } }).object.spec
  t.strictSame(specs[2], { ...defaults, nvmePoolSelector, sataPoolSelector }, 'the third is all defaults')
})

t.test('every bad policy is refused, for the reason beside it', async (t) => {
  const bad = examples('examples/refused')
  const fields = new Set<string>()
  for (const { file, text } of bad) {
    const [, field = '', sentence = ''] = /^# Refused: (\S+): (.+)$/m.exec(text) ?? []
    const policy = parse(text, { version: '1.1' })
    t.equal(`${policy.metadata.name}.yaml`, file)
    const { problems } = admit(policies, policy)
    t.strictSame(
      problems.filter((problem) => !problem.startsWith(`${field}: ${sentence}`)),
      [],
      `${file}: nothing else is wrong with it`,
    )
    t.equal(problems.length, 1, file)
    fields.add(field.split('.')[1] ?? '')
  }
  const all = Object.keys(policies.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties)
  t.strictSame(
    all.filter((field) => !fields.has(field)),
    ['enabled'],
    'each field has a bad example, but for the second boolean',
  )
})

t.test('a ReplicaTopology stays with its volume', async (t) => {
  const topology = (volumeID: string): Manifest => ({
    apiVersion: 'storage.billyronks.io/v1',
    kind: 'ReplicaTopology',
    metadata: { name: 'pvc-1' },
    spec: { volumeID, policy: 'default', decision: { reason: 'NotObserved', message: '' }, pools: [] },
  })
  t.strictSame(admit(topologies, topology('a')).problems, [])
  t.strictSame(admit(topologies, topology('a'), topology('a')).problems, [])
  t.match(admit(topologies, topology('b'), topology('a')).problems, [/^spec\.volumeID: is immutable/])
})

t.test('what judges refuses', async (t) => {
  const spec = { nvmePoolSelector: { matchLabels: { a: 'b' } }, sataPoolSelector: { matchLabels: { a: 'c' } } }
  const refused = (more: object) => admit(policies, { metadata: { name: 'x' }, spec: { ...spec, ...more } }).problems
  t.strictSame(refused({}), [])
  t.strictSame(refused({ a: 1 }), ['spec.a: unknown field "spec.a"'])
  t.strictSame(admit(policies, { metadata: {}, spec, statuses: {} }).problems, ['statuses: unknown field "statuses"'])
  t.match(refused({ highWatermarkIOPS: 400 }), [/^spec\.lowWatermarkIOPS: must be below/], 'defaults come before rules')
  const condition = { type: 'Ready', status: 'True', reason: 'X', message: '', lastTransitionTime: 'yesterday' }
  const { problems } = admit(policies, { spec, status: { conditions: [condition] } })
  t.ok(problems.includes('status.conditions[0].lastTransitionTime: format'), 'formats')
})
