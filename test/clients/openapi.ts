import { readFileSync } from 'node:fs'
import { Ajv, type ValidateFunction } from 'ajv'
import { parse } from 'yaml'
import type { Json, JsonObject } from '../../src/api/kubernetes.js'

/*
 * An OpenAPI 3 description of a REST API: what may be sent to it, and made-up answers as it allows them.
 */

export interface Schema {
  readonly $ref?: string
  readonly allOf?: readonly Schema[]
  /** Here only ever alternatives in which properties are required. */
  readonly oneOf?: readonly { readonly required: readonly string[] }[]
  readonly type?: string
  readonly enum?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  required?: readonly string[]
  readonly minProperties?: number
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
}

interface Content {
  readonly content: { readonly 'application/json': { readonly schema: Schema } }
}

interface Operation {
  readonly parameters?: readonly {
    readonly in: 'path' | 'query'
    readonly name: string
    readonly required?: boolean
    readonly schema: Schema
  }[]
  readonly requestBody?: Content
  readonly responses: Readonly<Record<string, Content | { readonly $ref: string }>>
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>
    readonly responses: Readonly<Record<string, Content>>
  }
}

export interface Request {
  readonly method: string
  /** Path and query, below the server's base path. */
  readonly path: string
  readonly body: string | undefined
}

/** A place in a document, such as `replica_topology.*.state`: any key of a map is `*`, any item of a list `[]`. */
export interface Place {
  readonly keys: readonly string[]
  readonly name: string
  readonly schema: Schema
  /** Never so for entries of maps and items of lists. */
  readonly required: boolean
}

/** The key of the one entry that a map has in a sample. */
const ANY_KEY = '*'
const isIndex = (key: string): boolean => /^\d+$/.test(key)

export const nameOf = (keys: readonly string[]): string =>
  keys
    .map((key) => (isIndex(key) ? '[]' : key))
    .join('.')
    .replaceAll('.[]', '[]')

/** The keys of the first place of a name. */
export const keysOf = (name: string): readonly string[] =>
  name
    .replaceAll('[]', '.0')
    .split('.')
    .filter((key) => key !== '')

export type Description = ReturnType<typeof readDescription>

