import { Environment } from '@marcbachmann/cel-js'
import { Ajv, type ErrorObject } from 'ajv'
import formats from 'ajv-formats'
import type { Manifest } from './render.js'

/*
 * What an API server does with an object of a CustomResourceDefinition, as far as ours need it: unknown fields are found
 * (kubectl has them refused), defaults filled in, the schema checked, and where that holds the CEL rules. Libraries
 * check; what is here is the order, and the API server's words.
 */

const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: false })
formats.default(ajv)
// Go's, where JSON Schema means ISO 8601's.
ajv.addFormat('duration', /^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/)
const cel = new Environment({ unlistedVariablesAreDyn: true })

export interface Admission {
  /** `field: sentence`, as the API server puts it; empty: accepted. */
  readonly problems: readonly string[]
  /** With its defaults. */
  readonly object: Manifest
}

/** `old`: what is to be replaced; undefined: the object is new. */
export function admit(crd: Manifest, given: Manifest, old?: Manifest): Admission {
  const schema = crd.spec.versions[0].schema.openAPIV3Schema
  const object = structuredClone(given)
  const unknown = unknownFields(schema, object, '')
  const valid = ajv.compile(schema)
  if (!valid(object)) {
    const sentences = (valid.errors ?? []).map((error) => sentence(error, object))
    return { problems: [...unknown, ...sentences], object }
  }
  return { problems: [...unknown, ...rules(schema, object, old, '')], object }
}

function unknownFields(schema: Manifest, value: Manifest, path: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item, i) => unknownFields(schema.items ?? {}, item, `${path}[${i}]`))
  if (typeof value !== 'object' || value === null) return []
  const { properties, additionalProperties } = schema
  // metadata: the API server knows it by itself.
  if (properties === undefined && additionalProperties === undefined) return []
  return Object.entries(value).flatMap(([key, item]) => {
    const field = path === '' ? key : `${path}.${key}`
    const child = properties?.[key] ?? additionalProperties
    return child === undefined ? [`${field}: unknown field "${field}"`] : unknownFields(child, item, field)
  })
}

function sentence({ keyword, instancePath, params }: ErrorObject, object: Manifest): string {
  const parts = instancePath.split('/').slice(1)
  let value = object
  for (const part of parts) value = value[part]
  const field = parts.reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : join(path, part)), '')
  switch (keyword) {
    case 'required':
      return `${join(field, params['missingProperty'])}: Required value`
    case 'type':
      return `${field}: must be of type ${params['type']}`
    case 'enum':
      return `${field}: Unsupported value: ${JSON.stringify(value)}`
    case 'pattern':
      return `${field}: should match '${params['pattern']}'`
    case 'minLength':
      return `${field}: should be at least ${params['limit']} chars long`
    case 'maxLength':
      return `${field}: Too long`
    case 'minimum':
      return `${field}: should be greater than or equal to ${params['limit']}`
    case 'maximum':
      return `${field}: should be less than or equal to ${params['limit']}`
    default:
      return `${field}: ${keyword}`
  }
}

const join = (path: string, name: string) => (path === '' ? name : `${path}.${name}`)

function rules(schema: Manifest, value: Manifest, old: Manifest, path: string): string[] {
  if (value === undefined) return []
  const own = (schema['x-kubernetes-validations'] ?? []).flatMap(({ rule, message, fieldPath = '' }: Manifest) => {
    // A rule about a change is not asked about a new object.
    if (/\boldSelf\b/.test(rule) && old === undefined) return []
    const holds = cel.evaluate(rule, { self: forCel(value), oldSelf: forCel(old) })
    return holds === true ? [] : [`${`${path}${fieldPath}`.replace(/^\./, '')}: ${message}`]
  })
  const below = Array.isArray(value)
    ? value.flatMap((item, i) => rules(schema.items ?? {}, item, undefined, `${path}[${i}]`))
    : typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, item]) =>
          rules(schema.properties?.[key] ?? schema.additionalProperties ?? {}, item, old?.[key], join(path, key)),
        )
      : []
  return [...own, ...below]
}

/** Integers are of CEL's int, which no fraction compares with. */
function forCel(value: unknown): unknown {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value
  if (Array.isArray(value)) return value.map(forCel)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, forCel(item)]))
}
