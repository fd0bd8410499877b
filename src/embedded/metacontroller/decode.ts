import { type Draft, isObject, nullInside } from './json.js'
import type { LabelSelector } from './selector.js'

/** The answer is refused: a sync error, nothing is changed. */
export class DecodeError extends Error {}

/** The answer would end the real process with a nil dereference, and all its controllers with it. */
export class CrashError extends Error {}

export interface SyncAnswer {
  readonly status: Draft
  readonly children: readonly Draft[]
  readonly resyncAfterSeconds: number
  readonly finalized: boolean
}

export interface RelatedRule {
  readonly apiVersion: string
  readonly resource: string
  readonly labelSelector?: LabelSelector | null
  readonly namespaceSelector?: LabelSelector | null
  readonly namespace?: string | null
  readonly names?: readonly string[] | null
}

/** Called with what is accepted, and hardly what its author meant. */
export type Surprise = (what: string) => void

/** Decodes an answer to sync or finalize. `strict` refuses unknown fields of the answer itself. */
export function decodeSync(text: string, strict: boolean, surprise: Surprise): SyncAnswer {
  const body = decodeBody(text, surprise)
  const { status, children, resyncAfterSeconds, finalized } = body
  if (!isAbsent(status) && !isObject(status)) throw wrongType('status', 'an object', status)
  if (!isAbsent(children) && !Array.isArray(children)) throw wrongType('children', 'an array', children)
  for (const [index, child] of ((children ?? []) as unknown[]).entries()) checkChild(child, index)
  if (!isAbsent(resyncAfterSeconds) && typeof resyncAfterSeconds !== 'number') {
    throw wrongType('resyncAfterSeconds', 'a number', resyncAfterSeconds)
  }
  if (!isAbsent(finalized) && typeof finalized !== 'boolean') throw wrongType('finalized', 'a boolean', finalized)
  if (strict) onlyFields(body, ['status', 'children', 'resyncAfterSeconds', 'finalized'], '')

  if (isAbsent(children)) surprise('children is missing or null: every observed child is deleted')
  if (isAbsent(status)) surprise('status is missing or null: the whole status of the parent is wiped')
  for (const at of [nullInside(status ?? {}, 'status'), nullInside(children ?? [], 'children')]) {
    if (at !== undefined) surprise(`${at} is null (NaN and Infinity are written as null too)`)
  }
  const crash = ((children ?? []) as unknown[]).indexOf(null)
  if (crash >= 0) throw new CrashError(`children[${crash}] is null: this crashes Metacontroller`)
  return {
    status: (status ?? {}) as Draft,
    children: (children ?? []) as Draft[],
    resyncAfterSeconds: (resyncAfterSeconds ?? 0) as number,
    finalized: finalized === true,
  }
}

/** Decodes an answer to customize. `strict` reaches inside each rule. */
export function decodeCustomize(text: string, strict: boolean, surprise: Surprise): RelatedRule[] {
  const body = decodeBody(text, surprise)
  const rules = body['relatedResources']
  if (!isAbsent(rules) && !Array.isArray(rules)) throw wrongType('relatedResources', 'an array', rules)
  if (strict) onlyFields(body, ['relatedResources'], '')
  const list = (rules ?? []) as unknown[]
  for (const [index, rule] of list.entries()) if (rule !== null) checkRule(rule, `relatedResources[${index}]`, strict)
  const crash = list.indexOf(null)
  if (crash >= 0) throw new CrashError(`relatedResources[${crash}] is null: this crashes Metacontroller`)
  return list as RelatedRule[]
}

function decodeBody(text: string, surprise: Surprise): Draft {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (error) {
    throw new DecodeError(`can't unmarshal webhookResponse: ${(error as Error).message}`, { cause: error })
  }
  if (body === null) {
    surprise('the body is null: read as an empty answer')
    return {}
  }
  if (!isObject(body)) throw wrongType('the body', 'an object', body)
  return body
}

function checkChild(child: unknown, index: number): void {
  if (child === null) return
  if (!isObject(child)) throw wrongType(`children[${index}]`, 'an object', child)
  if (typeof child['kind'] !== 'string' || child['kind'] === '') {
    throw new DecodeError(`can't unmarshal webhookResponse: Object 'Kind' is missing in children[${index}]`)
  }
}

function checkRule(rule: unknown, path: string, strict: boolean): void {
  if (!isObject(rule)) throw wrongType(path, 'an object', rule)
  for (const field of ['apiVersion', 'resource', 'namespace']) {
    const value = rule[field]
    if (!isAbsent(value) && typeof value !== 'string') throw wrongType(`${path}.${field}`, 'a string', value)
  }
  stringsOrAbsent(rule['names'], `${path}.names`)
  for (const field of ['labelSelector', 'namespaceSelector']) {
    if (!isAbsent(rule[field])) checkSelector(rule[field], `${path}.${field}`, strict)
  }
  const known = ['apiVersion', 'resource', 'labelSelector', 'namespaceSelector', 'namespace', 'names']
  if (strict) onlyFields(rule, known, `${path}.`)
}

function checkSelector(selector: unknown, path: string, strict: boolean): void {
  if (!isObject(selector)) throw wrongType(path, 'an object', selector)
  const { matchLabels, matchExpressions } = selector
  if (!isAbsent(matchLabels)) {
    if (!isObject(matchLabels)) throw wrongType(`${path}.matchLabels`, 'an object', matchLabels)
    stringsOrAbsent(Object.values(matchLabels), `${path}.matchLabels`)
  }
  if (!isAbsent(matchExpressions) && !Array.isArray(matchExpressions)) {
    throw wrongType(`${path}.matchExpressions`, 'an array', matchExpressions)
  }
  for (const [index, expression] of ((matchExpressions ?? []) as unknown[]).entries()) {
    const at = `${path}.matchExpressions[${index}]`
    if (!isObject(expression)) throw wrongType(at, 'an object', expression)
    stringsOrAbsent([expression['key'] ?? '', expression['operator'] ?? ''], at)
    stringsOrAbsent(expression['values'], `${at}.values`)
    if (strict) onlyFields(expression, ['key', 'operator', 'values'], `${at}.`)
  }
  if (strict) onlyFields(selector, ['matchLabels', 'matchExpressions'], `${path}.`)
}

function stringsOrAbsent(value: unknown, path: string): void {
  if (isAbsent(value)) return
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) throw wrongType(path, 'strings', value)
}

function onlyFields(value: Draft, known: readonly string[], path: string): void {
  const unknown = Object.keys(value).filter((key) => !known.includes(key))
  if (unknown.length > 0) {
    throw new DecodeError(
      `strict validation failed for v2 webhookResponse: ${unknown.map((key) => `unknown field "${path}${key}"`).join(', ')}`,
    )
  }
}

function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null
}

function wrongType(what: string, wanted: string, got: unknown): DecodeError {
  const kind = got === null ? 'null' : Array.isArray(got) ? 'array' : typeof got
  return new DecodeError(`can't unmarshal webhookResponse: ${what} is not ${wanted} (${kind})`)
}
