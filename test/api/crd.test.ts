import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type TSchema, Type } from 'typebox'
import { parse, parseAllDocuments } from 'yaml'
import { crdFiles, toStructural } from '../../src/api/crd.js'

// What follows reads the files as a stranger would: nothing of the generator is used to judge its output.

interface Rule {
  readonly rule: string
  readonly message: string
  readonly fieldPath?: string
}

interface Schema {
  readonly type?: string
  readonly format?: string
  readonly enum?: readonly unknown[]
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: Schema | boolean
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly maxProperties?: number
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-validations'?: readonly Rule[]
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
}

interface Column {
  readonly name: string
  readonly type: string
  readonly jsonPath: string
}

interface Crd {
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly group: string
    readonly names: { readonly plural: string; readonly kind: string; readonly shortNames?: readonly string[] }
    readonly scope: string
    readonly versions: readonly {
      readonly name: string
      readonly served: boolean
      readonly storage: boolean
      readonly schema: { readonly openAPIV3Schema: Schema }
      readonly subresources?: { readonly status?: object }
      readonly additionalPrinterColumns?: readonly Column[]
    }[]
  }
}

const read = (path: string) => readFileSync(join(process.cwd(), path), 'utf8')

/** Every schema below `root`, itself included, with its path. */
function* walk(root: Schema, path = ''): Generator<readonly [string, Schema]> {
  yield [path, root]
  for (const [name, child] of Object.entries(root.properties ?? {})) yield* walk(child, `${path}.${name}`)
  if (root.items) yield* walk(root.items, `${path}[*]`)
  if (typeof root.additionalProperties === 'object') yield* walk(root.additionalProperties, `${path}.*`)
}

const TYPES = ['object', 'array', 'string', 'integer', 'number', 'boolean']
/** What the API server accepts in a structural schema, as far as ours may use it; oneOf and its like are not. */
const STRUCTURAL =
  /^(description|type|format|pattern|(min|max)(Length|Items|Properties)|minimum|maximum|enum|default|properties|required|items|additionalProperties|x-kubernetes-(list-type|list-map-keys|validations))$/

/** Breaches of the structural rules, and of the bounds that keep the cost of CEL rules finite. */
function breaches(root: Schema): string[] {
  const found: string[] = []
  for (const [path, schema] of walk(root)) {
    const say = (what: string) => found.push(`${path || '.'}: ${what}`)
    for (const key of Object.keys(schema)) if (!STRUCTURAL.test(key)) say(`keyword ${key}`)
    if (typeof schema.type !== 'string' || !TYPES.includes(schema.type)) say(`type ${JSON.stringify(schema.type)}`)
    if (schema.properties && schema.additionalProperties !== undefined) say('properties and additionalProperties')
    if (typeof schema.additionalProperties === 'boolean') say('additionalProperties without a schema')
    if (schema.type === 'array' && !schema.items) say('array without items')
    if (schema.enum && new Set(schema.enum).size !== schema.enum.length) say('enum with duplicates')
    for (const name of schema.required ?? []) {
      const field = schema.properties?.[name]
      if (!field) say(`required ${name} does not exist`)
      else if (field.default !== undefined) say(`required ${name} has a default`)
    }
    if (schema['x-kubernetes-list-type'] === 'map')
      for (const key of schema['x-kubernetes-list-map-keys'] ?? ['no key'])
        if (!schema.items?.required?.includes(key)) say(`map key ${key} is not required`)
    if (schema.default !== undefined) {
      if (path.startsWith('.status')) say('default under status')
      for (const problem of problems(schema, schema.default, 'default')) say(problem)
    }
    if (path.startsWith('.metadata') && Object.keys(schema).join() !== 'type') say('metadata may only be an object')
    if (!/^\.(spec|status)/.test(path)) continue
    if (schema.type === 'string' && !schema.enum && schema.maxLength === undefined) say('string without maxLength')
    if (schema.type === 'array' && schema.maxItems === undefined) say('array without maxItems')
    if (schema.additionalProperties && schema.maxProperties === undefined) say('map without maxProperties')
  }
  return found
}

