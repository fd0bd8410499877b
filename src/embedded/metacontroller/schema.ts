import { type Draft, deepEqual, isObject, type Json, toWire } from './json.js'

/** The structural part of a CRD's OpenAPI schema this API server understands. CEL rules are not evaluated. */
export interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly items?: Schema
  readonly required?: readonly string[]
  readonly enum?: readonly Json[]
  readonly pattern?: string
  readonly minimum?: number
  readonly exclusiveMinimum?: boolean
  readonly maximum?: number
  readonly exclusiveMaximum?: boolean
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly minProperties?: number
  readonly maxProperties?: number
  readonly nullable?: boolean
  readonly default?: Json
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
  readonly 'x-kubernetes-int-or-string'?: boolean
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
}

/** Fields every object has; the API server handles them apart from the CRD's schema. */
const OWN_FIELDS = ['apiVersion', 'kind', 'metadata']

/** What a custom resource becomes on the way in (pruned, then defaulted), and why it is refused, if it is. */
export function admit(schema: Schema, object: Draft): { object: Draft; errors: string[] } {
  const own: Draft = {}
  const body: Draft = {}
  for (const [key, value] of Object.entries(object)) (OWN_FIELDS.includes(key) ? own : body)[key] = value
  const without = (names: readonly string[]) => names.filter((name) => !OWN_FIELDS.includes(name))
  const root: Schema = { ...schema, type: 'object', required: without(schema.required ?? []) }
  const admitted = withDefaults(root, pruned(root, body)) as Draft
  const errors: string[] = []
  validate(root, admitted, '', errors)
  return { object: { ...own, ...admitted }, errors }
}

function pruned(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = schema.items
    return items === undefined ? value : value.map((item) => pruned(items, item))
  }
  if (!isObject(value)) return value
  const result: Draft = {}
  for (const [key, inner] of Object.entries(value)) {
    const known = propertyOf(schema, key)
    if (known !== undefined) {
      // Null for a field that may not be null counts as not set.
      if (inner !== null || known.nullable === true) result[key] = pruned(known, inner)
    } else if (schema['x-kubernetes-preserve-unknown-fields'] === true || schema.additionalProperties === true) {
      result[key] = inner
    }
  }
  return result
}

function propertyOf(schema: Schema, key: string): Schema | undefined {
  const named =
    schema.properties !== undefined && Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined
  if (named !== undefined) return named
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined
}

function withDefaults(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = schema.items
    return items === undefined ? value : value.map((item) => withDefaults(items, item))
  }
  if (!isObject(value)) return value
  const result: Draft = { ...value }
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (result[key] === undefined && property.default !== undefined) result[key] = toWire(property.default)
  }
  for (const [key, inner] of Object.entries(result)) {
    const property = propertyOf(schema, key)
    if (property !== undefined) result[key] = withDefaults(property, inner)
  }
  return result
}

function validate(schema: Schema, value: unknown, path: string, errors: string[]): void {
  const refuse = (why: string) =>
    errors.push(`${path}: Invalid value: ${JSON.stringify(value)}: ${path} in body ${why}`)
  if (value === null && schema.nullable === true) return
  if (schema['x-kubernetes-int-or-string'] === true) {
    if (!Number.isInteger(value) && typeof value !== 'string') refuse('must be an integer or a string')
  } else if (schema.type !== undefined && !isType(schema.type, value)) {
    refuse(`must be of type ${schema.type}`)
    return
  }
  if (schema.enum !== undefined && !schema.enum.some((allowed) => deepEqual(allowed, value))) {
    errors.push(
      `${path}: Unsupported value: ${JSON.stringify(value)}: supported values: ${schema.enum.map((allowed) => JSON.stringify(allowed)).join(', ')}`,
    )
  }
  if (typeof value === 'string') validateString(schema, value, refuse)
  else if (typeof value === 'number') validateNumber(schema, value, refuse)
  else if (Array.isArray(value)) validateArray(schema, value, path, errors, refuse)
  else if (isObject(value)) validateObject(schema, value, path, errors, refuse)
}

function isType(type: string, value: unknown): boolean {
  switch (type) {
    case 'integer':
      return Number.isInteger(value)
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isObject(value)
    default:
      return typeof value === type
  }
}

function validateString(schema: Schema, value: string, refuse: (why: string) => void): void {
  const length = [...value].length
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, 'u').test(value)) {
    refuse(`should match '${schema.pattern}'`)
  }
  if (length < (schema.minLength ?? 0)) refuse(`should be at least ${schema.minLength} chars long`)
  if (length > (schema.maxLength ?? Number.POSITIVE_INFINITY))
    refuse(`may not be more than ${schema.maxLength} chars long`)
}

function validateNumber(schema: Schema, value: number, refuse: (why: string) => void): void {
  const { minimum, maximum } = schema
  if (minimum !== undefined && (schema.exclusiveMinimum === true ? value <= minimum : value < minimum)) {
    refuse(`should be greater than ${schema.exclusiveMinimum === true ? '' : 'or equal to '}${minimum}`)
  }
  if (maximum !== undefined && (schema.exclusiveMaximum === true ? value >= maximum : value > maximum)) {
    refuse(`should be less than ${schema.exclusiveMaximum === true ? '' : 'or equal to '}${maximum}`)
  }
}

function validateArray(
  schema: Schema,
  value: readonly unknown[],
  path: string,
  errors: string[],
  refuse: (why: string) => void,
): void {
  if (value.length < (schema.minItems ?? 0)) refuse(`should have at least ${schema.minItems} items`)
  if (value.length > (schema.maxItems ?? Number.POSITIVE_INFINITY))
    refuse(`should have at most ${schema.maxItems} items`)
  const listType = schema['x-kubernetes-list-type']
  if (listType === 'set' || listType === 'map') {
    const keys = schema['x-kubernetes-list-map-keys'] ?? []
    const seen = new Set<string>()
    for (const [index, item] of value.entries()) {
      const key = JSON.stringify(listType === 'map' && isObject(item) ? keys.map((name) => item[name] ?? null) : item)
      if (seen.has(key)) errors.push(`${path}[${index}]: Duplicate value: ${key}`)
      seen.add(key)
    }
  }
  if (schema.items !== undefined) {
    for (const [index, item] of value.entries()) validate(schema.items, item, `${path}[${index}]`, errors)
  }
}

function validateObject(
  schema: Schema,
  value: Draft,
  path: string,
  errors: string[],
  refuse: (why: string) => void,
): void {
  const at = (key: string) => (path === '' ? key : `${path}.${key}`)
  const size = Object.keys(value).length
  if (size < (schema.minProperties ?? 0)) refuse(`should have at least ${schema.minProperties} properties`)
  if (size > (schema.maxProperties ?? Number.POSITIVE_INFINITY)) {
    refuse(`should have at most ${schema.maxProperties} properties`)
  }
  for (const key of schema.required ?? []) {
    if (!Object.hasOwn(value, key)) errors.push(`${at(key)}: Required value`)
  }
  for (const [key, inner] of Object.entries(value)) {
    const property = propertyOf(schema, key)
    if (property !== undefined) validate(property, inner, at(key), errors)
  }
}