export function readDescription(file: string) {
  const document = parse(readFileSync(file, 'utf8')) as Document
  const { paths, components } = document
  const impossible = dropImpossible(components.schemas)
  /** Samples that it takes to have each alternative in one. */
  const turns = Math.max(1, ...Object.values(components.schemas).map(({ oneOf = [] }) => oneOf.length))
  const lax = { strict: false, validateFormats: false }
  const texts = new Ajv({ ...lax, coerceTypes: true })
  const documents = new Ajv(lax).addSchema(document, 'api')
  const validators = new Map<Schema, ValidateFunction>()

  /** What a schema refers to, or itself. */
  function resolve(schema: Schema): Schema {
    const ref = schema.$ref ?? schema.allOf?.[0]?.$ref
    if (ref === undefined) return schema
    const found = components.schemas[ref.replace('#/components/schemas/', '')]
    if (found === undefined) throw new Error(`${ref} is not described`)
    return resolve(found)
  }

  /** The route that a request takes, such as `GET /pools/{id}`, and what is wrong with the request; undefined: none. */
  function route({ method, path, body }: Request) {
    const url = new URL(path, 'http://mayastor')
    for (const [template, operations] of Object.entries(paths)) {
      const operation = operations[method.toLowerCase()]
      const values = matchPath(template, url.pathname)
      if (operation === undefined || values === undefined) continue
      for (const [name, value] of url.searchParams) values.set(name, value)
      const { parameters = [], requestBody } = operation
      const known = new Set(parameters.map(({ name }) => name))
      const problems = [
        ...[...values.keys()].filter((name) => !known.has(name)).map((name) => `${name} is not described`),
        ...parameters.flatMap(({ name, required, schema }) => {
          const value = values.get(name)
          if (value === undefined) return required === true ? [`${name} is missing`] : []
          return texts.validate(resolve(schema), value) ? [] : [`${name}: ${texts.errorsText()}`]
        }),
        ...((requestBody === undefined) === (body === undefined) ? [] : ['a body too many or too few']),
      ]
      return { name: `${method} ${template}`, problems, answers: answersOf(operation) }
    }
    return undefined
  }

  /** Schemas of an operation's answers by status, such as `200` and `4XX`. */
  function answersOf({ responses }: Operation): ReadonlyMap<string, Schema> {
    return new Map(
      Object.entries(responses).flatMap(([status, response]) => {
        const found =
          '$ref' in response ? components.responses[response.$ref.replace('#/components/responses/', '')] : response
        return found?.content === undefined ? [] : [[status, found.content['application/json'].schema] as const]
      }),
    )
  }

  /** A value with all there can be in it, or as little as may be; of alternatives, the one whose turn it is. */
  function sample(schema: Schema, turn: number, extent: 'full' | 'minimal' = 'full'): Json {
    const found = resolve(schema)
    const { type, properties = {}, required = [], minProperties = 0, oneOf = [], additionalProperties, items } = found
    if (type === 'array') return extent === 'full' ? [sample(items ?? {}, turn)] : []
    if (type !== 'object') return valuesOf(found)[0] ?? null
    if (typeof additionalProperties === 'object') {
      return extent === 'full' ? { [ANY_KEY]: sample(additionalProperties, turn) } : {}
    }
    const alternatives = new Set(oneOf.flatMap((alternative) => alternative.required))
    const chosen = oneOf[turn % Math.max(oneOf.length, 1)]?.required ?? []
    const possible = Object.keys(properties).filter((name) => !alternatives.has(name) || chosen.includes(name))
    const needed = possible.filter((name) => required.includes(name) || chosen.includes(name))
    const names = extent === 'full' ? possible : [...new Set([...needed, ...possible.slice(0, minProperties)])]
    return Object.fromEntries(names.map((name) => [name, sample(properties[name] ?? {}, turn, extent)]))
  }

  /** Every place of a document, outer ones first. */
  function places(schema: Schema, value: Json, keys: readonly string[] = [], required = true): readonly Place[] {
    const here = resolve(schema)
    const { properties = {}, required: names = [], oneOf = [], additionalProperties, items } = here
    const isMap = typeof additionalProperties === 'object'
    const needed = new Set([...names, ...oneOf.flatMap((alternative) => alternative.required)])
    const below = Object.entries((typeof value === 'object' && value) || {}).flatMap(([key, inner]) => {
      const property = isMap ? additionalProperties : Array.isArray(value) ? items : properties[key]
      return property === undefined || inner === undefined
        ? []
        : places(property, inner, [...keys, key], needed.has(key))
    })
    return keys.length === 0 ? below : [{ keys, name: nameOf(keys), schema: here, required }, ...below]
  }

  /** Why the description does not allow a document; undefined when it does. */
  function refusal(schema: Schema, value: Json): string | undefined {
    let validate = validators.get(schema)
    if (validate === undefined) {
      // Its references are relative to the description.
      validate = documents.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"api#/')) as object)
      validators.set(schema, validate)
    }
    return validate(value) ? undefined : documents.errorsText(validate.errors)
  }

  return { templates: Object.keys(paths), turns: [...Array(turns).keys()], impossible, route, sample, places, refusal }
}

/** Values that a schema allows: every word of an enumeration, two of any other kind, none for objects. */
export function valuesOf({ type, enum: allowed }: Schema): readonly Json[] {
  if (allowed !== undefined) return allowed
  if (type === 'boolean') return [false, true]
  if (type === 'integer') return [1, 2]
  if (type === 'array') return [[]]
  return type === 'object' ? [] : ['a', 'b']
}

/** Takes out of the required properties those that their schemas do not have, and returns them. */
function dropImpossible(schemas: Readonly<Record<string, Schema>>): readonly string[] {
  return Object.entries(schemas).flatMap(([name, schema]) => {
    const { properties, required } = schema
    if (properties === undefined || required === undefined) return []
    schema.required = required.filter((property) => property in properties)
    return required.filter((property) => !(property in properties)).map((property) => `${name}.${property}`)
  })
}

/** The values of a path template's parameters; undefined when the path is not of it. */
export function matchPath(template: string, path: string): Map<string, string> | undefined {
  const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)
  const pattern = template.replaceAll(/[.=]/g, '\\$&').replaceAll(/\{\w+\}/g, '([^/]+)')
  const found = new RegExp(`^${pattern}$`).exec(path)
  return found === null
    ? undefined
    : new Map(names.map((name, index) => [name, decodeURIComponent(found[index + 1] ?? '')]))
}

/** A copy with another value at a place, made where there is none; undefined takes it out. */
export function withValue(document: Json, keys: readonly string[], value: Json | undefined): Json {
  const [key, ...rest] = keys
  if (key === undefined) return value ?? null
  const [next = ''] = rest
  const copy = Array.isArray(document) ? [...document] : { ...(document as JsonObject) }
  const fields = copy as Record<string, Json>
  if (rest.length > 0) fields[key] = withValue(fields[key] ?? (isIndex(next) ? [] : {}), rest, value)
  else if (value !== undefined) fields[key] = value
  else if (Array.isArray(copy)) copy.splice(Number(key), 1)
  else delete fields[key]
  return copy
}