/** Where a value does not fit a schema; fields that the schema does not declare are refused. */
function problems(schema: Schema, value: unknown, path: string): string[] {
  const found: string[] = []
  const is = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value
  const wants = schema.type === 'integer' ? 'number' : schema.type
  if (wants !== undefined && wants !== is) return [`${path}: is ${is}, wants ${schema.type}`]
  if (schema.type === 'integer' && !Number.isInteger(value)) found.push(`${path}: not an integer`)
  if (schema.enum && !schema.enum.includes(value)) found.push(`${path}: ${value} is not one of ${schema.enum}`)
  if (typeof value === 'number') {
    if (value < (schema.minimum ?? value) || value > (schema.maximum ?? value)) found.push(`${path}: out of range`)
  } else if (typeof value === 'string') {
    if (schema.pattern && !new RegExp(schema.pattern).test(value)) found.push(`${path}: does not match the pattern`)
    if (value.length < (schema.minLength ?? 0)) found.push(`${path}: too short`)
    if (value.length > (schema.maxLength ?? value.length)) found.push(`${path}: too long`)
  } else if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0)) found.push(`${path}: too few items`)
    if (value.length > (schema.maxItems ?? value.length)) found.push(`${path}: too many items`)
    value.forEach((item, i) => {
      found.push(...problems(schema.items ?? {}, item, `${path}[${i}]`))
    })
  } else if (typeof value === 'object' && value !== null && !schema['x-kubernetes-preserve-unknown-fields']) {
    for (const name of schema.required ?? []) if (!(name in value)) found.push(`${path}.${name}: missing`)
    // The API server knows the fields of metadata itself; its schema in a CRD is only `type: object`.
    const open = schema.properties === undefined && schema.additionalProperties === undefined
    for (const [name, item] of Object.entries(value)) {
      const extra = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined
      const field = schema.properties?.[name] ?? extra
      if (field) found.push(...problems(field, item, `${path}.${name}`))
      else if (!open) found.push(`${path}.${name}: unknown field`)
    }
  }
  return found
}

/** The schema a field path or printer column path leads to; conditions are found by a filter on their type. */
function resolve(root: Schema, path: string): Schema | undefined {
  let schema: Schema | undefined = root
  for (const [, name, filter] of path.matchAll(/\.(\w+)(\[\?\(@\.type=="\w+"\)\])?/g)) {
    schema = schema?.properties?.[name as string]
    if (filter) schema = schema?.items?.properties?.['type'] ? schema.items : undefined
  }
  return schema
}

const EXPECTED = [
  { file: 'storagepolicies.storage.billyronks.io', kind: 'StoragePolicy', shortName: 'sp' },
  { file: 'replicatopologies.storage.billyronks.io', kind: 'ReplicaTopology', shortName: 'rt' },
]

t.test('the committed CRDs are what the schemas generate', async (t) => {
  t.strictSame(
    crdFiles().map((file) => file.path),
    EXPECTED.map((e) => `manifests/crds/${e.file}.yaml`),
  )
  t.strictSame(
    readdirSync(join(process.cwd(), 'manifests/crds')).sort(),
    [...EXPECTED.map((e) => `${e.file}.yaml`), 'kustomization.yaml'].sort(),
  )
  for (const { path, text } of crdFiles()) t.ok(read(path) === text, `${path} is stale: run \`npm run generate\``)
})

t.test('npm run generate writes those files', async (t) => {
  const script = fileURLToPath(new URL('../../src/api/generate.js', import.meta.url))
  const cwd = t.testdir()
  const run = spawnSync(process.execPath, [script], { cwd, encoding: 'utf8' })
  t.equal(run.status, 0, run.stderr)
  for (const { path, text } of crdFiles()) {
    t.equal(readFileSync(join(cwd, path), 'utf8'), text)
    t.match(run.stdout, path)
  }
})

for (const { file, kind, shortName } of EXPECTED)
  t.test(`${kind}`, async (t) => {
    const crd = parse(read(`manifests/crds/${file}.yaml`), { version: '1.1' }) as Crd
    const [version] = crd.spec.versions
    if (!version) return t.fail('no version')
    const root = version.schema.openAPIV3Schema

    t.test('is served, stored, cluster-scoped and has a status subresource', async (t) => {
      t.match(crd, {
        metadata: { name: file },
        spec: { group: 'storage.billyronks.io', scope: 'Cluster', names: { kind, shortNames: [shortName] } },
      })
      t.equal(crd.metadata.name, `${crd.spec.names.plural}.${crd.spec.group}`)
      t.equal(crd.spec.versions.length, 1)
      t.match(version, { name: 'v1', served: true, storage: true, subresources: { status: {} } })
      t.strictSame(root.required, ['spec'])
      t.ok(root.properties?.['status']?.properties?.['observedGeneration'], 'Metacontroller writes it')
    })

    t.test('has a structural schema with bounded fields and valid defaults', async (t) =>
      t.strictSame(breaches(root), []),
    )

    t.test('explains every field of its spec that is not an object', async (t) => {
      for (const [name, field] of Object.entries(root.properties?.['spec']?.properties ?? {}))
        t.ok('description' in field || field.type === 'object', name)
    })

    t.test('has rules that say what to do about an existing field', async (t) => {
      for (const [path, schema] of walk(root))
        for (const rule of schema['x-kubernetes-validations'] ?? []) {
          t.match(rule.message, /must|needs|is immutable/, path)
          t.notMatch(rule.message, /\n/, path)
          if (rule.fieldPath) t.ok(resolve(schema, rule.fieldPath), `${path} ${rule.fieldPath}`)
        }
    })

    t.test('has printer columns of existing fields, by their type', async (t) => {
      const columns = version.additionalPrinterColumns ?? []
      t.equal(new Set(columns.map((c) => c.name)).size, columns.length, 'names differ')
      for (const column of columns) {
        if (column.jsonPath === '.metadata.creationTimestamp') t.equal(column.type, 'date')
        else t.equal(resolve(root, column.jsonPath)?.type, column.type, `${column.name} ${column.jsonPath}`)
      }
    })
  })

t.test('defaults of a StoragePolicy are the published ones', async (t) => {
  const crd = parse(read('manifests/crds/storagepolicies.storage.billyronks.io.yaml')) as Crd
  const spec = crd.spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec']
  const defaults = Object.entries(spec?.properties ?? {}).filter(([, field]) => field.default !== undefined)
  t.strictSame(Object.fromEntries(defaults.map(([name, field]) => [name, field.default])), {
    highWatermarkIOPS: 5000,
    lowWatermarkIOPS: 500,
    samplingWindow: '1h',
    cooldownPeriod: '24h',
    storageClassName: 'mayastor',
    maxConcurrentMigrations: 2,
    enabled: true,
    dryRun: false,
    maxUnknownPercent: 20,
    singleReplicaVolumes: 'Move',
  })
  t.strictSame(spec?.required, ['nvmePoolSelector', 'sataPoolSelector'])
})

t.test('the volume of a ReplicaTopology cannot be changed', async (t) => {
  const crd = parse(read('manifests/crds/replicatopologies.storage.billyronks.io.yaml')) as Crd
  t.match(crd.spec.versions[0]?.schema.openAPIV3Schema['x-kubernetes-validations'], [
    { rule: 'self.spec.volumeID == oldSelf.spec.volumeID', fieldPath: '.spec.volumeID' },
  ])
})

t.test('the checker finds', async (t) => {
  const spec = (schema: object): Schema => ({ type: 'object', properties: { spec: schema as Schema } })
  const cases: Record<string, [Schema, string]> = {
    'a missing type': [spec({}), '.spec: type undefined'],
    'a list of types': [spec({ type: ['string', 'null'] }), '.spec: type ["string","null"]'],
    const: [spec({ type: 'boolean', const: true }), '.spec: keyword const'],
    $ref: [spec({ type: 'object', $ref: '#/x' }), '.spec: keyword $ref'],
    anyOf: [spec({ type: 'object', anyOf: [] }), '.spec: keyword anyOf'],
    patternProperties: [spec({ type: 'object', patternProperties: {} }), '.spec: keyword patternProperties'],
    definitions: [spec({ type: 'object', definitions: {} }), '.spec: keyword definitions'],
    'TypeBox bookkeeping': [spec({ type: 'object', '~kind': 'Object' }), '.spec: keyword ~kind'],
    'properties beside a map': [
      spec({ type: 'object', properties: {}, additionalProperties: { type: 'boolean' }, maxProperties: 1 }),
      '.spec: properties and additionalProperties',
    ],
    'a closed object': [
      spec({ type: 'object', additionalProperties: false }),
      '.spec: additionalProperties without a schema',
    ],
    'a list of anything': [spec({ type: 'array', maxItems: 1 }), '.spec: array without items'],
    'a repeated enum value': [spec({ type: 'string', enum: ['a', 'a'] }), '.spec: enum with duplicates'],
    'a required field that is not there': [
      spec({ type: 'object', required: ['a'] }),
      '.spec: required a does not exist',
    ],
    'a required field with a default': [
      spec({ type: 'object', required: ['a'], properties: { a: { type: 'boolean', default: true } } }),
      '.spec: required a has a default',
    ],
    'an optional map key': [
      spec({
        type: 'array',
        maxItems: 1,
        items: { type: 'object', properties: { type: { type: 'string', maxLength: 1 } } },
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['type'],
      }),
      '.spec: map key type is not required',
    ],
    'map keys left out': [
      spec({ type: 'array', maxItems: 1, items: { type: 'object' }, 'x-kubernetes-list-type': 'map' }),
      '.spec: map key no key is not required',
    ],
    'a default under status': [
      { type: 'object', properties: { status: { type: 'boolean', default: true } } },
      '.status: default under status',
    ],
    'a default of another type': [spec({ type: 'integer', default: '1' }), '.spec: default: is string, wants integer'],
    'a default that is null': [spec({ type: 'integer', default: null }), '.spec: default: is null, wants integer'],
    'a fraction': [spec({ type: 'integer', default: 1.5 }), '.spec: default: not an integer'],
    'a default out of range': [spec({ type: 'integer', maximum: 1, default: 2 }), '.spec: default: out of range'],
    'a default outside its enum': [
      spec({ type: 'string', enum: ['a'], default: 'b' }),
      '.spec: default: b is not one of a',
    ],
    'a default outside its pattern': [
      spec({ type: 'string', maxLength: 1, pattern: '^a$', default: 'b' }),
      '.spec: default: does not match the pattern',
    ],
    'a default too short': [
      spec({ type: 'string', minLength: 1, maxLength: 1, default: '' }),
      '.spec: default: too short',
    ],
    'a default too long': [spec({ type: 'string', maxLength: 1, default: 'ab' }), '.spec: default: too long'],
    'too few items': [
      spec({ type: 'array', minItems: 1, maxItems: 1, items: { type: 'boolean' }, default: [] }),
      '.spec: default: too few items',
    ],
    'too many items': [
      spec({ type: 'array', maxItems: 1, items: { type: 'boolean' }, default: [true, true] }),
      '.spec: default: too many items',
    ],
    'a wrong item': [
      spec({ type: 'array', maxItems: 1, items: { type: 'boolean' }, default: [1] }),
      '.spec: default[0]: is number, wants boolean',
    ],
    'a missing field': [
      spec({ type: 'object', required: ['a'], properties: { a: { type: 'boolean' } }, default: {} }),
      '.spec: default.a: missing',
    ],
    'an unknown field': [
      spec({ type: 'object', properties: { a: { type: 'boolean' } }, default: { b: 1 } }),
      '.spec: default.b: unknown field',
    ],
    'a wrong map value': [
      spec({ type: 'object', additionalProperties: { type: 'boolean' }, maxProperties: 1, default: { b: 1 } }),
      '.spec: default.b: is number, wants boolean',
    ],
    'a schema for metadata': [
      { type: 'object', properties: { metadata: { type: 'object', maxProperties: 1 } } },
      '.metadata: metadata may only be an object',
    ],
    'an unbounded string': [spec({ type: 'string' }), '.spec: string without maxLength'],
    'an unbounded list': [spec({ type: 'array', items: { type: 'boolean' } }), '.spec: array without maxItems'],
    'an unbounded map': [
      spec({ type: 'object', additionalProperties: { type: 'boolean' } }),
      '.spec: map without maxProperties',
    ],
  }
  for (const [name, [schema, breach]] of Object.entries(cases))
    t.test(name, async (t) => t.strictSame(breaches(schema), [breach]))

  t.test('a column that leads nowhere', async (t) => {
    t.equal(resolve(spec({ type: 'object', properties: {} }), '.spec.a.b'), undefined)
    t.equal(resolve(spec({ type: 'array', items: { type: 'object' } }), '.spec[?(@.type=="Ready")].status'), undefined)
  })
})

t.test('toStructural refuses what has no structural form', async (t) => {
  const cases: Record<string, [TSchema, string]> = {
    'a literal': [Type.Object({ a: Type.Literal('x') }), '.a: no structural form of const'],
    'a union': [Type.Object({ a: Type.Union([Type.String(), Type.Integer()]) }), '.a: no structural form of anyOf'],
    'a record': [Type.Record(Type.String(), Type.String()), '.: no structural form of patternProperties'],
    'anything goes': [Type.Array(Type.Any()), '[*]: a structural schema needs one type'],
    'nothing known': [Type.Any(), '.: a structural schema needs one type'],
    'properties beside a map': [
      Type.Object({ a: Type.String() }, { additionalProperties: Type.String() }),
      '.: properties and additionalProperties exclude each other',
    ],
    'properties beside a nested map': [
      Type.Object({ m: Type.Object({ a: Type.String() }, { additionalProperties: Type.String() }) }),
      '.m: properties and additionalProperties exclude each other',
    ],
    'a map of anything': [
      Type.Object({}, { additionalProperties: Type.Any() }),
      '.*: a structural schema needs one type',
    ],
  }
  for (const [name, [schema, message]] of Object.entries(cases))
    t.test(name, async (t) => t.throws(() => toStructural(schema), { message }))
})

t.test('toStructural asks for no field that has a default', async (t) => {
  t.strictSame(toStructural(Type.Object({ a: Type.Boolean({ default: false }), b: Type.Boolean() })).required, ['b'])
  t.equal(toStructural(Type.Object({ a: Type.Boolean({ default: false }) })).required, undefined)
})

interface Hook {
  readonly version: string
  readonly webhook: { readonly url: string; readonly timeout: string; readonly etag?: unknown }
}

const CONTROLLERS = [
  {
    name: 'storage-policy',
    parent: 'storagepolicies',
    hooks: { sync: '60s', customize: '3s', finalize: '60s' },
    children: [
      {
        apiVersion: 'storage.billyronks.io/v1',
        resource: 'replicatopologies',
        updateStrategy: { method: 'InPlace' },
      },
    ],
    resync: 300,
  },
  {
    name: 'replica-topology',
    parent: 'replicatopologies',
    hooks: { sync: '15s', finalize: '15s' },
    children: undefined,
    resync: undefined,
  },
]
const METACONTROLLER_CRDS = '../shared/specs/metacontroller-crds-v4.17.2.yaml'

for (const { name, parent, hooks, children, resync } of CONTROLLERS) {
  const controller = parse(read(`manifests/controllers/${name}.yaml`), { version: '1.1' })

  t.test(`the CompositeController ${name} keeps the rules`, async (t) => {
    t.equal(controller.apiVersion, 'metacontroller.k8s.io/v1alpha1')
    t.equal(controller.kind, 'CompositeController')
    t.equal(controller.metadata.name, name)
    t.ok(name.length <= 43, 'its finalizer fits')
    t.strictSame(controller.spec.parentResource, {
      apiVersion: 'storage.billyronks.io/v1',
      resource: parent,
      ignoreStatusChanges: true,
    })
    t.equal(controller.spec.generateSelector, true)
    t.equal(controller.spec.resyncPeriodSeconds, resync)
    t.strictSame(controller.spec.childResources, children)
    t.strictSame(Object.keys(controller.spec.hooks), Object.keys(hooks))
    for (const [hook, timeout] of Object.entries(hooks)) {
      // Exactly these, so no etag either.
      t.strictSame(controller.spec.hooks[hook] as Hook, {
        version: 'v2',
        webhook: {
          url: `http://smart-storage-operator.smart-storage-system.svc:8082/hooks/${name}/${hook}`,
          timeout,
        },
      })
    }
  })

  t.test(
    `the CompositeController ${name} fits Metacontroller's CRD`,
    { skip: existsSync(join(process.cwd(), METACONTROLLER_CRDS)) ? false : `${METACONTROLLER_CRDS} is not here` },
    async (t) => {
      const crds = parseAllDocuments(read(METACONTROLLER_CRDS)).map((document) => document.toJS() as Crd | null)
      const crd = crds.find((c) => c?.metadata.name === 'compositecontrollers.metacontroller.k8s.io')
      const schema = crd?.spec.versions.find((v) => v.name === 'v1alpha1')?.schema.openAPIV3Schema
      if (!schema) return t.fail('CompositeController is not in the file')
      t.strictSame(problems(schema, controller, name), [])
      const misspelt = { ...controller, spec: { ...controller.spec, generateSelectors: true } }
      t.strictSame(problems(schema, misspelt, name), [`${name}.spec.generateSelectors: unknown field`])
    },
  )
}
